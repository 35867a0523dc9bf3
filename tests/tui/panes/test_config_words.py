"""The config pane's messages: problems, keys, outdated estimates, and fields without effect."""

from __future__ import annotations

import pytest
from textual.pilot import Pilot

from rnnlm_tui.schema.presets import DEMO, PRESETS
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.palette import DIM
from rnnlm_tui.tui.views.form import FORM_FIELDS, idle_fields
from rnnlm_tui.tui.widgets.form_row import FoldRow
from tests.tui.fakes import FakeServices
from tests.tui.panes.fakes import make_snapshot
from tests.tui.panes.filling import edited, focused, go, pane, write
from tests.tui.panes.seeing import opened, screen_text, until_shown
from tests.tui.support import until


def footer(app: RnnlmApp) -> str:
    return screen_text(app).splitlines()[-1]


async def test_a_second_escape_keeps_the_focus_on_the_field() -> None:
    async with opened(FakeServices(), "config", run=None) as (app, pilot):
        await go(pilot, "training.seed")
        await pilot.press("enter", "9", "escape", "escape", "escape")
        assert focused(app) == "training.seed"
        await pilot.press("enter", "7", "enter")
        await until(pilot, lambda: edited(app).training.seed == 7)


async def test_the_footer_shows_how_to_end_an_edit() -> None:
    async with opened(FakeServices(), "config", run=None) as (app, pilot):
        await go(pilot, "training.seed")
        await until(pilot, lambda: "enter Edit" in footer(app))
        await pilot.press("enter")
        await until(pilot, lambda: "enter Keep" in footer(app) and "esc Cancel" in footer(app))
        assert "Start" not in footer(app)
        await pilot.press("escape")
        await until(pilot, lambda: "enter Edit" in footer(app) and "esc Cancel" not in footer(app))


async def test_figures_are_dimmed_while_a_problem_blocks_them() -> None:
    async with opened(FakeServices(), "config", run=None, size=(120, 40)) as (app, pilot):
        await until_shown(pilot, "543,104", " live ")
        assert DIM not in colour_of(app, "543,104")
        await write(pilot, "model.hidden_size", "wide")
        await until_shown(pilot, "543,104", "out of date")
        assert DIM in colour_of(app, "543,104")
        await pilot.press("u")
        await until_shown(pilot, "543,104", " live ")


def colour_of(app: RnnlmApp, text: str) -> str:
    """Return the style of the cells that show a text."""
    for strip in app.screen._compositor.render_strips():
        for segment in strip:
            if text in segment.text:
                return str(segment.style)
    raise AssertionError(text)


@pytest.mark.parametrize(
    ("algorithm", "range_"), [("adamw", "above 0, at most 1"), ("sgd", "above 0, at most 1,000")]
)
async def test_the_learning_rates_range_depends_on_the_optimizer(
    algorithm: str, range_: str
) -> None:
    async with opened(FakeServices(), "config", run=None) as (app, pilot):
        pane(app).form.set_value("optimizer.algorithm", algorithm)
        await go(pilot, "optimizer.learning_rate")
        await until_shown(pilot, f"{range_}\n"[:-1])
        assert ("at most 1,000" in screen_text(app)) == (algorithm == "sgd")


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_a_problem_is_shown_once_and_in_full(size: tuple[int, int]) -> None:
    async with opened(FakeServices(), "config", run=None, size=size) as (app, pilot):
        await write(pilot, "optimizer.learning_rate", "3,5")
        await until_shown(pilot, "✗ is '3,5', must be a number; write 3.5: use a decimal")
        assert form_text(app).count("must be a number") == 1
        await pilot.press("down")
        await until(pilot, lambda: "write 3.5" not in screen_text(app))
        assert form_text(app).count("✗ must be a number") == 1
        pane(app).form.set_value("corpus.url", "news.example")
        await go(pilot, "corpus.source")
        await until(pilot, lambda: "printable ASCII" in " ".join(form_text(app).split()))
        assert (
            "✗ must start with http:// or https:// and contain only printable ASCII without spaces"
            in " ".join(form_text(app).split())
        )


def form_text(app: RnnlmApp) -> str:
    """Return the form's cells, without the other panels."""
    region = pane(app).form.region
    lines = screen_text(app).splitlines()[region.y : region.bottom]
    return "\n".join(line[region.x : region.right] for line in lines)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("s", "s is a key of Train: 2, then s: sample now"),
        ("C", "C is a key of Checkpoints"),
        ("d", "d is a key of Runs: r, then d"),
    ],
)
async def test_a_letter_of_another_screen_is_explained(key: str, words: str) -> None:
    for run in (None, make_snapshot()):
        async with opened(
            FakeServices(*([run] if run is not None else [])),
            "config",
            **({} if run is not None else {"run": None}),  # type: ignore[arg-type]
        ) as (
            app,
            pilot,
        ):
            await pilot.press(key)
            await until(pilot, lambda app=app: words in footer(app))  # type: ignore[misc]


async def test_fields_without_effect_are_folded_and_enter_shows_them() -> None:
    async with opened(FakeServices(), "config", run=None, size=(120, 40)) as (app, pilot):
        form = pane(app).form
        idle = [path for path in idle_fields(DEMO) if path.startswith("corpus.")]
        await until_shown(pilot, f"{len(idle)} more for news")
        assert not any(form.row(path).display for path in idle)
        await to_the_fold(pilot)
        await pilot.press("enter")
        await until(pilot, lambda: all(form.row(path).display for path in idle))
        await pilot.press("enter")
        await until(pilot, lambda: not any(form.row(path).display for path in idle))
        await go(pilot, "corpus.source")
        pane(app).form.set_value("corpus.source", "elman")
        await until(pilot, lambda: form.row("corpus.sentences").display)


async def to_the_fold(pilot: Pilot[int]) -> None:
    for _ in range(20):
        if isinstance(pilot.app.focused, FoldRow):
            return
        await pilot.press("down")
    raise AssertionError("there is no fold below")


async def test_a_folded_field_is_shown_while_changed_invalid_or_focused() -> None:
    async with opened(FakeServices(), "config", run=None, size=(120, 40)) as (app, pilot):
        form = pane(app).form
        await write(pilot, "corpus.sentences", "5")
        await go(pilot, "corpus.source")
        await until_shown(pilot, "✗ must be at least 100")
        await pilot.press("g")
        assert focused(app) == "corpus.sentences"
        await pilot.press("u")
        await go(pilot, "corpus.source")
        await until(pilot, lambda: not form.row("corpus.sentences").display)


@pytest.mark.parametrize("name", PRESETS)
async def test_every_section_has_its_name_and_a_visible_field(name: str) -> None:
    async with opened(FakeServices(), "config", run=None, size=(120, 60)) as (app, pilot):
        form = pane(app).form
        form.draft = form.draft.__class__(PRESETS[name], f"preset {name}")
        form.show(form.draft, ())
        await pilot.pause()
        for section in {field.section for field in FORM_FIELDS}:
            rows = [form.row(field.path) for field in FORM_FIELDS if field.section == section]
            assert next(row.state.heads for row in rows if row.display)
            assert sum(row.state.heads for row in rows) == 1
