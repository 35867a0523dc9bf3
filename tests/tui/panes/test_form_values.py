"""The form's fields and the values in them."""

from __future__ import annotations

import pytest

from rnnlm_tui.errors import ConfigError
from rnnlm_tui.schema.config import SECTIONS, RunConfig
from rnnlm_tui.schema.presets import PRESETS
from rnnlm_tui.schema.validation import config_to_raw, field_paths, merge, parse_config
from rnnlm_tui.tui.views.form import (
    FIELDS,
    FORM_FIELDS,
    TITLES,
    Draft,
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

RATE = "optimizer.learning_rate"


def typed(draft: Draft, path: str, text: str) -> Draft:
    return draft.with_value(path, read_value(FIELDS[path], text))


def test_every_config_field_is_in_the_form_once_and_in_order() -> None:
    assert tuple(field.path for field in FORM_FIELDS) == field_paths()
    assert [
        path for section in SECTIONS for path in (field.path for field in fields_of(section))
    ] == list(field_paths())


def test_every_field_has_a_fitting_label_help_and_bounds() -> None:
    for field in FORM_FIELDS:
        assert 0 < len(field.title) <= LABEL
        assert field.help
        assert field.allowed or field.kind not in ("whole", "number")
        assert field.choices if field.kind == "choice" else not field.choices


def test_edited_values_read_back_as_the_same_config() -> None:
    for config in PRESETS.values():
        changes = {
            field.path: read_value(field, edited_value(field, value_at(config, field.path)))
            for field in FORM_FIELDS
            if field.kind not in ("switch", "choice")
        }
        assert parse_config(merge(config, changes)) == config


def test_numbers_are_short_and_exact() -> None:
    for text in ("3e-3", "0.15", "1e-8", "1.0", "0", "1.25e-3", "2.5e7"):
        assert number_text(float(text)) == text


def test_values_are_shown_readably_and_typed_text_is_read() -> None:
    for path, value, shown in (
        ("model.hidden_size", 2048, "2,048"),
        ("training.seed", 20_000, "20000"),
        ("model.tie_weights", True, "yes"),
        ("training.max_steps", None, ""),
        ("evaluation.prompts", ("a",), "1 text"),
    ):
        assert shown_value(FIELDS[path], value) == shown
    typed: tuple[tuple[str, str, object], ...] = (
        ("training.max_steps", "", None),
        ("training.epochs", "", None),
        ("training.batch_size", "1,024", 1024),
        ("corpus.source", " a.txt ", "a.txt"),
        ("evaluation.prompts", "one\n\ntwo", ["one", "two"]),
    )
    for path, text, read in typed:
        assert read_value(FIELDS[path], text) == read


def test_texts_with_line_breaks_have_a_line_each_and_read_back() -> None:
    field, texts = FIELDS["sampling.stop"], ["\n", " The end", "\\", " "]
    shown = edited_value(field, texts)
    assert shown.split("\n") == ["\\n", " The end", "\\\\", " "]
    assert read_value(field, shown) == texts

    for texts in (['["a"]'], ["", "a"], ["a", "", "b"], ["[Chorus]"], ["a\rb"], ["[]"]):
        assert read_value(field, edited_value(field, texts)) == texts


def test_any_number_can_be_shown() -> None:
    for path in ("optimizer.learning_rate", "training.epochs"):
        for value in (float("inf"), float("-inf"), float("nan"), 10**400, -0.0):
            assert shown_value(FIELDS[path], value)
            assert edited_value(FIELDS[path], value)


def test_the_bases_value_is_not_a_change() -> None:
    draft = typed(Draft(RunConfig(), "preset demo"), RATE, "5e-3")
    assert dict(draft.changes) == {"optimizer.learning_rate": 5e-3}
    assert not typed(draft, RATE, "0.003").changes
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
        draft = typed(draft, path, text)
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
    assert {"training.bptt", "sampling.temperature"} <= set(idle_fields(PRESETS["book"]))
    assert "corpus.sentences" not in idle_fields(PRESETS["elman"])
    demo, small = idle_fields(PRESETS["demo"]), idle_fields(PRESETS["ptb-small"])
    schedule = {"schedule.decay_after", "schedule.decay_factor"}
    assert {"model.num_heads", "model.init_scale", *schedule} <= set(demo)
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


def test_a_problem_names_fields_as_the_form_does() -> None:
    keys = {*TITLES, *(name for path in TITLES if "_" in (name := path.split(".")[1]))}
    for changes in (
        {"model.hidden_size": 64},
        {"model.weight_dropout": 0.1, "model.cell_type": "mingru"},
        {"model.variational_dropout": True, "training.data_mode": "sentences"},
        {"training.precision": "bf16", "training.device": "cpu"},
    ):
        problems = Draft(RunConfig(), "preset demo", changes).problems()
        assert problems
        for problem in problems:
            for text in (problem.message, problem.hint, short_message(problem)):
                words = with_titles(text)
                assert not [key for key in keys if key in words], words


def test_the_commonest_problem_is_shown_in_full_beside_its_field() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(merge(RunConfig(), {"model.hidden_size": 64}))
    assert [short_message(problem) for problem in caught.value.problems] == [
        "set embedding = hidden size"
    ]
