"""What the machine panel shows: readings of a run or of the app, or an ended run's totals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import isnan, nan
from statistics import fmean
from time import localtime, strftime, time
from typing import TYPE_CHECKING

from textual.content import Content

from rnnlm_tui.schema.formatting import arithmetic, other_load_text
from rnnlm_tui.schema.metrics import GpuRow
from rnnlm_tui.schema.status import LIVING
from rnnlm_tui.tui import palette
from rnnlm_tui.tui.views.status import device_name, machine_label

if TYPE_CHECKING:
    from rnnlm_tui.client.monitor import RunSnapshot
    from rnnlm_tui.schema.metrics import HardwareRow
    from rnnlm_tui.system.machine import MachineFacts


OLD_READING_SECONDS = 10.0
"""A run that can't write to disk has no newer reading than this."""


@dataclass(frozen=True, slots=True)
class Readings:
    """The app's own readings of this machine."""

    rows: tuple[HardwareRow, ...] = ()
    """Oldest first."""
    live: bool = False
    """Whether more readings are coming, as long as someone uses the app."""


@dataclass(frozen=True, slots=True)
class RunTotals:
    """What an ended run used of its machine; NaN for values that weren't measured."""

    mean: Mapping[str, float]
    """The mean of each of MACHINE_COLUMNS over the whole run."""
    peak: Mapping[str, float]
    loads: Sequence[float]
    """Load of the GPU, or of the CPU without one, from start to end, in percent."""
    memory_total: int
    gpu_memory_total: int | None
    training_seconds: float
    whole_seconds: float | None
    """From start to end, with preparation, evaluations and checkpoints; None if resumed or unknown.
    """

    @property
    def has_card(self) -> bool:
        """Whether it trained on a GPU whose load or memory was measured."""
        return not (isnan(self.peak["gpu_percent"]) and isnan(self.peak["gpu_memory_own"]))


def run_totals(snapshot: RunSnapshot) -> RunTotals | None:
    """Return a run's totals; None if nothing was measured."""
    machine, rows, summary = snapshot.machine, snapshot.hardware, snapshot.summary
    if not len(machine) or not rows:
        return None
    known = {
        name: [value for value in band.mean if not isnan(value)]
        for name, band in machine.columns.items()
    }
    loads = machine.columns["gpu_percent" if known["gpu_percent"] else "cpu_percent"].mean
    ended = [
        event.time for event in snapshot.events if event.kind in ("finished", "stopped", "failed")
    ]
    started = next((event.time for event in snapshot.events if event.kind == "started"), None)
    whole = 0.0
    if summary.attempt <= 1 and started is not None:
        whole = (ended[-1] if ended else machine.time[-1]) - started
    return RunTotals(
        mean={name: fmean(values) if values else nan for name, values in known.items()},
        peak={
            name: max((value for value in band.high if not isnan(value)), default=nan)
            for name, band in machine.columns.items()
        },
        loads=loads,
        memory_total=rows[-1].memory_total,
        gpu_memory_total=rows[-1].gpu.memory_total,
        training_seconds=summary.active_seconds,
        whole_seconds=whole if whole >= summary.active_seconds else None,
    )


@dataclass(frozen=True, slots=True)
class MachineView:
    """What the panel shows."""

    rows: Sequence[HardwareRow] = ()
    """Oldest first."""
    legend: Content = field(default_factory=partial(Content, ""))
    cores: int = 0
    """0 if unknown."""
    disk_total: int | None = None
    """Bytes of the disk; None if unknown."""
    trains: bool = True
    """Whether the readings include a run's own values, not only the machine's."""
    alarm: bool = False
    """The run is stalled or can't write to disk."""
    device: str = ""
    """The device that the run computes on."""
    arithmetic: str = ""
    """The precision of its matrix products."""
    others: str = ""
    """A warning about other processes."""
    totals: RunTotals | None = None
    """Totals of an ended run, shown instead of readings."""


def machine_view(
    snapshot: RunSnapshot | None, machine: MachineFacts | None, own: Readings, *, wide: bool
) -> MachineView:
    """Choose a running run's readings, an ended run's totals, or the app's readings.

    The app's own readings are used if the run has none and ran on this machine, or without a run.
    """
    summary = snapshot.summary if snapshot is not None else None
    rows = snapshot.hardware if snapshot is not None else ()
    status = summary.status if summary is not None else None
    living = status in LIVING
    here = machine is not None and (summary is None or summary.host in (None, machine.host))
    label = machine_label(machine, wide=wide) if machine is not None else Content("")
    cores, disk_total = (
        (machine.cpu_count, machine.disk_total) if machine is not None and here else (0, None)
    )
    totals = run_totals(snapshot) if snapshot is not None and not living else None
    if totals is not None and summary is not None:
        return MachineView(
            legend=Content.styled("whole run", palette.DIM),
            arithmetic=arithmetic(summary),
            totals=totals,
        )
    if not living and here and own.rows:
        legend = (
            label if own.live else Content(strftime("at %H:%M:%S", localtime(own.rows[-1].time)))
        )
        return MachineView(own.rows, legend.stylize(palette.DIM), cores, disk_total, trains=False)
    if rows and status == "degraded" and time() - rows[-1].time > OLD_READING_SECONDS:
        label = Content("as last stored")
    return MachineView(
        rows,
        label.stylize(palette.DIM),
        cores,
        disk_total,
        alarm=status in ("stalled", "degraded"),
        device=device_name(machine, wide=False, device=summary.device)
        if machine is not None and summary is not None and (living or not rows)
        else "",
        arithmetic=arithmetic(summary) if summary is not None else "",
        others=other_load_text(summary, short=True) if summary is not None else "",
    )


def other_cards(snapshot: RunSnapshot) -> int:
    """The number of GPUs besides the one that trains; 0 once the run has ended."""
    living = snapshot.summary.status in LIVING
    return len(snapshot.hardware[-1].other_gpus) if living and snapshot.hardware else 0


STEADY_SECONDS = 5.0
"""Loads are averaged over this time, since those of single seconds fluctuate."""
HISTORY_SECONDS = 6.0
"""Seconds per dot column, aligned to the clock so that the curve doesn't move with each reading."""
LITTLE_DISK = 0.1
"""Below this free share, the disk is shown even where there is little room."""
LITTLE_BYTES = 5 * 10**9
"""Low-disk limit if the disk's size is unknown."""


def has_card(row: HardwareRow) -> bool:
    """Whether a GPU was measured, however little its driver reports."""
    return replace(row.gpu, index=None) != GpuRow()


def steady_reading(rows: Sequence[HardwareRow]) -> HardwareRow | None:
    """Return the newest reading with loads, watts and clock averaged, and only the throttling that
    lasts; `rows` oldest first."""
    if not rows:
        return None
    newest = rows[-1]
    recent = [newest]
    for row in reversed(rows[:-1]):
        if row.time <= newest.time - STEADY_SECONDS:
            break
        recent.append(row)
    return replace(
        newest,
        cpu_percent=fmean(row.cpu_percent for row in recent),
        process_cpu_percent=fmean(row.process_cpu_percent for row in recent),
        gpu=_steady([row.gpu for row in recent]),
        other_gpus=tuple(
            _steady([old for row in recent for old in row.other_gpus if old.index == card.index])
            for card in newest.other_gpus
        ),
    )


def _steady(recent: Sequence[GpuRow]) -> GpuRow:
    """A GPU's readings, newest first, as `steady_reading`."""
    newest = recent[0]
    return replace(
        newest,
        percent=_mean(newest.percent, [old.percent for old in recent]),
        watts=_mean(newest.watts, [old.watts for old in recent]),
        clock_mhz=_mean(newest.clock_mhz, [old.clock_mhz for old in recent]),
        throttle=_lasting([old.throttle for old in recent]),
    )


def _lasting(throttles: Sequence[str | None]) -> str | None:
    """The reasons in at least half of the readings, newest first: a GPU at its limit is slowed down
    for a moment every second."""
    known = [text.split(", ") if text else [] for text in throttles if text is not None]
    if throttles[0] is None or not known:
        return None
    reasons = dict.fromkeys(reason for reading in known for reason in reading)
    return ", ".join(
        reason
        for reason in reasons
        if 2 * sum(reason in reading for reading in known) >= len(known)
    )


def history(rows: Sequence[HardwareRow], columns: int) -> list[tuple[int, float]]:
    """Return the load of the GPU or CPU as (dot column, percent), newest at the right.

    Nothing if there is a GPU whose load isn't reported.
    """
    if not rows or (has_card(rows[-1]) and rows[-1].gpu.percent is None):
        return []
    card = rows[-1].gpu.percent is not None
    newest = int(rows[-1].time // HISTORY_SECONDS)
    loads: dict[int, list[float]] = {}
    for row in reversed(rows):
        bucket = int(row.time // HISTORY_SECONDS)
        if newest - bucket >= columns:
            break
        value = row.gpu.percent if card else row.cpu_percent
        if value is not None:
            loads.setdefault(columns - 1 - (newest - bucket), []).append(value)
    return [(column, fmean(loads[column])) for column in sorted(loads)]


def little_disk(row: HardwareRow, total: int | None) -> bool:
    """Whether less disk is free than training should have; `total` is the disk's size, if known."""
    return row.disk_free < (LITTLE_BYTES if not total else LITTLE_DISK * total)


def _mean(newest: float | None, values: Sequence[float | None]) -> float | None:
    return None if newest is None else fmean(value for value in values if value is not None)
