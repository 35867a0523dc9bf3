"""OlderSamples: samples older than those of a snapshot, read when a cursor needs them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rnnlm_tui.contract.metrics import SampleRow
    from rnnlm_tui.errors import RnnlmError
    from rnnlm_tui.store.run_directory import RunDirectory
    from rnnlm_tui.supervisor.monitor import RunSnapshot
    from rnnlm_tui.tui.context import AppContext

KEPT = 100
"""Steps whose samples are kept in memory."""


class OlderSamples:
    """Samples of one run, read one step at a time."""

    def __init__(self, context: AppContext, read: Callable[[], None]) -> None:
        self._context, self._read = context, read
        self._run = ""
        self._steps: list[int] | None = None
        self._rows: dict[int, tuple[SampleRow, ...]] = {}
        self._reading = False

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
            self._start_read(partial(self._context.services.sample_steps, run), self._take_steps)
            return ()
        index = bisect_right(self._steps, step) - 1
        if index < 0:
            return ()
        wanted = self._steps[index]
        if wanted not in self._rows:
            self._start_read(partial(self._read_step, run, wanted), self._take_rows)
        return self._rows.get(wanted, ())

    def _start_read(self, work: Callable[[], object], then: Callable[..., None]) -> None:
        if not self._reading:
            self._reading = True
            self._context.in_thread(work, partial(then, self._run), self._not_read)

    def _read_step(self, run: RunDirectory, step: int) -> tuple[int, tuple[SampleRow, ...]]:
        return step, tuple(reversed(self._context.services.samples_at(run, step)))

    def _take_steps(self, run: str, steps: list[int]) -> None:
        self._reading = False
        if run == self._run:
            self._steps = steps
            self._read()

    def _take_rows(self, run: str, found: tuple[int, tuple[SampleRow, ...]]) -> None:
        self._reading = False
        if run == self._run:
            if len(self._rows) >= KEPT:
                self._rows.clear()
            self._rows[found[0]] = found[1]
            self._read()

    def _not_read(self, error: RnnlmError | OSError) -> None:
        self._reading = False
        self._context.report_error(error)
