"""Overlays for a choice, a run and its weights, and a list of texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import TextArea

from rnnlm_tui import client
from rnnlm_tui.client.checkpoints import is_average_path, weights_words
from rnnlm_tui.schema import formatting
from rnnlm_tui.schema.metrics import CheckpointRow, perplexity
from rnnlm_tui.schema.status import LIVING
from rnnlm_tui.store.paths import listed_run
from rnnlm_tui.tui.palette import DIM
from rnnlm_tui.tui.screens.overlay import Overlay, key_line
from rnnlm_tui.tui.screens.pick import PickItem, PickScreen
from rnnlm_tui.tui.views.prompt import BEST, LAST, NOW, CheckpointChoice
from rnnlm_tui.tui.views.versus import run_words
from rnnlm_tui.tui.widgets.panel import TitledContainer
from rnnlm_tui.tui.widgets.text_area import SafeTextArea

if TYPE_CHECKING:
    from rnnlm_tui.schema.summary import RunSummary
    from rnnlm_tui.store.paths import RunDirectory
    from rnnlm_tui.tui.app import RnnlmApp


class ChooseScreen(PickScreen):
    """A short list without a search. Returns the chosen word, or None."""

    NAME_LIMIT = 64
    SEARCHES = False
    BINDINGS: ClassVar[list[BindingType]] = [("q", "dismiss")]

    def __init__(
        self, title: str, choices: Sequence[tuple[str, str]], current: str = "", note: str = ""
    ) -> None:
        items = [PickItem(word, word, about) for word, about in choices]
        super().__init__(title, items, current=current)
        self.note = note


async def choose_weights(
    context: RnnlmApp, title: str, current: CheckpointChoice | None
) -> tuple[RunDirectory, CheckpointChoice, RunSummary] | None:
    """Ask for a run, and for one of its checkpoints or its current weights.

    Args:
        title: of both lists: `Side B`.
        current: marked in the lists.
    """
    found = context.summaries or ()
    runs = {run.run: run for run in found if run.checkpoints.count or run.status in LIVING}
    if not runs:
        context.report("no run has a checkpoint yet")
        return None
    lines = [(name, run_words(run)) for name, run in runs.items()]
    here = current.run if current is not None else ""
    name = await context.ask(ChooseScreen(f"{title}: run", lines, here))
    if not name:
        return None

    def read() -> tuple[RunDirectory, list[CheckpointRow]]:
        run = listed_run(name)
        return run, client.checkpoints.rows_on_disk(run)

    run, rows = await context.wait_for(read)
    summary = runs[name]
    wanted = current.wanted if current is not None and current.run == name else None
    choice = CheckpointChoice.of(name, rows, wanted, living=summary.status in LIVING)
    choices = weights_choices(choice, summary.checkpoints.pinned)
    if not choices:
        context.report(f"{name} has no checkpoint yet")
        return None
    word: str | None = next(iter(choices))
    if len(choices) > 1:
        known = {word: replace(choice, wanted=want).row for word, (want, _) in choices.items()}
        here = next((word for word, row in known.items() if row == choice.row), "")
        lines = [(word, help_text) for word, (_, help_text) in choices.items()]
        word = await context.ask(ChooseScreen(f"{title}: weights of {name}", lines, here))
    return (run, replace(choice, wanted=choices[word][0]), summary) if word else None


def weights_choices(
    choice: CheckpointChoice, pinned: tuple[int, ...]
) -> dict[str, tuple[str, str]]:
    """Return what can be chosen, newest first: its name, and the choice with a few words on it."""
    found = {"now": (NOW, "current weights while it trains")} if choice.living else {}
    for row in sorted(choice.rows, key=lambda row: row.step, reverse=True):
        is_pinned = row.step in pinned and not is_average_path(row.path)
        known = {"last": row.last, "best": row.best, "pinned": is_pinned}
        marks = [word for word, is_marked in known.items() if is_marked]
        if row.validation_loss is not None:
            marks.append(f"val ppl {formatting.figure(perplexity(row.validation_loss))}")
        wanted = BEST if row.best else LAST if row.last else row.path
        found.setdefault(weights_words(row.path, row.step), (wanted, ", ".join(marks)))
    return found


class TextsScreen(Overlay[str]):
    """Several short texts, one per line. Returns them in one string, None if unchanged."""

    DEFAULT_CSS = """
    TextsScreen TitledContainer { width: 70; }
    TextsScreen TextArea { height: 9; border: none; padding: 0; background: #262626;
        color: #ffffff; }
    TextsScreen TextArea:focus { border: none; background-tint: #262626 0%; }
    TextsScreen TextArea .text-area--cursor-line { background: #303030; }
    TextsScreen TextArea .text-area--cursor { background: #5fd7ff; color: #121212;
        text-style: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", show=False, priority=True),
        Binding("ctrl+s", "keep", show=False, priority=True),
    ]

    def __init__(self, title: str, text: str) -> None:
        super().__init__()
        self._title, self._text = title, text
        self._as_shown = ""

    def compose(self) -> ComposeResult:
        keys = key_line([("^s", "keep"), ("esc", "cancel")], 70, self.app)
        legend = Content.styled("one per line  ", DIM) + keys
        with TitledContainer(title=self._title, legend=legend, classes="-highlighted"):
            yield SafeTextArea(self._text, compact=True, tab_behavior="focus", soft_wrap=True)

    def on_mount(self) -> None:
        area = self.query_one(TextArea)
        self._as_shown = area.text
        area.cursor_blink = False
        area.focus()
        area.move_cursor(area.document.end)

    def action_keep(self) -> None:
        """Close with the edited text.

        An unchanged text is kept as it is, even if it can't be shown so.
        """
        text = self.query_one(TextArea).text
        self.dismiss(None if text == self._as_shown else text)
