"""How a run computes, in the words of app and command line: `bf16 products`, `others use 1.0 of 2 cores`; and that it can't compute so."""

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
    """The layers' numbers and the matrix products, as far as they differ: `float32`, `bf16 products`, `TF32 products`, `bf16 layers`; empty before the worker has told."""
    if summary.matmul is None and summary.precision is None:
        return ""
    rounded = "TF32" if (summary.device or "").startswith("cuda") else "bf16"
    if summary.precision == "bf16":
        return "bf16 layers"
    return f"{rounded} products" if summary.matmul == "medium" else "float32"


def device_text(summary: RunSummary) -> str:
    """`cpu, 2 threads, bf16 products`; empty before the first attempt."""
    return ", ".join(part for part in (summary.device, arithmetic(summary)) if part)


def other_load_text(summary: RunSummary) -> str:
    """`others use 1.0 of 2 cores`; empty where that slows nothing."""
    if summary.others_cores is None or summary.cores is None:
        return ""
    held = f"{summary.others_cores:.1f}" if summary.others_cores < 9.95 else f"{summary.others_cores:.0f}"
    return f"others use {held} of {counted(summary.cores, 'core')}"


def unsupported_precision(precision: str, device: str) -> DeviceError:
    """That `training.precision` is not for this device, whose words begin with its name: `cpu, 2 threads`."""
    hint = "set training.precision=float32" + ("; training.matmul=auto rounds where that pays on a CPU" if device.startswith("cpu") else "")
    return DeviceError(f"training.precision is {precision}, which needs a CUDA GPU with bf16; the device is {device}", hint=hint)
