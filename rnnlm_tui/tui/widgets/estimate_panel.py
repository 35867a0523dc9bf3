"""A config's estimate before training: parameters, steps, time, memory, disk and losses to beat."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual.content import Content
from textual.strip import Strip

from rnnlm_tui.errors import Problem
from rnnlm_tui.schema import formatting
from rnnlm_tui.schema.formatting import counted
from rnnlm_tui.schema.summary import CheckpointFigures
from rnnlm_tui.tui.palette import BAD, BRIGHT, DIM, TEXT, THIRD, TRAIN, WARN
from rnnlm_tui.tui.text import bar, safe_text
from rnnlm_tui.tui.views.form import FORM_FIELDS, Draft, field_of, shown_value, value_at
from rnnlm_tui.tui.widgets.panel import Panel, padded, segments_of
from rnnlm_tui.tui.widgets.run_detail import remark_lines

if TYPE_CHECKING:
    from rnnlm_tui.client.estimate import Estimate
    from rnnlm_tui.system.machine import MachineFacts

TITLES = {field.path: field.title for field in FORM_FIELDS}


@dataclass(frozen=True, slots=True)
class MachineCapacity:
    """What the machine offers a run, in bytes; None if unknown."""

    memory_total: int | None = None
    memory_used: int | None = None
    """Used by others, before this run."""
    on_gpu: bool = False
    disk_free: int | None = None


class EstimatePanel(Panel):
    """The estimate of a draft: a column beside the form, or four lines below it if there is no
    room.
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(title="Estimate", id=id)
        self._estimate: Estimate | None = None
        self._draft: Draft | None = None
        self._problems: tuple[Problem, ...] = ()
        self._room = MachineCapacity()
        self._kept: CheckpointFigures | None = None
        self._rows: list[Content] = []

    def show(
        self,
        estimate: Estimate | None,
        draft: Draft,
        problems: Sequence[Problem],
        room: MachineCapacity,
        *,
        started: bool = False,
        kept: CheckpointFigures | None = None,
    ) -> None:
        """Show a draft's estimate, None while it is computed; `kept` are an ended run's
        checkpoints.
        """
        self._kept = kept
        self._estimate, self._draft, self._problems, self._room = (
            estimate,
            draft,
            tuple(problems),
            room,
        )
        if not self.is_tall:
            self.legend = self._state_line(started)
        else:
            self.legend = "" if started else "out of date" if problems else "live"
        self.redraw()

    @property
    def is_tall(self) -> bool:
        """Whether it is a column beside the form, not four lines below it."""
        return self.inner_size.height > 8

    def prepare(self, width: int, height: int) -> None:  # noqa: ARG002 (the panel's)
        """Lay out all lines."""
        if self._draft is None:
            self._rows = []
        elif self._estimate is None:
            self._rows = [Content.styled("computing …", DIM)]
        else:
            self._rows = (
                self._column(self._estimate, self._draft, width)
                if self.is_tall
                else self._dimmed(self._four_lines(self._estimate))
            )

    def _dimmed(self, rows: list[Content]) -> list[Content]:
        """Dim the figures of a draft with problems: they are those of the last valid config."""
        return [Content.styled(row.plain, DIM) for row in rows] if self._problems else rows

    def content_line(self, y: int, width: int) -> Strip:
        """Return a line of the estimate."""
        return padded(
            (
                segments_of(self._rows[y].truncate(width, ellipsis=True))
                if y < len(self._rows)
                else []
            ),
            width,
        )

    def _state_line(self, started: bool) -> Content:
        draft = self._draft
        if draft is None or started:
            return Content("")
        parts = (
            [
                Content.assemble(
                    ("● ", WARN), (f"{len(draft.changes)} changed from ", DIM), _base_name(draft)
                )
            ]
            if draft.changes
            else [_base_name(draft)]
        )
        if self._problems:
            parts.append(Content.styled(f"✗ {counted(len(self._problems), 'problem')}", BAD))
        return Content.styled(" · ", DIM).join(parts)

    def _four_lines(self, estimate: Estimate) -> list[Content]:
        """Return four lines of 76 columns."""
        count = estimate.parameters
        shares = (count.embedding / count.total, (sum(count.layers) + count.output) / count.total)
        layers = sum(count.layers) / count.total
        first = Content.assemble(
            ("parameters ", DIM), (f"{count.total:,}", f"bold {BRIGHT}"), "   ", bar(20, shares[0], shares[1]), "  ",
            ("━ ", TRAIN), ("embedding ", DIM), formatting.percent(shares[0]), "  ", ("╍ ", THIRD), ("layers ", DIM), formatting.percent(layers) if layers >= 0.005 or not layers else "< 1 %",
        )  # fmt: skip
        time = _time(estimate)
        steps = _steps(estimate)
        memory = Content.assemble(("memory ", DIM), self._memory(estimate))
        disk = Content.assemble(("disk ", DIM), _disk(estimate, self._kept))
        start = Content.assemble(
            ("start  ", DIM),
            (f"{estimate.start_loss:.2f}", TEXT),
            (" = ln V, ppl ", DIM),
            (f"{math.exp(estimate.start_loss):,.0f}", TEXT),
        )
        beat = (
            Content.assemble(
                ("test bigram to beat ", DIM),
                (formatting.figure(estimate.baseline_perplexity), TEXT),
            )
            if estimate.baseline_perplexity
            else Content("")
        )
        if estimate.too_large:
            beat = Content.styled(estimate.what_fits, BAD)
        return [
            first,
            Content.assemble(("time   ", DIM), time, "   ", steps),
            _columns(memory, disk),
            _columns(start, beat),
        ]

    def _memory(self, estimate: Estimate) -> Content:
        total = self._room.memory_total
        measured = (" measured" if estimate.memory_measured else "", DIM)
        if total is None:
            return Content.assemble(_amount(formatting.memory(estimate.memory_bytes)), measured)
        need = (
            formatting.gib(estimate.memory_bytes)
            if estimate.memory_bytes >= 0.095 * formatting.GIB
            else formatting.memory(estimate.memory_bytes)
        )
        fits = estimate.memory_bytes < total and not estimate.too_large
        return Content.assemble(
            (need, TEXT if fits else BAD), (f" of {formatting.gib(total)} GiB", DIM), measured
        )

    def _column(self, estimate: Estimate, draft: Draft, width: int) -> list[Content]:
        """Return a column about 36 cells wide and up to 36 lines high."""
        count, room = estimate.parameters, self._room
        rows = [_ends(("parameters", DIM), (f"{count.total:,}", f"bold {BRIGHT}"), width)]
        parts = [("embedding", count.embedding, TRAIN)]
        if len(count.layers) <= 6:
            parts += [
                (f"layer {number}", size, THIRD)
                for number, size in enumerate(count.layers, start=1)
            ]
        else:
            parts.append((counted(len(count.layers), "layer"), sum(count.layers), THIRD))
        parts.append(
            ("bias" if count.output == estimate.vocab_size else "output", count.output, TRAIN)
        )
        rows += [_part(name, size, count.total, colour, width) for name, size, colour in parts]
        rows.append(Content(""))
        rows.append(_spread(Content.styled("time", DIM), _time_figure(estimate), width))
        rows.append(_right(Content.styled(_calibration(estimate), DIM), width))
        rows.append(Content(""))
        rows.append(
            _spread(
                Content.styled("GPU memory" if room.on_gpu else "memory", DIM),
                self._memory(estimate),
                width,
            )
        )
        if room.memory_total:
            others = (room.memory_used or 0) / room.memory_total
            rows.append(bar(width, estimate.memory_bytes / room.memory_total, others))
            used = formatting.gib(room.memory_used) if room.memory_used is not None else ""
            rows.append(
                Content.assemble(
                    ("━ ", TRAIN),
                    ("this run", DIM),
                    "  ",
                    ("╍ ", THIRD),
                    ("others ", DIM),
                    (used, TEXT),
                )
                if used
                else Content("")
            )
        if estimate.too_large:
            rows.append(_right(Content.styled(estimate.what_fits, BAD), width))
        rows.append(Content(""))
        rows.append(_spread(Content.styled("disk", DIM), _disk(estimate, self._kept), width))
        if room.disk_free is not None:
            rows.append(
                _spread(
                    Content.styled("free", DIM), _amount(formatting.disk(room.disk_free)), width
                )
            )
        rows.append(Content(""))
        rows += [
            _ends((name, DIM), (formatting.count(value), TEXT), width)
            for name, value in (
                ("tokens", estimate.train_tokens),
                ("steps/epoch", estimate.steps_per_epoch),
                ("steps", estimate.steps),
            )
        ]
        rows += [Content("")] if estimate.notes else []
        rows += remark_lines(estimate.notes, width)
        rows.append(Content(""))
        rows.append(_loss_row("loss at start, ln V", estimate.start_loss, width))
        if estimate.baseline_perplexity:
            rows.append(_loss_row("test bigram", math.log(estimate.baseline_perplexity), width))
        rows.append(Content(""))
        return self._dimmed(rows) + self._changes(draft, width)

    def _changes(self, draft: Draft, width: int) -> list[Content]:
        rows: list[Content] = []
        if draft.changes:
            rows.append(
                Content.assemble(
                    ("● ", WARN),
                    (f"{len(draft.changes)}", BRIGHT),
                    (" changed from ", DIM),
                    _base_name(draft),
                )
            )
            for field in FORM_FIELDS:
                if field.path in draft.changes:
                    was, now = (
                        safe_text(shown_value(field, value), limit=12) or "none"
                        for value in (value_at(draft.base, field.path), draft.value(field.path))
                    )
                    rows.append(
                        Content.assemble(
                            ("  " + field.title.ljust(15) + " ", DIM),
                            (f"{was} → ", DIM),
                            (now, BRIGHT),
                        )
                    )
            rows.append(Content(""))
        if self._problems:
            rows.append(
                Content.assemble(
                    (f"✗ {counted(len(self._problems), 'problem')}", f"bold {BAD}"),
                    (", start is blocked", DIM),
                )
            )
            titles = dict.fromkeys(
                TITLES.get(field_of(problem), problem.path) for problem in self._problems
            )  # the field itself shows the problem
            rows += [Content.styled(safe_text(f"  {title}", limit=width), DIM) for title in titles]
        return rows


def machine_capacity(machine: MachineFacts | None) -> MachineCapacity:
    """Return the GPU's memory if there is a GPU, otherwise the machine's."""
    if machine is None:
        return MachineCapacity()
    if machine.gpu_memory_total:
        return MachineCapacity(
            machine.gpu_memory_total,
            machine.gpu_memory_used,
            on_gpu=True,
            disk_free=machine.disk_free,
        )
    return MachineCapacity(
        machine.memory_total,
        machine.memory_total - machine.memory_free,
        disk_free=machine.disk_free,
    )


def _base_name(draft: Draft) -> Content:
    kind, _, name = safe_text(draft.base_name, limit=40).partition(" ")
    return Content.assemble((f"{kind} ", DIM), (name, TEXT)) if name else Content.styled(kind, TEXT)


def _amount(text: str) -> Content:
    number, _, unit = text.partition(" ")
    return Content.assemble((number, TEXT), (f" {unit}", DIM))


def _disk(estimate: Estimate, kept: CheckpointFigures | None) -> Content:
    if kept is not None:
        return Content.assemble(
            _amount(formatting.disk(kept.bytes)),
            (f", {counted(kept.count, 'checkpoint')} kept", DIM),
        )
    return Content.assemble(
        _amount(formatting.disk(estimate.disk_bytes)),
        (f", {counted(estimate.checkpoints, 'checkpoint')}", DIM),
    )


def _time_figure(estimate: Estimate) -> Content:
    return (
        Content.styled(formatting.about(estimate.seconds), f"bold {TRAIN}")
        if estimate.seconds is not None
        else Content.styled(formatting.NOTHING, DIM)
    )


def _calibration(estimate: Estimate) -> str:
    if estimate.steps is None:
        return "known once the corpus is built"
    if estimate.seconds is None:
        return "not measured here yet"
    return (
        f"based on {safe_text(estimate.calibrated_run, limit=24)}"
        if estimate.calibrated_run
        else "based on a probe"
    )


def _time(estimate: Estimate) -> Content:
    if estimate.seconds is None:
        return Content.styled(_calibration(estimate), DIM)
    return Content.assemble(_time_figure(estimate), "   ", (_calibration(estimate), DIM))


def _steps(estimate: Estimate) -> Content:
    if estimate.steps is None:
        return Content("")
    factors = ""
    if estimate.steps_per_epoch and estimate.steps % estimate.steps_per_epoch == 0:
        factors = (
            f" = {estimate.steps // estimate.steps_per_epoch:,} × {estimate.steps_per_epoch:,}"
        )
    return Content.assemble(("steps ", DIM), (f"{estimate.steps:,}", TEXT), (factors, DIM))


def _columns(left: Content, right: Content) -> Content:
    return Content.assemble(left, " " * max(2, 38 - left.cell_length), right)


def _spread(left: Content, right: Content, width: int) -> Content:
    return Content.assemble(left, " " * max(1, width - left.cell_length - right.cell_length), right)


def _ends(left: tuple[str, str], right: tuple[str, str], width: int) -> Content:
    return _spread(Content.styled(*left), Content.styled(*right), width)


def _right(content: Content, width: int) -> Content:
    return Content.assemble(" " * max(0, width - content.cell_length), content)


def _part(name: str, size: int, total: int, colour: str, width: int) -> Content:
    share = size / total if total else 0.0
    percent = (
        f"{share:.0%}".replace("%", " %") if share >= 0.01 or not share else f"{share * 100:.1f} %"
    )
    return Content.assemble(
        (f" {name}".ljust(11), DIM), bar(max(4, width - 26), share, colour=colour), (f"{size:,}".rjust(9), TEXT), (percent.rjust(6), DIM)
    )  # fmt: skip


def _loss_row(name: str, loss: float, width: int) -> Content:
    figure = Content.assemble(
        (f"{loss:.2f}", TEXT), ("  ppl ", DIM), (formatting.figure(math.exp(loss)).rjust(5), TEXT)
    )
    return _spread(Content.styled(name, DIM), figure, width)
