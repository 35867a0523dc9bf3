"""Texts about a run's device: `bf16 matmul`, `other processes use 1.0 of 2 cores`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from rnnlm_tui.contract.figures import counted
from rnnlm_tui.errors import DeviceError

if TYPE_CHECKING:
    from rnnlm_tui.contract.summary import RunSummary

CELL_NAMES: Mapping[str, str] = MappingProxyType(
    {"elman": "Elman", "lstm": "LSTM", "gru": "GRU", "mingru": "minGRU", "minlstm": "minLSTM", "slstm": "sLSTM", "mlstm": "mLSTM"}
)
"""Display names of the cells."""


def arithmetic(summary: RunSummary) -> str:
    """`float32`, `bf16 matmul`, `TF32 matmul` or `bf16 layers`; empty until the worker reports it."""
    if summary.matmul is None and summary.precision is None:
        return ""
    rounded = "TF32" if (summary.device or "").startswith("cuda") else "bf16"
    if summary.precision == "bf16":
        return "bf16 layers"
    return f"{rounded} matmul" if summary.matmul == "medium" else "float32"


def device_text(summary: RunSummary) -> str:
    """`cpu, 2 threads, bf16 matmul`; empty before the first attempt."""
    return ", ".join(part for part in (summary.device, arithmetic(summary)) if part)


def other_load_text(summary: RunSummary, *, short: bool = False) -> str:
    """`other processes use 1.0 of 2 cores`, or `others use …`; empty if that doesn't slow the run."""
    if summary.others_cores is None or summary.cores is None:
        return ""
    held = f"{summary.others_cores:.1f}" if summary.others_cores < 9.95 else f"{summary.others_cores:.0f}"
    return f"{'others' if short else 'other processes'} use {held} of {counted(summary.cores, 'core')}"


def unsupported_precision(precision: str, device: str) -> DeviceError:
    """The error for a `training.precision` that the device (`cpu, 2 threads`) doesn't support."""
    hint = "set training.precision=float32" + ("; on a CPU, training.matmul=auto uses bf16 where that is faster" if device.startswith("cpu") else "")
    return DeviceError(f"training.precision is {precision}, which needs a CUDA GPU with bf16; the device is {device}", hint=hint)
