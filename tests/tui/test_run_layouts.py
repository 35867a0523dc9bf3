"""The runs list as a tree of forks and in groups, by keys alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from textual.pilot import Pilot

from rnnlm_tui.schema.summary import ChangedField, LineageFigures
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.views.runs import RunLayout
from tests.tui import fakes
from tests.tui.fakes import FakeServices, make_snapshot, make_summary
from tests.tui.pictures import Mode, assert_picture, each_view
from tests.tui.support import running_app, shown, shows, text_of, until

PICTURES = Path(__file__).parent / "snapshots"
HOUR = 3_600


FORKS = (
    ("slow-otter", "plain-otter", 40.0, 2_000, "optimizer.learning_rate", 3e-3, 1e-4),
    ("wide-otter", "plain-otter", 50.0, 4_754, "model.dropout", 0.1, 0.3),
    ("last-otter", "slow-otter", 60.0, 900, "training.seed", 42, 7),
)
"""Name, parent, creation, last step and the changed setting."""


def family() -> FakeServices:
    """A run, two forks of it, a fork of one of those, and a run by itself."""
    services = FakeServices(make_snapshot(created=10.0, corpus_hash="c"))
    made = {"plain-otter": 10.0}
    for name, parent, created, step, key, before, after in FORKS:
        made[name] = created
        lineage = LineageFigures(
            run=parent, checkpoint="1500", step=1_500, created=made[parent], optimizer="fresh",
            corpus_hash="c", changed=(ChangedField(key=key, before=before, after=after),),
        )  # fmt: skip
        facts = {"corpus_hash": "c", "parent": f"{parent}@1500", "lineage": lineage}
        services.runs.append(make_summary(name, "finished", step, created=created, **facts))
    services.runs.append(make_summary("brisk-heron", "stopped", 1_500, created=5.0, preset="lstm"))
    services.runs[1:] = [
        run.model_copy(update={"updated": fakes.START - place * HOUR})
        for place, run in enumerate(services.runs[1:], 1)
    ]
    return services


@asynccontextmanager
async def laid_out(
    services: FakeServices | None = None,
    keys: tuple[str, ...] = ("V",),
    *,
    size: tuple[int, int] = (120, 40),
) -> AsyncIterator[tuple[RnnlmApp, Pilot[int]]]:
    """The runs pane after these keys."""
    async with running_app(services or family(), pane="runs", size=size) as (app, pilot):
        await until(pilot, lambda: "plain-otter" in text_of(app) and "runs" in text_of(app))
        for key in keys:
            await pilot.press(key)
        yield app, pilot


async def test_runs_are_a_tree_of_forks_or_groups_which_arrows_fold() -> None:
    services = family()
    services.snapshots |= {
        run.run: make_snapshot("finished", run.step, name=run.run) for run in services.runs[1:]
    }
    async with laid_out(services, ("left",)) as (app, pilot):
        await until(pilot, lambda: shows(app, "V lays the runs out as a tree or in groups"))
        await pilot.press("V")
        await until(pilot, lambda: "├ slow-otter" in text_of(app))
        tree = ["plain-otter", "├", "│", "└", "brisk-heron"]
        assert [line[3:] for line in shown(app)] == tree
        assert "learning_rate 0.003 → 0.0001" in text_of(app)
        await pilot.press("down", "down", "left")  # on last-otter: folds the run it belongs to
        await until(pilot, lambda: "slow-otter +1" in text_of(app))
        assert shown(app)[1].startswith("›")
        await pilot.press("left")
        await until(pilot, lambda: "plain-otter +3" in text_of(app))
        assert [line[3:] for line in shown(app)] == ["plain-otter", "brisk-heron"]
        await pilot.press("right")
        await until(pilot, lambda: "slow-otter +1" in text_of(app))
        await pilot.press("slash", *"wide", "enter")
        await until(pilot, lambda: len(shown(app)) == 1)
        await pilot.press("escape", "G")
        await until(pilot, lambda: "Group by" in text_of(app))
        await pilot.press("ctrl+u", *"no_such_key")
        await until(pilot, lambda: 'unknown key "no_such_key"' in text_of(app))
        await pilot.press("ctrl+u", *"hidden_size,status", "enter")
        await until(pilot, lambda: "▾ hidden_size 192, status finished   3 runs" in text_of(app))
        assert app.settings["runs layout"] == ["groups", "hidden_size,status"]
        await pilot.press("home", "left")
        await until(pilot, lambda: "▸ hidden_size 192, status" in text_of(app))
        await pilot.press("enter")  # opens the best run of the group
        await until(pilot, lambda: app.current_mode == "train")
        assert app.run_directory is not None
        await pilot.press("r", "G")
        await until(pilot, lambda: "Group by" in text_of(app))
        await pilot.press("ctrl+u", *"optimizer.learning_rate", "enter")
        await until(pilot, lambda: "learning_rate 0.003" in text_of(app))
        await pilot.press("V")
        await until(pilot, lambda: "learning_rate 0.003" not in text_of(app))


def test_a_saved_layout_with_keys_that_no_longer_exist_is_the_list() -> None:
    assert RunLayout.from_setting(["groups", "cell"]).setting() == ["groups", "cell"]
    assert RunLayout.from_setting(["tree", ""]).setting() == ["tree", ""]
    for kept in (["groups", "no_such_key"], ["groups"], None, 7, [{}, "cell"]):
        assert RunLayout.from_setting(kept).setting()[0] == "list"


@each_view("runs-tree", "runs-groups")
async def test_picture(name: str, size: tuple[int, int], mode: Mode) -> None:
    keys = ("V",) if name == "runs-tree" else ("V", "V")
    async with laid_out(keys=keys, size=size) as (app, pilot):
        await until(pilot, lambda: ("tree" if name == "runs-tree" else "▾ corpus") in text_of(app))
        app.pane_screen.end_notice() if app.pane_screen is not None else None
        await assert_picture(app, PICTURES, name, size, mode)
