"""Write the tables of the guides from the code: `python -m tests.tools.guides`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from rnnlm_tui.cli.app import EXIT_CODES, VERBS, build, command_of
from rnnlm_tui.docs import GUIDES
from rnnlm_tui.schema.config import SECTIONS, RunConfig
from rnnlm_tui.schema.health import FIGURES
from rnnlm_tui.schema.presets import PRESET_SUMMARIES
from rnnlm_tui.schema.record import fields_of
from rnnlm_tui.schema.toml import field_help
from rnnlm_tui.schema.validation import section_model
from rnnlm_tui.tui.actions import PANE_TITLES, key_rows

_MARKED = re.compile(r"<!-- (?P<name>[a-z ]+) -->\n.*?<!-- end of (?P=name) -->", re.DOTALL)


def generated(text: str) -> str:
    """Return a guide's text with every marked table as the code has it now."""

    def table_of(match: re.Match[str]) -> str:
        name = match["name"]
        return f"<!-- {name} -->\n\n{TABLES[name]()}\n<!-- end of {name} -->"

    return _MARKED.sub(table_of, text)


def verb_table() -> str:
    """Every command with its arguments and options."""
    return table(("command", "what it does", "options"), verb_rows())


def exit_code_table() -> str:
    """Exit codes and their meaning."""
    return table(("code", "meaning"), [(str(code), meaning) for code, meaning in EXIT_CODES])


def preset_table() -> str:
    """Presets with one line each."""
    rows = [(f"`{name}`", summary) for name, summary in PRESET_SUMMARIES.items()]
    return table(("preset", "what it is"), rows)


def field_table() -> str:
    """Config fields with default and help."""
    return table(("field", "default", "what it is"), field_rows())


def health_table() -> str:
    """Figures of the net's health with their ranges and advice."""
    rows = [
        (
            entry.title.format("…"),
            entry.about,
            entry.range,
            "; ".join(filter(None, (entry.below, entry.above))),
        )
        for entry in FIGURES
    ]
    return table(("figure", "what it is", "healthy", "outside of it"), rows)


def keys() -> str:
    """Keys with their screens and the names of their actions."""
    rows = [
        (
            f"`{row[0].all_keys}`",
            ", ".join(PANE_TITLES[pane] for pane in row[0].panes) or "everywhere",
            row[0].help,
            " ".join(f"`{entry.id}`" for entry in row),
        )
        for row in key_rows()
    ]
    return table(("key", "on", "what it does", "name"), rows)


def verb_rows() -> Iterable[tuple[str, str, str]]:
    """Yield each command as it is typed, what it does, and its options."""
    yield "`rnnlm-tui`", "Open the app.", _options(build())
    for verb in VERBS:
        command = command_of(verb)
        arguments = "".join(
            f" {parameter.metavar or (parameter.name or '').upper()}"
            for parameter in command.params
            if parameter.param_type_name == "argument"
        )
        yield f"`{verb.name}{arguments}`", verb.summary, _options(command)


def field_rows() -> Iterable[tuple[str, str, str]]:
    """Yield each config field with its default and its help."""
    config = RunConfig()
    for section in SECTIONS:
        for name in fields_of(section_model(section)):
            value = getattr(getattr(config, section), name)
            yield (
                f"`{section}.{name}`",
                str(value) if name == "seed" else _shown(value),
                field_help(f"{section}.{name}"),
            )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format a Markdown table; `<eos>` and the like would be HTML outside of backticks."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(
        "| "
        + " | ".join(re.sub(r"(?<!`)<\w+>", r"`\g<0>`", cell).replace("|", "\\|") for cell in cells)
        + " |\n"
        for cells in lines
    )


def _options(command: object) -> str:
    parameters = getattr(command, "params", [])
    shown = [
        option
        for parameter in parameters
        if parameter.param_type_name == "option"
        for option in parameter.opts
        if option.startswith("--")
    ]
    return " ".join(
        f"`{option}`" for option in shown if not re.fullmatch(r"--(help|.*-completion)", option)
    )


def _shown(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ", ".join(f"“{item}”" for item in value)
    return (
        f"{value:,}"
        if isinstance(value, int)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )


TABLES: dict[str, Callable[[], str]] = {
    "verbs": verb_table,
    "exit codes": exit_code_table,
    "keys": keys,
    "presets": preset_table,
    "fields": field_table,
    "health": health_table,
}
"""What makes a table, by the name in its markers."""


def main() -> None:
    """Rewrite the guides whose tables have changed."""
    for guide in GUIDES:
        text = guide.path.read_text(encoding="utf-8")
        if (new := generated(text)) != text:
            guide.path.write_text(new, encoding="utf-8")
            print(f"{guide.path.name}: written")  # noqa: T201


if __name__ == "__main__":
    main()
