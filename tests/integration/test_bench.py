"""One real bench of a tiny model, from the command line to its JSON."""

from __future__ import annotations

import subprocess
import sys

import pytest

from rnnlm_tui.bench.report import BenchReport
from tests.integration.runs import settings

TINY = (
    *("model.embedding_dim=16", "model.hidden_size=16", "training.batch_size=8"),
    *("training.bptt=10", "training.threads=1", "training.matmul=float32"),
    *("sampling.greedy=true", "corpus.sentences=400"),
)


def test_every_way_trains_and_samples_alike_on_the_presets_own_text() -> None:
    given = ("--preset", "elman", "--device", "cpu", "--seconds", "0.1", "--json")
    command = [sys.executable, "-m", "rnnlm_tui", "bench", *given, *settings(*TINY)]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert answer.returncode == 0, answer.stderr
    report = BenchReport.model_validate_json(answer.stdout)  # nothing else is on standard output
    assert [row.name for row in report.training] == ["naive", "nn.RNN", "engine"]
    assert len({row.first_tokens for row in report.training}) == 1
    losses = [row.first_loss for row in report.training]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)
    for row in report.training:
        assert row.tokens_per_second.low > 0
        assert 0 < row.ratio.low <= row.ratio.median <= row.ratio.high
        assert row.peak_bytes > 50_000_000  # torch alone takes that much
    assert [row.same_tokens for row in report.sampling] == [True, True]
    assert (report.data.own, report.data.used) == (True, 1.0)
    assert report.data.vocab_size == report.data.corpus_vocab_size
