"""What the newest texts of the sides have in common: facts in lines, and the chart of surprise."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate

from textual.content import Content

from rnnlm_tui.schema.formatting import NOTHING, counted, scored_part_text
from rnnlm_tui.tui.palette import DIM, MARK_COLOURS, TEXT, VALIDATION
from rnnlm_tui.tui.text import line, safe_text
from rnnlm_tui.tui.views.chart_data import ChartData, ChartSeries
from rnnlm_tui.tui.views.compare import LETTERS
from rnnlm_tui.tui.views.text_differences import (
    TextScore,
    common_start,
    distinct_words,
    same_tokens,
)
from rnnlm_tui.tui.views.versus import LEAST_SIDES, SideBySide, letter

Fact = tuple[str, Mapping[int | None, Content]]
"""A label, and the value of each side by its place; of all sides together by None."""
LABEL_CELLS, COLUMN_CELLS, GAP_CELLS = 18, 8, 2
"""Width of the labels, most width of an aligned value, and the gap between values."""


def fact_lines(found: SideBySide, places: Sequence[int], width: int) -> list[Content]:
    """Lay out what is known so far about the newest texts of these sides.

    With more than two sides, their values are in a table below the letters.
    """
    words: dict[int | None, Content] = {
        place: Content.styled(f"{distinct_words(text.text):,}", TEXT)
        for place in places
        if (text := found.text(place)) is not None and text.done is not None and text.text
    }
    facts = [*_scores(found, places), *_perplexities(found, places), ("distinct words", words)]
    facts = [(label, values) for label, values in facts if values]
    if len(places) == LEAST_SIDES or not facts:
        return _rows([*_start(found, width), *facts], width)
    unknown = Content.styled(NOTHING, DIM)
    table: list[Fact] = [(_unit(found), {place: letter(place) for place in places})]
    for label, values in facts:
        table.append((label, {place: values.get(place, unknown) for place in places}))
    return [*_rows(_start(found, width), width), *_rows(table, width, lettered=False)]


def facts_within(found: SideBySide, width: int, height: int) -> list[Content]:
    """Return the facts about all sides if there is room, else about the pair."""
    lines = fact_lines(found, range(len(found.sides)), width)
    if len(lines) > height:
        lines = fact_lines(found, found.pair, width)
    return lines if lines or found.rounds else [Content.styled("no texts yet", DIM)]


def facts_legend(found: SideBySide) -> str:
    """Return which sides are compared, or that they divide a text into different tokens."""
    a, b = (LETTERS[place] for place in found.pair)
    return "two tokenizers" if not found.one_tokenizer else f"{a} against {b}" if a != b else ""


def _rows(facts: Sequence[Fact], width: int, *, lettered: bool = True) -> list[Content]:
    """Lay out facts, short values of a side below each other."""
    columns: dict[int | None, int] = {}
    for _, values in facts:
        for place, value in values.items():
            if len(values) > 1 and value.cell_length <= COLUMN_CELLS:
                columns[place] = max(columns.get(place, 0), value.cell_length)
    lines = []
    for label, values in facts:
        shown = Content.styled(label.ljust(LABEL_CELLS), DIM)
        for number, (place, value) in enumerate(values.items(), start=1):
            if place is not None and lettered:
                shown += letter(place) + " "
            shown += value.truncate(max(1, width - shown.cell_length), ellipsis=True)
            if number < len(values):
                rest = max(0, columns.get(place, 0) - value.cell_length)
                shown = shown.pad_right(rest + GAP_CELLS)
        lines.append(shown)
    return lines


def _unit(found: SideBySide) -> str:
    return "bits/token" if found.one_tokenizer else "bits/byte"


def _start(found: SideBySide, width: int) -> list[Fact]:
    """Return how far the pair's texts are the same, and what follows or the marked difference."""
    texts, pair = found.texts(found.pair), found.pair
    if texts is None or pair[0] == pair[1]:
        return []
    if texts[0] == texts[1]:
        return [("same start", {None: Content.styled("the whole text", TEXT)})]
    end = common_start(texts)
    start = safe_text(" ".join(texts[0][:end].split()))
    ids = [text.done.ids for text in map(found.text, pair) if text is not None and text.done]
    size = (
        counted(same_tokens(*ids), "token")
        if found.one_tokenizer and len(ids) == 2 and all(ids)
        else counted(len(start.split()), "word")
    )
    number, _, noun = size.partition(" ")
    same = line(f"{{}} {noun}", number)
    quoted = same + Content.styled(f" “{start}”" if start else "", DIM)
    fits = quoted.cell_length <= width - LABEL_CELLS
    facts: list[Fact] = [("same start", {None: quoted if fits else same})]
    if found.difference is None:  # the words after it; texts that stream have no differences yet
        words = [" ".join(text[end:].split(maxsplit=1)[:1]) for text in texts]
        return [*facts, ("then", _by_side(pair, words))]
    places = found.hunks()
    at = min(found.difference, len(places) - 1)
    words = [
        " ".join(text[slice(*span)].split()) for text, span in zip(texts, places[at], strict=True)
    ]
    a, b = _by_side(pair, words).items()
    return [*facts, (f"differs {at + 1} of {len(places)}", dict([a])), ("", dict([b]))]


def _by_side(places: Sequence[int], words: Sequence[str]) -> dict[int | None, Content]:
    return {
        place: Content.styled(safe_text(said) or NOTHING, TEXT)
        for place, said in zip(places, words, strict=True)
    }


def _scores(found: SideBySide, places: Sequence[int]) -> Iterable[Fact]:
    """Return how well each side predicts the texts: of a pair, the other's."""
    by_bytes, pair = not found.one_tokenizer, len(places) == LEAST_SIDES
    for place in places:
        scorer, label, values = found.sides[place], "", dict[int | None, Content]()
        for owner in places:
            text = found.text(owner)
            if text is None or (pair and owner == place):
                continue
            score = text.scores.get(scorer)
            bits = math.nan
            if score is not None:
                bits = score.bits_per_byte if by_bytes else score.bits_per_token
            words = "" if math.isnan(bits) else f"{bits:.2f}" if by_bytes else f"{bits:.1f}"
            if pair and words and score is not None:
                part = scored_part_text(score.scored_share) if by_bytes else ""
                values[None] = line(f"{{}} {_unit(found)}{f' of {part}' if part else ''}", words)
            elif pair and scorer in text.refused:
                values[None] = Content.styled(safe_text(text.refused[scorer]), DIM)
            elif words:
                values[owner] = Content.styled(words, f"bold {TEXT}" if owner == place else TEXT)
            other = f" {LETTERS[owner]}’s text" if pair else ""
            label = f"{LETTERS[place]} scores{other}"
        yield label, values


def _perplexities(found: SideBySide, places: Sequence[int]) -> list[Fact]:
    """Return the validation perplexities, the best with a star if they compare."""
    losses = {
        place: row.validation_loss
        for place in places
        if not found.sides[place].choice.gone
        and (row := found.sides[place].row) is not None
        and row.validation_loss is not None
    }
    corpora = {found.sides[place].corpus for place in losses}
    comparable = len(losses) > 1 and found.one_tokenizer and len(corpora) == 1
    best = min(losses, key=losses.__getitem__) if comparable else None
    values: dict[int | None, Content] = {
        place: Content.styled(f"{words} ★", f"bold {VALIDATION}")
        if place == best
        else Content.styled(words, TEXT)
        for place in losses
        if (words := found.sides[place].perplexity)
    }
    return [("val ppl", values)]


def texts_chart(found: SideBySide, *, wide: bool) -> ChartData:
    """Return the surprise of each side's newest text to the side itself."""
    scores = [
        (place, text.scores[side])
        for place, side in enumerate(found.sides)
        if (text := found.text(place)) is not None and side in text.scores
    ]
    return score_chart(scores, by_bytes=not found.one_tokenizer, wide=wide)


def score_chart(
    scores: Sequence[tuple[int, TextScore]], *, by_bytes: bool, wide: bool = True
) -> ChartData:
    """Return the running mean of the surprise, a curve per side; not `wide`, with a short title.

    With `by_bytes` over the text's bytes, which different tokenizers have in common.
    """

    def words(value: float) -> str:
        return f"{value:.2f}" if by_bytes else f"{value:.1f}"

    series = []
    for place, score in scores:
        sizes = score.bytes if by_bytes else [1] * len(score.bits)
        x = [float(size) for size in accumulate(sizes)]
        bits = accumulate(score.bits)
        mean = [value / at if at else math.nan for value, at in zip(bits, x, strict=True)]
        series.append(
            ChartSeries(
                LETTERS[place],
                MARK_COLOURS[place],
                x,
                mean,
                current=words(mean[-1]) if mean and not math.isnan(mean[-1]) else "",
                marker=LETTERS[place],
                smooth=False,
                y_format=words,
            )
        )
    unit = "byte" if by_bytes else "token"
    return ChartData(
        f"Bits per {unit}, running mean" if wide else f"Bits/{unit}, mean",
        tuple(series),
        # a single point has no range
        x_end=max((one.x[-1] + (len(one.x) == 1) for one in series if one.x), default=None),
        x_label=unit,
        x_format="whole",
    )
