"""The frame: line 1, the panes' keys, a terminal that is too small, and names from outside."""

from __future__ import annotations

from itertools import product
from time import time

import pytest
from textual.content import Content

from rnnlm_tui.schema.presets import DEMO, ELMAN
from rnnlm_tui.schema.status import RunStatus
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.tui.actions import PANES, PROMPT_MODES
from rnnlm_tui.tui.views.status import corpus_name, run_identity
from rnnlm_tui.tui.widgets.frame import ModeLine
from tests.homes import three_runs_at_home
from tests.tui.fakes import make_machine, make_snapshot, make_summary
from tests.tui.pictures import cells_on
from tests.tui.support import at_home, lines_of, show_run, text_of, until

HOSTILE = "\x1b]0;owned\x07\x1b[31mred\u202egnp.exe[@click=app.quit]x[/]"


def test_identity_drops_corpus_params_tied_size_and_cell_in_that_order() -> None:
    snapshot = make_snapshot()
    shown = [run_identity("plain-otter", snapshot, width).plain for width in range(140, 20, -1)]
    lines = list(dict.fromkeys(text.partition("39 s")[2].strip() for text in shown))
    assert lines[:6] == [
        "Elman 2×192 tied embedding · 543,488 params · BPE 2,048 · presidents · demo · seed 42",
        "Elman 2×192 tied · 543,488 params · presidents",
        "Elman 2×192 tied · 543,488 params",
        "Elman 2×192 tied · 543k",
        "Elman 2×192 · 543k",
        "Elman 2×192",
    ]
    assert all(
        text.startswith("plain-otter ● running 1 min 39 s") for text in shown if len(text) > 31
    )


def test_identity_keeps_the_status_whatever_the_name() -> None:
    text = run_identity("a" * 64, make_snapshot(name="a" * 64), 50)
    assert text.cell_length <= 50
    assert "● running 1 min 39 s" in text.plain


def test_a_corpus_is_named_by_the_last_part_of_its_path() -> None:
    for source, shown in (
        ("presidents", "presidents"),
        ("/home/someone/texts/novel.txt", "novel.txt"),
        ("/home/someone/texts/", "texts"),
    ):
        assert corpus_name(source) == shown


def test_a_preset_named_like_the_corpus_is_shown_once() -> None:
    snapshot = make_snapshot(config=ELMAN, preset="elman")
    assert "elman · elman" not in run_identity("plain-otter", snapshot, 140).plain
    assert run_identity("plain-otter", snapshot, 140).plain.endswith("elman · seed 42")


def test_details_are_dropped_before_the_name_is_cut() -> None:
    snapshot = make_snapshot(
        "finished", 4_754, name="solid-wombat", updated=time() - 7_200, active_seconds=99.0
    )
    bare = "solid-wombat ✓ finished 1 min 39 s"
    assert all(
        run_identity("solid-wombat", snapshot, width).plain.startswith(bare)
        for width in range(140, len(bare) - 1, -1)
    )
    assert run_identity("solid-wombat", snapshot, len(bare)).plain == bare
    assert run_identity("solid-wombat", snapshot, len(bare) - 3).plain.endswith(
        "✓ finished 1 min 39 s"
    )


async def test_keys_and_clicks_go_to_panes_and_a_notice_ends_with_the_next_key() -> None:
    async with at_home(None) as (app, pilot):
        for key in "23":
            await pilot.press(key)
            await until(pilot, lambda: "No run open." in lines_of(app)[-1])
            assert app.current_mode == "runs"
        await pilot.press("1")  # there enter edits the field
        await until(pilot, lambda: app.current_mode == "config")
        for key in "23":
            await pilot.press(key)
            await until(pilot, lambda: "No run open: ^l lists the runs" in lines_of(app)[-1])
        await pilot.press("r")
        with three_runs_at_home():
            app.watcher.poll_now()
            await until(pilot, lambda: "3 runs" in text_of(app))
            await pilot.press("enter")
            await until(pilot, lambda: app.current_mode == "train" and app.snapshot is not None)
            shown = {"1": "frozen", "3": "checkpoint", "2": "Tokens/s", "r": "3 runs"}
            for key in "132r2":
                await pilot.press(key)
                await until(pilot, lambda key=key: shown[key] in text_of(app))  # type: ignore[misc]
            await pilot.press("plus")
            await until(pilot, lambda: "smoothing 0.99" in lines_of(app)[-1])
            await pilot.press("tab")
            await until(pilot, lambda: lines_of(app)[-1].endswith("q Leave"))
            await pilot.click("#panes", offset=(22, 0))
            await until(pilot, lambda: app.current_mode == "checkpoints")


@pytest.mark.usefixtures("three_at_home")
async def test_below_60_by_15_one_sentence_is_shown_and_no_size_raises_anything() -> None:
    async with at_home(size=(59, 15)) as (app, pilot):
        for width, height in ((59, 15), (60, 14), (30, 5)):
            await pilot.resize_terminal(width, height)
            needs = f"rnnlm-tui needs 60×15 cells, this terminal has {width}×{height}."
            await until(pilot, lambda needs=needs: " ".join(text_of(app).split()) == needs)  # type: ignore[misc]
        app.set_marks(app.marks.toggled("plain-otter").toggled("brisk-heron"))
        for pane in PANES:
            app.open_pane(pane)
            for size in ((10, 3), (200, 60), (60, 15), (120, 40), (1, 1), (300, 90), (80, 15)):
                await pilot.resize_terminal(*size)
            await pilot.resize_terminal(80, 24)
            await until(pilot, lambda: len(lines_of(app)) == 24 and "rnnlm-tui" in lines_of(app)[0])
            assert app.current_mode == pane


async def test_notices_name_the_users_keys() -> None:
    keymap = 'new_run = "Z"\nshow_runs = ["r", "f12"]\nstart_draft = "f9"\npause = "P"\n'
    async with at_home(None, keymap=keymap) as (app, pilot):
        await pilot.press("2")
        await until(pilot, lambda: "Press enter to start the demo, Z to conf" in lines_of(app)[-1])
        await pilot.press("Z", "2")
        await until(pilot, lambda: "No run open: F12 lists the runs." in lines_of(app)[-1])
        show_run(app, make_snapshot("crashed"))
        await pilot.press("r", "2", "s")
        await until(pilot, lambda: "the run has crashed: P resumes it" in lines_of(app)[-1])
        app.report("{key:pause} and {key:no_action}")
        await until(pilot, lambda: "P and {key:no_action}" in lines_of(app)[-1])


async def test_text_from_outside_never_acts_on_the_terminal() -> None:
    config = parse_config(merge(DEMO, {"corpus.source": HOSTILE.replace("/", "")}))
    snapshot = make_snapshot(
        "failed", config=config, message=HOSTILE, corpus=HOSTILE, preset=HOSTILE
    )
    async with at_home(None, "train") as (app, pilot):
        show_run(app, snapshot)
        app.summaries = (snapshot.summary, make_summary(HOSTILE, "finished", 4_754))
        for pane, size in product(("runs", "train"), ((80, 24), (120, 40))):
            app.switch_mode(pane)
            await pilot.resize_terminal(*size)
            await until(pilot, lambda: "red" in text_of(app))
            assert not set(text_of(app)) & {"\x1b", "\x07", "\u202e"}
            assert not any(
                segment.style.meta.get("@click")
                for strip in app.screen._compositor.render_strips()
                for segment in strip
                if segment.style
            )


@pytest.mark.usefixtures("three_at_home")
async def test_without_colour_every_pane_paints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    async with at_home(size=(120, 40)) as (app, pilot):
        for pane in PANES:
            app.switch_mode(pane)
            await until(pilot, lambda pane=pane: app.ready_pane and pane == app.ready_pane.PANE)  # type: ignore[misc]
            assert "rnnlm-tui" in lines_of(app)[0]


async def test_line_1_keeps_name_status_duration_and_device_at_every_size() -> None:
    async with at_home(None, "train") as (app, pilot):
        app.machine = make_machine()
        statuses: list[RunStatus] = ["finished", "crashed", "stopped", "running", "stalled"]
        for status, name in product(statuses, ("solid-wombat", "quick-brown-wombat")):
            show_run(
                app,
                make_snapshot(status, name=name, updated=time() - 7_200, active_seconds=43_500.0),
            )
            for size in ((60, 15), (80, 24), (120, 40)):
                await pilot.resize_terminal(*size)
                first = lines_of(app)[0]
                lasted = "no step for" if status == "stalled" else "12 h 05 min"
                assert all(word in first for word in (name, status, lasted, "L4")), first
                assert "…" not in first


@pytest.mark.usefixtures("three_at_home")
async def test_the_modes_of_the_prompt_share_a_line_and_the_title_of_one_pane() -> None:
    async with at_home(pane="prompt", size=(120, 40)) as (app, pilot):
        await until(pilot, lambda: "mode  Sample  Inspect  Compare   F2 next" in text_of(app))
        shown = []
        for _ in PROMPT_MODES:
            screen = app.pane_screen
            assert screen is not None
            title = next(cell for cell in cells_on(app)[1] if cell[0] == "4")
            assert title[1] is not None
            assert title[1].underline
            shown.append(screen.PANE)
            await pilot.press("f2")
            await until(pilot, lambda before=screen: app.pane_screen is not before)  # type: ignore[misc]
        assert shown == list(PROMPT_MODES)
        assert app.pane_screen is not None
        assert app.pane_screen.PANE == "prompt"


async def test_the_line_of_modes_shows_as_many_keys_as_fit() -> None:
    keys = [("F3", "continue"), ("F4", "edit"), ("F6", "undo"), ("F9", "a long description")]
    async with at_home(None, "prompt") as (app, pilot):
        screen = app.pane_screen
        assert screen is not None
        line = screen.query_one(ModeLine)
        line.show(None, keys)
        await pilot.pause()
        assert line.plain.endswith("F2 next     F3 continue   F4 edit   F6 undo")
        line.show(Content("checkpoint  best 3,700"), keys)
        assert line.plain.startswith("  checkpoint  best 3,700   ")
        assert line.plain.endswith("F2 next")
        line.show(Content("x" * 60), keys, problem="top-p must be at most 1")
        assert line.plain == "  ✗ top-p must be at most 1"
