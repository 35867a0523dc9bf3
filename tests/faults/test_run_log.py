"""A run's log and its index: kills, damage, disks that fail or are slow, copies, another host."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rnnlm_tui.cli.main import run as command
from rnnlm_tui.client.control import resume, send
from rnnlm_tui.client.monitor import RunMonitor, summarize
from rnnlm_tui.errors import RunStateError, StorageError
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.runs import create_run, rename_run
from rnnlm_tui.system.locks import host_name, read_lock
from tests.benchmarks.random_kills import committed_steps
from tests.faults.crash_points import LOG_POINTS
from tests.faults.small_disk import unavailable
from tests.faults.undisturbed import Bench, bench_in, ending_of
from tests.faults.workers import Workers
from tests.integration.runs import ENDLESS, end, tiny_config, wait_for_step

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def bench(workers: Workers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench_in(tmp_path_factory.mktemp("logs"), workers) as bench:
        yield bench


@pytest.fixture(scope="module")
def original(bench: Bench) -> RunDirectory:
    """A run of two attempts, the second one killed after step 9 was saved."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RNNLM_TUI_HOME", str(bench.home))
        run = create_run(bench.config, "original")
        assert bench.workers.work(run, "files.before:kill:3") == -signal.SIGKILL
        assert bench.workers.work(run, "files.before:kill:2") == -signal.SIGKILL
    assert sorted(path.name for path in run.logs_path.iterdir()) == ["000001.jsonl", "000002.jsonl"]
    return run


@pytest.fixture
def run(
    bench: Bench, original: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> RunDirectory:
    """A copy of it, in a home with the same corpus."""
    monkeypatch.setenv("RNNLM_TUI_HOME", str(tmp_path / "home"))
    run = RunDirectory(tmp_path / "home" / "runs" / "plain-otter")
    shutil.copytree(bench.home / "corpora", tmp_path / "home" / "corpora")
    shutil.copytree(original.path, run.path, ignore=shutil.ignore_patterns("*.sock"))
    return run


Figures = tuple[dict[str, object], str]


def figures(name: str, capsys: pytest.CaptureFixture[str]) -> Figures:
    """What the verbs say of a run."""
    told = []
    for verb in (["show", name, "--json"], ["metrics", name, "--csv"]):
        assert command(verb) == 0
        told.append(capsys.readouterr().out)
    return json.loads(told[0]), told[1]


# a log that is being written


@pytest.mark.fault("the worker is killed, even while it writes a checkpoint beside training")
@pytest.mark.parametrize(
    "crash",
    ["begin.inside:kill:1", *(f"{point}:kill:{time}" for point in LOG_POINTS for time in (2, 3))],
)
def test_a_worker_killed_in_any_phase_of_an_append_loses_no_row_and_resumes_bit_equal(
    bench: Bench, crash: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RNNLM_TUI_HOME", str(bench.home))
    run = create_run(bench.config, crash.replace(":", "-"))
    assert bench.workers.work(run, crash) == -signal.SIGKILL
    committed = committed_steps(run)
    with RunReader(run) as reader:
        assert [(row.attempt, row.step) for row in reader.steps()] == committed
    assert summarize(run).status in ("draft", "crashed")
    assert bench.workers.work(run) == 0
    assert ending_of(run) == bench.undisturbed
    assert committed_steps(run)[: len(committed)] == committed


@pytest.mark.fault("the disk is full, fails or becomes read-only")
@pytest.mark.parametrize(
    "fault",
    [
        "append.before:ENOSPC:1",
        "append.inside:ENOSPC:2",
        "append.inside:EIO:3",
        "append.before:ESTALE:2",
        "sync.before:ENOSPC:2",
        "sync.before:ESTALE:3",
        "sync.before:slow",
    ],
)
def test_a_disk_that_is_full_fails_or_is_slow_for_a_moment_changes_no_row(
    bench: Bench, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RNNLM_TUI_HOME", str(bench.home))
    run = create_run(bench.config, fault.replace(":", "-"))
    assert bench.workers.work(run, fault) == 0
    assert ending_of(run) == bench.undisturbed
    assert committed_steps(run) == [(1, step) for step in range(1, 13)], "each row once"
    with RunReader(run) as reader:
        kinds = [event.kind for event in reader.events()]
        assert reader.damaged_lines == 0
    assert kinds.count("degraded") == kinds.count("recovered") == (not fault.endswith("slow"))


# a log that somebody else has changed


def flip_a_byte(run: RunDirectory) -> None:
    path = run.logs_path / "000001.jsonl"
    content = path.read_bytes()
    place = content.index(b'{"kind":"step","step":2,') + 30
    path.write_bytes(content[:place] + b"\xff" + content[place + 1 :])


DAMAGES: dict[str, tuple[Callable[[RunDirectory], object], int]] = {
    "a flipped byte": (flip_a_byte, 1),
    "128 MB without a line break": (
        lambda run: os.truncate(run.logs_path / "000002.jsonl", 2**27),
        1,
    ),
    "no log of an attempt": (lambda run: (run.logs_path / "000001.jsonl").unlink(), 0),
    "no logs at all": (lambda run: shutil.rmtree(run.logs_path), 0),
}
"""What happens to the logs, and the damaged lines that `verify` then counts."""


@pytest.mark.fault("a run's log is damaged")
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_run_with_a_damaged_log_is_listed_and_shown_and_resumes_bit_equal(
    bench: Bench, run: RunDirectory, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    happens, lines = DAMAGES[damage]
    with RunReader(run) as reader:
        whole = list(reader.steps())
    happens(run)
    with RunReader(run) as reader:
        assert set(reader.steps()) <= set(whole), "nothing is invented"
    assert command(["verify", run.name]) == (StorageError.exit_code if lines else 0)
    assert f"log: {f'{lines} line that' if lines else 'ok'}" in capsys.readouterr().out
    for verb in (["runs"], ["show", run.name], ["metrics", run.name]):
        assert command(verb) == 0
        assert run.name in capsys.readouterr().out or verb[0] == "metrics"
    assert bench.workers.work(run) == 0, run.log_path.read_text()
    ending = ending_of(run)
    assert (ending.weights, ending.state) == (bench.undisturbed.weights, bench.undisturbed.state)
    assert ending.rows[-3:] == bench.undisturbed.rows[-3:]


# the index


PLACES = {
    "a full disk": 'mount -t tmpfs -o size=64k none "$1" && (cat /dev/zero > "$1/other" || true)',
    "a read-only disk": 'mount -t tmpfs -o ro none "$1"',
    "an older index on a read-only disk": (
        'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1"'
    ),
}


@pytest.mark.fault(
    "the index of a log is damaged, deleted, held by another process, or can't be written"
)
@pytest.mark.parametrize("place", PLACES)
def test_figures_are_the_same_with_an_index_that_can_not_be_written(
    run: RunDirectory, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if why := unavailable():
        pytest.skip(f"no mount of its own for this test: {why}")
    expected = figures(run.name, capsys)
    cache = Path(os.environ["XDG_CACHE_HOME"])
    shutil.rmtree(cache)
    newest = run.logs_path / "000002.jsonl"
    content = newest.read_bytes()
    newest.write_bytes(content[: len(content) // 2])
    summarize(run)
    newest.write_bytes(content)
    verbs = '"$0" -m rnnlm_tui show $2 --json && "$0" -m rnnlm_tui metrics $2 --csv'
    script = f"{PLACES[place]}; {verbs}"
    told = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, sys.executable, str(cache), run.name],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert told.returncode == 0, told.stderr
    shown, end = json.JSONDecoder().raw_decode(told.stdout)
    assert (shown, told.stdout[end:].lstrip()) == expected


# a run that is copied, moved or renamed


def copied(run: RunDirectory) -> RunDirectory:
    subprocess.run(["cp", "-r", run.path, run.path.with_name("copy")], check=True)
    return RunDirectory(run.path.with_name("copy"))


def moved_to_another_home(run: RunDirectory) -> RunDirectory:
    home = run.path.parents[1]
    home.rename(home.with_name("other"))
    os.environ["RNNLM_TUI_HOME"] = str(home.with_name("other"))
    return RunDirectory(home.with_name("other") / "runs" / run.name)


@pytest.mark.fault("a run is copied, moved or renamed while no worker holds it")
@pytest.mark.parametrize(
    "travel",
    [copied, moved_to_another_home, lambda run: rename_run(run, "renamed")],
    ids=["cp -r", "another home", "rename"],
)
def test_a_run_that_is_copied_moved_or_renamed_has_the_same_figures_and_resumes_bit_equal(
    bench: Bench,
    run: RunDirectory,
    travel: Callable[[RunDirectory], RunDirectory],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RNNLM_TUI_HOME", os.environ["RNNLM_TUI_HOME"])  # put back at the end
    before = figures(run.name, capsys)[1]
    new = travel(run)
    assert figures(new.name, capsys)[1] == before
    assert bench.workers.work(new) == 0, new.log_path.read_text()
    assert ending_of(new) == bench.undisturbed
    if run.path.exists() and run != new:
        assert figures(run.name, capsys)[1] == before, "the other one is as it was"


# network filesystems


class OtherHost(socket.socket):
    """A socket of another host, where nobody listens at a worker's path."""

    def connect(self, address: object) -> None:
        raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))


@pytest.mark.fault("a run's folder is on a network filesystem, and its worker on another host")
@pytest.mark.parametrize("locks", ["locks are seen", "locks aren't seen"])
def test_a_run_on_another_host_is_listed_and_charted_live_and_takes_commands_only_there(
    workers: Workers,
    text: Path,
    locks: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = create_run(
        tiny_config(
            text, {"training.max_steps": ENDLESS, "checkpoint.every": 20, "evaluation.every": 0}
        ),
        "far",
    )
    workers.start(run)
    wait_for_step(run, 5)
    there = host_name()
    with monkeypatch.context() as here:
        here.setattr(socket, "gethostname", lambda: "box-b")
        here.setattr(socket, "socket", OtherHost)
        if locks == "locks aren't seen":
            here.setattr("fcntl.flock", lambda *_: None)
        seen = wait_for_step(run, 10)
        summary = summarize(run)
        assert (summary.status, summary.host, summary.step >= seen) == ("running", there, True)
        monitor = RunMonitor(run)
        series = monitor.snapshot().series
        monitor.close()
        assert list(series.step[:10]) == [float(step) for step in range(1, 11)]
        assert command(["runs"]) == 0
        assert "running" in capsys.readouterr().out
        for verb in ("pause", "stop", "checkpoint"):
            assert command([verb, "far"]) == RunStateError.exit_code
            assert f"far was started on {there}: only there" in capsys.readouterr().err
        with pytest.raises(RunStateError, match="already running"):
            resume(run)
    assert send(run, "stop").ok
    assert not read_lock(run.lock_path).held
    end(run)
