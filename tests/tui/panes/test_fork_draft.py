"""A fork is a draft with a parent: shown, and kept with its weights however it is left."""

from __future__ import annotations

from rnnlm_tui.schema.presets import DEMO
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.store.lineage import STATE_FILES, read_parent
from rnnlm_tui.store.runs import list_runs
from rnnlm_tui.tui.views.form import Draft, DraftParent
from tests.homes import tensor_file, trained, with_checkpoints
from tests.tui.panes.filling import pane, press
from tests.tui.panes.seeing import until_shown
from tests.tui.support import at_home, until

CONFIG = parse_config(merge(DEMO, {"optimizer.learning_rate": 0.001}))


def forks() -> list[tuple[str, str]]:
    """Return address and optimizer of the parents of all runs, the newest first."""
    parents = map(read_parent, list_runs())
    return [(parent.address, parent.optimizer) for parent in parents if parent is not None]


async def test_a_fork_is_named_on_other_panes_and_kept_however_it_is_left() -> None:
    run = with_checkpoints(trained("plain-otter", config=CONFIG), {3: 4.1})
    for name in STATE_FILES:
        (run.path / "checkpoints" / "step-000000003" / name).write_bytes(tensor_file({}))
    parent = DraftParent("plain-otter@3", "keep")
    async with at_home("plain-otter", "checkpoints") as (app, pilot):
        await app.new_draft_from("plain-otter")
        await until_shown(pilot, "draft, not started")
        words = "Draft from plain-otter, not started"
        await press(pilot, "2", shows=f"{words}: esc 1 shows it, F5 there starts it.")
        for key in ("4", "f2"):
            await press(pilot, key, shows=(f"{words}.", "esc 1 shows it, F5 there starts it."))
        await pilot.press("escape")
        for count, keys in enumerate((("ctrl+l",), ("P", "enter"), ("ctrl+q",))):
            app.open_run(run, "checkpoints")
            await app.new_draft_from("plain-otter", parent)
            await until_shown(pilot, "draft, fork of plain-otter@3")
            assert pane(app).shown == Draft(CONFIG, "plain-otter", parent=parent)
            await press(pilot, "v", shows="No field differs from plain-otter@3")
            assert len(forks()) == count
            await pilot.press(*keys)
            wanted = [("plain-otter@3", "keep")] * (count + 1)
            await until(pilot, lambda wanted=wanted: forks() == wanted)  # type: ignore[misc]
            if "P" in keys:  # a preset starts from no weights
                await until_shown(pilot, "draft, not started")
