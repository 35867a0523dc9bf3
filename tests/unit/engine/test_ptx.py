"""The engine's kernels as Triton compiles them for NVIDIA GPUs, run on the CPU."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from rnnlm_tui.engine.cells import minimal
from rnnlm_tui.engine.padded_loss import padded_mean_loss, padded_token_losses
from rnnlm_tui.engine.softmax import PLAIN, Softmax

from .compiled import Compiled, OtherGpu
from .compiled import compiled as compiled
from .head_cases import a_head, exact, found, relative_errors
from .test_cell_kernels import AVERAGE, drawn, results
from .test_cell_kernels import KERNEL as SLSTM
from .test_loss_kernel import KERNEL as LOSS

A100, H100 = OtherGpu("cuda", 80), OtherGpu("cuda", 90)


@pytest.mark.parametrize(
    ("gpu", "shape", "precision", "limit"),
    [
        (A100, (5, 18, 1, 20), "high", 3e-3),  # loads of coming steps are started early
        (H100, (3, 3, 2, 64), "high", 3e-3),
        (H100, (5, 18, 1, 16), "highest", 2e-5),
        (A100, (2, 2, 2, 50), "highest", 2e-6),
    ],
)
def test_slstm_equals_single_operations_in_float64(
    compiled: Compiled,
    monkeypatch: pytest.MonkeyPatch,
    gpu: OtherGpu,
    shape: tuple[int, int, int, int],
    precision: str,
    limit: float,
) -> None:
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: precision)
    given = [one.cpu() for one in drawn(*shape, spread=1.0)]
    ours: list[torch.Tensor] = []
    kernels = compiled(
        gpu,
        lambda: ours.extend(results([one.float() for one in given], shape[2], SLSTM)),
        run=True,
    )
    assert len(kernels) == 2
    for one, wanted in zip(ours, results(given, shape[2], None), strict=True):
        assert (one.double() - wanted).norm() < limit * wanted.norm()


@pytest.mark.parametrize("gpu", [A100, H100])
def test_a_gated_average_passes_the_trial(compiled: Compiled, gpu: OtherGpu) -> None:
    agrees: list[bool] = []
    kernels = compiled(
        gpu, lambda: agrees.append(minimal.agrees(AVERAGE, torch.device("cpu"))), run=True
    )
    assert len(kernels) == 2
    assert agrees == [True]


@pytest.mark.parametrize(
    ("gpu", "vocab_size", "reduced"),
    [(A100, 100, True), (A100, 9_001, False), (H100, 100, False), (H100, 9_001, True)],
)
def test_loss_and_gradients_equal_torchs_in_float64(
    compiled: Compiled, gpu: OtherGpu, vocab_size: int, reduced: bool
) -> None:
    head = a_head(4, vocab_size)
    way = partial(padded_mean_loss, reduced=reduced, softmax=LOSS)
    losses: list[torch.Tensor] = []

    def token_losses(softmax: Softmax) -> torch.Tensor:
        return padded_token_losses(head.hidden, head.weight, head.bias, head.targets, softmax)

    def everything() -> None:
        loss, gradients = found(head, way)
        losses.extend((loss, *gradients))
        losses.append(token_losses(LOSS))

    assert len(compiled(gpu, everything, run=True)) == 3
    loss, *gradients, each = losses
    wanted, wanted_gradients = exact(head)
    assert abs(loss.item() - wanted.item()) < (5e-3 if reduced else 1e-5)
    assert max(relative_errors(gradients, wanted_gradients)) < (0.02 if reduced else 1e-5)
    torch.testing.assert_close(each, token_losses(PLAIN), rtol=1e-6, atol=1e-5)
