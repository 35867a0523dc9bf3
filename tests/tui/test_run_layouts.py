"""The runs list as a tree of forks and in groups, by keys alone."""

from __future__ import annotations

from pathlib import Path
from time import time

import pytest

from rnnlm_tui.schema.metrics import EventKind
from rnnlm_tui.schema.presets import DEMO
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.store.lineage import ParentCheckpoint, take_parent
from rnnlm_tui.store.runs import find_run
from tests.homes import STEPS, trained, with_checkpoints
from tests.tui.demo_run import IDLE, use_machine
from tests.tui.panes.seeing import press
from tests.tui.pictures import SIZES, assert_picture
from tests.tui.support import at_home, shown, shows, text_of, until

PICTURES = Path(__file__).parent / "snapshots"
SLOW = {"optimizer.learning_rate": 1e-4}
FAMILY: tuple[tuple[str, str, EventKind, float, dict[str, object]], ...] = (
    ("plain-otter", "", "finished", 4.1, {}),
    ("slow-otter", "plain-otter", "finished", 4.3, {**SLOW}),
    ("wide-otter", "plain-otter", "finished", 4.0, {"model.dropout": 0.3}),
    ("last-otter", "slow-otter", "finished", 4.5, {**SLOW, "training.seed": 7}),
    ("brisk-heron", "", "stopped", 4.2, {"model.cell_type": "lstm"}),
)
"""Name, parent, last event, validation loss and what the config changes, newest first."""


@pytest.fixture(autouse=True)
def family(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run, two forks of it, a fork of one of those, and a run by itself."""
    use_machine(monkeypatch, IDLE)
    for hours, (name, parent, last, loss, changes) in enumerate(FAMILY):
        config = parse_config(merge(DEMO, changes))
        age = 3_600.0 * hours
        run = trained(name, last, config=config, age=age, loss=loss, corpus_hash="c")
        if name in ("plain-otter", "slow-otter"):
            with_checkpoints(run, {STEPS: loss})
        if parent:
            of = find_run(parent)
            weights = of.checkpoints_path / f"step-{STEPS:09d}"
            take_parent(run, ParentCheckpoint(of, weights), config)
    made = time()
    monkeypatch.setattr("rnnlm_tui.tui.widgets.runs_table.time", lambda: made)


async def test_runs_are_a_tree_of_forks_or_groups_which_arrows_fold() -> None:
    async with at_home(size=(120, 40)) as (app, pilot):
        await press(pilot, "left", "V lays the runs out as a tree or in groups")
        await press(pilot, "V", "├ slow-otter", "learning_rate 0.003 → 0.0001")
        tree = ["plain-otter", "├", "│", "└", "brisk-heron"]
        assert [line[3:] for line in shown(app)] == tree
        # on last-otter: folds the run it belongs to
        await press(pilot, "down down left", "slow-otter +1")
        assert shown(app)[1].startswith("›")
        await press(pilot, "left", "plain-otter +3")
        assert [line[3:] for line in shown(app)] == ["plain-otter", "brisk-heron"]
        await press(pilot, "right", "slow-otter +1")
        await pilot.press("slash", *"wide", "enter")
        await until(pilot, lambda: len(shown(app)) == 1)
        await press(pilot, "escape G", "Group by")
        await press(pilot, ("ctrl+u", *"no_such_key"), 'unknown key "no_such_key"')
        words = "▾ hidden_size 192, status finished   4 runs"
        await press(pilot, ("ctrl+u", *"hidden_size,status", "enter"), words)
        assert app.settings["runs layout"] == ["groups", "hidden_size,status"]
        await press(pilot, "home left", "▸ hidden_size 192, status")
        await pilot.press("enter")  # opens the best run of the group
        await until(pilot, lambda: app.current_mode == "train")
        assert app.run_directory == find_run("wide-otter")
        await press(pilot, "r G", "Group by")
        await press(pilot, ("ctrl+u", *"optimizer.learning_rate", "enter"), "learning_rate 0.003")
        await pilot.press("V")
        await until(pilot, lambda: "learning_rate 0.003" not in text_of(app))


async def test_pictures() -> None:
    async with at_home(size=SIZES[1], settings={"runs layout": ["tree", ""]}) as (app, pilot):
        await until(pilot, lambda: app.all_listed and app.snapshot)
        for name, shows_layout in (("runs-tree", "├"), ("runs-groups", "▾ corpus")):
            await until(pilot, lambda: shows(app, shows_layout))  # noqa: B023
            await pilot.press("escape")  # ends a notice, such as that the runs began just now
            for size in reversed(SIZES):
                await pilot.resize_terminal(*size)
                await assert_picture(app, PICTURES, name, size, "")
            await pilot.press("V")
