"""Overlay: a box over a pane whose cells are drawn in grey; and the questions that use it."""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar, TypeVar, cast

from rich.console import RenderableType
from rich.segment import Segment, SegmentLines
from rich.style import Style
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.content import Content
from textual.screen import ModalScreen, Screen
from textual.widgets import Input, Static

from rnnlm_tui.errors import RnnlmError
from rnnlm_tui.store.labels import MOST_NOTE_CHARACTERS, check_note
from rnnlm_tui.tui._textual import ChangedCellsScreen, CurrentSize, screen_rows
from rnnlm_tui.tui.actions import shown_keys
from rnnlm_tui.tui.palette import BACKGROUND, BAD, BRIGHT, DIM, FOCUS, GREY, TEXT, ink
from rnnlm_tui.tui.text import fitting, safe_content
from rnnlm_tui.tui.widgets.frame import FooterLine
from rnnlm_tui.tui.widgets.panel import TitledContainer
from rnnlm_tui.tui.widgets.text_field import PathInput, SafeInput

if TYPE_CHECKING:
    from rnnlm_tui.tui.app import RnnlmApp

ResultT = TypeVar("ResultT")
Answers = Sequence[tuple[str, str, ResultT]]
"""The keys of each answer, of which the first is shown, its words, and what it returns."""


def grey(screen: Screen[object]) -> SegmentLines:
    """Return a screen in grey, without its footer's keys, which don't work under an overlay."""
    bare = ink(GREY, background=BACKGROUND)
    underlined = bare + Style(underline=True)
    footer = next(iter(screen.query(FooterLine)), None)
    keys = footer.region.y if footer is not None and footer.notice is None else None
    lines = [
        [
            Segment(text, underlined if style is not None and style.underline else bare)
            for text, style, _ in strip
        ]
        if y != keys
        else [Segment(" " * strip.cell_length, bare)]
        for y, strip in enumerate(screen_rows(screen))
    ]
    return SegmentLines(lines, new_lines=True)


class Overlay(ChangedCellsScreen, CurrentSize, ModalScreen[ResultT]):
    """A modal screen over greyed-out cells.

    `q` closes it as `esc` does, because escape is delayed.
    """

    DEFAULT_CSS = """
    Overlay { align: center middle; background: #121212 50%; }
    Overlay TitledContainer { max-width: 100%; height: auto; background: #121212; }
    Overlay OptionList { text-wrap: nowrap; text-overflow: ellipsis; height: auto;
        max-height: 16; border: none; padding: 0; background: #121212; color: #d0d0d0; }
    Overlay OptionList:focus { border: none; }
    Overlay OptionList > .option-list--option-highlighted { background: #303030; color: #ffffff;
        text-style: bold; }
    Overlay OptionList > .option-list--option-disabled { color: #808080; }
    """

    @property
    def context(self) -> RnnlmApp:
        """The app."""
        return cast("RnnlmApp", self.app)

    @property
    def is_open(self) -> bool:
        """Whether it isn't closed: a closed screen has no widgets before it is detached."""
        return self in self.app.screen_stack

    def render(self) -> RenderableType:
        stack = self.app.screen_stack
        below = stack[: stack.index(self)] if self in stack else []
        return grey(below[-1]) if below else super().render()


class OverlayText(Static):
    """The lines of an overlay."""


def keys_in_line(keys: Sequence[tuple[str, str]], *, gap: int = 3) -> Content:
    """Return `enter use   esc close`, of any width."""
    return Content(" " * gap).join(
        Content.assemble((key, f"bold {BRIGHT}"), (f" {word}", DIM)) for key, word in keys
    )


class Question(Overlay[ResultT]):
    """Lines, and below them the answers, of which `enter` gives the first."""

    DEFAULT_CSS = """
    Question TitledContainer { width: 60; }
    Question.-wide TitledContainer { width: 90; max-height: 94%; }
    Question.-indented TitledContainer { padding: 0; }
    Question OverlayText { width: 100%; }
    Question.-indented OverlayText { padding: 0 0 1 0; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        (key, f"answer('{key}')") for key in ("enter", "escape", *string.ascii_letters)
    ]

    def __init__(
        self, title: str, lines: Sequence[Content], answers: Answers[ResultT], classes: str = ""
    ) -> None:
        super().__init__(classes=classes)
        self._title, self._lines, self._answers = title, lines, answers

    def compose(self) -> ComposeResult:
        with TitledContainer(title=self._title, classes="-highlighted"):
            yield OverlayText(self._content())

    def ask_again(self, lines: Sequence[Content], answers: Answers[ResultT]) -> None:
        """Show these lines and answers from now on."""
        if (lines, answers) != (self._lines, self._answers):
            self._lines, self._answers = lines, answers
            self.query_one(OverlayText).update(self._content())

    def action_answer(self, key: str) -> None:
        """Close with the answer that has this key."""
        for keys, _, result in self._answers:
            if key in keys.split(","):
                self.dismiss(result)

    def _content(self) -> Content:
        lines = list(self._lines)
        for number, (keys, words, _) in enumerate(self._answers):
            key = keys.split(",")[0].replace("escape", "esc").ljust(7)
            sign, tone, of_words = ("  ", TEXT, TEXT) if number else ("› ", FOCUS, f"bold {BRIGHT}")
            text = safe_content(words, newlines="space").stylize(of_words)
            lines.append(Content.assemble((sign, tone), (key, f"bold {tone}"), text))
        return Content("\n").join(lines)


class ConfirmScreen(Question[bool]):
    """Returns True only for a capital D."""

    def __init__(self, title: str, fact: str, more: str, keep: str, proceed: str) -> None:
        facts = [
            safe_content(f"  {text}", newlines="space", limit=56).stylize(tone)
            for text, tone in ((fact, TEXT), (more, DIM))
        ]
        answers = (("enter,escape,q", keep, False), ("D", proceed, True))
        super().__init__(title, [Content(""), *facts, Content("")], answers, classes="-indented")


def purge_question(title: str, what: str, number: int, proceed: str) -> ConfirmScreen:
    """Ask before one or several things are deleted for good."""
    keep = "keep it" if number == 1 else "keep them"
    return ConfirmScreen(title, what, "This can't be undone.", keep, proceed)


def key_line(keys: Sequence[tuple[str, str]], width: int, app: object) -> Content:
    """Return `↑ ↓ scroll  esc close` for `width` cells; keys before the last are dropped first."""
    items = [
        Content.assemble((shown_keys(key, app), f"bold {TEXT}"), (f" {word}", DIM))
        for key, word in keys
    ]
    return Content("  ").join(fitting(items, width - 6, 2))


class AskScreen(Overlay[str]):
    """Returns the text, which has passed the check; None if cancelled."""

    DEFAULT_CSS = """
    AskScreen TitledContainer { width: 76; }
    AskScreen OverlayText { height: 2; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [("escape", "dismiss")]
    FIELD: ClassVar[type[SafeInput]] = SafeInput

    def __init__(
        self, title: str, text: str, check: Callable[[str], object], *, about: str, most: int = 0
    ) -> None:
        """Ask.

        Args:
            title: of the box, such as `Tags of plain-otter`; text from outside is sanitized.
            text: the initial text.
            check: raises an RnnlmError for an invalid answer.
            about: one dim line below, about what is expected.
            most: the most characters; 0: no limit.
        """
        super().__init__()
        self._title, self._text, self._check = title, text, check
        self._about, self._most = about, most

    def compose(self) -> ComposeResult:
        legend = key_line([("enter", "accept"), ("esc", "cancel")], 76, self.app)
        with TitledContainer(title=self._title, legend=legend, classes="-highlighted"):
            yield self.FIELD(self._text, max_length=self._most, select_on_focus=False, compact=True)
            yield OverlayText(id="ask-about")

    def on_mount(self) -> None:
        self.query_one(SafeInput).focus()
        self._accepts(self._text, at_least=1)

    def on_input_changed(self, event: Input.Changed) -> None:
        """Check the text; an empty one isn't reported as invalid yet."""
        event.stop()
        self._accepts(event.value, at_least=1)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        if self._accepts(event.value):
            self.dismiss(event.value)

    def on_safe_input_candidates(self, event: SafeInput.Candidates) -> None:
        """Show the names that complete the path."""
        event.stop()
        if event.names:
            names = safe_content(event.names, newlines="space").stylize(TEXT)
            self.query_one("#ask-about", OverlayText).update(names)

    def _accepts(self, text: str, *, at_least: int = 0) -> bool:
        """Show the problem of a text with at least so many characters; return if it has none."""
        line, problem = safe_content(self._about).stylize(DIM), ""
        try:
            if len(text) >= at_least:
                self._check(text)
        except RnnlmError as error:
            problem = error.message
            line = safe_content(f"✗ {problem}", newlines="space").stylize(BAD)
        self.query_one("#ask-about", OverlayText).update(line)
        return not problem


class AskPathScreen(AskScreen):
    """Returns a path, which tab completes."""

    FIELD = PathInput


def note_question(title: str, note: str) -> AskScreen:
    """Ask for a note."""
    about = "one line; leave empty to remove it"
    return AskScreen(title, note, check_note, about=about, most=MOST_NOTE_CHARACTERS)
