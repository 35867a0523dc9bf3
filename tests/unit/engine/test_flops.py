"""The FLOPs of an estimate agree with those that torch counts in a training step."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from rnnlm_tui.engine.model import RecurrentLanguageModel
from rnnlm_tui.schema.cells import CELLS
from rnnlm_tui.schema.config import ModelConfig
from rnnlm_tui.schema.estimates import flops_per_token
from tests.unit.engine.builders import built_model

TOLERANCE = 0.10
"""The formula neglects that a first window has no state to read, and counts a bias as nothing."""

SHAPES = {
    "several layers": (4, 24, ModelConfig(embedding_dim=48, hidden_size=64, tie_weights=False), 90),
    "large vocabulary": (8, 35, ModelConfig(embedding_dim=32, hidden_size=32, num_layers=1), 900),
    "long window": (2, 300, ModelConfig(embedding_dim=32, hidden_size=32, num_layers=1), 64),
}
"""Streams, tokens of each, model and vocabulary."""


def _product(_: object, left: tuple[int, ...], right: tuple[int, ...], **_more: object) -> int:
    """FLOPs of a matmul that adds to its first argument in place: torch's counter has only those
    that return a new tensor."""
    rows, inner = left[-2:]
    return 2 * rows * inner * right[-1] * (left[0] if len(left) == 3 else 1)


IN_PLACE = {torch.ops.aten.addmm_: _product, torch.ops.aten.baddbmm_: _product}


def counted(model: RecurrentLanguageModel, tokens_BT: Tensor) -> int:
    """FLOPs of a step with torch's own kernels, which its counter knows; not those of oneDNN."""
    with (
        torch.backends.mkldnn.flags(enabled=False),
        sdpa_kernel(SDPBackend.MATH),  # whose products it counts
        FlopCounterMode(display=False, custom_mapping=IN_PLACE) as counter,
    ):
        loss, _ = model(tokens_BT, model.initial_state(tokens_BT.shape[0]), tokens_BT, None)
        loss.backward()
    return int(counter.get_total_flops())


@pytest.mark.filterwarnings("ignore:TF32 acceleration")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("cell", CELLS)
def test_the_formula_agrees_with_torchs_count(cell: str, shape: str) -> None:
    streams, length, base, vocab_size = SHAPES[shape]
    width = base.hidden_size if cell == "transformer" else base.embedding_dim
    config = base.model_copy(update={"cell_type": cell, "embedding_dim": width})
    model = built_model(
        vocab_size=vocab_size,
        embedding_dim=config.embedding_dim,
        hidden_size=config.hidden_size,
        num_layers=config.num_layers,
        cell_type=cell,
        num_heads=config.num_heads,
        tie_weights=config.tie_weights,
        seed=1,
    )
    tokens_BT = torch.arange(streams * length).view(streams, length) % vocab_size
    estimated = streams * length * flops_per_token(config, vocab_size, length)
    assert estimated == pytest.approx(counted(model, tokens_BT), rel=TOLERANCE)
