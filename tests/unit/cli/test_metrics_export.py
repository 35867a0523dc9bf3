"""The verb `metrics` with --format: its output, and what it asks for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.cli.calls import Verbs
from tests.unit.client.logs import record
from tests.unit.store.rows import evaluation_row, new_run, step_row


@pytest.fixture(autouse=True)
def otter() -> None:
    record(new_run(), *map(step_row, range(1, 4)), evaluation_row(3))


def test_what_is_in_the_folder_is_reported(tmp_path: Path, verb: Verbs) -> None:
    out = tmp_path / "out"
    words = f"metrics plain --format csv --to {out}"
    assert verb(words).out == f"{out}: 3 steps, 1 evaluation\n"
    found = verb.json(f"{words} --follow")
    assert found["rows"] == {
        "steps": 3, "evaluations": 1, "samples": 0, "events": 0, "machine": 0
    }  # fmt: skip
    assert (found["run"], found["folder"]) == ("plain-otter", str(out))
    assert (found["step"], found["ended"]) == (3, True)
    assert "steps.csv" in found["files"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--format csv", "--to is missing"),
        ("--format parquet", "metrics plain-otter --format parquet --to FOLDER\n"),
        ("--to 'a b' --follow", "metrics plain-otter --format csv --to 'a b' --follow\n"),
        ("--to x", "--format is missing"),
        ("--follow", "--format is missing"),
        ("--format csv --to x --csv", "mutually exclusive"),
        ("--format csv --to x --evaluations", "mutually exclusive"),
        ("--format xml --to x", "xml"),
    ],
)
def test_incomplete_requests_are_refused(options: str, words: str, verb: Verbs) -> None:
    assert words in verb(f"metrics plain {options}", code=2).err
