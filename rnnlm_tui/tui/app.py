"""The app: wires screens, actions, the watching thread and the services together, and does nothing else.

Screens reach it as `self.lab`; what they may ask is `Laboratory` in `screens/lab.py`. Data flows one way: the watcher's
thread polls the open run's monitor, one `SnapshotChanged` message sets `snapshot` here and on the screen that shows, and
that screen's one watcher repaints what changed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.events import Event, Key, Resize
from textual.filter import LineFilter
from textual.screen import Screen

from rnnlm_tui.tui import crash, hangup, threads
from rnnlm_tui.tui.actions import PALETTE_KEY, PANES, Pane
from rnnlm_tui.tui.appearance import Appearance
from rnnlm_tui.tui.commands import ActionCommands
from rnnlm_tui.tui.everywhere import EverywhereActions
from rnnlm_tui.tui.keymap import Keymap, use_keys
from rnnlm_tui.tui.messages import ComparedChanged, MachineRead, MachineSeen, Notice, Noticed, RunsChanged, SnapshotChanged
from rnnlm_tui.tui.newest_size import at_size, terminal_size
from rnnlm_tui.tui.screens.pane import PaneScreen
from rnnlm_tui.tui.services import Services
from rnnlm_tui.tui.terminal_kind import ColourName, TerminalKind
from rnnlm_tui.tui.theme import THEME
from rnnlm_tui.tui.widgets.machine_view import Readings

if TYPE_CHECKING:
    from rnnlm_tui.store.run_directory import RunDirectory

SIZES_AT_START = 2
"""Textual tells the app its size twice before anything is painted."""
NOTICE_EDGE = 8
"""Cells of the footer's line that a notice leaves free, its sign included."""
STALLED_SECONDS = 5.0
"""Between two looks at the clock while a run stands still."""


def screen_of(pane: Pane) -> PaneScreen:
    """Make a pane's screen. Its module is imported only here, so that the first paint doesn't wait for the other panes."""
    match pane:
        case "runs":
            from rnnlm_tui.tui.screens.runs import RunsScreen

            return RunsScreen()
        case "compare":
            from rnnlm_tui.tui.screens.compare import CompareScreen

            return CompareScreen()
        case "config":
            from rnnlm_tui.tui.screens.config import ConfigScreen

            return ConfigScreen()
        case "train":
            from rnnlm_tui.tui.screens.train import TrainScreen

            return TrainScreen()
        case "checkpoints":
            from rnnlm_tui.tui.screens.checkpoints import CheckpointsScreen

            return CheckpointsScreen()
        case "prompt":
            from rnnlm_tui.tui.screens.prompt import PromptScreen

            return PromptScreen()


class RnnlmApp(EverywhereActions):
    """One terminal's view of the laboratory. Leaving it never stops a run."""

    CSS_PATH = "app.tcss"
    TITLE = "rnnlm-tui"
    COMMANDS = {ActionCommands}  # noqa: RUF012 (Textual declares it so)
    MODES: ClassVar[dict[str, str | Callable[[], Screen[None]]]] = {pane: partial(screen_of, pane) for pane in PANES}
    DEFAULT_MODE = "runs"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(PALETTE_KEY, "command_palette", show=False, priority=True, id="command_palette"),
        Binding("ctrl+q", "leave", "Leave", show=False, priority=True, id="leave_now"),
        Binding("ctrl+c", "help_quit", show=False, system=True),
    ]

    def __init__(
        self,
        run: RunDirectory | None = None,
        pane: Pane | None = None,
        *,
        ascii_only: bool = False,
        fps: float = 2.0,
        services: Services | None = None,
        settings: dict[str, object] | None = None,
        kind: TerminalKind | None = None,
        colours: ColourName | None = None,
        keymap: Keymap | None = None,
        trouble: str = "",
    ) -> None:
        """`trouble`: a warning about remembered settings that can't be used, empty if all are usable."""
        if pane is not None or run is not None:
            vars(self)["DEFAULT_MODE"] = pane or "train"  # before Textual makes the first screen, so that no other is built and thrown away
        self._keys, self._trouble = keymap or Keymap(), trouble
        super().__init__(run, ascii_only=ascii_only, fps=fps, services=services, settings=settings, actions=self._keys.actions)
        self._sizes_told = 0
        self.appearance = Appearance(kind or TerminalKind("16 million", light=False, braille=True), self.settings, colours=colours, ascii_only=ascii_only)
        self.no_color = self.no_color or self.appearance.colours == "none"
        self.animation_level = "none"
        self.register_theme(THEME)
        self.theme = THEME.name

    # what Textual calls

    async def on_mount(self) -> None:
        if not self.is_headless:
            hangup.leave_on_hangup(self.leave_at_once)
        self.set_interval(STALLED_SECONDS, self._tell_the_time)
        self._follow_compared()
        self.run_worker(threads.to_thread(self.watcher.loop), group="watch", exit_on_error=True)
        if self.run_directory is not None:
            self.watcher.open(self.run_directory, paint_first=self.current_mode == "train")
        self.say_damaged(self._trouble)
        hints = [words for words in (use_keys(self, self._keys), self.appearance.hint()) if words]
        if len(hints) == 1 and len(hints[0]) + NOTICE_EDGE <= self.size.width:  # on one line, which covers no table
            self.show_notice(Notice(hints[0].replace("\n", ": "), stays=True))
        else:
            for words in hints:
                self.notify(words, severity="warning", timeout=12, markup=False)
        elsewhere = self.run_directory is not None and (self.run_directory.name, self.current_mode) != (self.settings.get("run"), self.settings.get("pane"))
        if hints or elsewhere:
            self.remember()  # a hint is shown once; a run that `open` or `train` opened is opened again at the next start

    async def on_event(self, event: Event) -> None:
        """Textual's way for everything that happens: a key ends what was said before it; another size of the terminal, or the same one again, has cost it what stood there."""
        if isinstance(event, Key):
            self.watcher.attend()
            if self.pane_screen is not None:
                self.pane_screen.end_notice()
        if isinstance(event, Resize) and self._driver is not None and (size := terminal_size(self._driver)):
            event = at_size(event, size)
        await super().on_event(event)
        if isinstance(event, Resize):
            self._sizes_told += 1
            if self._sizes_told > SIZES_AT_START:
                self._paint_anew()

    async def on_unmount(self) -> None:
        self.watcher.close()
        if self.sampler is not None:
            await self.sampler.close()

    def _fatal_error(self) -> None:
        """Textual's handler of an exception that nobody caught; its own would print a traceback."""
        error = sys.exc_info()[1] or self._exception
        if error is not None:
            self._exit_renderables.append(Text(crash.sentence(error, crash.keep_traceback(error))))
        self._close_messages_no_wait()

    async def action_quit(self) -> None:
        """Textual's own way out: ours."""
        self.leave_at_once()

    def action_help_quit(self) -> None:
        """ctrl+c, which people press to leave: say how, for a run must not end by it."""
        self.say("q leaves, and stops no run")

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Every line of every widget passes these, and none of Textual's: its own way without colour are greys."""
        return self.appearance.filters

    def on_key(self, event: Key) -> None:
        """A key that no widget took, before the bindings have it."""
        if self.pane_screen is not None and self.screen is self.pane_screen:
            self.pane_screen.take_key(event)

    def on_snapshot_changed(self, message: SnapshotChanged) -> None:
        if self.run_directory is None or message.snapshot.summary.run != self.run_directory.name:
            return
        self.snapshot = message.snapshot
        self.alerting.see_snapshot(message.snapshot)
        screen = self.pane_screen
        if screen is not None:
            screen.snapshot = message.snapshot
        if self.sampler is None:
            self.call_after_refresh(self._painted)

    def _painted(self) -> None:
        """Start the work that needs much CPU time, once a run has been painted."""
        self.watcher.painted()
        if self.snapshot is not None and self.snapshot.checkpoints and self.sampler is None and not self._sampler_lock.locked():
            self.run_worker(self._warm_quietly(), group="sampler", exit_on_error=True)

    def on_runs_changed(self, message: RunsChanged) -> None:
        self.summaries = message.summaries
        self.alerting.see_runs(message.summaries)
        self.put_damaged_labels_aside(message.summaries)
        if message.complete:
            self.set_marks(self.marks.among(summary.run for summary in message.summaries))
        if self.pane_screen is not None and self.pane_screen.is_ready:
            self.pane_screen.show_runs(message.summaries)

    def on_compared_changed(self, message: ComparedChanged) -> None:
        self.compared = message.snapshots
        if self.pane_screen is not None:
            self.pane_screen.show_compared()

    def on_machine_seen(self, message: MachineSeen) -> None:
        self.machine = message.machine
        self.alerting.see_machine(message.machine)
        if self.pane_screen is not None and self.pane_screen.is_ready:
            self.pane_screen.show_machine(message.machine)

    def on_machine_read(self, message: MachineRead) -> None:
        self.readings = Readings(message.rows, message.live)
        if self.pane_screen is not None:
            self.pane_screen.show_readings()

    def on_noticed(self, message: Noticed) -> None:
        self.show_notice(message.notice)

    def _tell_the_time(self) -> None:
        """Nothing changes in a stalled run, or one that prepares, but for how long. A size that still waits to be told does so for good: Textual's timer for it never ticks if it starts late."""
        if self._resize_event is not None:
            self._check_resize()
        if self.snapshot is not None and self.snapshot.summary.status in ("stalled", "degraded", "lost", "preparing") and self.pane_screen is not None:
            self.pane_screen.refresh_frame()
