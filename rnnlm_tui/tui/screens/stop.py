"""StopScreen: stop now, after this epoch or after the next evaluation, or keep training."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.binding import Binding
from textual.content import Content

from rnnlm_tui.schema.formatting import count
from rnnlm_tui.schema.summary import RunSummary
from rnnlm_tui.tui import palette
from rnnlm_tui.tui.screens.overlay import Overlay, OverlayText
from rnnlm_tui.tui.text import safe_content
from rnnlm_tui.tui.widgets.panel import TitledContainer


class StopScreen(Overlay[str]):
    """Returns `now`, `epoch`, `evaluation`, `cancel` a planned stop, or an empty text.

    Args:
        every: steps between evaluations; 0: none is planned.
    """

    DEFAULT_CSS = """
    StopScreen TitledContainer { width: 60; max-width: 100%; height: auto; background: #121212; }
    StopScreen OverlayText { height: auto; }
    """
    BINDINGS = [  # noqa: RUF012
        Binding("enter,S", "answer('now')", show=False),
        Binding("p", "answer('epoch')", show=False),
        Binding("e", "answer('evaluation')", show=False),
        Binding("u", "answer('cancel')", show=False),
        Binding("escape,q", "answer('')", show=False),
    ]

    def __init__(self, summary: RunSummary, every: int) -> None:
        super().__init__()
        self._summary, self._every = summary, every

    def compose(self) -> ComposeResult:
        name = safe_content(self._summary.run, newlines="show", limit=40).plain
        with TitledContainer(title=f"Stop {name}?", classes="-highlighted"):
            yield OverlayText(self._content(), id="stop-text")

    def action_answer(self, answer: str) -> None:
        """Close with this answer, if it is one of those offered."""
        if answer in ("", "now") or answer in dict(self._more()):
            self.dismiss(answer)

    def _more(self) -> list[tuple[str, tuple[str, str]]]:
        """The other answers, each with its key and words."""
        step = self._summary.step
        found = [("epoch", ("p", "after this epoch (pass over the text)"))]
        if self._every:
            coming = (step // self._every + 1) * self._every
            found.append(("evaluation", ("e", f"after the evaluation at step {count(coming)}")))
        if self._summary.stop_after is not None:
            mark = "this epoch" if self._summary.stop_after == "epoch" else "the evaluation"
            found.append(("cancel", ("u", f"don't stop after {mark}: keep training")))
        return found

    def _content(self) -> Content:
        lines = [
            Content(""),
            Content.assemble(
                ("› ", palette.FOCUS),
                ("enter  ", f"bold {palette.FOCUS}"),
                ("now: saves a checkpoint, then stops", f"bold {palette.BRIGHT}"),
            ),
        ]
        lines += [
            Content.assemble((f"  {key}      ", f"bold {palette.TEXT}"), (words, palette.TEXT))
            for _, (key, words) in self._more()
        ]
        lines.append(
            Content.assemble(("  esc    ", f"bold {palette.TEXT}"), ("keep training", palette.TEXT))
        )
        return Content("\n").join(lines)
