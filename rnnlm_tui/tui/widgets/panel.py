"""Panels and lines that repaint only the rows that changed.

A panel has a thin round border, with title and legend in the top edge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar, NamedTuple

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style as RichStyle
from textual import on
from textual.color import Color
from textual.containers import Container
from textual.content import Content
from textual.events import MouseScrollDown, MouseScrollUp
from textual.filter import LineFilter
from textual.geometry import Region, Size
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Static

from rnnlm_tui.tui.palette import BACKGROUND, BORDER, BRIGHT, DIM, FOCUS, TEXT, ink
from rnnlm_tui.tui.text import Label, joined, padded, safe_content, segments_of, width_of

__all__ = ["Label", "padded", "segments_of", "width_of"]

Labels = Sequence[tuple[int, Sequence[Segment]]]
"""Labels in an edge: the first column and the text of each."""


def title_content(title: Label, focused: bool) -> Content:
    """Style a title: bold, the focus colour if focused, dim after a comma (`Perplexity, log`)."""
    colour = FOCUS if focused else BRIGHT
    if isinstance(title, Content):
        return title.stylize_before(colour)
    head, comma, rest = safe_content(title, newlines="space").plain.partition(", ")
    return Content.assemble((head, f"bold {colour}"), (comma + rest, DIM))


def edge(width: int, labels: Labels, colour: str, *, top: bool = False) -> Strip:
    """Draw `╰─ text ── text ──╯` with labels; `top` draws the edge above.

    A label that would touch another or a corner is left out. In the lower edge, the blanks around a
    label have its background.
    """
    style, (start, end) = ink(colour), "╭╮" if top else "╰╯"
    if width < 2:
        return padded([Segment("─" * width, style)] if width else [], width)
    parts, at = [Segment(start, style)], 1
    for column, label in sorted(labels, key=lambda item: item[0]):
        used = width_of(label)
        if not used or column - 1 < at or column + used + 1 > width - 1:
            continue
        if column - 1 > at:
            parts.append(Segment("─" * (column - 1 - at), style))
        lit = not top and label[0].style and label[0].style.bgcolor
        blank = Segment(" ", label[0].style if lit else style)
        parts += [blank, *label, blank]
        at = column + used + 1
    return Strip(joined([*parts, Segment("─" * (width - 1 - at) + end, style)]), width)


def cells_in(label: Label) -> int:
    """Return how wide a label is."""
    return label.cell_length if isinstance(label, Content) else cell_len(label)


def first_shown(top: int, at: int, room: int, count: int) -> int:
    """The first of the `room` shown rows, as near to `top` as the row `at` and the end allow."""
    return max(min(top, at, count - room), at - room + 1, 0)


class Look(NamedTuple):
    """What a panel's rows have in common on their way to the terminal."""

    background: Color
    line_filter: LineFilter

    def of(self, row: Strip) -> Strip:
        """Return a row as it is sent."""
        under = RichStyle(color=TEXT, bgcolor=self.background.rich_color)
        return row.apply_style(under).apply_filter(self.line_filter, self.background)


class Panel(Widget):
    """A panel that draws itself line by line and repaints only the rows that changed.

    A subclass sets lines and labels in `prepare`, and calls `redraw()` after changes.
    """

    DEFAULT_CSS = "Panel { width: 1fr; height: 1fr; }"
    LEFT_PADDING: ClassVar[int] = 1
    """Blanks left of the lines; 0 for a table whose first cell is the cursor's."""

    panel_title: reactive[Label] = reactive("", init=False, repaint=False)
    """At the left of the top edge."""
    legend: reactive[Label] = reactive("", init=False, repaint=False)
    """At the right of the top edge: the current values."""
    bottom: reactive[Label] = reactive("", init=False, repaint=False)
    """Text in the bottom edge."""
    bottom_right: Label = ""
    """Text at the right of the bottom edge."""
    hidden = (0, 0)
    """How many lines are out of view, above and below: the bottom edge says so if it has no text.
    """
    highlighted: reactive[bool] = reactive(False, init=False, repaint=False)
    """Show the focus colour without having the focus."""

    ascii_only = False
    """Whether charts are drawn in ASCII; the app's line filter translates all other signs."""

    def __init__(self, *, title: Label = "", legend: Label = "", id: str | None = None) -> None:
        super().__init__(id=id)
        self._drawn_strips: list[Strip] = []
        self._drawn_for = Size(0, 0)
        self._framed_rows: list[tuple[tuple[object, ...], Strip]] = []
        """The inner rows, each with what it was made of: most stay the same."""
        self.lines: Sequence[Content | Sequence[Segment]] = ()
        """The inner lines."""
        self.set_reactive(Panel.panel_title, title)
        self.set_reactive(Panel.legend, legend)

    def prepare(self, width: int, height: int) -> None:
        """Set the lines, `width` cells without border and padding, and what the edges say."""

    def legends(self) -> Iterable[Label]:
        """Return the legend in several forms, of which the first that fits is shown."""
        return (self.legend,)

    def bottom_labels(self, width: int) -> Labels:
        """Return the labels in the bottom edge."""
        ends = zip("↑↓", self.hidden, strict=True)
        signs = [f"{sign} {count} more" for sign, count in ends if count > 0]
        left, right = segments_of(self.bottom or "  ".join(signs)), segments_of(self.bottom_right)
        return [(3, left), (width - 3 - width_of(right), right)]

    @property
    def inner_size(self) -> Size:
        """Size without border and padding."""
        return Size(max(self.size.width - 3 - self.LEFT_PADDING, 0), max(self.size.height - 2, 0))

    @property
    def shows_focus(self) -> bool:
        """Whether the border has the focus colour."""
        return self.has_focus or self.highlighted

    def redraw(self) -> None:
        """Draw all lines and repaint the rows that changed; of them, changed cells are sent."""
        size = self.size
        if not self.is_attached or not self.display or not size or self._drawn_for != size:
            # nothing of this size is on screen yet
            self.draw_later()
            return
        old = self._drawn_strips
        self._draw()
        for y, (before, after) in enumerate(zip(old, self._drawn_strips, strict=True)):
            if before != after:
                self.refresh(Region(0, y, size.width, 1))

    def draw_later(self) -> None:
        """Draw at Textual's next paint only: the panel gets another size."""
        self._drawn_for = Size(0, 0)

    def render_lines(self, crop: Region) -> list[Strip]:
        """Return the rows in `crop`.

        Textual would add CSS borders, padding and effects row by row; a panel has none of them.
        """
        if self._drawn_for != self.size:
            self._draw()
        return [row.crop(*crop.column_span) for row in self._drawn_strips[crop.y : crop.bottom]]

    def _draw(self) -> None:
        size, inner = self.size, self.inner_size
        width, look = size.width, Look(self.background_colors[1], *self.get_line_filters())
        self.prepare(*inner)
        colour = FOCUS if self.shows_focus else BORDER
        title = title_content(self.panel_title, self.shows_focus)
        title = title.truncate(max(width - 6, 0), ellipsis=True)
        room = width - 7 - (title.cell_length + 2 if title else 0)
        legend = segments_of(next((one for one in self.legends() if cells_in(one) <= room), ""))
        before, self._framed_rows = self._framed_rows, []
        for y in range(inner.height):
            line = self.lines[y] if y < len(self.lines) else ()
            parts = segments_of(line, TEXT) if isinstance(line, Content) else line
            made_of = (parts, inner.width, width, colour, look)
            same = y < len(before) and before[y][0] == made_of
            self._framed_rows.append(before[y] if same else (made_of, self._framed(*made_of)))
        heads = [(3, segments_of(title)), (width - 3 - width_of(legend), legend)]
        top = look.of(edge(width, heads, colour, top=True))
        bottom = look.of(edge(width, self.bottom_labels(width), colour))
        self._drawn_strips = [top, *(row for _, row in self._framed_rows), bottom][: size.height]
        self._drawn_for = size

    def _framed(
        self, parts: Sequence[Segment], inner: int, width: int, colour: str, look: Look
    ) -> Strip:
        style = ink(colour)
        if width < 4:
            return look.of(padded([Segment("│" * min(width, 2), style)], width))
        left = Segment(f"│{' ' * self.LEFT_PADDING}", style)
        row = joined([left, *padded(parts, inner), Segment(" │", style)])
        return look.of(Strip(row, width))

    def on_mount(self) -> None:
        """Take the app's choice of ASCII."""
        self.ascii_only = getattr(self.app, "ascii_only", False)

    def watch_has_focus(self, has_focus: bool) -> None:
        """Show the focus in the border."""
        super().watch_has_focus(has_focus)
        self.redraw()

    watch_panel_title = watch_legend = watch_bottom = watch_highlighted = redraw


LayOut = Callable[[int, int], list[Content]]
"""Returns lines for a width and a height."""


class LinesPanel(Panel):
    """Lines that depend on the room for them."""

    def __init__(self, title: Label, *, id: str) -> None:
        super().__init__(title=title, id=id)
        self._lay_out: LayOut = lambda _width, _height: []

    def show(self, lay_out: LayOut, legend: Label = "") -> None:
        """Show the lines that `lay_out` returns for a width and a height."""
        self._lay_out = lay_out
        self.set_reactive(Panel.legend, legend)
        self.redraw()

    def prepare(self, width: int, height: int) -> None:
        """Lay out all lines."""
        self.lines = self._lay_out(width, height)


class WheelScrolled(Panel):
    """A panel that the mouse wheel scrolls."""

    WHEEL_LINES: ClassVar[int] = 3

    def scroll_lines(self, by: int) -> None:
        """Scroll down, or up if negative; for a subclass."""

    @on(MouseScrollDown)
    @on(MouseScrollUp)
    def scroll_by_wheel(self, event: MouseScrollDown | MouseScrollUp) -> None:
        event.stop()
        down = isinstance(event, MouseScrollDown)
        self.scroll_lines(self.WHEEL_LINES if down else -self.WHEEL_LINES)


class ScrolledPanel(WheelScrolled):
    """A panel that shows the rows from `top` on, of as many as `row_count` says."""

    top = 0
    """The first visible row."""
    row_count = 0
    """All rows, also those out of view."""

    @property
    def last_top(self) -> int:
        """The first visible row when scrolled to the end."""
        return max(0, self.row_count - max(1, self.inner_size.height))

    def scroll_lines(self, by: int) -> None:
        self.show_from(self.top + by)

    def show_from(self, top: int) -> None:
        """Scroll to this row, or as near as there are rows."""
        self.top = max(0, min(top, self.last_top))
        self.redraw()


class TitledContainer(Container):
    """A container of widgets in the same frame, in the focus colour while it contains the focus."""

    DEFAULT_CSS = f"""
    TitledContainer {{
        border: round {BORDER}; padding: 0 1;
        &.-highlighted {{ border: round {FOCUS}; }}
    }}
    """
    # `:focus-within` would work out all styles inside again whenever the focus moves

    panel_title: reactive[Label] = reactive("", init=False, repaint=False)
    """At the left of the top edge."""
    legend: reactive[Label] = reactive("", init=False, repaint=False)
    """At the right of the top edge."""

    def __init__(
        self,
        *children: Widget,
        title: Label = "",
        legend: Label = "",
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        super().__init__(*children, id=id, classes=classes)
        self.set_reactive(TitledContainer.panel_title, title)
        self.set_reactive(TitledContainer.legend, legend)

    @property
    def _colour(self) -> str:
        return FOCUS if self.has_focus_within or self.has_class("-highlighted") else BORDER

    def _show_edge(self) -> None:
        """Show title and legend as the one label that Textual allows for an edge."""
        colour, room, legend = self._colour, self.outer_size.width - 6, self.legend
        title = title_content(self.panel_title, colour == FOCUS)
        if isinstance(legend, str):
            legend = safe_content(legend, newlines="space").stylize(DIM)
        gap = room - title.cell_length - legend.cell_length - 2
        if legend and gap > 0:
            title = Content.assemble(title, " ", ("─" * gap, colour), " ", legend)
        self.border_title = title.truncate(max(room, 0), ellipsis=True)

    on_resize = watch_panel_title = watch_legend = _show_edge

    def _follow_focus(self) -> None:
        if self.styles.border_top != ("round", Color.parse(self._colour)):
            self.styles.border = ("round", self._colour)
            self._show_edge()  # draws all inside again

    on_descendant_focus = on_descendant_blur = _follow_focus


class Line(Static):
    """Text of a line, or of several, that doesn't wrap."""

    DEFAULT_CSS = f"""
    Line {{
        height: 1; width: 100%; background: {BACKGROUND}; color: {TEXT};
        text-wrap: nowrap; text-overflow: ellipsis;
    }}
    """

    def put(self, *rows: Content) -> None:
        """Show these rows; nothing is drawn if they are shown already."""
        content = Content("\n").join(rows)
        if not (isinstance(self.content, Content) and content.is_same(self.content)):
            self.update(content, layout=False)
