"""The built-in corpora that need no download.

`presidents`: the spoken State of the Union addresses from 1961 to 2026. They are works of the
United States government and so in the public domain (17 U.S.C. 105). `presidents.txt.zst` has them
without notes, headings and other speakers: the name of an address, then a sentence a line, and an
empty line between addresses.

`elman`: sentences from a number-agreement grammar with known entropy. As in Elman (1990, 1991),
nouns and verbs agree in number across relative clauses, and verbs differ in whether they take an
object. It is a probabilistic context-free grammar. Its relative clauses have a maximum depth, so
every expectation is a finite sum. Each sentence has one derivation, so the entropy of derivations
is the entropy of sentences.
"""

from __future__ import annotations

import hashlib
import math
from bisect import bisect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from pathlib import Path
from random import Random

MAX_DEPTH = 2
"""Maximum depth of nested relative clauses."""

END = "."
"""The last word of every sentence."""

_RELATIVE = (0.35, 0.2, 0.0)
"""Probability of a relative clause after a common noun, by the noun's depth."""

_LEXICON: Mapping[str, tuple[tuple[tuple[str, str], float], ...]] = {
    "noun": (
        (("boy", "boys"), 0.26), (("girl", "girls"), 0.22), (("dog", "dogs"), 0.18),
        (("cat", "cats"), 0.14), (("woman", "women"), 0.12), (("man", "men"), 0.08),
    ),
    "transitive": (
        (("chases", "chase"), 0.45), (("feeds", "feed"), 0.35), (("follows", "follow"), 0.2),
    ),
    "either": ((("sees", "see"), 0.6), (("hears", "hear"), 0.4)),
    "intransitive": (
        (("walks", "walk"), 0.5), (("lives", "live"), 0.3), (("sleeps", "sleep"), 0.2),
    ),
}  # fmt: skip
_NAMES = (("john", 0.6), ("mary", 0.4))


@dataclass(frozen=True, slots=True)
class Rule:
    """One expansion of a symbol: its probability, and the symbols and words it becomes."""

    probability: float
    parts: tuple[str, ...]


@dataclass(frozen=True)
class Grammar:
    """A probabilistic context-free grammar without cycles.

    Parts that aren't keys of `rules` are words.
    """

    start: str
    rules: Mapping[str, tuple[Rule, ...]]

    def entropy(self) -> float:
        """Entropy of a sentence in nats: the sum of expected uses times entropy by symbol."""
        return -sum(
            count * rule.probability * math.log(rule.probability)
            for symbol, count in self._expected_uses().items()
            for rule in self.rules[symbol]
            if rule.probability > 0
        )

    def expected_words(self) -> float:
        """Mean number of words in a sentence, including the full stop."""
        uses = self._expected_uses()
        return sum(
            count * rule.probability * sum(part not in self.rules for part in rule.parts)
            for symbol, count in uses.items()
            for rule in self.rules[symbol]
        )

    def sample(self, seed: int) -> Iterator[str]:
        """Generate sentences forever; the same seed gives the same sentences on every machine."""
        draw = Random(seed).random
        choices = {
            symbol: (list(accumulate(rule.probability for rule in rules))[:-1], rules)
            for symbol, rules in self.rules.items()
        }
        while True:
            words: list[str] = []
            pending = [self.start]
            while pending:
                part = pending.pop()
                choice = choices.get(part)
                if choice is None:
                    words.append(part)
                else:
                    pending.extend(reversed(choice[1][bisect(choice[0], draw())].parts))
            yield " ".join(words)

    def _expected_uses(self) -> dict[str, float]:
        """The mean number of expansions of each symbol in a sentence."""

        @cache
        def order(symbol: str) -> int:
            """Longest path from a symbol to words."""
            return 1 + max(
                (
                    order(part)
                    for rule in self.rules[symbol]
                    for part in rule.parts
                    if part in self.rules
                ),
                default=0,
            )

        uses = dict.fromkeys(sorted(self.rules, key=order, reverse=True), 0.0)
        uses[self.start] = 1.0
        for symbol, count in uses.items():
            for rule in self.rules[symbol]:
                for part in rule.parts:
                    if part in uses:
                        uses[part] += count * rule.probability
        return uses


def elman_grammar() -> Grammar:
    """The grammar of the source `elman`."""
    rules: dict[str, tuple[Rule, ...]] = {
        "S": tuple(Rule(0.5, (f"NP-{number}-0", f"VP-{number}-0", END)) for number in ("s", "p"))
    }
    for index, number in enumerate(("s", "p")):
        for kind, words in _LEXICON.items():
            rules[f"{kind}-{number}"] = tuple(
                Rule(probability, (forms[index],)) for forms, probability in words
            )
        rules[f"gap-{number}"] = (
            Rule(0.6, (f"transitive-{number}",)),
            Rule(0.4, (f"either-{number}",)),
        )
    rules["name"] = tuple(Rule(probability, (name,)) for name, probability in _NAMES)
    for depth in range(MAX_DEPTH + 1):
        for number in ("s", "p"):
            rules[f"NP-{number}-{depth}"] = _noun_phrase(number, depth)
            rules[f"VP-{number}-{depth}"] = (
                Rule(0.4, (f"transitive-{number}", f"object-{depth}")),
                Rule(0.2, (f"either-{number}", f"object-{depth}")),
                Rule(0.15, (f"either-{number}",)),
                Rule(0.25, (f"intransitive-{number}",)),
            )
            if _RELATIVE[depth] > 0:
                rules[f"RC-{number}-{depth}"] = (
                    Rule(0.6, ("who", f"VP-{number}-{depth + 1}")),
                    Rule(0.2, ("who", f"NP-s-{depth + 1}", "gap-s")),
                    Rule(0.2, ("who", f"NP-p-{depth + 1}", "gap-p")),
                )
        rules[f"object-{depth}"] = (Rule(0.5, (f"NP-s-{depth}",)), Rule(0.5, (f"NP-p-{depth}",)))
    return Grammar("S", rules)


def _noun_phrase(number: str, depth: int) -> tuple[Rule, ...]:
    named = 0.2 if number == "s" else 0.0
    relative = _RELATIVE[depth] * (1 - named)
    candidates = (
        Rule(named, ("name",)),
        Rule(relative, ("the", f"noun-{number}", f"RC-{number}-{depth}")),
        Rule(1 - named - relative, ("the", f"noun-{number}")),
    )
    return tuple(rule for rule in candidates if rule.probability > 0)


TEST_YEARS = frozenset({1966, 1977, 1988, 2000, 2012, 2024})

_ADDRESSES = Path(__file__).with_name("presidents.txt.zst")


def read_addresses() -> dict[str, list[str]]:
    """The spoken addresses by date: the president's sentences in ASCII, by names such as
    `1961-Kennedy-1`."""
    import zstandard  # imported late: other sources don't need it

    text = zstandard.ZstdDecompressor().decompress(_ADDRESSES.read_bytes()).decode("ascii")
    parts = (part.split("\n") for part in text.split("\n\n"))
    return {name: sentences for name, *sentences in parts}


def addresses_hash() -> str:
    """SHA-256 of the packed addresses."""
    return hashlib.sha256(_ADDRESSES.read_bytes()).hexdigest()
