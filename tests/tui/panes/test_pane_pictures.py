"""Snapshots of the panes of a run but Train; see `tests/tui/pictures.py`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from textual.pilot import Pilot

from rnnlm_tui.client.corpora import Preview
from rnnlm_tui.store.labels import RunLabels, change_labels
from rnnlm_tui.tui import folders
from rnnlm_tui.tui.actions import Pane
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.folders import Entry
from rnnlm_tui.tui.screens.config import ConfigScreen
from rnnlm_tui.tui.screens.config_files import edited_question
from rnnlm_tui.tui.views.form import FIELDS
from rnnlm_tui.tui.views.sample_tree import SampleTree
from tests.homes import LOSSES
from tests.tui.demo_run import demo_run
from tests.tui.fakes import FakeSampler, make_estimate
from tests.tui.panes import test_versus_pane as versus
from tests.tui.panes.asking import pane
from tests.tui.panes.fakes import CONFIG
from tests.tui.panes.seeing import press, until_shown
from tests.tui.panes.test_inspect_pane import sampled, scored, weights
from tests.tui.panes.test_prompt_overlays import keep_state, keep_three_samples
from tests.tui.pictures import (
    SMALL,
    Mode,
    assert_picture,
    assert_pictures,
    each_mode,
    each_size,
)
from tests.tui.support import at_home, until

pytestmark = pytest.mark.usefixtures("still")

SNAPSHOTS = Path(__file__).with_name("snapshots")
TEXT = (
    " is strong, and the Congress must act on the program",
    " of the American people. We have a great responsibility",
    " to the free nations of the world.",
)


@asynccontextmanager
async def drawn(
    pane: Pane, mode: Mode, sampler: FakeSampler | None = None, size: tuple[int, int] = SMALL
) -> AsyncIterator[tuple[RnnlmApp, Pilot[int]]]:
    """The pane of a run that trains."""
    with demo_run(config=CONFIG, saved=LOSSES, curve=False):
        async with at_home(
            pane=pane, size=size, ascii_only=mode == "ascii", sampler=sampler
        ) as opened:
            yield opened


@asynccontextmanager
async def drafted(
    size: tuple[int, int], mode: Mode, preview: Preview | None = None
) -> AsyncIterator[tuple[RnnlmApp, Pilot[int], ConfigScreen]]:
    """The config of a new run, from that of the run that trains, with this preview of its text."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rnnlm_tui.client.corpora.preview", lambda _: preview)
        patch.setattr("rnnlm_tui.store.runs.suggest_name", lambda: "calm-badger")
        patch.setattr("rnnlm_tui.client.estimate.estimate", make_estimate)
        patch.setattr("rnnlm_tui.client.start.check_source", lambda _: None)
        async with drawn("config", mode, size=size) as (app, pilot):
            await until_shown(pilot, "frozen")
            await press(pilot, "n", "calm-badger", "543,104")
            screen = app.pane_screen
            assert isinstance(screen, ConfigScreen)
            yield app, pilot, screen
            kept = screen._kept  # a late write would be in the next test's home
            await until(pilot, lambda: kept is None or (kept.is_kept and not kept.writes))


@each_mode("config")
async def test_config_with_changes_and_a_problem(name: str, mode: Mode) -> None:
    mark = "x" if mode == "ascii" else "✗"
    async with drafted(SMALL, mode) as (_app, pilot, screen):
        for path, value in (
            ("model.dropout", 0.25),
            ("training.seed", 7),
            ("optimizer.learning_rate", 5.0),
        ):
            screen.form.set_values({path: value})
        await until_shown(pilot, "3 changed from plain-otter")
        screen.form.go_to("optimizer.learning_rate")
        await until_shown(pilot, f"{mark} is 5, must be at most 1 with adamw")
        await assert_pictures(pilot, SNAPSHOTS, name, mode)


CODE = Preview(
    "raw",
    "12 of 12 files are code (.py)",
    (
        ("def", " push", "(", "heap", ",", " item", "):", "\n"),
        ("   ", ' """', "Keep", " the", " order", '."""', "\n"),
        ("\t", "heap", ".", "append", "(", "item", ")  \n"),
    ),
    exact=True,
)


OVERLAYS = {
    "config-of-code": ("", "raw: 12 of 12 files", "→heap.append(item)··↵"),
    "config-find": ("slash r a t e", "Find a field", f" of {len(FIELDS)}"),
    "config-begin": ("P", "Begin from", "Presets"),
    "config-errors": ("", "The edited text can't be used"),
    "config-browse": ("b", "Choose a text", "first lines as tokens"),
    "config-compared": ("v v", "Only what differs from preset demo"),
}
"""State → the keys that lead there, and what it shows."""
PROBLEMS = (
    "line 3, column 10: model.dropout: is 1.5, must be at most 0.99 (0 … 0.99)",
    'line 9, column 1: training.epoch: unknown config key (did you mean "training.epochs"?)',
)


@each_size(*OVERLAYS)
async def test_config_of_code_and_its_overlays(
    names: list[str], size: tuple[int, int], mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path("/tmp/rnnlm-tui-pictures")
    monkeypatch.setattr(folders, "start_folder", lambda _path: folder)
    entries = (
        Entry("src", folder / "src", True),
        Entry("heap.py", folder / "heap.py", False, 4_096),
        Entry("notes.txt", folder / "notes.txt", False, 120_000),
    )
    monkeypatch.setattr(folders, "list_folder", lambda _path, **_: entries)
    async with drafted(size, mode, CODE) as (app, pilot, screen):
        app.settings["recent_configs"] = ["/home/me/configs/wide.toml"]
        await until(pilot, lambda: screen._check.found.preview == CODE)
        for name in names:
            if name == "config-of-code":
                screen.form.set_values({"corpus.source": "src"})
                screen.form.go_to("corpus.mask_digits")
            elif name == "config-errors":
                app.push_screen(edited_question(PROBLEMS, "/tmp/rnnlm-tui-x/calm-badger.toml"))
            elif name == "config-compared":
                screen.form.set_values({"optimizer.learning_rate": 5e-3})
                screen.form.set_values({"model.dropout": 0.25})
            keys, *shown = OVERLAYS[name]
            await press(pilot, keys, *shown)
            await assert_picture(app, SNAPSHOTS, name, size, mode)
            if name == "config-of-code":
                screen.form.set_values({"corpus.source": "presidents"})
                screen.form.go_to("corpus.source")
            else:
                await pilot.press("escape")
            await until(pilot, lambda: app.screen is screen)


async def test_config_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rnnlm_tui.client.corpora.preview", lambda _: None)
    monkeypatch.setattr("rnnlm_tui.client.estimate.estimate", make_estimate)
    async with drawn("config", "") as (_app, pilot):
        await until_shown(pilot, "frozen", "543,104")
        await press(pilot, "tab tab", "textbook RNN")
        await assert_pictures(pilot, SNAPSHOTS, "config-of-run")


@each_mode("checkpoints")
async def test_checkpoints(name: str, mode: Mode) -> None:
    labels = RunLabels(pins=frozenset({3000}), notes={3000: "good rhythm"})
    with demo_run(config=CONFIG, saved=LOSSES, curve=False) as run:
        change_labels(run, lambda _: labels)
        # before the app looks at the files, which it does again only every ten seconds
        (run.checkpoints_path / "step-000001000" / "model.safetensors").write_bytes(b"cut")
        async with at_home(pane="checkpoints", ascii_only=mode == "ascii") as (app, pilot):
            await until_shown(pilot, "good rhythm", "size differs")
            await press(pilot, "down C", "all 3 files verified")
            assert app.pane_screen is not None
            app.pane_screen.end_notice()
            await until_shown(pilot, "Step 3,700", "verified just now", "0.91")
            await assert_pictures(pilot, SNAPSHOTS, name, mode)


async def test_pruning_checkpoints() -> None:
    async with drawn("checkpoints", "") as (_app, pilot):
        await until_shown(pilot, "0.91")
        await press(pilot, "X", "deletes 3 checkpoints")
        await assert_pictures(pilot, SNAPSHOTS, "checkpoints-prune")


INSPECTED = {
    "inspect": ("Instead of", ()),
    "inspect-choosing": ("Take it", ("enter", "down")),
    "inspect-state": ("State", ("escape", "tab")),
    "inspect-unit": ("Unit u23", ("tab",)),
    "inspect-reach": (": gradient still", ("tab",)),
}
"""State → what it shows, and the keys that lead there from the one before."""


@each_size(
    "prompt-samples", "prompt-states", "prompt-presets", "prompt-settings", "prompt-editing",
    "prompt", "prompt-together", *INSPECTED,
)  # fmt: skip
async def test_sample_and_inspect_with_each_view(
    names: list[str], size: tuple[int, int], mode: Mode
) -> None:
    keep_three_samples()
    keep_state("congress")
    keep_state("gates", cell_type="lstm", hidden_size=512)
    mark = "+" if mode == "ascii" else "✓"
    async with drawn("prompt", mode, FakeSampler(words=TEXT), size) as (app, pilot):

        async def picture(name: str, *shown: str) -> None:
            await until_shown(pilot, *shown)
            if name in names:
                await assert_picture(app, SNAPSHOTS, name, size, mode)

        async def sample(*prompts: str, begins: str = " is strong") -> None:
            app.prompt_session.tree = SampleTree()
            pane(app).transcript.clear()
            for prompt in prompts:
                await press(pilot, ["ctrl+u", *prompt, "enter"], f"{prompt}{begins}", f"{mark} 3 ")

        for key, name, words in (
            ("f7", "samples", "3 samples"), ("f8", "states", "2 states"), ("f9", "presets", "wild"),
        ):  # fmt: skip
            await pilot.press(key)
            await picture(f"prompt-{name}", words)
            await pilot.press("escape")
            await until(pilot, lambda: app.screen is app.pane_screen)
        await pilot.press("tab", "tab")
        await picture("prompt-settings", "typical-p")
        await pilot.press("escape")
        await sample("The state of the Union")
        await pilot.press("f4")
        await picture("prompt-editing", "Edit the text")
        await pilot.press("escape")
        await sample("We must", "The state of the Union")
        await picture("prompt")
        await pilot.press(*["tab"] * 7, "3", "enter")
        await sample("The state of the Union", begins="")
        if size[0] >= 120:
            await app.screen.run_action("screen.side_by_side")
        await pilot.press("escape", "right")
        await picture("prompt-together", "2 of 3")

        assert app.run_directory is not None
        app.prompt_session.tree = SampleTree()
        app.prompt_session.tree.add(sampled(weights=weights(app.run_directory, 3_700), top_k=6))
        await pilot.press("f2")
        screen = await scored(app, pilot)
        await pilot.press(*["right"] * 10)
        await until(pilot, lambda: (known := screen.choices.answer) and known.position == 15)
        for name, (shown, keys) in INSPECTED.items():
            # with room, the state is shown from the start
            await pilot.press(*keys[: 1 if name == "inspect-state" and size[0] > 100 else 2])
            ascii_shown = shown.replace("“", '"').replace("”", '"')
            await picture(name, ascii_shown if mode == "ascii" else shown)


@each_size("versus-grid", "versus", "versus-differences", "versus-four")
async def test_the_grid_two_and_four_sides_and_the_difference_of_surprise(
    names: list[str], size: tuple[int, int], mode: Mode
) -> None:
    made, fake = partial(demo_run, config=CONFIG, saved=LOSSES, curve=False), versus.sampler()

    async def answered(pilot: Pilot[int], requests: int) -> None:
        """Wait until this many samples have ended and are scored."""
        await until(pilot, lambda: len(fake.requests) == requests and not versus.pane(app).sampling)

    with made("finished", name="brisk-heron"), made():
        async with at_home(pane="versus", size=size, ascii_only=mode == "ascii", sampler=fake) as (
            app,
            pilot,
        ):
            done = 0
            for name in names:
                if name == "versus-grid":
                    await pilot.press(*"The state of the Union", "escape", "ctrl+n", "ctrl+g")
                    await answered(pilot, done := 12)
                    await pilot.press("down")
                elif name == "versus":
                    for prompt in ("My fellow Americans,", "The state of the Union"):
                        await pilot.press("ctrl+u", *prompt, "enter")
                        await answered(pilot, done := done + 2)
                    await press(pilot, "escape", "B scores A")
                elif name == "versus-differences":
                    await press(pilot, "ctrl+t", "of 18 tokens")
                    await pilot.press("shift+right", "shift+right")
                else:
                    await pilot.press("escape", "ctrl+n", "ctrl+n", "enter")
                    await answered(pilot, done := done + 4)
                    await press(pilot, "shift+right", "differs 1 of")
                await assert_picture(app, SNAPSHOTS, name, size, mode)
                if name == "versus-grid":  # two sides again, A chosen, in the box
                    await pilot.press("escape", "delete", "shift+tab", "shift+tab")
