"""QueueScreen: runs that wait, to reorder, remove, add and pause."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import time
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from rnnlm_tui import client, store
from rnnlm_tui.errors import RnnlmError, in_one_sentence
from rnnlm_tui.schema.formatting import age, counted
from rnnlm_tui.schema.queue import QueueListing
from rnnlm_tui.schema.status import RESUMABLE
from rnnlm_tui.tui.palette import BRIGHT, DIM, TEXT, TRAIN
from rnnlm_tui.tui.screens.overlay import ListOverlay, key_line
from rnnlm_tui.tui.text import safe_content, safe_text
from rnnlm_tui.tui.views.queue import ended_words, queue_state, time_words
from rnnlm_tui.tui.views.status import status_glyph
from rnnlm_tui.tui.widgets.panel import TitledContainer

if TYPE_CHECKING:
    from rnnlm_tui.client.queue import Direction
    from rnnlm_tui.schema.queue import QueuedRun
    from rnnlm_tui.schema.status import RunStatus
    from rnnlm_tui.schema.summary import RunSummary

REFRESH_SECONDS = 2.0
SHOWN_ENDED = 4
"""Ended runs that are listed."""
WIDTH = 90
NAME, STATE, STEPS, TIME = 20, 20, 17, 20
"""Columns of a row."""
WITH_STEPS = 84
"""Width of a row from which it has the steps."""


class QueueScreen(ListOverlay[str]):
    """Returns the name of the run to open, None for none.

    Args:
        run: the run under the cursor of the list, which `a` adds.
    """

    DEFAULT_CSS = """
    QueueScreen TitledContainer { width: 90; }
    QueueScreen OptionList { max-height: 18; scrollbar-size-vertical: 1; }
    """
    LIST_TITLE = "Queue"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,Q", "leave", show=False),
        Binding("K,shift+up", "move('up')", show=False),
        Binding("J,shift+down", "move('down')", show=False),
        Binding("d", "remove", show=False),
        Binding("u", "undo", show=False),
        Binding("a", "add", show=False),
        Binding("space", "pause", show=False),
        Binding("F", "stop_on_failure", show=False),
    ]

    def __init__(self, run: RunSummary | None = None) -> None:
        super().__init__()
        self._run = run
        self._listing: QueueListing | None = None
        self._rows: tuple[QueuedRun, ...] = ()
        self._removed: list[QueuedRun] = []
        """Runs that were removed, the last one last."""
        self._shown: tuple[object, ...] = ()
        self._outcome, self._trouble = "", False
        self._unreadable = False
        """Whether the last read failed."""

    def on_mount(self) -> None:
        self.set_interval(REFRESH_SECONDS, self._read)
        self._read()

    def on_resize(self) -> None:
        self._shown = ()
        self._list()

    # what is shown

    def _read(self, then: str = "") -> None:
        if self.is_attached:
            summaries = self.context.summaries or ()
            self.context.in_thread(
                lambda: client.queue.list_queue(summaries),
                partial(self._take, then=then),
                self._read_failed,
            )

    def _take(self, listing: QueueListing, *, then: str = "") -> None:
        """Take the queue; the cursor goes to the run named `then`, or keeps its run."""
        if not self.is_attached:
            return
        chosen = then or (self._chosen.run if self._chosen is not None else "")
        if self._unreadable:
            self._unreadable, self._outcome = False, ""
        self._listing = listing
        self._rows = (*listing.runs, *listing.ended[:SHOWN_ENDED])
        self._list(chosen)

    @property
    def _chosen(self) -> QueuedRun | None:
        at = self.options.highlighted
        return self._rows[at] if at is not None and at < len(self._rows) else None

    def _list(self, chosen: str = "") -> None:
        """List one line for each run; nothing is drawn if nothing has changed."""
        if self._listing is None:
            return
        lines = [self._line(run) for run in self._rows]
        place = next((at for at, run in enumerate(self._rows) if run.run == chosen), None)
        shown = (tuple(line.plain for line in lines), place)
        if shown != self._shown:
            self.list_options(list(map(Option, lines)), place)
            self.options.display = bool(lines)
            self._shown = shown
        self._show_keys()

    def _line(self, run: QueuedRun) -> Content:
        width = min(WIDTH, self.app.size.width) - 4
        name = safe_content(run.run, newlines="show", limit=NAME - 2)
        status: RunStatus = "draft" if run.state == "waiting" else run.outcome or run.status
        glyph = status_glyph(status)
        place = "" if run.place is None else str(run.place)
        start = Content.assemble(
            (place.rjust(3), f"bold {TRAIN}"), " ", glyph, " ", name, " " * (NAME - len(name))
        )
        if run.state == "ended":
            past = "" if run.ended is None else age(max(0.0, time() - run.ended))
            why = safe_text(run.message, limit=200, newlines="space") if run.message else ""
            return Content.assemble(
                start,
                ended_words(run),
                (" just now" if past == "now" else f" {past} ago" if past else "", DIM),
                (f": {why}" if why else "", DIM),
            ).truncate(width, ellipsis=True)
        steps = ""
        if run.max_steps is not None:
            steps = f"{run.step:,} / {run.max_steps:,}" if run.step else f"{run.max_steps:,}"
        return Content.assemble(
            start,
            (run.state_words.ljust(STATE), TEXT),
            (steps.rjust(STEPS) if width >= WITH_STEPS else "", DIM),
            (time_words(run, time()).rjust(TIME), TEXT),
        ).truncate(width, ellipsis=True)

    def _show_keys(self) -> None:
        """Show the queue's state and the keys, below what just happened."""
        listing = self._listing or QueueListing()
        if not self.is_attached:
            return
        box = self.query_one(TitledContainer)
        waiting = len(listing.waiting)
        box.legend = Content.styled(
            f"{counted(waiting, 'run')} {'waits' if waiting == 1 else 'wait'}"
            if waiting
            else "nothing waits",
            DIM,
        )
        chosen = self._chosen
        keys = [("⇧↑ ⇧↓", "move"), ("d", "remove")]
        if chosen is None or chosen.state != "waiting":
            keys = []
        if self._addable:
            assert self._run is not None
            keys.append(("a", f"add {safe_text(self._run.run, limit=20, newlines='show')}"))
        keys.append(("space", "resume" if listing.paused else "pause"))
        keys.append(("F", "ignore failures" if listing.stop_on_failure else "pause on failure"))
        if chosen is not None:
            keys.append(("enter", "open"))
        keys.append(("esc", "close"))
        width = min(WIDTH, self.app.size.width)
        state = queue_state(listing)
        if chosen is not None and chosen.state != "ended" and chosen.stop_on_failure:
            state = f"{chosen.run} pauses the queue if it fails; {state}"
        below = key_line(keys, width, self.app)
        above = safe_content(state, newlines="space").stylize(TEXT) if self._listing else None
        self.show_below(below, self._outcome, trouble=self._trouble, tone=BRIGHT, above=above)

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        event.stop()
        self._show_keys()

    # keys

    @property
    def _addable(self) -> bool:
        """Whether the run under the list's cursor can wait: a draft, or one to resume."""
        listing = self._listing
        return (
            self._run is not None
            and listing is not None
            and self._run.status in {"draft", *RESUMABLE}
            and not any(run.run == self._run.run for run in listing.runs)
        )

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        chosen = self._chosen
        if chosen is not None:
            self.dismiss(chosen.run)

    def action_move(self, direction: Direction) -> None:
        """Move the waiting run under the cursor up or down."""
        chosen = self._chosen
        if chosen is not None:
            self._change(lambda: client.queue.move(chosen.run, direction), "", chosen.run)

    def action_remove(self) -> None:
        """Remove the waiting run under the cursor; it stays a draft."""
        chosen = self._chosen
        if chosen is not None:
            kept = "stays as it is" if chosen.step else "stays a draft"

            def remove() -> None:
                client.queue.remove(chosen.run)
                self._removed.append(chosen)

            self._change(remove, f"{chosen.run} removed from the queue, it {kept}: u undoes it")

    def action_undo(self) -> None:
        """Put the run that was removed last back to its place."""
        if not self._removed:
            self._outcome, self._trouble = "nothing to undo", False
            self._show_keys()
            return
        removed = self._removed[-1]

        def put_back() -> None:
            run, stop = store.runs.find_run(removed.run), removed.stop_on_failure
            client.queue.add_run(run, stop_on_failure=stop, place=removed.place)
            self._removed.remove(removed)

        self._change(put_back, f"{removed.run} waits in the queue again", removed.run)

    def action_add(self) -> None:
        """Add the run under the cursor of the list of runs."""
        run = self._run
        if run is not None and self._addable:
            self._change(
                lambda: client.queue.add_run(store.runs.find_run(run.run)),
                f"{run.run} added to the queue",
                run.run,
            )

    def action_pause(self) -> None:
        """Pause or resume the queue."""
        if self._listing is not None:
            paused = not self._listing.paused
            self._change(lambda: client.queue.set_paused(paused), "")

    def action_stop_on_failure(self) -> None:
        """Set whether any failed run pauses the queue."""
        if self._listing is not None:
            stop = not self._listing.stop_on_failure
            self._change(lambda: client.queue.set_stop_on_failure(stop), "")

    def _change(self, work: Callable[[], object], outcome: str, then: str = "") -> None:
        def changed(_result: object) -> None:
            self._outcome, self._trouble = outcome, False
            self._read(then)
            self.context.watcher.poll_now()

        self.context.in_thread(work, changed, self._failed)

    def _failed(self, error: RnnlmError | OSError) -> None:
        """Show why a change failed, and what the queue is now."""
        self._report(error)
        self._read()

    def _read_failed(self, error: RnnlmError | OSError) -> None:
        self._unreadable = True
        self._report(error)

    def _report(self, error: RnnlmError | OSError) -> None:
        self._outcome, self._trouble = in_one_sentence(error), True
        self._show_keys()
