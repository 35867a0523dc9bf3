"""Odd texts in config fields are refused with a message, or parsed like on the command line."""

from __future__ import annotations

import tomllib
from contextlib import suppress

import pytest

from rnnlm_tui.client.estimate import estimate
from rnnlm_tui.client.start import check_source
from rnnlm_tui.errors import CorpusError
from rnnlm_tui.schema.config import value_of
from rnnlm_tui.schema.formatting import UNSAFE
from rnnlm_tui.schema.presets import DEMO
from rnnlm_tui.schema.toml import toml_text
from rnnlm_tui.schema.validation import parse_assignments
from rnnlm_tui.tui.views.form import FIELDS, Draft, edited_value, read_value
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


PATHS = (
    "corpus.source", "corpus.test_source", "corpus.url", "corpus.text_field", "tokenizer.name",
    "model.cell_type", "model.hidden_size", "model.tie_weights", "optimizer.learning_rate",
    "training.device", "training.max_steps", "training.seed", "evaluation.prompts",
    "sampling.temperature", "sampling.stop",
)  # fmt: skip
"""Fields of each kind, and those with a rule of their own."""


@pytest.mark.parametrize("path", PATHS)
def test_the_form_accepts_and_rejects_texts_as_the_command_line_does(path: str) -> None:
    field, unchanged = FIELDS[path], Draft(DEMO, "preset demo")
    for text in ODD:
        value, typed = read_value(field, text), parse_assignments([f"{path}={text}"])[path]
        if field.kind != "list" or isinstance(typed, list):  # else one text a line
            assert repr(value) == repr(typed), text[:80]
        draft = unchanged.with_value(path, value)
        problems = draft.problems()
        assert all(problem.message for problem in problems)
        assert isinstance(edited_value(field, value), str)
        for problem in (*problems, None)[:2]:  # as the form draws it
            row = FieldRow(field, value, value_of(DEMO, path), problem)
            lines = row.draw(62 if problem else 47, active=problem is None)
            assert all(line.cell_length <= 62 for line in lines), text[:80]
            assert not UNSAFE.search("".join(line.plain for line in lines))
        # as a kept draft has it
        kept = tomllib.loads(toml_text({"value": draft.value(path)})).get("value")
        assert unchanged.with_value(path, kept) == draft, text[:80]
        # names are looked up, and not found
        if path == "tokenizer.name":
            draft = draft.with_value("tokenizer.kind", "pretrained")
        if field.kind == "text" and not draft.problems():
            with suppress(CorpusError):
                check_source(draft.config().corpus)
            estimate(draft.config())
