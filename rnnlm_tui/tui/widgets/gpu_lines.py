"""GPUs in the machine panel: power, clock, what slows a card down or is wrong, the other cards."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan
from typing import TYPE_CHECKING

from textual.content import Content

from rnnlm_tui.schema.formatting import NOTHING, counted, gib
from rnnlm_tui.schema.metrics import CARD_LOST
from rnnlm_tui.tui.palette import BAD, BRIGHT, DIM, TEXT, WARN
from rnnlm_tui.tui.text import bar, safe_content, safe_text, spread

if TYPE_CHECKING:
    from rnnlm_tui.schema.metrics import GpuRow, HardwareRow

LEAST_BAR = 3
WITH_POWER = 46
"""Inner width from which the other cards' lines have power and temperature."""
SHARED = ((2, True), (2, False), (3, False))
"""How cards share a line if there is no line for each: how many, and whether with memory."""
LONG_CELL, SHORT_CELL = 17, 11
"""Cells of a card that shares its line, with and without memory."""


def whole(value: float | None) -> str:
    """A number without decimals, or a dash."""
    return NOTHING if value is None or isnan(value) else f"{value:,.0f}"


def watts_style(gpu: GpuRow) -> str:
    """The style of a power draw: a warning while the limit slows the card down."""
    return WARN if gpu.throttle and "power" in gpu.throttle else TEXT


def celsius_style(gpu: GpuRow) -> str:
    """The style of a temperature: a warning while it slows the card down."""
    return WARN if gpu.throttle and "thermal" in gpu.throttle else TEXT


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
    heat = Content.assemble((whole(gpu.celsius), celsius_style(gpu)), (" °C", DIM))
    if gpu.watts is None:
        return None if gpu.celsius is None else Content.assemble(("temp ", DIM), heat)
    limit = "" if gpu.watts_limit is None else f" / {whole(gpu.watts_limit)}"
    parts = ("pwr  ", DIM), (whole(gpu.watts), watts_style(gpu))
    power = Content.assemble(*parts, (f"{limit} W", DIM))
    if gpu.celsius is None:
        return power
    heat = Content.assemble(("temp ", DIM), heat)
    if power.cell_length + 2 + heat.cell_length > width:
        power = Content.assemble(*parts, (" W", DIM))
    gap = 3 if power.cell_length + 3 + heat.cell_length <= width else 2
    return Content.assemble(power, " " * gap, heat)


def card_rows(count: int, width: int, most: int) -> int:
    """Lines that `count` other GPUs need, of at most `most`."""
    return min(count, most) if count <= most else _shared(count, width, most)[0]


def _shared(count: int, width: int, most: int) -> tuple[int, int, bool]:
    """Lines for cards that share them, how many do, and whether with memory; 1, 0: all do."""
    for each, long in SHARED:
        rows = -(-count // each)
        if rows <= most and each * (LONG_CELL if long else SHORT_CELL) <= width + 1:
            return rows, each, long
    return 1, 0, False


def other_cards(cards: Sequence[GpuRow], width: int, height: int) -> list[Content]:
    """Return a line per other GPU; if they don't fit, two or three share a line, or all one."""
    if not cards or height < 1:
        return []
    if len(cards) <= height:
        return [_line(card, width) for card in cards]
    rows, each, long = _shared(len(cards), width, height)
    if not each:
        return [_together(cards, width)]
    room = width // each
    return [
        Content.assemble(*(_cell(card, room, long=long) for card in cards[row::rows]))
        for row in range(rows)
    ]


def _line(card: GpuRow, width: int) -> Content:
    name = f"gpu{card.index}".ljust(5)
    if lost(card):
        return spread(Content.styled(name, DIM), fault(card.fault, width - 6), width)
    figures = _load(card)
    if card.memory_total is not None:
        sizes = f" {gib(card.memory_used).rjust(4)} / {gib(card.memory_total)}"
        figures += Content.assemble((sizes, TEXT), (" GiB", DIM))
    if width >= WITH_POWER and (card.watts is not None or card.celsius is not None):
        figures += Content.assemble(
            (f"{whole(card.watts):>5}", watts_style(card)), (" W", DIM),
            (f"{whole(card.celsius):>5}", celsius_style(card)), (" °C", DIM),
        )  # fmt: skip
    if card.fault:
        figures += Content.styled(f"  {card.fault}", BAD)
    room = width - len(name) - figures.cell_length - 1
    if room < LEAST_BAR:
        return spread(Content.styled(name, DIM), figures, width)
    load = None if card.percent is None else card.percent / 100
    shares = bar(room, 0.0, load or 0.0)
    return spread(Content.assemble((name, DIM), shares), figures, width)


def _load(card: GpuRow) -> Content:
    """Return ` 99 %`, with a sign behind it while the card is slowed down."""
    sign = "▼" if card.throttle else " "
    return Content.assemble((whole(card.percent).rjust(3), TEXT), (" %", DIM), (sign, WARN))


def _cell(card: GpuRow, room: int, *, long: bool) -> Content:
    """Return `gpu1  99 %   42 G` or, unless `long`, without memory, in `room` cells."""
    cell = Content.styled(f"gpu{card.index}".ljust(5), DIM)
    if card.fault:
        words = "lost" if card.fault == CARD_LOST else "error"
        cell += Content.styled(words, f"bold {BAD}")
    else:
        cell += _load(card)
        if long and card.memory_used is not None:
            cell += Content.assemble((gib(card.memory_used).rjust(4), TEXT), (" G", DIM))
    return cell.pad_right(max(0, room - cell.cell_length))


def _together(cards: Sequence[GpuRow], width: int) -> Content:
    """Return `7 more GPUs        40 % busy`, or how many of them have a problem."""
    known = [card.percent for card in cards if card.percent is not None]
    load = whole(sum(known) / len(known) if known else None)
    name = Content.styled(counted(len(cards), "more GPU"), DIM)
    faults = sum(card.fault is not None for card in cards)
    slowed = sum(bool(card.throttle) for card in cards)
    if faults:
        words = Content.styled(f"{faults} failed", f"bold {BAD}")
    elif slowed:
        words = Content.styled(f"{slowed} throttled", WARN)
    else:
        words = Content("")
    busy = Content.assemble((load, BRIGHT if slowed or faults else TEXT), (" % busy", DIM))
    left = Content.assemble(name, "  ", words) if words.plain else name
    return spread(left if left.cell_length + busy.cell_length < width else words, busy, width)
