"""The command line, built from the table of verbs; a verb's module is loaded on use."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Annotated, Any, Protocol, cast

import typer
from typer.core import TyperCommand, TyperGroup

from rnnlm_tui.cli.arguments import BASH_SPLIT, AsciiOption, FpsOption, NoMouseOption, ThemeOption, join_bash_words
from rnnlm_tui.cli.promise import GUARANTEES, GUARANTEES_TITLE, VERBS_WITH_GUARANTEES
from rnnlm_tui.cli.start import FPS, THEME, open_app
from rnnlm_tui.cli.verbs import FAMILIES, SIGNED_WORDS, VERBS, Verb

if TYPE_CHECKING:
    from rnnlm_tui.errors import InputError

HELP = """Train, watch and sample recurrent language models in one terminal.

Without a command the app opens. Training runs in the background: it continues when you close the app
or the terminal, and after a crash `resume` continues from the last verified checkpoint."""

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


def build() -> VerbGroup:
    """Build the application; calling it with arguments ends in SystemExit or an RnnlmError."""
    join_bash_words(os.environ)
    epilog = "Exit codes: " + "; ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES) + "."
    application = typer.Typer(cls=VerbGroup, help=HELP, epilog=epilog, context_settings=_settings(), invoke_without_command=True, rich_markup_mode=None)
    application.callback()(start)
    return cast(VerbGroup, typer.main.get_command(application))


def start(
    context: typer.Context,
    ascii_only: AsciiOption = None,
    theme: ThemeOption = THEME,
    fps: FpsOption = FPS,
    no_mouse: NoMouseOption = False,
    version: Annotated[bool, typer.Option("--version", "-V", help="Show the version and exit.", is_eager=True)] = False,
) -> None:
    """Open the app if no verb is given."""
    if version:
        from rnnlm_tui import __version__

        typer.echo(f"rnnlm-tui {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        open_app(None, ascii_only=ascii_only, theme=theme, fps=fps, mouse=not no_mouse)


def command_of(verb: Verb) -> TyperCommand:
    """Build the typer command of a verb."""
    function = verb.load()
    holder = typer.Typer(rich_markup_mode=None, add_completion=False)
    kind = CommandWithGuarantees if verb.name in VERBS_WITH_GUARANTEES else SignedWordsCommand if verb.name in SIGNED_WORDS else TyperCommand
    holder.command(verb.name.rpartition(" ")[2], cls=kind, help=function.__doc__, context_settings=_settings())(function)
    command = cast(TyperCommand, typer.main.get_command(holder))
    for parameter in cast(list[Any], command.params):
        if BASH_SPLIT in os.environ:
            _complete_behind_at(parameter)
        if parameter.param_type_name == "argument":
            _write_as_typed(parameter)
        elif "{presets}" in (parameter.help or ""):
            parameter.help = parameter.help.format(presets=_preset_names())
    return command


def _complete_behind_at(parameter: Any) -> None:
    """Return only the part of each completion from the @ on."""
    complete = parameter.shell_complete

    def completed(ctx: object, incomplete: str) -> list[Any]:
        items: list[Any] = complete(ctx, incomplete)
        for item in items if "@" in incomplete else ():
            item.value = f"@{item.value.rpartition('@')[2]}"
        return items

    parameter.shell_complete = completed


def _write_as_typed(argument: Any) -> None:
    """Show an argument in help by its metavar only: typer adds brackets, dots and the type."""
    needed = "  [required]" if argument.required else ""
    argument.get_usage_pieces = lambda ctx: [argument.metavar]  # noqa: ARG005  click's signature
    argument.get_help_record = lambda ctx: (argument.metavar, f"{argument.help or ''}{needed}")  # noqa: ARG005


def _preset_names() -> str:
    from rnnlm_tui.contract.presets import PRESETS

    return ", ".join(PRESETS)


def _settings() -> dict[str, object]:
    return {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class _Formatter(Protocol):
    def section(self, name: str) -> AbstractContextManager[None]: ...

    def write_dl(self, rows: Sequence[tuple[str, str]]) -> None: ...


class CommandWithGuarantees(TyperCommand):
    """A verb whose help ends with the guarantees of a run."""

    def format_epilog(self, ctx: object, formatter: object) -> None:  # noqa: ARG002  typer's signature
        """Write the guarantees."""
        _write_guarantees(cast(_Formatter, formatter))


class SignedWordsCommand(TyperCommand):
    """A verb whose words may start with a minus: `tag RUN +a -b`, `note RUN -3 % vs otter`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take known flags and unknown `--` words as options, everything else as words."""
        options = {name for parameter in self.get_params(ctx) for name in (*parameter.opts, *parameter.secondary_opts) if name.startswith("-")}
        if "--" not in args:
            known = [word for word in args if word in options or word.startswith("--")]
            args = [*known, "--", *(word for word in args if word not in known)]
        return super().parse_args(ctx, args)


class VerbGroup(TyperGroup):
    """The verbs: each command is built on use, and help lists them grouped by family."""

    def list_commands(self, ctx: object) -> list[str]:  # noqa: ARG002  typer's signature
        """Return the first word of each verb, in the table's order."""
        return list(dict.fromkeys(verb.name.partition(" ")[0] for verb in VERBS))

    def get_command(self, ctx: object, cmd_name: str) -> TyperCommand | TyperGroup | None:
        """Return the command, or the group of subcommands, of that name.

        A group can be a command too (`corpus`). Typer takes its "did you mean" from `commands`.
        """
        self.commands.update({name: TyperCommand(name) for name in self.list_commands(ctx)})
        verbs = [verb for verb in VERBS if verb.name.partition(" ")[0] == cmd_name]
        if not verbs:
            return None
        own = next((command_of(verb) for verb in verbs if verb.name == cmd_name), None)
        if own is not None and len(verbs) == 1:
            return own
        commands = {verb.name.rpartition(" ")[2]: command_of(verb) for verb in verbs if verb.name != cmd_name}
        summaries = " ".join(verb.summary for verb in verbs)
        if own is None:
            return TyperGroup(name=cmd_name, commands=dict(commands), help=summaries, no_args_is_help=True, rich_markup_mode=None)
        return TyperGroup(
            name=cmd_name, commands=dict(commands), help=own.help, params=own.params, callback=own.callback, invoke_without_command=True, rich_markup_mode=None
        )

    def invoke(self, ctx: object) -> object:
        """Run the verb; report usage errors as InputError, and Ctrl-C if the verb doesn't.

        Raises:
            InputError: unknown verb or option, or an invalid value.
        """
        try:
            return cast(object, super().invoke(cast(typer.Context, ctx)))
        except UsageError as error:
            if _is_help(error):
                raise
            raise _input_error(error) from error
        except KeyboardInterrupt:
            from rnnlm_tui.cli.output import note

            note("interrupted")
            raise

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        """Parse the options before the verb.

        Raises:
            InputError: as for `invoke`.
        """
        try:
            return super().make_context(*arguments, **options)
        except UsageError as error:
            if _is_help(error):
                raise
            raise _input_error(error) from error

    def format_commands(self, ctx: object, formatter: object) -> None:  # noqa: ARG002  typer's signature
        """Write one section per family, with aligned columns."""
        writer = cast(_Formatter, formatter)
        width = max(len(verb.name) for verb in VERBS)
        for family in FAMILIES:
            with writer.section(family):
                writer.write_dl([(verb.name.ljust(width), verb.summary) for verb in VERBS if verb.family == family])
        _write_guarantees(writer)


def _write_guarantees(writer: _Formatter) -> None:
    with writer.section(GUARANTEES_TITLE):
        writer.write_dl(GUARANTEES)


def _is_help(error: typer.BadParameter) -> bool:
    """Whether typer raised the help of a group that was called without a verb."""
    return type(error).__name__ == "NoArgsIsHelpError"


def _input_error(error: typer.BadParameter) -> InputError:
    """Convert a usage error; some versions of typer print what was typed unescaped."""
    from rnnlm_tui.errors import InputError

    hint = "" if error.ctx is None else f"see `{error.ctx.command_path} --help`"
    words = error.format_message()
    return InputError(_reworded(error) or words[:1].lower() + words[1:], hint=hint)


def _reworded(error: typer.BadParameter) -> str:
    """Reword an error that typer takes from pydantic; empty if typer has its own message."""
    from pydantic import ValidationError

    if not isinstance(error.__cause__, ValidationError) or getattr(error, "param", None) is None:
        return ""
    details = error.__cause__.errors(include_url=False)[0]
    value = details["input"]
    wanted = {"float_parsing": "a number", "int_parsing": "a whole number"}.get(details["type"])
    _, one_of, allowed = details["msg"].partition(" is not one of ")
    if wanted is None and not one_of:
        return ""
    expected = wanted or "one of " + allowed.rstrip(".").replace("'", "")
    return f"{error.param.opts[0]} is {value}, must be {expected}" if error.param is not None else ""
