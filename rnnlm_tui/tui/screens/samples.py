"""A run's samples, step by step, and those that a snapshot no longer holds."""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from difflib import SequenceMatcher
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content

from rnnlm_tui import store
from rnnlm_tui.schema.formatting import count, figure
from rnnlm_tui.tui.palette import BASELINE, BORDER, BRIGHT, DIM, FOCUS, TEXT, VALIDATION
from rnnlm_tui.tui.screens.overlay import Overlay, key_line
from rnnlm_tui.tui.text import Newlines, line, safe_content, safe_text
from rnnlm_tui.tui.threads import RepeatedRead
from rnnlm_tui.tui.views.charts import held_out, held_out_name, latest_evaluation
from rnnlm_tui.tui.widgets.panel import LinesPanel
from rnnlm_tui.tui.widgets.samples import (
    LONGEST,
    cut_lines,
    hanging,
    newlines_of,
    samples_by_prompt,
)

if TYPE_CHECKING:
    from rnnlm_tui.client.monitor import RunSnapshot
    from rnnlm_tui.schema.metrics import SampleRow
    from rnnlm_tui.store.paths import RunDirectory
    from rnnlm_tui.tui.app import RnnlmApp


Rows = Sequence[Mapping[str, "SampleRow"]]
"""The samples of a step and of earlier ones by prompt, newest first."""
CHECK_SECONDS = 1.0
"""Seconds between checks for new samples."""
EARLIER = 5
"""Earlier steps below the shown one, as far as there is room."""
KEPT = 200
"""Steps whose samples are kept in memory."""
KEYS = (
    ("← →", "step"), ("↑ ↓", "prompt"), ("enter", "cursor here"), ("home end", "ends"),
    ("⇧← ⇧→", "×10"), ("esc", "close"),
)  # fmt: skip
MOST_WORDS = 400
"""Words that are compared of two texts."""
MOST_NEW = 0.5
"""Share of new words above which highlighting them says nothing."""
_WORD = re.compile(r"\s*\S+")


class SampleHistoryScreen(Overlay[int | None]):
    """Returns the step for the charts' cursor, None for none."""

    BINDINGS: ClassVar[list[BindingType]] = [
        ("escape,q", "dismiss"), ("enter", "take"), ("left,comma,k", "walk(-1)"),
        ("right,full_stop,j", "walk(1)"), ("shift+left,pageup", "walk(-10)"),
        ("shift+right,pagedown", "walk(10)"), ("home", "walk(-1000000000)"),
        ("end", "walk(1000000000)"), ("up", "prompt(-1)"), ("down", "prompt(1)"),
        Binding("h", "dismiss", id="sample_history"),
    ]  # fmt: skip

    def __init__(self, run: RunDirectory, snapshot: RunSnapshot, step: float | None) -> None:
        super().__init__()
        self._run, self._snapshot = run, snapshot
        self._wanted = math.inf if step is None else step
        """The step to show, or the last one before it; the newest if infinite."""
        self._prompts: Sequence[str] = ()
        self._chosen = 0
        """The place of the prompt that is shown in full."""

    def compose(self) -> ComposeResult:
        yield LinesPanel("Samples, step by step", id="history-box")

    def on_mount(self) -> None:
        self.query_one(LinesPanel).highlighted = True
        self._stored = StoredSamples(self.context, self._run, self._show)
        self._stored.steps = sorted({row.step for row in self._snapshot.samples})
        self.set_interval(CHECK_SECONDS, self._check_for_more)
        self._stored.read_steps()
        self._show()

    def on_resize(self) -> None:
        panel = self.query_one(LinesPanel)
        panel.bottom = key_line(KEYS, panel.size.width, self.app)

    @property
    def _index(self) -> int:
        return max(0, bisect_right(self._stored.steps, self._wanted) - 1)

    def _check_for_more(self) -> None:
        """Check whether the run has more samples."""
        before, fresh = self._snapshot, self.context.snapshot
        if fresh is None or fresh is before or fresh.summary.run != before.summary.run:
            return
        self._snapshot = fresh
        if fresh.summary.attempt != before.summary.attempt:
            self._stored.rows.clear()  # a resumed run writes samples again
        if fresh.samples[:1] not in ((), before.samples[:1]):
            self._stored.read_steps()

    def _show(self) -> None:
        from rnnlm_tui.schema.presets import has_prompts_of_another_text

        if not self.is_open:
            return
        index, steps = self._index, self._stored.steps
        wanted = steps[max(0, index - EARLIER) : index + 1][::-1]
        rows = [self._rows(step) for step in wanted]
        config = self._snapshot.config
        asked = () if has_prompts_of_another_text(config) else config.evaluation.prompts
        self._prompts = tuple(dict.fromkeys([*asked, *rows[0]]))
        self._chosen = min(self._chosen, max(0, len(self._prompts) - 1))
        lines = partial(self._lines, wanted, rows)
        place = Content.styled(f"{index + 1} of {len(steps)}", DIM)
        self.query_one(LinesPanel).show(lines, place)
        self._stored.read(wanted)

    def _rows(self, step: int) -> dict[str, SampleRow]:
        """Return the newest sample of each prompt at a step."""
        rows, prompts = self._stored.rows.get(step, ()), self._snapshot.config.evaluation.prompts
        return {group[0].prompt: group[0] for group in samples_by_prompt(rows, prompts)}

    # the lines

    @property
    def _newlines(self) -> Newlines:
        return newlines_of(self._snapshot.summary.corpus_layout)

    def _lines(self, wanted: Sequence[int], rows: Rows, width: int, height: int) -> list[Content]:
        """Return the step, then each prompt's sample as far as there is room.

        The chosen prompt's sample comes in full, with those of the steps before.
        """
        lines, prompts, chosen = (
            [self._head(wanted[0], width), Content("")],
            self._prompts,
            self._chosen,
        )
        room = height - len(lines)
        if not prompts or any(step not in self._stored.rows for step in wanted[:2]):
            return lines
        short = [self._now(rows, prompt, width) for prompt in prompts]
        others = len(short) - 1
        gap = 1 if room >= 4 * len(short) else 0
        room -= others * gap
        each = max(1, min(6, room // (2 * others + 2)))
        kept = [min(each, len(block)) for block in short]
        kept[chosen] = 0
        kept[chosen] = max(1, min(len(short[chosen]), room - sum(kept)))
        free = room - sum(kept)
        for index, block in enumerate(short):
            # spare lines go to texts that were cut, but half of them to earlier steps
            more = min(len(block) - kept[index], max(0, free) // 2)
            kept[index], free = kept[index] + more, free - more
        # lines that are left go to earlier samples, of the chosen prompt first
        earlier: dict[int, list[Content]] = {}
        for place, index in enumerate(sorted(range(len(short)), key=lambda index: index != chosen)):
            share = free // (len(short) - place) if place else free
            earlier[index] = self._earlier(rows, prompts[index], width, share)
            free -= len(earlier[index])
        for index, block in enumerate(short):
            lines += [*cut_lines(block, width, kept[index]), *earlier[index], *[Content("")] * gap]
        return lines[:height]

    def _head(self, step: int, width: int) -> Content:
        """Return `step 2,000  val ppl 67.2  ────────●────`, with the step's position."""
        judged = latest_evaluation(held_out(self._snapshot), step)
        value = figure(judged.perplexity) if judged is not None else "–"
        at = f" @{count(judged.step)}" if judged is not None and judged.step != step else ""
        left = line(
            f"step {{}}  {held_out_name(self._snapshot)} ppl {{}}{at}  ",
            (count(step), f"bold {BRIGHT}"),
            (value, f"bold {VALIDATION}"),
        )
        cells, last = width - left.cell_length - 1, len(self._stored.steps) - 1
        place = round(self._index / last * cells) if last else cells
        return Content.assemble(
            left, ("━" * place, FOCUS), ("●", f"bold {FOCUS}"), ("─" * (cells - place), BORDER)
        )

    def _now(self, rows: Rows, prompt: str, width: int) -> list[Content]:
        """Return `› The state of the Union is strong…` in full."""
        row, newlines = rows[0].get(prompt), self._newlines
        is_chosen = prompt == self._prompts[self._chosen]
        sign = Content.styled("› " if is_chosen else "  ", f"bold {FOCUS}")
        shown = safe_content(prompt, newlines=newlines, limit=200).stylize(f"bold {BRIGHT}")
        if row is None:
            missing = line("{}{} – no sample at this step", sign, shown)
            return [missing.truncate(width, ellipsis=True)]
        before = next((found[prompt].text for found in rows[1:] if prompt in found), None)
        new = continuation(row.text, before, no_colour=self.app.no_color, newlines=newlines)
        return hanging(sign, shown + new, width)

    def _earlier(self, rows: Rows, prompt: str, width: int, height: int) -> list[Content]:
        """Return `@1,000 is the the of …`, dim, each in an equal share of the lines."""
        earlier = [found[prompt] for found in rows[1:] if prompt in found][: max(0, height)]
        lines: list[Content] = []
        for index, row in enumerate(earlier):
            text = row.text[:LONGEST].strip(None if self._newlines == "space" else "\n")
            shown = safe_content(text, newlines=self._newlines).stylize(DIM)
            share = (height - len(lines)) // (len(earlier) - index)
            lines += hanging(line(f"  @{count(row.step)} "), shown, width, share, DIM)
        return lines

    # keys

    def action_walk(self, by: int) -> None:
        """Show a later step, or an earlier one if negative."""
        steps, index = self._stored.steps, self._index
        wanted = max(0, min(index + by, len(steps) - 1))
        self._wanted = math.inf if wanted == len(steps) - 1 else steps[wanted]
        if wanted != index:
            self._show()

    def action_prompt(self, by: int) -> None:
        """Show another prompt in full."""
        if self._prompts:
            self._chosen = (self._chosen + by) % len(self._prompts)
            self._show()

    def action_take(self) -> None:
        """Close, and set the charts' cursor to this step."""
        self.dismiss(self._stored.steps[self._index])


def continuation(
    text: str, before: str | None, *, no_colour: bool = False, newlines: Newlines = "space"
) -> Content:
    """Style a text by what is new since the text before.

    The common beginning is dim. After it, new words are bright and kept words dim, unless most are
    new: then the rest is plain. Everything is plain without a text before.
    """
    words = _words(text, newlines)
    if before is None:
        return Content.styled("".join(words), TEXT)
    kept = [False] * len(words)
    bare = [word.strip() for word in words]
    for block in SequenceMatcher(
        None, [word.strip() for word in _words(before, newlines)], bare, autojunk=False
    ).get_matching_blocks():
        kept[block.b : block.b + block.size] = [True] * block.size
    if kept.count(False) > MOST_NEW * len(kept):
        first = kept.index(False)
        return Content.assemble(("".join(words[:first]), BASELINE), ("".join(words[first:]), TEXT))
    new = f"bold {BRIGHT}" if no_colour else BRIGHT
    return Content.assemble(
        *((word, BASELINE if same else new) for word, same in zip(words, kept, strict=True))
    )


def _words(text: str, newlines: Newlines) -> Sequence[str]:
    return _WORD.findall(safe_text(text[:LONGEST], newlines=newlines))[:MOST_WORDS]


class StoredSamples:
    """A run's samples, read from its log in threads: the steps that have some, and those asked for.

    Calls `then` after each read.
    """

    def __init__(self, context: RnnlmApp, run: RunDirectory, then: Callable[[], None]) -> None:
        self.run, self._then = run, then
        self.steps: list[int] = []
        self.rows: dict[int, Sequence[SampleRow]] = {}
        """By step, newest first."""
        self._steps_read, self._rows_read = RepeatedRead(context), RepeatedRead(context)

    def read_steps(self) -> None:
        """Read which steps have samples, in order."""

        def read() -> list[int]:
            with store.reader.RunReader(self.run) as reader:
                return reader.sample_steps()

        self._steps_read.start(read, self._take_steps)

    def read(self, steps: Sequence[int]) -> None:
        """Read the samples of those of these steps that aren't known."""

        def read() -> dict[int, Sequence[SampleRow]]:
            with store.reader.RunReader(self.run) as reader:
                return {step: reader.samples_at(step) for step in missing}

        if missing := [step for step in steps if step not in self.rows]:
            self._rows_read.start(read, self._take_rows)

    def until(self, snapshot: RunSnapshot, step: float) -> Sequence[SampleRow]:
        """Return the samples of the newest step up to `step` that the snapshot lacks, oldest first.

        While they are being read, there are none.
        """
        if not snapshot.samples or snapshot.samples[-1].step <= step:
            return ()
        if not self.steps:
            self.read_steps()
        index = bisect_right(self.steps, step)
        wanted = self.steps[max(0, index - 1) : index]
        self.read(wanted)
        return [row for step in wanted for row in reversed(self.rows.get(step, ()))]

    def _take_steps(self, steps: list[int]) -> None:
        if steps:
            self.steps = steps
            self._then()

    def _take_rows(self, found: dict[int, Sequence[SampleRow]]) -> None:
        if len(self.rows) > KEPT:
            self.rows.clear()
        self.rows.update(found)
        self._then()
