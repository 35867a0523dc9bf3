"""Caches for repeated reads: `Cached` for a value, `Tail` for the newest rows of a table."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from rnnlm_tui.store.schema import all_rows

RowT = TypeVar("RowT")
ValueT = TypeVar("ValueT")


class Cached(Generic[ValueT]):
    """A value that is computed again only if its key changes."""

    def __init__(self) -> None:
        self._held: tuple[object, ValueT] | None = None

    def of(self, state: object, work_out: Callable[[], ValueT]) -> ValueT:
        """The value for this key; the same object while the key is equal."""
        if self._held is None or self._held[0] != state:
            self._held = (state, work_out())
        return self._held[1]


class Tail(Generic[RowT]):
    """The newest rows of a table, ordered by an increasing number; only new rows are read.

    Args:
        query: selects that number and the arguments of `make`, newest first; its parameters are the
            last known number and the most rows to return.
        limit: number of rows to keep; None: all.
    """

    def __init__(self, query: str, make: Callable[[tuple[Any, ...]], RowT], limit: int | None) -> None:
        self._query = query
        self._make = make
        self._limit = limit
        self._key: object = None
        self._newest = 0
        self._rows: list[RowT] = []

    def rows(self, connection: sqlite3.Connection, key: object) -> list[RowT]:
        """The rows, newest last; the same list if none is new. All are read again when `key` changes."""
        if key != self._key:
            self._key, self._newest, self._rows = key, 0, []
        found = all_rows(connection, self._query, (self._newest, -1 if self._limit is None else self._limit))
        if found:
            self._newest = int(found[0][0])
            rows = [*self._rows, *(self._make(row[1:]) for row in reversed(found))]
            self._rows = rows if self._limit is None else rows[max(0, len(rows) - self._limit) :]
        return self._rows
