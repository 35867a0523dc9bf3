"""Scoring a file: the trainer's loss of the same text, token by token, in constant memory."""

from __future__ import annotations

import json
import math
import resource
import tracemalloc
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from rnnlm_tui.corpus import splits, text_files
from rnnlm_tui.corpus.codec import TextCodec
from rnnlm_tui.corpus.corpus import PreparedCorpus, prepare_corpus
from rnnlm_tui.engine.batches import evaluation_batches
from rnnlm_tui.engine.cells import CELLS
from rnnlm_tui.engine.evaluate import evaluate
from rnnlm_tui.errors import CorpusError, RunStateError, StorageError
from rnnlm_tui.schema.config import CorpusConfig, DataMode, TokenizerConfig, TrainingConfig
from rnnlm_tui.schema.sampling import (
    InspectedToken,
    ScoreDone,
    ScorePiece,
    ScoreProgress,
    ScoreRequest,
)
from rnnlm_tui.worker import scoring
from rnnlm_tui.worker.models import LoadedModel
from rnnlm_tui.worker.scoring import score_file
from tests.fakes.llama_tokenizer import write_tokenizer
from tests.unit.engine.builders import built_model, small_model

TRAIN = [
    f"{who} {what} the {where}, {number} times."
    for who in ("Ann", "Bob", "Zoë")
    for what in ("saw", "left")
    for where in ("sea", "hill")
    for number in range(20)
]
TEST = [
    *TRAIN[::7],
    "",
    "  Zoë  saw a 日本 hill 1984 times, and left it to Bob who saw the sea.",
    "x",
    "Ann.",
    *TRAIN[::5],
]


def corpus_of(
    folder: Path, kind: str = "word", mode: DataMode = "stream", **changes: object
) -> PreparedCorpus:
    """A corpus whose test set is `TEST`."""
    (folder / "train.txt").write_text("\n".join(TRAIN) + "\n", encoding="utf-8")
    (folder / "test.txt").write_text("\n".join(TEST) + "\n", encoding="utf-8")
    config = {
        "source": str(folder / "train.txt"),
        "test_source": str(folder / "test.txt"),
        "layout": "sentences",
        **changes,
    }
    eos = config.pop("end_of_sentence", True)
    return prepare_corpus(
        CorpusConfig.model_validate(config),
        TokenizerConfig.model_validate({"kind": kind, "vocab_size": 300, "end_of_sentence": eos}),
        TrainingConfig(data_mode=mode, batch_size=2, bptt=8),
        folder / "corpora",
        lambda _: None,
    )


def loaded_for(
    corpus: PreparedCorpus, mode: DataMode = "stream", context_length: int | None = None
) -> LoadedModel:
    """A model with weights large enough that every token changes what comes after it."""
    model = built_model(
        vocab_size=corpus.manifest.vocab_size,
        embedding_dim=12,
        hidden_size=12,
        num_layers=2,
        initialization="uniform",
        init_scale=0.6,
        pad_id=corpus.manifest.pad_id,
    )
    return LoadedModel(
        key=(str(corpus.path), (0, 0, 0)),
        model=model.eval(),
        codec=TextCodec(corpus.path),
        step=1,
        tokenizer="",
        data_mode=mode,
        context_length=context_length,
    )


def score(
    loaded: LoadedModel, path: Path, *, tokens: bool = False, **more: Any
) -> tuple[list[InspectedToken], ScoreDone]:
    request = ScoreRequest(
        id="a", checkpoint=str(loaded.path), path=str(path), tokens=tokens, **more
    )
    *pieces, done = score_file(loaded, request, lambda: None)
    assert isinstance(done, ScoreDone)
    return [
        token for piece in pieces if isinstance(piece, ScorePiece) for token in piece.tokens
    ], done


@pytest.mark.parametrize("mode", ["stream", "sentences"])
@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("word", {}),
        ("bpe", {}),
        ("byte", {}),
        ("character", {}),
        ("word", {"end_of_sentence": False}),
        ("byte", {"lowercase": True, "mask_digits": True}),
        ("bpe", {"layout": "lines"}),
        ("word", {"layout": "lines"}),
        ("byte", {"layout": "raw"}),
        ("bpe", {"layout": "raw", "lowercase": True}),
    ],
)
def test_a_score_is_the_trainers_evaluation_of_the_same_text(
    tmp_path: Path, mode: DataMode, kind: str, changes: dict[str, object]
) -> None:
    corpus = corpus_of(tmp_path, kind, mode, **changes)
    loaded = loaded_for(corpus, mode, context_length=12)
    batches = evaluation_batches(
        corpus.tokens("test"),
        corpus.offsets("test"),
        data_mode=mode,
        context_length=12,
        pad_id=corpus.manifest.pad_id,
    )
    wanted = evaluate(loaded.model, batches, unknown_id=loaded.codec.unk_id)
    found, done = score(loaded, tmp_path / "test.txt", tokens=True)
    assert done.loss == pytest.approx(wanted.loss, rel=1e-6)
    assert (done.tokens, done.unknown) == (wanted.tokens, wanted.unknown)
    assert [token.token for token in found] == corpus.tokens("test").tolist()
    surprises = [token.bits for token in found if token.bits is not None]
    assert len(surprises) == wanted.tokens
    assert sum(surprises) / len(surprises) * math.log(2) == pytest.approx(wanted.loss, rel=1e-5)


PLAIN = """Zoë saw the hill, and Bob left it.
日本 was left by Ann.
x

Ann and Bob saw the sea; 日本 and Zoë left it"""
"""Lines of several lengths; one begins with a character of three bytes, the last doesn't end."""


@pytest.mark.parametrize("mode", ["stream", "sentences"])
@pytest.mark.parametrize(
    ("kind", "layout"),
    [
        (kind, layout)
        for kind in ("byte", "character", "word", "bpe", "pretrained")
        for layout in ("sentences", "lines", "raw")
    ]
    + [("llama", "sentences"), ("space in front", "sentences"), ("end of word", "sentences")],
)
def test_bits_and_bytes_are_those_of_a_plain_computation(
    tmp_path: Path, kind: str, layout: str, mode: DataMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the files of the checkpoint are used: its weights, its tokenizer and its config."""
    monkeypatch.setattr(splits, "_BATCH_LINES", 2)  # the text is read in several parts
    path = tmp_path / "text"
    path.write_bytes(PLAIN.encode())
    corpus = plain_corpus(tmp_path, kind, layout, mode)
    loaded = loaded_for(corpus, mode, context_length=6)
    tokenizer = Tokenizer.from_file(str(corpus.path / "tokenizer.json"))
    config = json.loads((corpus.path / "tokenizer_config.json").read_text())
    end = int(tokenizer.token_to_id(config["eos_token"]) or 0)

    lines = PLAIN.splitlines(keepends=layout == "raw")
    sentences = [
        [*tokenizer.encode(line, add_special_tokens=False).ids]
        for line in lines
        if line or layout == "lines"
    ]
    for ids in sentences if layout != "raw" else sentences[-1:]:
        ids.append(end)
    sizes = [
        [plain_bytes(tokenizer, kind, layout, ids, at, end) for at in range(len(ids))]
        for ids in sentences
    ]
    if mode == "stream":
        texts = [flat(sentences)]
        scored = flat(sizes)[1:]
    else:
        texts = [ids[:6] for ids in sentences]
        scored = flat(size[1:6] for size in sizes)
    weights = {name: one.double().numpy() for name, one in loaded.model.state_dict().items()}
    bits = [surprise for ids in texts for surprise in plain_bits(weights, ids)]

    found, done = score(loaded, path, tokens=True)
    assert [token.token for token in found] == flat(sentences)
    assert [token.bits for token in found if token.bits is not None] == pytest.approx(
        bits, abs=1e-5
    )
    assert done.bytes == len("".join(lines).encode()) + (0 if layout == "raw" else len(sentences))
    if kind == "end of word":  # "it." and "it ." are the same tokens
        assert (done.scored_bytes, done.bits_per_byte) == (0, None)
        return
    assert done.scored_bytes == sum(scored)
    assert done.bytes == sum(flat(sizes))
    assert done.bits_per_byte == pytest.approx(sum(bits) / sum(scored), abs=1e-5)


def flat(lists: Iterable[Sequence[int]]) -> list[int]:
    return [one for each in lists for one in each]


def plain_corpus(folder: Path, kind: str, layout: str, mode: DataMode) -> PreparedCorpus:
    """A corpus with all characters and words of the text; pretrained tokenizers are read from a
    folder: that of a byte-level one, one of Llama's kind, one that adds a space in front of a text,
    or one that marks the end of words."""
    (folder / "train.txt").write_text(f"{PLAIN}\n" * 20 + "\n".join(TRAIN), encoding="utf-8")
    size, name = 300, None
    if kind == "pretrained":
        name = str(plain_corpus(folder, "bpe", layout, mode).path)
    elif kind == "llama":
        kind, name = "pretrained", str(folder / "llama")
        size = write_tokenizer(folder / "llama", TRAIN, 300)
    elif kind in ("space in front", "end of word"):
        name = str(plain_corpus(folder, "bpe", layout, mode).path)
        tokenizer = Tokenizer.from_file(f"{name}/tokenizer.json")
        trainer: dict[str, Any] = {"special_tokens": ["<pad>", "<eos>"], "show_progress": False}
        if kind == "space in front":
            tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
            trainer["initial_alphabet"] = pre_tokenizers.ByteLevel.alphabet()
        else:
            tokenizer.model = models.BPE(end_of_word_suffix="</w>")
            tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
            tokenizer.decoder = decoders.BPEDecoder()
            trainer["end_of_word_suffix"] = "</w>"
        tokenizer.train_from_iterator(
            [*TRAIN, *PLAIN.splitlines()], trainers.BpeTrainer(vocab_size=300, **trainer)
        )
        tokenizer.save(f"{name}/tokenizer.json")
        kind, size = "pretrained", tokenizer.get_vocab_size()
    return prepare_corpus(
        CorpusConfig.model_validate({"source": str(folder / "train.txt"), "layout": layout}),
        TokenizerConfig.model_validate({"kind": kind, "vocab_size": size, "name": name}),
        TrainingConfig(data_mode=mode, batch_size=2, bptt=8),
        folder / "corpora",
        lambda _: None,
    )


def plain_bytes(
    tokenizer: Tokenizer, kind: str, layout: str, ids: list[int], at: int, end: int
) -> int:
    """Bytes of a token, from its name in the vocabulary."""
    name = str(tokenizer.id_to_token(ids[at]))
    if ids[at] == end:
        return 0 if layout == "raw" else 1
    if kind in ("byte", "bpe", "pretrained", "space in front"):  # a sign of the name is a byte
        return len(name) - (kind == "space in front" and at == 0)
    if kind == "llama":
        if name.startswith("<0x"):
            return 1
        return len(name.replace("▁", " ").encode()) - (at == 0)
    return len(name.encode()) - (at == 0 and kind == "word" and layout == "sentences")


def plain_bits(weights: dict[str, NDArray[np.float64]], ids: list[int]) -> list[float]:
    """The surprise of each token but the first in an Elman network, from a zero state."""
    states = [np.zeros(12), np.zeros(12)]
    bits = []
    for token, after in pairwise(ids):
        x = weights["embedding.weight"][token]
        for layer in (0, 1):
            into, again, bias = (
                weights[f"layers.{layer}.{name}_l0"]
                for name in ("weight_ih", "weight_hh", "bias_ih")
            )
            x = states[layer] = np.tanh(into @ x + again @ states[layer] + bias)
        logits = weights["output.weight"] @ x + weights["output.bias"]
        bits.append((np.log(np.exp(logits).sum()) - logits[after]) / math.log(2))
    return bits


@pytest.mark.parametrize("mode", ["stream", "sentences"])
@pytest.mark.parametrize("cell_type", CELLS)
def test_a_continuous_cache_is_that_of_a_plain_loop_for_every_cell(
    tmp_path: Path, cell_type: str, mode: DataMode
) -> None:
    corpus = corpus_of(tmp_path, "word", mode)
    model = small_model(vocab_size=corpus.manifest.vocab_size, cell_type=cell_type).eval()
    loaded = replace(loaded_for(corpus, mode, context_length=9), model=model)
    ids, offsets = corpus.tokens("test").tolist(), corpus.offsets("test").tolist()
    texts = [ids] if mode == "stream" else [ids[a : min(a + 9, b)] for a, b in pairwise(offsets)]
    mixed, known = [], list[tuple[NDArray[np.float64], int]]()
    for text in texts:
        state = model.initial_state(1)
        for token, after in pairwise(text):
            with torch.no_grad():
                output, state = model.advance(torch.tensor([token]), state)
                p = float(model.output(output).softmax(1)[0, after])
            h = output[0].double().numpy()
            if last := known[-30:]:
                weights = [math.exp(0.7 * float(h @ other)) for other, _ in last]
                equal = sum(w for w, (_, one) in zip(weights, last, strict=True) if one == after)
                p = 0.8 * p + 0.2 * equal / sum(weights)
            known.append((h, after))
            mixed.append(-math.log(p))
    cache = {"cache": 30, "cache_theta": 0.7, "cache_lambda": 0.2}
    found, done = score(loaded, tmp_path / "test.txt", tokens=True, **cache)
    assert done.loss == pytest.approx(score(loaded, tmp_path / "test.txt")[1].loss, abs=1e-5)
    assert done.cache_loss == pytest.approx(sum(mixed) / len(mixed), abs=1e-5)
    bits = [token.bits for token in found if token.bits is not None]
    assert bits == pytest.approx([nats / math.log(2) for nats in mixed], abs=1e-4)


def test_each_sentence_starts_from_zero_and_ends_at_the_context_length(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, "word", "sentences")
    loaded = loaded_for(corpus, "sentences", context_length=6)
    found, _ = score(loaded, tmp_path / "test.txt", tokens=True)
    first, second = found[:9], found[9:18]
    assert first[-1].text == second[-1].text == "\n"
    for sentence in (first, second):
        assert [token.bits is None for token in sentence] == [True, *[False] * 5, *[True] * 3]


@pytest.mark.parametrize("kind", ["byte", "bpe"])
def test_the_pieces_of_raw_text_are_the_file(tmp_path: Path, kind: str) -> None:
    corpus = corpus_of(tmp_path, kind, layout="raw")
    found, done = score(loaded_for(corpus), tmp_path / "test.txt", tokens=True)
    text = (tmp_path / "test.txt").read_text(encoding="utf-8")
    assert "".join(token.text for token in found) == text
    assert done.bytes == len(text.encode())


def messages(loaded: LoadedModel, text: str | bytes, path: Path) -> Sequence[object]:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    request = ScoreRequest(id="a", checkpoint=str(loaded.path), path=str(path))
    return list(score_file(loaded, request, lambda: None))


@pytest.mark.parametrize("mode", ["stream", "sentences"])
def test_a_text_that_cannot_be_scored_is_refused(tmp_path: Path, mode: DataMode) -> None:
    corpus = corpus_of(tmp_path, "word", mode, end_of_sentence=False)
    loaded = loaded_for(corpus, mode)
    with pytest.raises(CorpusError, match=r"0 tokens: too few|no sentence of two tokens"):
        messages(loaded, "", tmp_path / "a")
    with pytest.raises(CorpusError, match=r"1 token: too few|no sentence of two tokens"):
        messages(loaded, "Ann", tmp_path / "a")
    assert messages(loaded, "Ann saw", tmp_path / "a")
    with pytest.raises(CorpusError, match="is not UTF-8"):
        messages(loaded, b"Ann saw \xff", tmp_path / "a")
    with pytest.raises(CorpusError, match="NUL"):
        messages(loaded, "Ann \0 saw", tmp_path / "a")
    for path, why in ((tmp_path, "is a folder"), (tmp_path / "nothing", "not found")):
        with pytest.raises(CorpusError, match=why):
            score(loaded, path)


@pytest.mark.parametrize("mode", ["stream", "sentences"])
def test_a_score_is_interrupted_between_its_parts(tmp_path: Path, mode: DataMode) -> None:
    loaded = loaded_for(corpus_of(tmp_path, "word", mode), mode)
    request = ScoreRequest(
        id="a", checkpoint=str(loaded.path), path=str(tmp_path / "test.txt"), tokens=True
    )
    checks = stop_at = 0

    def check() -> None:
        nonlocal checks
        checks += 1
        if checks == stop_at:
            raise RunStateError("cancelled")

    for stop_at in (1, 2, 3):  # noqa: B007 (check reads it)
        checks = 0
        with pytest.raises(RunStateError, match="cancelled"):
            list(score_file(loaded, request, check))


@pytest.mark.parametrize("mode", ["stream", "sentences"])
def test_progress_rises_to_all_scored_tokens(
    tmp_path: Path, mode: DataMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "REPORT_SECONDS", 0.0)
    loaded = loaded_for(corpus_of(tmp_path, "word", mode), mode)
    request = ScoreRequest(id="a", checkpoint=str(loaded.path), path=str(tmp_path / "test.txt"))
    seen: list[ScoreProgress] = []
    *_, done = score_file(loaded, request, lambda: None, seen.append)
    assert isinstance(done, ScoreDone)
    scored = [one.done for one in seen if one.phase == "scoring"]
    assert scored == sorted(scored)
    assert scored[-1] == done.tokens
    known = mode == "stream"
    assert {one.total for one in seen if one.phase == "scoring"} == {done.tokens if known else 0}
    assert (seen[0].phase, seen[0].total) == ("reading" if known else "scoring", 0)


@pytest.mark.parametrize("bytes_per_token", [1, 3], ids=["ids", "surprise"])
def test_a_full_disk_is_a_storage_error(tmp_path: Path, bytes_per_token: int) -> None:
    loaded = loaded_for(corpus_of(tmp_path))
    path = tmp_path / "long"
    path.write_text("\n".join(TEST * 40), encoding="utf-8")
    _, done = score(loaded, path)
    request = ScoreRequest(id="a", checkpoint=str(loaded.path), path=str(path), tokens=True)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_per_token * done.tokens, limits[1]))
    try:
        with pytest.raises(StorageError, match="can't write the tokens of the text"):
            list(score_file(loaded, request, lambda: None))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("mode", ["stream", "sentences"])
def test_memory_does_not_grow_with_the_text(
    tmp_path: Path, mode: DataMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(splits, "_BATCH_BYTES", 4_096)
    monkeypatch.setattr(text_files, "_BLOCK", 4_096)
    loaded = loaded_for(corpus_of(tmp_path, "byte", mode), mode, context_length=64)
    peaks = []
    for repeats in (2, 2, 20):
        text = "\n".join(TEST * repeats)
        (tmp_path / "long").write_text(text, encoding="utf-8")
        request = ScoreRequest(
            id="a", checkpoint=str(loaded.path), path=str(tmp_path / "long"), tokens=True
        )
        tracemalloc.start()
        for _ in score_file(loaded, request, lambda: None):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < peaks[1] + 2**17
