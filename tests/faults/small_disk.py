"""Runs on a disk of 16 MB that fills and is freed again. `python -m tests.faults.small_disk FOLDER`
runs in its own mount namespace and checks what happens."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rnnlm_tui.client.control import resume, send
from rnnlm_tui.client.monitor import summarize
from rnnlm_tui.errors import RnnlmError, StorageError, WorkerError
from rnnlm_tui.schema.estimates import checkpoint_bytes
from rnnlm_tui.schema.protocol import Verb
from rnnlm_tui.schema.summary import RunSummary
from rnnlm_tui.store.checkpoints import list_checkpoints
from rnnlm_tui.store.manifest import verify_checkpoint
from rnnlm_tui.store.paths import RunDirectory, corpora_dir
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.system.disk import free_bytes
from rnnlm_tui.system.locks import read_lock
from tests.faults.workers import Workers, warm_starts
from tests.integration.runs import (
    ENDLESS,
    end,
    kill,
    start,
    tiny_config,
    wait_for,
    wait_for_step,
    wait_until_ended,
    write_text,
)

MEGABYTES = 16
STEPS_WHILE_FULL = 300
READING_VERBS: tuple[tuple[str, ...], ...] = (
    ("show", "plain-otter"),
    ("runs",),
    ("metrics", "plain-otter", "--evaluations"),
    ("compare", "plain-otter"),
    ("config", "show", "plain-otter"),
    ("verify", "plain-otter"),
    ("sample", "plain-otter", "The cat", "--max-new-tokens", "5"),
)
"""Verbs that need no disk space."""


def unavailable() -> str:
    """Why a test can't mount a disk here; empty if it can."""
    try:
        tried = subprocess.run(
            ["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    except OSError as error:
        return f"unshare: {error.strerror}"
    return tried.stderr.strip() if tried.returncode else ""


def play(folder: Path) -> None:
    """Play the stories in a namespace in which `folder` has a disk of 16 MB."""
    script = (
        f'mount -t tmpfs -o size={MEGABYTES}m none "$1/disk" && exec "$2" -m'
        ' tests.faults.small_disk "$1"'
    )
    (folder / "disk").mkdir()
    told = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, "sh", str(folder), sys.executable],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={
            **os.environ,
            "RNNLM_TUI_HOME": str(folder / "disk" / "home"),
            "XDG_CACHE_HOME": str(folder / "disk" / "cache"),
        },
    )
    assert told.returncode == 0, told.stdout + told.stderr


def fill(path: Path, *, leave: int = 0) -> None:
    """Fill the disk, then free `leave` bytes."""
    with path.open("ab") as file:
        for size in (2**20, 4096, 1):
            try:
                while True:
                    os.write(file.fileno(), b"x" * size)
            except OSError:
                continue
    if leave:
        os.truncate(path, path.stat().st_size - leave)


def events(run: RunDirectory) -> list[tuple[str, str]]:
    with RunReader(run) as reader:
        return [(event.kind, event.text) for event in reversed(reader.events())]


def stored_steps(run: RunDirectory) -> list[int]:
    with RunReader(run) as reader:
        return [row.step for row in reader.steps()]


def step_now(run: RunDirectory) -> int:
    """The worker's answer, whether or not it is stored."""
    return send(run, "status").step


def answer(run: RunDirectory, verb: Verb) -> str:
    """The error message; empty on success."""
    try:
        send(run, verb)
    except RnnlmError as error:
        return str(error)
    return ""


def become(run: RunDirectory, status: str) -> RunSummary:
    def look() -> RunSummary | None:
        summary = summarize(run)
        return summary if summary.status == status else None

    return wait_for(look, status)


def done(*arguments: str, code: int = 0) -> str:
    """What a command printed, which ended with this code."""
    ran = subprocess.run(
        [sys.executable, "-m", "rnnlm_tui", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == code, (arguments, ran.stdout, ran.stderr)
    return ran.stdout + ran.stderr


@contextmanager
def cleaned_up(run: RunDirectory, other: Path) -> Iterator[None]:
    """At the end, stop the run and free the disk; on an error, print the worker's log."""
    try:
        yield
    except (RnnlmError, AssertionError, OSError):
        print(run.log_path.read_text(), file=sys.stderr)  # noqa: T201 - a script
        raise
    finally:
        other.unlink(missing_ok=True)
        end(run)


def ended(folder: Path) -> None:
    """Leave less space than two checkpoints, let the run end, fill the disk to the last byte, and
    read the run with every verb that reads."""
    other = folder / "disk" / "other"
    settings = {
        "model.hidden_size": 288,
        "model.embedding_dim": 288,
        "training.max_steps": 100,
        "training.batch_size": 1,
        "checkpoint.every": 0,
        "evaluation.every": 0,
    }
    run = start(tiny_config(write_text(folder / "text.txt"), settings), "plain-otter")
    with cleaned_up(run, other):
        wait_for_step(run, 1)
        send(run, "pause")
        size = checkpoint_bytes(run.read_config(), 64)
        other.write_bytes(b"x" * (free_bytes(run.path) - size - size * 9 // 10))
        assert free_bytes(run.path) < 2 * size
        send(run, "resume")
        wait_for(lambda: not read_lock(run.lock_path).held, "the worker's end")
        fill(other)
        assert free_bytes(run.path) == 0
        read = {verb: done(*verb) for verb in READING_VERBS}
        assert "finished" in read[READING_VERBS[0]]
        assert "finished" in read[READING_VERBS[1]]
        summary = summarize(run)
        assert (summary.status, summary.step, summary.checkpoints.last) == ("finished", 100, 100)
        assert whole_checkpoints(run) == [100]
    run = start(
        tiny_config(folder / "text.txt", {"training.max_steps": ENDLESS, "evaluation.every": 0}),
        "killed-otter",
    )
    with cleaned_up(run, other):
        wait_for_step(run, 50)
        kill(run)
        fill(other)
        assert "crashed" in done("show", "killed-otter")


def whole_checkpoints(run: RunDirectory) -> list[int]:
    return [verify_checkpoint(entry.path).step for entry in list_checkpoints(run)]


def every_step_once(run: RunDirectory) -> int:
    """The last stored step, if each before it is stored once."""
    steps = stored_steps(run)
    assert steps == list(range(1, len(steps) + 1))
    return len(steps)


def filled(folder: Path) -> None:
    """Train, fill the disk, check, free it, and check again."""
    other = folder / "disk" / "other"
    text = write_text(folder / "text.txt")
    endless = {"training.max_steps": ENDLESS, "checkpoint.every": 200, "evaluation.every": 0}
    run = start(tiny_config(text, endless), "plain-otter")
    with cleaned_up(run, other):
        wait_for(lambda: list_checkpoints(run) or None, "a checkpoint")
        fill(other)
        told = become(run, "degraded")
        assert "can't write log/000001.jsonl: No space left on device" in str(told.message)
        assert "free some space on this disk" in str(told.message)
        checkpoints = [entry.step for entry in list_checkpoints(run)]
        stored, begun = stored_steps(run)[-1], step_now(run)
        assert send(run, "pause").ok
        assert summarize(run).status in ("paused", "degraded")
        assert send(run, "resume").ok
        wait_for(lambda: step_now(run) >= begun + STEPS_WHILE_FULL or None, "steps on a full disk")
        assert stored_steps(run)[-1] == stored
        refused = answer(run, "checkpoint")
        assert "a checkpoint needs" in refused
        assert "free some space on this disk" in refused
        refused = answer(run, "stop")
        assert "stop failed: the run is still training: a checkpoint needs" in refused
        assert "`kill -9 " in refused
        assert told.pid is not None
        os.kill(told.pid, signal.SIGTERM)
        signalled = step_now(run)
        wait_for(
            lambda: step_now(run) >= signalled + STEPS_WHILE_FULL or None,
            "steps after a signal that was refused",
        )
        assert whole_checkpoints(run) == checkpoints
        partial = [path.name for path in run.checkpoints_path.iterdir()]
        assert all(name.startswith("step-") for name in partial), partial
        at_last = step_now(run)
        other.unlink()
        become(run, "running")
        wait_for_step(run, at_last + 100)
        assert send(run, "stop").ok
        last = every_step_once(run)
        found = [(kind, text) for kind, text in events(run) if kind in ("degraded", "recovered")]
        assert [kind for kind, _ in found] == ["degraded"] * 2 + ["recovered"] * 2, found
        assert ("recovered", "a checkpoint could be written again") in found
        fill(other, leave=500_000)
        refused = done("train", "--preset", "demo", "--detach", code=StorageError.exit_code)
        for said in (refused, done("resume", run.name, code=WorkerError.exit_code)):
            assert "MB free on the disk of" in said
            assert "kB are" in said
            assert "free some space on this disk" in said
            assert "Traceback" not in said
        other.unlink()
        resume(run)
        assert wait_for_step(run, last + 50) > last
        fill(other)
        pid = become(run, "degraded").pid
        assert pid is not None
        stored = stored_steps(run)[-1]
        for _ in range(2):
            os.kill(pid, signal.SIGTERM)
            time.sleep(0.5)  # two signals at once are one
        wait_for(lambda: not read_lock(run.lock_path).held, "the end after a second signal")
        assert every_step_once(run) >= stored
        assert summarize(run).status == "crashed"
        other.unlink()
        large = folder / "large.txt"
        large.write_text(text.read_text() * 600)
        config = tiny_config(large, {"tokenizer.kind": "byte", "tokenizer.vocab_size": 300})
        failed = wait_until_ended(start(config, "large-otter"))
        assert failed.status == "failed"
        assert "can't build the corpus in" in str(failed.message)
        assert "No space left on device" in str(failed.message)
        assert len(list(corpora_dir().iterdir())) == 1, "nothing incomplete is left"


if __name__ == "__main__":
    disk = Path(sys.argv[1])
    with Workers() as workers, warm_starts(workers):
        ended(disk)
        shutil.rmtree(disk / "disk" / "home")
        filled(disk)
