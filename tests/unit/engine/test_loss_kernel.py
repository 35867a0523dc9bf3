"""The Triton kernels of the loss, compiled on a GPU, or interpreted on the CPU.

`test_kernels.py` has them interpreted. To do it alone:
`TRITON_INTERPRET=1 python -m pytest -n 0 tests/unit/engine/test_loss_kernel.py`.
"""

from __future__ import annotations

import random
from functools import partial

import pytest
import torch
from torch.nn import functional as F

from rnnlm_tui.engine.matmul import set_gpu_precision
from rnnlm_tui.engine.padded_loss import agrees, padded_mean_loss, padded_token_losses
from rnnlm_tui.engine.softmax import IGNORED, PLAIN, Softmax
from tests.gpu import ON_DEVICE

from . import head_cases
from .head_cases import Head, a_head, exact, relative_errors
from .interpreted import DEVICE, INTERPRETED, NEEDS_GPU

pytestmark = [
    pytest.mark.usefixtures("watched_memory"),
    *([] if INTERPRETED else [*ON_DEVICE, NEEDS_GPU]),
]
loss_kernel = pytest.importorskip("rnnlm_tui.engine.loss_kernel", reason="Triton isn't installed")
KERNEL: Softmax = loss_kernel.KERNEL
found = partial(head_cases.found, device=str(DEVICE))


@pytest.fixture(autouse=True)
def exact_products() -> None:
    set_gpu_precision(DEVICE, rounded=False)


@pytest.mark.parametrize("spread", [1.0, 50.0])
@pytest.mark.parametrize("vocab_size", [64, 100, 129, 1_000, 32_011])
def test_loss_and_gradients_equal_torchs_in_float64(vocab_size: int, spread: float) -> None:
    head = a_head(9 if vocab_size > 1_000 else 40, vocab_size, spread=spread)
    wanted, wanted_gradients = exact(head)
    loss, gradients = found(head, partial(padded_mean_loss, reduced=False, softmax=KERNEL))
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-5)
    assert max(relative_errors(gradients, wanted_gradients)) < 1e-5
    loss, gradients = found(head, partial(padded_mean_loss, reduced=True, softmax=KERNEL))
    assert loss.dtype == torch.float32
    assert abs(loss.item() - wanted.item()) < 1e-2 * max(1.0, spread)
    assert max(relative_errors(gradients, wanted_gradients)) < (0.02 if spread == 1 else 0.1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_loss_is_exact_for_the_logits_as_they_are(dtype: torch.dtype) -> None:
    """All sums are float32: bf16 logits are rounded, their losses aren't."""
    for vocab_size, width in ((100, 128), (32_011, 32_064), (40_000, 40_000)):
        for spread in (1.0, 50.0):
            generator = torch.Generator().manual_seed(vocab_size)
            logits = (torch.randn(4, width, generator=generator) * spread).to(DEVICE, dtype)
            targets = torch.tensor([vocab_size - 1, 0, IGNORED, 77], device=DEVICE)
            logits[:, vocab_size:] = torch.nan  # padded columns may hold anything
            real = logits[:, :vocab_size].double().requires_grad_()
            wanted = F.cross_entropy(real, targets, reduction="none", ignore_index=IGNORED)
            (wanted_gradient,) = torch.autograd.grad(wanted.sum() / 3, real)
            before = logits.clone()
            alone = KERNEL.losses(logits, targets, vocab_size)
            assert torch.equal(logits.nan_to_num(), before.nan_to_num())
            count = torch.tensor(3, device=DEVICE)
            gradient, losses = KERNEL.gradient(logits, targets, count, vocab_size)
            assert gradient.data_ptr() == logits.data_ptr()
            torch.testing.assert_close(losses, alone, rtol=1e-6, atol=2e-6)
            torch.testing.assert_close(losses.double(), wanted.detach(), rtol=1e-6, atol=2e-6)
            assert not gradient[:, vocab_size:].any()
            assert not gradient[2].any()
            torch.testing.assert_close(
                gradient[:, :vocab_size].double(),
                wanted_gradient,
                # The interpreter cuts numbers off where a GPU rounds to the nearest.
                rtol=1e-4 if dtype == torch.float32 else 2**-7,
                atol=1e-6 if dtype == torch.float32 else 1e-5,
            )


@pytest.mark.parametrize("seed", range(20))
def test_any_shape_equals_torch(seed: int) -> None:
    draw = random.Random(seed)
    head = a_head(
        draw.randint(2, 12),
        draw.randint(2, 700),
        draw.randint(1, 40),
        spread=draw.choice([0.1, 1.0, 8.0]),
        ignored=draw.choice([0, 2, 7]),
        seed=seed,
    )
    loss, gradients = found(head, partial(padded_mean_loss, reduced=False, softmax=KERNEL))
    wanted, wanted_gradients = exact(head)
    torch.testing.assert_close(loss.double(), wanted, rtol=1e-5, atol=1e-6)
    for one, other in zip(gradients, wanted_gradients, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("reduced", [False, True])
def test_one_row_and_ignored_rows(reduced: bool) -> None:
    kernel = partial(padded_mean_loss, reduced=reduced, softmax=KERNEL)
    for rows, ignored in ((1, 0), (13, 3)):
        head = a_head(rows, 100, ignored=ignored)
        wanted, wanted_gradients = exact(head)
        loss, gradients = found(head, kernel)
        assert loss.item() == pytest.approx(wanted.item(), rel=5e-3 if reduced else 1e-5)
        assert max(relative_errors(gradients, wanted_gradients)) < (0.02 if reduced else 1e-5)
    head.targets.fill_(IGNORED)
    loss, gradients = found(head, kernel)
    assert loss.isnan()
    assert not any(gradient.any() for gradient in gradients)


def test_bad_numbers_stay_visible_and_infinite_logits_are_harmless() -> None:
    targets = torch.tensor([5, 69, 3], device=DEVICE)
    count = torch.tensor(3, device=DEVICE)
    for bad in (float("nan"), float("inf")):
        logits = torch.zeros(3, 128, device=DEVICE)
        logits[1, 4] = bad
        gradient, losses = KERNEL.gradient(logits, targets, count, 70)
        assert losses.isfinite().tolist() == [True, False, True]
        assert gradient[1, :70].isnan().any()
        assert gradient[[0, 2]].isfinite().all()
    # Whole blocks of -inf, the first one too.
    logits = torch.full((3, 1_024), -torch.inf, device=DEVICE)
    logits[:, 600] = 1.0
    targets = torch.tensor([600, 3, 600], device=DEVICE)
    gradient, losses = KERNEL.gradient(logits, targets, count, 1_000)
    assert losses.tolist() == [0.0, torch.inf, 0.0]
    assert gradient.isfinite().all()
    assert gradient[1].nonzero().flatten().tolist() == [3, 600]
    assert not gradient[0].any()


def test_token_losses_equal_torchs() -> None:
    head = a_head(30, 129, width=13, spread=20.0)
    hidden, weight, bias, targets = (one.to(DEVICE) for one in (*head.parts, head.targets))
    losses = padded_token_losses(hidden, weight, bias, targets, KERNEL)
    plain = padded_token_losses(hidden, weight, bias, targets, PLAIN)
    torch.testing.assert_close(losses, plain, rtol=1e-5, atol=1e-4)


def test_the_first_trial_accepts_the_kernel() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        assert agrees(KERNEL, DEVICE, dtype)


def test_ignored_rows_leave_exactly_the_mean_over_the_others() -> None:
    kernel = partial(padded_mean_loss, reduced=False, softmax=KERNEL)
    head = a_head(20, 129, ignored=4)
    kept = head.targets != IGNORED
    alone = Head(head.hidden[kept], head.weight, head.bias, head.targets[kept])
    (loss, gradients), (wanted, wanted_gradients) = found(head, kernel), found(alone, kernel)
    torch.testing.assert_close(loss, wanted, rtol=1e-5, atol=0)
    torch.testing.assert_close(gradients[0][kept], wanted_gradients[0])
    torch.testing.assert_close(gradients[1:], wanted_gradients[1:])
