"""Locks: one worker per run."""

from __future__ import annotations

import fcntl
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from threading import Timer

import pytest

from rnnlm_tui.errors import RunStateError, StorageError
from rnnlm_tui.system.locks import LockInfo, LockState, RunLock, boot_id, read_lock

HOLDER = """
import sys
from pathlib import Path
from rnnlm_tui.system.locks import RunLock
lock = RunLock(Path(sys.argv[1]))
lock.acquire()
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "plain-otter"
    folder.mkdir()
    return folder / "worker.lock"


def test_a_new_lock_is_free_and_reading_it_creates_nothing(path: Path) -> None:
    assert read_lock(path) == LockState(held=False)
    assert not path.exists()


def test_a_held_lock_names_its_holder(path: Path) -> None:
    info = LockInfo(pid=42, started=1_760_000_000.0, boot_id="boot", host="box")
    with RunLock(path) as lock:
        lock.release()
        lock.acquire(info)
        assert replace(read_lock(path), touched=None) == LockState(
            True, 42, 1_760_000_000.0, "boot", "box"
        )
    assert replace(read_lock(path), touched=None) == LockState(
        False, 42, 1_760_000_000.0, "boot", "box"
    )


def test_a_second_worker_is_refused_with_the_pid_and_start_of_the_first(path: Path) -> None:
    with (
        RunLock(path),
        pytest.raises(
            RunStateError,
            match=r"plain-otter is running as pid \d+ since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d",
        ),
    ):
        RunLock(path).acquire(patience=0)


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
        assert (state.held, state.pid, state.boot_id) == (True, holder.pid, boot_id())
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


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"pid": "x"}', b"\xff"])
def test_a_damaged_lock_file_still_shows_whether_it_is_held(path: Path, text: bytes) -> None:
    with RunLock(path):
        path.write_bytes(text)
        assert replace(read_lock(path), touched=None) == LockState(held=True)
        with pytest.raises(RunStateError, match="plain-otter is running"):
            RunLock(path).acquire(patience=0)


def test_a_shorter_text_replaces_a_longer_one_completely(path: Path) -> None:
    for host in ("a-host-with-a-long-name", "b"):
        lock = RunLock(path)
        lock.acquire(LockInfo(1, 2.0, "boot", host))
        lock.release()
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
