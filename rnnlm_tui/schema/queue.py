"""The queue of runs: its file, and the listing that `queue --json` prints."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from rnnlm_tui.schema.formatting import LATEST
from rnnlm_tui.schema.status import RunStatus
from rnnlm_tui.schema.summary import Figures

FORMAT = 1
"""Version of the queue's file."""

EntryState = Literal["waiting", "starting", "started", "ended"]
Outcome = Literal["finished", "stopped", "failed", "crashed", "lost", "deleted"]
"""How an entry ended: as its run did, or `deleted` if its run is gone."""
FAILURES: frozenset[str] = frozenset({"failed", "crashed", "lost"})
"""Outcomes that pause the queue if it stops on a failure."""


class QueueEntry(BaseModel):
    """One run in the queue. The run's directory holds its config and its parent."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: str
    """Name of the run."""
    added: float = Field(ge=0, le=LATEST)
    """Unix seconds."""
    state: EntryState = "waiting"
    """`starting` is written before a worker is started, `started` once it holds the run."""
    attempts: int = 0
    """Attempts of the run before the queue started it: more mean that the worker has begun."""
    device: str = ""
    """Where it was started: cpu, mps or cuda:N. Empty while it waits."""
    stop_on_failure: bool = False
    """Whether the queue pauses if this run fails."""
    interrupted: bool = False
    """Whether a reboot interrupted the run, so that it waits to be resumed."""
    outcome: Outcome | None = None
    """None until it ended."""
    message: str = ""
    """Why it failed, in one line."""
    ended: float | None = Field(default=None, ge=0, le=LATEST)
    """Unix seconds."""


class QueueFile(BaseModel):
    """The whole queue as stored, in the order in which it starts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    paused: bool = False
    """Whether no waiting run is started."""
    reason: str = ""
    """Why the queue paused itself; empty if the user paused it."""
    stop_on_failure: bool = False
    """Whether any failed run pauses the queue."""
    entries: tuple[QueueEntry, ...] = ()

    @field_validator("entries")
    @classmethod
    def _names_each_run_once(cls, entries: tuple[QueueEntry, ...]) -> tuple[QueueEntry, ...]:
        names = [entry.run for entry in entries if entry.state != "ended"]
        if len(set(names)) < len(names):
            raise ValueError("a run is in the queue twice")
        return entries

    def of(self, *states: EntryState) -> tuple[QueueEntry, ...]:
        """The entries in these states."""
        return tuple(entry for entry in self.entries if entry.state in states)

    @property
    def waiting(self) -> tuple[QueueEntry, ...]:
        """The waiting entries, the next one first."""
        return self.of("waiting")

    @property
    def has_work(self) -> bool:
        """Whether the queue's process has something to start or to watch."""
        return bool(self.of("starting", "started")) or (not self.paused and bool(self.waiting))


class QueuedRun(Figures):
    """An entry of the queue, as listed."""

    run: str
    place: int | None = None
    """From 1; None if it isn't waiting."""
    state: Literal["waiting", "running", "ended"]
    status: RunStatus | None = None
    """The run's status; None if the run is gone."""
    device: str = ""
    """Where it trains; while it waits, the device that its config asks for."""
    preset: str = ""
    step: int = 0
    """Steps done; above 0 for a waiting run that will be resumed."""
    max_steps: int | None = None
    """None if unknown before the corpus is prepared."""
    added: float
    """Unix seconds."""
    seconds: float | None = None
    """Estimated time that it still trains; None if unknown."""
    starts: float | None = None
    """Expected start in Unix seconds, for a waiting run; None if unknown or paused."""
    stop_on_failure: bool = False
    outcome: Outcome | None = None
    message: str = ""
    ended: float | None = None
    """Unix seconds."""


class QueueProcess(Figures):
    """The process that starts the queue's runs."""

    pid: int | None = None
    started: float | None = None
    """Unix seconds."""
    host: str | None = None


class QueueListing(Figures):
    """The queue, as `queue --json` prints it."""

    paused: bool = False
    reason: str = ""
    """Why the queue paused itself."""
    stop_on_failure: bool = False
    process: QueueProcess | None = None
    """None if it isn't running: it ends when nothing is left to start."""
    runs: tuple[QueuedRun, ...] = ()
    """Running ones first, then waiting ones by place."""
    ended: tuple[QueuedRun, ...] = ()
    """The last ended ones, newest first."""
    damaged: str = ""
    """A message if the queue's file is damaged."""

    @property
    def waiting(self) -> tuple[QueuedRun, ...]:
        """The waiting runs, the next one first."""
        return tuple(run for run in self.runs if run.state == "waiting")
