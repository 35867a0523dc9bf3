"""What the operating system gives: files, disks, locks, processes, the machine, GPUs."""
