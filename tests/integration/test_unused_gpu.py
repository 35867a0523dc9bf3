"""A machine whose driver has a GPU that the installed torch can't use."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rnnlm_tui.schema.toml import toml_text
from rnnlm_tui.schema.validation import config_to_raw
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.runs import find_run
from tests.integration.runs import tiny_config, wait_until_ended

FAKES = Path(__file__).parents[1] / "fakes" / "gpu_machine"

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="torch can use a GPU here")


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    variables = {name: value for name, value in os.environ.items() if "CUDA" not in name}
    root = str(Path(__file__).parents[2])
    return subprocess.run(
        [sys.executable, "-m", "rnnlm_tui", *arguments],
        env={**variables, "PYTHONPATH": os.pathsep.join((str(FAKES), root))},
        capture_output=True,
        text=True,
        check=False,
    )


def test_cuda_is_refused_and_auto_trains_on_the_cpu_and_says_so_everywhere(
    tmp_path: Path, text: Path
) -> None:
    config = tiny_config(text, {"training.device": "auto", "training.max_steps": 20})
    (tmp_path / "config.toml").write_text(toml_text(config_to_raw(config)))
    given = ("--config", str(tmp_path / "config.toml"), "--name", "warned", "--detach")
    refused = command("train", *given, "--set", "training.device=cuda")
    assert refused.returncode == 2
    assert 'no device "cuda" on this machine: ' in refused.stderr
    assert "NVIDIA H100 PCIe" in refused.stderr
    started = command("train", *given)
    assert started.returncode == 0, started.stderr
    run = find_run("warned")
    assert wait_until_ended(run).status == "finished"
    with RunReader(run) as reader:
        notes = [event.text for event in reader.events() if event.kind == "note"]
        device = reader.facts().device
    warning = next(words for words in notes if words.startswith("trains on the CPU: torch "))
    assert "NVIDIA H100 PCIe (driver 550.54.15, CUDA 12.4)" in warning
    assert device.startswith("cpu")
    if torch.version.cuda is None:
        assert f"warning: {warning}" in started.stderr
        assert "--index-url" in warning
