"""Dropout's rate, scale and randomness."""

from __future__ import annotations

import pytest
import torch

from rnnlm_tui.engine.cells.base import drop, drop_units, drop_words


@pytest.mark.parametrize("rate", [0.05, 0.15, 0.5, 0.9])
def test_rate_and_mean_are_as_requested(rate: float) -> None:
    torch.manual_seed(1)
    dropped = drop(torch.ones(300, 400), rate)
    zeros = (dropped == 0).double()
    assert zeros.mean().item() == pytest.approx(rate, abs=5 * (rate * (1 - rate) / 120_000) ** 0.5)
    assert dropped.max().item() == pytest.approx(1 / (1 - rate), rel=1e-3)
    # The four decisions out of one 64-bit word are alike.
    for place in range(4):
        assert zeros.flatten()[place::4].mean().item() == pytest.approx(
            rate, abs=5 * (rate * (1 - rate) / 30_000) ** 0.5
        )


def test_dropped_activations_get_no_gradient() -> None:
    features = torch.ones(7, 11, requires_grad=True)
    dropped = drop(features, 0.4)
    dropped.sum().backward()  # type: ignore[no-untyped-call]
    assert features.grad is not None
    assert torch.equal(features.grad, dropped.detach())


def test_the_global_seed_determines_the_mask() -> None:
    torch.manual_seed(4)
    first = drop(torch.ones(50), 0.5)
    torch.manual_seed(4)
    assert torch.equal(drop(torch.ones(50), 0.5), first)
    assert not torch.equal(drop(torch.ones(50), 0.5), first)


@pytest.mark.parametrize("rate", [0.2, 0.65])
def test_dropped_units_are_the_same_at_every_time_step_but_differ_between_sequences(
    rate: float,
) -> None:
    torch.manual_seed(2)
    dropped = drop_units(torch.ones(9, 40, 500), rate)
    assert torch.equal(dropped, dropped[:1].expand_as(dropped))
    assert not torch.equal(dropped[0, 0], dropped[0, 1])
    assert dropped.max().item() == pytest.approx(1 / (1 - rate), rel=1e-3)
    zeros = (dropped[0] == 0).double()
    assert zeros.mean().item() == pytest.approx(rate, abs=5 * (rate * (1 - rate) / 20_000) ** 0.5)
    assert not torch.equal(drop_units(torch.ones(9, 40, 500), rate), dropped)


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_words_are_dropped_at_all_positions(rate: float) -> None:
    torch.manual_seed(3)
    tokens = torch.randint(0, 4_000, (20, 600))
    dropped = drop_words(torch.ones(20, 600, 3), tokens, 4_000, rate)
    assert torch.equal(dropped, dropped[:, :, :1].expand_as(dropped))
    of_word = torch.full((4_000,), -1.0)
    of_word[tokens.flatten()] = dropped[:, :, 0].flatten()
    assert torch.equal(of_word[tokens], dropped[:, :, 0])
    assert dropped.max().item() == pytest.approx(1 / (1 - rate), rel=1e-3)
    zeros = (of_word[of_word >= 0] == 0).double()
    assert zeros.mean().item() == pytest.approx(
        rate, abs=5 * (rate * (1 - rate) / len(zeros)) ** 0.5
    )
