"""Fast encoders give exactly the library's tokens, for all families of tokenizers."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from rnnlm_tui.corpus import encoders
from rnnlm_tui.corpus.encoders import BlockCache, WordCache, line_encoder, word_rules
from rnnlm_tui.corpus.tokenizers import BuiltTokenizer, build_tokenizer
from rnnlm_tui.schema.config import CorpusConfig, TokenizerConfig
from rnnlm_tui.schema.corpora import TextLayout
from tests.fakes.llama_tokenizer import write_tokenizer

CL100K = next(pattern for pattern in sorted(encoders._WORD_PATTERNS) if "{1,3}" in pattern)


def lines(seed: int, count: int = 300) -> list[str]:
    """Sentences of mostly distinct words, with digits, signs, other letters and odd white space."""
    draw = random.Random(seed)
    alphabets = (
        "etaoinshrdlu",
        "etaoinshrdlu",
        "ETAOINab",
        "0123456789",
        "ab12.,-",
        "don't's've",
        "äöüßéж漢字🙂",
        "(x)[y]_#",
        "a\x00\x7f",
    )
    found = []
    for _ in range(count):
        words = [
            "".join(draw.choices(draw.choice(alphabets), k=draw.choice((1, 2, 3, 5, 8, 8, 11, 40))))
            for _ in range(draw.randint(1, 14))
        ]
        found.append(" ".join(words))
    found[7] += "  two  spaces"
    found[8] += "\ttab and\u00a0other"
    found[9] = "</s> is a text that is <|set|> apart"
    return found


LEARNED = lines(1)


def bpe(pre_tokenizer: Any, normalizer: Any = None, **model: Any) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(**model))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    if pre_tokenizer is not None:
        tokenizer.pre_tokenizer = pre_tokenizer
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(
        [LEARNED],
        trainers.BpeTrainer(
            vocab_size=600, special_tokens=["<pad>"], initial_alphabet=alphabet, show_progress=False
        ),
    )
    return tokenizer


def gpt2() -> Tokenizer:
    return bpe(pre_tokenizers.ByteLevel(add_prefix_space=False))


def gpt2_with_prefix() -> Tokenizer:
    return bpe(pre_tokenizers.ByteLevel(add_prefix_space=True))


def gpt2_with_texts_set_apart() -> Tokenizer:
    tokenizer = gpt2()
    tokenizer.add_tokens(
        [
            AddedToken("<|set|>", normalized=False, lstrip=True),
            AddedToken("</s>", normalized=False, rstrip=True),
        ]
    )
    return tokenizer


def llama3() -> Tokenizer:
    split = pre_tokenizers.Split(Regex(CL100K), "isolated")
    return bpe(
        pre_tokenizers.Sequence(
            [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        ),
        normalizers.NFC(),
    )


def metaspace() -> Tokenizer:
    return bpe(pre_tokenizers.Metaspace())


def unigram() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.train_from_iterator(
        [LEARNED],
        trainers.UnigramTrainer(
            vocab_size=400,
            special_tokens=["<pad>", "<unk>"],
            unk_token="<unk>",
            show_progress=False,
        ),
    )
    return tokenizer


def bert() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(
        [LEARNED],
        trainers.WordPieceTrainer(
            vocab_size=400, special_tokens=["<pad>", "[UNK]"], show_progress=False
        ),
    )
    return tokenizer


def check(tokenizer: Tokenizer, *, merges: bool) -> None:
    built = BuiltTokenizer(tokenizer, "pretrained", "<pad>", None)
    encode = line_encoder(built)
    assert isinstance(encode, WordCache)
    assert encode._words.are_quick == merges
    for chosen in (lines(2), lines(3)[:5], LEARNED, LEARNED * 2, lines(2), [*lines(4), "", "x"]):
        ids, lengths = encode([line.encode() for line in chosen])
        expected = built.encode(chosen)
        assert lengths.tolist() == [len(line) for line in expected]
        assert ids.tolist() == [index for line in expected for index in line]


@pytest.mark.parametrize(
    "build", [gpt2, gpt2_with_prefix, gpt2_with_texts_set_apart, llama3, metaspace]
)
def test_merged_words_match_the_library(build: Callable[[], Tokenizer]) -> None:
    check(build(), merges=True)


@pytest.mark.parametrize("build", [unigram, bert])
def test_cached_words_of_other_models_match_the_library(build: Callable[[], Tokenizer]) -> None:
    check(build(), merges=False)


def test_the_books_tokenizer_family_matches_the_library(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, LEARNED, 700)
    tokenizer: Tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Replace(Regex(r"\d+"), "###"), tokenizer.normalizer]
    )
    built = BuiltTokenizer(tokenizer, "pretrained", "<s>", None)
    encode = line_encoder(built)
    assert isinstance(encode, WordCache)
    chosen = ["".join("#" if sign.isdigit() else sign for sign in line) for line in lines(2)]
    ids, lengths = encode([line.encode() for line in chosen])
    expected = built.encode(chosen)
    assert lengths.tolist() == [len(line) for line in expected]
    assert ids.tolist() == [index for line in expected for index in line]


@pytest.mark.parametrize(
    "change",
    [
        {"normalizer": {"type": "NFKC"}},
        {"pre_tokenizer": {"type": "Digits", "individual_digits": True}},
        {"pre_tokenizer": None},
        {
            "added_tokens": [
                {"content": f"<{number}>", "special": False, "normalized": False}
                for number in range(40)
            ]
        },
    ],
)
def test_unsupported_tokenizers_encode_whole_sentences(
    change: dict[str, object],
) -> None:
    state = json.loads(gpt2().to_str())
    assert word_rules(state) is not None
    assert word_rules(state | change) is None


def test_tokens_across_two_words_need_whole_sentences() -> None:
    state = json.loads(metaspace().to_str()) | {
        "pre_tokenizer": None,
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            ],
        },
    }
    assert word_rules(state) is not None
    state["model"]["vocab"]["of▁the"] = 10_000
    assert word_rules(state) is None


@pytest.mark.parametrize("kind", ["bpe", "word"])
@pytest.mark.parametrize("layout", ["raw", "lines"])
def test_cached_white_space_matches_the_library(kind: str, layout: TextLayout) -> None:
    def texts(seed: int) -> list[str]:
        draw = random.Random(seed)
        end = "\n" if layout == "raw" else ""
        spaces = ["", "    ", "\t", "\t  ", "  \t", "\u00a0", "\x1c", "\r", "\u2003 "]
        kept = [f"{draw.choice(spaces)}{line}{draw.choice(spaces)}{end}" for line in lines(seed)]
        return [*kept, *([end, "  " + end, "\r" + end] if layout == "raw" else ["", "  "])]

    corpus, wanted = (
        CorpusConfig(layout=layout),
        TokenizerConfig.model_validate({"kind": kind, "vocab_size": 500}),
    )
    built = build_tokenizer(
        wanted, corpus, lambda: iter([texts(1)]), size=10_000, tokenized=None, layout=layout
    )
    encode = line_encoder(built, layout)
    assert isinstance(encode, BlockCache)
    for chosen in (texts(2), texts(1), texts(2), texts(3)[:5], texts(4) * 2):
        ids, lengths = encode([text.encode() for text in chosen])
        expected = built.encode(chosen)
        assert lengths.tolist() == [len(text) for text in expected]
        assert ids.tolist() == [index for text in expected for index in text]


def own_words(
    learned: list[str], *, tokenized: bool | None = False, layout: TextLayout = "sentences"
) -> BuiltTokenizer:
    wanted = TokenizerConfig(kind="word", vocab_size=500)
    return build_tokenizer(
        wanted,
        CorpusConfig(layout=layout),
        lambda: iter([learned]),
        size=10_000,
        tokenized=tokenized,
        layout=layout,
    )


def signs(seed: int) -> list[str]:
    """Sentences with few words of letters alone, some like special tokens."""
    draw = random.Random(seed)
    special = [
        "<unk>",
        "<eos>",
        "<pad>",
        "<ab>",
        "<ab",
        "ab>",
        "don't",
        "'tis",
        "a''b",
        "1.5",
        "1,000.",
        ".5",
        "x.y",
        "a1b2",
        "--",
        "<<unk>>",
        "<1>",
        "\x7fa",
        "a_b",
    ]
    return [
        " ".join(
            draw.choice(special)
            if draw.random() < 0.4
            else "".join(draw.choices("ab1<>.,'-_", k=6))
            for _ in range(12)
        )
        for _ in range(200)
    ]


@pytest.mark.parametrize("tokenized", [False, True])
def test_cached_words_match_the_library(*, tokenized: bool) -> None:
    built = own_words([*lines(1), *signs(1)], tokenized=tokenized)
    encode = line_encoder(built)
    for chosen in (lines(2), signs(2), lines(1), signs(1), signs(3) * 2, [*lines(4), "", "x"]):
        ids, lengths = encode([line.encode() for line in chosen])
        expected = built.encode(chosen)
        assert lengths.tolist() == [len(line) for line in expected]
        assert ids.tolist() == [index for line in expected for index in line]


def test_word_tokenizers_of_earlier_versions_use_the_library() -> None:
    built = own_words(lines(1), layout="lines")
    built.tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r" ?\S+|\s"), "isolated")
    encode = line_encoder(built, "lines")
    assert encode([line.encode() for line in lines(2)])[0].tolist() == [
        index for line in built.encode(lines(2)) for index in line
    ]


@pytest.mark.parametrize("layout", ["sentences", "raw"])
def test_a_word_vocabulary_has_the_most_frequent_pieces_of_the_library(layout: TextLayout) -> None:
    text = [
        f"{line}\n" if layout == "raw" else " ".join(line.split())
        for line in [*lines(1), *signs(1)]
    ]
    built = own_words(text, layout=layout)
    cut, opening = built.tokenizer.pre_tokenizer.pre_tokenize_str, "" if layout == "raw" else " "
    counts = Counter(piece for line in text for piece, _ in cut(opening + line))
    assert (
        sorted(
            set(built.tokenizer.get_vocab()) - {"<pad>", "<eos>", "<unk>"},
            key=lambda piece: (-counts[piece], piece),
        )
        == sorted(
            counts.keys() - {"<pad>", "<eos>", "<unk>"}, key=lambda piece: (-counts[piece], piece)
        )[:497]
    )


@pytest.mark.parametrize("kind", ["bpe", "word"])
def test_a_text_of_new_words_is_neither_cached_nor_encoded_word_by_word(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    built = BuiltTokenizer(gpt2(), "bpe", "<pad>", None) if kind == "bpe" else own_words(LEARNED)
    encode = line_encoder(built)
    assert isinstance(encode, WordCache)
    draw = random.Random(1)
    new = ["".join(draw.choices("etaoinshrdlu", k=12)) for _ in range(3_000)]
    asked: list[str] = []
    with monkeypatch.context() as patched:
        ask = BuiltTokenizer.encode

        def count(self: BuiltTokenizer, texts: list[str]) -> list[list[int]]:
            asked.extend(texts)
            return ask(self, texts)

        patched.setattr(BuiltTokenizer, "encode", count)
        ids, _ = encode([" ".join(new).encode()])
    assert asked == [new[0]]  # one word alone, that opens the sentence
    assert len(encode._table.lengths) == 0
    assert ids.tolist() == built.encode([" ".join(new)])[0]
    encode([" ".join(f"ä{word}" for word in new).encode()])
    assert len(encode._table.lengths) >= 3_000  # the library's work is remembered
    encode = line_encoder(built)
    assert isinstance(encode, WordCache)
    encode([" ".join(new[:20] * 100).encode()])
    assert 0 < len(encode._table.lengths) < 100
    assert np.array_equal(
        encode([" ".join(new[:20] * 100).encode()])[0], built.encode([" ".join(new[:20] * 100)])[0]
    )
