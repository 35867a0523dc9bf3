"""A new run, the log of its first attempt and its reader. A module may define its own `run`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rnnlm_tui.store.log import RunLog
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
from tests.unit.store.rows import begin, new_run


@pytest.fixture
def run() -> RunDirectory:
    return new_run()


@pytest.fixture
def log(run: RunDirectory) -> Iterator[RunLog]:
    with begin(run) as opened:
        yield opened


@pytest.fixture
def reader(run: RunDirectory) -> Iterator[RunReader]:
    with RunReader(run) as opened:
        yield opened
