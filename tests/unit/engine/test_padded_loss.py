"""The loss that GPUs use, on the CPU: padded vocabulary, aligned products, nothing read back."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from rnnlm_tui.engine import padded_loss
from rnnlm_tui.engine.loss import mean_loss
from rnnlm_tui.engine.padded_loss import (
    kernel_note,
    padded_mean_loss,
    softmax_for,
)
from rnnlm_tui.engine.softmax import PLAIN, Softmax

from .head_cases import Head, a_head


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


def recorded(device: str, head: Head, *, reduced: bool) -> Recorder:
    hidden, weight, bias = (part.to(device).requires_grad_() for part in head.parts)
    targets, recorder = head.targets.to(device), Recorder()
    with recorder:
        loss = padded_mean_loss(hidden, weight, bias, targets, reduced=reduced, softmax=PLAIN)
        torch.autograd.backward(loss)
    return recorder


@pytest.mark.parametrize("reduced", [False, True])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_nothing_waits_for_the_device(device: str, reduced: bool) -> None:
    names = recorded(device, a_head(30, 129, ignored=3), reduced=reduced).names
    waiting = {"_local_scalar_dense", "nonzero", "is_nonzero", "item", "masked_select", "unique"}
    assert not (waiting | {"scalar_tensor", "lift_fresh"}) & set(names), names


@pytest.mark.parametrize("reduced", [False, True])
@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("width", [127, 128, 650])
def test_every_row_of_every_product_begins_at_a_multiple_of_16_bytes(
    device: str, width: int, reduced: bool
) -> None:
    matrices = recorded(device, a_head(24, 129, width), reduced=reduced).matrices
    assert len(matrices) >= 9
    for matrix in matrices:
        strides = sorted(matrix.stride()) if matrix.dim() == 2 else [1]
        assert strides[0] == 1, matrix.stride()
        assert all(step * matrix.element_size() % 16 == 0 for step in strides[1:])
        assert all(size % 8 == 0 for size in matrix.shape)


def test_other_devices_than_cpus_take_this_way() -> None:
    hidden, weight, bias, targets = (
        part.to("meta") for part in (*a_head(5, 70).parts, a_head(5, 70).targets)
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
