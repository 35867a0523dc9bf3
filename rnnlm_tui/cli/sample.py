"""The verb `sample`: text from a checkpoint, streamed as it is drawn."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rnnlm_tui.cli.arguments import JsonOption, complete_sampled, keep_one
from rnnlm_tui.contract.figures import counted, first_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rnnlm_tui.contract.config import SamplingConfig
    from rnnlm_tui.contract.requests import SampleDone, SampleRequest
    from rnnlm_tui.errors import ConfigError, InputError, Problem
    from rnnlm_tui.store.run_directory import RunDirectory
    from rnnlm_tui.supervisor.sampler_client import SamplerClient

_FROM_RUN = "the run's"
SHOWN_LETTERS = 40
"""Characters shown of an unknown word."""
MOST_SAMPLES = 10_000
"""Maximum of -n: samples of each prompt."""
MOST_UNKNOWN = 10
"""Maximum of unknown words that are listed."""
MOST_PROBLEMS = 5
"""Maximum of invalid lines of a prompt file that are listed."""


def sample(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN[@best|@last|@STEP|@now]",
            help="A run and its checkpoint (default: @best); @now is the current weights of a run in training.",
            show_default=False,
            autocompletion=complete_sampled,
        ),
    ],
    prompt: Annotated[str | None, typer.Argument(metavar="[PROMPT]", help="The text to continue; - reads it from standard input.", show_default=False)] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            "--prompts",
            metavar="FILE",
            help="Continue every prompt in a file: one per line, or a .jsonl file of strings or of objects with a “prompt”; - reads standard input.",
            show_default=False,
        ),
    ] = None,
    samples: Annotated[int, typer.Option("-n", "--samples", metavar="N", help="Samples of each prompt, with consecutive seeds.")] = 1,
    temperature: Annotated[float | None, typer.Option(metavar="T", help="Below 1 safer, above 1 wilder; 0 is greedy.", show_default=_FROM_RUN)] = None,
    top_k: Annotated[int | None, typer.Option(metavar="K", help="Draw from the k likeliest tokens; 0: off.", show_default=_FROM_RUN)] = None,
    top_p: Annotated[
        float | None, typer.Option(metavar="P", help="Draw from the fewest tokens that hold this probability; 1: off.", show_default=_FROM_RUN)
    ] = None,
    min_p: Annotated[
        float | None,
        typer.Option(metavar="P", help="Draw from tokens with at least this share of the likeliest one's probability; 0: off.", show_default=_FROM_RUN),
    ] = None,
    repetition_penalty: Annotated[
        float | None,
        typer.Option(metavar="X", help="Above 1: tokens already in the prompt or the text become less likely; 1: off.", show_default=_FROM_RUN),
    ] = None,
    unknown: Annotated[
        Literal["auto", "avoid", "allow"] | None,
        typer.Option(metavar="auto|avoid|allow", help="Whether to sample <unk>; auto: not at word level.", show_default=_FROM_RUN),
    ] = None,
    stop: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT", help=r"End the text before TEXT; \n is a line break, '' is none; of several the first to come counts.", show_default=_FROM_RUN
        ),
    ] = None,
    max_new_tokens: Annotated[int | None, typer.Option(metavar="N", help="Tokens to generate.", show_default=_FROM_RUN)] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="The same seed draws the same text.", show_default=_FROM_RUN)] = None,
    greedy: Annotated[bool, typer.Option("--greedy", help="Always take the likeliest token, like --temperature 0; needs no seed.")] = False,
    json: JsonOption = False,
) -> None:
    """Continue one or more prompts with a checkpoint's model.

    Samples are printed in the order of the prompts, each after its prompt, with an empty line between samples. With --json, several samples are one object per line.
    """
    import asyncio

    from rnnlm_tui.cli.output import note, print_json
    from rnnlm_tui.contract.escapes import unescaped
    from rnnlm_tui.errors import ConfigError, InputError

    keep_one(PROMPT=prompt is not None, prompts=prompts is not None)
    if prompt is None and prompts is None:
        raise InputError("no prompt given", hint=f"rnnlm-tui sample {run} 'The', or --prompts FILE; '' is an empty prompt")
    if not 1 <= samples <= MOST_SAMPLES:
        raise InputError(f"-n is {samples:,}, must be 1 … {MOST_SAMPLES:,}")
    keep_one("--temperature 0 is greedy too", **{"greedy": greedy, f"temperature {temperature}": bool(temperature)})
    directory, which = split_address(run)
    changes: dict[str, object] = {
        "temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p, "repetition_penalty": repetition_penalty, "unknown": unknown,
        "stop": None if not stop else [] if stop == [""] else [unescaped(text) for text in stop], "max_new_tokens": max_new_tokens, "seed": seed, "greedy": True if greedy else False if temperature else None,
    }  # fmt: skip
    try:
        settings = sample_settings(directory, changes)
    except ConfigError as error:
        raise options_refused(error) from error
    if samples > 1 and settings.is_greedy:
        raise InputError(
            f"-n {samples} would draw the same text {samples} times: greedy sampling always takes the likeliest token",
            hint="leave out -n, or sample with a temperature above 0",
        )
    several = prompts is not None or samples > 1
    texts = read_prompts(prompts) if prompts is not None else [read_prompt(prompt or "")]
    first = sample_request(directory, which, texts[0], settings)
    requests = [
        first.model_copy(update={"id": f"{number}.{place}", "prompt": text, "settings": settings.model_copy(update={"seed": (settings.seed + place) % 2**63})})
        for number, text in enumerate(texts)
        for place in range(samples)
    ]

    def report(request: SampleRequest, done: SampleDone) -> None:
        number, _, place = request.id.partition(".")
        if json and several:
            print_json({**sample_json(request, done, directory.name), "prompt_number": int(number) + 1, "sample_number": int(place) + 1}, indent=None)
        elif json:
            print_json(sample_json(request, done, directory.name))

    drawn = asyncio.run(_draw(requests, report, stream=not json))
    if unknown_share_text := list(dict.fromkeys(word for done in drawn for word in done.unknown)):
        shortened = [word if len(word) <= SHOWN_LETTERS else f"{word[:SHOWN_LETTERS]}…" for word in unknown_share_text]
        note(f"this model has no token for {first_of(shortened, MOST_UNKNOWN)}: it read <unk> instead")
    if not json:
        counts = f"{counted(len(drawn), 'sample')} of {counted(len(texts), 'prompt')}, " if several else ""
        note(f"{counts}{_outcome(drawn, settings, samples)}, from {directory.name}@{step_of(first)}")


def _outcome(drawn: list[SampleDone], settings: SamplingConfig, samples: int) -> str:
    """`100 tokens, 7,584 tok/s, 0.7 bits a token, seed 7`, for one sample or the total of several."""
    from rnnlm_tui.contract.escapes import escaped

    tokens, drawing = sum(done.tokens for done in drawn), sum(done.seconds - done.first_token_seconds for done in drawn)
    rate = f"{(tokens - len(drawn)) / drawing:,.0f} tok/s, " if tokens > len(drawn) and drawing > 0 else ""
    ended = f'stopped at "{escaped(drawn[0].stop)}", ' if len(drawn) == 1 and drawn[0].reason == "stop" else ""
    bits = sum(done.bits_per_token * done.tokens for done in drawn) / max(1, tokens)
    seeds = f"seed {settings.seed}" if samples == 1 else f"seeds {settings.seed} to {settings.seed + samples - 1}"
    return f"{counted(tokens, 'token')}, {ended}{rate}{bits:.1f} bits a token, {'greedy' if settings.is_greedy else seeds}"


def split_address(address: str) -> tuple[RunDirectory, str | None]:
    """Split `RUN@WHICH` into the run and WHICH, which is None without an @.

    Raises:
        UnknownRunError: no such run.
        InputError: the @ is followed by nothing.
    """
    from rnnlm_tui.store.runs import find_run

    name, at, which = address.rpartition("@")
    run = find_run(name if at else address)
    if at and not which:
        from rnnlm_tui.errors import InputError

        raise InputError(f'"{address}" names no checkpoint', hint=f"write {run.name}@best, @last or @STEP; `rnnlm-tui checkpoints {run.name}` lists them")
    return run, (which if at else None)


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
    """The folder of a checkpoint: by default the best one, or the last if none was evaluated.

    Raises:
        UnknownCheckpointError: no such checkpoint; lists the available ones.
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
        "stopped_at": done.stop if done.reason == "stop" else None, "seed": None if settings.is_greedy else settings.seed, "greedy": settings.is_greedy,
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


def read_prompts(file: Path) -> list[str]:
    """Read prompts from a file or, for `-`, from standard input: one per non-empty line, in a .jsonl file a string or an object with a `prompt`.

    Raises:
        InputError: the file can't be read, has no prompt, or has invalid lines, which are listed.
    """
    from json import JSONDecodeError, loads

    from rnnlm_tui.errors import InputError

    place = "standard input" if str(file) == "-" else str(file)
    try:
        data = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"can't read the prompts in {place}: {error.strerror}", hint="one prompt per line, or a .jsonl file") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{place} is not UTF-8 (byte {error.start:,})", hint="save it as UTF-8") from None
    found, problems = list[str](), list[str]()
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), start=1):
        if not line:
            continue
        prompt: object = line
        if file.suffix in (".jsonl", ".ndjson"):
            try:
                value: object = loads(line)
            except (JSONDecodeError, RecursionError):
                problems.append(f"{place}, line {number:,}: not JSON")
                continue
            prompt = value.get("prompt") if isinstance(value, dict) else value
        if not isinstance(prompt, str):
            problems.append(f"{place}, line {number:,}: neither a string nor an object with a string “prompt”")
        elif problem := _unfit(prompt):
            problems.append(f"{place}, line {number:,}: {problem}")
        else:
            found.append(prompt)
    if problems:
        more = [f"and {counted(len(problems) - MOST_PROBLEMS, 'more line')}"] if len(problems) > MOST_PROBLEMS else []
        raise InputError("\n".join([*problems[:MOST_PROBLEMS], *more]))
    if not found:
        raise InputError(f"{place} holds no prompt", hint="one prompt per line; empty lines are skipped")
    return found


def _unfit(prompt: str) -> str:
    """Why a prompt is invalid; empty if it is valid."""
    from rnnlm_tui.contract.requests import MAX_PROMPT_CHARACTERS

    try:
        prompt.encode()
    except UnicodeError:
        return "the prompt is not UTF-8"
    if len(prompt) > MAX_PROMPT_CHARACTERS:
        return f"the prompt has {counted(len(prompt), 'character')}, at most {MAX_PROMPT_CHARACTERS:,} are taken"
    return ""


async def _draw(requests: Sequence[SampleRequest], report: Callable[[SampleRequest, SampleDone], None], *, stream: bool) -> list[SampleDone]:
    """Draw the samples one after another from one sampler, which loads the model once."""
    from rnnlm_tui.supervisor.sampler_client import SamplerClient

    client = SamplerClient()
    drawn: list[SampleDone] = []
    try:
        await client.start()
        for request in requests:
            drawn.append(await _continue(client, request, stream=stream, apart=bool(drawn)))
            report(request, drawn[-1])
    finally:
        await client.close()
    return drawn


async def _continue(client: SamplerClient, request: SampleRequest, *, stream: bool, apart: bool) -> SampleDone:
    """Draw one sample; `stream` prints its text as it comes, `apart` prints an empty line before it."""
    from rnnlm_tui.cli.output import Flow, line
    from rnnlm_tui.contract.requests import SampleDone
    from rnnlm_tui.errors import WorkerError

    flow, begun = Flow(), False
    try:
        async for part in client.generate(request):
            if stream and not begun:  # not before: the checkpoint may be damaged
                begun = True
                if apart:
                    line()
                flow.write(request.prompt)
            if isinstance(part, SampleDone):
                return part
            if stream:
                flow.write(part.text)
    finally:
        if begun:
            flow.close()  # the next message starts on a new line
    raise WorkerError("the sampler ended before its text did")
