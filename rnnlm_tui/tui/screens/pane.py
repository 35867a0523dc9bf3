"""PaneScreen: the frame of every pane, and how a pane reaches the app.

A pane is a subclass of `PaneScreen`:

    class CheckpointsScreen(PaneScreen):
        PANE = "checkpoints"
        BINDINGS = bindings_for("checkpoints")

        def compose_body(self) -> ComposeResult:        # 21 lines at 80x24, the full width
            yield CheckpointTable(id="table")

        def show_snapshot(self, snapshot: RunSnapshot | None) -> None:   # inside one batch_update
            ...

        def action_choose_checkpoint(self) -> None:     # the methods of its actions in
        tui/actions.py
            self.context.selected_checkpoint = ...
            self.context.open_pane("prompt")

* Line 1 is identity, line 2 the panes, the last line the footer: all made here. Override
  `identity()` for another line 1.
* `snapshot` is the open run's current state; None if no run is open, or it hasn't been read yet.
  `show_snapshot` and the other methods that show something are called when it changes while the
  pane is shown; `show_snapshot` also when the pane comes back.
* Keys come from the action table; letters typed into a text field are text, and `esc` leaves the
  field (`action_leave_field`, overridden where esc stops something first). Set `FIRST_FOCUS` to the
  selector that takes the focus at first. On a pane in `WITH_TEXT_BOX` that is a `PromptBox`, which
  has the focus whenever the pane is opened and takes whatever is typed.
* The footer lists the actions of `footer_entries()` as far as there is room. Call
  `refresh_footer()` when they depend on anything but snapshot and focus.
* Textual calls `on_mount`, `on_resize` and the like of every class in turn, the subclass's first:
  don't call `super()`.
* `self.context` is the app, with its type.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import ComposeResult
from textual.containers import Container
from textual.content import Content
from textual.events import Key, Paste, Resize, ScreenResume
from textual.geometry import Size
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Static

from rnnlm_tui.tui import SMALLEST
from rnnlm_tui.tui._textual import ChangedCellsScreen, CurrentSize
from rnnlm_tui.tui.actions import (
    WITH_TEXT_BOX,
    Pane,
    action,
    key_label,
    shown_keys,
    unbound_key_hint,
)
from rnnlm_tui.tui.views.status import run_identity
from rnnlm_tui.tui.widgets.frame import FooterLine, IdentityLine, PanesLine

if TYPE_CHECKING:
    from rnnlm_tui.client.monitor import RunSnapshot
    from rnnlm_tui.schema.summary import RunSummary
    from rnnlm_tui.tui.app import RnnlmApp
    from rnnlm_tui.tui.widgets.prompt import PromptBox


FRAME_ROWS = 3
"""Lines of the frame: identity, panes and footer."""


def body_size(terminal: Size) -> Size:
    """Return the size of a pane without its frame."""
    return Size(terminal.width, max(0, terminal.height - FRAME_ROWS))


class PaneScreen(ChangedCellsScreen, CurrentSize, Screen[None]):
    """The base of all panes: identity line, panes line, body and footer."""

    PANE: ClassVar[Pane]
    FIRST_FOCUS: ClassVar[str] = ""
    """Selector of the widget that takes the focus when the pane is first shown. Empty: none, so
    letters act at once."""
    AUTO_FOCUS = ""

    def __init__(self) -> None:
        super().__init__()
        self._identity = IdentityLine(id="identity")
        self._footer = FooterLine(self.PANE, id="footer")
        self._painted_size: Size | None = None
        self._composed = False

    def compose(self) -> ComposeResult:
        yield self._identity
        yield PanesLine(self.PANE, id="panes")
        with Container(id="body"):
            yield from self.compose_body()
        yield self._footer
        yield Static(id="too-small")

    # for a pane to override

    def compose_body(self) -> ComposeResult:
        """The pane's own widgets."""
        return ()

    def show_snapshot(self, snapshot: RunSnapshot | None) -> None:
        """Show the open run.

        Called inside one batch_update, on every change and when the pane comes back.
        """

    def let_go(self) -> None:
        """Keep what isn't on disk yet, if the pane has something: the app leaves."""

    def show_runs(self, summaries: tuple[RunSummary, ...] | None) -> None:
        """Show the list of runs, if the pane has one; None if it hasn't been read yet."""

    def show_marks(self) -> None:
        """Show the marks for comparison, if the pane has them."""

    def show_compared(self) -> None:
        """Show the marked runs, `context.compared`, if the pane has them."""

    def show_machine(self) -> None:
        """Show the facts about this machine, `context.machine`."""
        self.refresh_frame()

    def show_readings(self) -> None:
        """Show this machine's load, `context.readings`, if the pane has it."""

    def identity(self, width: int) -> Content:
        """Return line 1 between the app's name and the device, in at most `width` columns."""
        run = self.context.run_directory
        return run_identity(run.name if run is not None else None, self.snapshot, width)

    def key_of(self, name: str) -> str:
        """Return the first key of an action as shown to the user."""
        return shown_keys(key_label(action(name, self.context.actions).keys[0]), self.app)

    def footer_entries(self) -> dict[str, str]:
        """Return the footer's actions by id, with their verbs (empty: the table's), in order of
        use."""
        return {}

    # the frame

    @property
    def context(self) -> RnnlmApp:
        """The app."""
        return cast("RnnlmApp", self.app)

    @property
    def snapshot(self) -> RunSnapshot | None:
        """The open run's current state."""
        return self.context.snapshot

    @property
    def run_path(self) -> Path | None:
        """Directory of the open run."""
        return self.context.run_directory.path if self.context.run_directory else None

    def on_mount(self) -> None:
        self._composed = True

        def watch(show: Callable[[], None], *names: str) -> None:
            """Show a change of the app only while this is its current pane."""
            for name in names:
                shown = lambda: show() if self.context.ready_pane is self else None  # noqa: E731
                self.watch(self.context, name, shown, init=False)

        watch(self.watch_snapshot, "snapshot")
        watch(lambda: self.show_runs(self.context.summaries), "summaries", "queue")
        watch(self.show_marks, "marks")
        watch(self.show_compared, "compared")
        watch(self.show_machine, "machine")
        watch(self.show_readings, "readings")
        if self.FIRST_FOCUS:
            self.query_one(self.FIRST_FOCUS, Widget).focus()
        self._arrive()

    def on_screen_resume(self, _event: ScreenResume) -> None:
        if self.is_ready:  # the first time, there are no widgets yet
            self._arrive()

    def _arrive(self) -> None:
        self._fit(self.app.size)
        self.refresh_all()
        self.show_pending_notice()

    def on_resize(self, event: Resize) -> None:
        if event.size != self._painted_size:  # at its start a pane gets its size several times
            self._painted_size = event.size
            self.forget_terminal()
        self._fit(event.size)
        self.refresh_frame()

    def watch_snapshot(self) -> None:
        """Show news of the open run."""
        # nothing moves under an overlay; the newest snapshot is shown afterwards
        if self.app.screen is self:
            self.refresh_all()

    def refresh_all(self) -> None:
        """Update frame and body together, once they exist."""
        if not self.is_ready:
            return
        with self.app.batch_update():
            self.show_snapshot(self.snapshot)
            self.refresh_frame()

    def refresh_frame(self) -> None:
        """Update line 1 and the footer."""
        if not self.is_ready:
            return
        run = self.snapshot if self.PANE == "train" else None
        ranks = () if run is None else run.summary.running_ranks
        self._identity.show(self.identity, self.context.machine, ranks)
        self.refresh_footer()

    def refresh_footer(self) -> None:
        """Update the footer, after a change of something that its verbs depend on."""
        if self.is_ready:
            self._footer.entries = tuple(self.footer_entries().items())

    @property
    def is_ready(self) -> bool:
        """Whether all widgets exist, those within others too."""
        return self._composed and self._footer.is_attached

    def show_pending_notice(self) -> None:
        """Show the pending notice in place of the footer."""
        notice, self.context.pending_notice = self.context.pending_notice, None
        if notice is not None:
            self._footer.notice = notice

    def end_notice(self, text: str | None = None) -> None:
        """Show the footer again. With a text, only if it is the notice's text."""
        self._footer.end_notice(text and self.context.with_keys(text))

    @property
    def text_box(self) -> PromptBox | None:
        """The box that takes what is typed; None if the pane has none, or isn't ready."""
        if self.PANE not in WITH_TEXT_BOX or not self.is_ready:
            return None
        return cast("PromptBox", self.query_one(self.FIRST_FOCUS))

    def take_typing(self, event: Key | Paste) -> None:
        """Put the cursor into the text box before it gets what is typed or pasted."""
        if self.text_box is not None:
            key, character = ("", " ") if isinstance(event, Paste) else (event.key, event.character)
            self.text_box.takes(key, character)

    def hint_unbound_key(self, event: Key) -> None:
        """Show which pane a letter belongs to that does nothing here."""
        if self.focused is not None and self.focused.check_consume_key(event.key, event.character):
            return
        if len(event.key) == 1 and event.key.isalpha() and event.key not in self.active_bindings:
            hint = unbound_key_hint(event.key, self.PANE, self.context.actions)
            if hint:
                self.context.report(hint)

    def action_part(self, part: str, method: str, *arguments: object) -> None:
        """Call a method of one of the pane's parts, such as its form or its list."""
        getattr(getattr(self, part), method)(*arguments)

    def action_leave_field(self) -> None:
        """Leave the text field, so that its keys act again."""
        self.set_focus(None)

    def _fit(self, size: Size) -> None:
        width, height = SMALLEST
        small, was_small = size.width < width or size.height < height, self.has_class("-too-small")
        self.set_class(small, "-too-small")
        if was_small and not small and self.FIRST_FOCUS:  # hidden widgets lose the focus
            self.call_after_refresh(self.query_one(self.FIRST_FOCUS, Widget).focus)
        if small:
            self.query_one("#too-small", Static).update(
                f"rnnlm-tui needs {width}×{height} cells, this terminal has"
                f" {size.width}×{size.height}."
            )
