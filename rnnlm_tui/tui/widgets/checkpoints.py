"""A run's checkpoints: their table, and the lines of the panels of one checkpoint."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import PurePath
from typing import TYPE_CHECKING

from rich.cells import cell_len
from textual.content import Content
from textual.strip import Strip

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
from rnnlm_tui.tui.text import Newlines, bar, line, safe_content, safe_text
from rnnlm_tui.tui.views.table import Column, row_of
from rnnlm_tui.tui.widgets.samples import cut_lines
from rnnlm_tui.tui.widgets.table import SortedTable

if TYPE_CHECKING:
    from rnnlm_tui.schema.metrics import SampleRow
    from rnnlm_tui.schema.protocol import Setting
    from rnnlm_tui.schema.sampling import TensorChange
    from rnnlm_tui.store.manifest import ManifestFile

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


def saved_order(settings: Mapping[str, object]) -> tuple[CheckpointKey, bool]:
    """Return the saved order and whether it is reversed; newest first if there is none."""
    match settings.get(ORDER_SETTING):
        case [str() as key, bool() as backwards] if key in CHECKPOINT_KEYS:
            return key, backwards
    return "step", False


CheckpointColumn = Column[CheckpointKey, "ListedCheckpoint", float]
"""A column of a checkpoint's cells at a time."""


def _column(key: CheckpointKey, head: str, width: int, *, left: bool = False) -> CheckpointColumn:
    return CheckpointColumn(key, head, width, partial(_cell, key), left)


def columns_for(width: int, items: Sequence[ListedCheckpoint]) -> list[CheckpointColumn]:
    """Return the columns that fit into `width` cells, in order; the note gets what is left."""
    wide = width >= WIDE
    longest = max((len(item.label) for item in items), default=0)
    columns = [
        _column("step", "step", max(12 if wide else 10, longest + 3)),
        _column("epoch", "epoch", 8 if wide else 7),
        _column("ppl", "val ppl", 10 if wide else 9),
        _column("Δ best", "Δ best", 10 if wide else 8),
        _column("train", "train", 9 if wide else 7),
        _column("age", "age", 9 if wide else 7),
    ]
    if wide:
        large = any(item.row.bytes >= GIGABYTE for item in items)
        columns.insert(2, _column("tokens", "tokens", 9))
        unit, size = ("GB", GIGABYTE) if large else ("MB", 1e6)
        columns.insert(6, CheckpointColumn("size", unit, 9, partial(_size, size)))
    words = max((_marks_width(item.marks) for item in items), default=0)
    for spare in ("epoch", "Δ best", "age"):
        if width - sum(column.width for column in columns) < LEAST_MARKS:
            columns = [column for column in columns if column.key != spare]
    room = width - sum(column.width for column in columns)
    most = max(12, min(words, room - LEAST_NOTE - 3, 30 if wide else 15)) + 3
    note = max((cell_len(item.note or item.brief_problem) for item in items), default=0)
    if not note:
        most = max(most, min(words + 3, room))
    columns.append(_column("mark", "   mark", min(most, room), left=True))
    room -= min(most, room)
    if room >= LEAST_NOTE:
        columns.append(_column("note", "  note", room, left=True))
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
    fits = Content("")
    for words in range(len(item.marks) + 1):
        for gap in (1, 2):
            parts: list[tuple[str, str]] = []
            for index, mark in enumerate(item.marks):
                space = " " * (gap if index else 3)
                parts.append((space + MARK_SIGNS[mark], MARK_COLOURS[mark]))
                if index < words:
                    parts.append((f" {mark}", BAD if mark == "damaged" else TEXT))
            if sum(len(text) for text, _ in parts) <= room:
                fits = Content.assemble(*parts)
    return fits


# the detail


@dataclass(frozen=True, slots=True)
class LayerChange:
    """How much the weights of one layer changed."""

    name: str
    """`embedding`, `layer 1`, `output`."""
    ratio: float
    """L2 norm of the difference over the L2 norm of the weights."""


_LAYER = re.compile(r"layers\.(\d+)\.")


def layer_changes(tensors: Sequence[TensorChange]) -> tuple[LayerChange, ...]:
    """Join the tensors of each layer, from the embedding to the output."""
    sums: dict[tuple[int, str], tuple[float, float, set[str]]] = {}
    for tensor in tensors:
        layer = _LAYER.match(tensor.name)
        first = tensor.name.partition(".")[0]
        place = (0 if first == "embedding" else 1 << 30, first)
        if layer:
            place = (int(layer[1]) + 1, f"layer {int(layer[1]) + 1}")
        change, norm, names = sums.get(place, (0.0, 0.0, set()))
        sums[place] = (
            change + tensor.change**2,
            norm + tensor.norm**2,
            {*names, tensor.name.rpartition(".")[2]},
        )
    found = []
    for (_, name), (change, norm, names) in sorted(sums.items()):
        name = "out bias" if name == "output" and names == {"bias"} else name
        label = safe_text(name, newlines="show", limit=24)
        ratio = math.sqrt(change / norm) if norm > 0 else 0.0 if change == 0 else math.inf
        found.append(LayerChange(label, ratio))
    return tuple(found)


def full_bar(layers: Sequence[LayerChange]) -> float:
    """The change that fills a bar: 1, or less if all changes are small."""
    largest = max((layer.ratio for layer in layers if math.isfinite(layer.ratio)), default=0.0)
    steps = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
    return next((step for step in steps if largest <= step), 1.0)


def detail_lines(
    detail: CheckpointDetail,
    layers: Sequence[LayerChange] | str,
    width: int,
    height: int,
) -> list[Content]:
    """Return the lines of the detail, the least important left out if there is no room.

    Args:
        layers: how much the weights changed, or why that isn't known.
    """
    damage = [
        line("{} {}", ("✗", BAD), row.plain)
        for row in safe_content(detail.damage, newlines="space").wrap(max(10, width - 2))
        if detail.damage
    ]
    wide = width >= 50
    facts = {
        "resumes from": detail.position,
        "random state": detail.random_state,
        "parent": detail.parent,
        "written by": detail.written_by,
        "path": detail.path,
    }
    blocks = [
        [*_file_lines(detail, width, wide=wide), *damage],
        _change_lines("changed since the run started", detail.changes, detail.changed_at, width),
        _weight_lines(detail, layers, width),
        _change_lines("changed from the parent's config", detail.parent_changes, {}, width),
        _fact_lines(facts, ("parent", "resumes from", "random state"), width),
        _tensor_lines(detail, width),
        _fact_lines(facts, ("written by", "path"), width),
    ]
    blocks = [block for block in blocks if block]
    used = sum(map(len, blocks))
    roomy = used + len(blocks) - 1 <= height
    lines: list[Content] = []
    for index, block in enumerate(blocks):
        if index and roomy:
            lines.append(Content(""))
        lines += block
    return lines


def _file_lines(detail: CheckpointDetail, width: int, *, wide: bool) -> list[Content]:
    good = "✓" if detail.verified is not None and not detail.damage else " "
    main = [name for name in detail.files if name in FIRST_FILES or name in detail.damage]
    rest = [file for name, file in detail.files.items() if name not in main]
    marks = {name: "✗" if name in detail.damage else good for name in main}
    lines = [_file_line(name, detail.files[name], width, marks[name], wide=wide) for name in main]
    if rest and wide:
        size = formatting.disk(sum(file.size for file in rest)).rjust(8)
        words = formatting.counted(len(rest), "other file").ljust(width - len(size) - 14)
        lines.append(line(f"{{}} {words}{size}", (good, GOOD if good == "✓" else DIM)))
    return lines


def _file_line(name: str, file: ManifestFile, width: int, mark: str, *, wide: bool) -> Content:
    if not wide:
        name = name.removesuffix(".safetensors").removeprefix("training_")
    size = formatting.disk(file.size).rjust(8)
    digest = f"{file.sha256[:4]}…{file.sha256[-4:]}" if file.sha256 else ""
    room = max(4, width - 2 - len(size) - len(digest) - 3)
    name = safe_text(name, limit=room)
    sign = (mark, {"✓": GOOD, "✗": BAD}.get(mark, DIM))
    return line(f"{{}} {{}}{size}   {digest}", sign, name + " " * (room - cell_len(name)))


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
        before, after = (
            safe_text(_value(value), limit=room, newlines="space")
            for value in (change.old, change.new)
        )
        # each may take what the other leaves of the line, and at least half of it
        before, after = (
            safe_text(value, limit=max(room // 2, room - cell_len(other)))
            for value, other in ((before, after), (after, before))
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
    detail: CheckpointDetail, layers: Sequence[LayerChange] | str, width: int
) -> list[Content]:
    """The change of each layer's weights, as bars with their values."""
    if isinstance(layers, str):
        if not layers:
            return []
        return [Content.styled(safe_text(layers, limit=width, newlines="space"), DIM)]
    full = full_bar(layers)
    norm = "|ΔW| / |W|"
    scale = f", full bar {full:g}" if full < 1 else ""
    since = f"weights since {detail.before_name}, "
    heads = (
        f"{since}change per layer {norm}{scale}",
        f"{since}{norm}{scale}",
        f"weights, change per layer {norm}{scale}",
        f"weights {norm}{scale}",
    )
    head = next((head for head in heads if cell_len(head) <= width), heads[-1])
    lines = [Content.styled(head, DIM)]
    longest = max((cell_len(layer.name) for layer in layers), default=0)
    for layer in layers:
        digits = 2 if layer.ratio >= 0.1 or layer.ratio == 0 else 4
        number = f"{layer.ratio:.{digits}f}".rjust(6)
        room = max(1, width - longest - len(number) - 6)
        share = min(1.0, layer.ratio / full) if math.isfinite(layer.ratio) else 1.0
        name = (layer.name.ljust(longest), DIM)
        lines.append(line("  {}  {}  {}", name, bar(room, share, colour=TRAIN), number))
    return lines


def _tensor_lines(detail: CheckpointDetail, width: int) -> list[Content]:
    if not detail.tensors:
        return []
    largest = max(detail.tensors, key=lambda tensor: tensor.bytes)
    size = formatting.disk(sum(tensor.bytes for tensor in detail.tensors))
    types = "/".join(sorted({tensor.dtype for tensor in detail.tensors}))
    facts = (
        f"{len(detail.tensors):,} of {types}, {size},"
        f" largest {largest.name} {shape_text(largest.shape)}"
    )
    return [_fact("tensors", _head(facts, width - LABEL))]


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


def _fact_lines(facts: Mapping[str, str], names: Collection[str], width: int) -> list[Content]:
    return [
        _fact(name, (_tail if name == "path" else _head)(facts[name], width - LABEL))
        for name in names
        if facts[name]
    ]


def _fact(name: str, text: str) -> Content:
    return line("{}{}", (name.ljust(LABEL), DIM), text)


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


def state_of(detail: CheckpointDetail, now: float) -> Content | str:
    """Return whether the checkpoint is known to be damaged or intact."""
    if detail.damage:
        return Content.styled("✗ damaged", BAD)
    if detail.verified is None:
        return ""
    word = formatting.age(now - detail.verified)
    ago = "just now" if word == "now" else f"{word} ago"
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


class CheckpointTable(SortedTable[CheckpointKey, ListedCheckpoint]):
    """A run's checkpoints; a double click opens one for sampling."""

    columns: Sequence[CheckpointColumn]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(title="Checkpoints", keys=CHECKPOINT_KEYS, order="step", id=id)
        self._chosen: frozenset[str] = frozenset()
        self._now = 0.0
        self.empty = "no checkpoint yet"

    @property
    def path(self) -> str:
        """Directory of the checkpoint under the cursor; empty if there is none."""
        return "" if self.row is None else self.row.row.path

    def show(
        self, items: Sequence[ListedCheckpoint], now: float, chosen: Collection[str] = ()
    ) -> None:
        """Show these checkpoints.

        The cursor stays on its checkpoint, or at the top if it was there. If its checkpoint is
        gone, it moves to the one that takes its place.

        Args:
            chosen: directories of those marked for the next action.
        """
        before, at_top = self.path, self.row is self.rows[0] if self.rows else True
        self._now, self._chosen = now, frozenset(chosen)
        self._put(items, "" if at_top and self.order == "step" else before)
        if self.path != before:
            self.post_message(self.Highlighted())

    def put_in_order(self) -> None:
        self._put(self.rows, self.path)

    def _put(self, items: Sequence[ListedCheckpoint], path: str) -> None:
        rows = sorted_checkpoints(items, self.order, backwards=self.backwards)
        place = min(self._at, max(0, len(rows) - 1)) if path else 0
        self.show_rows(
            rows, next((at for at, one in enumerate(rows) if one.row.path == path), place)
        )

    def rises(self) -> bool:
        return rises(self.order, backwards=self.backwards)

    def prepare(self, width: int, height: int) -> None:  # noqa: ARG002 (the panel's signature)
        """Choose the columns for this width."""
        self.columns = columns_for(width, self.rows)

    def row_strip(self, index: int, width: int) -> Strip:
        item = self.rows[index]
        mark = "+" if item.row.path in self._chosen else " "
        line = row_of(self.columns, item, self._now)
        line = Content.assemble(" ", (mark, f"bold {THIRD}"), line[2:])
        return self.with_cursor(line, index, width)
