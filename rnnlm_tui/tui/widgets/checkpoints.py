"""A run's checkpoints: their table, and panels for one checkpoint's files, facts and samples."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import ClassVar

from rich.cells import cell_len
from rich.text import Text
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.widgets import DataTable

from rnnlm_tui.schema import formatting
from rnnlm_tui.schema.metrics import CheckpointRow, SampleRow, perplexity
from rnnlm_tui.tui.palette import BAD, BRIGHT, DIM, GOOD, TEXT, TRAIN, VALIDATION
from rnnlm_tui.tui.text import Newlines, safe_content, safe_text
from rnnlm_tui.tui.widgets.panel import Panel
from rnnlm_tui.tui.widgets.samples import cut_lines


@dataclass(frozen=True, slots=True)
class CheckpointFile:
    """A checkpoint's file, as listed in its manifest."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class CheckpointDetail:
    """What the panel shows of a checkpoint."""

    step: int
    path: str
    files: tuple[CheckpointFile, ...] = ()
    position: str = ""
    """Where a run resumes: `step 3,700, epoch 6.2, 2,590,000 tokens seen`."""
    written_by: str = ""
    """`rnnlm-tui 0.1, torch 2.13, gpu1`."""
    parent: str = ""
    verified: float | None = None
    """Unix seconds when all hashes were last checked; None if not checked in this session."""
    damage: str = ""
    """What is wrong with the checkpoint, in one sentence."""


class CheckpointPanel(Panel):
    """The files and facts of the chosen checkpoint."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(title="Step", id=id)
        self._detail: CheckpointDetail | None = None

    def show(self, detail: CheckpointDetail | None, now: float) -> None:
        """Show a checkpoint, or new facts about it."""
        self._detail = detail
        self.panel_title = "Step" if detail is None else f"Step {detail.step:,}"
        if detail is None:
            self.legend = ""
        elif detail.damage:
            self.legend = Content.styled("✗ damaged", BAD)
        elif detail.verified is not None:
            self.legend = Content.assemble(
                ("✓ ", GOOD), ("verified ", TEXT), (_ago(now - detail.verified), DIM)
            )
        else:
            self.legend = ""
        self.redraw()

    def prepare(self, width: int, height: int) -> None:
        """Lay out all lines."""
        detail = self._detail
        if detail is None:
            self.lines = [Content.styled("no checkpoint yet", DIM)]
            return
        good = "✓" if detail.verified is not None and not detail.damage else " "
        rows = []
        for file in detail.files:
            mark = "✗" if file.name in detail.damage else good
            rows.append(_file_row(file, width, mark, wide=width >= 50))
        if detail.damage:
            rows += [
                Content.assemble(("✗ ", BAD), (line.plain, TEXT))
                for line in safe_content(detail.damage, newlines="space").wrap(max(10, width - 2))
            ]
        if height > 14:
            rows.append(Content(""))
        facts = (
            ("resumes from", detail.position),
            ("started from", detail.parent),
            ("written by", detail.written_by),
            ("path", detail.path),
        )
        label = 14
        for name, value in facts:
            if value:
                text = (_tail if name == "path" else _head)(value, width - label)
                rows.append(Content.assemble((name.ljust(label), DIM), (text, TEXT)))
        self.lines = rows


class CheckpointSamples(Panel):
    """The samples written at one step, as many as fit."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(title="Samples", id=id)
        self._samples: tuple[SampleRow, ...] = ()
        self._newlines: Newlines = "space"
        self._note = ""

    def show(
        self,
        samples: Sequence[SampleRow],
        note: str,
        legend: Content | str = "",
        newlines: Newlines = "space",
    ) -> None:
        """Show the samples of one step below `note`, with their line breaks as `newlines` says."""
        self._samples, self._note, self._newlines = tuple(samples), note, newlines
        self.legend = legend
        self.redraw()

    def prepare(self, width: int, height: int) -> None:
        """Give each prompt an equal share of the lines."""
        rows = [Content.styled(safe_text(self._note, limit=width), DIM)] if self._note else []
        count = len(self._samples)
        roomy = height > 14
        for index, sample in enumerate(self._samples):
            gap = 1 if roomy and index < count - 1 else 0
            left = height - len(rows)
            share = max(1, left // (count - index)) - gap
            if left <= 0:
                break
            prompt = safe_content(sample.prompt, newlines=self._newlines, limit=2_000)
            text = safe_content(sample.text, newlines=self._newlines, limit=4_000)
            lines = (prompt.stylize(f"bold {BRIGHT}") + text.stylize(TEXT)).wrap(width)
            rows += [*cut_lines(lines, width, share), *[Content("")] * gap]
        self.lines = rows


def samples_at(samples: Sequence[SampleRow], step: int) -> tuple[tuple[SampleRow, ...], str]:
    """Return the samples of a step, or of the nearest earlier one with a note that says so."""
    steps = sorted({sample.step for sample in samples if sample.step <= step})
    if not steps:
        return (), "no samples up to this step"
    chosen: dict[str, SampleRow] = {}
    for sample in sorted(samples, key=lambda sample: sample.time):
        if sample.step == steps[-1]:
            chosen[sample.prompt] = sample
    return tuple(chosen.values()), "" if steps[-1] == step else f"at step {steps[-1]:,}"


def _file_row(file: CheckpointFile, width: int, mark: str, *, wide: bool) -> Content:
    name = file.name if wide else file.name.removesuffix(".safetensors").removeprefix("training_")
    size = formatting.disk(file.size).rjust(8)
    digest = f"{file.sha256[:4]}…{file.sha256[-4:]}" if file.sha256 else ""
    room = max(4, width - 2 - len(size) - len(digest) - 3)
    name = safe_text(name, limit=room)
    colour = {"✓": GOOD, "✗": BAD}.get(mark, DIM)
    return Content.assemble(
        (f"{mark} ", colour),
        (name + " " * (room - cell_len(name)), TEXT),
        (size, DIM),
        "   ",
        (digest, DIM),
    )


def _head(facts: str, room: int) -> str:
    """Drop facts from the end of a comma-separated list until it fits."""
    parts = safe_text(facts, newlines="show").split(", ")
    while len(parts) > 1 and cell_len(", ".join(parts)) > room:
        parts.pop()
    return safe_text(", ".join(parts), limit=room)


def _tail(path: str, room: int) -> str:
    """Cut a path at its start: the end says more."""
    text = safe_text(path, newlines="show")
    if cell_len(text) <= room:
        return text
    parts = PurePath(text).parts
    shown = parts[-1]
    for part in reversed(parts[:-1]):
        if cell_len(shown) + cell_len(part) + 3 > room:
            break
        shown = f"{part}/{shown}"
    return safe_text(f"…/{shown}", limit=max(1, room))


def _ago(seconds: float) -> str:
    word = formatting.age(seconds)
    return "just now" if word == "now" else f"{word} ago"


Cell = tuple[tuple[str, str], ...]
"""Texts, each with its style."""


@dataclass(frozen=True, slots=True)
class CheckpointColumn:
    """A column's heading, widths and alignment."""

    key: str
    head: str
    width: int
    wide: int
    """Cells on a wide terminal; 0 hides the column there."""
    left: bool = False


COLUMNS: tuple[CheckpointColumn, ...] = (
    CheckpointColumn("cursor", "", 2, 3, left=True),
    CheckpointColumn("step", "step", 10, 10),
    CheckpointColumn("epoch", "epoch", 7, 9),
    CheckpointColumn("val", "val ppl", 8, 11),
    CheckpointColumn("delta", "Δ best", 7, 10),
    CheckpointColumn("train", "train loss", 11, 12),
    CheckpointColumn("size", "MB", 6, 11),
    CheckpointColumn("age", "age", 6, 11),
    CheckpointColumn("mark", "   mark", 21, 34, left=True),
)


class CheckpointTable(DataTable[Text]):
    """A run's checkpoints, newest first; enter opens one for sampling."""

    DEFAULT_CSS = """
    CheckpointTable {
        height: 1fr; background: #121212; color: #d0d0d0;
        overflow-x: hidden; scrollbar-size-vertical: 1;
    }
    CheckpointTable:focus { background-tint: #121212 0%; }
    CheckpointTable > .datatable--header { background: #121212; color: #808080; text-style: none; }
    CheckpointTable > .datatable--cursor { background: #303030; text-style: bold; }
    CheckpointTable > .datatable--header-hover { background: #121212; }
    CheckpointTable > .datatable--hover { background: #121212; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "screen.choose_checkpoint", show=False, id="choose_checkpoint"),
        Binding("home", "scroll_top", show=False),
        Binding("end", "scroll_bottom", show=False),
    ]

    class Highlighted(Message):
        """The cursor moved to another checkpoint."""

        def __init__(self, step: int | None) -> None:
            super().__init__()
            self.step = step
            """The checkpoint's step; None if the table is empty."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(
            id=id,
            cursor_type="row",
            zebra_stripes=False,
            cell_padding=0,
            cursor_foreground_priority="renderable",
        )
        self._rows: tuple[CheckpointRow, ...] = ()
        self._shown: dict[int, tuple[Cell, ...]] = {}
        self._damaged: dict[int, str] = {}
        self._pinned: frozenset[int] = frozenset()
        self._wide = False
        self._marked: int | None = None

    def on_mount(self) -> None:
        self._make_columns()

    @property
    def step(self) -> int | None:
        """Step of the checkpoint under the cursor."""
        return self._rows[self.cursor_row].step if 0 <= self.cursor_row < len(self._rows) else None

    def set_wide(self, wide: bool) -> None:
        """Switch between the narrow and the wide columns."""
        if wide != self._wide:
            self._wide = wide
            step = self.step
            self.clear(columns=True)
            self._shown = {}
            self._make_columns()
            rows, self._rows = self._rows, ()
            self.show(rows, self._now, self._damaged, self._pinned)
            self.go_to(step)

    def show(
        self,
        rows: Sequence[CheckpointRow],
        now: float,
        damaged: dict[int, str] | None = None,
        pinned: Collection[int] = (),
    ) -> None:
        """Show these checkpoints and redraw only the cells that changed.

        The cursor stays on its checkpoint, or on the newest if it was there.
        """
        self._now = now
        self._damaged, self._pinned = damaged or {}, frozenset(pinned)
        newest_first = tuple(sorted(rows, key=lambda row: row.step, reverse=True))
        best = min(
            (row.validation_loss for row in newest_first if row.validation_loss is not None),
            default=None,
        )
        texts = {row.step: self._cells(row, best, now) for row in newest_first}
        if [row.step for row in newest_first] != [row.step for row in self._rows]:
            step, at_top = self.step, self.cursor_row == 0
            self._rows, self._shown = newest_first, texts
            self._marked = None
            with self.prevent(DataTable.RowHighlighted):
                self.clear()
                for row in newest_first:
                    self.add_row(
                        *(
                            self._text(column, cell)
                            for column, cell in zip(COLUMNS, texts[row.step], strict=True)
                        ),
                        key=str(row.step),
                    )
            self.go_to(None if at_top else step)
            return
        self._rows = newest_first
        for index, (step, cells) in enumerate(texts.items()):
            for column, (column_spec, cell) in enumerate(zip(COLUMNS, cells, strict=True)):
                if column and cell != self._shown[step][column]:
                    self.update_cell_at((index, column), self._text(column_spec, cell))  # type: ignore[arg-type]
        self._shown = texts

    def go_to(self, step: int | None) -> None:
        """Move the cursor to this checkpoint, or to the newest if it is gone."""
        index = next((index for index, row in enumerate(self._rows) if row.step == step), 0)
        if self._rows:
            self.move_cursor(row=index, animate=False)
            self._mark(index)
        else:
            self.post_message(self.Highlighted(None))

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        event.stop()
        self._mark(event.cursor_row)

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        event.stop()

    def _mark(self, index: int) -> None:
        """Put `›` in front of the row under the cursor, and only there."""
        if not 0 <= index < len(self._rows):
            return
        if self._marked is not None and self._marked != index and self._marked < self.row_count:
            self.update_cell_at((self._marked, 0), Text(" "))  # type: ignore[arg-type]
        if self._marked != index:
            self.update_cell_at((index, 0), Text(" ›", style=f"bold {TRAIN}"))  # type: ignore[arg-type]
            self._marked = index
            self.post_message(self.Highlighted(self._rows[index].step))

    def _make_columns(self) -> None:
        for column in COLUMNS:
            width = column.wide if self._wide else column.width
            self.add_column(
                Text(column.head.rjust(width) if not column.left else column.head),
                width=width,
                key=column.key,
            )

    def _text(self, column: CheckpointColumn, cell: Cell) -> Text:
        return Text.assemble(
            *cell, justify="left" if column.left else "right", no_wrap=True, overflow="ellipsis"
        )

    def _cells(self, row: CheckpointRow, best: float | None, now: float) -> tuple[Cell, ...]:
        value = None if row.validation_loss is None else perplexity(row.validation_loss)
        delta = (
            formatting.NOTHING
            if value is None or best is None
            else _difference(value - perplexity(best))
        )
        damaged = row.step in self._damaged
        known = (
            ("✗", "damaged", BAD, damaged),
            ("★", "best", VALIDATION, row.best),
            ("▸", "last", TRAIN, row.last),
            ("⚑", "pinned", BRIGHT, row.step in self._pinned),
        )
        column = COLUMNS[-1]
        marks = _marks(
            [(glyph, word, colour) for glyph, word, colour, applies in known if applies],
            column.wide if self._wide else column.width,
        )
        return (
            ((" ", TEXT),),
            ((f"{row.step:,}", DIM if damaged else TEXT),),
            ((f"{row.epoch:.1f}", DIM),),
            ((formatting.figure(value), VALIDATION if row.best else DIM if damaged else TEXT),),
            ((delta, DIM),),
            ((f"{row.train_loss:.2f}", DIM if damaged else TEXT),),
            ((f"{row.bytes / 1e6:,.{0 if row.bytes >= 1e9 else 1}f}", DIM),),
            ((formatting.age(now - row.time), DIM),),
            marks or ((" ", DIM),),
        )


def _marks(marks: Sequence[tuple[str, str, str]], width: int) -> Cell:
    """Return the marks with as many of their words as fit, first marks first."""
    fits: Cell = ()
    for words in range(len(marks) + 1):
        for gap in (2, 3):
            parts: list[tuple[str, str]] = []
            for index, (glyph, word, colour) in enumerate(marks):
                parts.append((" " * (gap if index else 3) + glyph, colour))
                if index < words:
                    parts.append((f" {word}", BAD if word == "damaged" else TEXT))
            if sum(len(text) for text, _ in parts) <= width:
                fits = tuple(parts)
    return fits


def _difference(value: float) -> str:
    return "0.0" if value == 0 else f"+{value:,.1f}" if value < 1e6 else formatting.change(value)
