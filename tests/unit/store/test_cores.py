"""Cores are those of the affinity, or fewer where a container allows fewer."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rnnlm_tui.store.cores import usable_cores


@pytest.mark.parametrize(("quota", "expected"), [("max 100000\n", 8), ("250000 100000\n", 2), ("10000 100000\n", 1), ("1600000 100000\n", 8), ("", 8)])
def test_cores_are_bounded_by_affinity_and_quota(monkeypatch: pytest.MonkeyPatch, quota: str, expected: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    monkeypatch.setattr(Path, "read_text", lambda path, encoding: quota)
    assert usable_cores() == expected
