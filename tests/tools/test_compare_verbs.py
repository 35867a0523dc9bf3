"""What `tests.tools.compare_verbs` counts as a difference."""

from __future__ import annotations

from tests.tools.compare_verbs import Answer, json_differences, report, text_differences


def test_json_that_changes_by_itself_is_no_difference() -> None:
    assert (
        json_differences(
            '{"step": 3, "time": 1.5}', '{"step": 3, "time": 2.5}', '{"step": 3, "time": 9.5}'
        )
        == []
    )


def test_keys_types_and_fixed_values_of_json_are_compared() -> None:
    before, again = (
        '{"step": 3, "time": 1.5, "old": {"a": 1}}',
        '{"step": 3, "time": 2.5, "old": {"a": 1}}',
    )
    assert json_differences(before, again, '{"step": 4, "time": "now", "new": []}') == [
        "- old.a",
        "+ new",
        "step: 3 → 4",
        "time: float → str",
    ]


def test_json_lines_are_compared_and_other_text_is_reported() -> None:
    assert json_differences(
        '{"a": 1}\n{"a": 2}\n', '{"a": 1}\n{"a": 2}\n', '{"a": 1}\n{"a": 3}\n'
    ) == ["[1].a: 2 → 3"]
    assert json_differences('{"a": 1}', '{"a": 1}', "words") == ["JSON before: True, after: False"]
    assert json_differences("words", "words", "other words") == []


def test_numbers_are_compared_where_they_mean_something() -> None:
    assert text_differences("took 3.5 s\nold", "took 12 s\nnew", numbers=False) == ["-old", "+new"]
    assert text_differences("at least 3", "at least 4", numbers=True) == [
        "-at least 3",
        "+at least 4",
    ]


def test_the_report_counts_by_kind() -> None:
    before = {
        "--help": Answer(0, "old", ""),
        "runs --json": Answer(0, "[1]", ""),
        "nothing": Answer(2, "", "no such verb"),
    }
    after = {
        "--help": Answer(0, "new", ""),
        "runs --json": Answer(0, "[2]", ""),
        "nothing": Answer(1, "", "unknown verb"),
    }
    text = report(before, before, after, texts=False)
    assert (
        text.splitlines()[-1]
        == "3 calls: 0 differ in verbs, 1 differ in exit codes, 1 differ in JSON, 1 differ in help"
    )
    assert "nothing: 2 → 1" in text
    assert "-no such verb" in report(before, before, after, texts=True)
