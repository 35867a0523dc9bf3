"""Every config field with values of every kind, and damaged config files."""

from __future__ import annotations

import pytest

from rnnlm_tui.errors import ConfigError
from rnnlm_tui.schema.validation import allowed_range, field_paths, parse_config

pytestmark = pytest.mark.fault(
    "an endless prompt, a corpus without text, an impossible config or name"
)

HUGE = (10**30, 1e30)
WRONG: tuple[object, ...] = (
    0,
    -1,
    -1e-9,
    10**9,
    *HUGE,
    10**400,
    1.5,
    float("nan"),
    float("inf"),
    -float("inf"),
    "x",
    "",
    "1",
    True,
    None,
    [],
    [1],
    {},
    {"a": 1},
    "\udcff",
    "x" * 10_000,
)
"""Values of every kind; most are invalid for most fields."""


@pytest.mark.parametrize("path", field_paths())
def test_any_value_of_a_field_is_accepted_unchanged_or_rejected_by_path(path: str) -> None:
    section, _, name = path.partition(".")
    reported: list[tuple[object, ConfigError]] = []
    for value in WRONG:
        try:
            config = parse_config({section: {name: value}})
        except ConfigError as error:
            reported.append((value, error))
        else:
            taken = getattr(getattr(config, section), name)
            assert taken == value or (isinstance(value, list) and list(taken) == value), value
    assert len(reported) >= 8, "the field accepts some kind of value that it shouldn't"
    for value, refusal in reported:
        assert any(
            problem.path.startswith(path) or section in problem.path for problem in refusal.problems
        ), value
        assert all(
            problem.message and "validation error" not in problem.message
            for problem in refusal.problems
        )
        own = [problem for problem in refusal.problems if problem.path == path]
        if allowed_range(path) and any(value is huge for huge in HUGE):
            assert [problem.hint.partition(";")[0] for problem in own] == [allowed_range(path, {})]
