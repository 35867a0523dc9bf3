"""What is known of the sides' texts: facts in lines, the chart of surprise, one text scored by two
sides, and all of that as Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from os.path import commonprefix
from pathlib import Path

from rich.cells import cell_len
from textual.content import Content

from rnnlm_tui.schema.formatting import NOTHING, counted, safe, scored_part_text
from rnnlm_tui.schema.sampling import Inspection
from rnnlm_tui.tui.palette import BRIGHT, DIM, MARK_COLOURS, TEXT, VALIDATION
from rnnlm_tui.tui.text import line, safe_text, selected
from rnnlm_tui.tui.views.chart_data import ChartData, ChartSeries
from rnnlm_tui.tui.views.compare import LETTERS
from rnnlm_tui.tui.views.text_differences import (
    LEAST_DIFFERENCE,
    ScoredSpan,
    TextScore,
    common_start,
    distinct_words,
    largest,
    level,
    scored_spans,
)
from rnnlm_tui.tui.views.versus import (
    LEAST_SIDES,
    SampleRound,
    Side,
    SideBySide,
    letter,
    settings_line,
)

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
    known = (*_scores(found, places), ("val ppl", _perplexities(found, places)))
    facts = [fact for fact in (*known, ("distinct words", words)) if fact[1]]
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
    pair = f"{a} against {b}" if found.sides else ""
    return pair if found.one_tokenizer else "two tokenizers"


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
        for place, value in values.items():
            if place is not None and lettered:
                shown += letter(place) + " "
            shown += value.truncate(max(1, width - shown.cell_length), ellipsis=True)
            rest = max(0, columns.get(place, 0) - value.cell_length)
            shown = shown.pad_right(rest + GAP_CELLS)
        lines.append(shown)
    return lines


def _unit(found: SideBySide) -> str:
    return "bits/token" if found.one_tokenizer else "bits/byte"


def _start(found: SideBySide, width: int) -> list[Fact]:
    """Return how far the pair's texts are the same, and what follows or the marked difference."""
    texts, pair = found.texts(found.pair), found.pair
    if texts is None:
        return []
    if texts[0] == texts[1]:
        return [("same start", {None: Content.styled("the whole text", TEXT)})]
    end = common_start(*texts)
    start = " ".join(texts[0][:end].split())
    ids = [text.samples[0].ids for text in map(found.text, pair) if text is not None]
    if found.one_tokenizer and all(ids):
        size = counted(len(commonprefix(ids)), "token")  # noqa: RUF071 (of numbers)
    else:
        size = counted(len(start.split()), "word")
    number, _, noun = size.partition(" ")
    same = line(f"{{}} {noun}", number)
    quoted = same + Content.styled(f" “{start}”" if start else "", DIM)
    fits = quoted.cell_length <= width - LABEL_CELLS
    facts: list[Fact] = [("same start", {None: quoted if fits else same})]
    marks = [found.marked(place) for place in pair]
    said = [
        text[slice(*mark)] if mark else " ".join(text[end:].split(maxsplit=1)[:1])
        for text, mark in zip(texts, marks, strict=True)
    ]
    values: dict[int | None, Content] = {
        place: Content.styled(" ".join(words.split()) or NOTHING, TEXT)
        for place, words in zip(pair, said, strict=True)
    }
    if found.difference is None:  # texts that stream have no differences yet
        return [*facts, ("then", values)]
    count = len(found.hunks())
    a, b = ({place: value} for place, value in values.items())
    return [*facts, (f"differs {min(found.difference + 1, count)} of {count}", a), ("", b)]


def _scores(found: SideBySide, places: Sequence[int]) -> Iterable[Fact]:
    """Return how well each side predicts the texts: of a pair, the other's."""
    by_bytes, unit, pair = not found.one_tokenizer, _unit(found), len(places) == LEAST_SIDES
    for place in places:
        label, values = f"{LETTERS[place]} scores", dict[int | None, Content]()
        for owner in places:
            text, scorer = found.text(owner), found.sides[place]
            if text is None or (pair and owner == place):
                continue
            score = text.scores.get(scorer)
            words = "" if score is None else score.words(by_bytes=by_bytes)
            if pair:
                label += f" {LETTERS[owner]}’s text"
            if pair and score is not None and words:
                part = scored_part_text(score.scored_share) if by_bytes else ""
                values[None] = line(f"{{}} {unit}{f' of {part}' if part else ''}", words)
            elif pair and scorer in text.refused:
                values[None] = Content.styled(safe_text(text.refused[scorer]), DIM)
            elif words:
                values[owner] = Content.styled(words, f"bold {TEXT}" if owner == place else TEXT)
        yield label, values


def _perplexities(found: SideBySide, places: Sequence[int]) -> dict[int | None, Content]:
    """Return the validation perplexities, the best with a star if they compare."""
    losses = {place: loss for place in places if (loss := found.sides[place].loss) is not None}
    corpora = {found.sides[place].corpus for place in losses}
    comparable = len(losses) > 1 and found.one_tokenizer and len(corpora) == 1
    best = min(losses, key=losses.__getitem__) if comparable else None
    return {
        place: Content.styled(f"{found.sides[place].perplexity} ★", f"bold {VALIDATION}")
        if place == best
        else Content.styled(found.sides[place].perplexity, TEXT)
        for place in losses
    }


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
                current=score.words(by_bytes=by_bytes),
                marker=LETTERS[place],
                smooth=False,
                y_format=f"{{:.{1 + by_bytes}f}}".format,
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


# one text scored by two sides

MOST_LISTED = 200
CONTEXT = 16
"""Pieces of text before and after a listed one."""


class TextScores:
    """One text scored by two sides, and the piece of it that is marked."""

    def __init__(self, found: SideBySide) -> None:
        self.found = found
        self.clear()

    def clear(self, source: str = "", note: str = "", *, trouble: bool = False) -> None:
        """Have no text for a while; the note, perhaps an error, says why.

        Args:
            source: what is scored.
        """
        self.source, self.note, self.trouble = source, note, trouble
        self.pair = self.found.pair
        """The places of the two sides."""
        self.spans: Sequence[ScoredSpan] = ()
        self.order: list[int] = []
        """The indices of the largest differences, the largest first."""
        self.at: int | None = None
        """The index of the marked piece."""
        self.same = True
        """Whether both sides divide the text into the same tokens."""
        self.chart = score_chart((), by_bytes=False)

    def take(self, a: Inspection, b: Inspection, *, wide: bool) -> None:
        """Take the text as the pair has scored it, and mark the largest difference.

        Raises:
            InputError: the two have read different texts.
        """
        self.spans = scored_spans(a, b)
        self.order = largest(self.spans, MOST_LISTED)
        self.at = self.order[0] if self.order else None
        one, other = (self.found.sides[place].tokenizer for place in self.pair)
        self.same = one == other
        scores = [
            (place, TextScore.of(found, "", whole=True))
            for place, found in zip(self.pair, (a, b), strict=True)
        ]
        self.chart = score_chart(scores, by_bytes=not self.same, wide=wide)

    @property
    def title(self) -> Content:
        """`Difference of surprise, A’s text`."""
        kinds = "" if self.same else ", two tokenizers"
        source = f", {self.source}" if self.source else ""
        return Content.assemble(("Difference of surprise", "bold"), (source + kinds, DIM))

    @property
    def legend(self) -> Content:
        """The names of the two sides."""
        if not self.source:
            return Content("")
        return Content("   ").join(
            letter(place)
            + Content.styled(f" {safe_text(self.found.sides[place].label(), limit=40)}", DIM)
            for place in self.pair
        )

    def walk(self, by: int, among: Sequence[int]) -> None:
        """Mark the next of these pieces, or the one before."""
        if self.at in among:
            self.at = among[max(0, min(len(among) - 1, among.index(self.at) + by))]
        elif among:
            self.at = among[0 if by > 0 else -1]

    def better(self, index: int) -> int:
        """Return the place of the side that predicts a piece better."""
        return self.pair[0 if self.spans[index].difference < 0 else 1]

    def heads(self) -> list[Content]:
        """Return how many pieces each side predicts better, and the heading of the list."""
        known = [index for index, span in enumerate(self.spans) if span.both and span.text]
        large = [self.better(index) for index in known if level(self.spans[index].difference)]
        noun = "token" if self.same else "piece"
        number, _, nouns = counted(len(known), noun).partition(" ")
        a, b = map(letter, self.pair)
        of_a, of_b = (f"{large.count(place):,}" for place in self.pair)
        words = f"  better  {{}} {{}}  {{}} {{}}  of {{}} {nouns}"
        better = line(words, a, of_a, b, of_b, number)
        if self.order:
            return [better, line("  by bits  {}     {}", a, b)]
        words = f"  no {noun} differs by {LEAST_DIFFERENCE:g} bits or more"
        return [better, Content(""), Content.styled(words, DIM)]

    def row(self, index: int, width: int) -> Content:
        """Return who predicts a piece better by how many bits, the bits of both, and the piece
        within the text."""
        span, here, place = self.spans[index], index == self.at, self.better(index)
        bits = "".join(
            f"{NOTHING if value is None else f'{value:.1f}':>6}" for value in (span.a, span.b)
        )
        head = Content.assemble(
            ("› " if here else "  ", BRIGHT),
            letter(place),
            (f" {abs(span.difference):4.1f}", f"bold {MARK_COLOURS[place]}"),
            (f"{bits}  ", TEXT),
        )
        word = safe_text(span.text.strip(" ") or span.text, newlines="show", limit=16)
        room = width - head.cell_length
        left = max(0, (room - cell_len(word)) // 2)
        before = "".join(one.text for one in self.spans[max(0, index - CONTEXT) : index])
        before += span.text[: len(span.text) - len(span.text.lstrip(" "))]
        after = "".join(one.text for one in self.spans[index + 1 : index + 1 + CONTEXT])
        start = safe_text(before, newlines="space")
        if index > CONTEXT:
            start = start.partition(" ")[2].lstrip()
        while cell_len(start) > left:
            start = start.partition(" ")[2].lstrip()
        row = Content.assemble(
            head,
            (start, DIM),
            (word, f"bold {BRIGHT}"),
            (safe_text(after, newlines="space", limit=room), DIM),
        ).truncate(width, ellipsis=True)
        return selected(row, width) if here else row


# saved files

LINE_CELLS = 100
MOST_EXPORTED = 100
"""Differences in an export."""


def texts_markdown(found: SideBySide) -> str:
    """Return the facts, and the texts of all sides, round by round from the newest."""
    lines = fact_lines(found, range(len(found.sides)), LINE_CELLS)
    facts = f"## Same and different\n\n{_lines(lines)}" if lines else ""
    rounds = [_texts(asked, found.sides) for asked in reversed(found.rounds)]
    return _joined("# Side by side", facts, *rounds)


def differences_markdown(scores: TextScores) -> str:
    """Return one text scored by two sides: the means, and the largest differences."""
    lines = [scores.row(index, LINE_CELLS) for index in scores.order[:MOST_EXPORTED]]
    means = Content("   ").join(f"{one.name} {one.current}" for one in scores.chart.series)
    return _joined(
        "# Difference of surprise",
        "\n".join(f"- {_name(scores.found.sides[place], place)}" for place in scores.pair),
        _block("".join(span.text for span in scores.spans)),
        f"## {scores.chart.title}: {means.plain}",
        "## Largest differences",
        _lines([*scores.heads(), *lines]),
    )


def grid_markdown(grid: SampleRound) -> str:
    """Return the grid, a section for each checkpoint and temperature."""
    return _joined("# Checkpoint × temperature", _texts(grid, list(grid.texts)))


def _texts(asked: SampleRound, sides: Sequence[Side]) -> str:
    """Return the texts of a round."""
    parts = [f"## {_one_line(asked.prompt) or 'No prompt'}"]
    if asked.start:
        parts.append(f"from state {safe(Path(asked.start).stem)}")
    for place, side in enumerate(sides):
        for text in asked.texts.get(side, ()):
            words = settings_line(text.wanted.settings, len(sides), 0)
            parts += [f"### {_name(side, place)}", words.plain]
            parts.append(text.error or _block(asked.prompt + text.text))
    return "\n\n".join(parts)


def _name(side: Side, place: int) -> str:
    value = f", val ppl {side.perplexity}" if side.perplexity else ""
    return f"{LETTERS[place]} {_one_line(side.label())}{value}"


def _one_line(text: str) -> str:
    return " ".join(safe(text, keep="").split())


def _lines(lines: Sequence[Content]) -> str:
    return _block("\n".join(line.plain.rstrip() for line in lines))


def _block(text: str) -> str:
    """Return a text as a fenced block, whose fence is longer than any in the text."""
    shown, fence = safe(text, keep="\n\t"), "```"
    while fence in shown:
        fence += "`"
    return f"{fence}text\n{shown}\n{fence}"


def _joined(*parts: str) -> str:
    return "\n\n".join(filter(None, parts)) + "\n"
