"""A step as a CUDA graph: the same training as by single launches."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rnnlm_tui.engine.model import RecurrentLanguageModel, State
from rnnlm_tui.engine.optim import OptimizerSettings
from rnnlm_tui.engine.step import GraphedUpdate, faster_graph
from rnnlm_tui.engine.trainer import Trainer
from rnnlm_tui.schema.estimates import Schedule

from .builders import batches_of, small_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]


def trainer_of(data_mode: str, *, cell_type: str = "elman", optimizer: str = "adamw") -> Trainer:
    model = small_model(cell_type=cell_type, pad_id=0 if data_mode == "sentences" else None).to(
        "cuda"
    )
    return Trainer(
        model,
        batches_of(data_mode),
        max_steps=100,
        schedule=Schedule(1e-2),
        optimizer=OptimizerSettings(algorithm=optimizer),
    )


def graphed(trainer: Trainer) -> Trainer:
    """The same trainer with its graph, whatever is faster."""
    batch = trainer.batches.batch(0, 0)
    weights = [parameter.detach().clone() for parameter in trainer.model.parameters()]
    trainer._graph = GraphedUpdate(
        trainer.update, len(batch.inputs_BT), trainer.batches.longest, pads=trainer.batches.pads
    )
    with torch.no_grad():
        for parameter, value in zip(trainer.model.parameters(), weights, strict=True):
            parameter.copy_(value)
        for own in trainer.optimizer.state.values():
            for value in own.values():
                value.zero_()
    return trainer


def losses(trainer: Trainer, steps: int) -> Tensor:
    return torch.stack([trainer.train_step().loss for _ in range(steps)]).cpu()


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize(
    "cell_type", ["elman", "lstm", "gru", "mingru", "minlstm", "slstm", "mlstm"]
)
@pytest.mark.parametrize("data_mode", ["stream", "sentences"])
def test_replayed_steps_train_as_launched_ones_do(
    data_mode: str, cell_type: str, optimizer: str
) -> None:
    plain = trainer_of(data_mode, cell_type=cell_type, optimizer=optimizer)
    replayed = graphed(trainer_of(data_mode, cell_type=cell_type, optimizer=optimizer))
    torch.testing.assert_close(losses(plain, 12), losses(replayed, 12), rtol=1e-3, atol=1e-4)
    assert plain.step == replayed.step == 12


def test_measuring_restores_weights_optimizer_and_generators() -> None:
    trainer = trainer_of("sentences")
    losses(trainer, 3)
    before = [parameter.detach().clone() for parameter in trainer.model.parameters()]
    moments = [value.clone() for own in trainer.optimizer.state.values() for value in own.values()]
    batch = trainer.batches.batch(0, 0).to(trainer.device)
    _, found = faster_graph(trainer.update, [batch], length=trainer.batches.longest, pads=True)
    assert "CUDA graph" in found
    assert all(
        torch.equal(parameter, value)
        for parameter, value in zip(trainer.model.parameters(), before, strict=True)
    )
    assert all(
        torch.equal(value, kept)
        for value, kept in zip(
            (v for own in trainer.optimizer.state.values() for v in own.values()),
            moments,
            strict=True,
        )
    )


def test_a_step_that_cannot_be_recorded_runs_without_a_graph(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trainer = trainer_of("stream")
    trainer.model.dropout = 0.2
    forward = type(trainer.model).forward

    def asking(
        model: RecurrentLanguageModel, *arguments: Tensor, **keywords: bool
    ) -> tuple[Tensor, State]:
        loss, state = forward(model, *arguments, **keywords)  # type: ignore[arg-type]
        loss.item()
        return loss, state

    monkeypatch.setattr(type(trainer.model), "forward", asking)
    batch = trainer.batches.batch(0, 0).to(trainer.device)
    graph, found = faster_graph(trainer.update, [batch], length=trainer.batches.longest, pads=False)
    assert graph is None
    assert found.startswith("no CUDA graph: ")
    assert losses(trainer, 3).isfinite().all()


def test_a_changed_learning_rate_reaches_the_recorded_step() -> None:
    trainer = graphed(trainer_of("stream"))
    trainer.train_step()
    trainer.set_peak_learning_rate(1e-30)
    before = trainer.model.output.bias.detach().clone()
    trainer.train_step()
    assert torch.allclose(trainer.model.output.bias, before, atol=1e-12)
