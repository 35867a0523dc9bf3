"""Runs as jobs of a real Slurm: submitted, watched, steered, preempted, requeued, finished."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import cast

import pytest
from textual.message import Message

from rnnlm_tui.cli.main import run as command
from rnnlm_tui.client.listing import listed_runs, with_jobs
from rnnlm_tui.client.monitor import summarize
from rnnlm_tui.client.slurm import job_id
from rnnlm_tui.schema.summary import JobFigures, RunSummary
from rnnlm_tui.store.paths import RunDirectory, listed_run
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.runs import create_run
from rnnlm_tui.tui.poller import Polled, Watcher
from rnnlm_tui.tui.views.status import run_status
from tests.integration.runs import start, tiny_config, wait_for, wait_until_ended, write_text
from tests.integration.slurm import slurm, slurm_cluster

STEPS = 2_000
SETTINGS = {"training.max_steps": STEPS, "evaluation.every": 1_000, "checkpoint.every": 1_000}


@pytest.fixture(scope="module")
def daemons() -> Iterator[None]:
    """A Slurm of two nodes."""
    with slurm_cluster():
        yield


@pytest.fixture
def cluster(daemons: None) -> Iterator[None]:
    """The same, without the jobs of other tests."""
    yield
    slurm("scancel", "--me", "--quiet")
    wait_for(lambda: not slurm("squeue", "--noheader"), "the end of all jobs")


def submit(name: str, *options: str) -> RunDirectory:
    """Submit a tiny run; its folder."""
    assert command(["submit", "--name", name, "--cpus", "2", *options]) == 0
    return listed_run(name)


def tiny_options(folder: Path, **changes: object) -> list[str]:
    """The options for a run of `tiny_config`."""
    config = create_run(tiny_config(write_text(folder / "text.txt"), {**SETTINGS, **changes}))
    return ["--config", str(config.config_path)]


def occupied(*options: str) -> str:
    """Occupy all nodes; the job's number."""
    wanted = ("--partition=high", "--nodes=2", "--exclusive", "--output=/dev/null", *options)
    return slurm("sbatch", "--parsable", *wanted, "--wrap=sleep 600")


def seen(run: RunDirectory) -> RunSummary:
    """The run with what Slurm says of it."""
    return with_jobs([summarize(run)])[0]


def job_of(run: RunDirectory) -> JobFigures:
    """What Slurm says of the run."""
    job = seen(run).job
    assert job is not None
    return job


def on_login_node(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a verb as on another host, which has the same files."""
    login = ["unshare", "--uts", "sh", "-c", 'hostname login; exec "$@"', "sh"]
    verb = [sys.executable, "-m", "rnnlm_tui", *arguments]
    return subprocess.run([*login, *verb], capture_output=True, text=True, check=False)


def listed_in_app() -> str:
    """What the app's list says of the newest run, as soon as Slurm has answered."""
    listed = Queue[RunSummary]()

    def post(message: Message) -> None:
        assert isinstance(message, Polled)
        for summary in cast(tuple[RunSummary, ...], message.values.get("summaries", ())):
            if summary.job is not None:
                listed.put(summary)

    watcher = Watcher(post, fps=4)
    thread = Thread(target=watcher.loop)
    thread.start()
    summary = listed.get(timeout=60)
    watcher.close()
    thread.join()
    return run_status(summary).plain


def wait_for_attempt(run: RunDirectory, attempt: int) -> None:
    """Wait until this attempt has trained some steps."""

    def steps() -> bool:
        with RunReader(run) as reader:
            reader.refresh()
            state, begun = reader.last_state(), reader.attempts()
            rows = reader.recent_steps(1)
        if state is None or (state.attempt, state.kind) != (attempt, "running") or not rows:
            return False
        return rows[0].step >= begun[-1].start_step + 20

    wait_for(steps, f"steps of attempt {attempt}")


def weights(run: RunDirectory) -> bytes:
    """The weights at the end."""
    (last,) = run.checkpoints_path.glob(f"step-*{STEPS}")
    return (last / "model.safetensors").read_bytes()


def notes(run: RunDirectory) -> list[str]:
    """The notes of a run's log, newest first."""
    with RunReader(run) as reader:
        reader.refresh()
        return [row.text for row in reader.events(50) if row.kind == "note"]


@pytest.mark.fault("a Slurm job reaches its time limit, is preempted or cancelled")
def test_a_run_that_slurm_interrupts_twice_ends_with_the_weights_of_an_undisturbed_one(
    cluster: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options = tiny_options(tmp_path)
    blocker = occupied()
    run = submit("plain-otter", *options, "--partition", "low", "--time", "30")
    assert "#SBATCH --partition=low" in capfd.readouterr().err
    assert (seen(run).status, job_of(run).waits) == ("draft", True)
    assert command(["runs"]) == 0
    assert "draft, waits in Slurm" in capfd.readouterr().out
    assert command(["pause", run.name]) == 3
    assert "takes no commands: job" in capfd.readouterr().err
    for words in (["resume", "--detach"], ["rename", "other"], ["delete"]):
        assert command([words[0], run.name, *words[1:]]) == 3
        assert f"scancel {job_id(run)}" in capfd.readouterr().err
    assert listed_in_app().endswith(f"waits, job {job_id(run)}")
    follower = subprocess.Popen([sys.executable, "-m", "rnnlm_tui", "follow", run.name])
    slurm("scancel", blocker)

    wait_for_attempt(run, 1)
    shown = json.loads(on_login_node("show", run.name, "--json").stdout)
    assert (shown["status"], shown["job"]["state"]) == ("running", "RUNNING")
    for verb, status in (("pause", "paused"), ("resume", "running")):
        answer = on_login_node(verb, run.name, "--json", *["--detach"] * (verb == "resume"))
        assert answer.returncode == 0, answer.stderr
        assert summarize(run).status == status

    slurm("scancel", "--signal=USR1", job_id(run))  # as slurmctld does before the time limit
    wait_for_attempt(run, 2)
    assert notes(run)[0] == "stopped by SIGUSR1: the time limit of its Slurm job is near"
    preempting = occupied("--time=1")
    wait_for(lambda: job_of(run).waits, "the requeued job")
    slurm("scancel", preempting)
    wait_for(lambda: summarize(run).status == "finished", "the last attempt's end")

    assert (seen(run).attempt, seen(run).job, follower.wait(60)) == (3, None, 0)
    undisturbed = start(listed_run(run.name).read_config(), "calm-otter")
    wait_until_ended(undisturbed)
    assert weights(run) == weights(undisturbed)


@pytest.mark.fault("a Slurm job reaches its time limit, is preempted or cancelled")
def test_a_job_survives_its_node_and_once_cancelled_its_run_can_be_submitted_again(
    cluster: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = submit("mild-crane", *tiny_options(tmp_path, **{"training.max_steps": 1_000_000}))
    job = job_id(run)
    wait_for_attempt(run, 1)
    node = f"nodename={job_of(run).hosts}"
    slurm("scontrol", "update", node, "state=down", "reason=test")  # it returns by itself
    wait_for_attempt(run, 2)
    slurm("scancel", job)
    wait_for(lambda: seen(run).status == "stopped", "the stop")
    assert seen(run).checkpoints.last == seen(run).step
    wait_for(lambda: job_of(run).has_ended, "the job's end")
    assert command(["show", run.name]) == 0
    assert f"job {job} was cancelled" in capfd.readouterr().out
    late = on_login_node("pause", run.name)
    assert (late.returncode, "it is stopped" in late.stderr) == (3, True), late.stderr

    blocker = occupied()
    assert command(["submit", "--resume", run.name, "--cpus", "2"]) == 0
    assert job_id(run) != job
    assert command(["submit", "--resume", run.name]) == 3
    assert "waits in Slurm" in capfd.readouterr().err
    slurm("scancel", job_id(run), blocker)
    wait_for(lambda: job_of(run).has_ended, "the end of the waiting job")
    assert job_of(run).words == f"job {job_id(run)} was cancelled"


@pytest.mark.fault("Slurm refuses a job or a command, or isn't installed")
def test_a_job_that_slurm_refuses_leaves_no_run_and_quotes_slurm(
    cluster: None,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = str(write_text(tmp_path / "text.txt"))
    assert command(["submit", text, "--partition", "gpu"]) == 2
    assert "invalid partition specified: gpu" in (said := capfd.readouterr().err)
    assert "partitions: high, low" in said
    assert command(["submit", text, "--nodes", "9"]) == 2
    assert "node configuration is not available" in capfd.readouterr().err
    assert command(["submit", text, "--gpus", "99"]) == 2
    assert "99 x 1 shares need a row each" in capfd.readouterr().err
    with monkeypatch.context() as patch:
        patch.setenv("PATH", "")
        assert command(["submit", text]) == 2
    assert "sbatch not found: Slurm isn't installed on this machine" in capfd.readouterr().err
    assert not listed_runs().runs


@pytest.mark.fault("Slurm refuses a job or a command, or isn't installed")
def test_where_slurm_cant_steer_a_run_the_ssh_command_is_named(
    cluster: None, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = submit("wise-mole", *tiny_options(tmp_path, **{"training.max_steps": 1_000_000}))
    wait_for_attempt(run, 1)
    no_srun = tmp_path / "bin"
    no_srun.mkdir()
    for name in ("squeue", "sacct", "sh", "hostname", "unshare"):
        (no_srun / name).symlink_to(shutil.which(name) or "")
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(no_srun))
        refused = on_login_node("set", run.name, "training.patience=3")
    assert refused.returncode == 3
    ssh = f"ssh {socket.gethostname()} RNNLM_TUI_HOME={home} rnnlm-tui set wise-mole"
    assert f"{ssh} training.patience=3" in refused.stderr


@pytest.mark.fault("a Slurm job reaches its time limit, is preempted or cancelled")
def test_a_job_on_two_nodes_has_a_rank_on_each_and_is_requeued_before_its_time_limit(
    cluster: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    endless = tiny_options(tmp_path, **{"training.max_steps": 1_000_000})
    run = submit("swift-crane", *endless, "--nodes", "2", "--time", "30")
    assert "WORLD_SIZE=$SLURM_NTASKS" in capfd.readouterr().err
    wait_for(lambda: len(summarize(run).ranks) == 2, "the readings of both ranks")
    slurm("scancel", "--signal=USR1", job_id(run))
    wait_for_attempt(run, 2)
    assert job_id(run) in slurm("squeue", "--noheader", "--format=%i")
