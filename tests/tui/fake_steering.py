"""FakeSteering: a run that is steered without a worker, as a part of the fake services."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace

from pydantic import JsonValue

from rnnlm_tui.client.monitor import RunSnapshot
from rnnlm_tui.client.steering import SteeringState
from rnnlm_tui.errors import RnnlmError, RunStateError
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.protocol import CommandResult, SettingsChange
from rnnlm_tui.schema.steering import (
    JournalledChange,
    Position,
    config_in_effect,
    next_to_undo,
    settings_of,
)
from rnnlm_tui.store.paths import RunDirectory


class FakeSteering:
    """Changes the config of a snapshot, waits for `slow_worker`, raises `refuse`."""

    changes: list[JournalledChange]
    """The journal of the run that is steered."""
    snapshots: dict[str, RunSnapshot]
    slow_worker: threading.Event | None
    refuse: RnnlmError | None

    def steering(self, run: RunDirectory) -> SteeringState:
        snapshot = self.snapshots[run.name]
        summary = snapshot.summary
        per_epoch = (summary.max_steps or 1) // snapshot.config.training.epochs
        position = Position(summary.step, per_epoch, 100)
        return SteeringState(summary, snapshot.config, position, tuple(self.changes))

    def steer(self, run: RunDirectory, changes: Mapping[str, JsonValue]) -> CommandResult:
        if self.slow_worker is not None:
            self.slow_worker.wait()
        if self.refuse is not None:
            raise self.refuse
        return self._changed(run, self.steering(run).changed(changes))

    def undo_setting(self, run: RunDirectory) -> CommandResult:
        undone = next_to_undo(self.changes)
        if undone is None:
            raise RunStateError("nothing to undo: no setting was changed")
        values = {one.path: one.old for one in undone.settings}
        config = config_in_effect(self.snapshots[run.name].config, values)
        return self._changed(run, config, undoes=undone.number)

    def stop_after(self) -> CommandResult:
        return CommandResult(id="1", ok=True, step=3_752, text="stops after this epoch")

    def _changed(self, run: RunDirectory, config: RunConfig, *, undoes: int = 0) -> CommandResult:
        settings = settings_of(self.snapshots[run.name].config, config)
        number = len(self.changes) + 1
        change = SettingsChange(number=number, step=3_752, settings=settings, undoes=undoes)
        self.changes.append(JournalledChange(number, 3_752, 0.0, "alex, pts/3", settings, undoes))
        self.snapshots[run.name] = replace(self.snapshots[run.name], config=config)
        return CommandResult(id="1", ok=True, status="running", step=3_752, change=change)
