"""The machine panel: load, memory, disk and other GPUs; an ended run's totals.

A reading has a line per resource if there is room, ranked by LEFT_OUT, and else three lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan
from statistics import fmean
from typing import TYPE_CHECKING

from rich.segment import Segment
from textual.content import Content

from rnnlm_tui.schema.formatting import NOTHING, counted, disk, duration, gib, memory
from rnnlm_tui.schema.metrics import CARD_LOST
from rnnlm_tui.tui.palette import BAD, BRIGHT, DIM, TEXT, THIRD, TRAIN, WARN
from rnnlm_tui.tui.text import OTHERS, OWN, amount, bar, line, safe_content, safe_text, spread
from rnnlm_tui.tui.views.machine import (
    MachineView,
    RunTotals,
    has_card,
    history,
    little_disk,
    steady_reading,
)
from rnnlm_tui.tui.widgets.chart.raster import Raster, Scale, curve_layer
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
LEAST_BAR = 3
WITH_POWER = 46
"""Inner width from which the other cards' lines have power and temperature."""
SHARED = ((2, True, 17), (2, False, 11), (3, False, 11))
"""How GPUs share a line if there is no line for each: how many, whether with memory, and cells of
each."""
STRONG = f"bold {BRIGHT}"


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
            return Content.styled(brief, DIM)
        if width_of(segments_of(self.legend)) > room >= len(self._view.device):
            return Content.styled(self._view.device, DIM)
        return super().legend_within(room)

    def prepare(self, width: int, height: int) -> None:
        """Lay out the lines for this size."""
        view, totals, tall = self._view, self._view.totals, height >= TALL
        row = self._reading = steady_reading(view.rows)
        dots = (width - GUTTER) * (1 if self.ascii_only else 2)
        loads: Sequence[tuple[int, float]] = []
        if totals is not None:
            lines = (
                _table(totals, view.arithmetic, width, height) if tall else _brief(totals, width)
            )
            loads = _averaged(totals.loads, dots)
        elif row is None:
            lines = [Content.styled("no readings yet", DIM)]
        else:
            reading = _Reading(view, row, width)
            lines = reading.tall(height) if tall else reading.short(height)
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


class _Reading:
    """The lines of a reading, `width` cells each."""

    def __init__(self, view: MachineView, row: HardwareRow, width: int) -> None:
        self.view, self.row, self.width = view, row, width
        self.card = has_card(row)
        self.little_disk = little_disk(row, view.disk_total)
        self.busy = f"bold {WARN if view.alarm else BRIGHT}"
        self.colour = WARN if view.alarm else TRAIN

    def short(self, height: int) -> list[Content]:
        """Return load, memory and a line of other figures, and more if there is room."""
        row, gpu = self.row, self.row.gpu
        left, right = _free(row.memory_used, row.memory_total), self._disk_words("disk ")
        if self.card:
            left = right if self.little_disk else _free(gpu.memory_used, gpu.memory_total)
            ram = f"{100 * _share(row.memory_used, row.memory_total):.0f}"
            right = line("CPU {} %  RAM {} %", (f"{row.cpu_percent:.0f}", BRIGHT), (ram, BRIGHT))
        lines = [self._load(), self._memory(28), spread(left, right, self.width)]
        lines += other_cards(row.other_gpus, self.width, height - len(lines))
        return [*lines, self._disk()] if self.card else lines

    def tall(self, height: int) -> list[Content]:
        """Return a line per resource; with many GPUs, the less important ones are left out."""
        row, gpu, trains = self.row, self.row.gpu, self.view.trains
        split = trains and not self.card
        lines: dict[str, Content | None] = {}
        if self.card:
            busy = line("{} % busy", (whole(gpu.percent), self.busy))
            lines["GPU"] = self._lost() or self._bar("GPU", _part(gpu.percent), busy, self.colour)
            lines["mem"] = self._memory() if not lost(gpu) or gpu.memory_own is not None else None
            if trains and gpu.memory_total is not None and gpu.memory_used is not None:
                lines["shares"] = self._shares(gpu.memory_own, gpu.memory_used, gpu.memory_total)
        cpu, process = row.cpu_percent, row.process_cpu_percent
        cores = f"{{}} % of {self.view.cores}" if self.view.cores else "{} %"
        words = line(cores, (f"{cpu:.0f}", TEXT if self.card else self.busy))
        own = min(1.0, (process if split else cpu) / 100)
        lines["CPU"] = self._bar("CPU", own, words, others=max(0.0, cpu / 100 - own))
        if split and self.view.others:
            indent = " " * max(0, min(5, self.width - 2 - len(self.view.others)))
            lines["others"] = line(indent + "{} {}", (OTHERS, THIRD), (self.view.others, WARN))
        elif split:
            other = f"{max(0.0, cpu - process):.0f}"
            lines["others"] = self._own_and_other(f"{process:.0f}", other, " %")
        sizes = row.memory_used, row.memory_total
        lines["RAM"] = self._memory() if split else self._bar("RAM", _share(*sizes), _of(*sizes))
        if split:
            lines["own"] = self._shares(row.process_memory, *sizes)
        lines["disk"] = self._disk()
        lines["power"] = power_line(gpu, self.width)
        found = {name: shown for name, shown in lines.items() if shown is not None}
        if self.view.arithmetic:
            found["math"] = spread(line("math"), line("{}", self.view.arithmetic), self.width)
        kept = {"disk"} if self.little_disk else set()
        most = max(1, height - FIRST_LINES - len(kept))
        cards = len(other_cards(row.other_gpus, self.width, most))
        for name in LEFT_OUT:
            if len(found) + cards > height and name not in kept:
                found.pop(name, None)
        last = [found.pop("math")] if "math" in found else []
        others = other_cards(row.other_gpus, self.width, height - len(found) - len(last))
        return [*found.values(), *others, *last]

    def _bar(
        self,
        name: str,
        fraction: float | None,
        figures: Content,
        colour: str = TRAIN,
        *,
        others: float = 0.0,
        reserved: int = 19,
    ) -> Content:
        shares = bar(max(6, self.width - reserved), fraction, others, colour=colour)
        return spread(line(f"{name:<5}") + shares, figures, self.width)

    def _load(self) -> Content:
        """Return `GPU  ━━━━━━──      71 %  48 W  61 °C`, or the CPU's without a GPU."""
        row, gpu = self.row, self.row.gpu
        name, percent = ("GPU", gpu.percent) if self.card else ("CPU", row.cpu_percent)
        figures = line("{} %", (whole(percent).rjust(4), self.busy))
        if self.card:
            figures += line("{} W{} °C", _watts(gpu, 4), _celsius(gpu, 4))
        elif self.view.trains:
            figures += line("{} % own", f"{row.process_cpu_percent:>5.0f}")
        known = self._bar(name, _part(percent), figures, self.colour, reserved=28)
        return (self._lost() if self.card else None) or known

    def _lost(self) -> Content | None:
        """Return `GPU  card lost`, if nothing can be read from it any more."""
        if not lost(self.row.gpu):
            return None
        return spread(line("GPU  "), fault(self.row.gpu.fault, self.width - 5), self.width)

    def _memory(self, reserved: int = 19) -> Content:
        """Return the memory that the run computes in: the GPU's if there is one."""
        row, gpu = self.row, self.row.gpu
        name, own, used, total = (
            ("mem", gpu.memory_own, gpu.memory_used, gpu.memory_total)
            if self.card
            else ("RAM", row.process_memory, row.memory_used, row.memory_total)
        )
        if total is None or used is None:  # the driver doesn't report it: use what the run reports
            if lost(gpu) and own is None:
                return line("mem  –")
            words = line("{} GiB own", (gib(own), TRAIN))
            return self._bar(name, None, words, reserved=reserved)
        own = (own or 0) if self.view.trains else 0
        other = max(0, used - own)
        figures = _of(used, total)
        if self.view.trains and reserved > 19:
            amounts = (gib(own), TRAIN), (gib(other).rjust(4), THIRD)
            figures = line("{} own {} other GiB", *amounts)
        shares = _share(own, total), _share(other, total)
        return self._bar(name, shares[0], figures, others=shares[1], reserved=reserved)

    def _shares(self, own: int | None, used: int, total: int) -> Content:
        left = self._own_and_other(gib(own or 0), gib(max(0, used - (own or 0))))
        return spread(left, _free(used, total), self.width) if self.width >= ROOMY else left

    def _own_and_other(self, own: str, other: str, unit: str = "") -> Content:
        pattern = f"{{}} own {{}}{unit}  {{}} other {{}}{unit}"
        words = line(pattern, (OWN, TRAIN), own, (OTHERS, THIRD), other)
        return Content(" " * max(0, min(5, self.width - words.cell_length))) + words

    def _disk(self) -> Content:
        total = self.view.disk_total
        if not total:
            return spread(line("disk"), self._disk_words(), self.width)
        colour = WARN if self.little_disk else TRAIN
        return self._bar("disk", 1 - _share(self.row.disk_free, total), self._disk_words(), colour)

    def _disk_words(self, name: str = "") -> Content:
        style = f"bold {WARN}" if self.little_disk else TEXT
        return line(name) + amount(f"{disk(self.row.disk_free)} free", style)


# a run that has ended


def _brief(totals: RunTotals, width: int) -> list[Content]:
    """Return the run's means, peaks and duration in three or four lines."""
    mean, peak = totals.mean, totals.peak
    name, load = ("GPU", "gpu_percent") if totals.has_card else ("CPU", "process_cpu_percent")
    store, own = ("mem", "gpu_memory_own") if totals.has_card else ("RAM", "process_memory")
    whole_time = totals.whole_seconds
    lines = [
        (
            line(f"{name:<5}mean {{}} %", (whole(mean[load]), STRONG)),
            line("peak {} %", whole(peak[load])),
        ),
        (line(f"{store:<5}peak {{}} own", (memory(peak[own]), STRONG)), _most_used(totals)),
        (
            line(f"time {duration(totals.training_seconds)}"),
            Content("") if whole_time is None else line("total {}", duration(whole_time)),
        ),
    ]
    if totals.has_card:
        cpu = line("CPU  mean {}", f"{whole(mean['process_cpu_percent'])} %")
        lines.append((cpu, line("RAM own {}", memory(peak["process_memory"]))))
    return [spread(left, right, width) for left, right in lines]


def _table(totals: RunTotals, arithmetic: str, width: int, height: int) -> list[Content]:
    """Return lines of a name with a mean and a peak."""
    mean, peak, card = totals.mean, totals.peak, totals.has_card
    store, own = ("mem", "gpu_memory_own") if card else ("RAM", "process_memory")

    def row(name: str, mean: str, peak: str, style: str = TEXT) -> Content:
        figures = Content.styled(mean + peak.rjust(max(9, len(peak) + 2)), style)
        return spread(line(name), figures, width)

    def measured(name: str, column: str, unit: str, style: str = TEXT) -> Content:
        return row(name, f"{whole(mean[column])} {unit}", f"{whole(peak[column])} {unit}", style)

    if card:
        loads = ("GPU", "gpu_percent"), ("CPU own", "process_cpu_percent")
    else:
        loads = ("CPU own", "process_cpu_percent"), ("CPU all", "cpu_percent")
    lines = [
        row("", "mean", "peak", DIM),
        measured(*loads[0], "%", STRONG),
        measured(*loads[1], "%"),
        row(f"{store} own", "", memory(peak[own]), STRONG),
        spread(line(f"{store} all"), _most_used(totals), width),
    ]
    if card:
        lines.append(row("RAM own", "", memory(peak["process_memory"])))
    if not isnan(peak["gpu_watts"]):
        lines.append(measured("power", "gpu_watts", "W"))
    last = [row("training", "", duration(totals.training_seconds), STRONG)]
    if totals.whole_seconds is not None:
        last.append(row("start to end", "", duration(totals.whole_seconds)))
    if arithmetic:
        last.append(row("math", "", arithmetic))
    if not isnan(peak["gpu_celsius"]) and len(lines) + len(last) + LEAST_HISTORY < height:
        lines.append(measured("temp", "gpu_celsius", "°C"))
    return [*lines, *last]


def _most_used(totals: RunTotals) -> Content:
    """Return the most memory used on the machine or GPU, by all processes."""
    if not totals.has_card:
        return _of(totals.peak["memory_used"], totals.memory_total)
    total = totals.gpu_memory_total
    return _of(totals.peak["gpu_memory_used"], total) if total else Content("")


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


# parts of lines


def _share(part: float, whole: float) -> float:
    return max(0.0, part) / max(1.0, whole)


def _part(percent: float | None) -> float | None:
    return None if percent is None else percent / 100


def whole(value: float | None) -> str:
    """A number without decimals, or a dash."""
    return NOTHING if value is None or isnan(value) else f"{value:,.0f}"


def _free(used: int | None, total: int | None) -> Content:
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
    style = WARN if gpu.throttle and "power" in gpu.throttle else TEXT
    text = whole(gpu.watts)
    return f" {text.replace(',', ''):>{width - 1}}" if width else text, style


def _celsius(gpu: GpuRow, width: int = 0) -> tuple[str, str]:
    """A temperature and its style: a warning while it slows the card down."""
    style = WARN if gpu.throttle and "thermal" in gpu.throttle else TEXT
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
    reasons = safe_text(gpu.throttle or "", newlines="show")
    throttled = f"throttled: {reasons}" if reasons else ""
    forms = [(most or clock, throttled), (clock, throttled), (clock, reasons), ("", throttled)]
    forms += [("", reasons), ("", "throttled" if reasons else "")]
    for figures, words in forms:
        text = "  ".join(filter(None, (figures, words)))
        if len(text) <= room:
            return Content.styled(text, WARN if words else DIM)
    return Content("")


def power_line(gpu: GpuRow, width: int) -> Content | None:
    """Return `pwr  48 / 72 W   temp 61 °C`, or what is known of it; None if nothing is."""
    heat = line("temp {} °C", _celsius(gpu))
    if gpu.watts is None:
        return None if gpu.celsius is None else heat
    limit = "" if gpu.watts_limit is None else f" / {whole(gpu.watts_limit)}"
    power = line(f"pwr  {{}}{limit} W", _watts(gpu))
    if gpu.celsius is None:
        return power
    if power.cell_length + 2 + heat.cell_length > width:
        power = line("pwr  {} W", _watts(gpu))
    gap = 3 if power.cell_length + 3 + heat.cell_length <= width else 2
    return Content.assemble(power, " " * gap, heat)


def other_cards(cards: Sequence[GpuRow], width: int, height: int) -> list[Content]:
    """Return a line per other GPU; if they don't fit, two or three share a line, or all one."""
    if len(cards) <= height:
        return [_line(card, width) for card in cards]
    for each, long, cells in SHARED:
        rows = -(-len(cards) // each)
        if rows <= height and each * cells <= width + 1:
            filled = [_cell(card, width // each, long=long) for card in cards]
            return [Content("").join(filled[row::rows]) for row in range(rows)]
    return [_together(cards, width)] if height > 0 else []


def _line(card: GpuRow, width: int) -> Content:
    name = f"gpu{card.index}".ljust(5)
    if lost(card):
        return spread(line(name), fault(card.fault, width - 6), width)
    figures = _load(card)
    if card.memory_total is not None:
        sizes = f" {gib(card.memory_used).rjust(4)} / {gib(card.memory_total)}"
        figures += line("{} GiB", sizes)
    if width >= WITH_POWER and (card.watts is not None or card.celsius is not None):
        figures += line("{} W{} °C", _watts(card, 5), _celsius(card, 5))
    if card.fault:
        figures += Content.styled(f"  {card.fault}", BAD)
    room = width - len(name) - figures.cell_length - 1
    shares = bar(room, 0.0, _part(card.percent) or 0.0) if room >= LEAST_BAR else Content("")
    return spread(line(name) + shares, figures, width)


def _load(card: GpuRow) -> Content:
    """Return ` 99 %`, with a sign behind it while the card is slowed down."""
    sign = "▼" if card.throttle else " "
    return line("{} %{}", whole(card.percent).rjust(3), (sign, WARN))


def _cell(card: GpuRow, room: int, *, long: bool) -> Content:
    """Return `gpu1  99 %   42 G` or, unless `long`, without memory, in `room` cells."""
    cell = line(f"gpu{card.index}".ljust(5))
    if card.fault:
        words = "lost" if card.fault == CARD_LOST else "error"
        cell += Content.styled(words, f"bold {BAD}")
    else:
        cell += _load(card)
        if long and card.memory_used is not None:
            cell += line("{} G", gib(card.memory_used).rjust(4))
    return cell.pad_right(max(0, room - cell.cell_length))


def _together(cards: Sequence[GpuRow], width: int) -> Content:
    """Return `7 more GPUs        40 % busy`, or how many of them have a problem."""
    known = [card.percent for card in cards if card.percent is not None]
    load = whole(sum(known) / len(known) if known else None)
    name = line(counted(len(cards), "more GPU"))
    faults = sum(card.fault is not None for card in cards)
    slowed = sum(bool(card.throttle) for card in cards)
    words = Content("")
    if faults:
        words = Content.styled(f"{faults} failed", f"bold {BAD}")
    elif slowed:
        words = Content.styled(f"{slowed} throttled", WARN)
    busy = line("{} % busy", (load, BRIGHT if slowed or faults else TEXT))
    left = Content.assemble(name, "  ", words) if words.plain else name
    return spread(left if left.cell_length + busy.cell_length < width else words, busy, width)
