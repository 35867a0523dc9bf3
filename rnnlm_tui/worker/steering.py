"""Steering: changes an attempt's settings between two steps, and repeats them after a resume."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

from pydantic import JsonValue

from rnnlm_tui.errors import RunStateError, StorageError
from rnnlm_tui.schema.config import RunConfig, value_of
from rnnlm_tui.schema.estimates import total_steps
from rnnlm_tui.schema.facts import Facts
from rnnlm_tui.schema.formatting import counted
from rnnlm_tui.schema.protocol import Setting, SettingsChange
from rnnlm_tui.schema.steering import (
    LENGTH_KEYS,
    JournalledChange,
    Position,
    changed_config,
    config_in_effect,
    kept_changes,
    next_to_undo,
    nothing_changed,
    settings_of,
    value_text,
)
from rnnlm_tui.worker.checkpointing import Checkpointer
from rnnlm_tui.worker.evaluation import Evaluator
from rnnlm_tui.worker.session import Session


class Steering:
    """The settings in effect. The journal of changes decides what they are after a resume.

    Args:
        journal: all changes of earlier attempts.
    """

    def __init__(
        self,
        session: Session,
        checkpointer: Checkpointer,
        evaluator: Evaluator,
        *,
        journal: Sequence[JournalledChange] = (),
    ) -> None:
        attempt, trainer = session.attempt, session.trainer
        self._attempt, self._trainer = attempt, trainer
        self._checkpointer, self._evaluator = checkpointer, evaluator
        self.config: RunConfig = attempt.config
        """The config in effect."""
        self._journal = list(journal)
        kept = kept_changes(journal)
        self._ahead = sorted(
            (change for change in kept if change.step > trainer.step),
            key=lambda change: (change.step, change.number),
        )
        self._settings: dict[str, JsonValue] = {}
        for change in kept:
            if change.step <= trainer.step:
                self._settings |= {one.path: one.new for one in change.settings}
        self._use(config_in_effect(attempt.config, self._settings), self._settings)
        if self._settings or self._ahead:
            self._store()

    def change(self, changes: Mapping[str, JsonValue]) -> SettingsChange:
        """Save a checkpoint, then change all of these settings.

        Raises:
            ConfigError: the problems, by field; nothing was changed.
            InputError: all values are in effect already.
            StorageError: the checkpoint can't be saved; nothing was changed.
        """
        after = changed_config(self.config, changes, self._position)
        settings = settings_of(self.config, after)
        if not settings:
            raise nothing_changed(self.config, changes)
        return self._make(after, settings)

    def undo(self) -> SettingsChange:
        """Save a checkpoint, then restore the values from before the newest change that isn't
        undone.

        Raises:
            RunStateError: there is none.
            ConfigError: the old values no longer fit, such as a max_steps that is below the step.
            StorageError: as `change`.
        """
        undone = next_to_undo(self._journal)
        if undone is None:
            raise RunStateError(
                "nothing to undo: "
                + ("all changes are undone" if self._journal else "no setting was changed")
            )
        values = {one.path: one.old for one in undone.settings}
        after = changed_config(self.config, values, self._position)
        return self._make(after, settings_of(self.config, after), undoes=undone.number)

    def repeat_due(self) -> None:
        """Repeat the changes of an earlier attempt that was further, once their step is reached."""
        while self._ahead and self._ahead[0].step <= self._trainer.step:
            change = self._ahead.pop(0)
            new = {one.path: one.new for one in change.settings}
            self._settings |= new
            before = self.config
            self._use(config_in_effect(self.config, new), new)
            self._log(settings_of(before, self.config), " (repeated after the resume)")
            self._store()

    @property
    def _position(self) -> Position:
        return Position(
            self._trainer.step,
            self._trainer.batches.steps_per_epoch,
            self._trainer.schedule.warmup_steps,
        )

    def _make(
        self, after: RunConfig, settings: tuple[Setting, ...], *, undoes: int = 0
    ) -> SettingsChange:
        try:
            self._checkpointer.save(self._evaluator.current_loss)
        except (RunStateError, StorageError) as error:
            raise type(error)(
                f"nothing was changed: no checkpoint before the change: {error.message}",
                hint=error.hint,
            ) from error
        change = SettingsChange(
            number=1 + max((known.number for known in self._journal), default=0),
            step=self._trainer.step,
            settings=settings,
            undoes=undoes,
            discards=tuple(known.number for known in self._ahead),
        )
        if self._ahead:
            self._attempt.note(
                change.step,
                f"{counted(len(self._ahead), 'change')} made at later steps, before the resume, no"
                " longer count",
            )
            self._ahead.clear()
        self._journal.append(JournalledChange(**dict(change), time=time.time()))
        self._settings |= {one.path: one.new for one in settings}
        self._use(after, [one.path for one in settings])
        self._log(settings, " (undo)" if undoes else "")
        self._store()
        self._checkpointer.outdate()
        return change

    def _use(self, config: RunConfig, paths: Iterable[str]) -> None:
        """Bring these fields of the config into effect."""
        trainer, self.config = self._trainer, config
        for path in paths:
            if path == "optimizer.learning_rate":
                trainer.set_peak_learning_rate(config.optimizer.learning_rate)
            elif path == "optimizer.max_grad_norm":
                trainer.set_max_grad_norm(config.optimizer.max_grad_norm)
            elif path == "model.dropout":
                trainer.model.dropout = config.model.dropout
            elif path in LENGTH_KEYS:
                trainer.max_steps = total_steps(config, trainer.batches.steps_per_epoch)
        self._evaluator.use(config)
        self._checkpointer.changed = dict(self._settings)

    def _log(self, settings: Iterable[Setting], more: str) -> None:
        for one in settings:
            old, new = value_text(one.path, one.old), value_text(one.path, one.new)
            self._attempt.event("setting", self._trainer.step, f"{one.path} {old} → {new}{more}")

    def _store(self) -> None:
        """Store the facts that readers show."""
        trainer = self._trainer
        self._attempt.recorder.add(
            Facts(
                settings={path: value_of(self.config, path) for path in self._settings},
                max_steps=trainer.max_steps,
                epochs=trainer.max_steps / trainer.batches.steps_per_epoch,
            )
        )
