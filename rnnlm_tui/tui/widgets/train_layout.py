"""Layout of the train screen by terminal size: figures first, and perplexity is dropped last."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from textual.containers import Container
from textual.geometry import Region, Size
from textual.message import Message
from textual.widget import Widget

from rnnlm_tui.tui.widgets.panel import Panel

WIDE = Size(120, 34)
"""Body size from which runs and events are at the left and three charts below the perplexity."""
LEFT, LOWER = "left", "lower"
"""The sidebars: runs and events; machine and samples."""
FIGURES = 3
"""Rows of the figures at every size."""
CHART_LEAST = 6
"""Fewest rows of a useful chart."""

CARD_ROWS = 3
"""Most rows that a narrow terminal adds for other GPUs."""
PERPLEXITY_WITH_CARDS = 8
"""Fewest rows that the perplexity keeps then."""

Places = Mapping[str, Region]
"""Widget id to its region in the body; widgets without one are hidden."""
Rows = Sequence[tuple[int, Sequence[str]]]
"""Rows from the top: the height, and the ids of the widgets side by side."""


def arrangement(
    size: Size,
    alone: str | None = None,
    *,
    below: int = 0,
    hidden: Collection[str] = (),
    cards: int = 0,
) -> Places:
    """Return the regions for a body of this size.

    Args:
        alone: id of a chart that gets all the room below the figures.
        below: least rows for samples, when they show trouble.
        cards: GPUs besides the one that trains, which need lines in a narrow terminal.
        hidden: `left` hides runs and events, `lower` machine and samples, except trouble.
    """
    width, height = size
    left, lower = LEFT not in hidden, LOWER not in hidden or below > 0
    if alone is not None:
        trouble = max(0, min(below, height - FIGURES - CHART_LEAST))
        chart = max(CHART_LEAST, height - FIGURES - trouble)
        rows: Rows = ((FIGURES, ("figures",)), (chart, (alone,)), (trouble, ("sample-lines",)))
        return _stacked(rows, 0, width)
    if width >= WIDE.width and height >= WIDE.height:
        return _wide(size, below, left=left, lower=lower)
    return _narrow(size, below, cards, lower=lower)


def _stacked(rows: Rows, x: int, width: int) -> dict[str, Region]:
    """Place rows of widgets below each other, those without a height not at all.

    Widgets of a row are equally wide, but one that is named twice takes both parts, and the last
    one the remainder.
    """
    places: dict[str, Region] = {}
    y = 0
    for height, names in rows:
        each = width // len(names)
        for index, name in enumerate(names):
            last = index == len(names) - 1
            part = Region(x + index * each, y, width - index * each if last else each, height)
            if part.width and part.height > 0:
                places[name] = part.union(places.get(name, part))
        y += height
    return places


def _narrow(size: Size, below: int, cards: int, *, lower: bool) -> Places:
    """Lay out 80×21: figures 3, perplexity 11, tokens/s beside machine 5, sample 2.

    With other GPUs, the machine gets up to three rows of the perplexity's. Smaller sizes lose the
    machine; larger ones give perplexity and samples more.
    """
    width, height = size
    samples = 2 if lower else 0
    machine = 5 if lower and height >= FIGURES + CHART_LEAST + 2 + 5 else 0
    second = 8 if height >= 34 else 0
    spare = max(0, height - FIGURES - samples - machine - second - 11)
    samples += spare * 2 // 5 if samples else 0
    room = height - FIGURES - samples - machine - second - PERPLEXITY_WITH_CARDS
    machine += max(0, min(cards, CARD_ROWS, room)) if machine else 0
    if samples and below > samples:
        free = height - FIGURES - second
        if below > free - machine - CHART_LEAST - 2:
            machine = 0  # the run isn't training: what is wrong matters more
        samples = min(below, free - machine - CHART_LEAST)
    rows: Rows = (
        (FIGURES, ("figures",)),
        (height - FIGURES - samples - machine - second, ("perplexity",)),
        (second, ("loss", "gradient")),
        (machine, ("speed", "machine") if width >= 76 else ("machine",)),
        (samples, ("sample-lines",)),
    )
    return _stacked(rows, 0, width)


def _wide(size: Size, below: int, *, left: bool, lower: bool) -> Places:
    """Lay out 120×37: runs over events at the left, perplexity 96×13, three charts below."""
    width, height = size
    column = (24 if width < 150 else 28) if left else 0
    spare = height - 37
    charts = max(CHART_LEAST, 9 + spare // 4)
    bottom = max(9, 12 + spare // 4)
    bottom = max(bottom, min(below, height - FIGURES - charts - CHART_LEAST))
    if not lower:
        charts, bottom = charts + bottom // 3, 0
    main = height - FIGURES - charts - bottom
    runs = FIGURES + main
    rows: Rows = (
        (FIGURES, ("figures",)),
        (main, ("perplexity",)),
        (charts, ("loss", "speed", "gradient")),
        (bottom, ("machine", "samples", "samples")),
    )
    return {
        **_stacked(((runs, ("other-runs",)), (height - runs, ("events",))), 0, column),
        **_stacked(rows, column, width - column),
    }


class Placed(Container):
    """A container with children at given regions, hidden until there is something to show.

    Drawing frames without figures would send bytes for nothing.
    """

    DEFAULT_CSS = "Placed { width: 100%; height: 100%; overflow: hidden; visibility: hidden; }"

    class Resized(Message):
        """Its size has changed: its children may have to move."""

    def __init__(self, *children: Widget, places: Places, id: str | None = None) -> None:
        super().__init__(*children, id=id)
        self._placed = children
        self.place(places)

    def on_resize(self) -> None:
        self.post_message(self.Resized())

    def place(self, places: Places) -> None:
        """Move the children to these regions; those without one are not displayed."""
        self.places = places
        for child in self._placed:
            region = places.get(child.id or "")
            child.display = region is not None
            if region is not None:
                styles = child.styles
                styles.position, styles.offset = "absolute", region.offset
                styles.width, styles.height = region.size
                if isinstance(child, Panel) and region.size != child.size:
                    child.draw_later()
