"""A changed draft that wasn't started is restored at the next start, with its problems."""

from __future__ import annotations

import json

import pytest

from rnnlm_tui.schema.presets import DEMO, PRESETS
from rnnlm_tui.schema.validation import config_to_raw
from rnnlm_tui.tui import settings as settings_module
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.views.form import Draft, draft_from_json, draft_to_json
from tests.tui.fakes import FakeServices
from tests.tui.panes.fakes import make_snapshot
from tests.tui.panes.filling import pane, write
from tests.tui.panes.seeing import opened, until, until_shown


def test_a_draft_survives_json_unchanged() -> None:
    draft = (
        Draft(PRESETS["elman"], "preset elman")
        .with_value("training.seed", 43)
        .with_value("model.dropout", 1.5)
        .with_value("evaluation.prompts", ["a", "b"])
    )
    assert draft_from_json(json.loads(json.dumps(draft_to_json(draft, "calm-badger")))) == (
        draft,
        "calm-badger",
    )


def test_an_unchanged_draft_is_not_saved() -> None:
    assert draft_to_json(Draft(DEMO, "preset demo"), "calm-badger") is None


BASE = config_to_raw(DEMO)


@pytest.mark.parametrize(
    "kept",
    [
        None,
        [],
        "draft",
        {},
        {"name": 3, "base_name": "x", "base": BASE, "changes": {"training.seed": 1}},
        {"name": "x", "base_name": "x", "base": {"training": 7}, "changes": {"training.seed": 1}},
        {
            "name": "x",
            "base_name": "x",
            "base": BASE,
            "changes": {"training.seed": {"a": 1}, "no.such": 2},
        },
    ],
)
def test_a_damaged_draft_is_dropped(kept: object) -> None:
    assert draft_from_json(kept) is None


async def test_the_changed_form_is_restored_at_the_next_start(home: object) -> None:
    async with opened(FakeServices(), "config", run=None) as (app, pilot):
        await write(pilot, "training.seed", "43")
        await write(pilot, "model.dropout", "1.5")
        await until(pilot, lambda: bool(pane(app)._run_name))
        name = pane(app)._run_name
        settings = dict(app.settings)
    assert settings_module.last_session({**settings, "run": "", "pane": "config"}) == (
        None,
        "config",
    )
    app = RnnlmApp(None, "config", services=FakeServices(), settings=settings)
    async with app.run_test(size=(80, 24)) as pilot:
        await until_shown(pilot, f"{name} ○ draft, not started", "✗ 1 problem")
        assert pane(app).form.draft.changes == {"training.seed": 43, "model.dropout": 1.5}


async def test_a_started_draft_is_not_saved(home: object) -> None:
    services = FakeServices(make_snapshot())
    async with opened(services, "config", run=None) as (app, pilot):
        await write(pilot, "training.seed", "43")
        assert app.settings["draft"] is not None
        await pilot.press("f5")
        await until(pilot, lambda: app.current_mode == "train")
        assert app.settings["draft"] is None
