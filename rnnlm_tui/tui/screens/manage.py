"""ManageScreen: a list that is read, shown, changed and undone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar, Generic, NamedTuple, TypeAlias, TypeVar, cast

from textual import getters
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.content import Content
from textual.widgets import OptionList

from rnnlm_tui.errors import RnnlmError, in_one_sentence
from rnnlm_tui.tui.palette import BAD, DIM, TEXT
from rnnlm_tui.tui.screens.overlay import Overlay, OverlayText, ResultT
from rnnlm_tui.tui.text import safe_content
from rnnlm_tui.tui.widgets.panel import TitledContainer

ItemT = TypeVar("ItemT")
WorkT = TypeVar("WorkT")


class Done(NamedTuple):
    """What a change did."""

    outcome: str = ""
    at: str = ""
    """The item that the cursor goes to, by name."""
    undo: tuple[Callable[[], object], str] | None = None
    """What undoes it, in a thread, and the outcome of that."""


Undo: TypeAlias = tuple[Callable[[], object], Done]


class ManageScreen(Overlay[ResultT], Generic[ItemT, ResultT]):
    """A list with a cursor, and below it what just happened and the keys.

    Items are read and changed in threads; `u` undoes the last change that can be undone. A subclass
    says what its items are, how one is drawn, and what its keys do.
    """

    DEFAULT_CSS = """
    ManageScreen TitledContainer { width: 78; max-height: 90%; }
    ManageScreen OptionList { scrollbar-size-vertical: 1; }
    ManageScreen OverlayText { margin: 1 0 0 0; }
    """
    LIST_TITLE: ClassVar[str]
    TONE: ClassVar[str] = TEXT
    """Colour of what just happened."""
    BINDINGS: ClassVar[list[BindingType]] = [("escape,q", "dismiss")]
    options = getters.query_one(OptionList)

    def __init__(self, items: Sequence[ItemT] = ()) -> None:
        super().__init__()
        self.items = items
        self.outcome = Content("")
        """What just happened, or failed."""
        self.unread = True
        """Whether nothing is read yet, or the last read failed."""
        self._reads = 0
        """How often the items were asked for: an earlier answer that comes later is out of date."""
        self._rows: list[Content] = []
        self._undos: list[Undo] = []

    def compose(self) -> ComposeResult:
        with TitledContainer(title=self.LIST_TITLE, classes="-highlighted"):
            yield OptionList(markup=False)
            yield OverlayText()

    def on_mount(self) -> None:
        self.reread()

    def on_resize(self) -> None:
        if self.is_open:
            self.show(self.items)

    # what a subclass says

    def read(self) -> Sequence[ItemT]:
        """Return the items; called in a thread."""
        return self.items

    def name_of(self, item: ItemT) -> str:
        """Return what an item is found by when the list is read again."""
        return str(item)

    def row(self, item: ItemT) -> Content:
        """Return the item as it is listed."""
        return safe_content(self.name_of(item))

    def legend(self) -> str:
        """Return how many items there are."""
        return ""

    def above(self) -> list[Content]:
        """Return lines between the list and what just happened."""
        return []

    def keys(self) -> Content:
        """Return what keys do now."""
        return Content("")

    def action_choose(self) -> None:
        """Close, and return the item under the cursor."""
        self.dismiss(cast("ResultT | None", self.chosen))

    # the list

    @property
    def chosen(self) -> ItemT | None:
        """The item under the cursor."""
        at = self.options.highlighted
        return self.items[at] if at is not None and at < len(self.items) else None

    def reread(self, at: str = "") -> None:
        """Read the items again, and show them."""
        if self.is_open:
            self._reads += 1
            take = partial(self._take, number=self._reads, at=at)
            self.context.in_thread(self.read, take, self._not_read)

    def _take(self, items: Sequence[ItemT], *, number: int, at: str) -> None:
        if self.is_open and number == self._reads:
            if self.unread:
                self.say()
            self.show(items, at)

    def _not_read(self, error: RnnlmError | OSError) -> None:
        self.failed(error)
        self.unread = True

    def show(self, items: Sequence[ItemT], at: str = "") -> None:
        """Show these; the cursor goes to the one with this name, or keeps its item or its place."""
        options = self.options
        place = options.highlighted or 0
        at = at or (self.name_of(self.items[place]) if place < len(self.items) else "")
        self.items = items
        rows = [self.row(item) for item in items]
        if rows != self._rows:
            self._rows = rows
            options.clear_options().add_options(rows)
        names = [self.name_of(item) for item in items]
        place = names.index(at) if at in names else min(place, len(rows) - 1)
        options.highlighted = place if rows else None
        if not self.unread:
            self.query_one(TitledContainer).legend = Content.styled(self.legend(), DIM)
        self.show_outcome()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.action_choose()

    # what just happened

    def say(self, outcome: str = "", *, trouble: bool = False) -> None:
        """Show what just happened, or failed; on the pane if this screen is closed."""
        if not self.is_open:
            self.context.report(outcome, trouble=trouble)
            return
        words = safe_content(outcome, newlines="space").stylize(BAD if trouble else self.TONE)
        self.outcome = Content.assemble(("✗ " if trouble else "", BAD), words)
        self.unread = False
        self.show_outcome()

    def show_outcome(self) -> None:
        """Show what just happened, and the keys."""
        outcome = [self.outcome] if self.outcome.plain else []
        lines = [*self.above(), *outcome, self.keys()]
        self.query_one(OverlayText).update(Content("\n").join(lines))

    def failed(self, error: RnnlmError | OSError) -> None:
        """Say what failed."""
        self.say(in_one_sentence(error), trouble=True)

    # changes

    def change(
        self,
        work: Callable[[], WorkT],
        then: Callable[[WorkT], Done] = lambda _result: Done(),
        undo: Undo | None = None,
    ) -> None:
        """Make a change in a thread, say what it did, and read the list again.

        Args:
            work: makes it.
            then: called in the app with the result.
            undo: what it undoes, which can be tried again if it fails.
        """

        def failed(error: RnnlmError | OSError) -> None:
            if undo is not None:
                self._undos.append(undo)
            self.failed(error)
            self.reread()

        self.context.in_thread(work, lambda result: self.changed(then(result)), failed)

    def changed(self, done: Done) -> None:
        """Say what a change did, and read the list again."""
        if self.is_open:
            if done.undo is not None:
                work, words = done.undo
                self._undos.append((work, Done(words, done.at)))
            self.say(done.outcome)
            self.reread(done.at)

    def action_undo(self) -> None:
        """Undo the last change."""
        if self._undos:
            work, done = undo = self._undos.pop()
            self.change(work, lambda _result: done, undo)
        else:
            self.say("nothing to undo")
