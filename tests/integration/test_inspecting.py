"""Inspect with a real model and its sampler, with keys alone."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from textual.pilot import Pilot

from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.states import list_states
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.screens.inspect import InspectScreen
from tests.faults.workers import Workers, warm_starts
from tests.integration.runs import (
    PATIENCE_SECONDS,
    start,
    tiny_config,
    wait_until_ended,
    write_text,
)
from tests.tui.panes.seeing import until_shown
from tests.tui.support import until


@pytest.fixture(scope="module")
def run(workers: Workers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunDirectory]:
    """A GRU on characters."""
    folder = tmp_path_factory.mktemp("inspected")
    text, test = write_text(folder / "text.txt"), write_text(folder / "test.txt", 120)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("RNNLM_TUI_HOME", str(folder / "home"))
        with warm_starts(workers):
            run = start(
                tiny_config(text, {"corpus.test_source": str(test), "model.cell_type": "gru"}),
                "grey-owl",
            )
            wait_until_ended(run)
        yield run


async def at_cursor(pilot: Pilot[int], screen: InspectScreen) -> None:
    """Wait for the alternatives at the cursor."""
    await until(
        pilot,
        lambda: (
            screen.scored is not None
            and screen.choices.answer is not None
            and screen.choices.answer.position == screen.cursor
        ),
    )


async def choose(pilot: Pilot[int], screen: InspectScreen, wanted: Callable[[int], bool]) -> int:
    """Take the first alternative at the cursor whose token is wanted."""
    await at_cursor(pilot, screen)
    place, token = next(
        (place, row.token) for place, row in enumerate(screen.choices.rows) if wanted(row.token)
    )
    await pilot.press("enter", *["down"] * place, "enter")
    return token


async def test_a_text_is_inspected_branched_and_kept_with_keys_alone(
    run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.tui.support.DEADLINE", PATIENCE_SECONDS)
    app = RnnlmApp(run, "prompt")
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: app.snapshot is not None)
        await pilot.press(*"The cat", "enter")
        await until_shown(pilot, "✓ 12 of 12 tokens")
        await pilot.press("f2")
        screen, tree = app.pane_screen, app.prompt_session.tree
        assert isinstance(screen, InspectScreen)
        await at_cursor(pilot, screen)
        first = tree.current
        assert first is not None

        # the token that is there gives the same text
        await pilot.press("right", "right", "right")
        await choose(pilot, screen, lambda token: token == first.ids[3])
        await until(pilot, lambda: len(tree.branches) == 2)
        assert tree.current is not None
        assert (tree.current.text, tree.current.ids) == (first.text, first.ids)
        assert tree.current.shared == 3

        # another one a branch
        await pilot.press("u")
        await until(pilot, lambda: tree.current is first)
        other = await choose(pilot, screen, lambda token: token != first.ids[3])
        await until(pilot, lambda: len(tree.branches) == 3)
        assert tree.current is not None
        assert tree.current.ids[:4] == (*first.ids[:3], other)
        assert len(tree.current.ids) == len(first.ids)
        await at_cursor(pilot, screen)
        assert screen.scored is not None
        assert "".join(screen.scored.texts).endswith(tree.current.text)

        # a typed word is read as its tokens
        await pilot.press("enter", "end", "enter")
        await until_shown(pilot, "a token, or several words")
        await pilot.press(*"bird", "enter")
        await until(pilot, lambda: len(tree.branches) == 4)
        assert tree.current is not None
        assert tree.current.text[3:].startswith(" bird")
        await at_cursor(pilot, screen)

        # the state of both layers, its gates, one unit, and the reach of a gradient
        await until_shown(pilot, "State, layer 2 of 2", "24 of 24 units", "rst", "upd", "at token")
        await pilot.press("i")
        await until_shown(pilot, "State, layer 1 of 2")
        await pilot.press("slash", *"space", "enter")
        await until_shown(pilot, "by how they follow space")
        await pilot.press("tab")
        await until_shown(pilot, "Unit u", "match", "at the cursor")
        await pilot.press("tab", "end", "left")
        await until_shown(pilot, "Reach, token", "gradient")
        await pilot.press("slash", "ctrl+u", *"vowels", "enter")
        await until_shown(pilot, 'cannot search for "vowels"')

        # a state is kept
        await pilot.press("p")
        await until_shown(pilot, "Keep the state after")
        await pilot.press("ctrl+u", *"owl", "enter")
        await until_shown(pilot, "kept owl")
        [kept] = list_states()
        assert kept.text.startswith("The cat")

        # the sampler is killed, and asked again
        assert app.sampler is not None
        process = app.sampler._process
        assert process is not None
        process.kill()
        await process.wait()
        await pilot.press("home", "right", "right")
        await at_cursor(pilot, screen)
        assert screen.choices.rows

        # the checkpoint is deleted, and comes back
        path = Path(tree.branches[0].weights.path)
        shutil.move(path, tmp_path / "moved")
        await app.sampler.close()  # it has the weights in memory
        await pilot.press("right")
        await until_shown(pilot, "✗ checkpoint not found")
        shutil.move(tmp_path / "moved", path)
        await pilot.press("right")
        await at_cursor(pilot, screen)
        assert screen.choices.rows
