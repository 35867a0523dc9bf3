"""Fixtures of every test of the app: no sleeping, no painting, no waiting for disks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from itertools import groupby
from time import thread_time, tzset
from typing import Any
from weakref import WeakKeyDictionary

import pytest
from textual._compositor import Compositor
from textual._context import active_app
from textual.app import App
from textual.events import Key
from textual.geometry import Size
from textual.keys import _character_to_key
from textual.message_pump import MessagePump
from textual.pilot import Pilot
from textual.screen import Screen
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Input, TextArea

from tests.homes import three_runs_at_home
from tests.tui.demo_run import stand_still


@pytest.fixture
def three_at_home() -> Iterator[None]:
    """One run that trains, one that finished, one that failed, in the test's home."""
    with three_runs_at_home():
        yield


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A clock, a time zone and a machine that don't vary."""
    stand_still(monkeypatch)
    monkeypatch.setenv("TZ", "UTC")
    tzset()
    yield
    monkeypatch.undo()
    tzset()


STALL_SECONDS, STALL_TURNS = 0.02, 20
"""Messages that make no progress for so much of this thread's processor time, and for so many turns
of the loop, wait for something else, such as a thread. On a busy machine, time passes alone."""
LAYOUT_SECONDS = 0.5
"""How long a screen that nobody waits for is out of date at most."""


async def wait_for_messages(min_sleep: float = 0.0, max_sleep: float = 1.0) -> None:
    """Return when the app's widgets have handled their messages, or no longer make progress."""
    app, loop = active_app.get(), asyncio.get_running_loop()
    end = thread_time() + max_sleep
    quiet, before, stalled, turns = 0, -1, end, 0
    while quiet < 3 and thread_time() < end and (turns < STALL_TURNS or thread_time() < stalled):
        await asyncio.sleep(0)
        turns += 1
        if loop._ready and turns < STALL_TURNS:  # type: ignore[attr-defined]
            quiet = 0  # without asking each widget: one is at work
            continue
        left = _messages_left(app)
        if not left and _is_to_be_painted(app.screen):
            app.screen._on_timer_update()  # else a timer does, later
            continue
        quiet = 0 if left else quiet + 1
        if left != before:
            before, stalled, turns = left, thread_time() + STALL_SECONDS, 0


def _messages_left(app: App[Any]) -> int:
    """The messages that wait in all of the app's widgets."""
    return sum(map(_messages_of, (app, *app._registry))) + (app._resize_event is not None)


def _messages_of(pump: MessagePump) -> int:
    """The messages that wait, the one being handled among them."""
    if pump._task is None or pump._task.done():
        return 0
    waiters: Iterable[asyncio.Future[Any]] = pump._message_queue.ready_event._waiters
    waits = any(not waiter.done() for waiter in waiters)
    return pump._message_queue.qsize() + len(pump._next_callbacks) + (not waits)


def _may_have_changed(screen: Screen[Any]) -> bool:
    """Whether its cells may differ from those drawn last."""
    return bool(screen._dirty_widgets or _messages_of(screen)) or any(
        widget._repaint_required or widget._layout_required or widget._scroll_required
        for widget in screen.app._registry
        if isinstance(widget, Widget)
    )


def _is_to_be_painted(screen: Screen[Any]) -> bool:
    return bool(
        screen.is_current
        and not screen.app._batch_count
        and (
            screen._layout_required
            or screen._scroll_required
            or screen._repaint_required
            or screen._dirty_widgets
            or screen._callbacks
        )
    )


@pytest.fixture(scope="session", autouse=True)
def hasty_apps() -> Iterator[None]:
    """Let apps do without what only a user needs.

    * Textual's Pilot waits for messages instead of for an idle processor: its own function sleeps
      at least 20 ms, twice a key, and until a window of that length has used little processor time.
      Nor does it send a message to every widget to learn that all are idle, nor wait between the
      characters of a word that is typed into a text box.
    * A screen is laid out once its messages are handled: a timer does it between them, too.
    * Nothing waits until a disk has what is written: no test of the app cuts the power.
    * What no terminal shows isn't drawn: tests read the screen's cells, which draws them. What is
      to be called after the next paint meets a painted screen.
    * A screen that hasn't changed isn't drawn again: a third of the time went into that.
    * An app's workers are cancelled before its screens are closed, as when a user leaves.
      `run_test` closes them while workers still run: these look for widgets that are gone.
    """
    refresh, shutdown = Screen._compositor_refresh, App._shutdown
    render, drawn = Compositor.render_strips, WeakKeyDictionary[Compositor, list[Strip]]()
    press_keys, wait_for_screen = App._press_keys, Pilot._wait_for_screen

    def render_if_changed(compositor: Compositor, size: Size | None = None) -> list[Strip]:
        screen = compositor.root
        if size is not None or not isinstance(screen, Screen) or _may_have_changed(screen):
            return render(compositor, size)
        if compositor not in drawn:
            drawn[compositor] = render(compositor)
        return drawn[compositor]

    def refresh_if_shown(screen: Screen[Any]) -> None:
        drawn.pop(screen._compositor, None)
        if screen.app.is_headless and not screen._callbacks:
            screen._dirty_widgets.clear()
            screen._compositor._dirty_regions.clear()
        else:
            refresh(screen)

    async def press_at_once(app: App[Any], keys: Iterable[str]) -> None:
        assert app._driver is not None
        for is_word, group in groupby(keys, lambda key: len(key) == 1):
            *typed, last = group
            if is_word and isinstance(app.focused, Input | TextArea):
                for sign in typed:
                    key = sign if sign.isalnum() else _character_to_key(sign)
                    app._driver.send_message(Key(key, sign).set_sender(app))
                typed = []
            await press_keys(app, (*typed, last))

    async def wait_if_busy(pilot: Pilot[Any], timeout: float = 30.0) -> bool:
        return not _messages_left(pilot.app) or await wait_for_screen(pilot, timeout)

    async def cancel_first(app: App[Any]) -> None:
        app.workers.cancel_all()
        await shutdown(app)

    with pytest.MonkeyPatch.context() as patch:
        for module in ("textual.app", "textual.pilot"):
            patch.setattr(f"{module}.wait_for_idle", wait_for_messages)
        patch.setattr(Pilot, "_wait_for_screen", wait_if_busy)
        patch.setattr(App, "_press_keys", press_at_once)
        patch.setattr("textual.screen.UPDATE_PERIOD", LAYOUT_SECONDS)
        patch.setattr("os.fsync", lambda _file: None)
        patch.setattr(Screen, "_compositor_refresh", refresh_if_shown)
        patch.setattr(Compositor, "render_strips", render_if_changed)
        patch.setattr(App, "_shutdown", cancel_first)
        yield
