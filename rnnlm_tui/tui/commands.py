"""The command palette: every action of the table that has a title, those of the screen that shows first, and the runs to open."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from typing import cast

from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.types import IgnoreReturnCallbackType

from rnnlm_tui.tui.actions import PANE_TITLES, Action, Pane, key_label
from rnnlm_tui.tui.screens.lab import Laboratory
from rnnlm_tui.tui.screens.pane import PaneScreen
from rnnlm_tui.tui.widgets.content import plain

_WORD = re.compile(r"\w+")


class ActionCommands(Provider):
    """The table of actions; those of another screen go there first."""

    def _entries(self) -> Iterator[tuple[str, str, IgnoreReturnCallbackType]]:
        screen = self.screen
        if not isinstance(screen, PaneScreen):
            return
        lab = cast(Laboratory, self.app)
        elsewhere: list[tuple[str, str, IgnoreReturnCallbackType]] = []
        for entry in lab.actions:
            if not entry.palette:
                continue
            if entry.works_on(screen.PANE) or entry.on_app:
                yield entry.palette, explained(entry), partial(self._run, entry)
            else:
                pane = entry.panes[0]
                elsewhere.append((entry.palette, explained(entry, f"(on {PANE_TITLES[pane]})"), partial(self._go_and_run, entry, pane)))
        yield from elsewhere
        for summary in lab.summaries or ():
            yield f"Open {_plain(summary.run, 64)}", f"{summary.unreadable or summary.status}, {_plain(summary.corpus, 40)}", partial(self._open, summary.run)

    def _run(self, entry: Action) -> None:
        self.screen.call_after_refresh(self.screen.run_action, entry.textual_action)

    def _go_and_run(self, entry: Action, pane: Pane) -> None:
        """On its own screen, once that stands; where it can't be opened, that has been said."""
        app = self.app

        async def act() -> None:
            screen = app.screen
            if app.current_mode != pane or not isinstance(screen, PaneScreen):
                return
            if screen.is_ready:
                await screen.run_action(entry.textual_action)
            else:
                app.call_after_refresh(act)

        cast(Laboratory, app).open_pane(pane)
        app.call_after_refresh(act)

    def _open(self, name: str) -> None:
        lab = cast(Laboratory, self.app)
        lab.in_thread(partial(lab.services.find, name), lab.open_run)

    async def discover(self) -> Hits:
        for title, explanation, command in self._entries():
            yield DiscoveryHit(title, command, help=explanation)

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for title, explanation, command in self._entries():
            if (score := matcher.match(title)) > 0:
                yield Hit(score, matcher.highlight(title), command, help=explanation)


def explained(entry: Action, where: str = "") -> str:
    """What stands below an action's title: what the title does not say already, its own keys, where it is done."""
    adds = not entry.shown and not set(_WORD.findall(entry.help.lower())) <= set(_WORD.findall(entry.palette.lower()))
    keys = " ".join(map(key_label, entry.keys))
    return "  ".join(filter(None, (entry.help if adds else "", f"({keys})" if keys else "", where))) or entry.help


def _plain(text: str, limit: int) -> str:
    """Text from outside for the palette, which reads markup: no sequences and no square brackets."""
    return plain(text, limit=limit, newlines="show").translate(str.maketrans("[]", "()"))
