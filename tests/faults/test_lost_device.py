"""A GPU that fails while a run trains: the run ends with the reason, and resumes elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from rnnlm_tui.client.gpus import device_choice
from rnnlm_tui.client.monitor import summarize
from rnnlm_tui.client.start import PendingResume
from rnnlm_tui.errors import DeviceError, LostDeviceError, RunStateError
from rnnlm_tui.store.checkpoints import list_checkpoints
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.runs import create_run
from rnnlm_tui.system.locks import RunLock
from tests.faults.workers import Workers, warm_starts
from tests.integration.runs import tiny_config, wait_until_ended

pytestmark = pytest.mark.fault("the card fails while a run trains (Xid, ECC, launch failure)")

CHANGES = {"training.max_steps": 30, "checkpoint.every": 10, "evaluation.every": 15}


def weights(run: RunDirectory) -> dict[str, torch.Tensor]:
    return load_file(list_checkpoints(run)[-1].path / "model.safetensors")


@pytest.mark.parametrize(
    ("crash", "saved"),
    [
        ("step.update:lost:5", 0),
        ("step.update:lost:25", 20),
        ("evaluation.inside:lost:2", 20),
        ("sample.inside:lost:2", 20),
    ],
)
def test_a_lost_gpu_ends_the_run_with_the_saved_step_and_the_next_command(
    workers: Workers, text: Path, crash: str, saved: int
) -> None:
    run = create_run(tiny_config(text, CHANGES), "shaken")
    assert workers.work(run, crash) == LostDeviceError.exit_code
    summary = summarize(run)
    assert (summary.status, summary.checkpoints.last or 0) == ("failed", saved)
    words = f"step {saved} is saved" if saved else "no checkpoint was saved yet"
    assert summary.message == f"cpu, 1 thread failed: unspecified launch failure; {words}"
    assert "`rnnlm-tui resume shaken` continues once the GPU works again" in (summary.hint or "")
    assert "`rnnlm-tui resume shaken --device cpu`" in (summary.hint or "")
    assert "Traceback" in run.log_path.read_text()
    with RunReader(run) as reader:
        notes = [event.text for event in reader.events() if event.kind == "note"]
    assert not [words for words in notes if words.startswith("no ")]
    assert device_choice(run, always=True).problem == summary.message


def test_a_run_resumes_on_another_device_and_ends_as_if_nothing_had_happened(
    workers: Workers, text: Path
) -> None:
    undisturbed = create_run(tiny_config(text, CHANGES), "calm")
    assert workers.work(undisturbed) == 0
    run = create_run(tiny_config(text, {**CHANGES, "training.device": "auto"}), "shaken")
    created = run.created()
    assert workers.work(run, "step.update:lost:25") == LostDeviceError.exit_code
    with pytest.raises(DeviceError, match='no device "cuda:9"'):
        PendingResume.of(run).start("cuda:9")
    with RunLock(run.lock_path), pytest.raises(RunStateError, match="its device can't change"):
        PendingResume.of(run).start("cpu")
    assert run.read_config().training.device == "auto"
    with warm_starts(workers):
        PendingResume.of(run).start("cpu")
        summary = wait_until_ended(run)
    assert (summary.status, summary.step) == ("finished", 30)
    assert run.read_config().training.device == "cpu"
    assert device_choice(run, always=True).problem == ""
    assert run.created() == created
    ours, theirs = weights(run), weights(undisturbed)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
