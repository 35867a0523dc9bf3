"""CPU loads of a worker and of other processes."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from rnnlm_tui.schema.metrics import HardwareRow
from rnnlm_tui.store.summary import others_cores
from rnnlm_tui.system.machine import MachineReader, usable_cores, usable_loads

DEADLINE = 60.0
BUSY = "print(flush=True)\nwhile True: pass"


@pytest.mark.parametrize(
    ("own", "loads", "cores", "expected"),
    [
        (1.0, [1.0, 1.0], 2, (100.0, 50.0)),
        (2.0, [1.0, 1.0], 2, (100.0, 100.0)),
        (2.1, [1.0, 1.0], 2, (100.0, 100.0)),
        (0.0, [0.5, 0.0], 2, (25.0, 0.0)),
        (
            2.0,
            [0.5] * 64,
            2,
            (100.0, 100.0),
        ),  # a quota of two on a half idle machine: no core is taken
        (0.5, [1.0] * 64, 2, (100.0, 25.0)),  # a full machine
        (0.5, [1.0] * 63 + [0.0], 2, (50.0, 25.0)),
    ],
)
def test_other_processes_take_only_what_the_rest_of_the_machine_cannot_run(
    own: float, loads: list[float], cores: int, expected: tuple[float, float]
) -> None:
    assert usable_loads(own, loads, cores) == pytest.approx(expected, abs=1.0)


def test_another_busy_process_is_noticed(tmp_path: Path) -> None:
    neighbour = subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE)
    try:
        assert neighbour.stdout is not None
        neighbour.stdout.readline()  # it is running
        cores, probe = usable_cores(), MachineReader(tmp_path, worker=True)
        end = time.monotonic() + DEADLINE
        rows: list[HardwareRow] = []
        while others_cores(rows, cores=cores, threads=cores) is None:
            assert time.monotonic() < end, f"not noticed in {rows}"
            before = time.process_time()
            while time.process_time() - before < 0.02:  # this process computes too
                pass
            rows.append(probe.sample())
        assert all(0 <= row.process_cpu_percent <= row.cpu_percent <= 100 for row in rows)
    finally:
        neighbour.kill()
        neighbour.wait()
        neighbour.stdout.close()  # type: ignore[union-attr]
