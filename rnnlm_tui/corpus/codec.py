"""Text to token ids and back, from a folder that holds tokenizer.json and tokenizer_config.json: a
corpus or a checkpoint.

Ends a text that comes in pieces before the first stop string in it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import cast, get_args

from tokenizers import Tokenizer

from rnnlm_tui.corpus.tokenizers import TOKENIZER_CONFIG_NAME, TOKENIZER_NAME, vocabulary_size
from rnnlm_tui.errors import InputError, TokenizerError
from rnnlm_tui.schema.config import UnknownTokens
from rnnlm_tui.schema.corpora import EosText

_REPLACEMENT = "\ufffd"
_KEPT_TOKENS = 8
_HELD_TOKENS = 64


class TextCodec:
    """Encodes prompts and decodes tokens as the corpus was encoded.

    Raises:
        TokenizerError: the folder's tokenizer files are missing or damaged.
    """

    def __init__(self, directory: Path) -> None:
        try:
            self._tokenizer = Tokenizer.from_str(
                (directory / TOKENIZER_NAME).read_text(encoding="utf-8")
            )
            config = json.loads((directory / TOKENIZER_CONFIG_NAME).read_text(encoding="utf-8"))
            eos, pad, eos_text, kind = (
                config[key] for key in ("eos_token", "pad_token", "rnnlm_eos_text", "rnnlm_kind")
            )
        except OSError as error:
            raise TokenizerError(
                f"{directory} has no tokenizer that can be read: {error.strerror or error}"
            ) from error
        except Exception as error:  # the library raises plain Exception for a damaged file
            raise TokenizerError(f"the tokenizer in {directory} is damaged: {error}") from error
        if eos_text not in get_args(EosText):
            raise TokenizerError(
                f"the tokenizer in {directory} is damaged: rnnlm_eos_text is {eos_text!r}"
            )
        self.eos_text = cast(EosText, eos_text)
        """An end token as text."""
        self.kind = str(kind)
        self.layout = str(config.get("rnnlm_layout", "sentences"))
        self.vocab_size = vocabulary_size(self._tokenizer)
        self.eos_id = self._id(eos, directory)
        """None if the corpus has no end tokens."""
        self.pad_id = cast(int, self._id(pad, directory))
        self._tokenizer.encode_special_tokens = True  # text that reads "<eos>" is text
        unk = config.get("unk_token")
        self.unk_id: int | None = (
            None if unk in (None, eos, pad) else self._tokenizer.token_to_id(unk)
        )
        """The unknown token; None if there is none, or if the tokenizer uses its end or padding
        token for that."""
        self._start = str(config.get("rnnlm_start") or "")
        """The text that generation starts from when the prompt is empty; if it is empty too, the
        end token."""

    def encode(self, text: str) -> list[int]:
        """The ids of a text inside a sentence: nothing is added in front or behind."""
        return list(self._tokenizer.encode(_without_surrogates(text), add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of tokens; end tokens become `eos_text`, padding nothing."""
        return self.eos_text.join(
            self._decode_sentence(sentence) for sentence in self._sentences(ids)
        )

    def prompt_ids(self, prompt: str, *, after_end: bool = True) -> list[int]:
        """What the model reads before it goes on: an end token (`after_end`, where there is one)
        and the prompt.

        The end token tells a model that was trained on a stream that a sentence begins; one that
        was trained on separate
        sentences never saw it in front and takes `after_end=False`. Spaces at the prompt's end are
        left out where words
        bring their own.

        With the layouts `lines` and `raw` the prompt keeps its white space. In `lines`, a line
        break is an end token. `raw` has
        end tokens between documents only, so a prompt is text inside a document; an empty prompt
        begins a document, or a line.

        Raises:
            TokenizerError: an empty prompt for a corpus without end tokens, so that there is
                nothing to start from.
        """
        if self.layout == "raw":
            return self.encode(prompt) or self._beginning()
        if self.layout == "lines" and self.eos_id is not None:
            ids = [
                index for line in prompt.split("\n") for index in (*self.encode(line), self.eos_id)
            ][:-1]
        else:
            ids = self.encode(
                prompt
                if self.layout == "lines" or self.kind in ("byte", "character")
                else prompt.rstrip()
            )
        if after_end and self.eos_id is not None:
            ids.insert(0, self.eos_id)
        return ids or self._beginning()

    def _beginning(self) -> list[int]:
        """The ids that an empty prompt stands for."""
        ids = self.encode(self._start)
        if ids and self.unk_id not in ids:
            return ids
        if self.eos_id is None:
            raise TokenizerError(
                "this model can't start from an empty prompt: its corpus has no end token",
                hint="write at least one word",
            )
        return [self.eos_id]

    def incremental(self, after: Sequence[int] = ()) -> IncrementalDecoder:
        """A decoder for tokens that come one by one behind the ids `after` (the prompt's), which
        are shown already."""
        return IncrementalDecoder(self, after)

    def unknown_characters(self, text: str) -> list[str]:
        """What of the text is outside the vocabulary, each once, in order: characters, or words for
        a word vocabulary.

        A lone surrogate, which is no character, is told as U+FFFD.
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
        """The tokens that the sampler must not draw with this setting: the unknown token, or
        none."""
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

    def _id(self, token: object, directory: Path) -> int | None:
        if token is None:
            return None
        found = self._tokenizer.token_to_id(
            token["content"] if isinstance(token, dict) else str(token)
        )
        if found is None:
            raise TokenizerError(
                f"the tokenizer in {directory} is damaged: {token} is not in its vocabulary"
            )
        return int(found)


class IncrementalDecoder:
    """Text of tokens as they come: all pieces together are what `TextCodec.decode` gives; never
    half a character.

    Cost of a token does not grow with the length of the text: it decodes the last few tokens only.
    """

    def __init__(self, codec: TextCodec, after: Sequence[int] = ()) -> None:
        self._codec = codec
        self._context = codec._sentences(after)[-1][-_KEPT_TOKENS:]
        """Tokens of this sentence that are shown already; they decide how the next one is
        spaced."""
        self._held: list[int] = []
        """Tokens that end inside a character."""

    def push(self, token: int) -> str:
        """The text that this token completes; empty while a character is unfinished."""
        if token == self._codec.eos_id:
            return self.flush() + self._codec.eos_text
        if token == self._codec.pad_id:
            return ""
        self._held.append(int(token))
        text = self._new_text()
        if text.endswith(_REPLACEMENT) and len(self._held) < _HELD_TOKENS:
            return ""
        self._context = [*self._context, *self._held][-_KEPT_TOKENS:]
        self._held = []
        return text

    def flush(self) -> str:
        """What is held back, with a replacement sign for half a character; then a sentence
        begins."""
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


class StopStrings:
    """Passes text on until a stop string is complete; what may be the start of one is held back
    until that is decided.

    The first stop string to be complete ends the text, of several that end in one place the
    longest. Where the pieces
    begin and end makes no difference.
    """

    def __init__(self, strings: Sequence[str]) -> None:
        """Raises:
        InputError: an empty stop string, which would end every text before it begins.
        """
        if "" in strings:
            raise InputError("a stop string is empty", hint="give at least one character")
        self._strings = tuple(strings)
        self._held = ""
        self.found = ""
        """The stop string that ended the text; empty so far."""

    def push(self, text: str) -> str:
        """What of the text so far is now sure to stand before any stop string; nothing after one
        was found."""
        if self.found or not text:
            return ""
        if not self._strings:
            return text
        known = self._held + text
        ends = [
            (start + len(string), -len(string))
            for string in self._strings
            if (start := known.find(string)) >= 0
        ]
        if ends:
            end, negative_length = min(ends)
            start = end + negative_length
            self.found, self._held = known[start:end], ""
            return known[:start]
        held = self._undecided(known)
        self._held = known[len(known) - held :]
        return known[: len(known) - held]

    def flush(self) -> str:
        """What was held back, now that no more text comes."""
        held, self._held = self._held, ""
        return held

    def _undecided(self, text: str) -> int:
        """Length of the longest end of the text that begins a stop string."""
        longest = min(len(text), max(map(len, self._strings)) - 1)
        return next(
            (
                length
                for length in range(longest, 0, -1)
                if any(string.startswith(text[-length:]) for string in self._strings)
            ),
            0,
        )
