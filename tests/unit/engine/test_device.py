"""Devices by name, threads, seeds, and what torch's errors mean."""

from __future__ import annotations

import os

import pytest
import torch

from rnnlm_tui.engine import device as device_module
from rnnlm_tui.engine.device import (
    check_workspace,
    cpu_warning,
    describe,
    errors_explained,
    is_lost,
    is_out_of_memory,
    lost_device,
    resolve_device,
    set_exactness,
    set_threads,
    use_device,
)
from rnnlm_tui.errors import DeviceError, InputError, RnnlmError
from rnnlm_tui.system.machine import usable_cores
from tests.fakes.nvml import GIB, Recording, plain_card, replay
from tests.fakes.torch_build import install_torch


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
    # A build for CUDA would look for the driver.
    monkeypatch.setattr(device_module, "unsupported", lambda _device: None)
    assert resolve_device(name) == torch.device(expected)


@pytest.mark.parametrize("name", ["cuda", "cuda:7", "mps"])
def test_a_missing_device_is_refused_with_the_available_ones(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(device_module, "available_devices", lambda: ("cpu",))
    with pytest.raises(DeviceError, match=f'no device "{name}" on this machine, available: cpu'):
        resolve_device(name)


def test_the_cpu_is_always_available(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    assert resolve_device("cpu") == torch.device("cpu")
    assert device_module.available_devices()[-1] == "cpu"
    assert os.environ["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID", "GPUs have the driver's numbers"


def test_threads_are_as_requested_or_one_per_usable_core() -> None:
    assert set_threads(2) == torch.get_num_threads() == 2
    assert describe(torch.device("cpu")) == "cpu, 2 threads"
    assert set_threads(0) == torch.get_num_threads() == usable_cores() >= 1
    set_threads(1)
    assert describe(torch.device("cpu")) == "cpu, 1 thread"


def test_exact_mode_can_be_switched_on_and_off() -> None:
    set_exactness(True)
    assert torch.are_deterministic_algorithms_enabled()
    # every number that is read was written before
    assert not torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    set_exactness(False)
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize(
    ("message", "error", "explanation"),
    [
        (
            "CUDA out of memory. Tried",
            DeviceError,
            r"of 128 x 29 tokens\ntry training.batch_size = 64",
        ),
        ("DefaultCPUAllocator: can't allocate memory: you tried", DeviceError, "128 x 29"),
        ("cumsum does not have a deterministic implementation, but", RnnlmError, "cumsum has no"),
        ("mat1 and mat2 shapes cannot be multiplied", RuntimeError, "mat1 and mat2"),
    ],
)
def test_errors_of_a_step_are_explained_where_their_cause_is_known(
    message: str, error: type[Exception], explanation: str
) -> None:
    with pytest.raises(error, match=explanation), errors_explained("a step", (128, 29)):
        raise RuntimeError(message)


# GPUs


H100, H200 = plain_card(), plain_card("NVIDIA H200", "GPU-2b3c4d5e-0000")


def test_a_gpu_becomes_the_current_one_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    replay(monkeypatch, Recording((H100, H200)))
    current = install_torch(monkeypatch, [H100, H200])
    assert use_device("cuda:1") == torch.device("cuda:1")
    assert use_device("auto") == torch.device("cuda:0")
    assert use_device("cpu") == torch.device("cpu")
    assert current == [torch.device("cuda:1"), torch.device("cuda:0")]


@pytest.mark.fault("a device isn't there, such as `cuda:3` of two")
def test_a_missing_gpu_is_refused_with_the_names_of_those_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    replay(monkeypatch, Recording((H100, H200)))
    install_torch(monkeypatch, [H100, H200])
    with pytest.raises(DeviceError, match='no device "cuda:3"') as caught:
        resolve_device("cuda:3")
    assert "cpu, cuda:1 (NVIDIA H200), cuda:0 (NVIDIA H100 PCIe)" in caught.value.message


@pytest.mark.fault(
    "torch can't use the GPU: built without CUDA, for a newer driver, or without code for the card"
)
@pytest.mark.parametrize(
    ("build", "newest", "words", "fix"),
    [
        ({"built_for": None, "version": "2.13.0+cpu"}, 12040, "built without CUDA", "pip"),
        (
            {"built_for": "13.0", "refusal": "too old"},
            12040,
            "too old for torch 2.13.0 (CUDA 13.0)",
            "update the driver",
        ),
        ({"refusal": "CUDA initialization: error 804"}, 12040, "error 804", "nvidia-smi"),
        ({"architectures": ("sm_100", "sm_120")}, 12040, "has no code for the NVIDIA H100", "pip"),
    ],
)
def test_cuda_is_refused_and_auto_warns_where_torch_can_not_use_the_drivers_gpu(
    monkeypatch: pytest.MonkeyPatch,
    build: dict[str, object],
    newest: int,
    words: str,
    fix: str,
) -> None:
    replay(monkeypatch, Recording((H100,), cuda=newest))
    install_torch(monkeypatch, [H100], **build)  # type: ignore[arg-type]
    for name in ("cuda", "cuda:0"):
        with pytest.raises(DeviceError, match=f'no device "{name}" on this machine') as caught:
            resolve_device(name)
        assert words in caught.value.message
        assert fix in caught.value.hint
    device = resolve_device("auto")
    assert device == torch.device("cpu")
    warning = cpu_warning("auto", device)
    assert warning.startswith("trains on the CPU: ")
    assert words in warning
    assert fix in warning
    assert cpu_warning("cpu", device) == ""


def test_the_first_gpu_that_torch_has_code_for_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    old = plain_card("Tesla P4", "GPU-0000", capability=(6, 1))
    replay(monkeypatch, Recording((old, H100)))
    install_torch(monkeypatch, [old, H100])
    assert resolve_device("auto") == resolve_device("cuda") == torch.device("cuda:1")
    assert cpu_warning("auto", torch.device("cuda:1")) == ""
    with pytest.raises(DeviceError, match="no code for the Tesla P4"):
        resolve_device("cuda:0")


@pytest.mark.fault("the card is full, or reserved by another process")
def test_a_full_gpu_is_refused_with_the_process_that_holds_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    full = plain_card(free=20 * 2**20, processes=[(4711, 79 * GIB)])
    replay(monkeypatch, Recording((full, H200)))
    install_torch(monkeypatch, [full, H200], failure="CUDA error: out of memory")
    with pytest.raises(DeviceError, match=r"memory of cuda:0 NVIDIA H100 PCIe is full") as caught:
        use_device("cuda")
    assert "pid 4711" in caught.value.message
    assert "holds 79 GiB" in caught.value.message
    assert "training.device = cpu or cuda:1" in caught.value.hint


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        ("CUDA error: all CUDA-capable devices are busy or unavailable", "is reserved by another"),
        ("CUDA error: uncorrectable ECC error encountered\nmore", "uncorrectable ECC error enc"),
    ],
)
def test_a_gpu_that_does_not_start_is_refused_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, failure: str, words: str
) -> None:
    replay(monkeypatch, Recording((H100,)))
    install_torch(monkeypatch, [H100], failure=failure)
    with pytest.raises(DeviceError, match=words) as caught:
        use_device("auto")
    assert "training.device = cpu" in caught.value.hint


# errors


@pytest.mark.parametrize(
    ("message", "free", "memory", "lost"),
    [
        ("CUDA out of memory. Tried to allocate 2.00 GiB", GIB, True, False),
        ("CUDA error: out of memory\nCompile with", GIB, True, False),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublas`", GIB, True, False),
        ("cuDNN error: CUDNN_STATUS_ALLOC_FAILED", GIB, True, False),
        ("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED", GIB, True, False),
        ("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR", 2**20, True, False),
        ("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR", GIB, False, False),
        ("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling", 2**20, True, False),
        ("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling", GIB, False, False),
        ("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling", GIB, False, True),
        ("MPS backend out of memory (MPS allocated: 17.9 GiB)", GIB, True, False),
        ("Insufficient Memory (kIOGPUCommandBufferCallbackErrorOutOfMemory)", GIB, True, False),
        ("CUDA error: device-side assert triggered", GIB, False, True),
        ("CUDA error: unspecified launch failure", GIB, False, True),
        ("CUDA error: uncorrectable ECC error encountered", GIB, False, True),
        ("CUDA error: an illegal memory access was encountered", GIB, False, True),
        ("CUDA driver error: unknown error", GIB, False, True),
        ("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED", GIB, False, True),
        ("HIP error: hipErrorLaunchFailure", GIB, False, True),
        ("Triton Error [CUDA]: an illegal memory access was encountered", GIB, False, True),
        ("Triton Error [CUDA]: out of memory", GIB, True, False),
        ("Triton Error [CUDA]: device kernel image is invalid", GIB, False, False),
        ("CUDA error: invalid argument", GIB, False, False),
        ("mat1 and mat2 shapes cannot be multiplied", GIB, False, False),
    ],
)  # fmt: skip
def test_errors_of_a_gpu_mean_too_little_memory_or_a_lost_card(
    monkeypatch: pytest.MonkeyPatch, message: str, free: int, memory: bool, lost: bool
) -> None:
    install_torch(monkeypatch, [plain_card(free=free)])
    error = torch.AcceleratorError(message)
    assert is_out_of_memory(error) is memory
    assert is_lost(error) is lost


def test_a_lost_gpu_is_named_with_the_reason() -> None:
    error = torch.AcceleratorError("CUDA error: unspecified launch failure\nCUDA kernel errors")
    explanation = lost_device(error, "cuda:0 NVIDIA H100")
    assert explanation.message == "cuda:0 NVIDIA H100 failed: unspecified launch failure"
    assert "Xid" in explanation.hint


# exact mode


def test_exact_mode_sets_one_size_of_workspaces_and_keeps_the_users_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpu = torch.device("cuda:0")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    try:
        set_exactness(True)
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:2"
        monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
        set_exactness(True)
        check_workspace(gpu)
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"
        for wrong in (":4096:2:16:8", "4096", ""):
            monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", wrong)
            check_workspace(torch.device("cpu"))
            with pytest.raises(InputError, match=f'CUBLAS_WORKSPACE_CONFIG is "{wrong}"'):
                check_workspace(gpu)
    finally:
        set_exactness(False)
