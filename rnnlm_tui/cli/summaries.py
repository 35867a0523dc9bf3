"""A run as text: rows of `runs` and figures of `show`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from time import time
from typing import TYPE_CHECKING

from rnnlm_tui.cli.output import Colour, facts, line, note, table
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
    memory,
    other_load_text,
    percent,
    perplexity_text,
    short,
)
from rnnlm_tui.schema.metrics import slowest_rank
from rnnlm_tui.schema.status import RunStatus

if TYPE_CHECKING:
    from rnnlm_tui.schema.metrics import RankReading
    from rnnlm_tui.schema.summary import EvaluationFigures, ReferenceFigures, RunSummary


def queue_places() -> dict[str, int]:
    """Return the places of the waiting runs; empty if the queue can't be read."""
    from rnnlm_tui.errors import StorageError
    from rnnlm_tui.store.queue import read_queue, waiting

    try:
        return {entry.run: place for place, entry in enumerate(waiting(read_queue()), 1)}
    except StorageError:
        return {}  # `queue` reports it


def run_cells(summary: RunSummary, place: int | None = None) -> tuple[str, ...]:
    """Format a row of `runs`.

    Args:
        place: in the queue; None if it doesn't wait.
    """
    figures = (
        f"{summary.step:,}",
        percent(share_done(summary)),
        perplexity_text(summary.validation.best_perplexity or summary.validation.perplexity),
        short(summary.tokens_per_second or None),
        duration(summary.active_seconds),
        age(time() - summary.updated) if summary.updated else NOTHING,
        model_text(summary),
        summary.preset,
    )
    return (
        f"⚑ {summary.run}" if summary.pinned else summary.run,
        status_text(summary) if place is None else f"waiting {place}",
        *([NOTHING] * len(figures) if summary.unreadable else figures),
        " ".join(summary.tags),
    )


def print_runs(runs: Sequence[RunSummary]) -> None:
    """Print the table of `runs`, and why some can't be read."""
    places = queue_places()
    table(
        (
            *("name", "status", ">step", ">done", ">val ppl", ">tok/s", ">time", ">age"),
            *("model", "preset", "tags"),
        ),
        [run_cells(summary, places.get(summary.run)) for summary in runs],
        spare=(9, 6, 3, 8, 5),  # preset, time, share done, model and speed
        colours=status_colours(runs),
    )
    for summary in runs:
        if summary.unreadable:
            note("; ".join(filter(None, (summary.message, summary.hint))))


def status_colours(runs: Iterable[RunSummary]) -> dict[int, dict[str, Colour | None]]:
    """Return the colours of the second column, if it has the status."""
    return {1: {status_text(run): status_colour(run) for run in runs}}


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
    yield "checkpoints", checkpoint_text(summary)
    yield "started", summary.started or ""
    yield "started from", summary.parent or ""
    worker = f"pid {summary.pid} on {summary.host}, attempt {summary.attempt}"
    yield "worker", worker if summary.pid else ""
    job = "" if summary.job is None or summary.message == summary.job.words else summary.job.words
    yield "job", job


def print_summary(summary: RunSummary) -> None:
    """Print `show`: the figures, then a row per process if several train together."""
    facts(summary_lines(summary), colours={"status": status_colour(summary)})
    slowest = slowest_rank(summary.running_ranks)
    if rows := [
        (*_rank_cells(rank), "slowest" * (rank == slowest)) for rank in summary.running_ranks
    ]:
        line()
        head = (">rank", "host", "device", ">tok/s", ">use", ">memory", ">waiting", "")
        table(head, rows, spare=(2,))


def _rank_cells(rank: RankReading) -> tuple[str, ...]:
    of = f" of {memory(rank.memory_total)}" if rank.memory_total else ""
    return (
        f"{rank.rank}",
        rank.host,
        rank.device or "CPU",
        short(rank.tokens_per_second),
        percent(None if rank.use is None else rank.use / 100),
        f"{memory(rank.memory)}{of}",
        percent(rank.waiting),
    )


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
        done, total = summary.preparing.done, summary.preparing.total
        part = f" {percent(done / total)}" if total else ""
        return f"preparing, {summary.preparing.phase}{part}"
    if summary.job is not None and summary.job.waits:
        return f"{summary.status}, waits in Slurm"
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


def share_done(summary: RunSummary) -> float | None:
    """Return the share of planned steps that are done, 0 to 1; None if it is unknown."""
    return min(1.0, summary.step / summary.max_steps) if summary.max_steps else None


def model_text(summary: RunSummary) -> str:
    """Format `Elman 2×192 tied`."""
    model = summary.model
    if not model.num_layers:
        return NOTHING
    return (
        f"{CELL_NAMES.get(model.cell_type, model.cell_type)} {model.num_layers}×{model.hidden_size}"
        + (" tied" if model.tie_weights else "")
    )


def _evaluation_text(found: EvaluationFigures) -> str:
    text = f"perplexity {perplexity_text(found.perplexity)}{_bits(found)}"
    if found.step is not None:
        text += f" at step {found.step:,}"
    if found.best_step is not None:
        text += f", best {perplexity_text(found.best_perplexity)} at step {found.best_step:,}"
    return text


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


def checkpoint_text(summary: RunSummary) -> str:
    kept = summary.checkpoints
    if not kept.count:
        return "none yet"
    best = f"best {kept.best:,}, " if kept.best is not None else ""
    last = f"last {kept.last:,}, " if kept.last is not None else ""
    pinned = f"pinned {', '.join(f'{step:,}' for step in kept.pinned)}, " if kept.pinned else ""
    return f"{best}{last}{pinned}{kept.count} kept, {disk(kept.bytes)}"
