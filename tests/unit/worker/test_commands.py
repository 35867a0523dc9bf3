"""Commands act once, are journalled before they are answered, and a stop is answered last."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from pydantic import JsonValue

from rnnlm_tui.errors import ConfigError, Problem, RnnlmError, RunStateError, StorageError
from rnnlm_tui.schema.metrics import CommandRow
from rnnlm_tui.schema.protocol import (
    Command,
    CommandResult,
    Setting,
    SettingsChange,
    StopMark,
    Verb,
)
from rnnlm_tui.schema.steering import JournalledChange, journalled_change
from rnnlm_tui.worker.commands import CommandHandler, Request, Requests
from rnnlm_tui.worker.control import PendingCommand


class Run:
    """Remembers the calls."""

    def __init__(self) -> None:
        self.status = "running"
        self.step = 12
        self.saved = "checkpoints/step-000000010"
        self.done: list[str] = []

    def pause(self) -> None:
        self.done.append("pause")
        self.status = "paused"

    def resume(self) -> None:
        self.done.append("resume")
        self.status = "running"

    def stop(self) -> str:
        self.done.append("stop")
        self.status = "stopping"
        return "checkpoints/step-000000012"

    def checkpoint(self) -> str:
        raise StorageError("the disk is full", hint="free some space")

    def evaluate(self) -> str:
        raise RuntimeError("CUDA out of memory. Tried to allocate 3 GiB")

    def sample(self, prompt: str | None) -> str:
        self.done.append(f"sample {prompt}")
        return "and so on"

    def set(self, changes: Mapping[str, JsonValue]) -> SettingsChange:
        if "model.hidden_size" in changes:
            raise ConfigError([Problem("model.hidden_size", "can't change", "these can: …")])
        self.done.append(f"set {dict(changes)}")
        settings = tuple(Setting(path=path, old=None, new=value) for path, value in changes.items())
        return SettingsChange(number=1, step=self.step, settings=settings)

    def undo(self) -> SettingsChange:
        raise RunStateError("nothing to undo")

    def stop_after(self, mark: StopMark | None) -> str:
        self.done.append(f"stop after {mark}")
        return "stops after this epoch, at step 20"

    def snapshot(self) -> str:
        raise RunStateError("not now")


class Journal:
    """Remembers the commands; a failing one records none."""

    def __init__(self) -> None:
        self.rows: list[CommandRow] = []
        self.error: StorageError | None = None

    def journal_command(
        self, id: str, verb: str, arguments: dict[str, object], result: dict[str, object]
    ) -> None:
        if self.error is not None:
            raise self.error
        self.rows.append(CommandRow(1, id, verb, arguments, result, 0.0))


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


def test_the_answer_has_the_state_after_the_command(journal: Journal) -> None:
    run = Run()
    answer = ask(CommandHandler(run, journal), "pause")
    assert (answer.ok, answer.status, answer.step) == (True, "paused", 12)


def test_a_command_is_recorded_before_it_is_answered(journal: Journal) -> None:
    commands = CommandHandler(Run(), journal)
    recorded: list[int] = []
    command = Command(id="a", verb="sample", prompt="We")
    commands.handle(PendingCommand(command, lambda result: recorded.append(len(journal.rows))))
    assert recorded == [1]
    assert CommandResult.model_validate(journal.rows[0].result).text == "and so on"


def test_an_error_becomes_the_answer_with_its_hint(journal: Journal) -> None:
    commands = CommandHandler(Run(), journal)
    answer = ask(commands, "checkpoint")
    assert (answer.ok, answer.error, answer.hint) == (False, "the disk is full", "free some space")
    assert ask(commands, "snapshot").error == "not now"


def test_a_stop_is_answered_only_by_answer_stops(journal: Journal) -> None:
    commands = CommandHandler(Run(), journal)
    answers: list[CommandResult] = []
    commands.handle(PendingCommand(Command(id="a", verb="stop"), answers.append))
    assert answers == []
    assert [row.id for row in journal.rows] == ["a"]
    commands.answer_stops()
    commands.answer_stops()
    assert [answer.checkpoint for answer in answers] == ["checkpoints/step-000000012"]


def test_a_change_is_journalled_with_who_asked_and_what_it_replaced(journal: Journal) -> None:
    run = Run()
    answer = ask(
        CommandHandler(run, journal), "set", changes={"training.patience": 3}, who="alex, pts/3"
    )
    assert run.done == ["set {'training.patience': 3}"]
    assert (answer.ok, answer.checkpoint) == (True, run.saved)
    change = journalled_change(journal.rows[0])
    assert change == JournalledChange(
        1, 12, 0.0, "alex, pts/3", (Setting(path="training.patience", old=None, new=3),)
    )


def test_problems_of_a_change_are_answered_by_field(journal: Journal) -> None:
    answer = ask(CommandHandler(Run(), journal), "set", changes={"model.hidden_size": 3})
    assert not answer.ok
    assert [(one.path, one.message) for one in answer.problems] == [
        ("model.hidden_size", "can't change")
    ]


@pytest.mark.parametrize("changes", [None, {}])
def test_a_change_of_nothing_is_refused(
    journal: Journal, changes: dict[str, JsonValue] | None
) -> None:
    assert "needs changes" in ask(CommandHandler(Run(), journal), "set", changes=changes).error


def test_a_planned_stop_is_answered_at_once(journal: Journal) -> None:
    run = Run()
    answer = ask(CommandHandler(run, journal), "stop_after", after="epoch")
    assert (answer.ok, answer.text) == (True, "stops after this epoch, at step 20")
    assert run.done == ["stop after epoch"]


def test_requests_are_shown_until_they_are_answered() -> None:
    shown: list[tuple[Request, ...]] = []
    requests = Requests(shown.append)
    answers: list[CommandResult] = []
    change = Command(id="a", verb="set", who="alex", changes={"optimizer.learning_rate": 0.001})
    first = requests.shown(PendingCommand(change, answers.append))
    second = requests.shown(PendingCommand(Command(id="b", verb="stop"), answers.append))
    first.answer(CommandResult(id="a", ok=True))
    second.answer(CommandResult(id="b", ok=True))
    words = [[one["words"] for one in entry] for entry in shown]
    assert words == [
        ["learning_rate 0.001"],
        ["learning_rate 0.001", "stop"],
        ["stop"],
        [],
    ]
    assert [answer.id for answer in answers] == ["a", "b"]


def test_commands_without_a_wait_are_not_shown() -> None:
    def fail(requests: tuple[Request, ...]) -> None:
        raise AssertionError(requests)

    pending = PendingCommand(Command(id="a", verb="snapshot"), lambda _: None)
    assert Requests(fail).shown(pending) is pending


def test_out_of_memory_in_a_command_is_its_answer_and_does_not_end_the_run(
    journal: Journal, capfd: pytest.CaptureFixture[str]
) -> None:
    answer = ask(CommandHandler(Run(), journal), "evaluate")
    assert (answer.ok, answer.status, answer.error) == (False, "running", "evaluate: out of memory")
    assert "Tried to allocate 3 GiB" in capfd.readouterr().err


def test_a_command_that_cannot_be_recorded_fails_but_a_stop_still_stops(journal: Journal) -> None:
    commands = CommandHandler(Run(), journal)
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


def at_end(
    journal: Journal, verb: Verb, ending: str, failure: RnnlmError | None = None
) -> CommandResult:
    """The answer to a command that came when the attempt had ended."""
    answers: list[CommandResult] = []
    CommandHandler(Run(), journal).answer_after_end(
        PendingCommand(Command(id="a", verb=verb), answers.append), ending, failure
    )
    (answer,) = answers
    return answer


def test_a_command_after_the_end_is_too_late_but_a_stop_succeeds(journal: Journal) -> None:
    answer, stopped = (at_end(journal, verb, "finished") for verb in ("pause", "stop"))
    assert (answer.ok, answer.step) == (False, 12)
    assert "finished" in answer.error
    assert (stopped.ok, stopped.step) == (True, 12)
    assert stopped.checkpoint == "checkpoints/step-000000010"


def test_a_stop_of_a_failed_run_gets_the_reason(journal: Journal) -> None:
    answer = at_end(
        journal, "stop", "failed", StorageError("the disk is full", hint="free some space")
    )
    assert (answer.ok, answer.error, answer.hint) == (
        False,
        "the run has failed: the disk is full",
        "free some space",
    )
    assert answer.checkpoint == "checkpoints/step-000000010"
