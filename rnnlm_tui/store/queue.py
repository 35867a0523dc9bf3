"""Store the queue of runs: a JSON file beside its process' lock and log, written atomically.

An entry only names its run, which `create_run` has created before: the run's directory holds its
config, and its lock and attempts say whether it was started. So nothing is written when a run
starts, and a crash can't lose a run or start it twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from rnnlm_tui.errors import RnnlmError, StorageError
from rnnlm_tui.schema.metrics import AttemptRow
from rnnlm_tui.schema.queue import QueueEntry, QueueFile
from rnnlm_tui.store.paths import RunDirectory, queue_dir, queue_file, runs_dir
from rnnlm_tui.system.files import make_private_directory
from rnnlm_tui.system.json_files import JsonFile
from rnnlm_tui.system.locks import folder_lock, read_lock

_MOST_BYTES = 4 * 1024 * 1024


def queue_json() -> JsonFile[QueueFile]:
    """The queue's file."""
    return JsonFile(queue_file(), QueueFile, QueueFile(), _MOST_BYTES)


def read_queue() -> QueueFile:
    """The stored queue; empty if there is none.

    Raises:
        StorageError: the file can't be read, or is damaged.
    """
    queue, damage = queue_json().read()
    if damage:
        raise StorageError(
            f"{queue_file()} is damaged: {damage}",
            hint="the next `rnnlm-tui queue` keeps its valid part and moves the file aside",
        )
    return queue


def change_queue(change: Callable[[QueueFile], QueueFile]) -> QueueFile:
    """Change the queue under its folder's lock, and return the new one.

    Raises:
        StorageError: the file can't be read or written, or is damaged.
        RnnlmError: what `change` raises; nothing was changed.
    """
    with locked_queue() as before:
        after = change(before)
        if after != before:
            queue_json().write(after)
        return after


@contextmanager
def locked_queue() -> Iterator[QueueFile]:
    """Hold the queue's folder, so that no other process changes the queue inside the block.

    Raises: as `read_queue`.
    """
    make_private_directory(queue_dir())
    with folder_lock(queue_dir()):
        yield read_queue()


def has_begun(entry: QueueEntry) -> bool:
    """Whether a worker has taken the run since it began to wait, started by the queue or by hand.

    Raises:
        StorageError: the run's lock can't be read.
    """
    lock = RunDirectory(runs_dir() / entry.run).lock_path
    return read_lock(lock).held or bool(attempts_since(entry))


def attempts_since(entry: QueueEntry) -> list[AttemptRow]:
    """The attempts of a run since it began to wait; none if they can't be read: its start repairs
    them, or fails in words."""
    from rnnlm_tui.store.log import logs_of
    from rnnlm_tui.store.reader import RunReader  # imported late: an empty queue needs none

    run = RunDirectory(runs_dir() / entry.run)
    with suppress(RnnlmError):
        if logs_of(run):  # many drafts may wait, and a reader of each takes ten times as long
            with RunReader(run) as reader:
                return [row for row in reader.attempts() if row.attempt > entry.attempts]
    return []


def waiting(queue: QueueFile) -> list[QueueEntry]:
    """The entries that wait, the next one first."""
    return [entry for entry in queue.entries if not has_begun(entry)]


@contextmanager
def following_rename(former: str, name: str) -> Iterator[None]:
    """Hold the queue while a run is renamed inside the block, then let its entries follow: the
    queue's process never finds a waiting run gone. A damaged queue is left alone.

    Raises:
        StorageError: the queue can't be read or written.
    """
    if not queue_file().exists():
        yield
        return

    def renamed(entries: tuple[QueueEntry, ...]) -> tuple[QueueEntry, ...]:
        return tuple(
            entry.model_copy(update={"run": name}) if entry.run == former else entry
            for entry in entries
        )

    with folder_lock(queue_dir()):
        queue, damage = queue_json().read()
        yield
        lists = {"entries": renamed(queue.entries), "ended": renamed(queue.ended)}
        if not damage and (after := queue.model_copy(update=lists)) != queue:
            queue_json().write(after)
