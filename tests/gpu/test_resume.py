"""A worker in exact mode on a GPU that is killed and resumed, beside one that runs through."""

from __future__ import annotations

from pathlib import Path

import pytest

from rnnlm_tui.client.control import launch
from rnnlm_tui.schema.cells import CellType
from rnnlm_tui.schema.config import DataMode
from rnnlm_tui.store.reader import RunReader
from tests.benchmarks.exact_resume import exact_config, weights_hash
from tests.benchmarks.random_kills import losses
from tests.gpu import DEVICE, DRY, NEEDS_GPU, ON_DEVICE
from tests.integration.runs import end, kill, start, wait_for_step, wait_until_ended, write_text

pytestmark = ON_DEVICE

STEPS = 480 if DRY else 3_000
"""Some seconds: rows are stored a quarter of a second late, and the worker is to be killed well
before its end. A GPU does such small steps in a millisecond."""


@pytest.mark.parametrize(
    ("cell", "mode"), [("elman", "sentences"), pytest.param("lstm", "stream", marks=NEEDS_GPU)]
)
def test_a_run_that_was_killed_resumes_bit_equal(
    tmp_path: Path, cell: CellType, mode: DataMode
) -> None:
    changes: dict[str, object] = {
        "training.device": str(DEVICE),
        "checkpoint.every": STEPS // 8,
    }
    config = exact_config(write_text(tmp_path / "text.txt"), cell, mode, STEPS, **changes)
    whole, broken = start(config, "whole"), start(config, "broken")
    try:
        wait_for_step(broken, STEPS // 4)
        kill(broken)
        launch(broken)
        for run in (broken, whole):
            wait_until_ended(run)
    finally:
        for run in (broken, whole):
            end(run)
    with RunReader(broken) as reader:
        assert reader.attempts()[-1].start_step
    assert weights_hash(whole, STEPS) == weights_hash(broken, STEPS)
    assert losses(whole) == losses(broken)
    assert len(losses(whole)) == STEPS
