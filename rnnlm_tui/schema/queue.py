"""The queue of runs: its file, and the listing that `queue --json` prints."""

from __future__ import annotations

from time import localtime, strftime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from rnnlm_tui.schema.formatting import LATEST, about
from rnnlm_tui.schema.status import RunStatus
from rnnlm_tui.schema.summary import Figures


class QueueEntry(BaseModel):
    """One run in the queue. Its lock, attempts and summary say whether it waits, trains or has
    ended."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: str
    """Name of the run."""
    added: float = Field(ge=0, le=LATEST)
    """Unix seconds."""
    attempts: int = Field(default=0, ge=0)
    """The run's attempts when it began to wait: more mean that it was started since."""
    stop_on_failure: bool = False
    """Whether the queue pauses if this run fails."""
    problem: str = ""
    """Why it couldn't be started, which its folder doesn't say; empty if it could."""


class QueueFile(BaseModel):
    """The whole queue as stored."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    paused: bool = False
    """Whether no waiting run is started."""
    reason: str = ""
    """Why the queue paused itself; empty if the user paused it."""
    stop_on_failure: bool = False
    """Whether any failed run pauses the queue."""
    entries: tuple[QueueEntry, ...] = ()
    """In the order in which they start; each stays here until its end was seen."""
    ended: tuple[QueueEntry, ...] = ()
    """The last ended ones, newest last."""

    @field_validator("entries")
    @classmethod
    def _names_each_run_once(cls, entries: tuple[QueueEntry, ...]) -> tuple[QueueEntry, ...]:
        if len({entry.run for entry in entries}) < len(entries):
            raise ValueError("a run is in the queue twice")
        return entries

    def without(self, run: str) -> QueueFile:
        """The queue without a run."""
        entries, ended = (
            tuple(entry for entry in entries if entry.run != run)
            for entries in (self.entries, self.ended)
        )
        return self.model_copy(update={"entries": entries, "ended": ended})


class QueuedRun(Figures):
    """An entry of the queue, as listed."""

    run: str
    place: int | None = None
    """From 1; None if it isn't waiting."""
    state: Literal["waiting", "running", "ended"]
    status: RunStatus
    """The run's status."""
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
    outcome: RunStatus | None = None
    """How it ended: its status, or `failed` if it couldn't be started. None until it ended."""
    message: str = ""
    """Why it failed, in one line."""
    ended: float | None = None
    """Unix seconds of its newest recorded value; None if it couldn't be started."""

    @property
    def state_words(self) -> str:
        """`running on cuda:1`, `waiting`, `waiting to resume`, or how it ended."""
        if self.state == "ended":
            return "lost contact" if self.outcome == "lost" else self.outcome or ""
        if self.state == "waiting":
            return "waiting to resume" if self.step else "waiting"
        return f"{self.status} on {self.device}" if self.device else self.status

    @property
    def steps_words(self) -> str:
        """`1,500 / 4,328`, or one of them; empty if neither is known."""
        return " / ".join(f"{steps:,}" for steps in (self.step, self.max_steps) if steps)

    def start_words(self, now: float) -> str:
        """`now`, `in ≈ 5 min 00 s`; empty if it is unknown."""
        if self.starts is None:
            return ""
        seconds = self.starts - now
        return "now" if seconds < 1 else f"in {about(seconds)}"


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

    @property
    def words(self) -> str:
        """Whether the queue starts runs, and why not: `process 4711 on gpu1 since …`."""
        if self.paused:
            words = ": ".join(filter(None, ("paused", self.reason)))
        elif self.process is not None and self.process.started is not None:
            since = strftime("%Y-%m-%d %H:%M", localtime(self.process.started))
            words = f"process {self.process.pid} on {self.process.host} since {since}"
        elif self.waiting:
            words = "its process isn't running: `rnnlm-tui queue` starts it"
        else:
            words = "nothing waits" if self.runs else "empty"
        return words + (", pauses if a run fails" if self.stop_on_failure else "")
