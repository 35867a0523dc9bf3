"""Fixtures of the fault tests: a text to learn from, and no worker that outlives its test."""

from __future__ import annotations

from tests.integration.conftest import no_worker_stays, one_thread, text, warm

__all__ = ["no_worker_stays", "one_thread", "text", "warm"]
