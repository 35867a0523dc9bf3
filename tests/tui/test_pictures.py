"""Snapshots of every screen; `pictures.py` describes the files and how to rewrite them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from rnnlm_tui.client.monitor import RunSnapshot
from rnnlm_tui.schema.presets import DEMO
from rnnlm_tui.schema.queue import QueuedRun, QueueListing, QueueProcess
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.store.paths import trash_dir
from rnnlm_tui.tui.actions import Pane
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.views.compare import Marks
from tests.tui import fakes
from tests.tui.book_run import book_run
from tests.tui.fakes import FakeServices, make_snapshot, make_summary, preparing
from tests.tui.pictures import Mode, assert_picture, each_view
from tests.tui.support import running_app, text_of, until

PICTURES = Path(__file__).parent / "snapshots"
NOW = fakes.START + 99
GRU = parse_config(merge(DEMO, {"model.cell_type": "gru", "optimizer.learning_rate": 1e-3}))


def several_runs(first: RunSnapshot) -> FakeServices:
    services = FakeServices(first)
    hour = 3_600
    services.runs += [
        make_summary(
            "quiet-marten", "paused", 2_000, updated=NOW - 5.2 * hour, tokens_per_second=9_800.0
        ),
        make_summary(
            "brisk-heron", "finished", 4_754, updated=NOW - 2.1 * hour, tokens_per_second=11_300.0
        ),
        make_summary(
            "amber-vole", "failed", 150, updated=NOW - 25 * hour, message="the loss is not a number"
        ),
        make_summary("stern-crane", "crashed", 2_900, updated=NOW - 26 * hour),
        make_summary("salty-wren", "lost", 4_200, updated=NOW - 50 * hour),
    ]
    return services


@dataclass(frozen=True)
class State:
    """A screen to draw."""

    pane: Pane
    snapshot: RunSnapshot | None = None
    keys: tuple[str, ...] = ()
    """Keys to press."""
    shows: str = ""
    """Text that appears once the state is drawn."""
    marked: tuple[str, ...] = ()
    """Runs marked for comparison."""
    before: str = ""
    """Text to wait for before the keys are pressed."""
    first: tuple[str, ...] = ()
    """Keys to press before `before` is waited for."""
    queued: bool = False
    """Whether runs wait in the queue."""


RUN = make_snapshot()
TROUBLE = (
    "it trains on; rows wait in memory (1,204), a checkpoint for space: can't write"
    " log/000001.jsonl: No space left on device; free some space on this disk and try again"
)
PROCESS = "no step since 14:31:07, the process (pid 41207) lives"


def waiting(place: int, name: str, starts: float, **values: object) -> QueuedRun:
    facts = {"state": "waiting", "status": "draft", "added": 1.0, "max_steps": 4_754}
    return QueuedRun.model_validate(
        {"run": name, "place": place, "starts": starts, **facts, **values}
    )


QUEUE = QueueListing(
    process=QueueProcess(pid=4_242, started=NOW, host="gpu1"),
    runs=(
        QueuedRun(run="plain-otter", state="running", status="running", device="cuda:0", added=NOW,
            step=3_751, max_steps=4_754, seconds=24.0),
        waiting(1, "wise-owl", NOW + 24),
        waiting(2, "tidy-lark", NOW + 7_260, stop_on_failure=True),
    ),
    ended=(
        QueuedRun(run="amber-vole", state="ended", outcome="failed", status="failed", added=NOW,
            message="the loss is not a number at step 150", ended=NOW - 4_000),
    ),
)  # fmt: skip
STATES: dict[str, State] = {
    "runs-empty": State("runs"),
    "runs": State("runs", RUN),
    "runs-marked": State("runs", RUN, ("down",), marked=("plain-otter", "brisk-heron")),
    "runs-filter": State("runs", RUN, ("slash", *"running"), "1 of 6"),
    "runs-queue": State("runs", RUN, (), "waiting 2", queued=True),
    "queue": State("runs", RUN, ("Q", "down"), "remove", before="waiting 2", queued=True),
    "trash": State("runs", RUN, ("T",), "stern-heron", before="brisk-heron"),
    "tags": State("runs", RUN, ("t",), "Tags"),
    "compare": State("compare", RUN, (), "differs in", marked=("plain-otter", "brisk-heron")),
    "train": State("train", RUN),
    "train-cpu": State("train", make_snapshot(gpu=False)),
    "train-book": State("train", book_run()),
    "train-book-neighbour": State("train", book_run(others=1.0), ("right", "left", "left")),
    "train-preparing": State("train", preparing()),
    "train-degraded": State("train", make_snapshot("degraded", updated=NOW - 48, message=TROUBLE)),
    "train-stalled": State("train", make_snapshot("stalled", updated=NOW - 48, message=PROCESS)),
    "train-failed": State(
        "train",
        make_snapshot(
            "failed", updated=NOW - 400, message="the loss is not a number at step 3,752"
        ),
    ),
    "train-cursor": State("train", RUN, ("right", "left", "left", "left", "left")),
    "train-alone": State("train", RUN, ("tab", "z", "up", "up")),
    "train-history": State("train", RUN, ("h",), "Samples"),
    "train-log": State("train", RUN, ("L",), "step 3,751"),
    "help": State("train", RUN, ("question_mark",)),
    "help-runs": State("runs", RUN, ("question_mark",)),
    "palette": State("train", RUN, ("ctrl+p",), "Sample now"),
    "palette-search": State("train", RUN, ("ctrl+p", *"learn"), "see it learn"),
    "quit": State("train", RUN, ("q",)),
    "stop": State("train", RUN, ("S",), "keep training"),
    "steer": State(
        "train",
        RUN,
        ("enter", "ctrl+u", *"1e-3", "enter", *["down"] * 3, "enter", *"9000", "enter"),
        "9,000 steps",
        before="F5 send",
        first=("E",),
    ),
}


def services_for(state: State, folder: Path) -> FakeServices:
    services = several_runs(state.snapshot) if state.snapshot is not None else FakeServices()
    services.seconds = None
    services.log_path = folder / "worker.log"
    services.log_path.write_text(
        "\n".join(f"step {step:,}: a line of the worker" for step in range(3_700, 3_752)) + "\n"
    )
    if state is STATES["trash"]:
        for name, days, size in (
            ("stern-heron", 0.2, 39_000_000),
            ("dusty-crane", 9.0, 1_200_000_000),
        ):
            path = trash_dir() / f"{name}.{int(NOW - days * 86_400):010d}.00000000"
            path.mkdir(parents=True)
            with (path / "config.toml").open("wb") as file:
                file.truncate(size)
    if state.queued:
        services.runs[1:1] = [make_summary(name, "draft", 0) for name in ("tidy-lark", "wise-owl")]
        services.queue = QUEUE
    for name in state.marked[1:]:
        services.snapshots[name] = make_snapshot("finished", 4_754, name=name, config=GRU)
    return services


@pytest.fixture(autouse=True)
def still_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fixed clock, so that ages don't vary."""
    for module in ("views.status", "views.runs", "views.queue", "screens.queue", "screens.trash"):
        monkeypatch.setattr(f"rnnlm_tui.tui.{module}.time", lambda: NOW)
    monkeypatch.setattr("rnnlm_tui.tui.views.status.strftime", lambda _form, _moment: "14:31")
    monkeypatch.setattr(
        "rnnlm_tui.tui.views.queue.strftime", lambda _form, _moment: "2026-11-25 13:01"
    )


@each_view(*STATES)
async def test_screen_equals_its_snapshot(
    name: str, size: tuple[int, int], mode: Mode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "runs-empty":  # the only one that shows where the home is
        monkeypatch.setenv("RNNLM_TUI_HOME", "/data/rnnlm-tui")
    async with drawn(STATES[name], tmp_path, size, ascii_only=mode == "ascii") as app:
        await assert_picture(app, PICTURES, name, size, mode)


@asynccontextmanager
async def drawn(
    state: State, folder: Path, size: tuple[int, int], *, ascii_only: bool
) -> AsyncIterator[RnnlmApp]:
    """The app, once it shows the state."""
    run = "plain-otter" if state.snapshot is not None else None
    async with running_app(
        services_for(state, folder), run=run, pane=state.pane, size=size, ascii_only=ascii_only
    ) as (app, pilot):
        if state.marked:
            app.set_marks(Marks(state.marked))
            app.open_pane(state.pane)
        await pilot.press(*state.first)
        await until(pilot, lambda: state.before in text_of(app))
        await pilot.press(*state.keys)
        await until(pilot, lambda: state.shows in text_of(app))
        yield app
