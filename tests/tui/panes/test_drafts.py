"""Drafts: the form's fields with any values, undo, TOML, what blocks a start, and the preview."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from rnnlm_tui.client.corpora import Preview
from rnnlm_tui.errors import CorpusError, DeviceError, InputError, Problem
from rnnlm_tui.schema.config import RunConfig, value_of
from rnnlm_tui.schema.presets import DEMO, PRESETS
from rnnlm_tui.schema.toml import parse_toml
from rnnlm_tui.schema.validation import allowed_range, merge, parse_config
from rnnlm_tui.store.runs import create_run, with_absolute_paths
from rnnlm_tui.tui import palette
from rnnlm_tui.tui.screens.config_check import DraftCheck, Findings, look_up
from rnnlm_tui.tui.screens.config_files import draft_toml, read_draft, write_draft
from rnnlm_tui.tui.views.form import (
    FIELDS,
    PATH_FIELDS,
    TITLE,
    Draft,
    EditHistory,
    changed_fields,
    edit_text,
    edited_value,
    idle_fields,
    number_text,
    read_value,
    short_message,
    shown_value,
    with_titles,
    with_values,
)
from rnnlm_tui.tui.widgets.form import preview_lines

BASE = Draft(RunConfig(), "preset demo")
DRAFT = Draft(DEMO, "preset demo")


def test_every_config_field_is_in_the_form_with_a_fitting_label_and_its_bounds() -> None:
    for field in FIELDS.values():
        assert 0 < len(field.title) <= TITLE
        assert allowed_range(field.path) or field.kind not in ("whole", "number")
        assert bool(field.choices) == (field.kind == "choice")


def test_values_are_shown_readably_and_edited_ones_read_back_exactly() -> None:
    for path, value, shown in (
        ("model.hidden_size", 2048, "2,048"), ("training.seed", 20_000, "20000"),
        ("model.tie_weights", True, "yes"), ("model.tie_weights", False, "no"),
        ("training.max_steps", None, ""), ("evaluation.prompts", ("a",), "1 text"),
        ("model.hidden_size", True, "true"),
    ):  # fmt: skip
        assert shown_value(FIELDS[path], value) == shown
    for text in ("3e-3", "0.15", "1e-8", "1.0", "0", "1.25e-3", "2.5e7"):
        assert number_text(float(text)) == text
    for number in (float("inf"), float("-inf"), float("nan"), 10**400, -0.0):
        assert shown_value(FIELDS["training.epochs"], number)
        assert edited_value(FIELDS["training.epochs"], number)
    for config in PRESETS.values():
        changes = {
            field.path: read_value(field, edited_value(field, value_of(config, field.path)))
            for field in FIELDS.values()
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
    assert dict(BASE.with_value("training.seed", 3).changes) == {"training.seed": 3}
    prompts = list(RunConfig().evaluation.prompts)
    assert not BASE.with_value("evaluation.prompts", prompts).changes, "a list is a tuple there"
    assert not BASE.with_value("optimizer.learning_rate", 0.003).changes
    wrong = {"sampling.temperature": 0.001, "model.hidden_size": "wide", "corpus.source": ""}
    order = ["corpus.source", "model.hidden_size", "sampling.temperature"]
    for changes, problems, kept in (
        (wrong, order, {"optimizer.learning_rate": 1e-3}),
        ({"model.hidden_size": 256}, ["model.tie_weights"], {"training.seed": 3}),
    ):
        draft = replace(BASE, changes={**changes, **kept})
        assert [problem.path for problem in draft.problems()] == problems
        assert draft.nearest_config() == parse_config(merge(RunConfig(), kept))


def test_fields_without_effect_follow_the_config() -> None:
    for config in PRESETS.values():
        assert set(idle_fields(config)) <= set(FIELDS)
    heads = ("model.num_heads", "model.weight_dropout", "model.init_scale", "optimizer.beta1")
    for changes, idle in (
        ({}, "model.num_heads model.init_scale"),
        ({"model.cell_type": "mlstm"}, "model.weight_dropout model.init_scale"),
        ({"optimizer.algorithm": "sgd"}, "model.num_heads model.init_scale optimizer.beta1"),
    ):
        found = idle_fields(parse_config(merge(DEMO, changes)))
        assert [path for path in heads if path in found] == idle.split()


def test_a_problem_names_fields_as_the_form_does() -> None:
    keys = {*FIELDS, *(name for path in FIELDS if "_" in (name := path.split(".")[1]))}
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
        field = draw.choice([*FIELDS.values()])
        text = draw.choice((*TEXTS, *field.choices))
        draft = draft.with_value(field.path, read_value(field, text))
        if draw.random() < 0.1:
            draft = Draft(draw.choice(list(PRESETS.values())), "preset y")
        drafts.append(draft)
    return drafts


def test_undo_goes_back_through_every_edit_and_redo_forth() -> None:
    history, drafts = EditHistory(), random_drafts(1, 200)
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


def test_a_draft_is_the_same_after_toml_and_its_run_valid_or_not() -> None:
    run = create_run(DEMO)
    for draft in random_drafts(1, 60)[1::6]:
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


def paths(check: DraftCheck, draft: Draft) -> list[str]:
    check.check(draft, draft.nearest_config(), locked=False)
    return [problem.path for problem in check.problems]


def test_a_refusal_is_shown_only_for_its_config_and_blocks_nothing() -> None:
    check = DraftCheck()
    configs = (DEMO, DEMO, PRESETS["lstm"], DEMO)  # the disk is read once for each
    assert [check.needs_estimate(config) for config in configs] == [True, False, True, True]
    hint = "then: --set corpus.source=PATH"
    assert check.start_failed(DEMO, CorpusError("no text", hint=hint)) == "corpus.source"
    assert paths(check, DRAFT) == ["corpus.source"]
    assert check.problems[0].hint == "then: set the field source to the folder"
    assert check.start_failed(DEMO, DeviceError("no cuda here")) == "training.device"
    check.found = Findings(DEMO, missing=Problem("corpus.source", "no such file"))
    assert paths(check, DRAFT) == ["training.device"], "it was tried, and failed for this"
    assert check.blocking == ()
    assert paths(check, DRAFT.with_value("training.seed", 43)) == []
    check.check(DRAFT.with_value("training.batch_size", 0), DEMO, locked=True)
    assert check.blocking == check.problems == (), "the config of a run has no problems"
    check.forget()
    assert paths(check, DRAFT) == []
    assert check.start_failed(DEMO, InputError("no such preset")) is None
    assert paths(check, DRAFT) == []


def test_what_is_missing_is_shown_at_the_field_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,body\n1,one\n")
    gone = str(tmp_path / "no.txt")
    for changes, at in (
        ({"corpus.test_source": gone}, "corpus.test_source"),
        ({"corpus.test_source": gone, "corpus.source": gone}, "corpus.source"),
        ({"corpus.source": str(tmp_path / "a.csv")}, "corpus.text_field"),
        ({"tokenizer.kind": "pretrained", "tokenizer.name": gone}, "tokenizer.name"),
    ):
        draft, check = replace(DRAFT, changes=changes), DraftCheck()
        found = look_up(draft.config())
        assert found.missing is not None
        check.found = found
        assert paths(check, draft) == [at]
        error = CorpusError(found.missing.message)
        assert check.start_failed(draft.config(), error) == at, "the start fails for the same"


def test_the_pieces_of_a_preview_fit_and_differ_in_colour_or_by_a_bar() -> None:
    pieces = ("def", " f", "():", "\n"), ("\x1b[31m", "[@click=x]"), ("word ",) * 80
    preview = Preview("raw", "x" * 200, pieces, exact=False)
    lines = preview_lines(preview, 40)
    assert all(line.cell_length <= 40 and "\x1b" not in line.plain for line in lines)
    assert [str(span.style) for span in lines[2].spans] == [palette.TEXT, palette.TRAIN] * 2
    assert preview_lines(preview, 40, apart=True)[2].plain == "   def|·f|():|↵"
