"""The frame: line 1, the panes' keys, and a terminal that is too small."""

from __future__ import annotations

from time import localtime, strftime, time

import pytest
from textual.events import Resize
from textual.geometry import Size

from rnnlm_tui.schema.presets import ELMAN
from rnnlm_tui.schema.summary import JobFigures
from rnnlm_tui.tui.actions import PANES
from rnnlm_tui.tui.views.status import corpus_name, run_identity
from tests.homes import three_runs_at_home
from tests.tui.fakes import make_snapshot
from tests.tui.panes.seeing import press
from tests.tui.support import at_home, lines_of, text_of, until


def test_identity_drops_one_detail_after_another_then_the_name_and_never_the_status() -> None:
    def identity(width: int) -> str:
        return run_identity(snapshot.summary.run, snapshot, width).plain

    snapshot = make_snapshot()
    bare = "plain-otter ● running 1 min 39 s"
    shown = [identity(width) for width in range(140, len(bare) - 1, -1)]
    assert all(text.startswith(bare) for text in shown)
    assert list(dict.fromkeys(text.removeprefix(bare).strip() for text in shown)) == [
        "Elman 2×192 tied embedding · 543,488 params · BPE 2,048 · presidents · demo · seed 42",
        "Elman 2×192 tied · 543,488 params · presidents",
        "Elman 2×192 tied · 543,488 params",
        "Elman 2×192 tied · 543k",
        "Elman 2×192 · 543k",
        "Elman 2×192",
        "",
    ]
    job = JobFigures(id="12", state="PENDING", reason="Priority", start="2026-12-01T14:05:00")
    snapshot = make_snapshot("draft", job=job)
    waits = "plain-otter ○ draft, job 12 waits in Slurm"
    assert identity(140).startswith(f"{waits}: Priority, expected to start 2026-12-01 14:05")
    assert identity(60).startswith(waits)
    snapshot = make_snapshot("finished", updated=time() - 7_200, active_seconds=99.0)
    bare = "plain-otter ✓ finished 1 min 39 s"
    assert all(identity(width).startswith(bare) for width in range(140, len(bare) - 1, -1))
    assert strftime(", ended %H:%M", localtime(time() - 7_200)) in identity(140)
    assert identity(len(bare)) == bare
    assert identity(len(bare) - 3).endswith("… ✓ finished 1 min 39 s")
    snapshot = make_snapshot("failed", updated=1e9)
    assert strftime(", ended %Y-%m-%d", localtime(1e9)) in identity(140)
    snapshot = make_snapshot(config=ELMAN, preset="elman")
    assert "elman · elman" not in identity(140)
    assert identity(140).endswith("elman · seed 42"), "a preset named like the corpus, once"
    for source in ("novel.txt", "/home/someone/novel.txt", "/home/someone/novel.txt/"):
        assert corpus_name(source) == "novel.txt"


async def test_keys_and_clicks_go_to_panes_and_a_notice_ends_with_the_next_key() -> None:
    async with at_home(None) as (app, pilot):
        for key in "23":
            await press(pilot, key, "No run open.")
            assert app.current_mode == "runs"
        await pilot.press("1")  # there enter edits the field
        await until(pilot, lambda: app.current_mode == "config")
        for key in "23":
            await press(pilot, key, "No run open: ^l lists the runs")
        await pilot.press("r")
        with three_runs_at_home():
            app.watcher.poll_now()
            await until(pilot, lambda: "3 runs" in text_of(app))
            await pilot.press("enter")
            await until(pilot, lambda: app.current_mode == "train" and app.snapshot is not None)
            shown = {"1": "frozen", "3": "checkpoint", "2": "Tokens/s", "r": "3 runs"}
            for key in "132r2":
                await press(pilot, key, shown[key])
            await press(pilot, "plus", "smoothing 0.99")
            await pilot.press("tab")
            await until(pilot, lambda: lines_of(app)[-1].endswith("q Leave"))
            await pilot.click("#panes", offset=(22, 0))
            await until(pilot, lambda: app.current_mode == "checkpoints")
            for key in "24":
                await pilot.press(key)
                app.screen.set_focus(None)
                await press(pilot, "ctrl+c", "press ^q to leave: runs keep training")
            assert app.return_value is None


FORMER, NOW = Size(70, 20), Size(80, 24)


@pytest.mark.usefixtures("three_at_home")
async def test_below_60_by_15_one_sentence_is_shown_and_no_size_raises_anything() -> None:
    async with at_home(size=(59, 15)) as (app, pilot):
        for width, height in ((59, 15), (60, 14), (30, 5)):
            await pilot.resize_terminal(width, height)
            needs = f"rnnlm-tui needs 60×15 cells, this terminal has {width}×{height}."
            await until(pilot, lambda: " ".join(text_of(app).split()) == needs)  # noqa: B023
        app.marks = app.marks.toggled("plain-otter").toggled("brisk-heron")
        for pane in PANES:
            app.open_pane(pane)
            for size in ((60, 15), (1, 1), (109, 19), (110, 20), (200, 60), NOW):
                await pilot.resize_terminal(*size)
            await until(pilot, lambda: len(lines_of(app)) == 24 and "rnnlm-tui" in lines_of(app)[0])
            assert app.current_mode == pane

        # a former size that arrives late is ignored, and a pending one delivered
        app.open_pane("train")
        app.post_message(Resize(FORMER, FORMER))
        await pilot.pause()
        assert app.size == app.screen.size == NOW
        for keys in ("", "q", "question_mark", "ctrl+p"):  # a pane, a question, keys, the palette
            if keys:
                await pilot.press(keys)
                await until(pilot, lambda: len(app.screen_stack) > 1)
            app.screen.post_message(Resize(FORMER, FORMER))
            await pilot.pause()
            assert app.screen.size == NOW
            if keys:
                await pilot.press("escape")
                await until(pilot, lambda: len(app.screen_stack) == 1)
        assert app._driver is not None
        app._driver._size = (FORMER.width, FORMER.height)
        app._size, app._resize_event = FORMER, Resize(FORMER, FORMER)
        app._resize_timer = app.set_timer(3_600, app._check_resize)
        app._update_clock()
        await until(pilot, lambda: app.screen.size == FORMER)
        assert app._resize_timer is None
