"""Use the queue of runs: add, list, move and remove runs, pause it, and start its process."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Literal

from rnnlm_tui.client.config_files import check_draft
from rnnlm_tui.client.estimate import estimate
from rnnlm_tui.client.gpus import gpu_of, planned_processes
from rnnlm_tui.client.listing import listed_runs
from rnnlm_tui.client.monitor import summarize
from rnnlm_tui.client.start import check_datasets
from rnnlm_tui.errors import (
    InputError,
    RnnlmError,
    RunStateError,
    StorageError,
    WorkerError,
    did_you_mean,
)
from rnnlm_tui.schema.formatting import counted
from rnnlm_tui.schema.queue import QueuedRun, QueueEntry, QueueFile, QueueListing, QueueProcess
from rnnlm_tui.schema.status import LIVING, RESUMABLE
from rnnlm_tui.schema.summary import RunSummary
from rnnlm_tui.store.paths import RunDirectory, home, queue_lock, queue_log, runs_dir
from rnnlm_tui.store.queue import change_queue, locked_queue, queue_json, read_queue, waiting
from rnnlm_tui.system.files import stamp
from rnnlm_tui.system.gpu import gpu_count, gpu_uuids
from rnnlm_tui.system.locks import host_name, read_lock
from rnnlm_tui.system.machine import planned_device
from rnnlm_tui.system.processes import child_environment, python_command, start_detached

ESTIMATE_SECONDS = 30.0
"""An estimate is computed again after this time."""

Direction = Literal["first", "last", "up", "down"]
"""Where a waiting run moves, instead of to a place."""


def add_run(
    run: RunDirectory, *, stop_on_failure: bool = False, place: int | None = None
) -> QueuedRun:
    """Put a draft, or a run that can be resumed, at the end of the queue, or back to its place.

    Raises:
        RunStateError: the run is in the queue already, or can't be started or resumed.
        UntrustedDatasetError: it would run code that the user hasn't named in this home.
        InputError: it is a draft whose config has problems.
        StorageError: the run or the queue can't be read or written.
        WorkerError: the queue's process failed to start; the run waits.
    """
    summary = summarize(run)
    if summary.status not in {"draft", *RESUMABLE}:
        raise RunStateError(
            f"{run.name} can't wait in the queue: it is {summary.status}",
            hint="only drafts and stopped, crashed or failed runs can",
        )
    check_draft(run)
    check_datasets(run.read_config().corpus)
    entry = QueueEntry(
        run=run.name,
        added=time.time(),
        attempts=summary.attempt,
        stop_on_failure=stop_on_failure,
    )

    with locked_queue() as queue:
        waits = waiting(queue)
        for at, other in enumerate(waits, 1):
            if other.run == run.name:
                raise RunStateError(f"{run.name} is in the queue already, at place {at}")
        place = len(waits) + 1 if place is None else min(place, len(waits) + 1)
        waits.insert(place - 1, entry)
        queue_json().write(_in_order(queue.without(run.name), waits))
    ensure_running()
    return _queued(entry, summary, state="waiting", place=place)


def entries() -> QueueListing:
    """The queue with estimates; reads all runs, as `rnnlm-tui runs` does.

    Raises:
        StorageError: the data home or the queue can't be read.
    """
    return list_queue(listed_runs().runs)


def move(run: str, to: int | Direction) -> int:
    """Move a waiting run to a place, from 1, or in a direction; returns its new place.

    Raises:
        RunStateError: the run isn't waiting.
        InputError: there is no such place.
        StorageError: the queue can't be read or written.
    """
    with locked_queue() as queue:
        waits, before = _waiting(queue, run, "moved")
        last = len(waits)
        if (to, before) in (("up", 1), ("down", last)):
            raise InputError(f"{run} is {'first' if to == 'up' else 'last'} in the queue already")
        directions = {"first": 1, "last": last, "up": before - 1, "down": before + 1}
        place = to if isinstance(to, int) else directions[to]
        if not 1 <= place <= last:
            only = "the only place is 1" if last == 1 else f"places are 1 to {last}"
            raise InputError(
                f"no place {place} in the queue: {counted(last, 'run')}"
                f" {'waits' if last == 1 else 'wait'}, {only}",
                hint="`rnnlm-tui queue` lists them",
            )
        waits.insert(place - 1, waits.pop(before - 1))
        queue_json().write(_in_order(queue, waits))
    return place


def remove(run: str) -> None:
    """Take a waiting run out of the queue; it stays a draft, or stopped.

    Raises:
        RunStateError: the run isn't waiting.
        StorageError: the queue can't be read or written.
    """
    with locked_queue() as queue:
        _waiting(queue, run, "removed")
        queue_json().write(queue.without(run))


def _waiting(queue: QueueFile, run: str, done: str) -> tuple[list[QueueEntry], int]:
    """The waiting entries, and the place of a run among them.

    Args:
        done: `moved` or `removed`, for the message.

    Raises:
        RunStateError: the run has started, or isn't in the queue.
    """
    waits = waiting(queue)
    names = [entry.run for entry in waits]
    if run in names:
        return waits, names.index(run) + 1
    if any(entry.run == run for entry in queue.entries):
        raise RunStateError(
            f"{run} has started: it can't be {done}", hint=f"`rnnlm-tui stop {run}` stops it"
        )
    raise RunStateError(
        f"{run} is not waiting in the queue",
        hint=did_you_mean(run, names)
        or ("`rnnlm-tui queue` lists them" if names else "the queue is empty"),
    )


def _in_order(queue: QueueFile, waits: list[QueueEntry]) -> QueueFile:
    """The queue with its waiting entries in this order, after those that were started."""
    names = {entry.run for entry in waits}
    started = [entry for entry in queue.entries if entry.run not in names]
    return queue.model_copy(update={"entries": (*started, *waits)})


def set_paused(paused: bool) -> None:
    """Start no more runs, or start them again; a run that trains continues.

    Raises:
        StorageError: the queue can't be read or written.
        WorkerError: the queue's process failed to start.
    """
    change_queue(lambda queue: queue.model_copy(update={"paused": paused, "reason": ""}))
    ensure_running()


def set_stop_on_failure(stop: bool) -> None:
    """Set whether any failed run pauses the queue.

    Raises:
        StorageError: the queue can't be read or written.
    """
    change_queue(lambda queue: queue.model_copy(update={"stop_on_failure": stop}))


def ensure_running() -> str:
    """Move a damaged queue aside, and start the queue's process if a run waits and it isn't
    running.

    Returns:
        A message about a damaged queue; empty if it was valid.

    Raises:
        StorageError: the queue can't be read, or its files can't be written.
        WorkerError: the process failed to start.
    """
    aside, words = queue_json().move_damaged_aside(), ""
    if aside is not None:
        words = (
            f"the queue's file was damaged and is kept as {aside.name} in {aside.parent}; runs that"
            " aren't in the queue any more are drafts: `rnnlm-tui queue add RUN` adds them again"
        )
    queue = read_queue()
    if queue.paused or not queue.entries or read_lock(queue_lock()).held:
        return words
    started = start_detached(
        python_command("rnnlm_tui.client.queue_process"),
        queue_log(),
        child_environment({}),
        lambda _: read_lock(queue_lock()).held,
        folder=home(),
    )
    if started.code:  # with 0 it had nothing left to do
        why = "\n".join(started.lines[-5:])
        raise WorkerError(
            f"the queue's process failed to start: {why}",
            hint="added runs wait; `rnnlm-tui queue` starts it again",
        )
    return words


def list_queue(runs: Iterable[RunSummary]) -> QueueListing:
    """The queue, with the expected start of each waiting run. Deleted runs are left out.

    Args:
        runs: summaries of all runs: others that train delay the queue too.

    Raises:
        StorageError: the queue can't be read. Of a damaged one, the valid part is listed.
    """
    queue, damage = queue_json().read()
    known = {run.run: run for run in runs}
    found = [(entry, known[entry.run]) for entry in queue.entries if entry.run in known]
    living = {
        name: device_of(RunDirectory(runs_dir() / name))
        for name, run in known.items()
        if found and run.status in LIVING
    }
    listed, ended, timetable, place = list[QueuedRun](), [*queue.ended], Timetable(), 0
    for name, device in living.items():
        if known[name].host in (None, host_name()):
            timetable.occupy(device, remaining(known[name])[0])
    for entry, run in sorted(found, key=lambda one: one[1].status not in LIVING):
        if run.run in living:
            listed.append(_listed(entry, run, "running", device=living[run.run]))
        elif run.attempt > entry.attempts:
            ended.append(entry)
        else:
            place += 1
            device = config_device(RunDirectory(runs_dir() / run.run))
            starts = timetable.next_start(devices(device), remaining(run)[0])
            if starts is not None:
                starts = None if queue.paused else time.time() + starts
            listed.append(_listed(entry, run, "waiting", place=place, device=device, starts=starts))
    return QueueListing(
        paused=queue.paused,
        reason=queue.reason,
        stop_on_failure=queue.stop_on_failure,
        process=_process(),
        runs=tuple(listed),
        ended=tuple(
            _listed_end(entry, known[entry.run])
            for entry in reversed(ended)
            if entry.run in known and known[entry.run].status not in LIVING
        ),
        damaged=f"the queue's file is damaged: {damage}" if damage else "",
    )


def _listed(
    entry: QueueEntry, run: RunSummary, state: Literal["waiting", "running"], **known: object
) -> QueuedRun:
    seconds, steps = remaining(run)
    return _queued(entry, run, state=state, seconds=seconds, max_steps=steps, **known)


def _listed_end(entry: QueueEntry, run: RunSummary) -> QueuedRun:
    """How a run ended, as it says itself, unless it couldn't be started."""
    if entry.problem:
        return _queued(entry, run, state="ended", outcome="failed", message=entry.problem)
    words = " ".join((run.message or "").split())
    return _queued(entry, run, state="ended", outcome=run.status, message=words, ended=run.updated)


def _queued(entry: QueueEntry, run: RunSummary, **known: object) -> QueuedRun:
    shared = run.model_dump(include={"run", "status", "preset", "step", "max_steps"})
    own = entry.model_dump(include={"added", "stop_on_failure"})
    return QueuedRun.model_validate(shared | own | known)


def _process() -> QueueProcess | None:
    with suppress(StorageError):
        state = read_lock(queue_lock())
        if state.held:
            return QueueProcess(pid=state.pid, started=state.started, host=state.host)
    return None


def remaining(run: RunSummary) -> tuple[float | None, int | None]:
    """Seconds that a run still trains, and its number of steps; None if unknown."""
    if run.eta_seconds is not None and run.status in LIVING:
        return run.eta_seconds, run.max_steps
    path = RunDirectory(runs_dir() / run.run).config_path
    seconds, steps = _estimated(path, stamp(path), time.monotonic() // ESTIMATE_SECONDS)
    steps = steps or run.max_steps
    if seconds is not None and steps:
        seconds *= max(0.0, 1 - run.step / steps)
    return seconds, steps


@lru_cache(maxsize=512)
def _estimated(config: Path, _stamp: object, _period: float) -> tuple[float | None, int | None]:
    """Seconds and steps of a whole run, computed again when its config changes, or after a while:
    a run that ended may have given a better estimate."""
    try:
        found = estimate(RunDirectory(config.parent).read_config())
    except (RnnlmError, OSError):
        return None, None  # the listing shows why it can't be read
    return found.seconds, found.steps


class Timetable:
    """When each device is free, in seconds from now."""

    def __init__(self) -> None:
        self._free: dict[str, float | None] = {}

    def occupy(self, device: str, seconds: float | None) -> None:
        """A run takes a device for so long; None: an unknown time."""
        before = self._free.get(device, 0.0)
        self._free[device] = None if before is None or seconds is None else max(before, seconds)

    def next_start(self, allowed: Iterable[str], seconds: float | None) -> float | None:
        """Start a run on the allowed device that is free first; the seconds until then, None if
        unknown."""
        choices = {device: self._free.get(device, 0.0) for device in allowed}
        known = {device: free for device, free in choices.items() if free is not None}
        if not known:
            return None
        device = min(known, key=lambda device: known[device])
        start = known[device]
        if start and len(known) < len(choices):
            return None  # a device with an unknown end may be free earlier
        self._free[device] = None if seconds is None else start + seconds
        return start


def devices(name: str) -> tuple[str, ...]:
    """The devices of this machine that `training.device` allows: all GPUs for `cuda`."""
    kind = planned_device(name)
    if kind != "cuda":
        return (kind,)
    if ":" in name:
        return (name,)
    return tuple(f"cuda:{index}" for index in range(max(1, gpu_count())))


def device_of(run: RunDirectory) -> str:
    """The device on which a run trains that was started by hand."""
    own = gpu_of(run)
    found = [at for at, uuid in enumerate(gpu_uuids()) if own and uuid.endswith(own)]
    return f"cuda:{found[0]}" if found else devices(config_device(run))[0]


def wanted_devices(run: RunDirectory) -> int:
    """How many devices a run needs at once: one for each of its processes, if those are on GPUs."""
    with suppress(RnnlmError):
        config = run.read_config()
        if planned_device(config.training.device) == "cuda":
            return planned_processes(config)
    return 1


def devices_of(run: RunDirectory) -> tuple[str, ...]:
    """The devices that a run occupies: of one with several, all that it may have."""
    return devices(config_device(run)) if wanted_devices(run) > 1 else (device_of(run),)


def config_device(run: RunDirectory) -> str:
    """The `training.device` of a run's config; auto if it can't be read."""
    try:
        return run.read_config().training.device
    except RnnlmError:
        return "auto"
