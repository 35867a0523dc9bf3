"""The messages inside the app: what the monitor saw, what the machine is, what came of a command."""

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
    """One calm line about what just happened."""

    text: str
    kind: NoticeKind = "fact"
    hint: str = ""
    """The next thing to do; may be empty."""
    stays: bool = False
    """Until a key is pressed, for whoever looked elsewhere; else for some seconds."""


class SnapshotChanged(Message):
    """The open run has something new."""

    def __init__(self, snapshot: RunSnapshot) -> None:
        super().__init__()
        self.snapshot = snapshot
        """All there is to show of the open run, frozen."""


class ComparedChanged(Message):
    """The runs that are compared have something new."""

    def __init__(self, snapshots: tuple[RunSnapshot, ...]) -> None:
        super().__init__()
        self.snapshots = snapshots
        """Those that have been read, in the order of their letters."""


class RunsChanged(Message):
    """The list of runs has something new."""

    def __init__(self, summaries: Sequence[RunSummary], *, complete: bool = True) -> None:
        super().__init__()
        self.summaries = tuple(summaries)
        """All runs, newest first."""
        self.complete = complete
        """Whether all have been read: at the start of the app the newest of hundreds come first."""


class MachineSeen(Message):
    """What this machine is and has free."""

    def __init__(self, machine: MachineFacts) -> None:
        super().__init__()
        self.machine = machine
        """Facts of now."""


class MachineRead(Message):
    """The app has read how busy this machine is, or reads it no longer."""

    def __init__(self, rows: tuple[HardwareRow, ...], *, live: bool) -> None:
        super().__init__()
        self.rows = rows
        """The oldest first."""
        self.live = live
        """More are coming."""


class Noticed(Message):
    """Something happened that one line tells."""

    def __init__(self, notice: Notice) -> None:
        super().__init__()
        self.notice = notice
        """The line."""
