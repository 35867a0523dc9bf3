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


@pytest.mark.parametrize("piece_bytes", [module.PIECE_BYTES, 64])
def test_a_file_has_the_bytes_that_safetensors_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece_bytes: int
) -> None:
    monkeypatch.setattr(module, "PIECE_BYTES", piece_bytes)
    tensors = {
        "layers.1.weight": torch.randn(3, 5),
        "layers.0.weight": torch.randn(5, 11),
        "a scalar": torch.tensor(3.5),
        'ü "quoted"': torch.zeros(0, 4),
        **{f"of {dtype}": torch.ones(7).to(dtype) for dtype in DTYPES},
    }
    if piece_bytes == 64:
        sizes = [len(piece) for piece in pieces(tensors["layers.0.weight"])]
        assert sizes == [64, 64, 64, 28]
    save_file(tensors, tmp_path / "theirs", metadata={"format": "pt"})
    hashed = write_tensors(tmp_path / "ours", tensors)
    ours = (tmp_path / "ours").read_bytes()
    assert ours == (tmp_path / "theirs").read_bytes()
    assert hashed == hashlib.sha256(ours).hexdigest()
