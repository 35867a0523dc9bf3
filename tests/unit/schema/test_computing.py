"""Texts about a run's device."""

from __future__ import annotations

import pytest

from rnnlm_tui.schema.formatting import arithmetic, device_text, other_load_text
from rnnlm_tui.schema.summary import ModelFigures, RunSummary

SUMMARY = RunSummary(
    run="plain-otter",
    status="running",
    model=ModelFigures(cell_type="elman", num_layers=2, hidden_size=8, tie_weights=True),
)


@pytest.mark.parametrize(
    ("device", "precision", "matmul", "words"),
    [
        ("cpu, 2 threads", "float32", "medium", "cpu, 2 threads, bf16 matmul"),
        ("cpu, 2 threads", "float32", "float32", "cpu, 2 threads, float32"),
        ("cuda:0 NVIDIA H100", "float32", "medium", "cuda:0 NVIDIA H100, TF32 matmul"),
        ("cuda:0 NVIDIA H100", "bf16", "medium", "cuda:0 NVIDIA H100, bf16 layers"),
        ("cpu, 1 thread", None, None, "cpu, 1 thread"),
        (None, None, None, ""),
    ],
)
def test_the_device_text_includes_the_arithmetic(
    device: str | None, precision: str | None, matmul: str | None, words: str
) -> None:
    summary = SUMMARY.model_copy(
        update={"device": device, "precision": precision, "matmul": matmul}
    )
    assert device_text(summary) == words
    assert words.endswith(arithmetic(summary))


@pytest.mark.parametrize(
    ("held", "cores", "words"),
    [
        (1.0, 2, "other processes use 1.0 of 2 cores"),
        (0.5, 1, "other processes use 0.5 of 1 core"),
        (12.3, 64, "other processes use 12 of 64 cores"),
        (None, 2, ""),
        (1.0, None, ""),
    ],
)
def test_other_processes_are_described_if_they_slow_the_run(
    held: float | None, cores: int | None, words: str
) -> None:
    assert (
        other_load_text(SUMMARY.model_copy(update={"others_cores": held, "cores": cores})) == words
    )
