"""What a training step asks of a GPU, counted on torch's meta device: never to wait for it, and no
more launches than a cap for each cell."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from rnnlm_tui.engine.cells import CELLS
from tests.tools.launches import (
    BOOK,
    LARGE,
    PHASES,
    Counting,
    Shape,
    as_on_cuda,
    count_step,
    cudnn_launches,
    launches,
    many_tensors,
    table,
)

EVERY_CELL = pytest.mark.parametrize("cell", sorted(CELLS))
CAPS = {
    "elman": 90,
    "gru": 90,
    "lstm": 92,
    "mingru": 91,
    "minlstm": 111,
    "mlstm": 355,
    "slstm": 101,
}
"""Launches of a step of the book's model and batch as a CUDA graph records it, with AdamW and
clipping."""
SMALL = Shape(50, 16, 16, batch_size=3, steps=6, rows=8)
STREAM = Shape(50, 16, 16, batch_size=3, steps=6, rows=None)


@EVERY_CELL
def test_a_step_stays_below_the_cap_and_never_waits(cell: str) -> None:
    found = launches(cell, BOOK)
    assert found["waits"] == found["host copies"] == 0
    assert found["total"] == sum(found[phase] for phase in PHASES)
    assert found["total"] <= CAPS[cell]


@EVERY_CELL
@pytest.mark.parametrize(
    "options",
    [
        {"dropout": 0.2},
        {"dropout": 0.2, "all_dropouts": True, "tie_weights": True},
        {"reduced": True},
        {"algorithm": "sgd", "max_grad_norm": 0.0},
        {"triton": False},
    ],
)
def test_no_setting_makes_a_step_wait(cell: str, options: dict[str, object]) -> None:
    for shape in (SMALL, STREAM):
        count = count_step(cell, shape, **options)  # type: ignore[arg-type]
        assert not count.waits
        assert not count.host_copies


def test_only_slstms_own_loop_takes_launches_for_each_time_step() -> None:
    for cell, most in (("elman", 140), ("minlstm", 230), ("mlstm", 410), ("slstm", 1_310)):
        assert launches(cell, BOOK, triton=False)["total"] <= most


@pytest.mark.parametrize("cell", ["elman", "gru", "lstm"])
def test_layers_share_a_call_of_cudnn_unless_something_is_dropped_between_them(cell: str) -> None:
    assert launches(cell, SMALL)["cudnn calls"] == 2
    assert launches(cell, SMALL, dropout=0.2)["cudnn calls"] == 4


def test_what_waits_for_the_device_is_found() -> None:
    numbers = torch.zeros(4, device="meta")
    with Counting() as counting:
        numbers.sum().item()
        bool((numbers > 0).all())
        numbers.cpu()
        torch.zeros(3).to("meta")
        numbers.copy_(torch.zeros(4))
        numbers[1:] = 0.0
        with pytest.raises(NotImplementedError):
            numbers.nonzero()
    assert counting.count.waits == {"_local_scalar_dense": 2, "nonzero": 1}
    assert counting.count.host_copies == {"_to_copy": 2, "copy_": 1}


def test_views_and_allocations_are_free_and_addends_are_copied() -> None:
    square = torch.zeros(4, 4, device="meta")
    with Counting() as counting:
        square.view(16)[2:].unsqueeze(0).expand(3, 14).chunk(2, 1)
        torch.empty_like(square)
        square.detach().unbind(0)
        torch.zeros(9).add_(1)  # on the host
    assert counting.count.launches == 0
    with Counting() as counting:
        F.linear(square, square, square[0])
        torch.addmm(square, square, square)
        square.addmm_(square, square)
    assert counting.count.operations == {
        "forward addmm": 3,
        "forward addmm_": 1,
    }


def test_dropout_is_one_kernel() -> None:
    numbers = torch.zeros(4, device="meta")
    with as_on_cuda(), Counting() as counting:
        F.dropout(numbers, 0.5, training=True)
    assert counting.count.operations == {"forward native_dropout": 1}


def test_many_tensors_are_split_by_number_and_by_blocks() -> None:
    def tensors(count: int, numbers: int) -> list[torch.Tensor]:
        return [torch.zeros(numbers, device="meta") for _ in range(count)]

    assert many_tensors([tensors(110, 5)]) == 1
    assert many_tensors([tensors(111, 5)]) == 2
    assert many_tensors([tensors(37, 5)] * 4) == 2
    assert many_tensors([tensors(1, 320 * 65_536)]) == 1
    assert many_tensors([tensors(1, 320 * 65_536 + 1)]) == 2
    assert many_tensors([tensors(3, 200 * 65_536)]) == 2


def test_cudnns_launches_depend_on_the_width_and_on_the_steps_above_it() -> None:
    assert cudnn_launches(29, 128, 2, mode=1) == cudnn_launches(70, 128, 2, mode=1) == (4, 10)
    assert cudnn_launches(70, 1_024, 1, mode=2) == (141, 144)


def test_the_table_names_every_cell() -> None:
    lines = list(table(SMALL))
    assert [line.split()[0] for line in lines[1:]] == list(CELLS)
    assert launches("lstm", LARGE)["total"] > launches("lstm", BOOK)["total"]
