"""The header of a safetensors file, read without its data."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from rnnlm_tui.errors import CheckpointError, StorageError
from rnnlm_tui.store.tensors import TensorInfo, read_header


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_file(
        {
            "embedding.weight": torch.zeros(5, 3),
            "steps": torch.zeros((), dtype=torch.int64),
            "output.bias": torch.zeros(5, dtype=torch.bfloat16),
        },
        path,
        metadata={"format": "pt"},
    )
    return path


def test_names_types_and_shapes_are_those_that_were_written(weights: Path) -> None:
    _, found = read_header(weights)
    assert set(found) == {
        TensorInfo("embedding.weight", "F32", (5, 3)),
        TensorInfo("steps", "I64", ()),
        TensorInfo("output.bias", "BF16", (5,)),
    }
    assert sum(tensor.size for tensor in found) == 21


F32 = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


@pytest.mark.parametrize(
    ("header", "data", "words"),
    [
        (b"[1]", b"", "damaged header"),
        (b"[" * 50_000, b"", "damaged header"),
        ({"w": 3}, b"", "damaged header: 'w' "),
        ({"w": {"dtype": "F32"}}, b"", "damaged header: 'w' 'shape' Field required"),
        ({"w": {**F32, "dtype": "X"}}, b"1234", "damaged header: 'w' 'dtype'"),
        ({"w": {**F32, "shape": [-1]}}, b"1234", "damaged header: 'w' 'shape' 0"),
        ({"w": {**F32, "shape": [2]}}, b"1234", "has 8 bytes by"),
        ({"w": {**F32, "data_offsets": [4, 8]}}, b"12345678", "4 to 8 by"),
        ({"v": F32, "w": F32}, b"1234", "0 to 4 by"),
        ({"w": F32}, b"12", "it holds 2"),
        ({"w": {**F32, "shape": [1 << 50, 1 << 50]}}, b"", "by"),
        ({}, b"more", "describes 0 bytes, it holds 4"),
        (b"", b"", "not a safetensors file"),
    ],
)
def test_a_header_that_lies_is_refused(
    tmp_path: Path, header: object, data: bytes, words: str
) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    with pytest.raises(CheckpointError, match="safetensors") as caught:
        read_header(path)
    assert words in caught.value.message


def test_a_length_beyond_the_file_or_the_limit_is_refused_without_reading(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    for length, size in ((0, 0), (2**64 - 1, 8), (100, 10), (30_000_000, 40_000_000)):
        path.write_bytes(length.to_bytes(8, "little")[:size])
        os.truncate(path, size)
        with pytest.raises(CheckpointError, match=r"not a safetensors file.*25,000,000 are read"):
            read_header(path)


def test_any_changed_byte_gives_tensors_or_an_error_of_ours(weights: Path) -> None:
    draw, whole = random.Random(1), weights.read_bytes()
    for _ in range(400):
        changed = bytearray(whole)
        changed[draw.randrange(len(whole))] = draw.randrange(256)
        weights.write_bytes(bytes(changed[: draw.choice((len(whole), draw.randrange(len(whole))))]))
        try:
            read_header(weights)
        except CheckpointError:
            continue


def test_links_folders_and_missing_files_are_refused(tmp_path: Path, weights: Path) -> None:
    link = tmp_path / "link.safetensors"
    link.symlink_to(weights)
    for path in (link, tmp_path, tmp_path / "none"):
        with pytest.raises(StorageError):
            read_header(path)
