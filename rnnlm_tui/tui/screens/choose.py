"""Two overlays of the config form: one for a choice, one for a list of texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import OptionList, TextArea
from textual.widgets.option_list import Option

from rnnlm_tui.tui.palette import BRIGHT, DIM, TEXT, TRAIN
from rnnlm_tui.tui.screens.overlay import Overlay, OverlayText
from rnnlm_tui.tui.widgets.panel import TitledContainer
from rnnlm_tui.tui.widgets.text_area import SafeTextArea


class ChooseScreen(Overlay[str]):
    """Returns the chosen word, or an empty text."""

    DEFAULT_CSS = """
    ChooseScreen TitledContainer { width: 78; max-width: 100%; height: auto; max-height: 90%;
        background: #121212; }
    ChooseScreen OverlayText { height: auto; color: #808080; margin: 1 0 0 0; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q", "answer('')", show=False)]

    def __init__(
        self, title: str, choices: Sequence[tuple[str, str]], current: str = "", note: str = ""
    ) -> None:
        super().__init__()
        self._title, self._choices, self._current, self._note = title, tuple(choices), current, note

    def compose(self) -> ComposeResult:
        legend = Content.assemble(
            ("enter", f"bold {TEXT}"), (" choose  ", DIM), ("esc", f"bold {TEXT}"), (" cancel", DIM)
        )
        with TitledContainer(title=self._title, legend=legend, classes="-highlighted"):
            yield OptionList(
                *(
                    Option(self._line(word, help_text), id=word)
                    for word, help_text in self._choices
                ),
                markup=False,
            )
            if self._note:
                yield OverlayText(Content.styled(self._note, DIM))

    def on_mount(self) -> None:
        words = [word for word, _ in self._choices]
        options = self.query_one(OptionList)
        options.highlighted = words.index(self._current) if self._current in words else 0
        options.focus()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(event.option.id or "")

    def action_answer(self, answer: str) -> None:
        """Close with this answer."""
        self.dismiss(answer)

    def _line(self, word: str, help_text: str) -> Content:
        longest = max(len(candidate) for candidate, _ in self._choices)
        here = ("● ", TRAIN) if word == self._current else ("  ", TEXT)
        return Content.assemble(
            here,
            (word.ljust(longest), BRIGHT if word == self._current else TEXT),
            (f"  {help_text}", DIM),
        )


class TextsScreen(Overlay[str]):
    """Several short texts, one per line. Returns them in one string, None if unchanged."""

    DEFAULT_CSS = """
    TextsScreen TitledContainer { width: 70; max-width: 100%; height: auto; background: #121212; }
    TextsScreen TextArea { height: 9; border: none; padding: 0; background: #262626;
        color: #ffffff; }
    TextsScreen TextArea:focus { border: none; background-tint: #262626 0%; }
    TextsScreen TextArea .text-area--cursor-line { background: #303030; }
    TextsScreen TextArea .text-area--cursor { background: #5fd7ff; color: #121212;
        text-style: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", show=False, priority=True),
        Binding("ctrl+s", "keep", show=False, priority=True),
    ]

    def __init__(self, title: str, text: str) -> None:
        super().__init__()
        self._title, self._text = title, text
        self._as_shown = ""

    def compose(self) -> ComposeResult:
        legend = Content.assemble(
            ("one per line  ", DIM),
            ("^s", f"bold {TEXT}"),
            (" keep  ", DIM),
            ("esc", f"bold {TEXT}"),
            (" cancel", DIM),
        )
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

    def action_leave(self) -> None:
        """Close without changes."""
        self.dismiss(None)
