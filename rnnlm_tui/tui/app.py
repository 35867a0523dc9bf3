"""RnnlmApp: connects screens, actions and the watcher's thread.

Screens use it as `self.context`. Data flows one way: the watcher's thread posts what it has read,
the app sets its attributes, and panes watch these and repaint what changed.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import cached_property, partial
from importlib import import_module
from io import TextIOWrapper
from time import monotonic, time
from typing import TYPE_CHECKING, ClassVar, Literal, TypeVar, cast

from rich.text import Text
from textual.app import App
from textual.binding import Binding, BindingType
from textual.events import Event, Key, Paste, Resize
from textual.filter import LineFilter
from textual.notifications import Notify, SeverityLevel
from textual.reactive import var
from textual.screen import Screen

from rnnlm_tui import client, store
from rnnlm_tui.errors import RnnlmError, UntrustedDatasetError
from rnnlm_tui.schema.status import LIVING
from rnnlm_tui.store.paths import keymap_file, listed_run
from rnnlm_tui.store.state import load_state
from rnnlm_tui.tui._textual import (
    ChangedCellsScreen,
    ParsedOnce,
    ShownNotification,
    all_screens,
    deliver_pending_resize,
    replace_crash_report,
    resize_to,
    terminal_size,
    write_to_terminal,
)
from rnnlm_tui.tui.actions import PALETTE_KEY, PANES, PROMPT_MODES, Pane, with_ascii_keys, with_keys
from rnnlm_tui.tui.alerts import ALERTS_SETTING, SHOWN_BY_TRAIN, Alert, Alerts, notification
from rnnlm_tui.tui.keymap import Keymap, read_keymap, use_keys
from rnnlm_tui.tui.messages import PROGRESS, Notice, NoticeKind, words_of
from rnnlm_tui.tui.poller import Polled, Watcher
from rnnlm_tui.tui.screens import run_commands
from rnnlm_tui.tui.screens.pane import PaneScreen
from rnnlm_tui.tui.settings import last_session, save_settings
from rnnlm_tui.tui.terminal import (
    FULL,
    REINSTALLED,
    ColourName,
    TerminalKind,
    crash_report,
    leave_on_hangup,
    log_traceback,
    terminal_kind,
)
from rnnlm_tui.tui.text import safe_text
from rnnlm_tui.tui.theme import COLOUR_WORDS, THEME, Appearance, colour_name, repaint
from rnnlm_tui.tui.threads import act, to_thread, wait_for_threads
from rnnlm_tui.tui.views.compare import MOST_MARKED, Marks
from rnnlm_tui.tui.views.machine import Readings

if TYPE_CHECKING:
    from rnnlm_tui.client.monitor import RunSnapshot
    from rnnlm_tui.client.sampler import SamplerClient
    from rnnlm_tui.schema.config import RunConfig
    from rnnlm_tui.schema.queue import QueueListing
    from rnnlm_tui.schema.summary import RunSummary
    from rnnlm_tui.store.lineage import ParentCheckpoint
    from rnnlm_tui.store.paths import RunDirectory
    from rnnlm_tui.system.machine import MachineFacts
    from rnnlm_tui.tui.screens.overlay import Overlay
    from rnnlm_tui.tui.screens.trash import DeletedRuns
    from rnnlm_tui.tui.views.form import Draft
    from rnnlm_tui.tui.views.prompt import PromptSession
    from rnnlm_tui.tui.widgets.chart import MarksStyle


ResultT = TypeVar("ResultT")

NOTICE_MARGIN = 8
"""Cells of the footer's line that a notice leaves free, its glyph included."""
PRESENT_SECONDS = 30.0
"""The user counts as present for this long after a key."""
HELD_SECONDS = 0.25
"""The first picture waits at most this long for what is read first, so that no empty pane is
painted before it."""
CLOCK_SECONDS = 5.0
"""Seconds between updates of the time in a stalled run's frame."""
LEAST_COMPARED = 2


def create_screen(pane: Pane) -> PaneScreen:
    """Create a pane's screen.

    Its module is imported only here, so that the first paint doesn't wait for other panes.
    """
    module = import_module(f"rnnlm_tui.tui.screens.{pane}")
    return cast(PaneScreen, getattr(module, f"{pane.capitalize()}Screen")())


class RnnlmApp(App[int]):
    """The app on one terminal. Leaving it never stops a run."""

    CSS_PATH = "app.tcss"
    TITLE = "rnnlm-tui"
    MODES: ClassVar[dict[str, str | Callable[[], Screen[None]]]] = {
        pane: partial(create_screen, pane) for pane in PANES
    }
    DEFAULT_MODE = "runs"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(PALETTE_KEY, "command_palette", show=False, priority=True, id="command_palette"),
        Binding("ctrl+q", "leave", "Leave", show=False, priority=True, id="leave_now"),
        Binding("ctrl+c", "help_quit", show=False, system=True),
    ]

    followed: var[Mapping[str, RunSnapshot]] = var(dict, init=False)
    """The runs that the watcher follows and has read: the open one, and the marked ones while a
    pane shows them."""
    snapshot: var[RunSnapshot | None] = var(None, init=False)
    """The open run's current state; None until it has been read."""
    compared: var[tuple[RunSnapshot, ...]] = var((), init=False)
    """The marked runs that have been read, in the order of their letters."""
    summaries: var[tuple[RunSummary, ...] | None] = var(None, init=False)
    """All runs, newest first; None until they have been read."""
    queue: var[QueueListing | None] = var(None, init=False)
    """The queue of runs; None until it has been read."""
    machine: var[MachineFacts | None] = var(None, init=False)
    """This machine; None at first."""
    readings: var[Readings] = var(Readings(), init=False)
    """This machine's load, as read by the app while no worker reads it."""
    marks: var[Marks] = var(Marks(), init=False)
    """The runs marked for comparison, with their letters and colours."""
    pending_notice: var[Notice | None] = var(None, init=False)
    """The notice that the next pane that is ready shows."""

    def __init__(
        self,
        run: RunDirectory | None = None,
        pane: Pane | None = None,
        *,
        settings: dict[str, object] | None = None,
        kind: TerminalKind = FULL,
        colours: ColourName | None = None,
        keymap: Keymap | None = None,
        fps: float = 2.0,
    ) -> None:
        """Open `run` on `pane`, or the list of runs; `fps`: polls of the open run a second."""
        if pane is not None or run is not None:
            # before Textual creates the first screen, so that it creates no other
            vars(self)["DEFAULT_MODE"] = pane or "train"
        super().__init__()
        self._keymap_file = keymap or Keymap()
        self.actions = self._keymap_file.actions
        """The table of actions with the user's keys."""
        if not kind.braille:
            self.actions = with_ascii_keys(self.actions)
        self.run_directory = run
        """The open run."""
        self.selected_checkpoint: str | None = None
        """Directory of the checkpoint to sample from, relative to the run's directory; None: the
        best one."""
        self.sampler: SamplerClient | None = None
        """The one sampler; None until it has been started in the background."""
        self.ascii_only = not kind.braille
        """Draw marks, panels and charts in ASCII."""
        self.settings: dict[str, object] = settings if settings is not None else {}
        """Plain JSON values that are kept for the next start; screens read and write their own
        keys."""
        self.draft: Draft | None = None
        """A new run that isn't changed yet: from its first change on, a run keeps it."""
        self.set_reactive(RnnlmApp.marks, Marks.from_json(self.settings.get("marked")))
        self.all_listed = False
        """Whether all runs have been read: of hundreds, the newest come first."""
        self.prefer_running = False
        """Begin the list of runs with one that trains: the open run is only the last session's."""
        self._held = ExitStack()
        """Holds the first picture until it is closed."""
        self._unsaved = asyncio.Event()
        """Set if settings have changed since the last save began."""
        self._labels_reported: set[str] = set()
        """Runs whose damaged labels were moved aside and reported."""
        self._sampler_lock = asyncio.Lock()
        self._alerts = Alerts(since=time())
        self.last_key = -PRESENT_SECONDS
        """When a key was pressed last, in monotonic seconds."""
        self.watcher = Watcher(self.post_message, fps=fps, reads_machine=self._reads_machine)
        """The thread that polls runs and machine."""
        self.appearance = Appearance(self.settings, kind, colours)
        self.no_color = self.no_color or self.appearance.colours == "none"
        self.animation_level = "none"
        self.register_theme(THEME)
        self.theme = THEME.name
        self.stylesheet = ParsedOnce(variables=self.get_css_variables())
        replace_crash_report(self, lambda error: Text(crash_report(error, log_traceback(error))))

    # start, events and the end

    async def on_mount(self) -> None:
        if not self.is_headless:
            leave_on_hangup(self.leave_now)
        self.set_interval(CLOCK_SECONDS, self._update_clock)
        self._watch_compared()
        self.run_worker(to_thread(self.watcher.loop), group="watch", exit_on_error=True)
        self.run_worker(self._save_changes(), group="settings", exit_on_error=True)
        self._held.enter_context(self.batch_update())
        self.set_timer(HELD_SECONDS, self._held.close)
        run = self.run_directory
        if run is not None:
            self.watcher.open(run, paint_first=self.current_mode == "train")
        hints = [*filter(None, (use_keys(self, self._keymap_file), self.appearance.hint()))]
        # one line, which covers no table
        if len(hints) == 1 and len(hints[0]) + NOTICE_MARGIN <= self.size.width:
            self.show_notice(Notice(hints[0].replace("\n", ": "), stays=True))
        else:
            for hint in hints:
                self.show_notification(hint)
        saved = (self.settings.get("run"), self.settings.get("pane"))
        opened_by_command = run is not None and (run.name, self.current_mode) != saved
        # a hint is shown once; the run that `open` or `train` opened is also the next start's
        if hints or opened_by_command:
            self.save_session()

    async def on_event(self, event: Event) -> None:
        """End the notice on a key, and repaint after every resize, also one to the same size."""
        pane = self.pane_screen
        if isinstance(event, Key):
            self.last_key = monotonic()
            if pane is not None:
                pane.end_notice()
        if isinstance(event, Key | Paste) and not event.is_forwarded and pane is not None:
            pane.take_typing(event)
        if isinstance(event, Resize) and (size := terminal_size(self)):
            event = resize_to(event, size)
        await super().on_event(event)
        if isinstance(event, Resize):
            self._repaint_screens()

    async def on_unmount(self) -> None:
        self.watcher.close()
        if self.sampler is not None:
            await self.sampler.close()

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Return the app's line filter and none of Textual's.

        Without colour, Textual would turn colours into greys.
        """
        return [self.appearance.filter]

    def on_key(self, event: Key) -> None:
        """Handle a key that no widget handled, before the bindings."""
        if self.pane_screen is not None and self.screen is self.pane_screen:
            self.pane_screen.hint_unbound_key(event)

    def _update_clock(self) -> None:
        """In a stalled or preparing run only the time changes."""
        deliver_pending_resize(self)
        if self.pane_screen is not None:
            self.pane_screen.refresh_frame()

    def _repaint_screens(self) -> None:
        """Repaint everything after a resize.

        Textual does so only for a different size: a window made smaller and large again at once
        stays half empty.
        """
        for screen in self.screen_stack:
            if isinstance(screen, ChangedCellsScreen):
                screen.forget_terminal()
            screen.refresh()

    # what the watcher has read

    def on_polled(self, message: Polled) -> None:
        """Set what has changed; the watch methods of the app and of its panes show it."""
        for name, value in message.values.items():
            setattr(self, name, value)
        self._held.close()

    def watch_followed(self) -> None:
        """Take the open run from the followed runs."""
        run = self.run_directory
        self.snapshot = None if run is None else self.followed.get(run.name)

    def watch_marks(self) -> None:
        self.save_session()

    def watch_snapshot(self, snapshot: RunSnapshot | None) -> None:
        if snapshot is None:
            return
        now, summary = time(), snapshot.summary
        self._show_alerts(self._alerts.check_runs([summary], now))
        self._show_alerts(self._alerts.check_events(summary.run, snapshot.events, now))
        if self.sampler is None:
            self.call_after_refresh(self._start_background_work)

    def _start_background_work(self) -> None:
        """Start what needs much CPU time, once a run has been painted."""
        self.watcher.painted.set()
        has_checkpoints = self.snapshot is not None and self.snapshot.checkpoints
        if has_checkpoints and self.sampler is None and not self._sampler_lock.locked():
            self.run_beside(self.warm_sampler())

    def watch_summaries(self, summaries: tuple[RunSummary, ...]) -> None:
        self._show_alerts(self._alerts.check_runs(summaries, time()))
        damaged = {summary.run for summary in summaries if summary.labels_damaged}
        for run in damaged - self._labels_reported:
            self._labels_reported.add(run)
            self.run_beside(self._move_labels_aside(run))
        if self.all_listed and self.marks.names:
            self.run_beside(self._unmark_gone())

    async def _unmark_gone(self) -> None:
        """Drop the marks of runs that are gone. A list may be older than a run's new name."""
        names = self.marks.names
        gone = await to_thread(lambda: [run for run in names if not listed_run(run).path.is_dir()])
        self.marks = self.marks.among(name for name in self.marks.names if name not in gone)

    def watch_queue(self, before: QueueListing | None, queue: QueueListing) -> None:
        if queue.reason and (before is None or not before.reason):
            self.show_notice(
                Notice(f"queue paused: {queue.reason}", "trouble", "{key:show_queue} shows it")
            )

    def watch_machine(self, machine: MachineFacts) -> None:
        self._show_alerts(self._alerts.check_disk(machine.disk_free, machine.disk_total))

    def watch_pending_notice(self) -> None:
        """Show a notice on the current pane, or on the next one that is ready."""
        if self.pending_notice is not None and self.ready_pane is not None:
            self.ready_pane.show_pending_notice()

    async def _move_labels_aside(self, run: str) -> None:
        """Move a run's unusable labels aside: the next change would overwrite them."""
        kept = await to_thread(
            lambda: store.labels.labels_file(listed_run(run)).move_damaged_aside()
        )
        if kept is not None:
            kept_as = f"the labels of {run} are damaged: the file is kept as {kept.name}"
            pinned = "all its checkpoints are pinned now"
            self.show_notification(f"{kept_as}, and {pinned}", seconds=20)

    # panes, runs and marks

    @property
    def pane_screen(self) -> PaneScreen | None:
        """The current pane, also under an overlay."""
        stack = self.screen_stack
        return stack[0] if stack and isinstance(stack[0], PaneScreen) else None

    @property
    def ready_pane(self) -> PaneScreen | None:
        """The current pane once it can show something."""
        pane = self.pane_screen
        return pane if pane is not None and pane.is_ready else None

    @cached_property
    def prompt_session(self) -> PromptSession:
        """What the modes of the prompt share: the open text, settings and weights."""
        from rnnlm_tui.tui.views.prompt import PromptSession

        return PromptSession()

    @property
    def marks_style(self) -> MarksStyle:
        """What charts draw their dots with."""
        if self.ascii_only:
            return "ascii"
        return "block" if self.settings.get("dots") == "block" else "braille"

    def mark(self, run: str) -> None:
        """Mark or unmark a run for comparison."""
        if self.marks.full and not self.marks.letter(run):
            full = f"{MOST_MARKED} runs are marked, the most possible"
            self.report(full + ": unmark one with {key:mark_run}")
            return
        self.marks = self.marks.toggled(run)

    def _watch_compared(self) -> None:
        """Poll the marked runs while a pane shows them."""
        shown = self.current_mode in ("compare", "runs") and len(self.marks.names) >= LEAST_COMPARED
        self.watcher.compare(self.marks.names if shown else ())

    def with_keys(self, text: str) -> str:
        """Return a text for any pane with the keys of actions in place of `{key:id}`."""
        return with_keys(text, self.actions)

    @property
    def no_run_words(self) -> tuple[str, str]:
        """What is true without an open run, and what to press."""
        state, way = "No run open.", "{key:show_runs} lists the runs."
        if self.current_mode == "runs":
            way = "Choose one with {key:open_selected}, or press {key:new_run} for a new one."
            if self.summaries == ():
                way = "Press {key:open_selected} to start the demo, {key:new_run} to configure one."
        elif self.draft is not None and not self.draft.base_name.startswith("preset "):
            state = f"Draft from {self.draft.base_name}, not started."
            way = "{key:leave_field} {key:show_config} shows it, {key:start_draft} there starts it."
        return state, self.with_keys(way)

    def open_pane(self, pane: Pane) -> None:
        """Go to a pane."""
        if pane in ("train", "checkpoints") and self.run_directory is None:
            state, way = self.no_run_words
            on_list = self.current_mode == "runs"
            self.report(f"{state} {way}" if on_list else f"{state.rstrip('.')}: {way}")
            return
        if pane == "compare" and len(self.marks.names) < LEAST_COMPARED:
            self.report("mark two runs with {key:mark_run} to compare them")
            return
        if self.current_mode != pane:
            while len(self.screen_stack) > 1:
                self.screen.dismiss()  # who asks is answered
            self.switch_mode(pane)
        if self.pane_screen is not None and self.pane_screen.text_box is not None:
            self.pane_screen.set_focus(self.pane_screen.text_box)
        self.save_session()

    action_open_pane = open_pane

    def open_run(self, run: RunDirectory, pane: Pane | None = None) -> None:
        """Open a run and go to the pane; None: the form of a draft, else its charts."""
        self.select_run(run)
        self.draft = None
        drafts = [summary.run for summary in self.summaries or () if summary.status == "draft"]
        self.open_pane(pane or ("config" if run.name in drafts else "train"))

    def select_run(self, run: RunDirectory) -> None:
        """Open a run and stay on the pane; an unchanged draft stays on the config pane."""
        if run.name in self.watcher.removed:
            return  # it was found before it was deleted or renamed
        if self.run_directory is None or run.path != self.run_directory.path:
            self.run_directory = run
            self.selected_checkpoint = None
            self.watcher.open(run)
            self.set_reactive(RnnlmApp.snapshot, self.followed.get(run.name))
            self.mutate_reactive(RnnlmApp.snapshot)
        self.save_session()

    @cached_property
    def deleted(self) -> DeletedRuns:
        """The runs deleted since the start."""
        from rnnlm_tui.tui.screens.trash import DeletedRuns

        return DeletedRuns(self)

    def close_run(self) -> None:
        """Leave no run open. No pane is told: the next run or draft is shown when it is opened."""
        self.run_directory = self.selected_checkpoint = None
        self.watcher.open(None)
        self.set_reactive(RnnlmApp.snapshot, None)

    def new_draft(self) -> None:
        """Configure a new run: close the open run and show the draft on the config pane."""
        self.close_run()
        self.open_pane("config")

    async def config_of(self, run: str) -> RunConfig | None:
        """Return a run's config; report it if that can't be read."""
        found = (await self.wait_for(lambda: self.watcher.runs.configs([run]))).get(run)
        if found is None:
            self.report(f"the config of {run} can't be read", trouble=True)
        return found

    async def new_draft_from(self, run: str, parent: ParentCheckpoint | None = None) -> None:
        """Configure a new run based on another.

        With a parent, it starts from that checkpoint's weights.
        """

        config = await (self.wait_for(parent.config) if parent else self.config_of(run))
        if config is not None:
            from rnnlm_tui.tui.views.form import Draft

            self.draft = Draft(config, safe_text(run, limit=40), parent=parent)
            self.new_draft()

    # workers

    def run_beside(self, work: Coroutine[object, object, object]) -> None:
        """Run `work` beside the app, and report its errors.

        Several may wait for a user or a disk at once; the app's end cancels them.
        """

        async def run() -> None:
            try:
                await work
            except (RnnlmError, OSError) as error:
                self.report_error(error)
            except ImportError as error:
                log_traceback(error)
                self.show_notification(REINSTALLED, "error")

        self.run_worker(run(), group="threads", exit_on_error=True)

    async def ask(self, question: Overlay[ResultT]) -> ResultT | None:
        """Return the answer to a question; None if it is taken away unanswered."""
        answer = self.push_screen(question, wait_for_dismiss=True)
        try:
            # not cancelled with the asker: the question still closes with an answer
            return await asyncio.shield(answer)
        finally:
            if self.is_running and self.screen is question:
                question.dismiss()

    async def wait_for(self, work: Callable[[], ResultT]) -> ResultT:
        """Return what `work` returns in a thread.

        If it needs the code of a dataset that isn't trusted yet, the user is asked, and it is done
        again. Look functions up in `client` and `store` inside `work`: the first use of their
        modules imports them.
        """
        try:
            return await to_thread(work)
        except UntrustedDatasetError as error:
            await self._ask_for_trust(error)
        return await self.wait_for(work)

    def in_thread(
        self,
        work: Callable[[], ResultT],
        then: Callable[[ResultT], object] = lambda _result: None,
        failed: Callable[[RnnlmError | OSError], None] | None = None,
    ) -> None:
        """Call `then` with what `work` returns; errors go to `failed`, or are reported."""

        async def run() -> None:
            try:
                result = await self.wait_for(work)
            except (RnnlmError, OSError) as error:
                (failed or self.report_error)(error)
                return
            then(result)

        self.run_beside(run())

    async def _ask_for_trust(self, error: UntrustedDatasetError) -> None:
        """Ask whether a dataset's code may run; raise the error if not."""
        from rnnlm_tui.tui.screens.choose import ChooseScreen

        choices = [("cancel", ""), ("run it", "as you, with all your rights")]
        note = f"The text comes from {error.source}: its code is in {error.path}"
        question = ChooseScreen("Run the dataset's code?", choices, note=safe_text(note))
        if await self.ask(question) != "run it":
            raise error
        await to_thread(lambda: client.start.trust_dataset(error.source))

    async def warm_sampler(self) -> SamplerClient:
        """Return the sampler, started if necessary."""
        async with self._sampler_lock:
            if self.sampler is None:
                kind = await to_thread(lambda: client.sampler.SamplerClient)
                sampler = kind(yields="computing")
                await sampler.start()
                self.sampler = sampler
        return self.sampler

    def _reads_machine(self) -> bool:
        """Whether a present user sees the machine and no worker reads it; asked by the watcher's
        thread."""
        snapshot = self.snapshot
        return (
            monotonic() - self.last_key < PRESENT_SECONDS
            and self.current_mode == "train"
            and self.app_focus
            and snapshot is not None
            and snapshot.summary.status not in LIVING
            and not len(snapshot.machine)
        )

    # notices and alerts

    def report(self, text: str, *, trouble: bool = False) -> None:
        """Show one line in place of the footer for some seconds."""
        self.show_notice(Notice(text, "trouble" if trouble else "fact"))

    def report_change(self, text: str, kind: NoticeKind = "fact") -> None:
        """Report what was changed, and read the runs again."""
        self.watcher.poll_now()
        self.show_notice(Notice(text, kind))

    def report_error(self, error: RnnlmError | OSError) -> None:
        """Notify the user of an error with its hint."""
        message, hint = words_of(error)
        self.show_notification(f"{message}\n{hint}".strip(), "error")

    def show_notification(
        self, text: str, severity: SeverityLevel = "warning", seconds: float = 12
    ) -> None:
        """Show several lines over the pane for some seconds; nothing for an empty text."""
        if text:
            shown = safe_text(text, limit=600)
            self.post_message(Notify(ShownNotification(shown, severity=severity, timeout=seconds)))

    def show_notice(self, notice: Notice) -> None:
        """Show a notice on the current pane, or on the next one."""
        text, hint = map(self.with_keys, (notice.text, notice.hint))
        self.pending_notice = notice._replace(text=text, hint=hint)

    def _show_alerts(self, alerts: Sequence[Alert]) -> None:
        """Show alerts in place of the footer, unless the train pane shows the same.

        A terminal without focus is notified too.
        """
        open_run = self.run_directory.name if self.run_directory is not None else ""
        for alert in alerts:
            shown = alert.run == open_run and alert.kind in SHOWN_BY_TRAIN
            if self.current_mode != "train" or not shown:
                text = safe_text(alert.text, newlines="space")
                self.show_notice(Notice(text, "trouble" if alert.trouble else "done", stays=True))
            if not self.app_focus and self.settings.get(ALERTS_SETTING) is not False:
                text = notification(alert.text, os.environ, ascii_only=self.ascii_only)
                write_to_terminal(self, text)

    def action_alerts(self) -> None:
        on = self.settings.get(ALERTS_SETTING) is False
        self.settings[ALERTS_SETTING] = on
        self.save_settings()
        state = "on, while the terminal is not focused" if on else "off: alerts only in the app"
        self.report(f"terminal notifications {state}")

    # settings

    def save_session(self) -> None:
        """Save the settings with the open run and the pane."""
        self.watcher.show_list(self.current_mode in ("runs", "train", "compare", "versus"))
        self._watch_compared()
        self.settings["pane"] = self.current_mode
        self.settings["marked"] = list(self.marks.places)
        self.settings["run"] = self.run_directory.name if self.run_directory else ""
        self.save_settings()

    def save_settings(self) -> None:
        """Save `settings` in the background; several calls in a row save once or twice."""
        self._unsaved.set()

    async def _save_changes(self) -> None:
        """Save the settings whenever they have changed.

        A problem is reported once, not with each key on a disk that is full or read-only.
        """
        problem = ""
        while await self._unsaved.wait():
            self._unsaved.clear()
            try:
                await to_thread(save_settings, dict(self.settings))
                problem = ""
            except (RnnlmError, OSError) as error:
                if str(error) != problem:
                    self.report_error(error)
                problem = str(error)

    def save_last_changes(self) -> None:
        """Save what changed during the last save, after the app has ended; nothing can show an
        error any more."""
        if self._unsaved.is_set():
            with suppress(RnnlmError, OSError):
                save_settings(dict(self.settings))

    # actions of every screen

    def action_next_mode(self) -> None:
        modes = list(PROMPT_MODES)
        here = next((place for place, mode in enumerate(modes) if mode == self.current_mode), -1)
        self.open_pane(modes[(here + 1) % len(modes)])

    def action_command_palette(self) -> None:
        from rnnlm_tui.tui.commands import PaletteScreen

        if isinstance(self.screen, PaneScreen):
            self.push_screen(PaletteScreen(self.screen), lambda command: command and command())

    def action_keys(self) -> None:
        from rnnlm_tui.tui.screens.help import HelpScreen

        screen = self.pane_screen
        if screen is None:
            return
        active = screen.active_bindings.values() if screen.focused is not None else ()
        own = [one.binding.id for one in active if one.node is screen.focused and one.binding.id]
        self.push_screen(HelpScreen(screen.PANE, self.actions, own))

    def action_next_theme(self) -> None:
        self.use_colours(self.appearance.next())
        if self.pane_screen is not None:
            self.pane_screen.refresh_all()  # without colour, curves have letters
        self.save_session()
        self.report(f"colours: {COLOUR_WORDS[self.appearance.colours]}")

    def use_colours(self, colours: ColourName) -> None:
        """Draw in other colours from now on."""
        self.appearance.use(colours)
        self.no_color = colours == "none"
        repaint(self)
        self._repaint_screens()

    def action_next_marks(self) -> None:
        from rnnlm_tui.tui.widgets.chart import Chart

        self.settings["dots"] = "braille" if self.settings.get("dots") == "block" else "block"
        for screen in all_screens(self):
            for chart in screen.query(Chart):
                chart.redraw()
        self.save_session()
        words = {"ascii": "charts are drawn in ASCII", "block": "dots: blocks"}
        self.report(words.get(self.marks_style, "dots: braille"))

    def action_show_log(self) -> None:
        from rnnlm_tui.tui.screens.log import WorkerLogScreen
        from rnnlm_tui.tui.views.train import event_lines

        if self.run_directory is None:
            self.report(run_commands.NO_RUN)
        else:
            events = [] if self.snapshot is None else event_lines(self.snapshot)
            self.push_screen(WorkerLogScreen(self.run_directory, events))

    @act
    async def action_command(
        self, name: Literal["pause", "resume_elsewhere", "send", "stop"], *arguments: str
    ) -> None:
        """Let the open run's worker do something."""
        await getattr(run_commands, name)(self, *arguments)

    def action_help_quit(self) -> None:
        """On ctrl+c, show how to leave: ctrl+c must not end a run."""
        self.report("press ^q to leave: runs keep training")

    @act
    async def action_leave(self) -> None:
        from rnnlm_tui.tui.screens.quit import QuitScreen

        run, answer = self.run_directory, "leave"
        living = [summary for summary in self.current_summaries() if summary.status in LIVING]
        if living:
            answer = await self.ask(QuitScreen(living)) or ""
        if answer == "stop" and run is not None:
            self.report(PROGRESS["stop"])
            await self.wait_for(lambda: client.control.send(run, "stop"))
        if answer:
            self.leave_now()

    def current_summaries(self) -> tuple[RunSummary, ...]:
        """All runs, with the open one's newest state."""
        known = {} if self.snapshot is None else {self.snapshot.summary.run: self.snapshot.summary}
        for summary in self.summaries or ():
            known.setdefault(summary.run, summary)
        return tuple(known.values())

    def leave_now(self) -> None:
        """Leave without a question; settings are on disk already."""
        if self.pane_screen is not None:
            self.pane_screen.let_go()
        self.watcher.close()
        # not at once: what the pane keeps is to be under way, else it is cancelled
        asyncio.get_running_loop().call_soon(self.exit, 0)


def run_app(
    run: RunDirectory | None = None,
    pane: str | None = None,
    *,
    ascii: bool | None = None,
    fps: float = 2.0,
    mouse: bool = True,
    colours: str = "auto",
) -> int:
    """Run the app on this terminal and return its exit code.

    Without a run it opens where the last session ended, or on the list of runs. ASCII (`ascii`
    None) and colours ("auto") are chosen by what the terminal can show.
    """
    for stream in (sys.__stdout__, sys.__stderr__):
        if isinstance(stream, TextIOWrapper):
            # a character that the terminal's encoding lacks is one cell, not an error
            stream.reconfigure(errors="replace")
    settings = load_state()
    kind = terminal_kind(os.environ, sys.stdout.encoding or "")
    if ascii is not None:
        kind = kind._replace(braille=not ascii)
    place: Pane | None = next((known for known in PANES if known == pane), None)
    restored = run is None and place is None
    if restored:
        run, place = last_session(settings)
    keymap = read_keymap(keymap_file())
    app = RnnlmApp(
        run,
        place,
        settings=settings,
        kind=kind,
        colours=colour_name(colours),
        keymap=keymap,
        fps=fps,
    )
    app.prefer_running = restored and place == "runs"
    code = app.run(mouse=mouse)
    if wait_for_threads():  # else the disk hangs
        app.save_last_changes()
    return code if code is not None else app.return_code or 0
