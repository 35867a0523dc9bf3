"""A config's estimate before training: parameters, steps, time, memory, disk and losses to beat."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual.content import Content

from rnnlm_tui.errors import Problem
from rnnlm_tui.schema import formatting
from rnnlm_tui.schema.formatting import counted
from rnnlm_tui.schema.status import LIVING
from rnnlm_tui.schema.summary import CheckpointFigures
from rnnlm_tui.tui.palette import BAD, BRIGHT, DIM, TEXT, THIRD, TRAIN, WARN
from rnnlm_tui.tui.text import amount, bar, line, safe_text, spread
from rnnlm_tui.tui.views.form import FORM_FIELDS, TITLES, Draft, field_of, shown_value, value_at
from rnnlm_tui.tui.widgets.panel import Panel
from rnnlm_tui.tui.widgets.run_detail import remark_lines

if TYPE_CHECKING:
    from rnnlm_tui.client.estimate import Estimate
    from rnnlm_tui.schema.summary import RunSummary
    from rnnlm_tui.system.machine import MachineFacts

GAP = Content("")


@dataclass(frozen=True, slots=True)
class MachineCapacity:
    """What the machine offers a run, in bytes; None if unknown."""

    memory_total: int | None = None
    memory_used: int | None = None
    """Used by others, before this run."""
    on_gpu: bool = False
    disk_free: int | None = None


class EstimatePanel(Panel):
    """A draft's estimate, in a column beside the form or in four lines below it."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(title="Estimate", id=id)
        self._estimate: Estimate | None = None
        self._draft: Draft | None = None
        self._problems: tuple[Problem, ...] = ()
        self._room = MachineCapacity()
        self._kept: CheckpointFigures | None = None
        self._started = True

    def show(
        self,
        estimate: Estimate | None,
        draft: Draft,
        problems: Sequence[Problem],
        room: MachineCapacity,
        run: RunSummary | None,
    ) -> None:
        """Show an estimate, None while it is computed, of a draft or of the config of a run."""
        self._started = run is not None
        self._kept = run.checkpoints if run is not None and run.status not in LIVING else None
        self._estimate, self._draft, self._problems = estimate, draft, tuple(problems)
        self._room = room
        self.legend = self._state_line()
        self.redraw()

    def on_resize(self) -> None:
        """Show in the edge what the lines of this layout don't have."""
        self.legend = self._state_line()

    @property
    def is_tall(self) -> bool:
        """Whether it is a column beside the form, not four lines below it."""
        return self.inner_size.height > 8

    def prepare(self, width: int, height: int) -> None:  # noqa: ARG002 (the panel's)
        """Lay out all lines."""
        if self._draft is None:
            self.lines = []
        elif self._estimate is None:
            self.lines = [Content.styled("computing …", DIM)]
        elif self.is_tall:
            self.lines = self._column(self._estimate, self._draft, width)
        else:
            self.lines = self._dimmed(self._four_lines(self._estimate))

    def _dimmed(self, rows: list[Content]) -> list[Content]:
        """Dim the figures of a draft with problems: they are those of the last valid config."""
        return [Content.styled(row.plain, DIM) for row in rows] if self._problems else rows

    def _state_line(self) -> Content | str:
        draft = self._draft
        if draft is None or self._started:
            return ""
        if self.is_tall:
            return "out of date" if self._problems else "live"
        parts = [_base_name(draft)]
        if draft.changes:
            changed = f"{{}} {len(draft.changes)} changed from {{}}"
            parts = [line(changed, ("●", WARN), _base_name(draft))]
        if self._problems:
            parts.append(Content.styled(f"✗ {counted(len(self._problems), 'problem')}", BAD))
        return Content.styled(" · ", DIM).join(parts)

    def _four_lines(self, estimate: Estimate) -> list[Content]:
        """Return five lines of 76 columns."""
        count = estimate.parameters
        shares = (count.embedding / count.total, (sum(count.layers) + count.output) / count.total)
        layers = sum(count.layers) / count.total
        share = formatting.percent(layers) if layers >= 0.005 or not layers else "< 1 %"
        first = line(
            f"parameters {{}}   {{}}  {{}} embedding {formatting.percent(shares[0])}"
            f"  {{}} layers {share}",
            (f"{count.total:,}", f"bold {BRIGHT}"), bar(20, *shares), ("━", TRAIN), ("╍", THIRD),
        )  # fmt: skip
        time = line("time   {}   {}", _time(estimate), _steps(estimate))
        memory = line("memory {}", self._memory(estimate))
        disk = line("disk {}", _disk(estimate, self._kept))
        perplexity = f"{math.exp(estimate.start_loss):,.0f}"
        start = line("start  {} = ln V, ppl {}", f"{estimate.start_loss:.2f}", perplexity)
        beat = Content("")
        if estimate.unused_gpu is not None:
            beat = Content.styled("torch can't use the GPU: see doctor", BAD)
        elif estimate.too_large:
            beat = Content.styled(estimate.what_fits, BAD)
        elif estimate.baseline_perplexity:
            beat = line("test bigram to beat {}", formatting.figure(estimate.baseline_perplexity))
        rest = _columns(_work(estimate), _per_parameter(estimate))
        return [first, time, _columns(memory, disk), rest, _columns(start, beat)]

    def _memory(self, estimate: Estimate) -> Content:
        total, need = self._room.memory_total, estimate.memory_bytes
        measured = " measured" if estimate.memory_measured else ""
        if total is None:
            return line(f"{{}}{measured}", amount(formatting.memory(need)))
        fits = need < total and not estimate.too_large
        words = (formatting.gib if need >= 0.095 * formatting.GIB else formatting.memory)(need)
        of = f"{{}} of {formatting.gib(total)} GiB{measured}"
        return line(of, (words, TEXT if fits else BAD))

    def _column(self, estimate: Estimate, draft: Draft, width: int) -> list[Content]:
        """Return a column about 36 cells wide and up to 36 lines high."""
        count, text = estimate.parameters, estimate.text
        parts = [("embedding", count.embedding, TRAIN)]
        if len(count.layers) <= 6:
            parts += [(f"layer {at}", size, THIRD) for at, size in enumerate(count.layers, start=1)]
        else:
            parts.append((counted(len(count.layers), "layer"), sum(count.layers), THIRD))
        last = "bias" if count.output == text.vocab_size else "output"
        parts.append((last, count.output, TRAIN))
        rows: list[Content | tuple[str, Content]] = [
            ("parameters", Content.styled(f"{count.total:,}", f"bold {BRIGHT}")),
            *(_part(name, size, count.total, colour, width) for name, size, colour in parts),
            GAP,
            ("time", _time_figure(estimate)),
            ("", Content.styled(_calibration(estimate), DIM)),
            GAP,
            *self._memory_rows(estimate, width),
            GAP,
            ("disk", _disk(estimate, self._kept)),
        ]
        if self._room.disk_free is not None:
            rows.append(("free", amount(formatting.disk(self._room.disk_free))))
        rows += [
            GAP,
            _figure("tokens, counted" if text.known == "counted" else "tokens", text.tokens),
            _figure("steps/epoch", estimate.steps_per_epoch),
            _figure("steps", estimate.steps),
            GAP,
            ("work", _flops(estimate.run_flops)),
            ("work per step", _flops(estimate.step_flops)),
            _text("parameters in the vocabulary", formatting.percent(estimate.vocabulary_share)),
            _text("tokens per parameter", formatting.figure(estimate.tokens_per_parameter)),
        ]
        if (gpu := estimate.unused_gpu) is not None:
            rows += [GAP, *remark_lines((f"CPU, not GPU: {gpu.fact}", gpu.fix), width)]
        if estimate.notes:
            rows += [GAP, *remark_lines(estimate.notes, width)]
        rows += [GAP, _loss("loss at start, ln V", estimate.start_loss)]
        if estimate.baseline_perplexity:
            rows.append(_loss("test bigram", math.log(estimate.baseline_perplexity)))
        lines = [row if isinstance(row, Content) else _row(*row, width) for row in (*rows, GAP)]
        return self._dimmed(lines) + self._changes(draft, width)

    def _memory_rows(
        self, estimate: Estimate, width: int
    ) -> Iterator[Content | tuple[str, Content]]:
        """Return the memory that is needed, its share of the machine's, and what would fit."""
        room = self._room
        yield "GPU memory" if room.on_gpu else "memory", self._memory(estimate)
        if room.memory_total:
            others = (room.memory_used or 0) / room.memory_total
            yield bar(width, estimate.memory_bytes / room.memory_total, others)
            used = (("━", TRAIN), ("╍", THIRD), formatting.gib(room.memory_used or 0))
            yield GAP if room.memory_used is None else line("{} this run  {} others {}", *used)
        if estimate.too_large:
            yield "", Content.styled(estimate.what_fits, BAD)

    def _changes(self, draft: Draft, width: int) -> list[Content]:
        rows: list[Content] = []
        if draft.changes:
            number = (f"{len(draft.changes)}", BRIGHT)
            rows.append(line("{} {} changed from {}", ("●", WARN), number, _base_name(draft)))
            for field in FORM_FIELDS:
                if field.path in draft.changes:
                    was, now = (
                        safe_text(shown_value(field, value), limit=12) or "none"
                        for value in (value_at(draft.base, field.path), draft.value(field.path))
                    )
                    title = (f"{field.title.ljust(15)} {was}", DIM)
                    rows.append(line("  {} → {}", title, (now, BRIGHT)))
            rows.append(Content(""))
        if self._problems:
            number = (f"✗ {counted(len(self._problems), 'problem')}", f"bold {BAD}")
            rows.append(line("{}, start is blocked", number))
            # the field itself shows the problem
            titles = dict.fromkeys(TITLES.get(field_of(it), it.path) for it in self._problems)
            rows += [Content.styled(safe_text(f"  {title}", limit=width), DIM) for title in titles]
        return rows


def machine_capacity(
    machine: MachineFacts | None, device: str, estimate: Estimate | None
) -> MachineCapacity:
    """Return the GPU's memory if a run with this `training.device` trains on one, otherwise the
    machine's."""
    if machine is None:
        return MachineCapacity()
    total, used = machine.gpu.memory_total, machine.gpu.memory_used
    unused = estimate is not None and estimate.unused_gpu is not None
    if total and device not in ("cpu", "mps") and not unused:
        return MachineCapacity(total, used, on_gpu=True, disk_free=machine.disk_free)
    total = machine.memory_total
    return MachineCapacity(total, total - machine.memory_free, disk_free=machine.disk_free)


def _base_name(draft: Draft) -> Content:
    kind, _, name = safe_text(draft.base_name, limit=40).partition(" ")
    return line("{} {}", (kind, DIM), name) if name else line("{}", kind)


def _disk(estimate: Estimate, kept: CheckpointFigures | None) -> Content:
    if kept is not None:
        count = counted(kept.count, "checkpoint")
        return line(f"{{}}, {count} kept", amount(formatting.disk(kept.bytes)))
    count = counted(estimate.checkpoints, "checkpoint")
    return line(f"{{}}, {count}", amount(formatting.disk(estimate.disk_bytes)))


def _time_figure(estimate: Estimate) -> Content:
    if estimate.seconds is None:
        return Content.styled(formatting.NOTHING, DIM)
    return Content.styled(formatting.about(estimate.seconds), f"bold {TRAIN}")


def _calibration(estimate: Estimate) -> str:
    if estimate.steps is None:
        return "known once the corpus is built"
    if estimate.seconds is None:
        return "not measured here yet"
    run = safe_text(estimate.calibrated_run or "", limit=24)
    return f"based on {run or 'a probe'}"


def _time(estimate: Estimate) -> Content:
    if estimate.seconds is None:
        return Content.styled(_calibration(estimate), DIM)
    return line("{}   {}", _time_figure(estimate), (_calibration(estimate), DIM))


def _flops(value: float | None) -> Content:
    if value is None:
        return Content.styled(formatting.NOTHING, DIM)
    return amount(formatting.flops(value))


def _work(estimate: Estimate) -> Content:
    """Return the floating-point operations of the run, or of a step while its steps are unknown."""
    if estimate.run_flops is None:
        return line("work   {} per step", _flops(estimate.step_flops))
    return line("work   {}", _flops(estimate.run_flops))


def _per_parameter(estimate: Estimate) -> Content:
    share = f"vocabulary {formatting.percent(estimate.vocabulary_share)}"
    if estimate.tokens_per_parameter is None:
        return Content.styled(share, DIM)
    each = formatting.figure(estimate.tokens_per_parameter)
    return line(f"{{}} tokens/parameter, {share}", each)


def _steps(estimate: Estimate) -> Content:
    if estimate.steps is None:
        return Content("")
    factors, each = "", estimate.steps_per_epoch
    if each and estimate.steps % each == 0:
        factors = f" = {estimate.steps // each:,} × {each:,}"
    return line(f"steps {{}}{factors}", f"{estimate.steps:,}")


def _columns(left: Content, right: Content) -> Content:
    return Content.assemble(left, " " * max(2, 38 - left.cell_length), right)


def _row(name: str, value: Content, width: int) -> Content:
    return spread(Content.styled(name, DIM), value, width, least=bool(name))


def _text(name: str, value: str) -> tuple[str, Content]:
    return name, Content.styled(value, TEXT)


def _figure(name: str, value: float | None) -> tuple[str, Content]:
    return _text(name, formatting.count(value))


def _part(name: str, size: int, total: int, colour: str, width: int) -> Content:
    share = size / total if total else 0.0
    percent = f"{share * 100:.{0 if share >= 0.01 or not share else 1}f} %"
    shares = bar(max(4, width - 26), share, colour=colour)
    return line(f" {name:<10}{{}}{{}}{percent:>6}", shares, f"{size:>9,}")


def _loss(name: str, loss: float) -> tuple[str, Content]:
    perplexity = formatting.figure(math.exp(loss)).rjust(5)
    return name, line("{}  ppl {}", f"{loss:.2f}", perplexity)
