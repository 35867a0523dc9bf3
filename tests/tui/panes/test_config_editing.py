"""Editing a draft: undo, search, comparisons, suggestions, files, the editor and the queue."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from textual.pilot import Pilot

from rnnlm_tui.client.queue import add_run
from rnnlm_tui.errors import DeviceError
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.presets import DEMO, PRESETS
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.queue import read_queue
from rnnlm_tui.store.runs import create_run, list_runs
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.screens.overlay import Question
from tests.homes import queue_in_use
from tests.tui.fakes import FakeServices
from tests.tui.panes.fakes import make_snapshot
from tests.tui.panes.filling import edit, edited, focused, go, pane, write
from tests.tui.panes.seeing import opened, screen_text, until_shown
from tests.tui.support import until


def changes(app: RnnlmApp) -> dict[str, object]:
    """Return the changes of the edited draft."""
    return dict(pane(app).form.draft.changes)


def overlay_closed(app: RnnlmApp) -> bool:
    return app.screen is app.pane_screen


async def test_space_switches_a_field_and_undo_and_redo_follow() -> None:
    async with opened(FakeServices(), "config", run=None) as (app, pilot):
        await go(pilot, "corpus.lowercase")
        await pilot.press("space")
        await until(pilot, lambda: changes(app) == {"corpus.lowercase": True})
        await go(pilot, "training.seed")
        await pilot.press("space")
        await until_shown(pilot, "space switches yes and no")
        await pilot.press("f6")
        await until(pilot, lambda: changes(app) == {} and focused(app) == "corpus.lowercase")
        await until_shown(pilot, "undone: lower case yes → no")
        await pilot.press("f6")
        await until_shown(pilot, "nothing to be undone")
        await pilot.press("shift+f6")
        await until_shown(pilot, "redone: lower case no → yes")
        assert changes(app) == {"corpus.lowercase": True}


async def test_an_edit_is_part_of_the_next_one_also_if_the_form_is_drawn_between() -> None:
    async with opened(FakeServices(), "config", run=None) as (app, pilot):
        assert app.machine is not None
        pane(app).form.set_value("training.seed", 43)
        pane(app).show_machine(app.machine)
        pane(app).form.set_value("training.epochs", 3)
        await pilot.pause()
        assert changes(app) == {"training.seed": 43, "training.epochs": 3}


async def test_what_was_typed_into_a_field_is_one_edit_and_a_cancelled_one_is_none() -> None:
    async with opened(FakeServices(), "config", run=None) as (app, pilot):
        await write(pilot, "training.seed", "431")
        await write(pilot, "training.seed", "9")
        await edit(pilot, "training.epochs")
        await pilot.press(*"77")
        for key in ("f6", "f4", "ctrl+o"):  # the text would replace what they change
            await pilot.press(key)
            await until_shown(pilot, "enter keeps what you typed")
        await pilot.press("escape")
        await until(pilot, lambda: not pane(app).form.editing)
        for expected in ({"training.seed": 431}, {}, {}):
            await pilot.press("f6")
            await until(pilot, lambda expected=expected: changes(app) == expected)  # type: ignore[misc]
        for expected in ({"training.seed": 431}, {"training.seed": 9}):
            await pilot.press("shift+f6")
            await until(pilot, lambda expected=expected: changes(app) == expected)  # type: ignore[misc]


async def test_a_field_is_found_by_key_name_or_help_also_if_it_is_folded() -> None:
    async with opened(FakeServices(), "config", run=None) as (app, pilot):
        for typed, path in (
            ("max_grad", "optimizer.max_grad_norm"),
            ("eps", "optimizer.eps"),
            ("heads", "model.num_heads"),
            ("l2 norm", "optimizer.max_grad_norm"),
        ):
            await pilot.press("slash", *typed)
            await until_shown(pilot, path)
            await pilot.press("enter")
            await until(pilot, lambda path=path: focused(app) == path)  # type: ignore[misc]
            assert pane(app).form.row(path).display
        await pilot.press("slash", *"zzz")
        await until_shown(pilot, "0 of")
        await pilot.press("enter", "escape")
        await until(pilot, lambda: overlay_closed(app))
        assert focused(app) == "optimizer.max_grad_norm"


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_v_shows_what_differs_from_preset_defaults_and_a_run(size: tuple[int, int]) -> None:
    other = parse_config(merge(RunConfig(), {"training.seed": 5, "model.dropout": 0.3}))
    services = FakeServices(make_snapshot(config=other))
    async with opened(services, "config", run=None, size=size) as (app, pilot):
        await until(pilot, lambda: bool(app.summaries))
        await pilot.press("P", *"lstm", "enter")
        await until(pilot, lambda: edited(app) == PRESETS["lstm"])
        await pilot.press("v")
        await until_shown(pilot, "No field differs from preset lstm")
        await pilot.press("down", "tab", "enter", "u", "right", "space")  # nothing to act on
        await pilot.press("v")
        await until_shown(pilot, "Only what differs from the defaults", "default elman")
        assert focused(app) in ("", "model.cell_type")
        await pilot.press("down")
        visible = [row.field.path for row in pane(app).form._stops() if hasattr(row, "field")]
        assert visible == ["model.cell_type", "model.num_layers", "optimizer.learning_rate"]
        await pilot.press("v")
        await until_shown(pilot, "Show what differs from the run", "plain-otter")
        await pilot.press("enter")
        await until_shown(pilot, "Only what differs from plain-otter", "plain-otter 5")
        await pilot.press("v")
        await until(pilot, lambda: "Only what differs" not in screen_text(app))
        await go(pilot, "training.seed")
        await until_shown(pilot, "Seed for weights")


async def test_v_of_a_run_compares_its_frozen_config() -> None:
    config = parse_config(merge(RunConfig(), {"training.seed": 99}))
    async with opened(FakeServices(make_snapshot(config=config)), "config") as (app, pilot):
        await until_shown(pilot, "frozen")
        await pilot.press("v", "v")
        await until_shown(pilot, "Only what differs from preset demo", "demo 42")
        await pilot.press("v", "v")
        await until_shown(pilot, "no other run to compare with")
        assert pane(app).locked


async def test_a_suggestion_solves_the_problem_and_again_in_another_way() -> None:
    async with opened(FakeServices(), "config", run=None) as (app, pilot):
        await write(pilot, "model.hidden_size", "200")
        await go(pilot, "model.tie_weights")
        await until_shown(pilot, "A sets embedding 200", "depends on embedding, hidden size")
        await pilot.press("A")
        await until(
            pilot,
            lambda: changes(app) == {"model.hidden_size": 200, "model.embedding_dim": 200},
        )
        await until_shown(pilot, "set embedding 200; F6 undoes it, A: another way")
        await pilot.press("A")
        await until(pilot, lambda: changes(app) == {})
        await pilot.press("A")
        await until(
            pilot,
            lambda: changes(app) == {"model.hidden_size": 200, "model.tie_weights": False},
        )
        await pilot.press("f6")
        await until(pilot, lambda: changes(app) == {"model.hidden_size": 200})
        await until_shown(pilot, "✗ 1 problem")


async def test_a_warm_up_longer_than_the_run_is_adjusted() -> None:
    async with opened(FakeServices(), "config", run=None) as (app, pilot):
        await write(pilot, "schedule.warmup_steps", "6000")
        await until_shown(pilot, "must be below the run's 4,752 steps", "A sets warm-up 475")
        await pilot.press("A")
        await until(pilot, lambda: changes(app) == {"schedule.warmup_steps": 475})
        await pilot.press("A")
        await until_shown(pilot, "no problems")


async def test_a_draft_begins_from_a_run_and_undo_returns() -> None:
    config = parse_config(merge(RunConfig(), {"training.seed": 99}))
    async with opened(FakeServices(make_snapshot(config=config)), "config", run=None) as (
        app,
        pilot,
    ):
        await until(pilot, lambda: bool(app.summaries))
        await write(pilot, "training.epochs", "3")
        await pilot.press("P", *"otter", "enter")
        await until_shown(pilot, "plain-otter: F6 brings back 1 change")
        assert edited(app) == config
        await pilot.press("f6")
        await until(pilot, lambda: changes(app) == {"training.epochs": 3})


TOML = """# my best settings
preset = "demo"

[training]
seed = 7  # lucky
epochs = 3

[model]
dropout = 0.2
"""


async def asked(pilot: Pilot[int], key: str, path: str, *shown: str) -> None:
    """Answer the question for a path."""
    await pilot.press(key)
    await until_shown(pilot, *shown)
    await pilot.press("end", "ctrl+u", *path)


async def test_a_file_is_opened_changed_and_saved_with_its_comments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text(TOML)
    (tmp_path / "mind").mkdir()
    async with opened(FakeServices(), "config", run=None) as (app, pilot):
        await asked(pilot, "ctrl+o", "mi", "Open a config file")
        await pilot.press("tab")
        await until_shown(pilot, "mind/  mine.toml")
        await pilot.press("e", "tab", "enter")
        await until(pilot, lambda: edited(app).training.seed == 7)
        await until_shown(pilot, "from mine.toml")
        assert pane(app).form.draft.changes == {}
        await write(pilot, "training.epochs", "4")
        await write(pilot, "optimizer.learning_rate", "0.001")
        await pilot.press("w")
        await until_shown(pilot, "Save the config as", "mine.toml")
        await pilot.press("enter")
        await until_shown(pilot, "saved as")
        saved = (tmp_path / "mine.toml").read_text()
        assert "# my best settings" in saved
        assert "seed = 7  # lucky" in saved
        assert "epochs = 4" in saved
        assert "learning_rate = 0.001" in saved
        assert "hidden_size" not in saved  # the preset's value, which the file didn't have
        await pilot.press("P")
        await until_shown(pilot, "Recent files", "mine.toml")
        await pilot.press(*"mine", "enter")
        await until(pilot, lambda: overlay_closed(app) and changes(app) == {})
        assert edited(app).training.epochs == 4
        settings = json.loads(json.dumps(app.settings["recent_configs"]))
        assert settings == [str(tmp_path / "mine.toml")]


async def test_saving_asks_before_it_overwrites_another_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.toml").write_text("kept")
    async with opened(FakeServices(), "config", run=None) as (app, pilot):
        await write(pilot, "model.dropout", "1.5")
        for path, complaint in (
            ("", ""),
            ("nowhere/x.toml", "its folder doesn't exist"),
            (str(tmp_path), "this is a folder"),
        ):
            await asked(pilot, "w", path, "Save the config as")
            if complaint:
                await until_shown(pilot, complaint)
            await pilot.press("enter")
            await pilot.press("escape")
            await until(pilot, lambda: overlay_closed(app))
        await asked(pilot, "w", "other.toml", "Save the config as")
        await pilot.press("enter")
        await until_shown(pilot, "Overwrite the file?")
        await pilot.press("enter")
        await until(pilot, lambda: overlay_closed(app))
        assert (tmp_path / "other.toml").read_text() == "kept"
        await asked(pilot, "w", "other.toml", "Save the config as")
        await pilot.press("enter")
        await until_shown(pilot, "Overwrite the file?")
        await pilot.press("D")
        await until_shown(pilot, "saved with 1 problem as")
        assert "dropout = 1.5" in (tmp_path / "other.toml").read_text()
        assert "# Sequences" not in screen_text(app)


async def test_a_file_that_is_no_config_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    files = {
        "syntax.toml": (b"[training\nseed = 1\n", "syntax.toml:1:10"),
        "key.toml": (b"[training]\nsed = 1\n", "unknown config key"),
        "binary.toml": (b"\xff", "is not UTF-8"),
    }
    async with opened(FakeServices(), "config", run=None, size=(120, 40)) as (app, pilot):
        await write(pilot, "training.seed", "43")
        for name, (content, said) in files.items():
            (tmp_path / name).write_bytes(content)
            await asked(pilot, "ctrl+o", name, "Open a config file")
            await pilot.press("enter")
            await until_shown(pilot, said)
            assert changes(app) == {"training.seed": 43}


async def test_a_file_with_invalid_values_is_opened_with_its_problems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "five.toml").write_text(
        "[model]\ndropout = 2.0\nhidden_size = 'wide'\n[training]\nepochs = 0\n"
    )
    async with opened(FakeServices(), "config", run=None) as (app, pilot):
        await asked(pilot, "ctrl+o", "five.toml", "Open a config file")
        await pilot.press("enter")
        await until_shown(pilot, "five.toml has 3 problems", "✗ 3 problems")
        assert set(changes(app)) == {"model.dropout", "model.hidden_size", "training.epochs"}


def editor(folder: Path, monkeypatch: pytest.MonkeyPatch, *scripts: str) -> None:
    """Set an editor that runs one of the shell scripts each time, on the file `$1`."""
    for number, script in enumerate(scripts):
        (folder / f"edit-{number}").write_text(script)
    program = folder / "editor.sh"
    program.write_text(
        f'#!/bin/sh\ncd {folder}\nfor last; do :; done\nn=$(ls | grep -c "^done")\n'
        'touch "done-$n"\nset -- "$last"\n. "./edit-$n"\n'
    )
    program.chmod(0o700)
    monkeypatch.setenv("VISUAL", str(program))


async def test_the_editor_changes_the_draft_and_its_comments_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor(
        tmp_path,
        monkeypatch,
        "sed -i 's/^seed = 42/seed = 44  # mine/' \"$1\"",
        'cp "$1" seen',
        "sed -i 's/^epochs = .*/epochs = 0/' \"$1\"",
    )
    async with opened(FakeServices(), "config", run=None) as (app, pilot):
        await write(pilot, "training.epochs", "9")
        await pilot.press("f4")
        await until(pilot, lambda: changes(app) == {"training.epochs": 9, "training.seed": 44})
        await write(pilot, "model.dropout", "0.25")
        await pilot.press("f4")
        await until_shown(pilot, "nothing changed in the editor")
        seen = (tmp_path / "seen").read_text()
        assert "seed = 44  # mine" in seen
        assert "dropout = 0.25" in seen
        await pilot.press("f4")
        await until_shown(pilot, "training.epochs: is 0", "take it: the form shows the problems")
        await pilot.press("t")
        await until_shown(pilot, "✗ 1 problem")
        await pilot.press("f6", "f6", "f6")
        await until(pilot, lambda: changes(app) == {"training.epochs": 9})


async def test_errors_of_the_editor_are_shown_at_their_line_and_the_text_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor(
        tmp_path,
        monkeypatch,
        "printf '[training]\\nseed = = 3\\n' > \"$1\"",
        'cp "$1" kept; printf \'[training]\\nseed = 3\\nepochs = 0\\nspeed = 1\\n\' > "$1"',
        "printf '[training]\\nseed = 3\\n' > \"$1\"",
        "printf 'nonsense' > \"$1\"; exit 3",
    )
    async with opened(FakeServices(), "config", run=None, size=(120, 40)) as (app, pilot):
        await pilot.press("f4")
        await until_shown(pilot, "The edited text can't be used", "line 2, column 8")
        await pilot.press("enter")
        await until_shown(
            pilot,
            "line 3, column 10: training.epochs: is 0, must be at least 1",
            "line 4, column 1: training.speed: unknown config key",
        )
        assert (tmp_path / "kept").read_text() == "[training]\nseed = = 3\n"
        assert changes(app) == {}
        await pilot.press("t")  # the form can't show an unknown key
        await pilot.press("enter")
        await until(pilot, lambda: changes(app) == {"training.seed": 3} and overlay_closed(app))
        await pilot.press("f4")
        await until_shown(pilot, "editor.sh exited with code 3")
        assert isinstance(app.screen, Question)
        kept = Path(app.screen._lines[-2].plain.removeprefix("The text is kept in "))
        assert kept.read_text() == "nonsense"
        await pilot.press("D")
        await until_shown(pilot, "the edited text was discarded")
        assert not kept.exists()
        assert changes(app) == {"training.seed": 3}


async def test_a_missing_editor_is_reported_and_a_run_cannot_be_edited(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VISUAL", "no-such-editor-here --wait")
    async with opened(FakeServices(make_snapshot()), "config") as (app, pilot):
        await until_shown(pilot, "frozen")
        for key in ("f4", "f6", "A"):
            await pilot.press(key)
            await until_shown(pilot, "a run's config never changes")
        await pilot.press("n")
        await until_shown(pilot, "draft, not started")
        await pilot.press("f4")
        await until_shown(pilot, "no-such-editor-here")
        assert changes(app) == {}


async def test_a_path_is_completed_in_its_field(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "novels").mkdir()
    (tmp_path / "novels" / "emma.txt").write_text("Emma.\n")
    (tmp_path / "notes.txt").write_text("A note.\n")
    async with opened(FakeServices(), "config", run=None) as (app, pilot):
        await edit(pilot, "corpus.source")
        await pilot.press("n", "tab")
        await until_shown(pilot, "news", "notes.txt", "novels/")
        await pilot.press("o", "v", "tab", "e", "tab")
        await until(
            pilot,
            lambda: edited(app).corpus.source == "novels/emma.txt",
        )
        await pilot.press("tab")  # nothing to complete
        await until(pilot, lambda: focused(app) == "tokenizer.kind")


async def test_a_draft_is_added_to_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    refusals = [DeviceError('no device "cuda" on this machine')]

    def check(run: RunDirectory) -> None:
        if refusals:
            raise refusals.pop()

    monkeypatch.setattr("rnnlm_tui.client.start.check_draft_before_start", check)
    app = RnnlmApp(None, "config")
    with queue_in_use():
        async with app.run_test(size=(80, 24)) as pilot:
            await until_shown(pilot, "draft, not started")
            await write(pilot, "training.seed", "43")
            await pilot.press("Q")
            await until_shown(pilot, "not started: see device")
            await pilot.press("Q")
            await until_shown(pilot, "waits in the queue, place 1")
            [run] = list_runs()
            assert [entry.run for entry in read_queue().entries] == [run.name]
            assert run.read_config().training.seed == 43
            assert app.draft is None
            assert app.current_mode == "config"


async def test_a_draft_with_problems_is_not_queued_and_a_saved_one_only_once() -> None:
    run = create_run(DEMO, "plain-otter")
    with queue_in_use():
        add_run(run)
        app = RnnlmApp(run, "config")
        async with app.run_test(size=(80, 24), notifications=True) as pilot:
            await until_shown(pilot, "draft, not started")
            await until(pilot, lambda: app.snapshot is not None)
            await pilot.press("Q")
            await until_shown(pilot, "plain-otter is in the queue already")
            await write(pilot, "training.epochs", "0")
            await pilot.press("Q")
            await until_shown(pilot, "Fix 1 problem before starting")


async def test_overlays_close_by_escape_without_an_effect() -> None:
    async with opened(FakeServices(make_snapshot()), "config", run=None) as (app, pilot):
        await until(pilot, lambda: bool(app.summaries))
        await write(pilot, "training.seed", "43")
        for keys in (("slash",), ("P",), ("ctrl+o",), ("w",), ("v", "v", "v")):
            await pilot.press(*keys)
            await until(pilot, lambda: not overlay_closed(app))
            await pilot.press("escape")
            await until(pilot, lambda: overlay_closed(app))
            assert changes(app) == {"training.seed": 43}
        assert edited(app) != DEMO
