"""What a run reports: one frozen row for each kind of fact, and the words for figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

EventKind = Literal[
    "started", "preparing", "running", "paused", "resumed", "stopped", "finished", "failed",
    "checkpoint", "best", "evaluation", "sample", "setting", "skipped", "spike", "degraded", "recovered", "note",
]  # fmt: skip
"""`started` opens an attempt; `stopped`, `finished` and `failed` end one; `running` follows `preparing` and a pause; `resumed` opens a later attempt; the rest are facts.
`skipped`: updates were left out, loss or gradient was not finite; `spike`: the loss jumped; `degraded` and `recovered`: rows wait in memory, rows are stored again."""

Phase = Literal["downloading", "unpacking", "reading", "tokenizer", "encoding", "baseline", "checking", "building", "rehearsing", "evaluating"]
"""What a run does before its first step. The last three: it builds the model, rehearses the largest step, and then the largest evaluation."""

METRIC_COLUMNS: tuple[str, ...] = ("loss", "grad_norm", "learning_rate", "tokens_per_second")
"""The columns of a step's row that charts draw and that the roll-ups keep n, min, max and sum of."""

MACHINE_COLUMNS: tuple[str, ...] = (
    "cpu_percent", "process_cpu_percent", "memory_used", "process_memory", "disk_free",
    "gpu_percent", "gpu_memory_used", "gpu_memory_own", "gpu_watts", "gpu_celsius",
)  # fmt: skip
"""The same of the machine's figures, `HardwareRow`."""

MAX_UNKNOWN_SHARE = 1e-3
"""An evaluated text with a larger share of unknown tokens has no bits-per-byte figure."""

SMOOTHED_STEPS = 50
"""The training loss of a summary and of a checkpoint is the mean of so many newest steps at most."""


@dataclass(frozen=True, slots=True)
class StepRow:
    """One optimizer update."""

    attempt: int
    step: int
    """1-based."""
    tokens_seen: int
    """Non-padding training tokens so far in the whole run."""
    epoch: float
    """Passes over the training set so far."""
    loss: float
    """Mean cross-entropy per non-padding token, nats; NaN or inf is kept as such (flagged in the database)."""
    grad_norm: float
    """L2 norm before clipping."""
    learning_rate: float
    tokens_per_second: float
    """Non-padding tokens over training time of this step."""
    active_seconds: float
    """Training time of the run so far, without evaluation, checkpoints and pauses."""
    time: float
    """Wall clock, Unix seconds."""


@dataclass(frozen=True, slots=True)
class EvaluationRow:
    """One evaluation of one set."""

    attempt: int
    step: int
    split: Literal["validation", "test"]
    name: str
    """`validation`, `test`, or `first 1,024 test sentences`: what exactly was evaluated."""
    loss: float
    tokens: int
    """Scored targets."""
    bits_per_byte: float | None
    """From `bits_per_byte`; None if the text has too many unknown tokens."""
    seconds: float
    time: float
    unknown: int | None = None
    """Scored targets that are the unknown token; None in rows of earlier versions, which did not count them."""

    @property
    def unknown_share(self) -> float | None:
        """Fraction of the scored targets that is unknown; None if it wasn't counted."""
        return None if self.unknown is None or not self.tokens else self.unknown / self.tokens

    @property
    def perplexity(self) -> float:
        """exp of the token-weighted mean loss."""
        return perplexity(self.loss)


@dataclass(frozen=True, slots=True)
class SampleRow:
    """A continuation of a prompt."""

    attempt: int
    step: int
    prompt: str
    text: str
    """The continuation alone, without the prompt."""
    tokens: int
    seed: int | None
    """None when greedy."""
    time: float


@dataclass(frozen=True, slots=True)
class EventRow:
    """A fact in the run's log."""

    attempt: int
    step: int
    kind: EventKind
    text: str
    time: float


@dataclass(frozen=True, slots=True)
class GpuRow:
    """One GPU at one moment, in bytes, percent, watts and degrees Celsius; None if the driver doesn't report a figure."""

    index: int | None = None
    """The driver's index of the card; None for the card that is read on its own."""
    name: str | None = None
    percent: float | None = None
    memory_used: int | None = None
    memory_own: int | None = None
    """Held by this process: the worker's own memory."""
    memory_total: int | None = None
    watts: float | None = None
    celsius: float | None = None


@dataclass(frozen=True, slots=True)
class HardwareRow:
    """The machine at one moment; None where it can't be told. Bytes, percent, watts, degrees Celsius."""

    time: float
    cpu_percent: float
    """Busy part of the cores that the worker may use, in percent of all of them."""
    process_cpu_percent: float
    """Of the same cores, this worker alone; what is left of `cpu_percent` is what others take from it."""
    memory_used: int
    memory_total: int
    process_memory: int
    disk_free: int
    gpu_name: str | None = None
    gpu_percent: float | None = None
    gpu_memory_used: int | None = None
    gpu_memory_own: int | None = None
    gpu_memory_total: int | None = None
    gpu_watts: float | None = None
    gpu_celsius: float | None = None
    other_gpus: tuple[GpuRow, ...] = ()
    """The machine's other cards; the `gpu_` figures are those of the card that the run trains on."""


@dataclass(frozen=True, slots=True)
class CheckpointRow:
    """One checkpoint on disk, as the index knows it."""

    attempt: int
    step: int
    epoch: float
    tokens_seen: int
    train_loss: float
    validation_loss: float | None
    """Of the evaluation at the same step; None when there was none."""
    bytes: int
    path: str
    """Relative to the run directory."""
    best: bool
    last: bool
    time: float


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is before its first step: the fetching and building of its corpus, then its model and the rehearsal."""

    phase: Phase
    done: int = 0
    """Bytes of the archive or the text; 0 once the corpus is there."""
    total: int = 0
    """Bytes of the archive or the text; 0 when unknown."""


def evaluations_during_run(rows: Sequence[EvaluationRow], split: str) -> list[EvaluationRow]:
    """The evaluations of `split` that a run is judged by, one a step: of the set that was measured first, for the whole set at the end may be a larger one."""
    of_split = [row for row in rows if row.split == split]
    of_set = [row for row in of_split if row.name == of_split[0].name]
    if all(before.step < after.step for before, after in pairwise(of_set)):
        return of_set
    latest = {row.step: row for row in of_set}
    return [latest[step] for step in sorted(latest)]


def evaluations_without_improvement(rows: Sequence[EvaluationRow]) -> int:
    """How many evaluations of the validation set in a row, up to the newest, brought no lower loss than one before them; a loss that isn't finite is never lower."""
    waited, best = 0, math.inf
    for row in evaluations_during_run(rows, "validation"):
        waited, best = (0, row.loss) if row.loss < best else (waited + 1, best)
    return waited


def bits_per_byte(loss: float, tokens: int, unknown: int, text_bytes: float) -> float | None:
    """Bits of all scored targets per byte of their text; None if more than MAX_UNKNOWN_SHARE of the targets are unknown tokens.

    The unknown token costs few bits however long the word it replaces, so a vocabulary of ten words would beat a character model.
    We don't guess the cost of the hidden words; above the limit there is no figure. Below it, the unknown token counts with its own
    cost, which makes the figure less than 1 % too low even if every hidden word has eight bytes and its token costs nothing.

    Args:
        loss: mean nats per scored target.
        text_bytes: UTF-8 bytes of the text that was scored.
    """
    return None if unknown > MAX_UNKNOWN_SHARE * tokens else loss * tokens / math.log(2) / text_bytes


def perplexity(loss: float) -> float:
    """exp(loss), infinite where that overflows a float."""
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf
