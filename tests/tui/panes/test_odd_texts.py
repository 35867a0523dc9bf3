"""Odd texts in config fields are refused with a message, or parsed like on the command line."""

from __future__ import annotations

import tomllib
from contextlib import suppress

import pytest

from rnnlm_tui.client.estimate import estimate
from rnnlm_tui.client.start import check_source
from rnnlm_tui.errors import ConfigError, CorpusError
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.formatting import UNSAFE
from rnnlm_tui.schema.presets import DEMO
from rnnlm_tui.schema.toml import toml_text
from rnnlm_tui.schema.validation import merge, parse_assignments, parse_config
from rnnlm_tui.tui.views.form import (
    FIELDS,
    Draft,
    FormField,
    edited_value,
    read_value,
    value_at,
)
from rnnlm_tui.tui.widgets.form_row import FieldRow

ODD = (
    "inf", "-inf", "nan", "1e400", "−0", "-0", "1_000", "1,5", "1,000", "0x10", "٣", "１２", "",
    "   ", "9" * 10_000, "1.000,5", "5\nx = 1", '["a"]', "true", "'", "1e3", "\u202e123", "0",
    "1_0", "5 # five", "[1]", "\x00", "~nobody-of-this-name/x", "infinity and beyond",
    "1e-400", "1.8e308", "1e99999999999999999999", "007", "1__000", "1,", "1,,000", "0,500",
    "1,000.5.5", "10,000,000", "-0,8", "1 000", "1\u00a0000", "5.", ".5", "--5", "1E+5", "1e5.5",
    "2.0", "2.5", "1/2", "50%", "5 steps", "0xg", "0b101", "½", "१२", "１，０００", "_", "yes",
    "None", "auto", "\t", " 5 ", "5\r\n6", "5=6", "abc", "é", "👩‍💻", "\ufeff5", "\x1b[31m5",
    "\x9b5m", "$(id)", "{a = 1}", "[]", "[", "[[1]]", '["a", 1]', '["\\n"]', '"', '"5"', "\\",
    "\\u0041", "# x", "/dev/zero", "~root", "https://example.org/x y", "cuda:0", "2026-11-27",
    "cuda:99999999999", "a/" * 3_000, "[" * 2_000, "{" * 2_000, "1" * 301, "1" * 4_301,
    "1e" + "9" * 5_000, "0." + "0" * 5_000 + "1", "0x" + "f" * 5_000, "1," + "000," * 3_000 + "000",
)  # fmt: skip


def from_the_command_line(field: FormField, text: str) -> RunConfig | None:
    """Return the config of `--set field=text` on the demo; None if it is refused.

    A list that isn't TOML is given as a TOML list of its lines.
    """
    if field.kind == "list" and not isinstance(
        parse_assignments([f"{field.path}={text}"])[field.path], list
    ):
        return parsed({field.path: read_value(field, text)})
    return parsed(parse_assignments([f"{field.path}={text}"]))


def parsed(changes: dict[str, object]) -> RunConfig | None:
    """Return the demo with the changes; None if one of them is refused."""
    try:
        return parse_config(merge(DEMO, changes))
    except ConfigError:
        return None


@pytest.mark.parametrize("field", FIELDS.values(), ids=lambda field: field.path)
def test_the_form_accepts_and_rejects_texts_as_the_command_line_does(field: FormField) -> None:
    for text in ODD:
        draft = Draft(DEMO, "preset demo").with_value(field.path, read_value(field, text))
        problems = draft.problems()
        expected = from_the_command_line(field, text)
        assert (draft.config() if not problems else None) == expected, text[:80]
        assert all(problem.message for problem in problems)
        value = draft.value(field.path)
        assert isinstance(edited_value(field, value), str)
        for problem in (*problems, None)[:2]:  # as the form draws it
            row = FieldRow(field, value, value_at(DEMO, field.path), problem)
            lines = row.draw(62 if problem else 47, active=problem is None)
            assert all(line.cell_length <= 62 for line in lines), text[:80]
            assert not UNSAFE.search("".join(line.plain for line in lines))
        # as a kept draft has it
        kept = tomllib.loads(toml_text({"value": draft.value(field.path)})).get("value")
        assert Draft(DEMO, "preset demo").with_value(field.path, kept) == draft, text[:80]
        # names are looked up, and not found
        pretrained = {"tokenizer.kind": "pretrained"} if field.path == "tokenizer.name" else {}
        config = parsed({**pretrained, field.path: draft.value(field.path)})
        if field.kind == "text" and config is not None:
            with suppress(CorpusError):
                check_source(config.corpus)
            estimate(config)
