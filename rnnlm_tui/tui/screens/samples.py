"""A run's samples, step by step, and those that a snapshot no longer holds."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.binding import Binding

from rnnlm_tui import store
from rnnlm_tui.tui.screens.overlay import Overlay, key_line
from rnnlm_tui.tui.threads import RepeatedRead
from rnnlm_tui.tui.views.charts import held_out, held_out_name, latest_evaluation
from rnnlm_tui.tui.widgets.samples import HistoryPage, HistoryPanel, newlines_of, samples_by_prompt

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

    def compose(self) -> ComposeResult:
        yield HistoryPanel(id="history-box")

    def on_mount(self) -> None:
        panel = self.query_one(HistoryPanel)
        panel.highlighted = True
        self._reading = RepeatedRead(self.context)
        self.set_interval(CHECK_SECONDS, self._check_for_more)
        self.context.in_thread(lambda: sample_steps(self._run), self._take_steps)
        self._show()

    def on_resize(self) -> None:
        panel = self.query_one(HistoryPanel)
        panel.bottom = key_line(KEYS, panel.size.width, self.app)

    @property
    def step(self) -> int:
        """The shown step."""
        return self._steps[self._index]

    def _at(self, step: float | None) -> int:
        return len(self._steps) - 1 if step is None else max(0, bisect_right(self._steps, step) - 1)

    def _check_for_more(self) -> None:
        """Check whether the run has more samples."""
        fresh = self.context.snapshot
        if (
            fresh is None
            or fresh is self._snapshot
            or fresh.summary.run != self._snapshot.summary.run
        ):
            return
        before, self._snapshot = self._snapshot, fresh
        more = fresh.samples and fresh.samples[0] != (before.samples[0] if before.samples else None)
        if fresh.summary.attempt != before.summary.attempt:
            self._samples.clear()  # a resumed run writes samples again
        if more:
            self.context.in_thread(lambda: sample_steps(self._run), self._take_steps)

    def _take_steps(self, steps: list[int]) -> None:
        """Take all steps with samples; the snapshot had only the newest.

        The shown step stays, but at the end the newest is shown.
        """
        if not steps or not self.is_mounted:
            return
        step, newest = self.step, self._index == len(self._steps) - 1 and self._wanted_step is None
        self._steps = steps
        self._index = (
            len(steps) - 1
            if newest
            else self._at(self._wanted_step if self._wanted_step is not None else step)
        )
        self._show()

    def _show(self) -> None:
        from rnnlm_tui.schema.presets import has_prompts_of_another_text

        wanted = list(reversed(self._steps[max(0, self._index - EARLIER) : self._index + 1]))
        loaded = all(step in self._samples for step in wanted[:2])
        now, before = self._rows(wanted[0]), tuple(self._rows(step) for step in wanted[1:])
        config = self._snapshot.config
        asked = () if has_prompts_of_another_text(config) else config.evaluation.prompts
        prompts = tuple(dict.fromkeys([*asked, *now]))
        self._chosen = min(self._chosen, max(0, len(prompts) - 1))
        evaluation = latest_evaluation(held_out(self._snapshot), self.step)
        newlines = newlines_of(self._snapshot.summary.corpus_layout)
        page = HistoryPage(
            self.step,
            self._index,
            len(self._steps),
            prompts,
            now,
            before,
            evaluation,
            held_out_name(self._snapshot),
            loaded,
            newlines,
        )
        self.query_one(HistoryPanel).show(page, self._chosen)
        if missing := [step for step in wanted if step not in self._samples]:
            self._reading.start(partial(self._read, missing), self._take_samples)

    def _read(self, steps: list[int]) -> dict[int, tuple[SampleRow, ...]]:
        return {step: tuple(samples_at(self._run, step)) for step in steps}

    def _take_samples(self, found: dict[int, tuple[SampleRow, ...]]) -> None:
        """Take samples that were read, and read those needed by now."""
        if len(self._samples) > KEPT:
            self._samples.clear()
        self._samples.update(found)
        if self.is_mounted:
            self._show()

    def _rows(self, step: int) -> dict[str, SampleRow]:
        """Return the newest sample of each prompt at a step."""
        return {
            rows[0].prompt: rows[0]
            for rows in samples_by_prompt(
                self._samples.get(step, ()), self._snapshot.config.evaluation.prompts
            )
        }

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


KEPT_SAMPLES = 100
"""Steps whose samples are kept in memory."""


def sample_steps(run: RunDirectory) -> list[int]:
    """Read which steps have samples, in order."""
    with store.reader.RunReader(run) as reader:
        return reader.sample_steps()


def samples_at(run: RunDirectory, step: int) -> list[SampleRow]:
    """Read the samples of a step, newest first."""
    with store.reader.RunReader(run) as reader:
        return reader.samples_at(step)


class OlderSamples:
    """Samples of one run, read one step at a time."""

    def __init__(self, context: RnnlmApp, read: Callable[[], None]) -> None:
        self._context, self._read = context, read
        self._run = ""
        self._steps: list[int] | None = None
        self._rows: dict[int, tuple[SampleRow, ...]] = {}
        self._reading = RepeatedRead(context)

    def until(self, snapshot: RunSnapshot, step: float) -> Sequence[SampleRow]:
        """Return the samples of the newest step up to `step` that the snapshot lacks.

        While they are being read, there are none; then `read` is called.
        """
        run = self._context.run_directory
        if not snapshot.samples or snapshot.samples[-1].step <= step or run is None:
            return ()
        if run.name != self._run:
            self._run, self._steps, self._rows = run.name, None, {}
        if self._steps is None:
            self._reading.start(
                lambda: sample_steps(run),
                partial(self._take_steps, run.name),
            )
            return ()
        index = bisect_right(self._steps, step) - 1
        if index < 0:
            return ()
        wanted = self._steps[index]
        if wanted not in self._rows:
            self._reading.start(
                partial(self._read_step, run, wanted), partial(self._take_rows, run.name)
            )
        return self._rows.get(wanted, ())

    def _read_step(self, run: RunDirectory, step: int) -> tuple[int, tuple[SampleRow, ...]]:
        return step, tuple(reversed(samples_at(run, step)))

    def _take_steps(self, run: str, steps: list[int]) -> None:
        if run == self._run:
            self._steps = steps
            self._read()

    def _take_rows(self, run: str, found: tuple[int, tuple[SampleRow, ...]]) -> None:
        if run == self._run:
            if len(self._rows) >= KEPT_SAMPLES:
                self._rows.clear()
            self._rows[found[0]] = found[1]
            self._read()
