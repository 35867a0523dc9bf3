"""The plain ways that `bench` compares with compute what the engine computes: the same logits,
losses and updates."""

from __future__ import annotations

import pytest
import torch

from rnnlm_tui.bench.plain import LIBRARY_LAYERS, PlainModel, PlainTraining, naive_continuation
from rnnlm_tui.engine.cells import CELLS
from rnnlm_tui.engine.model import RecurrentLanguageModel
from rnnlm_tui.engine.trainer import Trainer
from rnnlm_tui.errors import InputError
from rnnlm_tui.schema.estimates import Schedule
from tests.unit.engine.builders import VOCAB_SIZE, batches_of, built_model, optimizer_config


def model_of(
    cell_type: str = "elman", *, tie_weights: bool = False, pad_id: int | None = None
) -> RecurrentLanguageModel:
    return built_model(
        vocab_size=VOCAB_SIZE,
        embedding_dim=12,
        hidden_size=12,
        num_layers=2,
        cell_type=cell_type,
        num_heads=2,
        tie_weights=tie_weights,
        pad_id=pad_id,
        seed=3,
    )


WAYS = [(cell, False) for cell in CELLS] + [(cell, True) for cell in LIBRARY_LAYERS]


@pytest.mark.parametrize(("cell_type", "library"), WAYS)
def test_a_plain_model_gives_the_engine_s_logits(cell_type: str, library: bool) -> None:
    model = model_of(cell_type)
    tokens_BT = torch.randint(0, VOCAB_SIZE, (3, 9), generator=torch.Generator().manual_seed(1))
    plain = PlainModel(model, library=library)
    whole, _ = plain(tokens_BT)
    _, state = plain(tokens_BT[:, :4])
    torch.testing.assert_close(
        whole, model(tokens_BT, model.initial_state(3))[0], rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(plain(tokens_BT[:, 4:], state)[0], whole[:, 4:])


@pytest.mark.parametrize("data_mode", ["stream", "sentences"])
@pytest.mark.parametrize(("algorithm", "rate", "norm"), [("adamw", 0.01, 0.0), ("sgd", 1.0, 0.25)])
def test_the_naive_loop_trains_as_the_engine_does(
    data_mode: str, algorithm: str, rate: float, norm: float
) -> None:
    model = model_of(pad_id=0 if data_mode == "sentences" else None, tie_weights=True)
    naive = PlainTraining(
        PlainModel(model, library=False),
        batches_of(data_mode),
        algorithm=algorithm,
        learning_rate=rate,
        max_grad_norm=norm,
    )
    trainer = Trainer(
        model,
        batches_of(data_mode),
        max_steps=12,
        schedule=Schedule(rate),
        optimizer=optimizer_config(algorithm, norm),
    )
    for _ in range(12):
        tokens, loss = naive.train_step()
        result = trainer.train_step()
        assert tokens == result.tokens
        assert float(loss) == pytest.approx(float(result.loss), rel=1e-4)


def test_the_library_s_first_loss_is_the_engine_s_and_it_learns() -> None:
    model = model_of("lstm")
    library = PlainTraining(
        PlainModel(model, library=True),
        batches_of("stream"),
        algorithm="adamw",
        learning_rate=0.01,
        max_grad_norm=0.0,
        fused=True,
    )
    trainer = Trainer(model, batches_of("stream"), max_steps=1, schedule=Schedule(0.01))
    losses = [float(library.train_step()[1]) for _ in range(20)]
    assert losses[0] == pytest.approx(float(trainer.train_step().loss), rel=1e-5)
    assert losses[-1] < losses[0]


def test_naive_sampling_follows_the_probabilities() -> None:
    model = model_of()
    naive, probabilities_V = (
        PlainModel(model, library=False),
        torch.softmax(model(torch.tensor([[4]]), model.initial_state(1))[0][0, -1], dim=-1),
    )
    torch.manual_seed(5)
    drawn = torch.tensor(
        [next(naive_continuation(naive, [4], max_new_tokens=1, greedy=False)) for _ in range(1_500)]
    )
    torch.testing.assert_close(
        torch.bincount(drawn, minlength=VOCAB_SIZE) / 1_500,
        probabilities_V.detach(),
        rtol=0,
        atol=0.04,
    )


def test_a_cell_that_torch_lacks_has_no_library_model() -> None:
    cell = next(name for name in CELLS if name not in LIBRARY_LAYERS)
    with pytest.raises(InputError, match=f"torch has no layer for the cell {cell}"):
        PlainModel(model_of(cell), library=True)
