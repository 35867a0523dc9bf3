"""The loss that GPUs use, on the CPU: padded vocabulary, aligned products, nothing read back."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from rnnlm_tui.engine import padded_loss
from rnnlm_tui.engine.loss import mean_loss
from rnnlm_tui.engine.optim import (
    adamw,
    clip_gradients,
    update_when_finite,
)
from rnnlm_tui.engine.padded_loss import (
    agrees,
    kernel_note,
    padded_mean_loss,
    padded_token_losses,
    softmax_for,
)
from rnnlm_tui.engine.softmax import IGNORED, PLAIN, Softmax, without_waiting
from rnnlm_tui.engine.trainer import Trainer
from rnnlm_tui.schema import memory
from rnnlm_tui.schema.config import OptimizerConfig
from rnnlm_tui.schema.estimates import Schedule

from .builders import batches_of, small_model
from .head_cases import Head, a_head, exact, found, relative_errors

CPU = torch.device("cpu")


def plainly(reduced: bool) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    return partial(padded_mean_loss, reduced=reduced, softmax=PLAIN)


@pytest.mark.parametrize("spread", [1.0, 50.0])
@pytest.mark.parametrize("vocab_size", [64, 100, 129, 1_000, 32_011])
def test_loss_and_gradients_equal_torchs_in_float64(vocab_size: int, spread: float) -> None:
    head = a_head(9 if vocab_size > 1_000 else 50, vocab_size, spread=spread)
    wanted, wanted_gradients = exact(head)
    loss, gradients = found(head, plainly(reduced=False))
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-6)
    assert max(relative_errors(gradients, wanted_gradients)) < 1e-5
    loss, gradients = found(head, plainly(reduced=True))
    assert abs(loss.item() - wanted.item()) < 5e-3 * max(1.0, spread)
    assert max(relative_errors(gradients, wanted_gradients)) < (0.02 if spread == 1 else 0.1)


@pytest.mark.parametrize("seed", range(40))
def test_any_shape_in_any_number_of_chunks_equals_torch(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(seed)
    head = a_head(
        draw.randint(2, 40),
        draw.randint(2, 200),
        draw.randint(1, 40),
        spread=draw.choice([0.1, 1.0, 8.0]),
        ignored=draw.choice([0, 2, 7]),
        seed=seed,
    )
    monkeypatch.setattr(memory, "GPU_CHUNK_BYTES", draw.choice([1, 40_000, 10**9]))
    monkeypatch.setattr(memory, "SMALLEST_CHUNK", 8)
    loss, gradients = found(head, plainly(reduced=False))
    wanted, wanted_gradients = exact(head)
    torch.testing.assert_close(loss.double(), wanted, rtol=1e-5, atol=1e-6)
    for one, other in zip(gradients, wanted_gradients, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("reduced", [False, True])
@pytest.mark.parametrize("chunk", [1, 10**9])
def test_gradients_are_right_in_one_chunk_and_in_several(
    chunk: int, reduced: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = a_head(200, 129, 13)
    monkeypatch.setattr(memory, "GPU_CHUNK_BYTES", chunk)
    _, gradients = found(head, plainly(reduced))
    errors = relative_errors(gradients, exact(head)[1])
    assert max(errors) < (0.01 if reduced else 1e-5)
    assert all(gradient.is_contiguous() for gradient in gradients)


def test_ignored_rows_leave_exactly_the_mean_over_the_others() -> None:
    head = a_head(60, 129, ignored=4)
    kept = head.targets != IGNORED
    alone = Head(head.hidden[kept], head.weight, head.bias, head.targets[kept])
    loss, gradients = found(head, plainly(reduced=False))
    wanted, wanted_gradients = found(alone, plainly(reduced=False))
    torch.testing.assert_close(loss, wanted, rtol=1e-6, atol=0)
    assert not gradients[0][~kept].any()
    torch.testing.assert_close(gradients[0][kept], wanted_gradients[0])
    torch.testing.assert_close(gradients[1:], wanted_gradients[1:])


@pytest.mark.parametrize("reduced", [False, True])
@pytest.mark.parametrize("rows", [0, 5])
def test_without_targets_the_loss_is_nan_and_no_weight_changes(rows: int, reduced: bool) -> None:
    head = a_head(rows, 100)
    head.targets.fill_(IGNORED)
    weight, bias = nn.Parameter(head.weight), nn.Parameter(head.bias)
    before = [part.detach().clone() for part in (weight, bias)]
    optimizer = adamw([weight, bias], learning_rate=0.1)
    loss = plainly(reduced)(head.hidden, weight, bias, head.targets)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.isnan()
    assert not any(parameter.grad is None or parameter.grad.any() for parameter in (weight, bias))
    update_when_finite(optimizer, clip_gradients([weight, bias], 1.0), loss.detach())
    assert torch.equal(weight, before[0])
    assert torch.equal(bias, before[1])


@pytest.mark.parametrize("reduced", [False, True])
def test_a_bad_number_in_the_head_makes_the_loss_or_the_norm_bad(reduced: bool) -> None:
    for value in (float("nan"), float("inf")):
        for part in range(3):
            head = a_head(7, 100, ignored=0)
            head.parts[part].view(-1)[0] = value
            loss, gradients = found(head, plainly(reduced))
            assert not (loss + sum(gradient.norm() for gradient in gradients)).isfinite()


@pytest.mark.parametrize("reduced", [False, True])
def test_a_logit_of_minus_infinity_is_a_probability_of_zero(reduced: bool) -> None:
    head = a_head(7, 100, ignored=0)
    head.bias[50:99] = -torch.inf
    head.targets[head.targets >= 50] = 3
    loss, gradients = found(head, plainly(reduced))
    assert loss.isfinite()
    assert not gradients[2][50:99].any()
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_the_gradient_from_above_counts_and_can_be_taken_once() -> None:
    head = a_head(20, 100)
    parts = [part.requires_grad_() for part in head.parts]
    loss = plainly(reduced=False)(head.hidden, head.weight, head.bias, head.targets)
    gradients = torch.autograd.grad(3 * loss, parts, retain_graph=True)
    assert max(relative_errors(list(gradients), [3 * part for part in exact(head)[1]])) < 1e-5
    with pytest.raises(RuntimeError, match="only once"):
        torch.autograd.grad(loss, parts)


@pytest.mark.parametrize("vocab_size", [100, 129])
def test_token_losses_equal_torchs(vocab_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    head = a_head(150, vocab_size, width=13, spread=20.0)
    monkeypatch.setattr(memory, "GPU_CHUNK_BYTES", 1)
    losses = padded_token_losses(head.hidden, head.weight, head.bias, head.targets, PLAIN)
    wanted = F.cross_entropy(
        F.linear(*(part.double() for part in head.parts)),
        head.targets,
        ignore_index=IGNORED,
        reduction="none",
    )
    torch.testing.assert_close(losses.double(), wanted, rtol=1e-5, atol=1e-5)
    assert not losses[::3].any()


@pytest.mark.parametrize(("reduced", "tolerance"), [(False, 1e-4), (True, 2e-2)])
@pytest.mark.parametrize("data_mode", ["stream", "sentences"])
def test_training_this_way_follows_the_way_of_cpus(
    data_mode: str, reduced: bool, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    def losses() -> Tensor:
        model = small_model(pad_id=0 if data_mode == "sentences" else None)
        trainer = Trainer(
            model,
            batches_of(data_mode),
            max_steps=100,
            schedule=Schedule(1e-2),
            optimizer=OptimizerConfig(max_grad_norm=1.0),
        )
        return torch.stack([trainer.train_step().loss for _ in range(20)])

    wanted = losses()
    monkeypatch.setattr(
        "rnnlm_tui.engine.model.mean_loss",
        lambda *arguments, **_: plainly(reduced)(*arguments),
    )
    torch.testing.assert_close(losses(), wanted, rtol=tolerance, atol=0)
    assert wanted[-1] < wanted[0]


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Names of all operations, and the matrices that products read and write."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: list[str] = []
        self.matrices: list[Tensor] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = func.overloadpacket.__name__
        result = func(*args, **(kwargs or {}))
        self.names.append(name)
        if name in ("mm", "addmm", "linear"):
            self.matrices += [part for part in (*args, result) if isinstance(part, Tensor)]
        return result


@pytest.fixture(params=["cpu", "meta"])
def recorder(request: pytest.FixtureRequest) -> tuple[Recorder, str]:
    return Recorder(), request.param


def recorded(recorder: Recorder, device: str, head: Head, *, reduced: bool) -> Recorder:
    hidden, weight, bias = (part.to(device).requires_grad_() for part in head.parts)
    targets = head.targets.to(device)
    with recorder:
        loss = plainly(reduced)(hidden, weight, bias, targets)
        loss.backward()  # type: ignore[no-untyped-call]
    return recorder


@pytest.mark.parametrize("reduced", [False, True])
def test_nothing_waits_for_the_device(recorder: tuple[Recorder, str], reduced: bool) -> None:
    head = a_head(30, 129, ignored=3)
    names = recorded(*recorder, head, reduced=reduced).names
    waiting = {"_local_scalar_dense", "nonzero", "is_nonzero", "item", "masked_select", "unique"}
    assert not (waiting | {"scalar_tensor", "lift_fresh"}) & set(names), names


@pytest.mark.parametrize("reduced", [False, True])
@pytest.mark.parametrize("width", [127, 128, 650])
def test_every_row_of_every_product_begins_at_a_multiple_of_16_bytes(
    recorder: tuple[Recorder, str],
    width: int,
    reduced: bool,
) -> None:
    matrices = recorded(*recorder, a_head(24, 129, width), reduced=reduced).matrices
    assert len(matrices) >= 9
    for matrix in matrices:
        strides = sorted(matrix.stride()) if matrix.dim() == 2 else [1]
        assert strides[0] == 1, matrix.stride()
        assert all(step * matrix.element_size() % 16 == 0 for step in strides[1:])
        assert all(size % 8 == 0 for size in matrix.shape)


def test_other_devices_than_cpus_take_this_way() -> None:
    hidden, weight, bias, targets = (
        torch.zeros(*shape, device="meta", dtype=dtype)
        for shape, dtype in (
            ((5, 8), torch.float32),
            ((70, 8), torch.float32),
            ((70,), torch.float32),
            ((5,), torch.int64),
        )
    )
    loss = mean_loss(hidden.requires_grad_(), weight, bias, targets, reduced=True)
    assert (loss.device.type, loss.shape, loss.dtype) == ("meta", (), torch.float32)


def test_without_a_gpu_there_is_no_kernel_and_no_note() -> None:
    for name in ("cpu", "mps", "meta"):
        assert softmax_for(torch.device(name)) is PLAIN
        assert kernel_note(torch.device(name)) == ""


@pytest.fixture
def first_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    """A GPU that nothing was tried on yet."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    padded_loss._tried.cache_clear()
    yield torch.device("cuda:0")
    padded_loss._tried.cache_clear()


def test_without_triton_training_goes_on_with_a_note(
    monkeypatch: pytest.MonkeyPatch, first_gpu: torch.device
) -> None:
    monkeypatch.setitem(sys.modules, "rnnlm_tui.engine.loss_kernel", None)
    assert softmax_for(first_gpu) is PLAIN
    assert kernel_note(first_gpu) == (
        "training is slower without the loss kernel: Triton isn't installed"
    )


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (RuntimeError("Failed to find C compiler. Please specify via CC"), "(install gcc)"),
        (subprocess.CalledProcessError(1, ["/usr/bin/gcc", "/tmp/main.c"]), "python3-dev?"),
        (PermissionError(13, "Permission denied", "/home/me/.triton"), "/home/me/.triton"),
        (ValueError("one\ntwo"), "loss kernel: one"),
        (AssertionError(), "AssertionError"),
        (False, "its results are wrong here"),
    ],
)
def test_a_kernel_that_fails_or_is_wrong_is_not_used(
    monkeypatch: pytest.MonkeyPatch,
    first_gpu: torch.device,
    outcome: Exception | bool,
    words: str,
) -> None:
    kernel = Softmax(PLAIN.gradient, PLAIN.losses)
    monkeypatch.setitem(
        sys.modules, "rnnlm_tui.engine.loss_kernel", type("Module", (), {"KERNEL": kernel})
    )

    def tried(_softmax: Softmax, _device: torch.device, _dtype: torch.dtype) -> bool:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(padded_loss, "agrees", tried)
    assert softmax_for(first_gpu) is PLAIN
    assert words in kernel_note(first_gpu)
    assert "\n" not in kernel_note(first_gpu)
    padded_loss._tried.cache_clear()
    monkeypatch.setattr(padded_loss, "agrees", lambda *_: True)
    assert softmax_for(first_gpu) is kernel
    assert kernel_note(first_gpu) == ""
    padded_loss._tried.cache_clear()
    monkeypatch.setenv("RNNLM_TUI_TRITON", "0")
    assert softmax_for(first_gpu) is PLAIN
    assert "RNNLM_TUI_TRITON is 0" in kernel_note(first_gpu)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_first_trial_finds_wrong_losses_and_gradients(dtype: torch.dtype) -> None:
    def wrong_gradient(logits: Tensor, targets: Tensor, count: Tensor, size: int) -> Any:
        gradient, losses = PLAIN.gradient(logits, targets, count, size)
        return gradient.roll(1, 0), losses

    def wrong_losses(logits: Tensor, targets: Tensor, size: int) -> Tensor:
        return PLAIN.losses(logits, targets, size) + 0.2

    assert agrees(PLAIN, CPU, dtype)

    def wrong_in_a_later_block(
        logits_RW: Tensor, targets_R: Tensor, count: Tensor, vocab_size: int
    ) -> tuple[Tensor, Tensor]:
        gradient_RW, losses_R = PLAIN.gradient(logits_RW, targets_R, count, vocab_size)
        gradient_RW[:, 20_000:] *= 1.1
        return gradient_RW, losses_R

    assert not agrees(Softmax(wrong_in_a_later_block, PLAIN.losses), CPU, dtype)
    assert not agrees(Softmax(wrong_gradient, PLAIN.losses), CPU, dtype)
    assert not agrees(Softmax(PLAIN.gradient, wrong_losses), CPU, dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", [1.0, 60.0])
def test_losses_from_the_largest_probability_are_right_even_for_hopeless_targets(
    dtype: torch.dtype, scale: float
) -> None:
    logits = (torch.randn(40, 50, generator=torch.Generator().manual_seed(2)) * scale).to(dtype)
    targets = torch.arange(40).unsqueeze(1)
    p, losses = without_waiting(logits, targets)
    torch.testing.assert_close(p, torch.softmax(logits, 1))
    expected = F.cross_entropy(logits.float(), targets.squeeze(1), reduction="none")
    tolerance = 1e-2 if dtype == torch.bfloat16 else 1e-5
    torch.testing.assert_close(losses, expected, rtol=tolerance, atol=tolerance)
    assert losses.dtype == torch.float32
