"""Commands act once, are journalled before they are answered, and a stop is answered last."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from rnnlm_tui.errors import ConfigError, Problem, RnnlmError, StorageError
from rnnlm_tui.schema.protocol import Command, CommandResult, Verb
from rnnlm_tui.worker.commands import CommandHandler, Request, Requests
from rnnlm_tui.worker.control import PendingCommand

OUTCOMES: Mapping[Verb, Mapping[str, Any] | Exception] = {
    "stop": {"checkpoint": "checkpoints/step-000000012"},
    "sample": {"text": "and so on"},
    "checkpoint": StorageError("the disk is full", hint="free some space"),
    "evaluate": RuntimeError("CUDA out of memory. Tried to allocate 3 GiB"),
    "set": ConfigError([Problem("model.hidden_size", "can't change", "these can: …")]),
}


class Run:
    """A run at step 12."""

    step = 12
    saved = "checkpoints/step-000000010"

    def __init__(self) -> None:
        self.status = "running"

    def carry_out(self, command: Command) -> Mapping[str, Any]:
        outcome = OUTCOMES.get(command.verb, {})
        if isinstance(outcome, Exception):
            raise outcome
        if command.verb == "pause":
            self.status = "paused"
        return outcome


class Journal:
    """Remembers the commands; a failing one records none."""

    def __init__(self) -> None:
        self.rows: list[tuple[Command, CommandResult]] = []
        self.error: StorageError | None = None

    def __call__(self, command: Command, result: CommandResult) -> None:
        if self.error is not None:
            raise self.error
        self.rows.append((command, result))


@pytest.fixture
def journal() -> Journal:
    return Journal()


def ask(commands: CommandHandler, verb: Verb, **arguments: object) -> CommandResult:
    """The answer to one command."""
    answers: list[CommandResult] = []
    commands.handle(
        PendingCommand(
            Command.model_validate({"id": f"id-{verb}", "verb": verb, **arguments}), answers.append
        )
    )
    (answer,) = answers
    return answer


def test_a_command_is_recorded_before_it_is_answered(journal: Journal) -> None:
    commands = CommandHandler(Run(), journal)
    recorded: list[int] = []
    command = Command(id="a", verb="sample")
    commands.handle(PendingCommand(command, lambda result: recorded.append(len(journal.rows))))
    assert recorded == [1]
    assert journal.rows[0][1].text == "and so on"


def test_an_error_becomes_the_answer_with_its_hint(journal: Journal) -> None:
    answer = ask(CommandHandler(Run(), journal), "checkpoint")
    assert (answer.ok, answer.error, answer.hint) == (False, "the disk is full", "free some space")


def test_a_stop_is_answered_only_by_answer_stops(journal: Journal) -> None:
    commands = CommandHandler(Run(), journal)
    answers: list[CommandResult] = []
    commands.handle(PendingCommand(Command(id="a", verb="stop"), answers.append))
    assert answers == []
    assert [command.id for command, _ in journal.rows] == ["a"]
    commands.answer_stops()
    commands.answer_stops()
    assert [answer.checkpoint for answer in answers] == ["checkpoints/step-000000012"]


def test_problems_of_a_change_are_answered_by_field(journal: Journal) -> None:
    answer = ask(CommandHandler(Run(), journal), "set", changes={"model.hidden_size": 3})
    assert not answer.ok
    assert [(one.path, one.message) for one in answer.problems] == [
        ("model.hidden_size", "can't change")
    ]


def test_requests_are_shown_until_they_are_answered() -> None:
    shown: list[tuple[Request, ...]] = []
    requests = Requests(shown.append)
    answers: list[CommandResult] = []
    change = Command(id="a", verb="set", who="alex", changes={"optimizer.learning_rate": 0.001})
    first = requests.shown(PendingCommand(change, answers.append))
    second = requests.shown(PendingCommand(Command(id="b", verb="stop"), answers.append))
    first.answer(CommandResult(id="a", ok=True))
    second.answer(CommandResult(id="b", ok=True))
    quick = PendingCommand(Command(id="c", verb="snapshot"), answers.append)
    assert requests.shown(quick) is quick, "it takes no while"
    words = [[one["words"] for one in entry] for entry in shown]
    assert words == [
        ["learning_rate 0.001"],
        ["learning_rate 0.001", "stop"],
        ["stop"],
        [],
    ]
    assert [answer.id for answer in answers] == ["a", "b"]


def test_out_of_memory_in_a_command_is_its_answer_and_does_not_end_the_run(
    journal: Journal, capfd: pytest.CaptureFixture[str]
) -> None:
    answer = ask(CommandHandler(Run(), journal), "evaluate")
    assert (answer.ok, answer.status, answer.error) == (False, "running", "evaluate: out of memory")
    assert "Tried to allocate 3 GiB" in capfd.readouterr().err


def test_a_command_that_cannot_be_recorded_fails_but_a_stop_still_stops(journal: Journal) -> None:
    commands = CommandHandler(Run(), journal)
    answer = ask(commands, "pause")
    assert (answer.ok, answer.status, answer.step) == (True, "paused", 12)
    journal.error = StorageError("the run's folder is gone", hint="look for it")
    answer = ask(commands, "pause")
    assert (answer.ok, answer.error, answer.hint) == (
        False,
        "pause was carried out but could not be recorded: the run's folder is gone",
        "look for it",
    )
    answers: list[CommandResult] = []
    commands.handle(PendingCommand(Command(id="a", verb="stop"), answers.append))
    commands.answer_stops()
    assert [(answer.ok, answer.checkpoint) for answer in answers] == [
        (True, "checkpoints/step-000000012")
    ]


DISK_FULL = StorageError("the disk is full", hint="free some space")


@pytest.mark.parametrize(
    ("verb", "ending", "failure", "error", "hint"),
    [
        ("pause", "finished", None, "too late: the run has just finished", ""),
        ("stop", "finished", None, "", ""),
        ("stop", "failed", DISK_FULL, "the run has failed: the disk is full", "free some space"),
    ],
)
def test_a_command_after_the_end_is_too_late_but_a_stop_succeeds_unless_the_run_failed(
    verb: Verb, ending: str, failure: RnnlmError | None, error: str, hint: str, journal: Journal
) -> None:
    answers: list[CommandResult] = []
    pending = PendingCommand(Command(id="a", verb=verb), answers.append)
    CommandHandler(Run(), journal).answer_after_end(pending, ending, failure)
    assert answers == [
        CommandResult(
            id="a",
            ok=not error,
            error=error,
            hint=hint,
            status=ending,
            step=12,
            checkpoint=Run.saved if verb == "stop" else "",
        )
    ]
