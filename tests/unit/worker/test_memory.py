"""The memory that a run needs against what is available, and what the messages say."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from rnnlm_tui.engine.device import NO_PRIMITIVE, out_of_memory
from rnnlm_tui.errors import DeviceError
from rnnlm_tui.schema.config import ModelConfig, RunConfig, TrainingConfig
from rnnlm_tui.schema.memory import PROCESS_BYTES
from rnnlm_tui.worker.memory import MemoryBudget
from tests.fakes.nvml import GIB, THIS_PROCESS, Recording, plain_card, replay
from tests.fakes.torch_build import install_torch
from tests.unit.engine.builders import trainer_of

CONFIG = RunConfig(
    model=ModelConfig(embedding_dim=512, hidden_size=512),
    training=TrainingConfig(batch_size=256, bptt=64),
)


def budget(monkeypatch: pytest.MonkeyPatch, *, free: int) -> MemoryBudget:
    """On a machine with this many free bytes and without Triton, for a process that holds none."""
    monkeypatch.setattr("rnnlm_tui.schema.memory.process_bytes", lambda: PROCESS_BYTES)
    monkeypatch.setattr("rnnlm_tui.engine.memory.memory_available", lambda: free)
    monkeypatch.setattr("rnnlm_tui.worker.memory.held_bytes", lambda _: 0)
    return MemoryBudget("plain-otter", CONFIG, torch.device("cpu"), vocab_size=5_000, sentences=100)


def test_a_run_that_does_not_fit_is_reported_with_need_have_and_a_batch_that_fits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    needed = budget(monkeypatch, free=2**40).needed
    smaller = "a smaller model.hidden_size, model.num_layers or tokenizer.vocab_size needs less"
    for free, batch, words in (
        (needed, None, ""),
        (needed - 1, 255, "0.8 GiB of memory, 0.8 GiB free: training.batch_size = 255 should fit"),
        (2**20, None, f"0.8 GiB of memory, 1 MiB free: {smaller}"),
    ):
        shortage = budget(monkeypatch, free=free).shortage()
        assert shortage.memory_batch == batch
        assert shortage.memory_warning == (words and f"needs an estimated {words}")


def test_a_model_larger_than_the_machine_is_refused_before_it_is_built(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = budget(monkeypatch, free=2**40)
    with whole.building():
        pass
    monkeypatch.setattr("rnnlm_tui.worker.memory.memory_total", lambda: 2**20)
    with pytest.raises(DeviceError, match=r"needs .* this machine has 1 MiB"), whole.building():
        pytest.fail("built")


def test_a_process_limit_bounds_the_available_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    limited = budget(monkeypatch, free=2**40)
    process = SimpleNamespace(memory_info=lambda: SimpleNamespace(vms=2**26))
    monkeypatch.setattr("psutil.Process", lambda: process)
    monkeypatch.setattr("resource.getrlimit", lambda _: (2**28, 2**28))
    assert limited.available() == 2**28 - 2**26


def test_after_out_of_memory_the_suggested_batch_is_smaller_even_if_the_estimate_fits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    short = out_of_memory("a step", (256, 64))
    short.__cause__ = MemoryError()
    told = budget(monkeypatch, free=2**40).explained(short, 0)
    assert told.message.startswith(
        "out of memory in a step of 256 x 64 tokens (elman, 2 x 512 units, 5,000 types, 0.8 GiB"
        " estimated, "
    )
    assert told.hint == "training.batch_size = 128 should fit"


def test_another_device_error_is_not_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = DeviceError("no device cuda")
    assert budget(monkeypatch, free=2**40).explained(refused, 0) is refused


def test_a_matmul_that_fails_at_any_size_is_not_out_of_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trainer = trainer_of("stream")

    def refuse(*_: object, **__: object) -> object:
        raise RuntimeError(NO_PRIMITIVE)

    monkeypatch.setattr(type(trainer.model), "forward", refuse)
    with pytest.raises(RuntimeError, match=NO_PRIMITIVE) as caught:
        budget(monkeypatch, free=2**40).rehearse(trainer, lambda _phase: None)
    assert not isinstance(caught.value, DeviceError)


def test_a_gpu_without_room_names_the_process_that_holds_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    card = plain_card(free=GIB // 4, processes=[(99_999_999, 79 * GIB), (THIS_PROCESS, GIB)])
    driver = replay(monkeypatch, Recording((card,)))
    install_torch(monkeypatch, [card])
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 0)
    full = MemoryBudget(
        "plain-otter", CONFIG, torch.device("cuda:0"), vocab_size=5_000, sentences=9
    )
    assert "0.2 GiB free, pid 99999999 holds 79 GiB: " in full.shortage().memory_warning
    short = out_of_memory("a step", (256, 64))
    short.__cause__ = torch.OutOfMemoryError("CUDA out of memory")
    assert "0.2 GiB available, pid 99999999 holds 79 GiB)" in full.explained(short, 500).message
    with pytest.raises(DeviceError, match="of weights, pid 99999999 holds 79 GiB"), full.building():
        raise torch.OutOfMemoryError("CUDA out of memory")
    # a container's driver lists the process ids of its host: ours is one
    driver.change(0, ComputeRunningProcesses=[{"pid": 99_999_999, "usedGpuMemory": 79 * GIB}])
    assert "pid" not in full.shortage().memory_warning
