"""Warnings about the GPU of a run that is about to start."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rnnlm_tui.client.estimate import estimate, warning_before_start
from rnnlm_tui.client.gpus import (
    check_device,
    device_choice,
    planned_processes,
    process_problems,
    runs_on,
    shared_gpu_warning,
    training_devices,
    unused_gpu_warning,
)
from rnnlm_tui.client.start import PendingResume, check_before_start
from rnnlm_tui.errors import ConfigError, DeviceError
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.facts import Facts
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.store.runs import create_run, set_device
from rnnlm_tui.system.locks import RunLock
from rnnlm_tui.system.machine import planned_device
from tests.fakes.nvml import GIB, Recording, plain_card, replay
from tests.fakes.torch_build import install_torch_build
from tests.unit.client.logs import record

FIRST = plain_card("NVIDIA H100 PCIe", "GPU-11", free=12 * GIB, processes=[(4194711, 67 * GIB)])
SECOND = plain_card("NVIDIA H200", "GPU-22", total=140 * GIB, free=139 * GIB)


def on(device: str, **changes: object) -> RunConfig:
    named = {name.replace("__", "."): value for name, value in changes.items()}
    return parse_config(merge(RunConfig(), {"training.device": device, **named}))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Two GPUs that torch can use."""
    replay(monkeypatch, Recording((FIRST, SECOND)))
    install_torch_build(monkeypatch)
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    return monkeypatch


@pytest.fixture
def other(home: object) -> Iterator[str]:
    """A run that trains on the first GPU; its name."""
    run = create_run(on("cuda"), "noble-heron")
    record(run, Facts(gpu_uuid=FIRST.uuid.removeprefix("GPU-")))
    with RunLock(run.lock_path):
        yield run.name


def test_auto_beside_a_gpu_that_torch_can_not_use_warns_and_plans_for_the_cpu(
    machine: pytest.MonkeyPatch,
) -> None:
    assert planned_device("auto") == "cuda"
    assert unused_gpu_warning("auto") == ""
    install_torch_build(machine, "2.13.0+cpu", None)
    assert planned_device("auto") == "cpu"
    warning = unused_gpu_warning("auto")
    assert warning.startswith("trains on the CPU: torch 2.13.0+cpu is built without CUDA")
    assert "NVIDIA H100 PCIe, NVIDIA H200 (driver 550.54.15, CUDA 12.4)" in warning
    assert "pip install --force-reinstall torch --index-url" in warning
    assert warning in (warning_before_start(on("auto")) or "")
    assert estimate(on("auto")).unused_gpu is not None
    assert unused_gpu_warning("cpu") == ""
    assert estimate(on("cpu")).unused_gpu is None


def test_cuda_is_refused_before_a_run_is_created(machine: pytest.MonkeyPatch) -> None:
    for device in ("auto", "cuda", "cuda:1", "cpu"):
        check_device(device)
    with pytest.raises(DeviceError, match=r"it has 2 GPUs, cuda:0 \(NVIDIA H100 PCIe\), cuda:1"):
        check_device("cuda:2")
    install_torch_build(machine, "2.13.0", "13.0")
    with pytest.raises(DeviceError, match="the NVIDIA driver is too old") as caught:
        check_device("cuda")
    assert "update the driver" in caught.value.hint
    check_device("auto")


def test_processes_are_one_for_each_gpu_and_never_more(machine: pytest.MonkeyPatch) -> None:
    assert planned_processes(on("auto", distributed__processes="auto")) == 2
    assert planned_processes(on("cuda:1", distributed__processes="auto")) == 1
    assert planned_processes(on("cpu", distributed__processes="auto")) == 1
    assert process_problems(on("cpu", distributed__processes=3)) == ()
    more = on("auto", distributed__processes=3)
    with pytest.raises(ConfigError, match="is 3, but this machine has 2 GPUs") as caught:
        check_before_start(more)
    assert caught.value.problems == estimate(more).problems
    for adjustment in caught.value.problems[0].adjustments:
        assert process_problems(parse_config(merge(more, dict(adjustment.changes)))) == ()
    (short,) = process_problems(on("auto", distributed__processes="auto", training__batch_size=1))
    assert short.path == "training.batch_size"
    found = estimate(on("cuda", distributed__processes=2, training__max_steps=300))
    assert (found.speedup, found.memory_needed) == (2, found.memory.training)


def test_a_run_is_offered_the_devices_that_it_can_train_on(machine: pytest.MonkeyPatch) -> None:
    machine.setattr("sys.platform", "linux")
    found = training_devices(on("auto").training)
    assert [one.name for one in found] == ["auto", "cuda:0", "cuda:1", "cpu"]
    assert found[0].about == "the best of them"
    assert found[1].about.startswith("NVIDIA H100 PCIe, 12 GiB")
    assert found[2].about.startswith("NVIDIA H200, 139 GiB")
    assert " core" in found[3].about
    machine.setenv("CUDA_DEVICE_ORDER", "FASTEST_FIRST")  # other numbers than the driver's
    assert training_devices(on("auto").training)[1].about == "NVIDIA H100 PCIe"
    bf16 = on("auto", training__precision="bf16").training
    assert [one.name for one in training_devices(bf16)] == ["auto", "cuda:0", "cuda:1"]
    replay(machine, Recording(()))
    assert [one.name for one in training_devices(on("cuda").training)] == ["auto", "cpu"]
    assert training_devices(bf16) == ()


@pytest.mark.fault("the card is no longer there at a resume")
def test_a_run_whose_gpu_is_gone_is_not_started_and_may_move(
    machine: pytest.MonkeyPatch, home: object
) -> None:
    run = create_run(on("cuda:1"), "calm-heron")
    choice = device_choice(run, always=True)
    assert (choice.problem, choice.current) == ("", "cuda:1")
    assert device_choice(run, always=False).devices == ()
    replay(machine, Recording((FIRST,)))
    choice = device_choice(run, always=True)
    assert choice.problem.startswith('no device "cuda:1" on this machine: it has 1 GPU')
    assert [one.name for one in choice.devices] == ["auto", "cuda:0", "cpu"]
    with pytest.raises(DeviceError, match='no device "cuda:1"') as refused:
        PendingResume.of(run).start()
    assert "rnnlm-tui resume calm-heron --device cuda:0" in refused.value.hint
    assert PendingResume.of(run).before.status == "draft"
    set_device(run, "cuda")
    choice = device_choice(run, always=True)
    assert (choice.problem, choice.current) == ("", "cuda:0")
    assert device_choice(run, always=False).devices == ()
    record(run, Facts(lost_device="cuda:0 failed: unspecified launch failure"))
    assert device_choice(run, always=True).problem == "cuda:0 failed: unspecified launch failure"


@pytest.mark.fault("a second run on the same card")
def test_a_second_run_on_a_gpu_is_warned_of_with_its_name_and_the_memory_left(
    machine: pytest.MonkeyPatch, other: str
) -> None:
    assert [run.name for run in runs_on(FIRST.uuid)] == [other]
    assert not runs_on(SECOND.uuid)
    warning = shared_gpu_warning(on("auto"))
    assert warning == (
        "noble-heron already trains on the same GPU (NVIDIA H100 PCIe), 12 GiB of 80 GiB are"
        " free: each slows the other down"
    )
    assert warning in (warning_before_start(on("cuda:0")) or "")
    assert shared_gpu_warning(on("cuda:1")) == shared_gpu_warning(on("cpu")) == ""


def test_too_little_memory_names_the_process_that_holds_it(machine: pytest.MonkeyPatch) -> None:
    large = {
        "model__hidden_size": 16_384,
        "model__cell_type": "lstm",
        "model__num_layers": 4,
        "model__tie_weights": False,
    }
    warning = warning_before_start(on("cuda:0", **large)) or ""
    assert "are free" in warning
    assert "(pid 4194711 holds 67 GiB)" in warning
    assert warning_before_start(on("cuda:1", **large)) is None
