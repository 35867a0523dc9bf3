"""The figures above the charts stay in fixed columns while digits change."""

from __future__ import annotations

import math
from typing import get_args, get_type_hints

import pytest

from rnnlm_tui.client.monitor import RunSnapshot
from rnnlm_tui.client.remaining import Eta
from rnnlm_tui.schema.metrics import EvaluationRow, Progress
from rnnlm_tui.schema.status import RunStatus
from rnnlm_tui.schema.summary import EvaluationFigures, TrainFigures
from rnnlm_tui.tui.views.train import PHASES, figure_lines
from tests.tui.demo_run import readings
from tests.tui.fakes import make_snapshot

WIDTHS = (80, 96)
LABELS = ("step", "tokens", "val ", "train ", "train loss", "val bits/byte", "grad", "lr", "epoch")
MORE = {80: (), 96: ("untrained", "best")}


def texts(snapshot: RunSnapshot, width: int, eta: Eta | None = None) -> list[str]:
    lines = figure_lines(snapshot, eta, width)
    assert all(line.cell_length <= width for line in lines)
    return [line.plain for line in lines]


@pytest.mark.parametrize("width", WIDTHS)
def test_columns_stay_in_place_while_digits_change(width: int) -> None:
    labels, seen, snapshot = (*LABELS, *MORE[width]), set(), make_snapshot()
    for step, loss, perplexity, speed, busy in (
        (100, 9.87, 9_000, 99_000.0, 100.0),
        (1_234, 0.5, 1.5, 900.0, 0.0),
        (4_753, 4.0, 57.3, 27_600.0, 7.0),
    ):
        judged = EvaluationFigures(
            name="validation",
            step=step // 100 * 100,
            loss=loss,
            perplexity=min(999.0, perplexity),
            bits_per_byte=loss / 2,
            best_step=100,
            best_perplexity=100.0 + min(899.0, perplexity),
        )
        train = TrainFigures(
            loss=loss, perplexity=perplexity, grad_norm=2 * loss, learning_rate=loss / 1e3
        )
        figures = {"step": step, "train": train, "evaluation": judged, "tokens_per_second": speed}
        shown = snapshot.summary.model_copy(update=figures)
        hardware = tuple(readings(busy=busy))
        lines = texts(snapshot._replace(summary=shown, hardware=hardware), width, Eta(5 * loss, 3))
        seen.add(tuple(max(f"  {line}".find(f" {label}") for line in lines) for label in labels))
    (places,) = seen
    assert min(places) >= 0


def evaluated(*losses: float, status: RunStatus = "running") -> RunSnapshot:
    best = min(range(len(losses)), key=lambda place: losses[place])
    judged = EvaluationFigures(
        name="validation",
        step=100 * len(losses),
        loss=losses[-1],
        perplexity=math.exp(losses[-1]),
        best_step=100 * (best + 1),
        best_perplexity=math.exp(losses[best]),
    )
    rows = tuple(
        EvaluationRow(1, 100 * place, "validation", "validation", loss, 10, 1.0, 0.1, 0.0)
        for place, loss in enumerate(losses, 1)
    )
    snapshot = make_snapshot(status, 100 * len(losses) + 50, evaluation=judged)
    return snapshot._replace(evaluations=rows)


def test_the_best_is_shown_with_its_step_and_the_first_evaluation_is_announced() -> None:
    for snapshot, words in (
        (evaluated(4.3, 4.2, 4.1), "val 60.3 ★ ▼ falling  "),
        (evaluated(4.1, 4.2, 4.3), "val 73.7 ▲ ★60.3 @100  "),
        (evaluated(4.1, 4.2, 4.3, status="finished"), "val 73.7 ★60.3 @100  "),
        (evaluated(4.1, 4.2, 4.3, status="stalled"), "val 73.7  "),
        (make_snapshot(step=50, evaluation=EvaluationFigures()), "val –  untrained 2,048  "),
    ):
        assert texts(snapshot, 80)[1].startswith(f" {words}")
    snapshot = evaluated(4.3, 4.2, 4.1)
    for step in (300, 1_850):
        summary = snapshot.summary.model_copy(update={"step": step})
        assert "  best 60.3 at step 300  " in texts(snapshot._replace(summary=summary), 96)[2]
    unseen = make_snapshot(step=50)._replace(evaluations=())
    assert f"val –  first at {unseen.config.evaluation.every}" in texts(unseen, 120)[1]


def test_the_scored_and_unknown_shares_are_beside_bits_per_byte_or_replace_them() -> None:
    for bits, unknown, scored, words in (
        (1.54, 0.0, 0.999, "val bits/byte 1.54"),
        (1.54, 0.0004, None, "val bits/byte 1.54 0.04 % unknown"),
        (1.54, 0.0, 0.54, "val bits/byte 1.54 of 54 % of the text"),
        (None, 0.73, 0.54, "val unknown 73 %"),
    ):
        judged = EvaluationFigures(
            name="validation",
            step=100,
            loss=4.0,
            perplexity=54.6,
            bits_per_byte=bits,
            unknown_share=unknown,
            scored_share=scored,
        )
        brief = words.partition(" 0.04")[0].partition(" of")[0]
        for width, shown in ((96, brief), (168, words)):
            line = texts(make_snapshot(evaluation=judged), width)[1]
            assert line.rstrip().endswith(shown), line


def test_every_phase_has_a_description() -> None:
    assert set(PHASES) == set(get_args(get_type_hints(Progress)["phase"]))
    assert all(len(words) <= 30 for words in PHASES.values()), "the bar begins at column 32"
