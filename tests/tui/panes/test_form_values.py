"""The form's fields and the values in them."""

from __future__ import annotations

import pytest

from rnnlm_tui.errors import ConfigError
from rnnlm_tui.schema.config import SECTIONS, RunConfig
from rnnlm_tui.schema.presets import PRESETS
from rnnlm_tui.schema.validation import config_to_raw, field_paths, merge, parse_config
from rnnlm_tui.tui.views.form import (
    FORM_FIELDS,
    TITLES,
    Draft,
    FormField,
    edited_value,
    fields_of,
    idle_fields,
    number_text,
    read_value,
    short_message,
    shown_value,
    value_at,
    with_titles,
    with_values,
)
from rnnlm_tui.tui.widgets.form_row import LABEL

FIELDS = {field.path: field for field in FORM_FIELDS}


def test_every_config_field_is_in_the_form_once_and_in_order() -> None:
    assert tuple(field.path for field in FORM_FIELDS) == field_paths()
    assert [
        path for section in SECTIONS for path in (field.path for field in fields_of(section))
    ] == list(field_paths())


@pytest.mark.parametrize("field", FORM_FIELDS, ids=lambda field: field.path)
def test_every_field_has_a_fitting_label_help_and_bounds(field: FormField) -> None:
    assert 0 < len(field.title) <= LABEL
    assert field.help
    assert field.allowed or field.kind not in ("whole", "number")
    assert field.choices if field.kind == "choice" else not field.choices


@pytest.mark.parametrize("name", PRESETS)
def test_edited_values_read_back_as_the_same_config(name: str) -> None:
    config = PRESETS[name]
    changes = {
        field.path: read_value(field, edited_value(field, value_at(config, field.path)))
        for field in FORM_FIELDS
        if field.kind not in ("switch", "choice")
    }
    assert parse_config(merge(config, changes)) == config


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.003, "3e-3"),
        (0.15, "0.15"),
        (1e-8, "1e-8"),
        (1.0, "1.0"),
        (0.0, "0"),
        (0.00125, "1.25e-3"),
        (2.5e7, "2.5e7"),
    ],
)
def test_numbers_are_short_and_exact(value: float, text: str) -> None:
    assert number_text(value) == text
    assert float(text) == value


@pytest.mark.parametrize(
    ("path", "value", "shown"),
    [
        ("model.hidden_size", 2048, "2,048"),
        ("training.seed", 20_000, "20000"),
        ("model.tie_weights", True, "yes"),
        ("training.max_steps", None, ""),
        ("evaluation.prompts", ("a",), "1 text"),
    ],
)
def test_values_are_shown_readably(path: str, value: object, shown: str) -> None:
    assert shown_value(FIELDS[path], value) == shown


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("training.max_steps", "", None),
        ("training.epochs", "", None),
        ("training.batch_size", "1,024", 1024),
        ("corpus.source", " a.txt ", "a.txt"),
        ("evaluation.prompts", "one\n\ntwo", ["one", "two"]),
    ],
)
def test_typed_text_becomes_a_raw_value(path: str, text: str, value: object) -> None:
    assert read_value(FIELDS[path], text) == value


def test_texts_with_line_breaks_have_a_line_each_and_read_back() -> None:
    field, texts = FIELDS["sampling.stop"], ["\n", " The end", "\\", " "]
    shown = edited_value(field, texts)
    assert shown.split("\n") == ["\\n", " The end", "\\\\", " "]
    assert read_value(field, shown) == texts


@pytest.mark.parametrize(
    "texts", [['["a"]'], ["", "a"], ["a", "", "b"], ["[Chorus]"], ["a\rb"], ["[]"]]
)
def test_texts_that_do_not_fit_a_line_each_read_back(texts: list[str]) -> None:
    field = FIELDS["sampling.stop"]
    assert read_value(field, edited_value(field, texts)) == texts


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan"), 10**400, -0.0])
@pytest.mark.parametrize("path", ["optimizer.learning_rate", "training.epochs"])
def test_any_number_can_be_shown(path: str, value: object) -> None:
    assert shown_value(FIELDS[path], value)
    assert edited_value(FIELDS[path], value)


def test_the_bases_value_is_not_a_change() -> None:
    draft = Draft(RunConfig(), "preset demo").with_text(FIELDS["optimizer.learning_rate"], "5e-3")
    assert dict(draft.changes) == {"optimizer.learning_rate": 5e-3}
    assert not draft.with_text(FIELDS["optimizer.learning_rate"], "0.003").changes
    assert (
        not Draft(RunConfig(), "x")
        .with_value("evaluation.prompts", list(RunConfig().evaluation.prompts))
        .changes
    )


def test_all_problems_are_found_in_the_forms_order() -> None:
    draft = Draft(RunConfig(), "preset demo")
    for path, text in (
        ("sampling.temperature", "0.001"),
        ("model.hidden_size", "wide"),
        ("optimizer.learning_rate", "1e-3"),
        ("corpus.source", ""),
    ):
        draft = draft.with_text(FIELDS[path], text)
    assert [problem.path for problem in draft.problems()] == [
        "corpus.source",
        "model.hidden_size",
        "sampling.temperature",
    ]
    nearest = draft.nearest_config()
    assert nearest.optimizer.learning_rate == 1e-3
    assert nearest.model.hidden_size == RunConfig().model.hidden_size


def test_a_problem_between_fields_leaves_a_config_to_estimate() -> None:
    draft = (
        Draft(RunConfig(), "preset demo")
        .with_value("training.seed", 3)
        .with_value("model.hidden_size", 256)
    )
    assert [problem.path for problem in draft.problems()] == ["model.tie_weights"]
    assert draft.nearest_config() == parse_config(merge(RunConfig(), {"training.seed": 3}))


def test_a_config_comes_back_as_changes_to_its_preset() -> None:
    config = parse_config(merge(PRESETS["elman"], {"training.seed": 3, "training.max_steps": 500}))
    draft = with_values(Draft(PRESETS["elman"], "preset elman"), config_to_raw(config))
    assert dict(draft.changes) == {"training.seed": 3, "training.max_steps": 500}
    assert draft.config() == config


def test_fields_without_effect_follow_the_config() -> None:
    paths = set(field_paths())
    for config in PRESETS.values():
        assert set(idle_fields(config)) <= paths
    assert "training.bptt" in idle_fields(PRESETS["book"])
    assert "corpus.sentences" not in idle_fields(PRESETS["elman"])
    assert "sampling.temperature" in idle_fields(PRESETS["book"])


def test_fields_without_effect_are_idle() -> None:
    demo, small = idle_fields(PRESETS["demo"]), idle_fields(PRESETS["ptb-small"])
    assert {
        "model.num_heads",
        "model.init_scale",
        "schedule.decay_after",
        "schedule.decay_factor",
    } <= set(demo)
    assert not {
        "model.weight_dropout",
        "model.variational_dropout",
        "optimizer.beta1",
        "schedule.final_fraction",
    } & set(demo)
    assert {
        "model.num_heads",
        "model.variational_dropout",
        "optimizer.beta1",
        "optimizer.eps",
        "schedule.final_fraction",
    } <= set(small)
    assert not {"model.init_scale", "schedule.decay_after", "optimizer.learning_rate"} & set(small)
    mlstm = idle_fields(parse_config(merge(PRESETS["demo"], {"model.cell_type": "mlstm"})))
    assert "model.num_heads" not in mlstm
    assert mlstm["model.weight_dropout"] == "not used by mlstm"
    assert idle_fields(PRESETS["book"])["model.embedding_dropout"] == "stream mode only"


@pytest.mark.parametrize(
    "changes",
    [
        {"model.hidden_size": 64},
        {"model.weight_dropout": 0.1, "model.cell_type": "mingru"},
        {"model.variational_dropout": True, "training.data_mode": "sentences"},
        {"training.precision": "bf16", "training.device": "cpu"},
    ],
)
def test_a_problem_names_fields_as_the_form_does(changes: dict[str, object]) -> None:
    for problem in Draft(RunConfig(), "preset demo", changes).problems():
        for text in (problem.message, problem.hint, short_message(problem)):
            words = with_titles(text)
            names = {*TITLES, *(name for path in TITLES if "_" in (name := path.split(".")[1]))}
            assert not [name for name in names if name in words], words


def test_the_commonest_problem_is_shown_in_full_beside_its_field() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(merge(RunConfig(), {"model.hidden_size": 64}))
    assert [short_message(problem) for problem in caught.value.problems] == [
        "set embedding = hidden size"
    ]
