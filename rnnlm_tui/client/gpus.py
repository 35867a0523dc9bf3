"""A run's device: those of this machine, why one can't be used, and who shares a GPU."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rnnlm_tui.errors import Adjustment, DeviceError, Problem, RnnlmError
from rnnlm_tui.schema.config import RunConfig, TrainingConfig
from rnnlm_tui.schema.estimates import step_length
from rnnlm_tui.schema.formatting import counted, first_of, memory, unsupported_precision
from rnnlm_tui.schema.rules import PROCESSES, share_problems
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.runs import list_runs
from rnnlm_tui.system.cuda import gpu_problem, is_driver_order
from rnnlm_tui.system.gpu import VISIBLE_VARIABLE, gpu_count, gpu_uuids, read_gpu, visible_cards
from rnnlm_tui.system.locks import host_name, read_lock
from rnnlm_tui.system.machine import free_training_memory, planned_device, usable_cores

SLSTM_KERNELS = 20
"""Kernels that a layer of sLSTM launches on a GPU for each time step, forward and backward."""
LAUNCH_SECONDS = 8e-6
"""What Python and torch take to launch a kernel (worked out, not measured)."""


def unused_gpu_warning(device: str, verb: str = "trains") -> str:
    """A warning that the device `auto` is not the GPU that this machine has: `trains on the CPU:
    …`; empty: it is, there is none, or another device is asked for."""
    problem = gpu_problem() if device == "auto" else None
    return "" if problem is None else f"{verb} on the CPU: {problem.fact}; {problem.fix}"


def shared_gpu_warning(config: RunConfig) -> str:
    """A warning that other runs train on the GPU that a run of this config would take, with the
    memory left; empty: none do, or it takes no GPU."""
    uuid = planned_gpu(config.training.device)
    names = [] if not uuid else [run.name for run in runs_on(uuid)]
    if not names:
        return ""
    gpu = read_gpu(uuid)
    left = (
        ""
        if gpu.memory_total is None or gpu.memory_used is None
        else f", {memory(gpu.memory_total - gpu.memory_used)} of {memory(gpu.memory_total)} are"
        " free"
    )
    train = "trains" if len(names) == 1 else "train"
    return (
        f"{first_of(names, 3)} already {train} on the same GPU ({gpu.name or uuid}){left}:"
        " each slows the other down"
    )


def slow_cell_warning(config: RunConfig) -> str:
    """A warning that an sLSTM would train slowly on the GPU that a run of this config would take;
    empty: another cell, or no GPU."""
    model, length = config.model, step_length(config)
    if model.cell_type != "slstm" or planned_device(config.training.device) != "cuda":
        return ""
    kernels = SLSTM_KERNELS * model.num_layers * length
    return (
        "sLSTM is slow on a GPU: its time steps run one after the other and launch about"
        f" {kernels:,} kernels a step, {1e3 * LAUNCH_SECONDS * kernels:,.0f} ms (worked out, not"
        " measured)"
    )


def planned_gpu(device: str) -> str:
    """The UUID of the GPU that `training.device` selects here; empty: none, or not known."""
    uuids = gpu_uuids()
    if planned_device(device) != "cuda" or (not is_driver_order() and len(uuids) > 1):
        return ""
    return next(iter(uuids[int(device.partition(":")[2] or 0) :]), "")


def gpu_of(run: RunDirectory) -> str:
    """The UUID of the GPU that a run with a worker trains on, without a prefix; empty: none, or it
    is still starting."""
    with suppress(RnnlmError), RunReader(run) as reader:
        return reader.facts().gpu_uuid
    return ""


def training_here() -> Iterator[RunDirectory]:
    """The runs of this data home that have a worker on this machine."""
    for run in list_runs():
        with suppress(RnnlmError):
            state = read_lock(run.lock_path)
            if state.held and state.host in (None, host_name()):
                yield run


def runs_on(uuid: str) -> list[RunDirectory]:
    """The runs of this data home that train on a GPU, by its UUID with or without a prefix."""
    return [run for run in training_here() if (own := gpu_of(run)) and uuid.endswith(own)]


def has_amd_gpu() -> bool:
    """Whether the system has the driver of AMD's GPUs for computing, which NVML doesn't know."""
    return Path("/dev/kfd").exists()


def check_device(device: str) -> None:
    """Raise DeviceError for cuda without a driver or this GPU, and for mps except on a Mac."""
    hint = "training.device=auto selects the best available device"
    if device.startswith("cuda"):
        cards, problem = visible_cards(), gpu_problem()
        if not cards and problem is None and not has_amd_gpu():
            chosen = os.environ.get(VISIBLE_VARIABLE)
            why = "no graphics driver is loaded"
            if chosen is not None:
                why += f', or {VISIBLE_VARIABLE}="{chosen}" hides all GPUs'
            raise DeviceError(f'no device "{device}" on this machine: {why}', hint=hint)
        index = int(device.partition(":")[2] or 0)
        if cards and index >= len(cards):
            numbered = [f"cuda:{at} ({card.name})" for at, card in enumerate(cards)]
            raise DeviceError(
                f'no device "{device}" on this machine: it has {counted(len(cards), "GPU")},'
                f" {first_of(numbered, 8)}",
                hint=hint,
            )
        if problem is not None:
            raise DeviceError(
                f'no device "{device}" on this machine: {problem.fact}',
                hint=f"{problem.fix}; or set training.device to cpu",
            )
    if device == "mps" and sys.platform != "darwin":
        raise DeviceError('no device "mps" on this machine: only Macs have it', hint=hint)


def planned_processes(config: RunConfig) -> int:
    """The processes that a run of this config starts on this machine; `auto`: one for each GPU."""
    wanted, device = config.distributed.processes, config.training.device
    if wanted != "auto":
        return wanted
    return max(1, gpu_count()) if planned_device(device) == "cuda" and ":" not in device else 1


def process_problems(config: RunConfig, processes: int | None = None) -> tuple[Problem, ...]:
    """What this machine lacks for a config's processes, or so many: GPUs, or rows of a batch for
    each GPU."""
    processes = processes or planned_processes(config)
    cards = {"cuda": gpu_count(), "mps": 1}.get(planned_device(config.training.device), 0)
    if processes > cards > 0:
        return (
            Problem(
                PROCESSES,
                f"is {processes:,}, but this machine has {counted(cards, 'GPU')}",
                "each process needs its own; auto takes them all",
                (Adjustment.of({PROCESSES: "auto"}), Adjustment.of({"training.device": "cpu"})),
            ),
        )
    return tuple(share_problems(config.training, processes))


@dataclass(frozen=True, slots=True)
class TrainingDevice:
    """A device of this machine that a run can train on."""

    name: str
    """As in `training.device`."""
    about: str
    """`NVIDIA H100, 78 GiB free`."""


def training_devices(training: TrainingConfig) -> tuple[TrainingDevice, ...]:
    """The devices that a run with these settings can train on here; `auto` first."""
    cards = visible_cards()
    names = {"auto": "the best of them"}
    names |= {f"cuda:{at}": card.name for at, card in enumerate(cards)}
    if not cards and has_amd_gpu():
        names["cuda"] = "AMD GPU"
    if sys.platform == "darwin":
        names["mps"] = "Apple GPU"
    names["cpu"] = counted(usable_cores(), "core")
    found = []
    for name, about in names.items():
        with suppress(DeviceError):
            check_device(name)
            check_precision(training.model_copy(update={"device": name}))
            free = None if name == "auto" else free_training_memory(name)
            found.append(
                TrainingDevice(name, about if free is None else f"{about}, {memory(free)} free")
            )
    return tuple(found)


@dataclass(frozen=True, slots=True)
class DeviceChoice:
    """Where a run can continue."""

    problem: str
    """Why not where it trained: the device is missing here, or failed in the newest attempt; empty:
    neither is known."""
    current: str
    """Where it trained, by its name in `devices`."""
    devices: tuple[TrainingDevice, ...]


def device_choice(run: RunDirectory, *, always: bool) -> DeviceChoice:
    """Where a run that isn't running can continue.

    Args:
        always: look for devices, which takes a moment, even if there is no problem.

    Raises:
        RnnlmError: the config can't be read.
    """
    training, problem = run.read_config().training, ""
    try:
        check_device(training.device)
    except DeviceError as error:
        problem = error.message
    else:
        with suppress(RnnlmError), RunReader(run) as reader:
            problem = reader.facts().lost_device
    current = "cuda:0" if training.device == "cuda" and gpu_count() else training.device
    devices = training_devices(training) if problem or always else ()
    return DeviceChoice(problem, current, devices)


def check_precision(training: TrainingConfig) -> None:
    """Raise DeviceError for bf16 without a GPU."""
    device = training.device
    if training.precision == "float32" or (
        device not in ("cpu", "mps") and (gpu_count() or has_amd_gpu())
    ):
        return
    if device == "auto":
        device = "mps" if sys.platform == "darwin" else "cpu"
    raise unsupported_precision(training.precision, device)
