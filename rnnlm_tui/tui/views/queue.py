"""What the screens say about the queue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from time import localtime, strftime, time
from typing import TYPE_CHECKING

from textual.content import Content

from rnnlm_tui.schema.formatting import about, age, time_left
from rnnlm_tui.tui.palette import BAD, TEXT

if TYPE_CHECKING:
    from rnnlm_tui.schema.queue import QueuedRun, QueueListing


@dataclass(frozen=True, slots=True)
class Waiting:
    """A waiting run, as the list of runs shows it."""

    place: int
    """From 1."""
    start: str
    """The expected start, such as `in 5 min`; empty if unknown."""


def waiting_runs(listing: QueueListing | None) -> Mapping[str, Waiting]:
    """Return the waiting runs by name."""
    if listing is None:
        return {}
    now = time()
    return {
        run.run: Waiting(run.place or 0, "" if run.starts is None else _brief(run.starts - now))
        for run in listing.waiting
    }


def _brief(seconds: float) -> str:
    """Return `in 5 min`, at most ten letters."""
    return "now" if seconds < 10 else f"in {age(seconds)}"


def time_words(run: QueuedRun, now: float) -> str:
    """Return `24 s left`, `in ≈ 5 min 00 s`, or `now`; empty if unknown."""
    if run.state == "running":
        return "" if run.seconds is None else time_left(run.seconds)[0]
    if run.starts is None:
        return ""
    seconds = run.starts - now
    return "now" if seconds < 1 else f"in {about(seconds)}"


def ended_words(run: QueuedRun) -> Content:
    """Return how a run ended; only failures are red."""
    words = "lost contact" if run.outcome == "lost" else run.outcome or ""
    return Content.styled(words, BAD if run.outcome in ("failed", "crashed") else TEXT)


def queue_state(listing: QueueListing) -> str:
    """Return in one line whether the queue starts runs, and why not."""
    stops = ", pauses if a run fails" if listing.stop_on_failure else ""
    if listing.damaged:
        return listing.damaged
    if listing.paused:
        return f"paused: {listing.reason}{stops}" if listing.reason else f"paused{stops}"
    process = listing.process
    if process is not None and process.started is not None:
        since = strftime("%Y-%m-%d %H:%M", localtime(process.started))
        return f"process {process.pid} on {process.host} since {since}{stops}"
    if listing.waiting:
        return f"its process isn't running: `rnnlm-tui queue` starts it{stops}"
    return f"nothing waits{stops}" if listing.runs else f"empty{stops}"
