"""The quick tanh against torch's, in every type that a layer computes with."""

from __future__ import annotations

import pytest
import torch

from rnnlm_tui.engine.cells.base import tanh_, tanh_of_half_

NUMBERS = torch.cat([torch.linspace(-12, 12, 4_001), torch.tensor([-1e4, -1e-8, 0.0, 1e-8, 1e4])])


@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 2e-7), (torch.float64, 1e-15)])
def test_tanh_is_exact_to_the_rounding_of_a_state_near_1(dtype: torch.dtype, near: float) -> None:
    numbers = NUMBERS.to(dtype)
    true = torch.tanh(numbers.double())
    assert (tanh_(numbers.clone()).double() - true).abs().max() < near
    assert torch.equal(tanh_of_half_(2 * numbers), tanh_(numbers.clone()))


def test_tanh_works_in_place_on_part_of_a_row() -> None:
    row = torch.full((3, 8), 0.5)
    part = row[:, 2:5]
    assert tanh_(part) is part
    assert torch.allclose(row[:, 2:5], torch.tensor(0.5).tanh())
    assert (row[:, :2] == 0.5).all()
