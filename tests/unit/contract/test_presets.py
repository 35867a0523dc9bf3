"""The presets, and the tree of errors."""

from __future__ import annotations

import pytest

from rnnlm_tui import errors
from rnnlm_tui.contract.metrics import perplexity
from rnnlm_tui.contract.presets import PRESET_SUMMARIES, PRESETS, preset
from rnnlm_tui.errors import ConfigError, InputError, Problem, RnnlmError, near_names


def test_every_preset_has_a_line_of_its_own() -> None:
    assert set(PRESETS) == set(PRESET_SUMMARIES) == {"demo", "elman", "book"}


def test_an_unknown_preset_names_those_there_are() -> None:
    with pytest.raises(InputError) as caught:
        preset("deom")
    assert "demo, elman, book" in caught.value.message
    assert caught.value.hint == 'did you mean "demo"?'


def test_every_error_has_a_documented_exit_code() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, RnnlmError)]
    assert len(kinds) > 10
    for kind in kinds:
        assert kind.__name__ in (errors.__doc__ or "")
        assert kind.exit_code in (1, 2, 3, 4, 5)
    assert {kind.exit_code for kind in kinds if issubclass(kind, InputError)} == {2}


def test_a_config_error_lists_all_its_problems() -> None:
    error = ConfigError([Problem("a.b", "is 1", "try 2"), Problem("c.d", "is 3")])
    assert str(error) == "2 problems in the config:\n  a.b: is 1 (try 2)\n  c.d: is 3"


def test_near_names_are_near() -> None:
    assert near_names("brisk-hern", ["brisk-heron", "plain-otter"]) == 'did you mean "brisk-heron"?'
    assert near_names("zzz", ["brisk-heron"]) == ""


def test_perplexity_of_a_huge_loss_is_infinite() -> None:
    assert perplexity(0.0) == 1.0
    assert perplexity(1e6) == float("inf")
