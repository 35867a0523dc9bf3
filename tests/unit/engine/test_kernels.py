"""The engine's Triton kernels, interpreted on the CPU and compiled for GPUs that aren't here."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from rnnlm_tui.engine.cells import minimal, slstm
from rnnlm_tui.engine.kernel_trial import LARGEST_STEP
from rnnlm_tui.schema.memory import VOCAB_ALIGNMENT, aligned

from .compiled import SHARED_BYTES, Compiled, OtherGpu
from .compiled import compiled as compiled
from .interpreted import assert_pass_interpreted

A100, RTX_3090, H100, RTX_5090 = (OtherGpu("cuda", number) for number in (80, 86, 90, 120))
T4, MI300, RX_7900 = OtherGpu("cuda", 75), OtherGpu("hip", "gfx942"), OtherGpu("hip", "gfx1100")


def test_all_kernels_are_right_interpreted() -> None:
    assert_pass_interpreted(
        "test_cell_kernels.py", "test_loss_kernel.py", "watched_memory_cases.py"
    )


@pytest.mark.parametrize(
    ("gpu", "head_width", "precision"),
    [
        (A100, 64, "high"),
        (RTX_3090, 64, "highest"),  # the most shared memory
        (H100, 32, "high"),
        (RTX_5090, 50, "highest"),  # rows that begin anywhere
        (H100, 8, "highest"),
    ],
)
def test_slstms_kernels_compile_for_gpus(
    compiled: Compiled,
    monkeypatch: pytest.MonkeyPatch,
    gpu: OtherGpu,
    head_width: int,
    precision: str,
) -> None:
    from rnnlm_tui.engine.cells import slstm_kernel

    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: precision)
    steps, batch, heads = 2, 3, 2
    state = tuple(torch.zeros(batch, heads * head_width) for _ in range(4))
    projected = torch.zeros(steps, batch, 4 * heads * head_width)
    weight = torch.zeros(4 * heads * head_width, head_width)

    def both_ways() -> None:
        passed, _ = slstm_kernel.forward(projected, state, weight, heads)
        slstm_kernel.backward(passed.hidden_TBH, passed, state, weight)

    kernels = compiled(gpu, both_ways)
    assert [kernel.metadata.name for kernel in kernels] == ["_forward_kernel", "_backward_kernel"]
    for kernel in kernels:
        assert kernel.metadata.shared <= SHARED_BYTES
        assert ("mma.sync" in kernel.asm["ptx"]) == (head_width <= 32 or precision == "high")


@pytest.mark.parametrize("shape", [(3, 5, 50), (1, 1, 1)])
@pytest.mark.parametrize("gpu", [A100, H100])
def test_the_gated_averages_kernels_compile_for_gpus(
    compiled: Compiled, gpu: OtherGpu, shape: tuple[int, int, int]
) -> None:
    from rnnlm_tui.engine.cells import minimal_kernel

    steps, batch, width = shape
    gate = torch.zeros(shape)
    candidate = torch.zeros(steps, batch, 2 * width)[:, :, width:]
    state = torch.zeros(batch, width)

    def both_ways() -> None:
        hidden = minimal_kernel.forward(gate, candidate, state)
        minimal_kernel.backward(hidden, gate, candidate, state, hidden)

    kernels = compiled(gpu, both_ways)
    assert len(kernels) == 2
    for kernel in kernels:
        assert kernel.metadata.shared == 0
        assert ".local" not in kernel.asm["ptx"]


@pytest.mark.parametrize("vocab_size", [70, 32_011])
@pytest.mark.parametrize(
    ("gpu", "dtype"),
    [
        (T4, torch.float32),
        (A100, torch.bfloat16),
        (H100, torch.bfloat16),
        (H100, torch.float32),
        (MI300, torch.bfloat16),
        (RX_7900, torch.float32),
    ],
)
def test_the_losss_kernels_compile_for_gpus(
    compiled: Compiled,
    monkeypatch: pytest.MonkeyPatch,
    gpu: OtherGpu,
    dtype: torch.dtype,
    vocab_size: int,
) -> None:
    from rnnlm_tui.engine.loss_kernel import KERNEL

    monkeypatch.setattr(torch.version, "hip", "6.4" if gpu.kind == "hip" else None)
    logits = torch.zeros(3, aligned(vocab_size, VOCAB_ALIGNMENT), dtype=dtype)
    targets, count = torch.zeros(3, dtype=torch.int64), torch.tensor(3)

    def everything() -> None:
        KERNEL.gradient(logits, targets, count, vocab_size)
        KERNEL.losses(logits, targets, vocab_size)
        KERNEL.scale(torch.zeros(5_000), torch.tensor(1.0))

    gradient, *others = compiled(gpu, everything)
    assert len(others) == 2
    if gpu.kind == "hip":
        return
    lines = gradient.asm["ptx"].splitlines()
    for kind in ("ld.global", "st.global"):
        moves = [line for line in lines if kind in line]
        # 16 bytes at a time. Besides the logits: target, its logit, count; the loss, twice.
        assert sum(".v4." in line for line in moves) >= len(moves) - 3 > 0, moves
    if dtype == torch.bfloat16:
        assert any("cvt.rn.bf16x2" in line for line in lines)  # rounds to the nearest


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


def test_a_state_whose_offsets_need_64_bits_uses_single_operations(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a GPU, the kernels would then write somewhere else."""
    monkeypatch.setattr(slstm, "_tried", lambda *_: "kernel")
    monkeypatch.setattr(minimal, "_tried", lambda *_: "kernel")
    for rows, uses_kernel in ((LARGEST_STEP // 64 - 1, True), (LARGEST_STEP // 64, False)):
        with FakeTensorMode():
            state = torch.empty(rows, 64, device="cuda:0")
            steps = torch.empty(9, rows, 64, device="cuda:0")
        assert (slstm.kernel_for(state, 16) is not None) == uses_kernel
        assert (minimal.kernel_for(steps) is not None) == uses_kernel
