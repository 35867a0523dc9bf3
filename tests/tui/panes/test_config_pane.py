"""The config pane: editing a draft by keys alone, and a run's frozen config."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from textual.events import Key, Paste
from textual.pilot import Pilot

from rnnlm_tui.contract.config import SECTIONS, RunConfig
from rnnlm_tui.contract.estimates import parameter_count
from rnnlm_tui.contract.presets import DEMO, PRESETS
from rnnlm_tui.contract.validation import merge, parse_config
from rnnlm_tui.errors import CorpusError, DeviceError, InputError, WorkerError
from rnnlm_tui.store.run_directory import RunDirectory
from rnnlm_tui.store.runs import list_runs
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.screens.choose import ChooseScreen, TextsScreen
from rnnlm_tui.tui.screens.config import ConfigScreen
from rnnlm_tui.tui.services import Services
from rnnlm_tui.tui.widgets import frame
from rnnlm_tui.tui.widgets.form_fields import FORM_FIELDS, fields_of, number_text
from rnnlm_tui.tui.widgets.form_row import FieldRow
from tests.tui.panes.fakes import FakeServices, make_snapshot
from tests.tui.panes.seeing import opened, screen_text, until, until_shown


def pane(app: RnnlmApp) -> ConfigScreen:
    screen = app.pane_screen
    assert isinstance(screen, ConfigScreen)
    return screen


def focused(app: RnnlmApp) -> str:
    row = pane(app).form.current
    return row.field.path if row is not None else ""


async def go(pilot: Pilot[int], path: str) -> None:
    """To a field, as `g` and the arrows do."""
    assert isinstance(pilot.app, RnnlmApp)
    form = pane(pilot.app).form
    form.go_to(path)
    await until(pilot, lambda: form.current is not None and form.current.field.path == path)


async def write(pilot: Pilot[int], path: str, text: str) -> None:
    """Edit a field and keep what was written."""
    await go(pilot, path)
    await pilot.press("enter", *text, "enter")
    assert isinstance(pilot.app, RnnlmApp)
    row = pane(pilot.app).form.row(path)
    await until(pilot, lambda: not row.editing)


async def test_every_field_can_be_reached_with_the_arrow_alone() -> None:
    async with opened(FakeServices(), "config", run=None) as (app, pilot):
        visited = [focused(app)]

        def visit(row: FieldRow | None) -> None:
            visited.extend([row.field.path] if row is not None else [])

        app.screen.watch(app.screen, "focused", visit, init=False)
        for _ in FORM_FIELDS[1:]:
            app.post_message(Key("down", None))
        await until(pilot, lambda: focused(app) == FORM_FIELDS[-1].path)
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


async def test_a_changed_field_is_marked_and_says_what_it_was_until_it_is_reset() -> None:
    async with opened(FakeServices(), "config", run=None) as (app, pilot):
        await write(pilot, "optimizer.learning_rate", "5.5e-3")
        await until_shown(pilot, "● peak rate", f"was {number_text(DEMO.optimizer.learning_rate)}", "● 1 changed from preset demo")
        assert app.draft is not None
        assert app.draft.optimizer.learning_rate == 5.5e-3
        await pilot.press("u")
        await until(pilot, lambda: "was " not in screen_text(app))
        assert app.draft == DEMO


async def test_a_problem_shows_beside_its_field_while_it_is_written_and_is_counted() -> None:
    async with opened(FakeServices(), "config", run=None) as (app, pilot):
        await go(pilot, "model.dropout")
        await pilot.press("enter", *"1.5")
        await until_shown(pilot, "✗ must be below 1", "✗ 1 problem", "is 1.5, must be below 1")
        assert app.draft is not None
        assert app.draft.model.dropout == DEMO.model.dropout
        await pilot.press("escape")
        await until(pilot, lambda: "✗ 1 problem" not in screen_text(app))


async def test_all_problems_are_counted_and_g_goes_from_one_to_the_next() -> None:
    async with opened(FakeServices(), "config", run=None) as (app, pilot):
        await write(pilot, "sampling.temperature", "0")
        await write(pilot, "model.hidden_size", "wide")
        await until_shown(pilot, "✗ 2 problems", "must be a whole number")
        await pilot.press("g")
        await until_shown(pilot, "must be above 0")
        assert pane(app).form.section == "sampling"
        await pilot.press("g")
        await until(pilot, lambda: pane(app).form.section == "model")


async def test_start_is_blocked_by_a_problem_and_goes_to_it() -> None:
    services = FakeServices()
    async with opened(services, "config", run=None) as (app, pilot):
        await write(pilot, "training.batch_size", "0")
        await go(pilot, "corpus.source")
        await pilot.press("f5")
        await until_shown(pilot, "1 problem to mend first")
        assert pane(app).form.section == "training"
        assert not [call for call in services.calls if call[0] == "start"]


async def test_a_warm_up_longer_than_the_whole_run_blocks_the_start() -> None:
    services = FakeServices()
    async with opened(services, "config", run=None) as (_app, pilot):
        await write(pilot, "schedule.warmup_steps", "6000")
        await until_shown(pilot, "✗ must be below 4,752 steps")
        await pilot.press("f5")
        await until_shown(pilot, "1 problem to mend first")


async def test_f5_starts_the_draft_under_the_name_it_shows() -> None:
    services = FakeServices(make_snapshot("preparing"))
    async with opened(services, "config", run=None) as (app, pilot):
        await until_shown(pilot, "calm-badger ○ draft, not started")
        await write(pilot, "training.seed", "43")
        await pilot.press("f5")
        await until(pilot, lambda: app.current_mode == "train")
        ((_, config, name),) = [call for call in services.calls if call[0] == "start"]
        assert name == "calm-badger"
        assert isinstance(config, RunConfig)
        assert config.training.seed == 43


async def test_a_start_that_fails_keeps_the_draft() -> None:
    services = FakeServices()
    services.start_failure = WorkerError("the worker ended at its start", hint="its log: x")
    async with opened(services, "config", run=None) as (app, pilot):
        await write(pilot, "training.seed", "43")
        await pilot.press("f5")
        await until_shown(pilot, "the worker ended at its start")
        assert app.draft is not None
        assert app.draft.training.seed == 43
        assert app.current_mode == "config"


async def test_a_text_that_is_not_there_is_said_at_its_field_and_no_run_is_made(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    class RealStart(FakeServices):
        def start(self, config: RunConfig, name: str | None) -> RunDirectory:
            return Services.start(self, config, name)

    async with opened(RealStart(), "config", run=None) as (app, pilot):
        await until_shown(pilot, "calm-badger")
        await write(pilot, "corpus.source", "./gone.txt")
        await go(pilot, "training.epochs")
        await pilot.press("f5")
        await until_shown(pilot, "gone.txt does not exist", "✗ not started: source says why")
        assert app.current_mode == "config"
        assert focused(app) == "corpus.source"
        assert list_runs() == []
        assert not (home / "runs").exists() or not list((home / "runs").iterdir())


async def test_a_preset_whose_text_has_to_be_brought_says_so_before_it_is_started(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    class RealCheck(FakeServices):
        def missing_source(self, config: RunConfig) -> InputError | None:
            return Services.missing_source(self, config)

    async with opened(RealCheck(), "config", run=None) as (app, pilot):
        await until_shown(pilot, "calm-badger")
        await pilot.press("P", "end", "enter")
        await until(pilot, lambda: app.draft == PRESETS["ptb-large"])
        await until_shown(pilot, "no Penn Treebank here", "✗ 1 problem")
        await go(pilot, "corpus.source")
        await until_shown(pilot, "ptb.train.txt, ptb.valid.txt and")
        (tmp_path / "ptb").mkdir()
        await write(pilot, "corpus.source", "./ptb")
        await until(pilot, lambda: "no Penn Treebank here" not in screen_text(app))


async def test_a_refused_start_can_be_tried_again_and_is_forgotten_with_the_next_change() -> None:
    services = FakeServices(make_snapshot("preparing"))
    services.start_failure = DeviceError('no device "cuda" on this machine', hint="training.device=auto takes the best there is")
    async with opened(services, "config", run=None) as (app, pilot):
        await until_shown(pilot, "calm-badger")
        await write(pilot, "training.device", "cuda")
        await pilot.press("f5")
        await until_shown(pilot, 'no device "cuda" on this machine')
        assert focused(app) == "training.device"
        await write(pilot, "training.device", "auto")
        await until(pilot, lambda: 'no device "cuda"' not in screen_text(app))
        await write(pilot, "training.device", "cuda")
        services.start_failure = None
        await pilot.press("f5")
        await until(pilot, lambda: app.current_mode == "train")


async def test_a_draft_can_be_saved_as_a_run_that_is_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame, "NOTICE_SECONDS", 0.2)  # the footer comes back after it
    services = FakeServices(make_snapshot("draft"))
    async with opened(services, "config", run=None) as (app, pilot):
        await until_shown(pilot, "calm-badger")
        await pilot.press("ctrl+s")
        await until_shown(pilot, "plain-otter ○ draft", "frozen", "F5 Start")
        assert [call[0] for call in services.calls] == ["create"]
        await pilot.press("f5")
        await until_shown(pilot, "✓ plain-otter started")
        assert ("start_saved", "plain-otter") in services.calls
        assert app.current_mode == "train"


async def test_a_saved_draft_that_cannot_start_says_why_and_never_that_it_goes_on() -> None:
    services = FakeServices(make_snapshot("draft"))
    services.start_failure = CorpusError("no such file: /texts/speeches.txt")
    async with opened(services, "config") as (app, pilot):
        await pilot.press("f5")
        await until_shown(pilot, "no such file: /texts/speeches.txt")
        assert "goes on" not in screen_text(app)
        assert app.current_mode == "config"


async def test_enter_switches_a_switch_and_arrows_turn_a_choice() -> None:
    async with opened(FakeServices(), "config", run=None) as (app, pilot):
        await go(pilot, "model.tie_weights")
        await pilot.press("enter")
        await until(pilot, lambda: app.draft is not None and not app.draft.model.tie_weights)
        await go(pilot, "tokenizer.kind")
        await pilot.press("left")
        await until(pilot, lambda: app.draft is not None and app.draft.tokenizer.kind == "word")


async def test_a_choice_opens_a_small_list_and_escape_leaves_it() -> None:
    async with opened(FakeServices(), "config", run=None) as (app, pilot):
        await go(pilot, "schedule.kind")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, ChooseScreen))
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is app.pane_screen)
        assert app.draft == DEMO
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, ChooseScreen))
        await pilot.press("up", "enter")
        await until(pilot, lambda: app.draft is not None and app.draft.schedule.kind == "constant")
        await until_shown(pilot, "cosine only")


async def test_prompts_are_edited_one_a_line() -> None:
    async with opened(FakeServices(), "config", run=None) as (app, pilot):
        await go(pilot, "evaluation.prompts")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, TextsScreen))
        await pilot.press("enter", *"God [b]", "ctrl+s")
        await until(pilot, lambda: app.draft is not None and app.draft.evaluation.prompts == (*DEMO.evaluation.prompts, "God [b]"))
        await until_shown(pilot, "4 texts", "was 3 texts")


async def test_an_optional_field_can_be_set_and_emptied_again() -> None:
    async with opened(FakeServices(), "config", run=None) as (app, pilot):
        await write(pilot, "training.max_steps", "700")
        await until_shown(pilot, "was by epochs", "max steps decides")
        await go(pilot, "training.max_steps")
        await pilot.press("enter", "backspace", "enter")
        await until(pilot, lambda: app.draft == DEMO)


async def test_a_preset_replaces_the_draft_and_says_what_is_dropped() -> None:
    async with opened(FakeServices(), "config", run=None) as (app, pilot):
        await write(pilot, "training.seed", "43")
        await pilot.press("P")
        await until_shown(pilot, "1 change will be dropped", "known floor")
        await pilot.press("down", "enter")
        await until(pilot, lambda: app.draft == PRESETS["elman"])
        await until_shown(pilot, "preset elman")


async def test_the_parameter_count_follows_what_is_written() -> None:
    async with opened(FakeServices(), "config", run=None) as (app, pilot):
        before, deeper = (f"{parameter_count(DEMO.model.model_copy(update=change), DEMO.tokenizer.vocab_size).total:,}" for change in ({}, {"num_layers": 9}))
        await until_shown(pilot, before)
        await write(pilot, "model.num_layers", "9")
        await until_shown(pilot, deeper)
        await write(pilot, "model.num_layers", "0")
        await until_shown(pilot, "✗ 1 problem", before)
        assert app.is_running


async def test_figures_that_only_the_corpus_tells_are_not_invented() -> None:
    services = FakeServices()
    services.steps = None
    async with opened(services, "config", run=None) as (_app, pilot):
        await until_shown(pilot, "known once the corpus is built")


@pytest.mark.parametrize("size", [(80, 24), (160, 48)])
async def test_what_does_not_fit_into_memory_is_said_with_the_batch_that_should(monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]) -> None:
    services = FakeServices()
    figures = replace(
        services.estimate(DEMO),
        memory_bytes=30 * 2**30,
        memory_measured=True,
        memory_free=20 * 2**30,
        fitting_batch=12,
        calibrated_by="probe",
        calibrated_run=None,
    )
    monkeypatch.setattr(services, "estimate", lambda _config: figures)
    async with opened(services, "config", run=None, size=size) as (_app, pilot):
        await until_shown(pilot, "30 of 23 GiB measured")
        await until_shown(pilot, "batch 12 should fit")
        await until_shown(pilot, "as a probe measured here")


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


async def test_a_draft_waits_while_other_panes_show() -> None:
    async with opened(FakeServices(make_snapshot()), "config") as (app, pilot):
        await until_shown(pilot, "frozen")
        await pilot.press("n")
        await until_shown(pilot, "draft, not started")
        await write(pilot, "training.seed", "7")
        await pilot.press("2")
        await until(pilot, lambda: app.current_mode == "train")
        await pilot.press("1")
        await until_shown(pilot, "draft, not started", "● 1 changed from plain-otter")


async def test_hostile_values_are_shown_and_do_nothing() -> None:
    async with opened(FakeServices(), "config", run=None) as (app, pilot):
        await go(pilot, "corpus.source")
        form = pane(app).form
        form.set_value("corpus.source", "\x1b]52;c;aGk=\x07[@click=app.quit]x[/]‮")
        await pilot.press("down")
        await until_shown(pilot, "was presidents")
        text = screen_text(app)
        assert "\x1b" not in text
        assert "‮" not in text
        assert app.is_running


async def test_what_is_pasted_into_a_field_has_no_control_characters() -> None:
    async with opened(FakeServices(), "config", run=None) as (app, pilot):
        await go(pilot, "corpus.source")
        await pilot.press("enter")
        row = pane(app).form.row("corpus.source")
        await until(pilot, lambda: row.editing and app.focused is not row)
        assert app.focused is not None
        app.focused.post_message(Paste("/data/\x1b]0;x\x07a.txt\x9b"))
        await pilot.press("enter")
        await until(pilot, lambda: app.draft is not None and app.draft.corpus.source == "/data/]0;xa.txt")


async def test_keys_that_come_in_one_go_act_in_their_order() -> None:
    async with opened(FakeServices(), "config", run=None) as (app, pilot):
        keys = [*["tab"] * 5, "down", "enter", *"9000", "backspace", "enter", "down", "down", "enter", *"64", "tab"]
        for key in keys:
            app.post_message(Key(key, key if len(key) == 1 else None))
        await until(pilot, lambda: app.draft is not None and app.draft.training.max_steps == 900 and app.draft.training.batch_size == 64)
        await until(pilot, lambda: focused(app) == "evaluation.every")


async def test_resizing_between_narrow_and_wide_keeps_field_and_text() -> None:
    async with opened(FakeServices(), "config", run=None) as (app, pilot):
        await go(pilot, "optimizer.eps")
        await pilot.press("enter", *"1e-6")
        for size in ((120, 40), (60, 15), (80, 24), (200, 60), (80, 24)):
            await pilot.resize_terminal(*size)
            await pilot.pause()
        await pilot.press("enter")
        await until(pilot, lambda: app.draft is not None and app.draft.optimizer.eps == 1e-6)
        row = pane(app).form.current
        assert row is not None
        assert row.field.path == "optimizer.eps"


async def test_a_section_keeps_a_gap_between_its_mark_and_its_name_and_the_preset_stands_once() -> None:
    async with opened(FakeServices(), "config", run=None) as (app, pilot):
        await until_shown(pilot, "calm-badger")
        assert screen_text(app).count("preset demo") == 1
        await go(pilot, "checkpoint.keep_last")
        await pilot.press("enter", "ctrl+u", *"0", "enter")
        await until_shown(pilot, "✗› Checkpoint")
