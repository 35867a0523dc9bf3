"""CUDA graphs on a fake device: the same training as by single launches, also after failures."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from rnnlm_tui.engine import graphs
from rnnlm_tui.engine.cells import CELLS
from rnnlm_tui.engine.evaluate import evaluate
from rnnlm_tui.engine.graphs import (
    CopiedBatches,
    RateTable,
    StepGraphs,
    bucket_sizes,
    differ,
    graphs_wanted,
)
from rnnlm_tui.engine.memory import rehearse_evaluation
from rnnlm_tui.engine.model import RecurrentLanguageModel
from rnnlm_tui.engine.optim import set_learning_rate
from rnnlm_tui.engine.padded_loss import padded_mean_loss
from rnnlm_tui.engine.snapshot import SnapshotCopies, snapshot_of
from rnnlm_tui.engine.softmax import PLAIN
from rnnlm_tui.engine.trainer import Trainer
from rnnlm_tui.errors import DeviceError
from tests.fakes.cuda import FakeCuda, Phase, counted_operations
from tests.fakes.cuda import Graph as FakeGraph

from .builders import trainer_of

CPU = torch.device("cpu")
MODES = ["stream", "sentences"]
PHASES: list[Phase] = ["keeping", "warm-up", "forward", "backward", "update", "replay"]


def gpu_loss(
    hidden_NH: Tensor, weight_VH: Tensor, bias_V: Tensor, targets_N: Tensor, *, reduced: bool
) -> Tensor:
    """The loss as GPUs compute it."""
    return padded_mean_loss(hidden_NH, weight_VH, bias_V, targets_N, reduced=reduced, softmax=PLAIN)


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    found = FakeCuda()
    found.install(monkeypatch)
    monkeypatch.setattr("rnnlm_tui.engine.model.mean_loss", gpu_loss)
    monkeypatch.setattr(graphs, "CLEARLY_FASTER", 0.0)
    monkeypatch.setattr(graphs, "ROWS_MULTIPLE", 1)
    monkeypatch.setattr(graphs, "TRIALS", 6)
    monkeypatch.setattr(graphs, "TRIAL_SECONDS", float(2**20))
    # oneDNN's LSTM returns a workspace that is only good at its first address.
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    return found


def plain_trainer(
    data_mode: str,
    *,
    cell_type: str = "elman",
    optimizer: str = "adamw",
    dropout: float = 0.0,
    all_dropouts: bool = False,
    resident: bool = True,
) -> Trainer:
    """A trainer as on a GPU: the rate in a tensor, batches put together by operations."""
    trainer = trainer_of(
        data_mode,
        cell_type=cell_type,
        optimizer=optimizer,
        dropout=0.2 if all_dropouts else dropout,
        all_dropouts=all_dropouts,
        max_steps=40,
    )
    for group in trainer.optimizer.param_groups:
        group["lr"] = torch.tensor(group["lr"])
    if resident:
        trainer.batches.reside_on(CPU)
    return trainer


def graphed(trainer: Trainer) -> Trainer:
    """The same trainer; its first step tries graphs."""
    vars(trainer).update(_may_graph=True, _tries_graphs=True)
    return trainer


def graphs_of(trainer: Trainer) -> StepGraphs | None:
    return cast(StepGraphs | None, vars(trainer)["_graphs"])


def train(trainer: Trainer, steps: int) -> Tensor:
    return torch.tensor([trainer.train_step().loss.item() for _ in range(steps)])


def everything(trainer: Trainer) -> dict[str, Tensor]:
    """Copies of weights, moments, counts, carried state and generators."""
    state = trainer.state_dict()
    found = {**state.tensors, **dict(trainer.model.named_parameters())}
    return {name: tensor.detach().clone() for name, tensor in found.items()}


def assert_equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def assert_close(first: Tensor, second: Tensor) -> None:
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("cell_type", sorted(CELLS))
def test_streams_train_to_the_last_bit_as_without_graphs(
    card: FakeCuda, cell_type: str, optimizer: str
) -> None:
    """Dropout, carried state and short last windows included: 12 steps are 2.4 passes."""
    plain = plain_trainer("stream", cell_type=cell_type, optimizer=optimizer, dropout=0.2)
    expected = train(plain, 12)
    trainer = graphed(
        plain_trainer("stream", cell_type=cell_type, optimizer=optimizer, dropout=0.2)
    )
    assert torch.equal(train(trainer, 12), expected)
    assert_equal(everything(trainer), everything(plain))
    assert card.captures == 1


@pytest.mark.parametrize("cell_type", ["elman", "lstm", "gru"])
def test_all_kinds_of_dropout_draw_the_same_in_streams(card: FakeCuda, cell_type: str) -> None:
    expected = train(plain_trainer("stream", cell_type=cell_type, all_dropouts=True), 7)
    trainer = graphed(plain_trainer("stream", cell_type=cell_type, all_dropouts=True))
    assert torch.equal(train(trainer, 7), expected)
    assert card.captures == 1


@pytest.mark.parametrize("cell_type", sorted(CELLS))
def test_sentences_train_as_without_graphs_up_to_rounding(card: FakeCuda, cell_type: str) -> None:
    """Each batch is padded to its bucket, and the last of a pass has fewer sentences."""
    expected = train(plain_trainer("sentences", cell_type=cell_type), 12)
    trainer = graphed(plain_trainer("sentences", cell_type=cell_type))
    assert_close(train(trainer, 12), expected)
    recorded = graphs_of(trainer)
    assert recorded is not None
    assert card.captures == len(recorded.buckets) > 3
    assert tuple(vars(recorded)["_graphs"]) == recorded.buckets[::-1], "the largest first"
    assert len(card.pools) == 1
    assert all(parameter.grad is None for parameter in trainer.model.parameters())
    assert not card.holds(vars(trainer.optimizer).get("found_inf"))
    assert card.replays == graphs.WARM_UPS + graphs.TRIALS + 12, "no step was launched"


@pytest.mark.parametrize("data_mode", MODES)
def test_a_text_too_large_for_the_device_is_copied_batch_by_batch(
    card: FakeCuda, data_mode: str
) -> None:
    plain = plain_trainer(data_mode, resident=False)
    expected = train(plain, 12)
    trainer = graphed(plain_trainer(data_mode, resident=False))
    assert_close(train(trainer, 12), expected)
    assert trainer.tokens_seen == plain.tokens_seen
    assert card.captures == 1
    assert isinstance(vars(graphs_of(trainer))["_source"], CopiedBatches)


@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("data_mode", MODES)
def test_all_that_a_recording_reads_outlives_it(
    card: FakeCuda, data_mode: str, resident: bool
) -> None:
    """CUDA reads addresses. The fake's recordings keep the tensors, which would hide one that
    nothing else keeps."""
    trainer = graphed(plain_trainer(data_mode, dropout=0.2, resident=resident))
    train(trainer, 6)  # beyond a pass
    recorded = [cast(FakeGraph, graph) for graph in vars(graphs_of(trainer))["_graphs"].values()]
    pool = {tensor.untyped_storage().data_ptr() for graph in recorded for tensor in graph.memory}
    read: dict[int, weakref.ref[torch.UntypedStorage]] = {}
    for operation in (operation for graph in recorded for operation in graph.operations):
        for tensor in tree_leaves((operation.arguments, operation.keywords)):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                read[storage.data_ptr()] = weakref.ref(storage)
    operation = tensor = storage = None  # type: ignore[assignment]
    for graph in recorded:
        graph.operations.clear()
    gc.collect()
    outside = {place: found for place, found in read.items() if place not in pool}
    assert len(outside) > 3 * len(list(trainer.model.parameters()))  # with their moments
    assert all(found() is not None for found in outside.values())


@pytest.mark.parametrize("data_mode", MODES)
@pytest.mark.parametrize("graphed_first", [True, False])
@pytest.mark.parametrize("stop_at", [3, 5, 7])
def test_a_run_resumes_with_or_without_graphs(
    card: FakeCuda, data_mode: str, graphed_first: bool, stop_at: int
) -> None:
    dropout = 0.2 if data_mode == "stream" else 0.0
    expected = train(plain_trainer(data_mode, dropout=dropout), 12)
    first = plain_trainer(data_mode, dropout=dropout)
    began = train(graphed(first) if graphed_first else first, stop_at)
    state = first.state_dict()
    second = plain_trainer(data_mode, dropout=dropout)
    second.model.load_state_dict(first.model.state_dict())
    second.load_state_dict(state)
    ended = train(second if graphed_first else graphed(second), 12 - stop_at)
    found = torch.cat([began, ended])
    if data_mode == "stream":
        assert torch.equal(found, expected)
    assert_close(found, expected)


@pytest.mark.parametrize("data_mode", MODES)
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("steps_before", [0, 3])
def test_a_failure_while_graphs_are_tried_changes_nothing(
    card: FakeCuda, data_mode: str, phase: Phase, steps_before: int
) -> None:
    expected = train(plain_trainer(data_mode, dropout=0.2), steps_before + 4)[steps_before:]
    trainer = plain_trainer(data_mode, dropout=0.2)
    train(trainer, steps_before)
    before, addresses = everything(trainer), [p.data_ptr() for p in trainer.model.parameters()]
    card.fails_in = phase
    with card.kept_copies():
        graphed(trainer)._try_graphs()
    assert card.fails_in is None, "it happened"
    assert gc.isenabled()
    assert trainer.graph_note == "no CUDA graphs: out of memory"
    assert graphs_of(trainer) is None
    assert_equal(everything(trainer), before)
    assert all(parameter.grad is None for parameter in trainer.model.parameters())
    assert [p.data_ptr() for p in trainer.model.parameters()] == addresses
    assert not card.holds(vars(trainer.optimizer).get("found_inf"))
    if phase != "keeping":
        assert card.resets >= (phase not in ("warm-up",))
        assert card.events[-1] == "empty_cache"
    assert torch.equal(train(trainer, 4), expected)


@pytest.mark.parametrize("recovers", [True, False])
def test_a_recording_that_waits_for_the_device_is_refused_with_torchs_words(
    card: FakeCuda, monkeypatch: pytest.MonkeyPatch, recovers: bool
) -> None:
    def waiting(*arguments: Tensor, reduced: bool) -> Tensor:
        loss = gpu_loss(*arguments, reduced=reduced)
        loss.item()
        return loss

    expected = train(plain_trainer("stream", dropout=0.2), 5)
    monkeypatch.setattr("rnnlm_tui.engine.model.mean_loss", waiting)
    card.recovers = recovers
    trainer = graphed(plain_trainer("stream", dropout=0.2))
    assert torch.equal(train(trainer, 5), expected)
    assert trainer.graph_note == (
        "no CUDA graphs: CUDA error: operation not permitted when stream is capturing"
    )
    assert card.capturing is None
    assert card.events.count("release pool") == (not recovers), "torch, or we"


def test_an_error_of_any_kind_leaves_steps_launched_and_its_traceback_in_the_log(
    card: FakeCuda, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = train(plain_trainer("stream", dropout=0.2), 5)
    card.fails_in, card.error = "forward", ValueError("out of resource\nshared memory")
    trainer = graphed(plain_trainer("stream", dropout=0.2))
    assert torch.equal(train(trainer, 5), expected)
    assert trainer.graph_note == "no CUDA graphs: out of resource"
    assert "in record\n" in capsys.readouterr().err


def test_a_slow_step_is_tried_a_few_times_only(
    card: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "TRIAL_SECONDS", 0.0)
    train(graphed(plain_trainer("stream")), 1)
    assert card.replays == graphs.WARM_UPS + graphs.LEAST_TRIALS + 1


@pytest.mark.parametrize("data_mode", MODES)
def test_a_replay_out_of_memory_frees_the_graphs_and_the_step_is_launched(
    card: FakeCuda, data_mode: str
) -> None:
    dropout = 0.2 if data_mode == "stream" else 0.0
    plain = plain_trainer(data_mode, dropout=dropout)
    expected = train(plain, 8)
    trainer = graphed(plain_trainer(data_mode, dropout=dropout))
    began = train(trainer, 3)
    trainer.graph_note = ""
    card.fails_in = "replay"
    found = torch.cat([began, train(trainer, 5)])
    assert graphs_of(trainer) is None
    assert trainer.graph_note == (
        "out of memory in a step: CUDA graphs were freed, steps run without"
    )
    assert card.resets == card.captures
    assert card.events[-1] == "empty_cache"
    assert_close(found, expected)
    if data_mode == "stream":
        assert_equal(everything(trainer), everything(plain))
    replays = card.replays
    trainer.set_dropout(0.1)
    train(trainer, 2)
    assert card.replays == replays, "they aren't recorded again"


def test_another_error_in_a_replay_ends_the_step_and_updates_nothing(card: FakeCuda) -> None:
    trainer = graphed(plain_trainer("stream"))
    train(trainer, 2)
    before = everything(trainer)
    card.fails_in, card.error = "replay", RuntimeError("CUDA error: unspecified launch failure")
    with pytest.raises(RuntimeError, match="unspecified launch failure"):
        trainer.train_step()
    assert_equal(everything(trainer), before)
    assert trainer.step == 2
    assert graphs_of(trainer) is not None


def test_a_short_window_out_of_memory_beside_graphs_is_tried_again_without_them(
    card: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = plain_trainer("stream", dropout=0.2)
    expected = train(plain, 8)
    trainer = graphed(plain_trainer("stream", dropout=0.2))
    began = train(trainer, 4)
    forward = type(trainer.model).forward
    attempts = 0

    def with_little_memory(*arguments: object, **settings: object) -> object:
        nonlocal attempts
        attempts += 1
        done = forward(*arguments, **settings)  # type: ignore[arg-type]
        if graphs_of(trainer) is not None:
            raise card.error
        return done

    monkeypatch.setattr(type(trainer.model), "forward", with_little_memory)
    fifth = train(trainer, 1)
    assert attempts == 2
    assert torch.equal(torch.cat([began, fifth, train(trainer, 3)]), expected)
    assert_equal(everything(trainer), everything(plain))


@pytest.mark.parametrize("graphs_kept", [True, False])
def test_a_step_out_of_memory_frees_the_copy_for_checkpoints_before_the_graphs(
    card: FakeCuda, monkeypatch: pytest.MonkeyPatch, graphs_kept: bool
) -> None:
    plain = plain_trainer("stream", dropout=0.2)
    expected = train(plain, 8)
    trainer = graphed(plain_trainer("stream", dropout=0.2))
    began = train(trainer, 4)
    trainer.graph_note = ""
    forward = type(trainer.model).forward
    copies, freed = [b"a copy"], list[str]()

    def free_copy(doing: str) -> bool:
        freed.append(doing)
        return bool(copies and copies.pop())

    def with_little_memory(*arguments: object, **settings: object) -> object:
        done = forward(*arguments, **settings)  # type: ignore[arg-type]
        if copies or (graphs_of(trainer) is not None and not graphs_kept):
            raise card.error
        return done

    trainer.free_copy = free_copy
    monkeypatch.setattr(type(trainer.model), "forward", with_little_memory)
    found = torch.cat([began, train(trainer, 4)])
    assert torch.equal(found, expected)
    assert_equal(everything(trainer), everything(plain))
    assert (graphs_of(trainer) is not None) is graphs_kept
    assert freed == ["a step"] * (1 if graphs_kept else 2)


def test_a_step_out_of_memory_without_graphs_is_repeated_once_the_copy_is_freed(
    card: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = train(plain_trainer("stream", dropout=0.2), 3)
    trainer, forward = plain_trainer("stream", dropout=0.2), RecurrentLanguageModel.forward
    copies = [b"a copy"]

    def with_little_memory(*arguments: object, **settings: object) -> object:
        done = forward(*arguments, **settings)  # type: ignore[arg-type]
        if copies:
            raise card.error
        return done

    trainer.free_copy = lambda _: bool(copies and copies.pop())
    monkeypatch.setattr(RecurrentLanguageModel, "forward", with_little_memory)
    assert torch.equal(train(trainer, 3), expected)
    copies.append(b"in use")
    trainer.free_copy = lambda _: False
    with pytest.raises(DeviceError, match="out of memory in a step of 4 x 10 tokens"):
        trainer.train_step()
    assert trainer.step == 3


def test_out_of_memory_in_the_update_is_not_tried_again(
    card: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have changed weights."""
    trainer = graphed(plain_trainer("stream"))
    train(trainer, 4)

    def fail(*_: object) -> None:
        raise card.error

    monkeypatch.setattr("rnnlm_tui.engine.step.update_when_finite", fail)
    with pytest.raises(DeviceError, match="out of memory in a step of 4 x 9 tokens"):
        trainer.train_step()
    assert all(parameter.grad is None for parameter in trainer.model.parameters())
    assert trainer.step == 4


@pytest.mark.parametrize("rehearsal", ["rehearse_evaluation", "rehearse_step"])
def test_graphs_beside_which_an_evaluation_or_step_runs_out_of_memory_are_freed(
    card: FakeCuda, monkeypatch: pytest.MonkeyPatch, rehearsal: str
) -> None:
    def fail(_: object) -> None:
        assert card.captures == 1
        raise DeviceError("out of memory in an evaluation of 16 x 128 tokens")

    expected = train(plain_trainer("stream", dropout=0.2), 4)
    monkeypatch.setattr(f"rnnlm_tui.engine.trainer.{rehearsal}", fail)
    trainer = graphed(plain_trainer("stream", dropout=0.2))
    assert torch.equal(train(trainer, 4), expected)
    assert graphs_of(trainer) is None
    assert card.resets == 1
    assert trainer.graph_note == (
        "no CUDA graphs: out of memory in an evaluation of 16 x 128 tokens beside them"
    )


def test_graphs_that_are_not_faster_are_freed(
    card: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "CLEARLY_FASTER", float("inf"))
    trainer = graphed(plain_trainer("stream"))
    before = everything(trainer)
    trainer._try_graphs()
    assert_equal(everything(trainer), before)
    assert trainer.graph_note.startswith("CUDA graphs: a step was measured ")
    assert (graphs_of(trainer), card.captures, card.resets) == (None, 1, 1)


def test_trials_are_made_at_a_rate_of_zero(card: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step at the peak could blow up, and then the losses on trial would mean nothing."""
    trainer = graphed(plain_trainer("sentences", optimizer="sgd"))
    before = [parameter.detach().clone() for parameter in trainer.model.parameters()]
    monkeypatch.setattr(graphs.KeptTraining, "restore", lambda *_, **__: None)
    trainer._try_graphs()
    assert card.replays == graphs.WARM_UPS + graphs.TRIALS
    for parameter, value in zip(trainer.model.parameters(), before, strict=True):
        assert torch.equal(parameter, value)


def test_a_bad_step_in_a_graph_changes_no_weight_and_training_continues(card: FakeCuda) -> None:
    trainer = graphed(plain_trainer("stream"))
    train(trainer, 3)
    before = everything(trainer)
    for layer in trainer.state:
        for part in layer:
            part.fill_(float("nan"))
    bad = trainer.train_step()
    assert bad.loss.isnan()
    after = everything(trainer)
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert all(name.startswith("carried.") for name in changed)
    assert trainer.train_step().loss.isfinite()


@pytest.mark.parametrize("data_mode", MODES)
def test_steering_reaches_the_recorded_steps(card: FakeCuda, data_mode: str) -> None:
    trainers = plain_trainer(data_mode), graphed(plain_trainer(data_mode))
    changes: list[Callable[[Trainer], None]] = [
        lambda trainer: trainer.set_peak_learning_rate(0.05),
        lambda trainer: trainer.set_max_steps(25),
        lambda trainer: trainer.set_max_grad_norm(0.01),
        lambda trainer: trainer.set_dropout(0.0),
    ]
    found = []
    for trainer in trainers:
        losses = [train(trainer, 3)]
        for change in changes:
            change(trainer)
            losses.append(train(trainer, 3))
        found.append(torch.cat(losses))
    assert_close(*found)
    recorded = graphs_of(trainers[1])
    assert recorded is not None
    assert card.captures == 3 * len(recorded.buckets), "clipping and dropout are recorded again"


def test_batches_that_others_take_between_steps_change_nothing(card: FakeCuda) -> None:
    trainer = graphed(plain_trainer("sentences"))
    expected = train(plain_trainer("sentences"), 9)
    found = []
    for step in range(9):
        found.append(trainer.train_step().loss.item())
        trainer.batches.batch(0, step % 2)
    assert_close(torch.tensor(found), expected)


@pytest.mark.parametrize("data_mode", MODES)
def test_evaluations_and_checkpoints_between_steps_see_and_change_the_same(
    card: FakeCuda, data_mode: str
) -> None:
    found = []
    for trainer in (plain_trainer(data_mode), graphed(plain_trainer(data_mode))):
        copies = SnapshotCopies()
        for step in range(1, 13):
            trainer.train_step()
            if step % 4 == 0:
                rehearse_evaluation(trainer)
                batches = [trainer.batches.batch(0, index) for index in range(3)]
                found.append(evaluate(trainer.model, batches).loss)
                copy = copies.copy(snapshot_of(trainer), CPU)
                assert copy is not None
                found += [float(one.double().sum()) for one in copy.state.tensors.values()]
    assert card.replays > 12
    first, second = np.array_split(np.array(found), 2)
    np.testing.assert_allclose(first, second, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("data_mode", MODES)
def test_a_new_block_of_rates_comes_to_the_device_in_time(
    card: FakeCuda, monkeypatch: pytest.MonkeyPatch, data_mode: str
) -> None:
    expected = train(plain_trainer(data_mode), 40)
    monkeypatch.setattr(graphs, "RATES", 36)
    assert_close(train(graphed(plain_trainer(data_mode)), 40), expected)


def test_rates_come_from_the_table_in_order_and_after_jumps() -> None:
    asked: list[int] = []

    def rate(step: int) -> float:
        asked.append(step)
        return step / 8

    optimizer = torch.optim.SGD([torch.zeros(2, requires_grad=True)], lr=torch.tensor(9.0))
    table = RateTable(optimizer, rate, CPU)
    steps = [1, 2, 3, 7, 8, 3, 1024, 1025, 1026, 2048, 2049, 5]
    for step in steps:
        table.seek(step)
        table.take()
        assert optimizer.param_groups[0]["lr"].item() == step / 8
    assert len(asked) == 4 * graphs.RATES
    set_learning_rate(optimizer, 3.0)
    table.stand_still()
    table.take()
    assert optimizer.param_groups[0]["lr"].item() == 0


@pytest.mark.parametrize("seed", range(5))
def test_every_batch_fits_a_bucket_and_little_is_padded(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 30, 128 * 400)
    counts = lengths.reshape(400, 128).sum(1)
    buckets = bucket_sizes(counts, 128 * 29, multiple=64)
    assert list(buckets) == sorted(set(buckets))
    assert len(buckets) <= graphs.BUCKETS
    assert buckets[-1] == 128 * 29
    assert all(size % 64 == 0 for size in buckets)
    used = np.array(buckets)[np.searchsorted(buckets, counts)]
    assert (used >= counts).all()
    assert used.sum() <= 1.03 * counts.sum()


def test_equal_batches_need_one_bucket() -> None:
    assert bucket_sizes(np.full(9, 40), 40, multiple=64) == (40,)
    assert bucket_sizes(np.full(1, 3), 40, multiple=8) == (8, 40)


def test_losses_differ_beyond_the_noise_of_dropout_only() -> None:
    nan, inf = float("nan"), float("inf")
    rng = torch.Generator().manual_seed(1)
    losses = 4 + torch.rand(20, generator=rng)
    noise = torch.randn(20, generator=rng)
    assert not differ(losses, losses * 1.005)
    assert not differ(losses, losses + 0.2 * noise)
    assert differ(losses, losses * 1.05)
    assert differ(losses, losses + 0.3 + 0.2 * noise)
    bad = torch.full((20,), nan)
    assert not differ(bad, bad)
    assert not differ(torch.full((20,), inf), bad)
    assert differ(losses, bad)
    assert not differ(torch.tensor([1.0, nan]), torch.tensor([1.0, nan]))
    assert differ(torch.tensor([1.0, nan]), torch.tensor([1.0, 1.0]))


@pytest.mark.parametrize(
    ("version", "choice", "wanted"),
    [
        ("2.11.0", "auto", False),
        ("2.12.1+cu128", "auto", False),
        ("2.12.1+cu128", "on", True),
        ("2.13.0+cpu", "auto", True),
        ("2.13.0a0+git123", "auto", True),
        ("3.0", "auto", True),
        ("2.13.0", "off", False),
        ("2.11.0", "off", False),
    ],
)
def test_versions_that_do_not_survive_a_failed_recording_have_no_graphs_unless_asked_for(
    monkeypatch: pytest.MonkeyPatch, version: str, choice: str, wanted: bool
) -> None:
    monkeypatch.setattr(torch, "__version__", version)
    found, note = graphs_wanted(choice, torch.device("cuda:0"))
    assert found == wanted
    assert note.startswith("no CUDA graphs: torch 2.1") == (choice == "auto" and not wanted)
    assert graphs_wanted(choice, CPU) == (False, "")
    monkeypatch.setattr(torch.version, "hip", "6.4")
    on_amd, note = graphs_wanted(choice, torch.device("cuda:0"))
    assert on_amd == (choice == "on")
    assert ("AMD" in note) == (choice == "auto")


@pytest.mark.parametrize("data_mode", MODES)
def test_a_replayed_step_launches_nothing_but_the_replay(card: FakeCuda, data_mode: str) -> None:
    """None at all: a bucket is chosen and a replay is called."""
    trainer = graphed(plain_trainer(data_mode, cell_type="slstm"))
    train(trainer, 6)  # the first of a pass seeks
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(FakeGraph, "replay", lambda _: None)
        with counted_operations() as names:
            for _ in range(3):
                trainer.train_step()
    assert names == []
