"""The choice between float32 and rounded matrix products."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from rnnlm_tui.engine import matmul
from rnnlm_tui.engine.device import check_precision
from rnnlm_tui.engine.matmul import Matmul, choose_matmul, roundings
from rnnlm_tui.errors import DeviceError

CPU = torch.device("cpu")
WEIGHT = torch.ones(300, 8)


class OnGpu:
    """What is asked of a weight whose head is measured."""

    device = torch.device("cuda:0")


GPU_WEIGHT: Any = OnGpu()
Tf32 = list[bool]
"""What TF32 was set to."""


def set_machine(monkeypatch: pytest.MonkeyPatch, machine: str) -> Tf32:
    """A CPU with these features besides AVX-512, or a GPU of this compute capability."""
    found: Tf32 = []
    kind, _, features = machine.partition(" ")
    if kind == "gpu":
        major, bf16 = int(features[0]), "bf16" in features
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (major, 0))
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: bf16)
        monkeypatch.setattr(matmul, "softmax_for", lambda _: None)
    else:
        capabilities = {"avx512_f": True, "cpu_name": "a CPU", **dict.fromkeys([features], True)}
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    monkeypatch.setattr(matmul, "set_gpu_precision", lambda _, *, rounded: found.append(rounded))
    return found


@pytest.mark.parametrize(
    ("machine", "ways"),
    [
        ("cpu", ("float32",)),
        ("cpu avx512_bf16", ("float32", "bf16")),
        ("cpu amx_bf16", ("float32", "bf16")),
        ("gpu 9 bf16", ("float32", "TF32", "bf16")),
        ("gpu 8", ("float32", "TF32")),
        ("gpu 7", ("float32",)),
    ],
)
def test_what_a_machine_multiplies_fast_is_measured(
    monkeypatch: pytest.MonkeyPatch, machine: str, ways: tuple[str, ...]
) -> None:
    set_machine(monkeypatch, machine)
    assert roundings(CPU if machine.startswith("cpu") else GPU_WEIGHT.device) == ways
    assert roundings(torch.device("mps")) == ("float32",)


BF16_CPU, H100 = "cpu avx512_bf16", "gpu 9 bf16"


@pytest.mark.parametrize(
    ("machine", "wanted", "precision", "times", "mode", "words"),
    [
        (BF16_CPU, "auto", "float32", (1.75, 1.0), "medium",
         "bf16 matmul: 1.75 times as fast as float32"),
        (BF16_CPU, "auto", "float32", (1.0, 1.0), "float32",
         "float32 matmul: bf16 was 1.00 times as fast"),
        (BF16_CPU, "auto", "float32", (1.0, 2.0), "float32",
         "float32 matmul: bf16 was 0.50 times as fast"),
        (BF16_CPU, "float32", "float32", (), "float32", "float32 matmul"),
        (BF16_CPU, "medium", "float32", (), "medium", "bf16 matmul"),
        ("cpu", "auto", "float32", (), "float32", "float32 matmul"),
        (H100, "auto", "float32", (4.2, 3.0, 2.0), "bf16",
         "bf16 matmul: 2.10 times as fast as float32; TF32 was 1.40 times"),
        # Not clearly faster than TF32, which is more exact.
        (H100, "auto", "float32", (4.2, 2.0, 1.95), "medium",
         "TF32 matmul: 2.10 times as fast as float32; bf16 was 2.15 times"),
        (H100, "auto", "float32", (1.0, 1.0, 0.98), "float32",
         "float32 matmul: TF32 was 1.00 and bf16 1.02 times as fast"),
        (H100, "auto", "float32", (1.0, 2.0, 0.5), "bf16",
         "bf16 matmul: 2.00 times as fast as float32; TF32 was 0.50 times"),
        (H100, "medium", "float32", (), "medium", "TF32 matmul"),
        (H100, "float32", "float32", (), "float32", "float32 matmul"),
        # bf16 decides for the head, and `matmul` for the layers.
        (H100, "auto", "bf16", (), "medium", "bf16 matmul"),
        (H100, "medium", "bf16", (), "medium", "bf16 matmul"),
        (H100, "float32", "bf16", (), "float32", "bf16 matmul"),
        ("gpu 7", "auto", "float32", (), "float32", "float32 matmul"),
    ],
)  # fmt: skip
def test_the_mode_is_the_wanted_one_or_the_one_that_was_measured_faster(
    monkeypatch: pytest.MonkeyPatch,
    machine: str,
    wanted: str,
    precision: str,
    times: tuple[float, ...],
    mode: str,
    words: str,
) -> None:
    def seconds(_weight: object, _rows: int, ways: Sequence[str]) -> dict[str, float]:
        return dict(zip(ways, times, strict=True))

    tf32 = set_machine(monkeypatch, machine)
    monkeypatch.setattr(matmul, "_seconds", seconds)
    weight = WEIGHT if machine.startswith("cpu") else GPU_WEIGHT
    chosen = choose_matmul(wanted, weight, precision=precision)
    assert (chosen.mode, chosen.numbers, str(chosen)) == (mode, words.split()[0], words)
    assert chosen.reduced == words.startswith("bf16")
    assert tf32 == [mode != "float32"]  # the layers' products are never less exact than TF32


def test_a_kernel_is_compiled_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    set_machine(monkeypatch, H100)
    tried: list[torch.device] = []
    monkeypatch.setattr(matmul, "softmax_for", tried.append)
    choose_matmul("float32", GPU_WEIGHT)
    assert tried == [GPU_WEIGHT.device]


def test_without_memory_for_measuring_float32_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    set_machine(monkeypatch, H100)

    def seconds(*_: object) -> dict[str, float]:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(matmul, "_seconds", seconds)
    assert choose_matmul("auto", GPU_WEIGHT) == Matmul("float32", "float32")

    def broken(*_: object) -> dict[str, float]:
        raise RuntimeError("CUDA error: misaligned address")

    monkeypatch.setattr(matmul, "_seconds", broken)
    with pytest.raises(RuntimeError, match="misaligned"):
        choose_matmul("auto", GPU_WEIGHT)


def test_unsupported_medium_is_refused_with_its_requirements(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_machine(monkeypatch, "cpu")
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
