"""A new run, its writer and its reader. A module may define its own `run`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rnnlm_tui.store.database import RunDatabase
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
from tests.unit.store.rows import new_run


@pytest.fixture
def run() -> RunDirectory:
    return new_run()


@pytest.fixture
def database(run: RunDirectory) -> Iterator[RunDatabase]:
    with RunDatabase(run.database_path) as opened:
        yield opened


@pytest.fixture
def reader(run: RunDirectory) -> Iterator[RunReader]:
    with RunReader(run) as opened:
        yield opened
