"""The vocabulary head's loss against torch's, whole and in chunks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from rnnlm_tui.engine import loss as loss_module
from rnnlm_tui.engine.loss import IGNORED, mean_loss, rows_per_chunk, token_losses


def head(
    rows: int, *, dtype: torch.dtype = torch.float64, scale: float = 1.0
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """hidden_NH, weight_VH, bias_V, targets_N with every third target ignored."""
    generator = torch.Generator().manual_seed(rows)
    hidden, weight, bias = (
        torch.randn(*shape, dtype=dtype, generator=generator) * scale
        for shape in ((rows, 6), (50, 6), (50,))
    )
    targets = torch.randint(50, (rows,), generator=generator)
    targets[::3] = IGNORED
    return hidden.requires_grad_(), weight.requires_grad_(), bias.requires_grad_(), targets


@pytest.mark.parametrize("chunk_bytes", [50 * 64 * 4, 24_000_000])
def test_loss_and_gradients_equal_torchs_in_any_number_of_chunks(
    monkeypatch: pytest.MonkeyPatch, chunk_bytes: int
) -> None:
    monkeypatch.setattr(loss_module, "CHUNK_BYTES", chunk_bytes)
    hidden, weight, bias, targets = head(200)
    assert (rows_per_chunk(50) < 200) == (chunk_bytes < 24_000_000)
    loss = mean_loss(hidden, weight, bias, targets)
    expected = F.cross_entropy(F.linear(hidden, weight, bias), targets, ignore_index=IGNORED)
    torch.testing.assert_close(loss, expected)
    # Twice the loss: the gradient that comes from above must count.
    gradients = torch.autograd.grad(2 * loss, [hidden, weight, bias])
    for gradient, wanted in zip(
        gradients, torch.autograd.grad(2 * expected, [hidden, weight, bias]), strict=True
    ):
        torch.testing.assert_close(gradient, wanted)


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_float32_loss_is_exact_to_a_hundred_thousandth_even_for_hopeless_targets(
    scale: float,
) -> None:
    hidden, weight, bias, targets = head(100, dtype=torch.float32, scale=scale)
    exact = F.cross_entropy(
        F.linear(hidden.double(), weight.double(), bias.double()), targets, ignore_index=IGNORED
    )
    assert mean_loss(hidden, weight, bias, targets).item() == pytest.approx(exact.item(), rel=1e-5)


@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0])
def test_reduced_products_keep_the_loss_and_the_direction_of_the_gradients(scale: float) -> None:
    hidden, weight, bias, targets = head(300, dtype=torch.float32, scale=scale)
    loss, expected = (
        mean_loss(hidden, weight, bias, targets, reduced=True),
        mean_loss(hidden, weight, bias, targets),
    )
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), rel=2e-3)
    gradients = torch.autograd.grad(loss, [hidden, weight, bias])
    for gradient, wanted in zip(
        gradients, torch.autograd.grad(expected, [hidden, weight, bias]), strict=True
    ):
        assert (gradient - wanted).norm() < 0.02 * wanted.norm()


@pytest.mark.parametrize("spread", [1.0, 10.0, 80.0])
@pytest.mark.parametrize("likely", [True, False])
def test_the_error_of_reduced_products_is_a_thousandth_of_the_logits_spread(
    spread: float, likely: bool
) -> None:
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        hidden, weight = (
            torch.tanh(torch.randn(256, 128, generator=generator)),
            torch.randn(2_000, 128, generator=generator) * spread / 128**0.5,
        )
        logits = hidden.double() @ weight.double().t()
        targets = logits.argmax(1) if likely else torch.randint(2_000, (256,), generator=generator)
        error = abs(
            float(mean_loss(hidden, weight, torch.zeros(2_000), targets, reduced=True))
            - float(F.cross_entropy(logits, targets))
        )
        assert error < 1e-3 * max(1.0, float(logits.std()))


@pytest.mark.parametrize("reduced", [False, True])
def test_without_onednn_the_loss_is_the_same(
    monkeypatch: pytest.MonkeyPatch, reduced: bool
) -> None:
    hidden, weight, bias, targets = head(90, dtype=torch.float32)
    ours = mean_loss(hidden, weight, bias, targets, reduced=reduced)
    monkeypatch.setattr(loss_module, "has_onednn", lambda: False)
    theirs = mean_loss(hidden, weight, bias, targets, reduced=reduced)
    torch.testing.assert_close(ours, theirs, rtol=1e-2 if reduced else 1e-5, atol=0)


def test_token_losses_are_zero_at_padding_and_sum_to_the_mean(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loss_module, "CHUNK_BYTES", 1)
    hidden, weight, bias, targets = head(150)
    losses = token_losses(hidden, weight, bias, targets)
    assert not losses[::3].any()
    assert losses.shape == (150,)
    torch.testing.assert_close(
        losses.sum() / (targets != IGNORED).sum(), mean_loss(hidden, weight, bias, targets)
    )


def test_loss_without_targets_is_nan() -> None:
    hidden, weight, bias, targets = head(4)
    assert mean_loss(hidden, weight, bias, torch.full_like(targets, IGNORED)).isnan()
