"""Saved chart views: kept for each run, and replaced by defaults if damaged."""

from __future__ import annotations

import json

import pytest

from rnnlm_tui.tui.settings import KEPT_VIEWS, ChartView, rename_view, save_view, saved_view

VIEW = ChartView(
    "wall",
    0.6,
    "loss",
    True,
    (10.0, 20.5),
    False,
    frozenset({"loss"}),
    True,
    frozenset({"left"}),
    15.5,
)


def test_a_view_comes_back_from_json_as_it_was() -> None:
    settings: dict[str, object] = {}
    assert save_view(settings, "plain-otter", VIEW)
    assert saved_view(json.loads(json.dumps(settings)), "plain-otter") == VIEW
    assert not save_view(settings, "plain-otter", VIEW)


def test_another_run_starts_with_defaults_and_the_last_axis_and_smoothing() -> None:
    settings: dict[str, object] = {}
    save_view(settings, "plain-otter", VIEW)
    assert saved_view(settings, "brisk-heron") == ChartView(axis="wall", smoothing=0.6)
    assert saved_view({}, "brisk-heron") == ChartView()


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


def test_a_renamed_run_keeps_its_view() -> None:
    settings: dict[str, object] = {}
    save_view(settings, "plain-otter", VIEW)
    rename_view(settings, "plain-otter", "paper")
    rename_view(settings, "never-seen", "other")
    assert saved_view(settings, "paper") == VIEW
    assert saved_view(settings, "plain-otter").part is None


@pytest.mark.parametrize(
    "damage",
    [
        None,
        7,
        "x",
        [],
        {"plain-otter": 3},
        {
            "plain-otter": {
                "axis": 3,
                "smoothing": "x",
                "part": [1],
                "turned": "no",
                "hidden": [4],
                "alone": "yes",
                "cursor": "here",
            }
        },
        {"plain-otter": {"part": [5, 2]}},
        {"plain-otter": {"part": ["a", None]}},
    ],
)
def test_a_damaged_view_is_replaced_by_the_default(damage: object) -> None:
    assert saved_view({"views": damage}, "plain-otter") == ChartView()
