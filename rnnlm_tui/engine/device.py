"""Devices by name, threads, seeds, exact mode, and what torch's errors mean."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from rnnlm_tui.errors import DeviceError, InputError, LostDeviceError, RnnlmError
from rnnlm_tui.schema.formatting import counted, unsupported_precision
from rnnlm_tui.system import cuda
from rnnlm_tui.system.cuda import EXACT_WORKSPACE, WORKSPACE_VARIABLE, GpuProblem
from rnnlm_tui.system.gpu import Card
from rnnlm_tui.system.machine import usable_cores

NO_PRIMITIVE = "could not create a primitive"
"""oneDNN's message when a matrix product can't allocate memory, and also, at any size, when the
system forbids running generated code.
"""


LITTLE_MEMORY = 256 * 2**20
"""With less of a GPU's memory free, an unclear failure of a library means that it ran out."""
OUT_OF_MEMORY = (
    "can't allocate memory",
    "out of memory",
    "bad_alloc",
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
    "allocation_failed",  # CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED
    "insufficient memory",  # Metal
)
"""In lower case."""
MAYBE_OUT_OF_MEMORY = (
    "cublas_status_not_initialized",  # its handle and workspace didn't fit
    "cudnn_status_not_initialized",
    "cudnn_status_internal_error",
    "cublas_status_internal_error",
)
"""Messages of a library that also mean other failures."""
CUDA_ERROR = re.compile(
    r"(?:(?:CUDA|HIP)(?: driver)? error|Triton Error \[(?:CUDA|HIP)\]): (?!\w+_STATUS_)(.+)"
    r"|(CU(?:BLAS|DNN)_STATUS_EXECUTION_FAILED\w*)"
)
LOOK = "see `nvidia-smi` and `dmesg | grep Xid`"
OUR_FAULT = ("invalid argument", "invalid device ordinal", "kernel image")
"""In CUDA errors after which the GPU still works."""


def available_devices() -> tuple[str, ...]:
    """Names of this machine's devices, preferred first: cuda:0 ..., mps, cpu."""
    cuda.use_driver_order()
    gpus = (
        tuple(f"cuda:{index}" for index in range(torch.cuda.device_count()))
        if torch.cuda.is_available()
        else ()
    )
    return gpus + (("mps",) if torch.backends.mps.is_available() else ()) + ("cpu",)


def resolve_device(name: str) -> torch.device:
    """The device of a name: `auto` (CUDA, else MPS, else CPU), `cpu`, `mps`, `cuda` (the first GPU)
    or `cuda:N`. `auto` and `cuda` pass over GPUs that torch has no code for.

    Raises:
        DeviceError: no such device on this machine (lists the available ones), or torch can't use
            it.
    """
    available = available_devices()
    if name in available and not name.startswith("cuda"):
        return torch.device(name)
    problems = {one: unsupported(torch.device(one)) for one in available}
    usable = [one for one in available if problems[one] is None]
    gpus = [one for one in usable if one.startswith("cuda")]
    wanted = {"auto": usable[0], "cuda": gpus[0] if gpus else "cuda"}.get(name, name)
    if wanted in usable:
        return torch.device(wanted)
    problem = problems.get(name)
    if problem is None and name.startswith("cuda") and not gpus:
        problem = unusable_gpu()
    if problem is not None:
        raise DeviceError(
            f'no device "{name}" on this machine: {problem.fact}',
            hint=f"{problem.fix}; or set training.device to auto or cpu",
        )
    listed = ", ".join(_with_name(one) for one in reversed(available))
    raise DeviceError(
        f'no device "{name}" on this machine, available: {listed}',
        hint="set training.device to one of them, or to auto",
    )


def use_device(name: str, index: int | None = None) -> torch.device:
    """As `resolve_device`, and makes a GPU torch's current one, with its first kernel run.

    Args:
        index: the GPU's, if the device is one; None: the name's own or the first.

    Raises:
        DeviceError: no such device, its memory is full, or it can't be used.
    """
    device = resolve_device(name)
    if device.type != "cuda":
        return device
    if index is not None:
        device = torch.device("cuda", index)
    try:
        torch.cuda.set_device(device)
        torch.zeros(1, device=device)
        torch.cuda.synchronize(device)
    except RuntimeError as error:
        raise _unusable(device, error) from error
    return device


def cpu_warning(name: str, device: torch.device) -> str:
    """Why `auto` chose another device than the machine's GPU, and how to use that; empty: the GPU
    was chosen, or there is none."""
    if name != "auto" or device.type == "cuda":
        return ""
    problem = unusable_gpu()
    return "" if problem is None else f"trains on the CPU: {problem.fact}; {problem.fix}"


def unusable_gpu() -> GpuProblem | None:
    """Why torch can use none of the GPUs that the NVIDIA driver has; None: it can, or there are
    none."""
    if torch.cuda.is_available():
        problems = [
            unsupported(torch.device("cuda", index)) for index in range(torch.cuda.device_count())
        ]
        return None if None in problems else problems[0]
    found, known = cuda.gpu_problem(), cuda.driver()
    if found is not None or known is None:
        return found
    names = ", ".join(dict.fromkeys(card.name for card in known.cards))
    return GpuProblem(
        f"{_build()} can't use the {names} ({known}): {_why_cuda_fails()}",
        "see if `nvidia-smi` works; after an update of the driver, restart the machine",
    )


def unsupported(device: torch.device) -> GpuProblem | None:
    """The problem if torch has no code for this GPU's architecture; None if it has, and for other
    devices."""
    if device.type != "cuda" or not torch.version.cuda:
        return None
    card = Card(
        device.index or 0,
        name=torch.cuda.get_device_name(device),
        compute_capability=torch.cuda.get_device_capability(device),
    )
    known = cuda.driver() or cuda.Driver("of unknown version", None, (card,))
    return cuda.unsupported_card(_build(), known, card, torch.cuda.get_arch_list())


def _build() -> cuda.TorchBuild:
    return cuda.TorchBuild(str(torch.__version__), torch.version.cuda, bool(torch.version.hip))


def _why_cuda_fails() -> str:
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (RuntimeError, AssertionError) as error:
        return first_line(error)
    return "it sees no device"


def _with_name(name: str) -> str:
    """`cuda:0 (NVIDIA H100)`, `cpu`."""
    if not name.startswith("cuda") or not torch.cuda.is_available():
        return name
    return f"{name} ({torch.cuda.get_device_name(torch.device(name))})"


def _unusable(device: torch.device, error: RuntimeError) -> DeviceError:
    """The error for a GPU that couldn't be started."""
    others = [one for one in available_devices() if one != str(device)]
    elsewhere = f"use another device: training.device = {' or '.join(reversed(others))}"
    if is_out_of_memory(error):
        fact, fix = f"the memory of {describe(device)} is full", "end that process or wait for it"
    elif "busy or unavailable" in str(error):
        fact, fix = f"{describe(device)} is reserved by another process", "end that process"
    else:
        return DeviceError(
            f"{describe(device)} can't be used: {first_line(error)}", hint=f"{LOOK}, or {elsewhere}"
        )
    who = cuda.holder_words(uuid_of(device))
    return DeviceError(fact + (f": {who}" if who else ""), hint=f"{fix}, or {elsewhere}")


def uuid_of(device: torch.device) -> str:
    """A GPU's UUID, as the driver names it but without `GPU-`; empty: not known."""
    try:
        return str(torch.cuda.get_device_properties(device).uuid)
    except (AttributeError, AssertionError, RuntimeError):
        return ""


def first_line(error: BaseException) -> str:
    """The first line of an error's message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


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


def set_exactness(deterministic: bool) -> None:
    """Turn exact mode on (deterministic operations only) or off (the fastest ones); before CUDA
    starts."""
    if deterministic:
        os.environ.setdefault(WORKSPACE_VARIABLE, EXACT_WORKSPACE)
    torch.use_deterministic_algorithms(deterministic)
    # Only finds mistakes: no operation of ours reads memory that it didn't write.
    torch.utils.deterministic.fill_uninitialized_memory = (  # type: ignore[attr-defined]
        not deterministic
    )
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = False


def check_workspace(device: torch.device) -> None:
    """Refuse a CUBLAS_WORKSPACE_CONFIG with which exact mode isn't exact on this device.

    Raises:
        InputError: on a GPU, workspaces of several sizes, or a value that cuBLAS can't read.
    """
    setting = os.environ.get(WORKSPACE_VARIABLE, EXACT_WORKSPACE)
    if device.type != "cuda" or cuda.is_exact_workspace(setting):
        return
    raise InputError(
        f'exact mode isn\'t available: {WORKSPACE_VARIABLE} is "{setting}", must be workspaces of'
        " one size, :SIZE:COUNT",
        hint=f"unset it, or set {WORKSPACE_VARIABLE} to {EXACT_WORKSPACE} or :16:8",
    )


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
    text = str(error).lower()
    return (
        isinstance(error, torch.OutOfMemoryError | MemoryError)
        or text == NO_PRIMITIVE
        or any(part in text for part in OUT_OF_MEMORY)
        or (any(part in text for part in MAYBE_OUT_OF_MEMORY) and _gpu_is_full())
    )


def _gpu_is_full() -> bool:
    """Whether the current GPU has hardly any memory left."""
    try:
        return torch.cuda.mem_get_info()[0] < LITTLE_MEMORY
    except (RuntimeError, AssertionError):
        return False  # it has failed for another reason, or torch has no CUDA


def is_lost(error: BaseException | None) -> bool:
    """Whether an error means that a GPU failed: every later call to it fails, too."""
    if error is None or is_out_of_memory(error):
        return False
    found = CUDA_ERROR.search(str(error))
    return found is not None and not any(part in found[0].lower() for part in OUR_FAULT)


def lost_device(error: BaseException, what: str) -> LostDeviceError:
    """The LostDeviceError for an error that `is_lost`.

    Args:
        what: the device, as `describe` named it before: torch can't be asked any more.
    """
    found = CUDA_ERROR.search(str(error))
    reason = first_line(error) if found is None else found[1] or found[2]
    return LostDeviceError(f"{what} failed: {reason}", hint=LOOK)


def explained_aside(error: BaseException, doing: str) -> RnnlmError:
    """The error for a failure besides training (`sample`, `evaluate`), which training survives."""
    if is_out_of_memory(error):
        return RnnlmError(
            f"{doing}: out of memory",
            hint="training continues; fewer tokens or a smaller model need less",
        )
    if is_lost(error):
        return RnnlmError(f"{doing}: the GPU failed: {first_line(error)}")
    return RnnlmError(
        f"{doing} failed: {type(error).__name__}: {error}",
        hint="training continues; the traceback is in the run's log",
    )


@contextmanager
def errors_explained(doing: str, shape: tuple[int, int], parts: int = 1) -> Iterator[None]:
    """Turn torch's errors into ours where we know what they mean.

    Args:
        doing: `a step` or `an evaluation` of this shape (B, T).
        parts: of the step's batch, each of this shape and computed at once.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise out_of_memory(doing, shape, parts) from error
        found = re.search(r"^(\S+) does not have a deterministic implementation", str(error))
        if found is None:
            raise
        raise RnnlmError(
            f"exact mode isn't available: {found[1]} has no deterministic version on this device",
            hint="set training.deterministic to false",
        ) from error


def out_of_memory(doing: str, shape: tuple[int, int], parts: int = 1) -> DeviceError:
    """The DeviceError for `a step` or `an evaluation` of (B, T) tokens that ran out of memory."""
    rows, length = shape
    smaller = (
        f"try training.batch_size = {rows // 2 * parts}"
        if rows > 1 and doing == "a step"
        else "a smaller model or vocabulary needs less"
    )
    return DeviceError(
        f"out of memory in {doing} of {rows:,} x {counted(length, 'token')}", hint=smaller
    )


def random_state(device: torch.device) -> dict[str, Tensor]:
    """State of the generators of torch and the device; no other one is used in training."""
    tensors = {"random.torch": torch.get_rng_state()}
    if device.type == "cuda":
        tensors["random.cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        tensors["random.mps"] = torch.mps.get_rng_state()
    return tensors


def set_random_state(tensors: Mapping[str, Tensor], device: torch.device) -> None:
    """Restore what `random_state` returned; the generator of another kind of device is left
    alone."""
    torch.set_rng_state(tensors["random.torch"].cpu())
    if device.type == "cuda" and "random.cuda" in tensors:
        torch.cuda.set_rng_state(tensors["random.cuda"].cpu(), device)
    elif device.type == "mps" and "random.mps" in tensors:
        torch.mps.set_rng_state(tensors["random.mps"].cpu())
