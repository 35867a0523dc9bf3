"""The data of Inspect: tokens in cells, scored texts, states, reach in words, and export."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations, product, starmap, zip_longest

import pytest
from textual.geometry import Region, Size

from rnnlm_tui.errors import InputError
from rnnlm_tui.schema.config import SamplingConfig
from rnnlm_tui.schema.sampling import (
    GradientReach,
    InspectedToken,
    Inspection,
    InspectRequest,
)
from rnnlm_tui.tui.screens.inspect import VIEWS, inspect_places
from rnnlm_tui.tui.text import graphemes
from rnnlm_tui.tui.views.inspect import (
    ALONE,
    ScoredText,
    bits_of,
    branched,
    lay_out,
    probability,
    reach_brief,
    reach_words,
    token_label,
)
from rnnlm_tui.tui.views.sample_tree import Sample, Weights
from tests.fakes import answers

HOSTILE = (
    "", "\x1b[31m", "\x00", "e", "\u0301", "日本", "語", "שלום", " ", "👩", "\u200d", "🚀", "\n",
    "\n\n", "\t", " a", "\u202e", "x" * 200, "   ", "", "‌", "👍🏽", "\r\n", "[@click=app.quit]",
)  # fmt: skip


def inspection(
    *tokens: tuple[str, float | None], prompt_tokens: int = 0, sizes: Sequence[int] = ()
) -> Inspection:
    """A text of these tokens with their bits, and perhaps other bytes than their texts have."""
    known = [bits for _, bits in tokens if bits is not None]
    found = zip_longest(range(10, 10 + len(tokens)), tokens, sizes)
    read = tuple(
        InspectedToken(token=token, text=text, bits=bits, bytes=size or len(text.encode()))
        for token, (text, bits), size in found
    )
    mean = sum(known) / len(known) if known else math.nan
    plain = answers.inspection(InspectRequest(id="1", checkpoint="/c", prompt="a"))
    changes = {"tokens": read, "prompt_tokens": prompt_tokens, "bits_per_token": mean}
    return plain.model_copy(update=changes)


SOURCE = Sample(
    "a b", SamplingConfig(max_new_tokens=4), Weights("otter", "/c", 5), (1, 2, 3, 4), " c d e f",
    parent=3, shared=1, number=7,
)  # fmt: skip
"""A text of six tokens, four of them generated."""


def scored(*texts: str, bits: Sequence[float | None] = (), prompt_tokens: int = 1) -> ScoredText:
    """A scored text; the first token isn't predicted."""
    tokens = zip(texts, bits or (None, *map(float, range(1, len(texts)))), strict=True)
    return ScoredText(inspection(*tokens, prompt_tokens=prompt_tokens), SOURCE)


def test_every_token_has_cells_of_its_own_and_nothing_drawn_acts_on_a_terminal() -> None:
    for width in (1, 2, 7, 30, 400):
        layout = lay_out(HOSTILE, width)
        assert len(layout.places) == len(HOSTILE)
        firsts, drawn = set(), ""
        for at, line in enumerate(layout.lines):
            used = 0
            for run in line:
                assert run.column == used
                assert run.width == sum(cells for _, cells in graphemes(run.text)) > 0
                firsts.add((at, used))
                used += run.width
                drawn += run.text
            assert used <= max(width, 2), "a wide sign needs two cells"
        assert set(layout.places) <= firsts
        acting = [sign for sign in drawn if ord(sign) < 32 or 0x7F <= ord(sign) < 0xA0]
        assert not acting
        assert "\u202e" not in drawn


def test_words_stay_on_one_line_and_what_has_no_sign_gets_one() -> None:
    for texts, width, lines in (
        ((" a", " great", " respons", "ibil", "ity", " to"), 16,
            ["a great", "responsibility", "to"]),
        (("a", "\n", " b", "\n\n", "c"), 40, ["a↵", "b↵", "↵", "c"]),
        (("", "", "😀"), 9, ["▸‥😀"]),  # the start, and a part of a character
        (("e", "\u0301"), 9, ["e◌\u0301"]),
        (("\u200d",), 9, ["‥"]),
    ):  # fmt: skip
        found = ["".join(run.text for run in line).strip() for line in lay_out(texts, width).lines]
        assert found == lines
    assert (token_label(" a\n"), token_label("  ")) == (" a↵", "··")


def test_a_scored_text_knows_its_mean_and_the_ids_after_a_context() -> None:
    text = scored("a", "b", "c", "d", bits=(None, 6.0, 1.0, 5.0))
    assert [text.mean_at(token) for token in range(5)] == ["–", "6.0", "3.5", "4.0", "4.0"]
    assert scored("", "the", " cat", " sat").ids_after("the") == (12, 13)
    assert scored("the", " cat").ids_after("the c") is None
    assert scored("", "cat").ids_after("") == (11,)


def test_a_branch_keeps_what_is_before_it_and_has_the_length_of_the_text() -> None:
    text = scored("a", " b", " c", " d", " e", " f", prompt_tokens=2)
    for position, missing in ((3, 2), (6, 4), (1, 3)):  # at the end the usual number
        drawing = branched(text, position, (9,), " x")
        start = drawing.wanted
        assert start.whole == "".join(text.texts[:position]) + " x"
        assert (start.ids, start.parent) == ((*SOURCE.ids[: max(0, position - 2)], 9), 7)
        assert drawing.request.settings.max_new_tokens == missing
    alone = ScoredText(text.answer, replace(SOURCE, number=ALONE))
    assert branched(alone, 3, (9,), " x").wanted.parent is None
    with pytest.raises(InputError, match="inside a character"):
        branched(scored("a", "", "😀", " b", prompt_tokens=4), 2, (9,), "x")


GONE = "gradient below 1 % of lag 0 from lag"


def test_the_reach_is_said_in_words() -> None:
    for norms, words, brief in (
        ((1.0, 0.5, 0.001, 0.0005), f"{GONE} 2 (“b”) on", "from lag 2"),
        ((1.0, 0.001, 0.5), "gradient still 50 % of lag 0 at lag 2", "not up to lag 2"),
        ((1.0,), "there is only one token before it", "no gradient"),
        ((0.0, 0.0), "no gradient", "no gradient"),
        ((), "no gradient", "no gradient"),
    ):
        reach = GradientReach(id="1", position=4, norms=norms)
        assert reach_words(reach, ("a", " b", " c", " d", " e")) == words
        assert reach_brief(reach) == brief


def test_probabilities_have_few_digits() -> None:
    values = (1, "100.0 %"), (0.0059, "0.59 %"), (0.00009, "9e-03 %"), (0, "0 %")
    assert [probability(value) for value, _ in values] == [words for _, words in values]
    assert [bits_of(value) for value in (0.5, 0)] == ["1.0", "∞"]


def test_widgets_never_overlap_and_fit_the_body() -> None:
    sizes = ((60, 12), (80, 21), (109, 36), (120, 37), (300, 100))
    for size, view, alone in product(starmap(Size, sizes), VIEWS, (False, True)):
        places = inspect_places(size, view, alone=alone).values()
        assert sum(region.area for region in places) == size.area
        assert all(Region(0, 0, *size).contains_region(region) for region in places)
        assert not any(one.overlaps(other) for one, other in combinations(places, 2))
