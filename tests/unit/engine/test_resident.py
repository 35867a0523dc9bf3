"""Batches that are put together on the device: those of main memory, without reading anything
back."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from rnnlm_tui.engine import resident
from rnnlm_tui.engine.batches import Batch, Batches, SentenceBatches, StreamBatches
from rnnlm_tui.engine.loss import IGNORED
from rnnlm_tui.engine.resident import ResidentBatches, Tokens

from .builders import batches_of, sentences, text

DTYPES = ("uint16", "uint32", "int64")
"""Types of token ids."""
CPU = torch.device("cpu")
WAITING = ("_local_scalar_dense", "nonzero", "_to_copy", "is_nonzero", "masked_select", "unique")
"""Operations whose shapes depend on values, or that may copy to another device."""


def resident_of(batches: Batches) -> ResidentBatches:
    batches.reside_on(CPU)
    assert batches.resident is not None
    return batches.resident


def counted(targets_BT: Tensor, rows_N: Tensor | None) -> Tensor:
    """The targets that reach the head, in their order."""
    targets_N = targets_BT.t().flatten()
    return targets_N if rows_N is None else targets_N[rows_N]


def check(built: Batch, assembled: tuple[Tensor, Tensor, Tensor | None]) -> None:
    """The batch is the upper left corner, padding is the rest, and the same targets count."""
    inputs_BT, targets_BT, rows_N = assembled
    count, length = built.inputs_BT.shape
    for own, theirs, filler in [
        (inputs_BT, built.inputs_BT, 0),
        (targets_BT, built.targets_BT, IGNORED),
    ]:
        assert own.dtype == torch.int64
        rest = own.clone()
        assert torch.equal(own[:count, :length], theirs)
        rest[:count, :length] = filler
        assert (rest == filler).all()
    wanted = counted(built.targets_BT, built.rows_N)
    found = counted(targets_BT, rows_N)
    if rows_N is None:
        found, wanted = found[found != IGNORED], wanted[wanted != IGNORED]
    assert torch.equal(found[: built.tokens], wanted)
    assert (found[built.tokens :] == IGNORED).all()


def as_ids(ids: Iterable[int], dtype: str) -> Tokens:
    array = np.array(list(ids))
    if dtype == "int64":
        return array.astype(np.int64)
    return array.astype(np.uint16) if dtype == "uint16" else array.astype(np.uint32)


def random_text(
    draw: random.Random,
) -> tuple[NDArray[np.uint16] | NDArray[np.uint32], NDArray[np.uint64]]:
    """Sentences of 0 to 9 tokens, at least one of them of two; ids up to the largest."""
    lengths = [draw.randint(0, 9) for _ in range(draw.randint(0, 25))]
    lengths.insert(draw.randint(0, len(lengths)), draw.randint(2, 9))
    wide, end = draw.random() < 0.5, draw.choice((None, -1))
    ids = [draw.randrange(1, 2**17 if wide else 2**16) for _ in range(sum(lengths))]
    offsets = np.cumsum([0, *lengths])[:end].astype(np.uint64)
    return np.array(ids, np.uint32) if wide else np.array(ids, np.uint16), offsets


@pytest.mark.parametrize("seed", range(60))
def test_sentences_are_those_built_in_main_memory(seed: int) -> None:
    draw = random.Random(seed)
    tokens, offsets = random_text(draw)
    batch_size, context_length = draw.randint(1, 9), draw.randint(2, 10)
    shuffle = draw.random() < 0.7
    plain, own = (
        SentenceBatches(tokens, offsets, batch_size, context_length, 0, shuffle, seed=4)
        for _ in range(2)
    )
    on_device, steps = resident_of(own), plain.steps_per_epoch
    rows, longest = on_device.shape
    assert (rows, longest) == (min(batch_size, len(plain._starts)), plain.longest)
    for _ in range(3):
        epoch, index = draw.randrange(3), draw.randrange(steps)
        built = [plain.batch(epoch, later) for later in range(index, steps)]
        assert on_device.row_counts(epoch)[index:].tolist() == [one.tokens for one in built]
        on_device.seek(epoch, index)
        for later, batch in enumerate(built, index):  # the device counts on by itself
            assert on_device.rows(epoch, later) == batch.tokens
            bucket = draw.choice(
                (batch.tokens, rows * longest, draw.randint(batch.tokens, rows * longest))
            )
            check(batch, on_device.assemble(bucket))
        exact = own.batch(epoch, index)
        check(built[0], (exact.inputs_BT, exact.targets_BT, exact.rows_N))
        assert exact.inputs_BT.shape == (rows, built[0].inputs_BT.shape[1])
        assert (exact.tokens, exact.starts_epoch) == (built[0].tokens, built[0].starts_epoch)


@pytest.mark.parametrize("seed", range(40))
def test_windows_are_those_built_in_main_memory(seed: int) -> None:
    draw = random.Random(seed)
    streams, bptt = draw.randint(1, 6), draw.randint(1, 12)
    count = streams + 1 + draw.randint(0, 70)
    tokens = as_ids([draw.randrange(2**16) for _ in range(count)], draw.choice(DTYPES))
    plain, own = StreamBatches(tokens, streams, bptt), StreamBatches(tokens, streams, bptt)
    on_device, steps = resident_of(own), plain.steps_per_epoch
    assert on_device.shape == (streams, plain.longest)
    epoch, index = draw.randrange(3), draw.randrange(steps)
    on_device.seek(epoch, index)
    for later in range(index, steps):
        batch, assembled = plain.batch(epoch, later), on_device.assemble(0)
        assert on_device.rows(epoch, later) == batch.tokens
        assert on_device.fits(later) == (batch.inputs_BT.shape == on_device.shape)
        if on_device.fits(later):
            check(batch, assembled)
        exact = own.batch(epoch, later)
        assert torch.equal(exact.inputs_BT, batch.inputs_BT)
        assert torch.equal(exact.targets_BT, batch.targets_BT)
        assert (exact.tokens, exact.continues) == (batch.tokens, batch.continues)
    counts = [plain.batch(0, index).tokens for index in range(steps)]
    assert on_device.row_counts(0).tolist() == counts


@pytest.mark.parametrize("data_mode", ["stream", "sentences"])
def test_after_the_last_batch_the_pass_begins_again(data_mode: str) -> None:
    batches = batches_of(data_mode)
    on_device, steps = resident_of(batches), batches.steps_per_epoch
    whole = on_device.shape[0] * on_device.shape[1]
    on_device.seek(1, 0)
    first = on_device.assemble(whole)[0]
    for _ in range(2 * steps - 1):
        on_device.assemble(whole)
    assert torch.equal(on_device.assemble(whole)[0], first)


@pytest.mark.parametrize("data_mode", ["stream", "sentences"])
def test_a_batch_of_another_pass_leaves_the_counts_of_the_next_right(data_mode: str) -> None:
    batches, plain = batches_of(data_mode), batches_of(data_mode)
    on_device = resident_of(batches)
    on_device.seek(0, 2)
    on_device.row_counts(3)  # asked ahead, for the choice of buckets
    on_device.rows(2, 0)
    check(plain.batch(0, 2), on_device.assemble(on_device.rows(0, 2)))


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records what reaches the device, and with which shapes."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[tuple[str, object]] = []

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        shape = tuple(found.shape) if isinstance(found, Tensor) else None
        self.calls.append((str(func), shape))
        return found


@pytest.mark.parametrize("data_mode", ["stream", "sentences"])
def test_assembling_waits_for_nothing_and_has_the_same_shapes_each_time(data_mode: str) -> None:
    batches = batches_of(data_mode)
    on_device = resident_of(batches)
    on_device.seek(0, 0)
    seen = []
    for _ in range(batches.steps_per_epoch):
        with Operations() as operations:
            on_device.assemble(44)
        seen.append(operations.calls)
    assert all(one == seen[0] for one in seen)
    conversions = [name for name, _ in seen[0] if "_to_copy" in name]
    assert len(conversions) == 1, "the ids are widened"
    assert not [
        name for name, _ in seen[0] if any(part in name for part in WAITING if part != "_to_copy")
    ]
    launches = [name for name, _ in seen[0] if not any(part in name for part in VIEWS)]
    assert len(launches) <= {"stream": 7, "sentences": 14}[data_mode], launches


VIEWS = ("view", "slice", "select.int", "squeeze", "unbind", ".t.", "transpose", "expand", "alias")
"""Operations that launch nothing."""


@pytest.mark.parametrize("data_mode", ["stream", "sentences"])
def test_seeking_in_a_pass_copies_nothing(data_mode: str) -> None:
    on_device = resident_of(batches_of(data_mode))
    on_device.seek(2, 0)
    with Operations() as operations:
        on_device.seek(2, 3)
    assert [name for name, _ in operations.calls] == ["aten.fill_.Scalar"]


@pytest.mark.parametrize("data_mode", ["stream", "sentences"])
def test_batches_can_be_put_together_on_a_device_without_data(data_mode: str) -> None:
    """On torch's `meta` device every operation that needs a value fails."""
    batches = batches_of(data_mode)
    batches.reside_on(torch.device("meta"))
    assert batches.resident is not None
    batches.resident.seek(0, 1)
    inputs_BT, targets_BT, rows_N = batches.resident.assemble(20)
    assert inputs_BT.shape == targets_BT.shape == batches.resident.shape
    assert (rows_N is None) == (data_mode == "stream")
    assert rows_N is None or rows_N.shape == (20,)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_text_is_copied_in_pieces(monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    tokens = as_ids(range(64_536, 65_536), dtype)
    for piece in (1, 7, 999, 1_000, 5_000):
        monkeypatch.setattr(resident, "PIECE_TOKENS", piece)
        on_device = resident_of(StreamBatches(tokens, 1, 999))
        assert on_device.assemble(0)[0][0].tolist() == tokens[:-1].tolist()


def test_host_memory_does_not_grow_with_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resident, "PIECE_TOKENS", 10_000)
    tokens = np.zeros(4_000_000, np.uint16)
    batches = StreamBatches(tokens, 16, 35)
    tracemalloc.start()
    try:
        batches.reside_on(torch.device("meta"))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 300_000, "a piece at a time, not 8 MB"


def test_two_bytes_are_kept_for_each_id_of_a_small_vocabulary() -> None:
    for dtype, size in (("uint16", 2), ("uint32", 4)):
        tokens = resident._TokensOnDevice(as_ids(text(100), dtype), CPU)
        assert tokens._ids.element_size() == size


def test_tokens_that_take_too_much_of_a_gpu_stay_in_main_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tokens, offsets = sentences(37)
    needed = 2 * len(tokens) + 8 * 37
    for free, fits in [(4 * needed, True), (4 * needed - 4, False)]:
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _, free=free: (free, 10**9))
        assert resident.fits_in_memory(tokens, len(offsets) - 1, torch.device("cuda:0")) == fits
