"""Builds every kind of tokenizer as one `tokenizers.Tokenizer`, and saves it with what a reader of
text must know.

Fast encoders, one for each kind of tokenizer. Each gives exactly the ids that the tokenizer gives.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, compress, repeat
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)

from rnnlm_tui.corpus.bpe import PairMerger, WordRules
from rnnlm_tui.errors import TokenizerError
from rnnlm_tui.schema.config import CorpusConfig, TokenizerConfig, TokenizerKind
from rnnlm_tui.schema.corpora import EosText, TextLayout
from rnnlm_tui.schema.formatting import counted
from rnnlm_tui.schema.text import user_path

PAD, EOS, UNK = "<pad>", "<eos>", "<unk>"

BPE_TRAINING_BYTES = 16 * 2**20
"""Merges are learned from about this much of the training split, spread over it; a vocabulary of
this kind gains nothing from more."""

LEARNED_WORDS = 250_000
"""Most distinct words to learn merges from. 16 MB of English have fewer; without the limit, a text
of nearly all distinct words takes a minute and 1 GB."""

COUNTED_WORDS = 1_000_000
"""With more distinct words, those seen once are dropped, so that memory stays bounded."""

TOKENIZER_NAME = "tokenizer.json"
TOKENIZER_CONFIG_NAME = "tokenizer_config.json"

Lines = Callable[[], Iterator[list[str]]]
"""Starts a pass over the training split: its sentences in batches."""

_PLAIN_WORDS = r" ?\p{L}+(?:['’]\p{L}+)*| ?\p{N}+(?:[.,]\p{N}+)*"
WORDS = rf"{_PLAIN_WORDS}| ?<\p{{L}}+>| ?[^\s\p{{L}}\p{{N}}]"
"""A word, a number, an <unk> or a punctuation mark, each with the space before it."""

_WORDS_AND_SPACE = rf"{_PLAIN_WORDS}| ?[^\s\p{{L}}\p{{N}}]|\n|[^\S\n]+(?!\S)|[^\S\n]"
"""A word, a number or a punctuation mark, each with the space before it; a line break; or other
white space. Special tokens never match."""

ASCII_SPLITS: dict[str, re.Pattern[str]] = {
    pattern: re.compile(
        pattern.replace(r"[^\s\p{L}\p{N}]", "[^\\sA-Za-z0-9]")
        .replace(r"\p{L}", "[A-Za-z]")
        .replace(r"\p{N}", "[0-9]")
    )
    for pattern in (WORDS, _WORDS_AND_SPACE)
}
"""The patterns of our own word tokenizers, and equivalents for printable ASCII, which Python
matches several times as fast as the library."""

_SPACE = r"\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
"""White space as the tokenizers' patterns define it; Python's also has the separators U+001C to
U+001F."""

BLOCKS = re.compile(f" ?[^{_SPACE}]+|[{_SPACE}]+(?![^{_SPACE}])|[{_SPACE}]")
"""Blocks that no token of our word and byte-level BPE tokenizers spans: text without white space,
with one space before it; and other white space."""


@dataclass(frozen=True, slots=True)
class BuiltTokenizer:
    """A tokenizer and its special tokens."""

    tokenizer: Tokenizer
    kind: TokenizerKind
    pad: str
    eos: str | None
    """None where sentences have no end token."""
    unk: str | None = None

    @property
    def vocab_size(self) -> int:
        return vocabulary_size(self.tokenizer)

    @property
    def pad_id(self) -> int:
        return cast(int, self.tokenizer.token_to_id(self.pad))

    @property
    def eos_id(self) -> int | None:
        return None if self.eos is None else self.tokenizer.token_to_id(self.eos)

    @property
    def unk_id(self) -> int | None:
        """The unknown token; None if there is none, or if the tokenizer uses its end or padding
        token for that."""
        return (
            None if self.unk in (None, self.eos, self.pad) else self.tokenizer.token_to_id(self.unk)
        )

    def encode(self, texts: list[str]) -> list[list[int]]:
        """The ids of each text, nothing added."""
        return [
            encoding.ids
            for encoding in self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        ]

    def save(
        self,
        folder: Path,
        eos_text: EosText,
        layout: TextLayout = "sentences",
        start: str | None = None,
    ) -> None:
        """Write tokenizer.json and tokenizer_config.json, which Hugging Face's AutoTokenizer reads
        too.

        Args:
            start: the text that an empty prompt stands for; None for the end token.
        """
        self.tokenizer.save(str(folder / TOKENIZER_NAME))
        config: dict[str, object] = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
            "padding_side": "right",
            "eos_token": self.eos,
            "pad_token": self.pad,
            "unk_token": self.unk,
            "rnnlm_eos_text": eos_text,
            "rnnlm_kind": self.kind,
        }
        if layout != "sentences":
            config |= {"rnnlm_layout": layout, "rnnlm_start": start}
        (folder / TOKENIZER_CONFIG_NAME).write_text(
            json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )


def build_tokenizer(
    config: TokenizerConfig,
    corpus: CorpusConfig,
    lines: Lines,
    *,
    size: int,
    tokenized: bool | None,
    layout: TextLayout = "sentences",
) -> BuiltTokenizer:
    """The tokenizer that the config asks for, trained on the training split where it has to be.

    Args:
        lines: starts a pass over the training split.
        size: bytes of the training split.
        tokenized: whether words are set apart by spaces already; None: seen from the text.
        layout: any other than `sentences` keeps white space.

    Raises:
        TokenizerError: a vocabulary that the text can't fill, or a pretrained tokenizer that can't
            be loaded or doesn't fit.
    """
    if config.kind == "pretrained":
        built = _pretrained(config)
        if layout == "raw":
            built.tokenizer.pre_tokenizer = _lines_apart(built.tokenizer.pre_tokenizer)
        if layout != "sentences":
            _check_lossless(built, config, lines, layout)
    elif config.kind == "bpe":
        built = _bpe(config, lines, size, layout)
    elif config.kind == "byte":
        built = _byte(config)
    elif config.kind == "character":
        built = _character(config, lines)
    elif layout != "sentences":
        built = _word_and_space(config, lines)
    else:
        built = _word(config, lines, looks_tokenized(lines) if tokenized is None else tokenized)
    _fold_prompts_too(built.tokenizer, corpus)
    return built


def load_built(folder: Path) -> BuiltTokenizer:
    """The tokenizer that `BuiltTokenizer.save` wrote into a folder."""
    config = json.loads((folder / TOKENIZER_CONFIG_NAME).read_text(encoding="utf-8"))
    tokenizer: Tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_NAME))
    return BuiltTokenizer(
        tokenizer,
        config["rnnlm_kind"],
        config["pad_token"],
        config["eos_token"],
        config["unk_token"],
    )


def check_pretrained(config: TokenizerConfig) -> None:
    """Load a pretrained tokenizer to see whether it fits, before anything long is done for it;
    others are trained later.

    Raises:
        TokenizerError: it can't be loaded or doesn't fit.
    """
    if config.kind == "pretrained":
        _pretrained(config)


def vocabulary_size(tokenizer: Tokenizer) -> int:
    """Rows that a model needs: `len(tokenizer)`, or one more than the highest id where ids have
    holes."""
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    return max(len(vocabulary), max(vocabulary.values(), default=-1) + 1)


def looks_tokenized(lines: Lines) -> bool:
    """Whether punctuation stands apart (or is missing), as in Penn Treebank text; judged by the
    first 10,000 sentences."""
    count = ended = commas = 0
    for batch in lines():
        for line in batch:
            count += 1
            ended += re.search(r"\w[.!?;:\"')]+$", line) is not None
            commas += re.search(r"\w,(?:\s|$)", line) is not None
        if count >= 10_000:
            break
    return max(ended, commas) < 0.1 * count


def _specials(config: TokenizerConfig, *, unk: bool = False) -> list[str]:
    return [PAD] + ([EOS] if config.end_of_sentence else []) + ([UNK] if unk else [])


def _finish(tokenizer: Tokenizer, config: TokenizerConfig, *, unk: bool = False) -> BuiltTokenizer:
    tokenizer.add_special_tokens(
        [AddedToken(name, special=True, normalized=False) for name in _specials(config, unk=unk)]
    )
    return BuiltTokenizer(
        tokenizer, config.kind, PAD, EOS if config.end_of_sentence else None, UNK if unk else None
    )


def _bpe(config: TokenizerConfig, lines: Lines, size: int, layout: TextLayout) -> BuiltTokenizer:
    tokenizer = Tokenizer(models.BPE())
    words = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = _lines_apart(words) if layout == "raw" else words
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size,
        special_tokens=_specials(config),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(
        _until_enough_words(_every(lines(), max(1, -(-size // BPE_TRAINING_BYTES)))),
        trainer=trainer,
    )
    learned = vocabulary_size(tokenizer)
    if learned != config.vocab_size:
        raise TokenizerError(
            f"the training text gives a BPE vocabulary of {counted(learned, 'type')},"
            f" tokenizer.vocab_size asks for {config.vocab_size:,}",
            hint=f"set tokenizer.vocab_size to {learned:,} or less, or take more text",
        )
    return _finish(tokenizer, config)


def _lines_apart(words: Any) -> Any:
    """Make a pre-tokenizer split lines first: raw text is encoded line by line, and a prompt of
    several lines must get the same tokens."""
    lines = pre_tokenizers.Split("\n", "merged_with_previous")
    return lines if words is None else pre_tokenizers.Sequence([lines, words])


def byte_names() -> list[str]:
    """What byte-level tokenizers call each byte, by its value: printable ones stand for themselves,
    the others for signs from U+0100 on."""
    printable = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)}
    others = iter(range(0x100, 0x200))
    return [chr(value) if value in printable else chr(next(others)) for value in range(256)]


def _byte(config: TokenizerConfig) -> BuiltTokenizer:
    names = [*_specials(config), *byte_names()]
    tokenizer = Tokenizer(
        models.BPE(vocab={name: index for index, name in enumerate(names)}, merges=[])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return _finish(tokenizer, config)


def _character(config: TokenizerConfig, lines: Lines) -> BuiltTokenizer:
    counts: Counter[str] = Counter()
    for batch in lines():
        counts.update("".join(batch))
    names = [
        *_specials(config, unk=True),
        *_most_frequent(counts, config.vocab_size - len(_specials(config, unk=True))),
    ]
    tokenizer = Tokenizer(
        models.BPE(
            vocab={name: index for index, name in enumerate(names)}, merges=[], unk_token=UNK
        )
    )
    tokenizer.decoder = decoders.Fuse()
    return _finish(tokenizer, config, unk=True)


def _word(config: TokenizerConfig, lines: Lines, tokenized: bool) -> BuiltTokenizer:
    tokenizer = Tokenizer(models.WordLevel(vocab={UNK: 0}, unk_token=UNK))
    if tokenized:
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    else:  # a word keeps the space before it, so that decoding gives the text back
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Prepend(" ")]
        )
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(WORDS), "isolated")
        tokenizer.decoder = decoders.Sequence(
            [decoders.Replace(UNK, f" {UNK}"), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
    specials = _specials(config, unk=True)
    words = _count_words(lines)
    counts = (
        words
        if tokenized
        else _count_pieces(tokenizer, WORDS, ((f" {word}", count) for word, count in words.items()))
    )
    for name in specials:
        counts.pop(name, None)
    names = [*specials, *_most_frequent(counts, config.vocab_size - len(specials))]
    tokenizer.model = models.WordLevel(
        vocab={name: index for index, name in enumerate(names)}, unk_token=UNK
    )
    return _finish(tokenizer, config, unk=True)


def _word_and_space(config: TokenizerConfig, lines: Lines) -> BuiltTokenizer:
    """A tokenizer of words, punctuation, line breaks and other white space, lossless except for
    unknown words."""
    tokenizer = Tokenizer(models.WordLevel(vocab={UNK: 0}, unk_token=UNK))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(_WORDS_AND_SPACE), "isolated")
    tokenizer.decoder = decoders.Fuse()
    blocks: Counter[str] = Counter()
    for batch in lines():
        for line in batch:
            blocks.update(BLOCKS.findall(line))
        if len(blocks) > COUNTED_WORDS:
            blocks = Counter({block: count for block, count in blocks.items() if count > 1})
    counts = _count_pieces(tokenizer, _WORDS_AND_SPACE, blocks.items())
    specials = _specials(config, unk=True)
    for name in specials:
        counts.pop(name, None)
    names = [*specials, *_most_frequent(counts, config.vocab_size - len(specials))]
    tokenizer.model = models.WordLevel(
        vocab={name: index for index, name in enumerate(names)}, unk_token=UNK
    )
    return _finish(tokenizer, config, unk=True)


def _check_lossless(
    built: BuiltTokenizer, config: TokenizerConfig, lines: Lines, layout: TextLayout
) -> None:
    """Refuse a pretrained tokenizer that doesn't decode the beginning of the text to itself."""
    units = next(lines(), [])
    encoded = built.encode(units)
    parts = (
        [(units, [index for ids in encoded for index in ids])]
        if layout == "raw"
        else [([unit], ids) for unit, ids in zip(units, encoded, strict=True)]
    )
    for kept, ids in parts:
        text, back = "".join(kept), built.tokenizer.decode(ids, skip_special_tokens=False)
        if text != back:
            place = next(
                (
                    index
                    for index, (one, other) in enumerate(zip(text, back, strict=False))
                    if one != other
                ),
                min(len(text), len(back)),
            )
            raise TokenizerError(
                f'the tokenizer "{config.name}" doesn\'t keep every character:'
                f" {text[place : place + 12]!r} becomes {back[place : place + 12]!r}, the layout is"
                f" {layout}",
                hint="take tokenizer.kind=bpe, byte or character, or corpus.layout=sentences",
            )


def _count_words(lines: Lines) -> Counter[str]:
    """Count the words, split at white space."""
    counts: Counter[str] = Counter()
    for batch in lines():
        for line in batch:
            counts.update(line.split())
        if len(counts) > COUNTED_WORDS:
            counts = Counter({word: count for word, count in counts.items() if count > 1})
    return counts


def _count_pieces(
    tokenizer: Tokenizer, pattern: str, texts: Iterable[tuple[str, int]]
) -> Counter[str]:
    """Count the pieces into which the tokenizer splits texts with their counts; a text has white
    space at its beginning only."""
    find = ASCII_SPLITS[pattern].findall
    counts: Counter[str] = Counter()
    known = counts.get
    for text, count in texts:
        quick = text.isascii() and text.isprintable() and not text.isspace()
        for piece in (
            find(text)
            if quick
            else [piece for piece, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text)]
        ):
            counts[piece] = known(piece, 0) + count
    return counts


def _most_frequent(counts: Counter[str], limit: int) -> list[str]:
    if limit < 1:
        raise TokenizerError(
            "tokenizer.vocab_size leaves no room beside the special tokens", hint="take at least 4"
        )
    return sorted(sorted(counts), key=counts.__getitem__, reverse=True)[
        :limit
    ]  # of equally frequent ones the first by name


def _pretrained(config: TokenizerConfig) -> BuiltTokenizer:
    name = config.name or ""
    _refuse_by_kind(user_path(name), name)
    from transformers import AutoTokenizer

    try:
        loaded: Any = AutoTokenizer.from_pretrained(
            str(user_path(name)) if user_path(name).is_dir() else name, trust_remote_code=False
        )
    except (
        Exception
    ) as error:  # the library raises many kinds; each of them means the same to a person
        reason = str(error).strip().split("\n")[0]
        raise TokenizerError(
            f'the tokenizer "{name}" can\'t be loaded: {reason}',
            hint=(
                "give a folder with tokenizer.json, or a name on the hub that this machine can"
                " reach"
            ),
        ) from error
    if not getattr(loaded, "is_fast", False):
        raise TokenizerError(
            f'the tokenizer "{name}" has no fast version', hint="it needs a tokenizer.json"
        )
    if len(loaded) != config.vocab_size:
        raise TokenizerError(
            f'the tokenizer "{name}" has {counted(len(loaded), "type")}, tokenizer.vocab_size says'
            f" {config.vocab_size:,}",
            hint=f"set tokenizer.vocab_size={len(loaded)}",
        )
    eos, pad = loaded.eos_token, loaded.pad_token or loaded.eos_token
    if config.end_of_sentence and eos is None:
        raise TokenizerError(
            f'the tokenizer "{name}" has no end token', hint="set tokenizer.end_of_sentence=false"
        )
    if pad is None:
        raise TokenizerError(
            f'the tokenizer "{name}" has neither a padding nor an end token',
            hint="name one of them in its tokenizer_config.json",
        )
    tokenizer = Tokenizer.from_str(loaded.backend_tokenizer.to_str())
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return BuiltTokenizer(
        tokenizer,
        "pretrained",
        str(pad),
        str(eos) if config.end_of_sentence else None,
        None if loaded.unk_token is None else str(loaded.unk_token),
    )


def _refuse_by_kind(path: Path, name: str) -> None:
    """A file is no tokenizer folder; a folder without a tokenizer's files is none either. Nothing
    is opened."""
    if path.is_file():
        raise TokenizerError(
            f'"{name}" is a file, a pretrained tokenizer is a folder with tokenizer.json, or a hub'
            " name",
            hint="pickles and .pt files are never opened",
        )
    if path.is_dir() and not any(
        (path / file).is_file()
        for file in ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
    ):
        raise TokenizerError(
            f"the folder {path} holds no tokenizer.json",
            hint="pickles and .pt files are never opened",
        )


def _fold_prompts_too(tokenizer: Tokenizer, corpus: CorpusConfig) -> None:
    """The corpus is cleaned before; a prompt has to look like it."""
    steps: list[Any] = []
    if corpus.mask_digits:
        steps.append(normalizers.Replace(Regex(r"\d+"), "###"))
    if corpus.lowercase:
        steps.append(normalizers.Lowercase())
    if steps:
        own = tokenizer.normalizer
        tokenizer.normalizer = normalizers.Sequence([*steps, *([] if own is None else [own])])


def _every(batches: Iterator[list[str]], stride: int) -> Iterator[list[str]]:
    """Each `stride`-th batch, the first one included."""
    return (batch for index, batch in enumerate(batches) if index % stride == 0)


def _until_enough_words(batches: Iterator[list[str]]) -> Iterator[list[str]]:
    """The batches up to the one that reaches `LEARNED_WORDS` distinct words."""
    words: set[str] = set()
    for batch in batches:
        yield batch
        words.update(" ".join(batch).split())
        if len(words) >= LEARNED_WORDS:
            return


Ids = NDArray[np.uint32]
Lengths = NDArray[np.int64]
EncodeLines = Callable[[Sequence[bytes]], tuple[Ids, Lengths]]
"""Encodes UTF-8 sentences: the ids of all of them in order, and the number of ids of each."""

FEW_WORDS = 64
"""Fewer new words than this go to the tokenizer: for so few, PairMerger's overhead costs more than
it saves."""

LOOKED_UP = 512
"""Sample size for the check whether most words of a batch are new."""

MAX_ADDED_TOKENS = 32
"""A tokenizer with more added tokens than this gets whole sentences."""

_META = "\u2581"
"""Sentencepiece's sign for a space."""

_WORD_PATTERNS = frozenset(
    rf"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    for digits in (r"\p{N}{1,3}", r"\p{N}")
)
"""Split patterns of cl100k, Llama 3 and Qwen: a single space always begins a new piece."""

CACHED_WORDS = 200_000
"""Size of the cache in words; a full cache is cleared, so that memory stays bounded."""


def line_encoder(built: BuiltTokenizer, layout: TextLayout = "sentences") -> EncodeLines:
    """The fastest encoder for this tokenizer."""
    built.tokenizer.encode_special_tokens = True  # text that reads "<eos>" is text
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
    """Encodes with a cache of words; each different word is encoded once.

    Exact for tokenizers whose tokens never span a single space (see `word_rules`). A sentence with
    other white space, or with
    one of the tokenizer's added tokens, is encoded by the tokenizer itself.
    """

    def __init__(self, built: BuiltTokenizer, rules: WordRules, state: Mapping[str, Any]) -> None:
        self._built = built
        self._rules = rules
        self._words = _Words(built, rules, state)
        self._later, self._first = _Rows(), _Rows()
        """Rows of words after a space, and of words at the beginning of a sentence."""
        self._table = _Table()

    def __call__(self, lines: Sequence[bytes]) -> tuple[Ids, Lengths]:
        if len(self._table.lengths) > CACHED_WORDS:
            self._forget()
        texts = [line.decode() for line in lines]
        text = " ".join(texts)
        words = text.split()
        if " ".join(words) == text and not self._sets_apart(text):
            return self._plain(texts, words)
        plain = [" ".join(one.split()) == one != "" and not self._sets_apart(one) for one in texts]
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

    def _sets_apart(self, text: str) -> bool:
        return any(one in text for one in self._rules.set_apart)

    def _plain(self, texts: Sequence[str], words: list[str]) -> tuple[Ids, Lengths]:
        """Sentences whose words are separated by single spaces."""
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
        """Whether most of the words are new and occur once, so that caching them costs more than
        encoding them."""
        if not self._words.are_quick or len(words) < FEW_WORDS:
            return False
        some = words[:: 1 + len(words) // LOOKED_UP]
        if 2 * sum(map(self._later.__contains__, some)) >= len(some) or 10 * sum(
            map(str.isascii, some)
        ) < 9 * len(some):
            return (
                False  # most would go to the tokenizer: PairMerger and _WordFinder take ASCII only
            )
        return 2 * len(set(words)) > len(words)

    def _learn(self, known: _Rows, *, opening: bool) -> Lengths:
        """Encode the new words and return the row of each word of `known`."""
        new = known.take_new()
        if new:
            rows = np.arange(len(self._table.lengths), len(self._table.lengths) + len(new))
            known.places = np.concatenate([known.places, rows])
            self._table.add(*self._words.encode(new, opening=opening))
        return known.places

    def _forget(self) -> None:
        self._later, self._first, self._table = _Rows(), _Rows(), _Table()


class BlockCache:
    """Encodes text with its white space, with a cache of blocks: a word with the space before it,
    or a run of white space.

    Exact for our own word and byte-level BPE tokenizers, whose tokens never span two blocks (see
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
    """Encodes words that aren't in the cache: merged or looked up here where that is exact, else by
    the tokenizer."""

    def __init__(self, built: BuiltTokenizer, rules: WordRules, state: Mapping[str, Any]) -> None:
        self._built, self._rules = built, rules
        self._quick: PairMerger | _WordFinder | None = (
            PairMerger(state["model"], rules) if rules.mark else _word_finder(built, rules, state)
        )

    @property
    def are_quick(self) -> bool:
        """Whether most words are encoded without the tokenizer."""
        return self._quick is not None

    def encode(self, words: list[str], *, opening: bool) -> tuple[Ids, Lengths]:
        """All ids, and the number of ids of each word.

        Args:
            opening: the words begin sentences, so no space comes before them.
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
        """Encode each text with the tokenizer, as it is."""
        return _flat(self._built.encode(texts))


class _WordFinder:
    """Looks up words of printable ASCII in a word vocabulary, split as our own tokenizers split
    them; takes no other words."""

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
            pattern: splits a word with the space before it; None: each word is one token, without a
                space.
            always_spaced: a word at the beginning of a sentence has a space before it too.
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
        """As `PairMerger.encode`."""
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
    """For our own word tokenizers; None for any other."""
    if built.kind != "word":
        return None
    splitter, model = state["pre_tokenizer"], state["model"]
    whole = splitter["type"] == "WhitespaceSplit"
    pattern = None if whole else ASCII_SPLITS.get(splitter["pattern"]["Regex"])
    if pattern is None and not whole:
        return None  # an earlier version built this tokenizer
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
    """Merge two lists of words by their positions."""
    both = np.empty(len(places) + len(other_places), np.int64)
    both[places], both[other_places] = lengths, other_lengths
    is_first = np.zeros(len(both), bool)
    is_first[places] = True
    found = np.empty(len(ids) + len(others), np.uint32)
    mine = np.repeat(is_first, both)
    found[mine], found[~mine] = ids, others
    return found, both


class _Table:
    """The ids of words, one row for each word."""

    def __init__(self) -> None:
        self.ids: Ids = np.empty(0, np.uint32)
        self.starts: Lengths = np.empty(0, np.int64)
        self.lengths: Lengths = np.empty(0, np.int64)
        """All ids; for each row its first position in them and its number of ids."""

    def add(self, ids: Ids, lengths: Lengths) -> None:
        """Add rows at the end."""
        self.starts = np.concatenate([self.starts, len(self.ids) + np.cumsum(lengths) - lengths])
        self.lengths = np.concatenate([self.lengths, lengths])
        self.ids = np.concatenate([self.ids, ids])


class _Rows(dict[str, int]):
    """Numbers words in order of appearance and collects the new ones until `take_new`."""

    def __init__(self) -> None:
        self._new: list[str] = []
        self.places: Lengths = np.empty(0, np.int64)
        """The row of each word, by its number."""

    def __missing__(self, word: str) -> int:
        self[word] = number = len(self)
        self._new.append(word)
        return number

    def take_new(self) -> list[str]:
        new, self._new = self._new, []
        return new


def word_rules(state: Mapping[str, Any]) -> WordRules | None:
    """The rules for encoding a tokenizer's words one by one; None if that isn't known to be exact.

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
    set_apart = tuple(one["content"] for one in added)
    kinds = [step["type"] for step in normalizers]
    if kinds in ([], ["NFC"]) and splitters and splitters[-1]["type"] == "ByteLevel":
        return _byte_level_rules(splitters, model, set_apart)
    if (
        kinds == ["Prepend", "Replace"]
        and not splitters
        and _is_metaspace(normalizers)
        and _never_joins(model)
    ):
        return _metaspace_rules(model, set_apart)
    if kinds == [] and [step["type"] for step in splitters] == ["Metaspace"]:
        step = splitters[0]
        if (
            step["replacement"] == _META
            and step["prepend_scheme"] in ("always", "first")
            and (step.get("split", True) or _never_joins(model))
        ):
            return _metaspace_rules(model, set_apart)
    if [step["type"] for step in splitters] in (
        ["BertPreTokenizer"],
        ["WhitespaceSplit"],
        ["Whitespace"],
    ) and kinds in ([], ["NFC"], ["BertNormalizer"]):
        return WordRules("", set_apart=set_apart)
    if (
        model["type"] == "WordLevel"
        and kinds == ["Replace", "Prepend"]
        and [step["type"] for step in splitters] == ["Split"]
        and splitters[0]["pattern"] == {"Regex": WORDS}
    ):
        return WordRules(
            "", set_apart=set_apart
        )  # our own word tokenizer, whose words include the space before them
    return None


def _block_rules(state: Mapping[str, Any]) -> WordRules:
    """The rules for the blocks of our own tokenizers; a byte-level one's first step splits lines,
    so its last step decides."""
    splitters = _steps(state["pre_tokenizer"], "pretokenizers")
    rules = (
        _byte_level_rules(splitters[-1:], state["model"], ())
        if splitters[-1]["type"] == "ByteLevel"
        else None
    )
    return rules or WordRules(" ")


def _byte_level_rules(
    splitters: list[dict[str, Any]], model: Mapping[str, Any], set_apart: tuple[str, ...]
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
            set_apart=set_apart,
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
        return WordRules(" ", mark, inside="letters", names=names, set_apart=set_apart)
    return None


def _metaspace_rules(model: Mapping[str, Any], set_apart: tuple[str, ...]) -> WordRules:
    mark = _META if _merges_plainly(model) else ""
    return WordRules(
        "", mark, mark_at_start=True, names=tuple(map(chr, range(128))), set_apart=set_apart
    )


def _merges_plainly(model: Mapping[str, Any]) -> bool:
    odd = ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "ignore_merges")
    return model["type"] == "BPE" and not any(model.get(name) for name in odd)


def _never_joins(model: Mapping[str, Any]) -> bool:
    """Whether a BPE model's tokens have the space sign at their beginning only."""
    return model["type"] == "BPE" and all(
        _META not in name[1:] or not name.strip(_META) for name in model["vocab"]
    )


def _is_metaspace(normalizers: Sequence[Mapping[str, Any]]) -> bool:
    prepend, replace = normalizers
    return bool(
        prepend["prepend"] == replace["content"] == _META and replace["pattern"] == {"String": " "}
    )


def _steps(part: Mapping[str, Any] | None, name: str) -> list[dict[str, Any]]:
    """The steps of a normalizer or pre-tokenizer, with nested sequences flattened."""
    if part is None:
        return []
    return (
        [step for inner in part[name] for step in _steps(inner, name)]
        if part["type"] == "Sequence"
        else [dict(part)]
    )


def _without_folding(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without the steps that lowercase or mask digits in prompts, because the corpus already is
    lowercased and masked."""
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
