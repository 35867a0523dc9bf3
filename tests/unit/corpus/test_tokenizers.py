"""All kinds of tokenizers: size, special tokens, decoding and errors."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import pre_tokenizers

from rnnlm_tui.corpus import tokenizers
from rnnlm_tui.corpus.codec import TextCodec
from rnnlm_tui.corpus.text_files import looks_tokenized
from rnnlm_tui.corpus.tokenizers import (
    EOS,
    PAD,
    UNK,
    BuiltTokenizer,
    build_tokenizer,
    byte_names,
)
from rnnlm_tui.errors import TokenizerError
from rnnlm_tui.schema.config import CorpusConfig, TokenizerConfig
from rnnlm_tui.schema.corpora import TextLayout
from tests.fakes.llama_tokenizer import ADDED, write_tokenizer

from .conftest import Builder

PROSE = tuple(
    f"{name} went to the {place} {count} times, didn't {name}?"
    for name in ("Ann", "Bob", "Cyd")
    for place in ("sea", "hill", "shop")
    for count in range(30)
)


def in_order(built: BuiltTokenizer) -> list[str]:
    """The vocabulary by id."""
    vocabulary = built.tokenizer.get_vocab()
    return sorted(vocabulary, key=vocabulary.__getitem__)


def test_bpe_has_exactly_the_configured_vocabulary_size_and_is_the_same_each_time(
    build: Builder,
) -> None:
    built = build("bpe", 320, lines=PROSE)
    assert built.vocab_size == 320
    assert (built.pad_id, built.eos_id, built.unk_id) == (0, 1, None)
    assert built.tokenizer.to_str() == build("bpe", 320, lines=PROSE).tokenizer.to_str()


def test_a_text_too_small_for_bpe_is_rejected_with_the_possible_size(build: Builder) -> None:
    with pytest.raises(
        TokenizerError,
        match=r"too small for a BPE vocabulary of 5,000 types: only \d+ were learned",
    ):
        build("bpe", 5_000)


def test_bytes_need_no_text(build: Builder) -> None:
    assert build("byte", lines=()).vocab_size == 258
    assert build("byte", lines=(), eos=False).vocab_size == 257
    assert sorted(byte_names()) == sorted(pre_tokenizers.ByteLevel.alphabet())


def test_vocab_size_bounds_words_and_characters_to_the_most_frequent(build: Builder) -> None:
    words = build("word", 10, lines=("b b b a a c c d e f g h i",), tokenized=True)
    assert in_order(words) == [PAD, EOS, UNK, "b", "a", "c", "d", "e", "f", "g"]
    characters = build("character", 5, lines=("abbb", "ac"))
    assert in_order(characters) == [PAD, EOS, UNK, "b", "a"]
    with pytest.raises(TokenizerError, match="too small"):
        build("word", 3, tokenized=True)


def test_words_are_split_from_punctuation_in_ordinary_text_only(build: Builder) -> None:
    assert build("word", lines=("Don't go, Bob.",)).tokenizer.encode("Don't go, Bob.").tokens == [
        " Don't",
        " go",
        ",",
        " Bob",
        ".",
    ]
    assert build("word", lines=("the <unk> n.v. sees",), tokenized=True).tokenizer.encode(
        "the <unk> n.v."
    ).tokens == ["the", UNK, "n.v."]


def test_tokenized_text_is_recognised() -> None:
    newswire = "mr. <unk> is chairman of <unk> n.v. the dutch publishing group"
    assert looks_tokenized(("the boys see the dog .", newswire))
    assert not looks_tokenized(("We came, we saw.", "Then we left, tired.", "No more"))
    assert not looks_tokenized(())


@pytest.mark.parametrize("layout", ["sentences", "raw"])
@settings(deadline=None)
@given(text=st.lists(st.text("ab é1.,<>'’-_\t", min_size=1), min_size=1), size=st.integers(4, 20))
def test_a_word_vocabulary_has_the_most_frequent_pieces_of_the_library(
    text: list[str], size: int, layout: TextLayout
) -> None:
    if layout == "sentences":
        text = [" ".join(line.split()) for line in text]
    built = build_tokenizer(
        TokenizerConfig(kind="word", vocab_size=size),
        CorpusConfig(layout=layout),
        lambda: iter([text]),
        size=1_000,
        tokenized=False,
        layout=layout,
    )
    cut, opening = built.tokenizer.pre_tokenizer.pre_tokenize_str, "" if layout == "raw" else " "
    counts = Counter(piece for line in text if line for piece, _ in cut(opening + line))
    wanted = sorted(counts.keys() - {PAD, EOS, UNK}, key=lambda piece: (-counts[piece], piece))
    assert in_order(built) == [PAD, EOS, UNK, *wanted][:size]


def test_words_seen_once_are_dropped_from_a_text_of_too_many(
    build: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenizers, "COUNTED_WORDS", 3)
    built = build("word", 100, tokenized=True, lines=("a b c d a",))
    assert in_order(built) == [PAD, EOS, UNK, "a"]


def test_prompts_are_folded_like_the_corpus(build: Builder) -> None:
    for kind in ("word", "bpe", "character"):
        tokenizer = build(
            kind,
            300,
            corpus=CorpusConfig(lowercase=True, mask_digits=True),
            lines=("see you in ###", *PROSE),
        ).tokenizer
        assert tokenizer.encode("SEE you in 1984").ids == tokenizer.encode("see you in ###").ids


def test_the_saved_config_has_all_settings(build: Builder, tmp_path: Path) -> None:
    build("word", tokenized=True).save(tmp_path, " ")
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    wanted = {"eos_token": EOS, "pad_token": PAD, "unk_token": UNK, "padding_side": "right"}
    wanted |= {"rnnlm_eos_text": " ", "rnnlm_kind": "word"}
    assert {key: config[key] for key in wanted} == wanted
    build("byte", eos=False).save(tmp_path, "\n")
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["eos_token"] is None


def load(name: Path | str, size: int, *, eos: bool = True) -> BuiltTokenizer:
    """Load a pretrained tokenizer."""
    config = TokenizerConfig(
        kind="pretrained", name=str(name), vocab_size=size, end_of_sentence=eos
    )
    return build_tokenizer(config, CorpusConfig(), lambda: iter([]), size=0, tokenized=None)


def change(folder: Path, **changes: str | None) -> None:
    """Change values of tokenizer_config.json."""
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_local_folder_is_loaded_as_a_pretrained_tokenizer(build: Builder, tmp_path: Path) -> None:
    own = build("bpe", 300, lines=PROSE)
    own.save(tmp_path, "\n")
    loaded = load(tmp_path, 300)
    assert (loaded.kind, loaded.vocab_size) == ("pretrained", 300)
    assert (loaded.pad_id, loaded.eos_id) == (0, 1)
    assert loaded.encode([PROSE[0]]) == own.encode([PROSE[0]])
    message = "has 300 types, but tokenizer.vocab_size is 2,048"
    with pytest.raises(TokenizerError, match=message) as raised:
        load(tmp_path, 2_048)
    assert raised.value.hint == "set tokenizer.vocab_size=300"
    for unknown in (PAD, None):
        change(tmp_path, unk_token=unknown)
        assert load(tmp_path, 300).unk == unknown


def test_padding_of_a_pretrained_tokenizer_falls_back_to_its_end_token(
    build: Builder, tmp_path: Path
) -> None:
    build("bpe", 300, lines=PROSE).save(tmp_path, "\n")
    change(tmp_path, pad_token=None)
    loaded = load(tmp_path, 300, eos=False)
    assert (loaded.pad, loaded.eos_id) == (EOS, None)
    change(tmp_path, eos_token=None)
    for eos, message in ((True, "has no end token"), (False, "neither a padding nor an end token")):
        with pytest.raises(TokenizerError, match=message):
            load(tmp_path, 300, eos=eos)


def test_a_tokenizer_like_the_books_is_handled_correctly(tmp_path: Path) -> None:
    """Added tokens, BOS, left padding, truncation at 8 tokens, and padding with the end token."""
    size = write_tokenizer(tmp_path / "given", PROSE, 330)
    loaded = load(tmp_path / "given", size, eos=False)
    assert loaded.vocab_size == size == 330 + len(ADDED)
    assert (loaded.pad, loaded.pad_id, loaded.eos_id) == (ADDED[0], 330, None)
    ended = load(tmp_path / "given", size)
    assert ended.eos_id == ended.pad_id == 330
    with pytest.raises(TokenizerError, match=r"has 333 types, but tokenizer.vocab_size is 330"):
        load(tmp_path / "given", 330, eos=False)
    (tmp_path / "kept").mkdir()
    loaded.save(tmp_path / "kept", "\n")
    codec = TextCodec(tmp_path / "kept")
    long, short = loaded.encode([PROSE[0], "Ann went"])
    assert short == codec.encode("Ann went") == codec.prompt_ids("Ann went", after_end=False)
    assert len(long) > 8
    assert not {loaded.pad_id, loaded.tokenizer.token_to_id("<s>")} & {*long, *short}
    assert codec.decode(long) == PROSE[0]


@pytest.mark.parametrize("padded", [False, True])
def test_an_end_token_that_is_also_the_unknown_token_is_not_unknown(
    build: Builder, tmp_path: Path, padded: bool
) -> None:
    """As in GPT-2, one token is end, padding and unknown; `padded`: without end tokens."""
    build("bpe", 300, lines=PROSE).save(tmp_path, "\n")
    change(tmp_path, pad_token=None, unk_token=EOS)
    loaded = load(tmp_path, 300, eos=not padded)
    (tmp_path / "kept").mkdir()
    loaded.save(tmp_path / "kept", "\n")
    codec = TextCodec(tmp_path / "kept")
    assert (loaded.unk_id, codec.unk_id, codec.excluded_ids("avoid")) == (None, None, ())


def test_pickles_and_folders_without_a_tokenizer_are_rejected_unopened(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.pt").write_bytes(pickle.dumps({"vocabulary": ["a"]}))
    for name, message in (
        (tmp_path / "tokenizer.pt", "is a file"),
        (tmp_path, "no tokenizer.json in"),
    ):
        with pytest.raises(TokenizerError, match=message) as raised:
            load(name, 300)
        assert "never opened" in raised.value.hint


def test_a_missing_pretrained_tokenizer_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    message = 'can\'t load the tokenizer "nobody/no-such-tokenizer"'
    with pytest.raises(TokenizerError, match=message) as raised:
        load("nobody/no-such-tokenizer", 300)
    assert "\n" not in raised.value.message


def test_merges_are_learned_from_a_limited_number_of_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tokenizers, "LEARNED_WORDS", 1_000)
    read = 0

    def batches() -> Iterator[list[str]]:
        nonlocal read
        for batch in range(100):
            read += 1
            yield [f"word{number} again" for number in range(300 * batch, 300 * (batch + 1))]

    built = build_tokenizer(
        TokenizerConfig(vocab_size=300), CorpusConfig(), batches, size=1_000, tokenized=None
    )
    assert built.vocab_size == 300
    assert read == 4
