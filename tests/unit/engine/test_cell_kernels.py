"""The cells' Triton kernels, interpreted on the CPU, and compiled for GPUs that aren't here."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from rnnlm_tui.engine.cells import slstm

from .interpreted import assert_cases_pass, triton


def test_all_cases_pass_interpreted_on_the_cpu() -> None:
    assert_cases_pass("cell_kernel_cases.py")


def compiled(kernel: Any, constants: dict[str, object], capability: int, warps: int) -> Any:
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    numbers = ["steps", "batch", "heads", "size", "width", "candidate_time", "candidate_row"]
    numbers = [name for name in kernel.arg_names if name in numbers]
    pointers = [name for name in kernel.arg_names if name not in {*numbers, *constants}]
    return triton.compile(
        ASTSource(
            kernel,
            signature={
                **dict.fromkeys(pointers, "*fp32"),
                **dict.fromkeys(numbers, "i32"),
                **dict.fromkeys(constants, "constexpr"),
            },
            constexprs=constants,
            attrs={(place,): [["tt.divisibility", 16]] for place in range(len(pointers))},
        ),
        target=GPUTarget("cuda", capability, 32),
        options={"num_warps": warps},
    )


@pytest.mark.parametrize(("capability", "precision"), [(80, "tf32x3"), (90, "tf32")])
def test_slstms_kernels_compile_for_gpus_and_use_their_tensor_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capability: int, precision: str
) -> None:
    from rnnlm_tui.engine.cells import slstm_kernel

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    given = slstm_kernel.settings(32) | {"PRECISION": precision}
    warps = int(given.pop("num_warps"))
    for kernel in (slstm_kernel._forward_kernel, slstm_kernel._backward_kernel):
        found = compiled(kernel, dict(given), capability, warps)
        assert found.metadata.shared <= 99 * 2**10  # the least of these GPUs
        assert "mma.sync" in found.asm["ptx"]  # tensor cores


def test_the_gated_averages_kernels_compile_for_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rnnlm_tui.engine.cells import minimal_kernel

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    for kernel in (minimal_kernel._forward_kernel, minimal_kernel._backward_kernel):
        found = compiled(kernel, {"BLOCK": minimal_kernel.BLOCK}, 90, 4)
        assert found.metadata.shared == 0
        assert ".local" not in found.asm["ptx"]


def test_a_gpu_that_the_kernels_fail_on_uses_single_operations(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpu = torch.device("cuda:0")
    capability = [(7, 5)]
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability[0])
    slstm._tried.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert slstm._tried(gpu, torch.float32, 32, "highest") is None
        capability[0] = (9, 0)
        assert slstm._tried(gpu, torch.float64, 32, "highest") is None
        assert slstm._tried(gpu, torch.float32, 65, "highest") is None
        assert slstm.kernel_for(torch.zeros(2, 8), 4) is None
    with monkeypatch.context() as patch:
        patch.setattr(slstm, "agrees", lambda *_, **__: False)
        with pytest.warns(UserWarning, match="slower without its kernel: its results are wrong"):
            assert slstm._tried(gpu, torch.float32, 16, "highest") is None

    def fail(*_: object, **__: object) -> bool:
        raise RuntimeError("out of resources: shared memory\nmore")

    monkeypatch.setattr(slstm, "agrees", fail)
    with pytest.warns(UserWarning, match="out of resources: shared memory$"):
        assert slstm._tried(gpu, torch.float32, 32, "high") is None
    slstm._tried.cache_clear()
