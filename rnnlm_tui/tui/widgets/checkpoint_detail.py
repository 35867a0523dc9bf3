"""Panels for one checkpoint: its files with size and hash, its facts, and its samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

from rich.cells import cell_len
from textual.content import Content
from textual.strip import Strip

from rnnlm_tui.contract import figures
from rnnlm_tui.contract.metrics import SampleRow
from rnnlm_tui.tui.widgets.content import Newlines, safe_content, safe_text
from rnnlm_tui.tui.widgets.palette import BAD, BRIGHT, DIM, GOOD, TEXT
from rnnlm_tui.tui.widgets.panel import Panel, padded, segments_of


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
        self._rows: list[Content] = []

    def show(self, detail: CheckpointDetail | None, now: float) -> None:
        """Show a checkpoint, or new facts about it."""
        self._detail = detail
        self.panel_title = "Step" if detail is None else f"Step {detail.step:,}"
        if detail is None:
            self.legend = ""
        elif detail.damage:
            self.legend = Content.styled("✗ damaged", BAD)
        elif detail.verified is not None:
            self.legend = Content.assemble(("✓ ", GOOD), ("verified ", TEXT), (_ago(now - detail.verified), DIM))
        else:
            self.legend = ""
        self.redraw()

    def prepare(self, width: int, height: int) -> None:
        """Lay out all lines."""
        detail = self._detail
        if detail is None:
            self._rows = [Content.styled("no checkpoint yet", DIM)]
            return
        wide = width >= 50
        rows = [
            _file_row(
                fact,
                width,
                "✗" if detail.damage and fact.name in detail.damage else "✓" if detail.verified is not None and not detail.damage else " ",
                wide=wide,
            )
            for fact in detail.files
        ]
        if detail.damage:
            rows += [Content.assemble(("✗ ", BAD), (line.plain, TEXT)) for line in safe_content(detail.damage, newlines="space").wrap(max(10, width - 2))]
        if height > 14:
            rows.append(Content(""))
        facts = (("resumes from", detail.position), ("started from", detail.parent), ("written by", detail.written_by), ("path", detail.path))
        label = 14
        for name, value in facts:
            if value:
                text = _tail(value, width - label) if name == "path" else _head(value, width - label)
                rows.append(Content.assemble((name.ljust(label), DIM), (text, TEXT)))
        self._rows = rows

    def content_line(self, y: int, width: int) -> Strip:
        """Return a line with a file or a fact."""
        return padded(segments_of(self._rows[y].truncate(width, ellipsis=True)) if y < len(self._rows) else [], width)


class CheckpointSamples(Panel):
    """The samples written at one step, as many as fit."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(title="Samples", id=id)
        self._samples: tuple[SampleRow, ...] = ()
        self._newlines: Newlines = "space"
        self._note = ""
        self._rows: list[Content] = []

    def show(self, samples: Sequence[SampleRow], note: str, legend: Content | str = "", newlines: Newlines = "space") -> None:
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
            prompt = safe_content(sample.prompt, newlines=self._newlines, limit=2_000).stylize(f"bold {BRIGHT}")
            lines = (prompt + safe_content(sample.text, newlines=self._newlines, limit=4_000).stylize(TEXT)).wrap(width)
            if len(lines) > share:
                lines = lines[:share]
                lines[-1] = _ellipsis(lines[-1], width)
            rows += lines + [Content("")] * gap
        self._rows = rows

    def content_line(self, y: int, width: int) -> Strip:
        """Return a line of a sample."""
        return padded(segments_of(self._rows[y]) if y < len(self._rows) else [], width)


def samples_at(samples: Sequence[SampleRow], step: int) -> tuple[tuple[SampleRow, ...], str]:
    """Return the samples of a step, or those of the nearest earlier step and a note that says so."""
    steps = sorted({sample.step for sample in samples if sample.step <= step})
    if not steps:
        return (), "no samples up to this step"
    chosen: dict[str, SampleRow] = {}
    for sample in sorted((sample for sample in samples if sample.step == steps[-1]), key=lambda sample: sample.time):
        chosen[sample.prompt] = sample
    return tuple(chosen.values()), "" if steps[-1] == step else f"at step {steps[-1]:,}"


def _file_row(fact: CheckpointFile, width: int, mark: str, *, wide: bool) -> Content:
    name = fact.name if wide else fact.name.removesuffix(".safetensors").removeprefix("training_")
    size = figures.disk(fact.size).rjust(8)
    digest = f"{fact.sha256[:4]}…{fact.sha256[-4:]}" if fact.sha256 else ""
    room = max(4, width - 2 - len(size) - len(digest) - 3)
    name = safe_text(name, limit=room)
    colour = {"✓": GOOD, "✗": BAD}.get(mark, DIM)
    return Content.assemble((f"{mark} ", colour), (name + " " * (room - cell_len(name)), TEXT), (size, DIM), "   ", (digest, DIM))


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


def _ellipsis(line: Content, width: int) -> Content:
    return line.rstrip().truncate(max(1, width - 1)) + Content.styled("…", TEXT)


def _ago(seconds: float) -> str:
    word = figures.age(seconds)
    return "just now" if word == "now" else f"{word} ago"
