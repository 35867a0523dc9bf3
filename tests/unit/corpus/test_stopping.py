"""Stop strings end a text, in whatever pieces it is generated."""

from __future__ import annotations

import random

import pytest

from rnnlm_tui.corpus.codec import StopStrings
from rnnlm_tui.errors import InputError


def ended(strings: tuple[str, ...], *pieces: str) -> tuple[str, str]:
    """The text that passed, and the stop string that ended it."""
    stopping = StopStrings(strings)
    return "".join([*map(stopping.push, pieces), stopping.flush()]), stopping.found


def test_the_text_ends_before_a_stop_string_that_straddles_pieces() -> None:
    assert ended(("The end",), "It was. Th", "e e", "nd. More", " text") == ("It was. ", "The end")


def test_a_possible_stop_string_is_held_back() -> None:
    stopping = StopStrings(("\n\n", "aab"))
    assert [stopping.push(piece) for piece in ("x", "\n", "y", "a", "a", "a", "c", "\n")] == [
        "x",
        "",
        "\ny",
        "",
        "",
        "a",
        "aac",
        "",
    ]
    assert stopping.flush() == "\n"
    assert stopping.found == ""


def test_the_first_complete_stop_string_ends_the_text() -> None:
    assert ended(("abcd", "bc"), "xabcd") == ("xa", "bc")
    assert ended(("c", "abc", "bc"), "xabcd") == ("x", "abc")


def test_nothing_comes_after_a_stop_string() -> None:
    stopping = StopStrings((".",))
    assert [stopping.push("a.b"), stopping.push("c."), stopping.flush()] == ["a", "", ""]


def test_without_stop_strings_text_passes_immediately() -> None:
    assert ended((), "a", "", "b") == ("ab", "")


def test_an_empty_stop_string_is_rejected() -> None:
    with pytest.raises(InputError, match="empty"):
        StopStrings(("a", ""))


@pytest.mark.parametrize("seed", range(60))
def test_the_pieces_make_no_difference(seed: int) -> None:
    draw = random.Random(seed)
    text = "".join(draw.choice("aab\n") for _ in range(40))
    strings = tuple(
        "".join(draw.choice("aab\n") for _ in range(draw.randrange(2, 7)))
        for _ in range(draw.randrange(1, 4))
    )
    ends = [end for end in range(1, 41) if text[:end].endswith(strings)]
    found = max(
        (string for string in strings if ends and text[: ends[0]].endswith(string)),
        key=len,
        default="",
    )
    stopping, shown, position = StopStrings(strings), "", 0
    while position < len(text):
        step = draw.randrange(1, 5)
        shown += stopping.push(text[position : position + step])
        position += step
        known = text[:position]
        if not stopping.found:
            held = known[len(shown) :]
            assert known == shown + held
            assert not held or any(string.startswith(held) for string in strings)
    assert (shown + stopping.flush(), stopping.found) == (
        text[: ends[0] - len(found)] if ends else text,
        found,
    )
