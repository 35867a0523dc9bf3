"""Follow a run until it ends: as progress lines, JSON objects, or frames updated in place."""

from __future__ import annotations

import math
import os
import shlex
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING, TextIO

from rnnlm_tui import client
from rnnlm_tui.cli.output import (
    CURVE,
    Answer,
    as_ascii,
    cells,
    clipped,
    columns,
    encodable,
    facts,
    json_text,
    line,
    moves_cursor,
    note,
    reading_log,
)
from rnnlm_tui.cli.summaries import (
    checkpoint_text,
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
    disk,
    duration,
    figure,
    gib,
    other_load_text,
    perplexity_text,
    safe,
    short,
)
from rnnlm_tui.schema.metrics import GpuRow, evaluations_during_run, perplexity
from rnnlm_tui.schema.status import LIVING

if TYPE_CHECKING:
    from rnnlm_tui.client.monitor import RunSnapshot
    from rnnlm_tui.client.remaining import Eta
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

    Ctrl-C detaches: the run continues, the way back is printed, and the code is 130.

    Args:
        attempt: ends of earlier attempts are ignored.
    """
    return follow(directory, JsonPrinter() if json else LinePrinter(), attempt=attempt)


def follow(
    directory: RunDirectory,
    printer: Printer,
    *,
    attempt: int = 0,
    poll_seconds: float = POLL_SECONDS,
    buckets: int = 16,
) -> int:
    """Follow a run as `follow_run` does, with any printer.

    Args:
        poll_seconds: interval between polls.
        buckets: resolution of the snapshots' curves.

    Raises:
        RunStateError: the run was never started, or its worker was killed before it began, and it
            doesn't wait in the queue.
    """
    monitor = client.monitor.RunMonitor(directory, max_buckets=buckets)
    give_up = time.monotonic() + BEGIN_SECONDS
    try:
        with reading_log(directory) as report:
            monitor.reader.refresh(report)
        snapshot = monitor.snapshot()
        while True:
            summary = snapshot.summary
            begun = summary.attempt >= attempt or time.monotonic() > give_up
            if summary.status in ENDED and begun:
                failure = client.start.failure_of(directory)
                printer.finish(snapshot, failure)
                return ENDED[summary.status] if failure is None else failure.exit_code
            if summary.status == "draft" and directory.name not in queue_places():
                raise RunStateError(
                    f"{directory.name} is a draft: it hasn't been started",
                    hint=f"`rnnlm-tui resume {directory.name}` starts it",
                )
            printer.update(snapshot)
            time.sleep(poll_seconds)
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


def watch_run(run: RunDirectory, *, fps: float, ascii_only: bool) -> int:
    """Show a run until it ends and return its exit code; Ctrl-C detaches and returns 130.

    Where lines can't be rewritten, progress is printed as `follow` prints it.
    """
    if not moves_cursor():
        return follow_run(run, json=False)
    printer = FramePrinter(sys.stdout, ascii_only=ascii_only)
    return follow(run, printer, poll_seconds=1 / fps, buckets=BUCKETS)


def print_frame(run: RunDirectory, *, ascii_only: bool) -> None:
    """Print one frame of a run on stdout."""
    with (
        reading_log(run) as report,
        closing(client.monitor.RunMonitor(run, max_buckets=BUCKETS, report=report)) as monitor,
    ):
        snapshot = monitor.snapshot()
    eta = client.remaining.SteadyEta().of(snapshot.summary, snapshot.eta_margin)
    for text in frame_lines(snapshot, eta, _size(sys.stdout)[0], ascii_only=ascii_only):
        line(text)


def health_answer(run: RunDirectory, *, ascii_only: bool) -> Answer:
    """The net's health at the newest evaluation; with `--json`, at all of the newest ones."""
    from rnnlm_tui.schema.health import readings
    from rnnlm_tui.tui.views.health import health_legend, health_lines

    with reading_log(run) as report, closing(client.monitor.RunMonitor(run, report=report)) as one:
        snapshot = one.snapshot()
    value = {
        "run": run.name,
        "evaluations": [row._asdict() for row in snapshot.health],
        "advice": [reading.words for reading in readings(snapshot.health) if reading.advice],
    }
    rows = [row.plain for row in health_lines(snapshot, _size(sys.stdout)[0])]
    text = "\n".join(filter(None, (health_legend(snapshot), *map(str.rstrip, rows))))
    return Answer(value, lambda: line(as_ascii(text) if ascii_only else text, wrap=False))


class FramePrinter(Printer):
    """Prints each frame over the last one."""

    def __init__(self, stream: TextIO, *, ascii_only: bool) -> None:
        super().__init__()
        self._stream = stream
        self._ascii = ascii_only
        self._lines: list[str] = []
        self._size = (0, 0)
        self._left = client.remaining.SteadyEta()

    def update(self, snapshot: RunSnapshot) -> None:
        """Print the current frame if it or the terminal's size is another one."""
        columns, rows = size = _size(self._stream)
        eta = self._left.of(snapshot.summary, snapshot.eta_margin)
        lines = frame_lines(snapshot, eta, columns, ascii_only=self._ascii)[: max(1, rows - 1)]
        lines = [clipped(encodable(text), columns) for text in lines]
        if (lines, size) == (self._lines, self._size):
            return
        # a narrower terminal has rewrapped the last frame
        taken = sum(max(1, -(-cells(text) // (columns + 1))) for text in self._lines)
        up = f"\x1b[{min(taken, rows - 1)}A" if taken else ""
        frame = "".join(f"{text}\x1b[K\n" for text in lines)
        self._stream.write(f"{up}\r{frame}\x1b[J")
        self._stream.flush()
        self._lines, self._size = lines, size


def _size(stream: TextIO) -> tuple[int, int]:
    """Return the terminal's columns, less one, and rows; large defaults without a terminal."""
    width = columns(stream) or 1
    if width == 1:
        return FULL_WIDTH, 1_000
    return width - 1, os.get_terminal_size(stream.fileno()).lines


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


MOST_CURVE = 60
"""Maximum width of the curve in cells."""
STEEP = 6
"""The first sixth of a curve may exceed the scale, as in the app's chart.

The steep initial drop would flatten the rest.
"""
FEW = 8
"""Minimum number of evaluations for a curve of them; with fewer, training perplexity is shown."""
_LABEL = 9
"""Width of the column of labels."""
FULL_WIDTH = 120
"""Line width if no terminal reports its size."""


def frame_lines(
    snapshot: RunSnapshot, eta: Eta | None, width: int = FULL_WIDTH, *, ascii_only: bool = False
) -> list[str]:
    """Format the run's state as lines of at most `width` cells, without control characters."""
    from rnnlm_tui.tui.views.status import run_identity
    from rnnlm_tui.tui.views.train import figure_lines

    summary = snapshot.summary
    head = run_identity(summary.run, snapshot, width - 1)
    lines = [f" {head.plain}", *(line.plain for line in figure_lines(snapshot, eta, width))]
    pairs = [
        ("", summary.message or ""),
        ("to do", summary.hint or ""),
        ("curve", _curve(snapshot, width - _LABEL)),
        *_machine(snapshot),
        ("saved", checkpoint_text(summary) if summary.checkpoints.count else ""),
        ("sample", _sample(snapshot)),
        ("event", _event(snapshot)),
    ]
    lines += [f" {label:<{_LABEL - 2}} {text}" for label, text in pairs if text]
    if ascii_only:
        return [clipped(as_ascii(safe(line, keep="")).rstrip(), width, "...") for line in lines]
    return [clipped(safe(line, keep="").rstrip(), width) for line in lines]


def _curve(snapshot: RunSnapshot, room: int) -> str:
    """Draw held-out perplexity on a log scale, or training perplexity with few evaluations."""
    split = snapshot.config.evaluation.split
    name = "val ppl" if split == "validation" else "test ppl"
    losses = [row.loss for row in evaluations_during_run(snapshot.evaluations, split)]
    newest: float | None = None
    if len(losses) < FEW and len(snapshot.series) > len(losses):
        name, newest = "train ppl", snapshot.summary.train.perplexity
        losses = list(snapshot.series.columns["loss"].mean)
    losses = [loss for loss in losses if math.isfinite(loss)]
    if len(losses) < 2:
        return ""
    first = f"{name}  {perplexity_text(perplexity(losses[0]))} "
    last = f" {perplexity_text(perplexity(losses[-1]) if newest is None else newest)}"
    width = min(MOST_CURVE, room - len(first) - len(last), len(losses))
    if width < min(8, len(losses)):
        return ""
    edges = [index * len(losses) // width for index in range(width + 1)]
    means = [sum(losses[low:high]) / (high - low) for low, high in pairwise(edges)]
    low, high = min(means), max(means[len(means) // STEEP :])
    scale = (len(CURVE) - 1) / (high - low) if high > low else 0.0
    drawn = "".join(CURVE[round((min(value, high) - low) * scale)] for value in means)
    return f"{first}{drawn}{last}"


def _machine(snapshot: RunSnapshot) -> Iterator[tuple[str, str]]:
    from rnnlm_tui.tui.views.machine import has_card, steady_reading

    row = steady_reading(snapshot.hardware)
    if row is None:
        return
    when = "" if snapshot.summary.status in LIVING else f", at {_clock(row.time)}"
    yield (
        "machine",
        f"CPU {row.cpu_percent:.0f} % (own {row.process_cpu_percent:.0f}), memory"
        f" {gib(row.memory_used)} / {gib(row.memory_total)} GiB (own {gib(row.process_memory)}),"
        f" disk {disk(row.disk_free)} free{when}",
    )
    gpu = row.gpu
    if has_card(row):
        yield "GPU", _gpu_text(gpu)
    for card in row.other_gpus:
        yield f"GPU {card.index}", _gpu_text(card)


def _gpu_text(gpu: GpuRow) -> str:
    """Format what is known of `NVIDIA H100 97 %, 4.1 GiB own, 10 / 80 GiB used, 310 / 700 W, 54 °C,
    1,725 / 1,980 MHz, throttled: power cap`; a fault comes right after the name."""

    def of(value: float, most: float | None) -> str:
        return f"{value:,.0f}" if most is None else f"{value:,.0f} / {most:,.0f}"

    load = "" if gpu.percent is None else f"{gpu.percent:.0f} %"
    total = "" if gpu.memory_total is None else f" / {gib(gpu.memory_total)}"
    parts = [
        " ".join(filter(None, (gpu.name, load))),
        gpu.fault,
        "" if gpu.memory_own is None else f"{gib(gpu.memory_own)} GiB own",
        "" if gpu.memory_used is None else f"{gib(gpu.memory_used)}{total} GiB used",
        "" if gpu.watts is None else f"{of(gpu.watts, gpu.watts_limit)} W",
        "" if gpu.celsius is None else f"{gpu.celsius:.0f} °C",
        "" if gpu.clock_mhz is None else f"{of(gpu.clock_mhz, gpu.clock_max_mhz)} MHz",
        f"throttled: {gpu.throttle}" if gpu.throttle else "",
    ]
    return ", ".join(filter(None, parts))


def _sample(snapshot: RunSnapshot) -> str:
    newest = newest_sample(snapshot)
    if newest is None:
        return ""
    return f"{newest.step:,}: {' '.join((newest.prompt + newest.text).split())}"


def _event(snapshot: RunSnapshot) -> str:
    if not snapshot.events:
        return ""
    event = snapshot.events[0]
    text = ", ".join(filter(None, (event.kind, event.text)))
    return f"{_clock(event.time)} step {event.step:,}: {text}"


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%H:%M:%S")
