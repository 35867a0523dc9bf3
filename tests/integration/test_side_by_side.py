"""Side by side with real models and their sampler, with keys alone."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import OptionList

from rnnlm_tui.store.kept_samples import search
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.screens.versus import VersusScreen
from rnnlm_tui.tui.views.text_differences import TextScore
from rnnlm_tui.tui.views.versus import SideText
from rnnlm_tui.tui.widgets.sample_grid import SampleGrid
from tests.integration.runs import start, tiny_config, wait_until_ended
from tests.tui.panes.seeing import until_shown
from tests.tui.support import until

pytestmark = pytest.mark.usefixtures("warm")

TOKENS = 40
SHORT = {"training.max_steps": 20}


@pytest.fixture
def runs(text: Path) -> list[RunDirectory]:
    """A run on characters with three checkpoints, and one each on parts of words and on words."""
    found = [
        start(tiny_config(text, {"sampling.max_new_tokens": TOKENS, **changes}), name)
        for name, changes in (
            ("calm-otter", {}),
            ("bpe-heron", {"tokenizer.kind": "bpe", "tokenizer.vocab_size": 300, **SHORT}),
            ("word-wombat", {"tokenizer.kind": "word", **SHORT}),
        )
    ]
    for run in found:
        wait_until_ended(run)
    return found


def texts(app: RnnlmApp) -> list[SideText]:
    """The newest text of each side, once all are sampled and scored."""
    screen = app.pane_screen
    assert isinstance(screen, VersusScreen)
    found = screen.found
    known = [found.text(place) for place in range(len(found.sides))]
    return [] if screen.sampling else [text for text in known if text is not None]


async def sampled(app: RnnlmApp, pilot: Pilot[int], sides: int = 2) -> list[SideText]:
    """Wait for the scored texts of all sides."""
    await until(
        pilot,
        lambda: (
            len(found := texts(app)) == sides
            and all(text.done is not None and len(text.scores) == sides for text in found)
        ),
    )
    return texts(app)


async def choose_run(app: RnnlmApp, pilot: Pilot[int], name: str) -> None:
    """Choose the run of side B, which has the focus."""
    await pilot.press("ctrl+o")
    await until_shown(pilot, "Side B: run")
    options = app.screen.query_one(OptionList)
    place = [run.run for run in app.summaries or ()].index(name)
    await pilot.press("home", *["down"] * place)
    await until(pilot, lambda: options.highlighted == place)
    await pilot.press("enter")
    await until_shown(pilot, f"B {name} @best")


async def test_checkpoints_and_runs_are_sampled_scored_and_compared(
    runs: list[RunDirectory],
) -> None:
    app = RnnlmApp(runs[0], "versus")
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await until_shown(pilot, "A calm-otter @best", "B calm-otter")
        await until(pilot, lambda: len(app.summaries or ()) == 3)
        await pilot.press(*"The cat", "enter")
        a, b = await sampled(app, pilot)
        steps = {text.wanted.weights.step for text in (a, b)}
        assert len(steps) == 2
        assert a.done is not None
        assert b.done is not None
        assert a.done.tokens == b.done.tokens == TOKENS
        # the score of a text by its own model is what sampling it said
        for text in (a, b):
            assert text.done is not None
            assert math.isclose(
                text.scores[text.side].bits_per_token, text.done.bits_per_token, abs_tol=1e-3
            )
        assert a.scores[b.side].bits_per_token > a.scores[a.side].bits_per_token
        await until(pilot, lambda: {kept.step for kept in search(run="calm-otter")} == steps)

        # one text, two checkpoints: the differences add up to that of the scores
        await pilot.press("ctrl+t")
        await until_shown(pilot, "Difference of surprise, A’s text")
        assert isinstance(app.pane_screen, VersusScreen)
        shown = app.pane_screen.scores
        await until(pilot, lambda: bool(shown.spans))
        assert "".join(span.text for span in shown.spans) == f"The cat{a.text}"
        whole = math.fsum(span.difference for span in shown.spans[-TOKENS:])
        scores: list[TextScore] = [a.scores[text.side] for text in (a, b)]
        assert math.isclose(whole, sum(scores[0].bits) - sum(scores[1].bits), abs_tol=1e-3)

        # a run with another tokenizer
        await pilot.press("escape", "tab")
        await choose_run(app, pilot, "bpe-heron")
        await pilot.press("enter")
        await until_shown(pilot, "B scores A’s text", "bits/byte", "two tokenizers")
        await until(
            pilot, lambda: len(found := texts(app)) == 2 and found[1].side in found[0].scores
        )
        a, b = texts(app)
        assert sum(a.scores[b.side].bytes) == len(a.text.encode())
        assert a.scores[b.side].bits_per_byte != a.scores[a.side].bits_per_byte
        assert a.side in b.scores or b.refused[a.side].startswith("no token for "), b.refused
        await pilot.press("shift+tab", "ctrl+t")
        await until_shown(pilot, "Difference of surprise, A’s text, two tokenizers")
        await until(pilot, lambda: "".join(span.text for span in shown.spans) == f"The cat{a.text}")
        assert shown.order
        await pilot.press("escape", "tab")

        # words can't be read from a text of a model that makes up its own
        await choose_run(app, pilot, "word-wombat")
        await pilot.press("enter")
        await until_shown(pilot, "B scores A’s text no token for")
        await until(pilot, lambda: len(texts(app)) == 2)

        # the grid, and a cell of it in the prompt pane
        await pilot.press("ctrl+g")
        grid = app.screen.query_one(SampleGrid)
        await until(
            pilot,
            lambda: (
                grid.shown is not None
                and all(cell.done is not None for row in grid.shown.texts.values() for cell in row)
            ),
        )
        await pilot.press("enter")
        await until(pilot, lambda: app.current_mode == "prompt")
        current = app.prompt_session.tree.current
        assert current is not None
        assert current.prompt == "The cat"
        assert current.text == a.text, "the same seed and temperature"
