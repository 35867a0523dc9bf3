"""The estimate panel: an ended run's disk usage, and notes on the text."""

from __future__ import annotations

from dataclasses import replace

from rnnlm_tui.client.estimate import Estimate, estimate
from rnnlm_tui.schema.presets import DEMO
from rnnlm_tui.schema.summary import CheckpointFigures
from rnnlm_tui.system.cuda import GpuProblem
from rnnlm_tui.tui.views.form import Draft
from rnnlm_tui.tui.widgets import estimate_panel
from rnnlm_tui.tui.widgets.estimate_panel import EstimatePanel


def column(shown: Estimate) -> list[str]:
    """Return the lines of a column of 36 cells."""
    draft = Draft(DEMO, "preset demo")
    return [row.plain for row in EstimatePanel()._column(shown, draft, 36)]


def test_the_disk_of_an_ended_run_is_its_kept_checkpoints() -> None:
    figures = replace(estimate(DEMO), disk_bytes=20_000_000, checkpoints=3)
    kept = CheckpointFigures(count=2, bytes=13_000_000)
    assert estimate_panel._disk(figures, None).plain == "20 MB, 3 checkpoints"
    assert estimate_panel._disk(figures, kept).plain == "13 MB, 2 checkpoints kept"


def test_notes_on_the_text_and_an_unused_gpu_are_shown_in_full() -> None:
    notes = (
        "3 lines longer than 65,536 bytes split into several sentences",
        "2 other files in the folder ignored",
    )
    problem = GpuProblem("torch 2.13.0+cpu is built without CUDA", "install one with CUDA: pip")
    figures = replace(estimate(DEMO), notes=notes, unused_gpu=problem)
    rows = column(figures)
    text = " ".join(row.strip() for row in rows)
    assert all(f"! {note}" in text for note in notes)
    assert f"! CPU, not GPU: {problem.fact} ! {problem.fix}" in text
    assert all(len(row) <= 36 for row in rows)
    four = EstimatePanel()._four_lines(figures)
    assert "torch can't use the GPU" in "".join(row.plain for row in four)
