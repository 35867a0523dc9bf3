"""The config pane: going through a draft, its marks and figures, and a run's frozen config."""

from __future__ import annotations

from dataclasses import replace

import pytest
from textual.events import Key

from rnnlm_tui.schema.config import SECTIONS, RunConfig
from rnnlm_tui.schema.estimates import parameter_count
from rnnlm_tui.schema.presets import DEMO, PRESET_SUMMARIES, PRESETS
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.tui.views.form import FORM_FIELDS, fields_of, number_text
from rnnlm_tui.tui.widgets.form_row import FieldRow, FoldRow
from tests.tui.fakes import FakeServices
from tests.tui.panes.fakes import make_snapshot
from tests.tui.panes.filling import edited, focused, go, pane, write
from tests.tui.panes.seeing import opened, screen_text, until_shown
from tests.tui.support import until


async def test_every_field_can_be_reached_with_the_arrow_alone() -> None:
    async with opened(FakeServices(), "config", run=None) as (app, pilot):
        form = pane(app).form
        for section in SECTIONS:  # folded fields are shown first
            if form.query_one(f"#fold-{section}").display:
                form._unfolded.add(section)
        form.show(form.draft, ())
        visited = [focused(app)]

        def visit(row: FieldRow | FoldRow | None) -> None:
            visited.extend([row.field.path] if isinstance(row, FieldRow) else [])

        app.screen.watch(app.screen, "focused", visit, init=False)
        for _ in [*FORM_FIELDS[1:], *form._unfolded]:
            app.post_message(Key("down", None))
        await until(pilot, lambda: len(visited) >= len(FORM_FIELDS))
        assert visited == [field.path for field in FORM_FIELDS]


async def test_tab_goes_through_the_sections_and_around() -> None:
    async with opened(FakeServices(), "config", run=None) as (app, pilot):
        for section in (*SECTIONS[1:], SECTIONS[0]):
            first = fields_of(section)[0].path
            await pilot.press("tab")
            await until(pilot, lambda path=first: focused(app) == path)  # type: ignore[misc]
        await pilot.press("shift+tab")
        await until(pilot, lambda: pane(app).form.section == SECTIONS[-1])


async def test_a_changed_field_shows_its_former_value_until_reset() -> None:
    async with opened(FakeServices(), "config", run=None) as (app, pilot):
        await write(pilot, "optimizer.learning_rate", "5.5e-3")
        await until_shown(
            pilot,
            "● peak rate",
            f"was {number_text(DEMO.optimizer.learning_rate)}",
            "● 1 changed from preset demo",
        )
        assert edited(app).optimizer.learning_rate == 5.5e-3
        await pilot.press("u")
        await until(pilot, lambda: "was " not in screen_text(app))
        assert edited(app) == DEMO


async def test_a_problem_is_shown_below_its_field_while_typing_and_counted() -> None:
    async with opened(FakeServices(), "config", run=None) as (app, pilot):
        await go(pilot, "model.dropout")
        await pilot.press("enter", *"1.5")
        await until_shown(pilot, "✗ 1 problem", "✗ is 1.5, must be at most 0.99")
        assert edited(app).model.dropout == DEMO.model.dropout
        await pilot.press("escape")
        await until(pilot, lambda: "✗ 1 problem" not in screen_text(app))


async def test_all_problems_are_counted_and_g_goes_to_the_next() -> None:
    async with opened(FakeServices(), "config", run=None) as (app, pilot):
        await write(pilot, "sampling.temperature", "0.001")
        await write(pilot, "model.hidden_size", "wide")
        await until_shown(pilot, "✗ 2 problems", "must be a whole number")
        await pilot.press("g")
        await until_shown(pilot, "must be at least 0.01")
        assert pane(app).form.section == "sampling"
        await pilot.press("g")
        await until(pilot, lambda: pane(app).form.section == "model")


async def test_a_preset_replaces_changes_and_undo_brings_them_back() -> None:
    async with opened(FakeServices(), "config", run=None) as (app, pilot):
        await write(pilot, "training.seed", "43")
        await pilot.press("P")
        await until_shown(pilot, *(f"{name}  " for name in PRESETS), *PRESET_SUMMARIES.values())
        await pilot.press(*["down"] * list(PRESETS).index("elman"), "enter")
        await until_shown(pilot, "preset elman: F6 brings back 1 change")
        assert edited(app) == PRESETS["elman"]
        await pilot.press("f6")
        await until(pilot, lambda: edited(app).training.seed == 43)
        await pilot.press("shift+f6")
        await until(pilot, lambda: edited(app) == PRESETS["elman"])


async def test_a_preset_replaces_an_unchanged_draft_at_once() -> None:
    async with opened(FakeServices(), "config", run=None) as (app, pilot):
        await pilot.press("P", *["down"] * list(PRESETS).index("elman"), "enter")
        await until(pilot, lambda: edited(app) == PRESETS["elman"])


async def test_the_parameter_count_follows_typing() -> None:
    async with opened(FakeServices(), "config", run=None) as (app, pilot):
        before, deeper = (
            f"{parameter_count(model, DEMO.tokenizer.vocab_size).total:,}"
            for model in (DEMO.model, DEMO.model.model_copy(update={"num_layers": 9}))
        )
        await until_shown(pilot, before)
        await write(pilot, "model.num_layers", "9")
        await until_shown(pilot, deeper)
        await write(pilot, "model.num_layers", "0")
        await until_shown(pilot, "✗ 1 problem", before)
        assert app.is_running


async def test_figures_that_need_the_corpus_are_not_invented() -> None:
    services = FakeServices()
    services.steps = None
    async with opened(services, "config", run=None) as (_app, pilot):
        await until_shown(pilot, "known once the corpus is built")


@pytest.mark.parametrize("size", [(80, 24), (160, 48)])
async def test_too_little_memory_is_reported_with_a_batch_size_that_fits(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    services = FakeServices()
    figures = replace(
        services.estimate(DEMO),
        memory_bytes=30 * 2**30,
        memory_measured=True,
        memory_free=20 * 2**30,
        largest_fitting_batch=12,
        calibrated_by="probe",
        calibrated_run=None,
    )
    monkeypatch.setattr(services, "estimate", lambda _config: figures)
    async with opened(services, "config", run=None, size=size) as (_app, pilot):
        await until_shown(pilot, "30 of 23 GiB measured")
        await until_shown(pilot, "batch_size = 12 should fit")
        await until_shown(pilot, "based on a probe")


async def test_a_runs_config_is_frozen_and_n_makes_a_new_one_from_it() -> None:
    config = parse_config(merge(RunConfig(), {"training.seed": 99}))
    async with opened(FakeServices(make_snapshot(config=config)), "config") as (app, pilot):
        await until_shown(pilot, "frozen", "plain-otter ● running")
        await go(pilot, "training.seed")
        await pilot.press("enter")
        await until_shown(pilot, "a run's config never changes")
        await pilot.press("u", "left", "f5")
        assert not pane(app).form.draft.changes
        await pilot.press("n")
        await until_shown(pilot, "calm-badger ○ draft, not started")
        await write(pilot, "training.seed", "100")
        await until_shown(pilot, "1 changed from plain-otter", "was 99")


async def test_a_draft_is_kept_while_other_panes_are_shown() -> None:
    async with opened(FakeServices(make_snapshot()), "config") as (app, pilot):
        await until_shown(pilot, "frozen")
        await pilot.press("n")
        await until_shown(pilot, "draft, not started")
        await write(pilot, "training.seed", "7")
        await pilot.press("2")
        await until(pilot, lambda: app.current_mode == "train")
        await pilot.press("1")
        await until_shown(pilot, "draft, not started", "● 1 changed from plain-otter")


async def test_a_section_has_a_gap_after_its_mark_and_the_preset_is_shown_once() -> None:
    async with opened(FakeServices(), "config", run=None) as (app, pilot):
        await until_shown(pilot, "calm-badger")
        assert screen_text(app).count("preset demo") == 1
        await go(pilot, "checkpoint.keep_last")
        await pilot.press("enter", "ctrl+u", *"0", "enter")
        await until_shown(pilot, "✗› Checkpoint")
