"""One attempt from its lock to its last event, in this process: what shows first, and how it
ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

from rnnlm_tui.client.listing import kept_summary, stamps
from rnnlm_tui.client.monitor import summarize
from rnnlm_tui.corpus.corpus import prepare_corpus
from rnnlm_tui.errors import StorageError
from rnnlm_tui.schema.config import (
    CorpusConfig,
    DataMode,
    EvaluationConfig,
    ModelConfig,
    RunConfig,
    ScheduleConfig,
    TokenizerConfig,
    TrainingConfig,
)
from rnnlm_tui.schema.facts import Facts
from rnnlm_tui.schema.protocol import Command, CommandResult
from rnnlm_tui.store.paths import RunDirectory, corpora_dir
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.runs import create_run
from rnnlm_tui.store.verify import CheckpointCheck, newest_valid
from rnnlm_tui.system.gpu import VISIBLE_VARIABLE
from rnnlm_tui.system.locks import RunLock, read_lock
from rnnlm_tui.worker.commands import Inbox
from rnnlm_tui.worker.control import PendingCommand
from rnnlm_tui.worker.train import Worker


def config(data_mode: DataMode = "stream") -> RunConfig:
    """Two steps on some generated sentences."""
    return RunConfig(
        corpus=CorpusConfig(source="elman", sentences=200),
        tokenizer=TokenizerConfig(kind="word", vocab_size=100),
        model=ModelConfig(embedding_dim=4, hidden_size=4, num_layers=1),
        schedule=ScheduleConfig(warmup_steps=0),
        training=TrainingConfig(
            data_mode=data_mode,
            max_steps=2,
            batch_size=2,
            bptt=5,
            context_length=5,
            threads=1,
            device="cpu",
        ),
        evaluation=EvaluationConfig(prompts=()),
    )


@pytest.fixture
def run(home: Path) -> RunDirectory:
    return create_run(config(), "plain-otter")


@contextmanager
def worker_of(run: RunDirectory, inbox: Inbox | None = None) -> Iterator[Worker]:
    """A worker that has recorded its attempt."""
    with RunLock(run.lock_path) as lock:
        yield Worker(run, lock, inbox or Inbox())


def kinds(run: RunDirectory) -> list[str]:
    with RunReader(run) as reader:
        return [event.kind for event in reversed(reader.events())]


def facts(run: RunDirectory) -> Facts:
    with RunReader(run) as reader:
        return reader.facts()


def refuse(*_: object) -> NoReturn:
    raise ZeroDivisionError("out of order")


def test_an_attempt_and_its_gpu_are_visible_before_its_checkpoints_are_read(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[list[str], str]] = []
    monkeypatch.setenv(VISIBLE_VARIABLE, "GPU-a")

    def look(directory: RunDirectory) -> tuple[Path | None, list[CheckpointCheck]]:
        deadline = time.monotonic() + 60
        while kinds(directory)[-1:] != ["preparing"] and time.monotonic() < deadline:
            time.sleep(0.001)
        seen.append((kinds(directory), facts(directory).gpu_uuid))
        return newest_valid(directory)

    monkeypatch.setattr("rnnlm_tui.worker.train.newest_valid", look)
    with worker_of(run) as worker:
        assert worker.work() == 0
    assert seen == [(["started", "preparing"], "a")]
    assert facts(run).gpu_uuid == ""  # its config asks for the CPU
    assert kinds(run)[-1] == "finished"
    assert facts(run).socket == str(run.socket_path)


@pytest.mark.parametrize("trouble", ["a socket that can't be bound", "an unreadable machine"])
def test_a_failure_before_training_is_told_with_the_path_and_leaves_nothing_behind(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    def unreadable(*_: object, **__: object) -> NoReturn:
        raise PermissionError(13, "Permission denied", "/proc/stat")

    place = "/proc/stat"
    if trouble == "an unreadable machine":
        monkeypatch.setattr("rnnlm_tui.worker.train.MachineReader", unreadable)
    else:
        place = str(run.socket_path)
        (run.socket_path / "kept").mkdir(parents=True)
    with worker_of(run) as worker:
        assert worker.work() != 0
        assert not read_lock(run.lock_path).held
    assert kinds(run) == ["started", "preparing", "failed"]
    assert place in facts(run).message
    assert (run.socket_path / "kept").exists() == (place == str(run.socket_path))
    names = [thread.name for thread in threading.enumerate()]
    assert not {"recorder", "control"} & set(names)


def test_a_pending_stop_of_a_failed_run_gets_the_reason(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = Inbox()
    answers: list[CommandResult] = []
    inbox.deliver(PendingCommand(Command(id="a", verb="stop"), answers.append))

    def unreadable(directory: RunDirectory) -> tuple[Path | None, list[CheckpointCheck]]:
        raise StorageError(
            f"can't look into {directory.checkpoints_path}: Input/output error",
            hint="look at this disk",
        )

    monkeypatch.setattr("rnnlm_tui.worker.train.newest_valid", unreadable)
    with worker_of(run, inbox) as worker:
        assert worker.work() != 0
    assert [(answer.ok, answer.status, answer.checkpoint) for answer in answers] == [
        (False, "failed", "")
    ]
    assert (
        answers[0].error.startswith("the run has failed: can't look into"),
        answers[0].hint,
    ) == (True, "look at this disk")


def test_the_summary_is_the_last_line_of_an_attempt_that_ends(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rnnlm_tui.worker.train.newest_valid", refuse)
    with worker_of(run) as worker:
        assert worker.work() != 0
    failed = kept_summary(run, stamps(run))
    monkeypatch.undo()
    inbox = Inbox()
    inbox.deliver(PendingCommand(Command(id="a", verb="stop"), lambda _: None))
    with worker_of(run, inbox) as worker:
        assert worker.work() == 0
    stopped = kept_summary(run, stamps(run))
    with worker_of(run) as worker:
        assert worker.work() == 0
    finished = kept_summary(run, stamps(run))
    assert finished == summarize(run)
    assert [one and one.status for one in (failed, stopped, finished)] == [
        "failed",
        "stopped",
        "finished",
    ]


def test_a_summary_that_cannot_be_made_changes_nothing_but_the_workers_output(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("rnnlm_tui.worker.recorder.append_summary", refuse)
    with worker_of(run) as worker:
        assert worker.work() == 0
    assert kinds(run)[-1] == "finished"
    assert kept_summary(run, stamps(run)) is None
    assert "no summary at the end of the log: out of order" in capsys.readouterr().err


@pytest.mark.parametrize(("data_mode", "told"), [("stream", True), ("sentences", False)])
def test_the_entropy_of_a_generated_source_is_stored_if_comparable_with_the_loss(
    home: Path, data_mode: DataMode, told: bool
) -> None:
    run = create_run(config(data_mode))
    with worker_of(run) as worker:
        assert worker.work() == 0
    found = facts(run)
    assert (found.source_loss is not None) == told
    assert found.baseline_loss is not None
    assert found.baseline_loss > 0


def test_a_run_that_failed_before_training_records_its_corpus(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = [tmp_path / "a.txt", tmp_path / "b.txt"]
    for source in sources:
        source.write_text(
            "".join(f"The cat of {number} sees {number % 7} dogs.\n" for number in range(200))
        )
    first, second = (
        config().model_copy(update={"corpus": CorpusConfig(source=str(source))})
        for source in sources
    )
    prepared = prepare_corpus(
        first.corpus, first.tokenizer, first.training, corpora_dir(), lambda _: None
    )

    def fail(*_arguments: object) -> None:
        raise StorageError("the disk is full")

    monkeypatch.setattr("rnnlm_tui.corpus.corpus.check_length", fail)
    run = create_run(second, "plain-otter")
    with worker_of(run) as worker:
        assert worker.work() == StorageError.exit_code
    assert facts(run).corpus_hash == prepared.manifest.hash
