"""Names, types and shapes of the tensors in a safetensors file, from its header alone."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path

from rnnlm_tui.errors import CheckpointError
from rnnlm_tui.system.files import storage_errors

MAX_HEADER_BYTES = 25_000_000
"""Longer headers are not read; those of our models take some kilobytes."""
_ITEM_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8,
    "U32": 4, "U16": 2, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A tensor in a file."""

    name: str
    dtype: str
    """`F32`, `BF16`, `I64` and so on."""
    shape: tuple[int, ...]
    bytes: int

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


def read_header(path: Path) -> tuple[dict[str, str], tuple[TensorInfo, ...]]:
    """The metadata of a safetensors file and its tensors in the order of their data; reads only the
    header.

    Raises:
        CheckpointError: not a safetensors file, or its header doesn't fit its size: says how.
        StorageError: the file can't be read, or is a link.
    """
    with storage_errors("read", path):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            size = os.fstat(descriptor).st_size
            start = file.read(8)
            length = int.from_bytes(start, "little")
            if len(start) < 8 or not 2 <= length <= size - 8:
                raise CheckpointError(
                    f"{path} is not a safetensors file: its header would take {length:,} bytes,"
                    f" the file has {size:,}"
                )
            if length > MAX_HEADER_BYTES:
                raise CheckpointError(
                    f"{path} has a header of {length:,} bytes: at most {MAX_HEADER_BYTES:,} are"
                    " read"
                )
            text = file.read(length)
    try:
        header = json.loads(text)
        if not isinstance(header, dict):
            raise TypeError("it is not an object")
        metadata = header.pop("__metadata__", {})
        found = sorted(
            (_tensor(name, values) for name, values in header.items()),
            key=lambda found: found[0],
        )
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise CheckpointError(f"{path} has a damaged header: {error}") from error
    end = 0
    for (first, last), tensor in found:
        if first != end or last - first != tensor.bytes:
            raise CheckpointError(
                f"{path} has a damaged header: {tensor.name} has {tensor.bytes:,} bytes by its"
                f" shape, and bytes {first:,} to {last:,} by its place"
            )
        end = last
    if end != size - 8 - length:
        raise CheckpointError(
            f"{path} is damaged: its header describes {end:,} bytes, it holds {size - 8 - length:,}"
        )
    return metadata, tuple(tensor for _, tensor in found)


def _tensor(name: str, values: object) -> tuple[tuple[int, int], TensorInfo]:
    if not isinstance(values, dict):
        raise TypeError(f"{name!r} is not an object")
    shape, place = values["shape"], values["data_offsets"]
    if not _are_sizes(shape) or not _are_sizes(place) or len(place) != 2:
        raise ValueError(f"{name!r} has no valid shape and place")
    dtype = str(values["dtype"])
    if dtype not in _ITEM_BYTES:
        raise ValueError(f"{name!r} has the unknown type {dtype[:20]!r}")
    info = TensorInfo(name, dtype, tuple(shape), math.prod(shape) * _ITEM_BYTES[dtype])
    return (place[0], place[1]), info


def _are_sizes(values: object) -> bool:
    return isinstance(values, list) and all(
        isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 60
        for value in values
    )
