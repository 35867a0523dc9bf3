"""Write a safetensors file piece by piece, hashed on the way, so that training continues beside it.

The bytes are those of `safetensors.torch.save_file`, which would hold the interpreter until the
whole file is written.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from rnnlm_tui.system.files import open_private, write_whole

PIECE_BYTES = 4 * 2**20
"""Bytes that are checked, hashed or written at once: a few milliseconds."""
_DTYPES = {
    torch.int64: "I64",
    torch.float64: "F64",
    torch.float32: "F32",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""Names in the file, in the order in which safetensors places them."""
_ORDER = tuple(_DTYPES.values())
_ALIGNED = 8


def pieces(tensor: Tensor) -> Iterator[memoryview]:
    """The bytes of a contiguous tensor, in main memory, piece by piece."""
    whole = tensor.detach().reshape(-1).cpu().view(torch.uint8).numpy().data
    for start in range(0, len(whole), PIECE_BYTES):
        yield whole[start : start + PIECE_BYTES]


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write contiguous tensors to a new file; returns the SHA-256.

    Raises:
        OSError: the disk is full or the file can't be written. The caller removes the file.
    """
    names = sorted(tensors, key=lambda name: (_ORDER.index(_DTYPES[tensors[name].dtype]), name))
    hashed = hashlib.sha256()
    descriptor = open_private(path, os.O_WRONLY | os.O_TRUNC)
    try:
        header = _header({name: tensors[name] for name in names})
        hashed.update(header)
        write_whole(descriptor, header)
        for name in names:
            for piece in pieces(tensors[name]):
                write_whole(descriptor, piece)
                hashed.update(piece)
    finally:
        os.close(descriptor)
    return hashed.hexdigest()


def _header(tensors: Mapping[str, Tensor]) -> bytes:
    """The length of the description, and the description in JSON, padded to whole words."""
    facts: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.numel() * tensor.element_size()
        facts[name] = {
            "dtype": _DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(facts, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGNED)
    return len(text).to_bytes(8, "little") + text
