"""A draft is kept as a run that was never started; it is saved, started, queued and forked."""

from __future__ import annotations

from pathlib import Path
from threading import Event

import pytest
from textual.pilot import Pilot

from rnnlm_tui.client.control import launch
from rnnlm_tui.client.monitor import RunMonitor
from rnnlm_tui.client.queue import add_run
from rnnlm_tui.client.start import parent_at
from rnnlm_tui.errors import InputError, RunStateError, WorkerError
from rnnlm_tui.schema.metrics import EventRow
from rnnlm_tui.schema.presets import DEMO
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.store.lineage import STATE_FILES, read_parent
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.runs import create_run, find_run, list_runs, trashed_names
from rnnlm_tui.store.state import load_state
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.screens.config_files import KeptDraft, read_draft, write_draft
from rnnlm_tui.tui.settings import last_session
from rnnlm_tui.tui.views.form import Draft
from tests.homes import queue_in_use, tensor_file, trained, with_checkpoints
from tests.tui.panes.filling import edit, edited, focused, go, pane, write
from tests.tui.panes.seeing import press, screen_text, until_shown
from tests.tui.support import DEADLINE, at_home, until
from tests.unit.client.logs import record

CHANGES = {"training.seed": 43, "model.dropout": 1.5}


def drafts() -> dict[str, dict[str, object]]:
    """Return the changes of all drafts on disk."""
    return {run.name: dict(read_draft(run).changes) for run in list_runs()}


async def named(app: RnnlmApp, pilot: Pilot[int]) -> str:
    """Wait for a new draft; return the name that was suggested for its run."""
    await until_shown(pilot, "draft, not started")
    await until(pilot, lambda: pane(app).run_name != "")
    return pane(app).run_name


async def change(app: RnnlmApp, pilot: Pilot[int]) -> RunDirectory:
    """Type a valid and an invalid value into a new draft; return the run that keeps it."""
    name = await named(app, pilot)
    await write(pilot, "training.seed", "43")
    await write(pilot, "model.dropout", "1.5")
    await until(pilot, lambda: drafts().get(name) == CHANGES and app.run_directory is not None)
    return find_run(name)


async def reopen(app: RnnlmApp, pilot: Pilot[int], run: RunDirectory) -> None:
    """Open a draft and wait until it can be edited."""
    app.open_run(run, "config")
    await until_shown(pilot, f"{run.name} ○ draft, not started")
    await until(pilot, lambda: not pane(app).locked and pane(app).run_name == run.name)


async def test_a_changed_draft_is_on_disk_at_once_and_is_listed_deleted_and_edited_again() -> None:
    create_run(DEMO, "other")
    async with at_home(None, "config") as (app, pilot):
        run = await change(app, pilot)  # from here on a kill loses nothing
        for refused in (launch, add_run):
            with pytest.raises(InputError, match=r"has problems: .*dropout: is 1\.5"):
                refused(run)
        settings: dict[str, object] = {}

        def is_saved() -> bool:
            settings.update(load_state())
            return last_session(settings) == (run, "config")

        await until(pilot, is_saved)
        await press(pilot, "r", f"›   {run.name[:9]}", "    other")
        await press(pilot, "d", "moved to the trash")
        await press(pilot, "u", f"{run.name} restored")
        assert drafts() == {run.name: CHANGES, "other": {}}
        await reopen(app, pilot, find_run("other"))
        assert not pane(app).form.draft.changes
    again = RnnlmApp(*last_session(settings), settings=settings)
    async with again.run_test(size=(80, 24), notifications=True) as pilot:
        await until_shown(pilot, f"{run.name} ○ draft, not started", "✗ 1 problem")
        assert pane(again).form.draft.changes == CHANGES
        await write(pilot, "model.dropout", "0.25")
        await until(pilot, lambda: run.read_config().model.dropout == 0.25)
        await until(pilot, lambda: not run.draft_path.exists())
        assert {found.name for found in list_runs()} == {run.name, "other"}


async def test_a_draft_without_changes_is_not_kept_and_one_without_changes_any_more_goes() -> None:
    async with at_home(None, "config") as (app, pilot):
        await until_shown(pilot, "draft, not started", "Sections")
        await press(pilot, "r", "no runs yet")
        assert not list_runs()
        await pilot.press("1")
        editor = await edit(pilot, "training.seed")
        await pilot.press("7", "escape")
        await until(pilot, lambda: not editor.is_attached)
        run = await change(app, pilot)
        await pilot.press("f6")
        await until(pilot, lambda: list(drafts().values()) == [{"training.seed": 43}])
        await pilot.press("f6")
        await until(pilot, lambda: not list_runs() and app.run_directory is None)
        assert len(trashed_names()) == 1, "what was typed and cancelled was never kept"
        assert "draft, not started" in screen_text(app)
        await pilot.press("shift+f6")
        await until(pilot, lambda: list(drafts().values()) == [{"training.seed": 43}])
        await until(pilot, lambda: app.run_directory is not None)
        await pilot.press("ctrl+l")  # a draft that was left may be pinned or queued: it stays
        await until(pilot, lambda: app.current_mode == "runs")
        deleted = trashed_names()
        await press(pilot, "1", f"{run.name} ○ draft, not started")
        await pilot.press("f6")
        await until(pilot, lambda: drafts() == {run.name: {}})
        assert trashed_names() == deleted


async def test_the_run_of_a_draft_is_opened_when_no_later_change_is_being_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other, write_now = create_run(DEMO, "other"), KeptDraft.write
    answers: list[Event] = []

    def write_and_wait(kept: KeptDraft) -> RunDirectory | None:
        written, answer = write_now(kept), Event()
        answers.append(answer)
        answer.wait(DEADLINE)
        return written

    monkeypatch.setattr(KeptDraft, "write", write_and_wait)
    async with at_home(None, "config") as (app, pilot):
        await named(app, pilot)

        async def begin(*seeds: int) -> None:
            for seed in seeds:
                count = len(answers)
                pane(app).form.set_values({"training.seed": seed})
                await until(pilot, lambda: len(answers) > count)  # noqa: B023

        async def end(change: int) -> RunDirectory | None:
            kept = pane(app)._kept
            assert kept is not None
            left = kept.writes
            answers[change].set()
            await until(pilot, lambda: kept.writes < left)
            return app.run_directory

        await begin(43, 42)
        assert await end(0) is None, "it is about to be deleted"
        assert await end(1) is None
        assert list_runs() == [other]
        await begin(44)
        before = await end(2)
        await begin(42, 45)
        await end(3)
        assert await end(4) is not before, "a new folder of this name: it is opened again"
        assert app.run_directory == before
        await begin(42)
        app.open_run(other)
        answers[5].set()
        await until(pilot, lambda: list_runs() == [other] and not pane(app).locked)
        assert app.run_directory == other


async def test_what_is_being_typed_is_kept_in_its_own_draft_under_a_free_name() -> None:
    async with at_home(None, "config") as (app, pilot):
        other = create_run(DEMO, await named(app, pilot))  # takes the suggested name
        await edit(pilot, "training.batch_size")
        await pilot.press("4", "8", "ctrl+l")
        await until(pilot, lambda: {"training.batch_size": 48} in drafts().values())
        [run] = [run for run in list_runs() if run != other]
        await reopen(app, pilot, other)
        assert not pane(app).form.editing
        await edit(pilot, "training.batch_size")
        await pilot.press("4", "9")
        await reopen(app, pilot, run)  # without leaving the pane
        await until(pilot, lambda: drafts()[other.name] == {"training.batch_size": 49})
        assert not pane(app).form.editing
        assert focused(app) == "training.batch_size"
        await pilot.press("enter", "enter")
        assert drafts()[run.name] == {"training.batch_size": 48}
        await pane(app)._read_draft(other)  # an answer that comes late changes nothing
        assert pane(app).form.draft.changes == {"training.batch_size": 48}
        await edit(pilot, "training.seed")
        await pilot.press("5", "0", "ctrl+q")
        kept = {"training.batch_size": 48, "training.seed": 50}
        await until(pilot, lambda: drafts()[run.name] == kept)


def test_a_draft_is_read_again_by_what_follows_it_and_frozen_once_it_was_started() -> None:
    run = create_run(DEMO, "plain-otter")
    monitor = RunMonitor(run)
    assert monitor.snapshot().config.training.seed == 42
    write_draft(run, Draft(DEMO, "preset demo", {"training.seed": 43}))
    assert monitor.snapshot().config.training.seed == 43
    monitor.close()
    record(run, EventRow(1, 0, "started", "", 1.0))
    with pytest.raises(RunStateError, match="plain-otter was started"):
        write_draft(run, Draft(DEMO, "preset demo", {"training.seed": 44}))
    assert run.read_config().training.seed == 43


async def test_a_draft_is_saved_refused_with_its_reason_queued_or_started_under_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("A line of a text.\n" * 200)
    failures = [WorkerError("the worker failed to start", hint="its log: x")]
    started: list[RunDirectory] = []

    def launch(run: RunDirectory) -> None:
        if failures:
            raise failures.pop()
        started.append(run)

    monkeypatch.setattr("rnnlm_tui.client.start.resume", launch)
    with queue_in_use():
        async with at_home(None, "config") as (app, pilot):
            await until(pilot, lambda: pane(app).run_name != "")
            name = pane(app).run_name
            await until_shown(pilot, f"{name} ○ draft, not started")
            await press(pilot, "ctrl+s", f"{name} saved, F5 starts it")
            [draft] = list_runs()
            assert draft.name == name
            await until(pilot, lambda: app.run_directory == draft)

            await write(pilot, "training.batch_size", "0")
            for key in ("f5", "Q"):
                await go(pilot, "corpus.source")
                await press(pilot, key, "Fix 1 problem before starting")
                assert focused(app) == "training.batch_size"
            await pilot.press("u")
            await write(pilot, "corpus.source", "./gone.txt")
            await go(pilot, "training.epochs")
            await until_shown(pilot, "✗  Corpus")
            await press(pilot, "f5", "gone.txt not found", "✗ not started: see source")
            assert focused(app) == "corpus.source"

            await write(pilot, "corpus.source", "./text.txt")
            await write(pilot, "training.device", "cuda:77")
            for key in ("f5", "Q"):
                await go(pilot, "training.epochs")
                await press(pilot, key, "see device", 'no device "cuda:77"')
                assert focused(app) == "training.device"
            await write(pilot, "training.device", "auto")
            await until(pilot, lambda: 'no device "cuda:77"' not in screen_text(app))
            await write(pilot, "training.seed", "43")
            await press(pilot, "f5", "the worker failed to start")
            assert edited(app).training.seed == 43
            assert app.current_mode == "config"
            await press(pilot, "f5", f"✓ {name} started")
            assert app.current_mode == "train"
            assert started == [draft]
            assert draft.read_config().training.seed == 43

            await app.new_draft_from(name)
            await until(pilot, lambda: pane(app).run_name not in ("", name))
            await press(pilot, "Q", "waits in the queue, place 1")
            assert app.current_mode == "config"
            await press(pilot, "Q", "is in the queue already")


CONFIG = parse_config(merge(DEMO, {"optimizer.learning_rate": 0.001}))


def parents() -> list[tuple[str, str]]:
    """Return address and optimizer of the parents of all runs, the newest first."""
    found = map(read_parent, list_runs())
    return [(parent.address, parent.optimizer) for parent in found if parent is not None]


async def test_a_fork_is_named_on_other_panes_and_kept_however_it_is_left() -> None:
    run = with_checkpoints(trained("plain-otter", config=CONFIG), {3: 4.1})
    for name in STATE_FILES:
        (run.path / "checkpoints" / "step-000000003" / name).write_bytes(tensor_file({}))
    parent = parent_at("plain-otter@3", "keep")
    async with at_home("plain-otter", "checkpoints") as (app, pilot):
        await app.new_draft_from("plain-otter")
        await until_shown(pilot, "draft, not started", "Sections")
        words = "Draft from plain-otter, not started"
        await press(pilot, "2", f"{words}: esc 1 shows it, F5 there starts it.")
        for key in ("4", "f2"):
            await press(pilot, key, f"{words}.", "esc 1 shows it, F5 there starts it.")
        await pilot.press("escape")
        for count, keys in enumerate((("P", "enter"), ("ctrl+q",))):
            app.open_run(run, "checkpoints")
            await app.new_draft_from("plain-otter", parent)
            await until_shown(pilot, "draft, fork of plain-otter@3")
            assert pane(app).shown == Draft(CONFIG, "plain-otter", parent=parent)
            await press(pilot, "v", "No field differs from plain-otter@3")
            assert len(list_runs()) == count + 1
            await pilot.press(*keys)
            await until(pilot, lambda count=count: len(parents()) == count + 1)  # type: ignore[misc]
            assert parents()[0] == ("plain-otter@3", "keep")
            if "P" in keys:  # a preset starts from no weights
                await until_shown(pilot, "draft, not started", "Sections")
