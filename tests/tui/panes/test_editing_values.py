"""The parts of the config editor with any values: history, comparisons, suggestions, TOML."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise, product

import pytest

from rnnlm_tui.client.config_files import editor_command, parse_config_text
from rnnlm_tui.errors import InputError
from rnnlm_tui.schema.presets import DEMO, PRESETS
from rnnlm_tui.schema.toml import TomlError, parse_toml
from rnnlm_tui.store.runs import create_run, with_absolute_paths
from rnnlm_tui.tui.screens.config_files import draft_of_text, draft_toml, read_draft, write_draft
from rnnlm_tui.tui.views.editing import (
    AdjustedDraft,
    EditHistory,
    adjusted_draft,
    changed_fields,
    comparisons,
    edit_text,
)
from rnnlm_tui.tui.views.form import (
    FORM_FIELDS,
    PATH_FIELDS,
    Draft,
    DraftParent,
    by_field,
    read_value,
    with_values,
)

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
        documented = replace(draft, document=text)
        assert parse_toml(draft_toml(documented), "x").raw == parse_toml(text, "x").raw
        for kept in (draft, documented):
            write_draft(run, kept)
            # paths and patterns have become absolute
            assert set(changed_fields(kept, read_draft(run))) <= set(PATH_FIELDS)
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


@pytest.mark.parametrize("seed", range(3))
def test_damaged_toml_has_a_line_or_problems_and_never_another_error(seed: int) -> None:
    draw = random.Random(seed)
    text = draft_toml(Draft(DEMO, "preset demo"))
    lines: list[int | None] = []
    for _ in range(25):
        at = draw.randrange(len(text))
        damaged = text[:at] + draw.choice('="[]{}#\n\\x0é') + text[at + draw.randrange(3) :]
        try:
            read = parse_config_text(damaged, "x.toml")
        except TomlError as error:
            lines.append(error.place.line)
            continue
        draft = draft_of_text(read, "x.toml")
        assert read.problems or draft.config() == read.config
    assert all(lines)


def test_a_presets_name_is_checked() -> None:
    read = parse_config_text('preset = "lstn"\n', "x.toml")
    assert [(problem.path, problem.hint) for problem in read.problems] == [
        ("preset", 'did you mean "lstm"?')
    ]
    assert parse_config_text('preset = "lstm"\n', "x.toml").config == PRESETS["lstm"]


DEPENDENT: dict[str, tuple[object, ...]] = {
    "model.hidden_size": (10, 24, 200),
    "model.num_heads": (3, 4, 7),
    "model.cell_type": ("slstm", "elman", "mingru"),
    "model.weight_dropout": (0.0, 0.2),
    "training.data_mode": ("stream", "sentences"),
    "optimizer.learning_rate": (0.1, 5.0),
    "training.matmul": ("auto", "medium"),
    "training.deterministic": (True, False),
    "tokenizer.vocab_size": (100, 300),
    "training.max_steps": (None, 20),
    "schedule.warmup_steps": (10, 50),
}
"""Values that contradict each other in some combinations."""


@pytest.mark.parametrize("seed", range(4))
def test_every_suggestion_solves_its_problem(seed: int) -> None:
    draw = random.Random(seed)
    solved = 0
    for _ in range(30):
        draft = Draft(DEMO, "preset demo")
        for path, values in DEPENDENT.items():
            draft = draft.with_value(path, draw.choice(values))
        wrong = by_field(draft.problems())
        for path in wrong:
            current, tried = draft, []
            found: AdjustedDraft | None = None
            while (found := adjusted_draft(current, current.problems(), path, found)) is not None:
                assert found.before == draft
                assert (path, wrong[path].message) not in {
                    (problem.path, problem.message) for problem in found.after.problems()
                }
                tried.append(found.adjustment)
                current = found.after
                solved += 1
                if not found.others:
                    break
            assert tuple(tried) == wrong[path].adjustments
    assert solved > 30


def test_comparisons_go_around_and_name_the_parent() -> None:
    fork = Draft(PRESETS["lstm"], "plain-otter", parent=DraftParent("plain-otter@100"))
    assert [found.name for found in comparisons(fork)] == [
        "plain-otter@100", "preset lstm", "the defaults"
    ]  # fmt: skip
    assert [found.name for found in comparisons(Draft(DEMO, "preset demo"))] == [
        "preset demo", "the defaults"
    ]  # fmt: skip


def test_typed_texts_never_fail_in_any_field() -> None:
    for field, text in product(FORM_FIELDS, TEXTS):
        read_value(field, text)


def test_the_editor_is_the_users() -> None:
    for environment, expected in (
        ({"VISUAL": "sh -c 'x y'", "EDITOR": "no"}, ["sh", "-c", "x y"]),
        ({"VISUAL": " ", "EDITOR": "sh"}, ["sh"]),
    ):
        assert editor_command({**environment, "PATH": "/bin:/usr/bin"}) == expected
    missing: tuple[dict[str, str], ...] = (
        {"EDITOR": "no-such-editor"}, {"EDITOR": "'unclosed"}, {}
    )  # fmt: skip
    for environment in missing:
        with pytest.raises(InputError, match=r"(?i)editor"):
            editor_command({**environment, "PATH": "/nowhere"})
