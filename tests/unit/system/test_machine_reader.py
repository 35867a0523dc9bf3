"""MachineReader outside a worker: every GPU, nothing of the process."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from rnnlm_tui.system import machine
from rnnlm_tui.system.machine import MachineReader
from tests.fakes.nvml import GIB, H100_NODE, replay


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
