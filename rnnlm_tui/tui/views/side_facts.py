"""What the newest texts of the sides have in common: facts in lines, and the chart of surprise."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from textual.content import Content

from rnnlm_tui.schema import formatting
from rnnlm_tui.schema.formatting import NOTHING, counted, scored_part_text
from rnnlm_tui.schema.metrics import perplexity
from rnnlm_tui.tui.palette import DIM, TEXT, VALIDATION
from rnnlm_tui.tui.text import line, safe_text
from rnnlm_tui.tui.views.chart_data import ChartData, ChartSeries
from rnnlm_tui.tui.views.compare import LETTERS
from rnnlm_tui.tui.views.text_differences import (
    TextScore,
    common_start,
    distinct_words,
    same_tokens,
)
from rnnlm_tui.tui.views.versus import LEAST_SIDES, SideBySide, letter, letter_of


@dataclass(frozen=True, slots=True)
class Fact:
    """A line of "Same and different": a label, then a value for all sides, or one per side."""

    label: str
    values: tuple[tuple[int | None, Content], ...]
    """Each with the side it is about; None: about all."""
    brief: Content | None = None
    """The value instead, where the first one doesn't fit."""
    stacked: bool = False
    """The values are long: each has its own line."""
    in_table: bool = False
    """With more than two sides, the values are below the sides' letters."""


def facts(found: SideBySide, places: Sequence[int]) -> list[Fact]:
    """Return what is known so far about the newest texts of these sides."""
    a, b = found.pair
    lines: list[Fact] = []
    texts = found.texts((a, b))
    if texts is not None and a != b:
        lines += _start_facts(found, texts, a, b)
    lines += _pair_scores(found, places) if len(places) == LEAST_SIDES else _scores(found, places)
    lines += _checkpoint_facts(found, places)
    words = [
        (place, Content.styled(f"{distinct_words(text.text):,}", TEXT))
        for place in places
        if (text := found.text(place)) is not None and text.done is not None and text.text
    ]
    if words:
        lines.append(Fact("distinct words", tuple(words), in_table=True))
    return lines


def _start_facts(found: SideBySide, texts: Sequence[str], a: int, b: int) -> list[Fact]:
    """Return how far the pair's texts are the same, and what follows or the marked difference."""
    if texts[0] == texts[1]:
        return [Fact("same start", ((None, Content.styled("the whole text", TEXT)),))]
    end = common_start(texts)
    start = safe_text(" ".join(texts[0][:end].split()))
    ids = [
        text.done.ids
        for place in (a, b)
        if (text := found.text(place)) is not None and text.done is not None
    ]
    size = (
        counted(same_tokens(*ids), "token")
        if found.one_tokenizer and len(ids) == 2 and all(ids)
        else counted(len(start.split()), "word")
    )
    number, _, noun = size.partition(" ")
    brief = line(f"{{}} {noun}", number)
    quoted = brief + Content.styled(f" “{start}”" if start else "", DIM)
    lines = [Fact("same start", ((None, quoted),), brief)]
    if found.difference is None:  # the words after it; texts that stream have no differences yet
        label, spans = "then", [text[end:].split(maxsplit=1)[:1] for text in texts]
    else:
        places = found.hunks()
        at = min(found.difference, len(places) - 1)
        label = f"differs {at + 1} of {len(places)}"
        spans = [text[slice(*span)].split() for text, span in zip(texts, places[at], strict=True)]
    lines.append(
        Fact(
            label,
            tuple(
                (place, Content.styled(safe_text(" ".join(span)) or NOTHING, TEXT))
                for place, span in zip((a, b), spans, strict=True)
            ),
            stacked=found.difference is not None,
        )
    )
    return lines


def score_words(score: TextScore | None, *, by_bytes: bool) -> str:
    """Return bits per token, or per byte; empty if unknown."""
    if score is None:
        return ""
    value = score.bits_per_byte if by_bytes else score.bits_per_token
    return "" if math.isnan(value) else f"{value:.2f}" if by_bytes else f"{value:.1f}"


def _pair_scores(found: SideBySide, places: Sequence[int]) -> list[Fact]:
    """Return how well each of two sides predicts the other's text."""
    by_bytes = not found.one_tokenizer
    lines: list[Fact] = []
    for scorer, owner in (places, reversed(places)):
        text = found.text(owner)
        if text is None:
            continue
        score = text.scores.get(scorer)
        words = score_words(score, by_bytes=by_bytes)
        unit = " bits/byte" if by_bytes else " bits/token"
        if by_bytes and score is not None and (part := scored_part_text(score.scored_share)):
            unit += f" of {part}"
        value = (
            line(f"{{}}{unit}", words)
            if words
            else Content.styled(safe_text(text.refused.get(scorer, "")), DIM)
        )
        if value.plain:
            label = f"{LETTERS[scorer]} scores {LETTERS[owner]}’s text"
            lines.append(Fact(label, ((None, value),)))
    return lines


def _scores(found: SideBySide, places: Sequence[int]) -> list[Fact]:
    """Return how well each side predicts each text, its own in bold; a column per text."""
    by_bytes = not found.one_tokenizer
    lines: list[Fact] = []
    for scorer in places:
        values: list[tuple[int | None, Content]] = []
        for owner in places:
            text = found.text(owner)
            score = text.scores.get(scorer) if text is not None else None
            words = score_words(score, by_bytes=by_bytes)
            own = f"bold {TEXT}" if owner == scorer else TEXT
            values.append((owner, Content.styled(words or NOTHING, own if words else DIM)))
        if any(value.plain != NOTHING for _, value in values):
            lines.append(Fact(f"{LETTERS[scorer]} scores", tuple(values), in_table=True))
    return lines


def _checkpoint_facts(found: SideBySide, places: Sequence[int]) -> list[Fact]:
    """Return the validation perplexities, the best with a star if they compare."""
    losses = {
        place: row.validation_loss
        for place in places
        if not found.sides[place].choice.gone
        and (row := found.sides[place].row) is not None
        and row.validation_loss is not None
    }
    if not losses:
        return []
    comparable = (
        len(losses) > 1
        and found.one_tokenizer
        and len({found.sides[place].corpus for place in losses}) == 1
    )
    best = min(losses.values())
    first = next(place for place, loss in losses.items() if loss == best)
    values: list[tuple[int | None, Content]] = []
    for place, loss in losses.items():
        words = formatting.figure(perplexity(loss))
        values.append(
            (place, Content.styled(f"{words} ★", f"bold {VALIDATION}"))
            if comparable and place == first
            else (place, Content.styled(words, TEXT))
        )
    return [Fact("val ppl", tuple(values), in_table=True)]


LABEL_CELLS, COLUMN_CELLS, GAP_CELLS = 18, 8, 2
"""Least width of the labels, most width of a column of values, and the gap between columns."""


def fact_lines(lines: Sequence[Fact], width: int, unit: str) -> list[Content]:
    """Lay out the facts: values of sides are aligned in columns.

    Args:
        unit: what the scores of more than two sides are in, for the heading.
    """
    table = any(len(fact.values) > LEAST_SIDES for fact in lines)
    longest = max((len(fact.label) + 1 for fact in lines), default=0)
    label = max(len(unit) + GAP_CELLS if table else min(LABEL_CELLS, width // 3), longest)
    columns: dict[int, int] = {}
    for fact in lines:
        for place, value in fact.values:
            fits = value.cell_length <= COLUMN_CELLS and not fact.stacked
            if place is not None and fits and (fact.in_table or not table):
                columns[place] = max(columns.get(place, 0), value.cell_length)
    found: list[Content] = []
    for fact in lines:
        if table and fact.in_table:
            if not any(other.in_table for other in lines[: lines.index(fact)]):
                found.append(
                    _row(unit, label, columns, {place: letter(place) for place in columns})
                )
            values = {place: value for place, value in fact.values if place is not None}
            found.append(_row(fact.label, label, columns, values))
        elif fact.stacked:
            for number, (place, value) in enumerate(fact.values):
                head = Content.styled(("" if number else fact.label).ljust(label), DIM)
                found.append(head + _cell(place, value, width - label))
        else:
            found.append(_line(fact, label, columns, width))
    return found


def _cell(place: int | None, value: Content, room: int) -> Content:
    """Return a value after the letter of its side, in at most `room` cells."""
    head = Content("") if place is None else letter(place) + Content(" ")
    room = max(1, room - head.cell_length)
    return head + (value if value.cell_length <= room else value.truncate(room, ellipsis=True))


def _line(fact: Fact, label: int, columns: dict[int, int], width: int) -> Content:
    shown = Content.styled(fact.label.ljust(label), DIM)
    for number, (place, value) in enumerate(fact.values):
        fits = value.cell_length <= width - label
        shown += _cell(
            place, value if fits or fact.brief is None else fact.brief, width - shown.cell_length
        )
        if place is not None and number < len(fact.values) - 1:
            shown += Content(" " * (max(0, columns.get(place, 0) - value.cell_length) + GAP_CELLS))
    return shown


def _row(
    label: str, room: int, columns: Mapping[int, int], values: Mapping[int, Content]
) -> Content:
    """Return a row of the table of more than two sides."""
    shown = Content.styled(label.ljust(room), DIM)
    for place, width in columns.items():
        value = values.get(place, Content(""))
        shown += value + Content(" " * (width - value.cell_length + GAP_CELLS))
    return shown


def texts_chart(found: SideBySide, *, wide: bool) -> ChartData:
    """Return the surprise of each side's newest text to the side itself."""
    scores = [
        (place, text.scores[place])
        for place in range(len(found.sides))
        if (text := found.text(place)) is not None and place in text.scores
    ]
    return score_chart(scores, by_bytes=not found.one_tokenizer, wide=wide)


def score_chart(
    scores: Sequence[tuple[int, TextScore]], *, by_bytes: bool, wide: bool = True
) -> ChartData:
    """Return the running mean of the surprise, a curve per side; not `wide`, with a short title.

    With `by_bytes` over the text's bytes, which different tokenizers have in common.
    """
    series = []
    for place, score in scores:
        mark, colour = letter_of(place)
        bits = list(accumulate(score.bits))
        x = [float(size) for size in accumulate(score.bytes)]
        if not by_bytes:
            x = [float(at) for at in range(1, len(bits) + 1)]
        mean = [value / at if at else math.nan for value, at in zip(bits, x, strict=True)]
        last = mean[-1] if mean else math.nan
        series.append(
            ChartSeries(
                mark,
                colour,
                x,
                mean,
                current="" if math.isnan(last) else f"{last:.2f}" if by_bytes else f"{last:.1f}",
                marker=mark,
                smooth=False,
                y_format=(lambda value: f"{value:.2f}") if by_bytes else (lambda v: f"{v:.1f}"),
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
