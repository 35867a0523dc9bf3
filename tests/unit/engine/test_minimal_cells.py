"""minGRU and minLSTM: the scan of GPUs against the loop of CPUs, and gates far out."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from rnnlm_tui.engine.cells import CELLS
from rnnlm_tui.engine.cells.minimal import gated_average

from .reference import drawn

HIDDEN = 4


@pytest.mark.parametrize("length", [1, 2, 3, 4, 7, 8, 33])
def test_scan_and_its_gradients_equal_the_loop(length: int) -> None:
    leaves = [
        torch.sigmoid(drawn(length, 3, HIDDEN)).requires_grad_(),
        drawn(length, 3, HIDDEN).requires_grad_(),
        drawn(3, HIDDEN).requires_grad_(),
    ]
    loop, scan = (
        gated_average(leaves[0], leaves[1], leaves[2], parallel=parallel)
        for parallel in (False, True)
    )
    torch.testing.assert_close(scan, loop)
    weights = drawn(length + 1, 3, HIDDEN)[1:]
    by_loop, by_scan = (
        torch.autograd.grad((hidden * weights).sum(), leaves) for hidden in (loop, scan)
    )
    torch.testing.assert_close(by_scan, by_loop)


@pytest.mark.parametrize("parallel", [False, True])
def test_an_open_gate_returns_the_candidate_and_a_closed_one_the_state(parallel: bool) -> None:
    candidate, state = drawn(6, 2, HIDDEN), drawn(2, HIDDEN)
    opened, closed = (
        gated_average(torch.full_like(candidate, gate), candidate, state, parallel=parallel)
        for gate in (1, 0)
    )
    torch.testing.assert_close(opened, candidate)
    torch.testing.assert_close(closed, state.expand_as(candidate))


@pytest.mark.parametrize("cell_type", ["mingru", "minlstm"])
@pytest.mark.parametrize("scale", [10.0, 40.0])
def test_huge_gate_activations_stay_finite_in_float32(cell_type: str, scale: float) -> None:
    layer: Any = CELLS[cell_type](2, HIDDEN, 1)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
        layer.weight_ih[:, 0], layer.weight_ih[:, 1] = 5.0, -3.0
    # Up to ±700 at the gates.
    inputs = (scale * drawn(70, 3, 2, dtype=torch.float32)).requires_grad_()
    hidden, (after,) = layer(inputs, layer.initial_state(3))
    (gradient,) = torch.autograd.grad(hidden.sum() + after.sum(), inputs)
    assert hidden.isfinite().all()
    assert gradient.isfinite().all()
