"""Messages of a probe, and the calibration that later estimates are based on."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

Fact = str | int | float | bool


class Calibration(BaseModel):
    """Measured speed and memory of training one shape on one machine."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    host: str
    device: Literal["cpu", "cuda", "mps"]
    device_name: str
    """Display name: `cuda:0 NVIDIA H100`, `cpu, 2 threads`."""
    threads: int
    """CPU threads used."""
    shape: dict[str, Fact]
    """The settings that determine memory, from `memory_shape`."""
    steps: int
    """Measured steps, after the warm-up."""
    flops_per_step: float
    """From `flops_per_token` and the non-padding tokens."""
    step_seconds: float
    """Mean duration of a step."""
    tokens_per_second: float
    """Non-padding tokens per second."""
    memory_bytes: int
    """Peak memory in a step or an evaluation: of the process on a CPU, of its tensors on a GPU."""
    process_bytes: int
    """Memory of the process without a model; 0 on a GPU."""
    versions: dict[str, str]
    time: float
    """Unix seconds."""

    @property
    def cell_type(self) -> str:
        return str(self.shape.get("cell_type", ""))

    @property
    def flops_per_second(self) -> float:
        return self.flops_per_step / self.step_seconds


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ProbeProgress(_Message):
    """The progress of a probe."""

    kind: Literal["progress"] = "progress"
    phase: str
    """A phase of the corpus preparation, `warm-up` or `steps`."""
    done: int
    total: int
    """0 if unknown."""


class ProbeDone(_Message):
    """The last line of a successful probe."""

    kind: Literal["done"] = "done"
    calibration: Calibration


class ProbeFailed(_Message):
    """The last line of a failed probe."""

    kind: Literal["failed"] = "failed"
    message: str
    hint: str = ""
    exit_code: int
    out_of_memory: bool = False
