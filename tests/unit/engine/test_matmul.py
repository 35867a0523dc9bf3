"""The choice between float32 and rounded matrix products."""

from __future__ import annotations

import pytest
import torch

from rnnlm_tui.engine import matmul
from rnnlm_tui.engine.device import check_precision
from rnnlm_tui.engine.matmul import can_round, choose_matmul
from rnnlm_tui.errors import DeviceError

CPU = torch.device("cpu")
WEIGHT = torch.ones(300, 8)


def with_capabilities(monkeypatch: pytest.MonkeyPatch, **capabilities: bool) -> None:
    monkeypatch.setattr(
        torch.cpu,
        "get_capabilities",
        lambda: {"avx512_f": True, "cpu_name": "a CPU", **capabilities},
    )


def with_times(monkeypatch: pytest.MonkeyPatch, float32: float, medium: float) -> None:
    monkeypatch.setattr(matmul, "_seconds", lambda weight, rows: (float32, medium))


def test_a_cpu_rounds_if_it_has_fast_bf16_matmul(monkeypatch: pytest.MonkeyPatch) -> None:
    with_capabilities(monkeypatch)
    assert not can_round(CPU)
    with_capabilities(monkeypatch, avx512_bf16=True)
    assert can_round(CPU)
    with_capabilities(monkeypatch, amx_bf16=True)
    assert can_round(CPU)


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
    with_times(monkeypatch, float32, medium)
    chosen = choose_matmul("auto", WEIGHT)
    assert chosen.mode == mode
    assert chosen.speedup == float32 / medium
    assert str(chosen) == words


def test_auto_measures_nothing_on_a_cpu_that_cannot_round(monkeypatch: pytest.MonkeyPatch) -> None:
    with_capabilities(monkeypatch)
    assert choose_matmul("auto", WEIGHT) == matmul.Matmul("float32", None)


def test_float32_is_used_even_if_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    with_capabilities(monkeypatch, avx512_bf16=True)
    with_times(monkeypatch, 9.0, 1.0)
    assert choose_matmul("float32", WEIGHT) == matmul.Matmul("float32", None)


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
    assert all(seconds > 0 for seconds in matmul._seconds(weight, 20))
    assert torch.equal(weight, before)
    assert weight.grad is None
    assert torch.equal(torch.get_rng_state(), generator)


def test_bf16_layers_are_refused_on_a_cpu_with_an_alternative() -> None:
    check_precision("float32", CPU)
    with pytest.raises(DeviceError, match=r"bf16, which needs a CUDA GPU.*cpu") as refused:
        check_precision("bf16", CPU)
    assert "training.matmul=auto" in refused.value.hint
