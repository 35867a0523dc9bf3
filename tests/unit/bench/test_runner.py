"""A bench whose children answer at once: figures, environments, and every way it can end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from rnnlm_tui.bench import runner
from rnnlm_tui.bench.children import Child
from rnnlm_tui.bench.report import BenchReport, Ready, Turn
from rnnlm_tui.bench.runner import (
    MIN_ROUNDS,
    BenchOptions,
    bench_config,
    process_counts,
    run_bench,
)
from rnnlm_tui.client.control import WORKER_SETTINGS
from rnnlm_tui.client.sampler import SAMPLER_SETTINGS
from rnnlm_tui.errors import ConfigError, InputError, RnnlmError, WorkerError
from rnnlm_tui.schema.metrics import Progress
from tests.fakes.bench_report import sample_report
from tests.fakes.nvml import Recording, plain_card, replay
from tests.fakes.torch_build import install_torch_build

SPEEDS: dict[object, int] = {
    ("training", "naive"): 100,
    ("training", "library"): 150,
    ("training", "engine"): 500,
    ("sampling", "naive"): 10,
    ("sampling", "engine"): 200,
    (1, True): 500,
    (2, True): 600,
    (2, False): 800,
}
"""Tokens a second: of a part's ways, and of so many processes that add up their gradients or not.
"""


class FakeChild:
    """Answers with the same figures at once; one whose name is in `failing` dies in its turns."""

    failing = ""
    started: list[FakeChild]

    def __init__(
        self,
        name: str,
        program: str,
        arguments: Mapping[str, Any],
        log: Path,
        settings: Mapping[str, str],
    ) -> None:
        del log
        self.name, self.program, self.arguments = name, program, arguments
        self.settings, self.closed = settings, False
        self.called: tuple[str, Mapping[str, Any]] | None = None
        self.started.append(self)

    def answer(self, on_progress: Callable[[Progress], None] = lambda _: None) -> object:
        if self.program == "text":
            on_progress(Progress("reading", 1, 4))
            on_progress(Progress("encoding"))
            return sample_report().data.model_copy(update={"own": False})
        if self.called is None:
            training = self.arguments["config"].training
            return Ready(training.device, "2", training.threads or 2, "float32")
        if self.name == self.failing:
            raise WorkerError(f"{self.name} ended (exit code 1): Illegal instruction")
        method, arguments = self.called
        if method == "save" or self.arguments.get("rank"):
            return None
        steps = max(1, arguments.get("least", 1))
        kind = self.arguments["kind"]
        way: object = self.program, kind
        if "processes" in self.arguments:
            way = self.arguments["processes"], arguments.get("adds_up", True)
        tokens, peak = steps * SPEEDS[way], 1_000 if kind == "naive" else 250
        return Turn(steps, tokens, float(steps), peak, 3.5, (1, 2))

    def call(self, method: str, arguments: Mapping[str, Any]) -> None:
        self.called = method, arguments

    def close(self) -> None:
        self.closed = True


@pytest.fixture(autouse=True)
def children(monkeypatch: pytest.MonkeyPatch) -> list[FakeChild]:
    """Those that were started; all of them are closed in the end."""
    monkeypatch.setattr(runner, "Child", FakeChild)
    monkeypatch.setattr(FakeChild, "started", [], raising=False)
    return FakeChild.started


def silent(text: str) -> None:
    del text


def measured(*assignments: str, say: Callable[[str], None] = silent) -> BenchReport:
    return run_bench(BenchOptions(bench_config("book", "cpu", assignments), seconds=0.01), say)


def test_every_way_is_measured_and_compared_within_rounds(children: list[FakeChild]) -> None:
    report = measured("sampling.greedy=true")
    rows = {row.name: row for row in report.training}
    assert {name: row.ratio.median for name, row in rows.items()} == {
        "naive": 1.0,
        "nn.RNN": 1.5,
        "engine": 5.0,
    }
    assert [row.ratio_to_library and row.ratio_to_library.median for row in report.training] == [
        pytest.approx(2 / 3),
        1.0,
        pytest.approx(10 / 3),
    ]
    assert [row.peak_share for row in report.training] == [1.0, 0.25, 0.25]
    assert {row.turns for row in report.training} == {MIN_ROUNDS}
    assert rows["engine"].epoch_seconds == pytest.approx(172_148 * 2_800 / 500)
    assert [(row.name, row.ratio.median, row.same_tokens) for row in report.sampling] == [
        ("naive", 1.0, True),
        ("engine", 20.0, True),
    ]
    assert [row.threads for row in report.sampling] == [2, 1]
    assert all(child.closed for child in children)


def test_the_plain_ways_use_torchs_environment_and_ours_that_of_runs_and_samplers(
    children: list[FakeChild],
) -> None:
    measured()
    settings = {(one.program, one.name): one.settings for one in children if one.program != "text"}
    assert settings == {
        ("training", "naive"): {},
        ("training", "nn.RNN"): {},
        ("training", "engine"): WORKER_SETTINGS,
        ("sampling", "naive"): {},
        ("sampling", "engine"): SAMPLER_SETTINGS,
    }


def test_a_replaced_text_is_noted_and_progress_told() -> None:
    said: list[str] = []
    report = measured(say=said.append)
    assert "not prepared on this machine: a text instead" in report.notes[0]
    assert said[:3] == [
        "preparing the text",
        "preparing the text: reading 25 %",
        "preparing the text: encoding",
    ]
    assert f"training: round {MIN_ROUNDS} of {MIN_ROUNDS}" in said


def test_only_measures_one_part() -> None:
    options = BenchOptions(bench_config("book", "cpu"), seconds=0.01, only="sampling")
    report = run_bench(options, silent)
    assert not report.training
    assert len(report.sampling) == 2


def test_processes_are_compared_with_one_and_with_turns_without_communication(
    children: list[FakeChild],
) -> None:
    config = bench_config("book", "cpu", ["training.threads=2"])
    report = run_bench(BenchOptions(config, seconds=0.01, processes=(1, 2)), silent)
    assert (report.training, report.sampling) == ((), ())
    one, two = report.processes
    assert (one.ratio.median, one.efficiency, one.communication) == (1.0, 1.0, None)
    # 600 tokens a second by twice as many threads as one process with 500, or 800 without waiting.
    assert [two.ratio.median, two.efficiency] == pytest.approx([1.2, 0.6])
    assert two.communication is not None
    assert two.communication.median == pytest.approx(0.25)
    assert (two.gradient_bytes, two.sent_bytes) == (4 * 8_292_619, 4 * 8_292_619)
    teams = [child for child in children if child.program == "training"]
    assert [(one.arguments["rank"], one.arguments["processes"]) for one in teams] == [
        (0, 1),
        (0, 2),
        (1, 2),
    ]
    assert all(child.closed for child in children)


def test_one_process_is_always_measured_and_never_more_than_there_are_gpus(
    children: list[FakeChild], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (process_counts(" 4,2,2"), process_counts(None)) == ((1, 2, 4), ())
    replay(monkeypatch, Recording((plain_card("NVIDIA H100", "GPU-11"),)))
    install_torch_build(monkeypatch)
    options = BenchOptions(bench_config("book", "cuda"), processes=(1, 2))
    with pytest.raises(ConfigError, match="is 2, but this machine has 1 GPU"):
        run_bench(options, silent)
    assert not children


def test_cells_that_torch_lacks_are_compared_with_the_naive_loop_only() -> None:
    report = measured("model.cell_type=mingru")
    assert [row.name for row in report.training] == ["naive", "engine"]
    assert report.training[0].ratio_to_library is None


def test_torchs_layers_may_fail_and_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeChild, "failing", "nn.RNN")
    report = measured()
    assert [row.name for row in report.training] == ["naive", "engine"]
    assert "left out: nn.RNN: nn.RNN ended (exit code 1): Illegal instruction" in report.notes


@pytest.mark.parametrize("name", ["naive", "engine"])
def test_the_others_may_not_fail(
    name: str, children: list[FakeChild], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeChild, "failing", name)
    with pytest.raises(WorkerError, match=f"{name} ended"):
        measured()
    assert all(child.closed for child in children)


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), 1e9])
def test_an_invalid_time_is_refused_before_anything_starts(
    seconds: float, children: list[FakeChild]
) -> None:
    with pytest.raises(InputError, match="--seconds must be"):
        run_bench(BenchOptions(bench_config("book", "cpu"), seconds=seconds), silent)
    assert not children


def test_an_unknown_preset_and_an_invalid_device_are_refused() -> None:
    with pytest.raises(InputError, match="book"):
        bench_config("bok", "cpu")
    with pytest.raises(ConfigError, match="device"):
        bench_config("book", "tpu")


# a real child


def real_child(folder: Path, program: str = "nothing") -> Child:
    return Child("the child", program, {}, folder / "log", {})


def test_a_child_that_fails_or_is_silent_is_an_error_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = real_child(tmp_path)
    with pytest.raises(RnnlmError, match="the child: KeyError: 'nothing'"):
        child.answer()
    child.call("turn", {"seconds": 1.0})
    with pytest.raises(WorkerError, match=r"the child ended .exit code 0.: KeyError: 'nothing'"):
        child.answer()
    child.close()
    monkeypatch.setattr("rnnlm_tui.bench.children.SILENCE_SECONDS", 0.01)
    child = real_child(tmp_path)
    with pytest.raises(WorkerError, match=r"no answer from the child for 0\.01 s"):
        child.answer()
    child.close()
