"""The keys that lay out the list of runs: list, tree or groups, the group keys, folding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rnnlm_tui.client.arrangement import parse_group_keys
from rnnlm_tui.tui.screens.overlay import AskScreen
from rnnlm_tui.tui.views.run_layout import DEFAULT_KEYS, LAYOUT_SETTING, RunLayout
from rnnlm_tui.tui.widgets.runs_table import RunsTable

if TYPE_CHECKING:
    from rnnlm_tui.schema.config import RunConfig
    from rnnlm_tui.schema.summary import RunSummary
    from rnnlm_tui.tui.app import RnnlmApp

WORDS = {"list": "all runs in one list", "tree": "forks below their parents"}

FOLDABLE = "V lays the runs out as a tree or in groups, which can be folded"


class LayoutKeys:
    """Changes the layout of the screen's table, and keeps it for the next start."""

    def __init__(
        self, context: RnnlmApp, table: Callable[[], RunsTable], show: Callable[[], None]
    ) -> None:
        """Take the saved layout.

        Args:
            table: returns the screen's table.
            show: lists the runs again.
        """
        self._context, self._table, self._show = context, table, show
        self.layout = RunLayout.from_setting(context.settings.get(LAYOUT_SETTING))

    def next_layout(self) -> None:
        """Go from the list to the tree, to groups, and back."""
        self.layout.next()
        self._changed()
        self._context.report(
            WORDS.get(self.layout.name, f"grouped {self.layout.legend()}: G changes the keys")
        )

    async def ask_keys(self) -> None:
        """Ask for the keys to group by."""
        question = AskScreen(
            "Group by",
            self.layout.keys_text or DEFAULT_KEYS,
            parse_group_keys,
            about="figures or config keys, such as hidden_size,cell",
        )
        text = await self._context.ask(question)
        if text is not None and self.layout.group_by(text):
            self.layout.name = "groups"
            self._changed()

    def fold(self) -> None:
        """Fold the row under the cursor, or the one that it belongs to."""
        table = self._table()
        row = table.row
        if self.layout.name == "list" or row is None:
            self._context.report(FOLDABLE)
        elif owner := self.layout.fold(row, table.rows):
            table.choose_row(owner)
            self._show()

    def unfold(self) -> None:
        """Unfold the row under the cursor."""
        row = self._table().row
        if self.layout.name == "list" or row is None:
            self._context.report(FOLDABLE)
        elif self.layout.unfold(row):
            self._show()

    def request_configs(self, summaries: Sequence[RunSummary]) -> None:
        """Read the configs that the groups need, in a thread."""
        if missing := self.layout.wanted_configs(summaries):
            self._context.in_thread(
                lambda: self._context.watcher.runs.configs(missing), self._take_configs
            )

    def _take_configs(self, configs: dict[str, RunConfig]) -> None:
        if configs:
            self.layout.configs |= configs
            self._show()

    def _changed(self) -> None:
        self._context.settings[LAYOUT_SETTING] = self.layout.setting()
        self._context.save_session()
        self._show()
