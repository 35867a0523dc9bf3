"""The recurrent state over a text: units × tokens as a heat map, one unit on the text, a ranking.

With 256 colours two units share a row of half blocks. With fewer, each unit has a row of columns
whose height is its value; in ASCII a row of digits and letters.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.segment import Segment
from textual.content import Content
from textual.events import Click
from textual.strip import Strip

from rnnlm_tui.schema.formatting import figure
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
from rnnlm_tui.tui.text import joined, line, padded, safe_text, segments_of, selected, sentence
from rnnlm_tui.tui.views.inspect import LayerStates, Units, tokens_of_memory
from rnnlm_tui.tui.views.token_text import token_label
from rnnlm_tui.tui.widgets.heat_strip import (
    BARS,
    PLAIN,
    Shade,
    TokenPointed,
    TokenStrip,
    has_shades,
)
from rnnlm_tui.tui.widgets.panel import Panel, first_shown

LETTERS = "dcba.1234"
"""Values in ASCII, from the most negative to the most positive."""
LABEL_CELLS = 4
LEGEND_CELLS = 20
"""Cells of the legend at the right."""
LEAST_MAP_CELLS = 24
"""Cells of the map below which the legend is dropped."""
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


class StateMapPanel(Panel):
    """Units × tokens of one layer."""

    def __init__(self, units: Units, *, id: str | None = None) -> None:
        super().__init__(title="State", id=id)
        self._units = units
        self._words, self._trouble = "", False
        self._legend_rows: list[Content] = []
        self._unit = 0
        """The followed unit when it was last drawn."""
        self._top = 0
        """The first visible unit."""
        self._first = 0
        """The first visible token."""
        self._cells = 1
        """Cells of a token."""
        self._shaded = True

    def show_words(self, words: str, *, trouble: bool = False) -> None:
        """Show a sentence while there are no states."""
        self._words, self._trouble = words, trouble
        self.redraw()

    def scroll_units(self, pages: int) -> bool:
        """Scroll by pages of units; return whether anything moved."""
        states, shown = self._units.states, self._units_shown
        last = 0 if states is None else max(0, len(states.answer.units) - shown)
        top = max(0, min(last, self._top + pages * shown))
        top -= top % self._units_a_row
        moved, self._top = top != self._top, top
        self.redraw()
        return moved

    # layout

    @property
    def _units_a_row(self) -> int:
        return 2 if self._shaded and not self.ascii_only else 1

    @property
    def _map_rows(self) -> int:
        """Rows of units: all but the axis, and the gates if there is room."""
        height, states = self.inner_size.height, self._units.states
        gates = 0 if states is None else len(states.answer.gates)
        return max(1, height - 1 - (gates if height >= gates + 5 else 0))

    @property
    def _units_shown(self) -> int:
        return self._map_rows * self._units_a_row

    def prepare(self, width: int, height: int) -> None:
        """Choose the cells of a token and the visible part, and draw it."""
        self._shaded = has_shades(self.app)
        units, states = self._units, self._units.states
        if states is None:
            self.lines, self._top = sentence(self._words, width - 4, self._trouble, indent=2), 0
            self.set_reactive(Panel.panel_title, "State")
            return
        answer = states.answer
        layers = f", layer {answer.layer + 1} of {answer.num_layers}"
        title = Content.assemble(("State", "bold"), (layers, DIM))
        self.set_reactive(Panel.panel_title, title)
        tokens = max(1, answer.tokens)
        room = self._map_cells(width)
        self._cells = max(1, min(WIDEST_TOKEN, room // tokens))
        fit = max(1, room // self._cells)
        self._first = min(max(self._first, units.cursor - fit + 1), max(0, units.cursor))
        self._first = max(0, min(self._first, tokens - fit))
        shown = self._units_shown
        if units.unit != self._unit and not self._top <= units.unit < self._top + shown:
            self._top = max(0, units.unit - shown // 2)
            self._top -= self._top % self._units_a_row
        self._unit = units.unit
        self._top = max(0, min(self._top, len(answer.units) - 1))
        self._legend_rows = []
        if room + LABEL_CELLS < width:
            self._legend_rows = self._legend_lines(states)[:height]

    def _map_cells(self, width: int) -> int:
        room = width - LABEL_CELLS
        return room - LEGEND_CELLS if room - LEGEND_CELLS >= LEAST_MAP_CELLS else room

    def _drawn_cells(self, width: int) -> int:
        """Return the cells from the first token to the legend."""
        used = len(self._tokens_shown(width)) * self._cells
        return min(max(used, LEAST_MAP_CELLS), self._map_cells(width))

    def _tokens_shown(self, width: int) -> range:
        fit = max(1, self._map_cells(width) // self._cells)
        tokens = 0 if self._units.states is None else self._units.states.answer.tokens
        return range(self._first, min(self._first + fit, tokens))

    # drawing

    def legend_within(self, room: int) -> Content | str:
        """Return `36 of 192 units, longest memory first`."""
        if self._units.states is None:
            return ""
        total = len(self._units.states.answer.units)
        first, last = self._top + 1, min(self._top + self._units_shown, total)
        span = f"{first}–{last}" if first > 1 else f"{last}"
        brief = Content.assemble((span, f"bold {BRIGHT}"), (f" of {total:,} units", DIM))
        words = Content.assemble(brief, (f", {self._units.order_words}", DIM))
        return words if words.cell_length <= room else brief

    def content_line(self, y: int, width: int) -> Strip:
        """Return a row of units, of a gate, or the axis, with the legend's row at its right."""
        states, rows, room = self._units.states, self._map_rows, self._map_cells(width)
        if states is None:
            return super().content_line(y, width)
        gates = list(states.answer.gates.items())
        if y < rows:
            cells = self._unit_row(states, y, width)
        elif y == self.inner_size.height - 1:
            cells = self._axis(width)
        else:
            cells = self._gate_row(*gates[y - rows], width) if y < rows + len(gates) else []
        if room + LABEL_CELLS >= width:
            return padded(joined(cells), width)
        legend = self._legend_rows[y] if y < len(self._legend_rows) else ""
        left = padded(joined(cells), self._drawn_cells(width) + LABEL_CELLS)
        return padded([*left, Segment("   ", ink(TEXT)), *segments_of(legend)], width)

    def _unit_row(self, states: LayerStates, y: int, width: int) -> list[Segment]:
        answer, step, unit = states.answer, self._units_a_row, self._units.unit
        place = self._top + y * step
        if place >= len(answer.units):
            return []
        label = f"{place + 1:>3} " if y % 4 == 0 else "    "
        here = place <= unit < place + step and unit > 0
        head = Segment(f"{'›' if here else ' '}{label[1:]}", ink(FOCUS if here else DIM))
        tokens = self._tokens_shown(width)
        upper = states.row(place)
        if step == 1:
            return [head, *(self._single(upper[token]) for token in tokens)]
        lower = states.row(place + 1) if place + 1 < len(answer.units) else None
        cells = []
        for token in tokens:
            under = BACKGROUND if lower is None else diverging(lower[token], 127)
            style = ink(diverging(upper[token], 127), background=under)
            cells.append(Segment("▀" * self._cells, style))
        return [head, *cells]

    def _single(self, byte: int) -> Segment:
        colour = ink(sign_colour(byte))
        if self.ascii_only:
            return Segment(sign_of(byte).ljust(self._cells), colour)
        return Segment(BARS[height_of(byte)] * self._cells, colour)

    def _gate_row(self, gate: str, values: Sequence[float], width: int) -> list[Segment]:
        """Draw a gate's mean at each token, from 0 to 1."""
        cells = [Segment(f"{gate_label(gate):<3} ", ink(DIM))]
        for token in self._tokens_shown(width):
            value = max(0.0, min(1.0, values[token]))
            sign = (
                str(min(9, int(value * 10))).ljust(self._cells)
                if self.ascii_only
                else BARS[1 + round(value * 7)] * self._cells
            )
            cells.append(Segment(sign, ink(FOCUS if token == self._units.cursor else DIM)))
        return cells

    def _axis(self, width: int) -> list[Segment]:
        """Draw the numbers of tokens, and the cursor with its token."""
        tokens, cells, cursor = self._tokens_shown(width), self._cells, self._units.cursor
        room = self._drawn_cells(width)
        row: list[tuple[int, str, bool]] = []
        if cursor in tokens:
            label = safe_text(token_label(self._units.texts[cursor]), limit=20)
            column = (cursor - tokens.start) * cells
            pointer = f"▲ {label}"
            length = Content(pointer).cell_length
            if column + length > room:
                pointer = f"{label} ▲"
                column = max(0, column + 1 - length)
            row.append((column, pointer, True))
        step = next(
            size for power in range(6) for size in (10**power, 2 * 10**power, 5 * 10**power)
            if size * cells >= TICK_CELLS
        )  # fmt: skip
        for token in tokens:
            if token and token != tokens.start and (token + 1) % step:
                continue
            column, text = (token - tokens.start) * cells, str(token + 1)
            end = column + len(text)
            if end <= room and all(
                end < at or column > at + Content(words).cell_length for at, words, _ in row
            ):
                row.append((column, text, False))
        parts, used = [Segment("tok ", ink(DIM))], 0
        for column, words, here in sorted(row):
            parts.append(Segment(" " * (column - used), ink(TEXT)))
            parts.append(Segment(words, ink(FOCUS, bold=True) if here else ink(DIM)))
            used = column + Content(words).cell_length
        return parts

    # the legend at the right

    def _legend_lines(self, states: LayerStates) -> list[Content]:
        height, scale = self.inner_size.height, states.answer.scale
        figures = self._cursor_lines(states)
        lines = self._scale_lines(scale, tall=True)
        if len(lines) + 1 + len(figures) > height:
            lines = self._scale_lines(scale, tall=False)
        gap = [Content("")] if len(lines) + 1 + len(figures) <= height else []
        return [*lines, *gap, *figures]

    def _scale_lines(self, scale: float, *, tall: bool) -> list[Content]:
        ends = (f"−{figure(scale)}", f"+{figure(scale)}")
        head = Content.styled("value of h", DIM)
        if self.ascii_only or not self._shaded or not tall:
            colours = [("█", colour) for colour in DIVERGING]
            signs = LETTERS if self.ascii_only else BARS[1:]
            row = colours if self._shaded and not self.ascii_only else [(signs, TEXT)]
            span = Content.styled(f"{ends[0]} to {ends[1]}", DIM)
            return [head, Content.assemble(*row), span]
        words = {0: ends[1], len(DIVERGING) // 2: " 0", len(DIVERGING) - 1: ends[0]}
        return [
            Content(""),
            head,
            *(
                Content.assemble(("██", colour), (f" {words.get(place, '')}", DIM))
                for place, colour in enumerate(reversed(DIVERGING))
            ),
        ]

    def _cursor_lines(self, states: LayerStates) -> list[Content]:
        """Return the figures of the layer at the cursor."""
        answer, token = states.answer, min(self._units.cursor, states.answer.tokens - 1)
        if token < 0:
            return []
        lines = [line(f"at token {token + 1:,}")]
        saturated = answer.saturated[token : token + 1]
        lines += [
            *(line("saturated {} %", f"{share * 100:.0f}") for share in saturated),
            line("|Δh| {}", figure(answer.change[token])),
            line("norm {}", figure(answer.norm[token])),
        ]
        gates = [
            line(f"{gate_label(gate)} {{}}", f"{values[token]:.2f}")
            for gate, values in answer.gates.items()
        ]
        lines += [Content("  ").join(gates[at : at + 2]) for at in range(0, len(gates), 2)]
        if states.longest is not None:
            unit, memory = states.longest
            longest = line(f"{{}} {tokens_of_memory(memory)}", f"u{unit}")
            lines += [line("longest unit"), longest]
        return lines

    def on_click(self, event: Click) -> None:
        """Report the clicked token."""
        states = self._units.states
        token = self._first + (event.x - 2 - LABEL_CELLS) // self._cells
        if states is not None and event.x >= 2 + LABEL_CELLS and token < states.answer.tokens:
            self.post_message(TokenPointed(token))


class UnitStrip(TokenStrip, can_focus=False):
    """The text, each token coloured by the activation of one unit after it was read."""

    CURSOR = BRIGHT

    def __init__(self, units: Units, *, id: str | None = None) -> None:
        super().__init__(title="Unit", id=id)
        self._units = units
        self._values: Sequence[int] = ()
        """Signed bytes, one a token."""

    def update(self) -> None:
        """Show the followed unit, with the cursor where it is now."""
        units, states = self._units, self._units.states
        self._values = () if states is None else states.row(units.unit)
        self.cursor = units.cursor
        self.show_tokens(units.texts if self._values else (), units.prompt_tokens)

    def prepare(self, width: int, height: int) -> None:
        """Name the unit in the title."""
        super().prepare(width, height)
        units, states = self._units, self._units.states
        self.set_reactive(Panel.legend, "")
        if states is None or not self._values:
            return
        name, layer = (
            f"Unit u{states.answer.units[units.unit]}",
            f", layer {states.answer.layer + 1}",
        )
        self.set_reactive(Panel.panel_title, Content.assemble((name, "bold"), (layer, DIM)))
        if units.cursor < len(self._values):
            value = f"{states.value(units.unit, units.cursor):+.2f}".replace("-", "−")
            bright = Content.styled(value, f"bold {BRIGHT}")
            self.set_reactive(Panel.legend, line("at the cursor {}", bright))

    def shade(self, token: int) -> Shade:
        """Return colour and bar by the unit's activation."""
        if token >= len(self._values):
            return PLAIN
        value = self._values[token]
        colour = diverging(value, 127)
        return Shade(
            colour,
            height_of(value),
            sign_of(value),
            sign_colour(value) if not self._shaded else colour,
            dark_text=colour in (DIVERGING[0], DIVERGING[1], DIVERGING[-2], DIVERGING[-1]),
        )

    def scale(self, *, wide: bool) -> Content:
        """Return `−1 … +1` in colours, or as columns or letters."""
        states = self._units.states
        size = figure(1.0 if states is None else states.answer.scale)
        ends = (f"−{size} ", f" +{size}")
        if self.ascii_only:
            return Content.assemble((ends[0], DIM), (LETTERS, TEXT), (ends[1], DIM))
        middle = (
            [("██" if wide else "█", colour) for colour in DIVERGING]
            if self._shaded
            else [(BARS[1:], TEXT)]
        )
        return Content.assemble((ends[0], DIM), *middle, (ends[1], DIM))


class UnitList(Panel):
    """The units in their order, with what they were sorted by; one is selected."""

    LEFT_PADDING = 0

    def __init__(self, units: Units, *, id: str | None = None) -> None:
        super().__init__(title="Units", id=id)
        self._units = units
        self._top = 0

    @property
    def page_rows(self) -> int:
        """Units that fit."""
        return max(1, self.inner_size.height)

    def prepare(self, width: int, height: int) -> None:
        """Lay out the visible units."""
        self.lines = []
        self.set_reactive(Panel.legend, "")
        if self._units.states is None:
            return
        answer, unit = self._units.states.answer, self._units.unit
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
            self.lines.append(selected(row, width) if here else row)
