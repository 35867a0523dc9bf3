"""The trash of runs and the trash of a run's checkpoints: what was deleted, to restore or purge."""

from __future__ import annotations

from collections.abc import Sequence
from time import time
from typing import TYPE_CHECKING, ClassVar

from textual.binding import BindingType
from textual.content import Content

from rnnlm_tui import store
from rnnlm_tui.schema.formatting import age, counted, disk
from rnnlm_tui.tui.palette import DIM
from rnnlm_tui.tui.screens.manage import Done, ManageScreen
from rnnlm_tui.tui.screens.overlay import ConfirmScreen, keys_in_line
from rnnlm_tui.tui.text import safe_content, safe_text

if TYPE_CHECKING:
    from rnnlm_tui.store.paths import RunDirectory
    from rnnlm_tui.store.trash import Trashed

NAME, BESIDE = 40, 36
"""The most columns of a name, and the columns of the rest of a row."""


class TrashScreen(ManageScreen["Trashed", "Trashed"]):
    """Returns what to restore, None for nothing. Purging happens here, after a question."""

    DEFAULT_CSS = """
    TrashScreen TitledContainer { width: 76; }
    TrashScreen OptionList { max-height: 14; }
    """
    LIST_TITLE = "Trash"
    BINDINGS: ClassVar[list[BindingType]] = [("T", "dismiss"), ("D", "purge"), ("P", "purge_all")]

    def __init__(self, run: RunDirectory | None = None) -> None:
        """Show deleted runs, or with `run` its deleted checkpoints."""
        super().__init__()
        self._run, self._noun = run, "run" if run is None else "checkpoint"

    def read(self) -> list[Trashed]:
        return store.trash.list_trash(self._run)

    def name_of(self, item: Trashed) -> str:
        return item.path.name

    def legend(self) -> str:
        size = disk(sum(item.bytes for item in self.items))
        return f"{counted(len(self.items), self._noun)}, {size}" if self.items else "empty"

    def keys(self) -> Content:
        keys = [("enter", "restore"), ("D", "purge"), ("P", "purge all"), ("esc", "close")]
        return keys_in_line(keys if self.items else keys[-1:])

    def row(self, item: Trashed) -> Content:
        room = max(8, min(NAME, self.app.size.width - BESIDE))
        name = safe_content(_name(item), newlines="show", limit=room)
        gone = age(max(0.0, time() - item.deleted))
        when = "deleted just now" if gone == "now" else f"deleted {gone} ago"
        return Content.assemble(
            name,
            " " * (room - name.cell_length),
            (when.ljust(20), DIM),
            (disk(item.bytes).rjust(10), DIM),
        )

    def action_choose(self) -> None:
        """Close, and restore the run under the cursor."""
        self.dismiss(self.chosen)

    def action_purge(self) -> None:
        """Purge the run under the cursor, after a question."""
        chosen = self.chosen
        if chosen is not None:
            self._ask(f"Purge this {self._noun}?", safe_text(_name(chosen), limit=32), [chosen])

    def action_purge_all(self) -> None:
        """Purge all runs, after a question."""
        if self.items:
            self._ask("Empty the trash?", counted(len(self.items), self._noun), self.items)

    def _ask(self, title: str, what: str, items: Sequence[Trashed]) -> None:
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
                self.change(
                    lambda: store.trash.purge(items), lambda freed: Done(f"{disk(freed)} freed")
                )

        self.app.push_screen(question, answered)


def _name(trashed: Trashed) -> str:
    return trashed.name if trashed.run is None else f"step {trashed.step:,}"
