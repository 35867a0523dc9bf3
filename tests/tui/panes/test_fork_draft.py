"""A fork is a draft with a parent: shown, kept with its weights, and started with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from rnnlm_tui.schema.presets import DEMO
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.store.checkpoints import write_checkpoint
from rnnlm_tui.store.lineage import STATE_FILES, read_parent
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.runs import list_runs
from rnnlm_tui.tui.views.form import Draft, DraftParent
from tests.homes import tensor_file, trained, with_checkpoints
from tests.tui.panes.filling import pane, press, write
from tests.tui.panes.seeing import until_shown
from tests.tui.support import at_home, until

CONFIG = parse_config(merge(DEMO, {"optimizer.learning_rate": 0.001}))


def forks() -> list[tuple[str, str]]:
    """Return address and optimizer of the parents of all runs, the newest first."""
    parents = map(read_parent, list_runs())
    return [(parent.address, parent.optimizer) for parent in parents if parent is not None]


async def test_a_fork_is_named_on_other_panes_and_kept_however_it_is_left() -> None:
    run = with_checkpoints(trained("plain-otter", config=CONFIG), {3: 4.1})
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
            await app.new_draft_from("plain-otter", DraftParent("plain-otter@3", "fresh"))
            await until_shown(pilot, "draft, fork of plain-otter@3")
            assert len(forks()) == count
            await pilot.press(*keys)
            wanted = [("plain-otter@3", "fresh")] * (count + 1)
            await until(pilot, lambda wanted=wanted: forks() == wanted)  # type: ignore[misc]


async def test_a_fork_starts_from_the_checkpoint_and_a_preset_starts_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = with_checkpoints(trained("plain-otter", config=CONFIG), {2: 4.2})

    def write_with_state(folder: Path) -> None:
        (folder / "config.json").write_text("{}")
        for name in ("model.safetensors", *STATE_FILES):
            (folder / name).write_bytes(tensor_file({}))

    write_checkpoint(run, 3, write_with_state, None, {})
    started: list[RunDirectory] = []

    def launch(run: RunDirectory) -> RunDirectory:
        started.append(run)
        return run

    monkeypatch.setattr("rnnlm_tui.client.start.start_draft", launch)
    async with at_home("plain-otter", "checkpoints") as (app, pilot):
        await app.new_draft_from("plain-otter", DraftParent("plain-otter@3", "keep"))
        await until_shown(pilot, "draft, fork of plain-otter@3")
        await write(pilot, "training.seed", "43")
        parent = DraftParent("plain-otter@3", "keep")
        assert pane(app).shown == Draft(CONFIG, "plain-otter", {"training.seed": 43}, parent)
        await pilot.press("f5")
        await until(pilot, lambda: bool(started))
        assert forks() == [("plain-otter@3", "keep")]

        await app.new_draft_from("plain-otter", DraftParent("plain-otter@2", "fresh"))
        await until_shown(pilot, "draft, fork of plain-otter@2")
        await press(pilot, "P", shows="ptb-large")
        await press(pilot, "enter", shows="draft, not started")
        shown = pane(app).shown
        assert shown is not None
        assert shown.parent is None
