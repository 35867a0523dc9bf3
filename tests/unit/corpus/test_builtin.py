"""The built-in corpora."""

from __future__ import annotations

import math
import statistics
from itertools import islice

import pytest

from rnnlm_tui.corpus import builtin
from rnnlm_tui.corpus.builtin import (
    MAX_DEPTH,
    Grammar,
    Rule,
    elman_grammar,
)


def test_the_addresses_have_the_documented_size() -> None:
    addresses = builtin.read_addresses()
    assert len(addresses) == 57
    years = {int(address.name[:4]) for address in addresses if address.is_test}
    assert years == builtin.TEST_YEARS
    held: dict[bool, list[str]] = {True: [], False: []}
    for address in addresses:
        held[address.is_test].extend(address.sentences)
    assert {is_test: len(sentences) for is_test, sentences in held.items()} == {
        True: 2_209,
        False: 15_596,
    }
    everything = "\n".join(held[True] + held[False])
    assert len(everything) + 1 == sum(address.size for address in addresses)
    assert everything.isascii()
    assert all(sentence == sentence.strip() != "" for sentence in held[True] + held[False])
    assert not any(mark in everything for mark in ("[", "]", "Audience member", "The President. "))


SENTENCES = 100_000
SINGULAR = {"boy": 0.26, "girl": 0.22, "dog": 0.18, "cat": 0.14, "woman": 0.12, "man": 0.08}
PLURAL = {"boys": 0.26, "girls": 0.22, "dogs": 0.18, "cats": 0.14, "women": 0.12, "men": 0.08}
NAMES = {"john": 0.6, "mary": 0.4}
CLASSES = (
    {"chase": 0.45, "feed": 0.35, "follow": 0.2},
    {"see": 0.6, "hear": 0.4},
    {"walk": 0.5, "live": 0.3, "sleep": 0.2},
)
RELATIVE = (0.35, 0.2, 0.0)


class Scorer:
    """-log2 p of a sentence, read from left to right, where each word shows the choice."""

    def __init__(self, sentence: str) -> None:
        self.words = sentence.split()
        self.place = 0
        self.bits = 0.0

    def choose(self, probability: float) -> None:
        self.bits -= math.log2(probability)

    @property
    def next(self) -> str:
        return self.words[self.place]

    def take(self) -> str:
        self.place += 1
        return self.words[self.place - 1]

    def sentence(self) -> float:
        self.choose(0.5)
        self.verb_phrase(self.noun_phrase(0), 0)
        assert self.take() == "."
        assert self.place == len(self.words)
        return self.bits

    def noun_phrase(self, depth: int) -> bool:
        """Whether the noun is plural."""
        word = self.take()
        if word in NAMES:
            self.choose(0.2 * NAMES[word])
            return False
        assert word == "the"
        noun = self.take()
        plural = noun in PLURAL
        has_clause = self.next == "who"
        clause = RELATIVE[depth] if has_clause else 1 - RELATIVE[depth]
        self.choose((1 if plural else 0.8) * clause * (PLURAL if plural else SINGULAR)[noun])
        if has_clause:
            self.take()
            if self.next == "the" or self.next in NAMES:
                self.choose(0.2)
                stem, kind = self.verb(self.noun_phrase(depth + 1))
                self.choose((0.6, 0.4)[kind] * CLASSES[kind][stem])
            else:
                self.choose(0.6)
                self.verb_phrase(plural, depth + 1)
        return plural

    def verb_phrase(self, plural: bool, depth: int) -> None:
        stem, kind = self.verb(plural)
        has_object = self.next == "the" or self.next in NAMES
        self.choose(
            {(0, True): 0.4, (1, True): 0.2, (1, False): 0.15, (2, False): 0.25}[kind, has_object]
            * CLASSES[kind][stem]
        )
        if has_object:
            self.choose(0.5)
            self.noun_phrase(depth)

    def verb(self, plural: bool) -> tuple[str, int]:
        word = self.take()
        assert word.endswith("s") != plural
        stem = word if plural else word[:-1]
        return stem, next(index for index, verbs in enumerate(CLASSES) if stem in verbs)


def test_entropy_and_length_match_those_of_sampled_sentences() -> None:
    grammar = elman_grammar()
    sentences = list(islice(grammar.sample(7), SENTENCES))
    for values, expected in (
        ([Scorer(sentence).sentence() for sentence in sentences], grammar.entropy() / math.log(2)),
        ([len(sentence.split()) for sentence in sentences], grammar.expected_words()),
    ):
        error = statistics.stdev(values) / math.sqrt(SENTENCES)
        assert abs(statistics.fmean(values) - expected) < 3 * error < 0.1
    assert any("who the" in sentence for sentence in sentences)
    assert max(sentence.split().count("who") for sentence in sentences) >= MAX_DEPTH


def test_the_entropy_of_a_small_grammar() -> None:
    grammar = Grammar(
        "S",
        {
            "S": (Rule(0.5, ("A", "A")), Rule(0.5, ("x",))),
            "A": (Rule(0.25, ("a",)), Rule(0.75, ("b", "c"))),
        },
    )
    inner = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    assert grammar.entropy() == pytest.approx(math.log(2) + inner)
    assert grammar.expected_words() == pytest.approx(0.5 + 1.75)


def test_probabilities_of_every_symbol_sum_to_one() -> None:
    grammar = elman_grammar()
    assert all(
        math.isclose(sum(rule.probability for rule in rules), 1) for rules in grammar.rules.values()
    )


def test_the_same_seed_gives_the_same_sentences() -> None:
    grammar = elman_grammar()
    assert list(islice(grammar.sample(1990), 3)) == [
        "john chases mary .",
        "the cats see .",
        "the girls live .",
    ]
    assert list(islice(grammar.sample(1), 50)) != list(islice(grammar.sample(2), 50))
