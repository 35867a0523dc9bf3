"""The cells' Triton kernels, compiled on a GPU, or interpreted on the CPU.

`test_kernels.py` has them interpreted. To do it alone:
`TRITON_INTERPRET=1 python -m pytest -n 0 tests/unit/engine/test_cell_kernels.py`.
"""

from __future__ import annotations

from typing import cast

import pytest
import torch
from torch import Tensor

from rnnlm_tui.engine.cells import minimal
from rnnlm_tui.engine.cells.base import LayerState
from rnnlm_tui.engine.cells.slstm import EMPTY, SlstmLayer, SlstmRecurrence, agrees
from rnnlm_tui.engine.cells.slstm_recurrence import Passed, SlstmKernel
from rnnlm_tui.engine.matmul import set_gpu_precision

from .interpreted import DEVICE, INTERPRETED, NEEDS_GPU

pytestmark = [
    pytest.mark.usefixtures("watched_memory"),
    *([] if INTERPRETED else [pytest.mark.gpu, NEEDS_GPU]),
]
NO_TRITON = "Triton isn't installed"
slstm_kernel = pytest.importorskip("rnnlm_tui.engine.cells.slstm_kernel", reason=NO_TRITON)
minimal_kernel = pytest.importorskip("rnnlm_tui.engine.cells.minimal_kernel", reason=NO_TRITON)
KERNEL = SlstmKernel(slstm_kernel.forward, slstm_kernel.backward)
AVERAGE = minimal.AverageKernel(minimal_kernel.forward, minimal_kernel.backward)


@pytest.fixture(autouse=True)
def exact_products() -> None:
    set_gpu_precision(DEVICE, rounded=False)


def drawn(steps: int, batch: int, heads: int, width: int, spread: float) -> list[Tensor]:
    """W x + b, the state c', n', h and m, and R, in float64."""
    generator = torch.Generator().manual_seed(steps)
    hidden = heads * width
    shapes = (steps, batch, 4 * hidden), *[(batch, hidden)] * 4, (4 * hidden, width)
    found = [torch.randn(*shape, generator=generator).double().to(DEVICE) for shape in shapes]
    found[0] *= spread
    found[2] = found[2].abs() + 1
    found[5] /= width**0.5
    return found


def results(given: list[Tensor], heads: int, kernel: SlstmKernel | None) -> list[Tensor]:
    """Outputs, and the gradients of all inputs by a weighted sum of h."""
    leaves = [part.clone().requires_grad_() for part in given]
    hidden, *after = cast(
        tuple[Tensor, ...],
        SlstmRecurrence.apply(*leaves, heads, kernel),  # type: ignore[no-untyped-call]
    )
    weights = torch.randn(
        hidden.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3)
    )
    gradients = torch.autograd.grad((hidden * weights.to(hidden)).sum(), leaves)
    return [hidden.detach(), *(part.detach() for part in after), *gradients]


@pytest.mark.parametrize("spread", [1.0, 30.0])
@pytest.mark.parametrize(
    "shape", [(1, 1, 1, 4), (2, 16, 2, 16), (7, 19, 3, 12), (5, 33, 2, 40), (3, 4, 1, 64)]
)
def test_slstm_equals_single_operations_in_float64(
    shape: tuple[int, int, int, int], spread: float
) -> None:
    given = drawn(*shape, spread)
    wanted = results(given, shape[2], None)
    found = results([part.float() for part in given], shape[2], KERNEL)
    for ours, exact in zip(found, wanted, strict=True):
        error = (ours.double() - exact).norm() / exact.norm().clamp(min=1e-3)
        assert error < 1e-4


def test_an_empty_memory_is_the_state_before_the_first_token() -> None:
    given = drawn(4, 3, 2, 8, 1.0)
    given[1:5] = [torch.zeros_like(part) for part in given[1:5]]
    given[4].fill_(EMPTY)
    wanted = results(given, 2, None)
    found = results([part.float() for part in given], 2, KERNEL)
    for ours, exact in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours.double(), exact, rtol=1e-3, atol=1e-4)


def test_a_gradient_of_the_state_after_the_last_step_is_right_too() -> None:
    given = [part.float() for part in drawn(4, 3, 2, 8, 1.0)]
    found = []
    for kernel in (None, KERNEL):
        leaves = [part.clone().requires_grad_() for part in given]
        parts = SlstmRecurrence.apply(*leaves, 2, kernel)  # type: ignore[no-untyped-call]
        total = sum((part**2).sum() for part in cast(tuple[Tensor, ...], parts))
        found.append(torch.autograd.grad(cast(Tensor, total), leaves))
    for plain, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-3, atol=1e-4)


def test_an_slstm_layer_trains_with_its_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = SlstmLayer(6, 12, 3)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.uniform_(-0.5, 0.5, generator=generator)
    layer.to(DEVICE)
    inputs = torch.randn(5, 2, 6, generator=generator).to(DEVICE)
    found = []
    for kernel in (None, KERNEL):
        monkeypatch.setattr("rnnlm_tui.engine.cells.slstm.kernel_for", lambda *_, way=kernel: way)
        _, state = layer(inputs, layer.initial_state(2))
        hidden, _ = layer(inputs, tuple(part.detach() for part in state))
        step, _ = layer.step(inputs[0], state)
        gradients = torch.autograd.grad(hidden.square().sum(), list(layer.parameters()))
        found.append([hidden, step, *gradients])
    for plain, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-3, atol=1e-4)


def test_a_kernel_with_wrong_results_is_found() -> None:
    def wrong(
        gradient: Tensor, passed: Passed, state: LayerState, weight: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        projected, *rest = slstm_kernel.backward(gradient, passed, state, weight)
        return projected * 1.1, rest[0], rest[1], rest[2]

    for width in (4, 16, 64):
        assert agrees(KERNEL, DEVICE, width)
        assert not agrees(SlstmKernel(slstm_kernel.forward, wrong), DEVICE, width)


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 50), (29, 5, 33)])
def test_a_gated_average_equals_the_loop_in_float64(shape: tuple[int, int, int]) -> None:
    generator = torch.Generator().manual_seed(1)
    steps, batch, width = shape
    gate, weights = (torch.rand(shape, generator=generator).to(DEVICE) for _ in range(2))
    both = torch.randn(steps, batch, 2 * width, generator=generator).to(DEVICE)
    state = torch.randn(batch, width, generator=generator).to(DEVICE)
    found = []
    for kernel, dtype in ((None, torch.float64), (AVERAGE, torch.float32)):
        leaves = [part.to(dtype).requires_grad_() for part in (gate, both, state)]
        parts = leaves[0], leaves[1][:, :, width:], leaves[2]  # not in one piece
        hidden = minimal._GatedAverage.apply(*parts, False, kernel)  # type: ignore[no-untyped-call]
        found.append([hidden, *torch.autograd.grad(hidden, leaves, weights.to(dtype))])
    for exact, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours.double(), exact, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [minimal.MinGruLayer, minimal.MinLstmLayer])
def test_a_minimal_layer_trains_with_its_kernel(
    monkeypatch: pytest.MonkeyPatch, kind: type[minimal.MinGruLayer | minimal.MinLstmLayer]
) -> None:
    layer = kind(6, 12)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.uniform_(-0.5, 0.5, generator=generator)
    layer.to(DEVICE)
    inputs = torch.randn(5, 2, 6, generator=generator).to(DEVICE)
    found = []
    for kernel in (None, AVERAGE):
        monkeypatch.setattr("rnnlm_tui.engine.cells.minimal.kernel_for", lambda _, way=kernel: way)
        _, state = layer(inputs, layer.initial_state(2))
        hidden, _ = layer(inputs, tuple(part.detach() for part in state))
        gradients = torch.autograd.grad(hidden.square().sum(), list(layer.parameters()))
        found.append([hidden, *gradients])
    for plain, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-5)


def test_a_wrong_gated_average_is_found() -> None:
    def wrong(*given: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        gate, candidate, state = minimal_kernel.backward(*given)
        return gate, candidate, 1.1 * state

    assert minimal.agrees(AVERAGE, DEVICE)
    assert not minimal.agrees(minimal.AverageKernel(minimal_kernel.forward, wrong), DEVICE)
