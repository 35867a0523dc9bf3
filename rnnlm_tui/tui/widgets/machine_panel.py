"""The machine panel: load, memory, disk and other GPUs; an ended run's totals.

A reading has a line per resource if there is room, ranked by LEFT_OUT, and else three lines.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import isnan, nan
from statistics import fmean
from time import localtime, strftime, time
from typing import TYPE_CHECKING

from rich.segment import Segment
from textual.content import Content

from rnnlm_tui.schema.formatting import (
    NOTHING,
    arithmetic,
    disk,
    duration,
    gib,
    memory,
    other_load_text,
)
from rnnlm_tui.schema.metrics import CARD_LOST
from rnnlm_tui.schema.status import LIVING
from rnnlm_tui.tui.palette import BAD, BRIGHT, DIM, TEXT, THIRD, TRAIN, WARN
from rnnlm_tui.tui.text import OTHERS, OWN, amount, bar, line, safe_content, safe_text, spread
from rnnlm_tui.tui.views.machine import Readings, averaged, has_card, history, steady_reading
from rnnlm_tui.tui.views.status import device_name, machine_label
from rnnlm_tui.tui.widgets.chart.raster import Raster, Scale, curve_layer
from rnnlm_tui.tui.widgets.panel import Label, Panel, segments_of, width_of

if TYPE_CHECKING:
    from rnnlm_tui.client.monitor import RunSnapshot
    from rnnlm_tui.schema.metrics import GpuRow, HardwareRow
    from rnnlm_tui.system.machine import MachineFacts


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
FIGURES, MORE_FIGURES = 19, 28
"""Cells kept for the figures right of a bar, in the tall and in the short form."""
LEAST_BAR = 3
WITH_POWER = 46
"""Inner width from which the other cards' lines have power and temperature."""
CELL = 12
"""Cells of each GPU if several share a line, with a blank."""
OLD_READING_SECONDS = 10.0
"""A run that can't write to disk has no newer reading than this."""
LITTLE_DISK = 0.1
"""Below this free share, the disk is shown even where there is little room."""
LITTLE_BYTES = 5 * 10**9
"""Low-disk limit if the disk's size is unknown."""
STRONG = f"bold {BRIGHT}"


@dataclass(frozen=True, slots=True)
class MachineView:
    """What the panel shows."""

    rows: Sequence[HardwareRow] = ()
    """Oldest first."""
    legend: str | Content = ""
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
    ended: RunSnapshot | None = None
    """An ended run, whose totals are shown instead of readings."""


def machine_view(
    snapshot: RunSnapshot | None, machine: MachineFacts | None, own: Readings, *, wide: bool
) -> MachineView:
    """Choose a running run's readings, an ended run's totals, or the app's readings.

    The app's own readings are used if the run has none and ran on this machine, or without a run.
    """
    summary = snapshot.summary if snapshot is not None else None
    rows = snapshot.hardware if snapshot is not None else ()
    status = summary.status if summary is not None else None
    math = arithmetic(summary) if summary is not None else ""
    if snapshot is not None and status not in LIVING and len(snapshot.machine) and rows:
        return MachineView(legend=line("whole run"), arithmetic=math, ended=snapshot)
    here = machine is not None and (summary is None or summary.host in (None, machine.host))
    idle = here and status not in LIVING and bool(own.rows)
    label = machine_label(machine, wide=wide)
    if idle and not own.live:
        label = Content(strftime("at %H:%M:%S", localtime(own.rows[-1].time)))
    elif rows and status == "degraded" and time() - rows[-1].time > OLD_READING_SECONDS:
        label = Content("as last stored")
    device, known = "", status in LIVING or not rows
    if summary is not None and machine is not None and known and not idle:
        device = device_name(machine, wide=False, device=summary.device)
    return MachineView(
        own.rows if idle else rows,
        label.stylize(DIM),
        machine.cpu_count if machine is not None and here else 0,
        machine.disk_total if machine is not None and here else None,
        trains=not idle,
        alarm=status in ("stalled", "degraded"),
        device=device,
        arithmetic="" if idle else math,
        others="" if idle or summary is None else other_load_text(summary, short=True),
    )


class MachinePanel(Panel):
    """Bars with numbers at the right: three lines at 80 columns, all resources if there is room."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(title="Machine", id=id)
        self._view = MachineView()
        self._reading: HardwareRow | None = None

    def show(self, view: MachineView) -> None:
        """Show readings; the worker reports them less often than steps."""
        if view != self._view:
            self._view = view
            self.set_reactive(Panel.legend, view.legend)
            self.redraw()

    def legend_within(self, room: int) -> Label:
        """Return the machine's name, or device and arithmetic if they have no line; only the device
        if the name is too long."""
        parts = (self._view.device, self._view.arithmetic)
        brief = " · ".join(parts)
        if all(parts) and self.inner_size.height < TALL and len(brief) <= room:
            return brief
        too_long = width_of(segments_of(self.legend)) > room >= len(self._view.device)
        return self._view.device if too_long else super().legend_within(room)

    def prepare(self, width: int, height: int) -> None:
        """Lay out the lines for this size."""
        view, tall = self._view, height >= TALL
        row = self._reading = steady_reading(view.rows)
        dots = (width - GUTTER) * (1 if self.ascii_only else 2)
        loads: list[tuple[int, float]] = []
        if view.ended is not None:
            totals = _Totals(view.ended)
            lines = totals.table(view.arithmetic, width, height) if tall else totals.brief(width)
            loads = totals.loads(dots)
        elif row is None:
            lines = [line("no readings yet")]
        else:
            reading = _Reading(view, row, width, height)
            lines = reading.tall() if tall else reading.short()
            loads = history(view.rows, dots) if view.trains else []
        lines = lines[:height]
        curve = self._curve(loads, width, height - len(lines)) if tall and loads else []
        self.lines = [*curve, *lines]

    def _curve(self, loads: Sequence[tuple[int, float]], width: int, height: int) -> list[Content]:
        """Plot a load in percent, given as (dot column, percent), if there is room."""
        height = min(height, MOST_HISTORY)
        if height < LEAST_HISTORY:
            return []
        raster = Raster(width - GUTTER, height, "ascii" if self.ascii_only else "braille")
        scale = Scale(0.0, 100.0, raster.rows)
        raster.paint(curve_layer(loads, scale, raster.columns), 1, "*")
        labels = ["100", *[""] * (height - 2), "  0"]
        colours = {0: TEXT, 1: WARN if self._view.alarm else TRAIN}
        return [
            line(f"{label:<{GUTTER}}").append(
                Content.assemble(*((text, colours[ink]) for text, ink in raster.runs(row)))
            )
            for row, label in enumerate(labels)
        ]

    def bottom_labels(self, width: int) -> list[tuple[int, Sequence[Segment]]]:
        """Return the GPU's clock, what slows it down or is wrong with it, and what others use if
        there is no line for it."""
        row = self._reading if self._view.ended is None else None
        problem = Content("") if row is None else edge(row, width - 6)
        labels: list[tuple[int, Sequence[Segment]]] = []
        if problem.plain:
            labels.append((3, segments_of(problem)))
        if self._view.others and self.inner_size.height < TALL:
            place = 3 + (problem.cell_length + 3 if labels else 0)
            labels.append((place, segments_of(self._view.others, WARN)))
        return labels


class _Reading:
    """The lines of a reading, `width` cells each."""

    def __init__(self, view: MachineView, row: HardwareRow, width: int, height: int) -> None:
        self.view, self.row, self.width, self.height = view, row, width, height
        self.figures = FIGURES if height >= TALL else MORE_FIGURES
        self.colour, self.busy = (WARN, f"bold {WARN}") if view.alarm else (TRAIN, STRONG)
        least = LITTLE_DISK * view.disk_total if view.disk_total else LITTLE_BYTES
        self.little_disk = row.disk_free < least
        self.ram = row.process_memory if view.trains else 0, row.memory_used, row.memory_total
        self.card, gpu = has_card(row), row.gpu
        own = gpu.memory_own if view.trains else None
        self.memory = (own, gpu.memory_used, gpu.memory_total) if self.card else self.ram

    def short(self) -> list[Content]:
        """Return load, memory and a line of other figures, and more if there is room."""
        row, gpu = self.row, self.row.gpu
        load = gpu.percent if self.card else row.cpu_percent
        figures = line("{} %", (whole(load).rjust(4), self.busy))
        left, right = _free(*self.memory), self._disk_words("disk ")
        if self.card:
            figures += line("{} W{} °C", _watts(gpu, 4), _celsius(gpu, 4))
            left = right if self.little_disk else left
            ram = f"{100 * row.memory_used / max(1, row.memory_total):.0f}"
            right = line("CPU {} %  RAM {} %", (f"{row.cpu_percent:.0f}", BRIGHT), (ram, BRIGHT))
        elif self.view.trains:
            figures += line("{} % own", f"{row.process_cpu_percent:>5.0f}")
        first = self._lost() or self._bar(
            "GPU" if self.card else "CPU", figures, load, load, colour=self.colour
        )
        lines = [first, self._memory(), spread(left, right, self.width)]
        lines += other_cards(row.other_gpus, self.width, self.height - len(lines))
        return [*lines, self._disk()] if self.card else lines

    def tall(self) -> list[Content]:
        """Return a line per resource; with many GPUs, the less important ones are left out."""
        found, cards, height = dict(self._resources()), self.row.other_gpus, self.height
        kept = {"disk"} if self.little_disk else set()
        most = max(1, height - FIRST_LINES - len(kept))
        rows = len(other_cards(cards, self.width, most))
        for name in LEFT_OUT:
            if len(found) + rows > height and name not in kept:
                found.pop(name, None)
        last = [found.pop("math")] if "math" in found else []
        others = other_cards(cards, self.width, height - len(found) - len(last))
        return [*found.values(), *others, *last]

    def _resources(self) -> Iterator[tuple[str, Content]]:
        """Yield the lines of the tall form, each with its name."""
        view, row, gpu = self.view, self.row, self.row.gpu
        cpu, process = row.cpu_percent, row.process_cpu_percent
        cores = f"{{}} % of {view.cores}" if view.cores else "{} %"
        if self.card:
            busy = line("{} % busy", (whole(gpu.percent), self.busy))
            load = gpu.percent
            yield "GPU", self._lost() or self._bar("GPU", busy, load, load, colour=self.colour)
            if not lost(gpu) or gpu.memory_own is not None:
                yield "mem", self._memory()
            if view.trains and None not in self.memory[1:]:
                yield "shares", self._shares(*self.memory)
            yield "CPU", self._bar("CPU", line(cores, f"{cpu:.0f}"), cpu, cpu)
            yield "RAM", self._bar("RAM", _of(*self.ram[1:]), self.ram[1], *self.ram[1:])
        else:
            own = process if view.trains else cpu
            yield "CPU", self._bar("CPU", line(cores, (f"{cpu:.0f}", self.busy)), own, cpu)
            if view.trains and view.others:
                words = line("{} {}", (OTHERS, THIRD), (view.others, WARN))
                yield "others", self._indented(words)
            elif view.trains:
                percents = (amount(f"{max(0.0, part):.0f} %") for part in (process, cpu - process))
                yield "others", self._own_and_other(*percents)
            yield "RAM", self._memory()
            if view.trains:
                yield "own", self._shares(*self.ram)
        yield "disk", self._disk()
        if power := power_line(gpu, self.width):
            yield "power", power
        if view.arithmetic:
            yield "math", spread(line("math"), line("{}", view.arithmetic), self.width)

    def _bar(
        self,
        name: str,
        figures: Content,
        own: float | None,
        used: float | None,
        total: float | None = 100.0,
        colour: str = TRAIN,
    ) -> Content:
        """Return `CPU  ━━╍───  71 % of 8`: the shares of the run and of others, and the figures."""
        part = rest = None
        if used is not None and total:
            part, rest = (own or 0) / total, max(0.0, used - (own or 0)) / total
        shares = bar(max(6, self.width - self.figures), part, rest or 0.0, colour=colour)
        return spread(line(f"{name:<5}") + shares, figures, self.width)

    def _lost(self) -> Content | None:
        """Return `GPU  card lost`, if nothing can be read from it any more."""
        if not lost(self.row.gpu):
            return None
        return spread(line("GPU  "), fault(self.row.gpu.fault, self.width - 5), self.width)

    def _memory(self) -> Content:
        """Return `mem  ━╍────  4.7 / 23 GiB`, with own and other memory in the short form."""
        name, (own, used, total) = "mem" if self.card else "RAM", self.memory
        if total is None or used is None:  # the driver doesn't report it: use what the run reports
            figures = line("{} GiB own", (gib(own), TRAIN))
            unknown = lost(self.row.gpu) and own is None
            return line("mem  –") if unknown else self._bar(name, figures, None, None)
        if not self.view.trains or self.figures == FIGURES:
            own = own if self.view.trains else used
            return self._bar(name, _of(used, total), own, used, total)
        others = gib(max(0, used - (own or 0))).rjust(4)
        figures = line("{} own {} other GiB", (gib(own or 0), TRAIN), (others, THIRD))
        return self._bar(name, figures, own, used, total)

    def _shares(self, own: int | None, used: int | None, total: int | None) -> Content:
        other = max(0, (used or 0) - (own or 0))
        left = self._own_and_other(gib(own or 0), gib(other))
        free = _free(own, used, total)
        return spread(left, free, self.width) if self.width >= ROOMY else left

    def _own_and_other(self, own: Content | str, other: Content | str) -> Content:
        words = line("{} own {}  {} other {}", (OWN, TRAIN), own, (OTHERS, THIRD), other)
        return self._indented(words)

    def _indented(self, words: Content) -> Content:
        return Content(" " * max(0, min(5, self.width - words.cell_length))) + words

    def _disk(self) -> Content:
        words, total = self._disk_words(), self.view.disk_total
        if not total:
            return spread(line("disk"), words, self.width)
        used, colour = total - self.row.disk_free, WARN if self.little_disk else TRAIN
        return self._bar("disk", words, used, used, total, colour)

    def _disk_words(self, name: str = "") -> Content:
        style = f"bold {WARN}" if self.little_disk else TEXT
        return line(name) + amount(f"{disk(self.row.disk_free)} free", style)


TOTALS = (
    ("GPU", "gpu_percent", "%"),
    ("CPU own", "process_cpu_percent", "%"),
    ("CPU all", "cpu_percent", "%"),
    ("mem own", "gpu_memory_own", ""),
    ("mem all", "gpu_memory_used", ""),
    ("RAM own", "process_memory", ""),
    ("RAM all", "memory_used", ""),
    ("power", "gpu_watts", "W"),
    ("temp", "gpu_celsius", "°C"),
)
"""An ended run's totals: name, column and unit; memory has only a peak."""


class _Totals:
    """What an ended run used of its machine; NaN for values that weren't measured."""

    def __init__(self, ended: RunSnapshot) -> None:
        self.ended, columns = ended, ended.machine.columns
        means = {name: _known(band.mean) for name, band in columns.items()}
        self.mean = {name: fmean(values) if values else nan for name, values in means.items()}
        self.peak = {name: max(_known(band.high), default=nan) for name, band in columns.items()}
        self.card = not (isnan(self.peak["gpu_percent"]) and isnan(self.peak["gpu_memory_own"]))
        summary, events = ended.summary, ended.events
        started = next((event.time for event in events if event.kind == "started"), nan)
        kinds = ("finished", "stopped", "failed")
        ends = [event.time for event in events if event.kind in kinds] or ended.machine.time
        whole, training = ends[-1] - started, summary.active_seconds
        known = summary.attempt <= 1 and whole >= training
        self.training, self.whole = duration(training), duration(whole) if known else ""

    def loads(self, columns: int) -> list[tuple[int, float]]:
        """Return the load of the GPU, or of the CPU without one, over as many dot columns."""
        name = "cpu_percent" if isnan(self.peak["gpu_percent"]) else "gpu_percent"
        values = self.ended.machine.columns[name].mean
        columns = min(columns, len(values))
        places = (((at + 1) * columns - 1) // len(values) for at in range(len(values)))
        return averaged(zip(places, values, strict=True))

    def brief(self, width: int) -> list[Content]:
        """Return the run's means, peaks and duration in three or four lines."""
        load, memory_of, own, used = (
            ("gpu_percent", "mem", "gpu_memory_own", "gpu_memory_used")
            if self.card
            else ("process_cpu_percent", "RAM", "process_memory", "memory_used")
        )
        mean, peak = self.mean, self.peak
        name = "GPU" if self.card else "CPU"
        first = line(f"{name:<5}mean {{}} %", (whole(mean[load]), STRONG))
        second = line(f"{memory_of:<5}peak {{}} own", (memory(peak[own]), STRONG))
        cpu = line("CPU  mean {} %", whole(mean["process_cpu_percent"]))
        total = line("total {}", self.whole) if self.whole else Content("")
        rows = (
            (first, line("peak {} %", whole(peak[load]))),
            (second, self._most_used(used)),
            (line(f"time {self.training}"), total),
            (cpu, line("RAM own {}", memory(peak["process_memory"]))),
        )
        return [spread(left, right, width) for left, right in rows[: 4 if self.card else 3]]

    def table(self, math: str, width: int, height: int) -> list[Content]:
        """Return lines of a name with a mean and a peak."""

        def row(name: str, mean: str, peak: str, style: str = TEXT) -> Content:
            figures = Content.styled(mean + peak.rjust(max(9, len(peak) + 2)), style)
            return spread(line(name), figures, width)

        lines, left_out = [row("", "mean", "peak", DIM)], set()
        strong = {"process_cpu_percent", "process_memory"}
        if self.card:
            strong, left_out = {"gpu_percent", "gpu_memory_own"}, {"CPU all", "RAM all"}
        last = [row("training", "", self.training, STRONG)]
        last += [row("start to end", "", self.whole)] if self.whole else []
        last += [row("math", "", math)] if math else []
        for name, column, unit in TOTALS:
            peak, style = self.peak[column], STRONG if column in strong else TEXT
            if isnan(peak) or name in left_out:
                continue
            if unit:
                mean = f"{whole(self.mean[column])} {unit}"
                lines.append(row(name, mean, f"{whole(peak)} {unit}", style))
            elif name.endswith("all"):
                lines.append(spread(line(name), self._most_used(column), width))
            else:
                lines.append(row(name, "", memory(peak), style))
        if TOTALS[-1][0] in lines[-1].plain and len(lines) + len(last) + LEAST_HISTORY > height:
            del lines[-1]
        return [*lines, *last]

    def _most_used(self, column: str) -> Content:
        """Return the most memory used on the machine or GPU, by all processes."""
        newest = self.ended.hardware[-1]
        total = newest.gpu.memory_total if self.card else newest.memory_total
        return _of(self.peak[column], total) if total else Content("")


def _known(values: Iterable[float]) -> list[float]:
    return [value for value in values if not isnan(value)]


# parts of lines


def whole(value: float | None) -> str:
    """A number without decimals, or a dash."""
    return NOTHING if value is None or isnan(value) else f"{value:,.0f}"


def _free(_own: int | None, used: int | None, total: int | None) -> Content:
    if used is None or total is None:
        return Content("")
    return line("free {} GiB", (gib(total - used), BRIGHT))


def _of(used: float, total: int) -> Content:
    return line(f"{{}} / {gib(total)} GiB", gib(used))


# GPUs


def _watts(gpu: GpuRow, width: int = 0) -> tuple[str, str]:
    """A power draw and its style: a warning while the limit slows the card down.

    In a column of some width it begins with a blank, and has no comma, which would not fit.
    """
    style = WARN if "power" in (gpu.throttle or "") else TEXT
    text = whole(gpu.watts)
    return f" {text.replace(',', ''):>{width - 1}}" if width else text, style


def _celsius(gpu: GpuRow, width: int = 0) -> tuple[str, str]:
    """A temperature and its style: a warning while it slows the card down."""
    style = WARN if "thermal" in (gpu.throttle or "") else TEXT
    return whole(gpu.celsius).rjust(width), style


def lost(gpu: GpuRow) -> bool:
    """Whether something is wrong with the card and nothing can be read from it any more."""
    return bool(gpu.fault) and gpu.percent is None and gpu.memory_used is None


def fault(text: str | None, room: int) -> Content:
    """Return what is wrong with a card, in at most `room` cells."""
    return safe_content(text or "", limit=room, newlines="show").stylize(f"bold {BAD}")


def edge(row: HardwareRow, room: int) -> Content:
    """Return what is wrong with a GPU or, if nothing is, the clock of the one that trains and what
    slows it down: `1,725 / 1,980 MHz  throttled: power cap`.

    In less room the highest clock, the word or the clock is left out.
    """
    gpu = row.gpu
    if gpu.fault and not lost(gpu):  # else the line of the GPU says it
        return fault(gpu.fault, room)
    broken = next((card for card in row.other_gpus if card.fault), None)
    if broken is not None:
        return fault(f"gpu{broken.index}: {broken.fault}", room)
    clock = "" if gpu.clock_mhz is None else f"{whole(gpu.clock_mhz)} MHz"
    most = clock and gpu.clock_max_mhz and clock.replace("M", f"/ {whole(gpu.clock_max_mhz)} M")
    forms = [most or clock, clock, ""]
    if reasons := safe_text(gpu.throttle or "", newlines="show"):
        words = f"throttled: {reasons}"
        forms = [f"{clock}  {words}" for clock in forms[:2]] + [f"{clock}  {reasons}", words]
        forms += [reasons, "throttled", ""]
    text = next(text.strip() for text in forms if len(text.strip()) <= room)
    return Content.styled(text, WARN if reasons else DIM)


def power_line(gpu: GpuRow, width: int) -> Content:
    """Return `pwr  48 / 72 W   temp 61 °C`, or what is known of it; empty if nothing is."""
    most = "" if gpu.watts_limit is None else f" / {whole(gpu.watts_limit)}"
    for limit, gap in ((most, "   "), (most, "  "), ("", "  ")):
        power = [line(f"pwr  {{}}{limit} W", _watts(gpu))] if gpu.watts is not None else []
        heat = [line("temp {} °C", _celsius(gpu))] if gpu.celsius is not None else []
        known = Content(gap).join([*power, *heat])
        if known.cell_length <= width:
            break
    return known


def other_cards(cards: Sequence[GpuRow], width: int, height: int) -> list[Content]:
    """Return a line per other GPU, or as many cells as fit and how many more there are."""
    if len(cards) <= height:
        return [_line(card, width) for card in cards]
    each = max(1, (width + 1) // CELL)
    rows = min(height, -(-len(cards) // each))
    shown = [_cell(card, width // each) for card in cards]
    if len(cards) > rows * each:
        kept = rows * each - 1
        shown = [*shown[:kept], line(f"{len(cards) - kept} more")]
    return [Content("").join(shown[row::rows]) for row in range(rows)]


def _line(card: GpuRow, width: int) -> Content:
    """Return `gpu1 ╍╍╍──  40 %   4.2 / 23 GiB`, or what is wrong with the card."""
    name = line(f"gpu{card.index}".ljust(5))
    if card.fault:
        return spread(name, fault(card.fault, width - 6), width)
    figures = _load(card)
    if card.memory_total is not None:
        sizes = f" {gib(card.memory_used).rjust(4)} / {gib(card.memory_total)}"
        figures += line("{} GiB", sizes)
    if width >= WITH_POWER and (card.watts is not None or card.celsius is not None):
        figures += line("{} W{} °C", _watts(card, 5), _celsius(card, 5))
    room = width - name.cell_length - figures.cell_length - 1
    shares = bar(room, 0.0, (card.percent or 0.0) / 100) if room >= LEAST_BAR else Content("")
    return spread(name + shares, figures, width)


def _load(card: GpuRow) -> Content:
    """Return ` 99 %`, with a sign behind it while the card is slowed down."""
    sign = "▼" if card.throttle else " "
    return line("{} %{}", whole(card.percent).rjust(3), (sign, WARN))


def _cell(card: GpuRow, room: int) -> Content:
    """Return `gpu1  99 %▼` in `room` cells."""
    words = "lost" if card.fault == CARD_LOST else "error"
    state = Content.styled(words, f"bold {BAD}") if card.fault else _load(card)
    cell = line(f"gpu{card.index}".ljust(5)) + state
    return cell.pad_right(max(0, room - cell.cell_length))
