"""Data of the pane Inspect: a scored text, its tokens in lines of cells, decoded states, reach in
words, and export.

A word that consists of several tokens stays on one line. Every token has at least one cell: one
that adds no character is shown as `‥`, a line break as `↵`, a lone accent on `◌`.
"""

from __future__ import annotations

import base64
import json
import math
import re
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Literal, NamedTuple

from rich.cells import cell_len
from textual.content import Content

from rnnlm_tui.errors import InputError
from rnnlm_tui.schema.formatting import NOTHING, figure, safe
from rnnlm_tui.schema.metrics import perplexity
from rnnlm_tui.schema.sampling import Alternatives, GradientReach, Inspection, StateMap
from rnnlm_tui.tui.palette import BRIGHT, DIM, FOCUS, SURPRISE_BITS, THIRD, TRAIN
from rnnlm_tui.tui.text import WrappedText, graphemes, line, safe_text
from rnnlm_tui.tui.views.chart_data import Baseline, ChartData, ChartSeries
from rnnlm_tui.tui.views.sample_tree import Drawing, Sample

SURPRISING_BITS = SURPRISE_BITS[2]
"""Surprise from which j and k stop at a token."""
FADED = 0.01
"""Share of the gradient at lag 0 below which it counts as gone."""


def probability(value: float) -> str:
    """Return a probability in percent with two or three digits: `9.4 %`, `0.59 %`, `1e-05 %`."""
    percent = value * 100
    if percent >= 0.995:
        return f"{percent:.1f} %"
    if percent >= 0.0095:
        return f"{percent:.2f} %"
    return f"{percent:.0e} %" if percent > 0 else "0 %"


def bits_of(value: float) -> str:
    """Return the surprise of a probability in bits: `3.4`."""
    return f"{-math.log2(value):.1f}" if value > 0 else "∞"


def bits_text(value: float | None) -> str:
    """Return bits with one decimal; a dash for no value."""
    return NOTHING if value is None or not math.isfinite(value) else f"{value:.1f}"


class ScoredText:
    """An inspection, and what is computed from it once."""

    def __init__(self, answer: Inspection, source: Sample) -> None:
        self.answer, self.tokens, self.source = answer, answer.tokens, source
        self.prompt_tokens = answer.prompt_tokens
        """How many of the tokens are the prompt's."""
        self.texts = tuple(token.text for token in answer.tokens)
        self.bits = tuple(token.bits for token in answer.tokens)
        self.alternatives: dict[int, Alternatives] = {}
        """Those that are known, by place in the text."""
        self.reaches: dict[int, list[tuple[str, GradientReach]]] = {}
        """By place in the text: names of models and their gradients, as far as known."""
        self.offsets: dict[str, int | None] = {}
        """By checkpoint: how much later its model begins the text; None if it reads others."""

    def __len__(self) -> int:
        return len(self.texts)

    def predicts(self, token: int) -> bool:
        """Whether the model predicts a token, or the one after the last."""
        return len(self) > 0 if token >= len(self) else self.bits[token] is not None

    def mean_at(self, token: int) -> str:
        """Return the mean surprise up to a token, or of all before the place after the last."""
        known = [bits for bits in self.bits[: token + 1] if bits is not None]
        return bits_text(sum(known) / len(known) if known else None)

    def facts(self, answer: Alternatives) -> list[Content]:
        """Return two lines about a place: entropy before and after the filters, rank, mean,
        seed."""
        first = line(f"entropy {{}} → {answer.filtered_entropy:.1f} bits", f"{answer.entropy:.1f}")
        if answer.taken is not None:
            first += line(f"   rank {{}} of {answer.vocab_size:,}", f"{answer.taken.rank:,}")
        settings = self.source.settings
        seed = "greedy" if settings.is_greedy else settings.seed
        mean = self.mean_at(answer.position)
        return [first, line("mean so far {} bits   seed {}", mean, seed)]

    def next_surprise(self, token: int, by: int) -> int | None:
        """Return the next or previous surprising token; None if there is no other."""
        places = range(token + 1, len(self)) if by > 0 else range(token - 1, -1, -1)
        return next((at for at in places if (self.bits[at] or 0) >= SURPRISING_BITS), None)

    def ids_after(self, context: str) -> tuple[int, ...] | None:
        """Return the tokens of the text after `context`; None if one of them begins before."""
        read, ids = 0, []
        for token in self.tokens:
            if read >= len(context) and (token.text or token.bits is not None):
                ids.append(token.token)
            elif read < len(context) < read + len(token.text):
                return None
            read += len(token.text)
        return tuple(ids)


Order = Literal["memory", "index", "search"]
"""How units are sorted, as in a states request."""


@dataclass(slots=True)
class Units:
    """A layer's states, shown as a map, as one unit on the text, and as a list of the units."""

    states: StateMap | None = None
    """None until they are known."""
    values: Sequence[int] = ()
    """The activations: signed bytes, unit by unit in the order of `states.units`."""
    texts: Sequence[str] = ()
    """The tokens that were read."""
    prompt_tokens: int = 0
    """How many of them are the prompt's."""
    cursor: int = 0
    """The token under the cursor."""
    layer: int = -1
    """The wanted layer, as in a states request."""
    order: Order = "memory"
    query: str = ""
    """What was searched for last."""
    unit: int = 0
    """Place of the followed unit in the order."""

    @property
    def wanted(self) -> dict[str, object]:
        """The fields of a states request."""
        return {"layer": self.layer, "order": self.order, "query": self.query}

    @property
    def order_words(self) -> str:
        """How the units are sorted."""
        if self.order == "search":
            return f"by how they follow {safe_text(self.query, limit=20, newlines='space')}"
        return "longest memory first" if self.order == "memory" else "by number"

    def take(self, states: StateMap, scored: ScoredText) -> None:
        """Take the states of a text."""
        self.states, self.layer = states, states.layer
        self.values = array("b", base64.b64decode(states.values))
        self.texts, self.prompt_tokens = scored.texts, scored.prompt_tokens
        self.follow(0)

    def row(self, place: int) -> Sequence[int]:
        """Return the activations of the unit at this place of the order; none until known."""
        tokens = self.states.tokens if self.states is not None else 0
        return self.values[place * tokens : (place + 1) * tokens]

    def follow(self, by: int) -> None:
        """Follow the unit that is `by` places further down."""
        if self.states is not None:
            self.unit = max(0, min(self.unit + by, len(self.states.units) - 1))

    def next_order(self) -> None:
        """Sort by memory, by number, or by the last search."""
        orders: list[Order] = ["memory", "index", *(("search",) if self.query else ())]
        self.order = orders[(orders.index(self.order) + 1) % len(orders)]
        self.unit = 0


def tokens_of_memory(value: float) -> str:
    """Return the length of a memory: `19 tok`, `1.4 tok`."""
    return f"{value:.0f} tok" if value >= 9.95 else f"{value:.1f} tok"


def faded_lag(reach: GradientReach) -> int | None:
    """Return the first lag from which the gradient stays below 1 % of lag 0; None if none."""
    norms = reach.norms
    felt = [lag for lag, norm in enumerate(norms) if not norm < FADED * norms[0]]
    return felt[-1] + 1 if felt and felt[-1] + 1 < len(norms) else None


def reach_words(reach: GradientReach, texts: Sequence[str]) -> str:
    """Return how far back the gradient reaches, in words; `texts` are those of all tokens."""
    norms = reach.norms
    if not norms or not norms[0] > 0:
        return "no gradient"
    if len(norms) == 1:
        return "there is only one token before it"
    lag = faded_lag(reach)
    if lag is not None:
        place = reach.position - 1 - lag
        token = f" ({quoted(texts[place])})" if 0 <= place < len(texts) else ""
        return f"gradient below 1 % of lag 0 from lag {lag}{token} on"
    last = len(norms) - 1
    return f"gradient still {norms[last] / norms[0] * 100:.2g} % of lag 0 at lag {last}"


def reach_brief(reach: GradientReach) -> str:
    """Return from where on the gradient is below 1 % of lag 0, in few words."""
    lag = faded_lag(reach)
    if lag is not None:
        return f"from lag {lag}"
    last = len(reach.norms) - 1
    return f"not up to lag {last}" if last > 0 and reach.norms[0] > 0 else "no gradient"


_WRITTEN = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
COLUMNS = ("position", "token", "text", "part", "bits", "rank", "entropy")


def as_tsv(scored: ScoredText) -> str:
    """Return one row a token; a tab or line break in a text is written as \\t or \\n."""
    rows = ["\t".join(COLUMNS)]
    for place, token in enumerate(scored.tokens):
        part = "prompt" if place < scored.prompt_tokens else "text"
        text = token.text.translate(_WRITTEN)
        cells = (place, token.token, text, part, token.bits, token.rank, token.entropy)
        rows.append("\t".join("" if cell is None else str(cell) for cell in cells))
    return "\n".join(rows) + "\n"


def as_json(scored: ScoredText) -> str:
    """Return the inspection as one JSON object."""
    answer, source = scored.answer, scored.source
    whole = {
        "run": source.weights.run,
        "step": source.weights.step,
        "prompt": source.prompt,
        **answer.model_dump(exclude={"id", "tokens"}),
        "perplexity": perplexity(answer.bits_per_token * math.log(2)),
        "tokens": [token.model_dump() for token in answer.tokens],
    }
    # JSON has no words for NaN and infinity
    whole = json.loads(json.dumps(whole), parse_constant=lambda _name: None)
    return json.dumps(whole, ensure_ascii=False, indent=1) + "\n"


def perplexity_text(bits: float) -> str:
    """Return the perplexity of a mean surprise; a dash for none."""
    return figure(perplexity(bits * math.log(2)))


ALONE = -1
"""The number of a prompt that is inspected before anything is sampled from it."""


def branched(scored: ScoredText, position: int, ids: tuple[int, ...], words: str) -> Drawing:
    """Sample on from the text before a position with other tokens there.

    As many tokens are sampled as the text had, so that the same token gives the same text.
    Inside the prompt, the prompt itself is cut.

    Raises:
        InputError: the position is inside a character of the prompt.
    """
    text, kept = scored.source, position - scored.prompt_tokens
    if kept < 0 and position > 1 and not scored.texts[position - 1]:
        raise InputError("the prompt can't be cut inside a character")
    start = replace(
        text,
        parent=None if text.number == ALONE else text.number,
        prompt=text.prompt if kept >= 0 else "".join(scored.texts[:position]),
        ids=(*text.ids[: max(0, kept)], *ids),
        text="".join(scored.texts[scored.prompt_tokens : position]) + words,
        shared=max(0, kept),
    )
    missing = max(len(text.ids), text.settings.max_new_tokens) - len(start.ids)
    return Drawing(start, length=missing if missing > 0 else None)


def token_offset(one: ScoredText, other: ScoredText) -> int | None:
    """Return how many tokens later the same text begins for another model: 0, 1 or -1 for an end
    token in front; None if it reads other tokens."""
    offset = len(other) - len(one)
    if abs(offset) > 1:
        return None
    own, others = one.tokens[max(0, -offset) :], other.tokens[max(0, offset) :]
    same = all(a.token == b.token and a.text == b.text for a, b in zip(own, others, strict=True))
    return offset if same else None


def _percent(share: float) -> str:
    return probability(share / 100)


def reach_chart(reaches: Sequence[tuple[str, GradientReach]], position: int | None) -> ChartData:
    """Return the gradient by lag in percent of lag 0, one curve a model."""
    series = []
    for place, (name, reach) in enumerate(reaches):
        first = reach.norms[0] if reach.norms else 0.0
        shares = [100 * norm / first if first and norm > 0 else math.nan for norm in reach.norms]
        colour, letter = (TRAIN, THIRD)[place % 2], "AB"[place] if len(reaches) > 1 else ""
        lags = [float(lag) for lag in range(len(shares))]
        last = next((_percent(share) for share in reversed(shares) if share == share), "")
        curve = ChartSeries(name, colour, lags, shares, current=last, marker=letter)
        series.append(curve._replace(smooth=False, y_format=_percent))
    return ChartData(
        "Reach" if position is None else f"Reach, token {position + 1:,}",
        tuple(series),
        baselines=(Baseline(100 * FADED, "1 %"),) if series else (),
        x_end=max((len(reach.norms) - 1.0 for _, reach in reaches), default=None),
        x_label="tokens back",
        y_unit=" %",
        log_y=True,
        x_format="whole",
    )


def words_of(text: str) -> list[str]:
    """Return a text's words with the space before each; joined they are the text."""
    return re.findall(r"\s*\S+|\s+$", text)


def quoted(text: str) -> str:
    """Return a token in quotes, without the space before a word."""
    label = token_label(text)
    return f"“{safe_text(label.strip() or label, limit=20)}”"


def alternatives_title(answer: Alternatives) -> Content:
    """Return `Instead of “program”`."""
    if answer.taken is None:
        return Content.styled("What comes next", "bold")
    return Content.styled(f"Instead of {quoted(answer.taken.text)}", "bold")


def text_note(scored: ScoredText) -> Content:
    """Return perplexity, bits per token and bits per byte of the text, in one line."""
    answer = scored.answer
    return line(
        "perplexity {}   {} bits/token   {} bits/byte",
        perplexity_text(answer.bits_per_token),
        bits_text(answer.bits_per_token),
        figure(answer.bits_per_byte, 2),
    )


def token_lines(
    scored: ScoredText, token: int, answer: Alternatives | None, states: StateMap | None
) -> list[Content]:
    """Return a line for each figure of a token and of the whole text.

    Args:
        token: the number of tokens means what comes next.
        answer: the alternatives there, if they are known.
        states: a layer's states, if they are known.
    """
    whole = scored.answer
    known = scored.tokens[token] if token < len(scored) else None
    label = "what comes next" if known is None else token_label(known.text)
    name = Content.styled(safe_text(label, limit=15).strip(), f"bold {FOCUS}")
    rows = [("next" if known is None else "token", name)]
    if known is not None and known.bits is None:
        rows.append(("surprise", Content.styled("not predicted", DIM)))
    elif known is not None and known.bits is not None:
        taken = None if answer is None else answer.taken
        number, _, unit = probability(2**-known.bits).partition(" ")
        if taken is not None:
            unit += f" → {taken.removed_by or probability(taken.filtered)}"
        bits = Content.styled(bits_text(known.bits), f"bold {BRIGHT}")
        rows += [
            ("surprise", line("{} bits", bits)),
            ("probability", line(f"{{}} {unit}", number)),
            ("rank", line(f"{{}} of {whole.vocab_size:,}", f"{known.rank or 0:,}")),
        ]
    if answer is not None:
        after = f"{{}} → {answer.filtered_entropy:.1f} bits"
        rows.append(("entropy", line(after, f"{answer.entropy:.1f}")))
    elif known is not None and known.entropy is not None:
        rows.append(("entropy", line("{} bits", f"{known.entropy:.1f}")))
    rows += [
        ("mean so far", line("{} bits/token", scored.mean_at(token))),
        ("whole text", line("{} bits/token", bits_text(whole.bits_per_token))),
        ("perplexity", line("{}", perplexity_text(whole.bits_per_token))),
        ("bits/byte", line("{}", figure(whole.bits_per_byte, 2))),
    ]
    if states is not None and token < states.tokens:
        of = f"layer {states.layer + 1}"
        rows.append(("|h| change", line(f"{{}} {of}", figure(states.change[token]))))
        for share in states.saturated[token : token + 1]:
            rows.append(("saturated", line(f"{{}} % {of}", f"{share * 100:.0f}")))
    return [Content.assemble((label.ljust(13), DIM), value) for label, value in rows]


# tokens in lines


PART = "‥"
"""A token that is only a part of a character."""
START = "▸"
"""The end token that a text starts from."""
BREAK = "↵"
TAB = "→"
CIRCLE = "◌"
"""Carries an accent whose letter belongs to another token."""
COMBINING = 0x300
"""First character that may share a cell with the one before it."""
SPACE = "\ufdd0"
"""Stands for a space of a token that is nothing else: it never vanishes at the end of a line.
Unicode assigns no character to it."""
_BLANKS = re.compile(r"\s+|\S+")
_JOINERS = "\u200c\u200d\ufe00-\ufe0f"
_LEADING, _TRAILING = re.compile(f"^[{_JOINERS}]+"), re.compile("[\u200c\u200d]+$")


def token_signs(text: str, *, first: bool = False) -> str:
    """Return a token's text as it is drawn; `\\n` stays, for the line break."""
    if text.isascii() and text.isprintable() and text:
        return text
    shown = safe(text.replace("\t", TAB).replace("\r\n", "\n"), keep="\n")
    shown = _TRAILING.sub("", _LEADING.sub("", shown))
    if not shown:
        return START if first and not text else PART
    return shown if cell_len(shown) or "\n" in shown else CIRCLE + shown


def token_label(text: str) -> str:
    """Return a token's text in one line, with visible line breaks, for a table."""
    shown = token_signs(text).replace("\n", BREAK)
    return shown if shown.strip() else "·" * len(shown)


class TokenCells(NamedTuple):
    """Neighbouring cells of one token."""

    token: int
    column: int
    width: int
    text: str
    blank: bool
    """Spaces around a token's word, which aren't coloured."""


@dataclass(slots=True)
class TokenLines:
    """The lines of a text."""

    width: int
    lines: list[list[TokenCells]] = field(default_factory=list)
    places: list[tuple[int, int]] = field(default_factory=list)
    """For each token: its line and the column of its first coloured cell."""

    def token_at(self, line: int, column: int) -> int | None:
        """Return the token at a cell, or the nearest one on its line; None on an empty line."""
        runs = self.lines[line] if 0 <= line < len(self.lines) else []
        if not runs:
            return None
        return runs[max(0, bisect_right(runs, column, key=lambda run: run.column) - 1)].token

    def vertical(self, token: int, by: int) -> int:
        """Return the token `by` lines below, at about the same column."""
        if not self.places:
            return 0
        line, column = self.places[token]
        found = self.token_at(max(0, min(len(self.lines) - 1, line + by)), column)
        return token if found is None else found


def lay_out(texts: Sequence[str], width: int) -> TokenLines:
    """Wrap the tokens to `width` cells.

    Args:
        texts: what each token adds to the text.
    """
    pieces, before = [], ""
    for token, text in enumerate(texts):
        shown = token_signs(text, first=token == 0)
        if before and ord(shown[0]) >= COMBINING and _is_one(before, shown):
            # apart, or the terminal would draw both in the cells of one
            shown = (CIRCLE if not cell_len(shown[0]) else PART) + shown
        before = "" if shown[-1] in " \n" else shown[-8:]
        if shown.isspace() and "\n" not in shown:
            shown = SPACE * len(shown)
        pieces.append(shown.replace("\n", f"{BREAK}\n"))
    wrapped = WrappedText(width, "".join(pieces))
    result, starts, token = TokenLines(max(1, width)), [0, *accumulate(map(len, pieces))], 0
    for number in range(len(wrapped)):
        start, end = wrapped.span(number)
        runs: list[TokenCells] = []
        column = 0
        while token < len(pieces) and starts[token] < max(end, start + 1):
            part = wrapped.text[max(start, starts[token]) : min(end, starts[token + 1])]
            for piece in _BLANKS.findall(part):
                cells, blank = cell_len(piece), piece.isspace()
                if not blank and token == len(result.places):
                    result.places.append((number, column))
                runs.append(TokenCells(token, column, cells, piece.replace(SPACE, " "), blank))
                column += cells
            if starts[token + 1] > end:
                break
            token += 1
        result.lines.append(runs)
    return result


def _is_one(before: str, after: str) -> bool:
    """Whether the end of one token and the start of the next are one character as displayed."""
    signs = list(graphemes(before))
    return len(list(graphemes(before + after[0]))) == len(signs)
