"""The processes that train together, as a table: a row each or, with little room, a row a host."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from textual.content import Content

from rnnlm_tui.schema.formatting import NOTHING, card_name, count, gib, short
from rnnlm_tui.schema.metrics import slowest_rank
from rnnlm_tui.tui.palette import BRIGHT, DIM, TEXT, WARN
from rnnlm_tui.tui.text import safe_content, safe_text

if TYPE_CHECKING:
    from rnnlm_tui.schema.metrics import RankReading

ROOMY, WIDE = 36, 50
"""Widths from which figures have units, and from which the cards are named."""
LATE = 0.9
"""The slowest rank is a warning if its pace is below this part of the mean."""


def rank_lines(ranks: Sequence[RankReading], width: int, height: int) -> list[Content]:
    """Return a head and a row per rank, with ▼ before the slowest one.

    If they don't fit: the means of each host, or of all ranks, then the slowest ranks.
    """
    groups = [[rank] for rank in ranks]
    if len(groups) >= height:
        hosts = dict.fromkeys(rank.host for rank in ranks)
        groups = [[rank for rank in ranks if rank.host == host] for host in hosts]
        if len(groups) > height - 2:
            groups = [[*ranks]]
        by_pace = sorted(ranks, key=lambda rank: rank.pace)
        groups += [[rank] for rank in by_pace[: max(0, height - 1 - len(groups))]]
    slowest = slowest_rank(ranks)
    is_late = slowest is not None and slowest.pace < LATE * fmean(rank.pace for rank in ranks)
    rows = [_row(("#", "host", "card", "tok/s", "use", "GiB", "wait"), width).stylize(DIM)]
    for group in groups:
        is_slowest = group == [slowest]
        style = f"bold {WARN if is_late else BRIGHT}" if is_slowest else TEXT
        rows.append(_row(_cells(group, width), width, "▼" if is_slowest else " ").stylize(style))
    return rows


def _cells(group: Sequence[RankReading], width: int) -> tuple[str, ...]:
    """A rank's figures, or the means of several ranks."""
    first, hosts = group[0], {rank.host for rank in group}
    cards = {card_name(rank.device) or "CPU" for rank in group}
    unit = " %" if width >= ROOMY else ""
    means = {}
    for name in ("tokens_per_second", "use", "memory", "memory_total", "waiting"):
        known = [value for rank in group if (value := getattr(rank, name)) is not None]
        means[name] = fmean(known) if known else None
    waiting, total = means["waiting"], means["memory_total"]
    return (
        f"{first.rank}" if len(group) == 1 else f"{len(group)}×",
        first.host.partition(".")[0] if len(hosts) == 1 else "all",
        "/".join(sorted(cards)),
        short(means["tokens_per_second"]),
        f"{count(means['use'])}{unit}",
        gib(means["memory"]) + (f" / {gib(total)}" if total and width >= WIDE else ""),
        NOTHING if waiting is None else f"{100 * waiting:.0f}{unit}",
    )


def _row(cells: Sequence[str], width: int, mark: str = " ") -> Content:
    """Place cells in columns; the host has the rest of the row."""
    gap, unit = (2, 2) if width >= ROOMY else (1, 0)
    number, host, card, *figures = cells
    sizes = (5, 3 + unit, 9 if width >= WIDE else 3, 4)
    right = "".join(" " * gap + text.rjust(size) for text, size in zip(figures, sizes, strict=True))
    if width >= WIDE:
        right = f"  {safe_text(card, limit=8, newlines='show'):<8}{right}"
    left = f"{mark}{number:>2} "
    room = max(0, width - len(left) - len(right))
    if len(host) > room:
        host = f"…{host[1 - room :]}"  # its number is at the end
    name = safe_content(host, limit=room, newlines="show")
    return Content(left) + name.pad_right(room - name.cell_length) + Content(right)
