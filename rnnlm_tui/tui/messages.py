"""Messages inside the app, and the texts about commands to a worker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from textual.message import Message

if TYPE_CHECKING:
    from rnnlm_tui.client.monitor import RunSnapshot
    from rnnlm_tui.schema.lineage import OptimizerStart
    from rnnlm_tui.schema.metrics import HardwareRow
    from rnnlm_tui.schema.protocol import CommandResult, Verb
    from rnnlm_tui.schema.queue import QueueListing
    from rnnlm_tui.schema.status import RunStatus
    from rnnlm_tui.schema.summary import RunSummary
    from rnnlm_tui.system.machine import MachineFacts


NoticeKind = Literal["done", "fact", "trouble"]


@dataclass(frozen=True, slots=True)
class Notice:
    """One line about what just happened."""

    text: str
    kind: NoticeKind = "fact"
    hint: str = ""
    """The next thing to do; may be empty."""
    stays: bool = False
    """Whether it stays until a key is pressed, instead of some seconds."""


class SnapshotChanged(Message):
    """The open run has changed."""

    def __init__(self, snapshot: RunSnapshot) -> None:
        super().__init__()
        self.snapshot = snapshot
        """The open run's state, frozen."""


class ComparedChanged(Message):
    """The compared runs have changed."""

    def __init__(self, snapshots: tuple[RunSnapshot, ...]) -> None:
        super().__init__()
        self.snapshots = snapshots
        """The runs that have been read, in the order of their letters."""


class RunsChanged(Message):
    """The list of runs has changed."""

    def __init__(self, summaries: Sequence[RunSummary], *, complete: bool = True) -> None:
        super().__init__()
        self.summaries = tuple(summaries)
        """All runs, newest first."""
        self.complete = complete
        """Whether all runs have been read: of hundreds, the newest come first when the app
        starts."""


class QueueChanged(Message):
    """The queue of runs has changed, or the expected start of a run."""

    def __init__(self, queue: QueueListing) -> None:
        super().__init__()
        self.queue = queue
        """The queue, frozen."""


class MachineChanged(Message):
    """The facts about this machine have changed."""

    def __init__(self, machine: MachineFacts) -> None:
        super().__init__()
        self.machine = machine
        """The facts with what is free now."""


class ReadingsChanged(Message):
    """The app has read this machine's load, or has stopped reading it."""

    def __init__(self, rows: tuple[HardwareRow, ...], *, live: bool) -> None:
        super().__init__()
        self.rows = rows
        """The readings, oldest first."""
        self.live = live
        """Whether more readings follow."""


class ForkRequested(Message):
    """The user wants a new run that starts from a checkpoint's weights.

    The app opens the config pane with the run's config as the draft and the checkpoint as its
    parent; the pane's start key starts it.
    """

    def __init__(self, run: str, checkpoint: str, optimizer: OptimizerStart = "fresh") -> None:
        super().__init__()
        self.run = run
        """The run's name."""
        self.checkpoint = checkpoint
        """The step, `best`, `last`, or `average-STEP`."""
        self.optimizer: OptimizerStart = optimizer
        """Whether the optimizer's state is kept."""


class NoticePosted(Message):
    """A notice from the watcher."""

    def __init__(self, notice: Notice) -> None:
        super().__init__()
        self.notice = notice
        """The line to show."""


PROGRESS: dict[str, str] = {
    "pause": "pausing after this step…", "resume": "resuming…",
    "stop": "stop requested: saving a checkpoint first…", "checkpoint": "saving a checkpoint…",
    "evaluate": "evaluating…", "sample": "sampling…",
    "snapshot": "taking a snapshot…",
}  # fmt: skip
"""Shown at once, because some answers take seconds."""

NOT_RESUMABLE: dict[RunStatus, str] = {
    "finished": "the run is finished: press n on Runs to start a new one",
    "preparing": "the corpus is still being prepared: S stops it",
    "lost": "the run is on another machine that doesn't answer",
}
"""Why space does nothing."""

NO_WORKER: dict[RunStatus, str] = {
    **NOT_RESUMABLE,
    "stopped": "the run is stopped: space resumes it",
    "failed": "the run has failed: space retries it",
    "crashed": "the run has crashed: space resumes it",
    "draft": "the run is a draft: space starts it",
}
"""Why a run without a worker can't sample, save, evaluate or stop."""

WOULD_DIVERGE = "it would fail again: n makes a new run from its config"
"""Why space does nothing for a run whose losses or gradients were non-finite until the end."""

PAUSE_VERBS: dict[RunStatus, str] = {
    "running": "Pause",
    "degraded": "Pause",
    "paused": "Resume",
    "stopped": "Resume",
    "failed": "Retry",
    "crashed": "Resume",
    "draft": "Start",
}
"""What space does in each status, for the footer; in any other status the footer doesn't offer
it."""


def pin_hint(stays: str) -> str:
    """Say how long a checkpoint stays, and the key that keeps it; nothing if it stays for good."""
    return f" {stays}: p on Checkpoints pins it" if stays else ""


def outcome(verb: Verb, result: CommandResult, stays: str = "") -> Notice:
    """Return one line about the outcome of a command.

    Args:
        stays: how long a checkpoint of this step stays; empty: for good, or unknown.
    """
    if not result.ok:
        return Notice(result.error or f"{verb} was rejected", "trouble", result.hint)
    at = f"step {result.step:,}"
    text = {
        "pause": f"paused at {at}",
        "resume": f"resumed at {at}",
        "stop": (
            f"stopped at {at}, checkpoint saved"
            if result.checkpoint
            else "stopped before its first step"
        ),
        "checkpoint": f"checkpoint saved at {at}{pin_hint(stays)}",
        "evaluate": f"{at}: {result.text}" if result.text else f"evaluated at {at}",
        "sample": f"sampled at {at}",
    }.get(verb, f"{verb}: done at {at}")
    return Notice(text, "done")
