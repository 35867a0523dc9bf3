"""What was read before and is read again only where it changed, so that a look costs what is new: `Cached` for a value, `Tail` for the newest rows of a table."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from rnnlm_tui.store.schema import all_rows

RowT = TypeVar("RowT")
ValueT = TypeVar("ValueT")


class Cached(Generic[ValueT]):
    """A value that is worked out again only when the state that it comes from is another."""

    def __init__(self) -> None:
        self._held: tuple[object, ValueT] | None = None

    def of(self, state: object, work_out: Callable[[], ValueT]) -> ValueT:
        """The value of this state; the same object while the state is equal."""
        if self._held is None or self._held[0] != state:
            self._held = (state, work_out())
        return self._held[1]


class Tail(Generic[RowT]):
    """The newest rows of a table, ordered by a number that grows with each row.

    Args:
        query: gives that number and then what `make` takes, of the rows after a number, the newest first, and at most so many of them.
        limit: so many rows are kept; None: all.
    """

    def __init__(self, query: str, make: Callable[[tuple[Any, ...]], RowT], limit: int | None) -> None:
        self._query = query
        self._make = make
        self._limit = limit
        self._key: object = None
        self._newest = 0
        self._rows: list[RowT] = []

    def rows(self, connection: sqlite3.Connection, key: object) -> list[RowT]:
        """The rows, the newest last, and the same list while none is new; all are read again when `key` changes: what was there before may be others now."""
        if key != self._key:
            self._key, self._newest, self._rows = key, 0, []
        found = all_rows(connection, self._query, (self._newest, -1 if self._limit is None else self._limit))
        if found:
            self._newest = int(found[0][0])
            rows = [*self._rows, *(self._make(row[1:]) for row in reversed(found))]
            self._rows = rows if self._limit is None else rows[max(0, len(rows) - self._limit) :]
        return self._rows
