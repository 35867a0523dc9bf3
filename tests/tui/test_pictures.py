"""Snapshots of every screen; `pictures.py` describes the files and how to rewrite them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from textual.pilot import Pilot

from rnnlm_tui.schema.facts import Facts
from rnnlm_tui.schema.metrics import GpuRow
from rnnlm_tui.schema.presets import DEMO
from rnnlm_tui.schema.queue import QueueEntry
from rnnlm_tui.schema.status import RunStatus
from rnnlm_tui.schema.summary import RunSummary
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.store.paths import RunDirectory, queue_dir, queue_lock, trash_dir
from rnnlm_tui.store.queue import change_queue
from rnnlm_tui.store.runs import create_run, list_runs
from rnnlm_tui.system.files import make_private_directory
from rnnlm_tui.system.locks import LockPage
from rnnlm_tui.tui.actions import Pane
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.views.compare import Marks
from tests.tui.book_run import book_run
from tests.tui.demo_run import CLOCK, FACTS, HOUR, NOW, demo_run, readings, worker
from tests.tui.pictures import View, assert_picture, each_app
from tests.tui.support import at_home, text_of, until

pytestmark = pytest.mark.usefixtures("still")

PICTURES = Path(__file__).parent / "snapshots"
GRU = parse_config(merge(DEMO, {"model.cell_type": "gru", "optimizer.learning_rate": 1e-3}))
OTHERS: dict[str, tuple[RunStatus, int, float]] = {
    "salty-wren": ("lost", 4_200, 50.0),
    "stern-crane": ("crashed", 2_900, 26.0),
    "amber-vole": ("failed", 150, 25.0),
    "quiet-marten": ("paused", 2_000, 5.2),
    "brisk-heron": ("finished", 4_754, 2.1),
}
"""Status, step and age in hours of the other runs."""


def failed_at(step: int) -> Facts:
    """The facts of a run that has failed at this step."""
    return FACTS.model_copy(update={"message": f"the loss is not a number at step {step:,}"})


@dataclass(frozen=True)
class State:
    """A screen to draw."""

    pane: Pane
    run: Callable[[], AbstractContextManager[RunDirectory]] | None = None
    """Makes the open run."""
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


RUN = demo_run
SECONDS = {"wise-owl": 7_236.0, "tidy-lark": 7_236.0}
"""How long the waiting runs would train."""
TROUBLE = (
    "rows wait in memory (1,204), a checkpoint for space: can't write log/000001.jsonl: No space"
    " left on device; free some space on this disk and try again"
)
STATES: dict[str, State] = {
    "runs-empty": State("runs"),
    "runs": State("runs", RUN),
    "runs-marked": State("runs", RUN, ("down",), marked=("plain-otter", "brisk-heron")),
    "runs-filter": State("runs", RUN, ("slash", *"running"), "1 of 6"),
    "runs-queue": State("runs", RUN, (), "waiting 2", queued=True),
    "queue": State(
        "runs", RUN, ("down",), "remove", before="process 41207", first=("Q",), queued=True
    ),
    "trash": State("runs", RUN, ("T",), "stern-heron", before="brisk-heron"),
    "tags": State("runs", RUN, ("t",), "Tags"),
    "compare": State("compare", RUN, (), "differs in", marked=("plain-otter", "brisk-heron")),
    "train": State("train", RUN),
    "train-cpu": State("train", partial(demo_run, hardware=readings(card=GpuRow()))),
    "train-book": State("train", book_run),
    "train-book-neighbour": State(
        "train", partial(book_run, others=1.0), ("right", "left", "left")
    ),
    "train-preparing": State(
        "train",
        partial(demo_run, "preparing", 0, page=LockPage(progress=("encoding", 900_000, 1_880_000))),
    ),
    "train-degraded": State(
        "train", partial(demo_run, "degraded", now=NOW - 47, page=LockPage(degraded=TROUBLE))
    ),
    "train-stalled": State(
        "train", partial(demo_run, "stalled", now=NOW - 47, hardware=readings(busy=0))
    ),
    "train-failed": State(
        "train", partial(demo_run, "failed", now=NOW - 400, facts=failed_at(3_752))
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


@contextmanager
def home(state: State) -> Iterator[None]:
    """The runs that the state shows."""
    if state.run is None:
        yield
        return
    with ExitStack() as held:
        for name, (status, step, age) in OTHERS.items():
            is_compared = name in state.marked
            run = demo_run(
                status,
                step,
                name=name,
                now=NOW - age * HOUR,
                config=GRU if is_compared else DEMO,
                facts=failed_at(step) if status == "failed" else FACTS,
                curve=is_compared,
            )
            held.enter_context(run)
        held.enter_context(state.run())
        if state is STATES["trash"]:
            delete("stern-heron", 0.2, 39_000_000)
            delete("dusty-crane", 9.0, 1_200_000_000)
        if state.queued:
            held.enter_context(queue())
        yield


def delete(name: str, days: float, size: int) -> None:
    """Put a run of so many bytes into the trash."""
    path = trash_dir() / f"{name}.{int(NOW - days * 86_400):010d}.00000000"
    path.mkdir(parents=True)
    with (path / "config.toml").open("wb") as file:
        file.truncate(size)


@contextmanager
def queue() -> Iterator[None]:
    """Two runs wait until the open one ends, one has failed."""
    for name in SECONDS:
        os.utime(create_run(DEMO, name).config_path, (NOW, NOW))
    make_private_directory(queue_dir())
    entries = [QueueEntry(run=name, added=NOW) for name in ("plain-otter", *SECONDS)]
    failed = QueueEntry(run="amber-vole", added=NOW)
    change_queue(lambda queue: queue.model_copy(update={"entries": entries, "ended": (failed,)}))

    def remaining(run: RunSummary) -> tuple[float | None, int]:
        return SECONDS.get(run.run, run.eta_seconds), 4_754

    with worker(queue_lock()), pytest.MonkeyPatch.context() as patch:
        patch.setattr("rnnlm_tui.client.queue.remaining", remaining)
        patch.setattr("rnnlm_tui.client.queue.time", CLOCK)
        yield


APART = (
    "train-book-neighbour", "train-cursor", "train-alone", "train-degraded",
    "queue", "trash", "tags", "help", "help-runs", "palette", "palette-search", "quit", "stop",
    "steer",
)  # fmt: skip
"""States with a cursor, other limits in a higher chart, or a pane behind."""


@each_app(*STATES, apart=APART)
async def test_screen_equals_its_snapshots(
    name: str, views: list[View], monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "runs-empty":  # the only one that shows where the home is
        monkeypatch.setenv("RNNLM_TUI_HOME", "/data/rnnlm-tui")
    size, mode = views[0]
    async with drawn(STATES[name], size, ascii_only=mode == "ascii") as (app, pilot):
        for size, mode in views:
            await pilot.resize_terminal(*size)
            await assert_picture(app, PICTURES, name, size, mode)


@asynccontextmanager
async def drawn(
    state: State, size: tuple[int, int], *, ascii_only: bool
) -> AsyncIterator[tuple[RnnlmApp, Pilot[int]]]:
    """The app, once it shows the state."""
    run = None if state.run is None else "plain-otter"
    with home(state):
        async with at_home(run, state.pane, size=size, ascii_only=ascii_only) as (app, pilot):
            if state.marked:
                app.marks = Marks(state.marked)
                app.open_pane(state.pane)
            await until(pilot, lambda: len(app.summaries or ()) == len(list_runs()))
            await until(pilot, lambda: not state.queued or "waiting 2" in text_of(app))
            await pilot.press(*state.first)
            await until(pilot, lambda: state.before in text_of(app))
            await pilot.press(*state.keys)
            await until(pilot, lambda: state.shows in text_of(app))
            yield app, pilot
