"""Batches and figures on a CUDA GPU: those of main memory, also in a graph, without waiting."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from rnnlm_tui.engine import resident
from rnnlm_tui.engine.batches import Batches, SentenceBatches, StreamBatches
from rnnlm_tui.engine.resident import ResidentBatches

from .builders import batches_of
from .test_resident import as_ids, check

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]
GPU = torch.device("cuda:0")
MODES = ["stream", "sentences"]


@contextmanager
def waiting_is_an_error() -> Iterator[None]:
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def on_gpu(batches: Batches) -> ResidentBatches:
    batches.reside_on(GPU)
    assert batches.resident is not None
    return batches.resident


@pytest.mark.parametrize("data_mode", MODES)
def test_batches_are_those_built_in_main_memory(data_mode: str) -> None:
    plain, own = batches_of(data_mode), batches_of(data_mode)
    on_device = on_gpu(own)
    whole = on_device.shape[0] * on_device.shape[1]
    for epoch in range(3):
        on_device.seek(epoch, 0)
        for index in range(plain.steps_per_epoch):
            built = plain.batch(epoch, index)
            bucket = (built.tokens, min(whole, built.tokens + 3), whole)[index % 3]
            with waiting_is_an_error():
                inputs_BT, targets_BT, rows_N = on_device.assemble(bucket)
            if on_device.fits(index):
                rows = None if rows_N is None else rows_N.cpu()
                check(built, (inputs_BT.cpu(), targets_BT.cpu(), rows))
            exact = own.batch(epoch, index)
            assert exact.inputs_BT.is_cuda
            assert torch.equal(exact.inputs_BT[: len(built.inputs_BT)].cpu(), built.inputs_BT)


@pytest.mark.parametrize("data_mode", MODES)
def test_a_graph_puts_all_batches_together(data_mode: str) -> None:
    plain, own = batches_of(data_mode), batches_of(data_mode)
    on_device = on_gpu(own)
    bucket = on_device.shape[0] * on_device.shape[1] - 1
    on_device.seek(0, 0)
    stream = torch.cuda.Stream(GPU)  # type: ignore[no-untyped-call]
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.stream(stream):
        for _ in range(3):
            on_device.assemble(bucket)
        with torch.cuda.graph(graph, stream=stream):
            recorded = on_device.assemble(bucket)
    torch.cuda.synchronize()
    for epoch, first in [(0, 0), (1, 2), (0, 3)]:
        with waiting_is_an_error():
            on_device.seek(epoch, first)
        for index in range(first, plain.steps_per_epoch):
            if not on_device.fits(index) or on_device.rows(epoch, index) > bucket + (
                data_mode == "stream"
            ):
                on_device.seek(epoch, index + 1)
                continue
            graph.replay()
            inputs_BT, targets_BT, rows_N = recorded
            rows = None if rows_N is None else rows_N.cpu()
            check(plain.batch(epoch, index), (inputs_BT.cpu(), targets_BT.cpu(), rows))


@pytest.mark.parametrize("dtype", ["uint16", "uint32"])
def test_a_text_is_copied_in_pieces(monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    monkeypatch.setattr(resident, "PIECE_TOKENS", 1_000)
    tokens = as_ids(range(10_000, 65_536), dtype)
    before = torch.cuda.memory_allocated(GPU)
    batches = StreamBatches(tokens, 1, len(tokens) - 1)
    on_device = on_gpu(batches)
    held = torch.cuda.memory_allocated(GPU) - before
    inputs_BT, targets_BT, _ = on_device.batch(0, 0)
    assert inputs_BT[0].tolist() == tokens[:-1].tolist()
    assert targets_BT[0, -1].item() == tokens[-1]
    places = 8 * len(tokens)  # this test's window is as long as the text
    assert held - places < (3 if dtype == "uint16" else 5) * len(tokens)


def test_a_new_pass_is_copied_beside_the_work_before_it() -> None:
    lengths = [2 + index % 9 for index in range(50_000)]
    offsets = torch.tensor([0, *lengths]).cumsum(0).numpy().astype("uint64")
    tokens = as_ids([index % 60_000 for index in range(sum(lengths))], "uint16")
    plain, own = (SentenceBatches(tokens, offsets, 64, 8, 0, seed=1) for _ in range(2))
    on_device = on_gpu(own)
    matrix = torch.randn(4_096, 4_096, device=GPU)
    with waiting_is_an_error():
        found = []
        for epoch in range(6):  # every pass overwrites the order of the one before
            for _ in range(20):
                matrix = torch.tanh(matrix @ matrix)
            on_device.seek(epoch, 7)
            found.append(on_device.assemble(on_device.rows(epoch, 7)))
    for epoch, (inputs_BT, targets_BT, rows_N) in enumerate(found):
        rows = None if rows_N is None else rows_N.cpu()
        check(plain.batch(epoch, 7), (inputs_BT.cpu(), targets_BT.cpu(), rows))
