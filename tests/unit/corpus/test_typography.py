"""Converting to ASCII and splitting into sentences."""

from __future__ import annotations

import pytest

from rnnlm_tui.corpus.builtin import fold_to_ascii, split_sentences


def test_typography_becomes_ascii_with_the_same_meaning() -> None:
    assert fold_to_ascii("“We’re—here…” 2½ café – naïve") == '"We\'re--here..." 2 1/2 cafe - naive'
    assert fold_to_ascii("漢字 ok") == " ok"


@pytest.mark.parametrize(
    ("paragraph", "sentences"),
    [
        ("We came. We saw! Did we? Yes.", ["We came.", "We saw!", "Did we?", "Yes."]),
        (
            "Mr. Speaker, Dr. King met J. Michael Johnson. He left.",
            ["Mr. Speaker, Dr. King met J. Michael Johnson.", "He left."],
        ),
        (
            "The U.S. Senate met. In the U.S. The sun rose.",
            ["The U.S. Senate met.", "In the U.S.", "The sun rose."],
        ),
        ('He said, "Let us begin." They began.', ['He said, "Let us begin."', "They began."]),
        ("It cost $3.5 million. 40 states paid.", ["It cost $3.5 million.", "40 states paid."]),
        ("Wait... Then go.", ["Wait...", "Then go."]),
        ("So do I. We agree.", ["So do I.", "We agree."]),
        ("one, e.g. this, ends here", ["one, e.g. this, ends here"]),
        ("", []),
    ],
)
def test_sentences_end_where_a_reader_would_end_them(paragraph: str, sentences: list[str]) -> None:
    assert split_sentences(paragraph) == sentences
