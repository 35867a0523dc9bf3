"""PickScreen: a list that is filtered by typing, under headings; for fields, configs and runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from textual.app import ComposeResult
from textual.content import Content
from textual.events import Resize
from textual.widgets import Input, OptionList
from textual.widgets.option_list import Option

from rnnlm_tui.tui.palette import BRIGHT, DIM, TEXT, TRAIN, VALIDATION
from rnnlm_tui.tui.screens.overlay import FilteredList, OverlayText, key_line
from rnnlm_tui.tui.text import safe_text
from rnnlm_tui.tui.widgets.panel import TitledContainer
from rnnlm_tui.tui.widgets.text_field import SafeInput

MOST_SHOWN = 200
"""Items in the list at once; typing more finds the others."""
WORD_ROOM = 30
"""Cells of an item's name at most, in a column of names."""


@dataclass(frozen=True, slots=True)
class PickItem:
    """One line of the list."""

    id: str
    """Returned when it is chosen."""
    name: str
    detail: str = ""
    """Dim, after the name."""
    group: str = ""
    """The heading above the first item of the group; empty: none."""
    also: str = ""
    """More text that typing finds."""

    def matches(self, words: Sequence[str]) -> bool:
        """Whether every word occurs somewhere in the item."""
        text = f"{self.name} {self.group} {self.also} {self.detail}".lower()
        return all(word in text for word in words)

    def rank(self, words: Sequence[str]) -> int:
        """Where the words are found: 0 at the start of the name, 1 in it, 2 in the key, 3 else."""
        typed, name = " ".join(words), self.name.lower()
        if name.startswith(typed):
            return 0
        if typed in name:
            return 1
        return 2 if all(word in self.also.lower() for word in words) else 3


class PickScreen(FilteredList):
    """Returns the id of the chosen item, or None."""

    DEFAULT_CSS = """
    PickScreen TitledContainer { width: 78; max-width: 100%; height: auto; max-height: 94%;
        background: #121212; }
    PickScreen OverlayText { height: auto; color: #808080; margin: 1 0 0 0; }
    """

    def __init__(
        self,
        title: str,
        items: Sequence[PickItem],
        *,
        current: str = "",
        placeholder: str = "type to search",
        verb: str = "choose",
    ) -> None:
        """Offer items.

        Args:
            current: id of the item that is marked and highlighted at first.
            verb: what enter does.
        """
        super().__init__()
        self._title, self._items, self._current = title, tuple(items), current
        self._placeholder, self._verb = placeholder, verb
        self._listed: list[PickItem] = []

    def compose(self) -> ComposeResult:
        keys = [("↑ ↓", "move"), ("enter", self._verb), ("esc", "cancel")]
        legend = key_line(keys, 78, self.app)
        with TitledContainer(title=self._title, legend=legend, classes="-highlighted"):
            yield SafeInput(placeholder=self._placeholder, compact=True)
            yield OptionList(markup=False)
            yield OverlayText(id="pick-count")

    def on_mount(self) -> None:
        self._list("")

    def on_resize(self, _event: Resize) -> None:
        """Keep room for the border, the search and the count."""
        self.options.styles.max_height = max(3, min(20, self.size.height - 8))

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self._list(event.value)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.dismiss(event.option.id)

    def action_choose(self) -> None:
        """Close with the highlighted item."""
        options = self.options
        if options.highlighted is not None:
            self.dismiss(options.get_option_at_index(options.highlighted).id)

    def _list(self, typed: str) -> None:
        words = typed.lower().split()
        found = [item for item in self._items if item.matches(words)]
        if words:  # the best match first; sorting is stable
            found.sort(key=lambda item: item.rank(words))
        options = self.options
        options.clear_options()
        lines: list[Option] = []
        group = ""
        for item in found[:MOST_SHOWN]:
            if item.group != group and not words:
                lines.append(Option(Content.styled(item.group, DIM), disabled=True))
            group = item.group
            lines.append(Option(self._line(item, words), id=item.id))
        options.add_options(lines)
        places = [place for place, line in enumerate(lines) if not line.disabled]
        chosen = [place for place in places if lines[place].id == self._current and not words]
        options.highlighted = next(iter(chosen or places), None)
        if options.highlighted is not None and places and options.highlighted == places[0]:
            options.scroll_home(animate=False)
        count = f"{len(found)} of {len(self._items)}" if words else f"{len(self._items)} in all"
        self.query_one("#pick-count", OverlayText).update(Content.styled(count, DIM))

    def _line(self, item: PickItem, words: Sequence[str]) -> Content:
        longest = min(WORD_ROOM, max(len(safe_text(other.name)) for other in self._items))
        here = ("● ", TRAIN) if item.id == self._current else ("  ", TEXT)
        name = safe_text(item.name, newlines="space", limit=WORD_ROOM)
        shown = Content.styled(name.ljust(longest), BRIGHT if item.id == self._current else TEXT)
        for word in words:
            at = name.lower().find(word)
            if at >= 0:
                shown = shown.stylize(f"bold {VALIDATION}", at, at + len(word))
        detail = safe_text(item.detail, newlines="space", limit=200)
        if words and item.group:
            detail = f"{item.group}  {detail}"
        return Content.assemble(here, shown, (f"  {detail}", DIM))
