"""The children of `bench`: the text that they find, and how they compute."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from rnnlm_tui.bench import programs
from rnnlm_tui.bench.programs import SamplingProgram, TrainingProgram, find_or_prepare
from rnnlm_tui.bench.report import Kind, TextFigures
from rnnlm_tui.errors import InputError
from rnnlm_tui.schema.config import CorpusConfig, RunConfig, TokenizerConfig, TrainingConfig
from rnnlm_tui.schema.metrics import Progress
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


def found(
    corpus: CorpusConfig, folder: Path, progress: Callable[[Progress], None] = lambda _: None
) -> TextFigures:
    return find_or_prepare(config_of(corpus), folder / "corpora", progress)


@pytest.mark.parametrize(
    "corpus", [CorpusConfig(source="news"), CorpusConfig(source="elman", test_source="news")]
)
def test_news_that_no_run_has_prepared_is_replaced(corpus: CorpusConfig, tmp_path: Path) -> None:
    data = found(corpus, tmp_path)
    assert (data.own, data.title) == (False, "57 State of the Union addresses")


def test_preparing_a_text_reports_progress(tmp_path: Path) -> None:
    said: list[Progress] = []
    found(CorpusConfig(source="elman", sentences=300), tmp_path, said.append)
    assert {"reading", "encoding", "baseline"} <= {one.phase for one in said}


@pytest.mark.parametrize(
    ("changes", "steps"),
    [({}, 172_148), ({"batch_size": 1_000}, 22_035), ({"data_mode": "stream"}, None)],
)
def test_only_a_missing_news_text_has_a_known_length(
    changes: dict[str, object], steps: int | None, tmp_path: Path
) -> None:
    config = config_of(CorpusConfig(source="news"))
    training = config.training.model_copy(update={"batch_size": 128, **changes})
    config = config.model_copy(update={"training": training})
    assert find_or_prepare(config, tmp_path, lambda _: None).steps_per_epoch == steps


def test_each_way_samples_with_its_own_threads(tmp_path: Path, threads: None) -> None:
    corpus = CorpusConfig(source="elman", sentences=300)
    text, config = found(corpus, tmp_path), config_of(corpus)
    ways: dict[Kind, int] = {"naive": 0, "engine": 1}
    for kind, count in ways.items():
        training = config.training.model_copy(update={"threads": count})
        own = config.model_copy(update={"training": training})
        program = SamplingProgram(kind, own, text, None, greedy=True)
        assert program.ready().threads == (count or usable_cores())


def test_a_plain_way_that_does_not_fit_in_memory_is_refused_with_need_and_have(
    tmp_path: Path, threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = CorpusConfig(source="elman", sentences=300)
    text = found(corpus, tmp_path)
    monkeypatch.setattr(programs, "memory_available", lambda: 1_000)
    with pytest.raises(
        InputError, match=r"all logits at once need 0\.\d GiB of memory, 0 MiB are free"
    ):
        TrainingProgram("naive", config_of(corpus), text)
    assert TrainingProgram("engine", config_of(corpus), text).turn(0.0).steps == 1
    assert programs.naive_memory_bytes(3_712, 32_011, 8_292_619) > 3 * 4 * 3_712 * 32_011
