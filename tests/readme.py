"""The parts of the README that are made from the code; `python -m tests.readme` writes them anew."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from rnnlm_tui.cli.application import EXIT_CODES, build, command_of
from rnnlm_tui.cli.config_text import field_help
from rnnlm_tui.cli.verbs import VERBS
from rnnlm_tui.contract.config import SECTIONS, RunConfig
from rnnlm_tui.contract.presets import PRESET_SUMMARIES
from rnnlm_tui.contract.validation import section_model

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"


def rendered(text: str) -> str:
    """The README's text with every generated part as the code has it now."""
    for name, part in parts().items():
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        assert begin in text, f"README.md lacks {begin.strip()}"
        before, _, rest = text.partition(begin)
        _, found, after = rest.partition(end)
        assert found, f"README.md lacks {end}"
        text = f"{before}{begin}\n{part}\n{end}{after}"
    return text


def parts() -> dict[str, str]:
    """The generated parts by the name in their markers."""
    from rnnlm_tui.tui.actions import key_table

    return {
        "verbs": table(("verb", "what it does", "options"), verb_rows()),
        "exit codes": table(("code", "meaning"), [(str(code), meaning) for code, meaning in EXIT_CODES]),
        "keys": table(("key", "on", "what it does", "name"), [(f"`{key}`", *rest) for key, *rest in key_table()]),
        "presets": table(("preset", "what it is"), [(f"`{name}`", summary) for name, summary in PRESET_SUMMARIES.items()]),
        "fields": table(("field", "default", "what it is"), field_rows()),
    }


def verb_rows() -> Iterable[tuple[str, str, str]]:
    """Each verb as it is typed, what it does, and its options."""
    yield "`rnnlm-tui`", "Open the app.", _options(build())
    for verb in VERBS:
        command = command_of(verb)
        arguments = "".join(
            f" {parameter.metavar or (parameter.name or '').upper()}" for parameter in command.params if parameter.param_type_name == "argument"
        )
        yield f"`{verb.name}{arguments}`", verb.summary, _options(command)


def field_rows() -> Iterable[tuple[str, str, str]]:
    """Each config field with the default and its help."""
    config = RunConfig()
    for section in SECTIONS:
        for name in section_model(section).model_fields:
            value = getattr(getattr(config, section), name)
            yield f"`{section}.{name}`", str(value) if name == "seed" else _shown(value), field_help(f"{section}.{name}")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n" for cells in lines)


def _options(command: object) -> str:
    parameters = getattr(command, "params", [])
    shown = [option for parameter in parameters if parameter.param_type_name == "option" for option in parameter.opts if option.startswith("--")]
    return " ".join(f"`{option}`" for option in shown if not re.fullmatch(r"--(help|.*-completion)", option))


def _shown(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ", ".join(f"“{item}”" for item in value)
    return f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    README.write_text(rendered(README.read_text()))
