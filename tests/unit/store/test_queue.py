"""The queue's file: order, places, damage, and renamed runs."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from rnnlm_tui.errors import InputError, RunStateError, StorageError
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.queue import QueueEntry, QueueFile
from rnnlm_tui.store.paths import queue_file
from rnnlm_tui.store.queue import (
    KEPT_ENDED,
    DamagedQueueError,
    append,
    change_queue,
    found_queue,
    move_damaged_aside,
    moved,
    read_queue,
    removed,
    replace_entry,
    store_queue,
)
from rnnlm_tui.store.runs import create_run, rename_run
from rnnlm_tui.system.files import make_private_directory


def entry(run: str, **values: object) -> QueueEntry:
    return QueueEntry.model_validate({"run": run, "added": 1.0, **values})


def queue_of(*runs: str) -> QueueFile:
    return QueueFile(entries=tuple(map(entry, runs)))


@pytest.mark.parametrize("seed", range(40))
def test_the_order_is_that_of_a_list(seed: int) -> None:
    """Whatever is done, no run is lost or twice in the queue, and refusals change nothing."""
    draw = random.Random(seed)
    queue, waiting, started = QueueFile(), list[str](), set[str]()
    for _ in range(30):
        action, place = draw.choice(["add", "add", "move", "remove", "start"]), draw.randint(-1, 7)
        run = f"run-{draw.randint(0, 5)}"
        if action == "add":
            if run in waiting or run in started:
                with pytest.raises(RunStateError, match="is in the queue already"):
                    append(queue, entry(run))
            else:
                queue = append(queue, entry(run))
                waiting.append(run)
        elif run not in waiting:
            with pytest.raises(RunStateError):
                moved(queue, run, 1)
            with pytest.raises(RunStateError):
                removed(queue, run)
        elif action == "move":
            if not 1 <= place <= len(waiting):
                with pytest.raises(InputError, match=f"no place {place} in the queue"):
                    moved(queue, run, place)
                continue
            queue = moved(queue, run, place)
            waiting.remove(run)
            waiting.insert(place - 1, run)
        elif action == "remove":
            queue = removed(queue, run)
            waiting.remove(run)
        else:
            queue = replace_entry(queue, run, state="started")
            waiting.remove(run)
            started.add(run)
        assert [one.run for one in queue.waiting] == waiting
        assert {one.run for one in queue.of("started")} == started


def test_the_queue_is_stored_privately_and_the_newest_ended_entries_are_kept(home: Path) -> None:
    assert read_queue() == QueueFile()
    assert not home.exists()
    ended = tuple(entry(f"old-{number}", state="ended") for number in range(KEPT_ENDED + 5))
    change_queue(lambda _: QueueFile(entries=(entry("otter"), *ended)))
    queue = read_queue()
    assert [one.run for one in queue.entries][-1] == "otter"
    assert queue.of("ended") == ended[5:]
    assert queue_file().stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "wrong",
    [
        {"run": "heron", "added": 1, "ended": -1e300},
        {"run": "heron", "added": 1e300},
        {"run": "heron", "added": 1, "state": "lost"},
        {"run": 3},
    ],
)
def test_an_invalid_entry_is_left_out_after_it_was_reported(wrong: dict[str, object]) -> None:
    change_queue(lambda _: queue_of("otter", "badger").model_copy(update={"paused": True}))
    before = read_queue()
    values = json.loads(queue_file().read_text())
    values["entries"].insert(1, wrong)
    queue_file().write_text(json.dumps(values))
    assert found_queue() == (before, "1 invalid value")
    for action in (read_queue, lambda: change_queue(lambda queue: queue)):
        with pytest.raises(DamagedQueueError, match="is damaged: 1 invalid value"):
            action()
    assert "is kept as queue.json.unusable" in move_damaged_aside()
    assert (read_queue(), move_damaged_aside()) == (before, "")


def test_a_queue_that_names_a_run_twice_is_damaged() -> None:
    make_private_directory(queue_file().parent)
    twice = queue_of("otter").model_copy(update={"entries": (entry("otter"),) * 2})
    queue_file().write_text(twice.model_dump_json())
    with pytest.raises(DamagedQueueError):
        read_queue()
    assert found_queue().value == QueueFile()


def test_a_queue_of_a_newer_version_is_left_as_it_is() -> None:
    make_private_directory(queue_file().parent)
    text = b'{"format": 2, "lanes": []}'
    queue_file().write_bytes(text)
    for action in (read_queue, move_damaged_aside):
        with pytest.raises(StorageError, match="newer version") as caught:
            action()
        assert not isinstance(caught.value, DamagedQueueError)
    assert queue_file().read_bytes() == text


def test_a_queue_that_did_not_change_is_not_written_again() -> None:
    before = change_queue(lambda queue: append(queue, entry("otter")))
    written = queue_file().stat().st_mtime_ns
    assert store_queue(before, before) == before
    assert queue_file().stat().st_mtime_ns == written


def test_a_renamed_run_keeps_its_place() -> None:
    run = create_run(RunConfig(), "otter")
    change_queue(lambda _: queue_of("heron", "otter"))
    rename_run(run, "old-otter")
    assert [one.run for one in read_queue().waiting] == ["heron", "old-otter"]
