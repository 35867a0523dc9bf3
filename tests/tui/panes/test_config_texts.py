"""Config texts of the user: comments, order and notation stay when values change."""

from __future__ import annotations

import tomllib

from hypothesis import given, reject
from hypothesis import strategies as st

from rnnlm_tui.schema.toml import toml_text
from rnnlm_tui.schema.validation import Raw
from rnnlm_tui.tui.screens.config_files import updated_toml
from tests.unit.schema.test_toml import RAW


@given(RAW, RAW)
def test_changed_texts_have_the_wanted_values_and_keep_their_comments(
    before: Raw, after: Raw
) -> None:
    text = "# kept\n" + toml_text(before)
    changed = updated_toml(text, after)
    assert tomllib.loads(changed) == after
    assert changed.startswith("# kept\n")
    assert updated_toml(text, before) == text


def test_comments_order_and_notation_stay_when_a_value_changes() -> None:
    text = (
        "# my run\npreset = 'demo'\n\n[training]  # the loop\nbatch_size = 1_0  # small\n"
        "epochs = 3\n\n# the model\n[model]\nnum_layers = 2 # two\n"
    )
    raw = tomllib.loads(text)
    changed = updated_toml(
        text,
        {
            **raw,
            "training": {"batch_size": 10, "epochs": 4, "seed": 5},
            "model": {"num_layers": 3},
            "schedule": {"kind": "constant"},
        },
    )
    assert (
        changed
        == text.replace("epochs = 3\n", "epochs = 4\nseed = 5\n").replace(
            "num_layers = 2", "num_layers = 3"
        )
        + '\n[schedule]\nkind = "constant"\n'
    )
    assert updated_toml(text, raw) == text
    without = updated_toml(text, {**raw, "training": {"epochs": None, "batch_size": 10}})
    assert without == text.replace("epochs = 3\n", "")


SECTION_PARTS = st.builds(
    lambda part, section, key: part.format(section=section, key=key),
    st.sampled_from(
        [
            "[{section}]  # c\n{key} = 1 # x\n",
            "[{section}.{key}]\nz = 1\n",
            "[{section}]\nin = {{x = 1, y = [1, 2]}}\n# tail\n",
            "[[{section}]]\n{key} = 1\n",
        ]
    ),
    st.sampled_from("mt"),
    st.sampled_from("ab"),
)
ITEM = st.sampled_from([1, True, ["a", "b"], {"z": 2}])
SECTIONS = st.dictionaries(st.sampled_from("mto"), st.fixed_dictionaries({"a": ITEM, "b": ITEM}))


@given(st.lists(SECTION_PARTS, min_size=1, max_size=5), SECTIONS)
def test_sections_written_in_several_parts_keep_their_comments_and_get_the_values(
    parts: list[str], after: Raw
) -> None:
    text = "\n".join(["# head", *parts])
    try:
        tomllib.loads(text)
    except ValueError:
        reject()
    found = updated_toml(text, after)
    assert tomllib.loads(found) == after
    assert "# head" in found


def test_windows_line_ends_and_invisible_characters_stay() -> None:
    text = "preset = 'demo' # \u00ad\r\n[training]\r\nseed = 1\r\n"
    changed = updated_toml(text, {"preset": "demo", "training": {"seed": 2}})
    assert changed == text.replace("seed = 1", "seed = 2")


def test_a_text_without_a_last_line_end_and_with_dotted_keys_keeps_its_comments() -> None:
    text = "training.seed = 1 # one\n# end\nmodel.num_layers = 2"
    changed = updated_toml(text, {"training": {"seed": 2}, "model": {"num_layers": 2}})
    assert changed == f"{text.replace('seed = 1', 'seed = 2')}\n"
    more = updated_toml(text, {"training": {"seed": 1, "epochs": 2}, "model": {"num_layers": 2}})
    assert tomllib.loads(more)["training"] == {"seed": 1, "epochs": 2}
