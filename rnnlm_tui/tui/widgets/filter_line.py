"""The filter above the list of runs: applied while you type, with the number of matches behind it."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.message import Message
from textual.widgets import Input

from rnnlm_tui.tui.widgets.content import safe_content
from rnnlm_tui.tui.widgets.line import Line
from rnnlm_tui.tui.widgets.palette import BAD, DIM, TEXT
from rnnlm_tui.tui.widgets.safe_text import SafeInput


class FilterInput(SafeInput):
    """The filter's text field; enter keeps the filter, up and down move in the list."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "screen.move_in_list(-1)", show=False),
        Binding("down", "screen.move_in_list(1)", show=False),
    ]


class FilterLine(Horizontal):
    """`/ ppl<80 demo      3 of 7 runs`; hidden without a filter."""

    DEFAULT_CSS = """
    FilterLine { height: 1; display: none; background: #121212; padding: 0 1; }
    FilterLine.-open { display: block; }
    FilterLine .sign { width: 2; }
    FilterLine FilterInput { width: 1fr; height: 1; border: none; padding: 0; background: #262626; color: #ffffff; }
    FilterLine FilterInput:focus { border: none; background: #262626; background-tint: #262626 0%; }
    FilterLine FilterInput > .input--cursor { background: #5fd7ff; color: #121212; text-style: none; }
    FilterLine FilterInput > .input--selection { background: #005f87; color: #eeeeee; }
    FilterLine FilterInput > .input--placeholder { color: #808080; }
    FilterLine .outcome { width: 2fr; margin: 0 0 0 2; }
    """

    class Changed(Message):
        """The filter's text changed."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text
            """The filter as typed."""

    class Submitted(Message):
        """Enter was pressed: keep the filter and focus the list."""

    def compose(self) -> ComposeResult:
        yield Line(classes="sign")
        yield FilterInput(placeholder="name, tag, ppl<80, failed", compact=True)
        yield Line(classes="outcome")

    def on_mount(self) -> None:
        self.query_one(FilterInput).cursor_blink = False
        self.query_one(".sign", Line).put(Content.styled("/", f"bold {TEXT}"))

    @property
    def text(self) -> str:
        """The filter as typed."""
        return self.query_one(FilterInput).value

    @property
    def typing(self) -> bool:
        """Whether the text field has the focus."""
        return self.query_one(FilterInput).has_focus

    def open(self) -> None:
        """Show the line and focus it."""
        self.add_class("-open")
        self.query_one(FilterInput).focus()

    def clear(self) -> None:
        """Remove the filter and hide the line."""
        self.query_one(FilterInput).value = ""
        self.remove_class("-open")

    def show_outcome(self, outcome: str, problem: str = "") -> None:
        """Show how many runs match, or what is wrong with the filter."""
        line = self.query_one(".outcome", Line)
        shown = Content.styled(outcome, DIM)
        if problem:
            words = [problem, *filter(None, [problem.partition("; ")[2]])]  # if both don't fit, show the hint
            shown, *shorter = (Content.assemble(("✗ ", BAD), safe_content(text, newlines="space").stylize(BAD)) for text in words)
            shown = shorter[0] if shorter and shown.cell_length > (line.size.width or shown.cell_length) else shown
        line.put(shown.truncate(line.size.width or shown.cell_length, ellipsis=True))

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self.post_message(self.Changed(event.value))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.set_class(bool(event.value.strip()), "-open")
        self.post_message(self.Submitted())
