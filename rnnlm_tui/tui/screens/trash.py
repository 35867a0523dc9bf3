"""The trash of runs and the trash of a run's checkpoints: what was deleted, to restore or purge."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from time import time
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from rnnlm_tui import store
from rnnlm_tui.errors import RnnlmError
from rnnlm_tui.schema.formatting import age, counted, disk
from rnnlm_tui.tui.palette import DIM
from rnnlm_tui.tui.screens.overlay import ConfirmScreen, ListOverlay, keys_in_line
from rnnlm_tui.tui.text import safe_content, safe_text
from rnnlm_tui.tui.widgets.panel import TitledContainer

if TYPE_CHECKING:
    from rnnlm_tui.store.paths import RunDirectory
    from rnnlm_tui.store.trash import Trashed

NAME, BESIDE = 40, 36
"""The most columns of a name, and the columns of the rest of a row."""


class TrashScreen(ListOverlay["Trashed"]):
    """Returns what to restore, None for nothing. Purging happens here, after a question."""

    DEFAULT_CSS = """
    TrashScreen TitledContainer { width: 76; }
    TrashScreen OptionList { max-height: 14; scrollbar-size-vertical: 1; }
    """
    LIST_TITLE = "Trash"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,T", "leave", show=False), Binding("enter", "restore", show=False),
        Binding("D", "purge", show=False), Binding("P", "purge_all", show=False),
    ]  # fmt: skip

    def __init__(self, trashed: Sequence[Trashed], run: RunDirectory | None = None) -> None:
        """Show deleted runs, or with `run` its deleted checkpoints."""
        super().__init__()
        self._trashed, self._run = list(trashed), run
        self._noun = "run" if run is None else "checkpoint"

    def on_mount(self) -> None:
        self._show(self._trashed)

    def on_resize(self) -> None:
        self._list()

    @property
    def _chosen(self) -> Trashed | None:
        at = self.options.highlighted
        return self._trashed[at] if at is not None and at < len(self._trashed) else None

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.action_restore()

    def action_restore(self) -> None:
        """Close, and restore the run under the cursor."""
        self.dismiss(self._chosen)

    def action_purge(self) -> None:
        """Purge the run under the cursor, after a question."""
        chosen = self._chosen
        if chosen is not None:
            self._ask(f"Purge this {self._noun}?", safe_text(_name(chosen), limit=32), [chosen])

    def action_purge_all(self) -> None:
        """Purge all runs, after a question."""
        if self._trashed:
            self._ask(
                "Empty the trash?", counted(len(self._trashed), self._noun), list(self._trashed)
            )

    def _ask(self, title: str, what: str, items: list[Trashed]) -> None:
        size = disk(sum(item.bytes for item in items))
        question = ConfirmScreen(
            title,
            f"{what}: {size} on disk",
            "This can't be undone.",
            "keep it" if len(items) == 1 else "keep them",
            f"purge, free {size}",
        )

        def answered(purge: bool | None) -> None:
            if purge:
                self.context.in_thread(partial(self._purge, items), self._purged, self._failed)

        self.app.push_screen(question, answered)

    def _purge(self, items: list[Trashed]) -> tuple[int, Sequence[Trashed]]:
        """Purge these, in a thread. Return the freed bytes, and what is in the trash now."""
        return store.trash.purge(items), self._listed()

    def _listed(self) -> list[Trashed]:
        return store.trash.list_trash(self._run)

    def _purged(self, outcome: tuple[int, Sequence[Trashed]]) -> None:
        freed, left = outcome
        self._show(left, f"{disk(freed)} freed")

    def _failed(self, error: RnnlmError | OSError) -> None:
        """Show what is left, and why not all could be purged."""
        problem = error.message if isinstance(error, RnnlmError) else str(error)
        self.context.in_thread(self._listed, lambda left: self._show(left, problem=problem))

    def _show(self, trashed: Sequence[Trashed], outcome: str = "", problem: str = "") -> None:
        if not self.is_attached:
            return
        self._trashed = list(trashed)
        self._list()
        size = disk(sum(item.bytes for item in self._trashed))
        self.query_one(TitledContainer).legend = Content.styled(
            f"{counted(len(self._trashed), self._noun)}, {size}" if self._trashed else "empty", DIM
        )
        keys = (
            [("enter", "restore"), ("D", "purge"), ("P", "purge all"), ("esc", "close")]
            if self._trashed
            else [("esc", "close")]
        )
        self.show_below(keys_in_line(keys), problem or outcome, trouble=bool(problem))

    def _list(self) -> None:
        self.list_options([self._option(one) for one in self._trashed])

    def _option(self, trashed: Trashed) -> Option:
        room = max(8, min(NAME, self.app.size.width - BESIDE))
        name = safe_content(_name(trashed), newlines="show", limit=room)
        gone = age(max(0.0, time() - trashed.deleted))
        when = "deleted just now" if gone == "now" else f"deleted {gone} ago"
        return Option(
            Content.assemble(
                name,
                " " * (room - name.cell_length),
                (when.ljust(20), DIM),
                (disk(trashed.bytes).rjust(10), DIM),
            )
        )


def _name(trashed: Trashed) -> str:
    return trashed.name if trashed.run is None else f"step {trashed.step:,}"
