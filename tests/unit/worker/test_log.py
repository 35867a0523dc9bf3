"""A log on a full disk ends nothing, and one with space gets every line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SAYS = """
import sys, traceback
from rnnlm_tui.worker.train import log_without_disk_errors
log_without_disk_errors()
print("a line")
try:
    1 / 0
except ZeroDivisionError:
    traceback.print_exc()
print("lone surrogate", chr(0xDC80), file=sys.stderr, flush=True)
sys.exit(3)
"""


def test_a_log_on_a_full_disk_raises_no_error() -> None:
    with Path("/dev/full").open("w") as full:
        assert (
            subprocess.run(
                [sys.executable, "-u", "-c", SAYS], stdout=full, stderr=full, check=False
            ).returncode
            == 3
        )


def test_output_goes_to_the_log_in_order() -> None:
    done = subprocess.run(
        [sys.executable, "-u", "-c", SAYS], capture_output=True, text=True, check=False
    )
    lines = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (3, "")
    assert (lines[0], lines[1]) == ("a line", "Traceback (most recent call last):")
    assert lines[-1] == "lone surrogate \\udc80"
