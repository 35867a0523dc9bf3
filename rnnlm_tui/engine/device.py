"""Devices by name, threads, seeds, exact mode, and what torch's errors mean."""

from __future__ import annotations

import os
import platform
import random
import re
from collections.abc import Mapping
from typing import TypedDict, cast

import numpy as np
import torch
from torch import Tensor

from rnnlm_tui.errors import DeviceError, RnnlmError
from rnnlm_tui.schema.formatting import counted, unsupported_precision
from rnnlm_tui.system.machine import usable_cores

CUBLAS_WORKSPACE = ":4096:8"
"""CUBLAS_WORKSPACE_CONFIG for exact mode; cuBLAS reads it when CUDA starts."""
NO_PRIMITIVE = "could not create a primitive"
"""oneDNN's message when a matrix product can't allocate memory, and also, at any size, when the
system forbids running generated code.
"""


def available_devices() -> tuple[str, ...]:
    """Names of this machine's devices, preferred first: cuda:0 ..., mps, cpu."""
    gpus = (
        tuple(f"cuda:{index}" for index in range(torch.cuda.device_count()))
        if torch.cuda.is_available()
        else ()
    )
    return gpus + (("mps",) if torch.backends.mps.is_available() else ()) + ("cpu",)


def resolve_device(name: str) -> torch.device:
    """The device of a name: `auto` (CUDA, else MPS, else CPU), `cpu`, `mps`, `cuda` (the first GPU)
    or `cuda:N`.

    Raises:
        DeviceError: no such device on this machine; lists the available ones.
    """
    available = available_devices()
    wanted = {"auto": available[0], "cuda": "cuda:0"}.get(name, name)
    if wanted not in available:
        raise DeviceError(
            f'no device "{name}" on this machine, available: {", ".join(reversed(available))}',
            hint="set training.device to one of them, or to auto",
        )
    return torch.device(wanted)


def describe(device: torch.device) -> str:
    """`cuda:0 NVIDIA H100`, `cpu, 2 threads`."""
    if device.type == "cuda":
        return f"{device} {torch.cuda.get_device_name(device)}"
    if device.type == "cpu":
        threads = torch.get_num_threads()
        return f"cpu, {counted(threads, 'thread')}"
    return str(device)


def processor(device: torch.device) -> str:
    """Model of the device's processor; two models round differently."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return (
        str(torch.cpu.get_capabilities().get("cpu_name", platform.processor()))
        if device.type == "cpu"
        else platform.machine()
    )


def instructions() -> str:
    """The widest instructions that torch's CPU kernels use, such as `AVX512`; each width sums in
    another order."""
    return str(torch.backends.cpu.get_cpu_capability())


def cuda_versions() -> str:
    """`12.8, cuDNN 91002`; empty if torch was built without CUDA."""
    if not torch.version.cuda:
        return ""
    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    return f"{torch.version.cuda}, cuDNN {cudnn}"


def set_threads(threads: int) -> int:
    """Use this many CPU threads, 0: one per usable core; returns the number."""
    count = threads or usable_cores()
    torch.set_num_threads(count)
    return count


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, NumPy and torch, on all GPUs, too."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def set_exactness(deterministic: bool) -> None:
    """Turn exact mode on (deterministic operations only) or off (the fastest ones)."""
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", CUBLAS_WORKSPACE)
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = False


def wait(device: torch.device) -> None:
    """Wait until the device has finished all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def check_precision(precision: str, device: torch.device) -> None:
    """Refuse `training.precision` = bf16 where it isn't faster than float32.

    Raises:
        DeviceError: on anything but a CUDA GPU that computes in bf16.
    """
    if precision == "float32" or (
        device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    ):
        return
    raise unsupported_precision(precision, describe(device))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that a device or the machine is out of memory."""
    text = str(error)
    words = ("can't allocate memory", "out of memory", "bad_alloc")
    return (
        isinstance(error, torch.OutOfMemoryError | MemoryError)
        or text == NO_PRIMITIVE
        or any(part in text.lower() for part in words)
    )


def explained_aside(error: BaseException, doing: str) -> RnnlmError:
    """The error for a failure besides training (`sample`, `evaluate`), which training survives."""
    if is_out_of_memory(error):
        return RnnlmError(
            f"{doing}: out of memory",
            hint="training continues; fewer tokens or a smaller model need less",
        )
    return RnnlmError(
        f"{doing} failed: {type(error).__name__}: {error}",
        hint="training continues; the traceback is in the run's log",
    )


def out_of_memory(doing: str, shape: tuple[int, int]) -> DeviceError:
    """The DeviceError for `a step` or `an evaluation` of (B, T) tokens that ran out of memory."""
    rows, length = shape
    smaller = (
        f"try training.batch_size = {rows // 2}"
        if rows > 1 and doing == "a step"
        else "a smaller model or vocabulary needs less"
    )
    return DeviceError(
        f"out of memory in {doing} of {rows:,} x {counted(length, 'token')}", hint=smaller
    )


def explained(error: BaseException, shape: tuple[int, int]) -> RnnlmError | None:
    """The RnnlmError for a torch error in a step of `shape` (B, T); None: unknown error."""
    text = str(error)
    if is_out_of_memory(error):
        return out_of_memory("a step", shape)
    found = re.search(r"^(\S+) does not have a deterministic implementation", text)
    if found:
        return RnnlmError(
            f"exact mode isn't available: {found[1]} has no deterministic version on this device",
            hint="set training.deterministic to false",
        )
    if "CUBLAS_WORKSPACE_CONFIG" in text:
        hint = "set CUBLAS_WORKSPACE_CONFIG=:4096:8 in the environment"
        return RnnlmError(
            "exact mode isn't available: cuBLAS is only deterministic with a fixed workspace",
            hint=hint,
        )
    return None


class RandomValues(TypedDict):
    """The generators whose state is plain numbers."""

    python: list[object]
    """`random.getstate()`: version, 625 numbers, the spare Gaussian."""
    numpy: list[object]
    """`numpy.random.get_state()`: name, 624 numbers, position, whether there is a spare Gaussian,
    the spare."""


def pack_random_state(device: torch.device) -> tuple[dict[str, Tensor], RandomValues]:
    """State of the generators of Python, NumPy, torch and the device."""
    tensors = {"random.torch": torch.get_rng_state()}
    if device.type == "cuda":
        tensors["random.cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        tensors["random.mps"] = torch.mps.get_rng_state()
    version, numbers, spare = random.getstate()
    name, keys, position, has_spare, cached = np.random.get_state(legacy=True)
    return tensors, {
        "python": [version, list(numbers), spare],
        "numpy": [name, np.asarray(keys).tolist(), position, has_spare, cached],
    }


def unpack_random_state(
    tensors: Mapping[str, Tensor], values: object, device: torch.device
) -> None:
    """Restore what `pack_random_state` returned; the generator of another kind of device is left
    alone."""
    packed = cast(RandomValues, values)
    torch.set_rng_state(tensors["random.torch"].cpu())
    if device.type == "cuda" and "random.cuda" in tensors:
        torch.cuda.set_rng_state(tensors["random.cuda"].cpu(), device)
    elif device.type == "mps" and "random.mps" in tensors:
        torch.mps.set_rng_state(tensors["random.mps"].cpu())
    version, numbers, spare = cast(tuple[int, list[int], float | None], tuple(packed["python"]))
    random.setstate((version, tuple(numbers), spare))
    name, keys, position, has_spare, cached = cast(
        tuple[str, list[int], int, int, float], tuple(packed["numpy"])
    )
    np.random.set_state((name, np.array(keys, dtype=np.uint32), position, has_spare, cached))
