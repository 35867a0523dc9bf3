"""The Triton kernel of the loss, interpreted on the CPU, and compiled for GPUs that aren't here."""

from __future__ import annotations

from pathlib import Path

import pytest

from .interpreted import assert_cases_pass, triton


def test_all_cases_pass_interpreted_on_the_cpu() -> None:
    assert_cases_pass("loss_kernel_cases.py")


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
def test_the_kernel_compiles_for_gpus_and_moves_16_bytes_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, capability: int
) -> None:
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from rnnlm_tui.engine import loss_kernel

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    number = loss_kernel.warps(32_064, 2 if dtype == "bf16" else 4)
    assert number == (16 if dtype == "bf16" else 32)
    constants = {"GRADIENT": True, "BLOCK": number * 512}
    source = ASTSource(
        loss_kernel._softmax_kernel,
        signature={
            "logits": f"*{dtype}",
            "width": "i32",
            "vocab_size": "i32",
            "targets": "*i64",
            "count": "*i64",
            "losses": "*fp32",
            **dict.fromkeys(constants, "constexpr"),
        },
        constexprs=constants,
        attrs={(place,): [["tt.divisibility", 16]] for place in (0, 1, 4)},
    )
    compiled = triton.compile(
        source, target=GPUTarget("cuda", capability, 32), options={"num_warps": number}
    )
    lines = compiled.asm["ptx"].splitlines()
    for kind in ("ld.global", "st.global"):
        moves = [line for line in lines if kind in line]
        # Besides the logits: target, its logit, count; the loss, twice.
        assert sum(".v4." in line for line in moves) >= len(moves) - 3 > 0, moves
    if dtype == "bf16":
        assert any("cvt.rn.bf16x2" in line for line in lines)  # rounds to the nearest
