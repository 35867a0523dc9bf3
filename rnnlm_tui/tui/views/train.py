"""The train screen as text: the run's figures in fixed columns, other runs, and its events."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from time import localtime, strftime
from typing import TYPE_CHECKING, Literal, NamedTuple

from textual.content import Content

from rnnlm_tui.client.remaining import Eta
from rnnlm_tui.schema.formatting import (
    NOTHING,
    count,
    disk,
    epoch_of,
    figure,
    percent,
    scientific,
    scored_part_text,
    share,
    short,
    unknown_share_text,
)
from rnnlm_tui.schema.metrics import CARD_LOST
from rnnlm_tui.schema.status import LIVING, RunStatus
from rnnlm_tui.tui import palette
from rnnlm_tui.tui.text import amount, bar, line, safe_content, spread, time_left
from rnnlm_tui.tui.views.charts import held_out, level_to_beat, split_name
from rnnlm_tui.tui.views.compare import Marks, best_of_comparable
from rnnlm_tui.tui.views.machine import steady_reading
from rnnlm_tui.tui.views.status import status_colour, status_glyph, status_word

if TYPE_CHECKING:
    from rnnlm_tui.client.monitor import RunSnapshot
    from rnnlm_tui.schema.metrics import EvaluationRow, EventKind, EventRow, HardwareRow
    from rnnlm_tui.schema.summary import RunSummary
    from rnnlm_tui.tui.views.status import Waiting

Trend = Literal["falling", "level", "rising"]
TREND_NATS = 0.003
"""Held-out losses within this of each other are level: 0.3 % of the perplexity."""
TREND_SIGNS: dict[Trend, tuple[str, str]] = {
    "falling": ("▼", palette.GOOD),
    "level": ("─", palette.DIM),
    "rising": ("▲", palette.WARN),
}
PHASES = {
    "downloading": "fetching the archive",
    "unpacking": "unpacking the archive",
    "reading": "reading the text",
    "tokenizer": "training the tokenizer",
    "encoding": "turning text into tokens",
    "baseline": "counting n-grams",
    "checking": "checking the corpus",
    "connecting": "starting the other processes",
    "building": "building the model",
    "rehearsing": "testing the largest step",
    "evaluating": "testing an evaluation",
}
"""What a run without steps is doing."""
NARROW = (1, 28, 43, 60)
"""Columns of the figures at 80 cells."""
PACKED = 3
"""Cells between figures of an ended run."""
ROOMY = 96
"""Width from which every figure has its own column."""
PHASE = 30
"""Cells of what a run without steps is doing."""
LEAST_BAR = 12
"""Shortest bar beside the number of tokens."""


def trend(rows: Sequence[EvaluationRow]) -> Trend | None:
    """Compare the newest held-out loss with the mean of the two before it; None for the first."""
    if len(rows) < 2:
        return None
    before = [row.loss for row in rows[-3:-1]]
    reference, newest = sum(before) / len(before), rows[-1].loss
    if newest < reference - TREND_NATS:
        return "falling"
    return "rising" if newest > reference + TREND_NATS else "level"


def busy(rows: Sequence[HardwareRow], status: RunStatus) -> Content:
    """Return `GPU 71 %`, `GPU lost`, or the CPU's without a GPU's; `rows` oldest first."""
    row = steady_reading(rows)
    if row is None or status not in LIVING:
        return Content("")
    if row.gpu.fault == CARD_LOST:
        return _label("GPU", "lost", palette.BAD)
    name, value = "GPU", row.gpu.percent
    if value is None:
        name, value = "CPU", row.cpu_percent
    return line(f"{name} {{}} %", (f"{value:.0f}", f"bold {_alarm(status)}"))


def _alarm(status: RunStatus) -> str:
    return palette.WARN if status in ("stalled", "degraded") else palette.BRIGHT


def _label(label: str, value: str, colour: str = palette.BRIGHT) -> Content:
    return line(f"{label} {{}}", (value, f"bold {colour}"))


def progress_line(summary: RunSummary, eta: Eta | None, width: int) -> Content:
    """Return `step 3,751 / 4,754  2.6M tokens  ━━━━───  79 %   24 s left ±3`, or how far a run
    without steps is."""
    preparing, most, tokens = summary.preparing, summary.max_steps, Content("")
    if preparing is not None:
        head = Content.styled(f" {PHASES.get(preparing.phase, preparing.phase)}", palette.TEXT)
        if not preparing.total and not preparing.done:
            return head  # nothing to count
        fraction = preparing.done / preparing.total if preparing.total else None
        of = f" of {disk(preparing.total)}" if preparing.total else ""
        tail, reserved = Content.styled(disk(preparing.done) + of, palette.DIM), 17
        head = head.pad_right(max(0, PHASE - head.cell_length))
    else:
        fraction = summary.step / most if most else None
        step, end = count(summary.step), count(most) if most else NOTHING
        head = line(f" step {{}} / {end}", (step.rjust(len(end)), f"bold {palette.BRIGHT}"))
        tokens = Content("  ") + amount(f"{short(summary.tokens_seen)} tokens", width=5)
        tail = _time_left(summary, eta)
        reserved = 21 if eta is not None and eta.seconds > 60 else 13
    percents = amount(percent(fraction), f"bold {palette.BRIGHT}", width=3)
    used = head.cell_length + percents.cell_length + max(tail.cell_length, reserved)
    room = width - used - 6
    if room < 6:
        return spread(head.rstrip(), tail, width - 1, least=1)
    if tokens.plain and room - tokens.cell_length >= LEAST_BAR:
        head, room = head + tokens, room - tokens.cell_length
    done = bar(room, fraction, colour=status_colour(summary.status))
    return spread(Content.assemble(head, "  ", done, " ", percents), tail, width - 1, least=1)


def _time_left(summary: RunSummary, eta: Eta | None) -> Content:
    status = summary.status
    if status == "stalled":
        return Content.styled("◌ time left unknown", f"bold {palette.WARN}")
    if status == "running" and eta is not None:
        left, more = time_left(eta.seconds, eta.margin)
        return line(f"{{}} {more}".rstrip(), (left, f"bold {palette.TRAIN}"))
    if status in ("finished", "stopped") and summary.test.perplexity is not None:
        sliced = summary.evaluation.name not in (None, "validation", summary.test.name)
        value = figure(summary.test.perplexity)
        return _label("full test" if sliced else "test", value, palette.VALIDATION)
    words: dict[RunStatus, str] = {
        "running": "estimating time left",
        "lost": "time left unknown",
        "draft": "not started",
        "preparing": "starting",
        "degraded": "time left unknown",
    }
    colour = palette.BAD if status in ("failed", "crashed") else palette.DIM
    return Content.styled(words.get(status, status), colour)


def figure_lines(snapshot: RunSnapshot, eta: Eta | None, width: int) -> list[Content]:
    """Return the three lines, each figure in a fixed column; more figures on wider terminals."""
    summary, status = snapshot.summary, snapshot.summary.status
    train, packed, roomy = summary.train, status not in LIVING, width >= ROOMY
    learns = [
        _validation(snapshot, with_best=not roomy),
        _label("train", figure(train.perplexity)),
    ]
    loss = _label("train loss", figure(train.loss))
    speed = amount(f"{short(summary.tokens_per_second)} tok/s", f"bold {_alarm(status)}")
    works = [speed, busy(snapshot.hardware, status)]
    passes, epochs = epoch_of(summary.epoch, summary.epochs)
    trains = [
        line("grad {}", figure(train.grad_norm)),
        line("lr {}" if packed or roomy else "lr   {}", scientific(train.learning_rate)),
        line(f"epoch {{}} of {epochs}" if epochs else "epoch {}", passes),
    ]
    first = progress_line(summary, eta, width)

    def row(places: tuple[int, ...], *parts: Content) -> Content:
        """Put each part at its column; a long part shifts the next as little as possible.

        The figures of an ended run no longer change: they are packed.
        """
        found = Content("")
        for place, part in zip(places, parts, strict=False):
            if not part.plain:
                continue
            gap = max(place - found.cell_length, 2 if found.plain else 0)
            if packed:
                gap = PACKED if found.plain else places[0]
            if found.cell_length + gap + part.cell_length > width:
                break
            found = Content.assemble(found, " " * gap, part)
        return found

    if not roomy:
        second = row(NARROW, *learns, loss, _bits(snapshot, width - NARROW[-1]))
        return [first, second, row((1, 14, *NARROW[1:]), *works, *trains)]
    untrained = summary.model.vocab_size
    start = line("untrained {}", count(untrained)) if untrained else Content("")
    second = row((1, 25, 38, 55, 72), *learns, start, loss, _bits(snapshot, width - 72))
    return [first, second, row((1, 14, 25, 55, 67, 78), *works, _best(summary), *trains)]


def _bits(snapshot: RunSnapshot, room: int) -> Content:
    """Return `val bits/byte 1.54`, with the scored part of the text and the unknown share if they
    fit, or that share alone."""
    judged = snapshot.summary.evaluation
    if judged.bits_per_byte is None and judged.unknown_share:
        return line(f"{split_name(snapshot)} unknown {{}}", share(judged.unknown_share))
    bits = line(f"{split_name(snapshot)} bits/byte {{}}", figure(judged.bits_per_byte))
    part = scored_part_text(judged.scored_share)
    for words in (f"of {part}" if part else "", unknown_share_text(judged.unknown_share)):
        if words and bits.cell_length + 1 + len(words) <= room:
            bits += line(f" {words}")
    return bits


def _best(summary: RunSummary) -> Content:
    """Return `best 54.2 at step 3,700`; nothing before the first evaluation."""
    judged = summary.evaluation
    if judged.best_step is None:
        return Content("")
    return line("best {} at step {}", figure(judged.best_perplexity), count(judged.best_step))


def _validation(snapshot: RunSnapshot, *, with_best: bool) -> Content:
    """Return `val 58.1 ★ ▼ falling`, or with the patience, or with the best in a narrow terminal.

    `val 58.1 patience 2/5` while patience is counting; `val 58.1 ▲ ★54.2 @3,700` if the best has no
    column of its own. A stalled run shows only the value.
    """
    rows, summary = held_out(snapshot), snapshot.summary
    name = split_name(snapshot)
    if not rows:
        untrained, first = summary.model.vocab_size, snapshot.config.evaluation.every
        note = f"  untrained {count(untrained)}" if with_best and untrained else ""
        ahead = summary.step < first <= (summary.max_steps or first)
        if not with_best and summary.status in LIVING and first and ahead:
            note = f"  first at {count(first)}"
        return _label(name, NOTHING) + Content.styled(note, palette.DIM)
    value = _label(name, figure(rows[-1].perplexity), palette.VALIDATION)
    if summary.status == "stalled":
        return value
    judged = summary.evaluation
    best = judged.best_perplexity is not None and rows[-1].perplexity <= judged.best_perplexity
    star = Content.styled(" ★", palette.VALIDATION) if best else Content("")
    patience = summary.patience
    if patience is not None and patience.waited and summary.status in LIVING:
        words = f" patience {patience.waited}/{patience.limit}"
        return Content.assemble(value, star, (words, palette.WARN))
    going = trend(rows) if summary.status in ("running", "paused") else None
    arrow, colour = TREND_SIGNS[going] if going is not None else ("", "")
    towards = f" {arrow}" if going is not None else ""
    if with_best and not best and judged.best_step is not None:
        at = count(judged.best_step) if judged.best_step < 100_000 else short(judged.best_step)
        star = Content.styled(f" ★{figure(judged.best_perplexity)}", palette.VALIDATION)
        return line(f"{{}}{{}}{{}} @{at}", value, (towards, colour), star)
    return Content.assemble(value, star, (f"{towards} {going}" if going else "", colour))


def run_lines(
    runs: Sequence[RunSummary],
    open_run: str,
    marks: Marks,
    queue: Mapping[str, Waiting],
    list_key: str,
    width: int,
    height: int,
) -> list[Content]:
    """Return all runs, two lines each, with the letters of marked runs; the open one is bright."""
    best, most = best_of_comparable(runs), height // 2
    shown = runs[: most - 1] if len(runs) > most > 0 else runs[:most]
    lines: list[Content] = []
    for run in shown:
        value, waiting = run.validation.best_perplexity, queue.get(run.run)
        star = value is not None and value == best.get(run.run)
        words = figure(value) + ("★" if star else " ")
        name = safe_content(run.run, newlines="show", limit=max(4, width - 3 - len(words)))
        styled = name.stylize(f"bold {palette.BRIGHT}" if run.run == open_run else palette.TEXT)
        left = Content.assemble(status_glyph(run.status), " ", styled)
        style = f"bold {palette.VALIDATION}" if star else palette.TEXT
        lines.append(spread(left, Content.styled(words, style), width, least=1))
        word = Content.styled(run.unreadable or palette.STATUS_WORDS[run.status], palette.DIM)
        if run.status in ("failed", "crashed", "stalled", "degraded"):
            word = status_word(run.status)
        if run.job is not None and run.job.waits:
            word = Content.styled("waits in Slurm", palette.DIM)
        share = percent(run.step / run.max_steps if run.max_steps else None)
        if waiting is not None:
            word = Content.styled(f"waiting {waiting.place}", palette.DIM)
            share = waiting.start or share
        letter = (marks.letter(run.run) or " ", f"bold {marks.colour(run.run) or palette.DIM}")
        left = Content.assemble(letter, " ", word)
        lines.append(spread(left, Content.styled(f"{share} ", palette.DIM), width, least=1))
    if len(shown) < len(runs) and most > 0:
        lines.append(Content.styled(f"  {len(runs) - len(shown)} more, {list_key}", palette.DIM))
    return lines


class EventEntry(NamedTuple):
    """A line of a run's events."""

    step: int
    time: float
    sign: str
    colour: str
    text: str


EVENT_SIGNS: dict[EventKind, tuple[str, str, str]] = {
    "started": ("·", palette.DIM, "started"),
    "resumed": ("↻", palette.WARN, "resumed"),
    "paused": ("‖", palette.WARN, "paused"),
    "stopped": ("■", palette.DIM, "stopped"),
    "finished": ("✓", palette.GOOD, "finished"),
    "failed": ("✗", palette.BAD, "failed"),
    "setting": ("Δ", palette.BRIGHT, ""),
    "note": ("·", palette.DIM, ""),
    "skipped": ("✗", palette.BAD, ""),
    "spike": ("↑", palette.WARN, ""),
    "degraded": ("◍", palette.WARN, ""),
    "recovered": ("·", palette.GOOD, ""),
    "health": ("!", palette.WARN, ""),
}
"""Event to symbol, its colour, and a word; without a word, the event's own text is shown."""


def entries_of(snapshot: RunSnapshot, *, full: bool = False) -> list[EventEntry]:
    """List the run's events, newest first, a line each; `full` with the log's whole text."""
    found = _evaluation_entries(snapshot)
    last = max((row.step for row in snapshot.checkpoints), default=0)
    for saved in snapshot.checkpoints:
        text = "saved last" if saved.step == last else "saved"
        found.append(EventEntry(saved.step, saved.time, "c", palette.TEXT, text))
    found += [entry for event in snapshot.events if (entry := _event(event, full=full)) is not None]
    return sorted(found, key=_in_order, reverse=True)


def _evaluation_entries(snapshot: RunSnapshot) -> list[EventEntry]:
    """List the evaluations, the newest best with a star, and when the level was beaten.

    Only the newest best has its star: on a falling curve every evaluation is a new best.
    """
    rows, name = held_out(snapshot), split_name(snapshot)
    level = level_to_beat(snapshot)
    finite = ((row.loss, row.step) for row in rows if row.step > 0 and math.isfinite(row.loss))
    _, best = min(finite, default=(0.0, -1))
    found: list[EventEntry] = []
    for row in rows:
        value = figure(row.perplexity)
        if level is not None and level[0] != "source" and row.perplexity < level[1]:
            text, level = f"beats {level[0].removeprefix(name).strip()}", None
            found.append(EventEntry(row.step, row.time + 2e-3, "▼", palette.GOOD, text))
        if row.step == best:
            found.append(EventEntry(row.step, row.time, "★", palette.VALIDATION, f"{value} best"))
        else:
            found.append(EventEntry(row.step, row.time, "e", palette.DIM, f"{name} {value}"))
    return found


def event_lines(snapshot: RunSnapshot) -> list[str]:
    """List the run's events, oldest first, with time of day and full text."""
    entries = entries_of(snapshot, full=True)[::-1]
    digits = max((len(count(entry.step)) for entry in entries), default=0)
    return [
        f"{strftime('%H:%M:%S', localtime(entry.time))} {count(entry.step):>{digits}}"
        f" {entry.sign} {entry.text}"
        for entry in entries
    ]


def event_within(snapshot: RunSnapshot, first: float, last: float) -> str:
    """Return the newest event within these steps: `329 ↑ loss 9.298, usually 4.1`."""
    there = [_event(event, full=True) for event in snapshot.events if first <= event.step <= last]
    newest = max((entry for entry in there if entry is not None), key=_in_order, default=None)
    return "" if newest is None else f"{count(newest.step)} {newest.sign} {newest.text}"


def _in_order(entry: EventEntry) -> tuple[int, float]:
    return entry.step, entry.time


def _event(event: EventRow, *, full: bool = False) -> EventEntry | None:
    if event.kind not in EVENT_SIGNS:
        return None
    sign, colour, word = EVENT_SIGNS[event.kind]
    text = word or event.text
    if full and word and event.text not in ("", word):
        text = f"{word}: {event.text}"
    return EventEntry(event.step, event.time, sign, colour, text)


def nearest_entry(entries: Sequence[EventEntry], step: float) -> int:
    """Return the index of the nearest entry, the first of equal ones."""
    return min(range(len(entries)), key=lambda index: abs(entries[index].step - step))
