"""Line 1 shows a run's status and since when, and stays true however long it is on screen."""

from __future__ import annotations

from time import localtime, strftime, time

import pytest

from rnnlm_tui.schema.status import RunStatus
from rnnlm_tui.tui.views.status import how_long
from tests.tui.fakes import make_snapshot


@pytest.mark.parametrize("status", ["finished", "stopped", "failed", "crashed"])
def test_an_ended_run_shows_the_time_of_day_when_it_ended(status: RunStatus) -> None:
    summary = make_snapshot(status, 1_000).summary
    an_hour_ago = time() - 3_600
    assert how_long(summary.model_copy(update={"updated": an_hour_ago})).endswith(
        strftime(", ended %H:%M", localtime(an_hour_ago))
    )
    assert how_long(summary.model_copy(update={"updated": 1_000_000_000.0})).endswith(
        strftime(", ended %Y-%m-%d", localtime(1_000_000_000.0))
    )
