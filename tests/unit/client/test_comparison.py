"""Compare runs: differing settings and best results."""

from __future__ import annotations

from contextlib import closing

import pytest
from pydantic import JsonValue

from rnnlm_tui.client.comparison import (
    Comparison,
    FigureRow,
    compare_runs,
    config_at_start,
    setting_words,
)
from rnnlm_tui.client.monitor import RunMonitor
from rnnlm_tui.errors import InputError
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.facts import Facts
from rnnlm_tui.schema.formatting import TEXT_NOT_KEPT
from rnnlm_tui.schema.metrics import CommandRow, EvaluationRow
from rnnlm_tui.schema.protocol import CommandResult, Setting, SettingsChange
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.store.log import RunLog
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.runs import create_run
from tests.unit.client.logs import record, steps_at


def measured(
    name: str,
    changes: dict[str, object],
    losses: dict[int, float],
    *,
    seconds: float = 0.5,
    unknown: int = 0,
    bits: float | None = 1.0,
    scored: int = 39_999,
) -> RunDirectory:
    """A run with ten steps, validation losses by step, and `unknown` of 1,000 scored tokens, which
    are `scored` of 40,000 bytes."""
    run = create_run(parse_config(merge(RunConfig(), changes)), name)
    record(
        run,
        *steps_at(700, seconds, 10),
        *(
            EvaluationRow(
                1,
                step,
                "validation",
                "validation",
                loss,
                1_000,
                bits and loss / 3,
                0.5,
                1_000.0 + step,
                unknown,
                scored,
                40_000,
            )
            for step, loss in losses.items()
        ),
    )
    return run


def steer(
    run: RunDirectory, number: int, step: int, path: str, old: JsonValue, new: JsonValue
) -> None:
    """A `set` as the worker journals it."""
    change = SettingsChange(
        number=number, step=step, settings=(Setting(path=path, old=old, new=new),)
    )
    result = CommandResult(id=str(number), ok=True, step=step, change=change)
    with RunLog(run, 1) as log:
        log.append(
            CommandRow(1, str(number), "set", {}, result.model_dump(), 0.0),
            Facts(settings={path: new}),
        )


def row(comparison: Comparison, name: str) -> FigureRow:
    return next(row for row in comparison.figures if row.name == name)


def test_only_differing_settings_are_listed_formatted() -> None:
    first = measured("first", {"training.seed": 1000, "training.deterministic": True}, {})
    second = measured("second", {"optimizer.learning_rate": 4e-3, "training.max_steps": 1000}, {})
    comparison = compare_runs([first, second])
    assert [(run.letter, run.name) for run in comparison.runs] == [("A", "first"), ("B", "second")]
    assert {row.key: row.values for row in comparison.settings} == {
        "optimizer.learning_rate": ("0.003", "0.004"),
        "training.max_steps": ("none", "1,000"),
        "training.seed": ("1,000", "42"),
        "training.deterministic": ("on", "off"),
    }
    assert compare_runs([first]).settings == ()
    assert setting_words(["a", "b"]) == "a; b"


def test_each_result_has_a_best_run_and_differences_to_it() -> None:
    comparison = compare_runs(
        [
            measured("a", {}, {4: 4.0, 8: 4.2}),
            measured("b", {"training.seed": 1}, {6: 3.5}, seconds=1.0),
            create_run(RunConfig(), "draft"),
        ]
    )
    best = row(comparison, "best val ppl")
    assert best.best == 1

    assert best.words == ("54.6", "33.1", "–")
    assert best.differences == ("+21.5", "", "")
    assert row(comparison, "tokens/s").differences == ("", "−700", "")
    assert row(comparison, "best at step").values == (4, 6, None)
    assert row(comparison, "best after").values == (2.0, 6.0, None)
    assert row(comparison, "final val ppl").words == ("66.7", "33.1", "–")
    assert row(comparison, "tokens/s").values == (1_400.0, 700.0, None)
    assert row(comparison, "train loss").best is None, "equal runs have no best one"
    assert "test ppl" not in {row.name for row in comparison.figures}, "no run has it"


def test_incomparable_perplexities_are_reported() -> None:
    plain, other_tokens = (
        measured("a", {}, {1: 4.0}),
        measured("b", {"tokenizer.vocab_size": 500}, {1: 3.0}),
    )
    other_text = measured("c", {"corpus.source": "elman"}, {1: 3.0})
    same = measured("d", {"training.seed": 1}, {1: 3.0})

    def bests(*runs: RunDirectory) -> tuple[int | None, int | None]:
        return (
            row(compare_runs(runs), "best val ppl").best,
            row(compare_runs(runs), "bits per byte").best,
        )

    assert (compare_runs([plain, same]).remark, bests(plain, same)) == ("", (1, 1))
    assert "bits per byte are" in compare_runs([plain, other_tokens]).remark
    assert bests(plain, other_tokens) == (None, 1)
    assert "different texts" in compare_runs([plain, other_text]).remark
    assert bests(plain, other_text) == (None, None)


WORDS: dict[str, object] = {"tokenizer.kind": "word", "tokenizer.vocab_size": 10}


@pytest.mark.parametrize(
    ("unknown", "bits", "scored", "why"),
    [
        (413, None, 39_999, "41 % of B's tokens are unknown"),
        (0, None, 0, f"for B {TEXT_NOT_KEPT}"),
    ],
)
def test_many_unknown_tokens_or_a_lossy_tokenizer_exclude_a_run_from_the_best_bits_per_byte(
    unknown: int, bits: float | None, scored: int, why: str
) -> None:
    characters = measured("a", {"tokenizer.kind": "character"}, {1: 1.5})
    comparison = compare_runs(
        [characters, measured("b", WORDS, {1: 0.5}, unknown=unknown, bits=bits, scored=scored)]
    )
    assert row(comparison, "bits per byte").best is None
    assert row(comparison, "best val ppl").best is None
    assert (
        comparison.remark
        == f"neither perplexities (different tokens) nor bits per byte are comparable: {why}"
    )
    if unknown:
        assert row(comparison, "unknown").words == ("0 %", "41 %")


def test_few_unknown_tokens_keep_bits_per_byte_comparable_and_are_shown() -> None:
    comparison = compare_runs(
        [measured("a", {}, {1: 1.5}), measured("b", WORDS, {1: 0.5}, unknown=1)]
    )
    assert row(comparison, "bits per byte").best == 1
    assert "bits per byte are" in comparison.remark
    assert row(comparison, "unknown").words == ("0 %", "0.1 %")
    assert "unknown" not in {
        found.name for found in compare_runs([measured("c", {}, {1: 1.5})]).figures
    }


def test_perplexities_with_the_same_vocabulary_are_comparable() -> None:
    comparison = compare_runs(
        [
            measured("a", WORDS, {1: 1.5}, unknown=413, bits=None),
            measured("b", {**WORDS, "training.seed": 1}, {1: 0.5}, unknown=413, bits=None),
        ]
    )
    assert row(comparison, "best val ppl").best == 1
    assert (
        comparison.remark
        == "bits per byte aren't comparable: 41 % of A's tokens are unknown, 41 % of B's tokens are"
        " unknown"
    )


SENTENCES: dict[str, object] = {"training.data_mode": "sentences"}


@pytest.mark.parametrize(
    ("changes", "scored", "why"),
    [
        (SENTENCES, (39_999, 39_970), None),
        (SENTENCES, (39_999, 21_600), "A scored all, B scored 54 % of the text"),
        (SENTENCES, (21_600, 10_800), "A scored 54 %, B scored 27 % of the text"),
        (WORDS, (39_999, 39_800), "A scored 39,999 bytes, B scored 39,800 bytes of the text"),
    ],
)
def test_bits_per_byte_compare_only_where_the_same_bytes_were_scored(
    changes: dict[str, object], scored: tuple[int, int], why: str | None
) -> None:
    a, b = scored
    comparison = compare_runs(
        [measured("a", {}, {1: 4.0}, scored=a), measured("b", changes, {1: 3.0}, scored=b)]
    )
    assert row(comparison, "bits per byte").best == (None if why else 1)
    assert (why or "") in comparison.remark
    shares = [found.words for found in comparison.figures if found.name == "scored"]
    assert shares == {10_800: [("54 %", "27 %")], 21_600: [("all", "54 %")]}.get(b, [])


@pytest.mark.parametrize(
    "changes",
    [
        {"training.data_mode": "sentences"},
        {"training.data_mode": "sentences", "training.context_length": 60},
    ],
)
def test_runs_that_score_different_tokens_are_not_comparable(
    changes: dict[str, object],
) -> None:
    stream = measured(
        "a", {} if len(changes) == 1 else {"training.data_mode": "sentences"}, {1: 4.0}
    )
    comparison = compare_runs([stream, measured("b", changes, {1: 3.0})])
    assert row(comparison, "best val ppl").best is None
    assert "different scored tokens" in comparison.remark


def test_runs_say_which_of_tokens_time_and_parameters_are_nearly_equal() -> None:
    losses = {10: 5.0}
    plain, near, slow = (
        measured(name, {}, losses, seconds=seconds)
        for name, seconds in (("plain", 0.5), ("near", 0.52), ("slow", 0.6))
    )
    assert compare_runs([plain, near]).equal == ("tokens", "time")
    assert compare_runs([plain, near, slow]).equal_words == "equal within 5 %: tokens"
    more = create_run(RunConfig(), "more")
    record(more, *steps_at(900, 0.9, 10))
    words = "equal within 5 %: neither tokens, time nor parameters"
    assert compare_runs([plain, more]).equal_words == words
    assert compare_runs([plain]).equal == ()


def test_no_runs_too_many_and_duplicates_are_refused() -> None:
    run = measured("a", {}, {})
    with pytest.raises(InputError, match="0 runs"):
        compare_runs([])
    with pytest.raises(InputError, match="cannot compare 27 runs: give 1 to 26"):
        compare_runs([run] * 27)
    with pytest.raises(InputError, match="a is given twice"):
        compare_runs([run, run])


def test_a_setting_changed_during_a_run_differs() -> None:
    plain, changed = measured("a", {}, {4: 4.0}), measured("b", {}, {4: 4.0})
    steer(changed, 1, 4, "optimizer.learning_rate", 3e-3, 0.00123456789)
    steer(changed, 2, 7, "optimizer.learning_rate", 0.00123456789, 5e-4)
    (setting,) = compare_runs([plain, changed]).settings
    assert setting.key == "optimizer.learning_rate"
    assert setting.values == ("0.003", "0.003, 0.00123456789 from step 5, 0.0005 from step 8")
    assert setting.found == (
        0.003,
        {
            "value": 0.003,
            "changed": [{"step": 5, "value": 0.00123456789}, {"step": 8, "value": 0.0005}],
        },
    )
    steer(plain, 1, 3, "evaluation.prompts", ["The"], ["A", "An 1"])
    prompts = compare_runs([plain, changed]).settings[-1]
    assert prompts.values[0].endswith("A; An 1 from step 4")
    with closing(RunMonitor(changed)) as monitor:
        snapshot = monitor.snapshot()
    assert config_at_start(snapshot.config, snapshot.changes) == changed.read_config()
    assert compare_runs([changed]).settings == ()


def test_results_on_the_test_set_are_labelled_so() -> None:
    test, validation = measured("a", {"evaluation.split": "test"}, {}), measured("b", {}, {4: 4.0})
    with RunLog(test, 1) as log:
        log.append(EvaluationRow(1, 4, "test", "test", 3.0, 1_000, 1.0, 0.5, 1_004.0))
    assert [
        row(compare_runs(runs), "best val ppl").label
        for runs in ([test], [validation], [test, validation])
    ] == [
        "best test ppl",
        "best val ppl",
        "best val or test ppl",
    ]
