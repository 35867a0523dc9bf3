"""Dropout's rate, scale and randomness."""

from __future__ import annotations

import pytest
import torch

from rnnlm_tui.engine.dropout import drop


@pytest.mark.parametrize("rate", [0.05, 0.15, 0.5, 0.9])
def test_rate_and_mean_are_as_asked(rate: float) -> None:
    torch.manual_seed(1)
    dropped = drop(torch.ones(300, 400), rate)
    zeros = (dropped == 0).double()
    assert zeros.mean().item() == pytest.approx(rate, abs=5 * (rate * (1 - rate) / 120_000) ** 0.5)
    assert dropped.max().item() == pytest.approx(1 / (1 - rate), rel=1e-3)
    # The four decisions out of one 64-bit word are alike.
    for place in range(4):
        assert zeros.flatten()[place::4].mean().item() == pytest.approx(rate, abs=5 * (rate * (1 - rate) / 30_000) ** 0.5)


def test_what_is_dropped_gets_no_gradient() -> None:
    features = torch.ones(7, 11, requires_grad=True)
    dropped = drop(features, 0.4)
    dropped.sum().backward()  # type: ignore[no-untyped-call]
    assert features.grad is not None
    assert torch.equal(features.grad, dropped.detach())


def test_the_global_seed_decides() -> None:
    torch.manual_seed(4)
    first = drop(torch.ones(50), 0.5)
    torch.manual_seed(4)
    assert torch.equal(drop(torch.ones(50), 0.5), first)
    assert not torch.equal(drop(torch.ones(50), 0.5), first)
