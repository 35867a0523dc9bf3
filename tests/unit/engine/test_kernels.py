"""The loss's Triton kernels, interpreted on the CPU and compiled for GPUs that aren't here."""

from __future__ import annotations

import pytest
import torch

from rnnlm_tui.schema.memory import VOCAB_ALIGNMENT, aligned

from .compiled import Compiled, OtherGpu
from .compiled import compiled as compiled
from .interpreted import assert_pass_interpreted

T4, A100, H100 = (OtherGpu("cuda", number) for number in (75, 80, 90))
MI300, RX_7900 = OtherGpu("hip", "gfx942"), OtherGpu("hip", "gfx1100")


def test_all_kernels_are_right_interpreted() -> None:
    assert_pass_interpreted("test_loss_kernel.py", "watched_memory_cases.py")


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

    gradient, *others = compiled(gpu, everything)
    assert len(others) == 1
    if gpu.kind == "hip":
        return
    lines = gradient.asm["ptx"].splitlines()
    for kind in ("ld.global", "st.global"):
        moves = [line for line in lines if kind in line]
        # 16 bytes at a time. Besides the logits: target, its logit, count; the loss, twice.
        assert sum(".v4." in line for line in moves) >= len(moves) - 3 > 0, moves
    if dtype == torch.bfloat16:
        assert any("cvt.rn.bf16x2" in line for line in lines)  # rounds to the nearest
