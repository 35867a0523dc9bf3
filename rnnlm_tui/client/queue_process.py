"""The queue's process: `python -m rnnlm_tui.client.queue_process` starts the waiting runs.

It survives the terminal, as workers do, and ends when nothing is left to start or to watch. Killed
at any point, the next one continues: a run counts as started when it has a new attempt.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from rnnlm_tui.client.control import launch, summary_after_repair, wanted_niceness
from rnnlm_tui.client.monitor import summarize
from rnnlm_tui.client.queue import device_of, devices
from rnnlm_tui.client.start import check_disk
from rnnlm_tui.errors import (
    InputError,
    RnnlmError,
    RunStateError,
    StorageError,
    in_one_sentence,
)
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.formatting import safe
from rnnlm_tui.schema.queue import FAILURES, Outcome, QueueEntry, QueueFile
from rnnlm_tui.store.paths import RunDirectory, queue_dir, queue_lock, queue_log, runs_dir
from rnnlm_tui.store.queue import (
    DamagedQueueError,
    change_queue,
    locked_queue,
    moved,
    read_queue,
    replace_entry,
)
from rnnlm_tui.store.reader import AttemptRow, RunReader
from rnnlm_tui.store.runs import list_runs
from rnnlm_tui.system.files import keep_private, make_private_directory
from rnnlm_tui.system.gpu import gpu_uuids
from rnnlm_tui.system.locks import RunLock, boot_id, host_name, read_lock

LOOK_SECONDS = 0.5
RETRY_SECONDS = 10.0
"""Wait after the queue couldn't be read or written, for example because the disk is full."""
MOST_LOG_BYTES = 1024 * 1024
"""A longer log is emptied when the process starts."""
MOST_MESSAGE = 500
"""Longest stored message, in characters."""

Start = Callable[[RunDirectory, str], object]
"""Start a run's worker on a GPU of this UUID; empty: any."""


def start_worker(run: RunDirectory, gpu: str) -> int:
    """Start a run's worker, with a repaired database; returns its pid.

    Raises: as `launch`.
    """
    summary_after_repair(run)
    return launch(run, gpu=gpu)


class QueueRunner:
    """Starts the queue's runs. Only the holder of the queue's lock may call `look`."""

    def __init__(self, start: Start = start_worker) -> None:
        self._start = start

    def look(self) -> None:
        """Record which runs have ended, then start those that may start now.

        Raises:
            StorageError: the queue can't be read or written.
        """
        for entry in read_queue().of("starting", "started"):
            self._watch(entry)
        while (following := self._next()) is not None:
            self._begin(*following)

    def _watch(self, entry: QueueEntry) -> None:
        """Find out what became of a run that was started, perhaps by a process that was killed."""
        run = RunDirectory(runs_dir() / entry.run)
        if not run.path.is_dir():
            self._end(entry, "deleted")
            return
        if read_lock(run.lock_path).held:
            if entry.state == "starting":
                change_queue(lambda queue: replace_entry(queue, entry.run, state="started"))
            return
        try:
            attempts = _attempts(run)
            if entry.state == "starting" and len(attempts) <= entry.attempts:
                if not _is_starting(run):  # killed before it started the worker
                    self._wait_again(entry)
                return
            summary = summarize(run)
        except RnnlmError as error:
            self._end(entry, "lost", in_one_sentence(error))
            return
        if summary.status in ("stopped", "crashed") and _rebooted(attempts):
            self._wait_again(entry, interrupted=True)
        elif summary.status in ("finished", "stopped", "failed", "crashed", "lost"):
            self._end(entry, summary.status, summary.message or "")

    def _wait_again(self, entry: QueueEntry, *, interrupted: bool = False) -> None:
        def change(queue: QueueFile) -> QueueFile:
            queue = replace_entry(
                queue, entry.run, state="waiting", device="", interrupted=interrupted
            )
            return moved(queue, entry.run, 1)

        change_queue(change)
        why = "a reboot interrupted it" if interrupted else "its start was interrupted"
        report(f"{entry.run}: {why}, it waits at place 1")

    def _end(self, entry: QueueEntry, outcome: Outcome, message: str = "") -> None:
        line = safe(" ".join(message.split()), keep="")[:MOST_MESSAGE]

        def change(queue: QueueFile) -> QueueFile:
            queue = replace_entry(
                queue, entry.run, state="ended", outcome=outcome, message=line, ended=time.time()
            )
            stops = outcome in FAILURES and (entry.stop_on_failure or queue.stop_on_failure)
            if not stops or queue.paused:
                return queue
            words = f"{entry.run} {'was lost' if outcome == 'lost' else outcome}"
            return queue.model_copy(update={"paused": True, "reason": words})

        change_queue(change)
        report(f"{entry.run}: {outcome}" + (f": {line}" if line else ""))

    def _next(self) -> tuple[QueueEntry, RunConfig, str] | None:
        """The first waiting run with a free device, its config and the device; None if none can
        start. Ends entries that can't start at all."""
        queue = read_queue()
        if queue.paused or not queue.waiting:
            return None
        occupied = {entry.device for entry in queue.of("starting", "started")}
        others: set[str] | None = None
        for entry in queue.waiting:
            run = RunDirectory(runs_dir() / entry.run)
            if not run.path.is_dir():
                self._end(entry, "deleted")
                continue
            if read_lock(run.lock_path).held:  # resumed by hand
                self._adopt(entry, run)
                return self._next()
            try:
                config = run.read_config()
            except RnnlmError as error:
                self._end(entry, "failed", in_one_sentence(error))
                continue
            allowed = devices(config.training.device)
            if all(device in occupied for device in allowed):
                continue
            if others is None:
                started = {one.run for one in queue.of("starting", "started")}
                others = _occupied_by_others(started)
            free = [one for one in allowed if one not in occupied and one not in others]
            if free:
                return entry, config, free[0]
        return None

    def _adopt(self, entry: QueueEntry, run: RunDirectory) -> None:
        """Count a run as started that was resumed by hand while it waited."""
        device = device_of(run)
        change_queue(lambda queue: replace_entry(queue, entry.run, state="started", device=device))
        report(f"{entry.run}: started by hand")

    def _begin(self, entry: QueueEntry, config: RunConfig, device: str) -> None:
        run = RunDirectory(runs_dir() / entry.run)
        with suppress(RnnlmError):  # the start repairs a damaged database
            summary = summarize(run)
            if summary.status in ("finished", "lost"):  # resumed by hand, here or elsewhere
                self._end(entry, summary.status, summary.message or "")
                return
        try:
            check_disk(config)
        except StorageError as error:
            reason = in_one_sentence(error)
            change_queue(lambda queue: queue.model_copy(update={"paused": True, "reason": reason}))
            report(f"paused before {entry.run}: {reason}")
            return
        except InputError:
            pass  # the worker reports it, and the run shows it
        try:
            attempts = _attempts(run)
        except RnnlmError:
            attempts = []  # the start repairs the database
        changed = change_queue(
            lambda queue: (
                queue
                if queue.paused
                else _started_entry(queue, entry, attempts=len(attempts), device=device)
            )
        )
        if not any(one.run == entry.run for one in changed.of("starting")):
            return  # removed or paused just now
        try:
            self._start(run, _gpu(config, device))
        except RnnlmError as error:
            if isinstance(error, RunStateError) and read_lock(run.lock_path).held:
                return  # a worker of a killed process was faster: the next look finds it
            with suppress(RnnlmError):
                if len(_attempts(run)) > len(attempts):
                    return  # the run has the reason, which the next look finds
            self._end(entry, "failed", in_one_sentence(error))
            return
        change_queue(lambda queue: replace_entry(queue, entry.run, state="started"))
        report(f"{entry.run}: started on {device}")


def _started_entry(queue: QueueFile, entry: QueueEntry, **values: object) -> QueueFile:
    """The queue with a waiting entry marked as starting; unchanged if it no longer waits."""
    if not any(one.run == entry.run for one in queue.waiting):
        return queue
    return replace_entry(queue, entry.run, state="starting", interrupted=False, **values)


def _attempts(run: RunDirectory) -> list[AttemptRow]:
    with RunReader(run) as reader:
        return list(reader.attempts())


def _rebooted(attempts: list[AttemptRow]) -> bool:
    """Whether this machine was started again after the last attempt began."""
    last = attempts[-1] if attempts else None
    return last is not None and last.host == host_name() and last.boot_id != boot_id()


def _is_starting(run: RunDirectory) -> bool:
    """Whether a worker process for this run exists, which may not yet hold the run's lock."""
    import psutil  # imported late: needed only after a killed process

    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or ()
        if "rnnlm_tui.worker.train" in command and str(run.path) in command:
            return True
    return False


def _occupied_by_others(started: set[str]) -> set[str]:
    """The devices of runs that train here and were not started by the queue."""
    occupied = set[str]()
    for run in list_runs():
        if run.name in started:
            continue
        with suppress(RnnlmError):
            state = read_lock(run.lock_path)
            if state.held and state.host in (None, host_name()):
                occupied.add(device_of(run))
    return occupied


def _gpu(config: RunConfig, device: str) -> str:
    """The UUID of the GPU that the worker must take; empty if its config names one, or there is
    only one."""
    if not device.startswith("cuda:") or ":" in config.training.device:
        return ""
    uuids, index = gpu_uuids(), int(device.partition(":")[2])
    return uuids[index] if index < len(uuids) > 1 else ""


def report(words: str) -> None:
    """Write a line to this process's log; never fails."""
    with suppress(OSError):
        print(time.strftime("%Y-%m-%d %H:%M:%S"), words, file=sys.stderr, flush=True)  # noqa: T201


def serve(runner: QueueRunner, lock: RunLock, *, interval: float = LOOK_SECONDS) -> None:
    """Start runs until nothing is left to do, then release the lock.

    Raises:
        DamagedQueueError: the queue's file was damaged meanwhile.
    """
    while True:
        try:
            runner.look()
            with locked_queue() as queue:
                if not queue.has_work:
                    lock.release()  # here: a process that adds a run now finds it free
                    return
        except DamagedQueueError:
            raise
        except StorageError as error:
            report(in_one_sentence(error))
            time.sleep(RETRY_SECONDS)
            continue
        time.sleep(interval)


def main() -> int:
    """Run the queue's process; returns its exit code: 0, or that of the error."""
    keep_private()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # nothing is lost: see the module
    lock = RunLock(queue_lock())
    try:
        wanted_niceness()  # an invalid one would fail every run
        make_private_directory(queue_dir())
        try:
            lock.acquire(patience=0.5)
        except RunStateError:
            state = read_lock(queue_lock())
            raise RunStateError(
                f"the queue already has a process, pid {state.pid}"
                + ("" if state.host in (None, host_name()) else f" on {state.host}"),
                hint="`rnnlm-tui queue` shows it",
            ) from None
        _shorten_log()
        report(f"process {os.getpid()} begins")
        serve(QueueRunner(), lock)
        report(f"process {os.getpid()} ends: nothing left to start")
    except RnnlmError as error:
        report(str(error))
        return error.exit_code
    except Exception:
        with suppress(OSError):
            traceback.print_exc()
        return RnnlmError.exit_code
    finally:
        lock.release()
    return 0


def _shorten_log() -> None:
    path: Path = queue_log()
    with suppress(OSError):
        if path.stat().st_size > MOST_LOG_BYTES:
            os.truncate(path, 0)


if __name__ == "__main__":
    sys.exit(main())
