"""The config form's fields and rows, and the draft that it edits: a base config, changes, and
problems; its undone edits, and what it is compared with.

Fields are read from the pydantic models. Those that have no effect in a config are dimmed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textual.content import Content

from rnnlm_tui.errors import Adjustment, ConfigError, Problem
from rnnlm_tui.schema.cells import ATTENDING_CELLS, HEADED_CELLS, RECURRENT_WEIGHT_CELLS
from rnnlm_tui.schema.config import BUILT_IN_SOURCES, IDLE_WHEN_GREEDY, RunConfig, value_of
from rnnlm_tui.schema.formatting import counted, escaped, unescaped
from rnnlm_tui.schema.presets import PRESETS
from rnnlm_tui.schema.validation import (
    ConfigField,
    fields,
    merge,
    parse_config,
    parse_value,
    raw_value,
)
from rnnlm_tui.tui.palette import (
    BAD,
    BASELINE,
    BRIGHT,
    DIM,
    FAINT,
    FIELD,
    LABEL,
    SELECTED,
    TEXT,
    TRAIN,
    WARN,
)
from rnnlm_tui.tui.text import fitting, safe_content, safe_text

if TYPE_CHECKING:
    from rnnlm_tui.schema.facts import Parent
    from rnnlm_tui.store.lineage import ParentCheckpoint

PATH_FIELDS: dict[str, tuple[str, ...]] = {
    "corpus.source": BUILT_IN_SOURCES,
    "corpus.test_source": BUILT_IN_SOURCES,
    "tokenizer.name": (),
}
"""Fields that take a path, and other words that they may have."""

EMPTY_WORDS: dict[str, str] = {
    "training.max_steps": "by epochs",
    "corpus.test_source": "none",
    "tokenizer.name": "none",
}
"""What an empty optional field means, shown dim in its place."""


def shown_value(field: ConfigField, value: object) -> str:
    """Format a value for reading: `2,048`, `3e-3`, `yes`; empty for None."""
    if value is None:
        return ""
    if field.kind == "switch":
        return "yes" if value is True else "no" if value is False else str(value)
    if field.kind == "list":
        return counted(len(value) if isinstance(value, list | tuple) else 0, "text")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        # a seed is an identifier
        return str(value) if field.path.endswith(".seed") else f"{value:,}"
    if isinstance(value, float):
        return number_text(value)
    return str(value)


def edited_value(field: ConfigField, value: object) -> str:
    """Format a value for the editor.

    Integers have no separators; a list is one text per line, with its own line breaks escaped.
    """
    if field.kind == "list" and isinstance(value, Sequence) and not isinstance(value, str):
        lines = "\n".join(escaped(str(item)) for item in value)
        return lines if read_value(field, lines) == list(value) else json.dumps(list(value))
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return shown_value(field, value)


def read_value(field: ConfigField, text: str) -> object:
    """Parse the user's text as the command line does; a list is one text per line, or TOML."""
    value = parse_value(field.path, text)
    if field.kind == "list" and not isinstance(value, list):
        return [unescaped(line) for line in text.split("\n") if line]
    return value


def number_text(value: float) -> str:
    """Return the shortest text that reads back as the same number: `0.15`, `3e-3`, `1.0`."""
    if value == 0:
        return "0"
    if not isfinite(value) or 1e-2 <= abs(value) < 1e6:
        return repr(value)
    return f"{Decimal(repr(value)).normalize():e}".replace("e+", "e")


FIELDS = fields()


def is_same(value: object, base: object) -> bool:
    """Whether a raw value means the same as another; true and 1 differ."""
    return value == base and isinstance(value, bool) == isinstance(base, bool)


@dataclass(frozen=True, slots=True)
class Draft:
    """A config being edited; its values may be invalid. Immutable: an edit returns a new draft."""

    base: RunConfig
    """The config it started from; changed fields show its value."""
    base_name: str
    """Shown to the user: `preset demo`, `plain-otter`."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Raw values by dotted path that differ from the base; None clears an optional field."""
    parent: Parent | ParentCheckpoint | None = None
    """The checkpoint whose weights the run starts from; None: initial weights."""
    document: str = ""
    """TOML text that it was read from, with the user's comments; empty if there is none."""
    file: Path | None = None
    """The file that it was opened from or saved to."""

    @property
    def label(self) -> str:
        """The base's name in front of its value beside a field: `demo`, `default`, `otter`."""
        name = self.base_name.removeprefix("preset ")
        return "default" if name == "the defaults" else name

    def value(self, path: str) -> object:
        """Return a field's current raw value."""
        return self.changes[path] if path in self.changes else value_of(self.base, path)

    def with_value(self, path: str, value: object) -> Draft:
        """Return the draft with one field set; the base's own value is no change."""
        if is_same(value, value_of(self.base, path)):
            return self.without(path)
        return replace(self, changes={**self.without(path).changes, path: value})

    def with_values(self, values: Mapping[str, object]) -> Draft:
        """Return the draft with several fields set, by path."""
        draft = self
        for path, value in values.items():
            draft = draft.with_value(path, value)
        return draft

    def without(self, path: str) -> Draft:
        """Return the draft with one field reset to the base's value."""
        changes = {key: kept for key, kept in self.changes.items() if key != path}
        return replace(self, changes=changes)

    def config(self) -> RunConfig:
        """Return the config.

        Raises:
            ConfigError: with every problem.
        """
        return parse_config(merge(self.base, self.changes))

    def problems(self) -> tuple[Problem, ...]:
        """Return all problems, in the order of the form."""
        try:
            self.config()
        except ConfigError as error:
            order = [*FIELDS, *map(field_of, error.problems)]
            return tuple(sorted(error.problems, key=lambda found: order.index(field_of(found))))
        return ()

    def nearest_config(self) -> RunConfig:
        """Return the config without its invalid changes, so that the estimate stays up to date."""
        draft = self
        for problem in self.problems():
            draft = draft.without(field_of(problem))
        if not draft.problems():
            return draft.config()
        # the fields contradict each other: keep the changes that are valid together
        kept = replace(self, changes={})
        for path, value in draft.changes.items():
            more = kept.with_value(path, value)
            kept = kept if more.problems() else more
        return kept.config()


def field_of(problem: Problem) -> str:
    """Return a problem's field: `evaluation.prompts` for `evaluation.prompts.3`."""
    return ".".join(problem.path.split(".")[:2])


def by_field(problems: Iterable[Problem]) -> dict[str, Problem]:
    """Return the first problem of each field."""
    return {field_of(problem): problem for problem in reversed([*problems])}


def adjustment_text(adjustment: Adjustment) -> str:
    """Describe an adjustment: `warm-up 475`."""
    return ", ".join(
        f"{FIELDS[path].title} {shown_value(FIELDS[path], value) or 'empty'}"
        for path, value in adjustment.changes
    )


_PATHS = re.compile(rf"(?<![\w./])({'|'.join(map(re.escape, FIELDS))})(?![\w/])")


def with_titles(text: str) -> str:
    """Return a problem's text with the labels of the form in place of the keys of fields."""
    return _PATHS.sub(lambda match: FIELDS[match[1]].title, text)


def short_message(problem: Problem) -> str:
    """Return what is allowed, without the value shown beside it: `must be below 4,754 steps`."""
    if match := re.match(r"requires (.* = .*), but ", problem.message):
        return f"set {with_titles(match[1])}"
    match = re.match(r"is .*?,? (must .*)$", problem.message, re.DOTALL)
    return with_titles(match[1] if match else problem.message)


def with_values(draft: Draft, raw: Mapping[str, object]) -> Draft:
    """Return the draft with the values of a whole config, valid or not."""
    for path in FIELDS:
        if isinstance(raw.get(path.partition(".")[0]), Mapping):
            draft = draft.with_value(path, raw_value(raw, path))
        else:
            draft = draft.without(path)
    return draft


MOST_EDITS = 500
"""Edits that can be undone; older ones are forgotten."""


class EditHistory:
    """The drafts before each edit, and those that were undone."""

    def __init__(self) -> None:
        self._past: list[Draft] = []
        self._future: list[Draft] = []
        self._group: object = None

    def record(self, before: Draft, after: Draft, group: object = None) -> None:
        """Remember an edit.

        Args:
            group: edits of one group in a row are undone together, such as the keys typed into a
                field; None: an edit of its own.
        """
        if after == before:
            return
        self._future.clear()
        if group and group == self._group and self._past:
            if self._past[-1] == after:  # the editor was left without a change
                self._past.pop()
                self._group = None
            return
        self._group = group
        self._past.append(before)
        del self._past[:-MOST_EDITS]

    def travel(self, current: Draft, direction: int) -> Draft | None:
        """Undo (-1) or redo (1): return the draft before the last edit, or the one that was undone
        last; None if there is none."""
        here, there = (self._past, self._future) if direction < 0 else (self._future, self._past)
        if not here:
            return None
        there.append(current)
        self._group = None
        return here.pop()


def changed_fields(before: Draft, after: Draft) -> tuple[str, ...]:
    """Return the paths of the fields whose values differ, in the order of the form."""
    return tuple(path for path in FIELDS if not is_same(after.value(path), before.value(path)))


def edit_text(before: Draft, after: Draft) -> str:
    """Describe an edit: `peak rate 3e-3 → 5e-3`, `4 fields`, or another base's name."""
    paths = changed_fields(before, after)
    if before.base_name != after.base_name:
        return after.base_name
    if len(paths) != 1:
        return f"{len(paths)} fields" if paths else "the comments of the file"
    field = FIELDS[paths[0]]
    was, now = (shown_value(field, draft.value(field.path)) or "none" for draft in (before, after))
    return f"{field.title} {was} → {now}"


def comparisons(draft: Draft) -> Sequence[Draft]:
    """Return what a draft is compared with, one after another: base, preset, defaults."""
    preset = PRESETS.get(draft.base.preset)
    found = []
    if draft.parent is not None:
        found.append(Draft(draft.base, draft.parent.address))
    elif not draft.base_name.startswith("preset "):
        found.append(Draft(draft.base, draft.base_name))
    if preset is not None:
        found.append(Draft(preset, f"preset {draft.base.preset}"))
    return (*found, Draft(RunConfig(), "the defaults"))


def idle_fields(config: RunConfig) -> dict[str, str]:
    """Map the fields that have no effect in this config to a few words why."""
    corpus, model, training = config.corpus, config.model, config.training
    sampling, tokenizer = config.sampling, config.tokenizer.kind
    optimizer, schedule = config.optimizer, config.schedule
    streams, built_in = training.data_mode == "stream", corpus.source in BUILT_IN_SOURCES
    own_test_set = corpus.source in ("presidents", "news")
    rules = (
        (corpus.source != "elman", "elman only", "corpus", "sentences seed"),
        ("news" not in (corpus.source, corpus.test_source), "news only", "corpus", "url"),
        (built_in, "records only", "corpus", "text_field"),
        (built_in, "your own text only", "corpus", "layout"),
        (own_test_set, "has its own test set", "corpus", "test_fraction"),
        (corpus.test_source is not None, "test source is set", "corpus", "test_fraction"),
        (tokenizer == "byte", "256 bytes", "tokenizer", "vocab_size"),
        (tokenizer in ("byte", "bpe"), f"no <unk> in {tokenizer}", "sampling", "unknown"),
        (tokenizer != "pretrained", "pretrained only", "tokenizer", "name"),
        (model.cell_type not in HEADED_CELLS, f"{' and '.join(HEADED_CELLS)} only", "model",
            "num_heads"),
        (model.cell_type not in ATTENDING_CELLS, f"{' and '.join(ATTENDING_CELLS)} only", "model",
            "attention_window"),
        (model.cell_type not in RECURRENT_WEIGHT_CELLS, f"not used by {model.cell_type}", "model",
            "weight_dropout"),
        (model.initialization != "uniform", "uniform only", "model", "init_scale"),
        (not streams, "stream mode only", "model",
            "variational_dropout embedding_dropout weight_dropout"),
        (streams and not model.dropout, "dropout is 0", "model", "variational_dropout"),
        (optimizer.algorithm != "adamw", "adamw only", "optimizer", "beta1 beta2 eps"),
        (schedule.kind != "cosine", "cosine only", "schedule", "final_fraction"),
        (schedule.kind != "decay", "decay only", "schedule", "decay_after decay_factor"),
        (training.max_steps is not None, "max steps is set", "training", "epochs"),
        (streams, "sentence mode only", "training", "context_length shuffle"),
        (not streams, "stream mode only", "training", "bptt"),
        (sampling.is_greedy, "greedy", "sampling", " ".join(IDLE_WHEN_GREEDY)),
        (sampling.greedy, "greedy", "sampling", "temperature"),
        (sampling.repetition_penalty == 1, "no penalty", "sampling", "penalty_window"),
    )  # fmt: skip
    return {
        f"{section}.{name}": reason
        for applies, reason, section, names in rules
        if applies
        for name in names.split()
    }


# rows


MARK, TITLE, CURSOR, BOX = 2, 15, 1, 13
"""Widths of a row's parts: change mark, title, `›`, value."""
BEFORE_BOX = MARK + TITLE + CURSOR
KEY_COLUMN, KEY_GAP = 60, 2
"""A row with as many cells may have its key name at the right edge, so many cells behind its
notes."""


@dataclass(frozen=True, slots=True)
class FieldRow:
    """A field and what is known of its value."""

    field: ConfigField
    value: object
    base: Any
    problem: Problem | None = None
    idle: str = ""
    """Why the field has no effect in this config, `sentence mode only`; empty if it has one."""
    locked: bool = False
    """The run exists, so nothing can be changed."""
    fact: str = ""
    """What is known about the value: `57 addresses, 1.9 MB`."""
    allowed: str = ""
    """A number's bounds, given the rest of the config."""
    other: tuple[str, object] | None = None
    """Name and value of the config that the draft is compared with; None: it isn't."""
    related: Sequence[str] = ()
    """Titles of the fields that this one depends on, or that depend on it."""
    advice: Content | None = None
    """What the key for adjustments would change: `A sets hidden size 256`; None: nothing."""

    @property
    def key(self) -> str:
        """What the form finds it by."""
        return self.field.path

    @property
    def section(self) -> str:
        return self.field.section

    @property
    def changed(self) -> bool:
        """Whether its value differs from the base's."""
        return not is_same(self.value, self.base)

    @property
    def folds(self) -> bool:
        """Whether it is folded: it has no effect, no change and no problem."""
        return bool(self.idle) and not self.changed and self.problem is None

    def draw(self, width: int, *, active: bool, candidates: str = "") -> list[Content]:
        """Return its lines: with the cursor (`active`), the help below.

        Args:
            candidates: names that complete the path in its editor.
        """
        path = self.field.path
        room = max(0, width - BEFORE_BOX - BOX - 1)
        short = Content("") if self.problem is None else _wrong(short_message(self.problem))
        is_beside = short.cell_length <= room
        notes = self._notes(short if is_beside and not active else Content(""), room)
        has_key = width >= KEY_COLUMN and notes.cell_length + len(path) + KEY_GAP <= room
        style = f"bold {BRIGHT}" if active else BASELINE if self.idle else LABEL
        line = Content.assemble(
            ("● ", WARN) if self.changed else "  ",
            (self.field.title.ljust(TITLE), style),
            ("›", f"bold {TRAIN}") if active else " ",
            self._box(active),
            notes,
        )
        if has_key:
            gap = width - line.cell_length - len(path) - 1
            line = Content.assemble(line, " " * gap, (path, DIM if active else FAINT))
        below = [] if is_beside else [short]
        if active:
            below = self._help(max(20, width - MARK), "" if has_key else path)
        if candidates:
            below.insert(0, safe_content(candidates).stylize(TEXT))
        wrapped = [part for text in below for part in text.wrap(max(20, width - MARK))]
        indent = Content(" " * MARK)
        return [line.truncate(width, ellipsis=True), *(indent + part for part in wrapped)]

    def _help(self, width: int, path: str) -> list[Content]:
        """Return problem, advice, help, bounds, the path if it isn't beside, and other fields."""
        field, problem = self.field, self.problem
        in_help = all(choice in field.help for choice in field.choices)
        allowed = self.allowed if in_help else ", ".join(field.choices)
        related = f"depends on {', '.join(self.related)}" if self.related else ""
        tail = "  ".join(filter(None, (allowed, path, related)))
        whole = f"{field.help} {tail}".strip()
        words = [whole] if len(whole) <= width else [field.help, tail]
        lines = [Content.styled(text, DIM) for text in words if text]
        if problem is None:
            return lines
        is_said = self.advice or not problem.hint or problem.hint == self.allowed
        hint = "" if is_said else f"; {problem.hint}"
        wrong = _wrong(with_titles(problem.message + hint))
        return [wrong, *([self.advice] if self.advice else []), *lines]

    def _box(self, active: bool) -> Content:
        field = self.field
        bold = f"bold {BRIGHT}" if active else TEXT
        is_dim = self.idle or not shown_value(field, self.value)
        colour = BAD if self.problem else DIM if is_dim else bold
        background = SELECTED if active else FIELD
        opens = field.kind == "choice" and not self.locked
        room = BOX - 3 if opens else BOX - 1
        text = safe_text(self._shown(self.value), newlines="space")
        if len(text) > room:
            is_text = field.kind == "text"
            text = f"…{text[len(text) - room + 1 :]}" if is_text else f"{text[: room - 1]}…"
        return Content.assemble(
            (f" {text.ljust(room)}", f"{colour} on {background}"),
            (" ▾" if opens else "", f"{TEXT} on {background}"),
        )

    def _shown(self, value: object) -> str:
        """Return a value of this field, or what an empty one means."""
        return shown_value(self.field, value) or EMPTY_WORDS.get(self.field.path, "empty")

    def _notes(self, problem: Content, room: int) -> Content:
        """Return unit and problem, or what else is known of the value, in `room` cells."""
        unit, note = Content.styled(self.field.unit, DIM), problem
        if self.problem is None:
            text = self.idle or self.fact
            if self.other is not None:
                text = f"{self.other[0]} {self._shown(self.other[1])}"
            elif self.changed:
                text = f"was {self._shown(self.base)}"
            note = safe_content(text, newlines="space").stylize(DIM)
        parts = fitting([part for part in (unit, note) if part.plain], room, 2)
        return Content(" ") + Content("  ").join(parts).truncate(room, ellipsis=True)


def _wrong(words: str) -> Content:
    return Content.styled("✗ ", BAD) + safe_content(words).stylize(BAD)


@dataclass(frozen=True, slots=True)
class FoldRow:
    """A row for a section's fields without effect: their number and why. Enter unfolds them."""

    section: str
    reasons: Sequence[str]
    is_open: bool

    @property
    def key(self) -> str:
        """What the form finds it by."""
        return self.section

    def draw(self, width: int, *, active: bool, candidates: str = "") -> list[Content]:  # noqa: ARG002
        """Return its line: `5 more for news, elman; greedy`."""
        number = f"hide {len(self.reasons)}" if self.is_open else f"{len(self.reasons)} more"
        words, reasons = number, list(dict.fromkeys(self.reasons))
        for count in range(len(reasons), 0, -1):
            only = [reason.removesuffix(" only") for reason in reasons[:count] if " only" in reason]
            rest = [reason for reason in reasons[:count] if " only" not in reason]
            kinds = [f"for {', '.join(only)}"] if only else []
            words = f"{number} {'; '.join([*kinds, *rest])}{', …' if count < len(reasons) else ''}"
            if len(words) <= width - MARK - 2:
                break
        cursor = ("› " if active else "", f"bold {TRAIN}")
        row = Content.assemble("  ", cursor, (words, f"bold {BRIGHT}" if active else DIM))
        return [row.truncate(width, ellipsis=True)]
