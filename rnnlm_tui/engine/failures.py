"""Translate torch's errors: out of memory, no deterministic version of an operation."""

from __future__ import annotations

import re

import torch

from rnnlm_tui.contract.figures import counted
from rnnlm_tui.errors import DeviceError, RnnlmError

NO_PRIMITIVE = "could not create a primitive"
"""oneDNN's message when a matrix product can't allocate memory, and also, at any size, when the system
forbids running generated code."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that a device or the machine is out of memory."""
    text = str(error)
    words = ("can't allocate memory", "out of memory", "bad_alloc")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or text == NO_PRIMITIVE or any(part in text.lower() for part in words)


def explained_aside(error: BaseException, doing: str) -> RnnlmError:
    """The error for a failure besides training (`sample`, `evaluate`), which training survives."""
    if is_out_of_memory(error):
        return RnnlmError(f"{doing}: out of memory", hint="training continues; fewer tokens or a smaller model need less")
    return RnnlmError(f"{doing} failed: {type(error).__name__}: {error}", hint="training continues; the traceback is in the run's log")


def out_of_memory(doing: str, shape: tuple[int, int]) -> DeviceError:
    """The DeviceError for `a step` or `an evaluation` of (B, T) tokens that ran out of memory."""
    rows, length = shape
    smaller = f"try training.batch_size = {rows // 2}" if rows > 1 and doing == "a step" else "a smaller model or vocabulary needs less"
    return DeviceError(f"out of memory in {doing} of {rows:,} x {counted(length, 'token')}", hint=smaller)


def explained(error: BaseException, shape: tuple[int, int]) -> RnnlmError | None:
    """The RnnlmError for a torch error in a step of `shape` (B, T); None: unknown error."""
    text = str(error)
    if is_out_of_memory(error):
        return out_of_memory("a step", shape)
    found = re.search(r"^(\S+) does not have a deterministic implementation", text)
    if found:
        return RnnlmError(f"exact mode isn't available: {found[1]} has no deterministic version on this device", hint="set training.deterministic to false")
    if "CUBLAS_WORKSPACE_CONFIG" in text:
        hint = "set CUBLAS_WORKSPACE_CONFIG=:4096:8 in the environment"
        return RnnlmError("exact mode isn't available: cuBLAS is only deterministic with a fixed workspace", hint=hint)
    return None
