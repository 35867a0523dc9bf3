"""The model's samples: the newest ones, or those of one step compared with the step before.

For a run in trouble, what is wrong and what to do comes first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from time import localtime, strftime
from typing import TYPE_CHECKING

from textual.content import Content

from rnnlm_tui.schema.formatting import count, figure
from rnnlm_tui.tui import palette
from rnnlm_tui.tui.text import Newlines, line, safe_content, safe_text
from rnnlm_tui.tui.views.status import status_glyph

if TYPE_CHECKING:
    from rnnlm_tui.client.monitor import RunSnapshot
    from rnnlm_tui.schema.config import RunConfig
    from rnnlm_tui.schema.metrics import EvaluationRow, SampleRow


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


MOST_WORDS = 400
"""Words that are compared of two texts."""
MOST_NEW = 0.5
"""Share of new words above which highlighting them says nothing."""
_WORD = re.compile(r"\s*\S+")


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """The samples of one step, with those of earlier steps."""

    step: int
    index: int
    """Index among the steps with samples, from 0."""
    steps: int
    """The number of steps with samples."""
    prompts: tuple[str, ...]
    rows: Sequence[Mapping[str, SampleRow]]
    """The samples of this step and of earlier ones by prompt, newest first."""
    evaluation: EvaluationRow | None = None
    """The latest evaluation up to this step."""
    name: str = "val"
    """Name of the evaluated set."""
    loaded: bool = True
    """Whether the samples have been read yet."""
    newlines: Newlines = "space"
    """How line breaks in samples are shown."""


def page_lines(
    page: HistoryPage, chosen: int, width: int, height: int, *, no_colour: bool = False
) -> list[Content]:
    """Return at most `height` lines: the step, then each prompt's sample.

    The chosen prompt's sample comes in full, with those of the steps before.
    """
    lines = [_head(page, width), Content("")]
    room = height - len(lines)
    if not page.loaded or not page.prompts:
        return lines
    short = [
        _now(page, prompt, width, no_colour=no_colour, chosen=index == chosen)
        for index, prompt in enumerate(page.prompts)
    ]
    others = len(short) - 1
    gap = 1 if room >= 4 * len(short) else 0
    room -= others * gap
    each = max(1, min(6, room // (2 * others + 2)))
    kept = [min(each, len(block)) for block in short]
    kept[chosen] = 0
    kept[chosen] = max(1, min(len(short[chosen]), room - sum(kept)))
    free = room - sum(kept)
    for index, block in enumerate(short):
        # spare lines go to texts that were cut, but half of them to earlier steps
        more = min(len(block) - kept[index], max(0, free) // 2)
        kept[index], free = kept[index] + more, free - more
    # lines that are left go to earlier samples, of the chosen prompt first
    earlier: dict[int, list[Content]] = {}
    for place, index in enumerate(sorted(range(len(short)), key=lambda index: index != chosen)):
        share = free // (len(short) - place) if place else free
        earlier[index] = _earlier(page, page.prompts[index], width, share)
        free -= len(earlier[index])
    for index, block in enumerate(short):
        lines += [*cut_lines(block, width, kept[index]), *earlier[index], *[Content("")] * gap]
    return lines[:height]


def _head(page: HistoryPage, width: int) -> Content:
    """Return `step 2,000  val ppl 67.2  ────────●────`, with the step's position."""
    value = figure(page.evaluation.perplexity) if page.evaluation is not None else "–"
    judged = page.evaluation
    at = f" @{count(judged.step)}" if judged is not None and judged.step != page.step else ""
    left = line(
        f"step {{}}  {page.name} ppl {{}}{at}  ",
        (count(page.step), f"bold {palette.BRIGHT}"),
        (value, f"bold {palette.VALIDATION}"),
    )
    cells = width - left.cell_length
    if cells < 3:
        return left.truncate(width, ellipsis=True)
    share = page.index / (page.steps - 1) if page.steps > 1 else 1.0
    place = round(share * (cells - 1))
    return Content.assemble(
        left,
        ("━" * place, palette.FOCUS),
        ("●", f"bold {palette.FOCUS}"),
        ("─" * (cells - 1 - place), palette.BORDER),
    )


def _now(
    page: HistoryPage, prompt: str, width: int, *, no_colour: bool, chosen: bool
) -> list[Content]:
    """Return `› The state of the Union is strong…` in full."""
    row = page.rows[0].get(prompt)
    sign = Content.styled("› " if chosen else "  ", f"bold {palette.FOCUS}")
    shown = safe_content(prompt, newlines=page.newlines, limit=200)
    shown = shown.stylize(f"bold {palette.BRIGHT}")
    if row is None:
        missing = line("{}{} – no sample at this step", sign, shown)
        return [missing.truncate(width, ellipsis=True)]
    before = next((rows[prompt].text for rows in page.rows[1:] if prompt in rows), None)
    new = continuation(row.text, before, no_colour=no_colour, newlines=page.newlines)
    return hanging(sign, shown + new, width)


def _earlier(page: HistoryPage, prompt: str, width: int, height: int) -> list[Content]:
    """Return `@1,000 is the the of …`, dim: the newest in full if the others keep a line each."""
    rows = [found[prompt] for found in page.rows[1:] if prompt in found]
    blocks = [_wrapped(row, width, page.newlines) for row in rows[: max(0, height)]]
    lines: list[Content] = []
    for index, block in enumerate(blocks):
        others = len(blocks) - 1 - index
        room = height - len(lines) - others
        lines += cut_lines(block, width, max(1, room // (others + 1 if index else 1)), palette.DIM)
    return lines[: max(0, height)]


def _wrapped(row: SampleRow, width: int, newlines: Newlines) -> list[Content]:
    kept = row.text[:LONGEST].strip() if newlines == "space" else row.text[:LONGEST].strip("\n")
    text = safe_content(kept, newlines=newlines).stylize(palette.DIM)
    return hanging(line(f"  @{count(row.step)} "), text, width)


def continuation(
    text: str, before: str | None, *, no_colour: bool = False, newlines: Newlines = "space"
) -> Content:
    """Style a text by what is new since the text before.

    The common beginning is dim. After it, new words are bright and kept words dim, unless most are
    new: then the rest is plain. Everything is plain without a text before.
    """
    words = _words(text, newlines)
    if before is None:
        return Content.styled("".join(words), palette.TEXT)
    kept = [False] * len(words)
    bare = [word.strip() for word in words]
    for block in SequenceMatcher(
        None, [word.strip() for word in _words(before, newlines)], bare, autojunk=False
    ).get_matching_blocks():
        kept[block.b : block.b + block.size] = [True] * block.size
    same_until = next((index for index, same in enumerate(kept) if not same), len(kept))
    if kept.count(False) > MOST_NEW * len(kept):
        return Content.assemble(
            ("".join(words[:same_until]), palette.BASELINE),
            ("".join(words[same_until:]), palette.TEXT),
        )
    new = f"bold {palette.BRIGHT}" if no_colour else palette.BRIGHT
    return Content.assemble(
        *((word, palette.BASELINE if same else new) for word, same in zip(words, kept, strict=True))
    )


def _words(text: str, newlines: Newlines) -> Sequence[str]:
    return _WORD.findall(safe_text(text[:LONGEST], newlines=newlines))[:MOST_WORDS]
