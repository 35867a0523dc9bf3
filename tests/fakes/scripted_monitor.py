"""A run monitor that returns scripted snapshots."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import pytest

from rnnlm_tui.client import monitor
from rnnlm_tui.client.monitor import RunSnapshot
from rnnlm_tui.store.paths import RunDirectory


def play(
    monkeypatch: pytest.MonkeyPatch, script: Sequence[RunSnapshot | BaseException | None]
) -> list[tuple[RunDirectory, int]]:
    """Return the next scripted snapshot at each poll; the result collects each opened run and its
    buckets."""
    steps = iter(script)
    opened: list[tuple[RunDirectory, int]] = []

    class Scripted:
        reader = SimpleNamespace(refresh=lambda report: None)

        def __init__(self, run: RunDirectory, *, max_buckets: int) -> None:
            opened.append((run, max_buckets))

        def snapshot(self) -> RunSnapshot:
            found = self.poll()
            assert found is not None
            return found

        def poll(self) -> RunSnapshot | None:
            found = next(steps)
            if isinstance(found, BaseException):
                raise found
            return found

        def close(self) -> None:
            """Nothing to close."""

    monkeypatch.setattr(monitor, "RunMonitor", Scripted)
    return opened
