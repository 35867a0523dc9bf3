"""Losses and gradients that aren't finite: the update is skipped and marked, and the run ends with
the last good weights."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path

import pytest
import torch

from rnnlm_tui.cli.main import run as command
from rnnlm_tui.client.monitor import summarize
from rnnlm_tui.schema.metrics import EventRow, StepRow
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.runs import create_run, find_run
from rnnlm_tui.worker.guards import FIRST_STEPS, KNOWN_STEPS, LossGuard
from tests.faults.workers import Workers
from tests.integration.runs import tiny_config

pytestmark = pytest.mark.fault("loss or gradient is not finite")

DIVERGING: Mapping[str, object] = {
    "model.cell_type": "mingru",
    "model.dropout": 0.0,
    "optimizer.algorithm": "sgd",
    "optimizer.learning_rate": 5.0,
    "optimizer.max_grad_norm": 0.0,
    "optimizer.weight_decay": 0.0,
    "schedule.kind": "constant",
    "schedule.warmup_steps": 4,
    "training.max_steps": 200,
    "training.max_bad_steps": 6,
    "evaluation.every": 2,
    "checkpoint.every": 2,
}
"""A linear recurrence without clipping: its gradient overflows after a few steps of warm-up."""


def ended(
    workers: Workers, text: Path, name: str, changes: Mapping[str, object], *, code: int
) -> RunDirectory:
    run = create_run(tiny_config(text, changes), name)
    assert workers.work(run) == code
    return run


def steps(run: RunDirectory) -> list[StepRow]:
    with RunReader(run) as reader:
        return list(reader.steps())


def events(run: RunDirectory, kind: str) -> list[EventRow]:
    with RunReader(run) as reader:
        return [event for event in reversed(reader.events()) if event.kind == kind]


def weights_hash(run: RunDirectory, step: int) -> str:
    return sha256(
        (run.checkpoints_path / f"step-{step:09d}" / "model.safetensors").read_bytes()
    ).hexdigest()


def is_finite(row: StepRow) -> bool:
    return bool(torch.tensor([row.loss, row.grad_norm]).isfinite().all())


def test_a_run_whose_gradients_overflow_fails_with_the_weights_of_its_last_good_step(
    workers: Workers, text: Path
) -> None:
    run = ended(workers, text, "diverging", DIVERGING, code=1)
    rows = steps(run)
    good = next(row.step for row in rows if not is_finite(row)) - 1
    last = good + 6
    assert good > 2
    assert [row.step for row in rows] == list(range(1, last + 1))
    assert not any(is_finite(row) for row in rows[good:])
    assert [(mark.step, mark.text.partition(":")[0]) for mark in events(run, "skipped")] == [
        (good + 1, "update skipped")
    ]

    summary = summarize(run)
    assert (summary.status, summary.step, summary.checkpoints.last) == ("failed", last, last)
    assert f"not finite for 6 steps in a row up to step {last}" in str(summary.message)
    assert (
        f"no update was done after step {good}, and the checkpoint of step {last} has its weights"
        in str(summary.message)
    )
    assert f"checkpoints/step-{last:09d}" in str(summary.message)
    assert summary.checkpoints.best is not None
    assert summary.checkpoints.best < last
    assert summary.diverged
    assert (
        "`rnnlm-tui train --from diverging@best --set optimizer.max_grad_norm=1 --set"
        " optimizer.learning_rate=1`" in str(summary.hint)
    )

    until_then = ended(
        workers, text, "until-then", {**DIVERGING, "training.max_steps": good}, code=0
    )
    assert weights_hash(run, last) == weights_hash(until_then, good)


def test_the_hint_for_a_run_that_diverged_before_its_first_best_restarts_it_and_it_learns(
    workers: Workers, text: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wild = {
        **DIVERGING,
        "optimizer.learning_rate": 1000.0,
        "evaluation.every": 0,
        "training.max_steps": 30,
    }
    run = ended(workers, text, "wild", wild, code=1)
    summary = summarize(run)
    assert summary.diverged
    advice = re.search("`(.*)`", str(summary.hint))
    assert advice is not None
    verb = shlex.split(advice[1])
    assert verb[:4] == ["rnnlm-tui", "train", "--config", str(run.config_path)]
    assert verb[4:] == ["--set", "optimizer.max_grad_norm=1", "--set", "optimizer.learning_rate=1"]
    assert command([*verb[1:], "--name", "tame", "--draft"]) == 0
    tame = find_run("tame")
    assert tame.read_config().model == run.read_config().model
    assert workers.work(tame) == 0
    assert all(is_finite(row) for row in steps(tame))

    capsys.readouterr()
    assert command(["show", "wild"]) == 0
    shown = capsys.readouterr().out
    assert advice[0] in shown
    assert "`rnnlm-tui resume wild`" not in shown
    assert command(["follow", "wild"]) == 1
    assert "`rnnlm-tui resume wild`" not in "".join(capsys.readouterr())


def row(step: int, loss: float, grad_norm: float = 1.0) -> StepRow:
    return StepRow(1, step, step, 0.0, loss, grad_norm, 0.1, 1.0, 0.0, 0.0)


def found(losses: list[float], before: Sequence[StepRow] = ()) -> list[tuple[int, str]]:
    """The events of these losses, which follow those before: step and kind."""
    events = list[tuple[int, str]]()
    guard = LossGuard(20, lambda kind, step, _: events.append((step, kind)), before)
    for step, loss in enumerate(losses, 1 + len(before)):
        guard.add(row(step, loss))
    return events


def test_a_spike_right_after_a_resume_is_measured_against_the_losses_before_it() -> None:
    before = [row(step, loss) for step, loss in enumerate(noisy(KNOWN_STEPS), 1)]
    losses = [noisy(KNOWN_STEPS + 1)[-1], 9.0, 9.0, 5.1]
    assert found(losses, before) == [(KNOWN_STEPS + 2, "spike")]
    assert found(losses) == []


def noisy(count: int, *, seed: int = 0) -> list[float]:
    """Losses of a learning run: from 7 nats to 4, with the noise of small batches."""
    noise = torch.randn(count, generator=torch.Generator().manual_seed(seed)).mul(0.15).tolist()
    return [4 + 3 * 0.999**step + off for step, off in enumerate(noise)]


def test_a_spike_is_marked_once_and_changes_nothing_else() -> None:
    losses = noisy(2_000)
    losses[1_000:1_010] = [9.0] * 10
    losses[1_500] = 8.5
    assert found(losses) == [(1_001, "spike"), (1_501, "spike")]


def test_noise_and_the_first_steps_of_a_run_are_not_spikes() -> None:
    assert all(found(noisy(20_000, seed=seed)) == [] for seed in range(3))
    assert found([7.0] * 50 + [30.0] + [7.0] * (FIRST_STEPS - 51)) == []


def test_a_loss_that_stays_high_is_marked_once() -> None:
    assert found(noisy(1_000) + [loss + 3 for loss in noisy(2_000)[1_000:]]) == [(1_001, "spike")]
