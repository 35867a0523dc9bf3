"""Arguments and options shared by several verbs, and shell completion of their values."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterable, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, fields, is_dataclass, replace
from inspect import Parameter, Signature, signature
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_type_hints

import typer

from rnnlm_tui import client, store
from rnnlm_tui.cli.start import COMPLETING, FPS, Theme
from rnnlm_tui.errors import InputError
from rnnlm_tui.store.addresses import checkpoint_path as checkpoint_path
from rnnlm_tui.store.addresses import split_address as split_address
from rnnlm_tui.store.paths import SNAPSHOTS_NAME, RunDirectory
from rnnlm_tui.store.paths import weights_name as weights_name
from rnnlm_tui.store.paths import weights_step as weights_step

if TYPE_CHECKING:
    from rnnlm_tui.cli.output import Answer, Answers
    from rnnlm_tui.client.sampler import SamplerClient

BASH_SPLIT = "_RNNLM_TUI_BASH_SPLIT"
"""Environment variable, set when bash split the word being completed at an @ or a =.

Bash then expects only the part from the @ on, or behind the =.
"""


def join_bash_words(environment: MutableMapping[str, str]) -> None:
    """Join the words that bash split at an @ or a =, before typer reads them for completion.

    Both are among bash's COMP_WORDBREAKS.
    """
    if environment.get(COMPLETING) != "complete_bash":
        return
    at = int(environment.get("COMP_CWORD", "0"))
    words = environment.get("COMP_WORDS", "").split("\n")[: at + 1]
    joined = re.sub(r"\n([@=])(?:\n|$)", r"\1", "\n".join(words)).split("\n")
    if joined[-1] != words[-1]:
        environment[BASH_SPLIT] = "1"
    environment["COMP_WORDS"] = "\n".join(joined)
    environment["COMP_CWORD"] = str(at + len(joined) - len(words))


def check_exclusive(hint: str = "", /, **given: object) -> None:
    """Raise InputError if more than one of several mutually exclusive options is given.

    For example `check_exclusive(group_by=group_by, NAME=names)`. The error's hint ends in `hint`.
    """
    names = [name.rstrip("_").replace("_", "-") for name, value in given.items() if value]
    named = [name if name.isupper() else f"--{name}" for name in names]
    if len(named) > 1:
        raise InputError(
            f"{', '.join(named[:-1])} and {named[-1]} are mutually exclusive",
            hint="; ".join(filter(None, ("use one of them", hint))),
        )


def weights_facts(run: str, path: str) -> dict[str, object]:
    """The keys of `--json` that name a folder of weights."""
    now = Path(path).parent.name == SNAPSHOTS_NAME
    return {"run": run, "checkpoint": weights_step(path), "now": now, "path": path}


def weights_label(run: str, path: str) -> str:
    """`plain-otter@1500`, or `plain-otter@now, step 1,500`."""
    if Path(path).parent.name == SNAPSHOTS_NAME:
        return f"{run}@now, step {weights_step(path):,}"
    return f"{run}@{weights_name(path)}"


@asynccontextmanager
async def sampler_for(path: str, device: str) -> AsyncIterator[SamplerClient]:
    """Start a sampler for a folder of weights, and close it at the end; with those of a running run
    that takes all cores, its training goes first."""
    from rnnlm_tui.cli.output import warn
    from rnnlm_tui.system.machine import planned_device, usable_cores

    weights, yields = Path(path), False
    run = RunDirectory(weights.parents[1])
    # the cache of Hugging Face has folders of that name, too
    if weights.parent.name == SNAPSHOTS_NAME and run.config_path.is_file():
        training = run.read_config().training
        cores = usable_cores()
        threads = 1 if planned_device(training.device) != "cpu" else training.threads or cores
        yields = threads >= cores
    warn(client.gpus.unused_gpu_warning(device, "computes"))
    sampler = client.sampler.SamplerClient(device=device, yields="always" if yields else "never")
    try:
        yield sampler
    finally:
        await sampler.close()


def complete_run() -> list[str]:
    """List the names of runs, for the shell."""
    return [run.name for run in store.runs.list_runs()]


def complete_address(incomplete: str) -> list[str]:
    """List the names of runs, for the shell; after an @, the checkpoints of one."""
    from rnnlm_tui.store.averages import average_folders
    from rnnlm_tui.store.checkpoints import list_checkpoints

    name, at, _ = incomplete.rpartition("@")
    if not at:
        return complete_run()
    run = store.runs.find_run(name)
    steps = [*(str(entry.step) for entry in list_checkpoints(run)), *average_folders(run)]
    return [f"{name}@{which}" for which in ("best", "last", *reversed(steps)) if steps]


def complete_sampled(incomplete: str) -> list[str]:
    """List as `complete_address`, with @now for the current weights of a run with a worker."""
    from rnnlm_tui.system.locks import read_lock

    name, at, _ = incomplete.rpartition("@")
    live = bool(at) and read_lock(store.runs.find_run(name).lock_path).held
    return [*complete_address(incomplete), *([f"{name}@now"] if live else [])]


def complete_state() -> list[str]:
    """List the names of kept states, for the shell."""
    from rnnlm_tui.store.states import list_states

    return [info.name for info in list_states()]


def complete_field(incomplete: str) -> list[str]:
    """List config keys, for the shell; after a =, the values of one that has a choice of words."""
    from rnnlm_tui.schema.validation import fields

    path, equals, _ = incomplete.partition("=")
    if not equals:
        return [f"{known}=" for known in fields()]
    return [f"{path}={choice}" for choice in fields()[path].choices] if path in fields() else []


def complete_preset() -> list[str]:
    """List the presets, for the shell."""
    from rnnlm_tui.schema.presets import PRESETS

    return list(PRESETS)


def run_named(name: str) -> RunDirectory:
    """Find a run by its name or the first characters of it."""
    return store.runs.find_run(name)


Address = tuple[RunDirectory, str | None]
"""A run, and what stands behind the @."""
Completion = Callable[..., Iterable[str]]
"""Lists what the shell may complete, from which typer takes what begins as typed.

Its parameter, if it has one, is called `incomplete`. Nothing is completed if it fails.
"""


def arg(
    metavar: str,
    help: str,
    default: object = ...,
    complete: Completion | None = None,
    parser: Callable[[str], Any] | None = None,
) -> Any:
    """Declare an argument, shown in usage and help by its metavar, such as `[RUN]`.

    Args:
        default: its value; `...` for a required one, and in an annotation.
        parser: makes the value of what was typed.
    """
    return typer.Argument(
        default, metavar=metavar, help=help, autocompletion=complete, parser=parser
    )


def opt(
    usage: str,
    help: str,
    default: object = ...,
    complete: Completion | None = None,
    *,
    shown: bool | str = True,
) -> Any:
    """Declare an option as its help shows it, such as `--json`, `-n --samples N`.

    Args:
        default: its value; `...` in an annotation.
        shown: what help says of the default: its value, another text, or nothing (False).
    """
    names = [word for word in usage.split() if word.startswith("-")]
    metavar = usage.removeprefix(" ".join(names)).strip() or None
    return typer.Option(
        default, *names, metavar=metavar, help=help, show_default=shown, autocompletion=complete
    )


def flag(usage: str, help: str) -> Any:
    """Declare an option without a value, which is False if it isn't given."""
    return opt(usage, help, default=False)


def grouped(
    usage: str, help: str, default: object = None, complete: Completion | None = None
) -> Any:
    """Declare a field of a dataclass of options."""
    return field(default=default, metadata={"option": opt(usage, help, default, complete)})


SampledArgument = Annotated[
    str,
    arg(
        "RUN[@best|@last|@STEP|@now]",
        "A run and its checkpoint (default: @best); @now: a running run's weights.",
        complete=complete_sampled,
    ),
]
SamplerDeviceOption = Annotated[
    str, opt("--device NAME", "Compute on cpu, cuda, cuda:N, mps or auto, the best of them.")
]
AddressesArgument = Annotated[
    list[str],
    arg(
        "RUN[@CHECKPOINT]...",
        "Runs, or their checkpoints: @best, @last or @STEP.",
        complete=complete_address,
    ),
]
AddressArgument = Annotated[
    str,
    arg(
        "RUN[@CHECKPOINT]",
        "A run, or its checkpoint: @best, @last or @STEP.",
        complete=complete_address,
    ),
]
RunArgument = Annotated[
    RunDirectory,
    arg("RUN", "A run's name or its first characters.", complete=complete_run, parser=run_named),
]
RunsArgument = Annotated[
    list[RunDirectory],
    arg(
        "RUN...",
        "Names of runs or their first characters.",
        complete=complete_run,
        parser=run_named,
    ),
]
JsonOption = Annotated[bool, opt("--json", "Print JSON only, on standard output.")]
ReverseOption = Annotated[bool, opt("--reverse", "Reverse the order.")]
YesOption = Annotated[bool, opt("--yes -y", "Don't ask for confirmation.")]
SetOption = Annotated[
    list[str] | None,
    opt(
        "--set KEY=VALUE",
        "Set one field, such as training.seed=3; can be repeated.",
        complete=complete_field,
    ),
]


@dataclass(frozen=True, slots=True)
class ConfigOptions:
    """The options that make a config."""

    preset: str | None = grouped(
        "--preset NAME",
        "Start from this preset (default: demo): {presets}.",
        complete=complete_preset,
    )
    config: Path | None = grouped(
        "--config FILE", "A TOML file with fields that override the preset's."
    )
    set_: SetOption = None


TextArgument = Annotated[
    str | None,
    arg("[TEXT]", "The file, folder or pattern to train on (default: the config's corpus.source)."),
]
ConfigOptionsT = TypeVar("ConfigOptionsT", bound=ConfigOptions)


def with_text(options: ConfigOptionsT, text: str | None) -> ConfigOptionsT:
    """Add `--set corpus.source=TEXT` for a text that was given as an argument.

    Raises:
        InputError: `corpus.source` is set, too.
    """
    if text is None:
        return options
    assignments = options.set_ or []
    twice = any(one.startswith("corpus.source=") for one in assignments)
    check_exclusive(TEXT=True, **{"set corpus.source": twice})
    return replace(options, set_=[f"corpus.source={text}", *assignments])


@dataclass(frozen=True, slots=True)
class NewRunOptions(ConfigOptions):
    """The options that make a new run."""

    name: str | None = grouped("--name NAME", "The run's name (default: a random one).")
    from_: str | None = grouped(
        "--from RUN[@CHECKPOINT]",
        "Start from this checkpoint's weights (default: @best) and its run's config.",
        complete=complete_address,
    )
    optimizer: Literal["fresh", "keep"] | None = grouped(
        "--optimizer fresh|keep",
        "With --from: start with an empty optimizer state, or the checkpoint's.",
    )


def as_command(function: Callable[..., Answer | Answers[Any] | None]) -> Callable[..., None]:
    """Return a verb's function, for typer.

    Each parameter that is a dataclass of options is replaced by these options. A verb that returns
    an answer gets `--json`, and the answer is printed. A verb with verbs of its own (`corpus`) is
    called only without one of these.
    """
    hints = get_type_hints(function, include_extras=True)
    answers = hints.pop("return") is not NoneType
    groups: dict[str, Any] = {name: kind for name, kind in hints.items() if is_dataclass(kind)}
    parameters = [Parameter("context", Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)]
    for parameter in signature(function).parameters.values():
        kind = groups.get(parameter.name)
        if kind is None:
            parameters.append(parameter.replace(annotation=hints[parameter.name]))
        else:
            types = get_type_hints(kind, include_extras=True)
            parameters += [
                parameter.replace(
                    name=one.name,
                    annotation=types[one.name],
                    default=one.metadata.get("option", one.default),
                )
                for one in fields(kind)
            ]
    if answers:
        json = parameters[0].replace(name="json", default=False, annotation=JsonOption)
        parameters.append(json)

    def called(context: typer.Context, **given: Any) -> None:
        if context.invoked_subcommand is not None:
            return
        json = given.pop("json") if answers else False
        for name, kind in groups.items():
            given[name] = kind(**{one.name: given.pop(one.name) for one in fields(kind)})
        answer = function(**given)
        if answer is not None:
            answer.print(json=json)

    called.__annotations__ = {one.name: one.annotation for one in parameters}
    vars(called)["__signature__"] = Signature(parameters)
    return called


AsciiOption = Annotated[
    bool | None,
    opt("--ascii/--no-ascii", "Use ASCII only (default: automatic, when braille isn't available)."),
]
FpsOption = Annotated[float, opt("--fps N", "Maximum screen updates per second.")]


@dataclass(frozen=True, slots=True)
class ScreenOptions:
    """The options of the app's screen."""

    ascii_only: AsciiOption = None
    theme: Theme = grouped(
        "--theme NAME",
        "Theme: auto, dark, light, ansi-dark, ansi-light (16 colours) or none.",
        "auto",
    )
    fps: FpsOption = FPS
    no_mouse: bool = grouped(
        "--no-mouse", "Don't capture the mouse, so that the terminal can select text.", False
    )


FollowOption = Annotated[
    bool, opt("--follow", "Print progress until the run ends; Ctrl-C exits, and the run continues.")
]
DetachOption = Annotated[bool, opt("--detach", "Start the run, print its name and exit.")]
TrustOption = Annotated[
    bool, opt("--trust-dataset", "Run the code of a python: dataset that you didn't name yourself.")
]
