"""The trash: deleting, undoing, restoring and purging."""

from __future__ import annotations

from dataclasses import replace

import pytest
from textual.pilot import Pilot

from rnnlm_tui.errors import StorageError
from rnnlm_tui.schema.formatting import disk
from rnnlm_tui.store.labels import change_labels
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.runs import find_run
from rnnlm_tui.store.trash import Trashed, delete_run, list_trash
from rnnlm_tui.tui.actions import ACTIONS, on_pane
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.screens.overlay import ConfirmScreen
from rnnlm_tui.tui.screens.runs import RunsScreen
from rnnlm_tui.tui.screens.trash import TrashScreen
from rnnlm_tui.tui.views.compare import Marks
from tests.homes import trained
from tests.tui.fakes import make_snapshot
from tests.tui.support import at_home, lines_of, running_app, shown, text_of, until, with_runs

pytestmark = pytest.mark.usefixtures("three_at_home")


async def test_d_moves_the_run_to_the_trash_and_u_restores_it() -> None:
    async with at_home() as (app, pilot):
        await pilot.press("down", "d")
        await until(
            pilot, lambda: "brisk-heron moved to the trash, u undoes it" in lines_of(app)[-1]
        )
        await until(
            pilot,
            lambda: (
                len(shown(app)) == 2
                and app.run_directory is not None
                and app.run_directory.name != "brisk-heron"
            ),
        )
        await pilot.press("d")
        await until(pilot, lambda: len(shown(app)) == 1)
        screen = app.screen
        assert isinstance(screen, RunsScreen)
        await screen.action_undo_delete()
        await screen.action_undo_delete()  # before the first is done
        await until(pilot, lambda: len(shown(app)) == 3)
        assert list_trash() == []
        await pilot.press("u")
        await until(pilot, lambda: "nothing to undo: T shows the trash" in lines_of(app)[-1])


async def test_restoring_asks_for_a_name_if_it_is_taken() -> None:
    async with at_home() as (app, pilot):
        await pilot.press("down", "d")
        await until(pilot, lambda: len(shown(app)) == 2)
        trained("brisk-heron")
        app.watcher.poll_now()
        await until(pilot, lambda: len(shown(app)) == 3)
        await pilot.press("u")
        await until(pilot, lambda: "brisk-heron is the name of another run now" in text_of(app))
        await pilot.press("enter")
        await until(pilot, lambda: "›  brisk-heron-2" in shown(app))


async def in_the_trash(app: RnnlmApp, pilot: Pilot[int]) -> None:
    await pilot.press("down", "d")
    await until(
        pilot,
        lambda: (
            len(shown(app)) == 2
            and app.run_directory is not None
            and app.run_directory.name != "brisk-heron"
        ),
    )
    await pilot.press("down", "d")
    await until(pilot, lambda: len(shown(app)) == 1)
    await pilot.press("T")
    await until(pilot, lambda: isinstance(app.screen, TrashScreen) and "2 runs," in text_of(app))


async def test_the_trash_lists_deleted_runs_and_enter_restores_one() -> None:
    async with at_home() as (app, pilot):
        await in_the_trash(app, pilot)
        text = text_of(app)
        assert text.index("amber-vole") < text.index("brisk-heron")
        assert f"2 runs, {disk(sum(one.bytes for one in list_trash()))}" in text
        assert "deleted just now" in text
        await pilot.press("down", "enter")
        await until(pilot, lambda: "›  brisk-heron" in shown(app))
        assert [trashed.name for trashed in list_trash()] == ["amber-vole"]


async def test_purging_asks_and_reports_the_freed_space() -> None:
    async with at_home() as (app, pilot):
        await in_the_trash(app, pilot)
        await pilot.press("D")
        assert isinstance(app.screen, ConfirmScreen)
        size = disk(list_trash()[0].bytes)
        assert f"amber-vole: {size} on disk" in text_of(app)
        await pilot.press("enter")
        assert len(list_trash()) == 2
        await pilot.press("D", "D")
        await until(pilot, lambda: f"{size} freed" in text_of(app) and "1 run," in text_of(app))
        assert [trashed.name for trashed in list_trash()] == ["brisk-heron"]
        await pilot.press("P", "D")
        await until(pilot, lambda: "empty" in text_of(app) and list_trash() == [])
        await pilot.press("q")
        assert not isinstance(app.screen, TrashScreen)


async def test_a_failed_purge_is_reported_and_the_run_stays_in_the_trash() -> None:
    async with at_home() as (app, pilot):
        await in_the_trash(app, pilot)
        path = list_trash()[0].path
        path.rename(path.with_name("elsewhere"))
        await pilot.press("D", "D")
        await until(pilot, lambda: "✗ amber-vole is no longer in the trash" in text_of(app))
        assert "brisk-heron" in text_of(app)


async def test_an_empty_trash_is_shown_as_empty() -> None:
    async with at_home() as (app, pilot):
        await pilot.press("T")
        await until(pilot, lambda: "─ empty ─" in text_of(app))
        await pilot.press("D", "P", "enter")
        assert not isinstance(app.screen, ConfirmScreen)


async def test_marked_runs_are_deleted_and_restored_together() -> None:
    async with at_home(size=(120, 40), settings={"marked": ["amber-vole", "brisk-heron"]}) as (
        app,
        pilot,
    ):
        await pilot.press("down")
        assert "d Delete 2" in lines_of(app)[-1]
        await pilot.press("d")
        await until(pilot, lambda: "brisk-heron, amber-vole" in text_of(app))
        assert list_trash() == []
        await pilot.press("D")
        await until(
            pilot,
            lambda: (
                "2 runs moved to the trash, u undoes it: brisk-heron, amber-vole"
                in lines_of(app)[-1]
            ),
        )
        await until(pilot, lambda: shown(app) == ["›  plain-otter"])
        await pilot.press("u")
        await until(pilot, lambda: "2 runs restored: brisk-heron, amber-vole" in lines_of(app)[-1])
        await until(
            pilot, lambda: shown(app) == ["   plain-otter", "›B brisk-heron", " A amber-vole"]
        )
        assert list_trash() == []


async def test_a_marked_run_that_trains_is_not_deleted() -> None:
    async with at_home(size=(120, 40), settings={"marked": ["amber-vole", "plain-otter"]}) as (
        app,
        pilot,
    ):
        await pilot.press("d")
        await until(
            pilot,
            lambda: (
                "amber-vole moved to the trash, u undoes it; still training: plain-otter"
                in lines_of(app)[-1]
            ),
        )
        await until(pilot, lambda: len(shown(app)) == 2)


async def test_a_marked_run_that_the_filter_hides_is_not_deleted_with_the_others() -> None:
    async with at_home(settings={"marked": ["amber-vole", "brisk-heron"]}) as (app, pilot):
        await pilot.press("slash", *"heron", "enter", "d")
        await until(pilot, lambda: len(list_trash()) == 1)
        await pilot.press("escape")
        await until(pilot, lambda: len(shown(app)) == 2)
        assert any("amber-vole" in run for run in shown(app))


async def test_a_run_that_cannot_be_deleted_is_reported_and_the_others_are_deleted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refusing(run: RunDirectory) -> Trashed:
        if run.name == "amber-vole":
            raise StorageError("can't move amber-vole: disk is full")
        return delete_run(run)

    monkeypatch.setattr("rnnlm_tui.store.trash.delete_run", refusing)
    async with at_home(size=(120, 40), settings={"marked": ["amber-vole", "brisk-heron"]}) as (
        app,
        pilot,
    ):
        await pilot.press("down", "d", "D")
        await until(pilot, lambda: "can't move amber-vole: disk is full" in text_of(app))
        await until(
            pilot, lambda: "brisk-heron moved to the trash, u undoes it" in lines_of(app)[-1]
        )
        await until(pilot, lambda: any("amber-vole" in run for run in shown(app)))


async def test_no_key_moves_several_runs_or_a_pinned_one_to_the_trash_without_a_question(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    deleted: list[RunDirectory] = []
    monkeypatch.setattr("rnnlm_tui.store.trash.delete_run", deleted.append)
    first, second = (make_snapshot("failed", name=name) for name in ("amber-vole", "brisk-heron"))
    pinned = replace(first, summary=first.summary.model_copy(update={"pinned": True}))
    services = with_runs(pinned, second)
    runs, asked = tuple(services.runs), set[str]()
    async with running_app(services, run="amber-vole", pane="runs") as (app, pilot):
        for entry in ACTIONS:
            pane = (entry.panes or ("runs",))[0]
            for key in () if entry.id == "leave" else on_pane(entry, pane).keys:
                while len(app.screen_stack) > 1:
                    app.pop_screen()
                services.runs = list(runs)  # a key may have changed them
                app.watcher.poll_now()
                await until(pilot, lambda: app.summaries == runs)
                app.set_marks(Marks(("amber-vole", "brisk-heron")))
                app.select_run(services.run("amber-vole"))
                await until(pilot, lambda: app.snapshot is not None)
                app.open_pane(pane)
                app.screen.set_focus(None)
                await pilot.press(key)
                if isinstance(app.screen, ConfirmScreen) and "trash" in text_of(app):
                    asked.add(entry.id)
                work = [worker for worker in app.workers if worker.group == "threads"]
                await until(
                    pilot,
                    lambda: len(app.screen_stack) > 1 or all(worker.is_finished for worker in work),  # noqa: B023
                )
                assert deleted == [], f"{key} on {pane}"
    assert asked == {"delete_run", "discard_run"}


async def test_a_run_that_was_just_pinned_is_not_deleted_without_a_question() -> None:
    async with at_home("amber-vole") as (app, pilot):
        change_labels(find_run("amber-vole"), lambda before: replace(before, pinned=True))
        await pilot.press("d")
        await until(pilot, lambda: isinstance(app.screen, ConfirmScreen))
        assert "pinned" in text_of(app)
