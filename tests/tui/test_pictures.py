"""Snapshots of every screen; `pictures.py` describes the files and how to rewrite them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from rnnlm_tui.schema.facts import Facts
from rnnlm_tui.schema.health import HealthRow
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
from tests.tui.book_run import book_run
from tests.tui.demo_run import CLOCK, FACTS, HOUR, NOW, RANKS, demo_run, readings, worker
from tests.tui.panes.seeing import press
from tests.tui.pictures import MORE, SIZES, SMALL, Mode, assert_picture
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


HEALTH = tuple(
    HealthRow(1, 500 * number, {
        "layer 1": {"saturated": 0.3, "dead": 0.0, "memory": 1.2 + number / 40},
        "layer 2": {"saturated": 0.13 * number, "gate reset": 0.3, "update": 9e-3 / number},
        "model": {"gradient": 12.5, "reach": 9.0, "lag 2": 0.6, "lag 32": 2e-5},
    }, NOW)
    for number in range(1, 8)
)  # fmt: skip
Steps = Sequence[tuple[str | Sequence[str], str]]
"""Keys, each with the text that is awaited after them."""


@dataclass(frozen=True)
class Walk:
    """Screens that one app on one home shows in turn."""

    pane: Pane
    steps: Mapping[str, tuple[Steps, str]]
    """The name of each picture → what leads to it, and the keys back."""
    run: Callable[[], AbstractContextManager[RunDirectory]] | None = demo_run
    """Makes the open run."""
    marked: tuple[str, ...] = ()
    """Runs marked for comparison."""
    queued: bool = False
    """Whether runs wait in the queue."""


SECONDS = {"wise-owl": 7_236.0, "tidy-lark": 7_236.0}
"""How long the waiting runs would train."""
TROUBLE = (
    "rows wait in memory (1,204), a checkpoint for space: can't write log/000001.jsonl: No space"
    " left on device; free some space on this disk and try again"
)


def alone(
    name: str, run: Callable[[], AbstractContextManager[RunDirectory]], keys: str = ""
) -> Walk:
    """The train screen of a run of its own."""
    return Walk("train", {name: ([(keys, "")], "escape" if keys else "")}, run)


STEERED = ("enter", "ctrl+u", *"1e-3", "enter", *["down"] * 3, "enter", *"9000", "enter")
"""Each key's figures are drawn: a chart keeps the room that its labels have had."""
WALKS = (
    Walk("runs", {"runs-empty": ((), "")}, None),
    Walk(
        "runs",
        {
            "runs": ((), ""),
            "runs-filter": ([(["slash", *"running"], "1 of 6")], "escape"),
            "tags": ([("t", "Tags")], "escape"),
            "trash": ([("T", "stern-heron")], "escape"),
            "help-runs": ([("question_mark", "")], "escape"),
            "train": ([("2", "val bits/byte")], ""),
            "train-cursor": ([("right left left left left", "at step")], "escape"),
            "train-alone": ([("tab z up up", "")], "shift+tab u"),
            "train-history": ([("h", "Samples")], "escape"),
            "train-log": ([("L", "step 3,751")], "escape"),
            "help": ([("question_mark", "")], "escape"),
            "palette": ([("ctrl+p", "Sample now")], "escape"),
            "palette-search": ([(["ctrl+p", *"learn"], "see it learn")], "escape"),
            "quit": ([("q", "")], "escape"),
            "stop": ([("S", "keep training")], "escape"),
            "steer": (
                [("E", "F5 send"), *((key, "") for key in STEERED), ("", "9,000 steps")],
                "escape escape",
            ),
        },
    ),
    Walk(
        "runs",
        {
            "runs-marked": ([("down", "step 2,000 /")], "up"),
            "compare": ([("equals_sign", "differs in")], "r"),
        },
        marked=("plain-otter", "brisk-heron"),
    ),
    Walk(
        "runs",
        {
            "runs-queue": ([("", "waiting 2")], ""),
            "queue": ([("Q", "process 41207"), ("down", "remove")], "escape"),
        },
        queued=True,
    ),
    alone("train-cpu", partial(demo_run, hardware=readings(card=GpuRow()))),
    alone("train-health", partial(demo_run, health=HEALTH), "H"),
    alone("train-ranks", partial(demo_run, ranks=RANKS)),
    alone("train-book", book_run),
    alone("train-book-neighbour", partial(book_run, others=1.0), "right left left"),
    alone(
        "train-preparing",
        partial(demo_run, "preparing", 0, page=LockPage(progress=("encoding", 900_000, 1_880_000))),
    ),
    alone(
        "train-degraded",
        partial(demo_run, "degraded", now=NOW - 47, page=LockPage(degraded=TROUBLE)),
    ),
    alone("train-stalled", partial(demo_run, "stalled", now=NOW - 47, hardware=readings(busy=0))),
    alone("train-failed", partial(demo_run, "failed", now=NOW - 400, facts=failed_at(3_752))),
)


@contextmanager
def home(walk: Walk) -> Iterator[None]:
    """The runs that the screens show."""
    if walk.run is None:
        yield
        return
    with ExitStack() as held:
        for name, (status, step, age) in OTHERS.items():
            is_compared = name in walk.marked
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
        held.enter_context(walk.run())
        if "trash" in walk.steps:
            delete("stern-heron", 0.2, 39_000_000)
            delete("dusty-crane", 9.0, 1_200_000_000)
        if walk.queued:
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


@pytest.mark.parametrize(
    ("walk", "mode"),
    [*((walk, "") for walk in WALKS), (WALKS[1], "ascii")],
    ids=[*(next(iter(walk.steps)) for walk in WALKS), "ascii"],
)
async def test_screens_equal_their_snapshots(
    walk: Walk, mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    if walk.run is None:  # the only picture that shows where the home is
        monkeypatch.setenv("RNNLM_TUI_HOME", "/data/rnnlm-tui")
    run = None if walk.run is None else "plain-otter"
    settings: dict[str, object] = {"marked": list(walk.marked)}
    with home(walk):
        async with at_home(run, walk.pane, ascii_only=mode == "ascii", settings=settings) as (
            app,
            pilot,
        ):
            await until(pilot, lambda: len(app.summaries or ()) == len(list_runs()))
            for size in SIZES if not mode else (SMALL,):
                await pilot.resize_terminal(*size)
                app.open_pane(walk.pane)
                await until(pilot, lambda: text_of(app))  # keys move by the cells that are drawn
                for name, (steps, back) in walk.steps.items():
                    if mode and (size, mode) not in MORE.get(name, ()):
                        continue
                    for keys, text in steps:
                        await press(pilot, keys, text)
                    await assert_picture(app, PICTURES, name, size, mode)
                    await pilot.press(*back.split())
                    await until(pilot, lambda: app.screen is app.pane_screen)
