"""The text that a request is about, as tokens, and what its model computes while it reads them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from rnnlm_tui.corpus.codec import IncrementalDecoder
from rnnlm_tui.engine.generation import TextState, check_ids, read_text
from rnnlm_tui.engine.inspection import Trace, trace
from rnnlm_tui.errors import InputError
from rnnlm_tui.schema.sampling import TextRequest
from rnnlm_tui.system.files import Stamp, stamp
from rnnlm_tui.worker.models import LoadedModel, ModelKey
from rnnlm_tui.worker.states import load_state

KEPT_STATES, KEPT_TRACES = 32, 8
"""Texts whose end state, or whole trace, stays in memory."""
KEPT_TRACE_BYTES = 256 * 2**20
UNDECIDED_TOKENS = 64
"""Tokens before a place that are decoded to know how the next one reads."""
MAX_UNKNOWN = 8
"""Unknown words of a prompt that are listed."""

_StateKey = tuple[str, Stamp]
"""A kept state's path and its stamp."""
_TextKey = tuple[ModelKey, _StateKey, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class RequestText:
    """The tokens of a request's text."""

    loaded: LoadedModel
    prompt: str
    prompt_ids: tuple[int, ...]
    ids: tuple[int, ...]
    """Generated tokens that follow the prompt."""
    start: TextState | None
    """The kept state before the prompt; None: the initial state."""
    state_key: _StateKey
    added: int
    """Tokens in front of the prompt's own: the end token that it follows, or what an empty prompt
    starts from."""
    check: Callable[[], None]
    """Called between parts of long work; what it raises ends it."""

    @property
    def all_ids(self) -> tuple[int, ...]:
        """Prompt and generated tokens."""
        return self.prompt_ids + self.ids

    @property
    def seen(self) -> tuple[int, ...]:
        """All tokens that the model has read after the text, those before a kept state first."""
        return (self.start.ids if self.start is not None else ()) + self.all_ids

    @property
    def unknown(self) -> tuple[str, ...]:
        """Words or characters of the prompt outside the vocabulary, the first few."""
        return tuple(self.loaded.codec.unknown_characters(self.prompt)[:MAX_UNKNOWN])

    def upto(self, position: int | None) -> RequestText:
        """The text up to a token, which is included; None: the last one.

        Raises:
            InputError: the text has no such token.
        """
        ids = self.all_ids
        if position is None:
            if len(ids) == self.added:
                raise InputError("the text has no tokens", hint="give the model something to read")
            return self
        if not 0 <= position < len(ids):
            raise InputError(f"position {position:,} is not in 0 to {len(ids) - 1:,}")
        return replace(self, prompt_ids=ids[: position + 1], ids=())

    def decoder_at(self, position: int) -> IncrementalDecoder:
        """A decoder that continues the text before a position."""
        before = self.seen[: len(self.seen) - len(self.all_ids) + position]
        shown = max(0, len(before) - UNDECIDED_TOKENS)
        decoder = self.loaded.codec.incremental(before[:shown])
        for token in before[shown:]:
            decoder.push(token)
        return decoder

    def pieces(self) -> list[str]:
        """The text that each token adds; joined they are the text. The `added` tokens add none, and
        neither does half a character at its end."""
        decoder = self.decoder_at(0)
        pieces = [decoder.push(token) for token in self.all_ids]
        return [*[""] * self.added, *pieces[self.added :]]

    def sizes(self) -> list[int]:
        """The UTF-8 bytes of text that each token stands for; the `added` ones stand for none."""
        codec = self.loaded.codec
        before = (None, *self.seen)[-len(self.all_ids) - 1 : -1]
        starts = [place for place, one in enumerate(before) if one in (None, codec.eos_id)]
        sizes = codec.token_bytes.of(np.array(self.all_ids, int), np.array(starts, int))
        return [*[0] * self.added, *sizes.tolist()[self.added :]]


class TextReader:
    """Reads texts and remembers the last few: going along the tokens of a text then costs one
    product of the head each, and continuing it doesn't read it again."""

    def __init__(self) -> None:
        self._states: OrderedDict[_TextKey, TextState] = OrderedDict()
        self._traces: OrderedDict[_TextKey, Trace] = OrderedDict()

    def text(
        self, loaded: LoadedModel, request: TextRequest, check: Callable[[], None]
    ) -> RequestText:
        """The tokens of a request's text.

        Args:
            check: called between parts of long work about it; what it raises ends it.

        Raises:
            InputError: its ids are outside the vocabulary, or its state is of another model.
            TokenizerError: the prompt is empty, and there is nothing else to start from.
            StorageError: the state's file can't be read.
        """
        start, key = None, ("", stamp(""))
        if request.state:
            path = Path(request.state)
            start, key = load_state(path, loaded), (request.state, stamp(path))
        check_ids(loaded.model, request.ids)
        prompt_ids = own = loaded.codec.continuation_ids(request.prompt)
        if start is None:
            prompt_ids = loaded.codec.prompt_ids(request.prompt, after_end=loaded.after_end)
        added = len(prompt_ids) - len(own)
        return RequestText(
            loaded, request.prompt, tuple(prompt_ids), request.ids, start, key, added, check
        )

    def state(self, text: RequestText) -> TextState:
        """The model after reading the text."""
        model_key, state_key, ids = key = _key(text)
        start, known = text.start, 0
        for other in self._states:
            if (
                other[:2] == (model_key, state_key)
                and known < len(other[2]) <= len(ids)
                and ids[: len(other[2])] == other[2]
            ):
                start, known = self._states[other], len(other[2])
        found = read_text(text.loaded.model, ids[known:], start)
        self._states[key] = found
        self._states.move_to_end(key)
        while len(self._states) > KEPT_STATES:
            self._states.popitem(last=False)
        return found

    def trace(self, text: RequestText) -> Trace:
        """What the model computes at each token of the text."""
        key = _key(text)
        found = self._traces.get(key)
        if found is None:
            found = trace(text.loaded.model, text.all_ids, text.start, text.check)
            self._traces[key] = found
        self._traces.move_to_end(key)
        while len(self._traces) > 1 and (
            len(self._traces) > KEPT_TRACES
            or sum(map(_size, self._traces.values())) > KEPT_TRACE_BYTES
        ):
            self._traces.popitem(last=False)
        return found

    def clear(self) -> None:
        """Forget everything."""
        self._states.clear()
        self._traces.clear()


def _key(text: RequestText) -> _TextKey:
    return text.loaded.key, text.state_key, text.all_ids


def _size(trace: Trace) -> int:
    return trace.outputs_LTH.numel() * trace.outputs_LTH.element_size()
