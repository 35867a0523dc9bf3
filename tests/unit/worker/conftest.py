"""A recorder of a run in the test's folder, and the disk of its log."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.worker.recorder import Recorder
from tests.unit.worker.stores import Disk, recorder_of


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    with recorder_of(RunDirectory(tmp_path)) as recorder:
        yield recorder
