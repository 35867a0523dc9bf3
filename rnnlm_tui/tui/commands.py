"""The command palette: every action with a title, the guides, and the runs to open."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, cast

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.fuzzy import Matcher
from textual.widgets import OptionList

from rnnlm_tui.docs import GUIDES
from rnnlm_tui.store.paths import listed_run
from rnnlm_tui.tui.actions import CHARTED, PANE_TITLES, Action, Pane, key_label, shown_keys
from rnnlm_tui.tui.palette import FOCUS
from rnnlm_tui.tui.screens.pane import PaneScreen
from rnnlm_tui.tui.screens.pick import FilteredList, PickItem
from rnnlm_tui.tui.text import safe_text
from rnnlm_tui.tui.widgets.text_field import SafeInput

if TYPE_CHECKING:
    from rnnlm_tui.tui.app import RnnlmApp

Command = Callable[[], object]

CHARTS, EVERYWHERE, GUIDE, OPEN_RUN = "Charts", "Everywhere", "Guides", "Open a run"
SMALL_WORDS = ("a", "the", "to")
_WORD = re.compile(r"\w+")


def commands(screen: PaneScreen) -> Iterator[PickItem[Command]]:
    """Yield every command, those of the screen's pane first."""
    here, app = screen.PANE, cast("RnnlmApp", screen.app)
    own = [PANE_TITLES[here], CHARTS] if here in CHARTED else [PANE_TITLES[here]]
    order = [*own, EVERYWHERE, *PANE_TITLES.values(), CHARTS]
    actions = [entry for entry in app.actions if entry.palette]
    for entry in sorted(actions, key=lambda entry: order.index(group_of(entry, here))):
        yield PickItem(
            partial(_run, app, entry),
            entry.palette,
            description(entry),
            group=group_of(entry, here),
            keys=shown_keys(" ".join(map(key_label, entry.keys)), app),
            also=f"{entry.help} {entry.verb}",
        )
    for guide in GUIDES:
        also = f"docs documentation manual help {guide.topic}"
        call = partial(_open_guide, app, guide.topic)
        yield PickItem(call, f"Guide: {guide.title}", guide.summary, GUIDE, also)
    for summary in app.summaries or ():
        corpus = safe_text(summary.corpus, limit=40, newlines="show")
        about = f"{summary.unreadable or summary.status}, {corpus}"
        call = partial(lambda run: app.open_run(listed_run(run)), summary.run)
        yield PickItem(call, f"Open {summary.run}", about, OPEN_RUN)


def _run(app: RnnlmApp, entry: Action) -> None:
    """Run an action, on its own pane if the current one lacks it, once that is drawn.

    If the pane can't be opened, that has been reported.
    """
    screen = app.pane_screen
    if screen is not None and not entry.works_on(screen.PANE) and not entry.on_app:
        app.open_pane(entry.panes[0])
        screen = app.pane_screen if app.current_mode == entry.panes[0] else None
    if screen is not None:
        screen.call_after_refresh(screen.run_action, entry.textual_action)


def _open_guide(app: RnnlmApp, topic: str) -> None:
    from rnnlm_tui.tui.screens.docs import GuideScreen

    app.call_after_refresh(app.push_screen, GuideScreen(topic))


def group_of(entry: Action, here: Pane) -> str:
    """Return the heading that lists an action."""
    if entry.group == "charts":
        return CHARTS
    if not entry.panes:
        return EVERYWHERE
    return PANE_TITLES[here if here in entry.panes else entry.panes[0]]


def description(entry: Action) -> str:
    """Return what an action does beyond its title; empty if its help describes a pair of keys."""
    if entry.shown:
        return ""
    head, _, more = entry.help.partition(": ")
    known = {*_WORD.findall(entry.palette.lower()), *SMALL_WORDS}
    return entry.help if not set(_WORD.findall(head.lower())) <= known else more


ABOVE = 5
"""Rows above the list: the margin and the search field."""
TITLE_COLUMN = 29
"""Cells before a description; a longer title takes what it needs."""


class PaletteScreen(FilteredList[Command]):
    """Returns the chosen command, or None."""

    FOUND = FOCUS

    def __init__(self, screen: PaneScreen) -> None:
        super().__init__()
        self._below = screen

    def compose(self) -> ComposeResult:
        with Vertical(id="palette"):
            with Vertical(id="palette-input"):
                yield SafeInput(placeholder="type to search every command", compact=True)
            options = OptionList(markup=False)
            options.border_subtitle = f"{shown_keys('↑ ↓', self.app)} choose  enter run  esc close"
            yield options

    def on_resize(self) -> None:
        self.options.styles.max_height = max(3, self.app.size.height - ABOVE)

    def find(self, typed: str) -> None:
        """List what has every word, the best first; if nothing has, titles with these letters."""
        self.words = words = typed.lower().split()
        scores = [(float(item.score(words)), item) for item in commands(self._below)]
        if not any(score for score, _ in scores):
            matcher = Matcher(typed.strip())
            scores = [(matcher.match(item.name), item) for _, item in scores]
        scores.sort(key=lambda found: -found[0])
        self.list_items([item for score, item in scores if score], TITLE_COLUMN)

    def named(self, item: PickItem[Command]) -> Content:
        """Return the title, indented under its heading."""
        return Content("  ") + super().named(item)

    def detail(self, text: str, room: int) -> Content:
        """Return a description cut to `room` cells, around the found words."""
        lowered = text.lower()
        ends = [at + len(word) for word in self.words if (at := lowered.find(word)) >= 0]
        cut = max(ends, default=0) - room + 1
        if cut >= 0 and len(text) > room:
            text = f"…{text[cut + 1 :]}"
        return self.lit(super().detail(text, room))

    def line(self, item: PickItem[Command], width: int) -> Content:
        """Return a command, with a gap between its keys and the scroll bar or its place."""
        return super().line(item, width - 2 + self.options.show_vertical_scrollbar)
