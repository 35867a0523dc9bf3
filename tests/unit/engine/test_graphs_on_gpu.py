"""CUDA graphs on a GPU: the same training as by single launches, and nothing left of a failure."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rnnlm_tui.engine import graphs
from rnnlm_tui.engine.cells import CELLS
from rnnlm_tui.engine.device import seed_everything
from rnnlm_tui.engine.model import RecurrentLanguageModel, State
from rnnlm_tui.engine.optim import OptimizerSettings
from rnnlm_tui.engine.trainer import Trainer
from rnnlm_tui.schema.estimates import Schedule

from .builders import batches_of, small_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]


@pytest.fixture(autouse=True)
def always_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep graphs of tiny models, whatever their speed."""
    monkeypatch.setattr(graphs, "CLEARLY_FASTER", 0.0)
    monkeypatch.setattr(graphs, "ROWS_MULTIPLE", 4)


def trainer_of(
    data_mode: str,
    *,
    cell_type: str = "elman",
    optimizer: str = "adamw",
    dropout: float = 0.0,
    cuda_graphs: str = "on",
) -> Trainer:
    seed_everything(3)
    model = small_model(
        cell_type=cell_type, dropout=dropout, pad_id=0 if data_mode == "sentences" else None
    ).to("cuda")
    return Trainer(
        model,
        batches_of(data_mode),
        max_steps=100,
        schedule=Schedule(1e-2),
        optimizer=OptimizerSettings(algorithm=optimizer, max_grad_norm=0.5),
        cuda_graphs=cuda_graphs,
    )


def losses(trainer: Trainer, steps: int) -> Tensor:
    return torch.stack([trainer.train_step().loss for _ in range(steps)]).cpu()


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("cell_type", sorted(CELLS))
@pytest.mark.parametrize("data_mode", ["stream", "sentences"])
def test_replayed_steps_train_as_launched_ones_do(
    data_mode: str, cell_type: str, optimizer: str
) -> None:
    """Streams with dropout, too: the draws are the same, since nothing is padded."""
    dropout = 0.2 if data_mode == "stream" else 0.0
    plain = trainer_of(
        data_mode, cell_type=cell_type, optimizer=optimizer, dropout=dropout, cuda_graphs="off"
    )
    expected = losses(plain, 12)
    replayed = trainer_of(data_mode, cell_type=cell_type, optimizer=optimizer, dropout=dropout)
    found = losses(replayed, 12)
    assert replayed.replays, replayed.graph_note
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    assert plain.step == replayed.step == 12
    assert plain.tokens_seen == replayed.tokens_seen


@pytest.mark.parametrize("data_mode", ["stream", "sentences"])
def test_trying_graphs_changes_nothing(data_mode: str) -> None:
    trainer = trainer_of(data_mode, dropout=0.2, cuda_graphs="off")
    losses(trainer, 3)
    before = everything(trainer)
    trainer._try_graphs()
    assert trainer.replays, trainer.graph_note
    after = everything(trainer)
    assert [name for name in before if not torch.equal(before[name], after[name])] == []


def everything(trainer: Trainer) -> dict[str, Tensor]:
    """Copies of weights, moments, carried state and generators."""
    found = {**trainer.state_dict().tensors, **dict(trainer.model.named_parameters())}
    return {name: tensor.detach().clone() for name, tensor in found.items()}


@pytest.mark.parametrize("in_backward", [False, True])
def test_a_step_that_cannot_be_recorded_is_launched_from_the_same_state(
    monkeypatch: pytest.MonkeyPatch, in_backward: bool
) -> None:
    expected = losses(trainer_of("stream", dropout=0.2, cuda_graphs="off"), 8)
    forward = RecurrentLanguageModel.forward

    def ask(gradient: Tensor) -> None:
        gradient.item()

    def asking(
        model: RecurrentLanguageModel, *arguments: Tensor, **keywords: bool
    ) -> tuple[Tensor, State]:
        loss, state = forward(model, *arguments, **keywords)  # type: ignore[arg-type]
        if not in_backward:
            loss.item()
        elif loss.requires_grad:
            loss.register_hook(ask)  # type: ignore[no-untyped-call]
        return loss, state

    monkeypatch.setattr(RecurrentLanguageModel, "forward", asking)
    trainer = trainer_of("stream", dropout=0.2)
    trainer._try_graphs()
    assert not trainer.replays
    assert trainer.graph_note.startswith("no CUDA graphs: ")
    assert all(parameter.grad is None for parameter in trainer.model.parameters())
    torch.cuda.empty_cache()
    torch.testing.assert_close(losses(trainer, 8), expected, rtol=1e-3, atol=1e-4)


def test_freed_graphs_give_their_memory_back() -> None:
    trainer = trainer_of("sentences")
    losses(trainer, 2)
    torch.cuda.synchronize()
    recorded = torch.cuda.memory_reserved()
    assert trainer.free_memory("a test")
    assert torch.cuda.memory_reserved() < recorded
    assert losses(trainer, 3).isfinite().all()


def test_a_changed_learning_rate_reaches_the_recorded_step() -> None:
    trainer = trainer_of("stream")
    trainer.train_step()
    trainer.set_peak_learning_rate(1e-30)
    before = trainer.model.output.bias.detach().clone()
    trainer.train_step()
    assert trainer.replays
    assert torch.allclose(trainer.model.output.bias, before, atol=1e-12)


@pytest.mark.parametrize("cell_type", sorted(CELLS))
@pytest.mark.parametrize("data_mode", ["stream", "sentences"])
def test_replayed_steps_never_wait_for_the_device(data_mode: str, cell_type: str) -> None:
    trainer = trainer_of(data_mode, cell_type=cell_type)
    losses(trainer, 1)
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = [trainer.train_step().loss for _ in range(12)]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.stack(found).isfinite().all()
