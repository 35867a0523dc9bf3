"""The frame: line 1, the panes' keys, a terminal that is too small, and names from outside."""

from __future__ import annotations

from functools import partial
from time import time

import pytest
from textual.content import Content

from rnnlm_tui.schema.presets import DEMO, ELMAN
from rnnlm_tui.schema.status import RunStatus
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.tui.actions import PANES, PROMPT_MODES, Pane
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.views.status import corpus_name, run_identity
from rnnlm_tui.tui.widgets.frame import ModeLine
from tests.tui.fakes import make_snapshot, make_summary
from tests.tui.pictures import cells_on
from tests.tui.support import lines_of, running_app, text_of, until, with_runs

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


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("presidents", "presidents"),
        ("/home/someone/texts/novel.txt", "novel.txt"),
        ("/home/someone/texts/", "texts"),
    ],
)
def test_a_corpus_is_named_by_the_last_part_of_its_path(source: str, shown: str) -> None:
    assert corpus_name(source) == shown


def shows(app: RnnlmApp, pane: str) -> bool:
    return app.current_mode == pane


async def test_digits_and_r_go_to_the_panes() -> None:
    async with running_app() as (app, pilot):
        for key, pane in (
            ("1", "config"),
            ("3", "checkpoints"),
            ("2", "train"),
            ("r", "runs"),
            ("2", "train"),
        ):
            await pilot.press(key)
            await until(pilot, partial(shows, app, pane))


@pytest.mark.parametrize("pane", ["train", "checkpoints"])
async def test_panes_of_a_run_report_that_none_is_open(pane: Pane) -> None:
    services = with_runs()
    async with running_app(services, run=None) as (app, pilot):
        await pilot.press({"train": "2", "checkpoints": "3"}[pane])
        await until(pilot, lambda: "No run open." in lines_of(app)[-1])
        assert app.current_mode == "runs"
        await pilot.press("1")  # there enter edits the field
        await until(pilot, lambda: app.current_mode == "config")
        await pilot.press({"train": "2", "checkpoints": "3"}[pane])
        await until(pilot, lambda: "No run open: ^l lists the runs" in lines_of(app)[-1])


async def test_a_click_on_the_panes_line_goes_there() -> None:
    async with running_app() as (app, pilot):
        await pilot.click("#panes", offset=(22, 0))
        await until(pilot, lambda: app.current_mode == "checkpoints")


@pytest.mark.parametrize("size", [(59, 15), (60, 14), (20, 5), (1, 1)])
async def test_below_60_by_15_one_sentence_is_shown(size: tuple[int, int]) -> None:
    async with running_app(size=size) as (app, pilot):
        if size[0] > 20:
            assert (
                " ".join(text_of(app).split())
                == f"rnnlm-tui needs 60×15 cells, this terminal has {size[0]}×{size[1]}."
            )
        await pilot.resize_terminal(80, 24)
        await until(pilot, lambda: "plain-otter" in text_of(app))


@pytest.mark.parametrize("pane", PANES)
async def test_a_resize_storm_raises_nothing(pane: Pane) -> None:
    async with running_app(pane=pane) as (app, pilot):
        for width, height in (
            (80, 24),
            (10, 3),
            (200, 60),
            (60, 15),
            (61, 15),
            (120, 40),
            (1, 1),
            (300, 90),
            (59, 60),
            (80, 15),
            (120, 20),
            (80, 24),
        ):
            await pilot.resize_terminal(width, height)
        await until(pilot, lambda: len(lines_of(app)) == 24 and "rnnlm-tui" in lines_of(app)[0])


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
@pytest.mark.parametrize("pane", ["runs", "train"])
async def test_text_from_outside_never_acts_on_the_terminal(
    pane: Pane, size: tuple[int, int]
) -> None:
    config = parse_config(merge(DEMO, {"corpus.source": HOSTILE.replace("/", "")}))
    snapshot = make_snapshot(
        "failed", config=config, message=HOSTILE, corpus=HOSTILE, preset=HOSTILE
    )
    services = with_runs(snapshot)
    services.runs.append(make_summary(HOSTILE, "finished", 4_754))
    async with running_app(services, pane=pane, size=size) as (app, _):
        text = text_of(app)
        assert "\x1b" not in text
        assert "\x07" not in text
        assert "\u202e" not in text
        assert all(
            not segment.style.meta.get("@click")
            for strip in app.screen._compositor.render_strips()
            for segment in strip
            if segment.style
        )


async def test_without_colour_the_app_paints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    for pane in PANES:
        async with running_app(pane=pane, size=(120, 40)) as (app, _):
            assert "rnnlm-tui" in lines_of(app)[0]


async def test_a_notice_ends_with_the_next_key() -> None:
    async with running_app(pane="train") as (app, pilot):
        await pilot.press("plus")
        await until(pilot, lambda: "smoothing 0.99" in lines_of(app)[-1])
        await pilot.press("tab")
        await until(pilot, lambda: "Pause" in lines_of(app)[-1])


def test_a_preset_named_like_the_corpus_is_shown_once() -> None:
    snapshot = make_snapshot(config=ELMAN, preset="elman")
    assert "elman · elman" not in run_identity("plain-otter", snapshot, 140).plain
    assert run_identity("plain-otter", snapshot, 140).plain.endswith("elman · seed 42")


@pytest.mark.parametrize(
    "size", [(60, 15), (80, 24), (120, 40)], ids=lambda size: f"{size[0]}x{size[1]}"
)
@pytest.mark.parametrize("status", ["finished", "crashed", "stopped", "running", "stalled"])
@pytest.mark.parametrize("name", ["solid-wombat", "quick-brown-wombat"])
async def test_line_1_keeps_name_status_duration_and_device_at_every_size(
    name: str, status: RunStatus, size: tuple[int, int]
) -> None:
    snapshot = make_snapshot(status, name=name, updated=time() - 7_200, active_seconds=43_500.0)
    async with running_app(with_runs(snapshot), run=name, size=size) as (app, _pilot):
        first = lines_of(app)[0]
        assert name in first
        assert status in first
        assert ("no step for" if status == "stalled" else "12 h 05 min") in first
        assert "L4" in first
        assert "…" not in first


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


async def test_the_modes_of_the_prompt_share_a_line_and_the_title_of_one_pane() -> None:
    async with running_app(pane="prompt", size=(120, 40)) as (app, pilot):
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
    async with running_app(pane="prompt", size=(80, 24)) as (app, pilot):
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
