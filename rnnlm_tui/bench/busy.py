"""The busy process of `bench --neighbour`: `python -m rnnlm_tui.bench.busy CORE` uses one core.

A module of its own, since it starts in every round: it imports nothing that takes time.
"""

from __future__ import annotations

import os
import sys

from rnnlm_tui.system.processes import end_with_parent


def main(arguments: list[str]) -> None:
    """Keep one core busy."""
    parent = os.getppid()
    end_with_parent()
    (core,) = (int(argument) for argument in arguments)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    os.write(1, b"\n")  # the parent waits for this
    while os.getppid() == parent:
        for _ in range(100_000):
            continue


if __name__ == "__main__":
    main(sys.argv[1:])
