"""The parts of the config editor with any values: history, TOML, and the user's own editor."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise, product

import pytest

from rnnlm_tui.client.config_files import editor_command, parse_config_text
from rnnlm_tui.errors import InputError
from rnnlm_tui.schema.presets import DEMO, PRESETS
from rnnlm_tui.schema.toml import parse_toml
from rnnlm_tui.store.runs import create_run, with_absolute_paths
from rnnlm_tui.tui.screens.config_files import draft_of_text, draft_toml, read_draft, write_draft
from rnnlm_tui.tui.views.editing import EditHistory, changed_fields, edit_text
from rnnlm_tui.tui.views.form import FORM_FIELDS, PATH_FIELDS, Draft, read_value, with_values

TEXTS = (
    "", "0", "1", "-1", "2.5", "1e-3", "1e400", "nan", "inf", "yes", "no", "true", "[]", '["a"]',
    "auto", "raw", "elman", "lstm", "adamw", "sgd", "bpe", "cpu", "999999999999999999999",
    '"quoted"', "'", '"""', "\\", "\\n", "a\nb", "# no comment", "[model]", "é…漢", "x" * 300,
)  # fmt: skip
"""What a user may type into any field."""


def random_drafts(seed: int, count: int) -> list[Draft]:
    """Drafts of random edits, one after another."""
    draw = random.Random(seed)
    draft = Draft(draw.choice(list(PRESETS.values())), "preset x")
    drafts = [draft]
    for _ in range(count):
        field = draw.choice(FORM_FIELDS)
        text = draw.choice((*TEXTS, *field.choices))
        draft = draft.with_value(field.path, read_value(field, text))
        if draw.random() < 0.1:
            draft = Draft(draw.choice(list(PRESETS.values())), "preset y")
        drafts.append(draft)
    return drafts


@pytest.mark.parametrize("seed", range(4))
def test_undo_goes_back_through_every_edit_and_redo_forth(seed: int) -> None:
    history, drafts = EditHistory(), random_drafts(seed, 60)
    edits = [drafts[0]]
    for before, after in pairwise(drafts):
        history.record(before, after)
        edits += [after] if after != before else []
    current = edits[-1]
    for expected in reversed(edits[:-1]):
        undone = history.travel(current, -1)
        assert undone == expected
        assert edit_text(current, undone)
        current = undone
    assert history.travel(current, -1) is None
    for expected in edits[1:]:
        redone = history.travel(current, 1)
        assert redone == expected
        current = redone
    assert history.travel(current, 1) is None


def test_edits_of_a_group_are_undone_together_and_a_new_edit_ends_redo() -> None:
    one, two, three = (Draft(DEMO, "preset demo", {"training.seed": seed}) for seed in (1, 2, 3))
    history = EditHistory()
    history.record(one, two, "typed")
    history.record(two, three, "typed")
    assert history.travel(three, -1) == one
    history.record(one, two)
    assert history.travel(two, 1) is None
    history.record(two, three, "other")
    history.record(three, two, "other")  # typed and taken back
    assert history.travel(two, -1) == one
    assert history.travel(one, -1) is None


@pytest.mark.parametrize("seed", range(6))
def test_a_draft_is_the_same_after_toml_and_its_run_valid_or_not(seed: int) -> None:
    run = create_run(DEMO)
    for draft in random_drafts(seed, 40)[1::5]:
        text = draft_toml(draft)
        again = with_values(replace(draft, changes={}), parse_toml(text, "x").raw)
        assert changed_fields(draft, again) == ()
        documented = replace(draft, document=f"# mine\n{text}")
        assert parse_toml(draft_toml(documented), "x").raw == parse_toml(text, "x").raw
        for kept in (draft, documented):
            write_draft(run, kept)
            # paths and patterns have become absolute
            assert set(changed_fields(kept, read_draft(run))) <= set(PATH_FIELDS)
            assert read_draft(run).document.startswith("# mine\n") == bool(kept.document)
            assert run.read_config() == with_absolute_paths(kept.nearest_config())


def test_a_files_wrong_values_are_problems_with_a_place_or_accepted() -> None:
    values = ("-1", "1e400", "nan", "true", '"x"', "[]", "[1]", "{ a = 1 }", "1979-05-27")
    for field, value in product(FORM_FIELDS, values):
        section, _, name = field.path.partition(".")
        read = parse_config_text(f"# mine\n[{section}]\n{name} = {value}\n", "x.toml")
        assert (read.config is None) == bool(read.problems)
        for problem in read.problems:
            assert problem.message
            assert problem.place is None or problem.place.line in (2, 3)
        if read.config is not None:
            assert draft_of_text(read, "x.toml").changes == {}
    (problem,) = parse_config_text('preset = "lstn"\n', "x.toml").problems
    assert (problem.path, problem.hint) == ("preset", 'did you mean "lstm"?')


def test_the_editor_is_the_users() -> None:
    for environment, expected in (
        ({"VISUAL": "sh -c 'x y'", "EDITOR": "no"}, ["sh", "-c", "x y"]),
        ({"VISUAL": " ", "EDITOR": "sh"}, ["sh"]),
    ):
        assert editor_command({**environment, "PATH": "/bin:/usr/bin"}) == expected
    missing: tuple[dict[str, str], ...] = ({"EDITOR": "no-such"}, {"EDITOR": "'unclosed"}, {})
    for environment in missing:
        with pytest.raises(InputError, match=r"(?i)editor"):
            editor_command({**environment, "PATH": "/nowhere"})
