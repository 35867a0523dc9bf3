"""Odd texts in config fields are refused with a message, or parsed like on the command line."""

from __future__ import annotations

import tomllib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnnlm_tui.client.estimate import estimate
from rnnlm_tui.client.start import check_source
from rnnlm_tui.errors import CorpusError
from rnnlm_tui.schema.config import value_of
from rnnlm_tui.schema.formatting import UNSAFE
from rnnlm_tui.schema.presets import DEMO
from rnnlm_tui.schema.toml import toml_text
from rnnlm_tui.schema.validation import parse_assignments
from rnnlm_tui.tui.views.form import FIELDS, Draft, FieldRow, edited_value, read_value

ODD = (
    "inf", "1e400", "−0", "1_000", "1,5", "0x10", "٣", "", "9" * 10_000, "5\nx = 1", '["a"]',
    "'", "\u202e123", "5 # five", "[1]", "\x00", "~nobody-of-this-name/x", "1\u00a0000", "👩‍💻",
    "\x1b[31m5", "{a = 1}", '["a", 1]', '["\\n"]', '"5"', "/dev/zero", "cuda:99999999999",
    "a/" * 3_000, "[" * 2_000, "1e" + "9" * 5_000,
)  # fmt: skip
TEXTS = st.sampled_from(ODD) | st.text() | st.from_regex(r"[-+]?[0-9.,_ e\[\]'\"]+", fullmatch=True)


PATHS = (
    "corpus.source", "corpus.test_source", "corpus.url", "corpus.text_field", "tokenizer.name",
    "model.cell_type", "model.hidden_size", "model.tie_weights", "optimizer.learning_rate",
    "training.device", "training.max_steps", "training.seed", "evaluation.prompts",
    "sampling.temperature", "sampling.stop",
)  # fmt: skip
"""Fields of each kind, and those with a rule of their own."""


@pytest.mark.parametrize("path", PATHS)
@given(text=TEXTS)
def test_the_form_accepts_and_rejects_texts_as_the_command_line_does(path: str, text: str) -> None:
    field, unchanged = FIELDS[path], Draft(DEMO, "preset demo")
    value, typed = read_value(field, text), parse_assignments([f"{path}={text}"])[path]
    if field.kind != "list" or isinstance(typed, list):  # else one text a line
        assert repr(value) == repr(typed)
    draft = unchanged.with_value(path, value)
    problems = draft.problems()
    assert all(problem.message for problem in problems)
    assert isinstance(edited_value(field, value), str)
    for problem in (*problems, None)[:2]:  # as the form draws it
        row = FieldRow(field, value, value_of(DEMO, path), problem)
        lines = row.draw(62 if problem else 47, active=problem is None)
        assert all(line.cell_length <= 62 for line in lines)
        assert not UNSAFE.search("".join(line.plain for line in lines))
    # as a kept draft has it
    kept = tomllib.loads(toml_text({"value": draft.value(path)})).get("value")
    assert unchanged.with_value(path, kept) == draft


@pytest.mark.parametrize("path", ["corpus.source", "corpus.test_source", "tokenizer.name"])
def test_odd_names_are_looked_up_and_not_found(path: str) -> None:
    for text in ODD:
        draft = Draft(DEMO, "preset demo").with_value(path, read_value(FIELDS[path], text))
        if path == "tokenizer.name":
            draft = draft.with_value("tokenizer.kind", "pretrained")
        if not draft.problems():
            with suppress(CorpusError):
                check_source(draft.config().corpus)
            estimate(draft.config())
