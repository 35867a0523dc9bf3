"""AdamW, SGD, clipping, and updates that are left out."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from rnnlm_tui.engine import optim
from rnnlm_tui.engine.optim import (
    allocate_update,
    build_optimizer,
    clip_gradients,
    set_learning_rate,
    skips_bad_updates,
    update_when_finite,
)
from rnnlm_tui.schema.config import OptimizerConfig


def parameter(values: list[float], gradient: list[float]) -> nn.Parameter:
    made = nn.Parameter(torch.tensor(values))
    made.grad = torch.tensor(gradient)
    return made


def test_norm_before_clipping_is_returned_and_gradients_are_scaled_to_the_clip() -> None:
    first, second = parameter([0.0, 0.0], [3.0, 0.0]), parameter([0.0], [4.0])
    assert clip_gradients([first, second], 1.0).item() == pytest.approx(5.0)
    assert first.grad is not None
    assert second.grad is not None
    assert torch.cat([first.grad, second.grad]).norm().item() == pytest.approx(1.0, rel=1e-5)


def test_clip_of_zero_changes_nothing() -> None:
    only = parameter([0.0], [7.0])
    assert clip_gradients([only], 0.0).item() == pytest.approx(7.0)
    assert only.grad is not None
    assert only.grad.item() == 7.0


def built(only: nn.Parameter, algorithm: str = "adamw", **settings: float) -> torch.optim.Optimizer:
    """An optimizer of one weight with a rate of 0.1."""
    values = {"algorithm": algorithm, "weight_decay": 0.0, **settings}
    return build_optimizer([only], OptimizerConfig.model_validate(values), 0.1)


def update(optimizer: torch.optim.Optimizer, norm: float = 0.5, loss: float = 1.0) -> None:
    update_when_finite(optimizer, torch.tensor(norm), torch.tensor(loss))


def test_updates_equal_the_formula_of_adamw() -> None:
    only = parameter([1.0], [0.5])
    update(built(only, weight_decay=0.2, beta1=0.8, beta2=0.9, eps=1e-6))
    # First step: both bias corrections make the mean the gradient and the square its square.
    assert only.item() == pytest.approx(1.0 * (1 - 0.1 * 0.2) - 0.1 * 0.5 / (0.5 + 1e-6), rel=1e-6)


def test_updates_equal_the_formula_of_sgd_and_keep_no_state() -> None:
    only, expected = parameter([1.0, -2.0], [0.5, 0.25]), torch.tensor([1.0, -2.0])
    optimizer = built(only, "sgd", weight_decay=0.2)
    for _ in range(2):
        update(optimizer)
        expected = expected - 0.1 * (torch.tensor([0.5, 0.25]) + 0.2 * expected)
    torch.testing.assert_close(only.detach(), expected)
    assert not optimizer.state


def test_rate_of_the_next_update_can_be_set() -> None:
    only = parameter([1.0], [0.5])
    optimizer = built(only)
    set_learning_rate(optimizer, 0.0)
    update(optimizer)
    assert only.item() == 1.0


class Deaf(torch.optim.Optimizer):
    """As on Apple GPUs before torch 2.13: the fused kernel ignores `found_inf`."""

    found_inf: torch.Tensor | None = None

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        self.found_inf = None
        super().step(closure)


class DeafAdamW(Deaf, torch.optim.AdamW): ...


class DeafSGD(Deaf, torch.optim.SGD): ...


@pytest.mark.fault("a loss that isn't finite on an Apple GPU")
@pytest.mark.parametrize(("algorithm", "deaf"), [("adamw", DeafAdamW), ("sgd", DeafSGD)])
@pytest.mark.parametrize("kernel", ["skips", "does not skip", "none"])
@pytest.mark.parametrize(
    ("norm", "loss"), [(math.nan, 1.0), (math.inf, 1.0), (0.5, math.inf), (0.5, math.nan)]
)
def test_an_update_that_is_not_finite_is_skipped_and_the_next_one_counts_as_first(
    monkeypatch: pytest.MonkeyPatch,
    algorithm: str,
    deaf: type[torch.optim.Optimizer],
    kernel: str,
    norm: float,
    loss: float,
) -> None:
    if kernel != "skips":
        monkeypatch.setattr(torch.optim, deaf.__mro__[2].__name__, deaf)
        monkeypatch.setattr(optim, "FUSED_DEVICES", {"cpu"} if kernel != "none" else set())
        monkeypatch.setattr(optim, "SKIPPING_DEVICES", set())
    bad, fresh = parameter([1.0], [norm]), parameter([1.0], [0.5])
    optimizer, other = built(bad, algorithm), built(fresh, algorithm)
    assert skips_bad_updates(optimizer) == (kernel == "skips")
    update(optimizer, norm, loss)
    assert bad.item() == 1.0
    bad.grad = torch.tensor([0.5])
    update(optimizer)
    update(other)
    assert bad.item() == fresh.item() != 1.0


@pytest.mark.parametrize("algorithm", ["adamw", "sgd"])
def test_allocating_an_update_changes_no_weight_and_no_rate(algorithm: str) -> None:
    only = parameter([1.25], [0.0])
    optimizer = built(only, algorithm, weight_decay=0.3)
    allocate_update(optimizer)
    assert only.item() == 1.25
    assert bool(optimizer.state) == (algorithm == "adamw")
    assert optimizer.param_groups[0]["lr"] == 0.1
