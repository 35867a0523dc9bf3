"""The typer application made from the table of verbs: help in families, a verb's module loaded when it is used."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Annotated, Any, Protocol, cast

import typer
from typer.core import TyperCommand, TyperGroup

from rnnlm_tui.cli.arguments import BASH_SPLIT, AsciiOption, FpsOption, NoMouseOption, ThemeOption, join_bash_words
from rnnlm_tui.cli.promise import PROMISE, PROMISE_TITLE, PROMISING
from rnnlm_tui.cli.start import FPS, THEME, open_app
from rnnlm_tui.cli.verbs import FAMILIES, SIGNING, VERBS, Verb

if TYPE_CHECKING:
    from rnnlm_tui.errors import InputError

HELP = """Train, watch and sample recurrent language models in one terminal.

Without a verb the app opens. A run belongs to the machine and not to the terminal: training goes on when you leave,
and after a crash `resume` goes on from the last verified checkpoint."""

UsageError = cast(type[typer.BadParameter], typer.BadParameter.__mro__[1])
"""What typer raises for words that it can't read: click's, or a class of its own, by its version."""

EXIT_CODES: tuple[tuple[int, str], ...] = (
    (0, "done"),
    (1, "failed"),
    (2, "wrong input, nothing was done"),
    (3, "the run is not in a state for it, or was stopped while it was followed"),
    (4, "a worker failed, died or does not answer"),
    (5, "files can't be read, written or trusted"),
    (130, "interrupted; a run that was followed goes on"),
)
"""What an exit code means, in the order of the help and the README."""


def build() -> VerbGroup:
    """A fresh application, to be called with arguments; it leaves by SystemExit or an RnnlmError."""
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
    version: Annotated[bool, typer.Option("--version", "-V", help="Show the version and leave.", is_eager=True)] = False,
) -> None:
    """Without a verb: the app."""
    if version:
        from rnnlm_tui import __version__

        typer.echo(f"rnnlm-tui {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        open_app(None, ascii_only=ascii_only, theme=theme, fps=fps, mouse=not no_mouse)


def command_of(verb: Verb) -> TyperCommand:
    """The typer command behind a verb."""
    function = verb.load()
    holder = typer.Typer(rich_markup_mode=None, add_completion=False)
    kind = PromisingCommand if verb.name in PROMISING else SigningCommand if verb.name in SIGNING else TyperCommand
    holder.command(verb.name.rpartition(" ")[2], cls=kind, help=function.__doc__, context_settings=_settings())(function)
    command = cast(TyperCommand, typer.main.get_command(holder))
    for parameter in cast(list[Any], command.params):
        if BASH_SPLIT in os.environ:
            _complete_behind_at(parameter)
        if parameter.param_type_name == "argument":
            _write_as_typed(parameter)
        elif "{presets}" in (parameter.help or ""):
            parameter.help = parameter.help.format(presets=_preset_words())
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
    """Show an argument as its metavar alone in help: typer adds brackets, dots and the type of the parameter."""
    needed = "  [required]" if argument.required else ""
    argument.get_usage_pieces = lambda ctx: [argument.metavar]  # noqa: ARG005  click's signature
    argument.get_help_record = lambda ctx: (argument.metavar, f"{argument.help or ''}{needed}")  # noqa: ARG005


def _preset_words() -> str:
    from rnnlm_tui.contract.presets import PRESETS

    return ", ".join(PRESETS)


def _settings() -> dict[str, object]:
    return {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class _Formatter(Protocol):
    def section(self, name: str) -> AbstractContextManager[None]: ...

    def write_dl(self, rows: Sequence[tuple[str, str]]) -> None: ...


class PromisingCommand(TyperCommand):
    """A verb whose help ends with what a run promises."""

    def format_epilog(self, ctx: object, formatter: object) -> None:  # noqa: ARG002  typer's signature
        """Write the promise."""
        _write_promise(cast(_Formatter, formatter))


class SigningCommand(TyperCommand):
    """A verb whose words may begin with a minus: `tag RUN +a -b`, `note RUN -3 % beside plain-otter`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the options, which are flags, by their whole names; what else begins with a minus is a word."""
        options = {name for parameter in self.get_params(ctx) for name in (*parameter.opts, *parameter.secondary_opts) if name.startswith("-")}
        if "--" not in args:
            known = [word for word in args if word in options or word.startswith("--")]
            args = [*known, "--", *(word for word in args if word not in known)]
        return super().parse_args(ctx, args)


class VerbGroup(TyperGroup):
    """The verbs: each is built when it is asked for, and the help lists them under the headings of their families."""

    def list_commands(self, ctx: object) -> list[str]:  # noqa: ARG002  typer's signature
        """The first words of the verbs, in the table's order."""
        return list(dict.fromkeys(verb.name.partition(" ")[0] for verb in VERBS))

    def get_command(self, ctx: object, cmd_name: str) -> TyperCommand | TyperGroup | None:
        """The command of that name, or the group of its subcommands, which can be a command itself (`corpus`); near names are suggested from `commands`."""
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
        """The verb; what can't be read of its options is told in words of ours, and so is Ctrl-C, where the verb does not do it.

        Raises:
            InputError: no such verb or option, or a value of the wrong kind.
        """
        try:
            return cast(object, super().invoke(cast(typer.Context, ctx)))
        except UsageError as error:
            if _is_help(error):
                raise
            raise _refusal(error) from error
        except KeyboardInterrupt:
            from rnnlm_tui.cli.output import note

            note("interrupted")
            raise

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        """The options before the verb are read here.

        Raises:
            InputError: as for `invoke`.
        """
        try:
            return super().make_context(*arguments, **options)
        except UsageError as error:
            if _is_help(error):
                raise
            raise _refusal(error) from error

    def format_commands(self, ctx: object, formatter: object) -> None:  # noqa: ARG002  typer's signature
        """Write one section a family, their columns in line."""
        writer = cast(_Formatter, formatter)
        width = max(len(verb.name) for verb in VERBS)
        for family in FAMILIES:
            with writer.section(family):
                writer.write_dl([(verb.name.ljust(width), verb.summary) for verb in VERBS if verb.family == family])
        _write_promise(writer)


def _write_promise(writer: _Formatter) -> None:
    with writer.section(PROMISE_TITLE):
        writer.write_dl(PROMISE)


def _is_help(error: typer.BadParameter) -> bool:
    """A group of verbs without a verb: typer raises its help."""
    return type(error).__name__ == "NoArgsIsHelpError"


def _refusal(error: typer.BadParameter) -> InputError:
    """What typer could not read, in words that go the way of all errors: of itself it prints what was typed as it is, in some versions."""
    from rnnlm_tui.errors import InputError

    hint = "" if error.ctx is None else f"`{error.ctx.command_path} --help` tells what it takes"
    words = error.format_message()
    return InputError(_wrong_kind(error) or words[:1].lower() + words[1:], hint=hint)


def _wrong_kind(error: typer.BadParameter) -> str:
    """What typer says in a validator's words, in ours; empty where it has words of its own."""
    from pydantic import ValidationError

    if not isinstance(error.__cause__, ValidationError) or getattr(error, "param", None) is None:
        return ""
    details = error.__cause__.errors(include_url=False)[0]
    value = details["input"]
    wanted = {"float_parsing": "a number", "int_parsing": "a whole number"}.get(details["type"])
    _, one_of, allowed = details["msg"].partition(" is not one of ")
    if wanted is None and not one_of:
        return ""
    must = wanted or "one of " + allowed.rstrip(".").replace("'", "")
    return f"{error.param.opts[0]} is {value}, it must be {must}" if error.param is not None else ""
