"""Caches for repeated reads."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from rnnlm_tui.store.series import Cached, Tail

QUERY = "SELECT id, word FROM words WHERE id > ? ORDER BY id DESC LIMIT ?"


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as opened:
        opened.execute("CREATE TABLE words (id INTEGER PRIMARY KEY, word TEXT)")
        yield opened


def add(connection: sqlite3.Connection, *words: str) -> None:
    connection.executemany("INSERT INTO words VALUES (NULL, ?)", [(word,) for word in words])


def test_a_cached_value_is_computed_once_per_key() -> None:
    known, made = Cached[list[int]](), list[int]()

    def work_out() -> list[int]:
        made.append(1)
        return list(made)

    assert known.of("a", work_out) is known.of("a", work_out)
    assert known.of("b", work_out) == [1, 1]
    assert known.of(None, work_out) == [1, 1, 1]


def test_a_tail_keeps_the_newest_rows_and_converts_each_once(
    connection: sqlite3.Connection,
) -> None:
    made: list[str] = []

    def make(row: tuple[str, ...]) -> str:
        made.append(row[0])
        return row[0].upper()

    tail = Tail(QUERY, make, 3)
    assert tail.rows(connection, 1) == []
    add(connection, "one", "two", "three", "four")
    rows = tail.rows(connection, 1)
    assert rows == ["TWO", "THREE", "FOUR"]
    assert tail.rows(connection, 1) is rows
    add(connection, "five")
    assert (tail.rows(connection, 1), rows) == (["THREE", "FOUR", "FIVE"], ["TWO", "THREE", "FOUR"])
    assert made == ["two", "three", "four", "five"]
    connection.execute("DELETE FROM words WHERE id > 2")
    assert tail.rows(connection, 2) == ["ONE", "TWO"]


def test_a_tail_without_a_limit_keeps_all_rows(connection: sqlite3.Connection) -> None:
    tail = Tail(QUERY, lambda row: str(row[0]), None)
    add(connection, *"abc")
    tail.rows(connection, 0)
    add(connection, *"def")
    assert "".join(tail.rows(connection, 0)) == "abcdef"
