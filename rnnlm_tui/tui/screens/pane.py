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
            self.context.selected_checkpoint = ...
            self.context.open_pane("prompt")

* Line 1 is identity, line 2 the panes, the last line the footer: all made here. Override `identity()` for another line 1.
* `snapshot` is the open run as it is now (None: no run is open, or nothing has been read of it yet). It is set only while the
  pane shows, and again as soon as it comes back: `show_snapshot` is the one watcher.
* Keys come from the action table; letters typed into a text field are text, and `esc` leaves the field (`action_leave_field`,
  overridden where esc has something to stop first). Set `FIRST_FOCUS` to the selector that takes the focus on arrival.
* The footer lists the pane's actions as far as there is room; override `footer_entries()` to change words or leave some out,
  and call `refresh_footer()` when that depends on anything but snapshot and focus.
* Textual calls `on_mount`, `on_resize` and the like of every class in turn, the subclass's first: never call `super().on_…`.
* `self.context` is the app (`AppContext` in `lab.py`): `self.context.run_directory`, `.machine`, `.sampler`, `.draft`, `.selected_checkpoint`,
  `.ascii_only`, `.start_run()`, `.send()`, `.open_run()`, `.open_pane()`, `.say()`, `.say_error()`, `.services`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import ComposeResult
from textual.containers import Container
from textual.content import Content
from textual.events import Key, Resize, ScreenResume
from textual.geometry import Size
from textual.reactive import var
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Static

from rnnlm_tui.tui._textual import ChangedCellsScreen, CurrentSize
from rnnlm_tui.tui.actions import Action, Group, Pane, actions_for, unbound_key_hint
from rnnlm_tui.tui.context import AppContext
from rnnlm_tui.tui.sizes import SMALLEST
from rnnlm_tui.tui.widgets.frame import FooterLine, IdentityLine, PanesLine
from rnnlm_tui.tui.widgets.identity import run_identity

if TYPE_CHECKING:
    from rnnlm_tui.contract.summary import RunSummary
    from rnnlm_tui.supervisor.machine import MachineFacts
    from rnnlm_tui.supervisor.monitor import RunSnapshot


class PaneScreen(ChangedCellsScreen, CurrentSize, Screen[None]):
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
        self._notice_shown = False
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

    def show_readings(self) -> None:
        """The app has new readings of this machine in `lab.readings`; the pane that shows them overrides this."""

    def identity(self, width: int) -> Content:
        """Line 1 between the app's name and the device, in at most `width` columns."""
        return run_identity(self.context.run_directory.name if self.context.run_directory else None, self.snapshot, width, ascii_only=self.context.ascii_only)

    def footer_entries(self) -> Sequence[tuple[Action, str]]:
        """The footer's actions with the verb for each (empty: the table's), most wanted first."""
        return [(entry, "") for entry in actions_for(self.PANE) if entry.footer]

    # what the frame does

    def help_group(self) -> Group:
        """Which group of keys stands first in help, by what a person is doing."""
        return "screen"

    @property
    def context(self) -> AppContext:
        """The app."""
        return cast(AppContext, self.app)

    @property
    def run_path(self) -> Path | None:
        """Directory of the open run."""
        return self.context.run_directory.path if self.context.run_directory else None

    def on_mount(self) -> None:
        if self.FIRST_FOCUS:
            self.query_one(self.FIRST_FOCUS, Widget).focus()
        self._arrive()

    def on_screen_resume(self, _event: ScreenResume) -> None:
        if self.is_ready:  # the first time it comes before the widgets do
            self._arrive()

    def _arrive(self) -> None:
        self._fit(self.app.size)
        self.set_reactive(PaneScreen.snapshot, self.context.snapshot)
        self.refresh_all()
        self.show_pending_notice()

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
        self.query_one(IdentityLine).show(self.identity, self.context.machine)
        self.refresh_footer()

    def refresh_footer(self) -> None:
        """The footer, after something that its words depend on."""
        self.query_one(FooterLine).show(self.footer_entries())

    @property
    def is_ready(self) -> bool:
        """Whether the frame stands, so that something can be shown in it."""
        return self._footer is not None and self._footer.is_attached

    def show_pending_notice(self) -> None:
        """Show what waits to be said, in the footer's place."""
        notice, self.context.pending_notice = self.context.pending_notice, None
        if notice is not None:
            self.query_one(FooterLine).show_notice(notice)
            self._notice_shown = True

    def end_notice(self, text: str | None = None) -> None:
        """What was said is no longer so: the keys stand there again. With a text, only where it is what was said."""
        if self._notice_shown:  # asked on every key
            self._notice_shown = text is not None
            self.query_one(FooterLine).end_notice(text)

    def hint_unbound_key(self, event: Key) -> None:
        """A letter that means nothing here: which screen knows it."""
        if self.focused is not None and self.focused.check_consume_key(event.key, event.character):
            return
        if len(event.key) == 1 and event.key.isalpha() and event.key not in self.active_bindings:
            hint = unbound_key_hint(event.key, self.PANE, self.context.actions)
            if hint:
                self.context.report(hint)

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
