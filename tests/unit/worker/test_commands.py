"""Commands act once, are journalled before they are answered, and a stop is answered last."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rnnlm_tui.contract.commands import Command, CommandResult, Verb
from rnnlm_tui.errors import RunStateError, StorageError
from rnnlm_tui.store.database import RunDatabase
from rnnlm_tui.worker.commands import Steering, answer_at_end
from rnnlm_tui.worker.control import PendingCommand


class Run:
    """Remembers what was done to it."""

    def __init__(self) -> None:
        self.status = "running"
        self.step = 12
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
        return "validation perplexity 9"

    def sample(self, prompt: str | None) -> str:
        self.done.append(f"sample {prompt}")
        return "and so on"

    def set(self, path: str, value: float) -> None:
        self.done.append(f"set {path} {value}")

    def snapshot(self) -> str:
        raise RunStateError("not now")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[RunDatabase]:
    with RunDatabase(tmp_path / "run.db") as database:
        yield database


def ask(steering: Steering, verb: Verb, **arguments: object) -> CommandResult:
    """The answer to one command."""
    answers: list[CommandResult] = []
    steering.carry_out(PendingCommand(Command.model_validate({"id": f"id-{verb}", "verb": verb, **arguments}), answers.append))
    (answer,) = answers
    return answer


def test_the_answer_tells_the_state_after_the_command(database: RunDatabase) -> None:
    run = Run()
    answer = ask(Steering(run, database), "pause")
    assert (answer.ok, answer.status, answer.step) == (True, "paused", 12)


def test_a_command_is_journalled_before_it_is_answered(database: RunDatabase) -> None:
    steering = Steering(Run(), database)
    journalled: list[str | None] = []
    command = Command(id="a", verb="sample", prompt="We")
    steering.carry_out(PendingCommand(command, lambda result: journalled.append(database.journalled("a"))))
    (known,) = journalled
    assert known is not None
    assert CommandResult.model_validate_json(known).text == "and so on"


def test_a_repeated_id_gets_the_first_answer_and_acts_once(database: RunDatabase) -> None:
    run = Run()
    steering = Steering(run, database)
    first = ask(steering, "sample", prompt="We")
    run.step = 99
    assert ask(steering, "sample", prompt="We") == first
    assert run.done == ["sample We"]


def test_an_error_becomes_the_answer_with_its_hint(database: RunDatabase) -> None:
    steering = Steering(Run(), database)
    answer = ask(steering, "checkpoint")
    assert (answer.ok, answer.error, answer.hint) == (False, "the disk is full", "free some space")
    assert ask(steering, "snapshot").error == "not now"


def test_a_stop_is_answered_when_it_is_told_to(database: RunDatabase) -> None:
    steering = Steering(Run(), database)
    answers: list[CommandResult] = []
    steering.carry_out(PendingCommand(Command(id="a", verb="stop"), answers.append))
    assert answers == []
    assert database.journalled("a") is not None
    steering.answer_stops()
    steering.answer_stops()
    assert [answer.checkpoint for answer in answers] == ["checkpoints/step-000000012"]


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [(None, 1.0, "needs a path"), ("optimizer.learning_rate", None, "needs a path"), ("model.hidden_size", 3.0, "can't change")],
)
def test_set_refuses_what_may_not_change(database: RunDatabase, path: str | None, value: float | None, problem: str) -> None:
    run = Run()
    answer = ask(Steering(run, database), "set", path=path, value=value)
    assert not answer.ok
    assert problem in answer.error
    assert run.done == []


def test_set_suggests_the_near_setting(database: RunDatabase) -> None:
    assert '"optimizer.learning_rate"' in ask(Steering(Run(), database), "set", path="optimizer.learning_rat", value=0.1).hint


def test_a_command_after_the_end_came_too_late_unless_it_is_a_stop() -> None:
    answers: list[CommandResult] = []
    answer_at_end(PendingCommand(Command(id="a", verb="pause"), answers.append), "finished", 60)
    answer_at_end(PendingCommand(Command(id="b", verb="stop"), answers.append), "finished", 60)
    assert [(answer.id, answer.ok, answer.step) for answer in answers] == [("a", False, 60), ("b", True, 60)]
    assert "finished" in answers[0].error
