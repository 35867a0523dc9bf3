"""What a config gives: for a run that has ended the disk that it takes, and not what it would have taken."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from rnnlm_tui.contract.summary import CheckpointFigures
from rnnlm_tui.supervisor.estimate import Estimate
from rnnlm_tui.tui.widgets import estimate_panel


@pytest.mark.parametrize(("kept", "shown"), [(None, "20 MB, 3 checkpoints"), (CheckpointFigures(count=2, bytes=13_000_000), "13 MB, 2 checkpoints kept")])
def test_the_disk_of_a_run_that_ended_is_what_it_kept(kept: CheckpointFigures | None, shown: str) -> None:
    estimate = cast(Estimate, SimpleNamespace(disk_bytes=20_000_000, checkpoints=3))
    assert estimate_panel._disk(estimate, kept).plain == shown
