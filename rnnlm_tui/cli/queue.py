"""The verbs `queue`, `queue list`, `add`, `move`, `remove`, `pause` and `resume`."""

from __future__ import annotations

from dataclasses import asdict
from time import time
from typing import TYPE_CHECKING, Annotated, Literal

from rnnlm_tui import client, store
from rnnlm_tui.cli.config import allow_datasets
from rnnlm_tui.cli.options import (
    NewRunOptions,
    TrustOption,
    arg,
    check_exclusive,
    complete_run,
    flag,
    opt,
)
from rnnlm_tui.cli.output import (
    Answer,
    Answers,
    line,
    table,
    warn,
    warn_of_logout,
)
from rnnlm_tui.errors import InputError, RnnlmError, RunStateError
from rnnlm_tui.schema.formatting import NOTHING, about, counted, duration
from rnnlm_tui.store.paths import queue_log
from rnnlm_tui.store.runs import create_run, find_run

if TYPE_CHECKING:
    from rnnlm_tui.schema.queue import QueuedRun, QueueListing

DIRECTIONS: tuple[Literal["first", "last", "up", "down"], ...] = ("first", "last", "up", "down")
_COLUMNS = (">place", "run", "state", "steps", "takes", "starts", "preset")
_SPARE = (6, 3, 4)


def complete_waiting() -> list[str]:
    """List the names of waiting runs, for the shell."""
    return [entry.run for entry in store.queue.waiting(store.queue.read_queue())]


WaitingArgument = Annotated[
    str, arg("RUN", "A waiting run's name or its first characters.", complete=complete_waiting)
]


def queue(
    stop_on_failure: bool | None = opt(
        "--stop-on-failure/--no-stop-on-failure",
        "From now on, pause the queue when a run fails, or continue with the next.",
        None,
    ),
) -> Answer:
    """List the queue: places, expected starts, its process."""
    if stop_on_failure is not None:
        _repair()
        client.queue.set_stop_on_failure(stop_on_failure)
    return queue_list()


def queue_list() -> Answer:
    """List the queue, as `queue` does."""
    failure: RnnlmError | None = None
    try:
        _repair()
    except RnnlmError as error:
        failure = error
    listing = client.queue.entries()

    def text() -> None:
        table(_COLUMNS, map(_row, listing.runs), spare=_SPARE)
        for run in reversed(listing.ended):
            line(_ended(run))
        line(_state(listing))

    return Answer(listing, text, failure=failure)


def queue_add(
    run: str | None = arg(
        "[RUN]",
        "A draft to start, or a stopped, crashed or failed run to resume.",
        None,
        complete_run,
    ),
    new: NewRunOptions = NewRunOptions(),
    stop_on_failure: bool = flag("--stop-on-failure", "Pause the queue if this run fails."),
    trust_dataset: TrustOption = False,
) -> Answer:
    """Add a new run to the queue, or RUN to start or resume.

    Waiting runs start one after another, or one on each GPU. They continue when you close the
    terminal, and after a crash or a reboot with the next `rnnlm-tui queue`.
    """
    from rnnlm_tui.cli.train import wanted_run

    _repair()
    if run is not None:
        check_exclusive("RUN keeps its own config", RUN=True, **asdict(new))
        directory = find_run(run)
        allow_datasets(directory.read_config().corpus, trust=trust_dataset)
    else:
        wanted, fork = wanted_run(new, trust_dataset=trust_dataset)
        warn(client.gpus.unused_gpu_warning(wanted.training.device))
        client.start.check_before_start(wanted)
        directory = create_run(wanted, new.name, fork)
    queued = client.queue.add_run(directory, stop_on_failure=stop_on_failure)
    warn_of_logout()
    resumes = "the queue is paused, `rnnlm-tui queue resume` resumes it"
    next_step = resumes if store.queue.read_queue().paused else "`rnnlm-tui queue` lists the queue"
    return Answer(queued, queued.run, f"{queued.run} waits at place {queued.place}: {next_step}")


def queue_move(
    run: WaitingArgument,
    to: str = arg(
        "PLACE|first|last|up|down",
        "The new place, from 1, or a direction.",
        complete=lambda: DIRECTIONS,
    ),
) -> Answer:
    """Move a waiting run to another place."""
    _repair()
    direction = next((one for one in DIRECTIONS if one == to), None)
    if direction is None and not (to.isascii() and to.isdigit()):
        raise InputError(
            f"PLACE is {to}, must be a whole number from 1, or {', '.join(DIRECTIONS[:-1])} or"
            f" {DIRECTIONS[-1]}"
        )
    name = _waiting(run)
    place = client.queue.move(name, int(to[:9]) if direction is None else direction)
    return Answer({"run": name, "place": place}, f"{name} waits at place {place}")


def queue_remove(
    runs: list[str] = arg(
        "RUN...", "Names of waiting runs or their first characters.", complete=complete_waiting
    ),
) -> Answers[str]:
    """Remove waiting runs from the queue; they stay drafts."""
    _repair()

    def act(run: str) -> tuple[object, str]:
        name = _waiting(run)
        client.queue.remove(name)
        return {"run": name}, (
            f"{name} removed from the queue: `rnnlm-tui resume {name}` starts it, `rnnlm-tui delete"
            f" {name}` deletes it"
        )

    return Answers(runs, act)


def queue_pause() -> Answer:
    """Pause the queue: start no more runs."""
    _repair()
    client.queue.set_paused(True)
    words = "queue paused: runs that train continue, `rnnlm-tui queue resume` resumes it"
    return Answer(client.queue.entries, words)


def queue_resume() -> Answer:
    """Resume the queue: start waiting runs again."""
    _repair()
    client.queue.set_paused(False)
    warn_of_logout()
    return Answer(client.queue.entries, "queue resumed")


def _repair() -> None:
    """Report a damaged queue, and start the queue's process if a run waits."""
    warn(client.queue.ensure_running())


def _waiting(name: str) -> str:
    """The queued run of this name, or the only one whose name starts with it."""
    names = [entry.run for entry in store.queue.read_queue().entries]
    matches = [known for known in names if known.startswith(name)] if name else []
    if name in names or not matches:
        return name
    if len(matches) > 1:
        raise RunStateError(
            f'"{name}" matches {counted(len(matches), "queued run")}: {", ".join(matches)}',
            hint="type more of the name",
        )
    return matches[0]


def _row(run: QueuedRun) -> tuple[str, ...]:
    left = " left" if run.state == "running" and run.seconds else ""
    return (
        "" if run.place is None else str(run.place),
        run.run,
        run.state_words,
        run.steps_words or NOTHING,
        f"{about(run.seconds)}{left}",
        run.start_words(time()) or (NOTHING if run.state == "waiting" else ""),
        run.preset,
    )


def _ended(run: QueuedRun) -> str:
    ago = "" if run.ended is None else f" {duration(time() - run.ended)} ago"
    return f"{run.run} {run.state_words}{ago}" + (f": {run.message}" if run.message else "")


def _state(listing: QueueListing) -> str:
    """The state of the queue in one sentence, and what can be done."""
    hint = ""
    if listing.paused:
        hint = "; `rnnlm-tui queue resume` resumes it"
    elif listing.waiting and listing.process is None:
        hint = f"; its log: {queue_log()}"
    elif not listing.runs:
        hint = "; `rnnlm-tui queue add` adds a run"
    return f"queue: {listing.words}{hint}"
