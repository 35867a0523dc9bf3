"""Validation of configs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnnlm_tui.errors import ConfigError
from rnnlm_tui.schema.config import RunConfig, value_of
from rnnlm_tui.schema.validation import (
    OTHER_NAMES,
    allowed_range,
    fields,
    merge,
    parse_assignments,
    parse_config,
    parse_value,
)


def problems_of(changes: dict[str, object]) -> dict[str, str]:
    """The problems caused by `changes`, by path."""
    with pytest.raises(ConfigError) as caught:
        parse_config(merge(RunConfig(), changes))
    return {problem.path: str(problem) for problem in caught.value.problems}


def test_every_field_has_a_title_and_a_description() -> None:
    for field in fields().values():
        assert field.title
        assert field.help.endswith((".", "?"))


NUMBERS = st.integers() | st.floats() | st.sampled_from([10**30, 10**400, -1e-9])
VALUES = st.none() | st.booleans() | NUMBERS | st.text() | st.sampled_from(["\udcff", "x" * 10_000])
ANYTHING = VALUES | st.lists(VALUES, max_size=3) | st.dictionaries(st.text(), VALUES, max_size=2)


@given(st.sampled_from([*fields()]), ANYTHING)
def test_any_value_of_a_field_is_taken_unchanged_or_rejected_by_its_path(
    path: str, value: object
) -> None:
    section, _, name = path.partition(".")
    try:
        taken = value_of(parse_config({section: {name: value}}), path)
    except ConfigError as error:
        problems = error.problems
        assert any(problem.path.startswith((path, f"{section}.")) for problem in problems)
        assert all(
            problem.message and "validation error" not in problem.message for problem in problems
        )
    else:
        assert taken == value
        assert isinstance(taken, bool) == isinstance(value, bool)


@pytest.mark.parametrize("path", [path for path in fields() if allowed_range(path)])
def test_a_number_out_of_range_is_rejected_with_the_range(path: str) -> None:
    kind = float if fields()[path].kind == "number" else int
    for value in (kind(-(10**30)), kind(10**30)):
        section, _, name = path.partition(".")
        with pytest.raises(ConfigError) as caught:
            parse_config({section: {name: value}})
        (hint,) = [problem.hint for problem in caught.value.problems if problem.path == path]
        assert hint.partition(";")[0] == allowed_range(path, {})


def test_an_invalid_section_is_one_problem() -> None:
    assert "a section of keys" in problems_of({"model": 3})["model"]


def test_contradicting_fields_are_reported_besides_other_problems() -> None:
    changes: dict[str, object] = {
        "model.embedding_dim": 64, "tokenizer.vocab_size": 100, "sampling.top_p": 0
    }  # fmt: skip
    wrong = {"model.tie_weights", "tokenizer.vocab_size", "sampling.top_p"}
    assert set(problems_of(changes)) == wrong


def test_a_built_in_corpus_has_sentences() -> None:
    found = problems_of({"corpus.layout": "raw"})["corpus.layout"]
    assert "the built-in corpus presidents has only sentences" in found
    own = {"corpus.source": "a.py", "corpus.layout": "lines"}
    assert parse_config(merge(RunConfig(), own)).corpus.layout == "lines"
    assert "elman" in problems_of({**own, "corpus.test_source": "elman"})["corpus.layout"]


@pytest.mark.parametrize(
    ("algorithm", "most"), [("adamw", "1 with adamw"), ("sgd", "1,000 with sgd")]
)
def test_the_range_of_the_rate_depends_on_the_optimizer(algorithm: str, most: str) -> None:
    path, optimizer = "optimizer.learning_rate", {"algorithm": algorithm}
    found = problems_of({path: 2_000.0, "optimizer.algorithm": algorithm})
    assert found[path].startswith(f"{path}: is 2000, must be at most {most} (")
    allowed = f"above 0, at most {most.partition(' ')[0]}"
    assert allowed_range(path, {"optimizer": optimizer}) == allowed


def test_a_pretrained_tokenizer_needs_a_name() -> None:
    assert "tokenizer.name" in problems_of({"tokenizer.kind": "pretrained"})


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("training.seed", "3", 3),
        ("training.epochs", "1,000", 1000),
        ("optimizer.learning_rate", "1e-3", 0.001),
        ("optimizer.learning_rate", "3.e-4", 0.0003),
        ("optimizer.learning_rate", ".5", 0.5),
        ("training.deterministic", "yes", True),
        ("training.deterministic", "off", False),
        ("corpus.source", "1984", "1984"),
        ("corpus.source", '"my text.txt"', "my text.txt"),
        ("corpus.source", "it's.txt", "it's.txt"),
        ("training.max_steps", "", None),
        ("training.max_steps", "  ", None),
        ("training.batch_size", "1_000", 1000),
        ("training.seed", "12,345,678", 12345678),
        ("training.seed", "-0", 0),
        ("sampling.temperature", "1,024.5", 1024.5),
        ("sampling.temperature", "5.", 5.0),
        ("sampling.temperature", "+2", 2),
        ("training.shuffle", "FALSE", False),
        ("evaluation.prompts", '["a", "b"]', ["a", "b"]),
        ("model.cell_type", "elman", "elman"),
        ("model.cell_type", '"elman"', "elman"),
    ],
)
def test_text_is_parsed_into_the_intended_value(path: str, text: str, value: object) -> None:
    assert parse_value(path, text) == value
    assert type(parse_value(path, text)) is type(value)


GROUPED = "thousands are separated in groups of three, as in 1,000"
COMMA = "thousands are separated by a comma, as in 1,000"
SIGNS = "only the signs 0 to 9 and - are supported"


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("3,5", GROUPED), ("1.000", f"write 1000: {COMMA}"), ("10,00", GROUPED),
        ("1_0", f"write 10: {GROUPED}"), ("1 000", f"write 1000: {COMMA}"),
        ("1e3", "write 1000"), ("5.0", "write 5"), ("3.5", ""), ("007", "write 7"),
        ("0x10", "write 16: only decimal numbers are supported"), ("0b12", ""),
        ("٣", f"write 3: {SIGNS}"), ("１２", f"write 12: {SIGNS}"), ("−1", f"write -1: {SIGNS}"),
        ("1e400", ""), ("inf", ""), ("9" * 10_000, ""), ("5 # a comment", ""),
        ("5\nseed = 3", ""), ("2026-11-27", ""), ("{a = 1}", ""), ("yes", ""),
    ],
)  # fmt: skip
def test_an_invalid_whole_number_is_rejected_as_written_with_a_suggestion(
    text: str, hint: str
) -> None:
    refused("training.epochs", text, "a whole number", hint or "1 … 1,000,000")


@pytest.mark.parametrize(
    ("path", "text", "wanted", "hint"),
    [
        ("sampling.temperature", "0,8", "a number", "write 0.8: use a decimal point"),
        ("sampling.temperature", "1.024,5", "a number", "write 1024.5: use a decimal point"),
        ("sampling.temperature", "00.5", "a number", "write 0.5"),
        ("optimizer.learning_rate", "inf", "a finite number", "above 0, at most 1"),
        ("optimizer.learning_rate", "-NaN", "a finite number", "above 0, at most 1"),
        ("optimizer.learning_rate", "1e400", "a finite number", "above 0, at most 1"),
        ("training.shuffle", "1", "true or false", ""),
        (
            "evaluation.prompts",
            "[1, 2]",
            "a list of texts",
            'write ["\\n", "The end"], in single quotes on the command line',
        ),
    ],
)
def test_other_invalid_values_are_rejected_as_written_with_a_suggestion(
    path: str, text: str, wanted: str, hint: str
) -> None:
    refused(path, text, wanted, hint)


def refused(path: str, text: str, wanted: str, hint: str) -> None:
    assert parse_value(path, text) == text
    with pytest.raises(ConfigError) as caught:
        parse_config(merge(RunConfig(), {path: parse_value(path, text)}))
    (problem,) = caught.value.problems
    assert problem.path == path
    assert problem.message.startswith(f"is {text!r}"[:50])
    assert problem.message.endswith(f", must be {wanted}")
    assert problem.hint == hint


def test_a_quoted_number_in_a_file_is_rejected() -> None:
    epochs = problems_of({"training.epochs": "5"})["training.epochs"]
    assert epochs.endswith("is '5', must be a whole number (write 5 without quotes)")
    temperature = problems_of({"sampling.temperature": "0.5"})["sampling.temperature"]
    assert "must be a number (write 0.5 without quotes)" in temperature


def test_assignments_name_every_unknown_key() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_assignments(["trainig.seed=1", "seed=2", "training.seed"])
    text = str(caught.value)
    assert "3 problems" in text
    assert 'did you mean "training.seed"' in text
    assert "write it as key=value" in text


def test_merging_leaves_the_base_untouched() -> None:
    base = RunConfig()
    before = base.model_dump()
    merge(base, {"training.seed": 9})["training"] = {}
    assert base.model_dump() == before


@pytest.mark.parametrize("written", [r"\n", "The end", "3"])
def test_a_text_instead_of_a_list_gets_an_example(written: str) -> None:
    found = problems_of(parse_assignments([f"sampling.stop={written}"]))["sampling.stop"]
    assert "must be a list of texts" in found
    shown = found.partition("write ")[2].partition(", in single quotes")[0]
    changes = parse_assignments([f"sampling.stop={shown}"])
    assert parse_config(merge(RunConfig(), changes)).sampling.stop == ("\n", "The end")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("training.batch_size", "1 … 65,536"),
        ("optimizer.learning_rate", "above 0, at most 1 with adamw, 1,000 with sgd"),
        ("training.seed", "at least 0"),
        ("corpus.source", ""),
        ("no.field", ""),
    ],
)
def test_ranges_are_described(path: str, words: str) -> None:
    assert allowed_range(path) == words


def test_an_empty_value_only_clears_optional_fields() -> None:
    cleared = parse_assignments(["corpus.test_source=", "training.max_steps="])
    assert parse_config(merge(RunConfig(), cleared)) == RunConfig()
    assert problems_of(parse_assignments(["corpus.source=", "training.batch_size="])) == {
        "corpus.source": "corpus.source: has no value, must be text",
        "training.batch_size": "training.batch_size: has no value, must be a whole number"
        " (1 … 65,536)",
    }


@pytest.mark.parametrize(
    ("texts", "at", "problem"),
    [
        (["a", ""], ".1", "is empty"),
        (["a" * 101], ".0", "has 101 characters, must have at most 100"),
        (list("abcdefghi"), "", "has 9 texts, must have at most 8"),
    ],
)
def test_problems_in_lists_name_the_item(texts: list[str], at: str, problem: str) -> None:
    assert problem in problems_of({"sampling.stop": texts})[f"sampling.stop{at}"]


@pytest.mark.parametrize(
    "url",
    [
        "news.example/data",
        "ftp://news.example/data",
        "https://",
        "http://a b",
        "https://news.example/\x1b[2J",
        "https://ex\u202eample/",
    ],
)
def test_an_invalid_address_is_rejected_by_name(url: str) -> None:
    found = problems_of({"corpus.url": url})
    assert list(found) == ["corpus.url"]
    assert "must start with http:// or https://" in found["corpus.url"]
    assert "\x1b" not in found["corpus.url"]


def test_every_pattern_has_a_description() -> None:
    found = {path for path, info in fields().items() if "pattern" in info.bounds}
    assert found >= {"corpus.url", "training.device"}
    for path in found:
        assert f"{path}: is 'what ever', must " in problems_of({path: "what ever"})[path]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("optimizer.lr", "optimizer.learning_rate"),
        ("lr", "optimizer.learning_rate"),
        ("model.layers", "model.num_layers"),
        ("hidden", "model.hidden_size"),
        ("num-epochs", "training.epochs"),
        ("training.batch", "training.batch_size"),
    ],
)
def test_keys_of_other_programs_get_a_suggestion(written: str, meant: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_assignments([f"{written}=1"])
    assert caught.value.problems[0].hint == f'did you mean "{meant}"?'


def test_every_other_name_is_for_an_existing_key() -> None:
    assert set(OTHER_NAMES.values()) <= set(fields())
    assert not set(OTHER_NAMES) & {path.rpartition(".")[2] for path in fields()}


@pytest.mark.parametrize(
    ("changes", "allowed"),
    [
        ({"sampling.temperature": 1e-40}, "0.01 … 100, or 0 for greedy"),
        ({"sampling.temperature": 0.0099}, "0.01 … 100, or 0 for greedy"),
        ({"sampling.temperature": -0.5}, "0.01 … 100, or 0 for greedy"),
        ({"sampling.temperature": 101.0}, "0.01 … 100, or 0 for greedy"),
        ({"sampling.repetition_penalty": 1e-38}, "0.1 … 100"),
        ({"sampling.repetition_penalty": 0.0}, "0.1 … 100"),
    ],
)
def test_a_sampling_setting_that_would_overflow_is_rejected_with_its_range(
    changes: dict[str, object], allowed: str
) -> None:
    ((path, value),) = changes.items()
    found = problems_of(changes)[path]
    assert f"is {value!r}, must be at " in found
    assert allowed in found
    assert allowed_range(path) == allowed
