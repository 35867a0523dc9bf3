"""Evaluations, the samples that go with them, and samples that fail."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from rnnlm_tui.corpus.codec import TextCodec
from rnnlm_tui.corpus.corpus import PreparedCorpus, prepare_corpus
from rnnlm_tui.engine.batches import StreamBatches
from rnnlm_tui.engine.generation import Generation
from rnnlm_tui.engine.trainer import Trainer
from rnnlm_tui.errors import DeviceError
from rnnlm_tui.schema.config import (
    CorpusConfig,
    DataMode,
    EvaluationConfig,
    ModelConfig,
    RunConfig,
    SamplingConfig,
    TokenizerConfig,
    TrainingConfig,
)
from rnnlm_tui.schema.estimates import Schedule
from rnnlm_tui.schema.formatting import share
from rnnlm_tui.schema.presets import PRESETS
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.worker.checkpointing import Checkpointer
from rnnlm_tui.worker.evaluation import Evaluator, fitting_prompts, in_words
from rnnlm_tui.worker.recorder import Recorder
from tests.unit.engine.builders import built_model
from tests.unit.worker.stores import session_of

CONFIG = RunConfig(
    corpus=CorpusConfig(source="elman", sentences=200),
    tokenizer=TokenizerConfig(kind="word", vocab_size=100),
    model=ModelConfig(embedding_dim=4, hidden_size=4, num_layers=1),
    training=TrainingConfig(batch_size=2, bptt=5),
    sampling=SamplingConfig(max_new_tokens=3),
)


@pytest.fixture
def evaluator(tmp_path: Path, recorder: Recorder) -> Evaluator:
    return evaluator_of(CONFIG, tmp_path, recorder)


def prepared(config: RunConfig, folder: Path) -> PreparedCorpus:
    return prepare_corpus(
        config.corpus, config.tokenizer, config.training, folder / "corpora", lambda progress: None
    )


def evaluator_of(config: RunConfig, folder: Path, recorder: Recorder) -> Evaluator:
    """An evaluator of a tiny model after one step."""
    corpus = prepared(config, folder)
    model = built_model(
        vocab_size=corpus.manifest.vocab_size, embedding_dim=4, hidden_size=4, num_layers=1
    )
    trainer = Trainer(
        model, StreamBatches(corpus.tokens("train"), 2, 5), max_steps=2, schedule=Schedule(0.0)
    )
    trainer.step = 1
    session = session_of(RunDirectory(folder), config, recorder, trainer, corpus, [])
    checkpointer = Checkpointer(session, facts={}, parent=None)
    return Evaluator(session, checkpointer, TextCodec(corpus.path))


def notes(recorder: Recorder) -> list[str]:
    recorder.flush()
    with RunReader(recorder._run) as reader:
        return [event.text for event in reader.events() if event.kind == "note"]


@pytest.mark.parametrize(
    ("error", "reported"),
    [
        (
            RuntimeError("CUDA out of memory. Tried to allocate"),
            "a sample of 3 tokens: out of memory",
        ),
        (MemoryError(), "a sample of 3 tokens: out of memory"),
        (
            IndexError("index 60 is out of bounds"),
            "a sample of 3 tokens failed: IndexError: index 60 is out of bounds",
        ),
    ],
)
def test_a_failed_sample_is_logged_and_the_others_are_generated(
    evaluator: Evaluator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    reported: str,
    recorder: Recorder,
) -> None:
    evaluator._config = CONFIG.model_copy(
        update={"evaluation": EvaluationConfig(prompts=("the boys", "the dog"))}
    )
    calls: list[object] = []

    def generate(*arguments: object, **settings: object) -> Generation:
        calls.append(arguments)
        if len(calls) == 1:
            raise error
        return Generation(*arguments, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr("rnnlm_tui.worker.generation.Generation", generate)
    rows = evaluator.continue_prompts()
    assert [row.prompt for row in rows] == ["the dog"]
    assert notes(recorder) == [f'no continuation of "the boys": {reported}']


@pytest.mark.parametrize(
    ("kind", "size", "layout"),
    [
        ("word", 14, "sentences"),
        ("word", 40, "raw"),
        ("bpe", 270, "sentences"),
        ("bpe", 270, "raw"),
        ("character", 100, "lines"),
        ("byte", 256, "raw"),
    ],
)
def test_a_text_is_sampled_after_its_own_beginnings_instead_of_the_presets_prompts(
    kind: Any, size: int, layout: Any, tmp_path: Path, recorder: Recorder
) -> None:
    lines = ["the cat sat on the mat", "a dog saw the cat", "she sat on a mat"]
    unknown = ["an unknown line of words"] if (kind, size) == ("word", 14) else []
    text = "\n".join(["Title", *unknown, *lines * 200])
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    config = CONFIG.model_copy(
        update={
            "corpus": CorpusConfig(source=str(tmp_path / "text.txt"), layout=layout),
            "tokenizer": TokenizerConfig(kind=kind, vocab_size=size),
            "evaluation": EvaluationConfig(),
        }
    )
    rows = evaluator_of(config, tmp_path, recorder).continue_prompts()
    assert [row.prompt for row in rows] == ["the cat sat", "a dog saw", "she sat on"]


def test_a_periodic_sample_ends_before_a_stop_string(evaluator: Evaluator) -> None:
    evaluator._config = CONFIG.model_copy(update={"sampling": SamplingConfig(max_new_tokens=30)})
    whole = evaluator.continue_prompt("the boys")
    stop = whole.text[20:24]
    evaluator._config = CONFIG.model_copy(
        update={"sampling": SamplingConfig(max_new_tokens=30, stop=(stop,))}
    )
    ended = evaluator.continue_prompt("the boys")
    assert ended.text == whole.text[: whole.text.index(stop)]
    assert ended.tokens < whole.tokens == 30


FEW_WORDS = CONFIG.model_copy(
    update={
        "tokenizer": TokenizerConfig(kind="word", vocab_size=8),
        "sampling": SamplingConfig(max_new_tokens=60, temperature=2.0, top_p=1.0),
    }
)
"""Most words are unknown."""


@pytest.mark.parametrize(("unknown", "drawn"), [("auto", False), ("avoid", False), ("allow", True)])
def test_a_sample_of_a_word_model_has_no_unknown_token_unless_the_config_allows_it(
    tmp_path: Path, unknown: str, drawn: bool, recorder: Recorder
) -> None:
    config = FEW_WORDS.model_copy(
        update={"sampling": FEW_WORDS.sampling.model_copy(update={"unknown": unknown})}
    )
    row = evaluator_of(config, tmp_path, recorder).continue_prompt("the boys")
    assert ("<unk>" in row.text) == drawn


def test_a_text_of_unknown_words_has_no_bits_per_byte_but_the_share_of_unknown_words(
    tmp_path: Path,
    recorder: Recorder,
) -> None:
    (row,) = evaluator_of(FEW_WORDS, tmp_path, recorder)._measure_during_run()
    corpus = prepared(FEW_WORDS, tmp_path)
    tokens = corpus.tokens("validation")
    assert row.unknown == int((tokens[1:] == TextCodec(corpus.path).unk_id).sum())
    assert row.unknown_share is not None
    assert row.unknown_share > 0.3
    assert row.bits_per_byte is None
    assert (
        in_words(row) == f"validation perplexity {row.perplexity:,.2f}, no bits per byte:"
        f" {share(row.unknown_share)} unknown"
    )
    recorder.flush()
    with RunReader(RunDirectory(tmp_path)) as reader:
        assert reader.evaluations() == [row]


def test_a_text_does_not_repeat_the_blank_that_its_prompt_ends_with(evaluator: Evaluator) -> None:
    plain = evaluator.continue_prompt("boys")
    assert plain.text.startswith(" ")
    assert evaluator.continue_prompt("boys ").text == plain.text.removeprefix(" ")
    assert evaluator.continue_prompt("boys \n").text == plain.text.removeprefix(" ")


@pytest.mark.parametrize("most", [0, 5])
@pytest.mark.parametrize("mode", ["stream", "sentences"])
@pytest.mark.parametrize("kind", ["byte", "character", "word"])
def test_bits_per_byte_are_the_bits_of_the_scored_targets_over_their_own_bytes(
    tmp_path: Path, kind: str, mode: DataMode, most: int, recorder: Recorder
) -> None:
    config = CONFIG.model_copy(
        update={
            "tokenizer": TokenizerConfig(kind=kind, vocab_size=300),  # type: ignore[arg-type]
            "training": CONFIG.training.model_copy(update={"data_mode": mode, "context_length": 4}),
            "evaluation": EvaluationConfig(max_sentences=most),
        }
    )
    (row,) = evaluator_of(config, tmp_path, recorder)._measure_during_run()
    corpus = prepared(config, tmp_path)
    names = json.loads((corpus.path / "tokenizer.json").read_text())["model"]["vocab"]
    sizes = {index: len(name) + (kind == "word") for name, index in names.items()}
    sizes |= dict.fromkeys(sizes, 1) if kind == "byte" else {}
    sizes[corpus.manifest.eos_id] = 1
    tokens, bounds = corpus.tokens("validation").tolist(), corpus.offsets("validation").tolist()
    sentences = [
        [sizes[token] - (kind == "word" and at == 0) for at, token in enumerate(tokens[start:end])]
        for start, end in pairwise(bounds[: most + 1] if most else bounds)
    ]
    whole = [size for sentence in sentences for size in sentence]
    scored = whole[1:]
    if mode == "sentences":
        scored = [size for sentence in sentences for size in sentence[1:4]]
    assert (row.tokens, row.unknown) == (len(scored), 0)
    assert (row.scored_bytes, row.text_bytes) == (sum(scored), sum(whole))
    assert most or sum(whole) == corpus.manifest.splits["validation"].bytes
    assert row.bits_per_byte == pytest.approx(
        row.loss * len(scored) / math.log(2) / sum(scored), rel=1e-12
    )


def test_an_evaluation_out_of_memory_is_reported_with_its_shape(
    evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr("rnnlm_tui.worker.evaluation.evaluate", fail)
    with pytest.raises(DeviceError, match="out of memory in an evaluation of 16 x 128 tokens"):
        evaluator.evaluate()


@pytest.mark.parametrize("data_mode", ["stream", "sentences"])
def test_health_is_stored_at_evaluations_and_a_figure_out_of_range_is_an_event_once_a_run(
    tmp_path: Path, recorder: Recorder, data_mode: DataMode
) -> None:
    config = merge(CONFIG, {"training.data_mode": data_mode, "evaluation.prompts": []})
    first = evaluator_of(parse_config(config), tmp_path, recorder)
    with torch.no_grad():
        first._trainer.model.layers[0].get_parameter("weight_ih_l0").mul_(500)
    first.evaluate()
    first._trainer.step = 2
    first.evaluate()  # right after the first, so without figures
    first._trainer.active_seconds = 1e6
    first.evaluate()
    recorder.flush()
    with RunReader(recorder._run) as reader:
        resumed = replace(first._session, health=reader.health())
        Evaluator(resumed, first._checkpointer, first._codec).evaluate()
        recorder.flush()
        reader.refresh()
        assert [row.step for row in reader.health()] == [1, 2, 2]
        found = [(one.step, one.text[:24]) for one in reader.events() if one.kind == "health"]
    assert found.count((1, "layer 1: saturated units")) == 1
    assert len({text for _, text in found}) == len(found)


def test_health_that_is_off_or_fails_leaves_the_evaluation_as_it_is(
    evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch, recorder: Recorder
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("CUDA out of memory. Tried to allocate")

    monkeypatch.setattr("rnnlm_tui.worker.health.health", fail)
    monkeypatch.setattr(evaluator, "continue_prompts", lambda: ())
    losses = evaluator.evaluate()
    (note,) = notes(recorder)
    assert note.startswith("no health figures: out of memory in the health figures of 1 x 64")
    evaluator.use(parse_config(merge(CONFIG, {"evaluation.health": False})))
    assert evaluator.evaluate() == losses
    assert notes(recorder) == [note]


LINES = (
    "A TALE\n",
    "",
    "It was the best of times,\n",
    "  it was the worst of times,\n",
    "It was the best of all.\n",
    "Wörter-ohne-Leerzeichen-" * 5,
    "we had everything before us,\n",
)
BEGINNINGS = ("It was the", "it was the", ("Wörter-ohne-Leerzeichen-" * 5)[:40])


@pytest.mark.parametrize(
    ("preset", "source", "fits"),
    [
        ("demo", "presidents", True),
        ("demo", "my-book.txt", False),
        ("gru", "my-book.txt", False),
        ("elman", "elman", True),
        ("elman", "my-book.txt", False),
        ("ptb-small", "my-treebank", True),
        ("chars", "my-book.txt", True),
    ],
)
def test_prompts_of_a_preset_for_another_text_give_way_to_beginnings_of_the_text(
    preset: str, source: str, fits: bool
) -> None:
    config = parse_config(merge(PRESETS[preset], {"corpus.source": source}))
    prompts = config.evaluation.prompts
    assert fitting_prompts(config, LINES) == (prompts if fits else BEGINNINGS)
    assert fitting_prompts(config, ["short"]) == prompts
    chosen = parse_config(merge(config, {"evaluation.prompts": ["We must"]}))
    assert fitting_prompts(chosen, LINES) == ("We must",)
    none = parse_config(merge(config, {"evaluation.prompts": []}))
    assert fitting_prompts(none, LINES) == ()
