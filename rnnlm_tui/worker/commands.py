"""Carries commands out, each once: acts, journals the result, then answers."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from contextlib import suppress
from threading import Lock
from typing import Protocol

from rnnlm_tui.contract.commands import SETTABLE, Command, CommandResult
from rnnlm_tui.contract.validation import did_you_mean_key
from rnnlm_tui.errors import InputError, RnnlmError, StorageError
from rnnlm_tui.worker.control import PendingCommand


class Steered(Protocol):
    """What commands act on. Each method acts between two steps; errors become the command's answer."""

    @property
    def status(self) -> str:
        """running, paused, preparing or stopping."""

    @property
    def step(self) -> int: ...

    @property
    def saved(self) -> str:
        """The newest checkpoint's directory relative to the run's; empty when there is none."""

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def stop(self) -> str:
        """Save, then leave the loop; the newest checkpoint's directory, empty when there is none."""

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
    its lock: whoever hears the answer may resume at once. No command ends the training: whatever goes wrong is its answer.
    """

    def __init__(self, steered: Steered, journal: Journal) -> None:
        self.steered = steered
        """What commands act on; replaced when the run passes from preparing to training."""
        self._journal: Journal | None = journal
        self._turn = Lock()  # between a look into the journal from the control thread and the journal's end
        self._stops: list[tuple[Callable[[CommandResult], None], CommandResult]] = []
        self._stopped: dict[str, CommandResult] = {}

    def status(self, command: Command) -> CommandResult:
        """The answer to a `status` command; from any thread and at any time. It changes nothing, so it is not journalled."""
        return CommandResult(id=command.id, ok=True, status=self.steered.status, step=self.steered.step)

    def replay(self, pending: PendingCommand) -> bool:
        """Answer a stop that was carried out before, in an earlier attempt perhaps; from any thread.

        False for every other command: it has to wait for its turn.
        """
        if pending.command.verb != "stop":
            return False
        known: str | None = None
        with self._turn, suppress(StorageError):  # where the journal can't be read, it takes its turn
            known = None if self._journal is None or pending.command.id in self._stopped else self._journal.journalled(pending.command.id)
        if known is not None:
            pending.answer(CommandResult.model_validate_json(known))
        return known is not None

    def carry_out(self, pending: PendingCommand) -> None:
        """Act once for this command's id and answer; a repeated id gets the first answer again.

        Where the journal can't be read nothing is done, for it might be the second time; a stop alone may come twice.
        """
        command, journal = pending.command, self._journal
        if journal is None:
            raise RuntimeError("a command was carried out after the journal's end")
        try:
            known = journal.journalled(command.id)
        except StorageError as error:
            if command.verb != "stop":
                pending.answer(CommandResult(id=command.id, ok=False, error=f"nothing was done: {error.message}", hint=error.hint))
                return
            known = None
        if known is not None:
            pending.answer(CommandResult.model_validate_json(known))
            return
        result = self._result(command)
        arguments = command.model_dump_json(exclude={"id", "verb"}, exclude_none=True)
        stops = command.verb == "stop" and result.ok
        if stops:
            self._stopped[command.id] = result
            self._stops.append((pending.answer, result))
        try:
            journal.journal_command(command.id, command.verb, arguments, result.model_dump_json())
        except StorageError as error:
            traceback.print_exc()  # to stderr, the run's log
            if result.ok:
                failed = f"{command.verb} was carried out, and could not be journalled: {error.message}"
                result = result.model_copy(update={"ok": False, "error": failed, "hint": error.hint})
        if not stops:
            pending.answer(result)

    def end(self) -> None:
        """Ask the journal no more: it is about to be closed."""
        with self._turn:
            self._journal = None

    def answer_stops(self) -> None:
        """Answer the stops that were carried out."""
        while self._stops:
            answer, result = self._stops.pop()
            answer(result)

    def answer_at_end(self, pending: PendingCommand, ending: str, failure: RnnlmError | None = None) -> None:
        """Answer a command that came when the attempt had ended: a stop has what it wanted unless the run failed, the others came too late."""
        command, step = pending.command, self.steered.step
        if command.id in self._stopped:
            pending.answer(self._stopped[command.id])
        elif command.verb != "stop":
            pending.answer(CommandResult(id=command.id, ok=False, error=f"the run has just ended ({ending})", status=ending, step=step))
        elif ending == "failed":
            error = f"the run has failed: {failure.message}" if failure is not None else "the run has failed"
            hint = failure.hint if failure is not None else ""
            pending.answer(CommandResult(id=command.id, ok=False, error=error, hint=hint, status=ending, step=step, checkpoint=self.steered.saved))
        else:
            pending.answer(CommandResult(id=command.id, ok=True, status=ending, step=step, checkpoint=self.steered.saved))

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
        except Exception as failure:  # out of memory for one: the training goes on, as it did before the command
            traceback.print_exc()  # to stderr, the run's log
            from rnnlm_tui.engine.failures import explained_aside  # torch, which is there already once anything but a refusal can fail

            explanation = explained_aside(failure, command.verb)
            error, hint = explanation.message, explanation.hint
        return CommandResult(
            id=command.id, ok=not error, error=error, hint=hint, status=self.steered.status, step=self.steered.step, checkpoint=checkpoint, text=text
        )

    def _set(self, command: Command) -> None:
        if command.path is None or command.value is None:
            raise InputError("set needs a path and a value", hint=f"paths are {', '.join(SETTABLE)}")
        if command.path not in SETTABLE:
            hint = did_you_mean_key(command.path, SETTABLE) or f"these can change: {', '.join(SETTABLE)}"
            raise InputError(f'"{command.path}" can\'t change while a run goes on', hint=hint)
        self.steered.set(command.path, command.value)
