"""What the side-by-side pane shows, as Markdown: the lines of its panels, and the whole texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from textual.content import Content

from rnnlm_tui.schema.formatting import safe
from rnnlm_tui.tui.views.compare import LETTERS
from rnnlm_tui.tui.views.side_facts import fact_lines
from rnnlm_tui.tui.views.text_scores import TextScores
from rnnlm_tui.tui.views.versus import SampleRound, Side, SideBySide, settings_line

LINE_CELLS = 100
MOST_EXPORTED = 100
"""Differences in an export."""


def texts_markdown(found: SideBySide) -> str:
    """Return the facts, and the texts of all sides, round by round from the newest."""
    lines = fact_lines(found, range(len(found.sides)), LINE_CELLS)
    facts = f"## Same and different\n\n{_lines(lines)}" if lines else ""
    rounds = [_texts(asked, found.sides) for asked in reversed(found.rounds)]
    return _joined("# Side by side", facts, *rounds)


def differences_markdown(scores: TextScores) -> str:
    """Return one text scored by two sides: the means, and the largest differences."""
    lines = [scores.row(index, LINE_CELLS) for index in scores.order[:MOST_EXPORTED]]
    means = Content("   ").join(f"{one.name} {one.current}" for one in scores.chart.series)
    return _joined(
        "# Difference of surprise",
        "\n".join(f"- {_name(scores.found.sides[place], place)}" for place in scores.pair),
        _block("".join(span.text for span in scores.spans)),
        f"## {scores.chart.title}: {means.plain}",
        "## Largest differences",
        _lines([*scores.heads(), *lines]),
    )


def grid_markdown(grid: SampleRound) -> str:
    """Return the grid, a section for each checkpoint and temperature."""
    return _joined("# Checkpoint × temperature", _texts(grid, list(grid.texts)))


def _texts(asked: SampleRound, sides: Sequence[Side]) -> str:
    """Return the texts of a round."""
    parts = [f"## {_one_line(asked.prompt) or 'No prompt'}"]
    if asked.start:
        parts.append(f"from state {safe(Path(asked.start).stem)}")
    for place, side in enumerate(sides):
        for text in asked.texts.get(side, ()):
            words = settings_line(text.wanted.settings, len(sides), 0)
            parts += [f"### {_name(side, place)}", words.plain]
            parts.append(text.error or _block(asked.prompt + text.text))
    return "\n\n".join(parts)


def _name(side: Side, place: int) -> str:
    value = f", val ppl {side.perplexity}" if side.perplexity else ""
    return f"{LETTERS[place]} {_one_line(side.label())}{value}"


def _one_line(text: str) -> str:
    return " ".join(safe(text, keep="").split())


def _lines(lines: Sequence[Content]) -> str:
    return _block("\n".join(line.plain.rstrip() for line in lines))


def _block(text: str) -> str:
    """Return a text as a fenced block, whose fence is longer than any in the text."""
    shown, fence = safe(text, keep="\n\t"), "```"
    while fence in shown:
        fence += "`"
    return f"{fence}text\n{shown}\n{fence}"


def _joined(*parts: str) -> str:
    return "\n\n".join(filter(None, parts)) + "\n"
