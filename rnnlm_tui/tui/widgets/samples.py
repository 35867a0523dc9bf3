"""The model's newest samples.

For a run in trouble, what is wrong and what to do comes first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import localtime, strftime
from typing import TYPE_CHECKING

from textual.content import Content

from rnnlm_tui.schema.formatting import count
from rnnlm_tui.tui import palette
from rnnlm_tui.tui.text import Newlines, line, safe_content
from rnnlm_tui.tui.views.status import status_glyph

if TYPE_CHECKING:
    from rnnlm_tui.client.monitor import RunSnapshot
    from rnnlm_tui.schema.config import RunConfig
    from rnnlm_tui.schema.metrics import SampleRow


Keys = Callable[[str], str]
"""Puts the keys of actions in place of `{key:id}`."""
INDENT = 7
"""Columns of `@3,700 `."""
LONGEST = 2_000
"""Most characters of a sample that are shown."""
TROUBLE_STATUSES = ("stalled", "degraded", "failed", "crashed", "lost")
WARNING_STATUSES = ("preparing", "running", "paused")
"""In which a run may have a warning: little memory, or a GPU that torch can't use."""
SENTENCES = {
    "stalled": "The process is running but makes no progress.",
    "degraded": "Writing to disk fails: training continues and keeps its rows in memory.",
    "failed": "The run failed.",
    "crashed": "The worker ended unexpectedly; {key:pause} resumes from the last checkpoint.",
    "lost": "The run is on another machine, which does not respond.",
}


def lines_below(snapshot: RunSnapshot | None, keys: Keys, width: int, height: int) -> list[Content]:
    """Return at most `height` lines: trouble first, then samples."""
    if snapshot is None:
        return []
    trouble = cut_lines(trouble_lines(snapshot, keys, width), width, height)
    room = height - len(trouble) - (1 if trouble else 0)
    samples = sample_lines(snapshot, keys, width, room)
    return [*trouble, *([Content("")] if trouble and samples else []), *samples]


def trouble_lines(snapshot: RunSnapshot, keys: Keys, width: int) -> list[Content]:
    """Return what is wrong, what to do and the last log line, in full; nothing if all is well."""
    summary = snapshot.summary
    warns = summary.status in WARNING_STATUSES
    if summary.status not in TROUBLE_STATUSES and not (warns and summary.message):
        return []
    fact = summary.message or keys(SENTENCES[summary.status])
    if summary.status == "stalled" and summary.updated is not None and not summary.message:
        pid = f" (pid {summary.pid})" if summary.pid else ""
        fact = (
            f"The process{pid} is running but has made no step since"
            f" {strftime('%H:%M:%S', localtime(summary.updated))}."
        )
    bad = summary.status in ("failed", "crashed")
    colour = palette.BAD if bad else palette.WARN if warns else palette.TEXT
    last = next((line.strip() for line in reversed(snapshot.log_tail) if line.strip()), "")
    is_known = last in f"{fact}\n{summary.hint or ''}" or fact in last
    if is_known or summary.status in ("degraded", *WARNING_STATUSES):
        last = ""
    paragraphs = (
        (status_glyph(summary.status) + " ", fact, colour),
        (Content.styled("To do: ", palette.DIM), summary.hint, palette.TEXT),
        (Content.styled("Last log line: ", palette.DIM), last[:LONGEST], palette.TEXT),
    )
    return [
        line.rstrip()
        for head, text, style in paragraphs
        if text
        for line in (head + safe_content(text, newlines="space").stylize(style)).wrap(max(8, width))
    ]


def content_key(snapshot: RunSnapshot | None) -> tuple[object, ...] | None:
    """Return what `lines_below` depends on, to avoid wrapping again."""
    if snapshot is None:
        return None
    summary = snapshot.summary
    trouble = summary.status in TROUBLE_STATUSES or bool(summary.message)
    began = summary.step > snapshot.config.evaluation.every
    told = (summary, snapshot.log_tail) if trouble else None
    return snapshot.samples, snapshot.config, summary.max_steps, began, told


def sample_lines(snapshot: RunSnapshot, keys: Keys, width: int, height: int) -> list[Content]:
    """Return the newest sample of each prompt in full, older ones in a line each."""
    groups = samples_by_prompt(snapshot.samples, snapshot.config.evaluation.prompts)
    if height <= 0:
        return []
    if not groups:
        wrapped = Content.styled(keys(_none_yet(snapshot)), palette.DIM).wrap(max(8, width))
        return cut_lines(wrapped, max(8, width), height, palette.DIM)
    newlines = newlines_of(snapshot.summary.corpus_layout)
    groups = groups[: max(1, height // 2)]
    each = height // len(groups)
    gap = 1 if each >= 5 else 0
    older = 0 if each < 3 else 1 if each < 5 else 2
    lines: list[Content] = []
    for group in groups:
        block = [
            line for row in group[1 : 1 + older] for line in one_sample(row, width, 1, old=True)
        ]
        newest = one_sample(group[0], width, each - gap - len(block), newlines=newlines)
        lines += [*newest, *block, *([Content("")] * gap)]
    return lines[:height]


def _none_yet(snapshot: RunSnapshot) -> str:
    """Say when the first samples come, or came if the cursor is before them."""
    every, most = snapshot.config.evaluation.every, snapshot.summary.max_steps
    if every and snapshot.summary.step > every:
        return f"no samples up to here: first at step {every:,}"
    if every and (most is None or every <= most):
        return f"no samples yet: first at step {every:,}, or press {{key:sample}}"
    at = f" (step {count(most)})" if most else ""
    return f"no samples yet: first at the end{at}, or press {{key:sample}}"


def samples_by_prompt(
    samples: Sequence[SampleRow], prompts: Sequence[str]
) -> list[list[SampleRow]]:
    """Group samples by prompt, newest first and one per step.

    The config's prompts come first, then the others as they were asked at the newest step.
    """
    asked = [row.prompt for row in sorted(samples, key=lambda row: (-row.step, row.time))]
    found: dict[str, list[SampleRow]] = {prompt: [] for prompt in (*prompts, *asked)}
    for row in sorted(samples, key=lambda row: (row.step, row.time), reverse=True):
        rows = found[row.prompt]
        if not rows or rows[-1].step != row.step:
            rows.append(row)
    return [rows for rows in found.values() if rows]


def newlines_of(layout: str) -> Newlines:
    """Return how line breaks are shown: they belong to texts kept as lines or raw."""
    return "space" if layout == "sentences" else "keep"


def one_sample(
    row: SampleRow, width: int, height: int, *, old: bool = False, newlines: Newlines = "space"
) -> list[Content]:
    """Return `@3,700 The state of the Union is strong…`, indented, the prompt bold."""
    text = palette.DIM if old else palette.TEXT
    prompt = palette.DIM if old else f"bold {palette.BRIGHT}"
    whole = Content.assemble(
        safe_content(row.prompt, newlines=newlines).stylize(prompt),
        safe_content(row.text[:LONGEST], newlines=newlines).stylize(text),
    )
    step = f"@{count(row.step)} ".ljust(INDENT)
    return hanging(line(step), whole, width, height, text)


def hanging(
    first: Content, text: Content, width: int, height: int | None = None, style: str = palette.TEXT
) -> list[Content]:
    """Wrap a text behind its first words, with further lines indented below it; cut to `height`
    lines."""
    room = max(8, width - first.cell_length)
    blank = Content(" " * first.cell_length)
    rows = cut_lines(text.wrap(room), room, height, style)
    return [(blank if index else first) + row for index, row in enumerate(rows)]


def cut_lines(
    wrapped: Sequence[Content], width: int, height: int | None, style: str = palette.TEXT
) -> list[Content]:
    """Cut to `height` lines, if given; if there are more, the last ends with an ellipsis."""
    most = len(wrapped) if height is None else max(0, height)
    shown = [line.rstrip() for line in wrapped[:most]]
    if len(wrapped) > most and shown:
        shown[-1] = Content.assemble(shown[-1].truncate(width - 1), ("…", style))
    return shown


def drawn_by(config: RunConfig) -> Content:
    """Return how a run's samples are drawn: `T 0.8 · top-p 0.95 · seed 7`."""
    sampling = config.sampling
    if sampling.is_greedy:
        return Content.styled("greedy", palette.DIM)
    words = f"T {sampling.temperature:g} · top-p {sampling.top_p:g} · seed {sampling.seed}"
    return Content.styled(words, palette.DIM)
