"""Safetensors files that are written in pieces."""

from __future__ import annotations

import hashlib
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from rnnlm_tui.engine import tensor_file as module
from rnnlm_tui.engine.tensor_file import HostBytes, write_tensors

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
    hashed = write_tensors(tmp_path / "ours", tensors, HostBytes())
    ours = (tmp_path / "ours").read_bytes()
    assert ours == (tmp_path / "theirs").read_bytes()
    assert hashed == hashlib.sha256(ours).hexdigest()


def test_a_large_tensor_is_written_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PIECE_BYTES", 64)
    tensors = {"weight": torch.randn(5, 11), "bias": torch.randn(3)}
    pieces = [len(piece) for piece in HostBytes().pieces(tensors["weight"])]
    assert pieces == [64, 64, 64, 28]
    write_tensors(tmp_path / "ours", tensors, HostBytes())
    save_file(tensors, tmp_path / "theirs", metadata={"format": "pt"})
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 128, 300])
def test_pieces_of_a_gpus_tensor_are_read_before_their_buffer_is_filled_again(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty, done = torch.empty, list[str]()

    class Event:
        def __init__(self, *, blocking: bool) -> None:
            assert blocking, "a thread that waits must not keep a core busy"

        def record(self, _stream: object) -> None:
            done.append("filled")

        def synchronize(self) -> None:
            done.append("waited")

    monkeypatch.setattr(module, "PIECE_BYTES", 64)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "set_device", lambda _device: None)
    monkeypatch.setattr(torch.cuda, "Stream", lambda _device: object())
    monkeypatch.setattr(torch.cuda, "stream", lambda _stream: nullcontext())

    def unpinned(*sizes: int, pin_memory: bool, **named: Any) -> torch.Tensor:
        assert pin_memory
        return empty(*sizes, **named)

    monkeypatch.setattr(torch, "empty", unpinned)
    flat = torch.arange(size, dtype=torch.int64).to(torch.uint8)
    host = HostBytes()
    for _ in range(2):  # the buffers are used again for the next tensor
        assert b"".join(bytes(piece) for piece in host._from_gpu(flat)) == bytes(flat.tolist())
    parts = -(-size // 64)
    once = ["filled", *["filled", "waited"] * (parts - 1), "waited"] if parts else []
    assert done == once * 2
