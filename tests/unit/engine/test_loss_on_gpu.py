"""The vocabulary head's loss on a CUDA GPU: the Triton kernel, and no waiting."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch.nn import functional as F

from rnnlm_tui.engine.loss import mean_loss, token_losses
from rnnlm_tui.engine.matmul import set_gpu_precision
from rnnlm_tui.engine.padded_loss import agrees, kernel_note, padded_mean_loss, softmax_for
from rnnlm_tui.engine.softmax import IGNORED, PLAIN

from .head_cases import a_head, exact, found, relative_errors

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]
GPU = torch.device("cuda:0")


@pytest.fixture(autouse=True)
def exact_products() -> None:
    set_gpu_precision(GPU, rounded=False)


@pytest.fixture
def kernel() -> None:
    """Skip where Triton can't work; its absence is noted and not an error."""
    if softmax_for(GPU) is PLAIN:
        pytest.skip(kernel_note(GPU))


def test_the_kernel_is_used_where_triton_is_installed() -> None:
    pytest.importorskip("triton")
    assert kernel_note(GPU) == ""
    assert softmax_for(GPU) is not PLAIN
    for dtype in (torch.float32, torch.bfloat16):
        assert agrees(softmax_for(GPU), GPU, dtype)


@pytest.mark.parametrize("way", ["kernel", "plain"])
@pytest.mark.parametrize("spread", [1.0, 50.0])
@pytest.mark.parametrize(
    ("rows", "vocab_size", "width"),
    [(1, 100, 16), (50, 129, 13), (700, 1_000, 650), (4_000, 32_011, 128), (40, 131_075, 64)],
)
def test_loss_and_gradients_equal_torchs_in_float64(
    rows: int, vocab_size: int, width: int, spread: float, way: str
) -> None:
    softmax = PLAIN if way == "plain" else softmax_for(GPU)
    head = a_head(rows, vocab_size, width, spread=spread, ignored=3 if rows > 1 else 0)
    wanted, wanted_gradients = exact(head, "cuda:0")
    for reduced in (False, True):
        way_of = partial(padded_mean_loss, reduced=reduced, softmax=softmax)
        loss, gradients = found(head, way_of, "cuda:0")
        assert abs(loss.item() - wanted.item()) < (1e-2 if reduced else 1e-5) * max(1.0, spread)
        limit = 1e-4 if not reduced else 0.02 if spread == 1 else 0.1
        assert max(relative_errors(gradients, wanted_gradients)) < limit


def test_token_losses_equal_torchs() -> None:
    head = a_head(5_000, 32_011, 128, spread=6.0)
    hidden, weight, bias = (part.to(GPU) for part in head.parts)
    losses = token_losses(hidden, weight, bias, head.targets.to(GPU)).cpu()
    wanted = F.cross_entropy(
        F.linear(hidden.double(), weight.double(), bias.double()),
        head.targets.to(GPU),
        ignore_index=IGNORED,
        reduction="none",
    )
    torch.testing.assert_close(losses.double(), wanted.cpu(), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("reduced", [False, True])
@pytest.mark.parametrize("way", ["kernel", "plain"])
def test_a_loss_and_its_gradient_wait_for_nothing(way: str, reduced: bool) -> None:
    softmax = PLAIN if way == "plain" else softmax_for(GPU)
    head = a_head(600, 2_011, 128)
    parts = [part.to(GPU).requires_grad_() for part in head.parts]
    targets = head.targets.to(GPU)

    def run() -> list[torch.Tensor]:
        hidden, weight, bias = parts
        loss = padded_mean_loss(hidden, weight, bias, targets, reduced=reduced, softmax=softmax)
        return [loss.detach(), *torch.autograd.grad(loss, parts)]

    run()  # allocates the libraries' workspaces
    torch.cuda.synchronize(GPU)
    torch.cuda.set_sync_debug_mode("error")
    try:
        run()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.usefixtures("kernel")
def test_the_kernel_needs_no_copy_of_the_logits() -> None:
    rows, matrix = 3_900, 32_064 * 128 * 4
    head = a_head(rows, 32_011, 128)
    hidden, weight, bias = (part.to(GPU).requires_grad_() for part in head.parts)
    targets = head.targets.to(GPU)

    def run() -> None:
        loss = mean_loss(hidden, weight, bias, targets, reduced=True)
        torch.autograd.grad(loss, [hidden, weight, bias])

    run()  # allocates the libraries' workspaces
    before = torch.cuda.memory_allocated(GPU)
    torch.cuda.reset_peak_memory_stats(GPU)
    run()
    needed = torch.cuda.max_memory_allocated(GPU) - before
    assert (
        needed < 1.05 * (rows * 32_064 * 2 + 2 * matrix) + 2**26
    )  # of it the libraries' workspaces
