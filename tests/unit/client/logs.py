"""Logs of runs as workers of this host, or of another, would append them."""

from __future__ import annotations

import time

from rnnlm_tui.schema.facts import Facts
from rnnlm_tui.schema.metrics import AttemptRow, StepRow
from rnnlm_tui.store.log import Row, RunLog
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.system.locks import boot_id, host_name


def begin(
    run: RunDirectory, *, start_step: int = 0, host: str | None = None, boot: str = ""
) -> RunLog:
    """The log of the run's next attempt."""
    process = 4_242, host or host_name(), boot or boot_id()
    return RunLog.begin(run, AttemptRow(1, *process, "cpu", start_step, {}, time.time()))


def record(run: RunDirectory, *rows: Row | Facts, host: str | None = None) -> None:
    """The run's next attempt with these rows."""
    with begin(run, host=host) as log:
        log.append(*rows)


def steps_at(tokens: int, seconds: float, count: int = 120, at: float = 0.0) -> list[StepRow]:
    """Steps of so many tokens and seconds each."""
    return [
        StepRow(1, step, step * tokens, 0.0, 3.0, 1.0, 0.01, 7_000.0, step * seconds, at)
        for step in range(1, count + 1)
    ]
