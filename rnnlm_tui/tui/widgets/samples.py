"""The model's samples, newest bright; or for a run in trouble, what is wrong and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from time import localtime, strftime
from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.strip import Strip

from rnnlm_tui.contract.figures import count
from rnnlm_tui.tui.widgets import palette
from rnnlm_tui.tui.widgets.content import Newlines, safe_content
from rnnlm_tui.tui.widgets.line import Line
from rnnlm_tui.tui.widgets.panel import Panel, padded, segments_of
from rnnlm_tui.tui.widgets.status_line import status_glyph

if TYPE_CHECKING:
    from rnnlm_tui.contract.metrics import SampleRow
    from rnnlm_tui.supervisor.monitor import RunSnapshot

INDENT = 7
"""Columns of `@3,700 `."""
LONGEST = 2_000
"""Most characters of a sample that are shown."""
TROUBLE_STATUSES = ("stalled", "degraded", "failed", "crashed", "lost")
SENTENCES = {
    "stalled": "The process is running but makes no progress.",
    "degraded": "Writing to disk fails: training continues and keeps its rows in memory.",
    "failed": "The run failed.",
    "crashed": "The worker ended unexpectedly; space resumes from the last checkpoint.",
    "lost": "The run is on another machine, which does not respond.",
}


def lines_below(snapshot: RunSnapshot, width: int, height: int, *, ascii_only: bool) -> list[Content]:
    """Return at most `height` lines: trouble first, then samples."""
    trouble = cut_lines(trouble_lines(snapshot, width, ascii_only=ascii_only), width, height)
    room = height - len(trouble) - (1 if trouble else 0)
    samples = sample_lines(snapshot, width, room)
    return [*trouble, *([Content("")] if trouble and samples else []), *samples]


def trouble_lines(snapshot: RunSnapshot, width: int, *, ascii_only: bool) -> list[Content]:
    """Return what is wrong, what to do and the last log line, in full; nothing if all is well."""
    summary = snapshot.summary
    if summary.status not in TROUBLE_STATUSES and not (summary.status == "preparing" and summary.message):
        return []
    fact = summary.message or SENTENCES[summary.status]
    if summary.status == "stalled" and summary.updated is not None and not summary.message:
        pid = f" (pid {summary.pid})" if summary.pid else ""
        fact = f"The process{pid} is running but has made no step since {strftime('%H:%M:%S', localtime(summary.updated))}."
    colour = {"failed": palette.BAD, "crashed": palette.BAD, "preparing": palette.WARN}.get(summary.status, palette.TEXT)
    paragraphs = [Content.assemble(status_glyph(summary.status, ascii_only=ascii_only), " ", safe_content(fact, newlines="space").stylize(colour))]
    if summary.hint:
        paragraphs.append(Content.assemble(("To do: ", palette.DIM), safe_content(summary.hint, newlines="space").stylize(palette.TEXT)))
    last = next((line.strip() for line in reversed(snapshot.log_tail) if line.strip()), "")
    if last and summary.status not in ("degraded", "preparing") and last not in f"{fact}\n{summary.hint or ''}" and fact not in last:
        paragraphs.append(Content.assemble(("Last log line: ", palette.DIM), safe_content(last[:LONGEST], newlines="space").stylize(palette.TEXT)))
    return [line.rstrip() for paragraph in paragraphs for line in paragraph.wrap(max(8, width))]


def content_key(snapshot: RunSnapshot | None) -> tuple[object, ...] | None:
    """Return what `lines_below` depends on, to avoid wrapping again."""
    if snapshot is None:
        return None
    summary = snapshot.summary
    trouble = summary.status in TROUBLE_STATUSES or bool(summary.message)
    began = summary.step > snapshot.config.evaluation.every
    return (snapshot.samples, snapshot.config, summary.max_steps, began, *((summary, snapshot.log_tail) if trouble else ()))


def sample_lines(snapshot: RunSnapshot, width: int, height: int) -> list[Content]:
    """Return the newest sample of each prompt in full and older ones in a line each, as they fit."""
    groups = samples_by_prompt(snapshot.samples, snapshot.config.evaluation.prompts)
    if height <= 0:
        return []
    if not groups:
        wrapped = Content.styled(_none_yet(snapshot), palette.DIM).wrap(max(8, width))
        return cut_lines(wrapped, max(8, width), height, palette.DIM)
    newlines = newlines_of(snapshot.summary.corpus_layout)
    groups = groups[: max(1, height // 2)]
    each = height // len(groups)
    gap = 1 if each >= 5 else 0
    older = 0 if each < 3 else 1 if each < 5 else 2
    lines: list[Content] = []
    for group in groups:
        block = [line for row in group[1 : 1 + older] for line in one_sample(row, width, 1, old=True)]
        newest = one_sample(group[0], width, each - gap - len(block), newlines=newlines)
        lines += [*newest, *block, *([Content("")] * gap)]
    return lines[:height]


def _none_yet(snapshot: RunSnapshot) -> str:
    """Say when the first samples come, or came if the cursor is before them."""
    every, most = snapshot.config.evaluation.every, snapshot.summary.max_steps
    if every and snapshot.summary.step > every:
        return f"no samples up to here: first at step {every:,}"
    if every and (most is None or every <= most):
        return f"no samples yet: first at step {every:,}, or press s"
    return f"no samples yet: first at the end{f' (step {count(most)})' if most else ''}, or press s"


def samples_by_prompt(samples: Sequence[SampleRow], prompts: Sequence[str]) -> list[list[SampleRow]]:
    """Group samples by prompt, in the config's order, newest first and one per step."""
    found: dict[str, list[SampleRow]] = {prompt: [] for prompt in prompts}
    for row in sorted(samples, key=lambda row: (row.step, row.time), reverse=True):
        rows = found.setdefault(row.prompt, [])
        if not rows or rows[-1].step != row.step:
            rows.append(row)
    return [rows for rows in found.values() if rows]


def newlines_of(layout: str) -> Newlines:
    """Return how line breaks are shown: they belong to texts kept as lines or raw."""
    return "space" if layout == "sentences" else "keep"


def one_sample(row: SampleRow, width: int, height: int, *, old: bool = False, newlines: Newlines = "space") -> list[Content]:
    """Return `@3,700 The state of the Union is strong…`, indented, the prompt bold."""
    text, prompt = palette.DIM if old else palette.TEXT, palette.DIM if old else f"bold {palette.BRIGHT}"
    whole = Content.assemble(safe_content(row.prompt, newlines=newlines).stylize(prompt), safe_content(row.text[:LONGEST], newlines=newlines).stylize(text))
    step = f"@{count(row.step)} "
    indent = max(INDENT, len(step))
    shown = cut_lines(whole.wrap(max(8, width - indent)), max(8, width - indent), height, text)
    return [Content.assemble((step.ljust(indent) if index == 0 else " " * indent, palette.DIM), line) for index, line in enumerate(shown)]


def cut_lines(wrapped: Sequence[Content], width: int, height: int, style: str = palette.TEXT) -> list[Content]:
    """Cut to `height` lines; if there are more, the last ends with an ellipsis."""
    shown = [line.rstrip() for line in wrapped[: max(0, height)]]
    if len(wrapped) > height and shown:
        shown[-1] = Content.assemble(shown[-1].truncate(width - 1), ("…", style))
    return shown


class SampleLines(Vertical):
    """Samples without a frame, for narrow terminals."""

    DEFAULT_CSS = "SampleLines { overflow: hidden; }"
    MOST = 24

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._shown: object = ()

    def compose(self) -> ComposeResult:
        for _ in range(self.MOST):
            yield Line()

    def show(self, snapshot: RunSnapshot | None, size: tuple[int, int], *, ascii_only: bool) -> None:
        """Fill a region of this size."""
        wanted = (content_key(snapshot), size, ascii_only)
        if wanted == self._shown:
            return
        self._shown = wanted
        width, height = size
        found = [] if snapshot is None else lines_below(snapshot, width - 2, min(height, self.MOST), ascii_only=ascii_only)
        for index, line in enumerate(self.query(Line)):
            line.put(Content.assemble(" ", found[index]) if index < len(found) else Content(""))


class SamplesPanel(Panel):
    """Samples in a frame; the legend shows the sampling settings."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(title="Samples", id=id)
        self._snapshot: RunSnapshot | None = None
        self._inside: list[Content] = []

    def show(self, snapshot: RunSnapshot | None) -> None:
        """Show the run's samples."""
        before, self._snapshot = content_key(self._snapshot), snapshot
        if content_key(snapshot) == before:
            return
        if snapshot is not None:
            sampling = snapshot.config.sampling
            drawn = "greedy" if sampling.is_greedy else f"T {sampling.temperature:g} · top-p {sampling.top_p:g} · seed {sampling.seed}"
            self.set_reactive(Panel.legend, Content.styled(drawn, palette.DIM))
        self.redraw()

    def prepare(self, width: int, height: int) -> None:
        """Lay out the lines for this size."""
        self._inside = [] if self._snapshot is None else lines_below(self._snapshot, width, height, ascii_only=self.ascii_only)

    def content_line(self, y: int, width: int) -> Strip:
        """Return one line."""
        return padded(segments_of(self._inside[y], palette.TEXT) if y < len(self._inside) else [], width)
