"""While a corpus is prepared its progress is shown and commands are answered."""

from __future__ import annotations

from pathlib import Path

import pytest

from rnnlm_tui.schema.metrics import Progress
from rnnlm_tui.schema.protocol import Command, CommandResult, Verb
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.system.locks import read_lock
from rnnlm_tui.worker.commands import CommandHandler, Inbox, StopRequested
from rnnlm_tui.worker.control import PendingCommand
from rnnlm_tui.worker.recorder import Recorder
from rnnlm_tui.worker.train import PreparingRun, ProgressReporter


class Preparation:
    """A run that is being prepared."""

    def __init__(self, run: RunDirectory, recorder: Recorder) -> None:
        self.run = run
        self.inbox = Inbox()
        self.commands = CommandHandler(
            PreparingRun(40, "checkpoints/step-000000040"), recorder.journal_command
        )
        self.report = ProgressReporter(recorder, self.inbox, self.commands)
        self.answers: list[CommandResult] = []

    def ask(self, verb: Verb) -> None:
        self.inbox.deliver(PendingCommand(Command(id=verb, verb=verb), self.answers.append))

    def shown(self) -> tuple[str, int, int] | None:
        return read_lock(self.run.lock_path).page.progress


@pytest.fixture
def preparation(tmp_path: Path, recorder: Recorder) -> Preparation:
    return Preparation(RunDirectory(tmp_path), recorder)


def test_a_new_phase_is_shown_at_once_and_its_progress_periodically(
    preparation: Preparation,
) -> None:
    preparation.report(Progress("reading", 0, 100))
    preparation.report(Progress("reading", 1, 100))
    assert preparation.shown() == ("reading", 0, 100)
    preparation.report(Progress("encoding", 5, 100))
    assert preparation.shown() == ("encoding", 5, 100)


@pytest.mark.parametrize("verb", ["pause", "checkpoint", "evaluate", "sample", "snapshot"])
def test_commands_that_need_a_model_are_refused(preparation: Preparation, verb: Verb) -> None:
    preparation.ask(verb)
    preparation.report(Progress("reading", 0, 100))
    (answer,) = preparation.answers
    assert (answer.ok, answer.status, answer.step) == (False, "preparing", 40)
    assert "still preparing" in answer.error


def test_a_stop_interrupts_the_preparation_and_is_answered_at_the_end(
    preparation: Preparation,
) -> None:
    preparation.ask("stop")
    with pytest.raises(StopRequested):
        preparation.report(Progress("reading", 0, 100))
    assert preparation.answers == []
    preparation.commands.answer_stops()
    assert [(answer.ok, answer.status, answer.checkpoint) for answer in preparation.answers] == [
        (True, "stopping", "checkpoints/step-000000040")
    ]
