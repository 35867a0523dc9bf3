"""A run's checkpoints: their table, and what the panels of one checkpoint show."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from textual.content import Content
from textual.strip import Strip

from rnnlm_tui.client.checkpoint_detail import CheckpointDetail, FoundSamples
from rnnlm_tui.client.checkpoints import (
    CHECKPOINT_KEYS,
    CheckpointKey,
    ListedCheckpoint,
    rises,
    sorted_checkpoints,
)
from rnnlm_tui.schema import formatting
from rnnlm_tui.tui import palette
from rnnlm_tui.tui.palette import BAD, BRIGHT, DIM, GOOD, TEXT
from rnnlm_tui.tui.text import Newlines, safe_content, safe_text
from rnnlm_tui.tui.views.checkpoints import (
    CheckpointColumn,
    columns_for,
)
from rnnlm_tui.tui.views.table import row_of
from rnnlm_tui.tui.widgets.panel import Label
from rnnlm_tui.tui.widgets.samples import cut_lines
from rnnlm_tui.tui.widgets.table import SortedTable

if TYPE_CHECKING:
    from rnnlm_tui.schema.metrics import SampleRow


def state_of(detail: CheckpointDetail, now: float) -> Content | str:
    """Return whether the checkpoint is known to be damaged or intact."""
    if detail.damage:
        return Content.styled("✗ damaged", BAD)
    if detail.verified is None:
        return ""
    return Content.assemble(("✓ ", GOOD), ("verified ", TEXT), (_ago(now - detail.verified), DIM))


def sample_lines(
    found: FoundSamples, note: str, newlines: Newlines, width: int, height: int
) -> list[Content]:
    """Return the samples of a step below `note`, each in an equal share of the lines.

    An earlier sample follows for contrast if there is room.
    """

    def wrapped(sample: SampleRow) -> list[Content]:
        prompt = safe_content(sample.prompt, newlines=newlines, limit=2_000)
        text = safe_content(sample.text, newlines=newlines, limit=4_000)
        return list((prompt.stylize(f"bold {BRIGHT}") + text.stylize(TEXT)).wrap(width))

    rows = [Content.styled(safe_text(note, limit=width), DIM)] if note else []
    samples, earlier = found.samples, found.earlier
    roomy = height > 14
    contrast: list[Content] = []
    if earlier is not None and roomy and samples:
        head = Content.styled(f"the same prompt at step {earlier.step:,}", DIM)
        contrast = [Content(""), head.truncate(width, ellipsis=True)]
        contrast += [
            Content.styled(line.plain, DIM)
            for line in cut_lines(wrapped(earlier), width, max(2, height // 5))
        ]
    count = len(samples)
    for index, sample in enumerate(samples):
        gap = 1 if roomy and index < count - 1 else 0
        left = height - len(rows) - len(contrast)
        share = max(1, left // (count - index)) - gap
        if left <= 0:
            break
        rows += [*cut_lines(wrapped(sample), width, share), *[Content("")] * gap]
    return [*rows, *contrast]


def _ago(seconds: float) -> str:
    word = formatting.age(seconds)
    return "just now" if word == "now" else f"{word} ago"


class CheckpointTable(SortedTable[CheckpointKey, ListedCheckpoint]):
    """A run's checkpoints; a double click opens one for sampling."""

    columns: Sequence[CheckpointColumn]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(title="Checkpoints", keys=CHECKPOINT_KEYS, order="step", id=id)
        self._chosen: frozenset[str] = frozenset()
        self._now = 0.0
        self.empty = "no checkpoint yet"

    @property
    def path(self) -> str:
        """Directory of the checkpoint under the cursor; empty if there is none."""
        return "" if self.row is None else self.row.row.path

    def show(
        self, items: Sequence[ListedCheckpoint], now: float, chosen: Collection[str] = ()
    ) -> None:
        """Show these checkpoints.

        The cursor stays on its checkpoint, or at the top if it was there. If its checkpoint is
        gone, it moves to the one that takes its place.

        Args:
            chosen: directories of those marked for the next action.
        """
        before, at_top = self.path, self.row is self.rows[0] if self.rows else True
        self._now, self._chosen = now, frozenset(chosen)
        self._put(items, "" if at_top and self.order == "step" else before)
        if self.path != before:
            self.post_message(self.Highlighted())

    def put_in_order(self) -> None:
        self._put(self.rows, self.path)

    def _put(self, items: Sequence[ListedCheckpoint], path: str) -> None:
        rows = sorted_checkpoints(items, self.order, backwards=self.backwards)
        place = min(self._at, max(0, len(rows) - 1)) if path else 0
        self.show_rows(
            rows, next((at for at, one in enumerate(rows) if one.row.path == path), place)
        )

    def rises(self) -> bool:
        return rises(self.order, backwards=self.backwards)

    def prepare(self, width: int, height: int) -> None:  # noqa: ARG002 (the panel's signature)
        """Choose the columns for this width."""
        self.columns = columns_for(width, self.rows)

    def legend_within(self, room: int) -> Label:
        """Return the order if no visible heading shows it."""
        order = self.hidden_order
        if order and len(order) <= room:
            return Content.styled(order, DIM)
        return super().legend_within(room)

    def row_strip(self, index: int, width: int) -> Strip:
        item = self.rows[index]
        mark = "+" if item.row.path in self._chosen else " "
        line = row_of(self.columns, item, self._now)
        line = Content.assemble(" ", (mark, f"bold {palette.THIRD}"), line[2:])
        return self.with_cursor(line, index, width)
