"""The sample history: which samples are shown, what is new in them, and its keys."""

from __future__ import annotations

from pathlib import Path

import pytest

from rnnlm_tui.client import monitor
from rnnlm_tui.errors import StorageError
from rnnlm_tui.schema.facts import Facts
from rnnlm_tui.schema.metrics import SampleRow
from rnnlm_tui.store.log import RunLog
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.system.locks import RunLock
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.screens.samples import SampleHistoryScreen, continuation
from rnnlm_tui.tui.screens.train import TrainScreen
from tests.homes import STEPS, trained
from tests.tui.panes.seeing import press
from tests.tui.pictures import assert_pictures
from tests.tui.support import at_home, lines_of, shows, until
from tests.unit.client.logs import record

PROMPTS = ("We must", "My fellow Americans,", "The state of the Union")


def samples(step: int, attempt: int = 1, text: str = "") -> list[SampleRow]:
    """Samples of three prompts that name their step."""
    return [
        SampleRow(attempt, step, prompt, text or f" be as at {step}", 3, 7, float(step))
        for prompt in PROMPTS
    ]


def append(run: RunDirectory, *rows: SampleRow) -> None:
    with RunLog(run, 1) as log:
        log.append(*rows)


def is_loaded(app: RnnlmApp) -> bool:
    """Whether the history is open and shows samples."""
    return isinstance(app.screen, SampleHistoryScreen) and shows(app, "› ")


def is_read(app: RnnlmApp) -> bool:
    """Whether the open history reads nothing now."""
    screen = app.screen
    return isinstance(screen, SampleHistoryScreen) and not screen._stored._rows_read._reading


async def test_the_history_is_walked_and_follows_its_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "SAMPLES", len(PROMPTS))  # a snapshot holds those of one step
    run, attempts, reports = trained("plain-otter", "running"), list[int](), list[object]()

    def gone(_reader: RunReader, step: int) -> list[SampleRow]:
        attempts.append(step)
        raise StorageError("the disk is gone")

    with RunLock(run.lock_path):
        async with at_home(pane="train") as (app, pilot):
            await pilot.press("h")
            await until(pilot, lambda: "press s" in lines_of(app)[-1])
            append(run, *samples(1), *samples(2), *samples(3))
            await until(pilot, lambda: shows(app, "@3"))
            # samples that can't be read are reported once, until they are read
            monkeypatch.setattr(app, "report_error", reports.append)
            for times, tries in ((1, ("h", "left", "right")), (2, ("h",))):
                with monkeypatch.context() as broken:
                    broken.setattr(RunReader, "samples_at", gone)
                    for key in tries:
                        tried = len(attempts)
                        await pilot.press(key)
                        if key == "h":
                            await until(pilot, lambda: len(attempts) > tried)  # noqa: B023
                        await until(pilot, lambda: is_read(app))
                        while len(attempts) == tried:  # a key starts no read beside another
                            await pilot.press(key)
                            await until(pilot, lambda: is_read(app))
                    assert len(reports) == times
                await press(pilot, "up", "be as at")
                await pilot.press("escape")
            # steps and prompts
            await pilot.press("h")
            await until(pilot, lambda: is_loaded(app) and "3 of 3" in lines_of(app)[0])
            for key, step in (("left", 2), ("home", 1), ("left", 1), ("right", 2), ("end", 3)):
                await pilot.press(key)
                assert shows(app, f" step {step}  ")
            for keys, prompt in ((["down"], PROMPTS[1]), (["up", "up"], PROMPTS[0])):
                await pilot.press(*keys)
                assert shows(app, f"› {prompt}")
            # a new sample is shown at the end only
            append(run, *samples(4))
            await until(pilot, lambda: shows(app, " step 4  "))
            await pilot.press("left", "enter")
            assert isinstance(app.screen, TrainScreen)
            assert app.screen.cursor_step == 3
            # the cursor of the charts, whose samples the snapshot no longer holds
            await pilot.press("home")
            assert app.screen.cursor_step == 1
            await until(pilot, lambda: shows(app, "be as at 1"))
            await pilot.press("h")
            await until(pilot, lambda: is_loaded(app) and shows(app, " step 1  "))
            await press(pilot, "right", "be as at 2")
            # a resumed run begins again; its text is raw
            raw = Facts(max_steps=STEPS, corpus_layout="raw")
            record(run, raw, *samples(2, 2, "\n    return 1\n\nx"))
            await press(pilot, "end", " step 2  ", "return 1")
            rows = [line[4:-1].rstrip() for line in lines_of(app)]
            at = rows.index(PROMPTS[0])
            assert rows[at + 1 : at + 4] == ["    return 1", "", "x"]
            await press(pilot, "escape escape", "@2")


async def test_history_equals_its_snapshot() -> None:
    """New words are bright, but only the beginning is dim if most are new; a prompt has no sample
    at this step, and earlier texts fill the room."""
    texts = {
        1_000: (" the of and", " the end of all wars is near us", " work"),
        2_000: (" be the of peace", " the end was a thing that I said " * 9),
        3_000: (" work for peace",),
    }
    run = trained("plain-otter")
    for step, found in texts.items():
        rows = zip(PROMPTS, found, strict=False)
        append(run, *(SampleRow(1, step, *row, 3, 7, step) for row in rows))
    async with at_home(pane="train") as (app, pilot):
        await pilot.press("h")
        await until(pilot, lambda: is_loaded(app))
        await press(pilot, "left", "2 of 3", "@1,000")
        await assert_pictures(pilot, Path(__file__).parent / "snapshots", "train-history-earlier")
        for size in ((60, 15), (140, 20)):  # every prompt has a line
            await pilot.resize_terminal(*size)
            for _ in PROMPTS:
                await press(pilot, "down", *PROMPTS)


def test_new_words_are_bold_without_colour() -> None:
    (new, *_) = continuation(" be the", " the", no_colour=True).spans
    assert (new.start, "bold" in str(new.style)) == (0, True)
