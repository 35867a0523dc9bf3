"""What screens may ask of the app: runs to open, commands to send, things to say, work for threads. `Laboratory` in `screens/lab.py` is the contract."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from inspect import isawaitable
from typing import TYPE_CHECKING, TypeVar

from textual.app import App

from rnnlm_tui.contract.figures import counted
from rnnlm_tui.contract.status import LIVING
from rnnlm_tui.errors import InputError, RnnlmError
from rnnlm_tui.tui import remembered, steering
from rnnlm_tui.tui.actions import ACTIONS, Action, Pane
from rnnlm_tui.tui.alerting import Alerting
from rnnlm_tui.tui.messages import Notice
from rnnlm_tui.tui.screens.pane import PaneScreen
from rnnlm_tui.tui.services import Services
from rnnlm_tui.tui.threads import last_words, to_thread
from rnnlm_tui.tui.watch import Watcher
from rnnlm_tui.tui.widgets.content import safe_text
from rnnlm_tui.tui.widgets.machine_view import Readings
from rnnlm_tui.tui.widgets.marks import MOST_MARKED, Marks

if TYPE_CHECKING:
    from rnnlm_tui.contract.commands import Verb
    from rnnlm_tui.contract.config import RunConfig
    from rnnlm_tui.contract.summary import RunSummary
    from rnnlm_tui.store.run_directory import RunDirectory
    from rnnlm_tui.supervisor.login import EndsAtLogout
    from rnnlm_tui.supervisor.machine import MachineFacts
    from rnnlm_tui.supervisor.monitor import RunSnapshot
    from rnnlm_tui.supervisor.sampler_client import SamplerClient
    from rnnlm_tui.tui.widgets.chart import MarksStyle

ResultT = TypeVar("ResultT")

LEAST_COMPARED = 2


class LaboratoryApp(App[int]):
    """The part of the app that screens talk to; `app.py` wires it to screens, keys and messages."""

    def __init__(
        self,
        run: RunDirectory | None,
        *,
        ascii_only: bool,
        fps: float,
        services: Services | None,
        settings: dict[str, object] | None,
        actions: tuple[Action, ...] = ACTIONS,
    ) -> None:
        super().__init__()
        self.actions = actions
        self.run_directory = run
        self.snapshot: RunSnapshot | None = None
        self.summaries: tuple[RunSummary, ...] | None = None
        self.compared: tuple[RunSnapshot, ...] = ()
        self.machine: MachineFacts | None = None
        self.readings = Readings()
        self.selected_checkpoint: str | None = None
        self.sampler: SamplerClient | None = None
        self.ascii_only = ascii_only
        self.services = services or Services()
        self.settings: dict[str, object] = settings if settings is not None else {}
        self.draft: RunConfig | None = self._recalled_draft()
        self.draft_from = ""
        self.marks = Marks.from_json(self.settings.get("marked"))
        self.waiting_notice: Notice | None = None
        self.prefer_living = False
        self._keeping = self._keep_again = False
        """Whether settings are being written down, and whether they have changed since."""
        self._labels_reported: set[str] = set()
        """Runs whose damaged labels were moved aside and reported."""
        self._sampler_lock = asyncio.Lock()
        self.alerting = Alerting(self)
        self.watcher = Watcher(self.services, self.post_message, fps=fps, reads_machine=self._reads_machine)

    def _recalled_draft(self) -> RunConfig | None:
        """The draft of the last session. Its reader is imported only if there is a draft."""
        if not self.settings.get("draft"):
            return None
        from rnnlm_tui.tui.widgets.form_draft import draft_from_json

        kept = draft_from_json(self.settings.get("draft"))
        return kept[0].nearest_config() if kept is not None else None

    @property
    def pane_screen(self) -> PaneScreen | None:
        """The pane that shows, under whatever lies over it."""
        stack = self.screen_stack
        return stack[0] if stack and isinstance(stack[0], PaneScreen) else None

    @property
    def marks_style(self) -> MarksStyle:
        """What charts draw their dots with, where it is not ASCII."""
        return "block" if self.settings.get("dots") == "block" else "braille"

    @property
    def marked(self) -> tuple[str, ...]:
        return self.marks.names

    def mark(self, run: str) -> None:
        if self.marks.full and not self.marks.letter(run):
            self.say(f"{MOST_MARKED} runs are marked: space on one of them makes room")
            return
        self.set_marks(self.marks.toggled(run))

    def set_marks(self, marks: Marks) -> None:
        if marks != self.marks:
            self.marks = marks
            self.remember()
            if self.pane_screen is not None:
                self.pane_screen.show_marks()

    def open_pane(self, pane: Pane) -> None:
        if pane in ("train", "checkpoints") and self.run_directory is None:
            self.say("no run is open: choose one with enter, or n for a new one")
            return
        if pane == "compare" and len(self.marked) < LEAST_COMPARED:
            self.say("space marks a run to compare: two are needed")
            return
        if self.current_mode != pane:
            while len(self.screen_stack) > 1:
                self.pop_screen()
            self.switch_mode(pane)
        self.remember()

    def open_run(self, run: RunDirectory, pane: Pane = "train") -> None:
        self.choose_run(run)
        self.draft = None
        self.open_pane(pane)

    def choose_run(self, run: RunDirectory) -> None:
        if self.watcher.has_taken(run.name):
            return  # it was found before it was deleted or renamed
        if self.run_directory is None or run.path != self.run_directory.path:
            self.run_directory = run
            self.snapshot = None
            self.selected_checkpoint = None
            self.watcher.open(run)
            if self.pane_screen is not None:
                self.pane_screen.snapshot = None
        self.remember()

    def close_run(self) -> None:
        """No run is open any more: it was deleted, or a new one is being configured."""
        self.run_directory = self.snapshot = self.selected_checkpoint = None
        self.watcher.open(None)

    def take_away(self, name: str) -> None:
        self.watcher.take_away(name)

    def bring_back(self, name: str) -> None:
        self.watcher.bring_back(name)

    def new_draft(self) -> None:
        from rnnlm_tui.contract.presets import DEMO

        if self.draft is None:
            self.draft, self.draft_from = DEMO, ""
        self.close_run()
        self.open_pane("config")

    def new_draft_from(self, run: str) -> None:
        def begin(config: RunConfig, agreed: bool | None) -> None:
            if agreed:
                self.settings["draft"] = None
                self.draft, self.draft_from = config, run
                self.new_draft()

        def found(configs: Mapping[str, RunConfig]) -> None:
            config = configs.get(run)
            if config is None:
                self.say(f"the config of {run} can't be read", trouble=True)
            elif self.draft is None or not isinstance(waiting := self.settings.get("draft"), dict):
                begin(config, True)
            else:
                from rnnlm_tui.tui.screens.confirm import ConfirmScreen

                changes = counted(len(waiting.get("changes", ())), "change")
                question = ConfirmScreen(
                    "Discard the draft?", f"{waiting.get('name') or 'The draft'} has {changes}.", "1 shows it.", "keep it", f"new draft from {run}"
                )
                self.push_screen(question, partial(begin, config))

        self.in_thread(partial(self.services.configs, [run]), found)

    def look_now(self) -> None:
        self.watcher.look_now()

    def look_at(self, steps: tuple[int, int] | None) -> None:
        self.watcher.look_at(steps)

    def look_at_compared(self, steps: Mapping[str, tuple[int, int]]) -> None:
        self.watcher.look_at_compared(steps)

    def start_run(self, config: RunConfig, name: str | None = None, refused: Callable[[InputError], None] | None = None) -> None:
        def failed(error: RnnlmError | OSError) -> None:
            if refused is not None and isinstance(error, InputError):
                refused(error)
            else:
                self.say_error(error)

        self.say("starting…")
        self._warn_of_memory(config)
        self.in_thread(partial(self.services.start, config, name), self._started, failed)

    def _started(self, run: RunDirectory) -> None:
        self.bring_back(run.name)
        self.open_run(run)
        self._told(Notice(f"{run.name} started", "done"))
        self._warn_of_logout()

    def _warn_of_memory(self, config: RunConfig) -> None:
        """Where memory is too small for a run that is about to start, say so until it has been read: it is tried all the same."""

        def told(warning: str | None) -> None:
            if warning is not None:
                self.notify(safe_text(warning), severity="warning", timeout=12, markup=False)

        self.in_thread(partial(self.services.warning_before_start, config), told)

    def _warn_of_logout(self) -> None:
        """Where the worker that was just started would not outlive its user's login, say so until it has been read."""

        def told(end: EndsAtLogout | None) -> None:
            if end is not None:
                self.notify(safe_text(f"{end.fact}\n{end.hint}"), severity="warning", timeout=12, markup=False)

        self.in_thread(self.services.ends_at_logout, told)

    def send(self, verb: Verb, **arguments: object) -> None:
        run = self.run_directory
        if run is None:
            self.say("no run is open")
            return
        self.say(steering.BEGINNINGS.get(verb, f"{verb}…"))
        self.in_thread(partial(self.services.send, run, verb, **arguments), lambda result: self._told(steering.outcome(verb, result)))

    def resume(self) -> None:
        """Go on with a run that is paused, or start its next attempt; a draft's first one as any new run's."""
        run = self.run_directory
        if run is None:
            return
        if self.snapshot is not None and self.snapshot.summary.status == "draft":
            self.say("starting…")
            self._warn_of_memory(self.snapshot.config)
            self.in_thread(partial(self.services.start_saved, run), self._started)
        else:
            self.say("going on…")
            paused = self.snapshot is not None and self.snapshot.summary.status == "paused"
            if self.snapshot is not None and not paused:
                self._warn_of_memory(self.snapshot.config)

            def gone_on(words: str) -> None:
                self._told(Notice(words, "done"))
                if not paused:
                    self._warn_of_logout()

            self.in_thread(partial(self.services.resume, run), gone_on)

    def in_thread(
        self,
        work: Callable[[], ResultT],
        then: Callable[[ResultT], Awaitable[None] | None] | None = None,
        failed: Callable[[RnnlmError | OSError], None] | None = None,
    ) -> None:
        async def run() -> None:
            try:
                result = await to_thread(work)
            except (RnnlmError, OSError) as error:
                (failed or self.say_error)(error)
                return
            if then is not None and isawaitable(following := then(result)):
                await following

        self.run_worker(run(), group="services", exit_on_error=True)

    async def warm_sampler(self) -> SamplerClient:
        async with self._sampler_lock:
            if self.sampler is None:
                sampler = self.services.sampler()
                await sampler.start()
                self.sampler = sampler
        return self.sampler

    async def _warm_quietly(self) -> None:
        try:
            await self.warm_sampler()
        except RnnlmError as error:
            self.say_error(error)

    def say(self, text: str, *, trouble: bool = False) -> None:
        self.show_notice(Notice(text, "trouble" if trouble else "fact"))

    def say_error(self, error: RnnlmError | OSError) -> None:
        message, hint = (error.message, error.hint) if isinstance(error, RnnlmError) else (str(error), "")
        self.notify(safe_text(f"{message}\n{hint}".strip(), limit=600), severity="error", timeout=12, markup=False)

    def say_damaged(self, words: str) -> None:
        if words:
            self.notify(safe_text(words, limit=600), severity="warning", timeout=20, markup=False)

    def put_damaged_labels_aside(self, summaries: Sequence[RunSummary]) -> None:
        """Move each run's unusable labels aside, once: the next change would overwrite them."""

        def moved(run: str, name: str) -> None:
            self.say_damaged(f"the tags and the note of {run} can't be read: the file is kept as {name}" if name else "")

        for run in {summary.run for summary in summaries if summary.labels_damaged} - self._labels_reported:
            self._labels_reported.add(run)
            self.in_thread(partial(self.services.move_labels_aside, run), partial(moved, run))

    def action_alerts(self) -> None:
        self.alerting.toggle()

    def _reads_machine(self) -> bool:
        """Whether the machine shows and no worker reads it; asked by the watching thread."""
        snapshot = self.snapshot
        return self.current_mode == "train" and self.app_focus and snapshot is not None and snapshot.summary.status not in LIVING and not len(snapshot.machine)

    def write_to_terminal(self, sequence: str) -> None:
        """What is no part of the picture; nothing where there is no terminal."""
        if self._driver is not None and not self.is_headless:
            self._driver.write(sequence)
            self._driver.flush()

    def _told(self, notice: Notice) -> None:
        self.watcher.look_now()
        self.show_notice(notice)

    def show_notice(self, notice: Notice) -> None:
        """On the pane that shows, or on the one that is about to."""
        self.waiting_notice = notice
        if self.pane_screen is not None and self.pane_screen.is_ready:
            self.pane_screen.take_notice()

    def remember(self) -> None:
        """Keep run and pane for the next start."""
        self.watcher.want_list(self.current_mode in ("runs", "train", "compare"))
        self._follow_compared()
        self.settings["pane"] = self.current_mode
        if self.draft is None:
            self.settings["draft"] = None
        self.settings["marked"] = list(self.marks.places)
        self.settings["run"] = self.run_directory.name if self.run_directory else ""
        self.keep_settings()

    def keep_settings(self) -> None:
        if self._keeping:
            self._keep_again = True
            return
        self._keeping, self._keep_again = True, False
        self.in_thread(partial(remembered.keep, dict(self.settings)), self._kept, self._not_kept)

    def keep_what_is_left(self) -> None:
        """After the app was left: settings that have changed while they were being written down. A disk that does not answer gets no more time than other work."""
        if self._keep_again:
            last_words(partial(remembered.keep, dict(self.settings)))

    def _kept(self, _nothing: None) -> None:
        """What was changed while it was being written down is next."""
        self._keeping = False
        if self._keep_again:
            self.keep_settings()

    def _not_kept(self, error: RnnlmError | OSError) -> None:
        self._keeping = False
        self.say_error(error)

    def _follow_compared(self) -> None:
        """The marked runs, while a pane shows them."""
        self.watcher.compare(self.marked if self.current_mode in ("compare", "runs") and len(self.marked) >= LEAST_COMPARED else ())
