"""Names, types and shapes of the tensors in a safetensors file, from its header alone.

The library's own `safe_open` imports numpy or torch.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError

from rnnlm_tui.errors import CheckpointError
from rnnlm_tui.system.files import storage_errors

MAX_HEADER_BYTES = 25_000_000
"""Longer headers are not read; those of our models take some kilobytes."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A tensor in a file."""

    name: str
    dtype: str
    """`F32`, `BF16`, `I64` and so on."""
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Size of its data."""
        return self.size * int(re.sub(r"\D*(\d+).*", r"\1", self.dtype.replace("BOOL", "U8"))) // 8


class _Entry(BaseModel):
    """A tensor in a header."""

    model_config = ConfigDict(strict=True)
    dtype: str = Field(pattern=r"^(BOOL|[A-Z]+\d+(_\w+)?)$", max_length=20)
    shape: tuple[NonNegativeInt, ...]
    data_offsets: tuple[NonNegativeInt, NonNegativeInt]


class _Header(BaseModel):
    """A header; its other fields are the tensors."""

    model_config = ConfigDict(extra="allow", strict=True)
    __pydantic_extra__: dict[str, _Entry] = Field(init=False)
    metadata: dict[str, str] = Field({}, alias="__metadata__")


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
            room = os.fstat(descriptor).st_size - 8
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(room, MAX_HEADER_BYTES):
                raise CheckpointError(
                    f"{path} is not a safetensors file: its header would take {length:,} bytes,"
                    f" the file has {room + 8:,}, and at most {MAX_HEADER_BYTES:,} are read"
                )
            text = file.read(length)
    try:
        header = _Header.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = " ".join(map(repr, first["loc"]))
        raise CheckpointError(f"{path} has a damaged header: {place} {first['msg']}") from error
    end, found = 0, []
    for name, entry in sorted(
        header.__pydantic_extra__.items(), key=lambda one: one[1].data_offsets
    ):
        tensor = TensorInfo(name, entry.dtype, entry.shape)
        if entry.data_offsets != (end, end + tensor.bytes):
            raise CheckpointError(
                f"{path} has a damaged header: {name} has {tensor.bytes:,} bytes by its shape, and"
                f" bytes {entry.data_offsets[0]:,} to {entry.data_offsets[1]:,} by its place"
            )
        end += tensor.bytes
        found.append(tensor)
    if end != room - length:
        raise CheckpointError(
            f"{path} is damaged: its header describes {end:,} bytes, it holds {room - length:,}"
        )
    return header.metadata, tuple(found)
