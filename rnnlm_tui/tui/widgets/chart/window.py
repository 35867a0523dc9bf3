"""The visible part of x: everything, or a window that is zoomed, panned or follows the end."""

from __future__ import annotations

from rnnlm_tui.tui.widgets.chart.data import ChartData
from rnnlm_tui.tui.widgets.chart.limits import settle_end

LARGEST_ZOOM = 1000.0
"""The whole x range over the smallest part that can be shown."""
AHEAD = 0.8
"""Where the newest point is in a following window after a jump; the window stays until the end."""

STILL_END = 0.01
"""An estimated end, as on the time axis, must move by this share of x to be redrawn."""


def newest(data: ChartData) -> float:
    """Return x of the newest point; 0 without points."""
    return max((series.x[-1] for series in data.series if len(series.x)), default=0.0)


def oldest(data: ChartData) -> float:
    """Return x of the first point; 0 without points."""
    return min((series.x[0] for series in data.series if len(series.x)), default=0.0)


class Window:
    """Which part of x is visible."""

    def __init__(self) -> None:
        self.following = True
        """Whether the newest point is kept in view."""
        self._part: tuple[float, float] | None = None
        self._end: float | None = None
        self._given: tuple[float, float] | None = None

    @property
    def part(self) -> tuple[float, float] | None:
        """The visible part; None for all of x."""
        return self._part

    def put(self, part: tuple[float, float] | None, *, following: bool) -> None:
        """Show this part, or all of x."""
        self._part, self.following = (part, following) if part is not None and part[0] < part[1] else (None, True)

    def take(self, other: Window, data: ChartData) -> bool:
        """Show the same part as another window with its own `data`; return whether that changed
        anything.
        """
        before = (self._part, self.following, self._given)
        self._part, self.following, self._given = other._part, other.following, other.whole(data)
        return before != (self._part, self.following, self._given)

    def whole(self, data: ChartData) -> tuple[float, float]:
        """Return the whole x range: from 0 or the first point to the planned or a round end.

        If the part was taken from another window, return that window's range.
        """
        if self._given is not None:
            return self._given
        first, last = oldest(data), newest(data)
        start = 0.0 if 0 <= first <= 0.25 * max(last, data.x_end or last) else first
        if data.x_end is not None and data.x_end > start:
            end = max(data.x_end, last)
            if self._end is None or last > self._end or last == end or abs(end - self._end) > STILL_END * (end - start):
                self._end = end
            return start, self._end
        self._end = settle_end(last, start, self._end)
        return start, self._end

    def shown(self, data: ChartData) -> tuple[float, float]:
        """Return the visible part."""
        return self._part or self.whole(data)

    def zoom(self, data: ChartData, factor: float, around: float | None) -> None:
        """Zoom in by `factor`, around `around` or the newest point while following, else the
        middle.

        `around` keeps its place, or is centred if out of view. Zooming away from the newest point
        stops
        following.
        """
        (low, high), (start, end) = self.whole(data), self.shown(data)
        length = max((end - start) / factor, (high - low) / LARGEST_ZOOM)
        if length >= high - low:
            self.reset()
            return
        last = newest(data)
        if around is not None:
            share = (around - start) / (end - start)
            start = around - (share if 0 <= share <= 1 else 0.5) * length
        elif self.following or self._part is None:
            start = last - 0.9 * length
        else:
            start = (start + end - length) / 2
        self._place(data, start, length)
        if around is not None and not self._shows(last):
            self.following = False

    def pan(self, data: ChartData, share: float) -> None:
        """Pan by a share of the length, to the right if positive; stops following."""
        if self._part is not None:
            start, end = self._part
            self.following = False
            self._place(data, start + (end - start) * share, end - start)

    def follow(self, data: ChartData) -> None:
        """Keep the newest point in view from now on."""
        self.following = True
        self.catch_up(data)

    def catch_up(self, data: ChartData) -> None:
        """Jump ahead if the newest point has left a following window."""
        if self._part is not None and self.following and not self._shows(newest(data)):
            length = self._part[1] - self._part[0]
            self._place(data, newest(data) - AHEAD * length, length)

    def lead(self, data: ChartData, cursor: float | None = None) -> None:
        """Take the range from its own data, and follow unless the cursor is in view."""
        self._given = None
        if cursor is None or not self._shows(cursor):
            self.catch_up(data)

    def _shows(self, place: float) -> bool:
        return self._part is None or self._part[0] <= place <= self._part[1]

    def reset(self) -> None:
        """Show all of x."""
        self._part, self.following = None, True

    def _place(self, data: ChartData, start: float, length: float) -> None:
        low, high = self.whole(data)
        start = max(min(start, high - length), low)
        self._part = (start, start + length)
