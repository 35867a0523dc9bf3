"""Odd texts in config fields are refused with a message, or parsed like on the command line."""

from __future__ import annotations

import tomllib
from collections import Counter
from contextlib import suppress

import pytest
from textual.pilot import Pilot

from rnnlm_tui.client.estimate import estimate
from rnnlm_tui.client.start import check_source
from rnnlm_tui.errors import ConfigError, CorpusError
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.presets import DEMO
from rnnlm_tui.schema.toml import toml_text
from rnnlm_tui.schema.validation import merge, parse_assignments, parse_config
from rnnlm_tui.tui.views.form import (
    FORM_FIELDS,
    Draft,
    FormField,
    edited_value,
    read_value,
    shown_value,
)
from rnnlm_tui.tui.widgets.form import ConfigForm
from rnnlm_tui.tui.widgets.form_row import FieldRow
from tests.tui.fakes import FakeServices
from tests.tui.panes.filling import edited, go, pane
from tests.tui.support import running_app, until

WORST = (
    "inf", "-inf", "nan", "1e400", "−0", "-0", "1_000", "1,5", "1,000", "0x10", "٣", "１２", "",
    "   ", "9" * 10_000, "1.000,5", "5\nx = 1", '["a"]', "true", "'", "1e3", "\u202e123",
)  # fmt: skip
"""The texts that fields get in the running app."""
SHARES = 4
"""A field of the running app gets a quarter of them, the next field of its kind another one."""
ODD = (
    *WORST, "0", "-1e400", "1_0", "12,34", "5 # five", "[1]", "\x00", "~nobody-of-this-name/x",
    "+inf", "Infinity", "-Infinity", "NaN", "+nan", "INF", "infinity and beyond", "1e-400",
    "-1e-400", "1e309", "1e308", "1.8e308", "1e99999999999999999999", "0.0", "-0.0", "+0", "00",
    "007", "-007", "0_0", "_1", "1_", "1__000", "1,", ",1", ",", ",,", "1,,000", "1,000,00",
    "0,500", "1,000.5", "1,000.5.5", "1,0000", "10,000,000", "1.000", "1.000.000", "3,14159",
    "0,8", "-0,8", "1 000", "1 0", "1'000", "1’000", "1\u00a0000", "1\u2009000", "1 . 5", "5.",
    ".5", ".", "-.5", "+5", "++5", "--5", "- 5", "5-", "1e5", "1E5", "1e+5", "1e-5", "1e5.5", "e5",
    "1e", "1e1_0", "1.5e3", "1.0", "2.0", "2.5", "1/2", "50%", "5 %", "5k", "5M", "5 steps",
    "0X10", "0xFF", "0xg", "0x", "0o17", "0b101", "0b2", "017", "1b", "²", "½", "Ⅷ", "八", "٣٫٥",
    "१२", "𝟓", "１，０００", "－5", "＋5", "1．5", "٬", "-", "+", "_", "true ", "True", "TRUE",
    "false", "yes", "no", "on", "off", "y", "n", "t", "f", "None", "none", "null", "nil",
    "undefined", "NA", "n/a", "auto", "default", "\t", "\n", " 5 ", "5\t", "5\n", "\n5", "5\r\n6",
    "5 6", "5;6", "5|6", "5=6", "=5", "=", "5,6,7", "a", "A", "abc", "ABC def", "é", "日本語",
    "👩‍💻", "e\u0301", "\ufeff5", "\u200b5", "\u202e5\u202c", "\x1b[31m5", "\x07", "\x7f", "\x80",
    "\x9b5m", "$HOME", "`id`", "$(id)", "%s", "%n", "{}", "{5}", "{a = 1}", "[]", "[", "]", "[5",
    "[1, 2]", "[[1]]", '["a", "b"]', '["a", 1]', '["\\n"]', "['a']", '["a"', '"', '""', "''",
    '"5"', "'5'", '"abc"', "\"'", "'abc\"", "\\", "\\n", "\\\\", "\\x41", "\\u0041", "//", "#",
    "# x", "/", "./", "../..", "/dev/null", "/dev/zero", "~", "~root", "C:\\x", "http://a",
    "https://example.org/x y", "file:///etc/passwd", "cuda:0", "cuda:99999999999", "cuda:",
    "2026-11-27", "12:30:00", "2026-11-27T12:30:00Z", "1979", "a" * 255, "a" * 256, "a" * 5_000,
    "a/" * 3_000, "[" * 2_000, "{" * 2_000, "1" * 300, "1" * 301, "1" * 4_301,
    "0." + "0" * 5_000 + "1", "1e" + "9" * 5_000, "0x" + "f" * 5_000,
    "1," + "000," * 3_000 + "000", "٣" * 5_000, "-" * 5_000,
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


def test_there_are_two_hundred_different_odd_texts() -> None:
    assert len(set(ODD)) == len(ODD) >= 200


@pytest.mark.parametrize("field", FORM_FIELDS, ids=lambda field: field.path)
def test_the_form_accepts_and_rejects_texts_as_the_command_line_does(
    field: FormField,
) -> None:
    for text in ODD:
        draft = Draft(DEMO, "preset demo").with_value(field.path, read_value(field, text))
        problems = draft.problems()
        expected = from_the_command_line(field, text)
        assert (draft.config() if not problems else None) == expected, text[:80]
        assert all(problem.message for problem in problems)
        for value in (
            draft.value(field.path),
            getattr(getattr(draft.nearest_config(), field.section), field.path.partition(".")[2]),
        ):
            assert isinstance(shown_value(field, value), str)
            assert isinstance(edited_value(field, value), str)
        # as a kept draft has it
        kept = tomllib.loads(toml_text({"value": draft.value(field.path)})).get("value")
        assert Draft(DEMO, "preset demo").with_value(field.path, kept) == draft, text[:80]


@pytest.mark.parametrize(
    "field", [field for field in FORM_FIELDS if field.kind == "text"], ids=lambda field: field.path
)
def test_any_text_in_a_name_field_is_looked_up_and_not_found(
    home: object, field: FormField
) -> None:
    for text in ODD:
        config = parsed(
            {
                **({"tokenizer.kind": "pretrained"} if field.path == "tokenizer.name" else {}),
                field.path: read_value(field, text),
            }
        )
        if config is not None:
            with suppress(CorpusError):
                check_source(config.corpus)
            estimate(config)


async def test_odd_texts_in_every_field_are_rejected_or_kept() -> None:
    async with running_app(FakeServices(), pane="config", run=None) as (app, pilot):
        form = pane(app).form
        tried = Counter[str]()
        for field in FORM_FIELDS:
            share = tried[field.kind] % SHARES
            tried[field.kind] += 1
            await go(pilot, field.path)
            row = form.row(field.path)
            typed = field.kind in ("text", "whole", "number")
            if typed:
                await pilot.press("enter")
                await until(pilot, lambda row=row: row.editing)  # type: ignore[misc]
            for text in WORST[share::SHARES]:
                if row._editor is not None:
                    row._editor.value = text
                    text = row._editor.value  # without control characters
                else:  # a choice, switch or list has no editor in its row
                    form.set_values({field.path: read_value(field, text)})
                expected, value = from_the_command_line(field, text), read_value(field, text)
                await shown(pilot, form, row, value, refused=expected is None)
                if expected is not None:
                    assert edited(app) == expected, (field.path, text[:80])
                else:
                    assert all(problem.message for problem in form.problems)
                    assert edited(app)  # the estimate is still that of a valid config
            await pilot.press(*(["enter"] if typed else []))
            await until(pilot, lambda row=row: not row.editing)  # type: ignore[misc]
            form.reset()
            await until(pilot, lambda: not form.draft.changes)
        assert app.is_running


async def shown(
    pilot: Pilot[int], form: ConfigForm, row: FieldRow, value: object, *, refused: bool
) -> None:
    """Wait until the row shows the value, and the form its problem."""

    def is_shown() -> bool:
        shown = list(row.state.value) if isinstance(row.state.value, tuple) else row.state.value
        return shown == value and bool(form.problems) == refused

    await pilot.pause()
    await until(pilot, is_shown)
