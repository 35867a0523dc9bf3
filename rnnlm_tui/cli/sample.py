"""The verb `sample`: generate text from a checkpoint and stream it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from rnnlm_tui import client, store
from rnnlm_tui.cli.options import (
    JsonOption,
    SampledArgument,
    SamplerDeviceOption,
    arg,
    check_exclusive,
    complete_state,
    opt,
    sampler_for,
    split_address,
    weights_label,
)
from rnnlm_tui.cli.output import note
from rnnlm_tui.cli.prompts import read_prompt, read_prompts
from rnnlm_tui.cli.sample_report import Report, outcome
from rnnlm_tui.errors import ConfigError, InputError, Problem
from rnnlm_tui.schema.formatting import counted, read_number, unescaped

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rnnlm_tui.schema.config import SamplingConfig
    from rnnlm_tui.schema.sampling import SampleRequest
    from rnnlm_tui.store.paths import RunDirectory

_FROM_RUN = "the run's"
MOST_SAMPLES = 10_000
"""Maximum of -n, the samples per prompt."""
MOST_REPORTED = 200_000
"""Maximum number of alternatives of one sample: they come in one message."""
RANDOM = "random"
"""The value of --seed that draws one."""


def sample(
    run: SampledArgument,
    prompt: Annotated[
        str | None, arg("[PROMPT]", "The text to continue; - reads it from standard input.")
    ] = None,
    prompts: Annotated[
        list[Path] | None,
        opt(
            "--prompts FILE",
            "Continue every prompt in a file: one per line, or a .jsonl file of strings or of"
            " objects with a “prompt”; - reads standard input; can be repeated.",
        ),
    ] = None,
    samples: Annotated[
        int, opt("-n --samples N", "Samples per prompt, with consecutive seeds.")
    ] = 1,
    temperature: Annotated[
        float | None,
        opt("--temperature T", "Below 1 safer, above 1 more varied; 0: greedy.", default=_FROM_RUN),
    ] = None,
    top_k: Annotated[
        int | None,
        opt("--top-k K", "Sample from the K most likely tokens; 0: off.", default=_FROM_RUN),
    ] = None,
    top_p: Annotated[
        float | None,
        opt(
            "--top-p P",
            "Sample from the fewest tokens whose probabilities sum to at least P; 1: off.",
            default=_FROM_RUN,
        ),
    ] = None,
    min_p: Annotated[
        float | None,
        opt(
            "--min-p P",
            "Sample from tokens at least P times as likely as the most likely one; 0: off.",
            default=_FROM_RUN,
        ),
    ] = None,
    typical_p: Annotated[
        float | None,
        opt(
            "--typical-p P",
            "Sample from the tokens of most average surprise whose probabilities sum to at"
            " least P; 1: off.",
            default=_FROM_RUN,
        ),
    ] = None,
    repetition_penalty: Annotated[
        float | None,
        opt(
            "--repetition-penalty X",
            "Above 1, tokens already in the prompt or text become less likely; 1: off.",
            default=_FROM_RUN,
        ),
    ] = None,
    penalty_window: Annotated[
        int | None,
        opt(
            "--penalty-window N",
            "Only the last N tokens count for the penalty; 0: prompt and text.",
            default=_FROM_RUN,
        ),
    ] = None,
    unknown: Annotated[
        Literal["auto", "avoid", "allow"] | None,
        opt(
            "--unknown auto|avoid|allow",
            "Whether to sample <unk>; auto: not with word tokens.",
            default=_FROM_RUN,
        ),
    ] = None,
    stop: Annotated[
        list[str] | None,
        opt(
            "--stop TEXT",
            r"Stop before TEXT (\n: a line break, '': no stop texts); can be repeated.",
            default=_FROM_RUN,
        ),
    ] = None,
    max_new_tokens: Annotated[
        int | None, opt("--max-new-tokens N", "Tokens to generate.", default=_FROM_RUN)
    ] = None,
    seed: Annotated[
        str | None,
        opt(
            "--seed N|random",
            "The same seed gives the same text; random: draw one and report it.",
            default=_FROM_RUN,
        ),
    ] = None,
    greedy: Annotated[
        bool,
        opt("--greedy", "Always take the most likely token, like --temperature 0; needs no seed."),
    ] = False,
    state: Annotated[
        str,
        opt(
            "--state NAME",
            "Start from this kept state, as if its text came before the prompt.",
            complete_state,
        ),
    ] = "",
    raw: Annotated[
        bool, opt("--raw", "Print the generated text only, exactly, without a final line break.")
    ] = False,
    alternatives: Annotated[
        int,
        opt(
            "--alternatives N",
            "With --json: report each token's probability before and after the filters, with"
            " the N most likely tokens.",
        ),
    ] = 0,
    keep: Annotated[
        bool,
        opt(
            "--keep/--no-keep",
            "Keep the samples for `rnnlm-tui samples` (default: keep).",
            default=False,
        ),
    ] = True,
    device: SamplerDeviceOption = "cpu",
    json: JsonOption = False,
) -> None:
    """Continue one or more prompts with a checkpoint's model.

    Samples are printed in the order of the prompts, each after its prompt, with an empty line
    between samples. With --json, several samples are one object per line.
    """
    import asyncio

    given = _texts(run, prompt, prompts)
    if not 1 <= samples <= MOST_SAMPLES:
        raise InputError(f"-n is {samples:,}, must be 1 … {MOST_SAMPLES:,}")
    check_exclusive(raw=raw, json=json)
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
        "typical_p": typical_p,
        "repetition_penalty": repetition_penalty,
        "penalty_window": penalty_window,
        "unknown": unknown,
        "stop": None if not stop else [] if stop == [""] else [unescaped(text) for text in stop],
        "max_new_tokens": max_new_tokens,
        "seed": read_seed(seed),
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
    _check_alternatives(alternatives, settings, json=json)
    several = prompts is not None or samples > 1
    if raw and len(given) * samples > 1:
        raise InputError(
            f"--raw prints one text, not {len(given) * samples:,}",
            hint="use --json, which keeps several texts apart",
        )
    path = str(client.control.weights_path(directory, which))
    requests = sample_requests(
        path, given, settings, samples=samples, state=state, alternatives=alternatives
    )
    form: Literal["text", "raw", "json"] = "json" if json else "raw" if raw else "text"
    report = Report(directory.name, form, samples if several else None, keep=keep)
    asyncio.run(_generate_all(requests, report, device))
    report.note_unknown()
    if form == "text":
        figures = outcome(report.results, settings, samples, drawn=seed == RANDOM)
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
    check_exclusive(PROMPT=prompt is not None, prompts=bool(prompts))
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


def sample_requests(
    path: str,
    prompts: Sequence[str],
    settings: SamplingConfig,
    *,
    samples: int = 1,
    state: str = "",
    alternatives: int = 0,
) -> list[SampleRequest]:
    """Build the requests for the sampler, with consecutive seeds for each prompt.

    Args:
        path: the folder of the weights.
        state: name of a kept state; empty: the initial state.

    Raises:
        InputError: no such state.
    """
    from rnnlm_tui.schema.sampling import SampleRequest, in_batches

    request = SampleRequest(
        id="",
        checkpoint=path,
        state=str(store.states.find_state(state).path) if state else "",
        settings=settings,
        alternatives=alternatives,
    )
    return [
        batch
        for number, prompt in enumerate(prompts)
        for _, batch in in_batches(
            request.model_copy(update={"id": str(number), "prompt": prompt}), samples
        )
    ]


async def _generate_all(requests: Sequence[SampleRequest], report: Report, device: str) -> None:
    """Generate the samples batch after batch with one sampler, which loads the model once."""
    client = sampler_for(requests[0].checkpoint, device)
    try:
        for request in requests:
            await report.generate(client, request)
    finally:
        report.end_line()
        await client.close()
