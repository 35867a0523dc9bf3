"""How two texts differ, and how differently two models are surprised by one text."""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache
from itertools import accumulate, pairwise

from rnnlm_tui.errors import InputError
from rnnlm_tui.schema.metrics import scored_share
from rnnlm_tui.schema.sampling import InspectedToken, Inspection

MOST_WORDS = 2_000
"""Words of a text that are compared with another: more would take seconds."""
SAME_WORDS = 3
"""Fewer equal words in a row, between two differences, are a coincidence."""
_WORD = re.compile(r"\s*\S+")


def common_start(a: str, b: str) -> int:
    """Return how many characters are the same whole words at the start of both texts."""
    end = 0
    for one, other in zip(_WORD.finditer(a), _WORD.finditer(b), strict=False):
        if one[0] != other[0]:
            return end
        end = one.end()
    return len(a) if a == b else end


def distinct_words(text: str) -> int:
    """Return how many different words a text has, regardless of case and punctuation."""
    return len({word for part in text.split() if (word := re.sub(r"\W", "", part).casefold())})


Span = tuple[int, int]
"""Start and end of characters."""


@lru_cache(maxsize=4)
def hunks(a: str, b: str) -> Sequence[tuple[Span, Span]]:
    """Return where two texts differ, word by word, in order: the words of each, perhaps none."""
    words_a, words_b = (list(_WORD.finditer(text))[:MOST_WORDS] for text in (a, b))
    matcher = SequenceMatcher(
        None, [word[0].strip() for word in words_a], [word[0].strip() for word in words_b]
    )
    equal = [(0, 0, 0)]
    equal += [
        (block.a, block.b, block.size)
        for block in matcher.get_matching_blocks()
        if block.size >= SAME_WORDS or block.a == block.b == 0
    ]
    equal.append((len(words_a), len(words_b), 0))
    found = []
    for before, after in pairwise(equal):
        span_a, span_b = (
            _characters(words, before[side] + before[2], after[side])
            for side, words in ((0, words_a), (1, words_b))
        )
        if span_a[0] < span_a[1] or span_b[0] < span_b[1]:
            found.append((span_a, span_b))
    return found


def _characters(words: Sequence[re.Match[str]], first: int, last: int) -> Span:
    """Return the characters of words `first` to before `last`, without the blanks around them."""
    if first >= last:
        at = words[first - 1].end() if first else 0
        return at, at
    return words[first].end() - len(words[first][0].lstrip()), words[last - 1].end()


# one text, two models


@dataclass(frozen=True, slots=True)
class ScoredSpan:
    """A piece of a text and its surprise for two models: a token, if both divide the text so."""

    text: str
    a: float | None
    """Bits of the first model; None where nothing predicts it."""
    b: float | None
    """Bits of the second model."""

    @property
    def both(self) -> bool:
        """Whether both models predict it."""
        return self.a is not None and self.b is not None

    @property
    def difference(self) -> float:
        """Bits that the second model needs less: positive if it predicts the text better."""
        return 0.0 if self.a is None or self.b is None else self.a - self.b


def scored_spans(a: Inspection, b: Inspection) -> list[ScoredSpan]:
    """Return a text in the smallest pieces that both models' tokens can be divided into.

    Raises:
        InputError: the models read different texts, as with characters that one doesn't know.
    """
    texts = ["".join(token.text for token in one.tokens) for one in (a, b)]
    if texts[0] != texts[1]:
        raise InputError(
            "the two tokenizers read this text differently: it has characters that one lacks",
            hint="score another text",
        )
    ends_a, ends_b = (set(accumulate(len(token.text) for token in one.tokens)) for one in (a, b))
    ends = sorted((ends_a & ends_b) - {0}) or [0]
    pieces = zip([0, *ends], ends, _bits(a.tokens, ends), _bits(b.tokens, ends), strict=False)
    return [ScoredSpan(texts[0][start:end], *bits) for start, end, *bits in pieces]


def _bits(tokens: Sequence[InspectedToken], ends: Sequence[int]) -> list[float | None]:
    """Return the bits of a text's pieces, which end before these characters.

    Tokens that are parts of a character count with it.
    """
    sums, at = [0.0] * len(ends), 0
    for token in tokens:
        # the end token in front of a text isn't predicted, but neither is it part of the text
        if token.bits is not None or token.bytes:
            bits = math.nan if token.bits is None else token.bits
            sums[min(bisect_right(ends, at), len(ends) - 1)] += bits
        at += len(token.text)
    return [None if math.isnan(bits) else bits for bits in sums]


LEAST_DIFFERENCE = 1.0
"""Bits from which a difference is shown."""
LEVELS = (LEAST_DIFFERENCE, 2.0, 4.0)
"""Bits from which a difference has the first, second and third colour."""


def level(difference: float) -> int:
    """Return 0 for no difference to speak of, up to 3."""
    return sum(abs(difference) >= least for least in LEVELS)


def largest(spans: Sequence[ScoredSpan], most: int) -> list[int]:
    """Return the indices of the largest differences, the largest first."""
    shown = [index for index, span in enumerate(spans) if level(span.difference)]
    return sorted(shown, key=lambda index: -abs(spans[index].difference))[:most]


@dataclass(frozen=True, slots=True)
class TextScore:
    """The surprise of a generated text for one model, without the prompt."""

    bits: tuple[float, ...]
    """Of each token; a token that starts in the prompt counts if it ends behind it."""
    bytes: tuple[int, ...]
    """UTF-8 bytes that each token stands for."""
    text_bytes: int = 0
    """UTF-8 bytes of the text, with those of tokens that nothing predicts; 0 if unknown."""

    @classmethod
    def of(cls, inspection: Inspection, prompt: str, *, whole: bool = False) -> TextScore:
        """Return the tokens after the prompt.

        With `whole`, prompt and text were sent as one text, so the tokens don't say where the
        prompt ends.
        """
        found = inspection.tokens[inspection.prompt_tokens :]
        if whole:
            start = len(prompt.encode("utf-8", "surrogatepass"))
            ends = accumulate(token.bytes for token in inspection.tokens)
            pairs = zip(inspection.tokens, ends, strict=True)
            found = tuple(token for token, end in pairs if end > start)
        kept = [token for token in found if token.bits is not None]
        return cls(
            tuple(token.bits or 0.0 for token in kept),
            tuple(token.bytes for token in kept),
            sum(token.bytes for token in found),
        )

    @property
    def scored_share(self) -> float | None:
        """Share of the text's bytes that were predicted; None if unknown."""
        return scored_share(sum(self.bytes), self.text_bytes)

    @property
    def bits_per_token(self) -> float:
        """Mean; NaN without tokens."""
        return math.fsum(self.bits) / len(self.bits) if self.bits else math.nan

    @property
    def bits_per_byte(self) -> float:
        """Bits over the bytes of the text; NaN without bytes."""
        size = sum(self.bytes)
        return math.fsum(self.bits) / size if size else math.nan

    def words(self, *, by_bytes: bool) -> str:
        """Return the bits per token, or per byte; empty without any."""
        bits = self.bits_per_byte if by_bytes else self.bits_per_token
        return "" if math.isnan(bits) else f"{bits:.{1 + by_bytes}f}"
