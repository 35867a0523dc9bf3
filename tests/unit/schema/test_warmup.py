"""A warm-up as long as the run: rejected if set by the user, shortened if from a preset."""

from __future__ import annotations

import pytest

from rnnlm_tui.errors import ConfigError
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.estimates import check_warmup, planned_warmup, warmup_note
from rnnlm_tui.schema.presets import PRESETS
from rnnlm_tui.schema.validation import merge, parse_assignments, parse_config


def config(*assignments: str, preset: str = "demo") -> RunConfig:
    return parse_config(merge(PRESETS[preset], parse_assignments(assignments)))


@pytest.mark.parametrize(
    ("steps", "planned"), [(30, 3), (100, 10), (101, 100), (9, 0), (1, 0), (5_000, 100)]
)
def test_a_presets_warm_up_is_a_tenth_of_a_shorter_run(steps: int, planned: int) -> None:
    wanted = config(f"training.max_steps={steps}")
    assert planned_warmup(wanted, steps) == planned
    assert bool(warmup_note(wanted, steps)) == (planned != 100)
    check_warmup(wanted, steps)


def test_a_shortened_warm_up_is_noted() -> None:
    shortened = (
        "warm-up shortened to 3 steps, a tenth of the run: the preset's warm-up has 100 steps, the"
        " run 30"
    )
    assert warmup_note(config("training.max_steps=30"), 30) == shortened
    assert (
        warmup_note(config("training.max_steps=5"), 5)
        == "no warm-up: the run has 5 steps, the preset's warm-up 100"
    )


def test_a_configured_warm_up_as_long_as_the_run_is_rejected() -> None:
    with pytest.raises(ConfigError) as caught:
        config("training.max_steps=30", "schedule.warmup_steps=30")
    (problem,) = caught.value.problems
    assert (problem.path, problem.message) == (
        "schedule.warmup_steps",
        "is 30, must be below the run's 30 steps",
    )
    assert problem.hint == "a tenth would be 3"


def test_a_configured_warm_up_is_checked_once_the_steps_are_known() -> None:
    chosen = config("schedule.warmup_steps=60000")
    check_warmup(chosen, 60_001)
    with pytest.raises(
        ConfigError,
        match=(
            r"schedule.warmup_steps: is 60,000, must be below the run's 3,230 steps \(a tenth would"
            r" be 323\)"
        ),
    ):
        check_warmup(chosen, 3_230)


def test_no_warm_up_fits_every_run() -> None:
    assert planned_warmup(config("schedule.warmup_steps=0", "training.max_steps=1"), 1) == 0
    check_warmup(PRESETS["book"], 1)
