"""The measured limits of a device."""

from __future__ import annotations

from contextlib import nullcontext
from itertools import pairwise

import pytest
import torch

from rnnlm_tui.bench import baselines, tasks
from rnnlm_tui.bench.baselines import memory_speed, multiplication_speeds, ways_to_multiply
from rnnlm_tui.bench.plan import bench_config, training_rows
from tests.fakes import bench_child
from tests.fakes.bench_report import sample_report

CPU = torch.device("cpu")


def test_every_number_format_gets_a_speed_and_torchs_precision_is_restored() -> None:
    before = torch.get_float32_matmul_precision()
    speeds = multiplication_speeds(CPU, ((64, 32, 16), (8, 128, 64)), 0.01)
    assert tuple(speeds) == ways_to_multiply(CPU)
    assert all(speed > 0 for speed in speeds.values())
    assert torch.get_float32_matmul_precision() == before


def test_memory_has_a_memory_speed() -> None:
    assert memory_speed(CPU, 0.01) > 0


def test_exact_numbers_come_first() -> None:
    assert ways_to_multiply(CPU)[0] == "float32"


def test_a_gpu_s_events_are_shared_among_the_repetitions(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []

    class Event:
        def __init__(self, *, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            events.append("record")

        def synchronize(self) -> None:
            events.append("synchronize")

        def elapsed_time(self, later: Event) -> float:
            assert isinstance(later, Event)
            return 8.0  # milliseconds

    def work() -> torch.Tensor:
        events.append("work")
        return torch.zeros(())

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "device", lambda _device: nullcontext())
    seconds = baselines._seconds_by_events(work, CPU)
    assert seconds == pytest.approx(8e-3 / baselines.REPETITIONS)
    assert events == ["record", *["work"] * baselines.REPETITIONS, "record", "synchronize"]


def test_launches_run_ahead_of_the_device_only_a_little(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, waits, steps = 0.0, [0], 0

    def wait(_device: torch.device) -> None:
        waits.append(steps)

    monkeypatch.setattr(tasks, "wait", wait)
    monkeypatch.setattr("rnnlm_tui.bench.tasks.time.perf_counter", lambda: clock)
    pace = tasks._Pace()
    for _ in range(1_000):
        clock, steps = clock + 0.001, steps + 1  # a step takes a millisecond
        pace.launched(CPU)
    blocks = [late - early for early, late in pairwise(waits)]
    assert blocks[:7] == [1, 2, 4, 8, 16, 32, 64]
    assert set(blocks[6:]) == {64}  # 64 ms: no longer than UNWAITED_SECONDS


@pytest.mark.parametrize("cell", ["elman", "slstm"])
def test_ways_on_a_gpu(cell: str) -> None:
    survey = bench_child.survey(10**12).model_copy(
        update={"device_type": "cuda", "numbers": ("float32", "tf32", "bf16")}
    )
    data = sample_report().data
    config = bench_config("book", "cuda", [f"model.cell_type={cell}"])
    ways = {row.name: row.task.config.training for row in training_rows(config, survey, data)}
    library = ["nn.RNN"] if cell == "elman" else []
    engine = [f"engine {name}" for name in ("float32", "tf32", "bf16")]
    pairs = [name for way in engine for name in (f"{way}, CUDA graphs", way)]
    assert list(ways) == ["naive", *library, *pairs]
    for name, training in ways.items():
        if not name.startswith("engine"):
            continue
        assert training.cuda_graphs == ("on" if name.endswith("graphs") else "off")
        assert training.precision == ("bf16" if "bf16" in name else "float32")
        assert training.matmul == ("float32" if "float32" in name else "medium")
