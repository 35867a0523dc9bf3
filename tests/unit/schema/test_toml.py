"""Configs as TOML: places of keys and values, errors with line and column"""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnnlm_tui.errors import Problem
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.presets import PRESETS
from rnnlm_tui.schema.toml import (
    TomlError,
    explained_toml,
    parse_toml,
    read_toml,
    toml_text,
)
from rnnlm_tui.schema.validation import Raw, config_to_raw, fields, merge, parse_config

ODD = '''# a comment with [brackets] = and "quotes"
preset = "demo"

[ corpus ]  # section
source = 'C:\\path # no comment'
"text_field" = """
a ""quoted"" \\""" text = [1]
"""

[evaluation]
prompts = [ # three
    "one, ] two", # a comment, with ] and "
    'three',
    \'\'\'fo
ur\'\'\', ]
every = 1_000

[sampling]
stop = []
greedy = true
model.nested = {a = 1, "b c" = [{d = "}"}, 2]}
'''


def test_keys_and_values_are_found_in_any_notation() -> None:
    found = parse_toml(ODD, "odd.toml")
    expected = {
        "preset": '"demo"',
        "corpus.source": "'C:",
        "corpus.text_field": '"""',
        "evaluation.prompts": "[ # three",
        "evaluation.every": "1_000",
        "sampling.stop": "[]",
        "sampling.greedy": "true",
        "sampling.model.nested": "{a",
        "sampling.model.nested.b c": "[{d",
    }
    for path, start in expected.items():
        assert ODD[found.values[path] :].startswith(start), path
    assert ODD[found.keys["sampling.model"] :].startswith("model.nested")
    assert str(found.place_of("corpus", key=True)) == "odd.toml:4:1"
    assert found.place_of("evaluation.prompts.1") == found.place_of("evaluation.prompts")


def test_a_bad_value_is_located_at_the_value_and_an_unknown_key_at_the_key() -> None:
    found = parse_toml("[training]\n  sed = 1\n  epochs = 0\n", "c.toml")
    unknown = found.located(Problem("training.sed", "unknown config key"))
    wrong = found.located(Problem("training.epochs", "is 0, must be at least 1"))
    assert str(unknown.place) == "c.toml:2:3"
    assert str(wrong.place) == "c.toml:3:12"
    assert found.located(Problem("model.num_layers", "is 0")).place is None
    assert str(found.located(Problem("training.epochs.3", "is 0")).place) == "c.toml:3:12"


TEXTS = st.text("ab \"'\\#[]{}=,.\n\t\u202e\x1b…\r", max_size=9)
VALUES = st.recursive(
    TEXTS
    | st.sampled_from([0, -3, 10**9, 1.5, 1e-8, -2.0])
    | st.booleans()
    | st.lists(TEXTS, max_size=3),
    lambda inner: st.dictionaries(st.sampled_from(["a", "b.c", "d e", 'f"', "g-1"]), inner),
)
RAW = st.dictionaries(st.sampled_from(["model", "x", "y z", "training"]), VALUES)


@given(RAW)
def test_any_values_are_written_readably_and_every_one_has_a_place(raw: Raw) -> None:
    text = toml_text(raw)
    assert tomllib.loads(text) == raw
    assert not set(text) & set("\u202e\x1b\r")
    found = parse_toml(text, "a.toml")
    for name, value in raw.items():
        if not isinstance(value, dict):
            place = found.place_of(name)
            assert place is not None
            line = text.split("\n")[(place.line or 0) - 1]
            assert line[: (place.column or 0) - 1].endswith(" = ")


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_preset_is_read_back_from_its_text(name: str) -> None:
    for text in (toml_text(config_to_raw(PRESETS[name])), explained_toml(PRESETS[name])):
        found = parse_toml(text, "x")
        assert parse_config(found.raw) == PRESETS[name]
        for path in fields():
            place = found.place_of(path)
            assert place is not None
            if path in found.values:
                line = text.splitlines()[(place.line or 0) - 1]
                assert line.startswith(f"{path.rpartition('.')[2]} = ")


@pytest.mark.parametrize(
    ("text", "place", "reason"),
    [
        ("a = 1\nb 2\n", (2, 3), "expected '=' after a key"),
        ("[a]\nx = 1\n[a]\n", (3, 3), "cannot declare"),
        ("a = [1,\n", (1, 8), "end of the file"),
        ("a = [1,", (1, 8), "end of the file"),
        ('[m]\nx = "abc\ny = 1', (2, 9), "illegal character"),
        ("a = 1\na = 2\n", (2, 6), "cannot overwrite"),
        ("a = 1\nb = " + "9" * 5_000, (2, 1), "4300 digits"),
        ("a = " + "[" * 5_000, (1, 1), "nested too deeply"),
        ("", None, ""),
    ],
)
def test_a_syntax_error_has_its_line_and_column(
    text: str, place: tuple[int, int] | None, reason: str
) -> None:
    if place is None:
        assert parse_toml(text, "x").raw == {}
        return
    with pytest.raises(TomlError) as caught:
        parse_toml(text, "my.toml")
    assert (caught.value.place.line, caught.value.place.column) == place
    assert reason in caught.value.reason
    assert caught.value.message.startswith(f"my.toml:{place[0]}:{place[1]}: not valid TOML: ")


def test_a_syntax_error_shows_the_line_and_marks_the_column() -> None:
    with pytest.raises(TomlError) as caught:
        parse_toml("[training]\n\tseed 1\n", "c")
    assert caught.value.message.splitlines()[1:] == ["   seed 1", "        ^"]
    with pytest.raises(TomlError) as caught:
        parse_toml(f'x = "{"y" * 500}" z', "c")
    assert all(len(line) < 80 for line in caught.value.message.splitlines())


def test_every_truncation_of_a_config_is_read_or_has_a_place() -> None:
    text = explained_toml(RunConfig())
    for end in range(0, len(text), 37):
        place = None
        try:
            parse_toml(text[:end], "x")
        except TomlError as error:
            place = error.place
        if place is not None:
            assert 1 <= (place.line or 0) <= text[:end].count("\n") + 1


def test_a_file_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_bytes(b"\xef\xbb\xbf[training]\r\nseed = 4\r\n")
    assert read_toml(path).raw == {"training": {"seed": 4}}
    assert merge(RunConfig(), {"training.seed": 4})
