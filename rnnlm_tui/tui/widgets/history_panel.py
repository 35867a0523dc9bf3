"""The samples of one step, with what is new compared to the step before."""

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
from rnnlm_tui.tui.widgets.content import Newlines, safe_content, safe_text
from rnnlm_tui.tui.widgets.panel import Panel, padded, segments_of
from rnnlm_tui.tui.widgets.samples import LONGEST, cut_lines

if TYPE_CHECKING:
    from rnnlm_tui.contract.metrics import EvaluationRow, SampleRow

MOST_WORDS = 400
"""Words that are compared of two texts."""
MOST_NEW = 0.5
"""Share of new words above which highlighting them says nothing."""
_WORD = re.compile(r"\s*\S+")


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """The samples of one step, with those of earlier steps."""

    step: int
    index: int
    """Index among the steps with samples, from 0."""
    steps: int
    """The number of steps with samples."""
    prompts: tuple[str, ...]
    now: dict[str, SampleRow] = field(default_factory=dict)
    """By prompt; without an entry, the prompt has no sample at this step."""
    before: tuple[dict[str, SampleRow], ...] = ()
    """The samples of the earlier steps, newest first."""
    evaluation: EvaluationRow | None = None
    """The latest evaluation up to this step."""
    name: str = "val"
    """Name of the evaluated set."""
    loaded: bool = True
    """Whether the samples have been read yet."""
    newlines: Newlines = "space"
    """How line breaks in samples are shown."""


class HistoryPanel(Panel):
    """One step of the history; the chosen prompt is shown in full, with its text from earlier
    steps.
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(title="Samples, step by step", id=id)
        self.page: HistoryPage | None = None
        """The page shown; set by `show`."""
        self.chosen = 0
        """Index of the prompt shown in full."""
        self._inside: list[Content] = []

    def show(self, page: HistoryPage, chosen: int) -> None:
        """Show a step."""
        self.page, self.chosen = page, chosen
        self.set_reactive(Panel.legend, Content.styled(f"{page.index + 1} of {page.steps}", palette.DIM))
        self.redraw()

    def prepare(self, width: int, height: int) -> None:
        """Lay out the lines for this size."""
        plain_terminal = bool(getattr(self.app, "no_color", False))
        self._inside = [] if self.page is None else page_lines(self.page, self.chosen, width, height, no_colour=plain_terminal)

    def content_line(self, y: int, width: int) -> Strip:
        """Return one line."""
        return padded(segments_of(self._inside[y], palette.TEXT) if y < len(self._inside) else [], width)


def page_lines(page: HistoryPage, chosen: int, width: int, height: int, *, no_colour: bool = False) -> list[Content]:
    """Return at most `height` lines: the step, then each prompt's sample.

    The chosen prompt's sample comes in full, with those of the steps before.
    """
    lines = [_head(page, width), Content("")]
    room = height - len(lines)
    if not page.loaded or not page.prompts:
        return lines
    short = [_now(page, prompt, width, no_colour=no_colour, chosen=index == chosen) for index, prompt in enumerate(page.prompts)]
    others = len(short) - 1
    gap = 1 if room >= 4 * len(short) else 0
    each = max(1, min(6, (room - others * gap) // (2 * others + 2))) if others else 0
    kept = [len(block) if index == chosen else min(each, len(block)) for index, block in enumerate(short)]
    free = room - sum(kept) - others * gap
    kept[chosen] = max(1, min(kept[chosen], kept[chosen] + free))
    free = room - sum(kept) - others * gap
    for index in range(len(short)):  # spare lines go to texts that were cut, but half of them to earlier steps
        more = min(len(short[index]) - kept[index], max(0, free) // 2)
        kept[index], free = kept[index] + more, free - more
    earlier = {chosen: _earlier(page, page.prompts[chosen], width, free)}
    free -= len(earlier[chosen])
    for left, index in zip(range(others, 0, -1), (index for index in range(len(short)) if index != chosen), strict=True):
        earlier[index] = _earlier(page, page.prompts[index], width, free // left)  # if lines are left, earlier samples of the other prompts
        free -= len(earlier[index])
    for index, block in enumerate(short):
        lines += [*cut_lines(block, width, kept[index]), *earlier[index], *[Content("")] * gap]
    return lines[:height]


def _head(page: HistoryPage, width: int) -> Content:
    """Return `step 2,000  val ppl 67.2  ────────●────`: the step's place on the way to the newest."""
    value = figure(page.evaluation.perplexity) if page.evaluation is not None else "–"
    at = f" @{count(page.evaluation.step)}" if page.evaluation is not None and page.evaluation.step != page.step else ""
    left = Content.assemble(
        ("step ", palette.DIM), (count(page.step).rjust(len(count(page.step))), f"bold {palette.BRIGHT}"), (f"  {page.name} ppl ", palette.DIM),
        (value, f"bold {palette.VALIDATION}"), (at, palette.DIM), "  ",
    )  # fmt: skip
    cells = width - left.cell_length
    if cells < 3:
        return left.truncate(width, ellipsis=True)
    place = round(page.index / max(1, page.steps - 1) * (cells - 1)) if page.steps > 1 else cells - 1
    return Content.assemble(left, ("━" * place, palette.FOCUS), ("●", f"bold {palette.FOCUS}"), ("─" * (cells - 1 - place), palette.BORDER))


def _now(page: HistoryPage, prompt: str, width: int, *, no_colour: bool, chosen: bool) -> list[Content]:
    """Return `› The state of the Union is strong…` in full."""
    row = page.now.get(prompt)
    sign = Content.styled("› " if chosen else "  ", f"bold {palette.FOCUS}")
    shown = safe_content(prompt, newlines=page.newlines, limit=200).stylize(f"bold {palette.BRIGHT}")
    if row is None:
        return [Content.assemble(sign, shown, (" – no sample at this step", palette.DIM)).truncate(width, ellipsis=True)]
    before = next((rows[prompt].text for rows in page.before if prompt in rows), None)
    wrapped = Content.assemble(shown, continuation(row.text, before, no_colour=no_colour, newlines=page.newlines)).wrap(max(8, width - 2))
    return [Content.assemble(sign if index == 0 else "  ", line.rstrip()) for index, line in enumerate(wrapped)]


def _earlier(page: HistoryPage, prompt: str, width: int, height: int) -> list[Content]:
    """Return `@1,000 is the the of …`, dim: the newest in full if the others keep a line each."""
    rows = [found[prompt] for found in page.before if prompt in found]
    blocks = [_wrapped(row, width, page.newlines) for row in rows[: max(0, height)]]
    lines: list[Content] = []
    for index, block in enumerate(blocks):
        room = height - len(lines) - (len(blocks) - 1 - index)
        lines += cut_lines(block, width, max(1, room) if index == 0 else max(1, room // (len(blocks) - index)), palette.DIM)
    return lines[: max(0, height)]


def _wrapped(row: SampleRow, width: int, newlines: Newlines) -> list[Content]:
    step = f"@{count(row.step)} "
    kept = row.text[:LONGEST].strip() if newlines == "space" else row.text[:LONGEST].strip("\n")
    text = safe_content(kept, newlines=newlines).stylize(palette.DIM)
    return [
        Content.assemble((f"  {step}" if index == 0 else " " * (2 + len(step)), palette.DIM), line.rstrip())
        for index, line in enumerate(text.wrap(max(8, width - 2 - len(step))))
    ]


def continuation(text: str, before: str | None, *, no_colour: bool = False, newlines: Newlines = "space") -> Content:
    """Style a text by what is new since the text before.

    The common beginning is dim. After it, new words are bright and kept words dim, unless most are
    new: then the rest is plain. Everything is plain without a text before.
    """
    words = _words(text, newlines)
    if before is None:
        return Content.styled("".join(words), palette.TEXT)
    kept = [False] * len(words)
    bare = [word.strip() for word in words]
    for block in SequenceMatcher(None, [word.strip() for word in _words(before, newlines)], bare, autojunk=False).get_matching_blocks():
        kept[block.b : block.b + block.size] = [True] * block.size
    same_until = next((index for index, same in enumerate(kept) if not same), len(kept))
    if kept.count(False) > MOST_NEW * len(kept):
        return Content.assemble(("".join(words[:same_until]), palette.BASELINE), ("".join(words[same_until:]), palette.TEXT))
    new = f"bold {palette.BRIGHT}" if no_colour else palette.BRIGHT
    return Content.assemble(*((word, palette.BASELINE if same else new) for word, same in zip(words, kept, strict=True)))


def _words(text: str, newlines: Newlines) -> Sequence[str]:
    return _WORD.findall(safe_text(text[:LONGEST], newlines=newlines))[:MOST_WORDS]
