"""One real bench of a tiny model, from the command line to its JSON."""

from __future__ import annotations

import subprocess

import pytest

from rnnlm_tui.bench.report import BenchReport
from tests.faults.workers import Workers
from tests.integration.runs import settings

TINY = (
    *("model.embedding_dim=16", "model.hidden_size=16", "training.batch_size=8"),
    *("training.bptt=10", "training.threads=1", "training.matmul=float32"),
    *("sampling.greedy=true", "corpus.sentences=400"),
)


def bench(workers: Workers, *more: str) -> BenchReport:
    options = ("--preset", "elman", "--device", "cpu", "--seconds", "0.1", "--json", *more)
    command = [str(workers.python), "-m", "rnnlm_tui", "bench", *options, *settings(*TINY)]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert answer.returncode == 0, answer.stderr
    return BenchReport.model_validate_json(answer.stdout)  # and nothing else is on stdout


def test_a_real_bench_of_a_tiny_model(workers: Workers) -> None:
    report = bench(workers)
    assert [row.name for row in report.training] == ["naive", "nn.RNN", "engine"]
    assert len({row.first_tokens for row in report.training}) == 1, "the same tokens"
    losses = [row.first_loss for row in report.training]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5), "from the same weights"
    assert report.training[0].ratio.low == report.training[0].ratio.high == 1.0
    for row in (*report.training, *report.sampling):
        assert 0 < row.ratio.low <= row.ratio.median <= row.ratio.high
        assert row.tokens_per_second.low > 0
    # torch alone takes that much
    assert all(row.peak_bytes > 50_000_000 for row in report.training)
    assert [row.same_tokens for row in report.sampling] == [True, True], "greedily"
    data = report.data
    assert (data.own, data.used, data.vocab_size) == (True, 1.0, data.corpus_vocab_size)


def test_real_processes_share_each_batch(workers: Workers) -> None:
    report = bench(workers, "--processes", "2")
    assert [row.processes for row in report.processes] == [1, 2]
    one, two = report.processes
    assert one.turns == two.turns > 0
    assert min(one.tokens_per_second.low, two.tokens_per_second.low) > 0
    assert one.communication is None
    assert two.communication is not None
    assert two.communication.high < 1
    assert two.sent_bytes == two.gradient_bytes > 0
