"""Devices by name, threads, seeds, and what torch's errors mean."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from rnnlm_tui.engine import device as device_module
from rnnlm_tui.engine.device import (
    describe,
    explained,
    resolve_device,
    seed_everything,
    set_exactness,
    set_threads,
)
from rnnlm_tui.errors import DeviceError
from rnnlm_tui.system.machine import usable_cores


@pytest.mark.parametrize(
    ("available", "name", "expected"),
    [
        (("cuda:0", "cuda:1", "cpu"), "auto", "cuda:0"),
        (("cuda:0", "cuda:1", "cpu"), "cuda", "cuda:0"),
        (("cuda:0", "cuda:1", "cpu"), "cuda:1", "cuda:1"),
        (("mps", "cpu"), "auto", "mps"),
        (("cpu",), "auto", "cpu"),
        (("cuda:0", "cpu"), "cpu", "cpu"),
    ],
)
def test_names_resolve_to_the_first_of_cuda_mps_cpu(
    monkeypatch: pytest.MonkeyPatch, available: tuple[str, ...], name: str, expected: str
) -> None:
    monkeypatch.setattr(device_module, "available_devices", lambda: available)
    assert resolve_device(name) == torch.device(expected)


@pytest.mark.parametrize("name", ["cuda", "cuda:7", "mps"])
def test_a_missing_device_is_refused_with_the_available_ones(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(device_module, "available_devices", lambda: ("cpu",))
    with pytest.raises(DeviceError, match=f'no device "{name}" on this machine, available: cpu'):
        resolve_device(name)


def test_the_cpu_is_always_available() -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    assert device_module.available_devices()[-1] == "cpu"


def test_threads_are_as_requested_or_one_per_usable_core() -> None:
    assert set_threads(2) == torch.get_num_threads() == 2
    assert describe(torch.device("cpu")) == "cpu, 2 threads"
    assert set_threads(0) == torch.get_num_threads() == usable_cores() >= 1
    set_threads(1)
    assert describe(torch.device("cpu")) == "cpu, 1 thread"


def test_one_seed_sets_every_global_generator() -> None:
    def drawn() -> tuple[float, float, float]:
        return random.random(), float(np.random.random()), torch.rand(()).item()

    seed_everything(2**62)
    first = drawn()
    seed_everything(2**62)
    assert drawn() == first
    seed_everything(1)
    assert drawn() != first


def test_exact_mode_can_be_switched_on_and_off() -> None:
    set_exactness(True)
    assert torch.are_deterministic_algorithms_enabled()
    set_exactness(False)
    assert not torch.are_deterministic_algorithms_enabled()


def test_out_of_memory_is_explained_with_the_shape_and_a_smaller_batch() -> None:
    for error in (
        torch.OutOfMemoryError("CUDA out of memory. Tried"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
    ):
        explanation = explained(error, (128, 29))
        assert isinstance(explanation, DeviceError)
        assert "128 x 29" in explanation.message
        assert "batch_size = 64" in explanation.hint


def test_an_operation_without_a_deterministic_version_is_named() -> None:
    named = explained(
        RuntimeError(
            "cumsum_cuda_kernel does not have a deterministic implementation, but you set"
        ),
        (1, 1),
    )
    assert named is not None
    assert "cumsum_cuda_kernel" in named.message
    assert explained(RuntimeError("CUBLAS_WORKSPACE_CONFIG=:4096:8"), (1, 1)) is not None
    assert explained(RuntimeError("mat1 and mat2 shapes cannot be multiplied"), (1, 1)) is None
