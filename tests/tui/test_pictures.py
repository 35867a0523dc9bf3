"""Every screen of the app as a text file with its colours, without colour and in ASCII: `pictures.py` tells the form and how the files are written anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from rnnlm_tui.supervisor.monitor import RunSnapshot
from rnnlm_tui.tui.actions import Pane
from tests.tui import fakes
from tests.tui.book_run import book_run
from tests.tui.fakes import FakeServices, make_snapshot, make_summary, preparing
from tests.tui.pictures import SIZES, assert_ascii_picture, assert_picture
from tests.tui.support import running_app, with_runs

PICTURES = Path(__file__).parent / "snapshots"
NOW = fakes.START + 99


def several_runs(first: RunSnapshot) -> FakeServices:
    services = with_runs(first)
    hour = 3_600
    services.runs += [
        make_summary("quiet-marten", "paused", 2_000, updated=NOW - 5.2 * hour, tokens_per_second=9_800.0),
        make_summary("brisk-heron", "finished", 4_754, updated=NOW - 2.1 * hour, tokens_per_second=11_300.0),
        make_summary("amber-vole", "failed", 150, updated=NOW - 25 * hour, message="the loss is not a number"),
        make_summary("stern-crane", "crashed", 2_900, updated=NOW - 26 * hour),
        make_summary("salty-wren", "lost", 4_200, updated=NOW - 50 * hour),
    ]
    return services


STATES: dict[str, tuple[Pane, RunSnapshot | None, tuple[str, ...]]] = {
    "runs-empty": ("runs", None, ()),
    "runs": ("runs", make_snapshot(), ()),
    "train": ("train", make_snapshot(), ()),
    "train-cpu": ("train", make_snapshot(gpu=False), ()),
    "train-book": ("train", book_run(), ()),
    "train-book-neighbour": ("train", book_run(others=1.0), ("right", "left", "left")),
    "train-preparing": ("train", preparing(), ()),
    "train-degraded": (
        "train",
        make_snapshot(
            "degraded",
            updated=NOW - 48,
            message="it trains on; rows wait in memory (1,204), a checkpoint for space: can't write run.db: database or disk is full; free some space on this disk",
        ),
        (),
    ),
    "train-stalled": ("train", make_snapshot("stalled", updated=NOW - 48, message="no step since 14:31:07, the process (pid 41207) lives"), ()),
    "train-failed": ("train", make_snapshot("failed", updated=NOW - 400, message="the loss is not a number at step 3,752"), ()),
    "train-cursor": ("train", make_snapshot(), ("right", "left", "left", "left", "left")),
    "help": ("train", make_snapshot(), ("question_mark",)),
    "quit": ("train", make_snapshot(), ("q",)),
}


@pytest.fixture(autouse=True)
def still_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ages that are the same each time, and a home that is named the same."""
    for module in ("identity", "run_columns"):
        monkeypatch.setattr(f"rnnlm_tui.tui.widgets.{module}.time", lambda: NOW)
    monkeypatch.setenv("RNNLM_TUI_HOME", "/data/rnnlm-tui")


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("signs", ["", "-ascii"])
@pytest.mark.parametrize("name", STATES)
async def test_screen_is_as_in_its_picture(name: str, signs: str, size: tuple[int, int]) -> None:
    pane, snapshot, keys = STATES[name]
    services = several_runs(snapshot) if snapshot is not None else FakeServices()
    async with running_app(services, run="plain-otter" if snapshot is not None else None, pane=pane, size=size, ascii_only=bool(signs)) as (app, pilot):
        await pilot.press(*keys)
        await pilot.pause()
        path = PICTURES / f"{name}-{size[0]}x{size[1]}{signs}.txt"
        if signs:
            assert_ascii_picture(app, path)
        else:
            assert_picture(app, path)
