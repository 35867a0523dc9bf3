"""The training loop of one attempt, read aloud: commands, a step, its report, an evaluation, a checkpoint."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Literal

from rnnlm_tui.contract.commands import SETTINGS_KEY, setting_value
from rnnlm_tui.contract.config import RunConfig
from rnnlm_tui.contract.figures import counted
from rnnlm_tui.contract.metrics import EvaluationRow, EventKind, EventRow
from rnnlm_tui.contract.validation import merge, parse_config
from rnnlm_tui.engine.trainer import StepResult, Trainer
from rnnlm_tui.errors import DeviceError, RnnlmError, RunStateError, StorageError
from rnnlm_tui.worker.commands import Steering
from rnnlm_tui.worker.evaluating import Evaluator
from rnnlm_tui.worker.guards import LossGuard, too_many_bad_steps
from rnnlm_tui.worker.inbox import Inbox, StopRequested
from rnnlm_tui.worker.judging import Judging
from rnnlm_tui.worker.keeping import Keeping, doing
from rnnlm_tui.worker.records import Records
from rnnlm_tui.worker.reporter import Reporter
from rnnlm_tui.worker.room import Room
from rnnlm_tui.worker.saving import Saver

PAUSE_SECONDS = 0.5
"""At a pause the inbox is waited on in turns of this length."""

Ending = Literal["finished", "stopped"]


class TrainingRun:
    """Trains until the last step or a stop; commands act through it, between two steps.

    Args:
        settings: what `set` changed in earlier attempts, dotted path to value.
        saved_path: the checkpoint that this attempt went on from, relative to the run directory; empty when it starts at step 0.
        evaluations: of earlier attempts, up to the start step.
    """

    def __init__(
        self,
        config: RunConfig,
        records: Records,
        attempt: int,
        *,
        inbox: Inbox,
        steering: Steering,
        trainer: Trainer,
        reporter: Reporter,
        evaluator: Evaluator,
        saver: Saver,
        guard: LossGuard,
        room: Room,
        settings: Mapping[str, float],
        saved_path: str,
        evaluations: Sequence[EvaluationRow],
    ) -> None:
        self._config = config
        self._records = records
        self._attempt = attempt
        self._inbox = inbox
        self._steering = steering
        self._trainer = trainer
        self._reporter = reporter
        self._evaluator = evaluator
        self._saver = saver
        self._guard = guard
        self._room = room
        self._status: Literal["running", "paused", "stopping"] = "running"
        self._keeping = Keeping(saver, records, reporter, trainer, path=saved_path, note=partial(self._event, "note"))
        self._judging = Judging(
            evaluator, self._keeping, records, reporter, trainer, room, patience=config.training.patience, before=evaluations, tell=self._event
        )
        self._settings: dict[str, float] = {}
        for path, value in settings.items():
            self._apply(path, value)

    @property
    def status(self) -> str:
        """running, paused or stopping."""
        return self._status

    @property
    def step(self) -> int:
        """Updates done."""
        return self._trainer.step

    @property
    def saved(self) -> str:
        """The newest checkpoint relative to the run directory; empty when there is none."""
        return self._keeping.path

    def train(self) -> Ending:
        """Train to the last step, evaluate on the test set; or leave early by a stop, with everything saved.

        Raises:
            RnnlmError: out of memory, no finite loss any more, a run directory that was removed.
        """
        try:
            return self._train()
        except RnnlmError:
            with suppress(StorageError):  # the first error is the one to tell
                self._reporter.flush()
            raise

    def _train(self) -> Ending:
        self._event("running", f"from step {self.step:,} of {self._trainer.max_steps:,}")
        if self.step and not self._judging.is_current and self._due(self._config.evaluation.every):
            self._judging.evaluate_unless_stopped()  # the attempt before was stopped in this very evaluation
            self._keep_best()
        while self._trainer.should_continue and not self._judging.exhausted:
            self._heed_commands()
            if self._status == "stopping":
                return "stopped"
            self._reporter.step(self._train_step())
            self._tell_graph()
            self._heed_guard()
            if self._due(self._config.evaluation.every):
                self._judging.evaluate_unless_stopped()
            if self._due(self._config.checkpoint.every) or self._judging.is_best or self._keeping.is_due_again:
                self._keeping.save_if_possible(self._judging.loss_here)
        return self._finish()

    def pause(self) -> None:
        """Train no further until `resume`; commands are heeded."""
        if self._status == "running":
            self._reporter.flush()
            self._event("paused", "")  # first: a pause that can't be told is refused
            self._status = "paused"

    def resume(self) -> None:
        """Go on after a pause."""
        if self._status == "paused":
            self._event("running", "after a pause")
            self._status = "running"

    def stop(self) -> str:
        """Save and leave; the checkpoint's directory relative to the run's, empty when no step was done.

        Raises:
            StorageError: it can't be saved, or rows that wait for a full disk can't be stored; the run goes on as before.
        """
        before, self._status = self._status, "stopping"
        try:
            saved = self._keeping.save(self._judging.loss_here, last=True) if self._trainer.weights_are_finite() else self._keeping.path
            self._records.store_all()
        except StorageError as error:
            self._status = before
            leave = f"`kill -9 {os.getpid()}` ends it all the same, at step {self._keeping.step:,}"
            raise StorageError(f"not stopped, it trains on: {error.message}", hint="; ".join(filter(None, (error.hint, leave)))) from error
        except BaseException:
            self._status = before
            raise
        return saved

    def checkpoint(self) -> str:
        """Save now; the checkpoint's directory relative to the run's."""
        if not self.step:
            raise RunStateError("there is nothing to save before the first step")
        return self._keeping.save(self._judging.loss_here)

    def snapshot(self) -> str:
        """Write the weights alone; the directory relative to the run's. A stop that waits goes first: many snapshots of a large model take minutes."""
        if self._inbox.stop_waits:
            raise RunStateError("no snapshot: a stop came")
        with doing(self._records, "saving"):
            return self._saver.snapshot(self._trainer.model, self.step)

    def evaluate(self) -> str:
        """Evaluate now, and save where these weights are the best so far; the figures in words."""
        try:
            figures = self._judging.evaluate()
        except StopRequested:
            raise RunStateError("the evaluation was left: a stop came") from None
        self._keep_best()
        return figures

    def sample(self, prompt: str | None) -> str:
        """The continuation of `prompt`, or of the configured prompts, a line each."""
        try:
            with doing(self._records, "sampling"):
                if prompt is not None:
                    row = self._evaluator.continue_prompt(prompt, self.step)
                    self._event("sample", f"{counted(row.tokens, 'token')} after a prompt")
                    return row.text
                rows = self._evaluator.continue_prompts(self.step)
        except StopRequested:
            raise RunStateError("the sample was left: a stop came") from None
        self._event("sample", f"{counted(len(rows), 'continuation')}")
        return "\n".join(row.prompt + row.text for row in rows)

    def set(self, path: str, value: float) -> None:
        """Change a setting from the next step on, and for later attempts.

        Raises:
            ConfigError: a value out of its range; nothing changed.
        """
        section, _, name = path.partition(".")
        before = getattr(getattr(self._config, section), name)
        self._apply(path, value)
        self._records.set_meta(SETTINGS_KEY, json.dumps(self._settings))
        self._event("setting", f"{path} {before:g} → {value:g}")

    def _apply(self, path: str, value: float) -> None:
        self._config = parse_config(merge(self._config, {path: setting_value(path, value)}))
        self._settings[path] = self._saver.changed[path] = value
        if path == "optimizer.learning_rate":
            self._trainer.set_learning_rate(value)
        self._keeping.outdate()

    def _heed_commands(self) -> None:
        """Carry out what waits; at a pause, or where no more rows can be kept for a full disk, wait for more until that ends."""
        while self._status != "stopping":
            waits = self._status == "paused" or self._records.full or self._keeping.waits
            pending = self._inbox.take(wait=PAUSE_SECONDS if waits else 0.0)
            if pending is not None:
                self._steering.carry_out(pending)
            elif not waits:
                return
            self._records.check()

    def _finish(self) -> Ending:
        """The last evaluation, the last checkpoint, the test set."""
        if self._judging.exhausted and self._trainer.should_continue:
            self._event("note", f"ends early: {counted(self._config.training.patience, 'evaluation')} in a row without a better validation loss")
        while True:
            self._heed_commands()
            if self._status == "stopping":
                return "stopped"
            try:
                self._reporter.flush()
                self._heed_guard()  # the last steps were only just fetched
                if not self._judging.is_current:
                    self._judging.evaluate_if_possible()
                if not self._keeping.store_at_end(self._judging.loss_here):
                    continue
                self._judging.evaluate_at_end()
            except StopRequested:
                continue
            return "finished"

    def _keep_best(self) -> None:
        """Save what an evaluation between two steps found to be the best so far."""
        if self._judging.is_best:
            self._keeping.save_if_possible(self._judging.loss_here)

    def _due(self, every: int) -> bool:
        return every > 0 and self.step % every == 0

    def _train_step(self) -> StepResult:
        try:
            return self._trainer.train_step()
        except DeviceError as error:
            raise self._room.explained(error, self._keeping.step) from error

    def _heed_guard(self) -> None:
        """Tell what it found; end the run where it is enough."""
        for found in self._guard.findings():
            self._records.add_event(EventRow(self._attempt, found.step, found.kind, found.text, time.time()))
        if self._guard.failed_at is not None:
            kept = self._keeping.save_last_good(self.step - self._guard.bad_steps)
            raise too_many_bad_steps(self._guard.failed_at, self._config, self._room.run, kept=kept, best=self._saver.best)

    def _tell_graph(self) -> None:
        """What the first step of an attempt found out about CUDA graphs."""
        if self._trainer.graph_note:
            self._event("note", self._trainer.graph_note)
            self._trainer.graph_note = ""

    def _event(self, kind: EventKind, text: str) -> None:
        self._records.add_event(EventRow(self._attempt, self.step, kind, text, time.time()))
