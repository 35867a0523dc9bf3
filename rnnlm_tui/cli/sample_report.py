"""Samples as they come: printed in order as text, as exact text or as JSON, and kept."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rnnlm_tui.cli.options import weights_facts, weights_step
from rnnlm_tui.cli.output import TextStream, line, note, print_json, shortened
from rnnlm_tui.errors import StorageError, WorkerError
from rnnlm_tui.schema.formatting import counted, escaped, first_of
from rnnlm_tui.schema.metrics import SEEDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from rnnlm_tui.client.sampler import SamplerClient
    from rnnlm_tui.schema.config import SamplingConfig
    from rnnlm_tui.schema.sampling import Alternative, SampleDone, SamplePiece, SampleRequest

SHOWN_LETTERS = 40
"""Characters shown of an unknown word."""
MOST_UNKNOWN = 10
"""Maximum number of unknown words listed."""


class Report:
    """Prints the samples in order as they come, and keeps them.

    Args:
        form: `raw` is the generated text alone.
        samples: of each prompt; JSON is then one object per line, with the numbers of prompt and
            sample. None: there is one sample.
    """

    def __init__(
        self, run: str, form: Literal["text", "raw", "json"], samples: int | None, *, keep: bool
    ) -> None:
        self.results: list[SampleDone] = []
        self._run = run
        self._form = form
        self._samples = samples
        self._keep = keep
        self._stream: TextStream | None = None

    async def generate(self, client: SamplerClient, request: SampleRequest) -> None:
        """Generate the samples of a request."""
        from rnnlm_tui.schema.sampling import SampleDone

        async for part in in_order(client, request):
            if isinstance(part, SampleDone):
                self._done(request, part)
            else:
                self._piece(request, part.text)

    def _piece(self, request: SampleRequest, text: str) -> None:
        if self._form == "json":
            return
        if self._stream is None:  # not before: the checkpoint may be damaged
            if self.results:
                line()
            self._stream = TextStream()
            if self._form == "text":
                self._stream.write(request.prompt)
        self._stream.write(text)

    def _done(self, request: SampleRequest, done: SampleDone) -> None:
        from rnnlm_tui.store.kept_samples import KeptSample, all_samples

        self._piece(request, "")  # the text may be empty
        self.end_line()
        if self._form == "json":
            result = sample_json(request, done, self._run)
            if self._samples is not None:
                prompt, sample = divmod(len(self.results), self._samples)
                result |= {"prompt_number": prompt + 1, "sample_number": sample + 1}
            print_json(result, indent=2 if self._samples is None else None)
        self.results.append(done)
        if self._keep:
            step = weights_step(request.checkpoint)
            try:
                all_samples().append(KeptSample.of(request, done, run=self._run, step=step))
            except StorageError as error:
                self._keep = False
                note(f"the sample is not kept: {error.message}")

    def end_line(self) -> None:
        """End the line of an unfinished text, so that the next message starts on a new one."""
        if self._stream is not None:
            self._stream.close(line_break=self._form != "raw")
            self._stream = None

    def note_unknown(self) -> None:
        """Report the words of the prompts that the model doesn't know."""
        words = list(dict.fromkeys(word for done in self.results for word in done.unknown))
        if words:
            cut = [shortened(word, SHOWN_LETTERS) for word in words]
            note(f"unknown to this model, read as <unk>: {first_of(cut, MOST_UNKNOWN)}")


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
    results: Sequence[SampleDone], settings: SamplingConfig, samples: int, *, drawn: bool
) -> str:
    """Format `100 tokens, 7,584 tok/s, 0.7 bits per token, seed 7`, in total for all samples.

    Args:
        drawn: the seed is a random one.
    """
    tokens = sum(done.tokens for done in results)
    bits = sum(done.bits_per_token * done.tokens for done in results if done.tokens)
    parts = [counted(tokens, "token")]
    if len(results) == 1 and results[0].reason == "stop":
        parts.append(f'stopped at "{escaped(results[0].stop)}"')
    longest = dict[str, float]()  # after the first token; a batch's samples are generated together
    for done in results:
        seconds = done.seconds - done.first_token_seconds
        longest[done.id] = max(seconds, longest.get(done.id, 0.0))
    if tokens > len(results) and (seconds := sum(longest.values())) > 0:
        parts.append(f"{(tokens - len(results)) / seconds:,.0f} tok/s")
    parts.append(f"{bits / max(1, tokens):.1f} bits per token")
    random = "random " if drawn else ""
    if settings.is_greedy:
        parts.append("greedy")
    elif samples == 1:
        parts.append(f"{random}seed {settings.seed}")
    else:
        last = (settings.seed + samples - 1) % SEEDS
        parts.append(f"{random}seeds {settings.seed} to {last}")
    return ", ".join(parts)


_FACTS = {
    *("text", "ids", "tokens", "prompt_tokens", "reason", "bits_per_token", "seconds", "unknown"),
}


def sample_json(request: SampleRequest, done: SampleDone, run: str) -> dict[str, object]:
    """Return the JSON of `sample`: `text` excludes the prompt, `seed` is null when greedy.

    `choices` is there if the request asked for alternatives.
    """

    settings = request.settings
    result = {
        **weights_facts(run, request.checkpoint),
        "state": Path(request.state).stem if request.state else None,
        "prompt": request.prompt,
        **settings.model_dump(exclude={"unknown"}),
        "unknown_tokens": settings.unknown,
        "greedy": settings.is_greedy,
        "seed": None if settings.is_greedy else (settings.seed + done.sample) % SEEDS,
        **done.model_dump(include=_FACTS),
        "stopped_at": done.stop if done.reason == "stop" else None,
    }
    if request.alternatives:
        result["choices"] = [
            _token_json(choice.taken)
            | {"alternatives": list(map(_token_json, choice.alternatives))}
            for choice in done.choices
        ]
    return result


def _token_json(token: Alternative) -> dict[str, object]:
    facts = token.model_dump(exclude={"token"})
    return {"id": token.token, **facts, "removed_by": token.removed_by or None}
