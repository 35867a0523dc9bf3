"""Usable cores by affinity and container quota, and their loads."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from rnnlm_tui.system.machine import core_loads, usable_cores


@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        ("max 100000\n", 8),
        ("250000 100000\n", 2),
        ("10000 100000\n", 1),
        ("1600000 100000\n", 8),
        ("", 8),
    ],
)
def test_usable_cores_respect_affinity_and_quota(
    monkeypatch: pytest.MonkeyPatch, quota: str, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    monkeypatch.setattr(Path, "read_text", lambda path, encoding: quota)
    assert usable_cores() == expected


@pytest.mark.parametrize(("chosen", "loads"), [({1, 2}, [0.5, 0.0]), ({0, 9}, [1.0, 0.5, 0.0])])
def test_loads_are_of_the_cores_in_the_affinity_or_of_all(
    monkeypatch: pytest.MonkeyPatch, chosen: set[int], loads: list[float]
) -> None:
    monkeypatch.setattr(psutil, "cpu_percent", lambda percpu: [100.0, 50.0, 0.0])
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: chosen)
    assert core_loads() == loads
    monkeypatch.delattr(os, "sched_getaffinity")
    assert core_loads() == [1.0, 0.5, 0.0]
