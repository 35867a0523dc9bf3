"""A run's checkpoints: their table, and the lines of the panels of one checkpoint."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import PurePath
from typing import TYPE_CHECKING

from rich.cells import cell_len
from textual.content import Content

from rnnlm_tui.client.checkpoint_detail import FIRST_FILES, CheckpointDetail, FoundSamples
from rnnlm_tui.client.checkpoints import (
    CHECKPOINT_KEYS,
    MARK_SIGNS,
    CheckpointKey,
    ListedCheckpoint,
    Mark,
    rises,
    sorted_checkpoints,
)
from rnnlm_tui.schema import formatting
from rnnlm_tui.tui.palette import BAD, BRIGHT, DIM, GOOD, TEXT, THIRD, TRAIN, VALIDATION
from rnnlm_tui.tui.text import Newlines, bar, line, safe_content, safe_text, sentence
from rnnlm_tui.tui.widgets.samples import cut_lines
from rnnlm_tui.tui.widgets.table import Column, ListPanel, fit_columns, row_of

if TYPE_CHECKING:
    from rnnlm_tui.schema.metrics import SampleRow
    from rnnlm_tui.schema.protocol import Setting
    from rnnlm_tui.schema.sampling import TensorChange

ORDER_SETTING = "checkpoints order"
"""Name of the saved setting."""
WIDE, LEAST_NOTE, LEAST_MARKS = 100, 8, 9
"""Table width from which it has all columns, and the fewest cells of a note and of the marks."""
GIGABYTE = 1e9
MARK_COLOURS: Mapping[Mark, str] = {
    "damaged": BAD,
    "best": VALIDATION,
    "last": TRAIN,
    "pinned": BRIGHT,
    "averaged": GOOD,
    "exported": DIM,
}
LABEL = 14
"""Cells of the labels in the detail."""


CheckpointColumn = Column[CheckpointKey, "ListedCheckpoint", float]
"""A column of a checkpoint's cells at a time."""


WIDTHS: Mapping[CheckpointKey, tuple[int, int]] = {
    "step": (10, 12), "ppl": (9, 10), "train": (7, 9), "tokens": (0, 9), "size": (0, 9),
    "age": (7, 9), "Δ best": (8, 10), "epoch": (7, 8),
}  # fmt: skip
"""Of the figures in a narrow and in a wide table, most important first; 0: not shown."""


def _column(
    key: CheckpointKey, width: int, head: str = "", *, left: bool = False
) -> CheckpointColumn:
    return CheckpointColumn(key, head or key, width, partial(_cell, key), left)


def columns_for(width: int, items: Sequence[ListedCheckpoint]) -> list[CheckpointColumn]:
    """Return the columns that fit into `width` cells, in order; the note gets what is left."""
    wide = width >= WIDE
    figures = {key: _column(key, sizes[wide]) for key, sizes in WIDTHS.items() if sizes[wide]}
    longest = max((len(item.label) for item in items), default=0)
    figures["step"] = _column("step", max(figures["step"].width, longest + 3))
    figures["ppl"] = replace(figures["ppl"], head="val ppl")
    if wide:
        large = any(item.row.bytes >= GIGABYTE for item in items)
        unit, size = ("GB", GIGABYTE) if large else ("MB", 1e6)
        figures["size"] = replace(figures["size"], head=unit, cell=partial(_size, size))
    columns, room = fit_columns(list(figures.values()), width - LEAST_MARKS)
    columns.sort(key=lambda column: CHECKPOINT_KEYS.index(column.key or "note"))
    room += LEAST_MARKS
    words = max((_marks_width(item.marks) for item in items), default=0)
    most = max(12, min(words, room - LEAST_NOTE - 3, 30 if wide else 15)) + 3
    if not any(item.note or item.brief_problem for item in items):
        most = max(most, min(words + 3, room))
    columns.append(_column("mark", min(most, room), "   mark", left=True))
    room -= min(most, room)
    if room >= LEAST_NOTE:
        columns.append(_column("note", room, "  note", left=True))
    return columns


def _size(unit: float, item: ListedCheckpoint, _room: int, _now: float) -> Content:
    return Content.styled(f"{item.row.bytes / unit:,.1f}", DIM)


def _cell(key: CheckpointKey, item: ListedCheckpoint, room: int, now: float) -> Content:
    row, tone = item.row, DIM
    match key:
        case "step":
            words, tone = item.label, _faded(item)
        case "epoch":
            words = f"{row.epoch:.1f}" if math.isfinite(row.epoch) else formatting.NOTHING
        case "tokens":
            words = formatting.short(row.tokens_seen or None)
        case "ppl":
            words = formatting.figure(item.perplexity)
            tone = VALIDATION if row.best else _faded(item)
        case "Δ best":
            words = _difference(item.delta)
        case "train":
            loss = row.train_loss
            words = f"{loss:.2f}" if math.isfinite(loss) else formatting.NOTHING
            tone = _faded(item)
        case "age":
            words = formatting.age(now - row.time)
        case "mark":
            return _marks(item, room)
        case "note":
            text = item.note or item.brief_problem
            shown = safe_content(text, newlines="space", limit=max(0, room - 2))
            return Content.assemble("  ", shown.stylize(DIM))
    return Content.styled(words, tone)


def _faded(item: ListedCheckpoint) -> str:
    return DIM if "damaged" in item.marks else TEXT


def _difference(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return formatting.NOTHING
    return "0.0" if value == 0 else f"{value:+,.1f}" if value < 1e6 else formatting.change(value)


def _marks_width(marks: Sequence[Mark]) -> int:
    """Cells of all marks with their words."""
    return sum(len(mark) + 2 for mark in marks) + 2 * max(0, len(marks) - 1)


def _marks(item: ListedCheckpoint, room: int) -> Content:
    """Return the marks with as many of their words as fit, first marks first."""
    signs = [Content.styled(MARK_SIGNS[mark], MARK_COLOURS[mark]) for mark in item.marks]
    worded = [
        Content.assemble(sign, (f" {mark}", BAD if mark == "damaged" else TEXT))
        for sign, mark in zip(signs, item.marks, strict=True)
    ]
    forms = (
        Content.assemble("   ", Content(gap).join([*worded[:words], *signs[words:]]))
        for words in range(len(signs), -1, -1)
        for gap in ("  ", " ")
    )
    return next((form for form in forms if form.cell_length <= room), Content(""))


# the detail


_LAYER = re.compile(r"layers\.(\d+)\.")


def layer_changes(tensors: Sequence[TensorChange]) -> dict[str, float]:
    """Return how much the weights of each layer changed, from the embedding to the output: the L2
    norm of the difference over that of the weights."""
    sums: dict[tuple[int, str], tuple[float, float, set[str]]] = {}
    for tensor in tensors:
        layer = _LAYER.match(tensor.name)
        first = tensor.name.partition(".")[0]
        place = (0 if first == "embedding" else 1 << 30, first)
        if layer:
            place = (int(layer[1]) + 1, f"layer {int(layer[1]) + 1}")
        change, norm, names = sums.get(place, (0.0, 0.0, set()))
        names = {*names, tensor.name.rpartition(".")[2]}
        sums[place] = change + tensor.change**2, norm + tensor.norm**2, names
    found = {}
    for (_, name), (change, norm, names) in sorted(sums.items()):
        name = "out bias" if name == "output" and names == {"bias"} else name
        label = safe_text(name, newlines="show", limit=24)
        found[label] = math.sqrt(change / norm) if norm > 0 else 0.0 if change == 0 else math.inf
    return found


FULL_BARS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""The change that fills a bar: 1, or less if all changes are small."""


def detail_lines(
    detail: CheckpointDetail,
    layers: Mapping[str, float] | str,
    width: int,
    height: int,
) -> list[Content]:
    """Return the lines of the detail, the least important left out if there is no room.

    Args:
        layers: how much the weights changed, or why that isn't known.
    """
    damage = sentence(detail.damage, width - 2, trouble=True) if detail.damage else []
    resumes = [
        ("parent", detail.parent),
        ("resumes from", detail.position),
        ("random state", detail.random_state),
    ]
    blocks = [
        [*_file_lines(detail, width), *damage],
        _change_lines("changed since the run started", detail.changes, detail.changed_at, width),
        _weight_lines(detail, layers, width),
        _change_lines("changed from the parent's config", detail.parent_changes, {}, width),
        _fact_lines(resumes, width),
        _fact_lines([("tensors", _tensor_words(detail))], width),
        _fact_lines([("written by", detail.written_by), ("path", detail.path)], width),
    ]
    blocks = [block for block in blocks if block]
    roomy = sum(map(len, blocks)) + len(blocks) - 1 <= height
    gap = [Content("")] if roomy else []
    return [row for block in blocks for row in (*gap, *block)][len(gap) :]


def _file_lines(detail: CheckpointDetail, width: int) -> list[Content]:
    """Return the most important files and the damaged ones, and the number of others."""
    good, wide = (" ", DIM), width >= 50
    if detail.verified is not None and not detail.damage:
        good = ("✓", GOOD)
    lines, rest = [], []
    for name, file in detail.files.items():
        bad = name in detail.damage
        if not bad and name not in FIRST_FILES:
            rest.append(file.size)
            continue
        size = formatting.disk(file.size).rjust(8)
        digest = f"{file.sha256[:4]}…{file.sha256[-4:]}" if file.sha256 else ""
        room = max(4, width - 2 - len(size) - len(digest) - 3)
        short = name if wide else name.removesuffix(".safetensors").removeprefix("training_")
        shown = safe_content(short, limit=room).stylize(TEXT).pad_right(room - cell_len(short))
        lines.append(line(f"{{}} {{}}{size}   {digest}", ("✗", BAD) if bad else good, shown))
    if rest and wide:
        size = formatting.disk(sum(rest)).rjust(8)
        words = formatting.counted(len(rest), "other file").ljust(width - len(size) - 14)
        lines.append(line(f"{{}} {words}{size}", good))
    return lines


def _change_lines(
    head: str, changes: Sequence[Setting], steps: Mapping[str, int], width: int
) -> list[Content]:
    """`dropout  0.10 → 0.15  @1,512`, below a heading."""
    if not changes:
        return []
    lines = [Content.styled(head, DIM).truncate(width, ellipsis=True)]
    names = [change.path.rpartition(".")[2] for change in changes]
    longest = max(map(len, names))
    for change, name in zip(changes, names, strict=True):
        place = f"  @{steps[change.path]:,}" if change.path in steps else ""
        room = max(0, width - longest - len(place) - len("     → "))
        whole = [safe_text(_value(one), newlines="space") for one in (change.old, change.new)]
        # each may take what the other leaves of the line, and at least half of it
        before, after = (
            safe_text(text, limit=max(room // 2, room - cell_len(other)))
            for text, other in zip(whole, reversed(whole), strict=True)
        )
        values = name.ljust(longest), (before, DIM), (after, BRIGHT)
        lines.append(line(f"  {{}}  {{}} → {{}}{place}", *values).truncate(width, ellipsis=True))
    return lines


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return ", ".join(map(_value, value))
    return "none" if value is None else str(value)


def _weight_lines(
    detail: CheckpointDetail, layers: Mapping[str, float] | str, width: int
) -> list[Content]:
    """The change of each layer's weights, as bars with their values."""
    if isinstance(layers, str):
        if not layers:
            return []
        return [Content.styled(safe_text(layers, limit=width, newlines="space"), DIM)]
    largest = max(filter(math.isfinite, layers.values()), default=0.0)
    full = next((step for step in FULL_BARS if largest <= step), 1.0)
    since, norm = f"weights since {detail.before_name}, ", "|ΔW| / |W|"
    scale = f", full bar {full:g}" if full < 1 else ""
    heads = (f"{since}change per layer {norm}{scale}", f"{since}{norm}{scale}")
    head = next((head for head in heads if cell_len(head) <= width), f"weights {norm}{scale}")
    lines = [Content.styled(head, DIM)]
    longest = max(map(cell_len, layers), default=0)
    for name, ratio in layers.items():
        number = f"{ratio:.{2 if ratio >= 0.1 or ratio == 0 else 4}f}".rjust(6)
        room = max(1, width - longest - len(number) - 6)
        drawn = bar(room, min(1.0, ratio / full), colour=TRAIN)
        lines.append(line("  {}  {}  {}", (name.ljust(longest), DIM), drawn, number))
    return lines


def _tensor_words(detail: CheckpointDetail) -> str:
    if not detail.tensors:
        return ""
    largest = max(detail.tensors, key=lambda tensor: tensor.bytes)
    size = formatting.disk(sum(tensor.bytes for tensor in detail.tensors))
    types = "/".join(sorted({tensor.dtype for tensor in detail.tensors}))
    of_largest = f"largest {largest.name} {shape_text(largest.shape)}"
    return f"{len(detail.tensors):,} of {types}, {size}, {of_largest}"


def shape_text(shape: Sequence[int]) -> str:
    """`2,048 × 192`; a scalar has no dimensions."""
    return " × ".join(f"{size:,}" for size in shape) or "scalar"


def tensor_table(
    detail: CheckpointDetail, changes: Mapping[str, TensorChange], width: int
) -> list[Content]:
    """Return one line for each tensor: name, shape, type, size, and how much it changed."""
    names = [safe_text(tensor.name, newlines="show") for tensor in detail.tensors]
    shapes = [shape_text(tensor.shape) for tensor in detail.tensors]
    name_width = max((cell_len(name) for name in names), default=0)
    shape_width = max((cell_len(shape) for shape in shapes), default=0)
    lines = []
    for tensor, name, shape in zip(detail.tensors, names, shapes, strict=True):
        known = changes.get(tensor.name)
        ratio = " " * 10
        if known is not None and known.norm > 0:
            ratio = f"{known.change / known.norm:10.4f}"
        room = max(8, min(name_width, width - shape_width - 32))
        shown = safe_text(name, limit=room)
        size = formatting.disk(tensor.bytes).rjust(9)
        facts = f"  {shape.rjust(shape_width)}  {tensor.dtype.ljust(4)}{size}"
        lines.append(line(f"{{}}{facts}{{}}", shown + " " * (room - cell_len(shown)), ratio))
    return lines


def _fact_lines(facts: Sequence[tuple[str, str]], width: int) -> list[Content]:
    """Return the name and the text of each fact that is known."""
    return [
        line(f"{name:<{LABEL}}{{}}", (_tail if name == "path" else _head)(text, width - LABEL))
        for name, text in facts
        if text
    ]


def _head(facts: str, room: int) -> str:
    """Drop facts from the end of a comma-separated list until it fits."""
    parts = safe_text(facts, newlines="show").split(", ")
    while len(parts) > 1 and cell_len(", ".join(parts)) > room:
        parts.pop()
    return safe_text(", ".join(parts), limit=room)


def _tail(path: str, room: int) -> str:
    """Cut a path at its start: the end says more."""
    shown = safe_text(path, newlines="show")
    parts = PurePath(shown).parts
    while len(parts) > 1 and cell_len(shown) > room:
        parts = parts[1:]
        shown = f"…/{'/'.join(parts)}"
    return safe_text(shown, limit=max(1, room))


def state_of(detail: CheckpointDetail, now: float) -> Content | str:
    """Return whether the checkpoint is known to be damaged or intact."""
    if detail.damage:
        return Content.styled("✗ damaged", BAD)
    if detail.verified is None:
        return ""
    ago = formatting.ago(now - detail.verified)
    return line(f"{{}} {{}} {ago}", ("✓", GOOD), "verified")


def sample_lines(
    found: FoundSamples, note: str, newlines: Newlines, width: int, height: int
) -> list[Content]:
    """Return the samples of a step below `note`, each in an equal share of the lines.

    An earlier sample follows for contrast if there is room.
    """

    def wrapped(sample: SampleRow) -> list[Content]:
        prompt = safe_content(sample.prompt, newlines=newlines, limit=2_000)
        text = safe_content(sample.text, newlines=newlines, limit=4_000)
        return list((prompt.stylize(f"bold {BRIGHT}") + text.stylize(TEXT)).wrap(width))

    rows = [Content.styled(safe_text(note, limit=width), DIM)] if note else []
    samples, earlier = found.samples, found.earlier
    roomy = height > 14
    contrast: list[Content] = []
    if earlier is not None and roomy and samples:
        head = Content.styled(f"the same prompt at step {earlier.step:,}", DIM)
        contrast = [Content(""), head.truncate(width, ellipsis=True)]
        contrast += [
            Content.styled(row.plain, DIM)
            for row in cut_lines(wrapped(earlier), width, max(2, height // 5))
        ]
    count = len(samples)
    for index, sample in enumerate(samples):
        gap = 1 if roomy and index < count - 1 else 0
        left = height - len(rows) - len(contrast)
        share = max(1, left // (count - index)) - gap
        if left <= 0:
            break
        rows += [*cut_lines(wrapped(sample), width, share), *[Content("")] * gap]
    return [*rows, *contrast]


class CheckpointTable(ListPanel[CheckpointKey, ListedCheckpoint]):
    """A run's checkpoints; a double click opens one for sampling."""

    columns: Sequence[CheckpointColumn]
    OPENS = "screen.choose_checkpoint"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(title="Checkpoints", keys=CHECKPOINT_KEYS, setting=ORDER_SETTING, id=id)
        self._chosen: Collection[str] = ()
        self._now = 0.0
        self.empty = "no checkpoint yet"

    def show(
        self, items: Sequence[ListedCheckpoint], now: float, chosen: Collection[str] = ()
    ) -> None:
        """Show these checkpoints.

        The cursor stays on its checkpoint, or at the top if it was there.

        Args:
            chosen: directories of those marked for the next action.
        """
        before, follows = self.name_at, self._at == 0 and self.order == "step"
        self._now, self._chosen, self.rows = now, chosen, items
        self.put_in_order("" if follows else before)
        if self.name_at != before:
            self.post_message(self.Highlighted())

    def name_of(self, row: ListedCheckpoint) -> str:
        return row.row.path

    def arranged(self) -> Sequence[ListedCheckpoint]:
        return sorted_checkpoints(self.rows, self.order, backwards=self.backwards)

    def rises(self) -> bool:
        return rises(self.order, backwards=self.backwards)

    def columns_in(self, width: int) -> Sequence[CheckpointColumn]:
        return columns_for(width, self.rows)

    def line_of(self, row: ListedCheckpoint, width: int) -> Content:  # noqa: ARG002 (the panel's)
        mark = "+" if row.row.path in self._chosen else " "
        cells = row_of(self.columns, row, self._now)
        return Content.assemble(" ", (mark, f"bold {THIRD}"), cells[2:])
