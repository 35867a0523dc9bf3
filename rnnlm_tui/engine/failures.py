"""What torch's errors mean to a person: out of memory, no exact version of an operation."""

from __future__ import annotations

import re

import torch

from rnnlm_tui.errors import DeviceError, RnnlmError


def explained(error: RuntimeError, shape: tuple[int, ...]) -> RnnlmError | None:
    """The RnnlmError that says what a RuntimeError of torch means in a step of `shape` (B, T); None for any other."""
    text = str(error)
    if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in text or "out of memory" in text.lower():
        batch, length = shape
        smaller = f"try training.batch_size = {max(1, batch // 2)}" if batch > 1 else "a smaller model or vocabulary needs less"
        return DeviceError(f"out of memory in a step of {batch:,} x {length:,} tokens", hint=smaller)
    found = re.search(r"^(\S+) does not have a deterministic implementation", text)
    if found:
        return RnnlmError(f"exact mode is impossible here: {found[1]} has no deterministic version on this device", hint="set training.deterministic to false")
    if "CUBLAS_WORKSPACE_CONFIG" in text:
        hint = "start it with CUBLAS_WORKSPACE_CONFIG=:4096:8 in the environment"
        return RnnlmError("exact mode is impossible here: a cuBLAS matrix product has no deterministic version without its workspace", hint=hint)
    return None
