"""What a model continued its prompts with at one step, and what is new against the step before: so that one sees it learn."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

from textual.content import Content
from textual.strip import Strip

from rnnlm_tui.contract.figures import count, figure
from rnnlm_tui.tui.widgets import palette
from rnnlm_tui.tui.widgets.content import from_outside, plain
from rnnlm_tui.tui.widgets.panel import Panel, padded, segments_of
from rnnlm_tui.tui.widgets.samples import LONGEST, cut_lines

if TYPE_CHECKING:
    from rnnlm_tui.contract.metrics import EvaluationRow, SampleRow

MOST_WORDS = 400
"""Words of two texts that are compared."""
_WORD = re.compile(r"\s*\S+")


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """What there is to show of one step."""

    step: int
    index: int
    """Which of the steps with samples it is, from 0."""
    steps: int
    """How many there are."""
    prompts: tuple[str, ...]
    now: dict[str, SampleRow] = field(default_factory=dict)
    """By prompt; a prompt without one was not continued at this step."""
    before: dict[str, SampleRow] = field(default_factory=dict)
    """The same of the step with samples before it."""
    evaluation: EvaluationRow | None = None
    """The newest one until then."""
    name: str = "val"
    """Of the set that it is of."""
    loaded: bool = True
    """Whether the samples have been read yet."""


class HistoryPanel(Panel):
    """One step of the history; the chosen prompt stands there in full, with its text of the step before."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(title="Samples, step by step", id=id)
        self.page: HistoryPage | None = None
        """What shows; set by `show`."""
        self.chosen = 0
        """Index of the prompt that stands in full."""
        self._inside: list[Content] = []

    def show(self, page: HistoryPage, chosen: int) -> None:
        """Show a step."""
        self.page, self.chosen = page, chosen
        self.set_reactive(Panel.legend, Content.styled(f"{page.index + 1} of {page.steps}", palette.DIM))
        self.redraw()

    def prepare(self, width: int, height: int) -> None:
        """Lines for this size."""
        self._inside = [] if self.page is None else page_lines(self.page, self.chosen, width, height)

    def content_line(self, y: int, width: int) -> Strip:
        """One line."""
        return padded(segments_of(self._inside[y], palette.TEXT) if y < len(self._inside) else [], width)


def page_lines(page: HistoryPage, chosen: int, width: int, height: int) -> list[Content]:
    """At most `height` lines of `width` cells: where this is, then each prompt's continuation, the chosen one's in full with the one before."""
    lines = [_head(page, width), Content("")]
    room = height - len(lines)
    if not page.loaded:
        return lines
    others = max(0, len(page.prompts) - 1)
    each = 1 if room < 4 * (others + 1) else 2
    whole = _block(page, page.prompts[chosen], width, max(1, room - others * (each + 1)), chosen=True) if page.prompts else []
    each = max(1, min(6, (room - len(whole) - others) // others - (1 if others else 0))) if others else 0
    for index, prompt in enumerate(page.prompts):
        lines += whole if index == chosen else _block(page, prompt, width, each, chosen=False)
        if len(lines) < height:
            lines.append(Content(""))
    return lines[:height]


def _head(page: HistoryPage, width: int) -> Content:
    """`step 2,000  val ppl 67.2  ────────●────`: time goes to the right."""
    value = figure(page.evaluation.perplexity) if page.evaluation is not None else "–"
    at = f" @{count(page.evaluation.step)}" if page.evaluation is not None and page.evaluation.step != page.step else ""
    left = Content.assemble(
        ("step ", palette.DIM), (count(page.step).rjust(len(count(page.step))), f"bold {palette.BRIGHT}"), (f"  {page.name} ppl ", palette.DIM),
        (value, f"bold {palette.VALIDATION}"), (at, palette.DIM), "  ",
    )  # fmt: skip
    cells = width - left.cell_length
    if cells < 3:
        return left.truncate(width)
    place = round(page.index / max(1, page.steps - 1) * (cells - 1)) if page.steps > 1 else cells - 1
    return Content.assemble(left, ("━" * place, palette.FOCUS), ("●", f"bold {palette.FOCUS}"), ("─" * (cells - 1 - place), palette.BORDER))


def _block(page: HistoryPage, prompt: str, width: int, height: int, *, chosen: bool) -> list[Content]:
    """`› The state of the Union is strong…`, new words bright; for the chosen one below it the text of the step before."""
    now, before = page.now.get(prompt), page.before.get(prompt)
    sign = Content.styled("› " if chosen else "  ", f"bold {palette.FOCUS}")
    told = from_outside(prompt, newlines="space", limit=200).stylize(f"bold {palette.BRIGHT if chosen else palette.TEXT}")
    if now is None:
        return [Content.assemble(sign, told, (" – no sample at this step", palette.DIM)).truncate(width, ellipsis=True)]
    text = continuation(now.text, before.text if before is not None else None)
    room = max(8, width - 2)
    wrapped = Content.assemble(told, text).wrap(room)
    older: list[Content] = []
    if chosen and before is not None and height > 3:
        older = Content.styled(f"@{count(before.step)} {plain(before.text[:LONGEST], newlines='space').strip()}", palette.DIM).wrap(room)
    share = height if not older else max(min(len(wrapped), height - 1), height - len(older))
    shown = cut_lines(wrapped, room, share)
    shown += cut_lines(older, room, height - len(shown), palette.DIM)
    return [Content.assemble(sign if index == 0 else "  ", line) for index, line in enumerate(shown)]


def continuation(text: str, before: str | None) -> Content:
    """A text with the words bright that the one before does not have in this order; all of it plain where there is none before."""
    words = _words(text)
    if before is None:
        return Content.styled("".join(words), palette.TEXT)
    kept = [False] * len(words)
    bare = [word.strip() for word in words]
    for block in SequenceMatcher(None, [word.strip() for word in _words(before)], bare, autojunk=False).get_matching_blocks():
        kept[block.b : block.b + block.size] = [True] * block.size
    return Content.assemble(*((word, palette.BASELINE if same else f"bold {palette.TRAIN}") for word, same in zip(words, kept, strict=True)))


def _words(text: str) -> Sequence[str]:
    return _WORD.findall(plain(text[:LONGEST], newlines="space"))[:MOST_WORDS]
