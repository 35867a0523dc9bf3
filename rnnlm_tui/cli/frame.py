"""A run as plain lines: figures, curve, machine, latest sample and event."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from rnnlm_tui.cli.follow import newest_sample
from rnnlm_tui.cli.output import as_ascii, cells
from rnnlm_tui.cli.summaries import model_text, perplexity_text, progress_text, status_text
from rnnlm_tui.contract.computing import device_text
from rnnlm_tui.contract.figures import counted, disk, duration, gib, short, time_left
from rnnlm_tui.contract.metrics import evaluations_during_run, perplexity
from rnnlm_tui.contract.outside_text import safe
from rnnlm_tui.contract.status import LIVING

if TYPE_CHECKING:
    from rnnlm_tui.contract.metrics import GpuRow, HardwareRow
    from rnnlm_tui.supervisor.monitor import RunSnapshot
    from rnnlm_tui.supervisor.remaining import Eta

CURVE = "▁▂▃▄▅▆▇█"
ASCII_CURVE = "_.-~=+*#"
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


def frame_lines(snapshot: RunSnapshot, eta: Eta | None, width: int = FULL_WIDTH, *, ascii_only: bool = False) -> list[str]:
    """Format the run's state as lines of at most `width` cells, without control characters."""
    from rnnlm_tui.tui.widgets.train_figures import figure_lines

    summary = snapshot.summary
    lines = [_identity(snapshot, ascii_only=ascii_only)]
    lines += [line.plain for line in figure_lines(snapshot, eta, width, ascii_only=ascii_only)]
    pairs = [
        ("", summary.message or ""),
        ("to do", summary.hint or ""),
        ("curve", _curve(snapshot, width - _LABEL, ascii_only=ascii_only)),
        *_machine(snapshot),
        ("saved", _saved(snapshot)),
        ("sample", _sample(snapshot)),
        ("event", _event(snapshot)),
    ]
    lines += [f" {label:<{_LABEL - 2}} {text}" for label, text in pairs if text]
    if ascii_only:
        return [clipped(as_ascii(safe(line, keep="")).rstrip(), width, "...") for line in lines]
    return [clipped(safe(line, keep="").rstrip(), width) for line in lines]


def one_line(snapshot: RunSnapshot, eta: Eta | None) -> str:
    """Format the run's current state as one line, for logs.

    For example `running step 1,500 / 4,328 (35 %) val ppl 58.1 (best 57.9 at 1,000) …`.
    """
    summary, evaluated = snapshot.summary, snapshot.summary.evaluation
    best = f" (best {perplexity_text(evaluated.best_perplexity)} at {evaluated.best_step:,})" if evaluated.best_step not in (None, evaluated.step) else ""
    parts = [
        status_text(summary),
        f"step {progress_text(summary)}",
        f"{'val' if snapshot.config.evaluation.split == 'validation' else 'test'} ppl {perplexity_text(evaluated.perplexity)}{best}"
        if evaluated.perplexity is not None
        else "",
        f"train ppl {perplexity_text(summary.train.perplexity)}" if summary.train.perplexity is not None else "",
        f"{short(summary.tokens_per_second)} tok/s" if summary.tokens_per_second else "",
        " ".join(time_left(eta.seconds, eta.margin)).strip() if eta is not None and summary.status == "running" else "",
        _busy(snapshot),
        summary.message or "",
    ]
    return safe("  ".join(filter(None, parts)), keep="")


def clipped(text: str, width: int, ellipsis: str = "…") -> str:
    """Cut the text to `width` cells, including the ellipsis."""
    if cells(text) <= width:
        return text
    from rnnlm_tui.tui.widgets.content import graphemes

    used, kept = 0, []
    for sign, taken in graphemes(text):
        used += taken
        if used > width - len(ellipsis):
            break
        kept.append(sign)
    return "".join(kept) + ellipsis


def _identity(snapshot: RunSnapshot, *, ascii_only: bool) -> str:
    from rnnlm_tui.tui.widgets import palette

    summary = snapshot.summary
    sign = palette.glyph(summary.status, ascii_only)[0]
    parameters = f", {short(summary.model.parameters)} parameters" if summary.model.parameters else ""
    parts = [
        f"{summary.run}  {sign} {status_text(summary)}",
        duration(summary.active_seconds) if summary.active_seconds else "",
        f"{model_text(summary)}{parameters}",
        summary.corpus,
        device_text(summary),
        " ".join(summary.tags),
    ]
    return " " + "   ".join(filter(None, parts))


def _curve(snapshot: RunSnapshot, room: int, *, ascii_only: bool) -> str:
    """Draw held-out perplexity on a log scale, or training perplexity with few evaluations."""
    rows = evaluations_during_run(snapshot.evaluations, snapshot.config.evaluation.split)
    name, losses = "val ppl" if snapshot.config.evaluation.split == "validation" else "test ppl", [row.loss for row in rows]
    newest: float | None = None
    if len(losses) < FEW and len(snapshot.series) > len(losses):
        name, losses, newest = "train ppl", list(snapshot.series.columns["loss"].mean), snapshot.summary.train.perplexity
    losses = [loss for loss in losses if math.isfinite(loss)]
    if len(losses) < 2:
        return ""
    first, last = f"{name}  {perplexity_text(perplexity(losses[0]))} ", f" {perplexity_text(perplexity(losses[-1]) if newest is None else newest)}"
    columns = min(MOST_CURVE, room - len(first) - len(last), len(losses))
    if columns < min(8, len(losses)):
        return ""
    means = [_mean(losses[index * len(losses) // columns : (index + 1) * len(losses) // columns]) for index in range(columns)]
    low, high = min(means), max(means[len(means) // STEEP :])
    marks = ASCII_CURVE if ascii_only else CURVE
    drawn = "".join(marks[round((min(value, high) - low) / (high - low) * (len(marks) - 1)) if high > low else 0] for value in means)
    return f"{first}{drawn}{last}"


def _machine(snapshot: RunSnapshot) -> Iterator[tuple[str, str]]:
    from rnnlm_tui.tui.widgets.readings import steady_reading

    row = steady_reading(snapshot.hardware)
    if row is None:
        return
    when = "" if snapshot.summary.status in LIVING else f", at {_clock(row.time)}"
    yield (
        "machine",
        f"CPU {row.cpu_percent:.0f} % (own {row.process_cpu_percent:.0f}), memory {gib(row.memory_used)} / {gib(row.memory_total)} GiB "
        f"(own {gib(row.process_memory)}), disk {disk(row.disk_free)} free{when}",
    )
    if row.gpu_name is not None or row.gpu_percent is not None or row.gpu_memory_own is not None:
        yield "GPU", _card(row.gpu_name, row.gpu_percent, row.gpu_memory_own, row.gpu_memory_used, row.gpu_memory_total, row.gpu_watts, row.gpu_celsius)
    for card in row.other_gpus:
        yield f"GPU {card.index}", _other_card(card)


def _other_card(card: GpuRow) -> str:
    return _card(card.name, card.percent, card.memory_own, card.memory_used, card.memory_total, card.watts, card.celsius)


def _card(name: str | None, percent: float | None, own: int | None, used: int | None, total: int | None, watts: float | None, celsius: float | None) -> str:
    """Format `NVIDIA H100 97 %, 4.1 GiB own, 10 / 80 GiB used, 310 W, 54 °C`, as far as known."""
    parts = [
        " ".join(part for part in (name or "", "" if percent is None else f"{percent:.0f} %") if part),
        "" if own is None else f"{gib(own)} GiB own",
        "" if used is None else f"{gib(used)}{'' if total is None else f' / {gib(total)}'} GiB used",
        "" if watts is None else f"{watts:.0f} W",
        "" if celsius is None else f"{celsius:.0f} °C",
    ]
    return ", ".join(filter(None, parts))


def _busy(snapshot: RunSnapshot) -> str:
    if not snapshot.hardware or snapshot.summary.status not in LIVING:
        return ""
    row: HardwareRow = snapshot.hardware[-1]
    return f"GPU {row.gpu_percent:.0f} %" if row.gpu_percent is not None else f"CPU {row.cpu_percent:.0f} %"


def _saved(snapshot: RunSnapshot) -> str:
    kept = snapshot.summary.checkpoints
    if not kept.count:
        return ""
    best = f"best {kept.best:,}, " if kept.best is not None else ""
    return f"{best}last {kept.last or 0:,}; {counted(kept.count, 'checkpoint')}, {disk(kept.bytes)}"


def _sample(snapshot: RunSnapshot) -> str:
    newest = newest_sample(snapshot)
    return "" if newest is None else f"{newest.step:,}: {' '.join((newest.prompt + newest.text).split())}"


def _event(snapshot: RunSnapshot) -> str:
    if not snapshot.events:
        return ""
    event = snapshot.events[0]
    return f"{_clock(event.time)} step {event.step:,}: {event.kind}{f', {event.text}' if event.text else ''}"


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%H:%M:%S")


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
