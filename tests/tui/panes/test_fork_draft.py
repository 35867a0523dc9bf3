"""A fork is a draft with a parent: shown, kept with its weights, and started with them."""

from __future__ import annotations

import pytest

from rnnlm_tui.schema.presets import DEMO
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.tui.views.form import Draft, DraftParent
from tests.tui.fakes import FakeServices
from tests.tui.panes.fakes import make_snapshot
from tests.tui.panes.filling import pane, write
from tests.tui.panes.seeing import opened, until_shown
from tests.tui.support import until


async def test_without_an_open_run_panes_name_the_draft_that_is_not_started() -> None:
    services = FakeServices()
    services.snapshots["plain-otter"] = make_snapshot("finished")
    async with opened(services, "checkpoints") as (app, pilot):
        await app.new_draft_from("plain-otter")
        await until_shown(pilot, "draft, not started")
        words = "Draft from plain-otter, not started"
        await pilot.press("2")
        await until_shown(pilot, f"{words}: esc 1 shows it, F5 there starts it.")
        for keys in ("4", "f2"):
            await pilot.press(keys)
            await until_shown(pilot, f"{words}.", "esc 1 shows it, F5 there starts it.")


@pytest.mark.parametrize("keys", [("ctrl+l",), ("P", "enter"), ("ctrl+q",)])
async def test_a_fork_without_changes_is_kept_when_it_is_left(keys: tuple[str, ...]) -> None:
    services = FakeServices()
    services.snapshots["plain-otter"] = make_snapshot("finished")
    async with opened(services, "checkpoints") as (app, pilot):
        await app.new_draft_from("plain-otter", DraftParent("plain-otter@3700", "fresh"))
        await until_shown(pilot, "draft, fork of plain-otter@3700")
        assert ("parent", "plain-otter@3700", "fresh") not in services.calls
        await pilot.press(*keys)
        await until(pilot, lambda: ("parent", "plain-otter@3700", "fresh") in services.calls)


async def test_a_fork_starts_from_the_checkpoint_and_a_preset_starts_without() -> None:
    services = FakeServices()
    services.snapshots["plain-otter"] = make_snapshot("finished")
    services.forked = in_effect = parse_config(merge(DEMO, {"optimizer.learning_rate": 0.001}))
    async with opened(services, "checkpoints") as (app, pilot):
        await app.new_draft_from("plain-otter", DraftParent("plain-otter@3700", "keep"))
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

        await app.new_draft_from("plain-otter", DraftParent("plain-otter@3750", "fresh"))
        await until_shown(pilot, "draft, fork of plain-otter@3750")
        await pilot.press("P")
        await until_shown(pilot, "ptb-large")
        await pilot.press("enter")
        await until_shown(pilot, "draft, not started")
        shown = pane(app).shown
        assert shown is not None
        assert shown.parent is None
