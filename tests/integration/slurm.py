"""A real Slurm of two nodes, both on this machine, for the time of a module's tests."""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import pytest

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "unshare")
START_SECONDS = 20.0
NODES = ("2130706433", "2130706434")
"""As numbers, these are 127.0.0.1 and 127.0.0.2: the ranks of a job meet at the first, and Slurm
doesn't take the same host under two of its names."""
CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthInfo=socket={folder}/munge/socket,cred_expire=5
SlurmctldPort={controller}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
MpiDefault=none
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerParameters=batch_sched_delay=0,sched_interval=1
NodeName={nodes} NodeHostname={host} NodeAddr=127.0.0.1 Port=[{first}-{last}] CPUs=2
PartitionName=low Nodes=ALL Default=YES PriorityTier=1 GraceTime=60
PartitionName=high Nodes=ALL PriorityTier=10 PreemptMode=OFF
"""
"""An expired credential lets a requeued job start again: by default after two minutes."""


def slurm(*command: str) -> str:
    """Run a command of Slurm, which must succeed; its output."""
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert answer.returncode == 0, (command, answer.stderr)
    return answer.stdout.strip()


@contextmanager
def slurm_cluster() -> Iterator[None]:
    """Start munged, slurmctld and two slurmd, with SLURM_CONF for all that asks them; at the end
    they are killed. Skips the test where that isn't possible."""
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        pytest.skip(f"not installed: {', '.join(missing)}")
    if os.geteuid() != 0:
        pytest.skip("only root can start slurmd")
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    daemons: list[subprocess.Popen[bytes]] = []
    with pytest.MonkeyPatch.context() as patch, (folder / "output").open("wb") as output:
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))

        def start(*command: str) -> None:
            daemons.append(subprocess.Popen(command, stdout=output, stderr=output))

        _write_files(folder)
        try:
            munge = folder / "munge"
            files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log"}
            options = [f"--{option}={munge / name}" for option, name in files.items()]
            start("munged", "--foreground", "--force", f"--seed-file={munge / 'seed'}", *options)
            _wait((munge / "socket").exists, folder)
            start("slurmctld", "-D")
            for node in NODES:
                start("slurmd", "-D", "-N", node)
            idle = ("sinfo", "--noheader", "--partition=low", "--states=idle", "--format=%D")

            def is_idle() -> bool:
                answer = subprocess.run(idle, capture_output=True, text=True, check=False)
                return answer.stdout.split() == ["2"]

            _wait(is_idle, folder)
            yield
        finally:
            for daemon in reversed(daemons):
                daemon.terminate()
                daemon.wait(timeout=30)
            shutil.rmtree(folder, ignore_errors=True)


def _write_files(folder: Path) -> None:
    for name in ("munge", "state"):
        (folder / name).mkdir(mode=0o700)
    key = folder / "munge" / "key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    first = _free_ports(3)
    text = CONFIG.format(
        host=socket.gethostname(),
        folder=folder,
        controller=first,
        first=first + 1,
        last=first + 2,
        nodes=",".join(NODES),
    )
    (folder / "slurm.conf").write_text(text)
    (folder / "cgroup.conf").write_text("CgroupPlugin=disabled\n")


def _free_ports(count: int) -> int:
    """The first of so many free ports in a row."""
    while True:
        first = random.randint(20_000, 30_000)
        with ExitStack() as held, suppress(OSError):
            for port in range(first, first + count):
                held.enter_context(closing(socket.socket())).bind(("127.0.0.1", port))
            return first


def _wait(question: Callable[[], bool], folder: Path) -> None:
    """Wait until this is so; skips the test with what the daemons say if it never is."""
    deadline = time.monotonic() + START_SECONDS
    while not question():
        if time.monotonic() > deadline:
            said = (folder / "output").read_text(errors="replace").splitlines()
            pytest.skip(f"Slurm doesn't start here: {' / '.join(said[-5:])}")
        time.sleep(0.1)
