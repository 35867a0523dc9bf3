"""Convert database rows to dataclasses."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rnnlm_tui.contract.metrics import METRIC_COLUMNS, CheckpointRow, EvaluationRow, StepRow
from rnnlm_tui.store.schema import with_nonfinite

STEP_COLUMNS = "attempt, step, tokens_seen, epoch, loss, grad_norm, learning_rate, tokens_per_second, active_seconds, time, nonfinite"
EVENT_COLUMNS = "attempt, step, kind, text, time"
SAMPLE_COLUMNS = "attempt, step, prompt, text, tokens, seed, time"
CHECKPOINT_COLUMNS = "attempt, step, epoch, tokens_seen, train_loss, validation_loss, bytes, path, best, last, time, nonfinite"


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """One worker's attempt at the run."""

    attempt: int
    pid: int
    host: str
    boot_id: str
    device: str
    start_step: int
    """The attempt resumed after this step; 0: from the start."""
    environment: dict[str, object]
    """Versions, threads and settings, as the worker reported them."""
    started: float
    """Unix seconds."""


def attempt_row(row: tuple[Any, ...]) -> AttemptRow:
    """A row of `attempts`, its columns in the order of the fields."""
    attempt, pid, host, boot, device, start_step, environment, started = row
    return AttemptRow(attempt, pid, host, boot, device, start_step, environment=json.loads(environment), started=started)


def by_step(rows: Sequence[EvaluationRow]) -> list[EvaluationRow]:
    """Sort by step, with the latest row of each step and set: a set may be evaluated again."""
    latest: dict[object, EvaluationRow] = {}
    for row in rows:
        latest.pop(key := (row.step, row.split, row.name), None)
        latest[key] = row
    return sorted(latest.values(), key=lambda row: row.step)


def evaluation_row(row: tuple[Any, ...]) -> EvaluationRow:
    """From a row of `evaluations` without its id; earlier versions have no count of unknown tokens."""
    attempt, step, split, name, loss, tokens, bits, seconds, time, lost, _superseded, *later = row
    loss, bits = with_nonfinite(("loss", "bits_per_byte"), (loss, bits), lost)
    return EvaluationRow(attempt, step, split, name, loss, tokens, bits, seconds, time, *later)


def step_row(row: tuple[Any, ...]) -> StepRow:
    """A row of STEP_COLUMNS."""
    loss, norm, rate, speed = with_nonfinite(METRIC_COLUMNS, row[4:8], row[10])
    return StepRow(row[0], row[1], row[2], row[3], loss, norm, rate, speed, row[8], row[9])


def checkpoint_row(row: tuple[Any, ...]) -> CheckpointRow:
    """A row of CHECKPOINT_COLUMNS."""
    attempt, step, epoch, tokens, train, validation, size, path, best, last, time, lost = row
    train, validation = with_nonfinite(("train_loss", "validation_loss"), (train, validation), lost)
    return CheckpointRow(attempt, step, epoch, tokens, train, validation, size, path, bool(best), bool(last), time)
