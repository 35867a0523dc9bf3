"""RunCommands: starts runs, and sends the open run's worker what the user asks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from rnnlm_tui import client
from rnnlm_tui.errors import InputError, RnnlmError
from rnnlm_tui.schema.status import LIVING, RESUMABLE
from rnnlm_tui.tui.messages import (
    NO_WORKER,
    NOT_RESUMABLE,
    PROGRESS,
    WOULD_DIVERGE,
    Notice,
    outcome,
)
from rnnlm_tui.tui.text import safe_text

if TYPE_CHECKING:
    from rnnlm_tui.client.gpus import DeviceChoice
    from rnnlm_tui.schema.config import RunConfig
    from rnnlm_tui.schema.protocol import CommandResult, StopMark, Verb
    from rnnlm_tui.schema.summary import RunSummary
    from rnnlm_tui.store.paths import RunDirectory
    from rnnlm_tui.system.processes import EndsAtLogout
    from rnnlm_tui.tui.app import RnnlmApp

FROM_NOW_ON = "The run trains there from now on."
HAS_WORKER = "the device can't change while the run has a worker: S stops it first"


class RunCommands:
    """The commands; each shows its outcome in one line."""

    def __init__(self, context: RnnlmApp) -> None:
        self._context = context

    @property
    def _summary(self) -> RunSummary | None:
        snapshot = self._context.snapshot
        return None if snapshot is None else snapshot.summary

    def start(self, config: RunConfig) -> None:
        """Create a run, launch its worker and show it on the train pane."""
        self._start(lambda: client.start.start_run(config), config)

    def start_draft(
        self,
        run: RunDirectory,
        config: RunConfig,
        refused: Callable[[InputError], None] | None = None,
    ) -> None:
        """Launch the worker of a run that was never started, and show it on the train pane.

        A config that can't run here goes to `refused`; every other error is reported.
        """
        self._start(lambda: client.start.start_draft(run), config, refused)

    def _start(
        self,
        start: Callable[[], RunDirectory],
        config: RunConfig,
        refused: Callable[[InputError], None] | None = None,
    ) -> None:
        def failed(error: RnnlmError | OSError) -> None:
            if refused is not None and isinstance(error, InputError):
                refused(error)
            else:
                self._context.report_error(error)

        self._context.report("starting…")
        self._warn_of_memory(config)
        self._context.in_thread(start, self._started, failed)

    def _started(self, run: RunDirectory) -> None:
        self._context.watcher.unmark_removed(run.name)
        self._context.open_run(run, "train")
        self._show_outcome(Notice(f"{run.name} started", "done"))
        self._warn_of_logout()

    def resume(self, device: str = "") -> None:
        """Resume the open run, start its next attempt, or start a draft."""
        run, snapshot = self._context.run_directory, self._context.snapshot
        if run is None:
            return
        status = "" if snapshot is None else snapshot.summary.status
        if snapshot is not None and status == "draft" and not device:
            self.start_draft(run, snapshot.config)
            return
        self._context.report("starting…" if status == "draft" else PROGRESS["resume"])
        if snapshot is not None and status != "paused":
            moved = {"device": device} if device else {}
            training = snapshot.config.training.model_copy(update=moved)
            self._warn_of_memory(snapshot.config.model_copy(update={"training": training}))

        def resumed(outcome: str) -> None:
            self._show_outcome(Notice(outcome, "done"))
            if status != "paused":
                self._warn_of_logout()

        self._context.in_thread(lambda: client.start.resume_run(run, device), resumed)

    def resume_where_possible(self, *, always_ask: bool = False) -> None:
        """Resume the open run where it trained. If that device is missing, or failed under the run,
        ask for another first."""
        run = self._context.run_directory
        if run is None:
            return

        def found(choice: DeviceChoice) -> None:
            if self._context.run_directory is not run:
                return
            if not choice.problem and not always_ask:
                self.resume()
            elif not choice.devices:
                why = choice.problem or "none here supports its precision"
                self._context.report(f"no device for this run: {why}", trouble=True)
            else:
                from rnnlm_tui.tui.screens.choose import ChooseScreen

                lines = [(one.name, safe_text(one.about)) for one in choice.devices]
                note = "\n".join(filter(None, (safe_text(choice.problem), FROM_NOW_ON)))
                title = f"Resume {run.name} on"
                question = ChooseScreen(title, lines, choice.current, note)
                self._context.push_screen(question, answered)

        def answered(device: str | None) -> None:
            if device and self._context.run_directory is run:
                self.resume(device)

        self._context.in_thread(lambda: client.gpus.device_choice(run, always=always_ask), found)

    def resume_elsewhere(self) -> None:
        """Ask for the device of the open run, and resume it there."""
        summary = self._summary
        if summary is None:
            self._context.report(
                "no run open"
                if self._context.run_directory is None
                else "the run isn't read yet: try again"
            )
        elif summary.diverged:
            self._context.report(WOULD_DIVERGE)
        elif summary.status in LIVING:
            self._context.report(HAS_WORKER)
        elif summary.status in {"draft", *RESUMABLE}:
            self.resume_where_possible(always_ask=True)
        else:
            self._context.report(NOT_RESUMABLE.get(summary.status, f"the run is {summary.status}"))

    def pause(self) -> None:
        """Pause or resume the open run, by its status."""
        summary = self._summary
        if summary is None:
            # an unreadable run is rebuilt, or the error says why not
            self.resume()
        elif summary.status in ("running", "stalled", "degraded"):
            self._send("pause")
        elif summary.diverged:
            self._context.report(WOULD_DIVERGE)
        elif summary.status in RESUMABLE:
            self.resume_where_possible()
        elif summary.status in ("paused", "draft"):
            self.resume()
        elif summary.status == "finished" and summary.hint:
            text = f"{summary.message or ''}\n{summary.hint}".strip()
            self._context.show_notification(text, "information")
        else:
            self._context.report(NOT_RESUMABLE.get(summary.status, f"the run is {summary.status}"))

    def stop(self, answer: str | None) -> None:
        """Stop as `stop_question` was answered."""
        run = self._context.run_directory
        if answer == "now":
            self._send("stop")
        elif answer and run is not None:
            mark = cast("StopMark | None", answer if answer in ("epoch", "evaluation") else None)
            later = "requested: stop later …" if mark else "requested: keep training …"
            self._context.report(later)
            self._context.in_thread(
                lambda: client.control.send(run, "stop_after", after=mark),
                lambda result: self._show_outcome(Notice(f"confirmed: {result.text}", "done")),
            )

    def send(self, verb: Verb) -> None:
        """Send a command, or report at once why no worker would receive it."""
        summary = self._summary
        if summary is None or summary.status in LIVING:
            self._send(verb)
        elif summary.diverged:
            self._context.report(WOULD_DIVERGE)
        else:
            self._context.report(NO_WORKER.get(summary.status, f"the run is {summary.status}"))

    def _send(self, verb: Verb) -> None:
        run = self._context.run_directory
        if run is None:
            self._context.report("no run open")
            return
        config = None if self._context.snapshot is None else self._context.snapshot.config

        def stays(result: CommandResult) -> str:
            return "" if config is None else config.checkpoint.stays(result.step)

        self._context.report(PROGRESS.get(verb, f"{verb}…"))
        self._context.in_thread(
            lambda: client.control.send(run, verb),
            lambda result: self._show_outcome(outcome(verb, result, stays(result))),
        )

    def _show_outcome(self, notice: Notice) -> None:
        self._context.watcher.poll_now()
        self._context.show_notice(notice)

    def _warn_of_memory(self, config: RunConfig) -> None:
        """Warn if memory is too small for a run that is about to start; it starts all the same."""

        def found(warning: str | None) -> None:
            if warning is not None:
                self._context.show_notification(warning)

        self._context.in_thread(lambda: client.estimate.warning_before_start(config), found)

    def _warn_of_logout(self) -> None:
        """Warn if the worker that was just started would end with the user's login."""

        def find() -> EndsAtLogout | None:
            from rnnlm_tui.system.processes import ends_at_logout

            return ends_at_logout()

        def found(end: EndsAtLogout | None) -> None:
            if end is not None:
                self._context.show_notification(f"{end.fact}\n{end.hint}")

        self._context.in_thread(find, found)
