"""What torch's errors mean to a person: out of memory, no exact version of an operation."""

from __future__ import annotations

import re

import torch

from rnnlm_tui.contract.figures import counted
from rnnlm_tui.errors import DeviceError, RnnlmError

NO_PRIMITIVE = "could not create a primitive"
"""oneDNN's whole word where a CPU's matrix product finds no memory to work in; and, at any size, where a system forbids made code to run."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device or the machine has no memory left."""
    text = str(error)
    words = ("can't allocate memory", "out of memory", "bad_alloc")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or text == NO_PRIMITIVE or any(part in text.lower() for part in words)


def explained_aside(error: BaseException, doing: str) -> RnnlmError:
    """The RnnlmError that says why something beside the training (`sample`, `evaluate`) failed; the training is not touched by it."""
    if is_out_of_memory(error):
        return RnnlmError(f"{doing}: out of memory beside the training", hint="the training goes on; fewer tokens or a smaller model need less")
    return RnnlmError(f"{doing} failed: {type(error).__name__}: {error}", hint="the training goes on; the whole story is in the run's log")


def out_of_memory(doing: str, shape: tuple[int, int]) -> DeviceError:
    """The DeviceError of `a step` or `an evaluation` of (B, T) tokens that memory could not hold."""
    rows, length = shape
    smaller = f"try training.batch_size = {rows // 2}" if rows > 1 and doing == "a step" else "a smaller model or vocabulary needs less"
    return DeviceError(f"out of memory in {doing} of {rows:,} x {counted(length, 'token')}", hint=smaller)


def explained(error: BaseException, shape: tuple[int, int]) -> RnnlmError | None:
    """The RnnlmError that says what an error of torch means in a step of `shape` (B, T); None for any other."""
    text = str(error)
    if is_out_of_memory(error):
        return out_of_memory("a step", shape)
    found = re.search(r"^(\S+) does not have a deterministic implementation", text)
    if found:
        return RnnlmError(f"exact mode is impossible here: {found[1]} has no deterministic version on this device", hint="set training.deterministic to false")
    if "CUBLAS_WORKSPACE_CONFIG" in text:
        hint = "start it with CUBLAS_WORKSPACE_CONFIG=:4096:8 in the environment"
        return RnnlmError("exact mode is impossible here: a cuBLAS matrix product has no deterministic version without its workspace", hint=hint)
    return None
