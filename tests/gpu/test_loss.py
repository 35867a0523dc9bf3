"""The vocabulary head's loss on a GPU: the Triton kernel, no waiting, and its speed."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch.nn import functional as F

from rnnlm_tui.engine.device import wait
from rnnlm_tui.engine.loss import mean_loss, token_losses
from rnnlm_tui.engine.matmul import roundings, set_gpu_precision
from rnnlm_tui.engine.padded_loss import agrees, kernel_note, padded_mean_loss, softmax_for
from rnnlm_tui.engine.softmax import IGNORED, PLAIN
from tests.gpu import DEVICE, DRY, NEEDS_GPU, ON_DEVICE
from tests.gpu.shapes import SHAPES
from tests.unit.engine.head_cases import a_head, exact, found, relative_errors

pytestmark = ON_DEVICE


@pytest.fixture(autouse=True)
def exact_products() -> None:
    set_gpu_precision(DEVICE, rounded=False)


@pytest.fixture
def kernel() -> None:
    """Skip where Triton can't work; its absence is noted and not an error."""
    if softmax_for(DEVICE) is PLAIN:
        pytest.skip(kernel_note(DEVICE))


@NEEDS_GPU
def test_the_kernel_is_used_where_triton_is_installed() -> None:
    pytest.importorskip("triton")
    assert kernel_note(DEVICE) == ""
    assert softmax_for(DEVICE) is not PLAIN
    for dtype in (torch.float32, torch.bfloat16):
        assert agrees(softmax_for(DEVICE), DEVICE, dtype)


@pytest.mark.parametrize("way", ["kernel", "plain"])
@pytest.mark.parametrize("spread", [1.0, 50.0])
@pytest.mark.parametrize(
    ("rows", "vocab_size", "width"),
    [(1, 100, 16), (50, 129, 13)]
    if DRY
    else [(1, 100, 16), (50, 129, 13), (700, 1_000, 650), (4_000, 32_011, 128), (40, 131_075, 64)],
)
def test_loss_and_gradients_equal_torchs_in_float64(
    rows: int, vocab_size: int, width: int, spread: float, way: str
) -> None:
    softmax = PLAIN if way == "plain" else softmax_for(DEVICE)
    head = a_head(rows, vocab_size, width, spread=spread, ignored=3 if rows > 1 else 0)
    wanted, wanted_gradients = exact(head, str(DEVICE))
    for reduced in (False, True):
        way_of = partial(padded_mean_loss, reduced=reduced, softmax=softmax)
        loss, gradients = found(head, way_of, str(DEVICE))
        assert abs(loss.item() - wanted.item()) < (1e-2 if reduced else 1e-5) * max(1.0, spread)
        limit = 1e-4 if not reduced else 0.02 if spread == 1 else 0.1
        assert max(relative_errors(gradients, wanted_gradients)) < limit


def test_token_losses_equal_torchs() -> None:
    head = a_head(*((50, 129, 16) if DRY else (5_000, 32_011, 128)), spread=6.0)
    hidden, weight, bias = (part.to(DEVICE) for part in head.parts)
    losses = token_losses(hidden, weight, bias, head.targets.to(DEVICE)).cpu()
    wanted = F.cross_entropy(
        F.linear(hidden.double(), weight.double(), bias.double()),
        head.targets.to(DEVICE),
        ignore_index=IGNORED,
        reduction="none",
    )
    torch.testing.assert_close(losses.double(), wanted.cpu(), rtol=1e-5, atol=1e-4)


@NEEDS_GPU
@pytest.mark.parametrize("reduced", [False, True])
@pytest.mark.parametrize("way", ["kernel", "plain"])
def test_a_loss_and_its_gradient_wait_for_nothing(way: str, reduced: bool) -> None:
    softmax = PLAIN if way == "plain" else softmax_for(DEVICE)
    head = a_head(600, 2_011, 128)
    parts = [part.to(DEVICE).requires_grad_() for part in head.parts]
    targets = head.targets.to(DEVICE)

    def run() -> list[torch.Tensor]:
        hidden, weight, bias = parts
        loss = padded_mean_loss(hidden, weight, bias, targets, reduced=reduced, softmax=softmax)
        return [loss.detach(), *torch.autograd.grad(loss, parts)]

    run()  # allocates the libraries' workspaces
    torch.cuda.synchronize(DEVICE)
    torch.cuda.set_sync_debug_mode("error")
    try:
        run()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@NEEDS_GPU
@pytest.mark.usefixtures("kernel")
def test_the_kernel_needs_no_copy_of_the_logits() -> None:
    rows, matrix = 3_900, 32_064 * 128 * 4
    head = a_head(rows, 32_011, 128)
    hidden, weight, bias = (part.to(DEVICE).requires_grad_() for part in head.parts)
    targets = head.targets.to(DEVICE)

    def run() -> None:
        loss = mean_loss(hidden, weight, bias, targets, reduced=True)
        torch.autograd.grad(loss, [hidden, weight, bias])

    run()  # allocates the libraries' workspaces
    before = torch.cuda.memory_allocated(DEVICE)
    torch.cuda.reset_peak_memory_stats(DEVICE)
    run()
    needed = torch.cuda.max_memory_allocated(DEVICE) - before
    assert (
        needed < 1.05 * (rows * 32_064 * 2 + 2 * matrix) + 2**26
    )  # of it the libraries' workspaces


Property = Callable[[str, object], None]


@pytest.mark.parametrize("name", SHAPES)
def test_the_output_layer_is_measured_by_the_kernel_and_by_torchs_operations(
    name: str, record_property: Property
) -> None:
    """The time of the loss and its gradients in each number format, in milliseconds."""
    rows, vocab_size, width = (24, 100, 16) if DRY else SHAPES[name].head
    ways = {"torch": PLAIN} if softmax_for(DEVICE) is PLAIN else {"kernel": softmax_for(DEVICE)}
    hidden, weight, bias = (
        part.to(DEVICE).requires_grad_() for part in a_head(rows, vocab_size, width).parts
    )
    targets = torch.arange(rows, device=DEVICE) % vocab_size
    for numbers in roundings(DEVICE):
        for way, softmax in {"torch": PLAIN, **ways}.items():
            set_gpu_precision(DEVICE, rounded=numbers == "TF32")
            best = float("inf")
            for run in range(2 + (1 if DRY else 20)):  # the first two choose kernels
                wait(DEVICE)
                began = time.perf_counter()
                loss = padded_mean_loss(
                    hidden, weight, bias, targets, reduced=numbers == "bf16", softmax=softmax
                )
                torch.autograd.grad(loss, [hidden, weight, bias])
                wait(DEVICE)
                best = min(best, time.perf_counter() - began) if run >= 2 else best
            record_property(f"{numbers}, {way}", f"{1e3 * best:.3f} ms")
