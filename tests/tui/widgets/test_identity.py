"""Line 1: how a run is and since when, in words that stay true however long they stand."""

from __future__ import annotations

from time import localtime, strftime, time

import pytest

from rnnlm_tui.contract.status import RunStatus
from rnnlm_tui.tui.widgets.identity import how_long
from tests.tui.fakes import make_snapshot


@pytest.mark.parametrize("status", ["finished", "stopped", "failed", "crashed"])
def test_a_run_that_ended_says_when_by_the_clock(status: RunStatus) -> None:
    summary = make_snapshot(status, 1_000).summary
    told = how_long(summary.model_copy(update={"updated": time() - 60})).partition(", ")[2]
    assert told in (f"ended {strftime('%H:%M', localtime(time() - 60))}", f"ended {strftime('%d %b', localtime(time() - 60))}")
    assert how_long(summary.model_copy(update={"updated": 1_000_000_000.0})).endswith(strftime(", ended %Y-%m-%d", localtime(1_000_000_000.0)))
