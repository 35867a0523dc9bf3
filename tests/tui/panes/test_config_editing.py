"""Editing a draft: undo, search, comparisons, suggestions, files and the editor."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.pilot import Pilot

from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.presets import PRESETS
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.screens.config import ConfigScreen
from rnnlm_tui.tui.screens.overlay import Question
from rnnlm_tui.tui.views.form import Draft
from tests.homes import trained
from tests.tui.panes.filling import edit, edited, focused, go, pane, rows, write
from tests.tui.panes.seeing import press, screen_text, until_shown
from tests.tui.support import at_home, until

OTHER = parse_config(merge(RunConfig(), {"training.seed": 5, "model.dropout": 0.3}))


def changes(app: object) -> dict[str, object]:
    """Return the changes of the edited draft."""
    assert isinstance(app, RnnlmApp)
    return dict(pane(app).form.draft.changes)


async def changed(pilot: Pilot[int], **expected: object) -> None:
    """Wait until the draft has these changes."""
    wanted = {path.replace("__", "."): value for path, value in expected.items()}
    await until(pilot, lambda: changes(pilot.app) == wanted)


async def overlay_closed(pilot: Pilot[int]) -> None:
    await until(pilot, lambda: isinstance(pilot.app.screen, ConfigScreen))


async def test_edits_are_undone_and_redone_one_by_one_and_problems_solved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("A line of forty characters, or about so.\n" * 500)
    trained("plain-otter", config=OTHER)
    async with at_home(None, "config") as (app, pilot):
        await go(pilot, "corpus.lowercase")
        await pilot.press("space")
        await changed(pilot, corpus__lowercase=True)
        await go(pilot, "training.seed")
        await press(pilot, "space", "space switches yes and no")
        await pilot.press("f6")
        await until(pilot, lambda: changes(app) == {} and focused(app) == "corpus.lowercase")
        await until_shown(pilot, "undone: lower case yes → no")
        await press(pilot, "f6", "nothing to be undone")
        await press(pilot, "shift+f6", "redone: lower case no → yes")
        await changed(pilot, corpus__lowercase=True)
        await pilot.press("f6")

        # what was typed into a field is one edit, and what was cancelled is none
        await write(pilot, "training.seed", "431")
        await press(pilot, "shift+f6", "nothing to be redone")
        await write(pilot, "training.seed", "9")
        await edit(pilot, "training.epochs")
        await pilot.press(*"77")
        for key in ("f6", "f4", "ctrl+o"):  # the text would replace what they change
            await press(pilot, key, "enter keeps what you typed")
        await pilot.press("escape")
        await until(pilot, lambda: not pane(app).form.editing)
        await pilot.press("f6")
        await changed(pilot, training__seed=431)
        await pilot.press("f6")
        await changed(pilot)
        await pilot.press("shift+f6", "shift+f6")
        await changed(pilot, training__seed=9)

        # an edit is part of the next one, also if the form is drawn between them
        pane(app).form.set_values({"training.seed": 43})
        pane(app).show_machine()
        pane(app).form.set_values({"training.epochs": 3})
        await changed(pilot, training__seed=43, training__epochs=3)

        # a preset, or another run's config, replaces all changes in one edit
        await press(pilot, "P", "Begin from")
        await pilot.press(*["down"] * list(PRESETS).index("elman"), "enter")
        await until_shown(pilot, "preset elman: F6 brings back 2 changes")
        assert edited(app) == PRESETS["elman"]
        await pilot.press("P", *"otter", "enter")
        await until(pilot, lambda: edited(app) == OTHER)
        await pilot.press("f6", "f6")
        await changed(pilot, training__seed=43, training__epochs=3)
        await pilot.press("shift+f6")
        await until(pilot, lambda: edited(app) == PRESETS["elman"])

        # a suggestion solves a problem, and again in another way
        await pilot.press("P", *"demo", "enter")
        await until(pilot, lambda: edited(app) == PRESETS["demo"])
        await write(pilot, "model.hidden_size", "200")
        await go(pilot, "model.tie_weights")
        await until_shown(pilot, "A sets embedding 200", "depends on embedding, hidden size")
        await press(pilot, "A", "set embedding 200; F6 undoes it, A: another way")
        await changed(pilot, model__hidden_size=200, model__embedding_dim=200)
        await pilot.press("A")
        await changed(pilot)
        await pilot.press("A")
        await changed(pilot, model__hidden_size=200, model__tie_weights=False)
        await pilot.press("f6")
        await changed(pilot, model__hidden_size=200)
        await pilot.press("A", "A")
        await changed(pilot)

        # a batch larger than the text, which is counted
        text: dict[str, object] = {"corpus.source": "text.txt", "tokenizer.kind": "character"}
        pane(app).form.set_values(text)
        await write(pilot, "training.batch_size", "60000")
        await until_shown(pilot, "must be at most", "A sets batch")
        await pilot.press("A")
        await until(pilot, lambda: edited(app).training.batch_size < 1_000)
        assert edited(app).corpus.source == "text.txt"
        await pilot.press("A")  # the largest instead of a comfortable one
        await until(pilot, lambda: 1_000 < edited(app).training.batch_size < 60_000)


async def test_a_field_is_found_by_its_words_and_v_shows_only_those_that_differ() -> None:
    trained("plain-otter", config=OTHER)
    async with at_home(None, "config") as (app, pilot):
        for typed, path in (
            ("heads", "model.num_heads"),  # a folded field
            ("l2 norm", "optimizer.max_grad_norm"),
        ):
            await press(pilot, ["slash", *typed], path)
            await pilot.press("enter")
            await until(pilot, lambda path=path: focused(app) == path)  # type: ignore[misc]
            assert path in rows(app)
        await press(pilot, ["slash", *"zzz"], "0 of")
        await pilot.press("enter", "escape")
        await overlay_closed(pilot)
        assert focused(app) == "optimizer.max_grad_norm"

        await pilot.press("P", *"lstm", "enter")
        await until(pilot, lambda: edited(app) == PRESETS["lstm"])
        await press(pilot, "v", "No field differs from preset lstm")
        await pilot.press("down", "tab", "enter", "u", "right", "space")  # nothing to act on
        await press(pilot, "v", "Only what differs from the defaults", "default elman")
        await pilot.press("down")
        assert rows(app) == ["model.cell_type", "model.num_layers", "optimizer.learning_rate"]
        await press(pilot, "v", "Show what differs from the run", "plain-otter")
        await press(pilot, "enter", "Only what differs from plain-otter", "plain-otter 5")
        await pilot.press("slash", *"dropout", "enter")  # a field that differs
        await until(pilot, lambda: focused(app) == "model.dropout")
        assert "Only what differs" in screen_text(app)
        await pilot.press("slash", *"epochs", "enter")  # a field that doesn't
        await until(pilot, lambda: focused(app) == "training.epochs")
        assert "differs" not in screen_text(app)


async def asked(pilot: Pilot[int], key: str, path: str, *shown: str) -> None:
    """Answer the question for a path."""
    await press(pilot, key, *shown)
    await pilot.press("end", "ctrl+u", *path)


async def test_files_are_opened_changed_and_saved_with_their_comments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path /= "a name that makes each path too long for a dialog of 80 columns"
    tmp_path.mkdir()
    monkeypatch.chdir(tmp_path)
    text = '# my best settings\npreset = "demo"\n[training]\nseed = 7  # lucky\nepochs = 3\n'
    (tmp_path / "mine.toml").write_text(text)
    (tmp_path / "mind").mkdir()
    wrong = "[model]\ndropout = 2.0\nhidden_size = 'wide'\n[training]\nepochs = 0\n"
    (tmp_path / "five.toml").write_text(wrong)
    async with at_home(None, "config") as (app, pilot):
        await asked(pilot, "ctrl+o", "mi", "Open a config file")
        await press(pilot, "tab", "mind/  mine.toml")
        await pilot.press("e", "tab", "enter")
        await until(pilot, lambda: edited(app).training.seed == 7)
        await until_shown(pilot, "from mine.toml")
        await changed(pilot)
        await write(pilot, "training.epochs", "4")
        await write(pilot, "optimizer.learning_rate", "0.001")
        await press(pilot, "w", "Save the config as", "mine.toml")
        await press(pilot, "enter", "saved as")
        saved = (tmp_path / "mine.toml").read_text()
        for text in ("# my best settings", "seed = 7  # lucky", "epochs = 4", "_rate = 0.001"):
            assert text in saved
        assert "hidden_size" not in saved  # the preset's value, which the file didn't have
        await asked(pilot, "w", "mine-2.toml", "Save the config as")
        await press(pilot, "enter", "saved as")
        await pilot.press("f6")  # the file stays that of the draft
        await press(pilot, "w", "columns/mine-2.")  # the end of the path, with the cursor
        await pilot.press("escape", "shift+f6")
        await press(pilot, "P", "Recent files", "mine-2.toml")
        await pilot.press(*"mine.t", "enter")
        await changed(pilot)
        assert edited(app).training.epochs == 4
        files = [str(tmp_path / name) for name in ("mine.toml", "mine-2.toml")]
        assert app.settings["recent_configs"] == files

        # a file that is no config changes nothing, one with invalid values shows them
        await pilot.resize_terminal(120, 40)
        for name, content, said in (
            ("syntax.toml", b"[training\nseed = 1\n", "syntax.toml:1:10"),
            ("key.toml", b"[training]\nsed = 1\n", "unknown config key"),
        ):
            (tmp_path / name).write_bytes(content)
            await asked(pilot, "ctrl+o", name, "Open a config file")
            await press(pilot, "enter", said)
            assert edited(app).training.seed == 7
        await asked(pilot, "ctrl+o", "five.toml", "Open a config file")
        await press(pilot, "enter", "five.toml has 3 problems", "✗ 3 problems")
        assert set(changes(app)) == {"model.dropout", "model.hidden_size", "training.epochs"}

        # another file is overwritten only if the user says so
        (tmp_path / "other.toml").write_text("kept")
        await asked(pilot, "w", "nowhere/x.toml", "Save the config as")
        await until_shown(pilot, "its folder doesn't exist")
        await pilot.press("enter", "escape")
        await overlay_closed(pilot)
        await asked(pilot, "w", "other.toml", "Save the config as")
        await press(pilot, "enter", "Overwrite the file?")
        await pilot.press("enter")
        await overlay_closed(pilot)
        assert (tmp_path / "other.toml").read_text() == "kept"
        await asked(pilot, "w", "other.toml", "Save the config as")
        await press(pilot, "enter", "Overwrite the file?")
        await press(pilot, "D", "saved with 3 problems as")
        assert "dropout = 2.0" in (tmp_path / "other.toml").read_text()


def editor(folder: Path, monkeypatch: pytest.MonkeyPatch, *scripts: str) -> None:
    """Set an editor that runs one of the shell scripts each time, on the file `$1`."""
    for number, script in enumerate(scripts):
        (folder / f"edit-{number}").write_text(script)
    run = 'for last; do :; done\nset -- "$last"\nmv "$(ls edit-* | head -n 1)" now\n. ./now\n'
    (folder / "editor.sh").write_text(f"cd {folder}\n{run}")
    monkeypatch.setenv("VISUAL", f"sh {folder}/editor.sh")


async def test_the_editor_changes_the_draft_and_a_text_with_errors_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor(
        tmp_path,
        monkeypatch,
        "sed -i 's/^seed = 42/seed = 44  # mine/' \"$1\"",
        'cp "$1" seen',
        "sed -i 's/^epochs = .*/epochs = 0/' \"$1\"",
        "printf '[training]\\nseed = = 3\\n' > \"$1\"",
        'cp "$1" kept; printf \'[training]\\nseed = 3\\nepochs = 0\\nspeed = 1\\n\' > "$1"',
        "printf '[training]\\nseed = 3\\n' > \"$1\"",
        "printf 'nonsense' > \"$1\"; exit 3",
    )
    async with at_home(None, "config", size=(120, 40)) as (app, pilot):
        await write(pilot, "training.epochs", "9")
        await pilot.press("f4")
        await changed(pilot, training__epochs=9, training__seed=44)
        await write(pilot, "model.dropout", "0.25")
        await press(pilot, "f4", "nothing changed in the editor")
        seen = (tmp_path / "seen").read_text()
        assert "seed = 44  # mine" in seen
        assert "dropout = 0.25" in seen
        await press(pilot, "f4", "training.epochs: is 0", "take it: the form shows the problems")
        await press(pilot, "t", "✗ 1 problem")
        await pilot.press("f6", "f6", "f6")
        await changed(pilot, training__epochs=9)
        await pilot.press("f6")
        await changed(pilot)

        await press(pilot, "f4", "The edited text can't be used", "line 2, column 8")
        await press(pilot, "enter", "line 3, column 10: training.epochs: is 0, must be at least 1")
        await until_shown(pilot, "line 4, column 1: training.speed: unknown config key")
        assert (tmp_path / "kept").read_text() == "[training]\nseed = = 3\n"
        await changed(pilot)
        await pilot.press("t")  # the form can't show an unknown key
        await pilot.press("enter")
        await changed(pilot, training__seed=3)
        await overlay_closed(pilot)
        await press(pilot, "f4", "sh exited with code 3")
        assert isinstance(app.screen, Question)
        kept = Path(app.screen._lines[-2].plain.removeprefix("The text is kept in "))
        assert kept.read_text() == "nonsense"
        await press(pilot, "D", "the edited text was discarded")
        assert not kept.exists()
        await changed(pilot, training__seed=3)


async def test_a_range_test_suggests_a_peak_that_enter_takes_and_undo_gives_back() -> None:
    async with at_home(None, "config") as (app, pilot):
        small = {"corpus.sentences": 300, "model.hidden_size": 16, "model.embedding_dim": 16}
        app.draft = Draft(parse_config(merge(PRESETS["elman"], small)), "preset elman")
        pane(app).show_snapshot(None)
        await pilot.press("U")
        await until_shown(pilot, "starting the test")
        await pilot.press("escape")
        await overlay_closed(pilot)
        await pilot.press("U")
        await until_shown(pilot, "enter  set the peak rate to")
        assert "★" in screen_text(app)
        await pilot.press("enter")
        await until(pilot, lambda: focused(app) == "optimizer.learning_rate")
        assert 1e-3 < edited(app).optimizer.learning_rate != 5e-3
        await press(pilot, "f6", "undone: peak rate")
        await changed(pilot)
