"""Preparing, finding and rejecting corpora from end to end."""

from __future__ import annotations

import fcntl
import math
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from rnnlm_tui.corpus import build as build_module
from rnnlm_tui.corpus import corpus as corpus_module
from rnnlm_tui.corpus import ngram
from rnnlm_tui.corpus.codec import TextCodec
from rnnlm_tui.corpus.corpus import (
    PreparedCorpus,
    add_to_manifest,
    load_prepared,
    prepare_corpus,
)
from rnnlm_tui.corpus.ngram import score_orders, sequences
from rnnlm_tui.errors import CorpusError, RnnlmError, StorageError
from rnnlm_tui.schema.config import (
    CorpusConfig,
    EvaluationConfig,
    RunConfig,
    TokenizerConfig,
    TrainingConfig,
)
from rnnlm_tui.schema.corpora import EVALUATED, SPLITS
from rnnlm_tui.schema.metrics import Progress
from rnnlm_tui.schema.presets import ELMAN

LINES = [
    f"{who} {what} the {where}, {number} times."
    for who in ("Ann", "Bob", "Zoë")
    for what in ("saw", "left")
    for where in ("sea", "hill")
    for number in range(20)
]
WORDS = TokenizerConfig(kind="word", vocab_size=1_000)


def write(path: Path, lines: list[str] = LINES) -> CorpusConfig:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return CorpusConfig(source=str(path))


def prepare(
    root: Path,
    corpus: CorpusConfig,
    tokenizer: TokenizerConfig = WORDS,
    training: TrainingConfig | None = None,
) -> PreparedCorpus:
    return prepare_corpus(corpus, tokenizer, training or TrainingConfig(), root, lambda _: None)


def left_behind(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir()) if root.exists() else []


def contents(prepared: PreparedCorpus) -> dict[str, bytes]:
    """The corpus's files without its manifest."""
    return {
        path.name: path.read_bytes()
        for path in prepared.path.iterdir()
        if path.name != "manifest.json"
    }


@pytest.mark.parametrize("kind", ["byte", "character", "word", "bpe"])
@pytest.mark.parametrize("eos", [True, False])
def test_every_sentence_is_in_exactly_one_split(tmp_path: Path, kind: str, eos: bool) -> None:
    config = TokenizerConfig.model_validate(
        {"kind": kind, "vocab_size": 300, "end_of_sentence": eos}
    )
    prepared = prepare(tmp_path / "corpora", write(tmp_path / "a.txt"), config)
    codec = TextCodec(prepared.path)
    found = []
    for split in SPLITS:
        tokens, offsets, facts = (
            prepared.tokens(split),
            prepared.offsets(split),
            prepared.manifest.splits[split],
        )
        assert (len(tokens), len(offsets)) == (facts.tokens, facts.sentences + 1)
        assert (int(offsets[0]), int(offsets[-1])) == (0, facts.tokens)
        sentences = [tokens[int(start) : int(end)].tolist() for start, end in pairwise(offsets)]
        if eos:
            assert all(sentence.pop() == prepared.manifest.eos_id for sentence in sentences)
        texts = [codec.decode(sentence) for sentence in sentences]
        assert facts.bytes == sum(len(text.encode()) for text in texts) + eos * len(texts)
        found += texts
    assert found == LINES
    assert (prepared.manifest.vocab_size, prepared.manifest.eos_id, prepared.manifest.pad_id) == (
        codec.vocab_size,
        codec.eos_id,
        codec.pad_id,
    )


def test_a_second_preparation_builds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus, root = write(tmp_path / "a.txt"), tmp_path / "corpora"
    first = prepare(root, corpus)
    monkeypatch.setattr(corpus_module, "_build", None)
    assert prepare(root, corpus) == load_prepared(first.path) == first
    assert first.path.name == first.manifest.hash[:16]
    # nor does one with settings that have no effect
    for changes in ({"seed": 5}, {"sentences": 500}, {"url": "http://a.example"}):
        assert prepare(root, corpus.model_copy(update=changes)).path == first.path
    assert prepare(root, corpus, WORDS.model_copy(update={"name": "unused"})).path == first.path


def test_a_changed_text_tokenizer_or_setting_makes_another_corpus(tmp_path: Path) -> None:
    root, corpus = tmp_path / "corpora", write(tmp_path / "a.txt")
    paths = {
        prepare(root, corpus).path,
        prepare(root, corpus, WORDS.model_copy(update={"vocab_size": 20})).path,
    }
    paths.add(prepare(root, corpus.model_copy(update={"lowercase": True})).path)
    write(tmp_path / "a.txt", [*LINES, "One more."])
    paths.add(prepare(root, corpus).path)
    assert len(paths) == 4


@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [
        ("manifest.json", lambda _: b"{", "invalid"),
        (
            "manifest.json",
            lambda data: data.replace(b'"format": 2', b'"format": 999'),
            "format 999",
        ),
        (
            "manifest.json",
            lambda data: re.sub(rb'"vocab_size": \d+', b'"vocab_size": 65537', data),
            "must have",
        ),
        ("train.bin", lambda data: data[:-2], "must have"),
        ("test.offsets.bin", lambda data: data + bytes(8), "must have"),
        ("tokenizer.json", lambda _: None, "is missing"),
    ],
)
def test_a_damaged_corpus_is_rejected_and_rebuilt(
    tmp_path: Path, name: str, damage: Callable[[bytes], bytes | None], words: str
) -> None:
    corpus, root = write(tmp_path / "a.txt"), tmp_path / "corpora"
    first = prepare(root, corpus)
    files = contents(first)
    data = damage((first.path / name).read_bytes())
    (first.path / name).unlink()
    if data is not None:
        (first.path / name).write_bytes(data)
    with pytest.raises(StorageError, match=words):
        load_prepared(first.path)
    again = prepare(root, corpus)
    assert (again.manifest.splits, contents(again)) == (first.manifest.splits, files)
    assert left_behind(root) == [first.path.name]


def test_two_concurrent_preparations_both_succeed(tmp_path: Path) -> None:
    corpus, root = write(tmp_path / "a.txt"), tmp_path / "corpora"
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: prepare(root, corpus), range(4)))
    assert len({prepared.path for prepared in found}) == 1
    assert all(
        prepared.tokens("test").tolist() == found[0].tokens("test").tolist() for prepared in found
    )
    assert left_behind(root) == [found[0].path.name]


def test_a_second_preparation_waits_for_the_first_and_reports_its_progress(tmp_path: Path) -> None:
    corpus, root = write(tmp_path / "a.txt"), tmp_path / "corpora"
    inside, resume, reported = threading.Event(), threading.Event(), list[Progress]()

    def hold(progress: Progress) -> None:
        if progress.phase == "encoding":
            inside.set()
            assert resume.wait(30)

    def listen(progress: Progress) -> None:
        reported.append(progress)
        if progress.phase == "encoding":
            resume.set()

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(prepare_corpus, corpus, WORDS, TrainingConfig(), root, hold)
        assert inside.wait(30)
        second = pool.submit(prepare_corpus, corpus, WORDS, TrainingConfig(), root, listen)
        assert second.result(30) == first.result(30)
    assert {progress.phase for progress in reported} == {"checking", "encoding"}
    assert left_behind(root) == [first.result().path.name]


def test_a_waiting_preparation_can_be_stopped_without_stopping_the_first(tmp_path: Path) -> None:
    corpus, root = write(tmp_path / "a.txt"), tmp_path / "corpora"

    def stop(progress: Progress) -> None:
        if progress.phase == "tokenizer":
            raise KeyboardInterrupt

    def other_comes(progress: Progress) -> None:
        if progress.phase == "tokenizer":
            with pytest.raises(KeyboardInterrupt):
                prepare_corpus(corpus, WORDS, TrainingConfig(), root, stop)

    assert (
        prepare_corpus(corpus, WORDS, TrainingConfig(), root, other_comes)
        .manifest.splits["train"]
        .tokens
    )


def test_concurrent_manifest_changes_are_all_kept(tmp_path: Path) -> None:
    first, second, root = write(tmp_path / "a.txt"), write(tmp_path / "b.txt"), tmp_path / "corpora"
    path = prepare(root, write(tmp_path / "c.txt")).path

    def other_comes(progress: Progress) -> None:
        if progress.phase == "baseline" and not came:
            came.append(
                prepare(
                    root, second, training=TrainingConfig(data_mode="sentences", context_length=7)
                )
            )

    came: list[PreparedCorpus] = []
    prepare_corpus(
        first, WORDS, TrainingConfig(data_mode="sentences", context_length=9), root, other_comes
    )
    manifest = load_prepared(path).manifest
    assert {baseline.kept_tokens for baseline in manifest.baselines} == {None, 7, 9}
    assert all(manifest.is_from(settings, WORDS) for settings in (first, second))


def test_the_hash_is_reported_before_the_build_while_no_corpus_can_be_removed(
    tmp_path: Path,
) -> None:
    corpus, root = write(tmp_path / "a.txt"), tmp_path / "corpora"
    reported: list[str] = []

    def known(found: str) -> None:
        assert left_behind(root) == [found[:16] for found in reported[:1]]
        descriptor = os.open(root, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(descriptor)
        reported.append(found)

    assert [
        prepare_corpus(corpus, WORDS, TrainingConfig(), root, lambda _: None, known).manifest.hash
        for _ in range(2)
    ] == reported


def test_progress_in_bytes_never_exceeds_its_total(tmp_path: Path) -> None:
    reported: list[Progress] = []
    prepare_corpus(
        write(tmp_path / "a.txt"), WORDS, TrainingConfig(), tmp_path / "corpora", reported.append
    )
    assert list(dict.fromkeys(progress.phase for progress in reported)) == [
        "checking",
        "reading",
        "tokenizer",
        "encoding",
        "baseline",
    ]
    assert all(0 <= progress.done <= progress.total for progress in reported)
    assert reported[-1].done == reported[-1].total
    size = (tmp_path / "a.txt").stat().st_size
    assert {
        progress.total for progress in reported if progress.phase in ("reading", "encoding")
    } == {size}


def test_the_baseline_reports_progress_and_can_be_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_module, "INTERVAL_SECONDS", 0.0)
    monkeypatch.setattr(ngram, "_CHUNK", 100)
    reported: list[Progress] = []

    def stop_when_half_done(progress: Progress) -> None:
        reported.append(progress)
        if progress.phase == "baseline" and progress.done > progress.total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_corpus(
            write(tmp_path / "a.txt"),
            WORDS,
            TrainingConfig(),
            tmp_path / "corpora",
            stop_when_half_done,
        )
    done = [progress.done for progress in reported if progress.phase == "baseline"]
    assert len(done) > 5
    assert done == sorted(done)


@pytest.mark.parametrize("phase", ["reading", "tokenizer", "encoding", "baseline"])
def test_a_killed_preparation_starts_again(tmp_path: Path, phase: str) -> None:
    corpus, root = write(tmp_path / "a.txt"), tmp_path / "corpora"
    code = (
        "import os, sys; from pathlib import Path; from rnnlm_tui.schema.config import *;"
        " from rnnlm_tui.corpus.corpus import prepare_corpus;"
        " prepare_corpus(CorpusConfig(source=sys.argv[1]),"
        " TokenizerConfig(kind='word', vocab_size=1000), TrainingConfig(), Path(sys.argv[2]),"
        " lambda progress: os.kill(os.getpid(), 9) if progress.phase == sys.argv[3] else None)"
    )
    command = [sys.executable, "-c", code, corpus.source, str(root), phase]
    assert subprocess.run(command, check=False).returncode == -9
    assert left_behind(root) != []
    prepared = prepare(root, corpus)
    whole = prepare(tmp_path / "other", corpus)
    assert left_behind(root) == [prepared.path.name]
    assert contents(prepared) == contents(whole)


def test_a_stopped_preparation_leaves_no_files(tmp_path: Path) -> None:
    def stop(progress: Progress) -> None:
        if progress.phase == "encoding":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_corpus(
            write(tmp_path / "a.txt"), WORDS, TrainingConfig(), tmp_path / "corpora", stop
        )
    assert not left_behind(tmp_path / "corpora")


def test_identical_text_at_several_paths_is_stored_once(tmp_path: Path) -> None:
    root = tmp_path / "corpora"
    (tmp_path / "elsewhere").mkdir()
    first = prepare(root, write(tmp_path / "a.txt"))
    other = write(tmp_path / "elsewhere" / "b.txt")
    second = prepare(root, other)
    assert second.path == first.path
    assert left_behind(root) == [first.path.name]
    assert (first.manifest.title, second.manifest.title) == ("a.txt", "b.txt")
    manifest = load_prepared(first.path).manifest
    assert manifest.is_from(other, WORDS)
    assert manifest.is_from(first.manifest.corpus, WORDS)
    assert prepare(root, other).manifest == second.manifest


def test_the_same_files_read_differently_are_another_corpus(tmp_path: Path) -> None:
    root, folder = tmp_path / "corpora", tmp_path / "text"
    folder.mkdir()
    for name, lines in (("a.txt", LINES[:200]), ("b.txt", LINES[200:])):
        write(folder / name, lines)
    together = prepare(root, CorpusConfig(source=str(folder)))
    (folder / "a.txt").rename(folder / "train.txt")
    (folder / "b.txt").rename(folder / "ztest.txt")
    (folder / "ztest.txt").rename(folder / "test.txt")
    own_test = prepare(root, CorpusConfig(source=str(folder)))
    assert own_test.path != together.path
    assert own_test.manifest.splits["test"].sentences == 40


def test_a_local_tokenizer_at_another_path_finds_the_same_corpus(tmp_path: Path) -> None:
    root, corpus = tmp_path / "corpora", write(tmp_path / "a.txt")
    made = prepare(root, corpus, TokenizerConfig(kind="bpe", vocab_size=300))
    found = set()
    for name in ("one", "two"):
        shutil.copytree(made.path, tmp_path / name)
        found.add(
            prepare(
                root,
                corpus,
                TokenizerConfig(kind="pretrained", vocab_size=300, name=str(tmp_path / name)),
            ).path
        )
    assert len(found) == 1


def test_the_baseline_is_of_the_training_split_in_each_data_mode(tmp_path: Path) -> None:
    corpus, root = write(tmp_path / "a.txt"), tmp_path / "corpora"
    prepared = prepare(root, corpus)
    again = prepare(root, corpus, training=TrainingConfig(data_mode="sentences", context_length=5))
    assert again.path == prepared.path
    assert load_prepared(prepared.path) == again
    begin = again.manifest.vocab_size
    counted = again.manifest.splits["train"].tokens
    for baseline, kept in zip(again.manifest.baselines, (None, 5), strict=True):
        texts = [
            sequences(again.tokens(split), again.offsets(split), kept, begin, np.zeros)
            for split in ("train", "validation", "test")
        ]
        orders = list(score_orders(texts, begin, np.zeros))
        assert (baseline.kept_tokens, baseline.counted) == (kept, counted)
        for place, split in enumerate(EVALUATED):
            found = tuple(order.scores[place].loss for order in orders)
            assert baseline.losses[split] == found
    for order in (1, 5):
        config = RunConfig(evaluation=EvaluationConfig(baseline=order))
        loss = again.manifest.baselines[0].losses["test"][order - 1]
        assert again.manifest.baseline_loss(config, "test") == loss


def test_of_a_large_text_the_baseline_counts_the_first_tokens_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus_module, "COUNTED_TOKENS", 1_000)
    manifest = prepare(tmp_path / "corpora", write(tmp_path / "a.txt")).manifest
    assert manifest.baselines[0].counted == 1_000
    assert any("the baseline counts the first 1,000 of" in note for note in manifest.all_notes)
    more = manifest.baselines[0].model_copy(update={"counted": manifest.splits["train"].tokens})
    folder = tmp_path / "corpora" / manifest.folder
    assert "baseline" not in "".join(add_to_manifest(folder, [more]).all_notes)
    assert add_to_manifest(folder, manifest.baselines).baselines == (more,)


def test_elman_has_a_source_loss_if_tokens_are_words(tmp_path: Path) -> None:
    corpus = ELMAN.corpus.model_copy(update={"sentences": 3_000})
    prepared = prepare(tmp_path, corpus, ELMAN.tokenizer)
    assert prepared.manifest.source_loss is not None
    assert 3.4 < math.exp(prepared.manifest.source_loss) < 3.6
    (baseline,) = prepared.manifest.baselines
    assert all(loss and loss > prepared.manifest.source_loss for loss in baseline.losses["test"])
    assert prepare(tmp_path, corpus, TokenizerConfig(kind="character")).manifest.source_loss is None


def test_text_outside_the_vocabulary_and_cut_lines_are_noted(tmp_path: Path) -> None:
    corpus = write(
        tmp_path / "a.txt", [*LINES, " ".join(f"word{index}" for index in range(20_000))]
    )
    prepared = prepare(
        tmp_path / "corpora",
        corpus.model_copy(update={"layout": "sentences"}),
        TokenizerConfig(kind="word", vocab_size=8),
    )
    cut, unknown = prepared.manifest.notes
    assert "split into several sentences" in cut
    assert "outside the vocabulary" in unknown


@pytest.mark.parametrize(
    ("training", "message"),
    [
        (
            TrainingConfig(batch_size=50_000),
            "5,040 tokens|bytes, but 50,000 streams need at least 100,000 tokens",
        ),
        (
            TrainingConfig(batch_size=3_000),
            r"training split is too short for a batch: it has [\d,]+ tokens, but 3,000 streams need"
            " at least 6,000 tokens",
        ),
        (
            TrainingConfig(batch_size=300, data_mode="sentences"),
            r"training split is too short for a batch: it has 21\d sentences, but a batch needs",
        ),
    ],
)
def test_a_text_shorter_than_a_batch_is_rejected_with_its_length(
    tmp_path: Path, training: TrainingConfig, message: str
) -> None:
    corpus, root = write(tmp_path / "a.txt"), tmp_path / "corpora"
    with pytest.raises(CorpusError, match=message):
        prepare(root, corpus, training=training)
    assert not left_behind(root)
    prepare(root, corpus)
    with pytest.raises(CorpusError, match="too short for a batch"):
        prepare(root, corpus, training=training)


@pytest.mark.parametrize(
    ("data", "vocab_size", "message"),
    [
        (b"", 20, "contains no text"),
        (b"\n \n", 20, "contains no text"),
        (b"\0\1", 20, "binary"),
        (b"caf\xe9\n" * 50, 20, "not UTF-8"),
        (b"a line\n", 20, r"a\.txt is too short for a batch: it has \d bytes, but 20 streams need"),
        ("\n".join(LINES).encode(), 50_000, "types"),
    ],
)
def test_invalid_sources_are_rejected_and_leave_no_files(
    tmp_path: Path, data: bytes, vocab_size: int, message: str
) -> None:
    (tmp_path / "a.txt").write_bytes(data)
    corpus, root = CorpusConfig(source=str(tmp_path / "a.txt")), tmp_path / "corpora"
    with pytest.raises(RnnlmError, match=message):
        prepare(root, corpus, TokenizerConfig(kind="bpe", vocab_size=vocab_size))
    assert not left_behind(root)


def test_large_vocabularies_use_wider_tokens(tmp_path: Path) -> None:
    lines = [
        " ".join(f"w{index}" for index in range(start, start + 100)) + " ."
        for start in range(0, 70_000, 100)
    ]
    prepared = prepare(
        tmp_path / "corpora",
        write(tmp_path / "a.txt", [*lines, *lines]),
        TokenizerConfig(kind="word", vocab_size=100_000),
    )
    assert prepared.tokens("train").dtype == np.uint32
    assert int(prepared.tokens("train").max()) > 65_535


KENLM = [69.949, 42.923, 40.852, 40.641]


def test_the_presidents_demo_has_the_baseline_of_kenlm(tmp_path: Path) -> None:
    """KenLM's figures of orders 2 to 5 are those of its master in 2026, with the tokens of each
    split as one line of `t0 t1 ...`; the first word and </s> aren't scored:

    lmplz -o 5 < train.txt > 5.arpa
    query -v word 5.arpa < test.txt | tr "\\t" "\\n" | awk '
        /^t/ {if (NR > 1) {sum -= $3; n++}} END {printf "%.3f\\n", exp(sum / n * log(10))}'
    """
    prepared = prepare(tmp_path, CorpusConfig(), TokenizerConfig())
    facts = prepared.manifest.splits
    assert facts["train"].documents + facts["validation"].documents == 51
    assert (facts["test"].documents, facts["validation"].documents) == (6, 2)
    assert prepared.manifest.vocab_size == 2_048
    assert prepared.manifest.eos_text == " "
    (baseline,) = prepared.manifest.baselines
    assert baseline.counted == facts["train"].tokens
    found = [math.exp(loss or 0) for loss in baseline.losses["test"]]
    assert found[1:] == pytest.approx(KENLM, rel=1e-3)


def test_a_short_text_gets_a_larger_validation_set_with_a_note(tmp_path: Path) -> None:
    lines = [f"{line[:-1]} {number}" for number in range(170) for line in LINES]
    asked = write(tmp_path / "a.txt", lines).model_copy(update={"validation_fraction": 0.002})
    prepared = prepare(tmp_path / "corpora", asked)
    size = (tmp_path / "a.txt").stat().st_size
    assert prepared.manifest.splits["validation"].bytes == pytest.approx(50_000 * 0.95, rel=0.1)
    assert 1_000_000 < size < 1_500_000
    assert (
        prepared.manifest.notes[0]
        == "validation uses 4 % of the text instead of 0.2 %: a smaller set would be too noisy"
    )


def test_a_large_enough_fraction_is_used_as_configured(tmp_path: Path) -> None:
    prepared = prepare(tmp_path / "corpora", write(tmp_path / "a.txt"))
    assert prepared.manifest.notes == ()
    assert "has only 90 tokens" in prepared.manifest.all_notes[0]


def test_sentences_in_both_training_and_test_are_noted_unless_they_are_short(
    tmp_path: Path,
) -> None:
    unique = [f"this is the long sentence number {number} of the text" for number in range(400)]
    prepared = prepare(
        tmp_path / "corpora",
        write(tmp_path / "a.txt", [*unique, *unique[:20], "Yes."]),
        training=TrainingConfig(batch_size=2),
    )
    notes = [note for note in prepared.manifest.notes if "also occur in the training text" in note]
    assert len(notes) == 1
    assert notes[0].startswith("20 of 21 test sentences (95 %)")
    short = prepare(tmp_path / "corpora", write(tmp_path / "a.txt", ["Yes.", "No."] * 300))
    assert short.manifest.notes == ()
