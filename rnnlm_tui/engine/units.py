"""What single units of a layer do over a text: how long they remember, and what they follow."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from rnnlm_tui.errors import InputError, did_you_mean

FEATURES: Mapping[str, str] = MappingProxyType(
    {
        "space": "tokens with a space",
        "newline": "tokens with a line break",
        "uppercase": "tokens with an upper-case letter",
        "digit": "tokens with a digit",
        "punctuation": "tokens with a punctuation mark",
        "quotes": "tokens inside double quotes",
        "brackets": "tokens inside ( ), [ ] or { }",
        "position in line": "characters since the last line break",
        "position in word": "letters and digits since the word began",
    }
)
"""What units can be searched for, besides one character (tokens that contain it) and `since X`
(tokens since the last X, where X is a character or one of the first five)."""
OTHER_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "line break": "newline",
        "upper case": "uppercase",
        "inside quotes": "quotes",
        "inside brackets": "brackets",
    }
)
ALLOWED = f"{', '.join(FEATURES)}, one character, or since X"
UNITS_AT_ONCE = 64
"""Units whose autocorrelations are computed together: 30 MiB for 10,000 tokens."""
CONSTANT = 1e-6
"""Standard deviation below which a unit does nothing over a text."""
LEAST_TOKENS = 3


@dataclass(frozen=True, slots=True)
class TextFeature:
    """Something in a text that a unit may follow."""

    name: str
    is_count: bool
    """A number of tokens or characters; otherwise yes (1) or no (0)."""
    values: Callable[[Sequence[str]], list[float]]
    """From the text of each token to the feature after it; NaN where it isn't known yet."""


def parse_query(query: str) -> TextFeature:
    """The feature that a query names.

    Raises:
        InputError: no such feature; the hint lists what is allowed.
    """
    if len(query) == 1 and query != "\n":
        return TextFeature(query, False, _tokens_with(lambda char: char == query))
    if query[:6].lower() == "since ":
        name = query[6:] if len(query) == 7 else _plain_name(query[6:])
        if len(name) == 1:
            return TextFeature(f"since {name}", True, _since(lambda char: char == name))
        if name in _CHARACTERS:
            return TextFeature(f"since {name}", True, _since(_CHARACTERS[name]))
        raise InputError(
            f'cannot search for "{query}": after since comes one character or one of'
            f" {', '.join(_CHARACTERS)}",
            hint=did_you_mean(name, _CHARACTERS),
        )
    name = "newline" if query == "\n" else _plain_name(query)
    if name in _CHARACTERS:
        return TextFeature(name, False, _tokens_with(_CHARACTERS[name]))
    if name in _SCANNERS:
        return TextFeature(name, name.startswith("position"), _scanned(_SCANNERS[name]))
    raise InputError(
        f'cannot search for "{query}"' if query else "the search is empty",
        hint=did_you_mean(name, FEATURES) or f"search for {ALLOWED}",
    )


def search(outputs_TH: Tensor, pieces: Sequence[str], query: str) -> Tensor:
    """How well each unit follows a feature of the text: match_H from 0 to 1, float64.

    * A feature that is there or not: the larger of two absolute correlations with it, of the unit's
      activation and of its change |h_t - h_(t-1)|. So both a unit that is on inside quotes and one
      that jumps at each space are found.
    * A count: the absolute rank correlation (Spearman) of the activation with it. A unit that
      counts may saturate, so only the order matters.

    In a short text some of many units match by chance.

    Args:
        pieces: the text of each token.

    Raises:
        InputError: no such feature, or it is the same at every token of the text.
    """
    feature = parse_query(query)
    values_T = torch.tensor(feature.values(pieces), dtype=torch.float64)
    outputs_TH = outputs_TH.double()
    is_known_T = values_T.isfinite()
    known_T = values_T[is_known_T]
    if len(known_T) < LEAST_TOKENS or bool((known_T == known_T[0]).all()):
        raise InputError(
            f'"{feature.name}" is the same at every token of this text',
            hint="search a longer text, or for something that changes in it",
        )
    if feature.is_count:
        known_TH = outputs_TH[is_known_T]
        match_H = _correlation(_ranks(known_TH), _ranks(known_T[:, None])[:, 0])
        return match_H.masked_fill(_is_constant(known_TH), 0)
    return torch.maximum(
        _correlation(outputs_TH, values_T), _correlation(outputs_TH.diff(dim=0).abs(), values_T[1:])
    )


def memory_lengths(outputs_TH: Tensor) -> Tensor:
    """Tokens until the autocorrelation of each unit over the text falls below 1/e: memory_H,
    float64, interpolated between tokens.

    The autocorrelation at lag k is the sum of T - k products over the sum of T squares, both of
    deviations from the mean, which is never above 1 and close to zero at lags as long as the text.
    So a memory longer than about a third of the text is underestimated. 0 for a unit that doesn't
    change.
    """
    tokens, units = outputs_TH.shape
    memory_H = torch.zeros(units, dtype=torch.float64)
    if tokens < 2:
        return memory_H
    for chunk in (slice(first, first + UNITS_AT_ONCE) for first in range(0, units, UNITS_AT_ONCE)):
        deviations_TU = outputs_TH[:, chunk].double()
        deviations_TU = deviations_TU - deviations_TU.mean(0)
        # Zeros behind the text keep its end from meeting its beginning.
        spectrum = torch.fft.rfft(deviations_TU, 2 * tokens, dim=0).abs().square()
        products_TU = torch.fft.irfft(spectrum, 2 * tokens, dim=0)[:tokens]
        is_constant_U = products_TU[0] < tokens * CONSTANT**2
        memory_H[chunk] = _first_below(products_TU / products_TU[0], 1 / math.e)
        memory_H[chunk].masked_fill_(is_constant_U, 0)
    return memory_H


def highest_first(figures_H: Tensor) -> list[int]:
    """Indices of the units, the highest figure first; equal ones by index."""
    order: list[int] = figures_H.argsort(descending=True, stable=True).tolist()
    return order


def _first_below(curves_TU: Tensor, level: float) -> Tensor:
    """Where each curve, which starts above the level, first falls below it; the last lag if it
    never does."""
    last = len(curves_TU) - 1
    is_below_TU = curves_TU < level
    after_U = torch.where(is_below_TU.any(0), is_below_TU.int().argmax(0), last).clamp(min=1)
    above_U, below_U = (curves_TU.gather(0, lag_U[None])[0] for lag_U in (after_U - 1, after_U))
    return after_U - 1 + ((above_U - level) / (above_U - below_U)).clamp(0, 1)


def _correlation(numbers_TH: Tensor, values_T: Tensor) -> Tensor:
    """Absolute Pearson correlation of each column with the values; 0 for a constant."""
    deviations_TH = numbers_TH - numbers_TH.mean(0)
    wanted_T = values_T - values_T.mean()
    scale_H = deviations_TH.square().sum(0).sqrt() * wanted_T.square().sum().sqrt()
    match_H = ((wanted_T @ deviations_TH).abs() / scale_H).clamp(max=1)
    return match_H.masked_fill(_is_constant(numbers_TH), 0).nan_to_num(0)


def _is_constant(numbers_TH: Tensor) -> Tensor:
    return numbers_TH.std(0, correction=0) < CONSTANT


def _ranks(numbers_TH: Tensor) -> Tensor:
    """The rank of each number in its column, from 0; equal numbers share their mean rank."""
    numbers_HT = numbers_TH.t().contiguous()
    ordered_HT = numbers_HT.sort(1).values
    below_HT = torch.searchsorted(ordered_HT, numbers_HT)
    up_to_HT = torch.searchsorted(ordered_HT, numbers_HT, right=True)
    return (below_HT + up_to_HT - 1).double().t() / 2


def _plain_name(query: str) -> str:
    words = " ".join(query.lower().replace("_", " ").replace("-", " ").split())
    return OTHER_NAMES.get(words, words) or query


def _tokens_with(is_wanted: Callable[[str], bool]) -> Callable[[Sequence[str]], list[float]]:
    return lambda pieces: [float(any(map(is_wanted, piece))) for piece in pieces]


def _since(is_wanted: Callable[[str], bool]) -> Callable[[Sequence[str]], list[float]]:
    def values(pieces: Sequence[str]) -> list[float]:
        count, counts = math.nan, list[float]()
        for piece in pieces:
            count = 0 if any(map(is_wanted, piece)) else count + 1
            counts.append(count)
        return counts

    return values


def _scanned(
    scanner: Callable[[], Callable[[str], float]],
) -> Callable[[Sequence[str]], list[float]]:
    def values(pieces: Sequence[str]) -> list[float]:
        read, value, found = scanner(), 0.0, list[float]()
        for piece in pieces:
            for char in piece:
                value = read(char)
            found.append(value)
        return found

    return values


def _position(is_outside: Callable[[str], bool]) -> Callable[[str], float]:
    """Counts characters, from 1 after each one that is outside."""
    count = 0

    def read(char: str) -> float:
        nonlocal count
        count = 0 if is_outside(char) else count + 1
        return count

    return read


def _in_quotes() -> Callable[[str], float]:
    """Straight and typographic double quotes; an empty line ends a quotation that isn't closed."""
    closing, before = "", ""

    def read(char: str) -> float:
        nonlocal closing, before
        if closing:
            if char in closing or char == before == "\n":
                closing = ""
        else:
            closing = _QUOTES.get(char, "")
        before = char
        return float(bool(closing))

    return read


def _in_brackets() -> Callable[[str], float]:
    depth = 0

    def read(char: str) -> float:
        nonlocal depth
        if char in "([{":
            depth += 1
        elif char in ")]}":
            depth = max(0, depth - 1)
        return float(depth > 0)

    return read


_QUOTES: Mapping[str, str] = MappingProxyType({'"': '"', "“": "”", "„": "“”", "«": "»"})
"""The marks that open a quotation, and those that close it."""
_CHARACTERS: Mapping[str, Callable[[str], bool]] = MappingProxyType(
    {
        "space": lambda char: char == " ",
        "newline": lambda char: char == "\n",
        "uppercase": str.isupper,
        "digit": str.isdigit,
        "punctuation": lambda char: unicodedata.category(char).startswith("P"),
    }
)
"""Features of single characters."""
_SCANNERS: Mapping[str, Callable[[], Callable[[str], float]]] = MappingProxyType(
    {
        "quotes": _in_quotes,
        "brackets": _in_brackets,
        "position in line": lambda: _position(lambda char: char == "\n"),
        "position in word": lambda: _position(lambda char: not char.isalnum()),
    }
)
"""Features that depend on what was read before."""
