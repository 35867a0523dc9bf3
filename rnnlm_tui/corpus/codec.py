"""Encode and decode text with the tokenizer of a corpus or checkpoint."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from rnnlm_tui.corpus.tokenizers import TOKENIZER_CONFIG_NAME, TOKENIZER_NAME, BuiltTokenizer
from rnnlm_tui.errors import TokenizerError
from rnnlm_tui.schema.config import UnknownTokens
from rnnlm_tui.schema.corpora import EosText, TextLayout

_REPLACEMENT = "\ufffd"
_KEPT_TOKENS = 8
_HELD_TOKENS = 64
EXPORTED = "rnnlm"
"""Key of an exported tokenizer_config.json: the checkpoint's own, with its normalizer, since an
export changes both for AutoTokenizer."""
_SPACE = "Ġ"
"""The sign of a space in byte-level tokenizers."""
_COUNTED_SENTENCES = 1_024
"""Sentences whose bytes are counted at once, to limit memory."""


class TextCodec:
    """Encode prompts and decode tokens with the tokenizer files in a folder.

    Raises:
        TokenizerError: the tokenizer files are missing or damaged.
    """

    def __init__(self, directory: Path) -> None:
        try:
            config = json.loads((directory / TOKENIZER_CONFIG_NAME).read_text(encoding="utf-8"))
            text = (directory / TOKENIZER_NAME).read_text(encoding="utf-8")
            if EXPORTED in config:
                config = config[EXPORTED]
                text = json.dumps({**json.loads(text), "normalizer": config["normalizer"]})
            self.built = BuiltTokenizer(
                Tokenizer.from_str(text),
                config["rnnlm_kind"],
                *(config[f"{name}_token"] for name in ("pad", "eos", "unk")),
            )
            """The tokenizer itself."""
            eos_text = config["rnnlm_eos_text"]
            layout = config.get("rnnlm_layout", "sentences")
            for name, value, known in (
                ("rnnlm_eos_text", eos_text, get_args(EosText)),
                ("rnnlm_layout", layout, get_args(TextLayout)),
            ):
                if value not in known:
                    raise ValueError(f"{name} is {value!r}")
            self._tokenizer = self.built.tokenizer
            self.vocab_size = self.built.vocab_size
            for token in (self.built.eos, self.built.pad):
                if token is not None and self._tokenizer.token_to_id(token) is None:
                    raise ValueError(f"{token} is not in its vocabulary")
        except OSError as error:
            raise TokenizerError(
                f"can't read the tokenizer in {directory}: {error.strerror or error}"
            ) from error
        except Exception as error:  # the library raises Exception for a damaged file
            raise TokenizerError(f"the tokenizer in {directory} is damaged: {error}") from error
        self.eos_text = cast(EosText, eos_text)
        """The end token as text."""
        self.kind = self.built.kind
        self.layout = cast(TextLayout, layout)
        self.eos_id = self.built.eos_id
        """None if the corpus has no end token."""
        self.pad_id = self.built.pad_id
        self.unk_id = self.built.unk_id
        """The unknown token; None if there is none, or if it is the end or padding token."""
        self._tokenizer.encode_special_tokens = True  # "<eos>" in the text is ordinary text
        self._start = str(config.get("rnnlm_start") or "")
        """The text used for an empty prompt; if empty, the end token is used."""

    def encode(self, text: str) -> list[int]:
        """Encode text without adding special tokens."""
        return list(self._tokenizer.encode(_without_surrogates(text), add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Decode tokens, with end tokens as `eos_text` and without padding."""
        return self.eos_text.join(
            self._decode_sentence(sentence) for sentence in self._sentences(ids)
        )

    def prompt_ids(self, prompt: str, *, after_end: bool = True) -> list[int]:
        """The ids that the model reads before it continues a prompt.

        Spaces at the end of a prompt are removed if words include the space before them. In the
        layouts `lines` and `raw` all white space is kept. In `lines`, a line break is an end token.
        In `raw`, end tokens separate documents, so a prompt continues a document; an empty one
        starts a document or line.

        Args:
            after_end: start with an end token, which marks the start of a sentence for models
                trained on a stream. Models trained on separate sentences never saw it there.

        Raises:
            TokenizerError: the prompt is empty, and the corpus has no end token to start from.
        """
        ids = self.continuation_ids(prompt)
        if after_end and self.eos_id is not None and self.layout != "raw":
            ids.insert(0, self.eos_id)
        return ids or self._beginning()

    def continuation_ids(self, prompt: str) -> list[int]:
        """The ids of a prompt that continues a text which the model has read; as `prompt_ids`, but
        without an end token in front, and none for an empty prompt."""
        if self.layout == "lines" and self.eos_id is not None:
            return [
                index for line in prompt.split("\n") for index in (*self.encode(line), self.eos_id)
            ][:-1]
        return self.encode(prompt.removesuffix(self.unread_part(prompt)))

    def unread_part(self, prompt: str) -> str:
        """The blanks at the end of a prompt, which aren't read if words include the space before
        them."""
        keeps_spaces = self.layout != "sentences" or self.kind in ("byte", "character")
        return "" if keeps_spaces else prompt[len(prompt.rstrip()) :]

    def _beginning(self) -> list[int]:
        """The ids used for an empty prompt."""
        ids = self.encode(self._start)
        if ids and self.unk_id not in ids:
            return ids
        if self.eos_id is None:
            raise TokenizerError(
                "the prompt is empty, but the model needs one: its corpus has no end token",
                hint="write at least one word",
            )
        return [self.eos_id]

    @cached_property
    def token_bytes(self) -> TokenBytes:
        """The UTF-8 bytes of text that each token stands for."""
        return TokenBytes(self)

    def incremental(self, after: Sequence[int] = ()) -> IncrementalDecoder:
        """A decoder for tokens generated after the ids `after`, which are already shown."""
        return IncrementalDecoder(self, after)

    def unknown_characters(self, text: str) -> list[str]:
        """The distinct characters (or words, for a word tokenizer) outside the vocabulary.

        Lone surrogates are reported as U+FFFD.
        """
        plain = _without_surrogates(text)
        unknown = [_REPLACEMENT] if plain != text else []
        if self.unk_id is not None:
            encoding = self._tokenizer.encode(plain, add_special_tokens=False)
            pieces = (
                plain[start:end]
                for index, (start, end) in zip(encoding.ids, encoding.offsets, strict=True)
                if index == self.unk_id
            )
            unknown.extend(piece.strip() or piece for piece in pieces if piece)
        return list(dict.fromkeys(unknown))

    def excluded_ids(self, unknown: UnknownTokens) -> tuple[int, ...]:
        """The tokens that must not be generated with this setting: the unknown token, or none."""
        avoids = unknown == "avoid" or (unknown == "auto" and self.kind == "word")
        return (self.unk_id,) if avoids and self.unk_id is not None else ()

    def _sentences(self, ids: Sequence[int]) -> list[list[int]]:
        sentences: list[list[int]] = [[]]
        for index in ids:
            if index == self.eos_id:
                sentences.append([])
            elif index != self.pad_id:
                sentences[-1].append(int(index))
        return sentences

    def _decode_sentence(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=False)) if ids else ""


class TokenBytes:
    """The UTF-8 bytes of text that each token of a vocabulary stands for; an unknown token's are
    those of its name.
    """

    def __init__(self, codec: TextCodec) -> None:
        tokenizer, ids = codec.built.tokenizer, range(codec.vocab_size)
        state = json.loads(tokenizer.to_str())
        decoder = json.dumps(state["decoder"])
        added = tokenizer.get_added_tokens_decoder()
        names = [tokenizer.id_to_token(index) or "" for index in ids]
        if '"ByteLevel"' in decoder:  # a token may be a part of a character
            later = [
                len(added[index].content.encode()) if index in added else len(name)
                for index, name in enumerate(names)
            ]
            has_space = '"add_prefix_space": true' in json.dumps(state["pre_tokenizer"])
            first = [
                size - (has_space and name.startswith(_SPACE))
                for size, name in zip(later, names, strict=True)
            ]
            words = ["a"]
        else:
            # not decode_batch, whose threads a worker would keep for its whole life
            decode = partial(tokenizer.decode, skip_special_tokens=False)
            alone = [decode([index]) for index in ids]
            word = next(
                (index for index in ids if index not in added and alone[index].isalpha()), 0
            )
            between = [decode([word, index, word]) for index in ids]
            around = len(decode([word, word]).encode())
            first = [len(text.encode()) for text in alone]
            later = [len(text.encode()) - around for text in between]
            words = [text for text in alone if text.isalpha()]
            if '"ByteFallback"' in decoder:
                for index, name in enumerate(names):
                    if re.fullmatch("<0x[0-9A-F]{2}>", name):
                        later[index] = first[index] = 1
        self._later_V, self._first_V = np.array(later), np.array(first)
        for special, text in ((codec.pad_id, ""), (codec.eos_id, codec.eos_text)):
            if special is not None:
                self._later_V[special] = self._first_V[special] = len(text.encode())

        def known(text: str) -> NDArray[Any] | None:
            found = np.array(tokenizer.encode(text, add_special_tokens=False).ids, int)
            return None if codec.unk_id in found else found

        one = next((text for text in words if known(text) is not None), "a")
        self.are_exact = all(
            (found := known(text)) is None
            or self.of(found, np.arange(len(found[:1]))).sum() == len(text.encode())
            for text in (f"{one} {one}", f"{one}{one}", f"{one}.{one}", "é")
        )
        """Whether the tokens of a text say how long it is: with some tokenizers they are the same
        with a space as without, or with an accent."""

    def of(self, ids: NDArray[Any], starts: NDArray[Any]) -> NDArray[np.int64]:
        """The bytes of each of these tokens.

        Args:
            starts: places at which a sentence starts, whose first token may lack its space.
        """
        sizes: NDArray[np.int64] = self._later_V[ids]
        sizes[starts] = self._first_V[ids[starts]]
        return sizes

    def scored(
        self,
        ids: NDArray[Any],
        offsets: NDArray[np.uint64],
        context_length: int | None,
        *,
        continues: bool = False,
    ) -> tuple[int, int]:
        """The bytes of the tokens that an evaluation scores, and of all tokens; 0 scored bytes if
        the tokens don't keep their text.

        Args:
            offsets: start of each sentence, and the end of the last.
            context_length: tokens of a sentence that are read, of which the first isn't scored;
                None: a stream, where all but the first token are scored.
            continues: whether these tokens continue a stream, so that the first is scored too.
        """
        scored = total = 0
        for first in range(0, len(offsets) - 1, _COUNTED_SENTENCES):
            bounds = offsets[first : first + _COUNTED_SENTENCES + 1].astype(np.int64)
            starts, lengths = bounds[:-1] - bounds[0], np.diff(bounds)
            sizes = self.of(ids[bounds[0] : bounds[-1]], starts)
            total += int(sizes.sum())
            if context_length is None:
                scored += int(sizes.sum()) - (0 if first or continues else int(sizes[0]))
            else:
                places = np.arange(len(sizes)) - np.repeat(starts, lengths)
                scored += int(sizes[(places > 0) & (places < context_length)].sum())
        return scored if self.are_exact else 0, total


class IncrementalDecoder:
    """Decode tokens one by one into whole characters, with the same result as `TextCodec.decode`.

    Only the last few tokens are decoded, so the cost doesn't grow with the length of the text.
    """

    def __init__(self, codec: TextCodec, after: Sequence[int] = ()) -> None:
        self._codec = codec
        self._context = codec._sentences(after)[-1][-_KEPT_TOKENS:]
        """The last shown tokens of the sentence, which determine the space before the next one."""
        self._held: list[int] = []
        """Tokens held back because they end inside a character."""

    def push(self, token: int) -> str:
        """Add a token and return the new text; empty if it ends inside a character."""
        if token == self._codec.eos_id:
            return self.flush() + self._codec.eos_text
        if token == self._codec.pad_id:
            return ""
        return self._add([int(token)])

    def extend(self, tokens: Sequence[int]) -> str:
        """Add tokens and return the new text, as `push` for each, but decoded in one piece."""
        parts: list[str] = []
        run: list[int] = []
        for token in tokens:
            if token in (self._codec.eos_id, self._codec.pad_id):
                parts += self._add(run), self.push(token)
                run = []
            else:
                run.append(int(token))
        return "".join((*parts, self._add(run)))

    def _add(self, run: list[int]) -> str:
        """Add tokens that aren't special."""
        if not run:
            return ""
        before, self._held = self._held, [*self._held, *run]
        text = self._new_text()
        if text.endswith(_REPLACEMENT) and len(run) > 1:  # what is held back shows one by one
            self._held = before
            return "".join(self._add([token]) for token in run)
        if text.endswith(_REPLACEMENT) and len(self._held) < _HELD_TOKENS:
            return ""
        self._context = [*self._context, *self._held][-_KEPT_TOKENS:]
        self._held = []
        return text

    def peek(self, token: int) -> str:
        """What `push` would return for a token, which isn't added."""
        twin = IncrementalDecoder(self._codec)
        twin._context, twin._held = self._context, list(self._held)
        return twin.push(token)

    def flush(self) -> str:
        """Return the held-back text (U+FFFD for half a character), and start a sentence."""
        text = self._new_text() if self._held else ""
        self._context, self._held = [], []
        return text

    def _new_text(self) -> str:
        shown = self._codec._decode_sentence(self._context)
        return self._codec._decode_sentence([*self._context, *self._held])[len(shown) :]


def _without_surrogates(text: str) -> str:
    return (
        text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        if any("\ud800" <= character <= "\udfff" for character in text)
        else text
    )
