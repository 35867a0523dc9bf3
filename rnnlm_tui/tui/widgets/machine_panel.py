"""The machine while a run trains: how busy, how much memory is the run's own, what is free."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from textual.content import Content
from textual.strip import Strip

from rnnlm_tui.contract.figures import disk, gib
from rnnlm_tui.tui.widgets import palette
from rnnlm_tui.tui.widgets.bars import bar
from rnnlm_tui.tui.widgets.chart.raster import Raster, Scale, curve_layer
from rnnlm_tui.tui.widgets.panel import Label, Panel, padded, segments_of

if TYPE_CHECKING:
    from rnnlm_tui.contract.metrics import HardwareRow

LITTLE_DISK = 0.1
"""Under this share free, the disk is said even where there is little room."""
LEAST_HISTORY, MOST_HISTORY = 2, 11
"""Rows of the curve of the last minutes."""
TALL = 7
"""Rows of the inside from which every resource has its own line."""


class MachinePanel(Panel):
    """Bars with their numbers always at the right; three lines at 80 columns, all resources where there is room."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(title="Machine", id=id)
        self._rows: tuple[HardwareRow, ...] = ()
        self._cores = 0
        self._alarm = False
        self._device = self._arithmetic = self._others = ""
        self._inside: list[Content] = []

    def show(self, rows: Sequence[HardwareRow], legend: Content, *, cores: int, alarm: bool, device: str = "", arithmetic: str = "", others: str = "") -> None:
        """`rows` oldest first; `alarm` colours what stands still; `device` is what the run computes on, `arithmetic` how the run multiplies, `others` a warning about them."""
        self._rows, self._cores, self._alarm = tuple(rows), cores, alarm
        self._device, self._arithmetic, self._others = device, arithmetic, others
        self.set_reactive(Panel.legend, legend)
        self.redraw()

    def legend_within(self, room: int) -> Label:
        """The machine; where how the run multiplies has no line of its own it stands here, and the host in line 1 alone."""
        brief = " · ".join(part for part in (self._device, self._arithmetic) if part)
        if self._device and self._arithmetic and self.inner_size.height < TALL and len(brief) <= room:
            return Content.styled(brief, palette.DIM)
        return super().legend_within(room)

    def prepare(self, width: int, height: int) -> None:
        """The lines for this size."""
        if not self._rows:
            self._inside = [Content.styled("nothing measured yet", palette.DIM)]
        elif height >= TALL:
            bars = self._tall(self._rows[-1], width)
            room = min(height - len(bars), MOST_HISTORY)
            history = self._history(width, room) if room >= LEAST_HISTORY else []
            self._inside = [*history, *bars]
        else:
            self._inside = self._short(self._rows[-1], width)

    def content_line(self, y: int, width: int) -> Strip:
        """One resource."""
        return padded(segments_of(self._inside[y], palette.TEXT) if y < len(self._inside) else [], width)

    def _short(self, row: HardwareRow, width: int) -> list[Content]:
        room = max(6, width - 24)
        if row.gpu_percent is not None:
            watts = f"{row.gpu_watts:.0f}" if row.gpu_watts is not None else "–"
            celsius = f"{row.gpu_celsius:.0f}" if row.gpu_celsius is not None else "–"
            first = self._bar_line(
                "GPU", room, row.gpu_percent / 100, number=f"{row.gpu_percent:3.0f}", tail=[(watts.rjust(4), " W"), (celsius.rjust(4), " °C")], width=width
            )
            total, used, own = row.gpu_memory_total or 0, row.gpu_memory_used or 0, row.gpu_memory_own or 0
            memory = self._memory_line("mem", room, own, used, total, width)
            free = Content.assemble(("free ", palette.DIM), (gib(total - used), palette.BRIGHT), (" GiB", palette.DIM))
            right = Content.assemble(
                ("CPU ", palette.DIM), (f"{row.cpu_percent:.0f}", palette.BRIGHT), (" %  RAM ", palette.DIM),
                (f"{100 * row.memory_used / max(1, row.memory_total):.0f}", palette.BRIGHT), (" %", palette.DIM),
            )  # fmt: skip
            return [first, memory, _apart(free, right, width)]
        first = self._bar_line(
            "CPU", room, row.cpu_percent / 100, number=f"{row.cpu_percent:3.0f}", tail=[(f"{row.process_cpu_percent:.0f}".rjust(5), " % own")], width=width
        )
        memory = self._memory_line("RAM", room, row.process_memory, row.memory_used, row.memory_total, width)
        if self._others:
            return [first, memory, Content.styled(self._others, palette.WARN)]
        free = Content.assemble(("free ", palette.DIM), (gib(row.memory_total - row.memory_used), palette.BRIGHT), (" GiB", palette.DIM))
        return [first, memory, _apart(free, self._disk_words(row), width)]

    def _tall(self, row: HardwareRow, width: int) -> list[Content]:
        room = max(6, width - 19)
        lines: list[Content] = []
        if row.gpu_percent is not None:
            total, used, own = row.gpu_memory_total or 0, row.gpu_memory_used or 0, row.gpu_memory_own or 0
            lines.append(
                self._resource(
                    "GPU", room, row.gpu_percent / 100, Content.assemble((f"{row.gpu_percent:.0f}", self._busy_style()), (" % busy", palette.DIM)), width
                )
            )
            lines.append(self._resource("mem", room, own / max(1, total), _of(used, total), width, others=(used - own) / max(1, total)))
            lines.append(self._shares(own, used))
            lines.append(self._resource("CPU", room, row.cpu_percent / 100, self._cpu_words(row), width))
            lines.append(self._resource("RAM", room, row.memory_used / max(1, row.memory_total), _of(row.memory_used, row.memory_total), width))
        else:
            mine = min(1.0, row.process_cpu_percent / 100)
            lines.append(self._resource("CPU", room, mine, self._cpu_words(row), width, others=max(0.0, row.cpu_percent / 100 - mine)))
            lines.append(self._others_line(width) if self._others else self._shares_of_cpu(row))
            share = row.process_memory / max(1, row.memory_total)
            lines.append(
                self._resource("RAM", room, share, _of(row.memory_used, row.memory_total), width, others=row.memory_used / max(1, row.memory_total) - share)
            )
            lines.append(self._shares(row.process_memory, row.memory_used))
        lines.append(_apart(Content.styled("disk", palette.DIM), self._disk_words(row, named=False), width))
        if row.gpu_watts is not None or row.gpu_celsius is not None:
            watts = f"{row.gpu_watts:.0f}" if row.gpu_watts is not None else "–"
            celsius = f"{row.gpu_celsius:.0f}" if row.gpu_celsius is not None else "–"
            lines.append(
                Content.assemble(("pwr  ", palette.DIM), (watts, palette.TEXT), (" W   temp ", palette.DIM), (celsius, palette.TEXT), (" °C", palette.DIM))
            )
        if self._arithmetic:
            lines.append(_apart(Content.styled("math", palette.DIM), Content.styled(self._arithmetic, palette.TEXT), width))
        return lines

    def _history(self, width: int, height: int) -> list[Content]:
        """How busy the GPU, or the CPU, was in the last minutes: 0 to 100 %."""
        gutter = 4
        raster = Raster(width - gutter, height, "ascii" if self.ascii_only else "braille")
        values = [row.gpu_percent if row.gpu_percent is not None else row.cpu_percent for row in self._rows][-raster.columns :]
        points = [(raster.columns - len(values) + index, value) for index, value in enumerate(values)]
        raster.paint(curve_layer(points, Scale(0.0, 100.0, False, raster.rows), raster.columns), 1, "*")
        labels = {0: "100", height - 1: "  0"}
        colours = {0: palette.TEXT, 1: palette.WARN if self._alarm else palette.TRAIN}
        return [
            Content.assemble((f"{labels.get(row, ''):<{gutter}}", palette.DIM), *((text, colours[ink]) for text, ink in raster.runs(row)))
            for row in range(height)
        ]

    def _busy_style(self) -> str:
        return f"bold {palette.WARN if self._alarm else palette.BRIGHT}"

    def _bar_line(self, name: str, room: int, fraction: float, *, number: str, tail: list[tuple[str, str]], width: int) -> Content:
        colour = palette.WARN if self._alarm else palette.TRAIN
        figures = Content.assemble(
            (number.rjust(4), self._busy_style()), (" %", palette.DIM), *(part for value, unit in tail for part in ((value, palette.TEXT), (unit, palette.DIM)))
        )
        return _apart(Content.assemble((f"{name}  ", palette.DIM), bar(room, fraction, colour=colour, ascii=self.ascii_only)), figures, width)

    def _memory_line(self, name: str, room: int, own: int, used: int, total: int, width: int) -> Content:
        figures = Content.assemble(
            (gib(own), palette.TRAIN), (" own ", palette.DIM), (gib(max(0, used - own)).rjust(4), palette.THIRD), (" other", palette.DIM)
        )
        whole = max(1, total)
        return _apart(Content.assemble((f"{name}  ", palette.DIM), bar(room, own / whole, max(0, used - own) / whole, ascii=self.ascii_only)), figures, width)

    def _resource(self, name: str, room: int, fraction: float, figures: Content, width: int, *, others: float = 0.0) -> Content:
        colour = palette.WARN if self._alarm and name == "GPU" else palette.TRAIN
        return _apart(
            Content.assemble((f"{name:<4} ", palette.DIM), bar(room, fraction, max(0.0, others), colour=colour, ascii=self.ascii_only)), figures, width
        )

    def _shares(self, own: int, used: int) -> Content:
        signs = ("=", "~") if self.ascii_only else ("━", "╍")
        return Content.assemble(
            "     ",
            (signs[0], palette.TRAIN),
            (" own ", palette.DIM),
            (gib(own), palette.TEXT),
            "  ",
            (signs[1], palette.THIRD),
            (" other ", palette.DIM),
            (gib(max(0, used - own)), palette.TEXT),
        )

    def _shares_of_cpu(self, row: HardwareRow) -> Content:
        signs = ("=", "~") if self.ascii_only else ("━", "╍")
        other = max(0.0, row.cpu_percent - row.process_cpu_percent)
        return Content.assemble(
            "     ",
            (signs[0], palette.TRAIN),
            (" own ", palette.DIM),
            (f"{row.process_cpu_percent:.0f}", palette.TEXT),
            (" %  ", palette.DIM),
            (signs[1], palette.THIRD),
            (" other ", palette.DIM),
            (f"{other:.0f}", palette.TEXT),
            (" %", palette.DIM),
        )

    def _others_line(self, width: int) -> Content:
        """`╍ others use 1.0 of 2 cores`, in the place of the shares."""
        sign = "~ " if self.ascii_only else "╍ "
        indent = max(0, min(5, width - len(sign) - len(self._others)))
        return Content.assemble(" " * indent, (sign, palette.THIRD), (self._others, palette.WARN))

    def _cpu_words(self, row: HardwareRow) -> Content:
        of = f" % of {self._cores}" if self._cores else " %"
        return Content.assemble((f"{row.cpu_percent:.0f}", palette.TEXT if row.gpu_percent is not None else self._busy_style()), (of, palette.DIM))

    def _disk_words(self, row: HardwareRow, *, named: bool = True) -> Content:
        value, _, unit = disk(row.disk_free).partition(" ")
        return Content.assemble(("disk " if named else "", palette.DIM), (value, palette.TEXT), (f" {unit} free", palette.DIM))


def _of(used: int, total: int) -> Content:
    return Content.assemble((gib(used), palette.TEXT), (f" / {gib(total)} GiB", palette.DIM))


def _apart(left: Content, right: Content, width: int) -> Content:
    return Content.assemble(left, " " * max(0, width - left.cell_length - right.cell_length), right)
