"""The built-in source `python-docs`: the prose of the language reference that every Python interpreter carries."""

from __future__ import annotations

import re
from collections.abc import Iterator

from rnnlm_tui.corpus.typography import fold_to_ascii, split_sentences
from rnnlm_tui.errors import CorpusError

_RULE = re.compile(r"^\s*([*=\-~^+\"#])\1{2,}\s*$")
_CODE = re.compile(r">>>|\.\.\. |::=|^\s*[|+][-|+ ]|[{}]\s*$|^\s*(?:def|class|import|from|for|while|if|try|with|print|async|return)\b.*[:()]\s*$")
_SENTENCE_LIKE = re.compile(r"^[\"'(*]?[A-Za-z].*[.:;?!)\"']$")


def read_topics() -> list[str]:
    """The texts of the reference in order of topic, without paragraphs that an earlier one holds already.

    Raises:
        CorpusError: this Python was packaged without its topics.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise CorpusError("this Python carries no language reference (pydoc_data.topics)", hint="choose another corpus: --set corpus.source=elman") from error
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


def sentences(text: str) -> Iterator[str]:
    """The sentences of a topic's prose; headings, code and grammar rules are left out."""
    for paragraph in re.split(r"\n[ \t]*\n", fold_to_ascii(text)):
        lines = paragraph.split("\n")
        if any(_RULE.match(line) or _CODE.search(line) for line in lines):
            continue
        plain = re.sub(r"^(?:[*-]|\d+\.|\[\d+\])\s+", "", " ".join(" ".join(lines).split()))
        if len(plain.split()) >= 4 and _SENTENCE_LIKE.match(plain):
            yield from split_sentences(plain)
