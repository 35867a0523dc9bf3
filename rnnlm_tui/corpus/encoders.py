"""Fast encoders for each kind of tokenizer, with exactly the same ids as the tokenizer's."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import chain, compress, repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnlm_tui.corpus.bpe import Ids, Lengths, PairMerger, WordRules
from rnnlm_tui.corpus.tokenizers import ASCII_SPLITS, BLOCKS, WORDS, BuiltTokenizer, byte_names
from rnnlm_tui.schema.corpora import TextLayout

EncodeLines = Callable[[Sequence[bytes]], tuple[Ids, Lengths]]
"""Encodes UTF-8 sentences: returns all ids in order, and the number of ids of each sentence."""

FEW_WORDS = 64
"""Fewer new words are encoded by the tokenizer, because PairMerger's overhead would cost more."""

LOOKED_UP = 512
"""Sample size for checking whether most words of a batch are new."""

MAX_ADDED_TOKENS = 32
"""With more added tokens, the tokenizer encodes whole sentences."""

_META = "\u2581"
"""SentencePiece's sign for a space."""

_WORD_PATTERNS = frozenset(
    rf"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    for digits in (r"\p{N}{1,3}", r"\p{N}")
)
"""Split patterns of cl100k, Llama 3 and Qwen, where a single space always starts a new piece."""

CACHED_WORDS = 200_000
"""Most words in a cache; a full cache is cleared to limit memory."""


def line_encoder(built: BuiltTokenizer, layout: TextLayout = "sentences") -> EncodeLines:
    """The fastest encoder for a tokenizer."""
    built.tokenizer.encode_special_tokens = True  # "<eos>" in the text is ordinary text
    if built.kind == "byte":
        return _byte_encoder(built)
    if built.kind == "character":
        return _character_encoder(built)
    state = json.loads(built.tokenizer.to_str())
    if layout != "sentences" and built.kind in ("bpe", "word"):
        return BlockCache(built, _block_rules(state), state)
    rules = word_rules(state) if layout != "raw" else None
    if rules is not None:
        return WordCache(built, rules, state)
    return lambda lines: _flat(built.encode([line.decode() for line in lines]))


class WordCache:
    """Encode each distinct word once and cache it.

    Exact for tokenizers whose tokens never span a single space (see `word_rules`). Sentences with
    other white space or with an added token are encoded by the tokenizer.
    """

    def __init__(self, built: BuiltTokenizer, rules: WordRules, state: Mapping[str, Any]) -> None:
        self._built = built
        self._rules = rules
        self._words = _Words(built, rules, state)
        self._later, self._first = _Rows(), _Rows()
        """Rows of words after a space, and of words at the start of a sentence."""
        self._table = _Table()

    def __call__(self, lines: Sequence[bytes]) -> tuple[Ids, Lengths]:
        if len(self._table.lengths) > CACHED_WORDS:
            self._forget()
        texts = [line.decode() for line in lines]
        text = " ".join(texts)
        words = text.split()
        if words and " ".join(words) == text and not self._has_added_token(text):
            return self._plain(texts, words)
        plain = [
            " ".join(one.split()) == one != "" and not self._has_added_token(one) for one in texts
        ]
        odd = iter(
            self._built.encode(
                [one for one, is_plain in zip(texts, plain, strict=True) if not is_plain]
            )
        )
        kept = [one for one, is_plain in zip(texts, plain, strict=True) if is_plain]
        ids, lengths = self._plain(kept, " ".join(kept).split())
        known = iter(np.split(ids, np.cumsum(lengths)[:-1]))
        parts = [next(known) if is_plain else np.array(next(odd), np.uint32) for is_plain in plain]
        return np.concatenate(parts), np.fromiter(map(len, parts), np.int64, len(parts))

    def _has_added_token(self, text: str) -> bool:
        return any(one in text for one in self._rules.added_tokens)

    def _plain(self, texts: Sequence[str], words: list[str]) -> tuple[Ids, Lengths]:
        """Encode sentences whose words are separated by single spaces."""
        if not texts:
            return np.empty(0, np.uint32), np.empty(0, np.int64)
        counts = np.fromiter((text.count(" ") + 1 for text in texts), np.int64, len(texts))
        first = np.cumsum(counts) - counts
        opening = [words[place] for place in first]
        if self._are_new(words):
            table = _Table()
            rows = np.arange(len(words))
            table.add(*self._words.encode(words, opening=False))
            rows[first] = len(words) + np.arange(len(opening))
            table.add(*self._words.encode(opening, opening=True))
        else:
            table = self._table
            later_rows = np.fromiter(map(self._later.__getitem__, words), np.int64, len(words))
            first_rows = np.fromiter(map(self._first.__getitem__, opening), np.int64, len(opening))
            rows = self._learn(self._later, opening=False)[later_rows]
            rows[first] = self._learn(self._first, opening=True)[first_rows]
        lengths = table.lengths[rows]
        ends = np.cumsum(lengths)
        places = np.arange(ends[-1]) + np.repeat(table.starts[rows] - ends + lengths, lengths)
        return table.ids[places], np.add.reduceat(lengths, first)

    def _are_new(self, words: list[str]) -> bool:
        """Whether most words are new and occur once, so that caching doesn't pay."""
        if not self._words.are_quick or len(words) < FEW_WORDS:
            return False
        some = words[:: 1 + len(words) // LOOKED_UP]
        cached, ascii_words = (
            sum(map(test, some)) / len(some) for test in (self._later.__contains__, str.isascii)
        )
        # PairMerger and _WordFinder only encode ASCII: the tokenizer would encode the others.
        return cached < 0.5 and ascii_words >= 0.9 and 2 * len(set(words)) > len(words)

    def _learn(self, known: _Rows, *, opening: bool) -> Lengths:
        """Encode the new words in `known` and return the row of each of its words."""
        new = known.take_new()
        if new:
            rows = np.arange(len(self._table.lengths), len(self._table.lengths) + len(new))
            known.places = np.concatenate([known.places, rows])
            self._table.add(*self._words.encode(new, opening=opening))
        return known.places

    def _forget(self) -> None:
        self._later, self._first, self._table = _Rows(), _Rows(), _Table()


class BlockCache:
    """Encode text with its white space, and cache blocks: a word with its space, or white space.

    Exact for our word and byte-level BPE tokenizers, whose tokens never span two blocks (see
    `BLOCKS`).
    """

    def __init__(self, built: BuiltTokenizer, rules: WordRules, state: Mapping[str, Any]) -> None:
        self._words = _Words(built, rules, state)
        self._rows, self._table = _Rows(), _Table()

    def __call__(self, units: Sequence[bytes]) -> tuple[Ids, Lengths]:
        if len(self._table.lengths) > CACHED_WORDS:
            self._rows, self._table = _Rows(), _Table()
        found = [BLOCKS.findall(unit.decode()) for unit in units]
        blocks = list(chain.from_iterable(found))
        rows = np.fromiter(map(self._rows.__getitem__, blocks), np.int64, len(blocks))
        new = self._rows.take_new()
        if new:
            self._table.add(*self._encode(new))
        lengths = self._table.lengths[rows]
        ends = np.cumsum(lengths)
        places = np.arange(int(lengths.sum())) + np.repeat(
            self._table.starts[rows] - ends + lengths, lengths
        )
        up_to = np.append(0, ends)[
            np.append(0, np.cumsum(np.fromiter(map(len, found), np.int64, len(found))))
        ]
        return self._table.ids[places], np.diff(up_to)

    def _encode(self, blocks: list[str]) -> tuple[Ids, Lengths]:
        blank: list[int] = []
        spaced: list[int] = []
        opening: list[int] = []
        for place, block in enumerate(blocks):
            (blank if block.isspace() else spaced if block[0] == " " else opening).append(place)
        found = self._words.encode([blocks[place][1:] for place in spaced], opening=False)
        more = self._words.encode([blocks[place] for place in opening], opening=True)
        both = np.array(sorted(spaced + opening), np.int64)
        joined = _interleaved(
            np.searchsorted(both, np.array(spaced, np.int64)),
            *found,
            np.searchsorted(both, np.array(opening, np.int64)),
            *more,
        )
        return _interleaved(
            both,
            *joined,
            np.array(blank, np.int64),
            *self._words.encode_alone([blocks[place] for place in blank]),
        )


class _Words:
    """Encode words that aren't cached, without the tokenizer where that is exact."""

    def __init__(self, built: BuiltTokenizer, rules: WordRules, state: Mapping[str, Any]) -> None:
        self._built, self._rules = built, rules
        self._quick: PairMerger | _WordFinder | None = (
            PairMerger(state["model"], rules) if rules.mark else _word_finder(built, rules, state)
        )

    @property
    def are_quick(self) -> bool:
        """Whether most words can be encoded without the tokenizer."""
        return self._quick is not None

    def encode(self, words: list[str], *, opening: bool) -> tuple[Ids, Lengths]:
        """Encode words: all ids, and the number of ids of each word.

        Args:
            opening: whether the words start sentences, without a space before them.
        """
        before = "" if opening else self._rules.space
        if self._quick is None or len(words) < FEW_WORDS:
            return self.encode_alone([before + word for word in words])
        ids, lengths, taken = self._quick.encode(words, opening=opening)
        if taken.all():
            return ids, lengths
        others, other_lengths = self.encode_alone(
            [before + word for word, is_taken in zip(words, taken, strict=True) if not is_taken]
        )
        return _interleaved(
            np.flatnonzero(taken),
            ids,
            lengths[taken],
            np.flatnonzero(~taken),
            others,
            other_lengths,
        )

    def encode_alone(self, texts: list[str]) -> tuple[Ids, Lengths]:
        """Encode each text with the tokenizer."""
        return _flat(self._built.encode(texts))


class _WordFinder:
    """Look up words of printable ASCII in the vocabulary of one of our word tokenizers."""

    def __init__(
        self,
        vocabulary: Mapping[str, int],
        unknown: int,
        pattern: re.Pattern[str] | None,
        *,
        always_spaced: bool,
    ) -> None:
        """
        Args:
            pattern: splits a word with its space; None if each word without its space is one token.
            always_spaced: whether a word at the start of a sentence gets a space too.
        """
        self._vocabulary, self._unknown, self._pattern, self._always_spaced = (
            vocabulary,
            unknown,
            pattern,
            always_spaced,
        )

    def encode(
        self, words: Sequence[str], *, opening: bool
    ) -> tuple[Ids, Lengths, NDArray[np.bool_]]:
        """Encode like `PairMerger.encode`."""
        text = " ".join(words)
        taken = np.ones(len(words), bool)
        if not (text.isascii() and text.isprintable()):
            taken = np.fromiter(
                (word.isascii() and word.isprintable() for word in words), bool, len(words)
            )
            words = list(compress(words, taken))
            text = " ".join(words)
        lengths = taken.astype(np.int64)
        pieces: Sequence[str] = words
        if self._pattern is not None and words:
            pieces = self._pattern.findall(f" {text}")
            first = np.fromiter((piece[0] == " " for piece in pieces), bool, len(pieces))
            lengths[taken] = np.diff(np.append(np.flatnonzero(first), len(pieces)))
            if opening and not self._always_spaced:
                pieces = [piece.removeprefix(" ") for piece in pieces]
        return (
            np.fromiter(
                map(self._vocabulary.get, pieces, repeat(self._unknown)), np.uint32, len(pieces)
            ),
            lengths,
            taken,
        )


def _word_finder(
    built: BuiltTokenizer, rules: WordRules, state: Mapping[str, Any]
) -> _WordFinder | None:
    """The finder for one of our word tokenizers; None for others."""
    if built.kind != "word":
        return None
    splitter, model = state["pre_tokenizer"], state["model"]
    whole = splitter["type"] == "WhitespaceSplit"
    pattern = None if whole else ASCII_SPLITS.get(splitter["pattern"]["Regex"])
    if pattern is None and not whole:
        return None  # built by an earlier version
    return _WordFinder(
        model["vocab"], model["vocab"][model["unk_token"]], pattern, always_spaced=not rules.space
    )


def _interleaved(
    places: Lengths,
    ids: Ids,
    lengths: Lengths,
    other_places: Lengths,
    others: Ids,
    other_lengths: Lengths,
) -> tuple[Ids, Lengths]:
    """Merge the encodings of two lists of words by the words' positions."""
    both = np.empty(len(places) + len(other_places), np.int64)
    both[places], both[other_places] = lengths, other_lengths
    is_first = np.zeros(len(both), bool)
    is_first[places] = True
    found = np.empty(len(ids) + len(others), np.uint32)
    mine = np.repeat(is_first, both)
    found[mine], found[~mine] = ids, others
    return found, both


class _Table:
    """The ids of encoded words, one row per word."""

    def __init__(self) -> None:
        self.ids: Ids = np.empty(0, np.uint32)
        self.starts: Lengths = np.empty(0, np.int64)
        self.lengths: Lengths = np.empty(0, np.int64)
        """All ids, and the start and length of each row in them."""

    def add(self, ids: Ids, lengths: Lengths) -> None:
        """Append rows."""
        self.starts = np.concatenate([self.starts, len(self.ids) + np.cumsum(lengths) - lengths])
        self.lengths = np.concatenate([self.lengths, lengths])
        self.ids = np.concatenate([self.ids, ids])


class _Rows(dict[str, int]):
    """Number words in order of appearance and collect new ones until `take_new`."""

    def __init__(self) -> None:
        self._new: list[str] = []
        self.places: Lengths = np.empty(0, np.int64)
        """The row of each word by its number."""

    def __missing__(self, word: str) -> int:
        self[word] = number = len(self)
        self._new.append(word)
        return number

    def take_new(self) -> list[str]:
        new, self._new = self._new, []
        return new


def word_rules(state: Mapping[str, Any]) -> WordRules | None:
    """The rules for encoding words independently; None if that isn't known to be exact.

    Args:
        state: the parsed tokenizer.json.
    """
    normalizers = _without_folding(_steps(state["normalizer"], "normalizers"))
    splitters, model, added = (
        _steps(state["pre_tokenizer"], "pretokenizers"),
        state["model"],
        [one for one in state["added_tokens"] if not one["special"]],
    )
    if len(added) > MAX_ADDED_TOKENS or any(one["normalized"] and normalizers for one in added):
        return None
    added_tokens = tuple(one["content"] for one in added)
    kinds = [step["type"] for step in normalizers]
    if kinds in ([], ["NFC"]) and splitters and splitters[-1]["type"] == "ByteLevel":
        return _byte_level_rules(splitters, model, added_tokens)
    if (
        kinds == ["Prepend", "Replace"]
        and not splitters
        and _is_metaspace(normalizers)
        and _never_joins(model)
    ):
        return _metaspace_rules(model, added_tokens)
    if kinds == [] and [step["type"] for step in splitters] == ["Metaspace"]:
        step = splitters[0]
        if (
            step["replacement"] == _META
            and step["prepend_scheme"] in ("always", "first")
            and (step.get("split", True) or _never_joins(model))
        ):
            return _metaspace_rules(model, added_tokens)
    if [step["type"] for step in splitters] in (
        ["BertPreTokenizer"],
        ["WhitespaceSplit"],
        ["Whitespace"],
    ) and kinds in ([], ["NFC"], ["BertNormalizer"]):
        return WordRules("", added_tokens=added_tokens)
    if (
        model["type"] == "WordLevel"
        and kinds == ["Replace", "Prepend"]
        and [step["type"] for step in splitters] == ["Split"]
        and splitters[0]["pattern"] == {"Regex": WORDS}
    ):
        # our word tokenizer, whose words include their space
        return WordRules("", added_tokens=added_tokens)
    return None


def _block_rules(state: Mapping[str, Any]) -> WordRules:
    """The rules for the blocks of our tokenizers.

    A byte-level one splits lines first; its last step counts.
    """
    splitters = _steps(state["pre_tokenizer"], "pretokenizers")
    rules = (
        _byte_level_rules(splitters[-1:], state["model"], ())
        if splitters[-1]["type"] == "ByteLevel"
        else None
    )
    return rules or WordRules(" ")


def _byte_level_rules(
    splitters: list[dict[str, Any]], model: Mapping[str, Any], added_tokens: tuple[str, ...]
) -> WordRules | None:
    last = splitters[-1]
    mark = byte_names()[ord(" ")] if _merges_plainly(model) else ""
    names = tuple(byte_names()[:128])
    if len(splitters) == 1 and last["use_regex"]:
        return WordRules(
            " ",
            mark,
            mark_at_start=last["add_prefix_space"],
            inside="classes",
            names=names,
            added_tokens=added_tokens,
        )
    known = (
        len(splitters) == 2
        and splitters[0]["type"] == "Split"
        and splitters[0]["pattern"].get("Regex") in _WORD_PATTERNS
    )
    if (
        known
        and splitters[0]["behavior"] == "Isolated"
        and not splitters[0]["invert"]
        and not last["use_regex"]
        and not last["add_prefix_space"]
    ):
        return WordRules(" ", mark, inside="letters", names=names, added_tokens=added_tokens)
    return None


def _metaspace_rules(model: Mapping[str, Any], added_tokens: tuple[str, ...]) -> WordRules:
    mark = _META if _merges_plainly(model) else ""
    return WordRules(
        "", mark, mark_at_start=True, names=tuple(map(chr, range(128))), added_tokens=added_tokens
    )


def _merges_plainly(model: Mapping[str, Any]) -> bool:
    odd = ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "ignore_merges")
    return model["type"] == "BPE" and not any(model.get(name) for name in odd)


def _never_joins(model: Mapping[str, Any]) -> bool:
    """Whether a BPE model's tokens contain the space sign only at their start."""
    return model["type"] == "BPE" and all(
        _META not in name[1:] or not name.strip(_META) for name in model["vocab"]
    )


def _is_metaspace(normalizers: Sequence[Mapping[str, Any]]) -> bool:
    prepend, replace = normalizers
    return bool(
        prepend["prepend"] == replace["content"] == _META and replace["pattern"] == {"String": " "}
    )


def _steps(part: Mapping[str, Any] | None, name: str) -> list[dict[str, Any]]:
    """The steps of a normalizer or pre-tokenizer, flattening nested sequences."""
    if part is None:
        return []
    return (
        [step for inner in part[name] for step in _steps(inner, name)]
        if part["type"] == "Sequence"
        else [dict(part)]
    )


def _without_folding(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Drop the steps that fold prompts; the corpus is already lowercased and masked."""
    folds = (
        {"type": "Replace", "pattern": {"Regex": r"\d+"}, "content": "###"},
        {"type": "Lowercase"},
    )
    return _without_folding(steps[1:]) if steps and steps[0] in folds else steps


def _byte_encoder(built: BuiltTokenizer) -> EncodeLines:
    table = np.array([built.tokenizer.token_to_id(name) for name in byte_names()], np.uint32)

    def encode(lines: Sequence[bytes]) -> tuple[Ids, Lengths]:
        return table[np.frombuffer(b"".join(lines), np.uint8)], np.fromiter(
            map(len, lines), np.int64, len(lines)
        )

    return encode


def _character_encoder(built: BuiltTokenizer) -> EncodeLines:
    table = np.full(0x110000, built.unk_id, np.uint32)
    for name, index in built.tokenizer.get_vocab().items():
        if len(name) == 1:
            table[ord(name)] = index

    def encode(lines: Sequence[bytes]) -> tuple[Ids, Lengths]:
        texts = [line.decode() for line in lines]
        return table[np.frombuffer("".join(texts).encode("utf-32-le"), np.uint32)], np.fromiter(
            map(len, texts), np.int64, len(texts)
        )

    return encode


def _flat(ids: Sequence[Sequence[int]]) -> tuple[Ids, Lengths]:
    lengths = np.fromiter(map(len, ids), np.int64, len(ids))
    return np.fromiter(chain.from_iterable(ids), np.uint32, int(lengths.sum())), lengths
