"""The machine panel: load, memory, disk and other GPUs; an ended run's totals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import isnan
from statistics import fmean
from typing import TYPE_CHECKING

from rich.segment import Segment
from textual.content import Content

from rnnlm_tui.schema.formatting import NOTHING, disk, duration, gib, memory
from rnnlm_tui.tui.palette import BRIGHT, DIM, TEXT, THIRD, TRAIN, WARN
from rnnlm_tui.tui.text import OTHERS, OWN, amount, bar, spread
from rnnlm_tui.tui.views.machine import (
    MachineView,
    RunTotals,
    has_card,
    history,
    little_disk,
    steady_reading,
)
from rnnlm_tui.tui.widgets.chart.raster import Raster, Scale, curve_layer
from rnnlm_tui.tui.widgets.gpu_lines import (
    card_rows,
    celsius_style,
    edge,
    fault,
    lost,
    other_cards,
    power_line,
    watts_style,
)
from rnnlm_tui.tui.widgets.panel import Label, Panel, segments_of, width_of

if TYPE_CHECKING:
    from rnnlm_tui.schema.metrics import GpuRow, HardwareRow


LEFT_OUT = ("math", "disk", "shares", "RAM", "CPU", "power")
"""Lines of the tall form in the order in which they are left out for a line per GPU."""
FIRST_LINES = 3
"""Lines before those of other GPUs: load, memory and power of the one that trains."""
LEAST_HISTORY, MOST_HISTORY = 2, 11
"""Rows of the load curve."""
TALL = 7
"""Inner height from which every resource has its own line."""
GUTTER = 4
"""Cells of the labels to the left of a curve."""
ROOMY = 40
"""Inner width from which free memory is shown beside own and other memory."""


class MachinePanel(Panel):
    """Bars with numbers at the right: three lines at 80 columns, all resources if there is room."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(title="Machine", id=id)
        self._view = MachineView()
        self._shown: tuple[object, ...] = ()
        self._reading: HardwareRow | None = None

    def show(self, view: MachineView) -> None:
        """Show readings; the worker reports them less often than steps."""
        key = (view.rows[-1] if view.rows else None, len(view.rows), replace(view, rows=()))
        if key == self._shown:
            return
        self._view, self._shown = view, key
        self.set_reactive(Panel.legend, view.legend)
        self.redraw()

    def legend_within(self, room: int) -> Label:
        """Return the machine's name, or device and arithmetic if they have no line; only the device
        if the name is too long."""
        parts = (self._view.device, self._view.arithmetic)
        brief = " · ".join(parts)
        if all(parts) and self.inner_size.height < TALL and len(brief) <= room:
            return Content.styled(brief, DIM)
        if width_of(segments_of(self.legend)) > room >= len(self._view.device):
            return Content.styled(self._view.device, DIM)
        return super().legend_within(room)

    def prepare(self, width: int, height: int) -> None:
        """Lay out the lines for this size."""
        row = self._reading = steady_reading(self._view.rows)
        if self._view.totals is not None:
            self.lines = self._of_whole_run(self._view.totals, width, height)
        elif row is None:
            self.lines = [Content.styled("no readings yet", DIM)]
        elif height >= TALL:
            lines = self._tall(row, width, height)
            loads = history(self._view.rows, self._dots(width)) if self._view.trains else []
            self.lines = [*self._curve(loads or None, width, height - len(lines)), *lines]
        else:
            self.lines = self._short(row, width, height)

    def bottom_labels(self, width: int) -> list[tuple[int, Sequence[Segment]]]:
        """Return the GPU's clock, what slows it down or is wrong with it, and what others use if
        there is no line for it."""
        row = self._reading if self._view.totals is None else None
        problem = Content("") if row is None else edge(row, width - 6)
        labels: list[tuple[int, Sequence[Segment]]] = []
        if problem.plain:
            labels.append((3, segments_of(problem)))
        if self._view.others and self.inner_size.height < TALL:
            place = 3 + (problem.cell_length + 3 if labels else 0)
            labels.append((place, segments_of(self._view.others, WARN)))
        return labels or super().bottom_labels(width)

    # the short form: three lines, and more if there is room

    def _short(self, row: HardwareRow, width: int, height: int) -> list[Content]:
        room = max(6, width - 28)
        if has_card(row):
            gpu, total, used = row.gpu, row.gpu.memory_total, row.gpu.memory_used
            watts = [
                (_whole(gpu.watts).rjust(4), " W", watts_style(gpu)),
                (_whole(gpu.celsius).rjust(4), " °C", celsius_style(gpu)),
            ]
            free = _free(total - used) if total is not None and used is not None else Content("")
            ram = f"{100 * _share(row.memory_used, row.memory_total):.0f}"
            loads = Content.assemble(
                ("CPU ", DIM), (f"{row.cpu_percent:.0f}", BRIGHT),
                (" %  RAM ", DIM), (ram, BRIGHT), (" %", DIM),
            )  # fmt: skip
            little = little_disk(row, self._view.disk_total)
            lines = [
                self._lost_line(gpu, width)
                or self._load_line("GPU", room, gpu.percent, watts, width),
                self._card_memory(row, room, width)
                if not lost(gpu) or gpu.memory_own is not None
                else Content.styled("mem  –", DIM),
                spread(self._disk_words(row) if little else free, loads, width),
            ]
        else:
            own = [(f"{row.process_cpu_percent:.0f}".rjust(5), " % own", TEXT)]
            sizes = row.process_memory, row.memory_used, row.memory_total
            free = _free(row.memory_total - row.memory_used)
            lines = [
                self._load_line(
                    "CPU", room, row.cpu_percent, own if self._view.trains else [], width
                ),
                self._memory_line("RAM", room, *sizes, width),
                spread(free, self._disk_words(row), width),
            ]
        more = self._others(row, width, height - len(lines))
        if has_card(row) and height - len(lines) - len(more) >= 1:
            more.append(self._disk_line(row, width))
        return [*lines, *more]

    def _load_line(
        self,
        name: str,
        room: int,
        percent: float | None,
        tail: list[tuple[str, str, str]],
        width: int,
    ) -> Content:
        figures = Content.assemble((_whole(percent).rjust(4), self._busy_style()), (" %", DIM))
        for value, unit, style in tail:
            figures += Content.assemble((value, style), (unit, DIM))
        colour = WARN if self._view.alarm else TRAIN
        return self._bar_line(f"{name}  ", room, _part(percent), figures, width, colour=colour)

    def _bar_line(
        self,
        name: str,
        room: int,
        fraction: float | None,
        figures: Content,
        width: int,
        *,
        others: float = 0.0,
        colour: str = TRAIN,
    ) -> Content:
        shares = bar(room, fraction, others, colour=colour)
        return spread(Content.assemble((name, DIM), shares), figures, width)

    def _lost_line(self, gpu: GpuRow, width: int) -> Content | None:
        """Return `GPU  card lost`, if nothing can be read from it any more."""
        if not lost(gpu):
            return None
        return spread(Content.styled("GPU  ", DIM), fault(gpu.fault, width - 5), width)

    def _card_memory(self, row: HardwareRow, room: int, width: int) -> Content:
        total, used = row.gpu.memory_total, row.gpu.memory_used
        if total is None or used is None:  # the driver doesn't report it: use what the run reports
            own = Content.assemble((gib(row.gpu.memory_own), TRAIN), (" GiB own", DIM))
            return self._bar_line("mem  ", room, None, own, width)
        return self._memory_line("mem", room, row.gpu.memory_own or 0, used, total, width)

    def _memory_line(
        self, name: str, room: int, own: int, used: int, total: int, width: int
    ) -> Content:
        name = f"{name}  "
        if not self._view.trains:
            taken = _share(used, total)
            return self._bar_line(name, room, 0.0, _of(used, total), width, others=taken)
        others = max(0, used - own)
        figures = Content.assemble(
            (gib(own), TRAIN), (" own ", DIM), (gib(others).rjust(4), THIRD), (" other GiB", DIM)
        )
        other = _share(others, total)
        return self._bar_line(name, room, _share(own, total), figures, width, others=other)

    # the tall form: a line per resource

    def _tall(self, row: HardwareRow, width: int, height: int) -> list[Content]:
        """Return a line per resource; with many GPUs, the less important ones are left out."""
        lines = self._with_card(row, width) if has_card(row) else self._without_card(row, width)
        lines["disk"] = self._disk_line(row, width)
        if (power := power_line(row.gpu, width)) is not None:
            lines["power"] = power
        if self._view.arithmetic:
            arithmetic = Content.styled(self._view.arithmetic, TEXT)
            lines["math"] = spread(Content.styled("math", DIM), arithmetic, width)
        kept = {"disk"} if little_disk(row, self._view.disk_total) else set()
        cards = card_rows(len(row.other_gpus), width, max(1, height - FIRST_LINES - len(kept)))
        for name in LEFT_OUT:
            if len(lines) + cards > height and name not in kept:
                lines.pop(name, None)
        math = lines.pop("math", None)
        others = self._others(row, width, height - len(lines))
        return [*lines.values(), *others, *([math] if math is not None else [])]

    def _with_card(self, row: HardwareRow, width: int) -> dict[str, Content]:
        room = max(6, width - 19)
        busy = Content.assemble((_whole(row.gpu.percent), self._busy_style()), (" % busy", DIM))
        colour = WARN if self._view.alarm else TRAIN
        load = _part(row.gpu.percent)
        lines = {
            "GPU": self._lost_line(row.gpu, width)
            or self._bar_line("GPU  ", room, load, busy, width, colour=colour)
        }
        total, used = row.gpu.memory_total, row.gpu.memory_used
        if total is None or used is None:
            if not lost(row.gpu) or row.gpu.memory_own is not None:
                lines["mem"] = self._card_memory(row, room, width)
        else:
            own = (row.gpu.memory_own or 0) if self._view.trains else 0
            others = max(0.0, _share(used - own, total))
            figures = _of(used, total)
            lines["mem"] = self._bar_line(
                "mem  ", room, _share(own, total), figures, width, others=others
            )
            if self._view.trains:
                lines["shares"] = self._shares(own, used, total, width)
        ram = _share(row.memory_used, row.memory_total)
        sizes = _of(row.memory_used, row.memory_total)
        cpu = row.cpu_percent / 100
        lines["CPU"] = self._bar_line("CPU  ", room, cpu, self._cpu_words(row), width)
        lines["RAM"] = self._bar_line("RAM  ", room, ram, sizes, width)
        return lines

    def _without_card(self, row: HardwareRow, width: int) -> dict[str, Content]:
        room, trains = max(6, width - 19), self._view.trains
        cpu, ram = row.cpu_percent / 100, _share(row.memory_used, row.memory_total)
        own_cpu = min(1.0, row.process_cpu_percent / 100) if trains else cpu
        own_ram = _share(row.process_memory, row.memory_total) if trains else ram
        cpu_line = self._bar_line(
            "CPU  ", room, own_cpu, self._cpu_words(row), width, others=max(0.0, cpu - own_cpu)
        )
        sizes = _of(row.memory_used, row.memory_total)
        ram_line = self._bar_line(
            "RAM  ", room, own_ram, sizes, width, others=max(0.0, ram - own_ram)
        )
        if not trains:
            return {"CPU": cpu_line, "RAM": ram_line}
        own, other = row.process_cpu_percent, row.cpu_percent - row.process_cpu_percent
        shares = self._own_and_other(f"{own:.0f}", f"{max(0.0, other):.0f}", " %", width)
        return {
            "CPU": cpu_line,
            "others": self._others_line(width) if self._view.others else shares,
            "RAM": ram_line,
            "own": self._shares(row.process_memory, row.memory_used, row.memory_total, width),
        }

    def _dots(self, width: int) -> int:
        """Return the dot columns of a curve."""
        return (width - GUTTER) * (1 if self.ascii_only else 2)

    def _curve(
        self, loads: Sequence[tuple[int, float]] | None, width: int, height: int
    ) -> list[Content]:
        """Plot a load in percent, given as (dot column, percent), if there is room."""
        height = min(height, MOST_HISTORY)
        if loads is None or height < LEAST_HISTORY:
            return []
        raster = Raster(width - GUTTER, height, "ascii" if self.ascii_only else "braille")
        scale = Scale(0.0, 100.0, False, raster.rows)
        raster.paint(curve_layer(loads, scale, raster.columns), 1, "*")
        labels = {0: "100", height - 1: "  0"}
        colours = {0: TEXT, 1: WARN if self._view.alarm else TRAIN}
        return [
            Content.assemble(
                (f"{labels.get(row, ''):<{GUTTER}}", DIM),
                *((text, colours[ink]) for text, ink in raster.runs(row)),
            )
            for row in range(height)
        ]

    # a run that has ended

    def _of_whole_run(self, totals: RunTotals, width: int, height: int) -> list[Content]:
        """Return the run's means, peaks and duration; as a table if there is room."""
        if height < TALL:
            return self._short_totals(totals, width)[:height]
        lines = self._totals_table(totals, width, height)
        curve = self._curve(_averaged(totals.loads, self._dots(width)), width, height - len(lines))
        return [*curve, *lines[:height]]

    def _short_totals(self, totals: RunTotals, width: int) -> list[Content]:
        mean, peak = totals.mean, totals.peak
        name, load = ("GPU", "gpu_percent") if totals.has_card else ("CPU", "process_cpu_percent")
        store, own = ("mem", "gpu_memory_own") if totals.has_card else ("RAM", "process_memory")
        strong = f"bold {BRIGHT}"
        loads = Content.assemble(
            (f"{name:<5}mean ", DIM), (_whole(mean[load]), strong), (" %", DIM)
        )
        most = Content.assemble(
            (f"{store:<5}peak ", DIM), (memory(peak[own]), strong), (" own", DIM)
        )
        whole = "" if totals.whole_seconds is None else duration(totals.whole_seconds)
        lines = [
            spread(loads, _figures(("peak ", _whole(peak[load])), (" %", "")), width),
            spread(most, self._most_used(totals), width),
            spread(
                _figures(("time ", ""), (duration(totals.training_seconds), "")),
                _figures(("total ", whole)) if whole else Content(""),
                width,
            ),
        ]
        if totals.has_card:
            cpu = f"{_whole(mean['process_cpu_percent'])} %"
            ram = memory(peak["process_memory"])
            lines.append(spread(_figures(("CPU  mean ", cpu)), _figures(("RAM own ", ram)), width))
        return lines

    def _totals_table(self, totals: RunTotals, width: int, height: int) -> list[Content]:
        """Return lines of a name with a mean and a peak."""
        mean, peak, card, strong = totals.mean, totals.peak, totals.has_card, f"bold {BRIGHT}"
        store, own = ("mem", "gpu_memory_own") if card else ("RAM", "process_memory")
        if card:
            loads = (("GPU", "gpu_percent", strong), ("CPU own", "process_cpu_percent", TEXT))
        else:
            loads = (("CPU own", "process_cpu_percent", strong), ("CPU all", "cpu_percent", TEXT))
        lines = [_columned("", "mean", "peak", width, DIM)]
        for name, column, style in loads:
            figures = f"{_whole(mean[column])} %", f"{_whole(peak[column])} %"
            lines.append(_columned(name, *figures, width, style))
        lines.append(_columned(f"{store} own", "", memory(peak[own]), width, strong))
        lines.append(spread(Content.styled(f"{store} all", DIM), self._most_used(totals), width))
        if card:
            lines.append(_columned("RAM own", "", memory(peak["process_memory"]), width))
        if not isnan(peak["gpu_watts"]):
            watts = f"{_whole(mean['gpu_watts'])} W", f"{_whole(peak['gpu_watts'])} W"
            lines.append(_columned("power", *watts, width))
        seconds = duration(totals.training_seconds)
        lines.append(_columned("training", "", seconds, width, strong))
        if totals.whole_seconds is not None:
            lines.append(_columned("start to end", "", duration(totals.whole_seconds), width))
        if self._view.arithmetic:
            lines.append(_columned("math", "", self._view.arithmetic, width))
        if not isnan(peak["gpu_celsius"]) and len(lines) + LEAST_HISTORY < height:
            degrees = f"{_whole(mean['gpu_celsius'])} °C", f"{_whole(peak['gpu_celsius'])} °C"
            place = next(at for at, line in enumerate(lines) if line.plain.startswith("training"))
            lines.insert(place, _columned("temp", *degrees, width))
        return lines

    def _most_used(self, totals: RunTotals) -> Content:
        """Return the most memory used on the machine or GPU, by all processes."""
        if not totals.has_card:
            return _of(totals.peak["memory_used"], totals.memory_total)
        total = totals.gpu_memory_total
        return _of(totals.peak["gpu_memory_used"], total) if total else Content("")

    # parts of lines

    def _others(self, row: HardwareRow, width: int, height: int) -> list[Content]:
        return other_cards(row.other_gpus, width, height)

    def _busy_style(self) -> str:
        return f"bold {WARN if self._view.alarm else BRIGHT}"

    def _shares(self, own: int, used: int, total: int, width: int) -> Content:
        left = self._own_and_other(gib(own), gib(max(0, used - own)), "", width)
        return spread(left, _free(total - used), width) if width >= ROOMY else left

    def _own_and_other(self, own: str, other: str, unit: str, width: int) -> Content:
        words = len(f"x own {own}{unit}  x other {other}{unit}")
        return Content.assemble(
            " " * max(0, min(5, width - words)),
            (OWN, TRAIN), (" own ", DIM), (own, TEXT), (f"{unit}  ", DIM),
            (OTHERS, THIRD), (" other ", DIM), (other, TEXT), (unit, DIM),
        )  # fmt: skip

    def _others_line(self, width: int) -> Content:
        """Return `╍ other processes use 1.0 of 2 cores`."""
        indent = max(0, min(5, width - 2 - len(self._view.others)))
        return Content.assemble(" " * indent, (f"{OTHERS} ", THIRD), (self._view.others, WARN))

    def _cpu_words(self, row: HardwareRow) -> Content:
        of = f" % of {self._view.cores}" if self._view.cores else " %"
        style = TEXT if has_card(row) else self._busy_style()
        return Content.assemble((f"{row.cpu_percent:.0f}", style), (of, DIM))

    def _disk_line(self, row: HardwareRow, width: int) -> Content:
        figures, total = self._disk_words(row, named=False), self._view.disk_total
        if not total:
            return spread(Content.styled("disk", DIM), figures, width)
        colour = WARN if little_disk(row, total) else TRAIN
        used = 1 - _share(row.disk_free, total)
        return self._bar_line("disk ", max(6, width - 19), used, figures, width, colour=colour)

    def _disk_words(self, row: HardwareRow, *, named: bool = True) -> Content:
        style = f"bold {WARN}" if little_disk(row, self._view.disk_total) else TEXT
        name = ("disk " if named else "", DIM)
        return Content.assemble(name, amount(f"{disk(row.disk_free)} free", style))


def _share(part: float, whole: float) -> float:
    return max(0.0, part) / max(1.0, whole)


def _part(percent: float | None) -> float | None:
    return None if percent is None else percent / 100


def _whole(value: float | None) -> str:
    return NOTHING if value is None or isnan(value) else f"{value:.0f}"


def _figures(*parts: tuple[str, str]) -> Content:
    """Return dim words, each with a value."""
    styled = (piece for words, value in parts for piece in ((words, DIM), (value, TEXT)))
    return Content.assemble(*styled)


def _columned(name: str, mean: str, peak: str, width: int, style: str = TEXT) -> Content:
    """Return a table line of an ended run, with the values in columns at the right."""
    room = max(9, len(peak) + 2)
    figures = Content.assemble((mean, style), (peak.rjust(room), style))
    return spread(Content.styled(name, DIM), figures, width)


def _averaged(values: Sequence[float], columns: int) -> list[tuple[int, float]]:
    """Spread the values over `columns` dot columns, averaging those that share one."""
    size = len(values)
    columns = min(columns, size)
    averages = []
    for index in range(columns):
        part = values[index * size // columns : (index + 1) * size // columns]
        known = [value for value in part if not isnan(value)]
        if known:
            averages.append((index, fmean(known)))
    return averages


def _free(size: int) -> Content:
    return Content.assemble(("free ", DIM), (gib(size), BRIGHT), (" GiB", DIM))


def _of(used: float, total: int) -> Content:
    return Content.assemble((gib(used), TEXT), (f" / {gib(total)} GiB", DIM))
