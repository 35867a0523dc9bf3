"""How much each tensor changed between two checkpoints."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from rnnlm_tui.client.checkpoint_detail import CheckpointDetail
from rnnlm_tui.engine.checkpoint import WEIGHTS_NAME
from rnnlm_tui.engine.weight_change import changed_tensors
from rnnlm_tui.errors import CheckpointError, RunStateError
from rnnlm_tui.schema.sampling import TensorChange
from rnnlm_tui.tui.widgets.checkpoints import detail_lines, layer_changes


def saved(folder: Path, **tensors: torch.Tensor) -> Path:
    folder.mkdir(exist_ok=True)
    save_file(
        {name.replace("__", "."): value for name, value in tensors.items()}, folder / WEIGHTS_NAME
    )
    return folder


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    after = saved(
        tmp_path / "after",
        embedding__weight=torch.tensor([[3.0, 0.0], [0.0, 4.0]]),
        layers__0__bias=torch.full((4,), 2.0, dtype=torch.bfloat16),
        output__bias=torch.zeros(3),
    )
    before = saved(
        tmp_path / "before",
        embedding__weight=torch.tensor([[0.0, 0.0], [0.0, 4.0]]),
        layers__0__bias=torch.full((4,), 1.0, dtype=torch.bfloat16),
        output__bias=torch.zeros(3),
    )
    return after, before


def test_norms_are_those_of_the_difference_and_of_the_later_weights(
    two: tuple[Path, Path],
) -> None:
    tensors = list(changed_tensors(*two))
    assert {tensor.name: (tensor.change, tensor.norm) for tensor in tensors} == {
        "embedding.weight": (3.0, 5.0),
        "layers.0.bias": (2.0, 4.0),
        "output.bias": (0.0, 0.0),
    }
    changes = {"embedding": 0.6, "layer 1": 0.5, "out bias": 0.0}
    assert layer_changes(tensors) == changes


def test_other_models_and_damaged_files_are_refused(two: tuple[Path, Path]) -> None:
    after, before = two
    saved(before, embedding__weight=torch.zeros(2, 2))
    with pytest.raises(CheckpointError, match="different models"):
        list(changed_tensors(after, before))
    saved(before, embedding__weight=torch.zeros(1), layers__0__bias=torch.zeros(4),
          output__bias=torch.zeros(3))  # fmt: skip
    with pytest.raises(
        CheckpointError, match=r"embedding.weight has shape \(2, 2\), before \(1,\)"
    ):
        list(changed_tensors(after, before))
    (before / WEIGHTS_NAME).write_bytes(b"no tensors")
    with pytest.raises(CheckpointError, match="can't be compared"):
        list(changed_tensors(after, before))
    (before / WEIGHTS_NAME).unlink()
    with pytest.raises(CheckpointError, match="can't be compared"):
        list(changed_tensors(after, before))


def test_a_comparison_is_cancelled_between_two_tensors(two: tuple[Path, Path]) -> None:
    def cancelled() -> None:
        raise RunStateError("cancelled")

    with pytest.raises(RunStateError):
        list(changed_tensors(*two, cancelled))


def test_bars_are_scaled_to_the_largest_change() -> None:
    detail = CheckpointDetail(1, "/r", before_name="step 1")
    for ratios, scale in (
        ((0.9, 0.1), ""),
        ((7.0,), ""),
        ((0.013, 0.004), ", full bar 0.02"),
        ((0.0,), ", full bar 0.001"),
        ((math.inf, 0.3), ", full bar 0.5"),
    ):
        layers = {f"layer {number}": ratio for number, ratio in enumerate(ratios)}
        lines = [row.plain for row in detail_lines(detail, layers, 90, 30)]
        assert f"weights since step 1, change per layer |ΔW| / |W|{scale}" in lines
    tensors = [TensorChange(name="output.weight", change=1.0, norm=0.0)]
    assert layer_changes(tensors) == {"output": math.inf}
