"""The book's run in a real worker, with its archive from a local server."""

from __future__ import annotations

from pathlib import Path

import pytest

from rnnlm_tui.client.start import check_before_start
from rnnlm_tui.corpus import builtin
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.presets import BOOK
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.store.reader import RunReader
from tests.fakes.archive_server import ArchiveServer, archive_of, serving
from tests.fakes.llama_tokenizer import write_tokenizer
from tests.integration.runs import start, wait_until_ended

LINES = [line for lines in builtin.read_addresses().values() for line in lines][:600]
TRAIN, TEST = LINES[:500], LINES[500:]


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    """The preset with smaller numbers."""
    vocab_size = write_tokenizer(tmp_path / "tokenizer", TRAIN, 600)
    changes = {
        "corpus.validation_fraction": 0.1,
        "tokenizer.name": str(tmp_path / "tokenizer"),
        "tokenizer.vocab_size": vocab_size,
        "model.embedding_dim": 16,
        "model.hidden_size": 16,
        "training.batch_size": 20,
        "training.threads": 1,
        "training.device": "cpu",
        "evaluation.every": 10,
        "evaluation.max_sentences": 30,
        "checkpoint.every": 10,
    }
    return parse_config(merge(BOOK, changes))


def test_the_books_run_downloads_evaluates_and_samples_as_in_the_book(
    config: RunConfig, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    text = {
        name: "".join(f"{line}\n" for line in lines).encode()
        for name, lines in (("news/train.txt", TRAIN), ("news/test.txt", TEST))
    }
    with serving(ArchiveServer(archive_of(text), cuts=[2_000])) as server:
        fetching = parse_config(merge(config, {"corpus.url": server.url}))
        check_before_start(fetching)
        run = start(fetching)
        summary = wait_until_ended(run)
    assert (summary.status, summary.message) == ("finished", None)
    assert len(server.requests) == 2
    assert summary.max_steps == summary.step == 450 // 20 + 1, "one epoch of what is not validation"
    with RunReader(run) as reader:
        evaluations, samples = reader.evaluations(), reader.samples()
    named = [(row.step, row.name) for row in evaluations]
    for step in (10, 20, 23):
        assert (step, "first 30 test sentences") in named
        assert (step, "first 30 validation sentences") in named
    assert [name for step, name in named if step == 23][-2:] == ["validation", "test"]
    counted = {row.name: row.tokens for row in evaluations}
    assert counted["first 30 test sentences"] < counted["test"]
    assert (summary.test.name, summary.test.perplexity) == (
        "test",
        [row.perplexity for row in evaluations if row.name == "test"][-1],
    )
    at_last = [sample for sample in reversed(samples) if sample.step == 20]
    assert [sample.prompt for sample in at_last] == [
        "Moscow",
        "New York",
        "The hurricane",
        "The President",
    ]
    assert all((sample.seed, sample.tokens) == (None, 50) for sample in at_last)
    assert sorted(path.name for path in (home / "corpora" / "news").iterdir()) == [
        "source.json",
        "test.txt",
        "train.txt",
    ]
    assert not list((home / "corpora").glob(".*"))
