"""Texts that end before a stop string."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnnlm_tui.worker.generation import StopStrings


@pytest.mark.parametrize(
    ("strings", "pieces", "expected"),
    [
        (("The end",), ("It was. Th", "e e", "nd. More", " text"), ("It was. ", "The end")),
        (("abcd", "bc"), ("xabcd",), ("xa", "bc")),
        (("c", "abc", "bc"), ("xabcd",), ("x", "abc")),
        ((), ("a", "", "b"), ("ab", "")),
    ],
)
def test_the_text_ends_before_the_first_complete_stop_string(
    strings: tuple[str, ...], pieces: tuple[str, ...], expected: tuple[str, str]
) -> None:
    stopping = StopStrings(strings)
    text = "".join([*map(stopping.push, pieces), stopping.flush()])
    assert (text, stopping.found) == expected


def test_a_possible_stop_string_is_held_back() -> None:
    stopping = StopStrings(("\n\n", "aab"))
    pieces = {"x": "x", "\n": "", "y": "\ny", "a": "", "aa": "a", "c": "aac", "\n ": "\n "}
    assert {piece: stopping.push(piece) for piece in pieces} == pieces
    assert (stopping.push("\n"), stopping.flush(), stopping.found) == ("", "\n", "")


def test_nothing_comes_after_a_stop_string() -> None:
    stopping = StopStrings((".",))
    assert [stopping.push("a.b"), stopping.push("c."), stopping.flush()] == ["a", "", ""]


@given(
    text=st.text("aab\n", max_size=40),
    strings=st.lists(st.text("ab\n", min_size=2, max_size=6), min_size=1, max_size=3),
    cuts=st.lists(st.integers(1, 4), min_size=40, max_size=40),
)
def test_the_pieces_make_no_difference(text: str, strings: list[str], cuts: list[int]) -> None:
    ends = [end for end in range(len(text) + 1) if text[:end].endswith(tuple(strings))]
    stops = [string for string in strings if ends and text[: ends[0]].endswith(string)]
    found = max(stops, key=len, default="")
    stopping, shown, position = StopStrings(strings), "", 0
    for step in cuts:
        shown += stopping.push(text[position : position + step])
        position += step
        if not stopping.found:
            held = text[:position].removeprefix(shown)
            assert shown + held == text[:position]
            assert not held or any(string.startswith(held) for string in strings)
    wanted = text[: ends[0] - len(found)] if ends else text
    assert (shown + stopping.flush(), stopping.found) == (wanted, found)
