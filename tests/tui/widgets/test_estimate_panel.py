"""The estimate panel: an ended run's disk usage, and notes on the text."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest

from rnnlm_tui.client.estimate import Estimate
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.summary import CheckpointFigures
from rnnlm_tui.system.cuda import GpuProblem
from rnnlm_tui.tui.views.form import Draft
from rnnlm_tui.tui.widgets import estimate_panel
from rnnlm_tui.tui.widgets.estimate_panel import EstimatePanel
from tests.tui.fakes import make_estimate


@pytest.mark.parametrize(
    ("kept", "shown"),
    [
        (None, "20 MB, 3 checkpoints"),
        (CheckpointFigures(count=2, bytes=13_000_000), "13 MB, 2 checkpoints kept"),
    ],
)
def test_the_disk_of_an_ended_run_is_its_kept_checkpoints(
    kept: CheckpointFigures | None, shown: str
) -> None:
    estimate = cast(Estimate, SimpleNamespace(disk_bytes=20_000_000, checkpoints=3))
    assert estimate_panel._disk(estimate, kept).plain == shown


def test_notes_on_the_text_are_shown_in_full_in_the_column() -> None:
    notes = (
        "3 lines longer than 65,536 bytes split into several sentences",
        "2 other files in the folder ignored",
    )
    estimate = replace(make_estimate(RunConfig(), 300), notes=notes)
    rows = [
        row.plain
        for row in EstimatePanel()._column(estimate, Draft(RunConfig(), "preset demo"), 36)
    ]
    text = " ".join(row.strip() for row in rows)
    assert all(f"! {note}" in text for note in notes)
    assert all(len(row) <= 36 for row in rows)


def test_a_gpu_that_torch_can_not_use_is_shown_with_the_fix() -> None:
    problem = GpuProblem("torch 2.13.0+cpu is built without CUDA", "install one with CUDA: pip")
    estimate = replace(make_estimate(RunConfig(), 300), unused_gpu=problem)
    draft = Draft(RunConfig(), "preset demo")
    column = " ".join(row.plain.strip() for row in EstimatePanel()._column(estimate, draft, 36))
    assert f"! CPU, not GPU: {problem.fact} ! {problem.fix}" in column
    assert "torch can't use the GPU" in "".join(
        row.plain for row in EstimatePanel()._four_lines(estimate)
    )
