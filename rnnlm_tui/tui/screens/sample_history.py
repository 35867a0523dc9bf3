"""SampleHistoryScreen: the samples of each fixed prompt, step by step."""

from __future__ import annotations

from bisect import bisect_right
from functools import partial
from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.binding import Binding

from rnnlm_tui.errors import RnnlmError
from rnnlm_tui.tui.screens.overlay import Overlay
from rnnlm_tui.tui.widgets.history_panel import HistoryPage, HistoryPanel
from rnnlm_tui.tui.widgets.key_line import key_line
from rnnlm_tui.tui.widgets.nearest import latest_evaluation
from rnnlm_tui.tui.widgets.samples import newlines_of, samples_by_prompt
from rnnlm_tui.tui.widgets.train_data import held_out, held_out_name

if TYPE_CHECKING:
    from rnnlm_tui.contract.metrics import SampleRow
    from rnnlm_tui.store.run_directory import RunDirectory
    from rnnlm_tui.supervisor.monitor import RunSnapshot

CHECK_SECONDS = 1.0
"""Seconds between checks for new samples."""
EARLIER = 5
"""Earlier steps below the shown one, as far as there is room."""
KEPT = 200
"""Steps whose samples are kept in memory."""
KEYS = (("← →", "step"), ("↑ ↓", "prompt"), ("enter", "cursor here"), ("home end", "ends"), ("⇧← ⇧→", "×10"), ("esc", "close"))


class SampleHistoryScreen(Overlay[int | None]):
    """Returns the step for the charts' cursor, None for none."""

    BINDINGS = [  # noqa: RUF012 (declared so by Textual)
        Binding("escape,q,h", "close", show=False),
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
        self._steps = sorted({row.step for row in snapshot.samples})
        self._index = self._at(step)
        self._wanted_step = step
        self._samples: dict[int, tuple[SampleRow, ...]] = {}
        self._chosen = 0
        self._reading = False

    def compose(self) -> ComposeResult:
        yield HistoryPanel(id="history-box")

    def on_mount(self) -> None:
        panel = self.query_one(HistoryPanel)
        panel.highlighted = True
        self.set_interval(CHECK_SECONDS, self._check_for_more)
        self.context.in_thread(partial(self.context.services.sample_steps, self._run), self._take_steps)
        self._show()

    def on_resize(self) -> None:
        self.query_one(HistoryPanel).bottom = key_line(KEYS, self.query_one(HistoryPanel).size.width)

    @property
    def step(self) -> int:
        """The shown step."""
        return self._steps[self._index]

    def _at(self, step: float | None) -> int:
        return len(self._steps) - 1 if step is None else max(0, bisect_right(self._steps, step) - 1)

    def _check_for_more(self) -> None:
        """Check whether the run has more samples."""
        fresh = self.context.snapshot
        if fresh is None or fresh is self._snapshot or fresh.summary.run != self._snapshot.summary.run:
            return
        before, self._snapshot = self._snapshot, fresh
        more = fresh.samples and fresh.samples[0] != (before.samples[0] if before.samples else None)
        if fresh.summary.attempt != before.summary.attempt:
            self._samples.clear()  # a resumed run writes samples again
        if more:
            self.context.in_thread(partial(self.context.services.sample_steps, self._run), self._take_steps)

    def _take_steps(self, steps: list[int]) -> None:
        """Take all steps with samples; the snapshot had only the newest.

        The shown step stays, but at the end the newest is shown.
        """
        if not steps or not self.is_mounted:
            return
        step, newest = self.step, self._index == len(self._steps) - 1 and self._wanted_step is None
        self._steps = steps
        self._index = len(steps) - 1 if newest else self._at(self._wanted_step if self._wanted_step is not None else step)
        self._show()

    def _show(self) -> None:
        wanted = list(reversed(self._steps[max(0, self._index - EARLIER) : self._index + 1]))
        loaded = all(step in self._samples for step in wanted[:2])
        now, before = self._rows(wanted[0]), tuple(self._rows(step) for step in wanted[1:])
        prompts = tuple(dict.fromkeys([*self._snapshot.config.evaluation.prompts, *now]))
        self._chosen = min(self._chosen, max(0, len(prompts) - 1))
        evaluation = latest_evaluation(held_out(self._snapshot), self.step)
        newlines = newlines_of(self._snapshot.summary.corpus_layout)
        page = HistoryPage(self.step, self._index, len(self._steps), prompts, now, before, evaluation, held_out_name(self._snapshot), loaded, newlines)
        self.query_one(HistoryPanel).show(page, self._chosen)
        missing = [step for step in wanted if step not in self._samples]
        if missing and not self._reading:
            self._reading = True
            self.context.in_thread(partial(self._read, missing), self._take_samples, self._not_read)

    def _not_read(self, error: RnnlmError | OSError) -> None:
        self._reading = False
        self.context.report_error(error)

    def _read(self, steps: list[int]) -> dict[int, tuple[SampleRow, ...]]:
        return {step: tuple(self.context.services.samples_at(self._run, step)) for step in steps}

    def _take_samples(self, found: dict[int, tuple[SampleRow, ...]]) -> None:
        """Take samples that were read, and read those needed by now."""
        self._reading = False
        if len(self._samples) > KEPT:
            self._samples.clear()
        self._samples.update(found)
        if self.is_mounted:
            self._show()

    def _rows(self, step: int) -> dict[str, SampleRow]:
        """Return the newest sample of each prompt at a step."""
        return {rows[0].prompt: rows[0] for rows in samples_by_prompt(self._samples.get(step, ()), self._snapshot.config.evaluation.prompts)}

    def action_walk(self, by: int) -> None:
        """Show a later step, or an earlier one if negative."""
        index = max(0, min(self._index + by, len(self._steps) - 1))
        self._wanted_step = None if index == len(self._steps) - 1 else float(self._steps[index])
        if index != self._index:
            self._index = index
            self._show()

    def action_prompt(self, by: int) -> None:
        """Show another prompt in full."""
        page = self.query_one(HistoryPanel).page
        if page is not None and page.prompts:
            self._chosen = (self._chosen + by) % len(page.prompts)
            self._show()

    def action_take(self) -> None:
        """Close, and set the charts' cursor to this step."""
        self.dismiss(self.step)

    def action_close(self) -> None:
        """Close, and leave the charts as they were."""
        self.dismiss(None)
