"""App and screens that are laid out for the size that the terminal has now, in whatever order they are told of several."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from textual.events import Event, Resize
from textual.geometry import Size

if TYPE_CHECKING:
    from textual.driver import Driver
    from textual.screen import Screen

    Base = Screen[Any]
else:
    Base = object


def at_size(event: Resize, size: Size) -> Resize:
    """The event, or one of that size where it tells another."""
    return event if event.size == size else Resize(size, size)


def terminal_size(driver: Driver) -> Size | None:
    """Columns and rows of the terminal; None where the driver can't tell.

    Textual reads the size in a signal handler. A second signal may come while the first one is at it: then the newer size is
    posted first, and the one before it last (seen once in twenty storms of sizes).
    """
    look = getattr(driver, "_get_terminal_size", None)
    return None if look is None else Size(*look())


class NewestSize(Base):
    """Goes before Textual's screen class.

    A screen that is laid out posts its size to itself. Where the app has told it of another one meanwhile, that one waits in the
    queue before it, is taken for superseded and dropped; the screen would then stay at the size before the last.
    """

    async def on_event(self, event: Event) -> None:
        """Textual's way for everything that happens: a size that is not the app's any more is taken for the one that is."""
        await super().on_event(at_size(event, self.app.size) if isinstance(event, Resize) else event)
