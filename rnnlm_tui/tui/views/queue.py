"""The waiting runs, as the lists of runs show them."""

from __future__ import annotations

from collections.abc import Mapping
from time import time
from typing import TYPE_CHECKING, NamedTuple

from rnnlm_tui.schema.formatting import age

if TYPE_CHECKING:
    from rnnlm_tui.schema.queue import QueueListing


class Waiting(NamedTuple):
    """A waiting run."""

    place: int
    """From 1."""
    start: str
    """The expected start in at most ten letters, such as `in 5 min`; empty if unknown."""


def waiting_runs(listing: QueueListing | None) -> Mapping[str, Waiting]:
    """Return the waiting runs by name."""
    found: dict[str, Waiting] = {}
    for run in listing.waiting if listing is not None else ():
        start = ""
        if run.starts is not None:
            seconds = run.starts - time()
            start = "now" if seconds < 10 else f"in {age(seconds)}"
        found[run.run] = Waiting(run.place or 0, start)
    return found
