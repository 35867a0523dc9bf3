"""The table of verbs, and the typer application built from it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

import typer
from typer.core import TyperCommand, TyperGroup

from rnnlm_tui import __version__
from rnnlm_tui.cli.options import (
    BASH_SPLIT,
    ScreenOptions,
    as_command,
    flag,
    join_bash_words,
)
from rnnlm_tui.cli.start import open_app

if TYPE_CHECKING:
    from rnnlm_tui.errors import InputError


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb of the command line."""

    family: str
    """The heading in the help under which it is listed."""
    name: str
    """As typed; `config show` is the verb `show` of the group `config`."""
    target: str
    """The module in `rnnlm_tui.cli`, with `.function` unless the verb's name is the function's.

    The function's parameters are the verb's arguments and options, its docstring is the help.
    """
    summary: str
    """The first line of the docstring, so that a list of verbs imports none of them."""

    def load(self) -> Callable[..., None]:
        """Import and return the function."""
        module, _, function = self.target.partition(".")
        found = getattr(
            import_module(f"rnnlm_tui.cli.{module}"), function or self.name.replace(" ", "_")
        )
        return cast(Callable[..., None], found)


VERBS: tuple[Verb, ...] = tuple(
    Verb(family, *row)
    for family, rows in {
        "Watch": (
            ("open", "runs.open_run", "Open the app on a run."),
            ("runs", "runs", "List runs: newest first, filtered, sorted."),
            ("show", "runs", "Show a run's figures."),
            ("sweep", "runs", "Show a sweep, the best settings first, or list sweeps."),
            ("compare", "runs", "Compare runs: settings that differ, final and best metrics."),
            ("follow", "train", "Print a run's progress until it ends; Ctrl-C detaches."),
            ("metrics", "metrics", "Print metrics, or export them as files."),
            ("checkpoints", "checkpoints", "List a run's checkpoints, newest first."),
            ("verify", "checkpoints", "Check a run's checkpoints, byte by byte, and its logs."),
        ),
        "Train": (
            ("train", "train", "Start a training run."),
            ("submit", "submit", "Train a new run as a Slurm job, and return at once."),
            ("pause", "train", "Pause runs between two steps."),
            ("resume", "train", "Resume a paused, stopped, crashed or failed run."),
            ("stop", "train", "Stop runs; returns when their checkpoints are on disk."),
            ("checkpoint", "train", "Save a checkpoint now; returns when it is on disk."),
            ("evaluate", "train", "Evaluate runs now and print the results."),
            ("set", "train.change", "Change settings while a run trains, or list them."),
            ("queue", "queue", "List the queue: places, expected starts, its process."),
            ("queue list", "queue", "List the queue, as `queue` does."),
            ("queue add", "queue", "Add a new run to the queue, or RUN to start or resume."),
            ("queue move", "queue", "Move a waiting run to another place."),
            ("queue remove", "queue", "Remove waiting runs from the queue; they stay drafts."),
            ("queue pause", "queue", "Pause the queue: start no more runs."),
            ("queue resume", "queue", "Resume the queue: start waiting runs again."),
        ),
        "Keep": (
            ("tag", "manage", "Add or remove a run's tags: +paper -draft."),
            ("note", "manage", "Write a one-line note on a run or a checkpoint."),
            ("pin", "manage", "Pin checkpoints to keep them, or runs to list them first."),
            ("unpin", "manage", "Unpin checkpoints or runs."),
            ("rename", "manage", "Rename a run that isn't running."),
            ("delete", "manage", "Move runs that aren't running, or checkpoints, to the trash."),
            ("prune", "checkpoints", "Delete a run's older checkpoints; asks for confirmation."),
            ("trash", "manage", "List deleted runs, or a run's deleted checkpoints."),
            ("restore", "manage", "Restore runs or checkpoints from the trash."),
            ("purge", "manage", "Permanently remove deleted runs or checkpoints; asks first."),
            ("average", "checkpoints", "Average the weights of checkpoints, and keep the result."),
            ("archive", "export", "Copy a whole run into one file."),
            ("unarchive", "export", "Make a run of an archive, after checking all of it."),
            ("export", "export", "Write a checkpoint for transformers, ONNX or the book."),
            ("import", "export.import_model", "Make a run of the book's state dict (.pth)."),
        ),
        "Sample": (
            ("sample", "sample", "Continue one or more prompts with a checkpoint's model."),
            ("samples", "samples", "Search, export or delete kept samples."),
            ("score", "score", "Score texts: perplexity, bits per byte, unknown tokens."),
            ("state", "samples", "List kept states, newest first."),
            ("state list", "samples.state", "List kept states, newest first."),
            ("state keep", "samples", "Keep a model's state after a text, under a name."),
            ("state show", "samples", "Show what a kept state is of, and the end of its text."),
            ("state delete", "samples", "Permanently delete kept states; asks for confirmation."),
        ),
        "Plan": (
            ("estimate", "estimate", "Estimate a run's parameters, steps, memory, disk and time."),
            ("tune", "estimate.tune", "Find a learning rate by a short test that leaves no run."),
            ("corpus", "corpora", "List corpora with their sizes and runs."),
            ("corpus remove", "corpora", "Remove unused prepared corpora; asks for confirmation."),
            ("baseline", "corpora", "Count a corpus's n-grams: the perplexities to beat."),
            ("config", "config", "Show the demo's config, as `config show` does."),
            ("config show", "config", "Show the config of a run or a preset as TOML."),
            ("config diff", "config", "Show the keys whose values differ between two configs."),
            ("config presets", "config", "List the presets."),
            ("bench", "bench", "Measure how fast this machine trains and samples."),
            ("doctor", "doctor", "Check this machine, terminal and installation."),
            ("docs", "docs", "List the guides, or show one."),
        ),
    }.items()
    for row in rows
)

FAMILIES: tuple[str, ...] = tuple(dict.fromkeys(verb.family for verb in VERBS))


GUARANTEES_TITLE = "Guarantees"

GUARANTEES: tuple[tuple[str, str], ...] = (
    (
        "Always",
        (
            "After a crash of the worker, the app, the connection or the machine, `resume`"
            " continues from the last verified checkpoint with the same data order, schedule,"
            " counters, random state and hidden state: no window is skipped or repeated. No"
            " committed metrics are lost."
        ),
    ),
    (
        "Exact mode",
        (
            "With training.deterministic = true, on the same machine, device, versions, thread"
            " count and settings, a run that is repeated, or interrupted and resumed any number of"
            " times, ends with bit-identical weights. It may be slower. An operation that can't be"
            " deterministic stops the run and is named in the error."
        ),
    ),
    ("Fast mode", "The default. After a resume the loss continues within rounding error."),
    ("Not promised", "Equal results across CPU and GPU, GPU models, versions or thread counts."),
    (
        "Power cut",
        "Checkpoints are safe; the last few metrics may be lost, but no row is ever partial.",
    ),
)
"""Each guarantee by its name, in the order of the README."""

HELP = """Train, watch and sample recurrent language models in one terminal.

Without a command the app opens. Training runs in the background: it continues when you close the
app or the terminal. After a crash, `resume` continues from the last verified checkpoint."""

UsageError = cast(type[typer.BadParameter], typer.BadParameter.__mro__[1])
"""The base class of typer's usage errors: click's, or typer's own in newer versions."""

EXIT_CODES: tuple[tuple[int, str], ...] = (
    (0, "success"),
    (1, "failed"),
    (2, "invalid input, nothing was done"),
    (3, "the run's state doesn't allow it, or the followed run was stopped"),
    (4, "a worker failed, died or doesn't respond"),
    (5, "a file can't be read, written or trusted"),
    (130, "interrupted; a followed run continues"),
)
"""The exit codes and their meanings, as help and README list them."""


SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
"""Typer's settings of each command."""


def run_command(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code.

    Raises:
        RnnlmError: it failed; InputError: unknown verb or option, or an invalid value.
    """
    join_bash_words(os.environ)
    try:
        code = build()(list(arguments), prog_name="rnnlm-tui", standalone_mode=False)
    except UsageError as error:
        raise _input_error(error) from error
    return code or 0


def build() -> VerbGroup:
    """Build the application."""
    epilog = "Exit codes: " + "; ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES) + "."
    application = typer.Typer(
        cls=VerbGroup,
        help=HELP,
        epilog=epilog,
        context_settings=SETTINGS,
        invoke_without_command=True,
        rich_markup_mode=None,
    )
    application.callback()(as_command(start))
    return cast(VerbGroup, typer.main.get_command(application))


def start(
    screen: ScreenOptions = ScreenOptions(),
    version: bool = flag("--version -V", "Show the version and exit."),
) -> None:
    """Open the app if no verb is given."""
    if version:
        print(f"rnnlm-tui {__version__}")
    else:
        open_app(None, **asdict(screen))


def command_of(verb: Verb) -> TyperCommand:
    """Build the typer command of a verb."""
    function = verb.load()
    holder = typer.Typer(rich_markup_mode=None, add_completion=False)
    name, kind = verb.name.rpartition(" ")[2], _KINDS.get(verb.name, TyperCommand)
    register = holder.command(name, cls=kind, help=function.__doc__, context_settings=SETTINGS)
    register(as_command(function))
    command = cast(TyperCommand, typer.main.get_command(holder))
    for parameter in cast(list[Any], command.params):
        if BASH_SPLIT in os.environ:
            _complete_behind_split(parameter)
        if parameter.param_type_name == "argument":
            _write_as_typed(parameter)
        elif "{presets}" in (parameter.help or ""):
            from rnnlm_tui.schema.presets import PRESETS

            parameter.help = parameter.help.format(presets=", ".join(PRESETS))
    return command


def _complete_behind_split(parameter: Any) -> None:
    """Return only the part of each completion from the @ on, or behind the =."""
    complete = parameter.shell_complete

    def completed(ctx: object, incomplete: str) -> list[Any]:
        items: list[Any] = complete(ctx, incomplete)
        start = max(incomplete.rfind("@"), incomplete.rfind("=") + 1)
        for item in items:
            item.value = item.value[start:]
        return items

    parameter.shell_complete = completed


def _write_as_typed(argument: Any) -> None:
    """Show an argument in help by its metavar only: typer adds brackets, dots and the type."""
    needed = "  [required]" if argument.required else ""
    record = (argument.metavar, f"{argument.help or ''}{needed}")
    argument.get_usage_pieces = lambda ctx: [argument.metavar]  # noqa: ARG005  click's signature
    argument.get_help_record = lambda ctx: record  # noqa: ARG005


class CommandWithGuarantees(TyperCommand):
    """A verb whose help ends with the guarantees of a run."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002  typer's signature
        """Write the guarantees."""
        _write_guarantees(formatter)


class SignedWordsCommand(TyperCommand):
    """A verb whose words may start with a minus: `tag RUN +a -b`, `note RUN -3 % vs otter`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take known flags and unknown `--` words as options, everything else as words."""
        options = {
            name
            for parameter in self.get_params(ctx)
            for name in (*parameter.opts, *parameter.secondary_opts)
            if name.startswith("-")
        }
        if "--" not in args:
            known = [word for word in args if word in options or word.startswith("--")]
            args = [*known, "--", *(word for word in args if word not in known)]
        return super().parse_args(ctx, args)


_KINDS: dict[str, type[TyperCommand]] = {
    **dict.fromkeys(("train", "resume"), CommandWithGuarantees),
    **dict.fromkeys(("tag", "note"), SignedWordsCommand),
}
"""Verbs whose command isn't plain."""


class VerbGroup(TyperGroup):
    """The verbs: each command is built on use, and help lists them grouped by family."""

    def list_commands(self, ctx: object) -> list[str]:  # noqa: ARG002  typer's signature
        """Return the first word of each verb, in the table's order."""
        return list(dict.fromkeys(verb.name.partition(" ")[0] for verb in VERBS))

    def get_command(self, ctx: object, cmd_name: str) -> TyperCommand | TyperGroup | None:
        """Return the command, or the group of subcommands, of that name.

        A group is a command too (`corpus`). Typer takes its "did you mean" from `commands`.
        """
        self.commands.update({name: TyperCommand(name) for name in self.list_commands(ctx)})
        verbs = [verb for verb in VERBS if verb.name.partition(" ")[0] == cmd_name]
        if not verbs:
            return None
        own = command_of(verbs[0])
        if len(verbs) == 1:
            return own
        return TyperGroup(
            name=cmd_name,
            commands={verb.name.rpartition(" ")[2]: command_of(verb) for verb in verbs[1:]},
            help=own.help,
            params=own.params,
            callback=own.callback,
            invoke_without_command=True,
            rich_markup_mode=None,
        )

    def invoke(self, ctx: Any) -> Any:
        """Run the verb; say that it was interrupted, where typer only ends with the code."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            from rnnlm_tui.cli.output import note

            note("interrupted")
            raise

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002  typer's signature
        """Write one section per family, with aligned columns."""
        width = max(len(verb.name) for verb in VERBS)
        for family in FAMILIES:
            rows = [
                (verb.name.ljust(width), verb.summary) for verb in VERBS if verb.family == family
            ]
            with formatter.section(family):
                formatter.write_dl(rows)
        _write_guarantees(formatter)


def _write_guarantees(formatter: Any) -> None:
    with formatter.section(GUARANTEES_TITLE):
        formatter.write_dl(GUARANTEES)


def _input_error(error: typer.BadParameter) -> InputError:
    """Convert a usage error; some versions of typer print what was typed unescaped."""
    from rnnlm_tui.errors import InputError

    hint = "" if error.ctx is None else f"see `{error.ctx.command_path} --help`"
    words = error.format_message()
    return InputError(_reworded(error) or words[:1].lower() + words[1:], hint=hint)


def _reworded(error: typer.BadParameter) -> str:
    """Reword an error that typer takes from pydantic; empty if typer has its own message."""
    from pydantic import ValidationError

    if not isinstance(error.__cause__, ValidationError) or error.param is None:
        return ""
    details = error.__cause__.errors(include_url=False)[0]
    value = details["input"]
    wanted = {"float_parsing": "a number", "int_parsing": "a whole number"}.get(details["type"])
    _, one_of, allowed = details["msg"].partition(" is not one of ")
    if wanted is None and not one_of:
        return ""
    expected = wanted or "one of " + allowed.rstrip(".").replace("'", "")
    return f"{error.param.opts[0]} is {value}, must be {expected}"
