"""TrainingRun: the training loop of one attempt. Commands, a step, an evaluation, a checkpoint."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Literal

from rnnlm_tui.engine.trainer import StepResult
from rnnlm_tui.errors import DeviceError, InputError, RnnlmError, RunStateError, StorageError
from rnnlm_tui.schema.facts import Facts
from rnnlm_tui.schema.formatting import counted
from rnnlm_tui.schema.protocol import Command
from rnnlm_tui.schema.status import StopMark
from rnnlm_tui.worker.checkpointing import RETRY_SECONDS, Checkpointer
from rnnlm_tui.worker.commands import StopRequested
from rnnlm_tui.worker.evaluation import Evaluator
from rnnlm_tui.worker.guards import too_many_bad_steps
from rnnlm_tui.worker.session import Session
from rnnlm_tui.worker.steering import Steering

PAUSE_SECONDS = 0.5
"""While paused, the inbox is polled with waits of this length."""

Ending = Literal["finished", "stopped"]


class TrainingRun:
    """Trains until the last step or a stop. Commands act through it, between two steps."""

    def __init__(
        self,
        session: Session,
        checkpointer: Checkpointer,
        evaluator: Evaluator,
        steering: Steering,
    ) -> None:
        self._session, self._event = session, session.event
        self._attempt, self._recorder = session.attempt, session.attempt.recorder
        self._trainer, self._metrics = session.trainer, session.metrics
        self._checkpointer, self._evaluator, self._steering = checkpointer, evaluator, steering
        self._status: Literal["running", "paused", "stopping"] = "running"
        self._stop_mark: StopMark | None = None
        self._mark_reached, self._stop_again_at = False, 0.0

    @property
    def status(self) -> str:
        """running, paused or stopping."""
        return self._status

    @property
    def step(self) -> int:
        """Optimizer updates done."""
        return self._trainer.step

    @property
    def saved(self) -> str:
        """The newest checkpoint, relative to the run directory; empty: none yet."""
        return self._checkpointer.path

    def train(self) -> Ending:
        """Train to the last step and evaluate on the test set, or stop early with everything saved.

        Raises:
            RnnlmError: out of memory, too many non-finite losses, run directory removed.
        """
        try:
            return self._train()
        except RnnlmError:
            with suppress(StorageError, RuntimeError):  # report the first error
                self._metrics.flush()
            raise
        finally:
            with suppress(RnnlmError):
                self._checkpointer.finish()

    def _train(self) -> Ending:
        self._event("running", f"from step {self.step:,} of {self._trainer.max_steps:,}")
        self._repeat_interrupted_evaluation()
        while (ending := self._train_steps() or self._finish()) is None:
            pass  # a change made the run longer while it was about to finish
        return ending

    def _train_steps(self) -> Ending | None:
        """Train up to the last step (None) or a stop."""
        while self._trainer.should_continue and not self._evaluator.is_exhausted:
            self._handle_commands()
            self._prune()
            self._stop_if_due()
            if self._status == "stopping":
                return "stopped"
            if not self._trainer.should_continue or self._evaluator.is_exhausted:
                break

            self._steering.repeat_due()
            self._metrics.add(self._train_step())
            self._check_losses()

            if self._is_due(self._steering.config.evaluation.every):
                self._evaluator.evaluate_unless_stopped()
            if (
                self._is_due(self._steering.config.checkpoint.every)
                or self._evaluator.is_best
                or self._checkpointer.is_retry_due
            ):
                self._checkpointer.save_beside_training(self._evaluator.current_loss)
            self._notice_mark()
        return None

    def _finish(self) -> Ending | None:
        """The last evaluation, the last checkpoint, the test set; None: there are more steps."""
        if self._evaluator.is_exhausted and self._trainer.should_continue:
            self._event(
                "note",
                "stopping early: no better validation loss in"
                f" {counted(self._steering.config.training.patience, 'evaluation')}",
            )
        while True:
            self._handle_commands()
            if self._status == "stopping":
                return "stopped"
            if self._trainer.should_continue and not self._evaluator.is_exhausted:
                return None
            try:
                self._metrics.flush()
                self._check_losses()  # a GPU's last steps have only just arrived
                if not self._evaluator.is_current:
                    self._evaluator.evaluate_if_possible()
                if not self._checkpointer.save_at_end(self._evaluator.current_loss):
                    continue
                self._evaluator.evaluate_at_end()
            except StopRequested:
                continue
            return "finished"

    def carry_out(self, command: Command) -> Mapping[str, Any]:
        """Do what a command asks, between two steps; returns fields of its `CommandResult`."""
        match command.verb:
            case "pause":
                self.pause()
            case "resume":
                self.resume()
            case "stop":
                return {"checkpoint": self.stop()}
            case "checkpoint":
                return {"checkpoint": self.checkpoint()}
            case "snapshot":
                return {"checkpoint": self.snapshot()}
            case "evaluate":
                return {"text": self.evaluate()}
            case "sample":
                return {"text": self.sample()}
            case "stop_after":
                return {"text": self.stop_after(command.after)}
            case "set":
                if not command.changes:
                    hint = "changes are key and value, at least one"
                    raise InputError("set needs changes", hint=hint)
                change = self._steering.change(command.changes)
                return {"change": change, "checkpoint": self.saved}
            case "undo":
                return {"change": self._steering.undo(), "checkpoint": self.saved}
        return {}

    def pause(self) -> None:
        """Stop training until `resume`; commands are still handled."""
        if self._status == "running":
            self._metrics.flush()
            self._checkpointer.finish()
            self._event("paused", "")  # first: if the run's folder is gone, the pause is refused
            self._status = "paused"

    def resume(self) -> None:
        """Continue after a pause."""
        if self._status == "paused":
            self._event("running", "after a pause")
            self._status = "running"

    def stop(self) -> str:
        """Save, then leave the loop; returns the newest checkpoint, empty before the first step.

        Raises:
            StorageError: the checkpoint or rows that wait for a full disk can't be stored. The run
                keeps training.
        """
        before, self._status = self._status, "stopping"
        try:
            self._metrics.flush()
            self._checkpointer.finish()
            with suppress(RunStateError):  # weights that aren't finite aren't saved
                self._checkpointer.save(self._evaluator.current_loss, last=True)
            self._recorder.flush()
        except StorageError as error:
            self._status = before
            kill = (
                f"`kill -9 {os.getpid()}` ends the run anyway, back at step"
                f" {self._checkpointer.step:,}"
            )
            raise StorageError(
                f"stop failed: the run is still training: {error.message}",
                hint="; ".join(filter(None, (error.hint, kill))),
            ) from error
        except BaseException:
            self._status = before
            raise
        self._recorder.add(Facts(stop_after=None))
        return self.saved

    def stop_after(self, mark: StopMark | None) -> str:
        """Stop once the mark is reached, None: no longer; returns when that is, in words.

        Raises:
            RunStateError: no evaluation is planned.
        """
        every = self._steering.config.evaluation.every
        if mark == "evaluation" and not every:
            raise RunStateError(
                "no evaluation is planned: evaluation.every is 0",
                hint="stop after the epoch, or set evaluation.every first",
            )
        if mark is None and self._stop_mark is None:
            return "no stop was planned"
        self._stop_mark, self._mark_reached = mark, False
        self._recorder.add(Facts(stop_after=mark))
        if mark is None:
            words = "keeps training: no stop is planned any more"
        else:
            batches, trainer = self._trainer.batches, self._trainer
            left = batches.steps_per_epoch - trainer.index if mark == "epoch" else 0
            at = self.step + left if mark == "epoch" else (self.step // every + 1) * every
            what = "this epoch" if mark == "epoch" else "the next evaluation"
            words = f"stops after {what}, at step {min(at, trainer.max_steps):,}"
        self._event("note", words)
        return words

    def _notice_mark(self) -> None:
        """Note that a planned stop is due: the epoch or an evaluation has just ended."""
        if self._stop_mark == "epoch" and self._trainer.index == 0:
            self._mark_reached = True
        if self._stop_mark == "evaluation" and self._evaluator.is_current:
            self._mark_reached = True

    def _prune(self) -> None:
        """Let a run stop that is worse than the others of its sweep; it can be resumed."""
        if why := self._evaluator.why_pruned():
            self._event("note", why)
            self._recorder.add(Facts(message=why))
            self._mark_reached = True

    def _stop_if_due(self) -> None:
        """Stop as planned. If nothing can be saved, training continues and it is tried again in a
        minute."""
        if not self._mark_reached or time.monotonic() < self._stop_again_at:
            return
        try:
            self.stop()
        except StorageError as error:
            self._stop_again_at = time.monotonic() + RETRY_SECONDS
            self._event("note", error.message)

    def checkpoint(self) -> str:
        """Save now; returns the checkpoint, relative to the run directory."""
        if not self.step:
            raise RunStateError("nothing to save before the first step")
        return self._checkpointer.save(self._evaluator.current_loss)

    def snapshot(self) -> str:
        """Write the weights alone; returns the directory relative to the run's.

        A pending stop goes first: many snapshots of a large model take minutes.
        """
        if self._attempt.inbox.stop_waits:
            raise RunStateError("no snapshot: a stop is pending")
        self._metrics.flush()
        return self._checkpointer.snapshot()

    def evaluate(self) -> str:
        """Evaluate now, and save if these weights are the best so far; returns the losses in
        words."""
        try:
            losses = self._evaluator.evaluate()
        except StopRequested:
            raise RunStateError("evaluation interrupted by stop") from None
        self._save_if_best()
        self._mark_reached = self._mark_reached or self._stop_mark == "evaluation"
        return losses

    def sample(self) -> str:
        """Continue the configured prompts, one a line."""
        self._metrics.flush()
        try:
            with self._attempt.activity("sampling"):
                rows = self._evaluator.continue_prompts()
        except StopRequested:
            raise RunStateError("sampling interrupted by stop") from None
        self._event("sample", f"{counted(len(rows), 'continuation')}")
        return "\n".join(row.prompt + row.text for row in rows)

    def _handle_commands(self) -> None:
        """Handle the commands that wait; while paused, or while training waits for a full disk,
        wait for more."""
        while self._status != "stopping":
            self._checkpointer.collect()
            waits = self._status == "paused" or self._recorder.full or self._checkpointer.is_waiting
            if waits:
                self._metrics.flush()
                self._trainer.keep_company()
            pending = self._attempt.inbox.take(wait=PAUSE_SECONDS if waits else 0.0)
            if pending is not None:
                self._attempt.commands.handle(pending)
            elif not waits:
                return
            self._recorder.check()

    def _repeat_interrupted_evaluation(self) -> None:
        """Evaluate first if the attempt before was stopped in the middle of an evaluation."""
        if (
            self.step
            and not self._evaluator.is_current
            and self._is_due(self._steering.config.evaluation.every)
        ):
            self._evaluator.evaluate_unless_stopped()
            self._save_if_best()

    def _train_step(self) -> StepResult:
        try:
            return self._trainer.train_step()
        except DeviceError as error:
            with suppress(RnnlmError):  # report the first error
                self._checkpointer.finish()
            raise self._session.budget.explained(error, self._checkpointer.step) from error

    def _check_losses(self) -> None:
        """End the run after too many non-finite steps.

        On a GPU those steps ended some time ago, and later ones were done meanwhile.
        """
        guard = self._session.guard
        if guard.failed_at is not None:
            kept = self._checkpointer.save_last_finite(self.step - guard.bad_steps)
            raise too_many_bad_steps(
                guard.failed_at,
                self._steering.config,
                self._attempt.run.name,
                kept=kept,
                best=self._checkpointer.best,
            )

    def _save_if_best(self) -> None:
        if self._evaluator.is_best:
            self._checkpointer.save_beside_training(self._evaluator.current_loss)

    def _is_due(self, every: int) -> bool:
        return every > 0 and self.step % every == 0
