"""The verb `sample`: generate text from a checkpoint; print it as it comes, and keep it."""

from __future__ import annotations

import os
from collections import deque
from dataclasses import asdict, dataclass, field, make_dataclass
from itertools import starmap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from rnnlm_tui import client, store
from rnnlm_tui.cli.options import (
    JsonOption,
    SampledArgument,
    SamplerDeviceOption,
    arg,
    check_exclusive,
    complete_state,
    flag,
    opt,
    sampler_for,
    split_address,
    weights_facts,
    weights_label,
    weights_step,
)
from rnnlm_tui.cli.output import TextStream, clipped, line, note, print_json
from rnnlm_tui.cli.prompts import read_prompt, read_prompts
from rnnlm_tui.errors import ConfigError, InputError, Problem, StorageError, WorkerError
from rnnlm_tui.schema.config import SamplingConfig
from rnnlm_tui.schema.formatting import counted, escaped, first_of, read_number, unescaped
from rnnlm_tui.schema.metrics import SEEDS
from rnnlm_tui.schema.record import fields_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from rnnlm_tui.client.sampler import SamplerClient
    from rnnlm_tui.schema.record import FieldInfo
    from rnnlm_tui.schema.sampling import Alternative, SampleDone, SamplePiece, SampleRequest
    from rnnlm_tui.store.paths import RunDirectory

_FROM_RUN = "the run's"
MOST_SAMPLES = 10_000
"""Maximum of -n, the samples per prompt."""
MOST_REPORTED = 200_000
"""Maximum number of alternatives of one sample: they come in one message."""
SHOWN_LETTERS = 40
"""Characters shown of an unknown word."""
MOST_UNKNOWN = 10
"""Maximum number of unknown words listed."""
RANDOM = "random"
"""The value of --seed that draws one."""
_OPTIONS: dict[str, tuple[Any, str, str]] = {
    "stop": (list[str], "TEXT", " '': no stop texts; can be repeated."),
    "seed": (str, f"N|{RANDOM}", " random: draw one and report it."),
}
"""Options with a type of their own: it, their metavar and more help."""


def _option(name: str, setting: FieldInfo) -> tuple[str, object, object]:
    """Name, type and default of the option of a sampling setting."""
    usage, kind = f"--{name.replace('_', '-')}", setting.annotation
    if kind is bool:
        return name, Annotated[bool, opt(usage, setting.about["description"])], False
    metavar = "N" if kind is int else "X" if kind is float else "|".join(map(str, get_args(kind)))
    kind, metavar, more = _OPTIONS.get(name, (kind, metavar, ""))
    option = opt(f"{usage} {metavar}", setting.about["description"] + more, shown=_FROM_RUN)
    return name, Annotated[kind | None, option], None


if TYPE_CHECKING:
    SamplingOptions = Any
else:
    SamplingOptions = make_dataclass(
        "SamplingOptions", starmap(_option, fields_of(SamplingConfig).items()), frozen=True
    )


def sample(
    run: SampledArgument,
    prompt: str | None = arg(
        "[PROMPT]", "The text to continue; - reads it from standard input.", None
    ),
    prompts: list[Path] | None = opt(
        "--prompts FILE",
        "Continue every prompt in a file: one per line, or a .jsonl file of strings or of"
        " objects with a “prompt”; - reads standard input; can be repeated.",
        None,
    ),
    samples: int = opt("-n --samples N", "Samples per prompt, with consecutive seeds.", 1),
    settings: SamplingOptions = SamplingOptions(),
    state: str = opt(
        "--state NAME",
        "Start from this kept state, as if its text came before the prompt.",
        "",
        complete_state,
    ),
    raw: bool = flag(
        "--raw", "Print the generated text only, exactly, without a final line break."
    ),
    alternatives: int = opt(
        "--alternatives N",
        "With --json: report each token's probability before and after the filters, with"
        " the N most likely tokens.",
        0,
    ),
    keep: bool = opt(
        "--keep/--no-keep",
        "Keep the samples for `rnnlm-tui samples` (default: keep).",
        True,
        shown=False,
    ),
    device: SamplerDeviceOption = "cpu",
    json: JsonOption = False,
) -> None:
    """Continue one or more prompts with a checkpoint's model.

    Samples are printed in the order of the prompts, each after its prompt, with an empty line
    between samples. With --json, several samples are one object per line.
    """
    import asyncio

    from rnnlm_tui.schema.sampling import SampleRequest

    given = _texts(run, prompt, prompts)
    if not 1 <= samples <= MOST_SAMPLES:
        raise InputError(f"-n is {samples:,}, must be 1 … {MOST_SAMPLES:,}")
    check_exclusive(raw=raw, json=json)
    directory, which = split_address(run)
    wanted = sample_settings(directory, sampling_changes(settings))
    if samples > 1 and wanted.is_greedy:
        raise InputError(
            f"-n {samples} would give the same text {samples} times: greedy sampling always takes"
            " the most likely token",
            hint="leave out -n, or sample with a temperature above 0",
        )
    _check_alternatives(alternatives, wanted, json=json)
    several = prompts is not None or samples > 1
    if raw and len(given) * samples > 1:
        raise InputError(
            f"--raw prints one text, not {len(given) * samples:,}",
            hint="use --json, which keeps several texts apart",
        )
    path = str(client.control.weights_path(directory, which))
    request = SampleRequest(
        id="",
        checkpoint=path,
        state=str(store.states.find_state(state).path) if state else "",
        settings=wanted,
        alternatives=alternatives,
    )
    form: Literal["text", "raw", "json"] = "json" if json else "raw" if raw else "text"
    report = Report(directory.name, form, samples if several else None, keep=keep)
    asyncio.run(_generate_all(request, given, samples, report, device))
    report.note_unknown()
    if form == "text":
        figures = outcome(report.results, wanted, samples, drawn=settings.seed == RANDOM)
        if several:
            number = counted(len(report.results), "sample")
            figures = f"{number} of {counted(len(given), 'prompt')}, {figures}"
        weights = weights_label(directory.name, path)
        note(f"{figures}, from {weights}" + (f", state {state}" if state else ""))


def _texts(run: str, prompt: str | None, prompts: list[Path] | None) -> list[str]:
    """Read the prompts.

    Raises:
        InputError: there are none, or some are invalid.
    """
    check_exclusive(PROMPT=prompt is not None, prompts=prompts)
    if prompts:
        if [str(file) for file in prompts].count("-") > 1:
            raise InputError("standard input can be read once", hint="leave out one --prompts -")
        return [text for file in prompts for text in read_prompts(file)]
    if prompt is None:
        raise InputError(
            "no prompt given",
            hint=f"rnnlm-tui sample {run} 'The', or --prompts FILE; '' is an empty prompt",
        )
    return [read_prompt(prompt)]


def sampling_changes(options: Any) -> dict[str, object]:
    """Return the settings that the options change.

    Raises:
        InputError: `--greedy` with a temperature above 0, or an invalid seed.
    """
    temperature, stop = options.temperature, options.stop
    check_exclusive(
        "--temperature 0 is greedy as well",
        **{"greedy": options.greedy, f"temperature {temperature}": bool(temperature)},
    )
    changes = asdict(options) | {
        "stop": None if not stop else [] if stop == [""] else [unescaped(text) for text in stop],
        "seed": read_seed(options.seed),
        "greedy": True if options.greedy else False if temperature else None,
    }
    return {name: value for name, value in changes.items() if value is not None}


def read_seed(seed: str | None) -> int | None:
    """Return the number, or for `random` a new one below 2**31.

    Raises:
        InputError: neither.
    """
    if seed is None:
        return None
    if seed == RANDOM:
        return int.from_bytes(os.urandom(4), "big") >> 1
    number = read_number(seed)
    if not isinstance(number, int):
        raise InputError(f"--seed is {seed}, must be a whole number or random")
    return number


def sample_settings(directory: RunDirectory, changes: Mapping[str, object]) -> SamplingConfig:
    """Return the run's sampling settings with these changes.

    Raises:
        InputError: every invalid value, by the name of its option.
    """
    from rnnlm_tui.schema.validation import merge, parse_config

    def describe(problem: Problem) -> str:
        option = problem.path.removeprefix("sampling.").partition(".")[0].replace("_", "-")
        return f"--{option} {problem.message}" + (f" ({problem.hint})" if problem.hint else "")

    wanted = {f"sampling.{name}": value for name, value in changes.items()}
    try:
        return parse_config(merge(directory.read_config(), wanted)).sampling
    except ConfigError as error:
        raise InputError("\n".join(map(describe, error.problems))) from error


def _check_alternatives(number: int, settings: SamplingConfig, *, json: bool) -> None:
    from rnnlm_tui.schema.sampling import MAX_ALTERNATIVES

    if number and not json:
        raise InputError("--alternatives needs --json", hint="add --json")
    if not 0 <= number <= MAX_ALTERNATIVES:
        raise InputError(f"--alternatives is {number:,}, must be 0 … {MAX_ALTERNATIVES}")
    tokens = settings.max_new_tokens
    if number * tokens > MOST_REPORTED:
        raise InputError(
            f"--alternatives {number} for {counted(tokens, 'token')} is too much: the limit is"
            f" {MOST_REPORTED:,} in a sample",
            hint=f"use --max-new-tokens {MOST_REPORTED // number}, or fewer alternatives",
        )


async def _generate_all(
    request: SampleRequest, prompts: Sequence[str], samples: int, report: Report, device: str
) -> None:
    """Generate the samples batch after batch with one sampler, which loads the model once; those of
    a prompt with consecutive seeds."""
    from rnnlm_tui.schema.sampling import in_batches

    async with sampler_for(request.checkpoint, device) as sampler:
        try:
            for number, prompt in enumerate(prompts):
                one = request.model_copy(update={"id": str(number), "prompt": prompt})
                for _, batch in in_batches(one, samples):
                    await report.generate(sampler, batch)
        finally:
            report.end_line()


@dataclass(slots=True)
class Report:
    """Prints the samples in order as they come, and keeps them."""

    run: str
    form: Literal["text", "raw", "json"]
    """`raw` is the generated text alone."""
    samples: int | None
    """Of each prompt; JSON is then one object per line, with the numbers of prompt and sample.
    None: there is one sample."""
    keep: bool
    results: list[SampleDone] = field(default_factory=list)
    _stream: TextStream | None = None

    async def generate(self, client: SamplerClient, request: SampleRequest) -> None:
        """Generate the samples of a request."""
        from rnnlm_tui.schema.sampling import SampleDone

        async for part in in_order(client, request):
            if isinstance(part, SampleDone):
                self._done(request, part)
            else:
                self._piece(request, part.text)

    def _piece(self, request: SampleRequest, text: str) -> None:
        if self.form == "json":
            return
        if self._stream is None:  # not before: the checkpoint may be damaged
            if self.results:
                line()
            self._stream = TextStream()
            if self.form == "text":
                self._stream.write(request.prompt)
        self._stream.write(text)

    def _done(self, request: SampleRequest, done: SampleDone) -> None:
        from rnnlm_tui.store.kept_samples import KeptSample, all_samples

        self._piece(request, "")  # the text may be empty
        self.end_line()
        if self.form == "json":
            result = sample_json(request, done, self.run)
            if self.samples is not None:
                prompt, sample = divmod(len(self.results), self.samples)
                result |= {"prompt_number": prompt + 1, "sample_number": sample + 1}
            print_json(result, indent=2 if self.samples is None else None)
        self.results.append(done)
        if self.keep:
            step = weights_step(request.checkpoint)
            try:
                all_samples().append(KeptSample.of(request, done, run=self.run, step=step))
            except StorageError as error:
                self.keep = False
                note(f"the sample is not kept: {error.message}")

    def end_line(self) -> None:
        """End the line of an unfinished text, so that the next message starts on a new one."""
        if self._stream is not None:
            self._stream.close(line_break=self.form != "raw")
            self._stream = None

    def note_unknown(self) -> None:
        """Report the words of the prompts that the model doesn't know."""
        words = list(dict.fromkeys(word for done in self.results for word in done.unknown))
        if words:
            cut = [clipped(word, SHOWN_LETTERS) for word in words]
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
