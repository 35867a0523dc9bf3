"""The machine: usable cores, their loads, memory, every GPU, and what others take."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from rnnlm_tui.schema.metrics import HardwareRow
from rnnlm_tui.store.summary import others_cores
from rnnlm_tui.system import machine
from rnnlm_tui.system.machine import MachineReader, core_loads, usable_cores, usable_loads
from tests.fakes.nvml import GIB, H100_NODE, replay

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


@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        ("max 100000\n", 8),
        ("250000 100000\n", 2),
        ("10000 100000\n", 1),
        ("1600000 100000\n", 8),
        ("", 8),
    ],
)
def test_usable_cores_respect_affinity_and_quota(
    monkeypatch: pytest.MonkeyPatch, quota: str, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    monkeypatch.setattr(Path, "read_text", lambda path, encoding: quota)
    assert usable_cores() == expected


@pytest.mark.parametrize(("chosen", "loads"), [({1, 2}, [0.5, 0.0]), ({0, 9}, [1.0, 0.5, 0.0])])
def test_loads_are_of_the_cores_in_the_affinity_or_of_all(
    monkeypatch: pytest.MonkeyPatch, chosen: set[int], loads: list[float]
) -> None:
    monkeypatch.setattr(psutil, "cpu_percent", lambda percpu: [100.0, 50.0, 0.0])
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: chosen)
    assert core_loads() == loads
    monkeypatch.delattr(os, "sched_getaffinity")
    assert core_loads() == [1.0, 0.5, 0.0]


def test_an_idle_reading_has_every_gpu_and_nothing_of_a_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    replay(monkeypatch, H100_NODE)
    row = MachineReader(tmp_path, worker=False).sample()
    assert (row.gpu.index, row.gpu.percent, row.gpu.watts) == (0, 99.0, 698.354)
    assert [card.index for card in row.other_gpus] == list(range(1, 8))
    assert (row.gpu.memory_own, row.process_memory, row.process_cpu_percent) == (None, 0, 0.0)


@pytest.mark.parametrize(
    ("loads", "allowed", "cores", "shown"),
    [([50.0, 100.0, 0.0, 0.0], {0, 1}, 2, 75.0), ([100.0] * 4, {0, 1, 2, 3}, 2, 100.0)],
)
def test_the_load_is_that_of_the_usable_cores(
    loads: list[float],
    allowed: set[int],
    cores: int,
    shown: float,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(machine, "usable_cores", lambda: cores)
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: allowed)
    monkeypatch.setattr("psutil.cpu_percent", lambda **_named: loads)
    assert MachineReader(tmp_path, worker=False).sample().cpu_percent == pytest.approx(shown)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 24 * GIB),
        ({"memory.max": "max\n"}, 24 * GIB),
        ({"memory.max": f"{2 * GIB}\n", "memory.swap.max": "0\n"}, 2 * GIB),
        ({"memory.max": f"{2 * GIB}\n", "memory.swap.max": f"{GIB}\n"}, 3 * GIB),
        ({"memory.max": f"{2 * GIB}\n", "memory.swap.max": "max\n"}, 10 * GIB),
    ],
)
def test_memory_and_swap_have_limits_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], expected: int
) -> None:
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(total=16 * GIB))
    monkeypatch.setattr("psutil.swap_memory", lambda: SimpleNamespace(total=8 * GIB))
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert machine.memory_total() == expected
