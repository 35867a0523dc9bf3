"""Several processes train one model together: with the same result as one process alone."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from rnnlm_tui.engine.batches import SentenceBatches, StreamBatches, evaluation_batches
from rnnlm_tui.engine.distributed import Order, Ranks
from rnnlm_tui.engine.evaluate import evaluate
from rnnlm_tui.engine.trainer import Trainer
from rnnlm_tui.schema.cells import CellType
from rnnlm_tui.schema.config import DataMode, OptimizerConfig, ScheduleConfig
from rnnlm_tui.schema.estimates import Schedule
from tests.unit.engine.builders import built_model

MOST_PROCESSES = 4
SPREADS = ((2, 1, False), (4, 1, False), (2, 2, True), (1, 4, False))
"""Processes, parts of each, and whether in exact mode."""
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Case:
    """A tiny model and how it's trained."""

    cell: CellType
    mode: DataMode
    steps: int = 6
    size: int = 1
    """Processes."""
    accumulate: int = 1
    exact: bool = False

    def trainer(self, ranks: Ranks | None) -> Trainer:
        """In double precision, without dropout; several passes over the text in 100 steps, the last
        batch of each smaller: two sentences, or a shorter window."""
        tokens = np.random.default_rng(0).integers(1, 50, 1_640).astype(np.uint16)
        if self.mode == "stream":
            batches: StreamBatches | SentenceBatches = StreamBatches(tokens, 9, 8)
        else:
            offsets = np.arange(0, len(tokens), 10).astype(np.uint64)
            lengths = np.random.default_rng(1).integers(0, 8, len(offsets)).astype(np.uint64)
            batches = SentenceBatches(tokens, offsets + lengths, 9, 20, 0, seed=3)
        model = built_model(
            cell_type=self.cell,
            embedding_dim=16,
            hidden_size=16,
            num_layers=2,
            num_heads=2,
            vocab_size=50,
            pad_id=0 if batches.pads else None,
            seed=1 if ranks is None or ranks.leads else 2,
        ).double()
        return Trainer(
            model,
            batches,
            max_steps=self.steps,
            schedule=Schedule(0.01, 0, ScheduleConfig(kind="constant")),
            optimizer=OptimizerConfig(),
            accumulate=self.accumulate,
            ranks=ranks,
        )


@dataclass(frozen=True)
class Result:
    """What is left of a training, as one process sees it."""

    weights: Mapping[str, NDArray[np.float64]]
    tokens: int
    own_tokens: int
    """Targets of this process's shares."""
    losses: Sequence[float]
    validation: tuple[float, int]
    """Loss and targets."""
    state: Mapping[str, NDArray[np.float64]]
    """Rank 0's: carried state of all rows, and the optimizer's."""


def train(case: Case, rank: int = 0, store: Path | None = None) -> Result:
    """Train as one of the case's processes, then evaluate with all of them."""
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)  # also of states and sums
    ranks = None
    if case.size > 1:
        found = dist.FileStore(str(store), case.size)
        ranks = Ranks(rank, case.size, found, CPU, seconds=120.0, exact=case.exact)
    trainer = case.trainer(ranks)
    losses, state = [], {}
    if rank == 0:
        losses = [float(trainer.train_step().loss) for _ in range(case.steps)]
        state = {
            name: tensor
            for name, tensor in trainer.state_dict().tensors.items()
            if not name.startswith("random")
        }
    else:
        assert ranks is not None
        while (order := ranks.told())[0] is Order.STEP:
            trainer.follow_step(*order[1], seed=rank)
        assert order[0] is Order.COLLECT
        trainer.send_carried()
    text = np.random.default_rng(2).integers(1, 50, 700).astype(np.uint16)
    batches = evaluation_batches(
        text,
        np.arange(0, 700, 7).astype(np.uint64),
        data_mode=case.mode,
        context_length=20,
        pad_id=0,
    )
    score = evaluate(trainer.model, batches, ranks=ranks)
    if ranks is not None:
        ranks.close()
    return Result(
        as_arrays(trainer.model.state_dict()),
        trainer.tokens_seen,
        trainer.tokens_seen if ranks is None else ranks.tokens,
        losses,
        (score.loss, score.tokens),
        as_arrays(state),
    )


def as_arrays(tensors: Mapping[str, torch.Tensor]) -> dict[str, NDArray[np.float64]]:
    """The tensors in a form that is sent between processes as it is."""
    return {name: tensor.detach().numpy().copy() for name, tensor in tensors.items()}


Train = Callable[[Case], list[Result]]


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPoolExecutor]:
    """Processes that import everything once, for all cases."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(MOST_PROCESSES, mp_context=context) as started:
        yield started


@pytest.fixture
def trained(processes: ProcessPoolExecutor, tmp_path: Path) -> Train:
    """Train a case in its processes; the result of each."""

    def in_processes(case: Case) -> list[Result]:
        store = tmp_path / str(case)
        asked = [processes.submit(train, case, rank, store) for rank in range(case.size)]
        return [one.result() for one in asked]

    return in_processes


def compare(together: list[Result], alone: Result) -> None:
    """The processes together must have trained as one does alone."""
    first = together[0]
    assert max(abs(np.subtract(first.losses, alone.losses))) < 1e-5
    assert first.validation[0] == pytest.approx(alone.validation[0], abs=1e-9)
    assert first.validation[1] == alone.validation[1]
    assert sum(one.own_tokens for one in together) == first.tokens == alone.tokens
    assert first.state.keys() == alone.state.keys()
    for found, expected in ((first.state, alone.state), (first.weights, alone.weights)):
        for name, values in expected.items():
            np.testing.assert_allclose(found[name], values, rtol=1e-9, atol=1e-12, err_msg=name)
    for other in together[1:]:
        assert other.tokens == first.tokens
        assert other.validation == first.validation
        for name, values in first.weights.items():
            np.testing.assert_array_equal(other.weights[name], values, err_msg=name)


@pytest.mark.parametrize(("cell", "mode"), [("lstm", "stream"), ("elman", "sentences")])
def test_hundred_steps_of_several_processes_or_parts_are_those_of_one(
    trained: Train, cell: CellType, mode: DataMode
) -> None:
    """Also of the last batch of a pass, which has fewer sentences than there are parts."""
    case = Case(cell, mode, steps=100)
    (alone,) = trained(case)
    carried = [values.shape[0] for name, values in alone.state.items() if "carried" in name]
    assert carried == ([9, 9, 9, 9] if mode == "stream" else [])
    for size, accumulate, exact in SPREADS:
        compare(trained(replace(case, size=size, accumulate=accumulate, exact=exact)), alone)


@pytest.mark.parametrize("cell", get_args(CellType))
def test_two_processes_train_every_cell_as_one_does(trained: Train, cell: CellType) -> None:
    for mode in get_args(DataMode):
        (alone,) = trained(Case(cell, mode))
        compare(trained(Case(cell, mode, size=2, accumulate=2)), alone)
