"""Rows for the store's tests, with plausible values that can be overridden."""

from __future__ import annotations

from pathlib import Path

from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.metrics import (
    AttemptRow,
    CheckpointRow,
    EvaluationRow,
    EventKind,
    EventRow,
    SampleRow,
    StepRow,
)
from rnnlm_tui.store.checkpoints import write_checkpoint
from rnnlm_tui.store.lineage import ParentCheckpoint
from rnnlm_tui.store.log import RunLog
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.runs import create_run

STARTED = 1_760_000_000.0


def new_run(name: str = "plain-otter") -> RunDirectory:
    """A run of the demo preset."""
    return create_run(RunConfig(), name)


def parent_checkpoint(run: RunDirectory, step: int = 500) -> ParentCheckpoint:
    """A new checkpoint of the run, to start another from."""
    return ParentCheckpoint(run, write_checkpoint(run, step, write_model, None, {}))


def begin(run: RunDirectory, start_step: int = 0) -> RunLog:
    """The log of a new attempt."""
    row = AttemptRow(1, 4711, "host", "boot", "cpu", start_step, {"threads": 2}, STARTED)
    return RunLog.begin(run, row)


def step_row(
    step: int,
    attempt: int = 1,
    *,
    loss: float = 5.0,
    grad_norm: float = 0.5,
    learning_rate: float = 1e-3,
    speed: float = 20_000.0,
) -> StepRow:
    """Step `step` of an attempt: 700 tokens and 0.05 s each, 1,000 steps an epoch."""
    return StepRow(
        attempt,
        step,
        step * 700,
        step / 1000,
        loss,
        grad_norm,
        learning_rate,
        speed,
        step * 0.05,
        STARTED + attempt * 1e6 + step,
    )


def evaluation_row(step: int, attempt: int = 1, *, loss: float = 4.0) -> EvaluationRow:
    """An evaluation of the validation set."""
    return EvaluationRow(
        attempt, step, "validation", "validation", loss, 20_000, loss / 3, 1.5, STARTED + step
    )


def sample_row(step: int, attempt: int = 1, *, text: str = " is strong.") -> SampleRow:
    """A sample."""
    return SampleRow(attempt, step, "The state of the Union", text, 4, 7, STARTED + step)


def event_row(kind: EventKind, step: int = 0, attempt: int = 1, *, text: str = "") -> EventRow:
    """An event."""
    return EventRow(attempt, step, kind, text, STARTED + step)


def checkpoint_row(step: int, *, validation_loss: float | None = None) -> CheckpointRow:
    """A checkpoint in a list, neither the best nor the last."""
    return CheckpointRow(
        1,
        step,
        step / 1000,
        step * 700,
        4.5,
        validation_loss,
        1_000,
        f"checkpoints/step-{step:09d}",
        False,
        False,
        STARTED + step,
    )


def write_model(folder: Path, weights: bytes = bytes(range(256)) * 40) -> None:
    """Files in place of a model's."""
    (folder / "config.json").write_text('{"model_type": "rnnlm"}', encoding="utf-8")
    (folder / "model.safetensors").write_bytes(weights)
