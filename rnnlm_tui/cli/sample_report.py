"""Samples as they come: printed in order as text, as exact text or as JSON, and kept."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rnnlm_tui.cli.options import weights_step
from rnnlm_tui.cli.output import TextStream, line, note, print_json
from rnnlm_tui.errors import StorageError, WorkerError
from rnnlm_tui.schema.formatting import counted, escaped, first_of
from rnnlm_tui.schema.metrics import SEEDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from rnnlm_tui.client.sampler import SamplerClient
    from rnnlm_tui.schema.config import SamplingConfig
    from rnnlm_tui.schema.sampling import (
        Alternative,
        SampleDone,
        SamplePiece,
        SampleRequest,
        TokenChoice,
    )

SHOWN_LETTERS = 40
"""Characters shown of an unknown word."""
MOST_UNKNOWN = 10
"""Maximum number of unknown words listed."""


@dataclass(frozen=True, slots=True)
class SampleBatch:
    """Samples of one prompt that are computed together."""

    request: SampleRequest
    prompt_number: int
    """From 1."""
    first: int
    """Number of its first sample among all of the prompt, from 1."""


class Report:
    """Prints the samples in order as they come, and keeps them.

    Args:
        form: `raw` is the generated text alone.
        several: print JSON as one object per line, with the numbers of prompt and sample.
    """

    def __init__(
        self, run: str, form: Literal["text", "raw", "json"], *, several: bool, keep: bool
    ) -> None:
        self.results: list[tuple[SampleBatch, SampleDone]] = []
        self._run = run
        self._form = form
        self._several = several
        self._keep = keep
        self._stream: TextStream | None = None

    def piece(self, batch: SampleBatch, text: str) -> None:
        """Print a piece of the current sample's text."""
        if self._form == "json":
            return
        if self._stream is None:  # not before: the checkpoint may be damaged
            if self.results:
                line()
            self._stream = TextStream()
            if self._form == "text":
                self._stream.write(batch.request.prompt)
        self._stream.write(text)

    def done(self, batch: SampleBatch, done: SampleDone) -> None:
        """End the current sample."""
        self.piece(batch, "")  # the text may be empty
        self.end_line()
        self.results.append((batch, done))
        if self._form == "json":
            result = sample_json(batch.request, done, self._run)
            if self._several:
                result["prompt_number"] = batch.prompt_number
                result["sample_number"] = batch.first + done.sample
            print_json(result, indent=None if self._several else 2)
        self._keep_sample(batch, done)

    def end_line(self) -> None:
        """End the line of an unfinished text, so that the next message starts on a new one."""
        if self._stream is not None:
            self._stream.close(line_break=self._form != "raw")
            self._stream = None

    def _keep_sample(self, batch: SampleBatch, done: SampleDone) -> None:
        from rnnlm_tui.store.kept_samples import KeptSample, all_samples

        if not self._keep:
            return
        step = weights_step(batch.request.checkpoint)
        try:
            all_samples().append(KeptSample.of(batch.request, done, run=self._run, step=step))
        except StorageError as error:
            self._keep = False
            note(f"the sample is not kept: {error.message}")

    def note_unknown(self) -> None:
        """Report the words of the prompts that the model doesn't know."""
        words = list(dict.fromkeys(word for _, done in self.results for word in done.unknown))
        if words:
            shortened = [
                word if len(word) <= SHOWN_LETTERS else f"{word[:SHOWN_LETTERS]}…" for word in words
            ]
            note(f"unknown to this model, read as <unk>: {first_of(shortened, MOST_UNKNOWN)}")


async def in_order(
    client: SamplerClient, request: SampleRequest
) -> AsyncIterator[SamplePiece | SampleDone]:
    """Yield the pieces and the end of one sample after the other. The sampler sends all samples at
    once: the pieces of later ones wait here."""
    from rnnlm_tui.schema.sampling import SampleDone

    waiting: list[deque[SamplePiece | SampleDone]] = [deque() for _ in range(request.count)]
    current = 0
    async for part in client.generate(request):
        waiting[part.sample].append(part)
        while current < request.count and waiting[current]:
            part = waiting[current].popleft()
            yield part
            current += isinstance(part, SampleDone)
    if current < request.count:
        raise WorkerError("the sampler exited before the text was complete")


def outcome(
    results: Sequence[tuple[SampleBatch, SampleDone]],
    settings: SamplingConfig,
    samples: int,
    *,
    drawn: bool,
) -> str:
    """Format `100 tokens, 7,584 tok/s, 0.7 bits per token, seed 7`, in total for all samples.

    Args:
        drawn: the seed is a random one.
    """
    ends = [done for _, done in results]
    tokens = sum(done.tokens for done in ends)
    bits = sum(done.bits_per_token * done.tokens for done in ends if done.tokens) / max(1, tokens)
    parts = [counted(tokens, "token")]
    if len(ends) == 1 and ends[0].reason == "stop":
        parts.append(f'stopped at "{escaped(ends[0].stop)}"')
    seconds = _generating_seconds(results)
    if tokens > len(ends) and seconds > 0:
        parts.append(f"{(tokens - len(ends)) / seconds:,.0f} tok/s")
    parts.append(f"{bits:.1f} bits per token")
    if settings.is_greedy:
        parts.append("greedy")
    else:
        random = "random " if drawn else ""
        last = settings.seed + samples - 1
        parts.append(
            f"{random}seed {settings.seed}"
            if samples == 1
            else f"{random}seeds {settings.seed} to {last % SEEDS}"
        )
    return ", ".join(parts)


def _generating_seconds(results: Sequence[tuple[SampleBatch, SampleDone]]) -> float:
    """Seconds after each batch's first token: the samples of a batch are generated together."""
    longest = dict[str, float]()
    for batch, done in results:
        seconds = done.seconds - done.first_token_seconds
        longest[batch.request.id] = max(seconds, longest.get(batch.request.id, 0.0))
    return sum(longest.values())


def sample_json(request: SampleRequest, done: SampleDone, run: str) -> dict[str, object]:
    """Return the JSON of `sample`: `text` excludes the prompt, `seed` is null when greedy.

    `choices` is there if the request asked for alternatives.
    """
    from rnnlm_tui.schema.config import SAMPLING_OFF

    settings = request.settings
    result: dict[str, object] = {
        "run": run,
        "checkpoint": weights_step(request.checkpoint),
        "now": "snapshots" in Path(request.checkpoint).parts[-2:],
        "state": Path(request.state).stem if request.state else None,
        "prompt": request.prompt,
        "text": done.text,
        "ids": list(done.ids),
        "tokens": done.tokens,
        "prompt_tokens": done.prompt_tokens,
        "reason": done.reason,
        "stopped_at": done.stop if done.reason == "stop" else None,
        "seed": None if settings.is_greedy else (settings.seed + done.sample) % SEEDS,
        "greedy": settings.is_greedy,
        "temperature": settings.temperature,
        **{name: getattr(settings, name) for name in SAMPLING_OFF},
        "unknown_tokens": settings.unknown,
        "stop": list(settings.stop),
        "max_new_tokens": settings.max_new_tokens,
        "bits_per_token": done.bits_per_token,
        "seconds": done.seconds,
        "unknown": list(done.unknown),
        "path": request.checkpoint,
    }
    if request.alternatives:
        result["choices"] = [_choice_json(choice) for choice in done.choices]
    return result


def _choice_json(choice: TokenChoice) -> dict[str, object]:
    rows = [_token_json(row) for row in choice.alternatives]
    return {**_token_json(choice.taken), "alternatives": rows}


def _token_json(token: Alternative) -> dict[str, object]:
    return {
        "id": token.token,
        "text": token.text,
        "rank": token.rank,
        "probability": token.probability,
        "filtered": token.filtered,
        "removed_by": token.removed_by or None,
    }
