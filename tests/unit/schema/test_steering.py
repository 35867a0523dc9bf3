"""Checks of a change while a run trains, and the order of its journal."""

from __future__ import annotations

import math
import random

import pytest
from pydantic import JsonValue

from rnnlm_tui.errors import ConfigError
from rnnlm_tui.schema.config import RunConfig, ScheduleConfig, TrainingConfig, value_of
from rnnlm_tui.schema.metrics import CommandRow
from rnnlm_tui.schema.protocol import Setting
from rnnlm_tui.schema.steering import (
    STEERABLE,
    JournalledChange,
    Position,
    changed_config,
    config_in_effect,
    journalled_change,
    kept_changes,
    next_to_undo,
    settings_of,
)

CONFIG = RunConfig(schedule=ScheduleConfig(warmup_steps=10))
HERE = Position(step=120, steps_per_epoch=50, warmup_steps=10)
VALUES: tuple[JsonValue, ...] = (
    None, True, 0, 1, -1, 5, 130, 10**12, 0.5, 1e-3, 25.0, -0.1, 1e300, math.nan, math.inf, "",
    "many", "5", [], ["We must"], ["We", 3], [["We"]], {}, {"every": 5},
)  # fmt: skip
KEYS = (*STEERABLE, "model.hidden_size", "training", "", "a.b", "training.patience.x", "\x1b")


def test_any_change_is_a_valid_config_or_names_a_changed_field() -> None:
    draw = random.Random(7)
    valid, refused = 0, list[tuple[dict[str, JsonValue], str]]()
    for _ in range(1_500):
        changes = {draw.choice(KEYS): draw.choice(VALUES) for _ in range(draw.randint(1, 3))}
        try:
            after = changed_config(CONFIG, changes, HERE)
        except ConfigError as error:
            refused += [(changes, problem.path) for problem in error.problems] or [(changes, "-")]
            continue
        valid += 1
        assert (after.training.max_steps or after.training.epochs * 50) > HERE.step
        assert {one.path for one in settings_of(CONFIG, after)} <= set(changes)
        values = {path: value_of(after, path) for path in changes}
        assert config_in_effect(CONFIG, values) == after
    assert valid > 50
    for changes, path in refused:
        assert any(path == key or path.startswith(f"{key}.") for key in changes), (changes, path)


@pytest.mark.parametrize(
    ("changes", "path", "words"),
    [
        ({"training.max_steps": 120}, "training.max_steps", "is 120, must be above step 120"),
        ({"training.epochs": 2}, "training.epochs", "is 2, which makes 100 steps, must be above"),
        ({"optimizer.learning_rate": 2}, "optimizer.learning_rate", "must be at most 1"),
        ({"evaluation.every": -1}, "evaluation.every", "must be at least 0"),
        ({"evaluation.prompts": "We"}, "evaluation.prompts", "must be a list of texts"),
        ({"checkpoint.every": None}, "checkpoint.every", "has no value"),
        ({"model.hidden_size": 9}, "model.hidden_size", "can't change while the run trains"),
        ({"training.patienc": 9}, "training.patienc", "unknown config key"),
    ],
)
def test_a_problem_is_at_its_field(changes: dict[str, JsonValue], path: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        changed_config(CONFIG, changes, HERE)
    (problem,) = caught.value.problems
    assert problem.path == path
    assert words in problem.message
    assert "--set" not in str(problem)


def test_all_problems_come_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        changed_config(CONFIG, {"model.dropout": 2, "evaluation.every": "often"}, HERE)
    assert {problem.path for problem in caught.value.problems} == {
        "model.dropout",
        "evaluation.every",
    }


def test_epochs_have_no_effect_beside_max_steps() -> None:
    config = RunConfig(
        training=TrainingConfig(max_steps=500), schedule=ScheduleConfig(warmup_steps=10)
    )
    with pytest.raises(ConfigError, match=r"training\.max_steps is 500"):
        changed_config(config, {"training.epochs": 9}, HERE)
    after = changed_config(config, {"training.max_steps": None, "training.epochs": 9}, HERE)
    assert (after.training.max_steps, after.training.epochs) == (None, 9)


def test_a_run_in_its_warm_up_stays_longer_than_it() -> None:
    with pytest.raises(ConfigError, match="must be above the warm-up's 100 steps"):
        changed_config(RunConfig(), {"training.epochs": 2}, Position(20, 50, 100))


def change(
    number: int, step: int, *, undoes: int = 0, discards: tuple[int, ...] = ()
) -> JournalledChange:
    setting = Setting(path="training.patience", old=number - 1, new=number)
    return JournalledChange(
        number=number, step=step, settings=(setting,), undoes=undoes, discards=discards, time=number
    )


def test_undo_goes_back_change_by_change() -> None:
    journal = [change(1, 5), change(2, 8)]
    assert next_to_undo(journal) == journal[1]
    journal.append(change(3, 9, undoes=2))
    assert next_to_undo(journal) == journal[0]
    journal.append(change(4, 9))
    assert next_to_undo(journal) == journal[3]
    journal += [change(5, 9, undoes=4), change(6, 9, undoes=1)]
    assert next_to_undo(journal) is None


def test_discarded_changes_no_longer_count() -> None:
    journal = [change(1, 5), change(2, 80), change(3, 40, discards=(2,))]
    assert [one.number for one in kept_changes(journal)] == [1, 3]


def test_a_command_is_a_change_if_it_was_carried_out() -> None:
    settings = [{"path": "training.patience", "old": 0, "new": 3}]
    made = {"number": 3, "step": 7, "settings": settings, "undoes": 2, "discards": [1]}
    result: dict[str, object] = {"id": "a", "ok": True, "step": 7, "change": made}
    row = CommandRow(1, "a", "set", {"who": "alex"}, result, 5.0)
    setting = Setting(path="training.patience", old=0, new=3)
    assert journalled_change(row) == JournalledChange(
        number=3, step=7, settings=(setting,), undoes=2, discards=(1,), time=5.0, who="alex"
    )
    for wrong in ({**result, "ok": False}, {**result, "change": None}, {**result, "ok": "x"}, {}):
        assert journalled_change(row._replace(result=wrong)) is None


@pytest.mark.parametrize(
    "settings",
    [{}, {"model.dropout": 9}, {"a": 1}, {"training.patience": "many"}, {"training": None}],
)
def test_a_damaged_fact_changes_nothing(settings: dict[str, JsonValue]) -> None:
    assert config_in_effect(CONFIG, settings) == CONFIG
