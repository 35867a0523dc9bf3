"""A run's summary as text: rows of `runs`, figures of `show`, results after `follow`."""

from __future__ import annotations

from collections.abc import Iterator
from time import time

from rnnlm_tui.cli.output import Colour
from rnnlm_tui.contract.computing import CELL_NAMES, device_text, other_load_text
from rnnlm_tui.contract.figures import NOTHING, age, bits_per_byte_text, counted, disk, duration, epoch_of, figure, percent, short
from rnnlm_tui.contract.status import RunStatus
from rnnlm_tui.contract.summary import EvaluationFigures, ReferenceFigures, RunSummary

RUN_COLUMNS: tuple[str, ...] = ("name", "status", "step", "done", "val ppl", "tok/s", "time", "age", "model", "preset", "tags")
RUN_COLUMNS_RIGHT: tuple[int, ...] = (2, 3, 4, 5, 6, 7)
RUN_COLUMNS_SPARE: tuple[int, ...] = (9, 6, 3, 8, 5)
"""Preset, time, share done, model and speed: columns dropped on narrow terminals, in this order."""


def run_cells(summary: RunSummary) -> tuple[str, ...]:
    """Format a row of `runs`, in the order of RUN_COLUMNS."""
    if summary.unreadable:
        return (_name(summary), status_text(summary), *[NOTHING] * (len(RUN_COLUMNS) - 3), " ".join(summary.tags))
    return (
        _name(summary),
        status_text(summary),
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
    """Yield the labels and values of `show`."""
    yield "run", summary.run
    yield "status", status_text(summary) + (f": {summary.message}" if summary.message else "")
    yield "to do", summary.hint or ""
    yield "tags", " ".join(summary.tags)
    yield "note", summary.note
    yield "pinned", "at the top of the list" if summary.pinned else ""
    yield "step", progress_text(summary)
    yield "time left", f"≈ {duration(summary.eta_seconds)}" if summary.eta_seconds is not None and summary.status == "running" else ""
    yield "patience", patience_text(summary)
    yield (
        "trained for",
        (f"{duration(summary.active_seconds)}, " if summary.active_seconds or not summary.step else "")  # 0 if the database was rebuilt without it
        + f"{counted(summary.tokens_seen, 'token')}, epoch {' of '.join(filter(None, epoch_of(summary.epoch, summary.epochs)))}",
    )
    yield "model", f"{model_text(summary)}, {counted(summary.model.parameters, 'parameter')}" if summary.model.parameters else model_text(summary)
    yield "corpus", summary.corpus + ("" if summary.corpus_layout == "sentences" else f", {summary.corpus_layout}")
    for number, remark in enumerate(summary.corpus_notes):
        yield "" if number else "text", remark
    yield "device", device_text(summary)
    yield "neighbours", f"{other_load_text(summary)}, which slows down training" if other_load_text(summary) else ""
    yield from result_lines(summary)
    yield "tokens/s", f"{summary.tokens_per_second:,.0f}" if summary.tokens_per_second else ""
    yield "checkpoints", _checkpoint_text(summary)
    yield "started", summary.started or ""
    yield "started from", summary.parent or ""
    yield "database", summary.database or ""
    yield "worker", f"pid {summary.pid} on {summary.host}, attempt {summary.attempt}" if summary.pid else ""


def result_lines(summary: RunSummary) -> Iterator[tuple[str, str]]:
    """Yield the figures of the model's quality, with their baselines and references."""
    train, validation, test, baseline, source = summary.train, summary.validation, summary.test, summary.baseline, summary.source
    evaluated, reference = summary.evaluation, summary.reference
    yield "train", f"perplexity {perplexity_text(train.perplexity)}, loss {figure(train.loss, 3)}" if train.perplexity is not None else ""
    if validation.perplexity is not None:
        yield validation.name or "validation", _evaluation_text(validation)
    if evaluated.perplexity is not None and evaluated.name != validation.name:
        yield evaluated.name or "", _evaluation_text(evaluated)
    if reference is not None and reference.perplexity is not None:
        yield "reference", _reference_text(reference)
    if test.perplexity is not None and test.name != evaluated.name:
        yield test.name or "test", f"perplexity {perplexity_text(test.perplexity)}{_bits(test)}"
    if baseline.perplexity is not None:
        known = [("validation", baseline.validation_perplexity if validation.perplexity is not None else None), ("test", baseline.perplexity)]
        figures = ", ".join(f"{perplexity_text(value)} on the same {name} tokens" for name, value in known if value is not None)
        yield "to beat", f"perplexity {figures}: a {baseline.name} model"
    if source.perplexity is not None:
        yield "floor", f"perplexity {perplexity_text(source.perplexity)}, the entropy of the source"


_STATUS_COLOURS: dict[RunStatus, Colour] = {
    "running": "live", "preparing": "live", "finished": "good", "paused": "warn", "stalled": "warn", "degraded": "warn", "lost": "warn", "failed": "bad",
    "crashed": "bad", "draft": "dim",
}  # fmt: skip


def status_colour(summary: RunSummary) -> Colour | None:
    """Return the colour of a run's status; None: the terminal's default."""
    return "bad" if summary.unreadable else _STATUS_COLOURS.get(summary.status)


def status_text(summary: RunSummary) -> str:
    """Format `running`, `lost contact`, `damaged database`, `preparing, encoding 62 %`."""
    if summary.unreadable:
        return summary.unreadable
    if summary.status == "lost":
        return "lost contact"
    if summary.status == "preparing" and summary.preparing is not None:
        part = f" {percent(summary.preparing.done / summary.preparing.total)}" if summary.preparing.total else ""
        return f"preparing, {summary.preparing.phase}{part}"
    return summary.status


def patience_text(summary: RunSummary) -> str:
    """Format `no better validation loss for 2 evaluations, training stops at 5`."""
    patience = summary.patience
    if patience is None or not patience.waited or summary.status == "finished":
        return ""
    return f"no better validation loss for {counted(patience.waited, 'evaluation')}, training stops at {patience.limit:,}"


def progress_text(summary: RunSummary) -> str:
    """Format `1,500 / 4,328 (35 %)`."""
    return f"{summary.step:,} / {summary.max_steps:,} ({percent(share_done(summary))})" if summary.max_steps else f"{summary.step:,}"


def share_done(summary: RunSummary) -> float:
    """Return the share of planned steps that are done, 0 to 1."""
    return min(1.0, summary.step / summary.max_steps) if summary.max_steps else 0.0


def model_text(summary: RunSummary) -> str:
    """Format `Elman 2×192 tied`."""
    model = summary.model
    if not model.num_layers:
        return NOTHING
    return f"{CELL_NAMES.get(model.cell_type, model.cell_type)} {model.num_layers}×{model.hidden_size}" + (" tied" if model.tie_weights else "")


def perplexity_text(value: float | None) -> str:
    """Format `58.1`, `3.51`: two decimals below 10, where one would hide differences."""
    return figure(value, 2 if value is not None and value < 10 else 1)


def _evaluation_text(found: EvaluationFigures) -> str:
    best = f", best {perplexity_text(found.best_perplexity)} at step {found.best_step:,}" if found.best_step is not None else ""
    at = f" at step {found.step:,}" if found.step is not None else ""
    return f"perplexity {perplexity_text(found.perplexity)}{_bits(found)}{at}{best}"


def _reference_text(reference: ReferenceFigures) -> str:
    """Format `perplexity 92.2 at 3.0 M sentences`, with the run's own count if it differs."""
    there, here = _millions(reference.reference_sentences), _millions(reference.sentences)
    return f"perplexity {perplexity_text(reference.perplexity)} at {there}" + ("" if there == here else f", nearest to this run's {here}")


def _millions(sentences: int | None) -> str:
    """Format `3.0 M sentences`."""
    return NOTHING if sentences is None else f"{sentences / 1e6:.1f} M sentences"


def _bits(found: EvaluationFigures) -> str:
    words = bits_per_byte_text(found.bits_per_byte, found.unknown_share)
    return f", {words}" if words else ""


def _checkpoint_text(summary: RunSummary) -> str:
    kept = summary.checkpoints
    if not kept.count:
        return "none yet"
    best = f"best {kept.best:,}, " if kept.best is not None else ""
    last = f"last {kept.last:,}, " if kept.last is not None else ""
    pinned = f"pinned {', '.join(f'{step:,}' for step in kept.pinned)}, " if kept.pinned else ""
    return f"{best}{last}{pinned}{kept.count} kept, {disk(kept.bytes)}"
