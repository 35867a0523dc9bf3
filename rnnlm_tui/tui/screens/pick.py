"""A list that typing filters, under headings: the base of the palette and of browsing, and
PickScreen for fields, configs and runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Generic

from textual import getters
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.events import Click, Resize
from textual.strip import Strip
from textual.style import Style
from textual.visual import RenderOptions, Visual
from textual.widgets import Input, OptionList
from textual.widgets.option_list import Option

from rnnlm_tui.tui.palette import BRIGHT, DIM, TEXT, TRAIN, VALIDATION
from rnnlm_tui.tui.screens.overlay import Overlay, OverlayText, ResultT, key_line
from rnnlm_tui.tui.text import safe_text
from rnnlm_tui.tui.widgets.panel import TitledContainer
from rnnlm_tui.tui.widgets.text_field import SafeInput

MOST_SHOWN = 500
"""Items in the list at once; typing more finds the others."""
LEAST_DETAIL = 12
"""A detail with less room is omitted, if it would be cut."""
WORD_ROOM = 30
"""Cells of an item's name at most, in a column of names."""


@dataclass(frozen=True, slots=True)
class PickItem(Generic[ResultT]):
    """One line of a list."""

    value: ResultT
    """Returned when it is chosen."""
    name: str
    detail: str = ""
    """Dim, after the name."""
    group: str = ""
    """The heading that lists it; empty: none."""
    also: str = ""
    """More text that typing finds."""
    keys: str = ""
    """Its keys as shown to the user, at the right edge."""

    def score(self, words: Sequence[str]) -> int:
        """Return how well it fits a search, 0 if a word is missing.

        A match in the name ranks above one in the heading, and that above one in other texts.
        """
        name, searched = self.name.lower(), " ".join(words)
        if name.startswith(searched):
            return 6 if name == searched else 5
        texts = (name, self.group, self.also, f"{self.detail} {self.keys}")
        for place in range(len(texts)):
            text = " ".join(texts[: place + 1]).lower()
            if all(word in text for word in words):
                return 4 - place
        return 0


class _Line(Visual):
    """A line of a list, drawn for the list's width when it is seen (Textual's hooks)."""

    def __init__(self, draw: Callable[[int], Content]) -> None:
        self._draw = draw

    def render_strips(
        self, width: int, height: int | None, style: Style, options: RenderOptions
    ) -> list[Strip]:
        return self._draw(width).render_strips(width, height, style, options)

    def get_optimal_width(self, rules: object, container_width: int) -> int:  # noqa: ARG002
        return container_width

    def get_height(self, rules: object, width: int) -> int:  # noqa: ARG002
        return 1


class FilteredList(Overlay[ResultT]):
    """A list that typing filters: the keys that move go to the list, all others to the text."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(key, action, show=False, priority=True)
        for key, action in {
            "escape": "dismiss", "enter": "choose",
            "up": "move('cursor_up')", "down": "move('cursor_down')",
            "pageup": "move('page_up')", "pagedown": "move('page_down')",
            "ctrl+home": "move('first')", "ctrl+end": "move('last')",
        }.items()
    ]  # fmt: skip
    NAME_LIMIT: ClassVar[int] = 64
    """The most characters of a name."""
    FOUND: ClassVar[str] = VALIDATION
    """The colour of found words."""
    options = getters.query_one(OptionList)

    def __init__(self) -> None:
        super().__init__()
        self._listed: list[PickItem[ResultT] | None] = []
        """The item of each line; None: a heading."""
        self.words: Sequence[str] = ()
        """What was searched, highlighted where it is found."""
        self._column = 0
        """Cells before the details."""

    def on_mount(self) -> None:
        for field in self.query(SafeInput):
            field.focus()
            self.options.can_focus = False
        self.find("")

    @property
    def current(self) -> PickItem[ResultT] | None:
        """The item under the cursor."""
        at = self.options.highlighted
        return None if at is None else self._listed[at]

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self.find(event.value)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.action_choose()

    def on_click(self, event: Click) -> None:
        """Close on a click beside the box."""
        if self.get_widget_at(event.screen_x, event.screen_y)[0] is self:
            self.dismiss(None)

    def find(self, typed: str) -> None:
        """List what fits the text; for a subclass."""

    def list_items(
        self, items: Sequence[PickItem[ResultT]], column: int, at: PickItem[ResultT] | None = None
    ) -> None:
        """List items under their headings, with the cursor on `at` or on the first.

        Args:
            column: cells before the details; they follow a longer name.
        """
        self._column = column
        groups: dict[str, list[PickItem[ResultT]]] = {}
        for item in items[:MOST_SHOWN]:
            groups.setdefault(item.group, []).append(item)
        lines: list[Option] = []
        self._listed = []
        for group, members in groups.items():
            if group:
                lines.append(Option(group, disabled=True))
                self._listed.append(None)
            lines += [Option(_Line(partial(self.line, item))) for item in members]
            self._listed += members
        if not lines:
            lines, self._listed = [Option("No matches found", disabled=True)], [None]
        options = self.options.clear_options().add_options(lines)
        first = next((place for place, item in enumerate(self._listed) if item is not None), None)
        options.highlighted = first if at is None else self._listed.index(at)
        if options.highlighted == first:
            options.scroll_home(animate=False)  # with the heading

    def named(self, item: PickItem[ResultT]) -> Content:
        """Return an item's name, and what stands before it."""
        return Content(safe_text(item.name, newlines="space", limit=self.NAME_LIMIT))

    def line(self, item: PickItem[ResultT], width: int) -> Content:
        """Return an item as one line: its name, its detail, and its keys at the right edge."""
        key_room = len(item.keys) + 2 if item.keys else 0
        name = self.named(item).truncate(max(1, width - key_room), ellipsis=True)
        column = max(self._column, name.cell_length + 2)
        room = width - key_room - column
        detail = safe_text(item.detail, newlines="space", limit=200)
        line = self.lit(name)
        if detail and room >= min(LEAST_DETAIL, len(detail)):
            shown = self.detail(detail, room).stylize_before(DIM)
            line = Content.assemble(line.truncate(column, pad=True), shown)
        if item.keys:
            line = line.truncate(width - len(item.keys), pad=True)
            line += Content.styled(item.keys, f"bold {TEXT}")
        return line

    def detail(self, text: str, room: int) -> Content:
        """Return a detail cut to `room` cells."""
        return Content(text).truncate(room, ellipsis=True)

    def lit(self, text: Content) -> Content:
        """Highlight the words in a text."""
        lowered = text.plain.lower()
        for word in self.words:
            at = lowered.find(word)
            if at >= 0:
                text = text.stylize(f"bold {self.FOUND}", at, at + len(word))
        return text

    def action_move(self, move: str) -> None:
        """Move the cursor over the items, past headings, by an action of the list."""
        getattr(self.options, f"action_{move}")()

    def action_choose(self) -> None:
        """Close with the item under the cursor."""
        if self.current is not None:
            self.dismiss(self.current.value)


class PickScreen(FilteredList[str]):
    """Returns the value of the chosen item, or None."""

    DEFAULT_CSS = """
    PickScreen TitledContainer { width: 78; max-height: 94%; }
    PickScreen OverlayText { color: #808080; margin: 1 0 0 0; }
    """
    NAME_LIMIT = WORD_ROOM
    SEARCHES: ClassVar[bool] = True
    """Whether typing filters the list, with the number of items below it."""

    def __init__(
        self, title: str, items: Sequence[PickItem[str]], *, current: str = "", verb: str = "choose"
    ) -> None:
        """Offer items.

        Args:
            current: value of the item that is marked and highlighted at first.
            verb: what enter does.
        """
        super().__init__()
        self._title, self._items, self._current, self._verb = title, items, current, verb
        self.note = ""
        """Below a list without a search."""
        self._longest = max((len(safe_text(item.name)) for item in items), default=0)

    def compose(self) -> ComposeResult:
        keys = [("enter", self._verb), ("esc", "cancel")]
        legend = key_line([("↑ ↓", "move"), *keys] if self.SEARCHES else keys, 78, self.app)
        with TitledContainer(title=self._title, legend=legend, classes="-highlighted"):
            if self.SEARCHES:
                yield SafeInput(placeholder="type to search", compact=True)
            yield OptionList(markup=False)
            if self.SEARCHES or self.note:
                yield OverlayText(Content.styled(self.note, DIM))

    def on_resize(self, _event: Resize) -> None:
        """Keep room for the border, the search and the count, or for a note."""
        room = self.size.height - (8 if self.SEARCHES else 6) - self.note.count("\n")
        self.options.styles.max_height = max(3, min(20, room))

    def find(self, typed: str) -> None:
        """List what fits the text, the best first; its heading is in its line."""
        self.words = words = typed.lower().split()
        found, current = self._items, None
        if words:
            found = [
                replace(item, group="", detail=f"{item.group}  {item.detail}".lstrip())
                for item in sorted(self._items, key=lambda item: -item.score(words))
                if item.score(words)
            ]
        else:
            current = next((item for item in found if item.value == self._current), None)
        self.list_items(found, min(self.NAME_LIMIT, self._longest) + 4, current)
        if self.SEARCHES:
            count = f"{len(found)} of {len(self._items)}" if words else f"{len(found)} in all"
            self.query_one(OverlayText).update(Content.styled(count, DIM))

    def named(self, item: PickItem[str]) -> Content:
        """Return the name with the mark of the current item."""
        is_current = item.value == self._current
        name = super().named(item).stylize(BRIGHT if is_current else TEXT)
        return Content.assemble(("● ", TRAIN) if is_current else "  ", name)
