"""One real bench of a tiny model, from the command line to its JSON."""

from __future__ import annotations

import subprocess
import sys

import pytest

from rnnlm_tui.bench.report import BenchReport
from tests.integration.runs import settings

TINY = (
    "model.embedding_dim=16",
    "model.hidden_size=16",
    "training.batch_size=8",
    "training.bptt=10",
    "training.threads=1",
    "training.matmul=float32",
    "sampling.greedy=true",
    "corpus.sentences=400",
)


@pytest.fixture(scope="module")
def report() -> BenchReport:
    command = [
        sys.executable,
        "-m",
        "rnnlm_tui",
        "bench",
        "--preset",
        "elman",
        "--device",
        "cpu",
        "--seconds",
        "0.1",
        "--json",
        *settings(*TINY),
    ]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert answer.returncode == 0, answer.stderr
    return BenchReport.model_validate_json(answer.stdout)  # and nothing else is on standard output


def test_every_way_trains_on_the_same_tokens_from_the_same_weights(report: BenchReport) -> None:
    assert [row.name for row in report.training] == ["naive", "nn.RNN", "engine"]
    assert len({row.first_tokens for row in report.training}) == 1
    losses = [row.first_loss for row in report.training]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)


def test_ratios_are_computed_from_speeds(report: BenchReport) -> None:
    assert report.training[0].ratio.low == report.training[0].ratio.high == 1.0
    for ratio in [row.ratio for row in report.training] + [row.ratio for row in report.sampling]:
        assert 0 < ratio.low <= ratio.median <= ratio.high
    assert (
        min(
            [row.tokens_per_second.low for row in report.training]
            + [row.tokens_per_second.low for row in report.sampling]
        )
        > 0
    )


def test_memory_is_measured(report: BenchReport) -> None:
    # torch alone takes that much
    assert all(row.peak_bytes > 50_000_000 for row in report.training)


def test_greedy_ways_generate_the_same_from_the_trained_weights(report: BenchReport) -> None:
    assert [row.same_tokens for row in report.sampling] == [True, True]


def test_the_text_is_the_presets_own(report: BenchReport) -> None:
    assert report.data.own
    assert report.data.used == 1.0
    assert report.data.vocab_size == report.data.corpus_vocab_size
