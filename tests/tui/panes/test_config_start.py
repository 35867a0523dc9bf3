"""Starting and saving a draft: what blocks it, what this machine refuses, and nothing is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from rnnlm_tui.client.monitor import summarize
from rnnlm_tui.client.start import check_source
from rnnlm_tui.errors import CorpusError, DeviceError, WorkerError
from rnnlm_tui.schema.config import CorpusConfig
from rnnlm_tui.schema.presets import PRESETS
from rnnlm_tui.store.runs import list_runs
from rnnlm_tui.tui.app import RnnlmApp
from tests.fakes.llama_tokenizer import write_tokenizer
from tests.tui.fakes import FakeServices
from tests.tui.panes.fakes import make_snapshot
from tests.tui.panes.filling import edited, focused, go, pane, write
from tests.tui.panes.seeing import opened, screen_text, until_shown
from tests.tui.support import until


async def test_start_is_blocked_by_a_problem_and_goes_to_it() -> None:
    services = FakeServices()
    async with opened(services, "config", run=None) as (app, pilot):
        await write(pilot, "training.batch_size", "0")
        await go(pilot, "corpus.source")
        await pilot.press("f5")
        await until_shown(pilot, "Fix 1 problem before starting")
        assert pane(app).form.section == "training"
        assert not services.started


async def test_a_warm_up_longer_than_the_whole_run_blocks_the_start() -> None:
    services = FakeServices()
    async with opened(services, "config", run=None) as (_app, pilot):
        await write(pilot, "schedule.warmup_steps", "6000")
        await until_shown(pilot, "must be below the run's 4,752 steps")
        await pilot.press("f5")
        await until_shown(pilot, "Fix 1 problem before starting")


async def test_f5_starts_the_draft_under_the_name_it_shows() -> None:
    services = FakeServices()
    async with opened(services, "config", run=None) as (app, pilot):
        await until_shown(pilot, "calm-badger ○ draft, not started")
        await write(pilot, "training.seed", "43")
        await pilot.press("f5")
        await until_shown(pilot, "✓ calm-badger started")
        assert app.current_mode == "train"
        ((config, name),) = services.started
        assert name == "calm-badger"
        assert config.training.seed == 43


async def test_a_failed_start_keeps_the_draft() -> None:
    services = FakeServices()
    services.refuse = WorkerError("the worker failed to start", hint="its log: x")
    async with opened(services, "config", run=None) as (app, pilot):
        await write(pilot, "training.seed", "43")
        await pilot.press("f5")
        await until_shown(pilot, "the worker failed to start")
        assert edited(app).training.seed == 43
        assert app.current_mode == "config"


async def test_a_missing_text_is_reported_at_its_field_and_starts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    app = RnnlmApp(None, "config")
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await until_shown(pilot, "draft, not started")
        await write(pilot, "corpus.source", "./gone.txt")
        await go(pilot, "training.epochs")
        await pilot.press("f5")
        await until_shown(pilot, "gone.txt not found", "✗ not started: see source")
        assert app.current_mode == "config"
        assert focused(app) == "corpus.source"
        (draft,) = list_runs()
        assert summarize(draft).status == "draft"


async def test_a_preset_with_a_missing_text_is_reported_before_the_start(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    class RealCheck(FakeServices):
        def check_source(self, corpus: CorpusConfig) -> None:
            check_source(corpus)

    async with opened(RealCheck(), "config", run=None) as (app, pilot):
        await until_shown(pilot, "calm-badger")
        await pilot.press("P", *"ptb-large", "enter")
        await until(pilot, lambda: edited(app) == PRESETS["ptb-large"])
        await until_shown(pilot, "Penn Treebank not found", "✗ 1 problem")
        await go(pilot, "corpus.source")
        await until_shown(pilot, "ptb.train.txt, ptb.valid.txt and")
        (tmp_path / "ptb").mkdir()
        await write(pilot, "corpus.source", "./ptb")
        await until(pilot, lambda: "Penn Treebank not found" not in screen_text(app))


async def test_a_failed_start_can_be_retried_and_is_forgotten_on_a_change() -> None:
    services = FakeServices(make_snapshot("preparing"))
    services.refuse = DeviceError(
        'no device "cuda" on this machine',
        hint="training.device=auto selects the best available device",
    )
    async with opened(services, "config", run=None) as (app, pilot):
        await until_shown(pilot, "calm-badger")
        await write(pilot, "training.device", "cuda")
        await pilot.press("f5")
        await until_shown(pilot, 'no device "cuda" on this machine')
        assert focused(app) == "training.device"
        await write(pilot, "training.device", "auto")
        await until(pilot, lambda: 'no device "cuda"' not in screen_text(app))
        await write(pilot, "training.device", "cuda")
        services.refuse = None
        await pilot.press("f5")
        await until(pilot, lambda: app.current_mode == "train")


async def test_an_unchanged_draft_can_be_saved_as_a_run_that_is_not_started() -> None:
    services = FakeServices()
    async with opened(services, "config", run=None) as (app, pilot):
        await until_shown(pilot, "calm-badger")
        await pilot.press("ctrl+s")
        await until_shown(pilot, "calm-badger ○ draft, not started", "saved, F5 starts it")
        assert services.calls == [("create", "calm-badger")]
        await pilot.press("f5")
        await until_shown(pilot, "✓ calm-badger started")
        assert ("start_saved", "calm-badger") in services.calls
        assert app.current_mode == "train"


async def test_a_saved_draft_that_cannot_start_shows_why() -> None:
    services = FakeServices(make_snapshot("draft"))
    services.refuse = CorpusError("no such file: /texts/speeches.txt")
    async with opened(services, "config") as (app, pilot):
        await until_shown(pilot, "draft, not started")
        await pilot.press("f5")
        await until_shown(pilot, "no such file: /texts/speeches.txt")
        assert "goes on" not in screen_text(app)
        assert app.current_mode == "config"


async def test_a_pretrained_tokenizer_sets_the_size_unless_the_user_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    size = write_tokenizer(
        tmp_path / "pieces", ["the cat sat on the mat and the dog ran"] * 20, 300
    )
    async with opened(FakeServices(), "config", run=None) as (app, pilot):

        def vocabulary() -> object:
            shown = pane(app).shown
            assert shown is not None
            return shown.value("tokenizer.vocab_size")

        await go(pilot, "tokenizer.kind")
        await pilot.press("right")
        await write(pilot, "tokenizer.name", "pieces")
        await until(pilot, lambda: vocabulary() == size)
        await until(pilot, lambda: not pane(app)._check.problems)
        await go(pilot, "tokenizer.kind")
        await pilot.press("left")
        await until(pilot, lambda: vocabulary() == 2_048)
        await pilot.press("right")
        await until(pilot, lambda: vocabulary() == size)
        await write(pilot, "tokenizer.vocab_size", "500")
        await until(
            pilot,
            lambda: any(
                "tokenizer.vocab_size is 500" in problem.message
                for problem in pane(app)._check.problems
            ),
        )
        assert vocabulary() == 500
