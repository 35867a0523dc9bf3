"""AdamW, SGD, clipping, and updates that are left out."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from rnnlm_tui.engine import optim
from rnnlm_tui.engine.optim import (
    adamw,
    allocate_update,
    clip_gradients,
    set_learning_rate,
    sgd,
    skips_bad_updates,
    update_when_finite,
)

NOT_FINITE = [(float("nan"), 1.0), (float("inf"), 1.0), (0.5, float("inf")), (0.5, float("nan"))]
"""A norm and a loss."""


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


def test_updates_equal_the_formula_of_adamw() -> None:
    only = parameter([1.0], [0.5])
    optimizer = adamw([only], learning_rate=0.1, weight_decay=0.2, beta1=0.8, beta2=0.9, eps=1e-6)
    update_when_finite(optimizer, torch.tensor(0.5), torch.tensor(1.0))
    # First step: both bias corrections make the mean the gradient and the square its square.
    assert only.item() == pytest.approx(1.0 * (1 - 0.1 * 0.2) - 0.1 * 0.5 / (0.5 + 1e-6), rel=1e-6)


@pytest.mark.parametrize(("norm", "loss"), NOT_FINITE)
def test_update_is_skipped_when_norm_or_loss_is_not_finite_and_the_next_one_counts_as_first(
    norm: float, loss: float
) -> None:
    bad, fresh = parameter([1.0], [norm]), parameter([1.0], [0.5])
    optimizer, other = adamw([bad], learning_rate=0.1), adamw([fresh], learning_rate=0.1)
    update_when_finite(optimizer, torch.tensor(norm), torch.tensor(loss))
    assert bad.item() == 1.0
    bad.grad = torch.tensor([0.5])
    update_when_finite(optimizer, torch.tensor(0.5), torch.tensor(1.0))
    update_when_finite(other, torch.tensor(0.5), torch.tensor(1.0))
    assert bad.item() == fresh.item() != 1.0


def test_updates_equal_the_formula_of_sgd_and_keep_no_state() -> None:
    only = parameter([1.0, -2.0], [0.5, 0.25])
    optimizer = sgd([only], learning_rate=0.1, weight_decay=0.2)
    for _ in range(2):
        update_when_finite(optimizer, torch.tensor(0.5), torch.tensor(1.0))
    expected = torch.tensor([1.0, -2.0])
    for _ in range(2):
        expected = expected - 0.1 * (torch.tensor([0.5, 0.25]) + 0.2 * expected)
    torch.testing.assert_close(only.detach(), expected)
    assert not optimizer.state


@pytest.mark.parametrize(("norm", "loss"), NOT_FINITE)
def test_sgd_skips_an_update_when_norm_or_loss_is_not_finite(norm: float, loss: float) -> None:
    only = parameter([1.0], [norm])
    optimizer = sgd([only], learning_rate=0.1, weight_decay=0.2)
    update_when_finite(optimizer, torch.tensor(norm), torch.tensor(loss))
    assert only.item() == 1.0
    only.grad = torch.tensor([0.5])
    update_when_finite(optimizer, torch.tensor(0.5), torch.tensor(1.0))
    assert only.item() == pytest.approx(1.0 - 0.1 * (0.5 + 0.2))


def test_rate_of_the_next_update_can_be_set() -> None:
    only = parameter([1.0], [0.5])
    optimizer = adamw([only], learning_rate=0.1, weight_decay=0.0)
    set_learning_rate(optimizer, 0.0)
    update_when_finite(optimizer, torch.tensor(0.5), torch.tensor(1.0))
    assert only.item() == 1.0


class DeafAdamW(torch.optim.AdamW):
    """As on Apple GPUs before torch 2.13: the fused kernel ignores `found_inf`."""

    found_inf: torch.Tensor | None = None

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        self.found_inf = None
        super().step(closure)


class DeafSGD(torch.optim.SGD):
    """Likewise."""

    found_inf: torch.Tensor | None = None

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        self.found_inf = None
        super().step(closure)


@pytest.mark.fault("a loss that isn't finite on an Apple GPU")
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(("kind", "deaf"), [(adamw, DeafAdamW), (sgd, DeafSGD)])
@pytest.mark.parametrize(("norm", "loss"), NOT_FINITE)
def test_the_host_skips_bad_updates_where_the_kernel_does_not(
    monkeypatch: pytest.MonkeyPatch,
    kind: Callable[..., torch.optim.Optimizer],
    deaf: type[torch.optim.Optimizer],
    fused: bool,
    norm: float,
    loss: float,
) -> None:
    monkeypatch.setattr(torch.optim, deaf.__mro__[1].__name__, deaf)
    monkeypatch.setattr(optim, "FUSED_DEVICES", {"cpu"} if fused else set())
    monkeypatch.setattr(optim, "SKIPPING_DEVICES", set())
    bad, fresh = parameter([1.0], [norm]), parameter([1.0], [0.5])
    optimizer, other = kind([bad], learning_rate=0.1), kind([fresh], learning_rate=0.1)
    assert type(optimizer) is deaf
    assert not skips_bad_updates(optimizer)
    update_when_finite(optimizer, torch.tensor(norm), torch.tensor(loss))
    assert bad.item() == 1.0
    bad.grad = torch.tensor([0.5])
    update_when_finite(optimizer, torch.tensor(0.5), torch.tensor(1.0))
    update_when_finite(other, torch.tensor(0.5), torch.tensor(1.0))
    assert bad.item() == fresh.item() != 1.0


@pytest.mark.parametrize("kind", [adamw, sgd, DeafAdamW])
def test_allocating_an_update_changes_no_weight_and_no_rate(
    monkeypatch: pytest.MonkeyPatch, kind: Callable[..., torch.optim.Optimizer]
) -> None:
    if kind is DeafAdamW:
        monkeypatch.setattr(optim, "SKIPPING_DEVICES", set())
    only = parameter([1.25], [0.0])
    optimizer = (
        DeafAdamW([only], lr=0.1, fused=True)
        if kind is DeafAdamW
        else kind([only], learning_rate=0.1, weight_decay=0.3)
    )
    allocate_update(optimizer)
    assert only.item() == 1.25
    assert bool(optimizer.state) == (kind is not sgd)
    assert optimizer.param_groups[0]["lr"] == 0.1


def test_torchs_own_cpu_kernels_skip_bad_updates() -> None:
    for kind in (adamw, sgd):
        only = parameter([1.0], [0.5])
        optimizer = kind([only], learning_rate=0.1)
        assert skips_bad_updates(optimizer)
        assert optim._skips_a_trial(type(optimizer), torch.device("cpu"))  # type: ignore[arg-type]
