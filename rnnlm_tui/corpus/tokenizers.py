"""Build and save tokenizers of all kinds, as `tokenizers.Tokenizer` with additional settings."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import Any, cast

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

from rnnlm_tui.corpus.splits import END, UNIT
from rnnlm_tui.corpus.text_files import looks_tokenized
from rnnlm_tui.errors import TokenizerError
from rnnlm_tui.schema.config import CorpusConfig, TokenizerConfig, TokenizerKind
from rnnlm_tui.schema.corpora import EosText, TextLayout
from rnnlm_tui.schema.formatting import counted, user_path

PAD, EOS, UNK = "<pad>", "<eos>", "<unk>"

BPE_TRAINING_BYTES = 16 * 2**20
"""Merges are learned from about this much text, spread over the training split; more doesn't help.
"""

LEARNED_WORDS = 250_000
"""Most distinct words to learn merges from.

16 MB of English have fewer. Without the limit, a text of mostly distinct words takes a minute and 1
GB.
"""

COUNTED_WORDS = 1_000_000
"""With more distinct words, those seen once are dropped, to limit memory."""

TOKENIZER_NAME = "tokenizer.json"
TOKENIZER_CONFIG_NAME = "tokenizer_config.json"

Lines = Callable[[], Iterator[list[str]]]
"""Returns the sentences of the training split in batches."""

_PLAIN_WORDS = r" ?\p{L}+(?:['’]\p{L}+)*| ?\p{N}+(?:[.,]\p{N}+)*"
_PIECES = rf"{_PLAIN_WORDS}| ?<\p{{L}}+>| ?[^\s\p{{L}}\p{{N}}]"
"""A word, number, <unk> or punctuation mark, each with the space before it."""

_PIECES_AND_SPACE = rf"{_PLAIN_WORDS}| ?[^\s\p{{L}}\p{{N}}]|\n|[^\S\n]+(?!\S)|[^\S\n]"
"""A word, number or punctuation mark with its space, a line break, or other white space.

Special tokens never match.
"""

_SPACE = r"\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
"""White space as defined by the tokenizers' patterns; Python also includes U+001C to U+001F."""

_BYTE_LEVEL = r"'(?:[stmd]|re|ve|ll)| ?(?:\p{L}+|\p{N}+|[^\s\p{L}\p{N}]+)|\s+(?!\S)|\s+"
"""What the library's `ByteLevel` finds: GPT-2's pattern."""

MARKS = UNIT + END

WORDS = re.compile(f"[^{_SPACE}{MARKS}]+|[{MARKS}]")
"""Words and marks."""

BLOCKS = re.compile(f" ?[^{_SPACE}{MARKS}]+|[{_SPACE}]+(?![^{_SPACE}{MARKS}])|[{_SPACE}]|[{MARKS}]")
"""Text with one space before it, other white space, and marks.

No token of our byte-level BPE and of our word tokenizers that keep white space crosses a block.
"""

_OTHER_SPACE = set(re.findall(f"[{_SPACE}]", "".join(map(chr, range(0x3001))))) - {" "}

_IN_ASCII = {
    r"[^\s\p{L}\p{N}]": r"[\0-\x08\x0e-\x1f!-/:-@\[-`{-~\x7f]",
    r"\p{L}": "[A-Za-z]",
    r"\p{N}": "[0-9]",
    r"[^\S\n]": f"[{_SPACE.replace('-', chr(0x0B) + '-', 1)}]",
    r"\S": f"[^{_SPACE}{MARKS}]",
    r"\s": f"[{_SPACE}]",
}
"""Parts of the library's patterns, and what they match in Python if letters, numbers and marks of
punctuation are ASCII."""


def _ascii_pieces(pattern: str) -> re.Pattern[str]:
    """Finds what a pattern of the library finds in marked text, as far as that is certain: the
    rest of a block is one piece where it depends on a character beyond ASCII."""
    for part, found in _IN_ASCII.items():
        pattern = pattern.replace(part, found)
    other = f"[^\\0-\\x7f{_SPACE}{MARKS}]"
    open_end = f"{other}|['.,]{other}|(?<=<)[A-Za-z]*{other}"
    rest = f"[{MARKS}]| ?[^{_SPACE}{MARKS}]+|[{_SPACE}]"
    return re.compile(f"(?>{pattern})(?!{open_end})|{rest}")


class BuiltTokenizer:
    """A tokenizer and its special tokens.

    Args:
        eos: None if sentences have no end token.
    """

    def __init__(
        self, tokenizer: Tokenizer, kind: TokenizerKind, pad: str, eos: str | None, unk: str | None
    ) -> None:
        self.tokenizer, self.kind, self.pad, self.eos, self.unk = tokenizer, kind, pad, eos, unk
        self.vocab_size = vocabulary_size(tokenizer)
        self.pad_id: int = cast(int, tokenizer.token_to_id(pad))
        self.eos_id: int | None = None if eos is None else tokenizer.token_to_id(eos)
        self.unk_id: int | None = None if unk in (None, eos, pad) else tokenizer.token_to_id(unk)
        """None if there is none, or if it is the end or padding token."""

    def encode(self, texts: list[str]) -> list[list[int]]:
        """The ids of each text, without special tokens."""
        return [
            encoding.ids
            for encoding in self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        ]

    def token_texts(self, text: str) -> tuple[str, ...]:
        """A text in pieces, one for each token; a character of several tokens is in the first."""
        end, texts = 0, []
        for first, last in self.tokenizer.encode(text, add_special_tokens=False).offsets:
            if last > end:
                texts.append(text[max(first, end) : last])
                end = last
        return tuple(texts)

    def save(
        self,
        folder: Path,
        eos_text: EosText,
        layout: TextLayout = "sentences",
        start: str | None = None,
    ) -> None:
        """Write tokenizer.json and tokenizer_config.json, which AutoTokenizer can read.

        Args:
            start: the text used for an empty prompt; None for the end token.
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


def piece_finder(built: BuiltTokenizer) -> Callable[[str], list[str]] | None:
    """Cuts marked text into pieces that no token crosses, and marks.

    Pieces of ASCII are those of the pre-tokenizer. None for pretrained tokenizers, except those
    with GPT-2's pre-tokenizer and nothing before it.
    """
    state = json.loads(built.tokenizer.to_str())
    splitter, plain = state["pre_tokenizer"], all(one["special"] for one in state["added_tokens"])
    words = pre_tokenizers.ByteLevel(add_prefix_space=False)
    of_bytes = splitter in [json.loads(one.__getstate__()) for one in (words, _lines_apart(words))]
    if built.kind == "pretrained" and not (of_bytes and plain and state["normalizer"] is None):
        return None
    if of_bytes:
        return _ascii_pieces(_BYTE_LEVEL).findall
    if splitter["type"] == "WhitespaceSplit":
        return WORDS.findall
    pattern = splitter["pattern"]["Regex"]
    find = _ascii_pieces(pattern).findall
    return find if pattern == _PIECES_AND_SPACE else lambda text: find(_spaced(text))


def _spaced(text: str) -> str:
    """Sentences with one space before each word, and no other white space."""
    for sign in _OTHER_SPACE:  # five times as fast as a pattern
        text = text.replace(sign, " ")
    return f" {re.sub('  +', ' ', text)}".replace(END, f"{END} ")[:-1]


def build_tokenizer(
    config: TokenizerConfig,
    corpus: CorpusConfig,
    lines: Lines,
    *,
    size: int,
    tokenized: bool | None,
    layout: TextLayout = "sentences",
) -> BuiltTokenizer:
    """Build the configured tokenizer, trained on the training split if needed.

    Args:
        lines: returns the training split, for several passes.
        size: bytes of the training split.
        tokenized: whether all tokens are separated by spaces; None to detect it.
        layout: all layouts except `sentences` keep white space.

    Raises:
        TokenizerError: the text is too small for the vocabulary, or a pretrained tokenizer can't be
            loaded or is unsuitable.
    """
    if config.kind == "pretrained":
        built = load_pretrained(config)
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
    else:
        built = _words(config, lines, layout, tokenized)
    _fold_prompts_too(built.tokenizer, corpus)
    return built


def vocabulary_size(tokenizer: Tokenizer) -> int:
    """The vocabulary size for a model: `len(tokenizer)`, or the highest id + 1 if ids have gaps."""
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    return max(len(vocabulary), max(vocabulary.values(), default=-1) + 1)


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
        _spread(lines(), max(1, -(-size // BPE_TRAINING_BYTES))),
        trainer=trainer,
    )
    learned = vocabulary_size(tokenizer)
    if learned != config.vocab_size:
        raise TokenizerError(
            "the training text is too small for a BPE vocabulary of"
            f" {counted(config.vocab_size, 'type')}: only {learned:,} were learned",
            hint=f"set tokenizer.vocab_size to {learned:,} or less, or use more text",
        )
    return _finish(tokenizer, config)


def _lines_apart(words: Any) -> Any:
    """Make a pre-tokenizer split lines first.

    Raw text is encoded line by line, and prompts with several lines must get the same tokens.
    """
    lines = pre_tokenizers.Split("\n", "merged_with_previous")
    return lines if words is None else pre_tokenizers.Sequence([lines, words])


def byte_names() -> list[str]:
    """The sign of each byte in byte-level tokenizers: itself, or one from U+0100 on."""
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
    tokenizer = Tokenizer(models.BPE(vocab=_vocabulary(config, counts), merges=[], unk_token=UNK))
    tokenizer.decoder = decoders.Fuse()
    return _finish(tokenizer, config, unk=True)


def _words(
    config: TokenizerConfig, lines: Lines, layout: TextLayout, tokenized: bool | None
) -> BuiltTokenizer:
    """A tokenizer for words and punctuation, lossless except for unknown words.

    With a layout other than `sentences` for white space too.
    """
    tokenizer = Tokenizer(models.WordLevel(vocab={UNK: 0}, unk_token=UNK))
    opening, pattern = "", r"\S+"
    if tokenized is None:
        tokenized = looks_tokenized(chain.from_iterable(lines()))
    if layout != "sentences":
        pattern = _PIECES_AND_SPACE
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), "isolated")
        tokenizer.decoder = decoders.Fuse()
    elif tokenized:
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    else:  # a word includes the space before it, so that decoding is exact
        opening, pattern = " ", _PIECES
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Prepend(" ")]
        )
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), "isolated")
        tokenizer.decoder = decoders.Sequence(
            [decoders.Replace(UNK, f" {UNK}"), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
    find, cut = _ascii_pieces(pattern).findall, tokenizer.pre_tokenizer.pre_tokenize_str
    pieces: dict[str, int] = {}
    for word, count in _counted(lines, layout).items():
        text = opening + word
        for piece in find(text) if text.isascii() else (part for part, _ in cut(text)):
            pieces[piece] = pieces.get(piece, 0) + count
    tokenizer.model = models.WordLevel(vocab=_vocabulary(config, pieces), unk_token=UNK)
    return _finish(tokenizer, config, unk=True)


def _counted(lines: Lines, layout: TextLayout) -> Counter[str]:
    """How often each word or block occurs; without rare ones if there are too many."""
    counts: Counter[str] = Counter()
    for batch in lines():
        if layout == "sentences":
            counts.update("\n".join(batch).split())
        else:
            counts.update(BLOCKS.findall(END.join(batch)))
            counts.pop(END, None)
        if len(counts) > COUNTED_WORDS:
            counts = Counter({word: count for word, count in counts.items() if count > 1})
    return counts


def _check_lossless(
    built: BuiltTokenizer, config: TokenizerConfig, lines: Lines, layout: TextLayout
) -> None:
    """Check that a pretrained tokenizer decodes the beginning of the text without changes."""
    units = next(lines(), [])
    for group in [units] if layout == "raw" else [[unit] for unit in units]:
        text, ids = "".join(group), list(chain.from_iterable(built.encode(group)))
        back = built.tokenizer.decode(ids, skip_special_tokens=False)
        if text != back:
            place = next(
                index for index, (one, other) in enumerate(zip_longest(text, back)) if one != other
            )
            raise TokenizerError(
                f'the tokenizer "{config.name}" changes {text[place : place + 12]!r} to'
                f" {back[place : place + 12]!r}, but the layout {layout} needs every character",
                hint="set tokenizer.kind to bpe, byte or character, or corpus.layout to sentences",
            )


def _vocabulary(config: TokenizerConfig, counts: Mapping[str, int]) -> dict[str, int]:
    """The ids of the special tokens and of the most frequent others."""
    specials = _specials(config, unk=True)
    if config.vocab_size <= len(specials):
        raise TokenizerError(
            "tokenizer.vocab_size is too small: the special tokens alone need as much",
            hint="set it to at least 4",
        )
    ordered = sorted(sorted(counts.keys() - set(specials)), key=counts.__getitem__, reverse=True)
    return {name: index for index, name in enumerate([*specials, *ordered][: config.vocab_size])}


def load_pretrained(config: TokenizerConfig) -> BuiltTokenizer:
    """Load the pretrained tokenizer that a config names.

    Raises:
        TokenizerError: it can't be loaded or is unsuitable.
    """
    name = config.name or ""
    loaded = load_fast_tokenizer(name)
    if len(loaded) != config.vocab_size:
        raise TokenizerError(
            f'the tokenizer "{name}" has {counted(len(loaded), "type")}, but tokenizer.vocab_size'
            f" is {config.vocab_size:,}",
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
            hint="set one of them in its tokenizer_config.json",
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


def load_fast_tokenizer(name: str, *, allow_code: bool = False) -> Any:
    """A tokenizer of transformers, of a folder or the Hugging Face hub.

    Args:
        allow_code: run the code that its folder brings along.

    Raises:
        TokenizerError: it can't be loaded, or has no fast version.
    """
    _refuse_by_kind(user_path(name), name)
    from transformers import AutoTokenizer

    try:
        loaded: Any = AutoTokenizer.from_pretrained(
            str(user_path(name)) if user_path(name).is_dir() else name, trust_remote_code=allow_code
        )
    except Exception as error:  # the library raises many kinds of errors
        reason = str(error).strip().split("\n")[0]
        raise TokenizerError(
            f'can\'t load the tokenizer "{name}": {reason}',
            hint="use a folder with tokenizer.json, or a Hugging Face name (needs a network)",
        ) from error
    if not getattr(loaded, "is_fast", False):
        raise TokenizerError(
            f'the tokenizer "{name}" has no fast version', hint="use one with a tokenizer.json"
        )
    return loaded


def _refuse_by_kind(path: Path, name: str) -> None:
    """Reject a file, and a folder without a tokenizer, without opening anything."""
    if path.is_file():
        raise TokenizerError(
            f'"{name}" is a file, must be a folder with tokenizer.json or a Hugging Face name',
            hint="pickles and .pt files are never opened",
        )
    if path.is_dir() and not any(
        (path / file).is_file()
        for file in ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
    ):
        raise TokenizerError(
            f"no tokenizer.json in the folder {path}", hint="pickles and .pt files are never opened"
        )


def _fold_prompts_too(tokenizer: Tokenizer, corpus: CorpusConfig) -> None:
    """Clean prompts like the corpus, which is cleaned before it is encoded."""
    steps: list[Any] = []
    if corpus.mask_digits:
        steps.append(normalizers.Replace(Regex(r"\d+"), "###"))
    if corpus.lowercase:
        steps.append(normalizers.Lowercase())
    if steps:
        own = tokenizer.normalizer
        tokenizer.normalizer = normalizers.Sequence([*steps, *([] if own is None else [own])])


def folding_of(tokenizer: Tokenizer) -> CorpusConfig:
    """How `_fold_prompts_too` made the tokenizer clean a prompt: a config with `mask_digits` and
    `lowercase`."""
    first = json.loads(tokenizer.to_str())["normalizer"] or {}
    steps = first.get("normalizers", []) if first.get("type") == "Sequence" else [first]
    masks = steps[:1] == [{"type": "Replace", "pattern": {"Regex": r"\d+"}, "content": "###"}]
    return CorpusConfig(
        mask_digits=masks, lowercase=steps[masks : masks + 1] == [{"type": "Lowercase"}]
    )


def _spread(batches: Iterator[list[str]], stride: int) -> Iterator[list[str]]:
    """Every `stride`-th batch until `LEARNED_WORDS` distinct words are reached."""
    words: set[str] = set()
    for batch in islice(batches, 0, None, stride):
        yield batch
        words.update(" ".join(batch).split())
        if len(words) >= LEARNED_WORDS:
            return
