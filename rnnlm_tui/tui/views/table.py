"""Columns of the tables of runs, checkpoints and compared runs, and their cells."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from textual.content import Content

KeyT = TypeVar("KeyT", bound=str)
RowT = TypeVar("RowT")
BesideT = TypeVar("BesideT")


@dataclass(frozen=True)  # with slots, Python 3.11 can't make one of a generic alias
class Column(Generic[KeyT, RowT, BesideT]):
    """A column of a table."""

    key: KeyT | None
    """The order that its heading selects."""
    head: str
    """The heading. One that ends in a blank has its arrow there."""
    width: int
    cell: Callable[[RowT, int, BesideT], Content]
    """Return a row's content for this many cells, given what the table shows besides the rows."""
    left: bool = False
    """Whether heading and cells are at the left."""


def row_of(columns: Sequence[Column[KeyT, RowT, BesideT]], row: RowT, beside: BesideT) -> Content:
    """Join a row's cells."""
    return Content("").join(
        fitted(column.cell(row, column.width, beside), column.width, left=column.left)
        for column in columns
    )


def fitted(content: Content, width: int, *, left: bool) -> Content:
    """Fit the content into exactly `width` cells, aligned left or right."""
    if content.cell_length > width:
        return content.truncate(width, ellipsis=True)
    space = " " * (width - content.cell_length)
    return Content.assemble(content, space) if left else Content.assemble(space, content)
