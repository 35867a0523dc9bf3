"""The data of the side-by-side pane: differences of texts, scores, facts, layout and exports."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from unittest.mock import AsyncMock

import pytest
from textual.geometry import Region, Size

from rnnlm_tui.errors import InputError
from rnnlm_tui.schema.config import SamplingConfig
from rnnlm_tui.schema.sampling import Inspection, InspectRequest, SampleDone
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.tui.screens.pane import PaneScreen
from rnnlm_tui.tui.side_requests import SideRequests
from rnnlm_tui.tui.views.prompt import LAST, NOW, CheckpointChoice
from rnnlm_tui.tui.views.sample_grid import Grid, temperatures
from rnnlm_tui.tui.views.side_facts import fact_lines, facts, score_chart
from rnnlm_tui.tui.views.text_differences import (
    TextScore,
    common_start,
    distinct_words,
    hunks,
    largest,
    level,
    same_tokens,
    scored_spans,
    totals,
)
from rnnlm_tui.tui.views.versus import (
    Side,
    SideBySide,
    SideText,
    default_wanted,
    legends,
    settings_line,
    status_line,
    status_parts,
    title,
)
from rnnlm_tui.tui.views.versus_export import differences_markdown, grid_markdown, texts_markdown
from rnnlm_tui.tui.widgets.versus import shown_sides, versus_arrangement
from tests.tui.panes.fakes import CHECKPOINTS, RUN, checkpoint
from tests.tui.test_inspect_views import inspection


def side(wanted: str | None = None, run: RunDirectory = RUN, *, living: bool = True) -> Side:
    """A side of the run of the panes' tests."""
    choice = CheckpointChoice.of(run.name, CHECKPOINTS, wanted, living=living)
    return Side(run, choice, corpus="presidents")


def sampled(*texts: str, prompt: str = "We", **settings: object) -> SideBySide:
    """Sides with these texts, one token a word."""
    wanted = (None, CHECKPOINTS[0].path, CHECKPOINTS[1].path, CHECKPOINTS[2].path)
    found = SideBySide([side(wanted[place]) for place in range(len(texts))])
    asked = found.begin(prompt, SamplingConfig.model_validate(settings))
    for place, text in enumerate(texts):
        ids = tuple(sum(word.encode()) for word in text.split())
        done = SampleDone(
            id="1", reason="length", text=text, ids=ids, tokens=len(ids), prompt_tokens=1,
            seconds=0.2, first_token_seconds=0.1, bits_per_token=4.1,
        )  # fmt: skip
        newest_of = found.sides[place].texts[asked.number]
        newest_of.take(done)
        newest_of.asked = newest_of.over = True
    return found


def shown(found: SideBySide, places: Sequence[int], width: int, unit: str = "") -> list[str]:
    """The lines of facts about sides."""
    return [line.plain.rstrip() for line in fact_lines(facts(found, places), width, unit)]


def newest(found: SideBySide, place: int) -> SideText:
    """A side's newest text."""
    text = found.text(place)
    assert text is not None
    assert text.done is not None
    return text


# texts


def test_texts_are_compared_by_whole_words_and_tokens_from_the_start() -> None:
    for texts, start in (
        ([" is strong, and the", " is strong, and they"], " is strong, and"),
        ([" is", " was"], ""),
        ([" same text ", " same text "], " same text "),
        ([" one text"], ""),
        ([" a b c", " a b d", " a x"], " a"),
    ):
        assert common_start(texts) == len(start)
    for one, other, same in (((1, 2, 3), (1, 2, 4), 2), ((1, 2), (1, 2, 3), 2), ((), (1,), 0)):
        assert same_tokens(one, other) == same
    assert distinct_words("We, the people. The PEOPLE — we") == 3


def test_hunks_are_the_places_where_words_differ_with_no_few_equal_words_between() -> None:
    a = " is strong, and the Congress must act on the program now"
    b = " is strong, and it is a time to act on the program then"
    found = hunks(a, b)
    assert [(a[slice(*one)], b[slice(*other)]) for one, other in found] == [
        ("the Congress must", "it is a time to"),
        ("now", "then"),
    ]
    assert hunks(a, a) == []
    assert [(a[slice(*one)], ""[slice(*other)]) for one, other in hunks(a, "")] == [(a.strip(), "")]
    [found_once] = hunks(" a b x y c d e", " f g x y h d e")
    assert found_once[0] == (1, len(" a b x y c d e"))


# surprise of one text


SPANS = {
    "the same tokens one by one": (
        inspection(("", None), ("The", 5.0), (" state", 3.0), (" of", 1.0)),
        inspection(("", None), ("The", 5.0), (" state", 1.0), (" of", 4.0)),
        [("The", 5.0, 5.0), (" state", 3.0, 1.0), (" of", 1.0, 4.0)],
    ),
    "two tokenizers up to a common end": (
        inspection(("The", 2.0), (" st", 1.0), ("ate", 1.5), (" of", 1.0)),
        inspection(("T", 1.0), ("he", 1.0), (" state", 2.0), (" o", 0.5), ("f", 0.25)),
        [("The", 2.0, 2.0), (" state", 2.5, 2.0), (" of", 1.0, 0.75)],
    ),
    "a part of a character with the character": (
        inspection(("a", 1.0), ("", 2.0), ("é", 3.0), ("", 0.5)),
        inspection(("a", 1.0), ("é", 4.0)),
        [("a", 1.0, 1.0), ("é", 5.5, 4.0)],
    ),
    "a character whose first part nothing predicts": (
        inspection(("", None), ("", 2.0), ("漢", 3.0), ("b", 1.0), sizes=(1, 1, 1, 1)),
        inspection(("漢", None), ("b", 4.0)),
        [("漢", None, None), ("b", 1.0, 4.0)],
    ),
    "a token that nothing predicts": (
        inspection(("a", None), ("b", 1.0)),
        inspection(("a", 2.0), ("b", 1.0)),
        [("a", None, 2.0), ("b", 1.0, 1.0)],
    ),
}


@pytest.mark.parametrize(("a", "b", "spans"), SPANS.values(), ids=SPANS)
def test_a_text_is_compared_by_the_smallest_pieces_that_both_models_read(
    a: Inspection, b: Inspection, spans: list[tuple[str, float | None, float | None]]
) -> None:
    found = scored_spans(a, b)
    assert [(one.text, one.a, one.b) for one in found] == spans
    known = [(one, other) for _, one, other in spans if one is not None and other is not None]
    sums = totals(found)
    assert (sums.pieces, sums.a) == (len(known), sum(one for one, _ in known))
    assert sums.better_a == sum(one - other <= -1 for one, other in known)
    assert sums.better_b == sum(one - other >= 1 for one, other in known)


def test_a_difference_has_a_level_from_one_bit_and_the_largest_come_first() -> None:
    assert [level(bits) for bits in (0.0, 0.99, -1.0, 2.0, -4.0)] == [0, 0, 1, 2, 3]
    a, b, _ = SPANS["the same tokens one by one"]
    assert largest(scored_spans(a, b), 9) == [2, 1]


def test_different_texts_are_refused_with_the_reason() -> None:
    with pytest.raises(InputError, match="read this text differently"):
        scored_spans(inspection(("café", 1.0)), inspection(("caf<unk>", 1.0)))


def test_a_difference_has_a_level_from_one_bit() -> None:
    assert [level(bits) for bits in (0.0, 0.99, -1.0, 2.0, -4.0)] == [0, 0, 1, 2, 3]


def test_a_score_is_of_the_tokens_after_the_prompt_with_all_parts_of_a_character() -> None:
    by_ids = TextScore.of(
        inspection(("We", None), (" are", 2.0), (" all", 4.0), prompt_tokens=1), "We"
    )
    assert (by_ids.bits, by_ids.bits_per_token, by_ids.bits_per_byte) == ((2.0, 4.0), 3.0, 6 / 8)
    for tokens, sizes, prompt, bits in (
        ((("W", 1.0), ("e a", 2.0), ("re all", 4.0)), (), "We", (2.0, 4.0)),
        ((("W", 1.0), ("", 2.0), ("", 3.0), ("漢", 4.0)), (1, 1, 1, 1), "W", (2.0, 3.0, 4.0)),
        ((("漢", 1.0), ("", 2.0), ("é", 3.0)), (3, 1, 1), "漢", (2.0, 3.0)),
    ):
        assert TextScore.of(inspection(*tokens, sizes=sizes), prompt, whole=True).bits == bits
    a, _, _ = SPANS["a character whose first part nothing predicts"]
    assert TextScore.of(a, "").scored_share == 3 / 4
    assert math.isnan(TextScore((), ()).bits_per_token)


async def test_a_text_is_scored_without_the_blank_that_its_prompt_ends_with() -> None:
    found = sampled("get", "got", prompt="We must ")
    found.sides[0].tokenizer, found.sides[1].tokenizer = "aa", "bb"
    text = newest(found, 0)
    assert text.done is not None
    text.samples[0].done = text.done.model_copy(update={"unread": 1, "repeated": " "})
    asked: list[InspectRequest] = []

    async def ask(request: InspectRequest, _: object) -> Inspection:
        asked.append(request)
        return inspection(("We must", 1.0), (" get", 2.0))

    warm = AsyncMock(return_value=SimpleNamespace(start=AsyncMock(), ask=ask))
    context = SimpleNamespace(context=SimpleNamespace(warm_sampler=warm))
    requests = SideRequests(cast(PaneScreen, context))
    await requests.score(found, found.rounds[0], 0, 1)
    assert (text.scores[1].bits, text.scores[1].bytes) == ((2.0,), (4,))
    await requests.score_pair(found, text)
    assert [request.prompt for request in asked] == ["We must get", "We must "], "one is known"
    text.samples[0].done = text.done.model_copy(update={"repeated": ""})
    text.samples[0].text = ", "
    await requests.score(found, found.rounds[0], 0, 1)
    assert asked[-1].prompt == "We must, "


# sides


def test_two_sides_begin_with_the_best_and_a_pinned_or_the_oldest_checkpoint() -> None:
    paths = [row.path for row in CHECKPOINTS]
    assert default_wanted(CHECKPOINTS, (), living=True) == (None, paths[0])
    assert default_wanted(CHECKPOINTS, (2_000, 3_000), living=True) == (None, paths[2])
    assert default_wanted(CHECKPOINTS, (3_700,), living=True) == (None, paths[0])
    only = [checkpoint(100, 4.0, best=True, last=True)]
    assert default_wanted(only, (), living=True) == (None, NOW)
    assert default_wanted(only, (), living=False) == (None, None)
    assert default_wanted((), (), living=True) == (None, NOW)


def test_a_side_is_named_by_run_mark_and_step() -> None:
    best, pinned, now, last = side(), side(CHECKPOINTS[2].path), side(NOW), side(LAST)
    pinned.pinned = (3_000,)
    assert [one.mark for one in (best, pinned, now, last)] == ["@best", "@pinned", "@now", "@last"]
    assert best.label() == "plain-otter @best, step 3,700"
    assert now.label() == "plain-otter @now, current weights"
    assert title(best, 0, 60, marked=False).plain == "A plain-otter @best"
    assert title(best, 0, 14, marked=False).plain == "A plain… @best"
    assert [form.plain for form in legends(best)] == ["step 3,700, val 58.1", "step 3,700", "3,700"]
    assert [form.plain for form in legends(last)] == ["step 3,750", "3,750"]
    assert [form.plain for form in legends(now)] == ["current weights"]
    now.snapshot = (3_712, 0.0)
    assert legends(now)[0].plain.startswith("step 3,712, ")
    assert legends(now)[0].plain.endswith(" ago")


def test_a_deleted_checkpoint_is_named_and_never_replaced() -> None:
    gone = side("checkpoints/step-000000500")
    assert gone.problem == "step 500 was deleted: {key:next_checkpoint} chooses another checkpoint"
    assert (legends(gone)[0].plain, gone.mark) == ("step 500, deleted", "")


def test_a_third_side_is_removed_with_its_scores_and_a_fifth_is_not_added() -> None:
    found = sampled(" one", " two", " three")
    text = newest(found, 2)
    text.scores = {0: TextScore((1.0,), (1,)), 1: TextScore((2.0,), (1,)), 2: TextScore((), ())}
    found.chosen = 1
    assert found.remove()
    assert newest(found, 1) is text
    assert {place: score.bits for place, score in text.scores.items()} == {0: (1.0,), 1: ()}
    assert found.chosen == 1
    assert not found.remove()
    assert [found.add(side()) for _ in range(3)] == [True, True, False]
    assert (len(found.sides), found.pair) == (4, (0, 3))


def test_the_status_says_what_a_text_is() -> None:
    found = sampled(" is strong, and the Congress", " is")
    asked, first = found.rounds[0], found.sides[0]
    parts = status_parts(first, asked, 0, by_bytes=False)
    for room, line in (
        (60, "5 tokens   40 tok/s   4.1 bits/token   seed 7"),
        (34, "5 tokens  40 tok/s  4.1 bits/token"),
        (4, "5 tokens"),
    ):
        assert status_line(parts, room).plain == line
    first.choice = replace(first.choice, wanted=LAST)
    assert status_parts(first, asked, 0, by_bytes=False)[1].plain == "step 3,700"
    for tokens, words in ((0, "● loading …"), (1, "● 1 of 100 tokens")):
        first.texts[asked.number] = text = SideText(first, "We", asked.settings)
        text.asked, text.samples[0].tokens = True, tokens
        assert [one.plain for one in status_parts(first, asked, 0, by_bytes=False)] == [words]


def test_the_settings_are_one_line_that_drops_what_is_off() -> None:
    settings = SamplingConfig(top_k=40, stop=("\n",))
    assert settings_line(settings, sides=2, random_seed=False, room=140).plain == (
        "temperature 0.8   top-p 0.95   top-k 40   min-p off   stop \\n   max 100   seed 7, the"
        " same for both"
    )
    narrow = settings_line(SamplingConfig(), sides=3, random_seed=True, room=70).plain
    assert narrow == "temperature 0.8   top-p 0.95   max 100   seed random, the same for all"
    greedy = settings_line(SamplingConfig(greedy=True), sides=2, random_seed=False, room=70).plain
    assert greedy.startswith("temperature greedy")
    assert "seed" not in greedy


# facts


def test_facts_of_two_sides_and_their_marked_difference() -> None:
    found = sampled(" is strong, and the Congress", " is strong, and it is it")
    for owner, scorer, bits in ((0, 1, 4.9), (1, 0, 4.6)):
        newest(found, owner).scores[scorer] = TextScore((bits, bits), (3, 3))
    assert shown(found, (0, 1), 46) == [
        "same start        3 tokens “is strong, and”",
        "then              A the     B it",
        "A scores B’s text 4.6 bits/token",
        "B scores A’s text 4.9 bits/token",
        "val ppl           A 58.1 ★  B 87.1",
        "distinct words    A 5       B 4",
    ]
    found.difference = 0
    assert shown(found, (0, 1), 46)[1:3] == [
        "differs 1 of 1    A the Congress",
        " " * 18 + "B it is it",
    ]
    assert found.marked(0) == (len(" is strong, and "), len(" is strong, and the Congress"))


def test_facts_of_three_sides_are_a_table_and_of_a_pair_lines() -> None:
    found = sampled(" is strong, and the", " is strong, and it", " is strong, or not")
    for owner, scorer in product(range(3), repeat=2):
        bits = 4.0 + owner + scorer / 10
        newest(found, owner).scores[scorer] = TextScore((bits,), (3,))
    assert shown(found, range(3), 50, "bits/token") == [
        "same start     3 tokens “is strong, and”",
        "then           A the     B it",
        "bits/token     A       B     C",
        "A scores       4.0     5.0   6.0",
        "B scores       4.1     5.1   6.1",
        "C scores       4.2     5.2   6.2",
        "val ppl        58.1 ★  87.1  67.2",
        "distinct words 4       4     4",
    ]
    found.chosen = 2
    assert shown(found, found.pair, 38)[:4] == [
        "same start        2 tokens",
        "then              A and     C or",
        "A scores C’s text 6.0 bits/token",
        "C scores A’s text 4.2 bits/token",
    ]


def test_different_tokenizers_are_compared_by_bytes_and_without_a_star() -> None:
    found = sampled(" is strong, and the", " is strong, and it")
    found.sides[0].tokenizer, found.sides[1].tokenizer = "aa", "bb"
    text = newest(found, 1)
    text.scores[0] = TextScore((4.0, 4.0), (2, 2), 4)
    assert shown(found, (0, 1), 46) == [
        "same start        3 words “is strong, and”",
        "then              A the   B it",
        "A scores B’s text 2.00 bits/byte",
        "val ppl           A 58.1  B 87.1",
        "distinct words    A 4     B 4",
    ]
    text.scores[0] = TextScore((4.0, 4.0), (2, 2), 6)
    assert "A scores B’s text 2.00 bits/byte of 67 % of the text" in shown(found, (0, 1), 60)


def test_the_chart_is_the_running_mean_of_each_side_over_tokens_or_bytes() -> None:
    for score, by_bytes, wide, words, x, mean, current in (
        (TextScore((4.0, 2.0, 3.0), (1, 1, 1)), False, False, "Bits/token, mean",
            [1.0, 2.0, 3.0], [4.0, 3.0, 3.0], "3.0"),
        (TextScore((4.0, 4.0), (2, 2)), True, True, "Bits per byte, running mean",
            [2.0, 4.0], [2.0, 2.0], "2.00"),
    ):  # fmt: skip
        data = score_chart([(0, score)], by_bytes=by_bytes, wide=wide)
        [series] = data.series
        assert (data.title, list(series.x), list(series.mean)) == (words, x, mean)
        assert (series.marker, series.current) == ("A", current)


# layout


def test_a_and_the_chosen_side_are_shown_where_not_all_fit() -> None:
    for width, count, chosen, places in (
        (120, 4, 0, [0, 1, 2, 3]), (80, 4, 0, [0, 1]), (80, 4, 3, [0, 3]), (100, 4, 1, [0, 1, 2]),
        (100, 4, 3, [0, 2, 3]), (40, 3, 2, [2]),
    ):  # fmt: skip
        assert shown_sides(width, count, chosen) == places


@pytest.mark.parametrize("width", [60, 80, 120, 200])
@pytest.mark.parametrize("height", [5, 10, 16, 31, 51])
@pytest.mark.parametrize("view", ["texts", "differences", "grid"])
def test_every_cell_of_the_body_belongs_to_one_panel(width: int, height: int, view: str) -> None:
    size, sides = Size(width, height), shown_sides(width, 3, 1)
    places = versus_arrangement(size, view, sides, count=3, text_rows=9, listed=30)  # type: ignore[arg-type]
    cells = sum(region.area for region in places.values())
    assert cells == size.area
    assert all(Region(0, 0, *size).contains_region(region) for region in places.values())


# the grid


def test_the_temperatures_have_the_chosen_one_among_them() -> None:
    assert temperatures(SamplingConfig(temperature=0.8)) == (0.4, 0.8, 1.0, 1.3)
    assert temperatures(SamplingConfig(temperature=2.0)) == (0.4, 0.7, 1.0, 2.0)
    assert temperatures(SamplingConfig(greedy=True)) == (0.4, 0.7, 1.0, 1.3)


def test_the_grid_begins_at_the_chosen_temperature_and_stays_within_its_edges() -> None:
    grid = Grid.of("We", [side(), side(LAST)], SamplingConfig(max_new_tokens=500))
    assert (grid.row, grid.column, len(grid.cells), len(grid.cells[0])) == (0, 1, 2, 4)
    settings = grid.cells[0][grid.column].wanted.settings
    assert (settings.temperature, settings.max_new_tokens) == (0.8, 60)
    grid.move(5, -9)
    assert (grid.row, grid.column) == (1, 0)


# exports


def test_the_export_of_texts_has_all_sides_and_facts_and_longer_fences_than_its_texts() -> None:
    text = texts_markdown(sampled(" is `strong`", " was\x1b[31m", prompt="The | Union"))
    assert "| A | plain-otter | 3,700 | best | 58.1 |" in text
    assert "## The | Union" in text
    assert "```text\nThe | Union is `strong`\n```" in text
    assert "\x1b" not in text
    assert "temperature 0.8 · top-p 0.95 · max 100 · seed 7" in text
    assert "````text\nWe ```\ncode\n````" in texts_markdown(sampled(" ```\ncode", " was"))


def test_the_export_of_differences_has_the_sums_and_the_largest() -> None:
    spans = scored_spans(
        inspection(("The", 5.0), (" | state", 3.0)), inspection(("The", 1.0), (" | state", 4.0))
    )
    text = differences_markdown([side(), side(LAST)], (0, 1), spans)
    assert "| bits | 8.0 | 5.0 |" in text
    assert "| `The` | 5.00 | 1.00 | +4.00 | B |" in text
    assert "| ` \\| state` | 3.00 | 4.00 | -1.00 | A |" in text


def test_the_export_of_the_grid_has_every_cell() -> None:
    grid = Grid.of("We", [side(), side(LAST, RunDirectory(Path("/r/other")))], SamplingConfig())
    for row in grid.cells:
        for column, cell in enumerate(row):
            cell.samples[0].text = f" at {grid.columns[column]}"
    text = grid_markdown(grid)
    assert "## B other @last, step 3,750" in text
    assert text.count("### temperature") == 8
    assert "```text\n at 1.3\n```" in text
