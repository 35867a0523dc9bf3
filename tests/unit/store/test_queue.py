"""The queue's file: damage, renamed runs, and whether a run was started."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rnnlm_tui.errors import StorageError
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.queue import QueueEntry, QueueFile
from rnnlm_tui.store.paths import queue_file
from rnnlm_tui.store.queue import change_queue, queue_json, read_queue, waiting
from rnnlm_tui.store.runs import create_run, rename_run
from rnnlm_tui.system.files import make_private_directory
from rnnlm_tui.system.locks import RunLock
from tests.unit.store.rows import begin


def queue_of(*runs: str) -> QueueFile:
    return QueueFile(entries=tuple(QueueEntry(run=run, added=1.0) for run in runs))


def test_the_queue_is_stored_privately_and_only_if_it_changed(home: Path) -> None:
    assert read_queue() == QueueFile()
    assert not home.exists()
    change_queue(lambda _: queue_of("otter"))
    assert read_queue() == queue_of("otter")
    assert queue_file().stat().st_mode & 0o777 == 0o600
    written = queue_file().stat().st_mtime_ns
    change_queue(lambda queue: queue)
    assert queue_file().stat().st_mtime_ns == written


@pytest.mark.parametrize(
    "wrong",
    [
        {"run": "heron", "added": 1, "attempts": -1},
        {"run": "heron", "added": 1e300},
        {"run": "heron", "added": 1, "state": "waiting"},
        {"run": 3},
    ],
)
def test_a_damaged_queue_is_not_changed_before_its_invalid_entry_is_moved_aside(
    wrong: dict[str, object],
) -> None:
    before = change_queue(lambda _: queue_of("otter", "badger").model_copy(update={"paused": True}))
    values = json.loads(queue_file().read_text())
    values["entries"].insert(1, wrong)
    queue_file().write_text(json.dumps(values))
    assert queue_json().read() == (before, "1 invalid value")
    for action in (read_queue, lambda: change_queue(lambda queue: queue)):
        with pytest.raises(StorageError, match="is damaged: 1 invalid value"):
            action()
    assert queue_json().move_damaged_aside()
    assert read_queue() == before


def test_a_queue_that_names_a_run_twice_is_damaged() -> None:
    make_private_directory(queue_file().parent)
    once = queue_of("otter")
    twice = once.model_copy(update={"entries": once.entries * 2})
    queue_file().write_text(twice.model_dump_json())
    assert queue_json().read().value == QueueFile()
    assert queue_json().read().damage


def test_a_renamed_run_keeps_its_place_and_a_damaged_queue_its_bytes() -> None:
    run = create_run(RunConfig(), "otter")
    change_queue(lambda _: queue_of("heron", "otter"))
    run = rename_run(run, "old-otter")
    assert [one.run for one in read_queue().entries] == ["heron", "old-otter"]
    damaged = queue_file().read_text().replace('"entries"', '"entires": [], "entries"')
    queue_file().write_text(damaged)
    rename_run(run, "otter")
    assert queue_file().read_text() == damaged


def test_a_run_waits_until_a_worker_holds_it_or_has_begun_an_attempt() -> None:
    run, queue = create_run(RunConfig(), "otter"), queue_of("otter")
    assert waiting(queue) == [*queue.entries]
    with RunLock(run.lock_path):
        assert waiting(queue) == []
    assert waiting(queue) == [*queue.entries]
    begin(run).close()
    assert waiting(queue) == []
    resumed = queue.entries[0].model_copy(update={"attempts": 1})
    assert waiting(QueueFile(entries=(resumed,))) == [resumed]
