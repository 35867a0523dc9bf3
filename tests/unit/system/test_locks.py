"""Locks: one worker per run."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Timer
from typing import Any

import pytest

from rnnlm_tui.errors import RunStateError, StorageError
from rnnlm_tui.system.locks import (
    MAX_REASON,
    REPLACED,
    STAGING_NAME,
    LockPage,
    LockState,
    RunLock,
    host_name,
    read_lock,
    staging,
    sweep_staging,
)

HOLDER = """
import sys
from pathlib import Path
from rnnlm_tui.system.locks import RunLock
lock = RunLock(Path(sys.argv[1]))
lock.acquire()
print("held", flush=True)
sys.stdin.read()
"""

IN_NO_YEAR = b'{"pid": 7, "started": 1e300, "host": "box"}'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "plain-otter"
    folder.mkdir()
    return folder / "worker.lock"


def test_a_new_lock_is_free_and_reading_it_creates_nothing(path: Path) -> None:
    assert read_lock(path) == LockState(held=False)
    assert not path.exists()


def test_a_held_lock_names_its_holder(path: Path) -> None:
    before = time.time()
    with RunLock(path):
        held = read_lock(path)
        assert (held.held, held.pid, held.host) == (True, os.getpid(), host_name())
        assert before <= (held.started or 0) <= time.time()
    assert read_lock(path)._replace(touched=None) == held._replace(held=False, touched=None)


def test_a_second_worker_is_refused_with_the_pid_and_start_of_the_first(path: Path) -> None:
    with (
        RunLock(path),
        pytest.raises(
            RunStateError,
            match=r"plain-otter is running as pid \d+ since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d",
        ),
    ):
        RunLock(path).acquire(patience=0)


@pytest.mark.fault("two workers on one run")
def test_killing_the_holder_in_another_process_frees_the_lock(
    path: Path,
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        state = read_lock(path)
        assert (state.held, state.pid) == (True, holder.pid)
        with pytest.raises(RunStateError, match=f"pid {holder.pid}"):
            RunLock(path).acquire(patience=0)
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert not read_lock(path).held
    with RunLock(path):
        assert read_lock(path).held


def test_readers_do_not_block_each_other_and_a_worker_waits_for_them(path: Path) -> None:
    RunLock(path).__enter__().release()
    with path.open("rb") as probe:
        fcntl.flock(probe, fcntl.LOCK_SH)
        assert not read_lock(path).held
        release = Timer(0.05, fcntl.flock, (probe, fcntl.LOCK_UN))
        release.start()
        with RunLock(path):
            release.join()
            assert read_lock(path).held


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[]", b'{"pid": "x"}', b"\xff", IN_NO_YEAR]
    + [
        IN_NO_YEAR.replace(b"1e300", b"7, " + page)
        for page in (
            b'"page": 7', b'"page": {"progress": []}', b'"page": {"progress": ["x", 1, 1e999]}',
            b'"page": {"requests": 7}',
        )
    ],
)  # fmt: skip
def test_a_damaged_lock_file_still_shows_whether_it_is_held(path: Path, text: bytes) -> None:
    with RunLock(path):
        path.write_bytes(text)
        assert read_lock(path)._replace(touched=None) == LockState(held=True)
        with pytest.raises(RunStateError, match="plain-otter is running"):
            RunLock(path).acquire(patience=0)


def test_a_held_lock_shows_what_its_holder_does_and_since_when(path: Path) -> None:
    page = LockPage("the disk is full", "evaluating", ("encoding", 5, 10), ({"id": "a"},))
    with RunLock(path) as lock:
        before = read_lock(path)
        assert before.page == LockPage()
        lock.show(page)
        assert read_lock(path).page == page
        os.utime(path, (1, 1))
        lock.show(page)
        beat = read_lock(path)
        assert before.touched is not None
        assert beat == before._replace(page=page, touched=beat.touched)
        assert (beat.touched or 0) >= before.touched, "the heartbeat of an unchanged page"
    assert read_lock(path).page == LockPage()
    lock.show(page)
    assert read_lock(path).page == LockPage(), "it is free"


@pytest.mark.parametrize("reason", ["x" * 10_000, "\0" * 10_000, "😀" * 10_000, "\ud800" * 10_000])
def test_a_page_keeps_its_length_and_leaves_out_what_does_not_fit(path: Path, reason: str) -> None:
    requests: tuple[dict[str, str | float], ...] = tuple({"id": str(at)} for at in range(900))
    with RunLock(path) as lock:
        size = path.stat().st_size
        lock.show(LockPage(reason, "evaluating", None, requests))
        page = read_lock(path).page
        assert path.stat().st_size == size
    assert page.degraded[0] in (reason[0], "?")
    assert len(page.degraded) == MAX_REASON
    assert page.activity == "evaluating"
    assert 0 < len(page.requests) < 900
    assert page.requests == requests[: len(page.requests)]


def test_a_shorter_text_replaces_a_longer_one_completely(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for host in ("a-host-with-a-long-name", "b"):
        monkeypatch.setattr("rnnlm_tui.system.locks.host_name", lambda host=host: host)
        with RunLock(path):
            pass
    assert path.read_bytes().count(b"\n") == 1
    assert read_lock(path).host == "b"


@pytest.mark.parametrize(
    "another", [False, True], ids=["renamed", "renamed, and another has its name"]
)
def test_waiting_for_the_lock_of_a_renamed_run_fails(path: Path, another: bool) -> None:
    lock = RunLock(path)
    lock.acquire()

    def rename() -> None:
        path.parent.rename(path.parent.with_name("brisk-heron"))
        if another:
            path.parent.mkdir()
            path.touch()
        lock.release()

    Timer(0.05, rename).start()
    with pytest.raises(StorageError, match="plain-otter was renamed or deleted just now"):
        RunLock(path).acquire()
    assert not read_lock(path.parent.with_name("brisk-heron") / path.name).held


def test_a_lock_in_a_missing_folder_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="can't lock"):
        RunLock(tmp_path / "none" / "worker.lock").acquire()


DIE_WHILE_STAGING = """
import os, signal, sys
from pathlib import Path
from rnnlm_tui.system.locks import REPLACED, staging
with staging(Path(sys.argv[1])) as folder:
    (folder / "half").mkdir()
    (folder / "half" / "file").write_text("made")
    (folder / REPLACED).mkdir()
    for name in sys.argv[2:]:
        (folder.parent / name).rename(folder / REPLACED / name)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def die_while_staging(place: Path, *replaced: str) -> None:
    """Let a process be killed that stages files in `place`, and has moved some away."""
    command = [sys.executable, "-c", DIE_WHILE_STAGING, str(place), *replaced]
    assert subprocess.run(command, check=False, timeout=60).returncode == -signal.SIGKILL


def names(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir())


def test_what_is_moved_out_of_a_staging_folder_stays_and_all_else_goes(tmp_path: Path) -> None:
    opened = names(Path("/proc/self/fd"))
    with staging(tmp_path) as folder:
        assert STAGING_NAME.fullmatch(folder.name)
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "whole").mkdir()
        (folder / "whole" / "file").write_text("kept")
        (folder / "half").write_text("gone")
        (folder / "whole").rename(tmp_path / "whole")
    assert names(tmp_path) == ["whole"]
    assert len(names(Path("/proc/self/fd"))) == len(opened)


def test_an_error_leaves_nothing_and_brings_back_what_was_replaced(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("older")

    def fail(folder: Path) -> None:
        (folder / REPLACED).mkdir()
        (tmp_path / "out").rename(folder / REPLACED / "out")
        raise RuntimeError

    with pytest.raises(RuntimeError), staging(tmp_path) as folder:
        fail(folder)
    assert (tmp_path / "out").read_text() == "older"
    assert names(tmp_path) == ["out"]


@pytest.mark.faults
def test_only_staging_folders_of_dead_processes_are_removed_however_old(tmp_path: Path) -> None:
    for name in ("back", "taken"):
        (tmp_path / name).write_text("older")
    die_while_staging(tmp_path, "back", "taken")
    (left,) = tmp_path.iterdir()
    (tmp_path / "taken").write_text("newer")
    (tmp_path / ".tmp-0123456789abcdef").mkdir()  # killed just before it was gone
    foreign = tmp_path / ".tmp-fedcba9876543210"
    foreign.mkdir()
    (foreign / "thesis.tex").touch()
    with staging(tmp_path) as alive:
        for path in (alive, *alive.iterdir()):
            os.utime(path, (1, 1))
        assert not left.exists()
        with staging(tmp_path) as other:
            assert names(tmp_path) == sorted(
                ["back", "taken", foreign.name, *(alive.name, other.name)]
            )
    assert names(tmp_path) == [foreign.name, "back", "taken"]
    assert [(tmp_path / name).read_text() for name in ("back", "taken")] == ["older", "newer"]


def test_a_sweep_between_a_staging_folder_and_its_lock_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, made = Path.mkdir, list[Path]()

    def swept(path: Path, *arguments: Any, **options: Any) -> None:
        make(path, *arguments, **options)
        made.append(path)
        if len(made) == 1:
            sweep_staging(tmp_path)

    monkeypatch.setattr(Path, "mkdir", swept)
    with staging(tmp_path) as folder:
        assert [path.exists() for path in made] == [False, True]
        assert folder == made[1]
