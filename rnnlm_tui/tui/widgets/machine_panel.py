"""The machine panel: load, memory, disk and other GPUs; an ended run's totals.

A reading has a line per resource if there is room, ranked by LEFT_OUT, and else three lines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from math import isnan, nan
from statistics import fmean
from time import localtime, strftime, time
from typing import TYPE_CHECKING, NamedTuple

from textual.content import Content

from rnnlm_tui.schema.formatting import (
    arithmetic,
    count,
    disk,
    duration,
    gib,
    memory,
    other_load_text,
    ranks_text,
)
from rnnlm_tui.schema.metrics import CARD_LOST
from rnnlm_tui.schema.status import LIVING
from rnnlm_tui.tui.palette import BAD, BRIGHT, DIM, TEXT, THIRD, TRAIN, WARN
from rnnlm_tui.tui.text import OTHERS, OWN, amount, bar, line, safe_content, safe_text, spread
from rnnlm_tui.tui.views.machine import Readings, averaged, has_card, history, steady_reading
from rnnlm_tui.tui.views.ranks import rank_lines
from rnnlm_tui.tui.views.status import device_name, machine_label
from rnnlm_tui.tui.widgets.chart.raster import Raster, Scale, curve_layer
from rnnlm_tui.tui.widgets.panel import Label, Panel

if TYPE_CHECKING:
    from rnnlm_tui.client.monitor import RunSnapshot
    from rnnlm_tui.schema.metrics import GpuRow, HardwareRow, RankReading
    from rnnlm_tui.system.machine import MachineFacts


LEFT_OUT = ("math", "disk", "shares", "RAM", "CPU")
"""Lines of the tall form in the order in which they are left out for a line per GPU."""
LEAST_HISTORY, MOST_HISTORY = 2, 11
"""Rows of the load curve."""
TALL = 7
"""Inner height from which every resource has its own line."""
GUTTER = 4
"""Cells of the labels to the left of a curve."""
FIGURES, MORE_FIGURES = 19, 28
"""Cells kept for the figures right of a bar, in the tall and in the short form."""
LEAST_BAR = 3
HEADED = 3
"""Rows below the ranks from which a reading of rank 0's machine is shown."""
CELL = 12
"""Cells of each GPU if several share a line, with a blank."""
OLD_READING_SECONDS = 10.0
"""A run that can't write to disk has no newer reading than this."""
LITTLE_DISK = 0.1
"""Below this free share, the disk is shown even where there is little room."""
LITTLE_BYTES = 5 * 10**9
"""Low-disk limit if the disk's size is unknown."""
STRONG = f"bold {BRIGHT}"


class MachineView(NamedTuple):
    """What the panel shows."""

    rows: Sequence[HardwareRow] = ()
    """Oldest first."""
    legend: str | Content = ""
    machine: MachineFacts | None = None
    """The machine, if it is known and this one."""
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
    ranks: Sequence[RankReading] = ()
    """The processes that train together; empty with one process."""
    ended: RunSnapshot | None = None
    """An ended run, whose totals are shown instead of readings."""


def machine_view(
    snapshot: RunSnapshot, machine: MachineFacts | None, own: Readings, *, wide: bool
) -> MachineView:
    """Choose a running run's readings, an ended run's totals, or the app's readings.

    The app's own readings are used if the run has none and ran on this machine.
    """
    summary, rows, living = snapshot.summary, snapshot.hardware, snapshot.summary.status in LIVING
    if rows and len(snapshot.machine) and not living:
        label = line("rank 0" if summary.ranks else "whole run")
        return MachineView(legend=label, arithmetic=arithmetic(summary), ended=snapshot)
    here = machine if machine is None or summary.host in (None, machine.host) else None
    idle = here is not None and not living and bool(own.rows)
    label = machine_label(machine, wide=wide).stylize(DIM)
    if idle and not own.live:
        label = line(strftime("at %H:%M:%S", localtime(own.rows[-1].time)))
    elif rows and summary.status == "degraded" and time() - rows[-1].time > OLD_READING_SECONDS:
        label = line("as last stored")
    if idle:
        return MachineView(own.rows, label, here, trains=False)
    device = "" if machine is None else device_name(machine, wide=False, device=summary.device)
    alarm, others = summary.status in ("stalled", "degraded"), other_load_text(summary, short=True)
    if ranks := summary.running_ranks:
        label = safe_content(ranks_text(ranks), newlines="show").stylize(DIM)
        device = safe_text(ranks_text(ranks, hosts=False), newlines="show")
    return MachineView(rows, label, here, True, alarm, device, arithmetic(summary), others, ranks)


class MachinePanel(Panel):
    """Bars with numbers at the right: three lines at 80 columns, all resources if there is room."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(title="Machine", id=id)
        self._view = MachineView()

    def show(self, view: MachineView) -> None:
        """Show readings; the worker reports them less often than steps."""
        if view != self._view:
            self._view = view
            self.redraw()

    def legends(self) -> Iterable[Label]:
        """Return the machine's name, or device and arithmetic if they have no line; only the device
        if the name is too long."""
        view = self._view
        parts = view.device, view.arithmetic
        is_brief = all(parts) and self.inner_size.height < TALL and not view.ranks
        return (*([" · ".join(parts)] if is_brief else ()), view.legend, view.device)

    def prepare(self, width: int, height: int) -> None:
        """Lay out the lines for this size; in the bottom edge the GPU's clock, what slows it down
        or is wrong with it, or what others use if there is no line for it."""
        view, table = self._view, list[Content]()
        row = None if view.ended is not None else steady_reading(view.rows)
        label = Content("") if row is None else edge(row, width - 2)
        if view.ranks:
            table = rank_lines(view.ranks, width, height)
            heading = line("rank 0 on {}", safe_content(view.ranks[0].host, newlines="show"))
            spare = height - len(table)
            table += [heading] if spare >= HEADED else [Content("")] * spare
            row = None if row is None else row._replace(other_gpus=())  # the table has them
        height -= len(table)
        tall = bool(table) or height >= TALL
        others = Content.styled(view.others, WARN)
        self.set_reactive(Panel.bottom, label if label.plain or height >= TALL else others)
        dots = (width - GUTTER) * (1 if self.ascii_only else 2)
        loads: list[tuple[int, float]] = []
        if view.ended is not None:
            lines = total_lines(view.ended, view.arithmetic, width, tall=tall)
            loads = whole_history(view.ended, dots)
        elif row is None:
            lines = [line("no readings yet")]
        else:
            reading = _Reading(view, row, width, height, brief=not tall)
            lines = reading.tall() if tall else reading.short()
            if not height and reading.disk_style != TEXT:
                self.set_reactive(Panel.bottom, line("disk {}", reading.disk_free))
            loads = history(view.rows, dots) if view.trains else []
        curve = self._curve(loads, width, height - len(lines)) if tall and loads else []
        self.lines = [*table, *curve, *lines[:height]]

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


Use = tuple[float | None, float | None, float | None]
"""What of a resource the run uses, what all processes use, and what there is; None if unknown."""
UNKNOWN: Use = (None, None, None)


def resource_line(
    width: int, kept: int, name: str, figures: Content, use: Use = UNKNOWN, colour: str = TRAIN
) -> Content:
    """Return `CPU  ━━╍───  71 % of 8`: a bar if it is known how much there is, and the figures, for
    which so many cells are kept."""
    left, own, used, total = line(f"{name:<5}"), use[0] or 0.0, use[1] or 0.0, use[2]
    room = width - max(kept, figures.cell_length + 6)
    if total and room >= LEAST_BAR:
        left += bar(room, own / total, max(0.0, used - own) / total, colour=colour)
    return spread(left, figures, width)


class _Reading:
    """The lines of a reading, `width` cells each."""

    def __init__(
        self, view: MachineView, row: HardwareRow, width: int, height: int, *, brief: bool
    ) -> None:
        if not view.trains:  # all that is used is shown like a run's own
            gpu = row.gpu._replace(memory_own=row.gpu.memory_used)
            own, load = row.memory_used, row.cpu_percent
            row = row._replace(process_memory=own, process_cpu_percent=load, gpu=gpu)
        self.view, self.row, self.gpu, self.width, self.height = view, row, row.gpu, width, height
        self.card, self.brief = has_card(row), brief
        self.line = partial(resource_line, width, MORE_FIGURES if self.brief else FIGURES)
        self.memory: Use = row.process_memory, row.memory_used, row.memory_total
        if self.card:
            self.memory = self.gpu.memory_own, self.gpu.memory_used, self.gpu.memory_total
        self.disk_total = None if view.machine is None else view.machine.disk_total
        least = LITTLE_DISK * self.disk_total if self.disk_total else LITTLE_BYTES
        self.disk_style = f"bold {WARN}" if row.disk_free < least else TEXT
        self.disk_free = amount(f"{disk(row.disk_free)} free", self.disk_style)

    def short(self) -> list[Content]:
        """Return load, memory and a line of other figures, then the other GPUs."""
        row, (_, used, total) = self.row, self.memory
        left, right = Content(""), line("disk ") + self.disk_free
        if used is not None and total is not None:
            left = line("free {} GiB", (gib(total - used), BRIGHT))
        if self.card:
            left = left if self.disk_style == TEXT else right
            ram = f"{100 * row.memory_used / max(1, row.memory_total):.0f}"
            right = line("CPU {} %  RAM {} %", (f"{row.cpu_percent:.0f}", BRIGHT), (ram, BRIGHT))
        found = dict(self._resources())
        lines = [found["load"], found["memory"], spread(left, right, self.width)]
        return [*lines, *other_cards(row.other_gpus, self.width, self.height - len(lines))]

    def tall(self) -> list[Content]:
        """Return a line per resource; with many GPUs, the less important ones are left out."""
        found, cards, height = dict(self._resources()), self.row.other_gpus, self.height
        if lost(self.gpu) and self.memory[0] is None:
            del found["memory"]
        names = [name for name in LEFT_OUT if name in found]
        if self.disk_style != TEXT:
            names.remove("disk")
        rows = len(other_cards(cards, self.width, height - len(found) + len(names)))
        for name in names[: max(0, len(found) + rows - height)]:
            del found[name]
        return [*found.values(), *other_cards(cards, self.width, height - len(found))]

    def _resources(self) -> Iterator[tuple[str, Content]]:
        """Yield the lines of the tall form, each with its name; load and memory also of the short
        one."""
        view, row, gpu, (own, used, total) = self.view, self.row, self.gpu, self.memory
        cpu, process = row.cpu_percent, row.process_cpu_percent
        cores = "{} %" if view.machine is None else f"{{}} % of {view.machine.cpu_count}"
        busy = WARN if view.alarm else BRIGHT
        load = count(gpu.percent if self.card else cpu), f"bold {busy}"
        use: Use = (gpu.percent, None, 100) if self.card else (process, cpu, 100)
        if lost(gpu):
            figures, use = fault(gpu.fault, self.width - 5), UNKNOWN
        elif self.card and self.brief:
            heat = sensor(gpu, gpu.celsius, "thermal", 4)
            figures = line("{} % {} W{} °C", load, sensor(gpu, gpu.watts, "power", 3), heat)
        elif self.card:
            figures = line("{} % busy", load)
        elif self.brief and view.trains:
            figures, use = line("{} %{} % own", load, f"{process:>5.0f}"), (cpu, None, 100)
        else:
            figures = line(cores, load)
        colour = WARN if view.alarm else TRAIN
        yield "load", self.line("GPU" if self.card else "CPU", figures, use, colour)
        if view.others:
            yield "others", self._indented("{} {}", (OTHERS, THIRD), (view.others, WARN))
        elif view.trains and not self.card:
            yield "others", self._shares(process, cpu, lambda part: amount(f"{part:.0f} %"))
        yield "memory", self._memory()
        if view.trains and used is not None and total is not None:
            yield "shares", self._shares(own or 0, used, gib)
        if self.card:
            yield "CPU", self.line("CPU", line(cores, f"{cpu:.0f}"), (cpu, None, 100))
            ram = row.memory_used, row.memory_total
            yield "RAM", self.line("RAM", _of(*ram), (ram[0], None, ram[1]))
        taken, warns = (self.disk_total or 0) - row.disk_free, self.disk_style != TEXT
        use = (taken, None, self.disk_total)
        yield "disk", self.line("disk", self.disk_free, use, WARN if warns else TRAIN)
        if power := power_line(gpu, self.width):
            yield "power", power
        if view.arithmetic:
            yield "math", self.line("math", line("{}", view.arithmetic))

    def _memory(self) -> Content:
        """Return `mem  ━╍────  4.7 / 23 GiB`, with own and other memory in the short form."""
        name, (own, used, total) = "mem" if self.card else "RAM", self.memory
        if total is None or used is None:  # the driver doesn't report it: use what the run reports
            unknown = lost(self.gpu) and own is None
            figures = line("{} GiB own", (gib(own), TRAIN))
            return line("mem  –") if unknown else self.line(name, figures)
        figures = _of(used, total)
        if self.view.trains and self.brief:
            others = gib(max(0, used - (own or 0))).rjust(4)
            figures = line("{} own {} other GiB", (gib(own or 0), TRAIN), (others, THIRD))
        return self.line(name, figures, self.memory)

    def _shares(self, own: float, used: float, text: Callable[[float], object]) -> Content:
        shares = (OWN, TRAIN), text(own), (OTHERS, THIRD), text(max(0.0, used - own))
        return self._indented("{} own {}  {} other {}", *shares)

    def _indented(self, pattern: str, *values: object) -> Content:
        words = line(pattern, *values)
        return words.pad_left(max(0, min(5, self.width - words.cell_length)))


TOTALS = (
    ("GPU", "gpu_percent", "%"),
    ("CPU own", "process_cpu_percent", "%"),
    ("CPU all", "cpu_percent", "%"),
    ("mem own", "gpu_memory_own", ""),
    ("mem all", "gpu_memory_used", ""),
    ("RAM own", "process_memory", ""),
    ("RAM all", "memory_used", ""),
    ("power", "gpu_watts", "W"),
)
"""An ended run's totals: name, column and unit; memory has only a peak."""
OF_CARD = ("gpu_percent", "gpu_memory_own", "gpu_memory_used")
OF_CPU = ("process_cpu_percent", "process_memory", "memory_used")
"""Columns of load and memory of a run on a GPU and on the CPU."""


def total_lines(ended: RunSnapshot, math: str, width: int, *, tall: bool) -> list[Content]:
    """Return what an ended run used of its machine, and how long it took: in three lines, or in a
    table."""
    columns, summary, newest = ended.machine.columns, ended.summary, ended.hardware[-1]
    mean = {name: fmean(_known(band.mean) or [nan]) for name, band in columns.items()}
    peak = {name: max(_known(band.high), default=nan) for name, band in columns.items()}
    card = not (isnan(peak["gpu_percent"]) and isnan(peak["gpu_memory_own"]))
    load, own, used = OF_CARD if card else OF_CPU
    total = newest.gpu.memory_total if card else newest.memory_total
    most_used = _of(peak[used], total) if total else Content("")
    times = {event.kind: event.time for event in ended.events}
    ends = [times[kind] for kind in ("finished", "stopped", "failed") if kind in times]
    whole_time = (ends or ended.machine.time)[-1] - times.get("started", nan)
    known = summary.attempt <= 1 and whole_time >= summary.active_seconds
    training, in_all = duration(summary.active_seconds), duration(whole_time) if known else ""
    if not tall:
        first, second = ("GPU", "mem") if card else ("CPU", "RAM")
        loads = line(f"{first}  mean {{}} %", (count(mean[load]), STRONG))
        sizes = line(f"{second}  peak {{}} own", (memory(peak[own]), STRONG))
        return [
            spread(loads, line("peak {} %", count(peak[load])), width),
            spread(sizes, most_used, width),
            spread(line(f"time {training}"), line("total {}" if in_all else "{}", in_all), width),
        ]

    def row(name: str, mean: str, peak: str | Content, style: str = TEXT) -> Content:
        shown = peak if isinstance(peak, Content) else Content.styled(peak, style)
        figures = Content.assemble((mean, style), " " * max(2, 9 - shown.cell_length), shown)
        return resource_line(width, 0, name, figures)

    lines = [row("", "mean", "peak", DIM)]
    for name, column, unit in TOTALS:
        style = STRONG if column in (load, own) else TEXT
        if isnan(peak[column]) or (card and name in ("CPU all", "RAM all")):
            continue
        if unit:
            means, peaks = (f"{count(values[column])} {unit}" for values in (mean, peak))
            lines.append(row(name, means, peaks, style))
        else:
            lines.append(
                row(name, "", most_used if column == used else memory(peak[column]), style)
            )
    lines.append(row("training", "", training, STRONG))
    last = (("start to end", in_all), ("math", math))
    return [*lines, *(row(name, "", text) for name, text in last if text)]


def whole_history(ended: RunSnapshot, columns: int) -> list[tuple[int, float]]:
    """Return the load of the GPU, or of the CPU without one, over as many dot columns."""
    loads = [ended.machine.columns[name].mean for name in ("gpu_percent", "cpu_percent")]
    values = next((values for values in loads if _known(values)), loads[1])
    columns = min(columns, len(values))
    places = (((at + 1) * columns - 1) // len(values) for at in range(len(values)))
    return averaged(zip(places, values, strict=True))


def _known(values: Iterable[float]) -> list[float]:
    return [value for value in values if not isnan(value)]


# parts of lines


def _of(used: float, total: float) -> Content:
    return line(f"{{}} / {gib(total)} GiB", gib(used))


# GPUs


def sensor(gpu: GpuRow, value: float | None, limit: str, width: int = 0) -> tuple[str, str]:
    """A figure and its style: a warning while that limit slows the card down."""
    return count(value).rjust(width), WARN if limit in (gpu.throttle or "") else TEXT


def lost(gpu: GpuRow) -> bool:
    """Whether something is wrong with the card and nothing can be read from it any more."""
    return bool(gpu.fault) and gpu.percent is None and gpu.memory_used is None


def fault(text: str | None, room: int) -> Content:
    """Return what is wrong with a card, in at most `room` cells."""
    return safe_content(text or "", limit=room, newlines="show").stylize(f"bold {BAD}")


def edge(row: HardwareRow, room: int) -> Content:
    """Return what is wrong with a GPU or, if nothing is, the clock of the one that trains and what
    slows it down: `1,725 MHz  throttled: power cap`; or the highest clock.

    In less room the word, the highest clock or the clock is left out.
    """
    gpu = row.gpu
    faults = [gpu.fault] if gpu.fault and not lost(gpu) else []  # else the line of the GPU says it
    faults += [f"gpu{card.index}: {card.fault}" for card in row.other_gpus if card.fault]
    if faults:
        return fault(faults[0], room)
    clock, style = "" if gpu.clock_mhz is None else f"{count(gpu.clock_mhz)} MHz", DIM
    forms = [clock, ""]
    if gpu.throttle:
        reasons, style = safe_text(gpu.throttle, newlines="show"), WARN
        forms = [f"{clock}  throttled: {reasons}", f"{clock}  {reasons}", reasons, "throttled"]
    elif clock and gpu.clock_max_mhz:
        forms.insert(0, clock.replace("M", f"/ {count(gpu.clock_max_mhz)} M"))
    return Content.styled(next(text.strip() for text in forms if len(text.strip()) <= room), style)


def power_line(gpu: GpuRow, width: int) -> Content:
    """Return `pwr  48 / 72 W   temp 61 °C`, or what is known of it; empty if nothing is."""
    most = "" if gpu.watts_limit is None else f" / {count(gpu.watts_limit)}"
    heat = line("temp {} °C", sensor(gpu, gpu.celsius, "thermal"))
    for limit, gap in ((most, "   "), (most, "  "), ("", "  ")):
        power = line(f"pwr  {{}}{limit} W", sensor(gpu, gpu.watts, "power"))
        known = (gpu.watts, power), (gpu.celsius, heat)
        shown = Content(gap).join(part for value, part in known if value is not None)
        if shown.cell_length <= width:
            break
    return shown


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
    name = f"gpu{card.index}"
    if card.fault:
        return resource_line(width, 0, name, fault(card.fault, width - 6))
    figures = _load(card)
    if card.memory_total is not None:
        sizes = f" {gib(card.memory_used).rjust(4)} / {gib(card.memory_total)}"
        figures += line("{} GiB", sizes)
    return resource_line(width, 0, name, figures, (None, card.percent, 100))


def _load(card: GpuRow) -> Content:
    """Return ` 99 %`, with a sign behind it while the card is slowed down."""
    sign = "▼" if card.throttle else " "
    return line("{} %{}", count(card.percent).rjust(3), (sign, WARN))


def _cell(card: GpuRow, room: int) -> Content:
    """Return `gpu1  99 %▼` in `room` cells."""
    words = "lost" if card.fault == CARD_LOST else "error"
    state = Content.styled(words, f"bold {BAD}") if card.fault else _load(card)
    cell = line(f"gpu{card.index}".ljust(5)) + state
    return cell.pad_right(max(0, room - cell.cell_length))
