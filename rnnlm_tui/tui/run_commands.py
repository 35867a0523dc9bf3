"""Start and resume runs, and send workers what the user asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from textual.content import Content

from rnnlm_tui import client, store
from rnnlm_tui.schema.formatting import count
from rnnlm_tui.schema.status import LIVING, RESUMABLE
from rnnlm_tui.system import processes
from rnnlm_tui.tui.messages import (
    NO_WORKER,
    NOT_RESUMABLE,
    PROGRESS,
    WOULD_DIVERGE,
    Notice,
    outcome,
)
from rnnlm_tui.tui.screens.overlay import Question
from rnnlm_tui.tui.screens.pane import PaneScreen
from rnnlm_tui.tui.text import safe_content, safe_text
from rnnlm_tui.tui.threads import act

if TYPE_CHECKING:
    from rnnlm_tui.client.steering import SteeringState
    from rnnlm_tui.schema.config import RunConfig
    from rnnlm_tui.schema.protocol import CommandResult, StopMark, Verb
    from rnnlm_tui.schema.status import RunStatus
    from rnnlm_tui.schema.summary import RunSummary
    from rnnlm_tui.store.paths import RunDirectory
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

    async def start(self, config: RunConfig, draft: RunDirectory | None = None) -> None:
        """Launch a run's worker and show the run on the train pane.

        Args:
            draft: the run with this config, which was never started; None: it is created.
        """
        self._context.report("starting…")
        self._context.run_beside(self._warn_of_memory(config))
        run = await self._context.wait_for(
            lambda: (
                client.start.start_run(config) if draft is None else client.start.start_draft(draft)
            )
        )
        self._context.watcher.unmark_removed(run.name)
        self._context.open_run(run, "train")
        self._show_outcome(Notice(f"{run.name} started", "done"))
        await self._warn_of_logout()

    async def resume(self, device: str = "") -> None:
        """Resume the open run, start its next attempt, or start a draft."""
        run, snapshot = self._context.run_directory, self._context.snapshot
        if run is None:
            return
        status = "" if snapshot is None else snapshot.summary.status
        if snapshot is not None and status == "draft" and not device:
            await self.start(snapshot.config, run)
            return
        self._context.report("starting…" if status == "draft" else PROGRESS["resume"])
        if snapshot is not None and status != "paused":
            moved = {"device": device} if device else {}
            training = snapshot.config.training.model_copy(update=moved)
            config = snapshot.config.model_copy(update={"training": training})
            self._context.run_beside(self._warn_of_memory(config))
        outcome = await self._context.wait_for(lambda: client.start.resume_run(run, device))
        self._show_outcome(Notice(outcome, "done"))
        if status != "paused":
            await self._warn_of_logout()

    async def resume_where_possible(self, *, always_ask: bool = False) -> None:
        """Resume the open run where it trained. If that device is missing, or failed under the run,
        ask for another first."""
        run = self._context.run_directory
        if run is None:
            return
        choice = await self._context.wait_for(
            lambda: client.gpus.device_choice(run, always=always_ask)
        )
        if self._context.run_directory is not run:
            return
        if not choice.problem and not always_ask:
            await self.resume()
        elif not choice.devices:
            why = choice.problem or "none here supports its precision"
            self._context.report(f"no device for this run: {why}", trouble=True)
        else:
            from rnnlm_tui.tui.screens.choose import ChooseScreen

            lines = [(one.name, safe_text(one.about)) for one in choice.devices]
            note = "\n".join(filter(None, (safe_text(choice.problem), FROM_NOW_ON)))
            question = ChooseScreen(f"Resume {run.name} on", lines, choice.current, note)
            device = await self._context.ask(question)
            if device and self._context.run_directory is run:
                await self.resume(device)

    async def resume_elsewhere(self) -> None:
        """Ask for the device of the open run, and resume it there."""
        summary = self._summary
        if summary is None:
            self._context.report(
                "no run open"
                if self._context.run_directory is None
                else "the run isn't read yet: try again"
            )
        elif summary.status in LIVING:
            self._context.report(HAS_WORKER)
        elif summary.status in {"draft", *RESUMABLE} and not summary.diverged:
            await self.resume_where_possible(always_ask=True)
        else:
            self._report_ended(summary, NOT_RESUMABLE)

    async def pause(self) -> None:
        """Pause or resume the open run, by its status."""
        summary = self._summary
        if summary is None:
            # an unreadable run is rebuilt, or the error says why not
            await self.resume()
        elif summary.status in ("running", "stalled", "degraded"):
            await self.send("pause")
        elif summary.status in RESUMABLE and not summary.diverged:
            await self.resume_where_possible()
        elif summary.status in ("paused", "draft"):
            await self.resume()
        elif summary.status == "finished" and summary.hint:
            text = f"{summary.message or ''}\n{summary.hint}".strip()
            self._context.show_notification(text, "information")
        else:
            self._report_ended(summary, NOT_RESUMABLE)

    def _report_ended(self, summary: RunSummary, why: Mapping[RunStatus, str]) -> None:
        """Report why nothing can be done with a run in this status."""
        words = why.get(summary.status, f"the run is {summary.status}")
        self._context.report(WOULD_DIVERGE if summary.diverged else words)

    async def stop(self) -> None:
        """Ask whether to stop now or later; a run before its first step stops at once."""
        run, snapshot = self._context.run_directory, self._context.snapshot
        if run is None or snapshot is None or snapshot.summary.status not in LIVING - {"preparing"}:
            await self.send("stop")
            return
        question = stop_question(snapshot.summary, snapshot.config.evaluation.every)
        answer = await self._context.ask(question)
        if answer == "now":
            await self._send(run, "stop")
        elif answer:
            mark = cast("StopMark | None", answer if answer in ("epoch", "evaluation") else None)
            later = "requested: stop later …" if mark else "requested: keep training …"
            self._context.report(later)
            result = await self._context.wait_for(
                lambda: client.control.send(run, "stop_after", after=mark)
            )
            self._show_outcome(Notice(f"confirmed: {result.text}", "done"))

    async def send(self, verb: Verb) -> None:
        """Send a command, or report at once why no worker would receive it."""
        run, summary = self._context.run_directory, self._summary
        if run is None:
            self._context.report("no run open")
        elif summary is None or summary.status in LIVING:
            await self._send(run, verb)
        else:
            self._report_ended(summary, NO_WORKER)

    async def _send(self, run: RunDirectory, verb: Verb) -> None:
        config = None if self._context.snapshot is None else self._context.snapshot.config
        self._context.report(PROGRESS.get(verb, f"{verb}…"))
        result = await self._context.wait_for(lambda: client.control.send(run, verb))
        stays = "" if config is None else config.checkpoint.stays(result.step)
        self._show_outcome(outcome(verb, result, stays))

    def _show_outcome(self, notice: Notice) -> None:
        self._context.watcher.poll_now()
        self._context.show_notice(notice)

    async def _warn_of_memory(self, config: RunConfig) -> None:
        """Warn if memory is too small for a run that is about to start; it starts all the same."""
        warning = await self._context.wait_for(lambda: client.estimate.warning_before_start(config))
        if warning is not None:
            self._context.show_notification(warning)

    async def _warn_of_logout(self) -> None:
        """Warn if the worker that was just started would end with the user's login."""
        end = await self._context.wait_for(processes.ends_at_logout)
        if end is not None:
            self._context.show_notification(f"{end.fact}\n{end.hint}")


def stop_question(summary: RunSummary, every: int) -> Question[str]:
    """Return `now`, `epoch`, `evaluation`, `cancel` a planned stop, or an empty text.

    Args:
        every: steps between evaluations; 0: none is planned.
    """
    name = safe_content(summary.run, newlines="show", limit=40).plain
    answers = [
        ("enter,S", "now: saves a checkpoint, then stops", "now"),
        ("p", "after this epoch (pass over the text)", "epoch"),
    ]
    if every:
        coming = (summary.step // every + 1) * every
        answers.append(("e", f"after the evaluation at step {count(coming)}", "evaluation"))
    if summary.stop_after is not None:
        mark = "this epoch" if summary.stop_after == "epoch" else "the evaluation"
        answers.append(("u", f"don't stop after {mark}: keep training", "cancel"))
    answers.append(("escape,q", "keep training", ""))
    return Question(f"Stop {name}?", [Content("")], answers)


class SteersRuns(PaneScreen):
    """A pane that shows a live run."""

    def steered_run(self) -> str | None:
        """Return the run that a change is for; None: none is open or selected."""
        run = self.context.run_directory
        return None if run is None else run.name

    @act
    async def action_steer(self) -> None:
        """Open the form that changes the run while it trains."""
        name = self.steered_run()
        if name is None:
            self.context.report("no run open")
            return

        def read() -> tuple[RunDirectory, SteeringState]:
            run = store.runs.find_run(name)
            state = client.steering.read_steering(run)
            client.control.check_live(state.summary)
            return run, state

        found = await self.context.wait_for(read)
        if self.app.screen is self:
            from rnnlm_tui.tui.screens.steer import SteerScreen

            self.app.push_screen(SteerScreen(*found))

    @act
    async def action_undo_setting(self) -> None:
        """Undo the run's newest change of settings."""
        name = self.steered_run()
        if name is None:
            self.context.report("no run open")
            return
        self.context.report("requested: undo the last change …")

        def undo() -> tuple[CommandResult, RunConfig]:
            run = store.runs.find_run(name)
            return client.control.send(run, "undo"), client.steering.read_steering(run).config

        from rnnlm_tui.tui.views.steer import confirmed_text

        result, config = await self.context.wait_for(undo)
        self.context.watcher.poll_now()
        self.context.report(confirmed_text(result, config.checkpoint))
