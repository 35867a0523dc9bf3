"""The built-in corpora."""

from __future__ import annotations

import hashlib
import math
import statistics
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest

from rnnlm_tui.corpus import builtin
from rnnlm_tui.corpus.builtin import (
    MAX_DEPTH,
    Grammar,
    Rule,
    elman_grammar,
)
from rnnlm_tui.corpus.sources import open_source
from rnnlm_tui.schema.config import CorpusConfig
from rnnlm_tui.schema.corpora import Split


def test_the_addresses_have_the_documented_size() -> None:
    addresses = builtin.read_addresses()
    assert len(addresses) == 57
    source, root = CorpusConfig(), Path()
    held: dict[Split, list[str]] = {"train": [], "test": []}
    sizes: list[int] = []
    for document in open_source(source, root).documents(sizes.append):
        held[document.split].extend(document.sentences)
    assert {split: len(sentences) for split, sentences in held.items()} == {
        "test": 2_209,
        "train": 15_596,
    }
    everything = "\n".join(held["test"] + held["train"])
    assert len(everything) + 1 == sum(sizes) == open_source(source, root).size
    assert {int(name[:4]) for name in addresses} >= builtin.TEST_YEARS
    assert everything.isascii()
    assert all(sentence == sentence.strip() != "" for sentence in held["test"] + held["train"])
    assert not any(mark in everything for mark in ("[", "]", "Audience member", "The President. "))


SENTENCES = 50_000
PLURAL = {"boys", "girls", "dogs", "cats", "women", "men"}


def mean_of(grammar: Grammar, symbol: str, of_rule: Callable[[Rule], float]) -> float:
    """The mean of the sum over a symbol's derivation, by going through it."""
    return sum(
        rule.probability
        * (of_rule(rule) + sum(mean_of(grammar, part, of_rule) for part in rule.parts))
        for rule in grammar.rules.get(symbol, ())
    )


def test_entropy_and_length_are_those_of_all_derivations_and_of_sampled_sentences() -> None:
    grammar = elman_grammar()
    entropy = mean_of(grammar, "S", lambda rule: -math.log(rule.probability))
    words = mean_of(
        grammar, "S", lambda rule: sum(part not in grammar.rules for part in rule.parts)
    )
    assert grammar.entropy() == pytest.approx(entropy)
    assert grammar.expected_words() == pytest.approx(words)
    lengths = [len(sentence.split()) for sentence in islice(grammar.sample(11), SENTENCES)]
    error = statistics.stdev(lengths) / math.sqrt(SENTENCES)
    assert abs(statistics.fmean(lengths) - words) < 3 * error < 0.1


def test_subjects_and_verbs_agree_also_in_relative_clauses() -> None:
    sentences = [sentence.split() for sentence in islice(elman_grammar().sample(3), 20_000)]
    assert max(sentence.count("who") for sentence in sentences) >= MAX_DEPTH
    for words in sentences:
        if "who" not in words:
            place = 2 if words[0] == "the" else 1
            assert words[place].endswith("s") != (words[place - 1] in PLURAL), words
        for place, word in enumerate(words):
            if word == "who" and words[place + 1] not in ("the", "john", "mary"):
                assert words[place + 1].endswith("s") != (words[place - 1] in PLURAL), words


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
    many = "".join(islice(grammar.sample(1990), 20_000)).encode()
    assert hashlib.sha256(many).hexdigest() == (
        "75dadca8d9ba78701edbf4731b69ab1bbad9ffb5fcfbfa7435cf5071b98cd4c1"
    )
    assert list(islice(grammar.sample(1), 50)) != list(islice(grammar.sample(2), 50))
