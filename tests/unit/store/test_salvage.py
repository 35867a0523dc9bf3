"""Read rows from damaged databases."""

from __future__ import annotations

import sqlite3
from collections import Counter
from pathlib import Path

import pytest

from rnnlm_tui.store.database import RunDatabase
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.salvage import PAGE_BYTES, salvaged_rows, scan_records
from rnnlm_tui.store.schema import tables_since
from tests.unit.store.rows import (
    begin,
    checkpoint_row,
    evaluation_row,
    event_row,
    new_run,
    sample_row,
    step_row,
)

STEPS = 3_000


@pytest.fixture
def run() -> RunDirectory:
    """A run with rows in each salvaged table."""
    run = new_run()
    with RunDatabase(run.database_path) as database:
        begin(database)
        database.add_steps([step_row(step) for step in range(1, STEPS + 1)])
        database.add_steps([step_row(STEPS + 1, loss=float("nan"))])
        database.add_evaluation(evaluation_row(100))
        database.add_sample(sample_row(100, text="long " * 4_000))
        database.add_event(event_row("running"))
        database.put_checkpoint(checkpoint_row(100, validation_loss=4.0))
        database.journal_command("a", "pause", "{}", "{}")
    return run


def _rows(path: Path) -> dict[str, set[tuple[object, ...]]]:
    """All rows as SQLite reads them."""
    with sqlite3.connect(path) as connection:
        tables = [
            name
            for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        found = {
            name: set(connection.execute(f"SELECT * FROM {name}").fetchall()) for name in tables
        }
    connection.close()
    return {name: rows for name, rows in found.items() if rows and name != "rollups"}


def _salvaged(path: Path) -> dict[str, set[tuple[object, ...]]]:
    found: dict[str, set[tuple[object, ...]]] = {}
    for table, row in salvaged_rows(path):
        found.setdefault(table, set()).add(row)
    return found


def test_the_schema_fits_on_the_first_page() -> None:
    with sqlite3.connect(":memory:") as fresh:
        fresh.executescript(tables_since(0))
        content = fresh.serialize()
    fresh.close()
    assert content[100] == 13, "a leaf page: the schema needs no second one"
    assert int.from_bytes(content[16:18], "big") == PAGE_BYTES


def test_an_intact_file_gives_every_row(run: RunDirectory) -> None:
    assert _salvaged(run.database_path) == _rows(run.database_path)


@pytest.mark.parametrize(
    "lost",
    [range(1), range(14), (3,)],
    ids=["the first page", "the root of every table", "the root of the steps"],
)
def test_rows_are_found_without_their_inner_pages(run: RunDirectory, lost: range) -> None:
    whole = _rows(run.database_path)
    content = bytearray(run.database_path.read_bytes())
    for page in lost:
        content[page * PAGE_BYTES : (page + 1) * PAGE_BYTES] = bytes(PAGE_BYTES)
    run.database_path.write_bytes(content)
    found = _salvaged(run.database_path)
    assert all(rows <= whole[table] for table, rows in found.items())
    assert len(found["steps"]) >= 0.97 * STEPS
    if len(lost) == 1:
        assert {name: rows for name, rows in found.items() if name != "steps"} == {
            name: rows for name, rows in whole.items() if name != "steps"
        }


def test_random_bytes_give_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    for content in (
        b"",
        b"\x0d" * 50_000,
        b"\x0a\x00\x00\xff\xff" * 9_000,
        b"SQLite format 3\0" + b"\x02" * 50_000,
    ):
        path.write_bytes(content)
        assert _salvaged(path) == {}
    path.unlink()
    assert _salvaged(path) == {}


@pytest.mark.parametrize(
    "nonsense",
    [
        "INSERT INTO events VALUES (NULL, 1, 5, 'celebrated', '', 1.0, 0)",
        "INSERT INTO events VALUES (NULL, -1, 5, 'note', '', 1.0, 0)",
        "INSERT INTO events VALUES (NULL, 1, 'five', 'note', '', 1.0, 0)",
        (
            "INSERT INTO evaluations VALUES (NULL, 1, 5, 'training', 'x', 1.0, 5, 1.0, 1.0, 1.0,"
            " NULL, 0, NULL, NULL, NULL)"
        ),
        (
            "INSERT INTO evaluations VALUES (NULL, 1, 5, 'test', 'x', NULL, 5, 1.0, 1.0, 1.0,"
            ' \'{"loss": "nbn"}\', 0, NULL, NULL, NULL)'
        ),
        "INSERT INTO attempts VALUES (7, 1, 'host', '', 'cpu', 0, '{\"torn', 1.0)",
    ],
)
def test_rows_that_no_worker_could_have_written_are_skipped(
    run: RunDirectory, nonsense: str
) -> None:
    whole = _rows(run.database_path)
    with sqlite3.connect(run.database_path) as raw:
        raw.execute(nonsense)
    raw.close()
    assert _salvaged(run.database_path) == whole


def test_a_page_gives_records_of_every_type_and_length(tmp_path: Path) -> None:
    path = tmp_path / "any.db"
    rows = [
        (index, value)
        for index, value in enumerate(
            [None, 0, 1, -1, 300, -70_000, 2**40, -(2**62), 1.5, "", "ü", "long" * 5_000]
        )
    ]
    with sqlite3.connect(path) as raw:
        raw.execute("CREATE TABLE with_rowid (id INTEGER PRIMARY KEY, value)")
        raw.execute("CREATE TABLE without (id INTEGER PRIMARY KEY, value) WITHOUT ROWID")
        for table in ("with_rowid", "without"):
            raw.executemany(f"INSERT INTO {table} VALUES (?, ?)", rows)
    raw.close()
    found = Counter(
        (record.rowid if record.rowid is not None else record.values[0], record.values[1])
        for record in scan_records(path)
        if len(record.values) == 2
    )
    assert found == dict.fromkeys(rows, 2)
