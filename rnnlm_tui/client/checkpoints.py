"""A run's checkpoints as they are listed: rows with their marks, and the order of the rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from rnnlm_tui.errors import CheckpointError, InputError, NewerCheckpointError, did_you_mean
from rnnlm_tui.schema.metrics import CheckpointRow, perplexity
from rnnlm_tui.store.labels import RunLabels, read_labels
from rnnlm_tui.store.paths import RunDirectory, weights_name

Mark = Literal["damaged", "best", "last", "pinned", "averaged", "exported"]
CheckpointKey = Literal[
    "step", "epoch", "tokens", "ppl", "Δ best", "train", "size", "age", "mark", "note"
]
CHECKPOINT_KEYS: tuple[CheckpointKey, ...] = get_args(CheckpointKey)
"""The columns by which checkpoints are sorted, in the order in which a key cycles through them."""
COLUMN_NAMES = tuple("delta" if key == "Δ best" else key for key in CHECKPOINT_KEYS)
"""These columns as they are typed."""
MARK_SIGNS: Mapping[Mark, str] = {
    "damaged": "✗",
    "best": "★",
    "last": "▸",
    "pinned": "⚑",
    "averaged": "∑",
    "exported": "→",
}
"""In the order in which they are shown."""
_MOST_FIRST: frozenset[CheckpointKey] = frozenset({"step", "epoch", "tokens", "size"})


_BRIEF_PROBLEMS: Mapping[str, str] = {
    "SHA-256": "hash differs",
    "the manifest says": "size differs",
    " is missing": "file missing",
    "has no manifest": "no manifest",
    "header": "bad header",
}
"""What is wrong with a checkpoint, by a part of the message."""


@dataclass(frozen=True, slots=True)
class ListedCheckpoint:
    """A checkpoint in a list."""

    row: CheckpointRow
    marks: tuple[Mark, ...] = ()
    note: str = ""
    problem: str = ""
    """What is wrong with its files, in a sentence."""
    delta: float | None = None
    """Its validation perplexity minus that of the best; None if it wasn't evaluated."""

    @property
    def name(self) -> str:
        """As in an address: `1500`, or `average-1500`."""
        return weights_name(self.row.path)

    @property
    def label(self) -> str:
        """For people: `1,500`, or `average-1500`."""
        return self.name if self.is_average else f"{self.row.step:,}"

    @property
    def is_average(self) -> bool:
        """Whether these are averaged weights, which have no state to resume from."""
        return is_average_path(self.row.path)

    @property
    def brief_problem(self) -> str:
        """What is wrong, in a few words where that is possible."""
        for part, words in _BRIEF_PROBLEMS.items():
            if part in self.problem:
                return words
        return self.problem

    @property
    def perplexity(self) -> float | None:
        """Validation perplexity at this step; None if there was no evaluation."""
        loss = self.row.validation_loss
        return None if loss is None else perplexity(loss)


def is_average_path(path: str) -> bool:
    """Whether a row's path is that of an average."""
    return path.rpartition("/")[2].startswith("average-")


def weights_words(path: str, step: int) -> str:
    """A checkpoint for people: `step 1,500`, or an average by its name, `average-1500`."""
    return weights_name(path) if is_average_path(path) else f"step {step:,}"


def listed(
    rows: Iterable[CheckpointRow],
    labels: RunLabels,
    problems: Mapping[str, str],
) -> list[ListedCheckpoint]:
    """Add to each row its marks, its note, what is wrong with it, and its distance to the best
    checkpoint, which an average may be better than.

    Args:
        problems: what is wrong, by the row's path; empty texts count as none.
    """
    found = list(rows)
    exported = {export.step for export in labels.exports}
    of_steps = [row.validation_loss for row in found if not is_average_path(row.path)]
    finite = [loss for loss in of_steps if loss is not None and math.isfinite(loss)]
    best = perplexity(min(finite)) if finite else None
    items = []
    for row in found:
        average = is_average_path(row.path)
        applies: dict[Mark, bool] = {
            "damaged": bool(problems.get(row.path)),
            "best": row.best,
            "last": row.last,
            "pinned": row.step in labels.pins and not average,
            "averaged": average,
            "exported": row.step in exported and not average,
        }
        value = row.validation_loss
        items.append(
            ListedCheckpoint(
                row,
                tuple(mark for mark in MARK_SIGNS if applies[mark]),
                "" if average else labels.notes.get(row.step, ""),
                problems.get(row.path, ""),
                None if value is None or best is None else perplexity(value) - best,
            )
        )
    return items


def sorted_checkpoints(
    items: Iterable[ListedCheckpoint], key: CheckpointKey, *, backwards: bool = False
) -> tuple[ListedCheckpoint, ...]:
    """Sort by a column: furthest, largest, best or newest first, texts alphabetically.

    Checkpoints without a value come last in either order.

    Args:
        backwards: reverse the order.
    """
    marks = list(MARK_SIGNS)
    values: dict[CheckpointKey, Callable[[ListedCheckpoint], float | str | tuple[int, ...] | None]]
    values = {
        "step": lambda item: item.row.step,
        "epoch": lambda item: item.row.epoch,
        "tokens": lambda item: item.row.tokens_seen,
        "ppl": lambda item: item.perplexity,
        "Δ best": lambda item: item.delta,
        "train": lambda item: item.row.train_loss,
        "size": lambda item: item.row.bytes,
        "age": lambda item: -item.row.time,
        "mark": lambda item: tuple(map(marks.index, item.marks)) or None,
        "note": lambda item: item.note.casefold() or None,
    }
    newest_first = sorted(items, key=lambda item: item.row.step, reverse=True)

    def value(item: ListedCheckpoint) -> float | str | tuple[int, ...] | None:
        found = values[key](item)
        return None if isinstance(found, float) and math.isnan(found) else found

    with_value = [item for item in newest_first if value(item) is not None]
    with_value.sort(key=value, reverse=(key in _MOST_FIRST) != backwards)  # type: ignore[arg-type]
    return (*with_value, *(item for item in newest_first if value(item) is None))


def rises(key: CheckpointKey, *, backwards: bool = False) -> bool:
    """Whether values increase from row to row."""
    return (key in _MOST_FIRST) == backwards


def checkpoint_key(word: str) -> tuple[CheckpointKey, bool]:
    """The column of `--sort`, and whether a minus in front asks for descending values.

    Raises:
        InputError: there is no such column; suggests a similar one.
    """
    name, descending = word.removeprefix("-"), word.startswith("-")
    name = {"delta": "Δ best", "epochs": "epoch", "perplexity": "ppl", "bytes": "size"}.get(
        name, name
    )
    for key in CHECKPOINT_KEYS:
        if key == name:
            return key, descending
    raise InputError(
        f'unknown column "{name[:40]}"',
        hint=did_you_mean(name[:40], COLUMN_NAMES) or f"columns are {', '.join(COLUMN_NAMES)}",
    )


def quick_problems(run: RunDirectory, rows: Iterable[CheckpointRow]) -> dict[str, str]:
    """What is wrong with checkpoints by names and sizes of their files, by the row's path; costs
    little and misses flipped bits."""
    from rnnlm_tui.store.manifest import check_sizes

    found: dict[str, str] = {}
    for row in rows:
        folder = run.path / row.path
        try:
            check_sizes(folder)
        except NewerCheckpointError:
            continue
        except CheckpointError as error:
            if folder.is_dir():  # a running worker may have removed it
                found[row.path] = short_problem(error.message, folder)
    return found


def short_problem(message: str, folder: object) -> str:
    """A verification's message without the checkpoint's path."""
    return message.replace(f"{folder}/", "").replace(f"{folder} ", "")


def rows_on_disk(run: RunDirectory) -> list[CheckpointRow]:
    """The checkpoints that a run has now, then its averages, each by step.

    Raises:
        StorageError: a log or a folder can't be read.
    """
    from rnnlm_tui.store.averages import list_averages
    from rnnlm_tui.store.checkpoints import read_checkpoints

    return [*read_checkpoints(run), *(entry.row() for entry in list_averages(run))]


def list_run(run: RunDirectory) -> list[ListedCheckpoint]:
    """A run's checkpoints with everything that is listed, newest first.

    Raises:
        StorageError: a log or a folder can't be read.
    """
    rows = rows_on_disk(run)
    items = listed(rows, read_labels(run), quick_problems(run, rows))
    return list(sorted_checkpoints(items, "step"))
