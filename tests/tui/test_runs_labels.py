"""Labels, names and the trash of runs by keys: tag, note, pin, rename, delete, restore, purge."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import replace
from threading import Event
from time import sleep

import pytest
from textual.pilot import Pilot

from rnnlm_tui.errors import StorageError
from rnnlm_tui.schema.formatting import disk
from rnnlm_tui.store.labels import RunLabels, change_labels, read_labels
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.runs import find_run, list_runs, rename_run
from rnnlm_tui.store.trash import Trashed, delete_run, list_trash, restore_run
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.screens.overlay import AskScreen, ConfirmScreen
from rnnlm_tui.tui.screens.trash import TrashScreen
from rnnlm_tui.tui.views.compare import Marks
from tests.homes import trained
from tests.tui.panes.seeing import press
from tests.tui.support import DEADLINE, at_home, lines_of, shown, shows, text_of, until

pytestmark = pytest.mark.usefixtures("three_at_home")


def labels_of(name: str) -> RunLabels:
    return read_labels(find_run(name))


def listed(app: RnnlmApp, run: RunDirectory) -> RunDirectory:
    """The run, after the app has read a list with it."""
    app.watcher.poll_now()
    while run.name not in [one.run for one in app.summaries or ()]:
        sleep(0.01)
    return run


async def answer(app: RnnlmApp, pilot: Pilot[int], text: str, *keys: str) -> None:
    """Type into the question that is open, or about to be."""
    await until(pilot, lambda: isinstance(app.screen, AskScreen))
    await pilot.press(*text, *keys)


async def test_tags_notes_and_pins_are_kept_on_disk_and_shown() -> None:
    async with at_home() as (app, pilot):
        await press(pilot, "t", "Tags of plain-otter", "in use: gru  small")
        await press(pilot, (*" first,", "enter"), "invalid tag")
        await press(pilot, "backspace", "in use: gru  small")
        await press(pilot, "enter", "small f")
        assert labels_of("plain-otter").tags == ("small", "first")
        await pilot.press("t")
        await answer(app, pilot, "+paper -small -first", "enter")  # as on the command line
        await until(pilot, lambda: labels_of("plain-otter").tags == ("paper",))

        note = "the first one with a warm-up of 200 steps and a rate found by hand on two plays"
        await pilot.press("m")
        await answer(app, pilot, note, "enter")
        for size in ((60, 15), (120, 40), (80, 24)):
            await pilot.resize_terminal(*size)
            await until(pilot, lambda: "note  the first one with a warm-up" in text_of(app))
            line = next(line for line in lines_of(app) if "note  the first" in line)
            assert line.endswith("│"), "inside the panel, not in its edge"
            assert ("two plays" in text_of(app)) == (size == (120, 40)), "several lines"
        await pilot.press("m")
        await answer(app, pilot, "x", "escape")
        assert labels_of("plain-otter").note == note

        await pilot.press("end", "p")
        await until(pilot, lambda: shown(app)[0] == "›  amber-vole")
        assert "amber-vole ⚑" in text_of(app)
        await pilot.press("o", "o")
        assert shown(app)[0] == "›  amber-vole", "on top of every order"
        await pilot.press("p")
        await until(pilot, lambda: not labels_of("amber-vole").pinned and "⚑" not in text_of(app))
        change_labels(find_run("brisk-heron"), lambda before: replace(before, pinned=True))
        app.watcher.poll_now()
        await until(pilot, lambda: shown(app)[0] == "   brisk-heron")
        # the train pane lists the runs in the same order
        await pilot.resize_terminal(200, 60)
        await pilot.press("2")
        await until(pilot, lambda: app.current_mode == "train" and "brisk-heron" in text_of(app))
        names = ("amber-vole", "brisk-heron", "plain-otter")
        side = [name for line in lines_of(app)[2:] for name in names if name in line[:34]]
        assert side[:3] == ["brisk-heron", "amber-vole", "plain-otter"]


async def test_marked_runs_are_tagged_together_and_others_alone() -> None:
    async with at_home(settings={"marked": ["brisk-heron", "plain-otter"]}) as (app, pilot):
        assert "t Tag 2" in lines_of(app)[-1]
        await press(pilot, "t", "Tags of all 2 marked runs")
        await press(pilot, (*"paper", "enter"), "2 runs tagged: plain-otter, brisk-heron")
        assert {run.name: read_labels(run).tags for run in list_runs()} == {
            "plain-otter": ("small", "paper"),
            "brisk-heron": ("small", "gru", "paper"),
            "amber-vole": (),
        }
        await until(pilot, lambda: app.summaries is not None and "paper" in app.summaries[0].tags)
        await pilot.press("t")
        await answer(app, pilot, "", *["backspace"] * len("small paper "), *"done", "enter")
        await until(pilot, lambda: labels_of("plain-otter").tags == ("done",))
        await until(pilot, lambda: labels_of("brisk-heron").tags == ("gru", "done"))
        await until(pilot, lambda: "2 runs tagged" in lines_of(app)[-1])
        await pilot.press("end")
        assert "t Tag  " in lines_of(app)[-1]
        await pilot.press("t")
        await answer(app, pilot, "odd", "enter")
        await until(pilot, lambda: labels_of("amber-vole").tags == ("odd",))
        assert labels_of("plain-otter").tags == ("done",)


async def test_a_run_that_has_ended_is_renamed_with_its_mark_and_stays_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def rename(run: RunDirectory, name: str) -> RunDirectory:
        return listed(app, rename_run(run, name))

    async with at_home() as (app, pilot):
        monkeypatch.setattr("rnnlm_tui.store.runs.rename_run", rename)
        for key in "Nd":
            await press(pilot, key, "stop it first")
            await pilot.press("up")  # ends the notice
        assert len(app.screen_stack) == 1
        assert list_trash() == []
        await pilot.press("down", "space", "N")
        await answer(app, pilot, "", *["backspace"] * 11, *"amber-vole", "enter")
        await until(pilot, lambda: shows(app, 'run "amber-vole" already exists'))
        await answer(app, pilot, "2", "enter")
        await until(pilot, lambda: "›A amber-vole2" in shown(app))
        await until(pilot, lambda: app.snapshot and app.snapshot.summary.run == "amber-vole2")
        assert {run.name for run in list_runs()} == {"amber-vole", "amber-vole2", "plain-otter"}


async def test_d_moves_a_run_to_the_trash_and_u_restores_the_last_deleted_first() -> None:
    async with at_home() as (app, pilot):
        found = find_run("brisk-heron")
        await press(pilot, "down d", "brisk-heron moved to the trash, u undoes it")
        await until(pilot, lambda: len(shown(app)) == 2)
        app.select_run(found)  # by a lookup that was slow
        assert app.run_directory is None or app.run_directory.name != "brisk-heron"
        await until(pilot, lambda: app.run_directory and app.run_directory.name != "brisk-heron")
        while "›  amber-vole" not in shown(app):
            await pilot.press("down")
        await pilot.press("d")
        await until(pilot, lambda: len(shown(app)) == 1)
        await pilot.press("u", "u")  # the second before the first is done
        await until(pilot, lambda: len(shown(app)) == 3 and list_trash() == [])
        await press(pilot, "u", "nothing to undo: T shows the trash")

        while "›  brisk-heron" not in shown(app):
            await pilot.press("down" if shown(app)[0].startswith("›") else "home")
        await press(pilot, "d", "brisk-heron moved to the trash, u undoes it")
        await until(pilot, lambda: len(shown(app)) == 2)
        trained("brisk-heron")
        app.watcher.poll_now()
        await until(pilot, lambda: len(shown(app)) == 3)
        await press(pilot, "u", "brisk-heron is the name of another run now")
        await pilot.press("escape")
        assert len(list_trash()) == 1, "what isn't restored can be restored later"
        await press(pilot, "u", "Restore under another name")
        await pilot.press("enter")
        await until(pilot, lambda: "›  brisk-heron-2" in shown(app))
        assert list_trash() == []


async def test_marked_runs_go_to_the_trash_and_back_together_after_a_question(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refused: list[str] = []
    followed = Event()
    """The list has already gone on to the run that is refused."""
    select_run = RnnlmApp.select_run

    def select(app: RnnlmApp, run: RunDirectory) -> None:
        select_run(app, run)
        if run.name in refused:
            followed.set()

    def delete(run: RunDirectory) -> Trashed:
        if run.name in refused:
            followed.wait(DEADLINE)
            raise StorageError(f"can't move {run.name}: disk is full")
        return delete_run(run)

    def restore(trashed: Trashed) -> RunDirectory:
        return listed(app, restore_run(trashed))

    monkeypatch.setattr("rnnlm_tui.store.trash.delete_run", delete)
    monkeypatch.setattr("rnnlm_tui.store.trash.restore_run", restore)
    monkeypatch.setattr(RnnlmApp, "select_run", select)
    marked = Marks(("amber-vole", "brisk-heron"))
    async with at_home(size=(120, 40), settings={"marked": list(marked.places)}) as (app, pilot):
        await pilot.press("down")
        assert "d Delete 2" in lines_of(app)[-1]
        await pilot.press("d")
        await until(pilot, lambda: shows(app, "brisk-heron, amber-vole"))
        assert isinstance(app.screen, ConfirmScreen)
        assert list_trash() == []
        await pilot.press("D")
        words = "2 runs moved to the trash, u undoes it: brisk-heron, amber-vole"
        await until(pilot, lambda: words in lines_of(app)[-1])
        await until(pilot, lambda: shown(app) == ["›  plain-otter"])
        await until(pilot, lambda: app.marks.names == ())
        await pilot.press("u")
        await until(pilot, lambda: "2 runs restored: brisk-heron, amber-vole" in lines_of(app)[-1])
        rows = ["   plain-otter", "›B brisk-heron", " A amber-vole"]
        await until(pilot, lambda: shown(app) == rows and list_trash() == [])

        # a run that can't be moved stays, the others go
        refused.append("amber-vole")
        await pilot.press("d", "D")
        await until(pilot, lambda: shows(app, "can't move amber-vole: disk is full"))
        await until(pilot, lambda: [one.name for one in list_trash()] == ["brisk-heron"])
        await until(pilot, lambda: any("amber-vole" in run for run in shown(app)))
        async with asyncio.timeout(DEADLINE / 2):  # after a minute an age in the list changes
            await until(pilot, lambda: app.run_directory and app.run_directory.name == "amber-vole")
        await pilot.press("u")
        await until(pilot, lambda: len(shown(app)) == 3 and "›B brisk-heron" in shown(app))
        refused.clear()
        # nor does one that trains, or that the filter hides
        app.marks = Marks(("amber-vole", "plain-otter"))
        await pilot.press("home", "d")
        words = "amber-vole moved to the trash, u undoes it; still training: plain-otter"
        await until(pilot, lambda: words in lines_of(app)[-1])
        await until(pilot, lambda: len(shown(app)) == 2)
        await pilot.press("u")
        await until(pilot, lambda: len(shown(app)) == 3 and list_trash() == [])
        app.marks = marked
        await pilot.press("slash", *"heron", "enter", "d")
        await until(pilot, lambda: [one.name for one in list_trash()] == ["brisk-heron"])
        await pilot.press("escape")
        await until(pilot, lambda: len(shown(app)) == 2)

        # a run that was just pinned is asked about, before the list shows the pin
        app.marks = Marks()
        while "›  amber-vole" not in shown(app):
            await pilot.press("down")
        change_labels(find_run("amber-vole"), lambda before: replace(before, pinned=True))
        await pilot.press("d")
        await until(pilot, lambda: shows(app, "Move the pinned run to the trash?"))
        await pilot.press("enter")
        assert len(list_trash()) == 1


async def test_no_key_acts_on_another_run_whose_name_begins_as_that_of_one_that_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trained("amber-vole-2", age=300)
    async with at_home() as (app, pilot):
        await pilot.press("down", "down")
        await until(pilot, lambda: "›  amber-vole" in shown(app))
        monkeypatch.setattr(app.watcher, "_poll_list", lambda: True)
        gone = find_run("amber-vole").path
        shutil.rmtree(gone)  # by another program, and the list doesn't know it yet
        for count, key in enumerate("pd", start=1):
            await pilot.press(key)
            await until(pilot, lambda: len(app._notifications) == count)  # noqa: B023
            assert all("amber-vole is gone" in one.message for one in app._notifications)
        assert labels_of("amber-vole-2") == RunLabels()
        assert not gone.exists()
        assert list_trash() == []
        await pilot.press("enter")
        await until(pilot, lambda: app.current_mode == "train")
        assert app.run_directory == RunDirectory(gone)


async def test_the_trash_restores_and_purges_after_a_question() -> None:
    for name in ("brisk-heron", "amber-vole"):
        delete_run(find_run(name))
    first, second = (one.path for one in list_trash())
    second.rename(second.with_name(second.name.replace(second.name.split(".")[1], "1000000000")))

    def trashed() -> list[str]:
        return [one.name for one in list_trash()]

    async with at_home() as (app, pilot):
        for _ in range(3):  # a list that is closed before it is shown stays closed
            app.push_screen(TrashScreen())
            app.screen.dismiss(None)
            await pilot.pause()
            assert not isinstance(app.screen, TrashScreen)
        names, sizes = trashed(), [one.bytes for one in list_trash()]
        size, other, both = (disk(size) for size in (*sizes, sum(sizes)))
        await press(pilot, "T", f"─ 2 runs, {both} ─", "deleted just now")
        assert text_of(app).index(names[0]) < text_of(app).index(names[1])
        await press(pilot, "D", f"{names[0]}: {size} on disk")
        await pilot.press("enter")
        assert trashed() == names
        first.rename(first.with_name("elsewhere"))
        await press(pilot, "D", f"{names[0]}: {size} on disk")
        await press(pilot, "D", f"✗ {names[0]} is no longer in the trash", f"─ 1 run, {other} ─")
        first.with_name("elsewhere").rename(first)
        await press(pilot, "q T", f"─ 2 runs, {both} ─")
        await pilot.press("down", "enter")
        await until(pilot, lambda: f"›  {names[1]}" in shown(app))
        assert trashed() == names[:1]
        await press(pilot, "T", f"─ 1 run, {size} ─")
        await press(pilot, "P", "Empty the trash?")
        await press(pilot, "D", f"{size} freed", "─ empty ─")
        assert trashed() == []
        await pilot.press("D", "P", "enter")
        assert isinstance(app.screen, TrashScreen), "there is nothing to ask about"
        await pilot.press("q")
        assert not isinstance(app.screen, TrashScreen)
