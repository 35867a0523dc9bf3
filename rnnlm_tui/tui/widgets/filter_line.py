"""The line in which the list of runs is filtered: what is typed acts at once, and how many runs match stands behind it."""

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
    """Enter keeps the filter, the arrows go through what matches meanwhile."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "screen.move_in_list(-1)", show=False),
        Binding("down", "screen.move_in_list(1)", show=False),
    ]


class FilterLine(Horizontal):
    """`/ ppl<80 demo      3 of 7 runs`; hidden while there is no filter and none is being typed."""

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
        """Another filter is asked for."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text
            """What was typed."""

    class Submitted(Message):
        """Enter: the filter stays, the list has the keys again."""

    def compose(self) -> ComposeResult:
        yield Line(classes="sign")
        yield FilterInput(placeholder="name, tag, ppl<80, failed", compact=True)
        yield Line(classes="outcome")

    def on_mount(self) -> None:
        self.query_one(FilterInput).cursor_blink = False
        self.query_one(".sign", Line).put(Content.styled("/", f"bold {TEXT}"))

    @property
    def text(self) -> str:
        """The filter as it is typed."""
        return self.query_one(FilterInput).value

    @property
    def typing(self) -> bool:
        """Whether it has the keys."""
        return self.query_one(FilterInput).has_focus

    def open(self) -> None:
        """Show it and give it the keys."""
        self.add_class("-open")
        self.query_one(FilterInput).focus()

    def clear(self) -> None:
        """No filter; the line goes."""
        self.query_one(FilterInput).value = ""
        self.remove_class("-open")

    def show_outcome(self, outcome: str, problem: str = "") -> None:
        """How many runs match, or what can't be understood."""
        line = self.query_one(".outcome", Line)
        told = Content.styled(outcome, DIM)
        if problem:
            words = [problem, *filter(None, [problem.partition("; ")[2]])]  # where there is no room for both, what helps
            told, *shorter = (Content.assemble(("✗ ", BAD), safe_content(text, newlines="space").stylize(BAD)) for text in words)
            told = shorter[0] if shorter and told.cell_length > (line.size.width or told.cell_length) else told
        line.put(told.truncate(line.size.width or told.cell_length, ellipsis=True))

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self.post_message(self.Changed(event.value))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.set_class(bool(event.value.strip()), "-open")
        self.post_message(self.Submitted())
