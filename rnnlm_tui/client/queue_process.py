"""The queue's process: `python -m rnnlm_tui.client.queue_process` starts the waiting runs.

It survives the terminal, as workers do, and ends when nothing is left to start or to watch. It
writes nothing when it starts a run: killed at any point, the next one finds in the run's lock and
attempts whether it was started.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress

from rnnlm_tui.client.control import launch, wanted_niceness
from rnnlm_tui.client.gpus import training_here
from rnnlm_tui.client.monitor import summarize, summary_or_problem
from rnnlm_tui.client.queue import config_device, devices, devices_of, wanted_devices
from rnnlm_tui.client.start import check_disk
from rnnlm_tui.errors import InputError, RnnlmError, StorageError, in_one_sentence
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.formatting import safe
from rnnlm_tui.schema.queue import QueueEntry, QueueFile
from rnnlm_tui.schema.status import LIVING, RunStatus
from rnnlm_tui.store.paths import RunDirectory, queue_dir, queue_lock, runs_dir
from rnnlm_tui.store.queue import (
    attempts_since,
    change_queue,
    has_begun,
    locked_queue,
    queue_json,
    read_queue,
    waiting,
)
from rnnlm_tui.system.files import keep_private, make_private_directory
from rnnlm_tui.system.gpu import gpu_uuids
from rnnlm_tui.system.locks import RunLock, boot_id, host_name, read_lock

LOOK_SECONDS = 1.0
RETRY_SECONDS = 10.0
"""Wait after the queue couldn't be read or written, for example because the disk is full."""
MOST_MESSAGE = 500
"""Longest stored message, in characters."""
KEPT_ENDED = 20
"""Number of ended entries that are kept for the listing."""


def look() -> None:
    """Take the runs that have ended out of the queue, then start those that may start now. Only the
    holder of the queue's lock may call it.

    Raises:
        StorageError: the queue can't be read or written.
    """
    while True:
        for entry in read_queue().entries:
            _watch(entry)
        if not _start_next():
            return


def _watch(entry: QueueEntry) -> None:
    """Find out what became of a run, perhaps started by a process that was killed."""
    run = RunDirectory(runs_dir() / entry.run)
    if not run.path.is_dir():
        change_queue(lambda queue: queue.without(entry.run))
        report(f"{entry.run}: deleted")
        return
    attempts = [] if read_lock(run.lock_path).held else attempts_since(entry)
    if not attempts:
        return
    last, summary = attempts[-1], summary_or_problem(run)
    rebooted = last.host == host_name() and last.boot_id != boot_id()
    if rebooted and summary.status in ("stopped", "crashed"):
        _wait_again(entry, last.attempt)
    elif summary.status not in LIVING:
        _end(entry, summary.status, summary.message or "")


def _wait_again(entry: QueueEntry, attempts: int) -> None:
    with locked_queue() as queue:
        if entry in queue.entries:
            others = queue.without(entry.run).entries
            again = entry.model_copy(update={"attempts": attempts})
            queue_json().write(queue.model_copy(update={"entries": (again, *others)}))
    report(f"{entry.run}: a reboot interrupted it, it waits at place 1")


def _end(entry: QueueEntry, outcome: RunStatus, message: str, *, started: bool = True) -> None:
    line = safe(" ".join(message.split()), keep="")[:MOST_MESSAGE]
    ended = entry.model_copy(update={"problem": "" if started else line})
    with locked_queue() as queue:
        if entry in queue.entries:  # else renamed or removed just now
            after = queue.without(entry.run)
            changes: dict[str, object] = {"ended": (*after.ended, ended)[-KEPT_ENDED:]}
            stops = entry.stop_on_failure or queue.stop_on_failure
            if stops and not queue.paused and outcome not in ("finished", "stopped"):
                words = f"{entry.run} {'was lost' if outcome == 'lost' else outcome}"
                changes |= {"paused": True, "reason": words}
            queue_json().write(after.model_copy(update=changes))
    report(f"{entry.run}: {outcome}" + (f": {line}" if line else ""))


def _start_next() -> bool:
    """Start the first waiting run with a free device; whether to look again at once."""
    queue = read_queue()
    waits = [] if queue.paused else waiting(queue)
    training = training_here() if waits else ()
    occupied = {device for run in training for device in devices_of(run)}
    for entry in waits:
        run = RunDirectory(runs_dir() / entry.run)
        free = [one for one in devices(config_device(run)) if one not in occupied]
        wanted = wanted_devices(run)
        if len(free) >= wanted:
            return _begin(queue, entry, run, free[:wanted])
        if wanted > 1:  # those behind it would take its devices for ever
            return False
    return False


def _begin(queue: QueueFile, entry: QueueEntry, run: RunDirectory, taken: list[str]) -> bool:
    try:
        summarize(run)
        config = run.read_config()
    except RnnlmError as error:
        _end(entry, "failed", in_one_sentence(error), started=False)
        return True
    try:
        check_disk(config)
    except StorageError as error:
        reason = in_one_sentence(error)
        change_queue(lambda queue: queue.model_copy(update={"paused": True, "reason": reason}))
        report(f"paused before {entry.run}: {reason}")
        return False
    except InputError:
        pass  # the worker reports it, and the run shows it
    if has_begun(entry) or read_queue() != queue:
        return True  # repaired, started by hand, moved, removed or paused just now
    try:
        launch(run, gpu=",".join(filter(None, (_gpu(config, device) for device in taken))))
    except RnnlmError as error:
        if not has_begun(entry):  # else the run has the reason, or trains
            _end(entry, "failed", in_one_sentence(error), started=False)
    else:
        report(f"{entry.run}: started on {', '.join(taken)}")
    return True


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


def serve(lock: RunLock) -> None:
    """Start runs until nothing is left to do, then release the lock."""
    while True:
        try:
            look()
            with locked_queue() as queue:
                waits = bool(queue.entries) and not queue.paused
                if not waits and not any(map(has_begun, queue.entries)):
                    lock.release()  # here: a process that adds a run now finds it free
                    return
        except StorageError as error:
            report(in_one_sentence(error))
            time.sleep(RETRY_SECONDS)
            continue
        time.sleep(LOOK_SECONDS)


def main() -> int:
    """Run the queue's process; returns its exit code: 0, or that of the error."""
    keep_private()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        wanted_niceness()  # an invalid one would fail every run
        make_private_directory(queue_dir())
        with RunLock(queue_lock()) as lock:
            report(f"process {os.getpid()} begins")
            serve(lock)
            report(f"process {os.getpid()} ends: nothing left to start")
    except RnnlmError as error:
        report(str(error))
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
