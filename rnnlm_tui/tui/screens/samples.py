"""A run's samples, step by step, and those that a snapshot no longer holds."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.binding import Binding
from textual.content import Content

from rnnlm_tui import store
from rnnlm_tui.tui.palette import DIM
from rnnlm_tui.tui.screens.overlay import Overlay, key_line
from rnnlm_tui.tui.threads import RepeatedRead
from rnnlm_tui.tui.views.charts import held_out, held_out_name, latest_evaluation
from rnnlm_tui.tui.widgets.panel import LinesPanel
from rnnlm_tui.tui.widgets.samples import HistoryPage, newlines_of, page_lines, samples_by_prompt

if TYPE_CHECKING:
    from rnnlm_tui.client.monitor import RunSnapshot
    from rnnlm_tui.schema.metrics import SampleRow
    from rnnlm_tui.store.paths import RunDirectory
    from rnnlm_tui.tui.app import RnnlmApp


CHECK_SECONDS = 1.0
"""Seconds between checks for new samples."""
EARLIER = 5
"""Earlier steps below the shown one, as far as there is room."""
KEPT = 200
"""Steps whose samples are kept in memory."""
KEYS = (
    ("← →", "step"),
    ("↑ ↓", "prompt"),
    ("enter", "cursor here"),
    ("home end", "ends"),
    ("⇧← ⇧→", "×10"),
    ("esc", "close"),
)


class SampleHistoryScreen(Overlay[int | None]):
    """Returns the step for the charts' cursor, None for none."""

    BINDINGS = [  # noqa: RUF012 (declared so by Textual)
        Binding("escape,q", "close", show=False),
        Binding("h", "close", show=False, id="sample_history"),
        Binding("enter", "take", show=False),
        Binding("left,comma,k", "walk(-1)", show=False),
        Binding("right,full_stop,j", "walk(1)", show=False),
        Binding("shift+left,pageup", "walk(-10)", show=False),
        Binding("shift+right,pagedown", "walk(10)", show=False),
        Binding("home", "walk(-1000000000)", show=False),
        Binding("end", "walk(1000000000)", show=False),
        Binding("up", "prompt(-1)", show=False),
        Binding("down", "prompt(1)", show=False),
    ]

    def __init__(self, run: RunDirectory, snapshot: RunSnapshot, step: float | None) -> None:
        super().__init__()
        self._run, self._snapshot = run, snapshot
        self._wanted = math.inf if step is None else step
        """The step to show, or the last one before it; the newest if infinite."""
        self._chosen = 0
        self.page: HistoryPage | None = None
        """The page shown."""

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

        if not self.is_attached:
            return
        index, steps = self._index, self._stored.steps
        wanted = steps[max(0, index - EARLIER) : index + 1][::-1]
        rows = [self._rows(step) for step in wanted]
        config = self._snapshot.config
        asked = () if has_prompts_of_another_text(config) else config.evaluation.prompts
        prompts = tuple(dict.fromkeys([*asked, *rows[0]]))
        self._chosen = min(self._chosen, max(0, len(prompts) - 1))
        page = self.page = HistoryPage(
            wanted[0],
            index,
            len(steps),
            prompts,
            rows,
            latest_evaluation(held_out(self._snapshot), wanted[0]),
            held_out_name(self._snapshot),
            loaded=all(step in self._stored.rows for step in wanted[:2]),
            newlines=newlines_of(self._snapshot.summary.corpus_layout),
        )
        lines = partial(page_lines, page, self._chosen, no_colour=self.app.no_color)
        place = Content.styled(f"{index + 1} of {len(steps)}", DIM)
        self.query_one(LinesPanel).show(lines, place)
        self._stored.read(wanted)

    def _rows(self, step: int) -> dict[str, SampleRow]:
        """Return the newest sample of each prompt at a step."""
        rows, prompts = self._stored.rows.get(step, ()), self._snapshot.config.evaluation.prompts
        return {group[0].prompt: group[0] for group in samples_by_prompt(rows, prompts)}

    def action_walk(self, by: int) -> None:
        """Show a later step, or an earlier one if negative."""
        steps, index = self._stored.steps, self._index
        wanted = max(0, min(index + by, len(steps) - 1))
        self._wanted = math.inf if wanted == len(steps) - 1 else steps[wanted]
        if wanted != index:
            self._show()

    def action_prompt(self, by: int) -> None:
        """Show another prompt in full."""
        if self.page is not None and self.page.prompts:
            self._chosen = (self._chosen + by) % len(self.page.prompts)
            self._show()

    def action_take(self) -> None:
        """Close, and set the charts' cursor to this step."""
        self.dismiss(self._stored.steps[self._index])

    def action_close(self) -> None:
        """Close, and leave the charts as they were."""
        self.dismiss(None)


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
