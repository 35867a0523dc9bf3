"""Start and resume runs, and send workers what the user asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from textual.content import Content

from rnnlm_tui import client
from rnnlm_tui.schema.formatting import count
from rnnlm_tui.schema.status import LIVING, RESUMABLE
from rnnlm_tui.store.paths import listed_run
from rnnlm_tui.system import processes
from rnnlm_tui.tui.messages import NO_WORKER, PROGRESS, WOULD_DIVERGE, outcome
from rnnlm_tui.tui.screens.pane import PaneScreen
from rnnlm_tui.tui.text import safe_content, safe_text
from rnnlm_tui.tui.threads import act

if TYPE_CHECKING:
    from rnnlm_tui.client.steering import SteeringState
    from rnnlm_tui.schema.config import RunConfig
    from rnnlm_tui.schema.protocol import CommandResult, Verb
    from rnnlm_tui.schema.status import StopMark
    from rnnlm_tui.schema.summary import RunSummary
    from rnnlm_tui.store.paths import RunDirectory
    from rnnlm_tui.tui.app import RnnlmApp
    from rnnlm_tui.tui.screens.overlay import Question

NO_RUN = "no run open"
FROM_NOW_ON = "The run trains there from now on."
HAS_WORKER = "the device can't change while the run has a worker: {key:stop} stops it first"


async def start(app: RnnlmApp, config: RunConfig, draft: RunDirectory | None = None) -> None:
    """Launch a run's worker and show the run on the train pane.

    Args:
        draft: the run with this config, which was never started; None: it is created.
    """
    app.report("starting…")
    app.run_beside(_warn_of_memory(app, config))
    run = await app.wait_for(
        lambda: client.start.start_run(config) if draft is None else client.start.start_draft(draft)
    )
    app.watcher.removed.discard(run.name)
    app.open_run(run, "train")
    app.report_change(f"{run.name} started", "done")
    await _warn_of_logout(app)


async def resume(app: RnnlmApp, device: str = "") -> None:
    """Resume the open run, start its next attempt, or start a draft."""
    run, snapshot = app.run_directory, app.snapshot
    if run is None:
        return
    status = "" if snapshot is None else snapshot.summary.status
    if snapshot is not None and status == "draft" and not device:
        await start(app, snapshot.config, run)
        return
    app.report("starting…" if status == "draft" else PROGRESS["resume"])
    if snapshot is not None and status != "paused":
        config = snapshot.config
        if device:
            training = config.training.model_copy(update={"device": device})
            config = config.model_copy(update={"training": training})
        app.run_beside(_warn_of_memory(app, config))
    outcome = await app.wait_for(lambda: client.start.resume_run(run, device))
    app.report_change(outcome, "done")
    if status != "paused":
        await _warn_of_logout(app)


async def resume_where_possible(app: RnnlmApp, *, always_ask: bool = False) -> None:
    """Resume the open run where it trained. If that device is missing, or failed under the run,
    ask for another first."""
    run = app.run_directory
    if run is None:
        return
    choice = await app.wait_for(lambda: client.gpus.device_choice(run, always=always_ask))
    if app.run_directory is not run:
        return
    if not choice.problem and not always_ask:
        await resume(app)
    elif not choice.devices:
        why = choice.problem or "none here supports its precision"
        app.report(f"no device for this run: {why}", trouble=True)
    else:
        from rnnlm_tui.tui.screens.choose import ChooseScreen

        lines = [(one.name, safe_text(one.about)) for one in choice.devices]
        note = "\n".join(filter(None, (safe_text(choice.problem), FROM_NOW_ON)))
        question = ChooseScreen(f"Resume {run.name} on", lines, choice.current, note)
        device = await app.ask(question)
        if device and app.run_directory is run:
            await resume(app, device)


async def resume_elsewhere(app: RnnlmApp) -> None:
    """Ask for the device of the open run, and resume it there."""
    snapshot = app.snapshot
    if snapshot is None:
        app.report(NO_RUN if app.run_directory is None else "the run isn't read yet: try again")
    elif snapshot.summary.status in LIVING:
        app.report(HAS_WORKER)
    elif snapshot.summary.status in {"draft", *RESUMABLE} and not snapshot.summary.diverged:
        await resume_where_possible(app, always_ask=True)
    else:
        _report_ended(app, snapshot.summary)


async def pause(app: RnnlmApp) -> None:
    """Pause or resume the open run, by its status."""
    summary = None if app.snapshot is None else app.snapshot.summary
    # an unreadable run is rebuilt, or the error says why not
    if summary is None or summary.status in ("paused", "draft"):
        await resume(app)
    elif summary.status in ("running", "stalled", "degraded"):
        await send(app, "pause")
    elif summary.status in RESUMABLE and not summary.diverged:
        await resume_where_possible(app)
    elif summary.status == "finished" and summary.hint:
        text = f"{summary.message or ''}\n{summary.hint}".strip()
        app.show_notification(text, "information")
    else:
        _report_ended(app, summary)


def _report_ended(app: RnnlmApp, summary: RunSummary) -> None:
    """Report why nothing can be done with a run in this status."""
    words = NO_WORKER.get(summary.status, f"the run is {summary.status}")
    app.report(WOULD_DIVERGE if summary.diverged else words)


async def stop(app: RnnlmApp) -> None:
    """Ask whether to stop now or later; a run before its first step stops at once."""
    run, snapshot = app.run_directory, app.snapshot
    if run is None or snapshot is None or snapshot.summary.status not in LIVING - {"preparing"}:
        await send(app, "stop")
        return
    answer = await app.ask(stop_question(snapshot.summary, snapshot.config.evaluation.every))
    if answer == "now":
        await _send(app, run, "stop")
    elif answer:
        mark = cast("StopMark | None", answer if answer in ("epoch", "evaluation") else None)
        app.report("requested: stop later …" if mark else "requested: keep training …")
        result = await app.wait_for(lambda: client.control.send(run, "stop_after", after=mark))
        app.report_change(f"confirmed: {result.text}", "done")


async def send(app: RnnlmApp, verb: Verb) -> None:
    """Send a command, or report at once why no worker would receive it."""
    run, snapshot = app.run_directory, app.snapshot
    if run is None:
        app.report(NO_RUN)
    elif snapshot is None or snapshot.summary.status in LIVING:
        await _send(app, run, verb)
    else:
        _report_ended(app, snapshot.summary)


async def _send(app: RnnlmApp, run: RunDirectory, verb: Verb) -> None:
    config = None if app.snapshot is None else app.snapshot.config
    app.report(PROGRESS.get(verb, f"{verb}…"))
    result = await app.wait_for(lambda: client.control.send(run, verb))
    stays = "" if config is None else config.checkpoint.stays(result.step)
    app.watcher.poll_now()
    app.show_notice(outcome(verb, result, stays))


async def _warn_of_memory(app: RnnlmApp, config: RunConfig) -> None:
    """Warn if memory is too small for a run that is about to start; it starts all the same."""
    warning = await app.wait_for(lambda: client.estimate.warning_before_start(config))
    app.show_notification(warning or "")


async def _warn_of_logout(app: RnnlmApp) -> None:
    """Warn if the worker that was just started would end with the user's login."""
    end = await app.wait_for(processes.ends_at_logout)
    if end is not None:
        app.show_notification(f"{end.fact}\n{end.hint}")


def stop_question(summary: RunSummary, every: int) -> Question[str]:
    """Return `now`, `epoch`, `evaluation`, `cancel` a planned stop, or an empty text.

    Args:
        every: steps between evaluations; 0: none is planned.
    """
    from rnnlm_tui.tui.screens.overlay import Question  # not before the first paint

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
        if (name := self.steered_run()) is None:
            self.context.report(NO_RUN)
            return

        def read() -> tuple[RunDirectory, SteeringState]:
            run = listed_run(name)
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
        if (name := self.steered_run()) is None:
            self.context.report(NO_RUN)
            return
        self.context.report("requested: undo the last change …")

        def undo() -> tuple[CommandResult, RunConfig]:
            run = listed_run(name)
            return client.control.send(run, "undo"), client.steering.read_steering(run).config

        from rnnlm_tui.tui.screens.steer import confirmed_text

        result, config = await self.context.wait_for(undo)
        self.context.report_change(confirmed_text(result, config.checkpoint))
