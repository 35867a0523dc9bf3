"""Continue texts until a stop string: for the samples of a run, and for a sampler's requests."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from rnnlm_tui.corpus.codec import IncrementalDecoder, TextCodec
from rnnlm_tui.engine.generation import GeneratedToken, Generation, read_text
from rnnlm_tui.engine.model import RecurrentLanguageModel
from rnnlm_tui.errors import InputError
from rnnlm_tui.schema.config import SamplingConfig
from rnnlm_tui.schema.formatting import counted
from rnnlm_tui.schema.sampling import MAX_CHOICES, SampleDone, SamplePiece, SampleRequest
from rnnlm_tui.worker.inspection import token_choices
from rnnlm_tui.worker.texts import RequestText, TextReader

PIECE_SECONDS = 0.1
"""Text is sent this often, the first token at once."""


class StopStrings:
    """Pass text through until a stop string is complete, holding back text that may start one.

    The first complete stop string ends the text; if several end at the same position, the longest
    counts. The result doesn't depend on how the text is divided into pieces. No string is empty.
    """

    def __init__(self, strings: Sequence[str]) -> None:
        self._strings = tuple(strings)
        self._held = ""
        self.found = ""
        """The stop string that ended the text; empty until then."""

    def push(self, text: str) -> str:
        """Add text and return the part before any stop string; empty after one was found."""
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
        """Return the held-back text at the end of the text."""
        held, self._held = self._held, ""
        return held

    def _undecided(self, text: str) -> int:
        """Length of the longest suffix of the text that is a prefix of a stop string."""
        longest = min(len(text), max(map(len, self._strings)) - 1)
        return max(
            length
            for length in range(longest + 1)
            if any(string.startswith(text[len(text) - length :]) for string in self._strings)
        )


class SampledText:
    """The text of generated tokens, which ends before a stop string.

    Args:
        decoder: continues the text before it.
        unread: blanks at the end of the prompt that the model didn't read. What of them the text
            begins with is left out, so that it continues the prompt as it was written.
    """

    def __init__(self, decoder: IncrementalDecoder, stop: Sequence[str], unread: str = "") -> None:
        self.ids: list[int] = []
        """The tokens so far, those of a stop string included."""
        self.logprob = 0.0
        """Sum of their ln p under the model at temperature 1."""
        self._decoder, self._stopping = decoder, StopStrings(stop)
        self._stops = bool(stop)
        self.unread = unread
        self.repeated = ""
        """What is left out."""
        self._begins = bool(unread)
        self._decoded = 0
        """How many of `ids` are decoded: all if there are stop strings, else those taken."""
        self._parts: list[str] = []
        self._taken = 0

    @property
    def stop(self) -> str:
        """The stop string that ended the text; empty: none."""
        return self._stopping.found

    @property
    def text(self) -> str:
        """The text so far, complete once it is finished."""
        return "".join(self._parts)

    def push(self, generated: GeneratedToken) -> None:
        """Add a token."""
        self.ids.append(generated.token)
        self.logprob += generated.logprob
        if self._stops:
            self._decode()

    def finish(self) -> None:
        """Add what was held back because a stop string could begin with it. Half a character at the
        end is left out: a continuation completes it."""
        self._decode()
        self._add(self._stopping.flush())

    def take(self) -> str:
        """The text since the last call."""
        self._decode()
        new = "".join(self._parts[self._taken :])
        self._taken = len(self._parts)
        return new

    def _decode(self) -> None:
        if self._decoded < len(self.ids):
            new = self._decoder.extend(self.ids[self._decoded :])
            self._decoded = len(self.ids)
            self._add(self._stopping.push(new))

    def _add(self, text: str) -> None:
        while self._begins and text:
            self._begins = self.unread.startswith(self.repeated + text[0])
            if self._begins:
                self.repeated, text = self.repeated + text[0], text[1:]
        self._parts.append(text)


def continue_prompt(
    model: RecurrentLanguageModel,
    codec: TextCodec,
    prompt: str,
    settings: SamplingConfig,
    *,
    after_end: bool,
    check: Callable[[], None],
) -> SampledText:
    """Continue a prompt once.

    Args:
        after_end: the prompt follows an end token, as sentences do in a stream.
        check: called before each token; what it raises ends the sample.

    Raises:
        RnnlmError: this vocabulary can't encode the prompt.
    """
    ids = codec.prompt_ids(prompt, after_end=after_end)
    sampled = SampledText(codec.incremental(ids), settings.stop, codec.unread_part(prompt))
    start = read_text(model, ids)
    check()
    excluded = codec.excluded_ids(settings.unknown)
    for (one,) in Generation(model, start, settings, excluded=excluded):
        sampled.push(one)
        if sampled.stop:
            break
        check()
    sampled.finish()
    return sampled


def continue_text(
    reader: TextReader,
    text: RequestText,
    request: SampleRequest,
    is_cancelled: Callable[[], bool],
    began: float,
) -> Iterator[SamplePiece | SampleDone]:
    """Yield pieces of the samples as they are generated, then the end of each.

    Args:
        began: `time.perf_counter()` when the request came.

    Raises:
        RnnlmError: there is no token to start from, alternatives are too many for one answer, or
            the model predicts NaN.
    """
    settings, codec = request.settings, text.loaded.codec
    if settings.max_new_tokens * request.alternatives > MAX_CHOICES:
        raise InputError(
            f"{request.alternatives} alternatives for {counted(settings.max_new_tokens, 'token')}"
            f" are too many: at most {MAX_CHOICES:,} in all",
            hint="ask for fewer tokens or fewer alternatives",
        )
    unread = "" if text.ids else codec.unread_part(text.prompt)
    samples = [
        SampledText(text.decoder_at(len(text.all_ids)), settings.stop, unread)
        for _ in range(request.count)
    ]
    seconds = [0.0] * request.count
    generation = Generation(
        text.loaded.model,
        reader.state(text),
        settings,
        excluded=codec.excluded_ids(settings.unknown),
        count=request.count,
    )
    first, sent = 0.0, -math.inf
    reason: Literal["length", "cancelled"] = "length"
    for step in generation:
        for row, generated in zip(generation.rows, step, strict=True):
            samples[row].push(generated)
            if samples[row].stop:
                seconds[row] = time.perf_counter() - began
                generation.drop(row)
        now = time.perf_counter()
        first = first or now - began
        if now - sent >= PIECE_SECONDS:
            pieces = list(_pieces(request, samples))
            sent = now if pieces else sent
            yield from pieces
        if is_cancelled():
            reason = "cancelled"
            break
    for sampled in samples:
        sampled.finish()
    yield from _pieces(request, samples)
    for place, sampled in enumerate(samples):
        tokens = len(sampled.ids)
        yield SampleDone(
            id=request.id,
            sample=place,
            reason="stop" if sampled.stop else reason,
            stop=sampled.stop,
            text=sampled.text,
            unread=len(sampled.unread),
            repeated=sampled.repeated,
            ids=tuple(sampled.ids),
            tokens=tokens,
            prompt_tokens=len(text.all_ids),
            seconds=seconds[place] or time.perf_counter() - began,
            first_token_seconds=first,
            bits_per_token=-sampled.logprob / tokens / math.log(2) if tokens else 0.0,
            unknown=text.unknown,
            choices=tuple(token_choices(reader, text, request, sampled.ids))
            if request.alternatives and tokens and not is_cancelled()
            else (),
        )


def _pieces(request: SampleRequest, samples: Sequence[SampledText]) -> Iterator[SamplePiece]:
    for place, sampled in enumerate(samples):
        if new := sampled.take():
            tokens = len(sampled.ids)
            yield SamplePiece(
                id=request.id,
                sample=place,
                text=new,
                tokens=tokens,
                bits_per_token=-sampled.logprob / tokens / math.log(2) if tokens else None,
            )
