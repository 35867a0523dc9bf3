"""Where everything of the train screen stands, by the size of the terminal: answers before charts, and perplexity goes last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from textual.containers import Container
from textual.geometry import NULL_OFFSET, Region, Size, Spacing
from textual.layout import ArrangeResult, Layout, WidgetPlacement
from textual.widget import Widget
from textual.widgets import Static

WIDE = Size(120, 34)
"""From this body on, runs and events stand at the left and three charts below the perplexity."""
FULL = Size(190, 50)
"""From this body on there are two columns of charts more."""
CHART_LEAST = 6
"""Rows of a chart that still says something."""

Places = Mapping[str, Region]
"""Id of a widget to its place in the body; a widget that is not there is not shown."""


@dataclass(slots=True)
class _Stack:
    """Rows handed out from the top."""

    y: int = 0

    def take(self, height: int, x: int, width: int) -> Region:
        region = Region(x, self.y, width, height)
        self.y += height
        return region


def arrangement(size: Size, alone: str | None = None, *, below: int = 0) -> Places:
    """The places for a body of this size.

    Args:
        alone: id of a chart that has all the room below the figures.
        below: rows that the samples should have at least, where trouble is told in their place.
    """
    if alone is not None:
        rows = 2 if size.width >= WIDE.width else 3
        return {"figures": Region(0, 0, size.width, rows), alone: Region(0, rows, size.width, max(CHART_LEAST, size.height - rows))}
    if size.width >= FULL.width and size.height >= FULL.height:
        return _full(size)
    if size.width >= WIDE.width and size.height >= WIDE.height:
        return _wide(size, below)
    return _narrow(size, below)


def _narrow(size: Size, below: int) -> Places:
    """80×21: figures 3, perplexity 11, tokens/s beside the machine 5, sample 2; less goes from the bottom, more goes to all."""
    width, height = size
    samples = 2 if height >= 3 + CHART_LEAST + 2 else 0
    machine = 5 if height >= 3 + CHART_LEAST + 2 + 5 else 0
    second = 8 if height >= 34 else 0
    spare = max(0, height - 3 - samples - machine - second - 11)
    samples += spare * 2 // 5 if samples else 0
    machine += min(4, spare // 6) if machine else 0
    if samples and below > samples:
        free = height - 3 - second
        if below > free - machine - CHART_LEAST - 2:
            machine = 0  # the run does not train: what it says is worth more
        samples = min(below, free - machine - CHART_LEAST)
    stack = _Stack()
    places = {"figures": stack.take(3, 0, width)}
    places["perplexity"] = stack.take(height - 3 - samples - machine - second, 0, width)
    half = width // 2
    if second:
        places["loss"] = Region(0, stack.y, half, second)
        places["gradient"] = Region(half, stack.y, width - half, second)
        stack.y += second
    if machine:
        if width >= 76:
            places["speed"] = Region(0, stack.y, half, machine)
            places["machine"] = Region(half, stack.y, width - half, machine)
        else:
            places["machine"] = Region(0, stack.y, width, machine)
        stack.y += machine
    if samples:
        places["sample-lines"] = stack.take(samples, 0, width)
    return places


def _wide(size: Size, below: int) -> Places:
    """120×37: 24 | 32 | 32 | 32; runs over events, perplexity 96×14, three charts 9, machine beside samples 12."""
    width, height = size
    left = 24 if width < 150 else 28
    spare = height - 37
    charts = max(CHART_LEAST, 9 + spare // 4)
    bottom = max(9, 12 + spare // 4)
    bottom = max(bottom, min(below, height - 2 - charts - CHART_LEAST))
    main = height - 2 - charts - bottom
    third = (width - left) // 3
    places = _left_column(left, height, runs=2 + main)
    stack = _Stack()
    places["figures"] = stack.take(2, left, width - left)
    places["perplexity"] = stack.take(main, left, width - left)
    for index, name in enumerate(("loss", "speed", "gradient")):
        last = index == 2
        places[name] = Region(left + index * third, stack.y, width - left - 2 * third if last else third, charts)
    stack.y += charts
    places["machine"] = Region(left, stack.y, third, bottom)
    places["samples"] = Region(left + third, stack.y, width - left - third, bottom)
    return places


def _full(size: Size) -> Places:
    """200×57: 32 | 56 | 56 | 56; perplexity over two columns, loss over gradient norm beside it."""
    width, height = size
    left = 32
    spare = height - 57
    bottom = max(14, 20 + spare // 3)
    charts = max(CHART_LEAST, 11 + spare // 4)
    main = height - 2 - charts - bottom
    third = (width - left) // 3
    places = _left_column(left, height, runs=16)
    places["figures"] = Region(left, 0, width - left, 2)
    places["perplexity"] = Region(left, 2, 2 * third, main)
    last = left + 2 * third
    places["loss"] = Region(last, 2, width - last, main // 2)
    places["gradient"] = Region(last, 2 + main // 2, width - last, main - main // 2)
    below = 2 + main
    places["speed"] = Region(left, below, third, charts)
    places["rate"] = Region(left + third, below, third, charts)
    places["score"] = Region(last, below, width - last, charts)
    places["machine"] = Region(left, below + charts, third, bottom)
    places["samples"] = Region(left + third, below + charts, width - left - third, bottom)
    return places


def _left_column(width: int, height: int, *, runs: int) -> dict[str, Region]:
    return {"other-runs": Region(0, 0, width, runs), "events": Region(0, runs, width, height - runs)}


class PlacedLayout(Layout):
    """Children stand where `places` says, by their ids; the others take no room."""

    name = "placed"

    def __init__(self) -> None:
        self.places: Places = {}

    def arrange(self, parent: Widget, children: list[Widget], size: Size, greedy: bool = True) -> ArrangeResult:  # noqa: ARG002 (Textual's signature)
        parent.pre_layout(self)
        found = [(child, self.places.get(child.id or "")) for child in children]
        placements = [WidgetPlacement(region, NULL_OFFSET, Spacing(0, 0, 0, 0), child) for child, region in found if region is not None]
        veil = [WidgetPlacement(size.region, NULL_OFFSET, Spacing(0, 0, 0, 0), child, order=1) for child in children if child.id == "veil"]
        return [*placements, *veil]


class Placed(Container):
    """Children at the places that are set with `place`; covered until there is something to show, for frames without figures are bytes without news."""

    DEFAULT_CSS = "Placed { width: 100%; height: 100%; overflow: hidden; }"

    def __init__(self, *children: Widget, places: Places, id: str | None = None) -> None:
        self._veil = Static(id="veil")
        super().__init__(*children, self._veil, id=id)
        self._placed = PlacedLayout()
        self._placed.places = places
        for child in children:
            child.display = child.id in places

    def uncover(self) -> None:
        """Show the children, which have had their sizes all the time: so they are painted once."""
        self._veil.display = False

    @property
    def layout(self) -> Layout:
        """Ours, whatever the style sheet says."""
        return self._placed

    @property
    def places(self) -> Places:
        """Where children stand now."""
        return self._placed.places

    def place(self, places: Places) -> None:
        """Put the children there; what has no place takes no part in anything."""
        if places == self._placed.places:
            return
        self._placed.places = places
        for child in self.children[:-1]:
            child.display = child.id in places
        self.refresh(layout=True)
