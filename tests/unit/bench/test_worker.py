"""The children of `bench`: the text that they find, and how they compute."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from pydantic import BaseModel

from rnnlm_tui.bench import tasks
from rnnlm_tui.bench.plan import sampling_rows
from rnnlm_tui.bench.report import (
    COMPARED_TOKENS,
    BenchData,
    BenchTask,
    CorpusProgress,
    TurnDone,
    TurnRequest,
)
from rnnlm_tui.bench.tasks import MachineTask, SamplingTask
from rnnlm_tui.bench.worker import set_up
from rnnlm_tui.corpus.corpus import load_prepared
from rnnlm_tui.schema.config import CorpusConfig, RunConfig, TokenizerConfig, TrainingConfig
from rnnlm_tui.system.machine import usable_cores

WORDS = TokenizerConfig(kind="word", vocab_size=60)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetched(*_arguments: object) -> None:
        raise AssertionError("a bench fetches nothing")

    monkeypatch.setattr("rnnlm_tui.corpus.corpus.ensure_news", fetched)


@pytest.fixture
def threads() -> Iterator[None]:
    """Torch's number of threads as it was, afterwards."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def config_of(corpus: CorpusConfig) -> RunConfig:
    return RunConfig(
        corpus=corpus,
        tokenizer=WORDS,
        training=TrainingConfig(
            data_mode="sentences", batch_size=8, context_length=7, device="cpu"
        ),
    )


def found(corpus: CorpusConfig, folder: Path, said: list[BaseModel] | None = None) -> BenchData:
    task = BenchTask(role="corpus", config=config_of(corpus), folder=str(folder / "corpora"))
    data, measured = set_up(task, (said if said is not None else []).append)
    assert measured is None
    assert isinstance(data, BenchData)
    return data


def write_news(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "train.txt").write_text(
        "".join(f"{number:03} men were not here .\n" for number in range(800))
    )
    (folder / "test.txt").write_text(
        "".join(f"{number:03} women were here .\n" for number in range(80))
    )


def test_local_news_is_used_and_only_its_start_is_prepared(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_news(home / "corpora" / "news")
    monkeypatch.setattr(tasks, "NEWS_LINES", 200)
    data = found(CorpusConfig(source="news", mask_digits=True), tmp_path)
    assert (data.own, data.title) == (True, "news sentences of the book")
    assert data.steps_per_epoch == pytest.approx(800 * 0.9 / 8, rel=0.1), "of the whole text"
    assert load_prepared(Path(data.folder)).manifest.splits["train"].sentences <= 200
    assert sorted(path.name for path in (home / "corpora").rglob("*")) == [
        "news",
        "test.txt",
        "train.txt",
    ], "only read"


def test_news_as_a_test_set_is_copied_as_well(home: Path, tmp_path: Path) -> None:
    write_news(home / "corpora" / "news")
    data = found(CorpusConfig(source="elman", sentences=300, test_source="news"), tmp_path)
    assert data.own
    assert load_prepared(Path(data.folder)).manifest.splits["test"].sentences == 880, (
        "both of its files"
    )


@pytest.mark.parametrize(
    "corpus", [CorpusConfig(source="news"), CorpusConfig(source="elman", test_source="news")]
)
def test_missing_news_is_never_downloaded(
    corpus: CorpusConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_news(tmp_path / "news")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tasks, "find_spec", lambda _: None)
    data = found(corpus, tmp_path)
    assert (data.own, data.title) == (False, "the Python language reference")


def test_preparing_a_text_reports_progress(tmp_path: Path) -> None:
    said: list[BaseModel] = []
    found(CorpusConfig(source="elman", sentences=300), tmp_path, said)
    assert {"reading", "encoding", "baseline"} <= {
        message.phase for message in said if isinstance(message, CorpusProgress)
    }


def test_the_engine_samples_with_one_thread_and_the_naive_way_with_all(
    tmp_path: Path, threads: None
) -> None:
    corpus = CorpusConfig(source="elman", sentences=300)
    rows = sampling_rows(config_of(corpus), found(corpus, tmp_path), "")
    known = {row.name: SamplingTask(row.task).ready().threads for row in rows}
    assert [known["engine"], known["engine, greedy"]] == [1, 1]
    assert [known["naive"], known["naive, greedy"]] == [usable_cores()] * 2


def test_a_warm_up_samples_the_tokens_that_greedy_ways_are_compared_by(
    tmp_path: Path, threads: None
) -> None:
    config = config_of(CorpusConfig(source="elman", sentences=300))
    rows = [
        row
        for row in sampling_rows(config, found(config.corpus, tmp_path), "")
        if row.task.config.sampling.greedy
    ]
    turns = []
    for row in rows:
        turn = SamplingTask(row.task).turn(TurnRequest(seconds=0, tokens=COMPARED_TOKENS))
        assert isinstance(turn, TurnDone)
        assert (turn.steps, turn.tokens, len(turn.ids)) == (1, COMPARED_TOKENS, COMPARED_TOKENS)
        turns.append(turn)
    assert len(turns) == 2


def test_free_memory_respects_the_containers_limit(
    threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rnnlm_tui.bench.tasks.memory_available", lambda: 12_345)
    config = RunConfig(training=TrainingConfig(device="cpu", threads=1))
    assert (
        MachineTask(BenchTask(role="machine", config=config, vocab_size=60)).survey().memory_free
        == 12_345
    )
