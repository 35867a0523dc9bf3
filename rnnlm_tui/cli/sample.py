"""The verb `sample`: text from a checkpoint, streamed as it is drawn."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rnnlm_tui.cli.arguments import JsonOption, complete_sampled
from rnnlm_tui.contract.figures import counted

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from rnnlm_tui.contract.config import SamplingConfig
    from rnnlm_tui.contract.requests import SampleDone, SampleRequest
    from rnnlm_tui.errors import ConfigError, InputError, Problem
    from rnnlm_tui.store.run_directory import RunDirectory

_FROM_RUN = "the run's"
SHOWN_LETTERS = 40
"""Of a word that a model does not know."""


def sample(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN[@best|@last|@STEP|@now]",
            help="A run and which of its checkpoints; @best where nothing is said, @now for the weights of this moment.",
            show_default=False,
            autocompletion=complete_sampled,
        ),
    ],
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="The text to go on from; - reads it from standard input.", show_default=False)],
    temperature: Annotated[float | None, typer.Option(help="Below 1 safer, above 1 wilder; 0 is greedy.", show_default=_FROM_RUN)] = None,
    top_k: Annotated[int | None, typer.Option(help="Draw from the k likeliest tokens; 0: off.", show_default=_FROM_RUN)] = None,
    top_p: Annotated[float | None, typer.Option(help="Draw from the fewest tokens that hold this probability; 1: off.", show_default=_FROM_RUN)] = None,
    min_p: Annotated[
        float | None, typer.Option(help="Draw from tokens with at least this share of the likeliest one's probability; 0: off.", show_default=_FROM_RUN)
    ] = None,
    repetition_penalty: Annotated[
        float | None, typer.Option(help="Above 1: what stands in the prompt or the text already becomes less likely; 1: off.", show_default=_FROM_RUN)
    ] = None,
    unknown: Annotated[
        Literal["auto", "avoid", "allow"] | None,
        typer.Option(help="Whether <unk> may be drawn; auto: not at word level.", show_default=_FROM_RUN),
    ] = None,
    stop: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT", help=r"End the text before TEXT; \n is a line break, '' is none; of several the first to come counts.", show_default=_FROM_RUN
        ),
    ] = None,
    max_new_tokens: Annotated[int | None, typer.Option(help="Tokens to generate.", show_default=_FROM_RUN)] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed draws the same text.", show_default=_FROM_RUN)] = None,
    greedy: Annotated[bool, typer.Option("--greedy", help="Always the likeliest token, as --temperature 0; needs no seed.")] = False,
    json: JsonOption = False,
) -> None:
    """Continue a prompt with a checkpoint's model."""
    import asyncio

    from rnnlm_tui.cli.output import note, print_json
    from rnnlm_tui.contract.escapes import escaped, unescaped
    from rnnlm_tui.errors import ConfigError, InputError

    if greedy and temperature:
        raise InputError(f"--greedy and --temperature {temperature:g} exclude each other", hint="leave one of them; --temperature 0 is greedy too")
    directory, which = split_address(run)
    changes: dict[str, object] = {
        "temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p, "repetition_penalty": repetition_penalty, "unknown": unknown,
        "stop": None if not stop else [] if stop == [""] else [unescaped(text) for text in stop], "max_new_tokens": max_new_tokens, "seed": seed, "greedy": True if greedy else False if temperature else None,
    }  # fmt: skip
    try:
        settings = sample_settings(directory, changes)
    except ConfigError as error:
        raise options_refused(error) from error
    request = sample_request(directory, which, read_prompt(prompt), settings)
    done = asyncio.run(_draw(request, stream=not json))
    address = f"{directory.name}@{step_of(request)}"
    if done.unknown:
        told = ", ".join(word if len(word) <= SHOWN_LETTERS else f"{word[:SHOWN_LETTERS]}…" for word in done.unknown)
        note(f"this model has no token for {told}: it read <unk> instead")
    if json:
        print_json(sample_json(request, done, directory.name))
        return
    drawing = done.seconds - done.first_token_seconds
    rate = f"{(done.tokens - 1) / drawing:,.0f} tok/s, " if done.tokens > 1 and drawing > 0 else ""
    ended = f'stopped at "{escaped(done.stop)}", ' if done.reason == "stop" else ""
    drawn = "greedy" if settings.takes_likeliest else f"seed {settings.seed}"
    note(f"{counted(done.tokens, 'token')}, {ended}{rate}{done.bits_per_token:.1f} bits a token, {drawn}, from {address}")


def split_address(address: str) -> tuple[RunDirectory, str | None]:
    """`RUN@WHICH` as the run and what stands behind the @, if anything does."""
    from rnnlm_tui.store.runs import find_run

    name, at, which = address.rpartition("@")
    return find_run(name if at else address), (which if at else None)


def sample_settings(directory: RunDirectory, changes: Mapping[str, object]) -> SamplingConfig:
    """The run's sampling settings with the changes that are not None.

    Raises:
        ConfigError: every value out of range.
    """
    from rnnlm_tui.contract.validation import merge, parse_config

    wanted = {f"sampling.{name}": value for name, value in changes.items() if value is not None}
    return parse_config(merge(directory.read_config(), wanted)).sampling


def options_refused(error: ConfigError) -> InputError:
    """The same problems under the names of this verb's options."""
    from rnnlm_tui.errors import InputError

    def said(problem: Problem) -> str:
        option = problem.path.removeprefix("sampling.").partition(".")[0].replace("_", "-")
        return f"--{option} {problem.message}" + (f" ({problem.hint})" if problem.hint else "")

    return InputError("\n".join(said(problem) for problem in error.problems))


def sample_request(directory: RunDirectory, which: str | None, prompt: str, settings: SamplingConfig) -> SampleRequest:
    """The request for a sampler; without `which` the best checkpoint, or the last where none is best; `now` asks a running worker for its weights.

    Raises:
        UnknownCheckpointError: no such checkpoint, with those there are.
    """
    from rnnlm_tui.contract.requests import SampleRequest

    path = snapshot(directory) if which == "now" else checkpoint_path(directory, which)
    return SampleRequest(id="1", checkpoint=str(path), prompt=prompt, settings=settings)


def checkpoint_path(directory: RunDirectory, which: str | None) -> Path:
    """The folder of a checkpoint; without `which` the best one, or the last where none is best.

    Raises:
        UnknownCheckpointError: no such checkpoint, with those there are.
    """
    from rnnlm_tui.errors import UnknownCheckpointError
    from rnnlm_tui.store.checkpoints import resolve_checkpoint

    try:
        return resolve_checkpoint(directory, "best" if which is None else which)
    except UnknownCheckpointError:
        if which is not None:
            raise
        return resolve_checkpoint(directory, "last")


def snapshot(directory: RunDirectory) -> Path:
    """The folder that a running worker has just written its weights to.

    Raises:
        RunStateError: nothing trains the run.
    """
    from rnnlm_tui.supervisor.control_client import send

    return directory.path / send(directory, "snapshot").checkpoint


def sample_json(request: SampleRequest, done: SampleDone, run: str) -> dict[str, object]:
    """The JSON contract of `sample`: `text` is the continuation alone, `seed` null when greedy."""
    settings = request.settings
    return {
        "run": run, "checkpoint": step_of(request), "prompt": request.prompt, "text": done.text, "tokens": done.tokens, "reason": done.reason,
        "stopped_at": done.stop if done.reason == "stop" else None, "seed": None if settings.takes_likeliest else settings.seed, "greedy": settings.takes_likeliest,
        "temperature": settings.temperature, "top_k": settings.top_k, "top_p": settings.top_p, "min_p": settings.min_p,
        "repetition_penalty": settings.repetition_penalty, "unknown_tokens": settings.unknown, "stop": list(settings.stop), "max_new_tokens": settings.max_new_tokens,
        "bits_per_token": done.bits_per_token, "seconds": done.seconds, "unknown": list(done.unknown), "path": request.checkpoint,
    }  # fmt: skip


def step_of(request: SampleRequest) -> int:
    """The step in the name of a request's checkpoint."""
    return int(request.checkpoint.rpartition("step-")[2].partition("-")[0])


def read_prompt(prompt: str) -> str:
    """The prompt as it was typed, or standard input for `-`, without its last line break; no more of it is read than a prompt takes.

    Raises:
        InputError: not UTF-8, or too long.
    """
    from rnnlm_tui.contract.requests import MAX_PROMPT_CHARACTERS
    from rnnlm_tui.errors import InputError

    try:
        text = sys.stdin.read(MAX_PROMPT_CHARACTERS + 2).removesuffix("\n") if prompt == "-" else prompt
        text.encode()
    except UnicodeError:
        raise InputError("the prompt is not UTF-8", hint="check the terminal's encoding, `rnnlm-tui doctor` shows it") from None
    if len(text) > MAX_PROMPT_CHARACTERS:
        have = f"{counted(len(text), 'character')}" if prompt != "-" else "too many characters"
        raise InputError(f"the prompt has {have}, at most {MAX_PROMPT_CHARACTERS:,} are taken")
    return text


async def _draw(request: SampleRequest, *, stream: bool) -> SampleDone:
    from rnnlm_tui.cli.output import Flow
    from rnnlm_tui.contract.requests import SampleDone
    from rnnlm_tui.errors import WorkerError
    from rnnlm_tui.supervisor.sampler_client import SamplerClient

    client, flow = SamplerClient(), Flow()
    begun = False
    try:
        await client.start()
        async for part in client.generate(request):
            if stream and not begun:  # not before: the checkpoint may be damaged
                begun = True
                flow.write(request.prompt)
            if isinstance(part, SampleDone):
                return part
            if stream:
                flow.write(part.text)
    finally:
        if begun:
            flow.close()  # what is said next stands on a line of its own
        await client.close()
    raise WorkerError("the sampler ended before its text did")
