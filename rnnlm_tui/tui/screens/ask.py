"""AskScreen: a question with a one-line answer that is checked while it is typed."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Input

from rnnlm_tui.errors import RnnlmError
from rnnlm_tui.tui.screens.overlay import Overlay, OverlayText
from rnnlm_tui.tui.widgets.content import safe_content
from rnnlm_tui.tui.widgets.palette import BAD, DIM, TEXT
from rnnlm_tui.tui.widgets.panel import TitledContainer
from rnnlm_tui.tui.widgets.safe_text import SafeInput


class AskScreen(Overlay[str]):
    """Returns the text, which has passed the check; None if cancelled."""

    DEFAULT_CSS = """
    AskScreen TitledContainer { width: 76; max-width: 100%; height: auto; background: #121212; }
    AskScreen SafeInput { width: 100%; height: 1; border: none; padding: 0; background: #262626; color: #ffffff; }
    AskScreen SafeInput:focus { border: none; background: #262626; background-tint: #262626 0%; }
    AskScreen SafeInput > .input--cursor { background: #5fd7ff; color: #121212; text-style: none; }
    AskScreen SafeInput > .input--selection { background: #005f87; color: #eeeeee; }
    AskScreen OverlayText { height: 2; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", show=False)]

    def __init__(self, title: str, text: str, check: Callable[[str], object], *, about: str, most: int = 0) -> None:
        """Ask.

        Args:
            title: of the box, such as `Tags of plain-otter`; text from outside is sanitized.
            text: the initial text.
            check: raises an RnnlmError for an invalid answer.
            about: one dim line below, about what is expected.
            most: the most characters; 0: no limit.
        """
        super().__init__()
        self._title, self._text, self._check, self._about, self._most = title, text, check, about, most

    def compose(self) -> ComposeResult:
        legend = Content.assemble(("enter", f"bold {TEXT}"), (" keep  ", DIM), ("esc", f"bold {TEXT}"), (" cancel", DIM))
        with TitledContainer(title=self._title, legend=legend, classes="-highlighted"):
            yield SafeInput(self._text, max_length=self._most, select_on_focus=False, compact=True)
            yield OverlayText(id="ask-about")

    def on_mount(self) -> None:
        box = self.query_one(SafeInput)
        box.cursor_blink = False
        box.focus()
        self._show_problem(self._problem(self._text) if self._text else "")

    def on_input_changed(self, event: Input.Changed) -> None:
        """Check the text; an empty one isn't reported as invalid yet."""
        event.stop()
        self._show_problem(self._problem(event.value) if event.value else "")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        problem = self._problem(event.value)
        if problem:
            self._show_problem(problem)
        else:
            self.dismiss(event.value)

    def action_leave(self) -> None:
        """Close without an answer."""
        self.dismiss(None)

    def _problem(self, text: str) -> str:
        try:
            self._check(text)
        except RnnlmError as error:
            return error.message
        return ""

    def _show_problem(self, problem: str) -> None:
        line = Content.assemble(("✗ ", BAD), safe_content(problem, newlines="space").stylize(BAD)) if problem else safe_content(self._about).stylize(DIM)
        self.query_one("#ask-about", OverlayText).update(line)
