"""Everything here depends on private parts of Textual; no other module of the app does.

Each piece says why it is needed and which private names it uses. All were checked with Textual
8.2.8, the version that pyproject.toml pins to its minor version.
`tests/tui/test_textual_private.py` has a test for each piece, and `test_newest_size.py` one for
sizes: they fail when a newer Textual has changed what a piece uses.

Text fields that remove control characters: Textual draws pasted escape sequences as they are.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from rich.color import ColorSystem
from rich.console import COLOR_SYSTEMS, Console, RenderableType
from rich.style import Style
from textual._compositor import Compositor, CompositorUpdate
from textual.cache import LRUCache
from textual.css.stylesheet import Stylesheet
from textual.events import Event, Key, Resize, ScreenResume, ScreenSuspend
from textual.geometry import Offset, Size
from textual.keys import _character_to_key
from textual.notifications import Notification
from textual.strip import Strip

from rnnlm_tui.tui.text import Cell, cells_of, changed_cells, look_alike

if TYPE_CHECKING:
    from textual.app import App
    from textual.screen import Screen
    from textual.widget import Widget

    ScreenBase = Screen[Any]
    WidgetBase = Widget
else:
    ScreenBase = WidgetBase = object  # Textual takes a widget's styles from its first base alone


# keys


def key_of_character(character: str) -> str:
    """Return Textual's name of the key that types a character: `question_mark` for `?`.

    For keys in a user's keymap. Private: `textual.keys._character_to_key`; only the way back is
    public.
    """
    return _character_to_key(character)


class OrderedKeys(WidgetBase):
    """Mixin for focusable widgets: keys act in the order in which they were typed.

    Textual runs a key's binding only after the key has bubbled from the focused widget to the app,
    while text goes into a field at once, and a key belongs to the widget that had the focus when it
    was read. On a busy machine, or when keys are sent in one go, `tab 5 enter` may therefore end
    anywhere. Here, bindings run before the next key is handled, and a key that arrives after the
    focus has moved is forwarded.

    Private: `App._check_bindings`, which runs the bindings of a key, and `Widget._forward_event`.
    """

    async def on_key(self, event: Key) -> None:
        target = self.app.focused or self.app.screen
        if target is not self and (
            self.app.screen is not self.screen or self.screen.focused is not None
        ):
            event.stop()
            event.prevent_default()
            target._forward_event(Key(event.key, event.character))
        elif await self.app._check_bindings(event.key):
            # all bindings have been tried; an unbound key bubbles to the app, which shows a hint
            event.stop()
            event.prevent_default()


# the size of the terminal


def resize_to(event: Event, size: Size) -> Event:
    """Return the event, or a resize to `size` if it is one to another size."""
    return Resize(size, size) if isinstance(event, Resize) and event.size != size else event


def terminal_size(app: App[Any]) -> Size | None:
    """Return the terminal's columns and rows as the driver reads them now, None if it can't.

    Textual reads the size in a signal handler. A second signal may arrive while the first one is
    being handled: then the newer size is posted first and the older one last (seen once in twenty
    storms of resizes).

    Private: `App._driver` and `LinuxDriver._get_terminal_size`.
    """
    read = getattr(app._driver, "_get_terminal_size", None)
    return None if read is None else Size(*read())


def deliver_pending_resize(app: App[Any]) -> None:
    """Send the screens a resize that Textual has held back.

    Textual collects resizes with a timer of 8 ms. A timer that starts late never ticks, and the
    resize is lost.

    Private: `App._resize_event` and `App._check_resize`.
    """
    if app._resize_event is not None:
        app._check_resize()


class CurrentSize(ScreenBase):
    """Mixin that goes before Textual's screen class: lay out for the app's current size.

    A screen that has been laid out posts its size to itself. If the app has sent a newer size
    meanwhile, that one waits before it in the queue, counts as superseded and is dropped; the
    screen would keep the older size.
    """

    async def on_event(self, event: Event) -> None:
        await super().on_event(resize_to(event, self.app.size))


# the app


def all_screens(app: App[Any]) -> Iterator[Screen[Any]]:
    """Yield every screen of the app; `App.screen_stack` has only those of the current pane.

    For another theme or other chart marks. Private: `App._screen_stacks`.
    """
    for stack in app._screen_stacks.values():
        yield from stack


class ParsedOnce(Stylesheet):
    """The app's style sheet, which parses each source once, also for a later app in this process.

    Textual parses all of them three times at the start, with the same variables. A theme with other
    variables would need its own rules.

    Private: `Stylesheet._parse_cache`.
    """

    _parsed = LRUCache[Any, Any](maxsize=1_000)

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._parse_cache = self._parsed

    def set_variables(self, variables: dict[str, str]) -> None:
        """Keep what is parsed: the variables are the same."""

    def reparse(self) -> None:
        """Take the parsed rules."""
        self.parse()


class ShownNotification(Notification):
    """A notification whose toast may be mounted after its time is over.

    Textual makes a timer of the time that is left, and loops in it for ever if that is negative:
    the app would never draw again.
    """

    LEAST_SECONDS = 0.01

    @property
    def time_left(self) -> float:
        """The time left until it expires, never negative."""
        return max(self.LEAST_SECONDS, super().time_left)

    @property
    def has_expired(self) -> bool:
        """Its time is over."""
        return super().time_left <= 0


def write_to_terminal(app: App[Any], sequence: str) -> None:
    """Write a control sequence that isn't part of the picture, such as a desktop notification.

    Private: `App._driver`; public are only the bell and the clipboard.
    """
    if app._driver is not None and not app.is_headless:
        app._driver.write(sequence)
        app._driver.flush()


def replace_crash_report(app: App[Any], report: Callable[[BaseException], RenderableType]) -> None:
    """Print `report(error)` after an unhandled exception.

    Textual prints a traceback with all local variables.

    Private: `App._fatal_error`, replaced; `_exception`, `_exit_renderables` and
    `_close_messages_no_wait`.
    """

    def fatal_error() -> None:
        error = sys.exc_info()[1] or app._exception
        if error is not None:
            app._exit_renderables.append(report(error))
        app._close_messages_no_wait()

    app._fatal_error = fatal_error  # type: ignore[method-assign]


# what is sent to the terminal


def screen_rows(screen: Screen[Any]) -> list[Strip]:
    """Return the screen's cells, to draw a pane in grey below an overlay.

    Private: `Screen._compositor`.
    """
    return screen._compositor.render_strips()


UNKNOWN: Cell = ("\ue000", None)
"""A cell whose content on the terminal isn't known: no text contains this character."""
RESET = "\x1b[0m"
_CODE = re.compile(
    r"(?P<text>38;(5;\d+|2(;\d+){3})|3\d|9\d)|(?P<ground>48;(5;\d+|2(;\d+){3})|4\d|10\d)"
    r"|(?P<attribute>\d+)"
)


@lru_cache(maxsize=4_096)
def style_change(before: str, after: str) -> str:
    """Return the shortest sequence from one style to another.

    Textual sets the whole style again for each segment: four of five bytes repeat what hasn't
    changed (measured).
    """
    if not after:
        return RESET
    (attributes, text, ground), (new_attributes, new_text, new_ground) = _read(before), _read(after)
    whole = f"\x1b[0;{after}m" if before else f"\x1b[{after}m"
    ended, colours = attributes - new_attributes, ((text, new_text), (ground, new_ground))
    if not ended <= {"1", "2"} or any(old and not new for old, new in colours):
        return whole
    kept, ends = (attributes - {"1", "2"}, ["22"]) if ended else (attributes, [])
    changed = [new for old, new in colours if new != old]
    codes = [*ends, *sorted(new_attributes - kept), *changed]
    return min(whole, f"\x1b[{';'.join(codes)}m" if codes else "", key=len)


def _read(codes: str) -> tuple[frozenset[str], str, str]:
    """Split style codes into attributes such as bold, the text colour and the background colour."""
    found = [(code.lastgroup, code[0]) for code in _CODE.finditer(codes)]
    attributes = frozenset(code for kind, code in found if kind == "attribute")
    return attributes, dict(found).get("text", ""), dict(found).get("ground", "")


class SentRows:
    """The rows that the terminal shows, as long as only one screen writes to it."""

    def __init__(self) -> None:
        self._rows: dict[int, list[Cell]] = {}
        self._codes = ""
        """The style codes in force during an update; empty between updates."""
        self.cells = 0
        """How many cells were sent so far."""

    def forget(self) -> None:
        """Send everything again: another screen has written, or the terminal has changed."""
        self._rows.clear()

    def difference(self, y: int, left: int, strip: Strip, width: int, console: Console) -> str:
        """Return what to write so that row `y` shows `strip` from column `left` on.

        The row is remembered as sent.
        """
        row = self._rows.get(y, [])
        unknown = len(row) != width
        if unknown:
            row = self._rows[y] = [UNKNOWN] * width
        cells = cells_of(strip)[: width - left]
        right = left + len(cells)
        before = [] if unknown else row[left:right]
        if before == cells:
            return ""
        row[left:right] = cells
        colours = COLOR_SYSTEMS.get(console.color_system or "", ColorSystem.TRUECOLOR)
        parts: list[str] = []
        for first, last in changed_cells(before, cells):
            parts.append(f"\x1b[{y + 1};{left + first + 1}H")
            self._write(cells[first:last], colours, parts)
            self.cells += last - first
        return "".join(parts)

    def _write(self, cells: Sequence[Cell], colours: ColorSystem, parts: list[str]) -> None:
        """Write the characters with style codes between them.

        A blank keeps the style before it if it looks the same in both.
        """
        last: Style | None = None
        for sign, style in cells:
            same = style is None or style is last
            if not same and not (sign == " " and last is not None and look_alike(style, last)):
                codes = Strip.render_ansi(style, colours)
                if codes != self._codes:
                    parts.append(style_change(self._codes, codes))
                    self._codes = codes
                last = style
            parts.append(sign)

    def finish(self) -> str:
        """Return the codes that end an update, so that its style doesn't affect later ones."""
        codes, self._codes = self._codes, ""
        return RESET if codes else ""


class ChangedCells(CompositorUpdate):
    """An update of the screen that writes only the cells that changed.

    Args:
        parts: what it draws: row, first column and cells.
    """

    def __init__(self, parts: Sequence[tuple[int, int, Strip]], width: int, sent: SentRows) -> None:
        self._parts, self._width, self._sent = parts, width, sent

    def render_segments(self, console: Console) -> str:
        """Return what goes to the terminal: for each span a cursor movement and its cells."""
        written = [self._sent.difference(*part, self._width, console) for part in self._parts]
        return "".join((*written, self._sent.finish()))


class ChangedCellsCompositor(Compositor):
    """Textual's compositor, whose updates write only the cells that changed.

    Only what is really written counts as sent, because Textual discards some updates.

    Private: `textual._compositor` with `Compositor`, `CompositorUpdate` and the parts of its two
    updates.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sent = SentRows()

    def render_full_update(self, simplify: bool = False) -> ChangedCells:  # type: ignore[override]
        """Return an update of the whole screen."""
        strips = super().render_full_update(simplify).strips
        parts = [(y, 0, Strip.join(line)) for y, line in enumerate(strips)]
        return ChangedCells(parts, self.size.width, self.sent)

    def render_partial_update(self) -> ChangedCells | None:  # type: ignore[override]
        """Return an update of what changed since the last one, None if nothing did."""
        update = super().render_partial_update()
        if update is None:
            return None
        parts = []
        for y, first, last in update.spans:
            ends, chops = update.chop_ends[y], update.chops[y]
            for end, (start, strip) in zip(ends, chops.items(), strict=False):
                if strip is not None and start < last and end > first:
                    left, right = max(start, first), min(end, last)
                    parts.append((y, left, strip.crop(left - start, right - start)))
        return ChangedCells(parts, self.size.width, self.sent)


class ChangedCellsScreen(ScreenBase):
    """Mixin that goes before Textual's screen class: send only the cells that changed.

    Textual repaints whole regions, and the whole screen three times when a pane is first shown;
    over a slow link that is several times as much (measured). After anything else has written to
    the terminal, all cells are sent.

    During a batch it draws nothing; Textual would, and throw it away. Its first update doesn't wait
    for the first tick of Textual's timer, which comes a sixtieth second after it is woken, and
    leaves the styles that its widgets have just got.

    Private: `Screen._compositor`, replaced; `Screen._compositor_refresh`, `Screen._update_timer`,
    `App._batch_count`.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._compositor: ChangedCellsCompositor = ChangedCellsCompositor()

    async def on_event(self, event: Event) -> None:
        if isinstance(event, ScreenResume) and self.stack_updates == 0:
            event.refresh_styles = False
        await super().on_event(event)

    def _compositor_refresh(self) -> None:
        if not self.app._batch_count:
            super()._compositor_refresh()

    @property
    def cells_sent(self) -> int:
        """How many cells this screen has sent so far."""
        return self._compositor.sent.cells

    def forget_terminal(self, _app: object = None) -> None:
        """Send the whole screen the next time: something else writes to the terminal, or has."""
        self._compositor.sent.forget()

    def get_widget_and_offset_at(self, x: int, y: int) -> tuple[Widget | None, Offset | None]:
        """Find nothing where a widget has just been removed: a press on it would end the app.

        As on the second of two quick clicks on a notice.
        """
        widget, offset = super().get_widget_and_offset_at(x, y)
        removed = widget is not None and widget is not self and widget.parent is None
        return (None, None) if removed else (widget, offset)

    def on_mount(self) -> None:
        self._update_timer.resume()
        self.app.app_resume_signal.subscribe(self, self.forget_terminal, immediate=True)

    def on_screen_suspend(self, _event: ScreenSuspend) -> None:
        self.forget_terminal()

    def on_screen_resume(self, _event: ScreenResume) -> None:
        self.forget_terminal()
