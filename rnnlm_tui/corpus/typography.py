"""Running text made plain: typography folded to ASCII, paragraphs split into sentences."""

from __future__ import annotations

import re
import unicodedata

_SIGNS = str.maketrans(
    {
        "\u2018": "'", "\u2019": "'", "\u201a": "'", "\u2032": "'", "\u201c": '"', "\u201d": '"', "\u201e": '"', "\u2033": '"', "\u00ab": '"', "\u00bb": '"',
        "\u2010": "-", "\u2011": "-", "\u2012": "-", "\u2013": "-", "\u2014": "--", "\u2015": "--", "\u2212": "-", "\u2026": "...", "\u2022": "-",
        "\u2044": "/", "\u00a0": " ", "\u00ad": "", "\u200b": "", "\ufeff": "", "\u00a2": " cents", "\u00bd": " 1/2", "\u00bc": " 1/4", "\u00be": " 3/4",
    }
)  # fmt: skip

_ABBREVIATIONS = (
    "Mr Mrs Ms Dr Jr Sr St Gen Col Lt Capt Sgt Maj Cpl Adm Gov Sen Rep Rev Hon Prof Pres Messrs No Nos vs v etc Inc Ltd Co Corp Mt Ft Ave Dept Fed Art Sec "
    "Jan Feb Mar Apr Aug Sept Sep Oct Nov Dec"
)
_ABBREVIATION = re.compile(rf"(?:^|[\s(\"'-])(?:{_ABBREVIATIONS.replace(' ', '|')}|[A-Z]|i\.e|e\.g|cf)\.$")
_DOTTED = re.compile(r"(?:[A-Za-z]\.){2,}$")
_END = re.compile(r"(?:\.{3,}|[.!?])[.!?]*[\"')\]]*(?=\s+[\"'(\[]*(?:--)?[A-Z0-9$])")
_STARTERS = frozenset(
    [
        "The",
        "This",
        "That",
        "These",
        "Those",
        "We",
        "I",
        "You",
        "He",
        "She",
        "It",
        "They",
        "And",
        "But",
        "So",
        "Or",
        "Yet",
        "For",
        "In",
        "On",
        "At",
        "As",
        "If",
        "When",
        "While",
        "Our",
        "My",
        "Your",
        "His",
        "Her",
        "Their",
        "Its",
        "Let",
        "Now",
        "There",
        "Here",
        "What",
        "Who",
        "Why",
        "How",
        "To",
        "By",
        "From",
        "With",
        "Today",
        "Tonight",
        "Because",
        "After",
        "Before",
        "Not",
        "No",
        "Yes",
        "All",
        "Some",
        "Many",
        "Most",
        "Every",
        "Each",
    ]
)  # words that open a sentence even behind "U.S." or "p.m."


def fold_to_ascii(text: str) -> str:
    """Typographic quotes, dashes, fractions and accents written with ASCII alone; what has no such form is dropped."""
    if text.isascii():
        return text
    return unicodedata.normalize("NFKD", text.translate(_SIGNS)).encode("ascii", "ignore").decode("ascii")


def split_sentences(paragraph: str) -> list[str]:
    """The sentences of one paragraph, stripped, in order.

    A sentence ends at `.`, `!` or `?` (with the quotes that close behind it) before a word that begins with a capital or a
    figure, but not behind an abbreviation or an initial.
    """
    sentences: list[str] = []
    start = 0
    for match in _END.finditer(paragraph):
        head = paragraph[start : match.end()]
        if match.group().startswith(".") and not match.group().startswith("..") and _goes_on(head, paragraph[match.end() :]):
            continue
        sentences.append(head.strip())
        start = match.end()
    sentences.append(paragraph[start:].strip())
    return [sentence for sentence in sentences if sentence]


def _goes_on(head: str, rest: str) -> bool:
    """Whether the full stop at the end of `head` belongs to an abbreviation inside the sentence."""
    if _DOTTED.search(head):
        following = re.match(r"\s+[\"'(]*([A-Za-z]+)", rest)
        return following is None or following.group(1) not in _STARTERS
    return _ABBREVIATION.search(head) is not None and not re.search(r"\b(?:I|it)\.$", head)
