"""What the machine panel shows of a run: its worker's readings while it lives, and the app's own of this machine when nothing trains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from time import localtime, strftime, time
from typing import TYPE_CHECKING

from textual.content import Content

from rnnlm_tui.contract.computing import arithmetic, others_words
from rnnlm_tui.contract.status import LIVING
from rnnlm_tui.tui.widgets import palette
from rnnlm_tui.tui.widgets.identity import device_name, machine_label

if TYPE_CHECKING:
    from rnnlm_tui.contract.metrics import HardwareRow
    from rnnlm_tui.supervisor.machine import MachineFacts
    from rnnlm_tui.supervisor.monitor import RunSnapshot

OLD_READING_SECONDS = 10.0
"""A run that can't store anything has no newer reading of its machine than this."""


@dataclass(frozen=True, slots=True)
class Readings:
    """The app's own readings of this machine."""

    rows: tuple[HardwareRow, ...] = ()
    """The oldest first."""
    live: bool = False
    """More are coming: somebody is there."""


@dataclass(frozen=True, slots=True)
class MachineView:
    """All that the panel shows."""

    rows: Sequence[HardwareRow] = ()
    """The oldest first."""
    legend: Content = field(default_factory=partial(Content, ""))
    cores: int = 0
    """0: not known."""
    disk_total: int | None = None
    """Bytes of the disk; None where it is not known."""
    trains: bool = True
    """The readings are a run's, which has a part of its own; else they are of the machine alone."""
    alarm: bool = False
    """Something stands still."""
    device: str = ""
    """What the run computes on."""
    arithmetic: str = ""
    """How it multiplies."""
    others: str = ""
    """A warning about other processes."""


def machine_view(snapshot: RunSnapshot | None, machine: MachineFacts | None, own: Readings, *, wide: bool) -> MachineView:
    """The worker's readings of a run that lives; of one that does not, the machine of now where it is this one, else as the run ended."""
    summary = snapshot.summary if snapshot is not None else None
    rows = snapshot.hardware if snapshot is not None else ()
    status = summary.status if summary is not None else None
    living = status in LIVING
    here = machine is not None and (summary is None or summary.host in (None, machine.host))
    label = machine_label(machine, wide=wide) if machine is not None else Content("")
    cores, disk_total = (machine.cpu_count, machine.disk_total) if machine is not None and here else (0, None)
    if not living and here and own.rows:
        legend = label if own.live else Content(strftime("at %H:%M:%S", localtime(own.rows[-1].time)))
        return MachineView(own.rows, legend.stylize(palette.DIM), cores, disk_total, trains=False)
    if rows and not living:
        label = Content("as the run ended")
    elif rows and status == "degraded" and time() - rows[-1].time > OLD_READING_SECONDS:
        label = Content("as last stored")
    return MachineView(
        rows,
        label.stylize(palette.DIM),
        cores,
        disk_total,
        alarm=status in ("stalled", "degraded"),
        device=device_name(machine, wide=False, device=summary.device) if machine is not None and summary is not None and (living or not rows) else "",
        arithmetic=arithmetic(summary) if summary is not None else "",
        others=others_words(summary) if summary is not None else "",
    )
