"""Types and calculations shared by all processes. No I/O, no torch."""
