"""Errors, exit codes and suggested names."""

from __future__ import annotations

import pytest

from rnnlm_tui.errors import (
    ConfigError,
    InputError,
    Problem,
    RnnlmError,
    StorageError,
    did_you_mean,
)


@pytest.mark.parametrize(
    ("typed", "suggested"),
    [
        ("deom", 'did you mean "demo"?'),
        ("nble", 'did you mean "noble-heron"?'),
        ("noble-hero", 'did you mean "noble-heron"?'),
        ("zzz", ""),
    ],
)
def test_a_mistyped_name_or_prefix_is_found(typed: str, suggested: str) -> None:
    assert did_you_mean(typed, ["demo", "elman", "noble-heron", "quiet-marten"]) == suggested


def test_a_config_error_lists_all_problems() -> None:
    error = ConfigError([Problem("a.b", "is 0", "1 … 3"), Problem("c", "unknown config key")])
    assert error.exit_code == InputError.exit_code == 2
    assert str(error) == "2 problems in the config:\n  a.b: is 0 (1 … 3)\n  c: unknown config key"


def test_an_error_shows_its_hint_on_a_separate_line() -> None:
    assert str(StorageError("the disk is full", hint="free some")) == "the disk is full\nfree some"
    assert (RnnlmError("failed").exit_code, str(RnnlmError("failed"))) == (1, "failed")
