"""The choice between float32 and rounded matrix products."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from rnnlm_tui.engine import matmul
from rnnlm_tui.engine.device import check_precision
from rnnlm_tui.engine.matmul import Matmul, can_round, choose_matmul, roundings
from rnnlm_tui.errors import DeviceError

CPU = torch.device("cpu")
WEIGHT = torch.ones(300, 8)


class OnGpu:
    """What is asked of a weight whose head is measured."""

    device = torch.device("cuda:0")


GPU_WEIGHT: Any = OnGpu()


def with_capabilities(monkeypatch: pytest.MonkeyPatch, **capabilities: bool) -> None:
    monkeypatch.setattr(
        torch.cpu,
        "get_capabilities",
        lambda: {"avx512_f": True, "cpu_name": "a CPU", **capabilities},
    )


def with_times(monkeypatch: pytest.MonkeyPatch, *times: float) -> list[str]:
    """Let measurements find these times, in this order; returns the ways that were measured."""
    measured: list[str] = []

    def seconds(weight: object, rows: int, ways: Sequence[str]) -> dict[str, float]:
        measured.extend(ways)
        return dict(zip(ways, times, strict=True))

    monkeypatch.setattr(matmul, "_seconds", seconds)
    return measured


@pytest.fixture
def rounded(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """A GPU of compute capability 9.0 with bf16; the list is what TF32 was set to."""
    found: list[bool] = []
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    monkeypatch.setattr(matmul, "softmax_for", lambda _: None)
    monkeypatch.setattr(
        matmul, "set_gpu_precision", lambda _device, *, rounded: found.append(rounded)
    )
    return found


def test_a_cpu_rounds_if_it_has_fast_bf16_matmul(monkeypatch: pytest.MonkeyPatch) -> None:
    with_capabilities(monkeypatch)
    assert not can_round(CPU)
    with_capabilities(monkeypatch, avx512_bf16=True)
    assert can_round(CPU)
    with_capabilities(monkeypatch, amx_bf16=True)
    assert can_round(CPU)
    assert roundings(CPU) == ("float32", "bf16")


@pytest.mark.parametrize(
    ("float32", "medium", "mode", "words"),
    [
        (1.75, 1.0, "medium", "bf16 matmul: 1.75 times as fast as float32"),
        (1.0, 1.0, "float32", "float32 matmul: bf16 was 1.00 times as fast"),
        (1.0, 2.0, "float32", "float32 matmul: bf16 was 0.50 times as fast"),
    ],
)
def test_auto_chooses_the_mode_that_was_measured_faster(
    monkeypatch: pytest.MonkeyPatch, float32: float, medium: float, mode: str, words: str
) -> None:
    with_capabilities(monkeypatch, avx512_bf16=True)
    assert with_times(monkeypatch, float32, medium) == []
    chosen = choose_matmul("auto", WEIGHT)
    assert chosen.mode == mode
    assert chosen.reduced == (mode == "medium")
    assert chosen.speedups == (("bf16", float32 / medium),)
    assert str(chosen) == words


@pytest.mark.parametrize(
    ("times", "mode", "numbers", "words"),
    [
        (
            (4.2, 3.0, 2.0),
            "bf16",
            "bf16",
            "bf16 matmul: 2.10 times as fast as float32; TF32 was 1.40 times",
        ),
        # Not clearly faster than TF32, which is more exact.
        (
            (4.2, 2.0, 1.95),
            "medium",
            "TF32",
            "TF32 matmul: 2.10 times as fast as float32; bf16 was 2.15 times",
        ),
        (
            (1.0, 1.0, 0.98),
            "float32",
            "float32",
            "float32 matmul: TF32 was 1.00 and bf16 1.02 times as fast",
        ),
        (
            (1.0, 2.0, 0.5),
            "bf16",
            "bf16",
            "bf16 matmul: 2.00 times as fast as float32; TF32 was 0.50 times",
        ),
    ],
)
def test_on_a_gpu_auto_measures_float32_tf32_and_bf16(
    monkeypatch: pytest.MonkeyPatch,
    rounded: list[bool],
    times: tuple[float, float, float],
    mode: str,
    numbers: str,
    words: str,
) -> None:
    measured = with_times(monkeypatch, *times)
    chosen = choose_matmul("auto", GPU_WEIGHT)
    assert measured == ["float32", "TF32", "bf16"]
    assert (chosen.mode, chosen.numbers) == (mode, numbers)
    assert str(chosen) == words
    assert rounded == [mode != "float32"]  # the layers' products are never less exact than TF32


def test_a_gpu_without_bf16_or_tf32_never_tries_them(
    monkeypatch: pytest.MonkeyPatch, rounded: list[bool]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    assert roundings(GPU_WEIGHT.device) == ("float32", "TF32")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    assert with_times(monkeypatch) == []
    assert choose_matmul("auto", GPU_WEIGHT) == Matmul("float32", "float32")
    assert rounded == [False]
    assert roundings(torch.device("mps")) == ("float32",)


@pytest.mark.parametrize(
    ("wanted", "mode"), [("auto", "medium"), ("medium", "medium"), ("float32", "float32")]
)
def test_precision_bf16_decides_for_the_head_and_matmul_for_the_layers(
    monkeypatch: pytest.MonkeyPatch, rounded: list[bool], wanted: str, mode: str
) -> None:
    measured = with_times(monkeypatch, 1.0, 1.0, 1.0)
    chosen = choose_matmul(wanted, GPU_WEIGHT, precision="bf16")
    assert (chosen.mode, chosen.reduced, str(chosen)) == (mode, True, "bf16 matmul")
    assert rounded == [mode == "medium"]
    assert not measured


@pytest.mark.parametrize(("wanted", "numbers"), [("medium", "TF32"), ("float32", "float32")])
def test_on_a_gpu_explicit_modes_are_not_measured(
    monkeypatch: pytest.MonkeyPatch, rounded: list[bool], wanted: str, numbers: str
) -> None:
    measured = with_times(monkeypatch, 9.0, 1.0, 1.0)
    chosen = choose_matmul(wanted, GPU_WEIGHT)
    assert (chosen.mode, chosen.numbers, chosen.reduced) == (wanted, numbers, False)
    assert rounded == [wanted == "medium"]
    assert not measured


def test_a_kernel_is_compiled_before_training(
    monkeypatch: pytest.MonkeyPatch, rounded: list[bool]
) -> None:
    tried: list[torch.device] = []
    monkeypatch.setattr(matmul, "softmax_for", tried.append)
    choose_matmul("float32", GPU_WEIGHT)
    assert tried == [GPU_WEIGHT.device]


def test_without_memory_for_measuring_float32_is_taken(
    monkeypatch: pytest.MonkeyPatch, rounded: list[bool]
) -> None:
    def seconds(*_: object) -> dict[str, float]:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(matmul, "_seconds", seconds)
    assert choose_matmul("auto", GPU_WEIGHT) == Matmul("float32", "float32")

    def broken(*_: object) -> dict[str, float]:
        raise RuntimeError("CUDA error: misaligned address")

    monkeypatch.setattr(matmul, "_seconds", broken)
    with pytest.raises(RuntimeError, match="misaligned"):
        choose_matmul("auto", GPU_WEIGHT)


def test_auto_measures_nothing_on_a_cpu_that_cannot_round(monkeypatch: pytest.MonkeyPatch) -> None:
    with_capabilities(monkeypatch)
    assert choose_matmul("auto", WEIGHT) == Matmul("float32", "float32")


def test_float32_is_used_even_if_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    with_capabilities(monkeypatch, avx512_bf16=True)
    with_times(monkeypatch, 9.0, 1.0)
    assert choose_matmul("float32", WEIGHT) == Matmul("float32", "float32")


def test_medium_on_a_cpu_is_bf16_for_the_head(monkeypatch: pytest.MonkeyPatch) -> None:
    with_capabilities(monkeypatch, avx512_bf16=True)
    assert choose_matmul("medium", WEIGHT) == Matmul("medium", "bf16")


def test_unsupported_medium_is_refused_with_its_requirements(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with_capabilities(monkeypatch)
    with pytest.raises(DeviceError, match="avx512_bf16 or amx_bf16") as refused:
        choose_matmul("medium", WEIGHT)
    assert "auto or float32" in refused.value.hint


def test_measuring_changes_no_weights_gradients_or_generators() -> None:
    weight = torch.nn.Parameter(torch.randn(300, 8))
    before, generator = weight.detach().clone(), torch.get_rng_state()
    assert all(seconds > 0 for seconds in matmul._seconds(weight, 20, ("float32", "bf16")).values())
    assert torch.equal(weight, before)
    assert weight.grad is None
    assert torch.equal(torch.get_rng_state(), generator)


def test_bf16_layers_are_refused_on_a_cpu_with_an_alternative() -> None:
    check_precision("float32", CPU)
    with pytest.raises(DeviceError, match=r"bf16, which needs a CUDA GPU.*cpu") as refused:
        check_precision("bf16", CPU)
    assert "training.matmul=auto" in refused.value.hint
