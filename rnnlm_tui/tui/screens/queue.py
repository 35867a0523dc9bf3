"""QueueScreen: runs that wait, to reorder, remove, add and pause."""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import OptionList

from rnnlm_tui import client
from rnnlm_tui.schema.formatting import ago, counted
from rnnlm_tui.schema.queue import QueueListing
from rnnlm_tui.schema.status import RESUMABLE
from rnnlm_tui.store.paths import listed_run
from rnnlm_tui.tui.palette import BAD, BRIGHT, DIM, TEXT, TRAIN
from rnnlm_tui.tui.screens.manage import Done, ManageScreen
from rnnlm_tui.tui.screens.overlay import key_line
from rnnlm_tui.tui.text import line, safe_content, safe_text, time_left
from rnnlm_tui.tui.views.status import status_glyph

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


class QueueScreen(ManageScreen["QueuedRun", str]):
    """Returns the name of the run to open, None for none.

    Args:
        run: the run under the cursor of the list, which `a` adds.
    """

    DEFAULT_CSS = """
    QueueScreen TitledContainer { width: 90; }
    QueueScreen OptionList { max-height: 18; }
    """
    LIST_TITLE = "Queue"
    TONE = BRIGHT
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("Q", "dismiss", id="show_queue"),
        ("K,shift+up", "move('up')"), ("J,shift+down", "move('down')"),
        ("d", "remove"), ("u", "undo"), ("a", "add"), ("space", "pause"), ("F", "stop_on_failure"),
    ]  # fmt: skip

    def __init__(self, run: RunSummary | None = None) -> None:
        super().__init__()
        self._run = run
        self._listing: QueueListing | None = None
        """The whole queue; None until it is read."""

    def on_mount(self) -> None:
        self.set_interval(REFRESH_SECONDS, self.reread)

    # what is shown

    def read(self) -> list[QueuedRun]:
        self._listing = listing = client.queue.list_queue(self.context.summaries or ())
        return [*listing.runs, *listing.ended[:SHOWN_ENDED]]

    def name_of(self, item: QueuedRun) -> str:
        return item.run

    def legend(self) -> str:
        waiting = sum(run.state == "waiting" for run in self.items)
        words = "waits" if waiting == 1 else "wait"
        return f"{counted(waiting, 'run')} {words}" if waiting else "nothing waits"

    def row(self, item: QueuedRun) -> Content:
        width = min(WIDTH, self.app.size.width) - 4
        name = safe_content(item.run, newlines="show", limit=NAME - 2)
        status: RunStatus = "draft" if item.state == "waiting" else item.outcome or item.status
        place = ("" if item.place is None else str(item.place)).rjust(3)
        start = line(
            "{} {} {}",
            (place, f"bold {TRAIN}"),
            status_glyph(status),
            name.pad_right(NAME - len(name)),
        )
        if item.state == "ended":
            when = "" if item.ended is None else f" {ago(time() - item.ended)}"
            why = safe_text(item.message, limit=200, newlines="space")
            facts = Content.assemble(
                (item.state_words, BAD if item.outcome in ("failed", "crashed") else TEXT),
                (f"{when}{': ' if why else ''}{why}", DIM),
            )
        else:
            steps = item.steps_words.rjust(STEPS) if width >= WITH_STEPS else ""
            left = item.start_words(time())
            if item.state == "running":
                left = "" if item.seconds is None else time_left(item.seconds)[0]
            facts = line(f"{{}}{steps}{{}}", item.state_words.ljust(STATE), left.rjust(TIME))
        return (start + facts).truncate(width, ellipsis=True)

    def above(self) -> list[Content]:
        """Return the queue's state, and whether the chosen run can pause it."""
        if self._listing is None:
            return []
        state, chosen = self._listing.damaged or self._listing.words, self.chosen
        if chosen is not None and chosen.state != "ended" and chosen.stop_on_failure:
            state = f"{chosen.run} pauses the queue if it fails; {state}"
        return [safe_content(state, newlines="space").stylize(TEXT)]

    def keys(self) -> Content:
        listing, chosen = self._listing or QueueListing(), self.chosen
        waits = chosen is not None and chosen.state == "waiting"
        keys = [("⇧↑ ⇧↓", "move"), ("d", "remove")] if waits else []
        if (run := self._addable) is not None:
            keys.append(("a", f"add {safe_text(run.run, limit=20, newlines='show')}"))
        keys.append(("space", "resume" if listing.paused else "pause"))
        keys.append(("F", "ignore failures" if listing.stop_on_failure else "pause on failure"))
        if chosen is not None:
            keys.append(("enter", "open"))
        return key_line([*keys, ("esc", "close")], min(WIDTH, self.app.size.width), self.app)

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        event.stop()
        self.show_outcome()

    # keys

    @property
    def _addable(self) -> RunSummary | None:
        """The run under the list's cursor, if it can wait: a draft, or one to resume."""
        run, listing = self._run, self._listing
        if run is None or listing is None or run.status not in {"draft", *RESUMABLE}:
            return None
        return None if any(one.run == run.run for one in listing.runs) else run

    def action_choose(self) -> None:
        """Close, and open the run under the cursor."""
        if self.chosen is not None:
            self.dismiss(self.chosen.run)

    def action_move(self, direction: Direction) -> None:
        """Move the waiting run under the cursor up or down."""
        chosen = self.chosen
        if chosen is not None:
            self.change(
                lambda: client.queue.move(chosen.run, direction),
                lambda _place: Done(at=chosen.run),
            )

    def action_remove(self) -> None:
        """Remove the waiting run under the cursor; it stays a draft."""
        chosen = self.chosen
        if chosen is None:
            return

        def put_back() -> None:
            run, stop = listed_run(chosen.run), chosen.stop_on_failure
            client.queue.add_run(run, stop_on_failure=stop, place=chosen.place)

        kept = "stays as it is" if chosen.step else "stays a draft"
        words = f"{chosen.run} removed from the queue, it {kept}: u undoes it"
        done = Done(words, chosen.run, (put_back, f"{chosen.run} waits in the queue again"))
        self.change(lambda: client.queue.remove(chosen.run), lambda _nothing: done)

    def action_add(self) -> None:
        """Add the run under the cursor of the list of runs."""
        if (run := self._addable) is not None:
            self.change(
                lambda: client.queue.add_run(listed_run(run.run)),
                lambda _added: Done(f"{run.run} added to the queue", run.run),
            )

    def action_pause(self) -> None:
        """Pause or resume the queue."""
        if self._listing is not None:
            paused = not self._listing.paused
            self.change(lambda: client.queue.set_paused(paused))

    def action_stop_on_failure(self) -> None:
        """Set whether any failed run pauses the queue."""
        if self._listing is not None:
            stop = not self._listing.stop_on_failure
            self.change(lambda: client.queue.set_stop_on_failure(stop))

    def changed(self, done: Done) -> None:
        """Show the change in the list of runs too."""
        super().changed(done)
        self.context.watcher.poll_now()
