"""A run's status, identity and machine as text: `● running`, `Elman 2×192`, `gpu1 · L4`; and the
waiting runs, as the lists of runs show them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import product
from time import localtime, strftime, time
from typing import TYPE_CHECKING, NamedTuple

from textual.content import Content

from rnnlm_tui.schema.cells import CELL_NAMES
from rnnlm_tui.schema.formatting import age, card_name, count, counted, duration, short
from rnnlm_tui.tui import palette
from rnnlm_tui.tui.text import line, safe_content, safe_text

if TYPE_CHECKING:
    from rnnlm_tui.client.monitor import RunSnapshot
    from rnnlm_tui.schema.config import RunConfig
    from rnnlm_tui.schema.queue import QueueListing
    from rnnlm_tui.schema.status import RunStatus
    from rnnlm_tui.schema.summary import RunSummary
    from rnnlm_tui.system.machine import MachineFacts


def status_glyph(status: RunStatus) -> Content:
    """Return the coloured glyph, one column wide."""
    sign, colour = palette.STATUS_GLYPHS[status]
    bold = status in ("paused", "crashed", "stalled", "degraded", "lost")
    return Content.styled(sign, f"bold {colour}" if bold else colour)


def status_word(status: RunStatus, *, bold: bool = False) -> Content:
    """Return the word, coloured for running runs and trouble only."""
    colour = status_colour(status, palette.TEXT)
    style = f"bold {colour}" if bold and colour != palette.TEXT else colour
    return Content.styled(palette.STATUS_WORDS[status], style)


def status_content(status: RunStatus, *, bold: bool = False) -> Content:
    """Return glyph and word."""
    return Content.assemble(status_glyph(status), " ", status_word(status, bold=bold))


def run_status(run: RunSummary) -> Content:
    """Return a listed run's glyph and word, or what of it can't be read."""
    word = status_word(run.status)
    if run.job is not None and run.job.waits:
        word = Content.styled(f"waits, job {safe_text(run.job.id, limit=12)}", palette.TEXT)
    if run.unreadable:
        word = Content.styled(run.unreadable, palette.WARN)
    return Content.assemble(status_glyph(run.status), " ", word)


def status_colour(status: RunStatus, otherwise: str = palette.BASELINE) -> str:
    """Return the colour of a run that trains, is slow or failed; as a progress bar has it."""
    if status in ("running", "preparing"):
        return palette.TRAIN
    if status in ("stalled", "degraded"):
        return palette.WARN
    return palette.BAD if status in ("failed", "crashed") else otherwise


DAY_SECONDS = 22 * 3600
"""A time of day is unambiguous for this long."""


def run_identity(name: str | None, snapshot: RunSnapshot | None, width: int) -> Content:
    """Describe the run in at most `width` columns: name, status, duration, model and corpus.

    Too long, it drops corpus and seed first, then "params", "tied", the size, the cell and the time
    it ended; the name is cut last.
    """
    if name is None:
        return Content.styled("no run open", palette.DIM)
    if snapshot is None:
        shown = safe_content(name, newlines="show").stylize(f"bold {palette.BRIGHT}")
        return Content.assemble(shown, (" opening…", palette.DIM))
    summary = snapshot.summary
    status = Content.assemble(" ", status_content(summary.status, bold=True))
    lasted = line("{}", how_long(summary))
    if len(name) + status.cell_length + lasted.cell_length > width:
        lasted = line("{}", re.split(", ended|: ", how_long(summary))[0])
    state = status + lasted
    asked = [line(", {}", words.stylize(palette.WARN)) for words in request_words(summary)]
    for before, words in product((state, status), asked):
        if len(name) + before.cell_length + words.cell_length <= width:
            state = before + words
            break
    shown = safe_content(name, newlines="show", limit=max(4, width - state.cell_length))
    start = shown.stylize(f"bold {palette.BRIGHT}") + state
    wholes = (
        start + Content(" " * gap) + what for gap, what in _what_it_is(summary, snapshot.config)
    )
    return next((whole for whole in wholes if whole.cell_length <= width), start)


def request_words(summary: RunSummary) -> Iterator[Content]:
    """Yield what the worker was asked and hasn't confirmed yet, or a planned stop; the shorter
    words last."""
    if summary.requests:
        first, more = summary.requests[0], len(summary.requests) - 1
        words = safe_content(first.words, newlines="space", limit=40)
        yield words + Content(f" requested{f' and {more} more' if more else ''}")
        yield Content("requested…")
    elif summary.stop_after is not None:
        mark = "this epoch" if summary.stop_after == "epoch" else "the next evaluation"
        yield Content(f"stops after {mark}")
        yield Content("stops soon")


def how_long(summary: RunSummary) -> str:
    """Return what follows the status word: training time, time without a step, or end."""
    since = None if summary.updated is None else max(0.0, time() - summary.updated)
    if summary.status == "stalled":
        return f" no step for {duration(since)}"
    if summary.status == "lost":
        return f" for {duration(since)}"
    if summary.job is not None and summary.job.waits:
        return f", {summary.job.words}"
    if summary.status == "draft":
        return ", not started"
    if summary.status == "preparing":
        return "" if since is None else f" {duration(round(since))}"
    words = f" {duration(summary.active_seconds)}"
    ended = summary.status in ("stopped", "finished", "failed", "crashed")
    if ended and summary.updated is not None and since is not None and since >= 10:
        words += f", ended {_when(summary.updated)}"
    return words


def _when(seconds: float) -> str:
    """Return `23:41` within the last day, `12 Mar` before: true however long it stays on screen."""
    moment = localtime(seconds)
    if time() - seconds < DAY_SECONDS:
        return strftime("%H:%M", moment)
    return strftime("%d %b" if moment[0] == localtime(time())[0] else "%Y-%m-%d", moment)


def model_name(summary: RunSummary) -> str:
    """Return `Elman 2×192`, sanitized."""
    model = summary.model
    cell = CELL_NAMES.get(model.cell_type) or safe_text(model.cell_type, limit=24, newlines="show")
    return f"{cell} {model.num_layers}×{model.hidden_size}"


def corpus_name(source: str) -> str:
    """Return a built-in corpus's name or the last part of a path, sanitized."""
    return safe_text(source.rstrip("/").rpartition("/")[2] or source, limit=24, newlines="show")


def _what_it_is(summary: RunSummary, config: RunConfig) -> Iterator[tuple[int, Content]]:
    model = model_name(summary)
    parameters, dim = summary.model.parameters, palette.DIM
    corpus = corpus_name(config.corpus.source)
    brief = line("{} tied" if summary.model.tie_weights else "{}", model)
    text_name = Content.styled(corpus, dim)
    if parameters is None:
        yield 3, line("{} · {}", brief, text_name)
        yield 2, Content.styled(model, dim)
        return
    kind, size = config.tokenizer.kind, count(config.tokenizer.vocab_size)
    units = {"word": "words", "character": "characters", "byte": "bytes"}.get(kind, kind)
    vocabulary = line("BPE {}", size) if kind == "bpe" else line(units)
    exact = line("{} params", count(parameters))
    preset = summary.preset or config.preset
    of = f"{preset} · " if preset and preset != corpus else ""
    seed = line("{}seed {}", Content.styled(of, dim), config.training.seed)
    long = line("{} embedding", brief) if summary.model.tie_weights else brief
    yield 3, line("{} · {} · {} · {} · {}", long, exact, vocabulary, text_name, seed)
    yield 3, line("{} · {} · {}", brief, exact, text_name)
    yield 3, line("{} · {}", brief, exact)
    yield 2, Content.styled(f"{brief.plain} · {short(parameters)}", dim)
    yield 2, Content.styled(f"{model} · {short(parameters)}", dim)
    yield 2, Content.styled(model, dim)


def machine_label(machine: MachineFacts | None, *, wide: bool, host: bool = True) -> Content:
    """Return `gpu1 · L4`, or `gpu1 · 2 CPUs` without a GPU; the brand only if `wide`."""
    if machine is None:
        return Content("")
    device = Content.styled(device_name(machine, wide=wide), palette.TEXT)
    name = machine.host.partition(".")[0]
    shown = safe_content(name, limit=20 if wide else 12, newlines="show").stylize(palette.DIM)
    return line("{} · {}", shown, device) if host else device


def device_name(machine: MachineFacts, *, wide: bool, device: str | None = None) -> str:
    """Return the GPU's name, or `2 CPUs` without a GPU or if the run's `device` is the CPU."""
    if machine.gpu.name and not (device or "").startswith("cpu"):
        if wide:
            return safe_text(machine.gpu.name, limit=36, newlines="show")
        return safe_text(card_name(machine.gpu.name), limit=14, newlines="show")
    return counted(machine.cpu_count, "CPU")


class Waiting(NamedTuple):
    """A waiting run."""

    place: int
    """From 1."""
    start: str
    """The expected start in at most ten letters, such as `in 5 min`; empty if unknown."""


def waiting_runs(listing: QueueListing | None) -> Mapping[str, Waiting]:
    """Return the waiting runs by name."""
    found: dict[str, Waiting] = {}
    for run in listing.waiting if listing is not None else ():
        start = ""
        if run.starts is not None:
            seconds = run.starts - time()
            start = "now" if seconds < 10 else f"in {age(seconds)}"
        found[run.run] = Waiting(run.place or 0, start)
    return found
