"""Use the queue of runs: add, list, move and remove runs, pause it, and start its process."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Literal

from rnnlm_tui.client.config_files import check_draft
from rnnlm_tui.client.estimate import estimate
from rnnlm_tui.client.gpus import gpu_of
from rnnlm_tui.client.listing import RunList
from rnnlm_tui.client.monitor import stamp
from rnnlm_tui.client.start import check_before_start, check_datasets
from rnnlm_tui.errors import InputError, RnnlmError, RunStateError, StorageError, WorkerError
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.queue import (
    QueuedRun,
    QueueEntry,
    QueueFile,
    QueueListing,
    QueueProcess,
)
from rnnlm_tui.schema.status import LIVING, RESUMABLE
from rnnlm_tui.schema.summary import RunSummary
from rnnlm_tui.store.lineage import ParentCheckpoint
from rnnlm_tui.store.paths import RunDirectory, home, queue_dir, queue_lock, queue_log, runs_dir
from rnnlm_tui.store.queue import (
    append,
    change_queue,
    found_queue,
    move_damaged_aside,
    moved,
    read_queue,
    removed,
    waiting_entry,
)
from rnnlm_tui.store.runs import create_run
from rnnlm_tui.system.files import make_private_directory
from rnnlm_tui.system.gpu import gpu_count, gpu_uuids
from rnnlm_tui.system.locks import host_name, read_lock
from rnnlm_tui.system.machine import planned_device
from rnnlm_tui.system.processes import (
    child_environment,
    last_lines,
    python_command,
    start_detached,
)

START_SECONDS = 60.0
"""Longest wait for the queue's process to take its lock."""
ESTIMATE_SECONDS = 30.0
"""An estimate is computed again after this time: a run that ended may have given a better one."""

Direction = Literal["first", "last", "up", "down"]
"""Where a waiting run moves, instead of to a place."""


def add(
    config: RunConfig,
    name: str | None = None,
    parent: ParentCheckpoint | None = None,
    *,
    stop_on_failure: bool = False,
) -> QueuedRun:
    """Create a run, put it at the end of the queue, and start the queue's process.

    Args:
        name: generated if None.
        parent: the checkpoint whose weights it starts from.
        stop_on_failure: pause the queue if this run fails.

    Returns:
        The waiting run and its place; without estimates.

    Raises:
        InputError: the config can't run here or doesn't fit the parent, or the name is taken; no
            run was created.
        StorageError: the run or the queue can't be written.
        WorkerError: the queue's process failed to start; the run waits.
    """
    check_before_start(config)
    check_queue()
    return add_run(create_run(config, name, parent), stop_on_failure=stop_on_failure)


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
    from rnnlm_tui.client.control import summary_after_repair

    summary = summary_after_repair(run)
    if summary.status not in {"draft", *RESUMABLE}:
        raise RunStateError(
            f"{run.name} can't wait in the queue: it is {_state_words(summary)}",
            hint="only drafts and stopped, crashed or failed runs can",
        )
    check_draft(run)
    check_datasets(run.read_config().corpus)
    check_queue()
    entry = QueueEntry(run=run.name, added=time.time(), stop_on_failure=stop_on_failure)

    def change(before: QueueFile) -> QueueFile:
        after = append(before, entry)
        waiting = len(after.waiting)
        return after if place is None else moved(after, run.name, min(place, waiting))

    queue = change_queue(change)
    ensure_running()
    return QueuedRun(
        run=run.name,
        place=[one.run for one in queue.waiting].index(run.name) + 1,
        state="waiting",
        status=summary.status,
        step=summary.step,
        preset=summary.preset,
        added=entry.added,
        stop_on_failure=stop_on_failure,
    )


def check_queue() -> None:
    """Refuse a damaged queue before a run is created for it.

    Raises:
        StorageError: the queue's file is damaged or can't be read.
    """
    read_queue()


def entries() -> QueueListing:
    """The queue with estimates; reads all runs, as `rnnlm-tui runs` does.

    Raises:
        StorageError: the data home or the queue can't be read.
    """
    runs = RunList()
    try:
        return list_queue(runs.look(), QueueEstimates())
    finally:
        runs.close()


def move(run: str, to: int | Direction) -> int:
    """Move a waiting run to a place, from 1, or in a direction; returns its new place.

    Raises:
        RunStateError: the run isn't waiting.
        InputError: there is no such place.
        StorageError: the queue can't be read or written.
    """

    def change(queue: QueueFile) -> QueueFile:
        if isinstance(to, int):
            return moved(queue, run, to)
        place, last = (
            queue.waiting.index(waiting_entry(queue, run, "moved")) + 1,
            len(queue.waiting),
        )
        if (to, place) in (("up", 1), ("down", last)):
            raise InputError(f"{run} is {'first' if to == 'up' else 'last'} in the queue already")
        return moved(queue, run, {"first": 1, "last": last, "up": place - 1, "down": place + 1}[to])

    queue = change_queue(change)
    return [entry.run for entry in queue.waiting].index(run) + 1


def remove(run: str) -> None:
    """Take a waiting run out of the queue; it stays a draft, or stopped.

    Raises:
        RunStateError: the run isn't waiting.
        StorageError: the queue can't be read or written.
    """
    change_queue(lambda queue: removed(queue, run))


def pause() -> None:
    """Start no more runs; a run that trains continues.

    Raises:
        StorageError: the queue can't be read or written.
    """
    change_queue(lambda queue: queue.model_copy(update={"paused": True, "reason": ""}))


def resume() -> None:
    """Start runs again.

    Raises:
        StorageError: the queue can't be read or written.
        WorkerError: the queue's process failed to start.
    """
    change_queue(lambda queue: queue.model_copy(update={"paused": False, "reason": ""}))
    ensure_running()


def set_stop_on_failure(stop: bool) -> None:
    """Set whether any failed run pauses the queue.

    Raises:
        StorageError: the queue can't be read or written.
    """
    change_queue(lambda queue: queue.model_copy(update={"stop_on_failure": stop}))


def ensure_running() -> int | None:
    """Start the queue's process if a run waits and it isn't running.

    Returns:
        The pid of the process; None if there is nothing to do.

    Raises:
        StorageError: the queue can't be read, or its files can't be written.
        WorkerError: the process failed to start.
    """
    if not read_queue().has_work:
        return None
    state = read_lock(queue_lock())
    if state.held:
        return state.pid
    make_private_directory(queue_dir())
    process, before = start_detached(
        python_command("rnnlm_tui.client.queue_process"),
        queue_log(),
        child_environment({}),
        folder=home(),
    )
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        code = process.poll()
        state = read_lock(queue_lock())
        if state.held:
            return state.pid
        if code == 0:  # it had nothing left to do
            return None
        if code is not None:
            lines = last_lines(queue_log(), 5, since=before)
            words = "\n".join(line for line in lines if line.strip()) or f"exit code {code}"
            raise WorkerError(
                f"the queue's process failed to start: {words}",
                hint="added runs wait; `rnnlm-tui queue` starts it again",
            )
        time.sleep(0.02)
    raise WorkerError(
        f"the queue's process did not start within {START_SECONDS:.0f} s",
        hint=f"its log: {queue_log()}",
    )


def repair_and_restart() -> str:
    """Move a damaged queue aside and start the queue's process if a run waits.

    Returns:
        A message about a damaged queue; empty if it was valid.

    Raises:
        StorageError: the queue can't be read, or its files can't be written.
        WorkerError: the process failed to start.
    """
    message = move_damaged_aside()
    ensure_running()
    return message


class QueueEstimates:
    """Estimates the training time of runs; call it from one thread."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, object, float | None, int | None]] = {}

    def remaining(self, run: RunSummary) -> tuple[float | None, int | None]:
        """Seconds that a run still trains, and its number of steps; None if unknown."""
        if run.eta_seconds is not None and run.status in LIVING:
            return run.eta_seconds, run.max_steps
        directory = RunDirectory(runs_dir() / run.run)
        changed = stamp(directory.config_path)
        known = self._known.get(run.run)
        if known is None or known[1] != changed or time.monotonic() - known[0] > ESTIMATE_SECONDS:
            seconds: float | None = None
            steps: int | None = run.max_steps
            try:
                found = estimate(directory.read_config())
            except (RnnlmError, OSError):
                pass  # the listing shows why it can't be read
            else:
                seconds, steps = found.seconds, found.steps or run.max_steps
            known = self._known[run.run] = (time.monotonic(), changed, seconds, steps)
        _, _, seconds, steps = known
        if seconds is not None and steps:
            seconds *= max(0.0, 1 - run.step / steps)
        return seconds, steps


def list_queue(runs: Iterable[RunSummary], estimates: QueueEstimates) -> QueueListing:
    """The queue, with the expected start of each waiting run.

    Args:
        runs: summaries of all runs: others that train delay the queue too.

    Raises:
        StorageError: the queue can't be read. Of a damaged one, the valid part is listed.
    """
    queue, damage = found_queue()
    known = {run.run: run for run in runs}
    started = {entry.run: entry for entry in queue.of("starting", "started")}
    listing = QueueListing(
        paused=queue.paused,
        reason=queue.reason,
        stop_on_failure=queue.stop_on_failure,
        process=_process(),
        damaged=f"the queue's file is damaged: {damage}" if damage else "",
    )
    if not queue.entries:
        return listing
    timetable = Timetable()
    listed = list[QueuedRun]()
    for run in known.values():
        entry = started.get(run.run)
        if run.status not in LIVING and entry is None:
            continue
        directory = RunDirectory(runs_dir() / run.run)
        device = entry.device if entry is not None else device_of(directory)
        seconds, steps = estimates.remaining(run)
        if run.host in (None, host_name()) or entry is not None:
            timetable.occupy(device, seconds)
        if entry is not None:
            listed.append(_listed(entry, run, device=device, seconds=seconds, max_steps=steps))
    listed += [_listed(entry, None) for entry in started.values() if entry.run not in known]
    listed.sort(key=lambda run: run.added)
    for place, entry in enumerate(queue.waiting, 1):
        summary = known.get(entry.run)
        if summary is None:
            listed.append(_listed(entry, None, place=place))
            continue
        seconds, steps = estimates.remaining(summary)
        device = _config_device(RunDirectory(runs_dir() / entry.run))
        starts = timetable.next_start(devices(device), seconds)
        listed.append(
            _listed(
                entry,
                summary,
                place=place,
                device=device,
                seconds=seconds,
                max_steps=steps,
                starts=None if queue.paused or starts is None else time.time() + starts,
            )
        )
    ended = tuple(_listed(entry, known.get(entry.run)) for entry in reversed(queue.of("ended")))
    return listing.model_copy(update={"runs": tuple(listed), "ended": ended})


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
    return f"cuda:{found[0]}" if found else devices(_config_device(run))[0]


def _config_device(run: RunDirectory) -> str:
    """The `training.device` of a run's config; auto if it can't be read."""
    try:
        return run.read_config().training.device
    except RnnlmError:
        return "auto"


def _listed(entry: QueueEntry, run: RunSummary | None, **known: object) -> QueuedRun:
    states: Mapping[str, Literal["waiting", "running", "ended"]] = {
        "waiting": "waiting",
        "ended": "ended",
    }
    values: dict[str, object] = {
        "device": entry.device,
        "max_steps": run and run.max_steps,
        **known,
    }
    return QueuedRun.model_validate(
        {
            "run": entry.run,
            "state": states.get(entry.state, "running"),
            "status": run and run.status,
            "preset": run.preset if run else "",
            "step": run.step if run else 0,
            "added": entry.added,
            "stop_on_failure": entry.stop_on_failure,
            "outcome": entry.outcome,
            "message": entry.message,
            "ended": entry.ended,
            **values,
        }
    )


def _process() -> QueueProcess | None:
    try:
        state = read_lock(queue_lock())
    except StorageError:
        return None
    return (
        QueueProcess(pid=state.pid, started=state.started, host=state.host) if state.held else None
    )


def _state_words(run: RunSummary) -> str:
    return "unreadable" if run.unreadable else run.status
