"""The queue's process and its client: starts, ends, devices, kills at every point, and reboots."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest.mock import patch

import pytest

from rnnlm_tui.client import queue, queue_process
from rnnlm_tui.client.queue import Timetable, devices, entries
from rnnlm_tui.errors import InputError, RunStateError, StorageError, WorkerError
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.facts import Facts
from rnnlm_tui.schema.metrics import EventKind, EventRow
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.store.log import RunLog
from rnnlm_tui.store.paths import RunDirectory, queue_file, queue_lock, runs_dir
from rnnlm_tui.store.queue import read_queue, waiting
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.runs import create_run, find_run, rename_run
from rnnlm_tui.store.trash import delete_run
from rnnlm_tui.system.files import write_text_atomically
from rnnlm_tui.system.locks import RunLock
from tests.unit.client.logs import begin

CPU = parse_config(merge(RunConfig(), {"training.device": "cpu"}))
GPU = parse_config(merge(RunConfig(), {"training.device": "cuda"}))


class Killed(BaseException):
    """The queue's process was killed here."""


@pytest.fixture(autouse=True)
def no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test calls the queue's process itself, step by step."""
    monkeypatch.setattr("rnnlm_tui.client.queue.ensure_running", lambda: "")
    monkeypatch.setattr("rnnlm_tui.client.queue_process.check_disk", lambda config: None)


def add(config: RunConfig, name: str, *, stop_on_failure: bool = False) -> None:
    queue.add_run(create_run(config, name), stop_on_failure=stop_on_failure)


def record_attempt(run: RunDirectory, *kinds: EventKind, boot: str = "", message: str = "") -> None:
    """Write what a worker that ran and ended writes."""
    with begin(run, boot=boot) as log:
        log.append(Facts(message=message))
        log.append(*(EventRow(log.attempt, 0, kind, message, time.time()) for kind in kinds))


class Workers:
    """Workers that end at once, or train until `end`."""

    def __init__(self) -> None:
        self.started: list[tuple[str, str]] = []
        self.endings: dict[str, EventKind] = {}
        self.locks: dict[str, RunLock] = {}
        self.living: set[str] = set()

    def __call__(self, run: RunDirectory, gpu: str) -> int:
        self.started.append((run.name, gpu))
        if run.name in self.living:
            self.begin(run, gpu)
        else:
            ending = self.endings.get(run.name, "finished")
            record_attempt(run, "started", ending, message="it broke" * (ending == "failed"))
        return 1

    def begin(self, run: RunDirectory, gpu: str = "") -> None:
        self.locks[run.name] = RunLock(run.lock_path)
        self.locks[run.name].acquire()
        record_attempt(run, "started", "running")
        with RunLog(run, 1) as log:
            log.append(Facts(gpu_uuid=gpu.removeprefix("GPU-")))

    def end(self, name: str, kind: EventKind = "finished") -> None:
        with RunLog(RunDirectory(runs_dir() / name), 1) as log:
            log.append(EventRow(1, 0, kind, "", time.time()))
        self.locks.pop(name).release()

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.started]


@pytest.fixture
def workers() -> Workers:
    return Workers()


def outcomes() -> dict[str, str | None]:
    return {run.run: run.outcome for run in reversed(entries().ended)}


def states() -> dict[str, str]:
    return {run.run: run.state for run in entries().runs}


def waits() -> list[str]:
    return [entry.run for entry in waiting(read_queue())]


def look(start: Callable[[RunDirectory, str], object]) -> None:
    """Look once as the queue's process, with this in the place of a worker's start."""
    with patch("rnnlm_tui.client.queue_process.launch", lambda run, gpu: start(run, gpu)):
        queue_process.look()


def look_until_idle(start: Callable[[RunDirectory, str], object]) -> None:
    for _ in range(20):
        look(start)
        if not read_queue().entries or read_queue().paused:
            return
    raise AssertionError(f"still busy: {read_queue()}")


def test_runs_start_one_after_another_and_a_failure_does_not_stop_the_queue(
    workers: Workers,
) -> None:
    for name in ("one", "two", "three"):
        add(CPU, name)
    workers.endings["two"] = "failed"
    workers.living.add("one")
    look(workers)
    look(workers)
    assert workers.names == ["one"]
    assert states() == {"one": "running", "two": "waiting", "three": "waiting"}
    workers.end("one")
    look_until_idle(workers)
    assert workers.names == ["one", "two", "three"]
    assert outcomes() == {"one": "finished", "two": "failed", "three": "finished"}
    assert entries().ended[1].message == "it broke"


@pytest.mark.parametrize("by", ["entry", "queue"])
def test_a_failure_pauses_the_queue_if_asked(by: str, workers: Workers) -> None:
    add(CPU, "one", stop_on_failure=by == "entry")
    add(CPU, "two")
    queue.set_stop_on_failure(by == "queue")
    workers.endings["one"] = "failed"
    look_until_idle(workers)
    assert workers.names == ["one"]
    assert (read_queue().paused, read_queue().reason) == (True, "one failed")
    queue.set_paused(False)
    look_until_idle(workers)
    assert workers.names == ["one", "two"]
    assert read_queue().reason == ""


def test_a_paused_queue_starts_nothing_and_a_stopped_run_is_no_failure(workers: Workers) -> None:
    for name in ("one", "two", "three"):
        add(CPU, name, stop_on_failure=True)
    queue.set_paused(True)
    look_until_idle(workers)
    assert workers.names == []
    queue.set_paused(False)
    workers.endings["one"] = "stopped"
    workers.living.add("two")
    look(workers)
    assert workers.names == ["one", "two"]
    queue.set_paused(True)
    workers.end("two", "failed")
    look_until_idle(workers)
    assert (workers.names, read_queue().reason) == (["one", "two"], "")


@pytest.mark.parametrize("seed", range(10))
def test_killed_anywhere_it_neither_loses_a_run_nor_starts_one_twice(
    seed: int, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kill it before or after any of its writes and starts, again and again."""
    draw = random.Random(seed)
    names = ["one", "two", "three"]
    for name in names:
        add(CPU, name)
    workers.endings["two"] = "failed"

    def killable(call: Callable[..., object]) -> Callable[..., object]:
        def wrapped(*arguments: object) -> object:
            kill = draw.random()
            if kill < 0.2:
                raise Killed
            result = call(*arguments)
            if kill > 0.8:
                raise Killed
            return result

        return wrapped

    monkeypatch.setattr(
        "rnnlm_tui.system.json_files.write_text_atomically", killable(write_text_atomically)
    )
    for _ in range(100):
        try:
            look_until_idle(killable(workers))
        except Killed:
            continue
        break
    assert workers.names == names
    assert outcomes() == {"one": "finished", "two": "failed", "three": "finished"}
    for name in names:
        with RunReader(RunDirectory(runs_dir() / name)) as reader:
            assert len(reader.attempts()) == 1


@pytest.mark.parametrize("ending", ["running", "stopped"])
@pytest.mark.parametrize("boot", ["before", ""])
def test_a_run_that_a_reboot_interrupted_is_resumed_first(
    ending: EventKind, boot: str, workers: Workers
) -> None:
    """A machine that shuts down lets its worker save and stop, or kills it. Without a reboot, the
    run has ended."""
    add(CPU, "one")
    add(CPU, "two")
    record_attempt(find_run("two"), "started", "running", ending, boot=boot)
    look_until_idle(workers)
    assert workers.names == (["two", "one"] if boot else ["one"])
    ended = "stopped" if ending == "stopped" else "crashed"
    assert outcomes() == {"two": "finished" if boot else ended, "one": "finished"}


def test_the_queue_waits_for_runs_that_were_started_by_hand_its_own_too(workers: Workers) -> None:
    workers.begin(create_run(CPU, "mine"))
    add(CPU, "one")
    add(CPU, "two")
    look(workers)
    workers.begin(find_run("two"))
    workers.end("mine")
    look(workers)
    assert (workers.names, states()) == ([], {"two": "running", "one": "waiting"})
    workers.end("two")
    look_until_idle(workers)
    assert outcomes() == {"two": "finished", "one": "finished"}


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("client.queue", "system.machine"):
        monkeypatch.setattr(f"rnnlm_tui.{module}.gpu_count", lambda: 2)
    for module in ("client.queue", "client.queue_process"):
        monkeypatch.setattr(f"rnnlm_tui.{module}.gpu_uuids", lambda: ["GPU-a", "GPU-b"])
    monkeypatch.setattr("rnnlm_tui.system.machine.gpu_problem", lambda: None)


@pytest.mark.usefixtures("two_gpus")
def test_each_gpu_gets_a_run(workers: Workers) -> None:
    assert devices("auto") == devices("cuda") == ("cuda:0", "cuda:1")
    assert (devices("cuda:1"), devices("cpu")) == (("cuda:1",), ("cpu",))
    for name in ("one", "two", "three"):
        add(GPU, name)
    add(CPU, "four")
    workers.living |= {"one", "two", "three", "four"}
    look(workers)
    assert workers.started == [("one", "GPU-a"), ("two", "GPU-b"), ("four", "")]
    workers.end("two")
    look(workers)
    assert workers.started[-1] == ("three", "GPU-b")


@pytest.mark.usefixtures("two_gpus")
def test_a_run_of_two_processes_waits_for_two_gpus_and_gets_both(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rnnlm_tui.client.gpus.gpu_count", lambda: 2)
    for name, processes in (("one", 1), ("both", "auto"), ("three", 1)):
        add(parse_config(merge(GPU, {"distributed.processes": processes})), name)
    workers.living |= {"one", "both", "three"}
    look(workers)
    assert workers.started == [("one", "GPU-a")], "nothing takes a device that the second waits for"
    workers.end("one")
    look(workers)
    assert workers.started[1:] == [("both", "GPU-a,GPU-b")]
    workers.end("both")
    look(workers)
    assert workers.started[2:] == [("three", "GPU-a")]


@pytest.mark.usefixtures("two_gpus")
def test_a_run_that_was_started_by_hand_delays_only_those_on_its_gpu(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rnnlm_tui.client.queue.remaining", lambda _run: (None, None))
    workers.begin(create_run(GPU, "mine"), "GPU-b")
    for name in ("cuda:0", "cuda:1"):
        add(parse_config(merge(GPU, {"training.device": name})), name.replace(":", "-"))
    starts = {run.run: run.starts for run in entries().runs if run.state == "waiting"}
    assert [name for name, known in starts.items() if known is not None] == ["cuda-0"]


def test_a_waiting_run_that_is_being_renamed_keeps_its_place(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(CPU, "one")
    looking = threading.Thread(target=look, args=[workers])

    def looked_at_meanwhile(path: Path) -> None:
        if path == runs_dir() and not looking.ident:
            looking.start()
            looking.join(0.2)

    monkeypatch.setattr("rnnlm_tui.store.runs.fsync_directory", looked_at_meanwhile)
    rename_run(RunDirectory(runs_dir() / "one"), "other")
    looking.join()
    look_until_idle(workers)
    assert outcomes() == {"other": "finished"}


def test_a_run_that_cannot_start_fails_in_words_and_the_next_one_starts(workers: Workers) -> None:
    def start(run: RunDirectory, gpu: str) -> object:
        if run.name == "one":
            raise WorkerError("the worker of one failed to start: no torch", hint="its log: x")
        workers(run, gpu)
        if run.name == "four":
            raise WorkerError("the worker of four failed to start: it broke")
        return 1

    workers.endings["four"] = "failed"
    for name in ("one", "two", "three", "four", "five"):
        add(CPU, name)
    config = RunDirectory(runs_dir() / "two").config_path
    config.write_text(config.read_text().replace("hidden_size", "hidden_width"))
    delete_run(RunDirectory(runs_dir() / "three"))
    look_until_idle(start)
    assert list(outcomes().values()) == ["failed", "failed", "failed", "finished"]
    _, four, two, one = entries().ended
    assert "failed to start: no torch. its log: x" in one.message
    assert "hidden_width" in two.message
    assert "another version" in two.message
    assert (four.run, four.message) == ("four", "it broke")


def test_a_full_disk_pauses_the_queue_instead_of_failing_its_runs(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(config: RunConfig) -> None:
        raise StorageError("a run of this size needs 3 GB, 1 GB are free")

    monkeypatch.setattr("rnnlm_tui.client.queue_process.check_disk", full)
    add(CPU, "one")
    look_until_idle(workers)
    assert waits() == ["one"]
    assert read_queue().reason == "a run of this size needs 3 GB, 1 GB are free"


def test_a_run_that_is_removed_at_the_last_moment_is_not_started(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(CPU, "one")
    monkeypatch.setattr(
        "rnnlm_tui.client.queue_process.check_disk", lambda config: queue.remove("one")
    )
    look_until_idle(workers)
    assert workers.names == []


def test_a_run_that_is_removed_while_its_start_fails_is_not_listed() -> None:
    def start(run: RunDirectory, gpu: str) -> object:
        queue.remove(run.name)
        raise WorkerError("no torch")

    add(CPU, "one")
    look_until_idle(start)
    assert entries().ended == ()


def test_only_the_last_ended_runs_are_kept(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rnnlm_tui.client.queue_process.KEPT_ENDED", 1)
    add(CPU, "one")
    add(CPU, "two")
    look_until_idle(workers)
    assert outcomes() == {"two": "finished"}


def test_what_cannot_wait_is_refused(workers: Workers) -> None:
    workers.begin(create_run(CPU, "busy"))
    done = create_run(CPU, "done")
    record_attempt(done, "started", "finished")
    for name, words in (("busy", "it is running"), ("done", "it is finished")):
        with pytest.raises(RunStateError, match=words):
            queue.add_run(find_run(name))


@pytest.mark.parametrize("seed", range(4))
def test_the_order_is_that_of_a_list(seed: int, workers: Workers) -> None:
    """Whatever is done, no run is lost or twice in the queue, and refusals change nothing."""
    draw = random.Random(seed)
    for number in range(5):
        create_run(CPU, f"run-{number}")
    expected = list[str]()
    for _ in range(30):
        action = draw.choice(["add", "add", "put back", "move", "remove", "start"])
        run, place = find_run(f"run-{draw.randint(0, 4)}"), draw.randint(-1, 6)
        at = expected.index(run.name) if run.name in expected else -1
        if action in ("add", "put back"):
            if at >= 0 or run.name in workers.locks:
                with pytest.raises(RunStateError, match=r"in the queue already, at|it is running"):
                    queue.add_run(run)
                continue
            wanted = None if action == "add" else max(1, place)
            new = len(expected) if wanted is None else min(wanted - 1, len(expected))
            assert queue.add_run(run, place=wanted).place == new + 1
            expected.insert(new, run.name)
        elif at < 0:
            for refused in (partial(queue.move, run.name, 1), partial(queue.remove, run.name)):
                with pytest.raises(RunStateError, match=r"has started|is not waiting"):
                    refused()
        elif action == "move" and not 1 <= place <= len(expected):
            with pytest.raises(InputError, match=f"no place {place} in the queue"):
                queue.move(run.name, place)
        elif action == "move":
            assert queue.move(run.name, place) == place
            expected.insert(place - 1, expected.pop(at))
        else:
            expected.remove(run.name)
            workers.begin(run) if action == "start" else queue.remove(run.name)
        assert waits() == expected


def test_the_listing_has_places_expected_starts_and_results(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rnnlm_tui.client.queue.remaining", lambda run: (60.0, 100))
    for name in ("one", "two", "three", "four"):
        add(CPU, name)
    workers.living.add("two")
    look(workers)
    look(workers)
    listing = entries()
    found = [(run.run, run.state, run.place) for run in listing.runs]
    assert found == [
        ("two", "running", None),
        ("three", "waiting", 1),
        ("four", "waiting", 2),
    ]
    starts = [round(run.starts - time.time(), -1) for run in listing.waiting if run.starts]
    assert starts == [60, 120]
    assert [(run.run, run.outcome) for run in listing.ended] == [("one", "finished")]
    assert listing.process is None
    queue.set_paused(True)
    assert [run.starts for run in entries().waiting] == [None, None]
    workers.end("two")
    workers.begin(find_run("one"))
    assert [(run.run, run.outcome) for run in entries().ended] == [("two", "finished")]


def test_a_run_starts_where_a_device_is_free_first() -> None:
    both, table = ("cuda:0", "cuda:1"), Timetable()
    table.occupy("cuda:0", 100.0)
    assert table.next_start(both, 10.0) == 0.0
    assert table.next_start(both, 200.0) == 10.0
    assert table.next_start(both, None) == 100.0
    assert table.next_start(("cuda:0",), 1.0) is None
    assert table.next_start(both, 1.0) is None
    assert table.next_start(("cpu",), 1.0) == 0.0


def test_two_processes_the_second_says_so_and_ends(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:

    monkeypatch.setattr("signal.signal", lambda *_: None)
    add(CPU, "one")
    lock = RunLock(queue_lock())
    lock.acquire()
    assert queue_process.main() == RunStateError.exit_code
    assert f"queue is running as pid {os.getpid()}" in capsys.readouterr().err
    lock.release()
    assert waits() == ["one"]


def test_a_damaged_queue_is_listed_as_far_as_it_is_valid_with_words() -> None:
    add(CPU, "one")
    queue_file().write_text(queue_file().read_text().replace('"entries": [', '"entries": [7,'))
    assert ([run.run for run in entries().runs], entries().damaged != "") == (["one"], True)
