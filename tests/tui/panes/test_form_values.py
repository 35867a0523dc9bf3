"""The form's fields, the values in them, and the draft that they edit."""

from __future__ import annotations

import pytest

from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.presets import PRESETS
from rnnlm_tui.schema.validation import field_paths, merge, parse_config
from rnnlm_tui.tui.views.form import (
    FIELDS,
    FORM_FIELDS,
    TITLES,
    Draft,
    edited_value,
    idle_fields,
    number_text,
    read_value,
    short_message,
    shown_value,
    value_at,
    with_titles,
)
from rnnlm_tui.tui.widgets.form_row import LABEL

BASE = Draft(RunConfig(), "preset demo")


def typed(**texts: str) -> Draft:
    """The default draft with these texts typed into its fields."""
    draft = BASE
    for name, text in texts.items():
        path = name.replace("__", ".")
        draft = draft.with_value(path, read_value(FIELDS[path], text))
    return draft


def test_every_config_field_is_in_the_form_with_a_fitting_label_and_its_bounds() -> None:
    assert tuple(field.path for field in FORM_FIELDS) == field_paths()
    for field in FORM_FIELDS:
        assert 0 < len(field.title) <= LABEL
        assert field.allowed or field.kind not in ("whole", "number")
        assert bool(field.choices) == (field.kind == "choice")


def test_values_are_shown_readably_and_edited_ones_read_back_exactly() -> None:
    for path, value, shown in (
        ("model.hidden_size", 2048, "2,048"),
        ("training.seed", 20_000, "20000"),
        ("model.tie_weights", True, "yes"),
        ("model.tie_weights", False, "no"),
        ("training.cuda_graphs", True, "true"),
        ("training.max_steps", None, ""),
        ("evaluation.prompts", ("a",), "1 text"),
    ):
        assert shown_value(FIELDS[path], value) == shown
    for text in ("3e-3", "0.15", "1e-8", "1.0", "0", "1.25e-3", "2.5e7"):
        assert number_text(float(text)) == text
    for value in (float("inf"), float("-inf"), float("nan"), 10**400, -0.0):
        assert shown_value(FIELDS["training.epochs"], value)
        assert edited_value(FIELDS["training.epochs"], value)
    for config in PRESETS.values():
        changes = {
            field.path: read_value(field, edited_value(field, value_at(config, field.path)))
            for field in FORM_FIELDS
            if field.kind not in ("switch", "choice")
        }
        assert parse_config(merge(config, changes)) == config


def test_texts_with_line_breaks_have_a_line_each_and_read_back() -> None:
    field, texts = FIELDS["sampling.stop"], ["\n", " The end", "\\", " "]
    shown = edited_value(field, texts)
    assert shown.split("\n") == ["\\n", " The end", "\\\\", " "]
    assert read_value(field, "one\n\ntwo") == ["one", "two"]
    for some in (texts, ['["a"]'], ["", "a"], ["a", "", "b"], ["[Chorus]"], ["a\rb"], ["[]"]):
        assert read_value(field, edited_value(field, some)) == some


def test_a_draft_has_changes_problems_in_the_forms_order_and_a_config_to_estimate() -> None:
    assert dict(typed(optimizer__learning_rate="5e-3").changes) == {"optimizer.learning_rate": 5e-3}
    prompts = "\n".join(RunConfig().evaluation.prompts)
    assert not typed(optimizer__learning_rate="0.003", evaluation__prompts=prompts).changes
    for draft, problems, kept in (
        (
            typed(
                sampling__temperature="0.001",
                model__hidden_size="wide",
                optimizer__learning_rate="1e-3",
                corpus__source="",
            ),
            ["corpus.source", "model.hidden_size", "sampling.temperature"],
            {"optimizer.learning_rate": 1e-3},
        ),
        # a problem between fields
        (
            typed(training__seed="3", model__hidden_size="256"),
            ["model.tie_weights"],
            {"training.seed": 3},
        ),
    ):
        assert [problem.path for problem in draft.problems()] == problems
        assert draft.nearest_config() == parse_config(merge(RunConfig(), kept))


@pytest.mark.parametrize(
    ("preset", "changes", "idle", "used"),
    [
        ("demo", {}, "model.num_heads model.init_scale schedule.decay_after schedule.decay_factor",
            "model.weight_dropout model.variational_dropout optimizer.beta1"),
        ("ptb-small", {}, "model.variational_dropout optimizer.eps schedule.final_fraction",
            "model.init_scale schedule.decay_after optimizer.learning_rate"),
        ("book", {}, "training.bptt sampling.temperature model.embedding_dropout", ""),
        ("elman", {}, "corpus.url", "corpus.sentences"),
        ("demo", {"model.cell_type": "mlstm"}, "model.weight_dropout", "model.num_heads"),
    ],
)  # fmt: skip
def test_fields_without_effect_follow_the_config(
    preset: str, changes: dict[str, object], idle: str, used: str
) -> None:
    found = idle_fields(parse_config(merge(PRESETS[preset], changes)))
    assert set(idle.split()) <= set(found) <= set(field_paths())
    assert not set(used.split()) & set(found)


def test_a_problem_names_fields_as_the_form_does() -> None:
    keys = {*TITLES, *(name for path in TITLES if "_" in (name := path.split(".")[1]))}
    short = []
    for changes in (
        {"model.hidden_size": 64},
        {"model.weight_dropout": 0.1, "model.cell_type": "mingru"},
        {"model.variational_dropout": True, "training.data_mode": "sentences"},
        {"training.precision": "bf16", "training.device": "cpu"},
    ):
        (problem,) = Draft(RunConfig(), "preset demo", changes).problems()
        short.append(short_message(problem))
        for text in (problem.message, problem.hint, short[-1]):
            words = with_titles(text)
            assert not [key for key in keys if key in words], words
    assert short[0] == "set embedding = hidden size"
