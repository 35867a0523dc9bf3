"""A config's estimate before training: parameters, steps, time, memory, disk and losses to beat."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual.content import Content

from rnnlm_tui.errors import Problem
from rnnlm_tui.schema import formatting
from rnnlm_tui.schema.config import value_of
from rnnlm_tui.schema.formatting import counted, figure, percent, share
from rnnlm_tui.schema.status import LIVING
from rnnlm_tui.tui.palette import BAD, BRIGHT, DIM, TEXT, THIRD, TRAIN, WARN
from rnnlm_tui.tui.text import amount, bar, line, safe_text, spread
from rnnlm_tui.tui.views.form import FIELDS, Draft, field_of, shown_value
from rnnlm_tui.tui.widgets.panel import Label
from rnnlm_tui.tui.widgets.run_detail import remark_lines

if TYPE_CHECKING:
    from rnnlm_tui.client.estimate import Estimate
    from rnnlm_tui.schema.summary import RunSummary
    from rnnlm_tui.system.machine import MachineFacts

GAP = Content("")
OWN, OTHERS = ("━", TRAIN), ("╍", THIRD)
STRONG = f"bold {BRIGHT}"


@dataclass(frozen=True, slots=True)
class ShownEstimate:
    """A draft's estimate, or that of a run's config: a column beside the form or five lines below
    it."""

    estimate: Estimate | None
    """None while it is computed."""
    draft: Draft
    problems: Sequence[Problem]
    machine: MachineFacts | None
    run: RunSummary | None
    """The run whose config it is."""

    def lines(self, width: int, height: int) -> list[Content]:
        """Return all lines.

        The figures of a draft with problems, which are those of the last valid config, are dim.
        """
        if self.estimate is None:
            return [line("computing …")]
        tall = height > 8
        rows = list(self._column(self.estimate, width) if tall else self._five_lines(self.estimate))
        if self.problems:
            rows = [line(row.plain) for row in rows]
        return [*rows, *(self._changes(width) if tall else ())]

    def legend(self, *, wide: bool) -> Label:
        """Return what the lines of this layout don't have."""
        draft = self.draft
        if self.run is not None:
            return ""
        if wide:
            return "out of date" if self.problems else "live"
        state = base = _base_name(draft)
        if draft.changes:
            state = line(f"{{}} {len(draft.changes)} changed from {{}}", ("●", WARN), base)
        if self.problems:
            problems = f"✗ {counted(len(self.problems), 'problem')}", BAD
            state = line("{} · {}", state, problems)
        return state

    def _five_lines(self, estimate: Estimate) -> Iterator[Content]:
        """Yield lines of 76 columns."""
        count = estimate.parameters
        parts = count.embedding / count.total, sum(count.layers) / count.total
        yield line(
            "parameters {}   {}  {} embedding " + "  {} layers ".join(map(share, parts)),
            (f"{count.total:,}", STRONG), bar(20, parts[0], 1 - parts[0]), OWN, OTHERS,
        )  # fmt: skip
        steps, each = estimate.steps, estimate.steps_per_epoch
        factors = f" = {steps // each:,} × {each:,}" if steps and each and steps % each == 0 else ""
        known = line("   steps {}" + factors, f"{steps:,}") if steps is not None else GAP
        time = _time(estimate) + line("   ") if estimate.seconds is not None else GAP
        yield line("time   {}{}{}", time, line(_calibration(estimate)), known)
        yield _columns(line("memory {}", self._memory(estimate)), self._disk(estimate, "disk "))
        work = line("work   {}", _flops(estimate.run_flops))
        if estimate.run_flops is None:
            work = line("work   {} per step", _flops(estimate.step_flops))
        tokens, text = estimate.tokens_per_parameter, percent(estimate.vocabulary_share)
        ratio = line("{} tokens/parameter, ", figure(tokens)) if tokens is not None else GAP
        yield _columns(work, ratio + line(f"vocabulary {text}"))
        beat = GAP
        if estimate.unused_gpu is not None:
            beat = Content.styled("torch can't use the GPU: see doctor", BAD)
        elif estimate.too_large:
            beat = Content.styled(estimate.what_fits, BAD)
        elif estimate.baseline_perplexity:
            beat = line("test bigram to beat {}", figure(estimate.baseline_perplexity))
        loss = estimate.start_loss
        start = line("start  {} = ln V, ppl {}", f"{loss:.2f}", f"{math.exp(loss):,.0f}")
        yield _columns(start, beat)

    def _column(self, estimate: Estimate, width: int) -> Iterator[Content]:
        """Yield a column about 36 cells wide and up to 36 lines high."""

        def row(name: str, value: Content | str) -> Content:
            return spread(line(name), line("{}", value), width, least=bool(name))

        def loss(name: str, nats: float) -> Content:
            perplexity = figure(math.exp(nats)).rjust(5)
            return row(name, line("{}  ppl {}", f"{nats:.2f}", perplexity))

        count, text, gpu = estimate.parameters, estimate.text, estimate.unused_gpu
        layers = [(f"layer {at}", size, THIRD) for at, size in enumerate(count.layers, start=1)]
        if len(layers) > 6:
            layers = [(counted(len(layers), "layer"), sum(count.layers), THIRD)]
        last = "bias" if count.output == text.vocab_size else "output"
        yield row("parameters", Content.styled(f"{count.total:,}", STRONG))
        first = ("embedding", count.embedding, TRAIN)
        for name, size, colour in (first, *layers, (last, count.output, TRAIN)):
            part = size / count.total
            shares = bar(max(4, width - 26), part, colour=colour)
            yield line(f" {name:<10}{{}}{{}}{share(part):>6}", shares, f"{size:>9,}")
        yield GAP
        yield row("time", _time(estimate))
        yield row("", line(_calibration(estimate)))
        yield GAP
        on_gpu, used, total = self._room(estimate)
        yield row("GPU memory" if on_gpu else "memory", self._memory(estimate))
        if total:
            yield bar(width, estimate.memory_bytes / total, (used or 0) / total)
            others = formatting.gib(used or 0)
            yield GAP if used is None else line("{} this run  {} others {}", OWN, OTHERS, others)
        if estimate.too_large:
            yield row("", Content.styled(estimate.what_fits, BAD))
        yield GAP
        yield row("disk", self._disk(estimate))
        if self.machine is not None and self.machine.disk_free is not None:
            yield row("free", amount(formatting.disk(self.machine.disk_free)))
        yield GAP
        known = "tokens, counted" if text.known == "counted" else "tokens"
        yield row(known, formatting.count(text.tokens))
        yield row("steps/epoch", formatting.count(estimate.steps_per_epoch))
        yield row("steps", formatting.count(estimate.steps))
        yield GAP
        yield row("work", _flops(estimate.run_flops))
        yield row("work per step", _flops(estimate.step_flops))
        yield row("parameters in the vocabulary", percent(estimate.vocabulary_share))
        yield row("tokens per parameter", figure(estimate.tokens_per_parameter))
        notes = (f"CPU, not GPU: {gpu.fact}", gpu.fix) if gpu is not None else ()
        for remarks in (notes, estimate.notes):
            if remarks:
                yield GAP
                yield from remark_lines(remarks, width)
        yield GAP
        yield loss("loss at start, ln V", estimate.start_loss)
        if estimate.baseline_perplexity:
            yield loss("test bigram", math.log(estimate.baseline_perplexity))
        yield GAP

    def _changes(self, width: int) -> Iterator[Content]:
        """Yield the changed values, and the titles of fields with problems."""
        draft = self.draft
        if draft.changes:
            number = (f"{len(draft.changes)}", BRIGHT)
            yield line("{} {} changed from {}", ("●", WARN), number, _base_name(draft))
            for field in FIELDS.values():
                if field.path in draft.changes:
                    was, now = (
                        safe_text(shown_value(field, value), limit=12) or "none"
                        for value in (value_of(draft.base, field.path), draft.value(field.path))
                    )
                    yield line(f"  {field.title.ljust(15)} {was} → {{}}", (now, BRIGHT))
            yield GAP
        if self.problems:
            number = (f"✗ {counted(len(self.problems), 'problem')}", f"bold {BAD}")
            yield line("{}, start is blocked", number)
            # the field itself shows the problem
            for path in dict.fromkeys(map(field_of, self.problems)):
                title = FIELDS[path].title if path in FIELDS else path
                yield line(safe_text(f"  {title}", limit=width))

    def _room(self, estimate: Estimate) -> tuple[bool, int | None, int | None]:
        """Return whether it trains on a GPU; and the bytes of the memory there that others use and
        that there are, None if unknown."""
        machine, device = self.machine, self.draft.value("training.device")
        if machine is None:
            return False, None, None
        gpu = machine.gpu
        if gpu.memory_total and device not in ("cpu", "mps") and estimate.unused_gpu is None:
            return True, gpu.memory_used, gpu.memory_total
        return False, machine.memory_total - machine.memory_free, machine.memory_total

    def _memory(self, estimate: Estimate) -> Content:
        total, need = self._room(estimate)[2], estimate.memory_bytes
        measured = " measured" if estimate.memory_measured else ""
        if total is None:
            return line(f"{{}}{measured}", amount(formatting.memory(need)))
        fits = need < total and not estimate.too_large
        words = (formatting.gib if need >= 0.095 * formatting.GIB else formatting.memory)(need)
        of = f"{{}} of {formatting.gib(total)} GiB{measured}"
        return line(of, (words, TEXT if fits else BAD))

    def _disk(self, estimate: Estimate, name: str = "") -> Content:
        """Return what its checkpoints will take, or those of a run that has ended do."""
        count, size, kept = estimate.checkpoints, estimate.disk_bytes, ""
        if self.run is not None and self.run.status not in LIVING:
            count, size, kept = self.run.checkpoints.count, self.run.checkpoints.bytes, " kept"
        words = f"{name}{{}}, {counted(count, 'checkpoint')}{kept}"
        return line(words, amount(formatting.disk(size)))


def _base_name(draft: Draft) -> Content:
    kind, _, name = safe_text(draft.base_name, limit=40).partition(" ")
    return line("{} {}", (kind, DIM), name) if name else line("{}", kind)


def _time(estimate: Estimate) -> Content:
    return Content.styled(formatting.about(estimate.seconds), f"bold {TRAIN}")


def _calibration(estimate: Estimate) -> str:
    if estimate.steps is None:
        return "known once the corpus is built"
    if estimate.seconds is None:
        return "not measured here yet"
    return f"based on {safe_text(estimate.calibrated_run or '', limit=24) or 'a probe'}"


def _flops(value: float | None) -> Content:
    return line(formatting.NOTHING) if value is None else amount(formatting.flops(value))


def _columns(left: Content, right: Content) -> Content:
    return Content.assemble(left, " " * max(2, 38 - left.cell_length), right)
