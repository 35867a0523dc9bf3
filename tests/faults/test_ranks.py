"""Processes that train one run together: when one of them is killed, stopped, fails or differs."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import torch
from torch import distributed

from rnnlm_tui.client.control import WORKER_SETTINGS
from rnnlm_tui.client.monitor import summarize
from rnnlm_tui.errors import ConfigError, DeviceError, InputError, WorkerError
from rnnlm_tui.schema.cells import CellType
from rnnlm_tui.schema.config import DataMode, RunConfig
from rnnlm_tui.schema.summary import RunSummary
from rnnlm_tui.store.checkpoints import list_checkpoints
from rnnlm_tui.store.manifest import verify_checkpoint
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.runs import create_run
from rnnlm_tui.system.processes import child_environment, python_command
from rnnlm_tui.worker.ranks import Place, connected
from tests.benchmarks.exact_resume import exact_config, weights_hash
from tests.benchmarks.random_kills import losses
from tests.faults.test_out_of_memory import MIB, allow
from tests.faults.workers import Workers, launch_variables
from tests.integration.runs import (
    ENDLESS,
    PATIENCE_SECONDS,
    kill,
    tiny_config,
    wait_for,
    wait_for_step,
    write_text,
)

STEPS = 40
EXCHANGE = "another rank ended or didn't answer"


FAILS = pytest.mark.fault("one of several processes that train a run is killed, stopped or fails")
DIFFERS = pytest.mark.fault("processes that a launcher started don't fit together")


@FAILS
@pytest.mark.parametrize(
    ("cell", "mode", "how", "codes", "words"),
    [
        ("lstm", "stream", "kill", [WorkerError.exit_code, -signal.SIGKILL], EXCHANGE),
        ("elman", "sentences", "raise", [1, 1], "RuntimeError: broken at step.update"),
    ],
)
def test_a_run_of_two_processes_resumes_bit_identical_after_either_ended(
    workers: Workers,
    text: Path,
    cell: CellType,
    mode: DataMode,
    how: str,
    codes: list[int],
    words: str,
) -> None:
    config = exact_config(text, cell, mode, STEPS, **{"checkpoint.every": 10})
    straight, run = create_run(config, "straight"), create_run(config, "killed")
    assert workers.work_together(straight, "", "") == [0, 0]
    assert workers.work_together(run, "", f"step.update:{how}:14") == codes
    assert words in str(summarize(run).message)
    assert list_checkpoints(run)[-1].step == 10
    ended = workers.work_together(run, "rename.after:kill:1", "")
    assert ended == [-signal.SIGKILL, WorkerError.exit_code]
    assert verify_checkpoint(list_checkpoints(run)[-1].path).step == 20
    assert workers.work_together(run, "", "") == [0, 0]
    assert weights_hash(run, STEPS) == weights_hash(straight, STEPS)
    assert losses(run) == losses(straight)


@dataclass(frozen=True)
class Pair:
    """A run that two processes train: rank 0 has started the other one."""

    workers: Workers
    run: RunDirectory
    pid: int
    other: psutil.Process

    def ends(self) -> RunSummary:
        """Wait for the run to fail; nothing may be left of it but its checkpoints."""
        assert self.workers.exit_code(self.pid, PATIENCE_SECONDS) == WorkerError.exit_code
        assert not psutil.pid_exists(self.other.pid)
        summary = summarize(self.run)
        assert summary.status == "failed"
        assert f"`rnnlm-tui resume {self.run.name}` continues" in str(summary.hint)
        assert [verify_checkpoint(one.path) for one in list_checkpoints(self.run)]
        return summary


@pytest.fixture
def pair(workers: Workers, text: Path) -> Pair:
    """After their first checkpoint."""
    changes = {
        "distributed.processes": 2,
        "distributed.timeout": 5,
        "training.max_steps": ENDLESS,
        "evaluation.every": 0,
    }
    run = create_run(tiny_config(text, changes))
    pid = workers.start(run)
    wait_for_step(run, 41)  # the checkpoint of step 20 is complete when the next one begins
    (other,) = psutil.Process(pid).children()
    return Pair(workers, run, pid, other)


@FAILS
def test_a_killed_process_fails_the_run_with_its_rank_and_signal(pair: Pair) -> None:
    pair.other.kill()
    message = pair.ends().message
    assert message == f"rank 1 of 2 (pid {pair.other.pid}) was ended by SIGKILL"


@FAILS
def test_training_waits_for_a_stopped_process_up_to_the_timeout(pair: Pair) -> None:
    pair.other.suspend()
    wait_for(lambda: stands_still(pair.run), "training to wait")
    pair.other.resume()
    wait_for_step(pair.run, int(summarize(pair.run).step or 0) + 20)
    pair.other.suspend()
    assert f"{EXCHANGE} within 5 s" in str(pair.ends().message)


def stands_still(run: RunDirectory) -> bool:
    """Whether no step is added for a moment."""
    with RunReader(run) as reader:
        before = reader.recent_steps(1)
    time.sleep(1.0)
    with RunReader(run) as reader:
        return reader.recent_steps(1) == before


@FAILS
def test_the_other_process_ends_when_rank_0_is_killed(pair: Pair) -> None:
    kill(pair.run)
    psutil.wait_procs([pair.other], timeout=PATIENCE_SECONDS)
    assert not pair.other.is_running() or pair.other.status() == psutil.STATUS_ZOMBIE
    assert summarize(pair.run).status == "crashed"


@FAILS
def test_a_process_without_memory_fails_the_run_with_its_own_error(
    workers: Workers, text: Path
) -> None:
    changes = {"training.batch_size": 1_000, "training.bptt": 64, "model.hidden_size": 128}
    run = create_run(tiny_config(text, changes | {"model.embedding_dim": 128}))
    first, other = workers.start_ranks([run, run])
    allow(other, 192 * MIB)
    assert workers.exit_code(other, PATIENCE_SECONDS) == DeviceError.exit_code
    assert workers.exit_code(first, PATIENCE_SECONDS) == DeviceError.exit_code
    summary = summarize(run)
    assert re.match(r"rank 1 of 2 on \S+: out of memory in a step of 500 x ", str(summary.message))
    assert "try training.batch_size = 500; `rnnlm-tui resume " in str(summary.hint)


@FAILS
def test_a_process_without_the_text_fails_the_run_with_its_own_error(
    workers: Workers, text: Path, tmp_path: Path
) -> None:
    run = create_run(tiny_config(text))
    copy = copy_with_text(run, text, tmp_path / "nowhere.txt")
    first, other = workers.start_ranks([run, copy])
    for pid in (first, other):
        assert workers.exit_code(pid, PATIENCE_SECONDS) == InputError.exit_code
    assert re.match(r"rank 1 of 2 on \S+: .*nowhere\.txt", str(summarize(run).message))


def copy_with_text(run: RunDirectory, text: Path, other: Path) -> RunDirectory:
    """A copy of the run, as on a machine that shares no files with it, for another text."""
    copy = RunDirectory(Path(shutil.copytree(run.path, other.parent / "copy")))
    frozen = run.config_path.read_text(encoding="utf-8")
    copy.config_path.write_text(frozen.replace(str(text), str(other)), encoding="utf-8")
    return copy


@DIFFERS
def test_another_config_text_or_version_is_refused_before_the_first_step_with_all_differences(
    workers: Workers, text: Path, tmp_path: Path
) -> None:
    run = create_run(tiny_config(text))
    copy = copy_with_text(run, text, write_text(tmp_path / "other.txt", sentences=900))
    newer = tmp_path / "packages" / "numpy-99.0.dist-info"
    newer.mkdir(parents=True)
    (newer / "METADATA").write_text("Name: numpy\nVersion: 99.0\n", encoding="utf-8")
    first, second = launch_variables(2)
    pid = workers.start(run, environment=first)
    environment = child_environment(WORKER_SETTINGS) | second
    environment["PYTHONPATH"] = f"{newer.parent}{os.pathsep}{environment['PYTHONPATH']}"
    ended = subprocess.run(
        python_command("rnnlm_tui.worker.train", str(copy.path)),
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert workers.exit_code(pid, PATIENCE_SECONDS) == InputError.exit_code
    assert ended.returncode == WorkerError.exit_code, ended.stderr
    summary = summarize(run)
    assert (summary.status, summary.step) == ("failed", 0)
    message = str(summary.message)
    for name in ("numpy is 99.0", "config is ", "corpus is "):
        assert re.search(rf"rank 1 on \S+: {name}", message), message


@DIFFERS
def test_a_launchers_wrong_variables_are_refused(workers: Workers, text: Path) -> None:
    run = create_run(tiny_config(text))
    first = launch_variables(2)[0]
    with socket.create_server(("127.0.0.1", int(first["MASTER_PORT"]))):
        assert workers.work(run, environment=first) == InputError.exit_code
    assert str(summarize(run).message).startswith(
        f"port {first['MASTER_PORT']} of 127.0.0.1 can't be used: "
    )
    for wrong in ({"WORLD_SIZE": "2"}, first | {"MASTER_PORT": "0"}):
        assert workers.work(run, environment=wrong) == InputError.exit_code
        message = "WORLD_SIZE is set, but not all of RANK, MASTER_ADDR and MASTER_PORT: "
        assert str(summarize(run).message).startswith(message)
    assert workers.work(run, environment=launch_variables(5)[0]) == ConfigError.exit_code
    assert "training.batch_size: is 4, but" in str(summarize(run).message)


@pytest.mark.skipif(distributed.is_nccl_available(), reason="this torch has NCCL")
def test_a_torch_without_nccl_is_refused_on_gpus() -> None:
    with pytest.raises(DeviceError, match="no NCCL") as refused:
        connected(Place(size=2), RunConfig(), distributed.HashStore(), torch.device("cuda"))
    assert "distributed.processes=1" in refused.value.hint
