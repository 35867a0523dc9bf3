"""The command palette: every action with a title, the guides, and the runs to open."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, cast

from rich.console import RenderableType
from textual.app import ComposeResult
from textual.command import Command, CommandInput, CommandList, CommandPalette, Hit, Hits, Provider
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import LoadingIndicator
from textual.widgets.option_list import Option

from rnnlm_tui import store
from rnnlm_tui.docs import GUIDES
from rnnlm_tui.tui import palette
from rnnlm_tui.tui._textual import ChangedCellsScreen, CurrentSize, replace_command_list
from rnnlm_tui.tui.actions import CHARTED, PANE_TITLES, PANES, Action, Pane, key_label, shown_keys
from rnnlm_tui.tui.palette import BRIGHT
from rnnlm_tui.tui.screens.overlay import GreyScreen
from rnnlm_tui.tui.screens.pane import PaneScreen
from rnnlm_tui.tui.text import safe_text
from rnnlm_tui.tui.widgets.text_field import OneLine

if TYPE_CHECKING:
    from rnnlm_tui.tui.app import RnnlmApp

TITLE_COLUMN = 27
"""Cells of a title before its description; a longer title takes what it needs."""
LEAST_DESCRIPTION = 12
"""A description with less room is omitted."""
CHARTS, EVERYWHERE, GUIDE, OPEN_RUN = "Charts", "Everywhere", "Guides", "Open a run"
SMALL_WORDS = ("a", "the", "to")
_WORD = re.compile(r"\w+")


@dataclass
class PaletteHit(Hit):
    """A command on one line: its title, its description, and its key at the right edge."""

    group: str = ""
    """The heading that lists it, for example its pane."""
    description: str = ""
    """What it does, if the title doesn't say it."""
    keys: str = ""
    """Its keys as shown to the user; empty if it has none."""
    also: str = ""
    """More text to search."""
    words: tuple[str, ...] = ()
    """The searched words, in lower case: every occurrence is highlighted."""

    @property
    def title(self) -> str:
        """The command's name."""
        return cast(str, self.text)

    def found(self, words: tuple[str, ...]) -> float:
        """Return the score for a search, 0 if a word is missing.

        A match in the title ranks above one in the heading, and that above one in the description.
        """
        title = self.title.lower()
        searched = " ".join(words)
        if title == searched:
            return 5.0
        if title.startswith(searched):
            return 4.0
        texts = (
            title,
            f"{title} {self.group}".lower(),
            f"{title} {self.group} {self.description} {self.also} {self.keys}".lower(),
        )
        place = next(
            (place for place, text in enumerate(texts) if all(word in text for word in words)), None
        )
        return 0.0 if place is None else 3.0 - place

    def line(self, width: int) -> Content:
        """Return the command as one line of `width` cells."""
        key_room = len(self.keys) + 2 if self.keys else 0
        title = Content(self.title).truncate(max(1, width - key_room), ellipsis=True)
        column = max(TITLE_COLUMN, title.cell_length + 2)
        room = width - key_room - column
        line = self._lit(title)
        if self.description and room >= LEAST_DESCRIPTION:
            line = Content.assemble(
                line.truncate(column, pad=True),
                self._lit(self._described(room).stylize(palette.DIM)),
            )
        if self.keys:
            line = Content.assemble(
                line.truncate(width - len(self.keys), pad=True), (self.keys, f"bold {palette.TEXT}")
            )
        return line

    def _described(self, room: int) -> Content:
        """Return the description cut to `room` cells.

        If words are searched, the part with them is kept.
        """
        ends = [
            at + len(word)
            for word in self.words
            if (at := self.description.lower().find(word)) >= 0
        ]
        cut = max(ends, default=0) - room + 1
        text = (
            self.description
            if cut < 0 or len(self.description) <= room
            else f"…{self.description[cut + 1 :]}"
        )
        return Content(text).truncate(room, ellipsis=True)

    def _lit(self, text: Content) -> Content:
        lowered = text.plain.lower()
        for word in self.words:
            at = lowered.find(word)
            if at >= 0:
                text = text.stylize(f"bold {palette.FOCUS}", at, at + len(word))
        return text


class ActionCommands(Provider):
    """The table of actions; an action of another pane goes there first."""

    def entries(self) -> Iterator[PaletteHit]:
        """Yield every command, those of the current pane first."""
        screen = self.screen
        if not isinstance(screen, PaneScreen):
            return
        here = screen.PANE
        app = cast("RnnlmApp", self.app)
        order = [
            PANE_TITLES[here],
            *([CHARTS] if here in CHARTED else []),
            EVERYWHERE,
            *(PANE_TITLES[pane] for pane in PANES),
            CHARTS,
        ]
        actions = [entry for entry in app.actions if entry.palette]
        for entry in sorted(actions, key=lambda entry: order.index(group_of(entry, here))):
            command = (
                partial(self._run, entry)
                if entry.works_on(here) or entry.on_app
                else partial(self._go_and_run, entry, entry.panes[0])
            )
            yield PaletteHit(
                0.0,
                "",
                command,
                entry.palette,
                group=group_of(entry, here),
                description=description(entry),
                keys=shown_keys(" ".join(map(key_label, entry.keys)), app),
                also=f"{entry.help} {entry.verb}",
            )
        for guide in GUIDES:
            command = partial(self._open_guide, guide.topic)
            yield PaletteHit(
                0.0,
                "",
                command,
                f"Guide: {guide.title}",
                group=GUIDE,
                description=guide.summary,
                also=f"docs documentation manual help {guide.topic}",
            )
        for summary in app.summaries or ():
            about = (
                f"{summary.unreadable or summary.status},"
                f" {safe_text(summary.corpus, limit=40, newlines='show')}"
            )
            title = f"Open {safe_text(summary.run, limit=64, newlines='show')}"
            yield PaletteHit(
                0.0, "", partial(self._open, summary.run), title, group=OPEN_RUN, description=about
            )

    def _run(self, entry: Action) -> None:
        self.screen.call_after_refresh(self.screen.run_action, entry.textual_action)

    def _go_and_run(self, entry: Action, pane: Pane) -> None:
        """Run an action on its own pane, once that is ready.

        If the pane can't be opened, that has been reported.
        """
        app = self.app

        async def act() -> None:
            screen = app.screen
            if app.current_mode != pane or not isinstance(screen, PaneScreen):
                return
            if screen.is_ready:
                await screen.run_action(entry.textual_action)
            else:
                app.call_after_refresh(act)

        cast("RnnlmApp", app).open_pane(pane)
        app.call_after_refresh(act)

    def _open_guide(self, topic: str) -> None:
        from rnnlm_tui.tui.screens.docs import GuideScreen

        self.app.call_after_refresh(self.app.push_screen, GuideScreen(topic))

    def _open(self, name: str) -> None:
        app = cast("RnnlmApp", self.app)
        app.in_thread(lambda: store.runs.find_run(name), app.open_run)

    async def discover(self) -> Hits:
        for hit in self.entries():
            yield hit

    async def search(self, query: str) -> Hits:
        """Yield commands with every word in their title, heading or description.

        If there are none, fuzzy matches of the title.
        """
        words = tuple(query.lower().split())
        hits = list(self.entries())
        for hit in hits:
            hit.score, hit.words = hit.found(words), words
        if not any(hit.score for hit in hits):
            matcher = self.matcher(query)
            for hit in hits:
                hit.score = matcher.match(hit.title)
        for hit in hits:
            if hit.score > 0:
                yield hit


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


MOST_WIDTH, MARGIN = 104, 8
"""The most cells of the box, and its margin in a wide terminal."""
NARROW = 72
"""Up to this many columns, the box is as wide as the terminal."""
EDGES = 6
"""Cells of the list's border, padding, scroll bar and the gap before it."""
ABOVE = 5
"""Rows above the list: the margin and the search field."""
INDENT = "  "
"""Indentation of a command under its heading."""


class PaletteInput(OneLine, CommandInput):
    """The search field."""


class PaletteScreen(ChangedCellsScreen, CurrentSize, CommandPalette):
    """Textual's palette with one line for each command of `commands.py`, under headings."""

    def __init__(self, *, placeholder: str, id: str) -> None:
        super().__init__(placeholder=placeholder, id=id)
        self._hint = placeholder
        replace_command_list(self, self._show_matches)
        self._shown: dict[str, list[PaletteHit]] = {}
        """The listed commands, by heading."""

    def compose(self) -> ComposeResult:
        with Vertical(id="--container"):
            with Horizontal(id="--input"):
                yield PaletteInput(placeholder=self._hint, select_on_focus=False)
            with Vertical(id="--results"):
                commands = CommandList()
                arrows = shown_keys("↑ ↓", self.app)
                commands.border_subtitle = f"{arrows} choose  enter run  esc close"
                yield commands
                yield LoadingIndicator()

    def on_mount(self) -> None:
        self.query_one(CommandInput).cursor_blink = False

    def on_resize(self) -> None:
        rows = self.app.size.height
        for box in (self.query_one("#--container"), self.query_one("#--results")):
            box.styles.width = self._width
        self.query_one(CommandList).styles.max_height = max(3, rows - ABOVE)
        at = self.query_one(CommandList).highlighted
        self._list(self._shown)
        self.query_one(CommandList).highlighted = at

    @property
    def _width(self) -> int:
        columns = self.app.size.width
        return columns if columns <= NARROW else min(columns - MARGIN, MOST_WIDTH)

    def _show_matches(self, commands: Sequence[Command]) -> None:
        """List the matches, best first, under their headings."""
        groups: dict[str, list[PaletteHit]] = {}
        for hit in sorted(
            (cast(PaletteHit, command.hit) for command in commands), key=lambda hit: -hit.score
        ):
            groups.setdefault(hit.group, []).append(hit)
        self._list(groups)

    def _list(self, groups: dict[str, list[PaletteHit]]) -> None:
        """List one line for each command, with the cursor on the first."""
        self._shown = groups
        width = max(1, self._width - EDGES - len(INDENT))
        options: list[Option] = []
        for title, hits in groups.items():
            options.append(Option(Content.styled(title, f"bold {BRIGHT}"), disabled=True))
            options += [Command(Content.assemble(INDENT, hit.line(width)), hit) for hit in hits]
        commands = self.query_one(CommandList)
        commands.clear_options().add_options(options)
        commands.highlighted = 1 if options else None

    def render(self) -> RenderableType:
        below = [screen for screen in self.app.screen_stack if screen is not self]
        return GreyScreen(below[-1]) if below else super().render()
