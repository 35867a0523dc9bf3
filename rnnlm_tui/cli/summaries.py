"""A run as text: rows of `runs`, figures of `show`, and the frames of `show --watch`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise
from time import time
from typing import TYPE_CHECKING

from rnnlm_tui.cli.output import CURVE, Colour, as_ascii, cells
from rnnlm_tui.schema.cells import CELL_NAMES
from rnnlm_tui.schema.formatting import (
    NOTHING,
    age,
    bits_per_byte_text,
    counted,
    device_text,
    disk,
    duration,
    epoch_of,
    figure,
    gib,
    other_load_text,
    percent,
    safe,
    short,
)
from rnnlm_tui.schema.metrics import GpuRow, evaluations_during_run, perplexity
from rnnlm_tui.schema.status import LIVING, RunStatus

if TYPE_CHECKING:
    from rnnlm_tui.client.monitor import RunSnapshot
    from rnnlm_tui.client.remaining import Eta
    from rnnlm_tui.schema.metrics import SampleRow
    from rnnlm_tui.schema.summary import EvaluationFigures, ReferenceFigures, RunSummary

RUN_COLUMNS: tuple[str, ...] = (
    *("name", "status", "step", "done", "val ppl", "tok/s", "time", "age"),
    *("model", "preset", "tags"),
)
RUN_COLUMNS_RIGHT: tuple[int, ...] = (2, 3, 4, 5, 6, 7)
RUN_COLUMNS_SPARE: tuple[int, ...] = (9, 6, 3, 8, 5)
"""Preset, time, share done, model and speed: columns dropped on narrow terminals, in this order."""


def queue_places() -> dict[str, int]:
    """Return the places of the waiting runs; empty if the queue can't be read."""
    from rnnlm_tui.errors import StorageError
    from rnnlm_tui.store.queue import read_queue, waiting

    try:
        return {entry.run: place for place, entry in enumerate(waiting(read_queue()), 1)}
    except StorageError:
        return {}  # `queue` reports it


def run_cells(summary: RunSummary, place: int | None = None) -> tuple[str, ...]:
    """Format a row of `runs`, in the order of RUN_COLUMNS.

    Args:
        place: in the queue; None if it doesn't wait.
    """
    if summary.unreadable:
        return (
            _name(summary),
            status_text(summary),
            *[NOTHING] * (len(RUN_COLUMNS) - 3),
            " ".join(summary.tags),
        )
    return (
        _name(summary),
        status_text(summary) if place is None else f"waiting {place}",
        f"{summary.step:,}",
        percent(share_done(summary)) if summary.max_steps else NOTHING,
        perplexity_text(summary.validation.best_perplexity or summary.validation.perplexity),
        short(summary.tokens_per_second) if summary.tokens_per_second else NOTHING,
        duration(summary.active_seconds),
        age(time() - summary.updated) if summary.updated else NOTHING,
        model_text(summary),
        summary.preset,
        " ".join(summary.tags),
    )


def _name(summary: RunSummary) -> str:
    """Format `⚑ brisk-heron` for a pinned run."""
    return f"⚑ {summary.run}" if summary.pinned else summary.run


def summary_lines(summary: RunSummary) -> Iterator[tuple[str, str]]:
    """Yield the labels and values of `show`; a label without a value is left out."""
    model, load = model_text(summary), other_load_text(summary)
    if summary.model.parameters:
        model += f", {counted(summary.model.parameters, 'parameter')}"
    epoch = " of ".join(filter(None, epoch_of(summary.epoch, summary.epochs)))
    trained = f"{counted(summary.tokens_seen, 'token')}, epoch {epoch}"
    if summary.active_seconds or not summary.step:
        trained = f"{duration(summary.active_seconds)}, {trained}"
    running = summary.status == "running" and summary.eta_seconds is not None
    yield "run", summary.run
    yield "status", ": ".join(filter(None, (status_text(summary), summary.message)))
    yield "to do", summary.hint or ""
    yield "tags", " ".join(summary.tags)
    yield "note", summary.note
    yield "pinned", "at the top of the list" if summary.pinned else ""
    yield "step", progress_text(summary)
    yield "time left", f"≈ {duration(summary.eta_seconds)}" if running else ""
    yield "requested", "; ".join(request.words for request in summary.requests)
    yield "stops", STOPS.get(summary.stop_after or "", "")
    yield "patience", patience_text(summary)
    yield "trained for", trained
    yield "model", model
    layout = "" if summary.corpus_layout == "sentences" else f", {summary.corpus_layout}"
    yield "corpus", f"{summary.corpus}{layout}"
    for number, remark in enumerate(summary.corpus_notes):
        yield "" if number else "text", remark
    yield "device", device_text(summary)
    yield "neighbours", f"{load}, which slows down training" if load else ""
    yield from result_lines(summary)
    yield "tokens/s", f"{summary.tokens_per_second:,.0f}" if summary.tokens_per_second else ""
    yield "checkpoints", _checkpoint_text(summary)
    yield "started", summary.started or ""
    yield "started from", summary.parent or ""
    worker = f"pid {summary.pid} on {summary.host}, attempt {summary.attempt}"
    yield "worker", worker if summary.pid else ""


def result_lines(summary: RunSummary) -> Iterator[tuple[str, str]]:
    """Yield the figures of the model's quality, with their baselines and references."""
    train, validation, test = summary.train, summary.validation, summary.test
    evaluated, reference, baseline = summary.evaluation, summary.reference, summary.baseline
    if train.perplexity is not None:
        loss = figure(train.loss, 3)
        yield "train", f"perplexity {perplexity_text(train.perplexity)}, loss {loss}"
    if validation.perplexity is not None:
        yield validation.name or "validation", _evaluation_text(validation)
    if evaluated.perplexity is not None and evaluated.name != validation.name:
        yield evaluated.name or "", _evaluation_text(evaluated)
    if reference is not None and reference.perplexity is not None:
        yield "reference", _reference_text(reference)
    if test.perplexity is not None and test.name != evaluated.name:
        yield test.name or "test", f"perplexity {perplexity_text(test.perplexity)}{_bits(test)}"
    if baseline.perplexity is not None:
        known = {"test": baseline.perplexity}
        if validation.perplexity is not None and baseline.validation_perplexity is not None:
            known = {"validation": baseline.validation_perplexity, **known}
        figures = ", ".join(
            f"{perplexity_text(value)} on the same {name} tokens" for name, value in known.items()
        )
        yield "to beat", f"perplexity {figures}: a {baseline.name} model"
    if (floor := summary.source.perplexity) is not None:
        yield "floor", f"perplexity {perplexity_text(floor)}, the entropy of the source"


_STATUS_COLOURS: dict[RunStatus, Colour] = {
    "running": "live",
    "preparing": "live",
    "finished": "good",
    "paused": "warn",
    "stalled": "warn",
    "degraded": "warn",
    "lost": "warn",
    "failed": "bad",
    "crashed": "bad",
    "draft": "dim",
}


def status_colour(summary: RunSummary) -> Colour | None:
    """Return the colour of a run's status; None: the terminal's default."""
    return "bad" if summary.unreadable else _STATUS_COLOURS.get(summary.status)


def status_text(summary: RunSummary) -> str:
    """Format `running`, `lost contact`, `can't be read`, `preparing, encoding 62 %`."""
    if summary.unreadable:
        return summary.unreadable
    if summary.status == "lost":
        return "lost contact"
    if summary.status == "preparing" and summary.preparing is not None:
        part = (
            f" {percent(summary.preparing.done / summary.preparing.total)}"
            if summary.preparing.total
            else ""
        )
        return f"preparing, {summary.preparing.phase}{part}"
    return summary.status


STOPS = {"epoch": "after this epoch", "evaluation": "after the next evaluation"}
"""When a planned stop is due."""


def patience_text(summary: RunSummary) -> str:
    """Format `no better validation loss for 2 evaluations, training stops at 5`."""
    patience = summary.patience
    if patience is None or not patience.waited or summary.status == "finished":
        return ""
    return (
        f"no better validation loss for {counted(patience.waited, 'evaluation')}, training stops at"
        f" {patience.limit:,}"
    )


def progress_text(summary: RunSummary) -> str:
    """Format `1,500 / 4,328 (35 %)`."""
    return (
        f"{summary.step:,} / {summary.max_steps:,} ({percent(share_done(summary))})"
        if summary.max_steps
        else f"{summary.step:,}"
    )


def share_done(summary: RunSummary) -> float:
    """Return the share of planned steps that are done, 0 to 1."""
    return min(1.0, summary.step / summary.max_steps) if summary.max_steps else 0.0


def model_text(summary: RunSummary) -> str:
    """Format `Elman 2×192 tied`."""
    model = summary.model
    if not model.num_layers:
        return NOTHING
    return (
        f"{CELL_NAMES.get(model.cell_type, model.cell_type)} {model.num_layers}×{model.hidden_size}"
        + (" tied" if model.tie_weights else "")
    )


def perplexity_text(value: float | None) -> str:
    """Format `58.1`, `3.51`: two decimals below 10, where one would hide differences."""
    return figure(value, 2 if value is not None and value < 10 else 1)


def _evaluation_text(found: EvaluationFigures) -> str:
    best = (
        f", best {perplexity_text(found.best_perplexity)} at step {found.best_step:,}"
        if found.best_step is not None
        else ""
    )
    at = f" at step {found.step:,}" if found.step is not None else ""
    return f"perplexity {perplexity_text(found.perplexity)}{_bits(found)}{at}{best}"


def _reference_text(reference: ReferenceFigures) -> str:
    """Format `perplexity 92.2 at 3.0 M sentences`, with the run's own count if it differs."""
    there, here = _millions(reference.reference_sentences), _millions(reference.sentences)
    return f"perplexity {perplexity_text(reference.perplexity)} at {there}" + (
        "" if there == here else f", nearest to this run's {here}"
    )


def _millions(sentences: int | None) -> str:
    """Format `3.0 M sentences`."""
    return NOTHING if sentences is None else f"{sentences / 1e6:.1f} M sentences"


def _bits(found: EvaluationFigures) -> str:
    words = bits_per_byte_text(found.bits_per_byte, found.unknown_share, found.scored_share)
    return f", {words}" if words else ""


def _checkpoint_text(summary: RunSummary) -> str:
    kept = summary.checkpoints
    if not kept.count:
        return "none yet"
    best = f"best {kept.best:,}, " if kept.best is not None else ""
    last = f"last {kept.last:,}, " if kept.last is not None else ""
    pinned = f"pinned {', '.join(f'{step:,}' for step in kept.pinned)}, " if kept.pinned else ""
    return f"{best}{last}{pinned}{kept.count} kept, {disk(kept.bytes)}"


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
        ("saved", _checkpoint_text(summary) if summary.checkpoints.count else ""),
        ("sample", _sample(snapshot)),
        ("event", _event(snapshot)),
    ]
    lines += [f" {label:<{_LABEL - 2}} {text}" for label, text in pairs if text]
    if ascii_only:
        return [clipped(as_ascii(safe(line, keep="")).rstrip(), width, "...") for line in lines]
    return [clipped(safe(line, keep="").rstrip(), width) for line in lines]


def clipped(text: str, width: int, ellipsis: str = "…") -> str:
    """Cut the text to `width` cells, including the ellipsis."""
    if cells(text) <= width:
        return text
    from rich.cells import chop_cells

    return chop_cells(text, max(1, width - len(ellipsis)))[0] + ellipsis


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
