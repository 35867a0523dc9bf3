"""Fixtures of the fault tests: a text to learn from, and no worker that outlives its test."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.integration.conftest import no_worker_stays, one_thread, text, warm

__all__ = ["no_worker_stays", "one_thread", "text", "warm"]


@pytest.fixture
def draw() -> random.Random:
    """Random numbers of a new seed, which a test that fails shows."""
    seed = random.getrandbits(32)
    print(f"seed {seed}")  # noqa: T201 - among what a failed test printed
    return random.Random(seed)


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Give every test of this folder the marker `faults`."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker("faults")
