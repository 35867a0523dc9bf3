"""The guides: the Markdown files beside this module, in the order in which they are read."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rnnlm_tui.errors import InputError, did_you_mean

FOLDER = Path(__file__).parent
_TABLE = re.compile(r"^\|.*\n\|[ |:-]+\n(?:\|.*\n)*", re.MULTILINE)
_CELL_BORDER = re.compile(r"(?<!\\)\|")
_COMMENT = re.compile(r"^<!--.*?-->\n\n?", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Guide:
    """One guide."""

    topic: str
    """Its name on the command line; the file is `<topic>.md`."""
    title: str
    """Its first heading."""
    summary: str
    """What it covers, at most 60 characters."""

    @property
    def path(self) -> Path:
        """The Markdown file."""
        return FOLDER / f"{self.topic}.md"

    def text(self) -> str:
        """The Markdown without the comments that mark generated tables."""
        return _COMMENT.sub("", self.path.read_text(encoding="utf-8"))


GUIDES: tuple[Guide, ...] = (
    Guide("quick-start", "Quick start", "Install, train the demo, watch it, sample from it."),
    Guide(
        "dashboard",
        "The dashboard and its keys",
        "Charts, the list of runs, comparing, keys, the terminal.",
    ),
    Guide("commands", "Commands", "Every command, scripts and JSON, exit codes."),
    Guide("configuration", "Configuration", "Presets, config files, every field with its default."),
    Guide("text", "Text and tokenizers", "Train on your own text: files, layouts, tokenizers."),
    Guide("sampling", "Sampling", "Continue prompts, look inside, keep states, score texts."),
    Guide("inspecting", "Looking inside", "Surprise, alternatives, branches, states, gradients."),
    Guide(
        "runs", "Runs and checkpoints", "Organize runs, keep checkpoints, where files are stored."
    ),
    Guide(
        "exporting",
        "Exporting and importing",
        "Models for transformers, ONNX and the book; and back.",
    ),
    Guide("python", "From Python", "Runs, metrics and models in notebooks; datasets of your own."),
    Guide(
        "reliability", "Reliability", "What a run guarantees, and what happens when things fail."
    ),
    Guide(
        "performance", "Performance", "How fast it trains, how to measure it, what watching costs."
    ),
    Guide("book", "The book's run", "Reproduce the book's recurrent model and its perplexity."),
    Guide("inside", "Inside", "For contributors: processes, packages, how to add things."),
)


def fitted(markdown: str, width: int) -> str:
    """Turn tables of three columns and more that need more than `width` cells into lists."""

    def list_of(table: re.Match[str]) -> str:
        head, _, *rows = [
            [cell.strip() for cell in _CELL_BORDER.split(line)[1:-1]]
            for line in table[0].splitlines()
        ]
        needed = sum(max(map(len, column)) + 3 for column in zip(head, *rows, strict=True))
        if len(head) < 3 or needed <= width:
            return table[0]
        return "".join(f"- {' · '.join(_described(row, head))}\n" for row in rows)

    return _TABLE.sub(list_of, markdown)


def _described(row: list[str], head: list[str]) -> Iterable[str]:
    """Yield the cells of a row that aren't empty; a number is followed by its column's head."""
    for cell, name in zip(row, head, strict=True):
        if cell:
            plain = cell.replace("\\|", "|")
            yield f"{plain} {name}" if plain.strip("*")[0].isdigit() else plain


def find_guide(topic: str, guides: Iterable[Guide] = GUIDES) -> Guide:
    """Return the guide of that topic, or of the only topic that begins with it.

    Raises:
        InputError: no such topic, or several.
    """
    known = {guide.topic: guide for guide in guides}
    if topic in known:
        return known[topic]
    begun = [name for name in known if topic and name.startswith(topic)]
    if len(begun) == 1:
        return known[begun[0]]
    if begun:
        raise InputError(f'"{topic}" matches {len(begun)} guides', hint=", ".join(begun))
    hint = did_you_mean(topic, known) or f"the guides are {', '.join(known)}"
    raise InputError(f'no guide "{topic}"', hint=hint)
