"""The messages between `bench` and its child processes, and its JSON report."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from rnnlm_tui.schema.config import RunConfig

FORMAT = 1
"""Version of the JSON report; increased when a field changes its meaning."""

SAMPLED_TOKENS = 200
"""Tokens of one continuation; the naive way reruns the whole text for each, so its cost grows with
them."""

COMPARED_TOKENS = 20
"""Tokens of the warm-up continuation, by which greedy ways are compared; later tokens may differ
where two logits are equal within rounding.
"""

Role = Literal[
    "corpus",
    "machine",
    "naive training",
    "library training",
    "engine training",
    "naive sampling",
    "engine sampling",
]
Numbers = Literal["float32", "tf32", "medium", "bf16"]
"""Number format of the matrix products; `medium` rounds their inputs to bf16, `tf32` to 19 bits."""


class _BenchMessage(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BenchTask(_BenchMessage):
    """The first line to a child: what it measures until it ends."""

    kind: Literal["task"] = "task"
    role: Role
    config: RunConfig
    folder: str = ""
    """The prepared corpus; for the role `corpus`, the folder in which to build one."""
    vocab_size: int = 0
    """Of the model; at least that of the corpus."""
    weights: str = ""
    """safetensors file with the weights of a sampling task; empty: newly initialized."""


class TurnRequest(_BenchMessage):
    """Compute for about this long, at least one step or continuation."""

    kind: Literal["turn"] = "turn"
    seconds: float
    least: int = 1
    """Minimum of steps or continuations."""
    tokens: int = SAMPLED_TOKENS
    """Of each continuation."""


class SaveRequest(_BenchMessage):
    """Write the weights to a safetensors file."""

    kind: Literal["save"] = "save"
    path: str


class CorpusProgress(_BenchMessage):
    """Progress while the corpus is prepared."""

    kind: Literal["preparing"] = "preparing"
    phase: str
    done: int
    """Bytes."""
    total: int
    """Bytes; 0 when unknown."""


class TaskReady(_BenchMessage):
    """The task is set up and has computed nothing yet."""

    kind: Literal["ready"] = "ready"
    threads: int = 0
    numbers: Numbers = "float32"
    notes: tuple[str, ...] = ()


class TurnDone(_BenchMessage):
    """One turn of a training or sampling task."""

    kind: Literal["turned"] = "turned"
    steps: int
    """Optimizer updates or continuations."""
    tokens: int
    """Training targets or sampled tokens."""
    seconds: float
    peak_bytes: int
    """Peak memory so far: of the process on a CPU, of torch's allocator on a GPU."""
    first: float | None = None
    """Training: loss of the first step, before its update. Sampling: seconds to the first token."""
    ids: tuple[int, ...] = ()
    """The first tokens of a continuation."""
    note: str = ""
    """An observation on the way, in words."""


class Saved(_BenchMessage):
    """The weights are written."""

    kind: Literal["saved"] = "saved"


class MachineSurvey(_BenchMessage):
    """The device and its capabilities."""

    kind: Literal["survey"] = "survey"
    device: str
    """`cpu, 2 threads`."""
    device_type: str
    torch: str
    threads: int
    memory_free: int
    """Bytes that a new process could allocate; on a GPU, of its memory."""
    numbers: tuple[Numbers, ...]
    """Number formats in which this device multiplies matrices."""
    auto: Numbers
    """The format that `training.matmul = auto` chooses here for this head."""


class MachineTurn(_BenchMessage):
    """Speeds reached in one turn of the machine task."""

    kind: Literal["peaks"] = "peaks"
    gflops: dict[Numbers, float]
    """Speed of matrix products."""
    bandwidth: float
    """Bytes per second when reading a large array with all threads."""
    bandwidth_one: float
    """With one thread; equal to `bandwidth` on a GPU."""


class BenchData(_BenchMessage):
    """The training text."""

    kind: Literal["data"] = "data"
    title: str
    """`57 State of the Union addresses`."""
    own: bool
    """The preset's own corpus; False: a built-in one instead, since the preset's isn't on this
    machine."""
    tokenizer: str
    folder: str
    corpus_vocab_size: int
    vocab_size: int
    """Of the model."""
    tokens_per_step: float
    """Targets that count."""
    used: float
    """Share of positions that aren't padding."""
    steps_per_epoch: int


class Spread(_BenchMessage):
    """Median and quartiles of the turns."""

    median: float
    low: float
    """Lower quartile."""
    high: float
    """Upper quartile."""


class TrainingFigures(_BenchMessage):
    """One way to train."""

    name: str
    numbers: Numbers
    threads: int
    tokens_per_second: Spread
    """Non-padding tokens over training time."""
    ratio: Spread
    """To the naive loop, by turns of the same round."""
    ratio_to_library: Spread | None
    """To torch's own layers with all logits; None: torch has no such layer."""
    peak_bytes: int
    peak_share: float
    """Share of the naive loop's peak."""
    gflops: float
    """GFLOP/s that the tokens need; padding isn't counted."""
    gemm_share: float
    """Share of the measured matmul peak in the same number format."""
    first_loss: float
    """Loss of the first step, with the same weights and batch for every way."""
    first_tokens: int
    """Targets of the warm-up steps, the same for every way."""
    turns: int
    steps: int
    """Of all turns."""
    epoch_seconds: float | None = None
    """Seconds of one pass over the preset's own data at this speed; None: its size is unknown."""


class SamplingFigures(_BenchMessage):
    """One way to continue a prompt by `SAMPLED_TOKENS` tokens."""

    name: str
    greedy: bool
    threads: int
    turns: int
    tokens_per_second: Spread
    ratio: Spread
    """To the naive way of the same kind (sampled or greedy)."""
    first_token_seconds: float
    """Median."""
    bandwidth_share: float
    """Bytes of weights read per token, as a share of the bandwidth with as many threads; above 1 if
    cached."""
    same_tokens: bool | None = None
    """Greedy ways: whether the first tokens equal those of the naive way with the same weights."""


class NeighbourFigures(_BenchMessage):
    """Training alone and next to one busy process, in tokens per second."""

    alone_default: Spread
    """In torch's default environment."""
    alone_ours: Spread
    """In the environment of our runs."""
    beside_default: Spread
    beside_ours: Spread
    kept_default: Spread
    """Share of the speed that remains next to a busy process."""
    kept_ours: Spread
    alone_ratio: Spread
    """Ours over the default, alone."""


class MachineFigures(_BenchMessage):
    """The device and its measured limits."""

    device: str
    torch: str
    threads: int
    auto: Numbers
    """Number format of a run with `training.matmul = auto`."""
    gflops: dict[Numbers, float]
    bandwidth: float
    bandwidth_one: float


class BenchReport(_BenchMessage):
    """The result of one `bench`."""

    format: int = FORMAT
    version: str
    preset: str
    seconds: float
    """Computing time per way."""
    others_cores: float
    """Cores that other processes used meanwhile; above a few tenths, speeds are too low and ratios
    less certain."""
    machine: MachineFigures
    data: BenchData
    training: tuple[TrainingFigures, ...]
    sampling: tuple[SamplingFigures, ...]
    neighbour: NeighbourFigures | None = None
    notes: tuple[str, ...] = Field(default=())
    """Remarks for the reader, one sentence each."""


def naive_memory_bytes(positions: int, vocab_size: int, parameters: int) -> int:
    """Peak memory of training with all logits.

    In float32: logits, their logarithms and gradient (3.5 times the logits, measured), weights with
    gradient and moments, and torch itself.
    """
    return int(4 * (3.5 * positions * vocab_size + 4 * parameters)) + 400_000_000
