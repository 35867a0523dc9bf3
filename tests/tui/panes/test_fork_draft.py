"""A fork is a draft with a parent: shown, kept for the next start, and started with it."""

from __future__ import annotations

import json

from rnnlm_tui.schema.presets import DEMO
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.tui.messages import ForkRequested
from rnnlm_tui.tui.views.form import Draft, DraftParent, draft_from_json, draft_to_json
from tests.tui.fakes import FakeServices
from tests.tui.panes.fakes import make_snapshot
from tests.tui.panes.filling import pane, write
from tests.tui.panes.seeing import opened, until, until_shown


def test_a_fork_is_kept_for_the_next_start_even_without_a_change() -> None:
    draft = Draft(DEMO, "plain-otter", parent=DraftParent("plain-otter@500", "keep"))
    kept = json.loads(json.dumps(draft_to_json(draft, "child")))
    assert draft_from_json(kept) == (draft, "child")
    assert draft_from_json({**kept, "parent": {"address": 7}}) is None


async def test_a_fork_starts_from_the_checkpoint_and_a_preset_starts_without() -> None:
    services = FakeServices()
    services.snapshots["plain-otter"] = make_snapshot("finished")
    services.forked = in_effect = parse_config(merge(DEMO, {"optimizer.learning_rate": 0.001}))
    async with opened(services, "checkpoints") as (app, pilot):
        app.post_message(ForkRequested("plain-otter", "3700", "keep"))
        await until_shown(pilot, "draft, fork of plain-otter@3700")
        await write(pilot, "training.seed", "43")
        assert ("fork_config", "plain-otter@3700") in services.calls
        assert pane(app).shown == Draft(
            in_effect,
            "plain-otter",
            {"training.seed": 43},
            DraftParent("plain-otter@3700", "keep"),
        )
        await pilot.press("f5")
        await until(pilot, lambda: bool(services.started))
        assert ("parent", "plain-otter@3700", "keep") in services.calls

        app.post_message(ForkRequested("plain-otter", "3750"))
        await until_shown(pilot, "draft, fork of plain-otter@3750")
        await pilot.press("P")
        await until_shown(pilot, "ptb-large")
        await pilot.press("enter")
        await until_shown(pilot, "draft, not started")
        shown = pane(app).shown
        assert shown is not None
        assert shown.parent is None
