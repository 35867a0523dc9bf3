"""Store the queue of runs: a JSON file beside its process' lock and log, written atomically.

An entry only names its run, which `create_run` has created before: the run's directory is its
reservation and holds its config. So a crash can't lose a run or start it twice.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

from rnnlm_tui.errors import InputError, RunStateError, StorageError, did_you_mean
from rnnlm_tui.schema.formatting import counted
from rnnlm_tui.schema.queue import FORMAT, QueueEntry, QueueFile
from rnnlm_tui.store.paths import queue_dir, queue_file
from rnnlm_tui.system.files import make_private_directory
from rnnlm_tui.system.json_files import Found, JsonFile
from rnnlm_tui.system.locks import folder_lock

KEPT_ENDED = 20
"""Number of ended entries that are kept for the listing."""
_MOST_BYTES = 4 * 1024 * 1024


class DamagedQueueError(StorageError):
    """The queue's file isn't valid."""


def found_queue() -> Found[QueueFile]:
    """The valid part of the stored queue; empty if there is none.

    Raises:
        StorageError: the file can't be read, or is from a newer version.
    """
    found = _file().read()
    if found.value.format > FORMAT:
        raise StorageError(
            f"{queue_file()} was written by a newer version of rnnlm-tui", hint="update rnnlm-tui"
        )
    return found


def read_queue() -> QueueFile:
    """The stored queue; empty if there is none.

    Raises:
        DamagedQueueError: the file is damaged.
        StorageError: the file can't be read, or is from a newer version.
    """
    queue, damage = found_queue()
    if damage:
        raise DamagedQueueError(
            f"{queue_file()} is damaged: {damage}",
            hint="the next `rnnlm-tui queue` keeps its valid part and moves the file aside",
        )
    return queue


def change_queue(change: Callable[[QueueFile], QueueFile]) -> QueueFile:
    """Change the queue under its folder's lock, and return the new one.

    Raises:
        DamagedQueueError: the file is damaged.
        StorageError: the file can't be read or written.
        RnnlmError: what `change` raises; nothing was changed.
    """
    with locked_queue() as before:
        return store_queue(before, change(before))


@contextmanager
def locked_queue() -> Iterator[QueueFile]:
    """Hold the queue's folder, so that no other process changes the queue inside the block.

    Raises: as `read_queue`.
    """
    make_private_directory(queue_dir())
    with folder_lock(queue_dir()):
        yield read_queue()


def store_queue(before: QueueFile, after: QueueFile) -> QueueFile:
    """Store a changed queue inside `locked_queue`; only the newest ended entries are kept.

    Raises:
        StorageError: the file can't be written.
    """
    ended = after.of("ended")[-KEPT_ENDED:]
    after = after.model_copy(
        update={"entries": (*ended, *after.of("starting", "started"), *after.waiting)}
    )
    if after != before:
        _file().write(after)
    return after


def move_damaged_aside() -> str:
    """Move a damaged queue aside and return a message about it; empty if the queue is valid.

    Raises:
        StorageError: the file can't be read or moved, or is from a newer version.
    """
    found_queue()
    aside = _file().move_damaged_aside()
    if aside is None:
        return ""
    return (
        f"the queue's file was damaged and is kept as {aside.name} in {aside.parent}; runs that"
        " aren't in the queue any more are drafts: `rnnlm-tui queue add RUN` adds them again"
    )


def append(queue: QueueFile, entry: QueueEntry) -> QueueFile:
    """Add an entry at the end.

    Raises:
        RunStateError: its run is in the queue already.
    """
    for other in queue.of("waiting", "starting", "started"):
        if other.run == entry.run:
            where = (
                f"at place {queue.waiting.index(other) + 1}"
                if other.state == "waiting"
                else "and runs"
            )
            raise RunStateError(f"{entry.run} is in the queue already, {where}")
    kept = [other for other in queue.entries if other.run != entry.run]
    return queue.model_copy(update={"entries": (*kept, entry)})


def replace_entry(queue: QueueFile, run: str, **values: object) -> QueueFile:
    """Change the fields of a run's entry that hasn't ended; nothing if there is none."""
    return queue.model_copy(
        update={
            "entries": tuple(
                entry.model_copy(update=values)
                if entry.run == run and entry.state != "ended"
                else entry
                for entry in queue.entries
            )
        }
    )


def moved(queue: QueueFile, run: str, place: int) -> QueueFile:
    """Put a waiting run at a place, from 1.

    Raises:
        RunStateError: the run isn't waiting.
        InputError: there is no such place.
    """
    entry = waiting_entry(queue, run, "moved")
    count = len(queue.waiting)
    if not 1 <= place <= count:
        only = "the only place is 1" if count == 1 else f"places are 1 to {count}"
        raise InputError(
            f"no place {place} in the queue: {counted(count, 'run')} {_wait(count)}, {only}",
            hint="`rnnlm-tui queue` lists them",
        )
    waiting = [other for other in queue.waiting if other != entry]
    waiting.insert(place - 1, entry)
    others = queue.of("ended", "starting", "started")
    return queue.model_copy(update={"entries": (*others, *waiting)})


def removed(queue: QueueFile, run: str) -> QueueFile:
    """Take a waiting run out of the queue.

    Raises:
        RunStateError: the run isn't waiting.
    """
    entry = waiting_entry(queue, run, "removed")
    return queue.model_copy(
        update={"entries": tuple(other for other in queue.entries if other != entry)}
    )


def waiting_entry(queue: QueueFile, run: str, done: str) -> QueueEntry:
    """The entry of a waiting run.

    Args:
        done: `moved` or `removed`, for the message.

    Raises:
        RunStateError: the run has started, or isn't in the queue.
    """
    for entry in queue.entries:
        if entry.run == run and entry.state == "waiting":
            return entry
        if entry.run == run and entry.state in ("starting", "started"):
            raise RunStateError(
                f"{run} has started: it can't be {done}", hint=f"`rnnlm-tui stop {run}` stops it"
            )
    names = [entry.run for entry in queue.waiting]
    raise RunStateError(
        f"{run} is not waiting in the queue",
        hint=did_you_mean(run, names)
        or ("`rnnlm-tui queue` lists them" if names else "the queue is empty"),
    )


@contextmanager
def following_rename(former: str, name: str) -> Iterator[None]:
    """Hold the queue while a run is renamed inside the block, then let its entries follow: the
    queue's process never finds a waiting run gone. A damaged queue is left alone.

    Raises:
        StorageError: the queue can't be read or written.
    """
    with ExitStack() as held:
        before = QueueFile()
        if os.path.lexists(queue_file()):
            with suppress(DamagedQueueError):
                before = held.enter_context(locked_queue())
        yield
        entries = tuple(
            entry.model_copy(update={"run": name}) if entry.run == former else entry
            for entry in before.entries
        )
        store_queue(before, before.model_copy(update={"entries": entries}))


def _wait(count: int) -> str:
    return "waits" if count == 1 else "wait"


def _file() -> JsonFile[QueueFile]:
    return JsonFile(queue_file(), QueueFile, QueueFile(), _MOST_BYTES)
