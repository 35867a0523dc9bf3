"""PruneScreen: choose which checkpoints to keep, with a preview of what goes and what it frees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content

from rnnlm_tui import store
from rnnlm_tui.errors import RnnlmError
from rnnlm_tui.schema.formatting import counted, disk, figure
from rnnlm_tui.schema.metrics import perplexity
from rnnlm_tui.tui import palette
from rnnlm_tui.tui.actions import shown_keys
from rnnlm_tui.tui.palette import BAD, BRIGHT, DIM, FOCUS, TEXT
from rnnlm_tui.tui.screens.overlay import Overlay, OverlayText
from rnnlm_tui.tui.text import safe_content, safe_text
from rnnlm_tui.tui.widgets.panel import TitledContainer

if TYPE_CHECKING:
    from rnnlm_tui.store.paths import RunDirectory
    from rnnlm_tui.store.retention import PrunePlan

LEAST_KEPT, MOST_KEPT = 2, 1_000
"""How many of the newest checkpoints can be chosen to be kept."""
LISTED = 8
"""Checkpoints that the preview lists on each side, in a terminal of the usual height."""


@dataclass(frozen=True, slots=True)
class PruneChoice:
    """What the user has chosen to delete."""

    steps: tuple[int, ...]
    bytes: int
    purge: bool
    """Remove them permanently."""


class PruneScreen(Overlay[PruneChoice]):
    """Returns the choice, None to leave all as they are."""

    DEFAULT_CSS = """
    PruneScreen TitledContainer { width: 76; max-width: 100%; height: auto; max-height: 95%;
        background: #121212; }
    PruneScreen OverlayText { height: auto; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,escape,q", "leave", show=False),
        Binding("D", "delete", show=False),
        Binding("up,k", "field(-1)", show=False),
        Binding("down,j", "field(1)", show=False),
        Binding("right,plus", "change(1)", show=False),
        Binding("left,minus", "change(-1)", show=False),
    ]

    def __init__(self, run: RunDirectory, *, every: int, interval: int) -> None:
        """Ask.

        Args:
            every: the first choice of multiples to keep; 0: none.
            interval: steps between the run's checkpoints, of which multiples are offered.
        """
        super().__init__()
        self._run = run
        self._keep_last = LEAST_KEPT
        steps = max(1, interval)
        self._intervals = sorted({0, every, *(steps * factor for factor in (1, 2, 5, 10, 20, 50))})
        self._every = self._intervals.index(every)
        self._purge = False
        self._field = 0
        self._plan: PrunePlan | None = None
        self._problem = ""
        self._asked = 0

    def compose(self) -> ComposeResult:
        title = f"Prune {safe_text(self._run.name, limit=40)}"
        with TitledContainer(title=title, classes="-highlighted"):
            yield OverlayText(id="prune-text")

    def on_mount(self) -> None:
        self._read_plan()

    def on_resize(self) -> None:
        self._show()

    def action_leave(self) -> None:
        """Close without deleting."""
        self.dismiss(None)

    def action_delete(self) -> None:
        """Close and delete what the preview shows."""
        plan = self._plan
        if plan is not None and plan.goes:
            steps = tuple(entry.step for entry in plan.goes)
            self.dismiss(PruneChoice(steps, plan.bytes, self._purge))

    def action_field(self, by: int) -> None:
        """Move to the next or previous field."""
        self._field = (self._field + by) % 3
        self._show()

    def action_change(self, by: int) -> None:
        """Change the field under the cursor."""
        if self._field == 0:
            self._keep_last = min(MOST_KEPT, max(LEAST_KEPT, self._keep_last + by))
        elif self._field == 1:
            self._every = (self._every + by) % len(self._intervals)
        else:
            self._purge = not self._purge
            self._show()
            return
        self._read_plan()

    def _read_plan(self) -> None:
        """Look up what would go, in a thread: the newest checkpoints are verified."""
        self._asked += 1
        self._plan, self._problem = None, ""
        self._show()
        asked = self._asked
        every = self._intervals[self._every]

        def found(plan: PrunePlan) -> None:
            if asked == self._asked and self.is_attached:
                self._plan = plan
                self._show()

        def failed(error: RnnlmError | OSError) -> None:
            if asked == self._asked and self.is_attached:
                self._problem = error.message if isinstance(error, RnnlmError) else str(error)
                self._show()

        last = self._keep_last
        self.context.in_thread(
            lambda: store.retention.plan_prune(self._run, last, every), found, failed
        )

    def _show(self) -> None:
        if self.is_attached:
            self.query_one("#prune-text", OverlayText).update(Content("\n").join(self._lines()))

    def _lines(self) -> Sequence[Content]:
        from rnnlm_tui.store.trash import KEPT_DAYS

        every = self._intervals[self._every]
        fields = (
            ("keep the newest", f"{self._keep_last:,}", f"at least {LEAST_KEPT}"),
            ("keep multiples of", f"{every:,}" if every else "none", "steps" if every else ""),
            (
                "delete",
                "permanently" if self._purge else "to the trash",
                "can't be undone" if self._purge else f"u undoes it, for {KEPT_DAYS} days",
            ),
        )
        lines = [self._field_line(place, *field) for place, field in enumerate(fields)]
        lines += [Content.styled("  the best and the pinned are always kept", DIM), Content("")]
        lines += self._preview()
        return [*lines, Content(""), self._keys()]

    def _field_line(self, place: int, label: str, value: str, remark: str) -> Content:
        here = place == self._field
        cursor = "›" if here else " "
        arrows = ("← ", " →") if here else ("  ", "  ")
        return Content.assemble(
            (f"{cursor} ", f"bold {FOCUS}"),
            (label.ljust(19), TEXT if here else DIM),
            (arrows[0], FOCUS),
            (value, f"bold {BRIGHT}" if here else TEXT),
            (arrows[1], FOCUS),
            (f"  {remark}" if remark else "", DIM),
        )

    def _preview(self) -> list[Content]:
        plan = self._plan
        if self._problem:
            words = safe_content(self._problem, newlines="space", limit=68)
            return [Content.assemble(("  ✗ ", BAD), words.stylize(BAD))]
        if plan is None:
            return [Content.styled("  verifying what must be kept …", DIM)]
        most = LISTED if self.app.size.height >= 32 else 3
        goes = [
            (f"{entry.step:,}", _perplexity(entry.validation_loss), disk(entry.bytes), "")
            for entry in reversed(plan.goes)
        ]
        stays = [
            (f"{step:,}", "", "", why) for step, why in sorted(plan.kept.items(), reverse=True)
        ]
        count = len(plan.goes)
        head = (
            Content.assemble(
                ("  deletes ", DIM),
                (counted(count, "checkpoint"), f"bold {BRIGHT}"),
                (" and frees ", DIM),
                (disk(plan.bytes), f"bold {BRIGHT}"),
            )
            if count
            else Content.styled("  nothing to delete", DIM)
        )
        return [
            head,
            *_rows(goes, most),
            Content.styled(f"  keeps {len(plan.kept)}", DIM),
            *_rows(stays, most),
        ]

    def _keys(self) -> Content:
        plan = self._plan
        keys = [("enter", "cancel"), ("↑ ↓", "field"), ("← →", "change")]
        if plan is not None and plan.goes:
            verb = "purge" if self._purge else "delete"
            keys.append(("D", f"{verb}, {disk(plan.bytes)}"))
        return Content("   ").join(
            Content.assemble(
                (shown_keys(key, self.app), f"bold {palette.BRIGHT}"), (f" {word}", DIM)
            )
            for key, word in keys
        )


def _perplexity(loss: float | None) -> str:
    return "" if loss is None else f"val ppl {figure(perplexity(loss))}"


def _rows(rows: Sequence[tuple[str, str, str, str]], most: int) -> list[Content]:
    shown = rows if len(rows) <= most + 1 else rows[:most]
    lines = [
        Content.assemble(
            (f"    {step:>9}", TEXT),
            (f"  {value:<16}" if value else "  ", DIM),
            (f"{size:>9}" if size else "", DIM),
            (why, DIM),
        ).truncate(70, ellipsis=True)
        for step, value, size, why in shown
    ]
    if len(shown) < len(rows):
        lines.append(Content.styled(f"    … and {len(rows) - len(shown)} more", DIM))
    return lines
