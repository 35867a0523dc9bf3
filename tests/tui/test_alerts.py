"""Each alert is reported once: nothing old, and nothing that flickers."""

from __future__ import annotations

import math
from typing import get_args

from rnnlm_tui.schema.metrics import EventRow
from rnnlm_tui.schema.status import RunStatus
from rnnlm_tui.schema.summary import EvaluationFigures, RunSummary, TrainFigures
from rnnlm_tui.tui.alerts import PLATEAU_EVALUATIONS, REPEAT_SECONDS, Alerts
from tests.tui.fakes import make_summary

SINCE = 1_000.0


def summary(
    status: RunStatus = "running",
    step: int = 1_000,
    *,
    updated: float = SINCE + 10,
    name: str = "plain-otter",
    **changes: object,
) -> RunSummary:
    made = make_summary(name, status, 1_000 if step else 0, None, updated=updated, **changes)
    return made.model_copy(update={"step": step})


def alerts_of(alerts: Alerts, *looks: RunSummary, now: float = SINCE + 60) -> list[str]:
    return [alert.kind for look in looks for alert in alerts.check_runs([look], now)]


def test_each_change_of_a_run_is_reported_once_and_none_from_before_the_start() -> None:
    worth = {"finished", "failed", "crashed", "stalled", "lost", "degraded"}
    statuses: tuple[RunStatus, ...] = get_args(RunStatus)
    for status in statuses:  # the others are what the user does
        again = summary(status, updated=SINCE + 12)
        found = alerts_of(Alerts(since=SINCE), summary(), summary(status), summary(status), again)
        assert found == [status] * (status in worth)
        old = summary(status, updated=SINCE - 5)
        assert alerts_of(Alerts(since=SINCE), old, old) == []
    finished, failed = summary("finished", updated=SINCE + 20), summary("failed")
    old, gone = summary("finished", updated=SINCE - 20), summary("lost", unreadable="no config")
    bad = summary(step=1_001, train=TrainFigures(loss=4.0, perplexity=54.0, grad_norm=math.inf))
    for looks, kinds in (
        ((summary("failed", 0, updated=SINCE + 3),), ["failed"]),  # at its first look
        ((summary(), finished, summary(), finished), ["finished"]),
        ((old, gone, old), []),
        ((summary(), failed, summary(attempt=2), summary("failed", attempt=2)), ["failed"] * 2),
        ((summary(), bad, bad), ["non-finite"]),
    ):
        assert alerts_of(Alerts(since=SINCE), *looks) == kinds


def test_repeated_stalls_are_reported_after_a_pause_and_a_step() -> None:
    alerts, stalled = Alerts(since=SINCE), summary("stalled")
    looks = [summary(), stalled, summary(), stalled, summary("stalled", 1_001)]
    assert alerts_of(alerts, *looks) == ["stalled"]
    later, looks = SINCE + 60 + REPEAT_SECONDS, [summary(step=1_002), summary("stalled", 1_002)]
    assert alerts_of(alerts, *looks, now=later) == ["stalled"]


def test_a_divergence_is_reported_with_its_reason() -> None:
    alerts, why = Alerts(since=SINCE), "loss is nan at step 1,001"
    assert alerts.check_runs([summary()], SINCE) == []
    (alert,) = alerts.check_runs([summary("failed", diverged=True, message=why)], SINCE)
    assert (alert.kind, alert.text) == ("non-finite", f"plain-otter failed: {why}")


def test_skipped_updates_are_reported_once_in_a_while_and_earlier_ones_not() -> None:
    alerts = Alerts(since=SINCE)
    events = [
        EventRow(1, step, "skipped", "update left out: loss is nan", SINCE + step)
        for step in (30, 20, 10, -1)
    ]
    alerts.check_runs([summary()], SINCE)
    for found, at, kinds in (
        (events[3:], 0, []), (events[1:], 20, ["non-finite"]), (events, 30, []), (events, 31, []),
    ):  # fmt: skip
        shown = alerts.check_events("plain-otter", found, SINCE + at)
        assert [alert.kind for alert in shown] == kinds


def evaluated(number: int, best: float) -> RunSummary:
    step = 100 * number
    judged = EvaluationFigures(
        name="validation", step=step, perplexity=best + 1, best_perplexity=best, best_step=100
    )
    return summary(step=step, updated=SINCE + number, evaluation=judged)


def test_evaluations_without_progress_are_one_plateau_until_there_is_progress() -> None:
    many = 3 * PLATEAU_EVALUATIONS
    slow = [evaluated(number, 55.3 - 0.001 * number) for number in range(1, many)]
    falling = [evaluated(many + number, 50 * 0.99**number) for number in range(1, many)]
    flat = [evaluated(2 * many + number, 20.0) for number in range(PLATEAU_EVALUATIONS + 1)]
    parts = slow[:PLATEAU_EVALUATIONS], slow[PLATEAU_EVALUATIONS:]
    for before, after in (parts, (falling, flat)):
        alerts = Alerts(since=SINCE)
        assert alerts_of(alerts, *before) == []
        assert alerts_of(alerts, *after) == ["plateau"]


def test_a_disk_is_reported_when_it_becomes_low_and_not_while_it_wavers() -> None:
    alerts, total = Alerts(since=SINCE), 100 * 10**9
    free = (8, 4.9, 5.2, 4.8, 7, 8, 4)
    found = [bool(alerts.check_disk(int(size * 10**9), total)) for size in free]
    assert found == [False, True, False, False, False, False, True]
    assert Alerts(since=SINCE).check_disk(10**9, total) == []


def test_a_renamed_run_is_not_reported_again() -> None:
    ends: tuple[RunStatus, ...] = ("finished", "failed", "crashed")
    for status in ends:
        alerts, renamed = Alerts(since=SINCE), summary(status, name="best-otter")
        assert alerts_of(alerts, summary(), summary(status), renamed, renamed) == [status]
        again = summary("running", 1_001, name="best-otter", attempt=2)
        ended = summary(status, 1_002, name="best-otter", attempt=2)
        assert alerts_of(alerts, again, ended) == [status]
        written_since = summary(status, name="calm-badger", updated=SINCE + 40)
        looks = summary(), summary(status), written_since
        assert alerts_of(Alerts(since=SINCE), *looks) == [status]
