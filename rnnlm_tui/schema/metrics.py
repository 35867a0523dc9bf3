"""The rows that a run records, and the metrics computed from them."""

import math
from collections.abc import Sequence
from itertools import pairwise
from operator import attrgetter
from typing import Literal, NamedTuple

from rnnlm_tui.schema.record import Record

EventKind = Literal[
    "started", "preparing", "running", "paused", "resumed", "stopped", "finished", "failed",
    "checkpoint", "best", "evaluation", "sample", "setting", "skipped", "spike", "degraded",
    "recovered", "health", "note",
]  # fmt: skip
"""Kinds of events; the first eight change the state.

`started` begins the first attempt and `resumed` later ones; `stopped`, `finished` and `failed` end
one; `running` follows `preparing` and `paused`. `skipped`: updates skipped because loss or gradient
was not finite; `spike`: the loss jumped; `degraded`: rows can't be stored and are kept in memory;
`recovered`: rows are stored again; `health`: a figure of the net's health left its range.
"""

Phase = Literal[
    "downloading",
    "unpacking",
    "reading",
    "tokenizer",
    "encoding",
    "baseline",
    "checking",
    "connecting",
    "building",
    "rehearsing",
    "evaluating",
]
"""What a run does before its first step.

In the last three, it builds the model and tests the largest step and the largest evaluation.
"""

MACHINE_COLUMNS: tuple[str, ...] = (
    "cpu_percent", "process_cpu_percent", "memory_used", "process_memory", "disk_free",
    "gpu_percent", "gpu_memory_used", "gpu_memory_own", "gpu_watts", "gpu_celsius",
)  # fmt: skip
"""The values of a `HardwareRow` shown in charts and stored in roll-ups."""
machine_values = attrgetter(*(name.replace("gpu_", "gpu.") for name in MACHINE_COLUMNS))
"""These values of a row."""

MAX_UNKNOWN_SHARE = 1e-3
"""Bits per byte aren't computed if a larger fraction of the tokens is unknown."""

SAME_BYTES = 0.001
"""Bits per byte are of the same text if the scored bytes differ by at most this share: those of the
first token of a stream, or of rare unknown words."""

SUMMARY_VERSION = 1
"""Of the summaries in logs. Raise it when a summary says something else of the same run."""

SEEDS = 2**63
"""Seeds of samples are below this; consecutive ones continue from 0."""

SMOOTHED_STEPS = 50
"""The training loss of a summary and of a checkpoint is the mean of up to this many newest steps.
"""


STATE_EVENTS: frozenset[EventKind] = frozenset(
    {"started", "preparing", "running", "paused", "resumed", "stopped", "finished", "failed"}
)
"""Kinds of events that change a run's state."""


class AttemptRow(NamedTuple):
    """One worker's attempt at the run."""

    attempt: int
    pid: int
    host: str
    boot_id: str
    device: str
    start_step: int
    """The attempt resumed after this step; 0: from the start."""
    environment: dict[str, object]
    """Versions, threads and settings, as the worker reported them."""
    started: float
    """Unix seconds."""


class StartRow(NamedTuple):
    """An attempt starts after an earlier step than it said: that checkpoint is damaged."""

    attempt: int
    step: int


class CommandRow(NamedTuple):
    """A command and its answer."""

    attempt: int
    id: str
    verb: str
    arguments: dict[str, object]
    result: dict[str, object]
    time: float


class SummaryRow(NamedTuple):
    """The run's summary at the end of an attempt; a shortcut for lists."""

    version: int
    summary: dict[str, object]
    """Fields of `RunSummary`, without those of files that may change later."""
    checkpoints: list[int]
    """The steps on disk."""


class StepRow(NamedTuple):
    """One optimizer step: its place in the run, and its metrics."""

    attempt: int
    step: int
    """1-based."""
    tokens_seen: int
    """Non-padding training tokens so far in the run."""
    epoch: float
    """Passes over the training set so far."""
    loss: float
    """Mean cross-entropy per non-padding token in nats; may be NaN or inf."""
    grad_norm: float
    """L2 norm before clipping."""
    learning_rate: float
    tokens_per_second: float
    """Non-padding tokens divided by this step's training time."""
    active_seconds: float
    """Training time of the run so far, without evaluations, checkpoints and pauses."""
    time: float
    """Unix seconds."""


STEP_PLACE = ("step", "tokens_seen", "epoch", "active_seconds", "time")
"""The fields of a step that say where it is in the run."""
METRIC_COLUMNS: tuple[str, ...] = tuple(
    name for name in StepRow._fields if name not in ("attempt", *STEP_PLACE)
)
"""The metrics of a step, shown in charts; roll-ups store their n, min, max and sum."""


class EvaluationRow(NamedTuple):
    """One evaluation of a set."""

    attempt: int
    step: int
    split: Literal["validation", "test"]
    name: str
    """The evaluated set: `validation`, `test`, or `first 1,024 test sentences`."""
    loss: float
    tokens: int
    """Scored targets."""
    bits_per_byte: float | None
    """From `bits_per_byte()`, of the scored tokens."""
    seconds: float
    time: float
    unknown: int | None = None
    """Scored targets that are the unknown token; None: not counted, as below."""
    scored_bytes: int | None = None
    """UTF-8 bytes of the scored targets; 0 if the tokenizer doesn't keep the text."""
    text_bytes: int | None = None
    """UTF-8 bytes of the evaluated set."""

    @property
    def scored_share(self) -> float | None:
        """Fraction of the set's bytes that were scored; None if not counted."""
        return scored_share(self.scored_bytes, self.text_bytes)

    @property
    def unknown_share(self) -> float | None:
        """Fraction of unknown tokens among the scored targets; None if not counted."""
        return None if self.unknown is None or not self.tokens else self.unknown / self.tokens

    @property
    def perplexity(self) -> float:
        """exp of the token-weighted mean loss."""
        return perplexity(self.loss)


class SampleRow(NamedTuple):
    """A continuation of a prompt."""

    attempt: int
    step: int
    prompt: str
    text: str
    """The continuation, without the prompt."""
    tokens: int
    seed: int | None
    """None when greedy."""
    time: float


class EventRow(NamedTuple):
    """An event in the run's log."""

    attempt: int
    step: int
    kind: EventKind
    text: str
    time: float


CARD_LOST = "card lost"
"""`GpuRow.fault` of a card that fell off the bus: only a reboot or another machine helps."""


class GpuRow(NamedTuple):
    """A GPU at one moment, in bytes, percent, watts, °C and MHz; None if not reported."""

    index: int | None = None  # type: ignore[assignment]  # a tuple's method
    """The driver's index of the card; None: unknown."""
    name: str | None = None
    percent: float | None = None
    memory_used: int | None = None
    memory_own: int | None = None
    """Memory used by the worker."""
    memory_total: int | None = None
    watts: float | None = None
    celsius: float | None = None
    watts_limit: float | None = None
    clock_mhz: float | None = None
    """Clock of the multiprocessors."""
    clock_max_mhz: float | None = None
    throttle: str | None = None
    """What keeps the clock down: `power cap, thermal slowdown`; empty: nothing."""
    fault: str | None = None
    """What is wrong with the card: `card lost`, `Xid 79: off the bus`; None: nothing known."""


class HardwareRow(NamedTuple):
    """The machine at one moment, in bytes, percent, watts, °C and MHz; None if unknown."""

    time: float
    cpu_percent: float
    """CPU usage of the cores available to the worker."""
    process_cpu_percent: float
    """The worker's part of `cpu_percent`; the rest is used by other processes."""
    memory_used: int
    memory_total: int
    process_memory: int
    disk_free: int
    gpu: GpuRow = GpuRow()
    """The GPU used for training."""
    other_gpus: tuple[GpuRow, ...] = ()
    """The machine's other GPUs."""


class RankReading(Record):
    """One of the processes that train together, over the last few seconds; None if unknown."""

    STRICT = False  # a log has `inf` and `nan` as text
    EXTRA = "ignore"

    rank: int
    """From 0; rank 0 is the run's worker."""
    host: str
    device: str = ""
    """The name of its GPU; empty: it computes on the CPU."""
    tokens_per_second: float | None = None
    """Of its own share of the batches."""
    use: float | None = None
    """Percent of the GPU, or of the cores available to it."""
    memory: int | None = None
    """Bytes that the process uses, on the GPU if it has one."""
    memory_total: int | None = None
    waiting: float | None = None
    """Share of its time, 0 to 1, that it waited for other ranks."""

    @property
    def pace(self) -> float:
        """Tokens per second while it doesn't wait; infinite if unknown."""
        speed, busy = self.tokens_per_second, 1 - (self.waiting or 0.0)
        return math.inf if speed is None or not busy > 0 else speed / busy


class RanksRow(NamedTuple):
    """All processes that train together, at one moment."""

    attempt: int
    step: int
    ranks: tuple[RankReading, ...]
    """By rank."""
    time: float
    """Unix seconds."""


class CheckpointRow(NamedTuple):
    """A checkpoint in a list."""

    attempt: int
    step: int
    epoch: float
    tokens_seen: int
    train_loss: float
    validation_loss: float | None
    """From the evaluation at the same step; None if there was none."""
    bytes: int
    path: str
    """Relative to the run directory."""
    best: bool
    last: bool
    time: float


class Progress(NamedTuple):
    """Progress before the first step: preparing the corpus, then building and testing the model."""

    phase: Phase
    done: int = 0
    """Bytes of the archive or the text; 0 once the corpus is prepared."""
    total: int = 0
    """Bytes of the archive or the text; 0 if unknown."""


def slowest_rank(ranks: Sequence[RankReading]) -> RankReading | None:
    """The rank for which the others wait; None if no speed is known."""
    known = [rank for rank in ranks if math.isfinite(rank.pace)]
    return min(known, key=attrgetter("pace"), default=None)


def evaluations_during_run(rows: Sequence[EvaluationRow], split: str) -> list[EvaluationRow]:
    """The evaluations of `split` during the run, one per step.

    All are of the set evaluated first; the evaluation at the end may use a larger set.
    """
    of_split = [row for row in rows if row.split == split]
    of_set = [row for row in of_split if row.name == of_split[0].name]
    if all(before.step < after.step for before, after in pairwise(of_set)):
        return of_set
    latest = {row.step: row for row in of_set}
    return [latest[step] for step in sorted(latest)]


def evaluations_without_improvement(rows: Sequence[EvaluationRow]) -> int:
    """The number of newest validation evaluations without a new lowest loss."""
    waited, best = 0, math.inf
    for row in evaluations_during_run(rows, "validation"):
        waited, best = (0, row.loss) if row.loss < best else (waited + 1, best)
    return waited


def bits_per_byte(loss: float, tokens: int, unknown: int, scored_bytes: int) -> float | None:
    """Bits per byte of text; None if more than MAX_UNKNOWN_SHARE of the targets are unknown tokens,
    or no bytes were scored.

    An unknown token costs few bits however long its word is, so a vocabulary of ten words would
    beat a character model. We don't guess the cost of unknown words, so above the limit there is no
    result. Below it the unknown token counts with its own cost. The result is then less than 1 %
    too low, even if every unknown word has eight bytes and its token costs nothing.

    Args:
        loss: mean nats per scored target.
        scored_bytes: UTF-8 bytes of the scored targets.
    """
    if unknown > MAX_UNKNOWN_SHARE * tokens or not scored_bytes:
        return None
    return loss * tokens / math.log(2) / scored_bytes


def scored_share(scored_bytes: int | None, text_bytes: int | None) -> float | None:
    """The fraction of a text's bytes that were scored; None if not counted."""
    return None if scored_bytes is None or not text_bytes else scored_bytes / text_bytes


def perplexity(loss: float) -> float:
    """exp(loss); infinite if that overflows a float."""
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf
