"""Safetensors files that are written in pieces."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from rnnlm_tui.engine import tensor_file as module
from rnnlm_tui.engine.tensor_file import pieces, write_tensors

DTYPES = (
    torch.float32,
    torch.uint8,
    torch.int64,
    torch.bfloat16,
    torch.float64,
    torch.bool,
    torch.int8,
    torch.int32,
    torch.float16,
    torch.int16,
)


def test_a_file_has_the_bytes_that_safetensors_writes(tmp_path: Path) -> None:
    tensors = {
        "layers.1.weight": torch.randn(3, 5),
        "layers.0.weight": torch.randn(5, 3),
        "a scalar": torch.tensor(3.5),
        'ü "quoted"': torch.zeros(0, 4),
        **{f"of {dtype}": torch.ones(7).to(dtype) for dtype in DTYPES},
    }
    save_file(tensors, tmp_path / "theirs", metadata={"format": "pt"})
    hashed = write_tensors(tmp_path / "ours", tensors)
    ours = (tmp_path / "ours").read_bytes()
    assert ours == (tmp_path / "theirs").read_bytes()
    assert hashed == hashlib.sha256(ours).hexdigest()


def test_a_large_tensor_is_written_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PIECE_BYTES", 64)
    tensors = {"weight": torch.randn(5, 11), "bias": torch.randn(3)}
    assert [len(piece) for piece in pieces(tensors["weight"])] == [64, 64, 64, 28]
    write_tensors(tmp_path / "ours", tensors)
    save_file(tensors, tmp_path / "theirs", metadata={"format": "pt"})
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
