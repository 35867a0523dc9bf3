"""What a probe of a config tells: its progress, its figures, and the calibration that later estimates go by."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

Fact = str | int | float | bool


class Calibration(BaseModel):
    """How fast and how large the training of one shape was on one machine."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    host: str
    device: Literal["cpu", "cuda", "mps"]
    device_name: str
    """For people: `cuda:0 NVIDIA H100`, `cpu, 2 threads`."""
    threads: int
    """CPU threads that computed."""
    shape: dict[str, Fact]
    """All that decides the memory of a step, as `contract.memory.memory_shape` tells it."""
    steps: int
    """Steps that were measured, after the warm-up."""
    flops_per_step: float
    """By `contract.estimates.flops_per_token` and the tokens that counted."""
    step_seconds: float
    """Mean."""
    tokens_per_second: float
    """Non-padding tokens."""
    memory_bytes: int
    """Most that was held in a step or an evaluation: by the process on a CPU, by its tensors on a GPU."""
    process_bytes: int
    """Held by the process before there was a model; 0 on a GPU."""
    versions: dict[str, str]
    time: float
    """Wall clock, Unix seconds."""

    @property
    def cell_type(self) -> str:
        return str(self.shape.get("cell_type", ""))

    @property
    def flops_per_second(self) -> float:
        return self.flops_per_step / self.step_seconds


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ProbeProgress(_Message):
    """What a probe is at."""

    kind: Literal["progress"] = "progress"
    phase: str
    """A phase of the corpus, `warm-up` or `steps`."""
    done: int
    total: int
    """0 when unknown."""


class ProbeDone(_Message):
    """A probe's last line."""

    kind: Literal["done"] = "done"
    calibration: Calibration


class ProbeFailed(_Message):
    """A probe's last line where it could not measure."""

    kind: Literal["failed"] = "failed"
    message: str
    hint: str = ""
    exit_code: int
    out_of_memory: bool = False
