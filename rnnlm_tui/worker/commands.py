"""Carries commands out, each once: acts, journals the result, then answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from rnnlm_tui.contract.commands import SETTABLE, Command, CommandResult
from rnnlm_tui.errors import InputError, RnnlmError, StorageError, near_names
from rnnlm_tui.worker.control import PendingCommand


class Steered(Protocol):
    """What commands act on. Each method acts between two steps; errors become the command's answer."""

    @property
    def status(self) -> str:
        """running, paused, preparing or stopping."""

    @property
    def step(self) -> int: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def stop(self) -> str:
        """Save, then leave the loop; the checkpoint's directory, empty when there is nothing to save."""

    def checkpoint(self) -> str:
        """Save; the checkpoint's directory relative to the run's."""

    def evaluate(self) -> str:
        """Evaluate now; the figures in words."""

    def sample(self, prompt: str | None) -> str:
        """The continuation of `prompt`, or of all configured prompts."""

    def set(self, path: str, value: float) -> None: ...

    def snapshot(self) -> str:
        """Write the weights alone; the directory relative to the run's."""


class Journal(Protocol):
    """The part of the run's database that remembers commands."""

    def journalled(self, id: str) -> str | None: ...

    def journal_command(self, id: str, verb: str, arguments_json: str, result_json: str) -> None: ...


class Steering:
    """Carries out the commands of one attempt on what is `steered` now.

    A stop is journalled as soon as its checkpoint is on disk and answered by `answer_stops`, when the run has let go of
    its lock: whoever hears the answer may resume at once.
    """

    def __init__(self, steered: Steered, journal: Journal) -> None:
        self.steered = steered
        """What commands act on; replaced when the run passes from preparing to training."""
        self._journal = journal
        self._stops: list[tuple[Callable[[CommandResult], None], CommandResult]] = []

    def status(self, command: Command) -> CommandResult:
        """The answer to a `status` command, journalled; from any thread, since it changes nothing."""
        result = CommandResult(id=command.id, ok=True, status=self.steered.status, step=self.steered.step)
        try:
            self._journal.journal_command(command.id, command.verb, "{}", result.model_dump_json())
        except StorageError as error:
            return CommandResult(id=command.id, ok=False, error=error.message, hint=error.hint)
        return result

    def carry_out(self, pending: PendingCommand) -> None:
        """Act once for this command's id and answer; a repeated id gets the first answer again."""
        command = pending.command
        known = self._journal.journalled(command.id)
        if known is not None:
            result = CommandResult.model_validate_json(known)
        else:
            result = self._result(command)
            arguments = command.model_dump_json(exclude={"id", "verb"}, exclude_none=True)
            self._journal.journal_command(command.id, command.verb, arguments, result.model_dump_json())
        if command.verb == "stop" and result.ok:
            self._stops.append((pending.answer, result))
        else:
            pending.answer(result)

    def answer_stops(self) -> None:
        """Answer the stops that were carried out."""
        while self._stops:
            answer, result = self._stops.pop()
            answer(result)

    def _result(self, command: Command) -> CommandResult:
        checkpoint = text = error = hint = ""
        try:
            match command.verb:
                case "status":
                    pass  # the figures below are the answer
                case "pause":
                    self.steered.pause()
                case "resume":
                    self.steered.resume()
                case "stop":
                    checkpoint = self.steered.stop()
                case "checkpoint":
                    checkpoint = self.steered.checkpoint()
                case "snapshot":
                    checkpoint = self.steered.snapshot()
                case "evaluate":
                    text = self.steered.evaluate()
                case "sample":
                    text = self.steered.sample(command.prompt)
                case "set":
                    self._set(command)
        except RnnlmError as failure:
            error, hint = failure.message, failure.hint
        return CommandResult(
            id=command.id, ok=not error, error=error, hint=hint, status=self.steered.status, step=self.steered.step, checkpoint=checkpoint, text=text
        )

    def _set(self, command: Command) -> None:
        if command.path is None or command.value is None:
            raise InputError("set needs a path and a value", hint=f"paths are {', '.join(SETTABLE)}")
        if command.path not in SETTABLE:
            hint = near_names(command.path, SETTABLE) or f"these can change: {', '.join(SETTABLE)}"
            raise InputError(f'"{command.path}" can\'t change while a run goes on', hint=hint)
        self.steered.set(command.path, command.value)


def answer_at_end(pending: PendingCommand, ending: str, step: int) -> None:
    """Answer a command that came when the attempt had ended: a stop has what it wanted, the others came too late."""
    wanted = pending.command.verb == "stop"
    error = "" if wanted else f"the run has just ended ({ending})"
    pending.answer(CommandResult(id=pending.command.id, ok=wanted, error=error, status=ending, step=step))
