"""Warnings about a run's GPU before it starts: torch can't use it, or others hold its memory."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from rnnlm_tui.errors import RnnlmError
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.formatting import first_of, memory
from rnnlm_tui.schema.status import GPU_KEY
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.runs import list_runs
from rnnlm_tui.system.cuda import GpuProblem, gpu_problem, holder_words, is_driver_order
from rnnlm_tui.system.gpu import GpuProbe, gpu_count, gpu_uuids
from rnnlm_tui.system.locks import host_name, read_lock
from rnnlm_tui.system.machine import planned_device


def unused_gpu(device: str) -> GpuProblem | None:
    """Why the device `auto` is not the GPU that this machine has; None if it is, there is none, or
    another device is asked for."""
    return gpu_problem() if device == "auto" else None


def unused_gpu_warning(device: str, verb: str = "trains") -> str:
    """The same as a warning, `trains on the CPU: …`; empty: nothing is wrong."""
    problem = unused_gpu(device)
    return "" if problem is None else f"{verb} on the CPU: {problem.fact}; {problem.fix}"


def shared_gpu_warning(config: RunConfig) -> str:
    """A warning that other runs train on the GPU that a run of this config would take, with the
    memory left; empty: none do, or it takes no GPU."""
    uuid = planned_gpu(config.training.device)
    names = [] if not uuid else [run.name for run in runs_on(uuid)]
    if not names:
        return ""
    probe = GpuProbe(uuid)
    gpu = probe.sample()
    probe.close()
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


def holders_warning(config: RunConfig) -> str:
    """Which processes hold memory of the GPU that a run of this config would take; empty: none, or
    not known."""
    uuid = planned_gpu(config.training.device)
    return holder_words(uuid) if uuid else ""


def planned_gpu(device: str) -> str:
    """The UUID of the GPU that `training.device` selects here; empty: none, or not known."""
    if planned_device(device) != "cuda" or (not is_driver_order() and gpu_count() > 1):
        return ""
    uuids, index = gpu_uuids(), int(device.partition(":")[2] or 0)
    return uuids[index] if index < len(uuids) else ""


def gpu_of(run: RunDirectory) -> str:
    """The UUID of the GPU that a run with a worker trains on, without a prefix; empty: none, or it
    is still starting."""
    with suppress(RnnlmError), RunReader(run) as reader:
        return reader.meta().get(GPU_KEY, "")
    return ""


def runs_on(uuid: str) -> list[RunDirectory]:
    """The runs of this data home that train on a GPU, by its UUID with or without a prefix."""
    found = []
    for run in list_runs():
        with suppress(RnnlmError):
            state = read_lock(run.lock_path)
            if state.held and state.host in (None, host_name()):
                own = gpu_of(run)
                if own and uuid.endswith(own):
                    found.append(run)
    return found


def has_amd_gpu() -> bool:
    """Whether the system has the driver of AMD's GPUs for computing, which NVML doesn't know."""
    return Path("/dev/kfd").exists()
