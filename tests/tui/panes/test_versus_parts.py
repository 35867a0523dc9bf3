"""Side by side: differences of texts, scores, facts, layout and exports, without the app."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product

from textual.geometry import Region, Size

from rnnlm_tui.schema.config import SamplingConfig
from rnnlm_tui.schema.sampling import SampleDone
from rnnlm_tui.tui.views.prompt import LAST, NOW, CheckpointChoice
from rnnlm_tui.tui.views.side_facts import (
    TextScores,
    differences_markdown,
    fact_lines,
    score_chart,
    texts_markdown,
)
from rnnlm_tui.tui.views.text_differences import (
    TextScore,
    common_start,
    distinct_words,
    hunks,
    level,
    scored_spans,
)
from rnnlm_tui.tui.views.versus import Side, SideBySide, SideText, other_wanted, settings_line
from rnnlm_tui.tui.widgets.versus import VersusView, grid_columns, shown_sides, versus_arrangement
from tests.tui.panes.fakes import CHECKPOINTS, RUN, checkpoint
from tests.tui.test_inspect_views import inspection

PATHS = [row.path for row in CHECKPOINTS]


def side(wanted: str | None = None) -> Side:
    """A side of the run of the panes' tests."""
    choice = CheckpointChoice.of(RUN.name, CHECKPOINTS, wanted, living=True)
    return Side(RUN, choice, pinned=(3_000,), corpus="presidents")


def sampled(*texts: str, prompt: str = "We") -> tuple[SideBySide, list[SideText]]:
    """Sides with these texts, one token a word."""
    found = SideBySide([side(one) for one in (None, *PATHS)[: len(texts)]])
    drawn = [text for [text] in found.begin(prompt, SamplingConfig()).texts.values()]
    for one, text in zip(drawn, texts, strict=True):
        ids = tuple(sum(word.encode()) for word in text.split())
        done = SampleDone(
            id="1", reason="length", text=text, ids=ids, tokens=len(ids), prompt_tokens=1,
            seconds=0.2, first_token_seconds=0.1, bits_per_token=4.1,
        )  # fmt: skip
        one.take(done)
        one.asked = one.over = True
    return found, drawn


def test_texts_are_compared_by_whole_words_and_tokens_from_the_start() -> None:
    for texts, start in (
        ([" is strong, and the", " is strong, and they"], " is strong, and"),
        ([" is", " was"], ""),
        ([" same text ", " same text "], " same text "),
    ):
        assert common_start(*texts) == len(start)
    assert distinct_words("We, the people. The PEOPLE — we") == 3
    a = " is strong, and the Congress must act on the program now"
    b = " is strong, and it is a time to act on the program then"
    for one, other, differences in (
        (a, b, [("the Congress must", "it is a time to"), ("now", "then")]),
        (a, a, []),
        (a, "", [(a.strip(), "")]),
        (" a b x y c d e", " f g x y h d e", [("a b x y c d e", "f g x y h d e")]),
    ):
        found = hunks(one, other)
        assert [(one[slice(*span)], other[slice(*at)]) for span, at in found] == differences


def test_a_text_is_scored_in_the_smallest_pieces_that_both_models_read() -> None:
    parts = inspection(("", None), ("", 2.0), ("漢", 3.0), ("b", 1.0), sizes=(1, 1, 1, 1))
    for a, b, spans in (
        (
            inspection(("", None), ("The", 5.0), (" state", 3.0), (" of", 1.0)),
            inspection(("", None), ("The", 5.0), (" state", 1.0), (" of", 4.0)),
            [("The", 5.0, 5.0), (" state", 3.0, 1.0), (" of", 1.0, 4.0)],
        ),
        (  # two tokenizers
            inspection(("The", 2.0), (" st", 1.0), ("ate", 1.5), (" of", 1.0)),
            inspection(("T", 1.0), ("he", 1.0), (" state", 2.0), (" o", 0.5), ("f", 0.25)),
            [("The", 2.0, 2.0), (" state", 2.5, 2.0), (" of", 1.0, 0.75)],
        ),
        (  # a part of a character counts with the character
            inspection(("a", 1.0), ("", 2.0), ("é", 3.0), ("", 0.5)),
            inspection(("a", 1.0), ("é", 4.0)),
            [("a", 1.0, 1.0), ("é", 5.5, 4.0)],
        ),
        (parts, inspection(("漢", None), ("b", 4.0)), [("漢", None, None), ("b", 1.0, 4.0)]),
    ):
        assert [(one.text, one.a, one.b) for one in scored_spans(a, b)] == spans
    assert [level(bits) for bits in (0.0, 0.99, -1.0, 2.0, -4.0)] == [0, 0, 1, 2, 3]

    score = TextScore.of(
        inspection(("We", None), (" are", 2.0), (" all", 4.0), prompt_tokens=1), "We"
    )
    assert (score.bits, score.bits_per_token, score.bits_per_byte) == ((2.0, 4.0), 3.0, 6 / 8)
    whole = inspection(("W", 1.0), ("e a", 2.0), ("re all", 4.0))
    assert TextScore.of(whole, "We", whole=True).bits == (2.0, 4.0)
    whole = inspection(("W", 1.0), ("", 2.0), ("", 3.0), ("漢", 4.0), sizes=(1, 1, 1, 1))
    assert TextScore.of(whole, "W", whole=True).bits == (2.0, 3.0, 4.0)
    assert TextScore.of(parts, "").scored_share == 3 / 4
    assert math.isnan(TextScore((), ()).bits_per_token)
    _, [text] = sampled("get", prompt="We must ")
    assert text.done is not None
    text.samples[0].done = text.done.model_copy(update={"unread": 1, "repeated": " "})
    assert text.split() == ("We must", " get"), "a model never reads the blank at the end"


def test_two_sides_begin_with_the_best_and_a_pinned_or_the_oldest_checkpoint() -> None:
    only = [checkpoint(100, 4.0, best=True, last=True)]
    for rows, pinned, living, wanted in (
        (CHECKPOINTS, (), True, PATHS[0]),
        (CHECKPOINTS, (2_000, 3_000), True, PATHS[2]),
        (CHECKPOINTS, (3_700,), True, PATHS[0]),
        (only, (), True, NOW),
        (only, (), False, None),
        ((), (), True, NOW),
    ):
        assert other_wanted(rows, pinned, living=living) == wanted
    assert [side(wanted).mark for wanted in (None, PATHS[2], NOW)] == ["@best", "@pinned", "@now"]


def test_lines_say_what_a_text_is_and_the_settings_as_far_as_there_is_room() -> None:
    found, [text, _] = sampled(" is strong, and the Congress", " is")
    assert text.figures(60).plain == "5 tokens   40 tok/s   4.1 bits/token   seed 7"
    assert text.figures(34).plain == "5 tokens  40 tok/s  4.1 bits/token"
    assert text.figures(4).plain == "5 tokens"
    found.sides[0].choice = replace(found.sides[0].choice, wanted=LAST)
    assert "step 3,700" in text.figures(80).plain, "its own"
    greedy = settings_line(SamplingConfig(greedy=True, stop=("\n",)), 2, 50).plain
    assert greedy == "temperature greedy   top-p 0.95   stop \\n   max 100"
    columns = grid_columns(SamplingConfig(greedy=True))
    assert [one.temperature for one in columns] == [0.4, 0.7, 1.0, 1.3]


def test_texts_of_two_tokenizers_are_compared_by_bytes() -> None:
    found, texts = sampled(" is strong, and the", " is strong, and it")
    found.sides[0].tokenizer, found.sides[1].tokenizer = "aa", "bb"
    texts[1].scores[found.sides[0]] = score = TextScore((4.0, 4.0), (2, 2), 6)
    lines = [line.plain.rstrip() for line in fact_lines(found, (0, 1), 60)]
    assert "A scores B’s text 2.00 bits/byte of 67 % of the text" in lines
    assert "val ppl           A 58.1  B 87.1" in lines, "no star"
    for by_bytes, x, mean in ((True, [2.0, 4.0], [2.0, 2.0]), (False, [1.0, 2.0], [4.0, 4.0])):
        [series] = score_chart([(0, score)], by_bytes=by_bytes).series
        assert (list(series.x), list(series.mean)) == (x, mean)


def test_a_and_the_chosen_side_are_shown_where_not_all_fit_and_no_panel_covers_another() -> None:
    shown = {(80, 0): [0, 1], (100, 1): [0, 1, 2], (100, 3): [0, 2, 3], (40, 2): [2]}
    assert {case: shown_sides(case[0], 4, case[1]) for case in shown} == shown
    views: tuple[VersusView, ...] = ("texts", "differences", "grid")
    for width, height, view in product((60, 80, 120, 200), (5, 10, 16, 31, 51), views):
        size, sides = Size(width, height), shown_sides(width, 3, 1)
        regions = versus_arrangement(size, view, sides, upper=9, lower=30).values()
        assert sum(region.area for region in regions) == size.area
        assert all(Region(0, 0, *size).contains_region(region) for region in regions)


def test_exports_have_longer_fences_than_their_texts() -> None:
    found, _ = sampled(" ```\ncode", " was\x1b[31m", prompt="The | Union")
    text = texts_markdown(found)
    assert "## The | Union" in text
    assert "````text\nThe | Union ```\ncode\n````" in text
    assert "\x1b" not in text
    assert "### A plain-otter @best, step 3,700, val ppl 58.1\n\ntemperature 0.8   top-p" in text
    scores = TextScores(found)
    a, b = (
        inspection(("We", None), ("The", one), (" | state", other))
        for one, other in ((5.0, 3.0), (1.0, 4.0))
    )
    scores.take(a, b, wide=True)
    text = differences_markdown(scores)
    assert "## Bits per token, running mean: A 4.0   B 2.5" in text
    for words in ("better  A 1  B 1  of 2 tokens", "B  4.0   5.0   1.0", "A  1.0   3.0   4.0"):
        assert words in text
