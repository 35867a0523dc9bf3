"""Follow a run until it ends: as progress lines or JSON objects."""

from __future__ import annotations

import shlex
import sys
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from rnnlm_tui import client
from rnnlm_tui.cli.output import (
    clipped,
    columns,
    facts,
    json_text,
    line,
    note,
    reading_log,
)
from rnnlm_tui.cli.summaries import (
    model_text,
    patience_text,
    progress_text,
    queue_places,
    result_lines,
    status_text,
)
from rnnlm_tui.errors import EXIT_INTERRUPTED, RnnlmError, RunStateError, WorkerError
from rnnlm_tui.schema.formatting import (
    bits_per_byte_text,
    counted,
    device_text,
    duration,
    figure,
    other_load_text,
    perplexity_text,
    short,
)

if TYPE_CHECKING:
    from rnnlm_tui.client.monitor import RunSnapshot
    from rnnlm_tui.schema.metrics import EvaluationRow, SampleRow
    from rnnlm_tui.schema.summary import RunSummary
    from rnnlm_tui.store.paths import RunDirectory


POLL_SECONDS = 0.5
"""Interval between polls; a poll costs microseconds while nothing changes."""
LINE_SECONDS = 5.0
"""Minimum interval between progress lines; evaluations are always printed."""
BEGIN_SECONDS = 30.0
"""Time limit for a resumed worker to begin its attempt."""
BUCKETS = 256
"""Resolution of the curves in frames, which draw fewer cells."""

ENDED: dict[str, int] = {
    "finished": 0,
    "stopped": RunStateError.exit_code,
    "failed": WorkerError.exit_code,
    "crashed": WorkerError.exit_code,
    "lost": WorkerError.exit_code,
}
"""Statuses that end following, with their exit codes; a failed run has its failure's own code."""


class Printer(ABC):
    """Prints the progress of a run that is followed."""

    def __init__(self) -> None:
        self._news: object = None
        self._next = 0.0

    @abstractmethod
    def update(self, snapshot: RunSnapshot) -> None:
        """Print what is new; called on every poll, even if nothing changed."""

    def finish(self, snapshot: RunSnapshot, failure: RnnlmError | None) -> None:
        """Print how the run ended and, on stderr, why it failed."""
        self._next = 0.0
        self.update(snapshot)
        if failure is not None:
            note(str(failure))

    def _is_due(self, news: object) -> bool:
        """Whether to print: something is new, or the last line is old."""
        now = time.monotonic()
        due = news != self._news or now >= self._next
        if due:
            self._news, self._next = news, now + LINE_SECONDS
        return due


def follow_run(directory: RunDirectory, *, json: bool, attempt: int = 0) -> int:
    """Print progress as lines or JSON objects until the run ends, and return the exit code.

    A run whose Slurm job may start again has not ended. Ctrl-C detaches: the run continues, the way
    back is printed, and the code is 130.

    Args:
        attempt: ends of earlier attempts are ignored.

    Raises:
        RunStateError: the run was never started, or its worker was killed before it began, and it
            doesn't wait in the queue.
    """
    printer: Printer = JsonPrinter() if json else LinePrinter()
    monitor = client.monitor.RunMonitor(directory, max_buckets=16)
    give_up = time.monotonic() + BEGIN_SECONDS
    try:
        with reading_log(directory) as report:
            monitor.reader.refresh(report)
        snapshot = monitor.snapshot()
        jobs = client.slurm.Jobs() if directory.has_job else None
        if jobs is not None:
            jobs.ask([snapshot.summary])
        while True:
            summary = snapshot.summary
            job = None if jobs is None else jobs.look([summary])[0].job
            goes_on = job is not None and not job.has_ended  # it may be requeued
            begun = summary.attempt >= attempt or time.monotonic() > give_up
            if summary.status in ENDED and begun and not goes_on:
                failure = client.start.failure_of(directory)
                printer.finish(snapshot, failure)
                return ENDED[summary.status] if failure is None else failure.exit_code
            waits = goes_on or directory.name in queue_places()
            if summary.status == "draft" and not waits:
                raise RunStateError(
                    f"{directory.name} is a draft: it hasn't been started",
                    hint=f"`rnnlm-tui resume {directory.name}` starts it",
                )
            printer.update(snapshot)
            time.sleep(POLL_SECONDS)
            snapshot = monitor.poll() or snapshot
    except KeyboardInterrupt:
        name = directory.name
        note(
            f"detached, {name} keeps running: `rnnlm-tui follow {name}` or `rnnlm-tui open {name}`"
            f" shows it, `rnnlm-tui stop {name}` stops it"
        )
        return EXIT_INTERRUPTED
    finally:
        monitor.close()


class JsonPrinter(Printer):
    """Prints a RunSummary per line on each new status or evaluation, every few seconds, and at the
    end."""

    def update(self, snapshot: RunSnapshot) -> None:
        """Print a line if it is due."""
        summary = snapshot.summary
        if self._is_due((summary.status, summary.validation.step, summary.test.step)):
            print(json_text(summary.model_dump(mode="json")), flush=True)


class LinePrinter(Printer):
    """Prints complete lines without colour or cursor movement, for terminals and logs."""

    def __init__(self) -> None:
        super().__init__()
        self._last_line = ""
        self._evaluations: set[tuple[int, int, str]] | None = None
        self._sampled = (0, 0)

    def update(self, snapshot: RunSnapshot) -> None:
        """Print what is new since the last call; progress at most every LINE_SECONDS."""
        summary = snapshot.summary
        trains = summary.status == self._news == "running"
        if self._is_due(summary.status):
            words = _progress(summary) if trains else _status_line(summary)
            if words != self._last_line:
                self._last_line = words
                line(words)
        self._print_evaluations(snapshot)
        self._print_sample(snapshot)

    def finish(self, snapshot: RunSnapshot, failure: RnnlmError | None) -> None:
        """Print the results, a sample and what to do next."""
        self._print_evaluations(snapshot)
        summary = snapshot.summary
        line()
        line(
            f"{summary.run} {summary.status} at step {progress_text(summary)}, after"
            f" {duration(summary.active_seconds)} of training"
        )
        facts(result_lines(summary))
        newest = newest_sample(snapshot)
        if newest is not None:
            line()
            line(newest.prompt + newest.text)
        line()
        told = summary if failure is None else failure
        for words in filter(None, (told.message, told.hint)):
            note(words)
        if summary.status == "finished":
            prompt = shlex.quote("The" if newest is None else newest.prompt)
            note(
                f"`rnnlm-tui sample {summary.run} {prompt}` continues a prompt,"
                f" `rnnlm-tui open {summary.run}` shows the charts"
            )
        elif (failure or not summary.hint) and summary.checkpoints.count and not summary.diverged:
            last = summary.checkpoints.last
            note(f"`rnnlm-tui resume {summary.run}` continues from step {last:,}")

    def _print_evaluations(self, snapshot: RunSnapshot) -> None:
        known = {(row.attempt, row.step, row.name): row for row in snapshot.evaluations}
        if self._evaluations is None:
            self._evaluations = set(known) if len(known) > 1 else set()
        new = sorted(set(known) - self._evaluations, key=lambda key: (known[key].time, key))
        for key in new:
            line(_evaluation(known[key]))
        patience = patience_text(snapshot.summary)
        if new and patience:
            line(f"{'':9}{patience}")
        self._evaluations |= set(known)

    def _print_sample(self, snapshot: RunSnapshot) -> None:
        """Print a line of the first prompt's sample, which follows its evaluation."""
        newest = newest_sample(snapshot)
        if newest is not None and (newest.attempt, newest.step) != self._sampled:
            self._sampled = (newest.attempt, newest.step)
            width = min(110, (columns(sys.stdout) or 120) - 9)
            text = " ".join((newest.prompt + newest.text).split())
            line(f"{'':9}{clipped(text, width)}")


def _status_line(summary: RunSummary) -> str:
    if summary.status != "running":
        message = f" ({summary.message})" if summary.message else ""
        return f"{summary.run}: {status_text(summary)}{message}"
    parts = [f"{summary.run}: running", model_text(summary)]
    if summary.model.parameters:
        parts.append(counted(summary.model.parameters, "parameter"))
    if summary.max_steps:
        parts.append(counted(summary.max_steps, "step"))
    device = f" on {device_text(summary)}" if summary.device else ""
    return f"{', '.join(parts)}{device}"


def _progress(summary: RunSummary) -> str:
    train, speed, left = summary.train, summary.tokens_per_second, summary.eta_seconds
    parts = [
        f"step {progress_text(summary)}",
        f"loss {figure(train.loss, 3)}  ppl {perplexity_text(train.perplexity)}",
        f"{short(speed)} tok/s" if speed else "",
        f"{duration(left)} left" if left is not None else "",
        other_load_text(summary),
    ]
    return "  ".join(filter(None, parts))


def _evaluation(row: EvaluationRow) -> str:
    bits = bits_per_byte_text(row.bits_per_byte, row.unknown_share, row.scored_share)
    return f"step {row.step:,}  {row.name} perplexity {perplexity_text(row.perplexity)}  {bits}"


def newest_sample(snapshot: RunSnapshot) -> SampleRow | None:
    """Return the sample of the first prompt at the latest step that has samples."""
    newest = max((row.step for row in snapshot.samples), default=0)
    prompts = snapshot.config.evaluation.prompts
    at_newest = [row for row in snapshot.samples if row.step == newest]
    return min(
        at_newest,
        key=lambda row: (
            prompts.index(row.prompt) if row.prompt in prompts else len(prompts),
            row.time,
        ),
        default=None,
    )
