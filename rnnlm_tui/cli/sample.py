"""The verb `sample`: generate text from a checkpoint and stream it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rnnlm_tui.cli.options import (
    JsonOption,
    check_exclusive,
    checkpoint_path,
    complete_sampled,
    split_address,
)
from rnnlm_tui.cli.output import TextStream, line, note, print_json
from rnnlm_tui.errors import ConfigError, InputError, Problem, WorkerError
from rnnlm_tui.schema.formatting import counted, escaped, first_of, unescaped

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rnnlm_tui.client.sampler import SamplerClient
    from rnnlm_tui.schema.config import SamplingConfig
    from rnnlm_tui.schema.sampling import SampleDone, SampleRequest
    from rnnlm_tui.store.paths import RunDirectory

_FROM_RUN = "the run's"
SHOWN_LETTERS = 40
"""Characters shown of an unknown word."""
MOST_SAMPLES = 10_000
"""Maximum of -n, the samples per prompt."""
MOST_UNKNOWN = 10
"""Maximum number of unknown words listed."""
MOST_PROBLEMS = 5
"""Maximum number of invalid lines of a prompt file listed."""


def sample(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN[@best|@last|@STEP|@now]",
            help="A run and its checkpoint (default: @best); @now: a running run's weights.",
            show_default=False,
            autocompletion=complete_sampled,
        ),
    ],
    prompt: Annotated[
        str | None,
        typer.Argument(
            metavar="[PROMPT]",
            help="The text to continue; - reads it from standard input.",
            show_default=False,
        ),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            "--prompts",
            metavar="FILE",
            help=(
                "Continue every prompt in a file: one per line, or a .jsonl file of strings or of"
                " objects with a “prompt”; - reads standard input."
            ),
            show_default=False,
        ),
    ] = None,
    samples: Annotated[
        int,
        typer.Option(
            "-n", "--samples", metavar="N", help="Samples per prompt, with consecutive seeds."
        ),
    ] = 1,
    temperature: Annotated[
        float | None,
        typer.Option(
            metavar="T",
            help="Below 1 safer, above 1 more varied; 0: greedy.",
            show_default=_FROM_RUN,
        ),
    ] = None,
    top_k: Annotated[
        int | None,
        typer.Option(
            metavar="K",
            help="Sample from the K most likely tokens; 0: off.",
            show_default=_FROM_RUN,
        ),
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option(
            metavar="P",
            help="Sample from the fewest tokens whose probabilities sum to at least P; 1: off.",
            show_default=_FROM_RUN,
        ),
    ] = None,
    min_p: Annotated[
        float | None,
        typer.Option(
            metavar="P",
            help="Sample from tokens at least P times as likely as the most likely one; 0: off.",
            show_default=_FROM_RUN,
        ),
    ] = None,
    repetition_penalty: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            help="Above 1, tokens already in the prompt or text become less likely; 1: off.",
            show_default=_FROM_RUN,
        ),
    ] = None,
    unknown: Annotated[
        Literal["auto", "avoid", "allow"] | None,
        typer.Option(
            metavar="auto|avoid|allow",
            help="Whether to sample <unk>; auto: not with word tokens.",
            show_default=_FROM_RUN,
        ),
    ] = None,
    stop: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT",
            help=r"Stop before TEXT (\n: a line break, '': no stop texts); can be repeated.",
            show_default=_FROM_RUN,
        ),
    ] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(metavar="N", help="Tokens to generate.", show_default=_FROM_RUN)
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="The same seed gives the same text.", show_default=_FROM_RUN
        ),
    ] = None,
    greedy: Annotated[
        bool,
        typer.Option(
            "--greedy",
            help="Always take the most likely token, like --temperature 0; needs no seed.",
        ),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Continue one or more prompts with a checkpoint's model.

    Samples are printed in the order of the prompts, each after its prompt, with an empty line
    between samples. With --json, several samples are one object per line.
    """
    import asyncio

    check_exclusive(PROMPT=prompt is not None, prompts=prompts is not None)
    if prompt is None and prompts is None:
        raise InputError(
            "no prompt given",
            hint=f"rnnlm-tui sample {run} 'The', or --prompts FILE; '' is an empty prompt",
        )
    if not 1 <= samples <= MOST_SAMPLES:
        raise InputError(f"-n is {samples:,}, must be 1 … {MOST_SAMPLES:,}")
    check_exclusive(
        "--temperature 0 is greedy as well",
        **{"greedy": greedy, f"temperature {temperature}": bool(temperature)},
    )
    directory, which = split_address(run)
    changes: dict[str, object] = {
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "repetition_penalty": repetition_penalty,
        "unknown": unknown,
        "stop": None if not stop else [] if stop == [""] else [unescaped(text) for text in stop],
        "max_new_tokens": max_new_tokens,
        "seed": seed,
        "greedy": True if greedy else False if temperature else None,
    }
    try:
        settings = sample_settings(directory, changes)
    except ConfigError as error:
        raise named_by_options(error) from error
    if samples > 1 and settings.is_greedy:
        raise InputError(
            f"-n {samples} would give the same text {samples} times: greedy sampling always takes"
            " the most likely token",
            hint="leave out -n, or sample with a temperature above 0",
        )
    several = prompts is not None or samples > 1
    texts = read_prompts(prompts) if prompts is not None else [read_prompt(prompt or "")]
    first = sample_request(directory, which, texts[0], settings)
    requests = [
        first.model_copy(
            update={
                "id": f"{number}.{place}",
                "prompt": text,
                "settings": settings.model_copy(update={"seed": (settings.seed + place) % 2**63}),
            }
        )
        for number, text in enumerate(texts)
        for place in range(samples)
    ]

    def report(request: SampleRequest, done: SampleDone) -> None:
        if not json:
            return
        result = sample_json(request, done, directory.name)
        if several:
            number, _, place = request.id.partition(".")
            result |= {"prompt_number": int(number) + 1, "sample_number": int(place) + 1}
        print_json(result, indent=None if several else 2)

    results = asyncio.run(_generate_all(requests, report, stream=not json))
    if unknown_words := list(dict.fromkeys(word for done in results for word in done.unknown)):
        shortened = [
            word if len(word) <= SHOWN_LETTERS else f"{word[:SHOWN_LETTERS]}…"
            for word in unknown_words
        ]
        note(f"unknown to this model, read as <unk>: {first_of(shortened, MOST_UNKNOWN)}")
    if not json:
        outcome = f"{_outcome(results, settings, samples)}, from {directory.name}@{step_of(first)}"
        if several:
            outcome = (
                f"{counted(len(results), 'sample')} of {counted(len(texts), 'prompt')}, {outcome}"
            )
        note(outcome)


def _outcome(results: list[SampleDone], settings: SamplingConfig, samples: int) -> str:
    """Format `100 tokens, 7,584 tok/s, 0.7 bits per token, seed 7`, in total for all samples."""
    tokens = sum(done.tokens for done in results)
    seconds = sum(done.seconds - done.first_token_seconds for done in results)
    bits = sum(done.bits_per_token * done.tokens for done in results) / max(1, tokens)
    parts = [counted(tokens, "token")]
    if len(results) == 1 and results[0].reason == "stop":
        parts.append(f'stopped at "{escaped(results[0].stop)}"')
    if tokens > len(results) and seconds > 0:
        parts.append(f"{(tokens - len(results)) / seconds:,.0f} tok/s")
    parts.append(f"{bits:.1f} bits per token")
    if settings.is_greedy:
        parts.append("greedy")
    elif samples == 1:
        parts.append(f"seed {settings.seed}")
    else:
        parts.append(f"seeds {settings.seed} to {settings.seed + samples - 1}")
    return ", ".join(parts)


def sample_settings(directory: RunDirectory, changes: Mapping[str, object]) -> SamplingConfig:
    """Return the run's sampling settings with all changes that are not None.

    Raises:
        ConfigError: every invalid value.
    """
    from rnnlm_tui.schema.validation import merge, parse_config

    wanted = {f"sampling.{name}": value for name, value in changes.items() if value is not None}
    return parse_config(merge(directory.read_config(), wanted)).sampling


def named_by_options(error: ConfigError) -> InputError:
    """Convert config problems into an error that names this verb's options."""

    def describe(problem: Problem) -> str:
        option = problem.path.removeprefix("sampling.").partition(".")[0].replace("_", "-")
        return f"--{option} {problem.message}" + (f" ({problem.hint})" if problem.hint else "")

    return InputError("\n".join(describe(problem) for problem in error.problems))


def sample_request(
    directory: RunDirectory, which: str | None, prompt: str, settings: SamplingConfig
) -> SampleRequest:
    """Build a request for the sampler.

    Args:
        which: a checkpoint; None: the best, or the last if none was evaluated; "now": the current
            weights of a running worker.

    Raises:
        UnknownCheckpointError: no such checkpoint; lists the available ones.
    """
    from rnnlm_tui.client.control import take_snapshot
    from rnnlm_tui.schema.sampling import SampleRequest

    path = take_snapshot(directory).path if which == "now" else checkpoint_path(directory, which)
    return SampleRequest(id="1", checkpoint=str(path), prompt=prompt, settings=settings)


def sample_json(request: SampleRequest, done: SampleDone, run: str) -> dict[str, object]:
    """Return the JSON of `sample`: `text` excludes the prompt, `seed` is null when greedy."""
    settings = request.settings
    return {
        "run": run,
        "checkpoint": step_of(request),
        "prompt": request.prompt,
        "text": done.text,
        "tokens": done.tokens,
        "reason": done.reason,
        "stopped_at": done.stop if done.reason == "stop" else None,
        "seed": None if settings.is_greedy else settings.seed,
        "greedy": settings.is_greedy,
        "temperature": settings.temperature,
        "top_k": settings.top_k,
        "top_p": settings.top_p,
        "min_p": settings.min_p,
        "repetition_penalty": settings.repetition_penalty,
        "unknown_tokens": settings.unknown,
        "stop": list(settings.stop),
        "max_new_tokens": settings.max_new_tokens,
        "bits_per_token": done.bits_per_token,
        "seconds": done.seconds,
        "unknown": list(done.unknown),
        "path": request.checkpoint,
    }


def step_of(request: SampleRequest) -> int:
    """Return the step of a request's checkpoint."""
    return int(request.checkpoint.rpartition("step-")[2].partition("-")[0])


def read_prompt(prompt: str) -> str:
    """Return the prompt, or standard input for `-`, without its final line break.

    Reads no more of standard input than a prompt may have.

    Raises:
        InputError: not UTF-8, or too long.
    """
    from rnnlm_tui.schema.sampling import MAX_PROMPT_CHARACTERS

    try:
        text = prompt
        if prompt == "-":
            text = sys.stdin.read(MAX_PROMPT_CHARACTERS + 2).removesuffix("\n")
        text.encode()
    except UnicodeError:
        raise InputError(
            "the prompt is not UTF-8", hint="check the terminal's encoding with `rnnlm-tui doctor`"
        ) from None
    if len(text) > MAX_PROMPT_CHARACTERS:
        have = counted(len(text), "character") if prompt != "-" else "too many characters"
        raise InputError(f"the prompt has {have}, the limit is {MAX_PROMPT_CHARACTERS:,}")
    return text


def read_prompts(file: Path) -> list[str]:
    """Read prompts from a file, or from standard input for `-`.

    One per non-empty line; in a .jsonl file, a string or an object with a `prompt`.

    Raises:
        InputError: the file can't be read, has no prompts, or has invalid lines, which are listed.
    """
    from json import JSONDecodeError, loads

    place = "standard input" if str(file) == "-" else str(file)
    try:
        data = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise InputError(
            f"cannot read prompts from {place}: {error.strerror}",
            hint="one prompt per line, or a .jsonl file",
        ) from None
    except UnicodeDecodeError as error:
        raise InputError(
            f"{place} is not UTF-8 (byte {error.start:,})", hint="save it as UTF-8"
        ) from None
    found, problems = list[str](), list[str]()
    for number, row in enumerate(text.replace("\r\n", "\n").split("\n"), start=1):
        if not row:
            continue
        prompt: object = row
        if file.suffix in (".jsonl", ".ndjson"):
            try:
                value: object = loads(row)
            except (JSONDecodeError, RecursionError):
                problems.append(f"{place}, line {number:,}: not JSON")
                continue
            prompt = value.get("prompt") if isinstance(value, dict) else value
        if not isinstance(prompt, str):
            problems.append(
                f"{place}, line {number:,}: not a string or an object with a string “prompt”"
            )
        elif problem := _prompt_problem(prompt):
            problems.append(f"{place}, line {number:,}: {problem}")
        else:
            found.append(prompt)
    if problems:
        if len(problems) > MOST_PROBLEMS:
            more = f"and {counted(len(problems) - MOST_PROBLEMS, 'more line')}"
            problems = [*problems[:MOST_PROBLEMS], more]
        raise InputError("\n".join(problems))
    if not found:
        raise InputError(
            f"{place} has no prompts", hint="one prompt per line; empty lines are skipped"
        )
    return found


def _prompt_problem(prompt: str) -> str:
    """Say why a prompt is invalid; empty if it is valid."""
    from rnnlm_tui.schema.sampling import MAX_PROMPT_CHARACTERS

    try:
        prompt.encode()
    except UnicodeError:
        return "the prompt is not UTF-8"
    if len(prompt) > MAX_PROMPT_CHARACTERS:
        have = counted(len(prompt), "character")
        return f"the prompt has {have}, the limit is {MAX_PROMPT_CHARACTERS:,}"
    return ""


async def _generate_all(
    requests: Sequence[SampleRequest],
    report: Callable[[SampleRequest, SampleDone], None],
    *,
    stream: bool,
) -> list[SampleDone]:
    """Generate the samples one after another with one sampler, which loads the model once."""
    from rnnlm_tui.client.sampler import SamplerClient

    client = SamplerClient()
    results: list[SampleDone] = []
    try:
        await client.start()
        for request in requests:
            results.append(await _generate(client, request, stream=stream, apart=bool(results)))
            report(request, results[-1])
    finally:
        await client.close()
    return results


async def _generate(
    client: SamplerClient, request: SampleRequest, *, stream: bool, apart: bool
) -> SampleDone:
    """Generate a sample; `stream` prints its text as it arrives, `apart` an empty line first."""
    from rnnlm_tui.schema.sampling import SampleDone

    output, begun = TextStream(), False
    try:
        async for part in client.generate(request):
            if stream and not begun:  # not before: the checkpoint may be damaged
                begun = True
                if apart:
                    line()
                output.write(request.prompt)
            if isinstance(part, SampleDone):
                return part
            if stream:
                output.write(part.text)
    finally:
        if begun:
            output.close()  # the next message starts on a new line
    raise WorkerError("the sampler exited before the text was complete")
