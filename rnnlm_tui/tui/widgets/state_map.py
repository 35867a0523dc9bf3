"""The recurrent state over a text: units × tokens as a heat map, one unit on the text, a ranking.

With 256 colours two units share a row of half blocks. With fewer, each unit has a row of columns
whose height is its value; in ASCII a row of digits and letters.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import itemgetter

from rich.segment import Segment
from textual.content import Content
from textual.events import Click

from rnnlm_tui.schema.formatting import figure
from rnnlm_tui.schema.sampling import StateMap
from rnnlm_tui.tui.palette import (
    BACKGROUND,
    BRIGHT,
    DIM,
    DIVERGING,
    FOCUS,
    TEXT,
    VALIDATION,
    diverging,
    ink,
)
from rnnlm_tui.tui.text import line, padded, safe_text, segments_of, selected, sentence
from rnnlm_tui.tui.views.inspect import Units, token_label, tokens_of_memory
from rnnlm_tui.tui.widgets.heat_strip import BARS, Shade, TokenPointed, TokenStrip, has_shades
from rnnlm_tui.tui.widgets.panel import Label, Panel, first_shown

LETTERS = "dcba.1234"
"""Values in ASCII, from the most negative to the most positive."""
LABEL_CELLS = 4
LEGEND_CELLS = 20
"""Cells of the legend at the right."""
LEAST_MAP_CELLS = 24
"""Fewest cells between the left edge and the legend."""
WIDEST_TOKEN = 4
"""Most cells of a token in the map."""
TICK_CELLS = 9
"""Least distance of two ticks."""
GATE_LABELS = {"input": "in", "forget": "fgt", "output": "out", "update": "upd", "reset": "rst"}


def height_of(byte: int) -> int:
    """Return a value's height in eighths of a column, from 1 for -127 to 8 for 127."""
    return 1 + round((max(-127, byte) / 127 + 1) / 2 * 7)


def sign_of(byte: int) -> str:
    """Return a value in ASCII: `d` to `a` negative, `.` near 0, `1` to `4` positive."""
    return LETTERS[min(int((max(-127, byte) / 127 + 1) / 2 * len(LETTERS)), len(LETTERS) - 1)]


def gate_label(gate: str) -> str:
    """Return a gate's name in three letters."""
    return GATE_LABELS.get(gate, gate)[:3]


def sign_colour(byte: int) -> str:
    """Return the colour of a value where shades can't be shown."""
    if abs(byte) < 127 / len(DIVERGING):
        return DIM
    return VALIDATION if byte > 0 else FOCUS


def value_signs(cell: str, *, shaded: bool, ascii_only: bool) -> Content:
    """Return the signs or colours of all values, from the most negative to the most positive."""
    if ascii_only or not shaded:
        return Content.styled(LETTERS if ascii_only else BARS[1:], TEXT)
    return Content.assemble(*((cell, colour) for colour in DIVERGING))


class StateMapPanel(Panel):
    """Units × tokens of one layer, the means of its gates, and the numbers of the tokens."""

    def __init__(self, units: Units, *, id: str | None = None) -> None:
        super().__init__(title="State", id=id)
        self._units = units
        self._words, self._trouble = "", False
        self._unit = 0
        """The followed unit when it was last drawn."""
        self._top = 0
        """The first visible unit."""
        self._shown = 1
        """Units that fit."""
        self._unit_rows: tuple[object, list[list[Segment]]] = (None, [])
        """What the rows of units were drawn from; a move of the cursor draws no other ones."""
        self._tokens = range(0)
        """The visible tokens."""
        self._cells = 1
        """Cells of a token."""
        self._each = 2
        """Units in a row."""

    def show_words(self, words: str, *, trouble: bool = False) -> None:
        """Show a sentence while there are no states."""
        self._words, self._trouble = words, trouble
        self.redraw()

    def scroll_units(self, pages: int) -> bool:
        """Scroll by pages of units; return whether anything moved."""
        before, states = self._top, self._units.states
        last = 0 if states is None else max(0, len(states.units) - self._shown)
        self._top = max(0, min(last, self._top + pages * self._shown)) // self._each * self._each
        self.redraw()
        return self._top != before

    def prepare(self, width: int, height: int) -> None:
        """Choose the cells of a token and the visible part, and draw it."""
        units, states = self._units, self._units.states
        if states is None:
            self.lines, self._top = sentence(self._words, width - 4, self._trouble, indent=2), 0
            self.set_reactive(Panel.panel_title, "State")
            return
        cursor = units.cursor
        title = f"State, layer {states.layer + 1} of {states.num_layers}"
        if not states.is_state:
            title = f"Output of block {states.layer + 1} (a transformer has no state)"
        self.set_reactive(Panel.panel_title, title)
        self._each = 2 if has_shades(self.app) and not self.ascii_only else 1
        room = max(1, width - LABEL_CELLS - LEGEND_CELLS)
        self._cells = max(1, min(WIDEST_TOKEN, room // max(1, states.tokens)))
        fit = max(1, room // self._cells)
        first = min(max(self._tokens.start, cursor - fit + 1), cursor)
        first = max(0, min(first, states.tokens - fit))
        self._tokens = range(first, min(first + fit, states.tokens))
        cells = min(max(len(self._tokens) * self._cells, LEAST_MAP_CELLS), room)

        gates = states.gates if height >= len(states.gates) + 5 else {}
        rows = max(1, height - 1 - len(gates))
        self._shown = rows * self._each
        if units.unit != self._unit and not 0 <= units.unit - self._top < self._shown:
            self._top = max(0, units.unit - self._shown // 2) // self._each * self._each
        self._unit, self._top = units.unit, max(0, min(self._top, len(states.units) - 1))
        drawn = (states.id, self._top, self._tokens, self._cells, self._each, self._unit, rows)
        if drawn != self._unit_rows[0]:
            self._unit_rows = (drawn, [self._unit_row(states, row) for row in range(rows)])
        gate_rows = [self._gate_row(gate, values) for gate, values in gates.items()]
        drawn_rows = [*self._unit_rows[1], *gate_rows, self._axis(cells)]
        beside = [*self._legend(states, height), *[Content("")] * height]
        self.lines = [
            [*padded(row, LABEL_CELLS + cells), Segment("   "), *segments_of(words)]
            for row, words in zip(drawn_rows, beside, strict=False)
        ]

    def legends(self) -> Iterable[Label]:
        """Return `36 of 192 units, longest memory first`."""
        if self._units.states is None:
            return ()
        total = len(self._units.states.units)
        first, last = self._top + 1, min(self._top + self._shown, total)
        span = f"{first}–{last}" if first > 1 else f"{last}"
        brief = line(f"{{}} of {total:,} units", (span, f"bold {BRIGHT}"))
        return Content.assemble(brief, (f", {self._units.order_words}", DIM)), brief

    def _unit_row(self, states: StateMap, row: int) -> list[Segment]:
        total, unit = len(states.units), self._units.unit
        place = self._top + row * self._each
        if place >= total:
            return []
        label = f"{place + 1:>3} " if row % 4 == 0 else "    "
        here = place <= unit < place + self._each and unit > 0
        head = Segment(f"{'›' if here else ' '}{label[1:]}", ink(FOCUS if here else DIM))
        upper = self._units.row(place)
        if self._each == 1:
            return [head, *(self._single(upper[token]) for token in self._tokens)]
        lower = self._units.row(place + 1) if place + 1 < total else None
        cells = []
        for token in self._tokens:
            under = BACKGROUND if lower is None else diverging(lower[token], 127)
            style = ink(diverging(upper[token], 127), background=under)
            cells.append(Segment("▀" * self._cells, style))
        return [head, *cells]

    def _single(self, byte: int) -> Segment:
        sign = sign_of(byte).ljust(self._cells) if self.ascii_only else ""
        return Segment(sign or BARS[height_of(byte)] * self._cells, ink(sign_colour(byte)))

    def _gate_row(self, gate: str, values: Sequence[float]) -> list[Segment]:
        """Draw a gate's mean at each token, from 0 to 1."""
        row = [Segment(f"{gate_label(gate):<3} ", ink(DIM))]
        for token in self._tokens:
            value = max(0.0, min(1.0, values[token]))
            digit = str(min(9, int(value * 10))).ljust(self._cells) if self.ascii_only else ""
            sign = digit or BARS[1 + round(value * 7)] * self._cells
            row.append(Segment(sign, ink(FOCUS if token == self._units.cursor else DIM)))
        return row

    def _axis(self, room: int) -> list[Segment]:
        """Draw the numbers of tokens, and the cursor with its token."""
        tokens, cells, cursor = self._tokens, self._cells, self._units.cursor
        row, column, pointer = " " * room, 0, Segment("")
        if cursor in tokens:
            label = safe_text(token_label(self._units.texts[cursor]), limit=20)
            column, length = (cursor - tokens.start) * cells, Content(label).cell_length + 2
            fits = column + length <= room
            column = column if fits else max(0, column + 1 - length)
            pointer = Segment(f"▲ {label}" if fits else f"{label} ▲", ink(FOCUS, bold=True))
            row = row[:column] + "▲" * length + row[column + length :]
        step = next(
            size for power in range(6) for size in (10**power, 2 * 10**power, 5 * 10**power)
            if size * cells >= TICK_CELLS
        )  # fmt: skip
        for token in tokens:
            at, text = (token - tokens.start) * cells, str(token + 1)
            end = at + len(text)
            free = end <= room and not row[max(0, at - 1) : end + 1].strip()
            if free and (token == tokens.start or not (token + 1) % step):
                row = row[:at] + text + row[end:]
        after = row[column + pointer.cell_length :]
        return [Segment(f"tok {row[:column]}", ink(DIM)), pointer, Segment(after, ink(DIM))]

    # the legend at the right

    def _legend(self, states: StateMap, height: int) -> list[Content]:
        figures = self._figures(states)
        room = height - len(figures) - 1
        scale = self._scale(states.scale, tall=len(DIVERGING) + 2 <= room)
        gap = [Content("")] if len(scale) <= room else []
        return [*scale, *gap, *figures]

    def _scale(self, scale: float, *, tall: bool) -> list[Content]:
        low, high = f"−{figure(scale)}", f"+{figure(scale)}"
        head, shaded = line("value of h"), self._each == 2
        if not tall or not shaded:
            signs = value_signs("█", shaded=shaded, ascii_only=self.ascii_only)
            return [head, signs, line(f"{low} to {high}")]
        words = (high, "", "", "", " 0", "", "", "", low)
        rows = zip(reversed(DIVERGING), words, strict=True)
        swatches = [Content.assemble(("██", colour), (f" {word}", DIM)) for colour, word in rows]
        return [Content(""), head, *swatches]

    def _figures(self, states: StateMap) -> list[Content]:
        """Return the figures of the layer at the cursor."""
        token = min(self._units.cursor, states.tokens - 1)
        if token < 0:
            return []
        saturated = states.saturated[token : token + 1]
        lines = [
            line(f"at token {token + 1:,}"),
            *(line("saturated {} %", f"{share * 100:.0f}") for share in saturated),
            line("|Δh| {}", figure(states.change[token])),
            line("norm {}", figure(states.norm[token])),
        ]
        gates = [
            line(f"{gate_label(gate)} {{}}", f"{values[token]:.2f}")
            for gate, values in states.gates.items()
        ]
        lines += [Content("  ").join(gates[at : at + 2]) for at in range(0, len(gates), 2)]
        if states.memory:
            memory, unit = max(zip(states.memory, states.units, strict=True), key=itemgetter(0))
            lines += [line("longest unit"), line(f"{{}} {tokens_of_memory(memory)}", f"u{unit}")]
        return lines

    def on_click(self, event: Click) -> None:
        """Report the clicked token."""
        column = event.x - 2 - LABEL_CELLS
        token = self._tokens.start + column // self._cells
        if column >= 0 and token in self._tokens:
            self.post_message(TokenPointed(token))


class UnitStrip(TokenStrip, can_focus=False):
    """The text, each token coloured by the activation of one unit after it was read."""

    CURSOR = BRIGHT

    def __init__(self, units: Units, *, id: str) -> None:
        super().__init__("Unit", id=id)
        self._units = units

    def update(self) -> None:
        """Show the followed unit, with the cursor where it is now."""
        units, states, values = self._units, self._units.states, self._units.row(self._units.unit)
        self.cursor = units.cursor
        title, legend = "Unit", Content("")
        if states is not None and values:
            title = f"Unit u{states.units[units.unit]}, layer {states.layer + 1}"
            if units.cursor < len(values):
                value = values[units.cursor] / 127 * states.scale
                words = f"{value:+.2f}".replace("-", "−")
                legend = line("at the cursor {}", (words, f"bold {BRIGHT}"))
        self.set_reactive(Panel.panel_title, title)
        self.set_reactive(Panel.legend, legend)
        self.show(units.texts if values else (), units.prompt_tokens, values)

    def shade_of(self, value: float | None) -> Shade:
        """Return colour and bar by the unit's activation, as a signed byte."""
        byte = int(value or 0)
        colour = diverging(byte, 127)
        dark = colour in (*DIVERGING[:2], *DIVERGING[-2:])
        bar_colour = colour if self.shaded else sign_colour(byte)
        return Shade(colour, height_of(byte), sign_of(byte), bar_colour, dark)

    def scale(self, *, wide: bool) -> Content:
        """Return `−1 … +1` in colours, or as columns or letters."""
        states = self._units.states
        size = figure(1.0 if states is None else states.scale)
        cell = "██" if wide else "█"
        signs = value_signs(cell, shaded=self.shaded, ascii_only=self.ascii_only)
        return line(f"−{size} {{}} +{size}", signs)


class UnitList(Panel):
    """The units in their order, with what they were sorted by; one is selected."""

    LEFT_PADDING = 0

    def __init__(self, units: Units, *, id: str | None = None) -> None:
        super().__init__(title="Units", id=id)
        self._units = units
        self._top = 0

    def prepare(self, width: int, height: int) -> None:
        """Lay out the visible units."""
        self.lines = lines = list[Content]()
        self.set_reactive(Panel.legend, "")
        if self._units.states is None:
            return
        answer, unit = self._units.states, self._units.unit
        self.set_reactive(Panel.legend, "match     memory" if answer.match else "memory")
        self._top = first_shown(self._top, unit, height, len(answer.units))
        for place in range(self._top, min(self._top + height, len(answer.units))):
            here = place == unit
            match = f"{answer.match[place]:>6.2f}" if answer.match else ""
            memory = tokens_of_memory(answer.memory[place]) if answer.memory else ""
            name = f"u{answer.units[place]:<5}"
            row = Content.assemble(
                ("›" if here else " ", FOCUS),
                (name, f"bold {BRIGHT}" if here else TEXT),
                (match, TEXT),
                (memory.rjust(width - 1 - len(name) - len(match)), DIM),
            )
            lines.append(selected(row, width) if here else row)
