"""A whole bench against children without torch: figures, environments, and every way it can end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from rnnlm_tui.bench.plan import Measurement, bench_config, training_figures, training_rows
from rnnlm_tui.bench.report import BenchReport, TaskReady, TurnDone, naive_memory_bytes
from rnnlm_tui.bench.runner import (
    LEFT_OUT,
    MIN_ROUNDS,
    BenchOptions,
    check_memory,
    run_bench,
)
from rnnlm_tui.client.control import WORKER_SETTINGS
from rnnlm_tui.errors import ConfigError, InputError, WorkerError
from rnnlm_tui.schema.estimates import parameter_count
from tests.fakes import bench_child

SILENCE_SECONDS = 60.0


def fake(behaviour: str = "serves", **options: object) -> BenchOptions:
    command = [sys.executable, str(Path(bench_child.__file__)), behaviour]
    return BenchOptions(bench_config("book", "cpu"), seconds=0.01, child_command=command, **options)  # type: ignore[arg-type]


def silent(text: str) -> None:
    del text


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + SILENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@pytest.fixture(scope="module")
def report() -> Iterator[BenchReport]:
    with pytest.MonkeyPatch.context() as patch:
        for name in WORKER_SETTINGS:
            patch.delenv(name, raising=False)  # a variable that the user has set wins
        yield run_bench(fake(neighbour=True), silent)


def test_every_way_is_measured_and_the_naive_one_has_ratio_1(report: BenchReport) -> None:
    assert [row.name for row in report.training] == [
        "naive",
        "nn.RNN",
        "engine float32",
        "engine medium",
    ]
    assert [row.ratio.median for row in report.training] == [1.0, 1.5, 5.0, 5.0]
    assert report.training[0].ratio.low == report.training[0].ratio.high == 1.0
    assert report.training[1].ratio_to_library is not None
    assert report.training[1].ratio_to_library.median == 1.0
    assert {row.turns for row in report.training} == {MIN_ROUNDS}
    assert [row.peak_share for row in report.training] == [1.0, 0.25, 0.25, 0.25]


def test_a_way_is_compared_with_the_limit_of_its_number_format(report: BenchReport) -> None:
    in_float32, in_medium = report.training[2], report.training[3]
    assert in_float32.gflops == in_medium.gflops > 0
    assert in_float32.gemm_share == pytest.approx(4 * in_medium.gemm_share)


def test_sampled_text_is_compared_with_sampled_and_greedy_with_greedy(report: BenchReport) -> None:
    assert [(row.greedy, row.ratio.median) for row in report.sampling] == [
        (False, 1.0),
        (True, 1.0),
        (False, 20.0),
        (False, 20.0),
        (True, 20.0),
    ]
    assert [row.same_tokens for row in report.sampling] == [None, True, None, None, True]


def test_the_engine_samples_on_one_thread_and_the_naive_way_on_all(report: BenchReport) -> None:
    assert [row.threads for row in report.sampling] == [2, 2, 1, 1, 1]
    assert {row.threads for row in report.training} == {2}


def test_the_plain_ways_use_torchs_defaults_and_the_engine_the_runs_environment(
    report: BenchReport,
) -> None:
    spins = {
        note.partition(": ")[0]: note.partition(": ")[2] for note in report.notes if "spins" in note
    }
    assert spins == {
        "naive": "spins as torch does",
        "nn.RNN": "spins as torch does",
        "engine float32": "spins 1000",
        "engine medium": "spins 1000",
    }


def test_training_is_measured_alone_and_next_to_a_busy_process(report: BenchReport) -> None:
    assert report.neighbour is not None
    assert report.neighbour.kept_ours.median == report.neighbour.alone_ratio.median == 1.0


def test_only_measures_one_part() -> None:
    found = run_bench(fake(only="sampling"), silent)
    assert not found.training
    assert found.neighbour is None
    assert len(found.sampling) == 5


def test_a_replaced_text_is_noted(report: BenchReport) -> None:
    assert "not on this machine: a text instead" in report.notes[0]


def test_progress_is_reported(report: BenchReport) -> None:
    said: list[str] = []
    run_bench(fake(only="training"), said.append)
    assert (
        "4 ways, 0.01 s each: about 1.8 s, longer if a step or continuation takes longer than a"
        " turn" in said
    )
    assert said[:3] == [
        "preparing the text",
        "preparing the text: reading 25 %",
        "preparing the text: encoding",
    ]
    assert f"training: round {MIN_ROUNDS} of {MIN_ROUNDS}" in said


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), 1e9])
def test_an_invalid_time_is_refused_before_anything_starts(seconds: float) -> None:
    with pytest.raises(InputError, match="--seconds must be"):
        run_bench(
            BenchOptions(bench_config("book", "cpu"), seconds=seconds, child_command=["/nowhere"]),
            silent,
        )


def test_an_unknown_preset_gets_suggestions() -> None:
    with pytest.raises(InputError) as caught:
        bench_config("bok", "cpu")
    assert "book" in str(caught.value)


def test_an_invalid_device_is_a_config_problem() -> None:
    with pytest.raises(ConfigError, match="device"):
        bench_config("book", "tpu")


def test_a_missing_device_is_reported_with_the_childs_message() -> None:
    with pytest.raises(InputError, match=r'^no device "cuda"') as caught:
        run_bench(fake("no device"), silent)
    assert caught.value.hint == "there is cpu"


def test_too_little_memory_is_refused_with_need_and_have() -> None:
    with pytest.raises(
        InputError, match=r"the naive loop needs 0\.\d GiB of memory for all logits, 0 MiB are free"
    ):
        run_bench(fake("little memory"), silent)


def test_a_way_without_all_logits_needs_no_memory_for_them() -> None:
    assert run_bench(fake("little memory", only="sampling"), silent).sampling


def test_on_a_gpu_the_memory_of_all_ways_with_all_logits_adds_up(report: BenchReport) -> None:
    config = bench_config("book", "cpu")
    one = naive_memory_bytes(
        3_712, report.data.vocab_size, parameter_count(config.model, report.data.vocab_size).total
    )
    survey = bench_child.survey(one + 1)
    rows = training_rows(config, survey, report.data)
    check_memory(config, report.data, survey, rows)
    card = survey.model_copy(update={"device_type": "cuda"})
    with pytest.raises(InputError, match=r"the naive loop and nn\.RNN need "):
        check_memory(config, report.data, card, rows)
    check_memory(config, report.data, card.model_copy(update={"memory_free": 2 * one}), rows)


def test_a_child_that_is_silent_for_too_long_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rnnlm_tui.bench.processes.SILENCE_SECONDS", 0.2)
    with pytest.raises(WorkerError, match=r"no answer from the text for 0\.2 s") as caught:
        run_bench(fake("silent text"), silent)
    assert caught.value.hint == "use a shorter text"


@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        ([], 172_148),
        (["training.batch_size=1000"], 22_035),
        (["training.data_mode=stream"], None),
        (["corpus.source=elman"], None),
    ],
)
def test_the_epoch_time_of_the_news_is_known_for_any_batch_size(
    changes: list[str], steps: int | None, report: BenchReport
) -> None:
    config = bench_config("book", "cpu", changes)
    survey = bench_child.survey(10**12)
    done = TurnDone(steps=1, tokens=100, seconds=1.0, peak_bytes=1)
    rows = training_rows(config, survey, report.data)
    figures = training_figures(
        config,
        report.data,
        report.machine,
        rows,
        {row.name: Measurement(TaskReady(), done, [done]) for row in rows},
    )
    assert figures[0].epoch_seconds == (
        None if steps is None else pytest.approx(steps * report.data.tokens_per_step / 100)
    )


def test_the_naive_way_needs_memory_for_its_logits() -> None:
    assert naive_memory_bytes(3_712, 32_011, 8_292_619) > 3 * 4 * 3_712 * 32_011


def test_a_child_that_dies_is_reported_with_its_last_output() -> None:
    with pytest.raises(
        WorkerError, match=r"engine medium ended .exit code 1.: Illegal instruction"
    ):
        run_bench(fake("dies"), silent)


def test_a_way_that_fails_is_left_out_and_noted(tmp_path: Path) -> None:
    found = run_bench(fake("one dies", only="training", logs=tmp_path), silent)
    assert [row.name for row in found.training] == ["naive", "nn.RNN", "engine float32"]
    assert [note for note in found.notes if note.startswith(LEFT_OUT)] == [
        "left out: engine medium: engine medium ended (exit code 1): Illegal instruction"
    ]
    assert (tmp_path / "engine-medium.log").read_text() == "Illegal instruction\n"


def test_cells_that_torch_lacks_are_compared_with_the_naive_loop_only(report: BenchReport) -> None:
    config = bench_config("book", "cpu", ["model.cell_type=mingru"])
    rows = training_rows(config, bench_child.survey(10**12), report.data)
    assert [row.name for row in rows] == ["naive", "engine float32", "engine medium"]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_children_end_with_their_parent(how: signal.Signals, tmp_path: Path) -> None:
    (children := tmp_path / "children").mkdir()
    code = (
        # a background process may ignore it
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from tests.unit.bench.test_runner import fake, run_bench, silent\n"
        f"run_bench(fake('register {children}'), silent)"
    )
    (folders := tmp_path / "folders").mkdir()
    environment = {**os.environ, "TMPDIR": str(folders)}
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stderr=subprocess.DEVNULL,
        cwd=Path(__file__).parents[3],
        env=environment,
    )
    try:
        wait_for(
            lambda: len(list(children.iterdir())) == 6,
            "the text, the machine and four ways to train",
        )
        pids = [int(path.name) for path in children.iterdir()]
        os.kill(process.pid, how)
        process.wait(SILENCE_SECONDS)
    finally:
        process.kill()
        process.wait()
    wait_for(lambda: not any(_lives(pid) for pid in pids), "a child goes on")
    if how != signal.SIGKILL:
        assert not list(folders.iterdir())


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
