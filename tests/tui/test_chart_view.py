"""Saved chart views: kept for each run, and replaced by defaults if damaged."""

from __future__ import annotations

import json

from rnnlm_tui.tui.settings import KEPT_VIEWS, ChartView, rename_view, save_view, saved_view

PART, LOSS, LEFT = (10.0, 20.5), frozenset({"loss"}), frozenset({"left"})
VIEW = ChartView("wall", 0.6, "loss", True, PART, False, LOSS, True, LEFT, 15.5)


def test_a_run_keeps_its_view_under_another_name_and_others_its_axis_and_smoothing() -> None:
    settings: dict[str, object] = {}
    assert save_view(settings, "plain-otter", VIEW)
    assert not save_view(settings, "plain-otter", VIEW)
    assert saved_view(json.loads(json.dumps(settings)), "plain-otter") == VIEW
    assert saved_view(settings, "brisk-heron") == ChartView(axis="wall", smoothing=0.6)
    rename_view(settings, "plain-otter", "paper")
    rename_view(settings, "never-seen", "other")
    assert saved_view(settings, "paper") == VIEW
    assert saved_view(settings, "plain-otter").part is None


def test_only_the_newest_views_are_kept() -> None:
    settings: dict[str, object] = {}
    for number in range(KEPT_VIEWS + 9):
        save_view(settings, f"run-{number}", VIEW)
    save_view(settings, "run-9", ChartView())
    views = settings["views"]
    assert isinstance(views, dict)
    assert len(views) == KEPT_VIEWS
    assert "run-8" not in views
    assert saved_view(settings, f"run-{KEPT_VIEWS}") == VIEW
