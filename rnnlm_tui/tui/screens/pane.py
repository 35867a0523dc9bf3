"""The frame that every pane stands in, and how a pane reaches the app.

A pane is a subclass of `PaneScreen`:

    class CheckpointsScreen(PaneScreen):
        PANE = "checkpoints"
        BINDINGS = bindings_for("checkpoints")

        def compose_body(self) -> ComposeResult:        # 21 lines at 80x24, the full width
            yield CheckpointTable(id="table")

        def show_snapshot(self, snapshot: RunSnapshot | None) -> None:   # inside one batch_update
            ...

        def action_choose_checkpoint(self) -> None:     # the methods of its actions in tui/actions.py
            self.lab.selected_checkpoint = ...
            self.lab.open_pane("prompt")

* Line 1 is identity, line 2 the panes, the last line the footer: all made here. Override `identity()` for another line 1.
* `snapshot` is the open run as it is now (None: no run is open, or nothing has been read of it yet). It is set only while the
  pane shows, and again as soon as it comes back: `show_snapshot` is the one watcher.
* Keys come from the action table; letters typed into a text field are text, and `esc` leaves the field (`action_leave_field`,
  overridden where esc has something to stop first). Set `FIRST_FOCUS` to the selector that takes the focus on arrival.
* The footer lists the pane's actions as far as there is room; override `footer_entries()` to change words or leave some out,
  and call `refresh_footer()` when that depends on anything but snapshot and focus.
* Textual calls `on_mount`, `on_resize` and the like of every class in turn, the subclass's first: never call `super().on_…`.
* `self.lab` is the app (`Laboratory` below): `self.lab.run_directory`, `.machine`, `.sampler`, `.draft`, `.selected_checkpoint`,
  `.ascii_only`, `.start_run()`, `.send()`, `.open_run()`, `.open_pane()`, `.say()`, `.say_error()`, `.services`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol, TypeVar, cast

from textual.app import ComposeResult
from textual.containers import Container
from textual.content import Content
from textual.events import Key, Resize, ScreenResume
from textual.geometry import Size
from textual.reactive import var
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Static

from rnnlm_tui.contract.config import RunConfig
from rnnlm_tui.contract.status import RunSummary
from rnnlm_tui.errors import InputError, RnnlmError
from rnnlm_tui.tui.actions import Action, Group, Pane, actions_for
from rnnlm_tui.tui.elsewhere import elsewhere
from rnnlm_tui.tui.messages import Notice
from rnnlm_tui.tui.narrow_updates import NarrowScreen
from rnnlm_tui.tui.newest_size import NewestSize
from rnnlm_tui.tui.sizes import SMALLEST
from rnnlm_tui.tui.widgets.frame import FooterLine, IdentityLine, PanesLine
from rnnlm_tui.tui.widgets.identity import run_identity
from rnnlm_tui.tui.widgets.marks import Marks

if TYPE_CHECKING:
    from rnnlm_tui.contract.commands import Verb
    from rnnlm_tui.store.run_directory import RunDirectory
    from rnnlm_tui.supervisor.machine import MachineFacts
    from rnnlm_tui.supervisor.monitor import RunSnapshot
    from rnnlm_tui.supervisor.sampler_client import SamplerClient
    from rnnlm_tui.tui.services import Services
    from rnnlm_tui.tui.widgets.machine_view import Readings

ResultT = TypeVar("ResultT")


class Laboratory(Protocol):
    """What a screen may ask of the app."""

    run_directory: RunDirectory | None
    """The open run; None before one is opened."""
    snapshot: RunSnapshot | None
    """The open run as it is now; None until it has been read."""
    summaries: tuple[RunSummary, ...] | None
    """All runs, newest first; None until they have been read."""
    compared: tuple[RunSnapshot, ...]
    """The marked runs as they are now, in the order of their letters, as far as they have been read; only while a pane shows that has them."""
    machine: MachineFacts | None
    """What this machine is; None for the first moment."""
    readings: Readings
    """How busy this machine is, as the app reads it itself where no run's worker does."""
    draft: RunConfig | None
    """The config being edited and not yet started."""
    selected_checkpoint: str | None
    """Directory of the checkpoint chosen for sampling, relative to the run's directory; None: the best one."""
    sampler: SamplerClient | None
    """The one sampler, started in the background; None until it is asked for."""
    services: Services
    """Store and supervisor; its methods block, so call them through `in_thread`."""
    actions: tuple[Action, ...]
    """The table of actions with the user's keys."""
    ascii_only: bool
    """Marks, panels and charts in ASCII."""
    waiting_notice: Notice | None
    """What is to be said on the next pane that is ready."""
    marks: Marks
    """The runs that are marked to compare, with their letters and colours."""
    prefer_living: bool
    """The open run is only the one of the last time: the list of runs begins with one that trains, where there is one."""
    settings: dict[str, object]
    """What is kept until the next start: plain JSON values; screens read and write their own keys."""

    def look_at_compared(self, steps: Mapping[str, tuple[int, int]]) -> None:
        """The same for the compared runs, by name."""

    def start_run(self, config: RunConfig, name: str | None = None, refused: Callable[[InputError], None] | None = None) -> None:
        """Create the run, launch its worker and open it on the train pane; a config that can't run here goes to `refused`, all else that goes wrong is said."""

    def send(self, verb: Verb, **arguments: object) -> None:
        """One command to the open run's worker; its outcome becomes one calm line."""

    def resume(self) -> None:
        """Go on with a run that is paused, or start its next attempt; a draft's first one."""

    def open_run(self, run: RunDirectory, pane: Pane = "train") -> None:
        """Make this the open run and go to the pane."""

    def choose_run(self, run: RunDirectory) -> None:
        """Make this the open run and stay on the pane; a draft stays too."""

    def close_run(self) -> None:
        """No run is open any more."""

    def take_away(self, name: str) -> None:
        """This run is about to be deleted or renamed here: nobody is told that it can't be read any more, and nothing opens it."""

    def bring_back(self, name: str) -> None:
        """There is a run of this name again, or still."""

    def new_draft(self) -> None:
        """Configure a new run: no run is open, the config pane shows the draft."""

    @property
    def marked(self) -> tuple[str, ...]:
        """Names of the marked runs, in the order of their letters."""

    def mark(self, run: str) -> None:
        """Mark the run to compare, or no longer."""

    def set_marks(self, marks: Marks) -> None:
        """Other runs are marked: kept for the next start, and the pane that shows hears of it."""

    def remember(self) -> None:
        """Keep the settings, the open run and the pane for the next start."""

    def look_now(self) -> None:
        """Look at the runs at once, for something changed them."""

    def look_at(self, steps: tuple[int, int] | None) -> None:
        """The charts show only these steps, the first and the last of them: `snapshot.detail` has them at once. None: they show the whole run."""

    def keep_settings(self) -> None:
        """Write `settings` down for the next start, soon and once however often it is asked."""

    def open_pane(self, pane: Pane) -> None:
        """Go to a pane of the open run, or to the runs."""

    def say(self, text: str, *, trouble: bool = False) -> None:
        """One line in the footer's place for some seconds; text from outside is made harmless."""

    def say_error(self, error: RnnlmError | OSError) -> None:
        """An error's message and hint, until they have been read."""

    def in_thread(
        self,
        work: Callable[[], ResultT],
        then: Callable[[ResultT], Awaitable[None] | None] | None = None,
        failed: Callable[[RnnlmError | OSError], None] | None = None,
    ) -> None:
        """Run `work` in a thread, then `then` with its result back here; an RnnlmError goes to `failed`, or is said."""

    async def warm_sampler(self) -> SamplerClient:
        """The sampler, started if it is not yet."""


class PaneScreen(NarrowScreen, NewestSize, Screen[None]):
    """The base of all panes: identity, panes line, body, footer."""

    PANE: ClassVar[Pane]
    FIRST_FOCUS: ClassVar[str] = ""
    """Selector of what takes the focus when the pane is first shown; empty: nothing, so letters act at once."""
    AUTO_FOCUS = ""

    snapshot: var[RunSnapshot | None] = var(None, init=False)
    """The open run as it is now; the one thing that a pane watches. Not a `reactive`, which would repaint every cell of the screen."""

    def __init__(self) -> None:
        super().__init__()
        self._painted_size: Size | None = None
        self._footer: FooterLine | None = None
        self._said = False
        """Whether a notice may stand in the footer's place."""
        self._focused_before: Widget | None = None
        """What had the focus before the terminal was too small to show it."""

    def compose(self) -> ComposeResult:
        yield IdentityLine(id="identity")
        yield PanesLine(self.PANE, id="panes")
        with Container(id="body"):
            yield from self.compose_body()
        self._footer = FooterLine(id="footer")
        yield self._footer
        yield Static(id="too-small")

    # what a pane gives

    def compose_body(self) -> ComposeResult:
        """The pane's own widgets."""
        return ()

    def show_snapshot(self, snapshot: RunSnapshot | None) -> None:
        """Show the run as it is now; called inside one batch_update, on every change and when the pane comes back."""

    def show_runs(self, summaries: tuple[RunSummary, ...]) -> None:
        """The list of runs has something new; the runs, and panes that show a list of them, override this."""

    def show_marks(self) -> None:
        """Other runs are marked to compare; panes that show marks override this."""

    def show_compared(self) -> None:
        """The marked runs, `lab.compared`, have something new; panes that show them override this."""

    def show_machine(self, machine: MachineFacts) -> None:  # noqa: ARG002 (for panes that show it)
        """What the machine is became known, or has changed."""
        self.refresh_frame()

    def identity(self, width: int) -> Content:
        """Line 1 between the app's name and the device, in at most `width` columns."""
        return run_identity(self.lab.run_directory.name if self.lab.run_directory else None, self.snapshot, width, ascii_only=self.lab.ascii_only)

    def footer_entries(self) -> Sequence[tuple[Action, str]]:
        """The footer's actions with the verb for each (empty: the table's), most wanted first."""
        return [(entry, "") for entry in actions_for(self.PANE) if entry.footer]

    # what the frame does

    def help_group(self) -> Group:
        """Which group of keys stands first in help, by what a person is doing."""
        return "screen"

    @property
    def lab(self) -> Laboratory:
        """The app."""
        return cast(Laboratory, self.app)

    @property
    def run_path(self) -> Path | None:
        """Directory of the open run."""
        return self.lab.run_directory.path if self.lab.run_directory else None

    def on_mount(self) -> None:
        if self.FIRST_FOCUS:
            self.query_one(self.FIRST_FOCUS, Widget).focus()
        self._arrive()

    def on_screen_resume(self, _event: ScreenResume) -> None:
        if self.is_ready:  # the first time it comes before the widgets do
            self._arrive()

    def _arrive(self) -> None:
        self._fit(self.app.size)
        self.set_reactive(PaneScreen.snapshot, self.lab.snapshot)
        self.refresh_all()
        self.take_notice()

    def on_resize(self, event: Resize) -> None:
        if event.size != self._painted_size:  # at its start a pane is told its size several times
            self._painted_size = event.size
            self.forget_terminal()
        self._fit(event.size)
        self.refresh_frame()

    def watch_snapshot(self) -> None:
        if self.app.screen is self:  # what lies under an overlay stands still: it comes back with the newest
            self.refresh_all()

    def refresh_all(self) -> None:
        """Frame and body, in one go; before they are there, nothing."""
        if not self.is_ready:
            return
        with self.app.batch_update():
            self.show_snapshot(self.snapshot)
            self.refresh_frame()

    def refresh_frame(self) -> None:
        """Line 1 and the footer."""
        if not self.is_ready:
            return
        self.query_one(IdentityLine).show(self.identity, self.lab.machine)
        self.refresh_footer()

    def refresh_footer(self) -> None:
        """The footer, after something that its words depend on."""
        self.query_one(FooterLine).show(self.footer_entries())

    @property
    def is_ready(self) -> bool:
        """Whether the frame stands, so that something can be shown in it."""
        return self._footer is not None and self._footer.is_attached

    def take_notice(self) -> None:
        """Show what waits to be said, in the footer's place."""
        notice, self.lab.waiting_notice = self.lab.waiting_notice, None
        if notice is not None:
            self.query_one(FooterLine).show_notice(notice)
            self._said = True

    def end_notice(self, text: str | None = None) -> None:
        """What was said is no longer so: the keys stand there again. With a text, only where it is what was said."""
        if self._said:  # asked on every key
            self._said = text is not None
            self.query_one(FooterLine).end_notice(text)

    def take_key(self, event: Key) -> None:
        """A letter that means nothing here: which screen knows it."""
        if self.focused is not None and self.focused.check_consume_key(event.key, event.character):
            return
        if len(event.key) == 1 and event.key.isalpha() and not any(event.key in bindings.key_to_bindings for _, bindings in self._binding_chain):
            told = elsewhere(event.key, self.PANE, self.lab.actions)
            if told:
                self.lab.say(told)

    def action_leave_field(self) -> None:
        """`esc`: out of the text field, so that letters act again."""
        self.set_focus(None)

    def _fit(self, size: Size) -> None:
        width, height = SMALLEST
        small, was_small = size.width < width or size.height < height, self.has_class("-too-small")
        if small and not was_small:
            self._focused_before = self.focused
        self.set_class(small, "-too-small")
        if was_small and not small:
            self.call_after_refresh(self._give_focus_back)
        if small:
            self.query_one("#too-small", Static).update(f"rnnlm-tui needs {width}×{height} cells, this terminal has {size.width}×{size.height}.")

    def _give_focus_back(self) -> None:
        """What is hidden loses the focus; large enough again, the pane goes on where it was."""
        kept, self._focused_before = self._focused_before, None
        if kept is not None and kept.is_attached and self.focused is None:
            self.set_focus(kept)
