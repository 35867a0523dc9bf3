"""PruneScreen: choose which checkpoints to keep, with a preview of what goes and what it frees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.content import Content

from rnnlm_tui import store
from rnnlm_tui.errors import RnnlmError
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.formatting import counted, disk, figure
from rnnlm_tui.schema.metrics import perplexity
from rnnlm_tui.tui.actions import shown_keys
from rnnlm_tui.tui.messages import words_of
from rnnlm_tui.tui.palette import BAD, BRIGHT, DIM, FOCUS, TEXT
from rnnlm_tui.tui.screens.overlay import Overlay, OverlayText, keys_in_line
from rnnlm_tui.tui.text import line, safe_content, safe_text
from rnnlm_tui.tui.threads import act
from rnnlm_tui.tui.widgets.panel import TitledContainer

if TYPE_CHECKING:
    from rnnlm_tui.store.paths import RunDirectory
    from rnnlm_tui.store.retention import PrunePlan

LEAST_KEPT, MOST_KEPT = 2, 1_000
"""How many of the newest checkpoints can be chosen to be kept."""
KEYS = (("enter", "cancel"), ("↑ ↓", "field"), ("← →", "change"))
LISTED = 8
"""Checkpoints that the preview lists on each side, in a terminal of the usual height."""


class PruneScreen(Overlay[tuple[list[int], bool]]):
    """Returns the steps to delete, and whether permanently; None to leave all as they are."""

    DEFAULT_CSS = """
    PruneScreen TitledContainer { width: 76; max-height: 95%; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        ("enter,escape,q", "dismiss"), ("D", "delete"), ("up,k", "field(-1)"),
        ("down,j", "field(1)"), ("right,plus", "change(1)"), ("left,minus", "change(-1)"),
    ]  # fmt: skip

    def __init__(self, run: RunDirectory, config: RunConfig) -> None:
        super().__init__()
        self._run = run
        self._keep_last = LEAST_KEPT
        kept, every = config.checkpoint.keep_every, config.checkpoint.every
        steps = max(1, every or config.evaluation.every)
        self._intervals = sorted({0, kept, *(steps * factor for factor in (1, 2, 5, 10, 20, 50))})
        self._every = self._intervals.index(kept)
        self._purge = False
        self._field = 0
        self._plan: PrunePlan | None = None
        self._problem = ""

    def compose(self) -> ComposeResult:
        title = f"Prune {safe_text(self._run.name, limit=40)}"
        with TitledContainer(title=title, classes="-highlighted"):
            yield OverlayText(id="prune-text")

    def on_mount(self) -> None:
        self.call_next(self._read_plan)

    def action_delete(self) -> None:
        """Close and delete what the preview shows."""
        if self._plan is not None and self._plan.goes:
            self.dismiss(([entry.step for entry in self._plan.goes], self._purge))

    def action_field(self, by: int) -> None:
        """Move to the next or previous field."""
        self._field = (self._field + by) % 3
        self._show()

    async def action_change(self, by: int) -> None:
        """Change the field under the cursor."""
        if self._field == 2:
            self._purge = not self._purge
            self._show()
            return
        if self._field == 0:
            self._keep_last = min(MOST_KEPT, max(LEAST_KEPT, self._keep_last + by))
        else:
            self._every = (self._every + by) % len(self._intervals)
        await self._read_plan()

    @act
    async def _read_plan(self) -> None:
        """Look up what would go: the newest checkpoints are verified."""
        self._plan, self._problem = None, ""
        self._show()
        asked, plan, problem = (self._keep_last, self._intervals[self._every]), None, ""
        try:
            plan = await self.context.wait_for(
                lambda: store.retention.plan_prune(self._run, *asked)
            )
        except (RnnlmError, OSError) as error:
            problem, _ = words_of(error)
        if self.is_open and asked == (self._keep_last, self._intervals[self._every]):
            self._plan, self._problem = plan, problem
            self._show()

    def _show(self) -> None:
        self.query_one(OverlayText).update(Content("\n").join(self._lines()))

    on_resize = _show

    def _lines(self) -> Sequence[Content]:
        from rnnlm_tui.store.trash import KEPT_DAYS

        every = self._intervals[self._every]
        undo = self.context.with_keys("{key:undo_delete_checkpoint} undoes it")
        fields = [
            ("keep the newest", f"{self._keep_last:,}", f"at least {LEAST_KEPT}"),
            ("keep multiples of", f"{every:,}" if every else "none", "steps" if every else ""),
            ("delete", "to the trash", f"{undo}, for {KEPT_DAYS} days"),
        ]
        if self._purge:
            fields[-1] = ("delete", "permanently", "can't be undone")
        keys = [(shown_keys(key, self.app), word) for key, word in KEYS]
        if self._plan is not None and self._plan.goes:
            keys.append(("D", f"{'purge' if self._purge else 'delete'}, {disk(self._plan.bytes)}"))
        return [
            *(self._field_line(place, *field) for place, field in enumerate(fields)),
            line("  the best and the pinned are always kept"),
            Content(""),
            *self._preview(),
            Content(""),
            keys_in_line(keys),
        ]

    def _field_line(self, place: int, label: str, value: str, remark: str) -> Content:
        here = place == self._field
        cursor, before, after = ("› ", "← ", " →") if here else ("  ", "  ", "  ")
        of_label, of_value = (TEXT, f"bold {BRIGHT}") if here else (DIM, TEXT)
        return Content.assemble(
            (cursor, f"bold {FOCUS}"), (label.ljust(19), of_label), (before, FOCUS),
            (value, of_value), (after, FOCUS), (f"  {remark}" if remark else "", DIM),
        )  # fmt: skip

    def _preview(self) -> list[Content]:
        plan = self._plan
        if self._problem:
            words = safe_content(self._problem, newlines="space", limit=68)
            return [Content.assemble(("  ✗ ", BAD), words.stylize(BAD))]
        if plan is None:
            return [line("  verifying what must be kept …")]
        goes = [
            (entry.step, f"{_perplexity(entry.validation_loss)}{disk(entry.bytes):>9}")
            for entry in reversed(plan.goes)
        ]
        stays = sorted(plan.kept.items(), reverse=True)
        amounts = (counted(len(goes), "checkpoint"), disk(plan.bytes))
        bold = ((text, f"bold {BRIGHT}") for text in amounts)
        return [
            line("  deletes {} and frees {}", *bold) if goes else line("  nothing to delete"),
            *self._listed(goes),
            line(f"  keeps {len(stays)}"),
            *self._listed(stays),
        ]

    def _listed(self, rows: Sequence[tuple[int, str]]) -> list[Content]:
        """Return a line for each step with what is known about it, as many as there is room for."""
        most = LISTED if self.app.size.height >= 32 else 3
        shown = rows if len(rows) <= most + 1 else rows[:most]
        lines = [
            (line("    {}", f"{step:>9,}") + line(f"  {words}")).truncate(70, ellipsis=True)
            for step, words in shown
        ]
        more = len(rows) - len(shown)
        return [*lines, *([line(f"    … and {more} more")] if more else [])]


def _perplexity(loss: float | None) -> str:
    return "" if loss is None else f"{f'val ppl {figure(perplexity(loss))}':<16}"
