"""FakeSteering: the settings of an invented run, as a part of the fake services."""

from __future__ import annotations

from rnnlm_tui.client.monitor import RunSnapshot
from rnnlm_tui.client.steering import SteeringState
from rnnlm_tui.schema.steering import Position
from rnnlm_tui.store.paths import RunDirectory


class FakeSteering:
    """Reads what can be steered from a snapshot."""

    snapshots: dict[str, RunSnapshot]

    def steering(self, run: RunDirectory) -> SteeringState:
        snapshot = self.snapshots[run.name]
        summary = snapshot.summary
        per_epoch = (summary.max_steps or 1) // snapshot.config.training.epochs
        return SteeringState(summary, snapshot.config, Position(summary.step, per_epoch, 100), ())
