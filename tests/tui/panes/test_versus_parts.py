"""The data of the side-by-side pane: differences of texts, scores, facts, layout and exports."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from unittest.mock import AsyncMock

import pytest
from textual.geometry import Region, Size

from rnnlm_tui.errors import InputError
from rnnlm_tui.schema.config import SamplingConfig
from rnnlm_tui.schema.sampling import InspectedToken, Inspection, InspectRequest, SampleDone
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.side_requests import SideRequests
from rnnlm_tui.tui.views.prompt import LAST, NOW, CheckpointChoice
from rnnlm_tui.tui.views.sample_grid import Grid, temperatures
from rnnlm_tui.tui.views.sample_tree import Weights
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


def inspection(*tokens: tuple[str, float | None], prompt_tokens: int = 0) -> Inspection:
    """A text of these tokens with their bits."""
    return Inspection(
        id="1",
        tokens=tuple(
            InspectedToken(token=place, text=text, bits=bits, bytes=len(text.encode()))
            for place, (text, bits) in enumerate(tokens)
        ),
        prompt_tokens=prompt_tokens,
        bits_per_token=1.0,
        bits_per_byte=1.0,
        vocab_size=10,
        num_layers=1,
        hidden_size=4,
        cell_type="gru",
    )


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
        row = found.sides[place].row
        assert row is not None
        found.sides[place].texts[asked.number] = SideText(
            Weights(RUN.name, str(RUN.path / row.path), row.step, row),
            "done",
            text,
            len(ids),
            SampleDone(
                id="1", reason="length", text=text, ids=ids, tokens=len(ids), prompt_tokens=1,
                seconds=0.2, first_token_seconds=0.1, bits_per_token=4.1,
            ),
        )  # fmt: skip
    return found


# texts


def test_the_common_start_ends_with_a_whole_word() -> None:
    assert common_start([" is strong, and the", " is strong, and they"]) == len(" is strong, and")
    assert common_start([" is", " was"]) == 0
    assert common_start([" same text ", " same text "]) == len(" same text ")
    assert common_start([" one text"]) == 0
    assert common_start([" a b c", " a b d", " a x"]) == len(" a")


def test_equal_tokens_are_counted_from_the_start() -> None:
    assert same_tokens((1, 2, 3), (1, 2, 4)) == 2
    assert same_tokens((1, 2), (1, 2, 3)) == 2
    assert same_tokens((), (1,)) == 0


def test_distinct_words_ignore_case_and_punctuation() -> None:
    assert distinct_words("We, the people. The PEOPLE — we") == 3


def test_hunks_are_the_places_where_words_differ() -> None:
    a = " is strong, and the Congress must act on the program now"
    b = " is strong, and it is a time to act on the program then"
    found = hunks(a, b)
    assert [(a[slice(*one.a)], b[slice(*one.b)]) for one in found] == [
        ("the Congress must", "it is a time to"),
        ("now", "then"),
    ]
    assert hunks(a, a) == []
    assert [(a[slice(*one.a)], ""[slice(*one.b)]) for one in hunks(a, "")] == [(a.strip(), "")]


def test_few_equal_words_between_two_differences_are_no_agreement() -> None:
    found = hunks(" a b x y c d e", " f g x y h d e")
    assert len(found) == 1
    assert found[0].a == (1, len(" a b x y c d e"))


# surprise of one text


def test_the_same_tokens_are_compared_one_by_one() -> None:
    a = inspection(("", None), ("The", 5.0), (" state", 3.0), (" of", 1.0))
    b = inspection(("", None), ("The", 5.0), (" state", 1.0), (" of", 4.0))
    spans = scored_spans(a, b)
    assert [(one.text, one.difference) for one in spans] == [
        ("The", 0.0),
        (" state", 2.0),
        (" of", -3.0),
    ]
    assert largest(spans, 9) == [2, 1]
    sums = totals(spans)
    assert (sums.a, sums.b, sums.pieces, sums.better_a, sums.better_b) == (9.0, 10.0, 3, 1, 1)
    assert sums.bytes == len("The state of")


def test_tokens_of_two_tokenizers_are_joined_up_to_a_common_end() -> None:
    a = inspection(("The", 2.0), (" st", 1.0), ("ate", 1.5), (" of", 1.0))
    b = inspection(("T", 1.0), ("he", 1.0), (" state", 2.0), (" o", 0.5), ("f", 0.25))
    assert [(one.text, one.a, one.b) for one in scored_spans(a, b)] == [
        ("The", 2.0, 2.0),
        (" state", 2.5, 2.0),
        (" of", 1.0, 0.75),
    ]


def test_a_part_of_a_character_counts_with_the_character() -> None:
    a = inspection(("a", 1.0), ("", 2.0), ("é", 3.0), ("", 0.5))
    b = inspection(("a", 1.0), ("é", 4.0))
    assert [(one.text, one.a, one.b) for one in scored_spans(a, b)] == [
        ("a", 1.0, 1.0),
        ("é", 5.5, 4.0),
    ]


def in_bytes(found: Inspection, *sizes: int) -> Inspection:
    """The same tokens with these bytes."""
    tokens = [
        token.model_copy(update={"bytes": size})
        for token, size in zip(found.tokens, sizes, strict=True)
    ]
    return found.model_copy(update={"tokens": tuple(tokens)})


def test_a_character_whose_first_part_nothing_predicts_is_not_predicted() -> None:
    a = in_bytes(inspection(("", None), ("", 2.0), ("漢", 3.0), ("b", 1.0)), 1, 1, 1, 1)
    b = inspection(("漢", None), ("b", 4.0))
    assert [(one.text, one.a, one.b) for one in scored_spans(a, b)] == [
        ("漢", None, None),
        ("b", 1.0, 4.0),
    ]
    assert totals(scored_spans(a, b)).bytes == 1
    alone = TextScore.of(a, "")
    assert (alone.bits, alone.bytes) == ((2.0, 3.0, 1.0), (1, 1, 1))
    assert (alone.bits_per_byte, alone.scored_share) == (2.0, 3 / 4)


def test_a_character_after_the_prompt_is_scored_with_all_its_parts() -> None:
    text = in_bytes(inspection(("W", 1.0), ("", 2.0), ("", 3.0), ("漢", 4.0)), 1, 1, 1, 1)
    assert TextScore.of(text, "W", whole=True).bits == (2.0, 3.0, 4.0)
    after = in_bytes(inspection(("漢", 1.0), ("", 2.0), ("é", 3.0)), 3, 1, 1)
    assert TextScore.of(after, "漢", whole=True).bits == (2.0, 3.0)


def test_a_token_that_nothing_predicts_makes_no_difference() -> None:
    spans = scored_spans(inspection(("a", None), ("b", 1.0)), inspection(("a", 2.0), ("b", 1.0)))
    assert [one.difference for one in spans] == [0.0, 0.0]
    assert totals(spans).pieces == 1


def test_different_texts_are_refused_with_the_reason() -> None:
    with pytest.raises(InputError, match="read this text differently"):
        scored_spans(inspection(("café", 1.0)), inspection(("caf<unk>", 1.0)))


def test_a_difference_has_a_level_from_one_bit() -> None:
    assert [level(bits) for bits in (0.0, 0.99, -1.0, 2.0, -4.0)] == [0, 0, 1, 2, 3]


def test_a_score_is_of_the_tokens_after_the_prompt() -> None:
    by_ids = inspection(("We", None), (" are", 2.0), (" all", 4.0), prompt_tokens=1)
    assert TextScore.of(by_ids, "We").bits == (2.0, 4.0)
    assert TextScore.of(by_ids, "We").bits_per_token == 3.0
    assert TextScore.of(by_ids, "We").bits_per_byte == 6 / 8
    as_text = inspection(("W", 1.0), ("e a", 2.0), ("re all", 4.0))
    assert TextScore.of(as_text, "We", whole=True).bits == (2.0, 4.0)
    assert math.isnan(TextScore((), ()).bits_per_token)


async def test_a_text_is_scored_without_the_blank_that_its_prompt_ends_with() -> None:
    found = sampled("get", "got", prompt="We must ")
    found.sides[0].tokenizer, found.sides[1].tokenizer = "aa", "bb"
    text, other = found.text(0), found.text(1)
    assert text is not None
    assert text.done is not None
    assert other is not None
    text.done = text.done.model_copy(update={"unread": 1, "repeated": " "})
    asked: list[InspectRequest] = []

    async def ask(request: InspectRequest, _: object) -> Inspection:
        asked.append(request)
        return inspection(("We must", 1.0), (" get", 2.0))

    async def warm_sampler() -> object:
        return SimpleNamespace(start=AsyncMock(), ask=ask)

    requests = SideRequests(cast(RnnlmApp, SimpleNamespace(warm_sampler=warm_sampler)))
    await requests.score(found, found.rounds[0], 0, 1)
    assert text.scores[1].bits == (2.0,)
    assert text.scores[1].bytes == (4,)
    await requests.score_pair(found, "We must ", text, "")
    assert [request.prompt for request in asked] == ["We must get", "We must "], "one is known"
    text.done = text.done.model_copy(update={"repeated": ""})
    text.text = ", "
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
    assert title(best, "A", "#5fd7ff", 60, marked=False).plain == "A plain-otter @best"
    assert title(best, "A", "#5fd7ff", 14, marked=False).plain == "A plain… @best"
    assert [form.plain for form in legends(best)] == ["step 3,700, val 58.1", "step 3,700", "3,700"]
    assert [form.plain for form in legends(last)] == ["step 3,750", "3,750"]
    assert [form.plain for form in legends(now)] == ["current weights"]
    now.snapshot = (3_712, 0.0)
    assert legends(now)[0].plain.startswith("step 3,712, ")
    assert legends(now)[0].plain.endswith(" ago")


def test_a_deleted_checkpoint_is_named_and_never_replaced() -> None:
    gone = side("checkpoints/step-000000500")
    assert gone.problem == "step 500 was deleted: ^k chooses another checkpoint"
    assert legends(gone)[0].plain == "step 500, deleted"
    assert gone.mark == ""


def test_a_third_side_is_removed_with_its_scores() -> None:
    found = sampled(" one", " two", " three")
    text = found.text(2)
    assert text is not None
    text.scores = {0: TextScore((1.0,), (1,)), 1: TextScore((2.0,), (1,)), 2: TextScore((), ())}
    found.chosen = 1
    assert found.remove()
    kept = found.text(1)
    assert kept is text
    assert {place: score.bits for place, score in text.scores.items()} == {0: (1.0,), 1: ()}
    assert found.chosen == 1
    assert not found.remove()


def test_at_most_four_sides() -> None:
    found = sampled(" one", " two", " three")
    assert found.add(side())
    assert not found.add(side())
    assert len(found.sides) == 4
    assert found.pair == (0, 3)


def test_the_status_says_what_a_text_is() -> None:
    found = sampled(" is strong, and the Congress", " is")
    asked = found.newest
    assert asked is not None
    parts = status_parts(found.sides[0], asked, 0, by_bytes=False)
    assert [part.plain for part in parts] == [
        "5 tokens", "4.1 bits/token", "40 tok/s", "seed 7",
    ]  # fmt: skip
    assert status_line(parts, 60).plain == "5 tokens   40 tok/s   4.1 bits/token   seed 7"
    assert status_line(parts, 34).plain == "5 tokens  40 tok/s  4.1 bits/token"
    assert status_line(parts, 4).plain == "5 tokens"
    found.sides[0].choice = replace(found.sides[0].choice, wanted=LAST)
    later = status_parts(found.sides[0], asked, 0, by_bytes=False)
    assert later[1].plain == "step 3,700"


def test_a_text_without_a_token_yet_waits_for_its_model() -> None:
    found = sampled(" is", " is")
    asked = found.newest
    assert asked is not None
    words = []
    for tokens in (0, 1):
        found.sides[0].texts[asked.number] = SideText(state="living", tokens=tokens)
        words += [part.plain for part in status_parts(found.sides[0], asked, 0, by_bytes=False)]
    assert words == ["● loading …", "● 1 of 100 tokens"]


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


def test_facts_of_two_sides() -> None:
    found = sampled(" is strong, and the Congress", " is strong, and it is it")
    for owner, scorer, bits in ((0, 1, 4.9), (1, 0, 4.6)):
        text = found.text(owner)
        assert text is not None
        text.scores[scorer] = TextScore((bits, bits), (3, 3))
    lines = [line.plain.rstrip() for line in fact_lines(facts(found, (0, 1)), 46, "bits/token")]
    assert lines == [
        "same start        3 tokens “is strong, and”",
        "then              A the     B it",
        "A scores B’s text 4.6 bits/token",
        "B scores A’s text 4.9 bits/token",
        "val ppl           A 58.1 ★  B 87.1",
        "distinct words    A 5       B 4",
    ]
    found.difference = 0
    lines = [line.plain.rstrip() for line in fact_lines(facts(found, (0, 1)), 46, "bits/token")]
    assert lines[1:3] == ["differs 1 of 1    A the Congress", " " * 18 + "B it is it"]
    assert found.marked(0) == (len(" is strong, and "), len(" is strong, and the Congress"))


def test_facts_of_three_sides_are_a_table() -> None:
    found = sampled(" is strong, and the", " is strong, and it", " is strong, or not")
    for owner in range(3):
        text = found.text(owner)
        assert text is not None
        for scorer in range(3):
            text.scores[scorer] = TextScore((4.0 + owner + scorer / 10,), (3,))
    lines = [line.plain.rstrip() for line in fact_lines(facts(found, range(3)), 50, "bits/token")]
    assert lines == [
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
    pair = [line.plain.rstrip() for line in fact_lines(facts(found, found.pair), 38, "")]
    assert pair[:4] == [
        "same start        2 tokens",
        "then              A and     C or",
        "A scores C’s text 6.0 bits/token",
        "C scores A’s text 4.2 bits/token",
    ]


def test_different_tokenizers_are_compared_by_bytes_and_without_a_star() -> None:
    found = sampled(" is strong, and the", " is strong, and it")
    found.sides[0].tokenizer, found.sides[1].tokenizer = "aa", "bb"
    text = found.text(1)
    assert text is not None
    text.scores[0] = TextScore((4.0, 4.0), (2, 2), 4)
    lines = [line.plain.rstrip() for line in fact_lines(facts(found, (0, 1)), 46, "bits/byte")]
    assert lines == [
        "same start        3 words “is strong, and”",
        "then              A the   B it",
        "A scores B’s text 2.00 bits/byte",
        "val ppl           A 58.1  B 87.1",
        "distinct words    A 4     B 4",
    ]
    text.scores[0] = TextScore((4.0, 4.0), (2, 2), 6)
    partial = [line.plain.rstrip() for line in fact_lines(facts(found, (0, 1)), 60, "bits/byte")]
    assert "A scores B’s text 2.00 bits/byte of 67 % of the text" in partial
    data = score_chart([(1, text.scores[0])], by_bytes=True)
    assert (data.title, data.x_label) == ("Bits per byte, running mean", "byte")
    assert list(data.series[0].x) == [2.0, 4.0]
    assert list(data.series[0].mean) == [2.0, 2.0]


def test_a_refused_score_is_shown_in_its_line() -> None:
    found = sampled(" is", " was")
    text = found.text(0)
    assert text is not None
    text.refused[1] = "the text has 20,400 characters"
    lines = [line.plain for line in fact_lines(facts(found, (0, 1)), 60, "bits/token")]
    assert "B scores A’s text the text has 20,400 characters" in lines


def test_the_chart_is_the_running_mean_of_each_side() -> None:
    data = score_chart([(0, TextScore((4.0, 2.0, 3.0), (1, 1, 1)))], by_bytes=False, wide=False)
    assert data.title == "Bits/token, mean"
    assert list(data.series[0].x) == [1.0, 2.0, 3.0]
    assert list(data.series[0].mean) == [4.0, 3.0, 3.0]
    assert (data.series[0].marker, data.series[0].current) == ("A", "3.0")


# layout


def test_a_and_the_chosen_side_are_shown_where_not_all_fit() -> None:
    assert shown_sides(120, 4, 0) == [0, 1, 2, 3]
    assert shown_sides(80, 4, 0) == [0, 1]
    assert shown_sides(80, 4, 3) == [0, 3]
    assert shown_sides(100, 4, 1) == [0, 1, 2]
    assert shown_sides(100, 4, 3) == [0, 2, 3]
    assert shown_sides(40, 3, 2) == [2]


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
    assert grid.chosen.wanted.settings.temperature == 0.8
    assert grid.chosen.wanted.settings.max_new_tokens == 60
    grid.move(5, -9)
    assert (grid.row, grid.column) == (1, 0)


# exports


def test_the_export_of_texts_has_all_sides_and_facts() -> None:
    found = sampled(" is `strong`", " was\x1b[31m", prompt="The | Union")
    text = texts_markdown(found)
    assert "| A | plain-otter | 3,700 | best | 58.1 |" in text
    assert "## The | Union" in text
    assert "```text\nThe | Union is `strong`\n```" in text
    assert "\x1b" not in text
    assert "temperature 0.8 · top-p 0.95 · max 100 · seed 7" in text


def test_a_fence_in_a_text_does_not_end_its_block() -> None:
    text = texts_markdown(sampled(" ```\ncode", " was"))
    assert "````text\nWe ```\ncode\n````" in text


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
        for cell in row:
            cell.samples[0].text = f" at {cell.wanted.settings.temperature}"
    text = grid_markdown(grid)
    assert "## B other @last, step 3,750" in text
    assert text.count("### temperature") == 8
    assert "```text\n at 1.3\n```" in text
