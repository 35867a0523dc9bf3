"""The command palette: every action of the table that has a title, for the screen that shows, and the runs to open."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import cast

from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.types import IgnoreReturnCallbackType

from rnnlm_tui.tui.actions import ACTIONS, Action
from rnnlm_tui.tui.screens.pane import Laboratory, PaneScreen
from rnnlm_tui.tui.widgets.content import plain


class ActionCommands(Provider):
    """The table of actions; those of another screen go there first."""

    def _entries(self) -> Iterator[tuple[str, str, IgnoreReturnCallbackType]]:
        screen = self.screen
        if not isinstance(screen, PaneScreen):
            return
        here = sorted((entry for entry in ACTIONS if entry.palette), key=lambda entry: not entry.works_on(screen.PANE))
        for entry in here:
            if entry.works_on(screen.PANE) or entry.on_app:
                yield entry.palette, f"{entry.help}  ({entry.label})", partial(self._run, entry)
        lab = cast(Laboratory, self.app)
        for summary in lab.summaries or ():
            yield f"Open {_plain(summary.run, 64)}", f"{summary.unreadable or summary.status}, {_plain(summary.corpus, 40)}", partial(self._open, summary.run)

    def _run(self, entry: Action) -> None:
        self.screen.call_after_refresh(self.screen.run_action, entry.textual_action)

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


def _plain(text: str, limit: int) -> str:
    """Text from outside for the palette, which reads markup: no sequences and no square brackets."""
    return plain(text, limit=limit, newlines="show").translate(str.maketrans("[]", "()"))
