"""Follow a run: print its progress as plain lines or JSON objects until it ends."""

from __future__ import annotations

import shlex
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from rnnlm_tui.cli.output import TextStream, columns, facts, json_text, line, note
from rnnlm_tui.cli.summaries import model_text, patience_text, perplexity_text, progress_text, result_lines, status_text
from rnnlm_tui.contract.computing import device_text, other_load_text
from rnnlm_tui.contract.figures import bits_per_byte_text, counted, duration, figure, short
from rnnlm_tui.errors import EXIT_INTERRUPTED, RunStateError, WorkerError

if TYPE_CHECKING:
    from rnnlm_tui.contract.metrics import EvaluationRow, SampleRow
    from rnnlm_tui.contract.summary import RunSummary
    from rnnlm_tui.store.run_directory import RunDirectory
    from rnnlm_tui.supervisor.monitor import RunSnapshot

POLL_SECONDS = 0.5
"""Interval between polls; a poll costs microseconds while nothing changes."""
LINE_SECONDS = 5.0
"""Minimum interval between progress lines; evaluations are always printed."""
BEGIN_SECONDS = 30.0
"""Time limit for a resumed worker to begin its attempt."""

ENDED: dict[str, int] = {
    "finished": 0,
    "stopped": RunStateError.exit_code,
    "failed": WorkerError.exit_code,
    "crashed": WorkerError.exit_code,
    "lost": WorkerError.exit_code,
}
"""Statuses that end following, with their exit codes; a failed run has its failure's own code."""


class ProgressPrinter(Protocol):
    """Prints the progress of a run that is followed."""

    def update(self, snapshot: RunSnapshot) -> None:
        """Print what is new; called on every poll, even if nothing changed."""
        ...

    def finish(self, snapshot: RunSnapshot, failure: RunFailure | None) -> None:
        """Print how the run ended, and why it failed."""
        ...


def follow_run(directory: RunDirectory, *, json: bool, attempt: int = 0) -> int:
    """Print progress as lines or JSON objects until the run ends, and return the exit code.

    Ctrl-C detaches: the run continues, the way back is printed, and the code is 130.

    Args:
        attempt: ends of earlier attempts are ignored.
    """
    return follow(directory, JsonPrinter() if json else LinePrinter(), attempt=attempt)


def follow(directory: RunDirectory, printer: ProgressPrinter, *, attempt: int = 0, poll_seconds: float | None = None, buckets: int = 16) -> int:
    """Follow a run as `follow_run` does, with any printer.

    Args:
        poll_seconds: interval between polls; None: POLL_SECONDS.
        buckets: resolution of the snapshots' curves.
    """
    from rnnlm_tui.supervisor.monitor import RunMonitor

    pause = POLL_SECONDS if poll_seconds is None else poll_seconds
    monitor = RunMonitor(directory, max_buckets=buckets)
    give_up = time.monotonic() + BEGIN_SECONDS
    try:
        snapshot = monitor.snapshot()
        while True:
            summary = snapshot.summary
            if summary.status in ENDED and (summary.attempt >= attempt or time.monotonic() > give_up):
                failure = RunFailure.of(directory, summary) if summary.status == "failed" else None
                printer.finish(snapshot, failure)
                return ENDED[summary.status] if failure is None else failure.exit_code
            printer.update(snapshot)
            time.sleep(pause)
            snapshot = monitor.poll() or snapshot
    except KeyboardInterrupt:
        name = directory.name
        note(f"detached, {name} keeps running: `rnnlm-tui follow {name}` or `rnnlm-tui open {name}` shows it, `rnnlm-tui stop {name}` stops it")
        return EXIT_INTERRUPTED
    finally:
        monitor.close()


@dataclass(frozen=True, slots=True)
class RunFailure:
    """Why a run failed, as its worker recorded it."""

    message: str
    hint: str
    exit_code: int

    @classmethod
    def of(cls, directory: RunDirectory, summary: RunSummary) -> RunFailure:
        """Read the latest failure of a run."""
        from rnnlm_tui.store.reader import RunReader

        with RunReader(directory) as reader:
            meta = reader.meta()
        code = meta.get("exit_code", "")
        return cls(meta.get("message", "") or summary.message or "", meta.get("hint", ""), int(code) if code.isdecimal() and code != "0" else ENDED["failed"])


def print_failure(failure: RunFailure | None) -> None:
    """Print why a run failed on stderr."""
    if failure is not None:
        note("\n".join(filter(None, (failure.message, failure.hint))))


class JsonPrinter:
    """Prints a RunSummary per line whenever its step or status changes, and at the end."""

    def __init__(self) -> None:
        self._printed: tuple[object, ...] = ()
        self._next_line = 0.0

    def update(self, snapshot: RunSnapshot) -> None:
        """Print a line if the status or an evaluation is new, or if the last line is old."""
        summary = snapshot.summary
        news = (summary.status, summary.validation.step, summary.test.step)
        now = time.monotonic()
        if news != self._printed or now >= self._next_line:
            self._printed, self._next_line = news, now + LINE_SECONDS
            self._print(summary)

    def finish(self, snapshot: RunSnapshot, failure: RunFailure | None) -> None:
        """Print the last line, and why the run failed on stderr."""
        self._print(snapshot.summary)
        print_failure(failure)

    def _print(self, summary: RunSummary) -> None:
        print(json_text(summary.model_dump(mode="json")), flush=True)


class LinePrinter:
    """Prints complete lines without colour or cursor movement, for terminals and logs."""

    def __init__(self) -> None:
        self._status = ""
        self._last_line = ""
        self._step = -1
        self._evaluations: set[tuple[int, int, str]] | None = None
        self._sampled = (0, 0)
        self._next_line = 0.0

    def update(self, snapshot: RunSnapshot) -> None:
        """Print what is new since the last call; progress at most every LINE_SECONDS."""
        summary = snapshot.summary
        now = time.monotonic()
        status = summary.status
        if status != self._status:
            self._status = status
            self._next_line = now + LINE_SECONDS
            self._print(_status_line(summary))
        elif now >= self._next_line and (summary.step != self._step or status == "preparing"):
            self._next_line = now + LINE_SECONDS
            self._print(_status_line(summary) if status == "preparing" else _progress(summary))
        self._step = summary.step
        self._print_evaluations(snapshot)
        self._print_sample(snapshot)

    def finish(self, snapshot: RunSnapshot, failure: RunFailure | None) -> None:
        """Print the results, a sample and what to do next."""
        self._print_evaluations(snapshot)
        summary = snapshot.summary
        line()
        line(f"{summary.run} {summary.status} at step {progress_text(summary)}, after {duration(summary.active_seconds)} of training")
        facts(result_lines(summary))
        newest = newest_sample(snapshot)
        if newest is not None:
            line()
            output = TextStream()
            output.write(newest.prompt + newest.text)
            output.close()
        line()
        why = (failure.message, failure.hint) if failure is not None else (summary.message,)
        for words in filter(None, why):
            note(words)
        if summary.status == "finished":
            prompt = shlex.quote(next(iter(snapshot.config.evaluation.prompts), "The"))
            if summary.hint:
                note(summary.hint)
            note(f"`rnnlm-tui sample {summary.run} {prompt}` continues a prompt, `rnnlm-tui open {summary.run}` shows the charts")
        elif failure is None and summary.hint:
            note(summary.hint)
        elif summary.checkpoints.count and not summary.diverged:
            note(f"`rnnlm-tui resume {summary.run}` continues from step {summary.checkpoints.last:,}")

    def _print(self, words: str) -> None:
        if words != self._last_line:
            self._last_line = words
            line(words)

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
            line(f"{'':9}{_one_line(newest.prompt + newest.text, min(110, (columns(sys.stdout) or 120) - 9))}")


def _status_line(summary: RunSummary) -> str:
    if summary.status == "running":
        parameters = f", {counted(summary.model.parameters, 'parameter')}" if summary.model.parameters else ""
        steps = f", {counted(summary.max_steps, 'step')}" if summary.max_steps else ""
        device = f" on {device_text(summary)}" if summary.device else ""
        return f"{summary.run}: running, {model_text(summary)}{parameters}{steps}{device}"
    return f"{summary.run}: {status_text(summary)}" + (f" ({summary.message})" if summary.message else "")


def _progress(summary: RunSummary) -> str:
    left = f"  {duration(summary.eta_seconds)} left" if summary.eta_seconds is not None else ""
    rate = f"  {short(summary.tokens_per_second)} tok/s" if summary.tokens_per_second else ""
    others = f"  {other_load_text(summary)}" if other_load_text(summary) else ""
    return f"step {progress_text(summary)}  loss {figure(summary.train.loss, 3)}  ppl {perplexity_text(summary.train.perplexity)}{rate}{left}{others}"


def _evaluation(row: EvaluationRow) -> str:
    return f"step {row.step:,}  {row.name} perplexity {perplexity_text(row.perplexity)}  {bits_per_byte_text(row.bits_per_byte, row.unknown_share)}"


def newest_sample(snapshot: RunSnapshot) -> SampleRow | None:
    """Return the sample of the first prompt at the latest step that has samples."""
    newest = max((row.step for row in snapshot.samples), default=0)
    prompts = snapshot.config.evaluation.prompts
    at_newest = [row for row in snapshot.samples if row.step == newest]
    return min(at_newest, key=lambda row: prompts.index(row.prompt) if row.prompt in prompts else len(prompts), default=None)


def _one_line(text: str, width: int) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= width else flat[: width - 1] + "…"
