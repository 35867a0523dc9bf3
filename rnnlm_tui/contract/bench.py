"""What `bench` measures: the tasks of its child processes, what they answer, and the report with its JSON contract."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from rnnlm_tui.contract.config import RunConfig

FORMAT = 1
"""Of the JSON report; raised when a field changes its meaning."""

SAMPLED_TOKENS = 200
"""Tokens of one continuation: the naive way's cost grows with them, since it runs the whole text again for each."""

COMPARED_TOKENS = 20
"""Tokens of the continuation that warms a way up, by which greedy ways are compared; later ones may differ where two logits are equal to rounding."""

Role = Literal["corpus", "machine", "naive training", "library training", "engine training", "naive sampling", "engine sampling"]
Numbers = Literal["float32", "tf32", "medium", "bf16"]
"""What the matrix products compute with; `medium` rounds their inputs to bf16, `tf32` to 19 bits."""


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BenchTask(_Message):
    """The first line that a child gets: what it measures for the rest of its life."""

    kind: Literal["task"] = "task"
    role: Role
    config: RunConfig
    folder: str = ""
    """The prepared corpus; for the role `corpus` the folder in which one may be built."""
    vocab_size: int = 0
    """Of the model; at least the corpus's."""
    weights: str = ""
    """safetensors file whose weights a sampling task draws with; empty: fresh ones."""


class TurnRequest(_Message):
    """Compute for about so long; at least one step, or one continuation."""

    kind: Literal["turn"] = "turn"
    seconds: float
    least: int = 1
    """Steps or continuations at least."""
    tokens: int = SAMPLED_TOKENS
    """Of each continuation."""


class SaveRequest(_Message):
    """Write the weights to a safetensors file."""

    kind: Literal["save"] = "save"
    path: str


class Preparing(_Message):
    """How far the text is, as long as it is prepared."""

    kind: Literal["preparing"] = "preparing"
    phase: str
    done: int
    """Bytes."""
    total: int
    """Bytes; 0 when unknown."""


class TaskReady(_Message):
    """Set up; nothing was computed yet."""

    kind: Literal["ready"] = "ready"
    threads: int = 0
    numbers: Numbers = "float32"
    notes: tuple[str, ...] = ()


class TaskFailed(_Message):
    """The task or the turn can't be done."""

    kind: Literal["failed"] = "failed"
    message: str
    hint: str = ""
    exit_code: int = 1


class TurnDone(_Message):
    """One turn of a training or sampling task."""

    kind: Literal["turned"] = "turned"
    steps: int
    """Optimizer updates, or continuations."""
    tokens: int
    """Targets that count, or tokens drawn."""
    seconds: float
    peak_bytes: int
    """Highest memory so far: of the process on a CPU, of torch's allocator on a GPU."""
    first: float | None = None
    """Loss of the turn's first step, before its update; a sampling task's seconds to the first token."""
    ids: tuple[int, ...] = ()
    """The first tokens of a continuation."""
    note: str = ""
    """What was found out on the way, in words."""


class Saved(_Message):
    """The weights are on disk."""

    kind: Literal["saved"] = "saved"


class MachineSurvey(_Message):
    """What the device is and can do."""

    kind: Literal["survey"] = "survey"
    device: str
    """For people: `cpu, 2 threads`."""
    device_type: str
    torch: str
    threads: int
    memory_free: int
    """Bytes that a new process could take; on a GPU, of its memory."""
    numbers: tuple[Numbers, ...]
    """Ways to multiply matrices that this device has."""
    auto: Numbers
    """The way that `training.matmul = auto` takes here for this head."""


class MachineTurn(_Message):
    """Speeds reached in one turn of the machine task."""

    kind: Literal["peaks"] = "peaks"
    gflops: dict[Numbers, float]
    """Matrix products, 10^9 floating-point operations a second."""
    bandwidth: float
    """Bytes a second read from a large array with all threads."""
    bandwidth_one: float
    """With one thread; on a GPU the same."""


class BenchData(_Message):
    """What text was trained on."""

    kind: Literal["data"] = "data"
    title: str
    """For people: `57 State of the Union addresses`."""
    own: bool
    """The preset's own corpus; False: another one in its place, since that one is not on this machine."""
    tokenizer: str
    folder: str
    corpus_vocab_size: int
    vocab_size: int
    """Of the model."""
    tokens_per_step: float
    """Targets that count."""
    used: float
    """Share of the positions that count, the rest is padding."""
    steps_per_epoch: int


class Spread(_Message):
    """The quartiles of what was measured in turns."""

    median: float
    low: float
    """A quarter of the turns is below."""
    high: float
    """A quarter of the turns is above."""


class TrainingFigures(_Message):
    """One way to train."""

    name: str
    numbers: Numbers
    threads: int
    tokens_per_second: Spread
    """Non-padding tokens over training time."""
    ratio: Spread
    """To the naive loop, of turns of the same round."""
    ratio_to_library: Spread | None
    """To torch's own layers with all logits; None where torch has no such layer."""
    peak_bytes: int
    peak_share: float
    """Of the naive loop's."""
    gflops: float
    """10^9 floating-point operations a second that the tokens need; what padding costs is not counted."""
    gemm_share: float
    """Of the matrix product's measured peak with the same numbers."""
    first_loss: float
    """Of the first step: the same weights and the same batch everywhere."""
    first_tokens: int
    """Targets of the steps before the measured turns, the same everywhere."""
    turns: int
    steps: int
    """In these turns."""
    epoch_seconds: float | None = None
    """One pass over the preset's own data at this speed; None where its size is not known."""


class SamplingFigures(_Message):
    """One way to continue a prompt, `SAMPLED_TOKENS` tokens each time."""

    name: str
    greedy: bool
    threads: int
    turns: int
    tokens_per_second: Spread
    ratio: Spread
    """To the naive way of the same kind (drawn or greedy)."""
    first_token_seconds: float
    """Median."""
    bandwidth_share: float
    """Bytes of weights that a token must read, as a share of the bandwidth with as many threads; above 1 where a cache holds them."""
    same_tokens: bool | None = None
    """Greedy ways: whether the first tokens are those of the naive way, from the same weights."""


class NeighbourFigures(_Message):
    """Training alone and beside one busy process; tokens a second."""

    alone_default: Spread
    """In torch's default environment."""
    alone_ours: Spread
    """In the environment that runs get here."""
    beside_default: Spread
    beside_ours: Spread
    kept_default: Spread
    """Share of the speed alone that is left beside a busy process."""
    kept_ours: Spread
    alone_ratio: Spread
    """Ours over the default's, alone."""


class MachineFigures(_Message):
    """The device and its measured limits."""

    device: str
    torch: str
    threads: int
    auto: Numbers
    """What a run with `training.matmul = auto` multiplies in here."""
    gflops: dict[Numbers, float]
    bandwidth: float
    bandwidth_one: float


class BenchReport(_Message):
    """All of one `bench`."""

    format: int = FORMAT
    version: str
    preset: str
    seconds: float
    """Computing time of each way."""
    others_cores: float
    """Cores that other processes held meanwhile: above a few tenths, speeds are too low and ratios less certain."""
    machine: MachineFigures
    data: BenchData
    training: tuple[TrainingFigures, ...]
    sampling: tuple[SamplingFigures, ...]
    neighbour: NeighbourFigures | None = None
    notes: tuple[str, ...] = Field(default=())
    """What a reader should know, a sentence each."""


def naive_memory_bytes(positions: int, vocab_size: int, parameters: int) -> int:
    """Peak of a process that trains with all logits: them, their logarithms and their gradient in float32 (3.5 times measured), weights with gradient and moments, torch itself."""
    return int(4 * (3.5 * positions * vocab_size + 4 * parameters)) + 400_000_000
