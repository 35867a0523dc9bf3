"""The machine panel: load, memory, disk and other GPUs; an ended run's totals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import isnan
from statistics import fmean
from typing import TYPE_CHECKING

from rich.segment import Segment
from textual.content import Content
from textual.strip import Strip

from rnnlm_tui.schema.formatting import NOTHING, counted, disk, duration, gib, memory
from rnnlm_tui.tui import palette
from rnnlm_tui.tui.text import bar
from rnnlm_tui.tui.views.machine import (
    MachineView,
    RunTotals,
    has_card,
    history,
    little_disk,
    steady_reading,
)
from rnnlm_tui.tui.widgets.chart.raster import Raster, Scale, curve_layer
from rnnlm_tui.tui.widgets.panel import Label, Panel, padded, segments_of

if TYPE_CHECKING:
    from rnnlm_tui.schema.metrics import GpuRow, HardwareRow

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
        self._inside: list[Content] = []

    def show(self, view: MachineView) -> None:
        """Show readings; the worker reports them less often than steps."""
        key = (view.rows[-1] if view.rows else None, len(view.rows), replace(view, rows=()))
        if key == self._shown:
            return
        self._view, self._shown = view, key
        self.set_reactive(Panel.legend, view.legend)
        self.redraw()

    def legend_within(self, room: int) -> Label:
        """Return the machine's name, or the device and arithmetic if they have no line of their
        own.
        """
        brief = " · ".join(part for part in (self._view.device, self._view.arithmetic) if part)
        if (
            self._view.device
            and self._view.arithmetic
            and self.inner_size.height < TALL
            and len(brief) <= room
        ):
            return Content.styled(brief, palette.DIM)
        return super().legend_within(room)

    def prepare(self, width: int, height: int) -> None:
        """Lay out the lines for this size."""
        row = steady_reading(self._view.rows)
        if self._view.totals is not None:
            self._inside = self._of_whole_run(self._view.totals, width, height)
        elif row is None:
            self._inside = [Content.styled("no readings yet", palette.DIM)]
        elif height >= TALL:
            lines = self._tall(row, width, height)
            room = min(height - len(lines), MOST_HISTORY)
            self._inside = [
                *(
                    self._history(width, room)
                    if room >= LEAST_HISTORY and self._view.trains
                    else []
                ),
                *lines,
            ]
        else:
            self._inside = self._short(row, width, height)

    def content_line(self, y: int, width: int) -> Strip:
        """Return a resource's line."""
        return padded(
            segments_of(self._inside[y], palette.TEXT) if y < len(self._inside) else [], width
        )

    def bottom_labels(self, width: int) -> list[tuple[int, Sequence[Segment]]]:
        """Return what others use if it has no line of its own."""
        others = self._view.others
        return (
            [(3, segments_of(others, palette.WARN))]
            if others and self.inner_size.height < TALL
            else super().bottom_labels(width)
        )

    # the short form: three lines, and more if there is room

    def _short(self, row: HardwareRow, width: int, height: int) -> list[Content]:
        room = max(6, width - 28)
        if has_card(row):
            tail = [
                (_whole(row.gpu_watts).rjust(4), " W"),
                (_whole(row.gpu_celsius).rjust(4), " °C"),
            ]
            lines = [
                self._bar_line("GPU", room, row.gpu_percent, tail, width),
                self._card_memory(row, room, width),
            ]
            used = row.gpu_memory_used
            free = (
                _free(row.gpu_memory_total - used)
                if row.gpu_memory_total is not None and used is not None
                else Content("")
            )
            loads = Content.assemble(("CPU ", palette.DIM), (f"{row.cpu_percent:.0f}", palette.BRIGHT), (" %  RAM ", palette.DIM), (f"{100 * _share(row.memory_used, row.memory_total):.0f}", palette.BRIGHT), (" %", palette.DIM))  # fmt: skip
            lines.append(
                _apart(
                    self._disk_words(row) if little_disk(row, self._view.disk_total) else free,
                    loads,
                    width,
                )
            )
        else:
            own = (
                [(f"{row.process_cpu_percent:.0f}".rjust(5), " % own")] if self._view.trains else []
            )
            lines = [
                self._bar_line("CPU", room, row.cpu_percent, own, width),
                self._memory_line(
                    "RAM", room, row.process_memory, row.memory_used, row.memory_total, width
                ),
            ]
            free = _free(row.memory_total - row.memory_used)
            lines.append(_apart(free, self._disk_words(row), width))
        more = self._other_cards(row.other_gpus, width, height - len(lines))
        if has_card(row) and height - len(lines) - len(more) >= 1:
            more.append(self._disk_line(row, width))
        return [*lines, *more]

    def _bar_line(
        self, name: str, room: int, percent: float | None, tail: list[tuple[str, str]], width: int
    ) -> Content:
        colour = palette.WARN if self._view.alarm else palette.TRAIN
        number = (_whole(percent).rjust(4), self._busy_style())
        figures = Content.assemble(
            number,
            (" %", palette.DIM),
            *(
                part
                for value, unit in tail
                for part in ((value, palette.TEXT), (unit, palette.DIM))
            ),
        )
        return _apart(
            Content.assemble(
                (f"{name}  ", palette.DIM),
                bar(room, _part(percent), colour=colour, ascii=self.ascii_only),
            ),
            figures,
            width,
        )

    def _card_memory(self, row: HardwareRow, room: int, width: int) -> Content:
        if (
            row.gpu_memory_total is None or row.gpu_memory_used is None
        ):  # the driver doesn't report it: use what the run reports
            figures = Content.assemble(
                (gib(row.gpu_memory_own), palette.TRAIN), (" GiB own", palette.DIM)
            )
            return _apart(
                Content.assemble(("mem  ", palette.DIM), bar(room, None, ascii=self.ascii_only)),
                figures,
                width,
            )
        return self._memory_line(
            "mem", room, row.gpu_memory_own or 0, row.gpu_memory_used, row.gpu_memory_total, width
        )

    def _memory_line(
        self, name: str, room: int, own: int, used: int, total: int, width: int
    ) -> Content:
        if not self._view.trains:
            return _apart(
                Content.assemble(
                    (f"{name}  ", palette.DIM),
                    bar(room, 0.0, _share(used, total), ascii=self.ascii_only),
                ),
                _of(used, total),
                width,
            )
        others = max(0, used - own)
        figures = Content.assemble(
            (gib(own), palette.TRAIN),
            (" own ", palette.DIM),
            (gib(others).rjust(4), palette.THIRD),
            (" other GiB", palette.DIM),
        )
        shares = bar(room, _share(own, total), _share(others, total), ascii=self.ascii_only)
        return _apart(Content.assemble((f"{name}  ", palette.DIM), shares), figures, width)

    # the tall form: a line per resource

    def _tall(self, row: HardwareRow, width: int, height: int) -> list[Content]:
        room = max(6, width - 19)
        lines: list[Content] = []
        ram = _share(row.memory_used, row.memory_total)
        if has_card(row):
            busy = Content.assemble(
                (_whole(row.gpu_percent), self._busy_style()), (" % busy", palette.DIM)
            )
            lines.append(self._resource("GPU", room, _part(row.gpu_percent) or 0.0, busy, width))
            lines += self._card_lines(row, room, width)
            lines.append(
                self._resource("CPU", room, row.cpu_percent / 100, self._cpu_words(row), width)
            )
            lines.append(
                self._resource("RAM", room, ram, _of(row.memory_used, row.memory_total), width)
            )
        else:
            mine = (
                min(1.0, row.process_cpu_percent / 100)
                if self._view.trains
                else row.cpu_percent / 100
            )
            own = _share(row.process_memory, row.memory_total) if self._view.trains else ram
            lines.append(
                self._resource(
                    "CPU",
                    room,
                    mine,
                    self._cpu_words(row),
                    width,
                    others=row.cpu_percent / 100 - mine,
                )
            )
            lines += (
                [self._others_line(width) if self._view.others else self._shares_of_cpu(row, width)]
                if self._view.trains
                else []
            )
            lines.append(
                self._resource(
                    "RAM",
                    room,
                    own,
                    _of(row.memory_used, row.memory_total),
                    width,
                    others=ram - own,
                )
            )
            lines += (
                [self._shares(row.process_memory, row.memory_used, row.memory_total, width)]
                if self._view.trains
                else []
            )
        lines.append(self._disk_line(row, width))
        if row.gpu_watts is not None or row.gpu_celsius is not None:
            watts, celsius = (
                (_whole(row.gpu_watts), palette.TEXT),
                (_whole(row.gpu_celsius), palette.TEXT),
            )
            lines.append(
                Content.assemble(
                    ("pwr  ", palette.DIM),
                    watts,
                    (" W   temp ", palette.DIM),
                    celsius,
                    (" °C", palette.DIM),
                )
            )
        lines += self._other_cards(row.other_gpus, width, height - len(lines))
        if self._view.arithmetic and len(lines) < height:
            lines.append(
                _apart(
                    Content.styled("math", palette.DIM),
                    Content.styled(self._view.arithmetic, palette.TEXT),
                    width,
                )
            )
        return lines

    def _card_lines(self, row: HardwareRow, room: int, width: int) -> list[Content]:
        if row.gpu_memory_total is None or row.gpu_memory_used is None:
            return [self._card_memory(row, room, width)]
        total, used, own = (
            row.gpu_memory_total,
            row.gpu_memory_used,
            (row.gpu_memory_own or 0) if self._view.trains else 0,
        )
        memory = self._resource(
            "mem",
            room,
            _share(own, total),
            _of(used, total),
            width,
            others=_share(used - own, total),
        )
        return [memory, self._shares(own, used, total, width)] if self._view.trains else [memory]

    def _history(self, width: int, height: int) -> list[Content]:
        """Plot the recent load of the GPU, or of the CPU without one."""
        return self._curve(history(self._view.rows, self._dots(width)), width, height)

    def _dots(self, width: int) -> int:
        """Return the dot columns of a curve."""
        return (width - GUTTER) * (1 if self.ascii_only else 2)

    def _curve(self, loads: Sequence[tuple[int, float]], width: int, height: int) -> list[Content]:
        """Plot a load from 0 to 100 %, given as (dot column, percent)."""
        raster = Raster(width - GUTTER, height, "ascii" if self.ascii_only else "braille")
        raster.paint(
            curve_layer(loads, Scale(0.0, 100.0, False, raster.rows), raster.columns), 1, "*"
        )
        labels = {0: "100", height - 1: "  0"}
        colours = {0: palette.TEXT, 1: palette.WARN if self._view.alarm else palette.TRAIN}
        return [
            Content.assemble(
                (f"{labels.get(row, ''):<{GUTTER}}", palette.DIM),
                *((text, colours[ink]) for text, ink in raster.runs(row)),
            )
            for row in range(height)
        ]

    # a run that has ended

    def _of_whole_run(self, totals: RunTotals, width: int, height: int) -> list[Content]:
        """Return the run's means, peaks and duration; as a table below a load curve if there is
        room.
        """
        mean, peak = totals.mean, totals.peak
        name, load = ("GPU", "gpu_percent") if totals.has_card else ("CPU", "process_cpu_percent")
        store, own = ("mem", "gpu_memory_own") if totals.has_card else ("RAM", "process_memory")
        whole = "" if totals.whole_seconds is None else duration(totals.whole_seconds)
        if height < TALL:
            most = Content.assemble(
                ("peak ", palette.DIM),
                (memory(peak[own]), f"bold {palette.BRIGHT}"),
                (" own", palette.DIM),
            )
            loads = Content.assemble(
                ("mean ", palette.DIM),
                (_whole(mean[load]), f"bold {palette.BRIGHT}"),
                (" %", palette.DIM),
            )
            lines = [
                _apart(
                    Content.assemble((f"{name:<5}", palette.DIM), loads),
                    _figures(("peak ", _whole(peak[load])), (" %", "")),
                    width,
                ),
                _apart(
                    Content.assemble((f"{store:<5}", palette.DIM), most),
                    self._most_used(totals),
                    width,
                ),
                _apart(
                    _figures(("time ", ""), (duration(totals.training_seconds), "")),
                    _figures(("total ", whole)) if whole else Content(""),
                    width,
                ),
            ]
            if totals.has_card:
                cpu = _apart(
                    _figures(("CPU  ", ""), ("mean ", f"{_whole(mean['process_cpu_percent'])} %")),
                    _figures(("RAM own ", memory(peak["process_memory"]))),
                    width,
                )
                lines.append(cpu)
            return lines[:height]
        lines = [_columned("", "mean", "peak", width, palette.DIM)]
        second, second_load = (
            ("CPU own", "process_cpu_percent") if totals.has_card else ("CPU all", "cpu_percent")
        )
        for label, column, style in (
            ("GPU" if totals.has_card else "CPU own", load, f"bold {palette.BRIGHT}"),
            (second, second_load, palette.TEXT),
        ):
            lines.append(
                _columned(
                    label, f"{_whole(mean[column])} %", f"{_whole(peak[column])} %", width, style
                )
            )
        lines.append(
            _columned(f"{store} own", "", memory(peak[own]), width, f"bold {palette.BRIGHT}")
        )
        lines.append(
            _apart(Content.styled(f"{store} all", palette.DIM), self._most_used(totals), width)
        )
        if totals.has_card:
            lines.append(_columned("RAM own", "", memory(peak["process_memory"]), width))
        if not isnan(peak["gpu_watts"]):
            lines.append(
                _columned(
                    "power",
                    f"{_whole(mean['gpu_watts'])} W",
                    f"{_whole(peak['gpu_watts'])} W",
                    width,
                )
            )
        lines.append(
            _columned(
                "training", "", duration(totals.training_seconds), width, f"bold {palette.BRIGHT}"
            )
        )
        if whole:
            lines.append(_columned("start to end", "", whole, width))
        if self._view.arithmetic:
            lines.append(_columned("math", "", self._view.arithmetic, width))
        room = min(height - len(lines), MOST_HISTORY)
        return [
            *(
                self._curve(_spread(totals.loads, self._dots(width)), width, room)
                if room >= LEAST_HISTORY
                else []
            ),
            *lines[:height],
        ]

    def _most_used(self, totals: RunTotals) -> Content:
        """Return the most memory used on the machine or GPU, by all processes."""
        if totals.has_card:
            return (
                _of(totals.peak["gpu_memory_used"], totals.gpu_memory_total)
                if totals.gpu_memory_total
                else Content("")
            )
        return _of(totals.peak["memory_used"], totals.memory_total)

    def _other_cards(self, cards: Sequence[GpuRow], width: int, height: int) -> list[Content]:
        """Return a line per other GPU, or one for all if they don't fit."""
        if not cards or height < 1:
            return []
        if len(cards) > height:
            known = [card.percent for card in cards if card.percent is not None]
            load = Content.assemble(
                (_whole(sum(known) / len(known) if known else None), palette.TEXT),
                (" % busy", palette.DIM),
            )
            return [
                _apart(Content.styled(counted(len(cards), "more GPU"), palette.DIM), load, width)
            ]
        return [self._other_card(card, width) for card in cards]

    def _other_card(self, card: GpuRow, width: int) -> Content:
        memory = (
            f"{gib(card.memory_used).rjust(4)} / {gib(card.memory_total)}"
            if card.memory_total is not None
            else ""
        )
        figures = Content.assemble((_whole(card.percent).rjust(3), palette.TEXT), (" %", palette.DIM), (f"  {memory}" if memory else "", palette.TEXT), (" GiB" if memory else "", palette.DIM))  # fmt: skip
        name = f"gpu{card.index}".ljust(5)
        room = width - len(name) - figures.cell_length - 1
        load = (
            bar(room, 0.0, _part(card.percent) or 0.0, ascii=self.ascii_only)
            if room >= 3
            else Content("")
        )
        return _apart(Content.assemble((name, palette.DIM), load), figures, width)

    def _busy_style(self) -> str:
        return f"bold {palette.WARN if self._view.alarm else palette.BRIGHT}"

    def _resource(
        self,
        name: str,
        room: int,
        fraction: float,
        figures: Content,
        width: int,
        *,
        others: float = 0.0,
    ) -> Content:
        colour = palette.WARN if self._view.alarm and name == "GPU" else palette.TRAIN
        shares = bar(room, fraction, max(0.0, others), colour=colour, ascii=self.ascii_only)
        return _apart(Content.assemble((f"{name:<4} ", palette.DIM), shares), figures, width)

    def _shares(self, own: int, used: int, total: int, width: int) -> Content:
        left = self._own_and_other(gib(own), gib(max(0, used - own)), "", width)
        return _apart(left, _free(total - used), width) if width >= ROOMY else left

    def _shares_of_cpu(self, row: HardwareRow, width: int) -> Content:
        return self._own_and_other(
            f"{row.process_cpu_percent:.0f}",
            f"{max(0.0, row.cpu_percent - row.process_cpu_percent):.0f}",
            " %",
            width,
        )

    def _own_and_other(self, own: str, other: str, unit: str, width: int) -> Content:
        signs = ("=", "~") if self.ascii_only else ("━", "╍")
        words = len(f"x own {own}{unit}  x other {other}{unit}")
        return Content.assemble(
            " " * max(0, min(5, width - words)), (signs[0], palette.TRAIN), (" own ", palette.DIM), (own, palette.TEXT), (f"{unit}  ", palette.DIM),
            (signs[1], palette.THIRD), (" other ", palette.DIM), (other, palette.TEXT), (unit, palette.DIM),
        )  # fmt: skip

    def _others_line(self, width: int) -> Content:
        """Return `╍ others use 1.0 of 2 cores`."""
        sign = "~ " if self.ascii_only else "╍ "
        indent = max(0, min(5, width - len(sign) - len(self._view.others)))
        return Content.assemble(
            " " * indent, (sign, palette.THIRD), (self._view.others, palette.WARN)
        )

    def _cpu_words(self, row: HardwareRow) -> Content:
        of = f" % of {self._view.cores}" if self._view.cores else " %"
        return Content.assemble(
            (f"{row.cpu_percent:.0f}", palette.TEXT if has_card(row) else self._busy_style()),
            (of, palette.DIM),
        )

    def _disk_line(self, row: HardwareRow, width: int) -> Content:
        figures = self._disk_words(row, named=False)
        if not self._view.disk_total:
            return _apart(Content.styled("disk", palette.DIM), figures, width)
        colour = palette.WARN if little_disk(row, self._view.disk_total) else palette.TRAIN
        used = bar(
            max(6, width - 19),
            1 - _share(row.disk_free, self._view.disk_total),
            colour=colour,
            ascii=self.ascii_only,
        )
        return _apart(Content.assemble(("disk ", palette.DIM), used), figures, width)

    def _disk_words(self, row: HardwareRow, *, named: bool = True) -> Content:
        value, _, unit = disk(row.disk_free).partition(" ")
        colour = f"bold {palette.WARN}" if little_disk(row, self._view.disk_total) else palette.TEXT
        return Content.assemble(
            ("disk " if named else "", palette.DIM), (value, colour), (f" {unit} free", palette.DIM)
        )


def _share(part: float, whole: float) -> float:
    return max(0.0, part) / max(1.0, whole)


def _part(percent: float | None) -> float | None:
    return None if percent is None else percent / 100


def _whole(value: float | None) -> str:
    return NOTHING if value is None or isnan(value) else f"{value:.0f}"


def _figures(*parts: tuple[str, str]) -> Content:
    """Return dim words, each with a value."""
    return Content.assemble(
        *(
            piece
            for words, value in parts
            for piece in ((words, palette.DIM), (value, palette.TEXT))
        )
    )


def _columned(name: str, mean: str, peak: str, width: int, style: str = palette.TEXT) -> Content:
    """Return a table line of an ended run, with the values in columns at the right."""
    room = max(9, len(peak) + 2)
    return _apart(
        Content.styled(name, palette.DIM),
        Content.assemble((mean, style), (peak.rjust(room), style)),
        width,
    )


def _spread(values: Sequence[float], columns: int) -> list[tuple[int, float]]:
    """Spread the values over `columns` dot columns, averaging those that share one."""
    columns = min(columns, len(values))
    parts = [
        [
            value
            for value in values[
                index * len(values) // columns : (index + 1) * len(values) // columns
            ]
            if not isnan(value)
        ]
        for index in range(columns)
    ]
    return [(index, fmean(part)) for index, part in enumerate(parts) if part]


def _free(size: int) -> Content:
    return Content.assemble(
        ("free ", palette.DIM), (gib(size), palette.BRIGHT), (" GiB", palette.DIM)
    )


def _of(used: float, total: int) -> Content:
    return Content.assemble((gib(used), palette.TEXT), (f" / {gib(total)} GiB", palette.DIM))


def _apart(left: Content, right: Content, width: int) -> Content:
    return Content.assemble(left, " " * max(0, width - left.cell_length - right.cell_length), right)
