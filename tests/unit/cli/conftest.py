"""Fixtures of the verbs' tests."""

from __future__ import annotations

import pytest

from tests.unit.cli.calls import Verbs


@pytest.fixture
def verb(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Verbs:
    """Calls verbs."""
    return Verbs(capsys, monkeypatch)
