"""What the vocabulary head's loss costs on a GPU: no copy of the logits, and time."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch

from rnnlm_tui.engine.device import wait
from rnnlm_tui.engine.loss import mean_loss
from rnnlm_tui.engine.matmul import roundings, set_gpu_precision
from rnnlm_tui.engine.padded_loss import kernel_note, padded_mean_loss, softmax_for
from rnnlm_tui.engine.softmax import PLAIN
from tests.gpu import DEVICE, DRY, NEEDS_GPU, ON_DEVICE
from tests.gpu.shapes import SHAPES
from tests.unit.engine.head_cases import a_head

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
