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
"""Bytes that are copied from a device, checked, hashed or written at once: a few milliseconds."""
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


class HostBytes:
    """Reads tensors as bytes in main memory, a piece at a time.

    A GPU's are copied on a separate stream to two pinned buffers, of which one is filled while
    the other is used. Threads may take turns.

    Args:
        ready: on a GPU, the moment from which the tensors may be read.
    """

    def __init__(self, ready: torch.cuda.Event | None = None) -> None:
        self._ready = ready
        self._buffers: tuple[Tensor, ...] = ()
        self._filled: tuple[torch.cuda.Event, ...] = ()
        self._stream: torch.cuda.Stream | None = None

    def pieces(self, tensor: Tensor) -> Iterator[memoryview]:
        """The bytes of a contiguous tensor; each piece is valid until the next is taken."""
        flat = tensor.detach().reshape(-1)
        if flat.device.type == "cuda":
            yield from self._from_gpu(flat.view(torch.uint8))
            return
        whole = flat.cpu().view(torch.uint8).numpy().data
        for start in range(0, len(whole), PIECE_BYTES):
            yield whole[start : start + PIECE_BYTES]

    def _from_gpu(self, flat: Tensor) -> Iterator[memoryview]:
        if self._stream is None:
            # A new thread's device is the first GPU, on which leaving a stream would start CUDA.
            torch.cuda.set_device(flat.device)
            self._stream = torch.cuda.Stream(flat.device)  # type: ignore[no-untyped-call]
            self._buffers = tuple(
                torch.empty(PIECE_BYTES, dtype=torch.uint8, pin_memory=True) for _ in range(2)
            )
            # Blocking: a thread that waits for a copy leaves its core to the training thread.
            self._filled = tuple(
                torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
                for _ in range(2)
            )
            if self._ready is not None:
                self._stream.wait_event(self._ready)
        starts = range(0, len(flat), PIECE_BYTES)
        parts = [flat[start : start + PIECE_BYTES] for start in starts]
        for number, part in enumerate(parts):
            self._fill(number % 2, part, self._stream)
            if number:
                yield self._read((number - 1) % 2, PIECE_BYTES)
        if parts:
            yield self._read((len(parts) - 1) % 2, len(parts[-1]))

    def _fill(self, which: int, part: Tensor, stream: torch.cuda.Stream) -> None:
        with torch.cuda.stream(stream):
            self._buffers[which][: len(part)].copy_(part, non_blocking=True)
            self._filled[which].record(stream)

    def _read(self, which: int, size: int) -> memoryview:
        self._filled[which].synchronize()
        return self._buffers[which][:size].numpy().data


def write_tensors(path: Path, tensors: Mapping[str, Tensor], host: HostBytes) -> str:
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
            for piece in host.pieces(tensors[name]):
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
