"""Kernels with mistakes that `watched_memory` finds, for Triton's interpreter; `test_kernels.py`
runs them."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl

pytestmark = pytest.mark.usefixtures("watched_memory")


@triton.jit  # type: ignore[untyped-decorator]
def _copy(source, target, size, to, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """`target[to + n] = source[n]`, and reads the first number of each block again."""
    places = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(target + to + places, tl.load(source + places, mask=places < size), mask=places < size)
    tl.load(source + tl.program_id(0) * BLOCK)


def copy(source: torch.Tensor, target: torch.Tensor, size: int, to: int = 0) -> None:
    _copy[(2,)](source, target, size, to, BLOCK=4)


def test_a_right_kernel_passes() -> None:
    source, target = torch.arange(6.0), torch.zeros(9)
    copy(source, target, 6)
    copy(source, target[3:], 6)
    copy(target[::2], target.clone(), 5)
    assert target.tolist() == [0, 1, 2, 0, 1, 2, 3, 4, 5]


def test_mistakes_are_found() -> None:
    numbers = torch.arange(16.0)
    for source, target, size, to, mistake in (
        (numbers[:5], numbers[8:], 6, 0, "reads outside"),
        (numbers[:6], numbers[8:13], 6, 0, "writes outside"),
        (numbers[:6], numbers[8:14], 6, -1, "writes outside"),
        (numbers, numbers, 8, 4, "reads what another one has written"),
        (numbers, numbers, 8, 0, "reads what it has written"),
    ):
        with pytest.raises(Exception, match=mistake):
            copy(source, target, size, to)


@triton.jit  # type: ignore[untyped-decorator]
def _scatter(indices, target, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    places = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(target + tl.load(indices + places), 1.0)


@pytest.mark.parametrize(
    ("indices", "mistake"),
    [([0, 1, 2, 2, 3, 4, 5, 6], "two threads"), ([0, 1, 2, 3, 3, 4, 5, 6], "has written")],
)
def test_two_writers_of_a_number_are_found(indices: list[int], mistake: str) -> None:
    with pytest.raises(Exception, match=mistake):
        _scatter[(2,)](torch.tensor(indices), torch.zeros(8), BLOCK=4)
