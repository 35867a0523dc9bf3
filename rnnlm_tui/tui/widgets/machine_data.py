"""Charts of the machine during a run: load and memory, on any x axis."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from rnnlm_tui.contract.figures import GIB, NOTHING, gib
from rnnlm_tui.tui.widgets import palette
from rnnlm_tui.tui.widgets.axes import Axis, x_of_times
from rnnlm_tui.tui.widgets.chart.data import Baseline, ChartData, ChartSeries
from rnnlm_tui.tui.widgets.train_data import chart_data

if TYPE_CHECKING:
    from rnnlm_tui.contract.metrics import HardwareRow
    from rnnlm_tui.store.series import Band
    from rnnlm_tui.supervisor.monitor import RunSnapshot


def busy_data(snapshot: RunSnapshot, axis: Axis) -> ChartData:
    """GPU load in percent, or without a GPU the CPU load of this run and of all processes."""
    row = _newest(snapshot)
    curves: tuple[ChartSeries, ...]
    if _measured(snapshot, "gpu_percent"):
        curves = (_curve(snapshot, axis, "", palette.TRAIN, "gpu_percent", _percent(row.gpu_percent if row else None), _percent),)
        return chart_data(snapshot, axis, "GPU", curves, from_zero=True, y_unit=" %")
    curves = (
        _curve(snapshot, axis, "run", palette.TRAIN, "process_cpu_percent", _percent(row.process_cpu_percent if row else None), _percent),
        _curve(snapshot, axis, "all", palette.THIRD, "cpu_percent", _percent(row.cpu_percent if row else None), _percent),
    )
    return chart_data(snapshot, axis, "CPU", curves, from_zero=True, y_unit=" %")


def memory_data(snapshot: RunSnapshot, axis: Axis) -> ChartData:
    """Memory in GiB of this run and of all processes, and the total: the GPU's if there is one."""
    row = _newest(snapshot)
    if _measured(snapshot, "gpu_memory_used"):
        own, used, total, title = (row.gpu_memory_own, row.gpu_memory_used, row.gpu_memory_total, "GPU memory") if row else (None, None, None, "GPU memory")
        names = ("gpu_memory_own", "gpu_memory_used")
    else:
        own, used, total, title = (row.process_memory, row.memory_used, row.memory_total, "Memory") if row else (None, None, None, "Memory")
        names = ("process_memory", "memory_used")
    curves = (
        _curve(snapshot, axis, "own", palette.TRAIN, names[0], gib(own), _figure, scale=1 / GIB),
        _curve(snapshot, axis, "all", palette.THIRD, names[1], gib(used), _figure, scale=1 / GIB),
    )
    levels = (Baseline(total / GIB, f"{gib(total)} GiB"),) if total else ()
    return chart_data(snapshot, axis, f"{title}, GiB", curves, from_zero=True, baselines=levels)


def _newest(snapshot: RunSnapshot) -> HardwareRow | None:
    return snapshot.hardware[-1] if snapshot.hardware else None


def _measured(snapshot: RunSnapshot, column: str) -> bool:
    """Whether the machine ever reported this value."""
    return any(value == value for value in snapshot.machine.columns[column].mean)


def _curve(
    snapshot: RunSnapshot, axis: Axis, name: str, colour: str, column: str, current: str, write: Callable[[float | None], str], *, scale: float = 1.0
) -> ChartSeries:
    machine = snapshot.machine
    band: Band = machine.columns[column]
    low, high, mean = ([value * scale for value in part] if scale != 1.0 else part for part in (band.low, band.high, band.mean))
    return ChartSeries(
        name=name,
        colour=colour,
        x=x_of_times(snapshot.series, axis, machine.time),
        mean=mean,
        low=low,
        high=high,
        current=current if len(machine) else "",
        y_format=write,
    )


def _percent(value: float | None) -> str:
    return NOTHING if value is None or math.isnan(value) else f"{value:.0f} %"


def _figure(value: float | None) -> str:
    return NOTHING if value is None or math.isnan(value) else f"{value:.1f}" if value < 9.95 else f"{value:.0f}"
