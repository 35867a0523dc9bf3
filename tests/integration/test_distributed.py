"""Several processes train one run together: with the same result as one process alone."""

from __future__ import annotations

import multiprocessing
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np
import psutil
import pytest
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from rnnlm_tui.client.control import WORKER_SETTINGS, send
from rnnlm_tui.client.monitor import summarize
from rnnlm_tui.engine.batches import (
    SentenceBatches,
    StreamBatches,
    evaluation_batches,
    stream_evaluation,
)
from rnnlm_tui.engine.distributed import Interrupted, Order, Ranks
from rnnlm_tui.engine.evaluate import evaluate
from rnnlm_tui.engine.trainer import Trainer
from rnnlm_tui.errors import InputError
from rnnlm_tui.schema.cells import CellType
from rnnlm_tui.schema.config import DataMode, OptimizerConfig, ScheduleConfig
from rnnlm_tui.schema.estimates import Schedule
from rnnlm_tui.store.checkpoints import list_checkpoints
from rnnlm_tui.store.manifest import read_manifest, verify_checkpoint
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.runs import create_run
from rnnlm_tui.system.processes import child_environment
from tests.benchmarks.exact_resume import weights_hash
from tests.faults.workers import Workers
from tests.integration.runs import (
    ENDLESS,
    PATIENCE_SECONDS,
    tiny_config,
    wait_for,
    wait_for_step,
)
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
        while (order := ranks.next_order())[0] is Order.STEP:
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
        return [one.result(PATIENCE_SECONDS) for one in asked]

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


def give_up(rank: int, store: Path) -> float:
    """Begin an evaluation that fails on rank 0 in its last batch, then do a whole one; its loss."""
    ranks = Ranks(rank, 2, dist.FileStore(str(store), 2), CPU, seconds=120.0)
    model = built_model(vocab_size=50, embedding_dim=8, hidden_size=8, num_layers=1)
    ranks.spread(model)
    text = np.random.default_rng(2).integers(1, 50, 400).astype(np.uint16)
    whole = list(stream_evaluation(text, window=50, warm_up=0))

    def fail(*_: object) -> None:
        raise ArithmeticError

    with pytest.raises(ArithmeticError if rank == 0 else Interrupted):
        evaluate(model, whole[:1], each=fail if rank == 0 else None, ranks=ranks)
    loss = evaluate(model, whole, ranks=ranks).loss
    ranks.close()
    return loss


def test_an_evaluation_that_fails_on_rank_0_ends_on_the_others(
    processes: ProcessPoolExecutor, tmp_path: Path
) -> None:
    asked = [processes.submit(give_up, rank, tmp_path / "store") for rank in range(2)]
    first, other = (one.result(PATIENCE_SECONDS) for one in asked)
    assert first == other


def wait_in_vain(rank: int, path: Path) -> str:
    """Ask for the state of a process that doesn't answer; rank 0's error."""
    store, message = dist.FileStore(str(path), 2), ""
    ranks = Ranks(rank, 2, store, CPU, seconds=5.0)
    if rank == 0:
        with pytest.raises(RuntimeError) as error:
            ranks.collect(torch.zeros(1, 3), 2)
        message = str(error.value)
        store.set("over", "")
    else:
        store.wait(["over"])
    ranks.close()
    return message


def test_rank_0_waits_for_the_state_of_another_as_long_as_in_a_step(
    processes: ProcessPoolExecutor, tmp_path: Path
) -> None:
    asked = [processes.submit(wait_in_vain, rank, tmp_path / "store") for rank in range(2)]
    message, _ = (one.result(PATIENCE_SECONDS) for one in asked)
    assert "Timed out waiting 5000ms" in message


TOGETHER = {"distributed.processes": 2}


def test_a_run_of_two_processes_is_logged_evaluated_and_saved_as_that_of_one(
    workers: Workers, text: Path
) -> None:
    config = tiny_config(text, {"model.dropout": 0.0})
    alone, run = (
        create_run(config, "alone"),
        create_run(tiny_config(text, {"model.dropout": 0.0, **TOGETHER}), "together"),
    )
    assert workers.work(alone) == 0
    pid = workers.start(run)
    (other,) = wait_for(lambda: psutil.Process(pid).children() or None, "the other process")
    assert workers.wait() == 0, run.log_path.read_text(encoding="utf-8")
    assert not psutil.pid_exists(other.pid)
    with RunReader(alone) as one, RunReader(run) as two:
        for expected, found in zip(one.recent_steps(60), two.recent_steps(60), strict=True):
            assert found.step == expected.step
            assert found.tokens_seen == expected.tokens_seen
            assert found.loss == pytest.approx(expected.loss, abs=1e-4)
            assert found.grad_norm == pytest.approx(expected.grad_norm, abs=1e-3)
        for known, row in zip(one.evaluations(), two.evaluations(), strict=True):
            assert (row.step, row.name) == (known.step, known.name)
            assert (row.tokens, row.unknown) == (known.tokens, known.unknown)
            assert row.loss == pytest.approx(known.loss, abs=1e-4)
        # Sorted: a checkpoint is written beside training.
        kinds = sorted(event.kind for event in two.events())
        assert kinds == sorted(event.kind for event in one.events())
        assert len(two.samples()) == len(one.samples()) == 3
    saved = list_checkpoints(run)
    assert [one.step for one in saved] == [one.step for one in list_checkpoints(alone)]
    for entry in saved:
        assert verify_checkpoint(entry.path).step == entry.step


def test_every_verb_steers_a_run_of_two_processes_and_a_resume_repeats_its_changes(
    workers: Workers, text: Path
) -> None:
    """The copy resumes from the checkpoint before the changes, and ends with the same bits."""
    run = create_run(
        tiny_config(text, {**TOGETHER, "training.max_steps": ENDLESS, "evaluation.every": 0})
    )
    workers.start(run)
    wait_for_step(run, 10)
    paused = send(run, "pause")
    assert "validation perplexity" in str(send(run, "evaluate").text)
    assert str(paused.step) in str(send(run, "checkpoint").checkpoint)
    changes = {"optimizer.learning_rate": 0.01, "model.dropout": 0.5}
    answer = send(run, "set", changes={**changes, "training.max_steps": paused.step + 60})
    assert answer.step == paused.step
    copy = run.path.parent / "copy"
    shutil.copytree(run.path, copy, ignore=shutil.ignore_patterns("*.sock"))
    send(run, "resume")
    assert workers.wait() == 0, run.log_path.read_text(encoding="utf-8")
    assert workers.work_together(RunDirectory(copy), "", "") == [0, 0]
    last = paused.step + 60
    assert weights_hash(RunDirectory(copy), last) == weights_hash(run, last)


def test_a_stop_saves_the_run_of_two_processes_within_a_step(workers: Workers, text: Path) -> None:
    run = create_run(tiny_config(text, {**TOGETHER, "training.max_steps": ENDLESS}))
    pids = workers.start_ranks([run, run])
    wait_for_step(run, 10)
    stopped = send(run, "stop")
    assert [workers.exit_code(pid, PATIENCE_SECONDS) for pid in pids] == [0, 0]
    assert summarize(run).status == "stopped"
    assert list_checkpoints(run)[-1].step == stopped.step


def test_a_resume_with_another_number_of_processes_is_exact_or_refused(
    workers: Workers, text: Path
) -> None:
    run = create_run(tiny_config(text, TOGETHER))
    assert workers.work_together(run, "rename.after:kill:2", "")[0] == -signal.SIGKILL
    frozen = run.config_path.read_text(encoding="utf-8")
    run.config_path.write_text(frozen.replace("processes = 2", "processes = 1"), encoding="utf-8")
    assert workers.work(run) == InputError.exit_code
    summary = summarize(run)
    assert "processes was 2, is 1" in str(summary.message)
    assert "restore processes" in str(summary.hint)
    free = frozen.replace("deterministic = true", "deterministic = false")
    run.config_path.write_text(free.replace("processes = 2", "processes = 1"), encoding="utf-8")
    assert workers.work(run) == 0
    with RunReader(run) as reader:
        notes = [event.text for event in reader.events() if event.kind == "note"]
    assert any("resumed within rounding error" in one and "was 2, is 1" in one for one in notes)


def test_torchrun_trains_a_run_to_its_end(text: Path) -> None:
    run = create_run(tiny_config(text))
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    ended = subprocess.run(
        [sys.executable, "-m", *torchrun, "-m", "rnnlm_tui.worker.train", str(run.path)],
        env=child_environment(WORKER_SETTINGS),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    summary = summarize(run)
    assert (summary.status, summary.step, summary.tokens_seen) == ("finished", 60, 60 * 4 * 16)
    environment = read_manifest(list_checkpoints(run)[-1].path).facts["environment"]
    assert isinstance(environment, dict)
    assert environment["processes"] == 2
