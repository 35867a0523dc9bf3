"""Messages inside the app: news of runs and machine, and notices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from textual.message import Message

if TYPE_CHECKING:
    from rnnlm_tui.contract.metrics import HardwareRow
    from rnnlm_tui.contract.summary import RunSummary
    from rnnlm_tui.supervisor.machine import MachineFacts
    from rnnlm_tui.supervisor.monitor import RunSnapshot

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
        """Whether all runs have been read: of hundreds, the newest come first when the app starts."""


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


class NoticePosted(Message):
    """A notice from the watcher."""

    def __init__(self, notice: Notice) -> None:
        super().__init__()
        self.notice = notice
        """The line to show."""
