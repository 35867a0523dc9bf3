"""Fixtures of the fault tests: a text to learn from, and no worker that outlives its test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.integration.conftest import no_worker_stays, one_thread, text, warm

__all__ = ["no_worker_stays", "one_thread", "text", "warm"]


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Give every test of this folder the marker `faults`."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker("faults")
