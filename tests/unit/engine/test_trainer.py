"""Training: learning, counting, and resuming as if there had been no stop."""

from __future__ import annotations

import pytest
import torch

from rnnlm_tui.engine.batches import SentenceBatches, StreamBatches
from rnnlm_tui.engine.evaluate import evaluate
from rnnlm_tui.engine.generation import Generation, read_text
from rnnlm_tui.engine.trainer import Trainer
from rnnlm_tui.errors import CheckpointError, DeviceError
from rnnlm_tui.schema.config import OptimizerConfig, ScheduleConfig
from rnnlm_tui.schema.estimates import Schedule

from .builders import batches_of, plain, sentences, small_model, text, train, trainer_of, weights

MODES = ["stream", "sentences"]


@pytest.mark.parametrize("data_mode", MODES)
def test_samples_and_evaluations_do_not_affect_the_weights(data_mode: str) -> None:
    quiet, busy = trainer_of(data_mode), trainer_of(data_mode)
    train(quiet, 20)
    quiet_weights = weights(quiet)
    busy = trainer_of(data_mode)
    for step in (4, 5, 11):
        train(busy, step)
        tokens, offsets = sentences(9, seed=1)
        start = read_text(busy.model, [1, 2])
        settings = plain(seed=step, max_new_tokens=5)
        assert len(list(Generation(busy.model, start, settings, count=2))) == 5
        assert (
            evaluate(
                busy.model,
                (SentenceBatches(tokens, offsets, 4, 7, 0).batch(0, index) for index in range(3)),
            ).tokens
            > 0
        )
        busy.state_dict()
    assert weights(busy) == quiet_weights


@pytest.mark.parametrize("data_mode", MODES)
def test_steps_count_tokens_epochs_and_end_exactly_at_max_steps(data_mode: str) -> None:
    trainer, batches = trainer_of(data_mode, max_steps=12), batches_of(data_mode)
    results = [trainer.train_step() for _ in iter(lambda: trainer.should_continue, False)]
    assert [result.step for result in results] == list(range(1, 13))
    assert batches.steps_per_epoch == 5
    assert [result.epoch for result in results] == pytest.approx(
        [step / 5 for step in range(1, 13)]
    )
    expected = [batches.batch(*divmod(place, 5)).tokens for place in range(12)]
    assert [result.tokens for result in results] == expected
    assert results[-1].tokens_seen == sum(expected)
    assert trainer.active_seconds == pytest.approx(sum(result.seconds for result in results))


def test_state_is_carried_within_a_pass_and_zero_at_its_start() -> None:
    trainer = trainer_of("stream")
    train(trainer, 1)
    carried = tuple(tuple(part.clone() for part in layer) for layer in trainer.state)
    assert any(part.any() for layer in carried for part in layer)
    batch = trainer.batches.batch(0, 1)
    trainer.model.eval()
    with torch.no_grad():
        expected, _ = trainer.model(batch.inputs_BT, carried, batch.targets_BT)
        from_zero, _ = trainer.model(
            batch.inputs_BT, trainer.model.initial_state(4), batch.targets_BT
        )
    # Without dropout the next step's loss is that of the carried state.
    assert trainer.train_step().loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert expected.item() != from_zero.item()


def test_reported_rate_follows_the_schedule_and_a_new_peak_applies_from_the_next_step() -> None:
    trainer = trainer_of("stream")
    assert trainer.train_step().learning_rate == pytest.approx(0.01 / 3)
    trainer.set_peak_learning_rate(0.04)
    assert trainer.train_step().learning_rate == pytest.approx(0.04 * 2 / 3)
    rates = [trainer.train_step().learning_rate for _ in range(18)]
    assert rates[-1] == pytest.approx(0.004)


def test_the_decay_of_the_rate_counts_epochs() -> None:
    trainer = Trainer(
        small_model(),
        batches_of("stream"),
        max_steps=20,
        schedule=Schedule(
            0.8, config=ScheduleConfig(kind="decay", decay_after=2, decay_factor=0.5)
        ),
        optimizer=OptimizerConfig(algorithm="sgd", max_grad_norm=0.0),
    )
    rates = [trainer.train_step().learning_rate for _ in range(20)]
    assert rates == [0.8] * 10 + [0.4] * 5 + [0.2] * 5


def test_gradient_norm_is_measured_before_clipping() -> None:
    loose, tight = trainer_of("stream", max_grad_norm=0.5), trainer_of("stream", max_grad_norm=1e-4)
    torch.manual_seed(1)
    first = loose.train_step()
    torch.manual_seed(1)
    second = tight.train_step()
    assert first.grad_norm.item() == second.grad_norm.item() > 1e-3
    assert not torch.equal(loose.model.output.weight, tight.model.output.weight)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_step_with_a_non_finite_loss_changes_no_weight_and_training_continues(
    optimizer: str,
) -> None:
    trainer = trainer_of("stream", optimizer=optimizer)
    train(trainer, 3)
    before = weights(trainer)
    trainer.state = tuple(
        tuple(torch.full_like(part, float("nan")) for part in layer) for layer in trainer.state
    )
    bad = trainer.train_step()
    assert bad.loss.isnan()
    assert not bad.grad_norm.isfinite()
    assert weights(trainer) == before
    assert trainer.train_step().loss.isfinite()
    assert weights(trainer)[0] != before[0]


def test_resuming_on_other_data_is_refused_with_the_difference_and_changes_nothing() -> None:
    trainer = trainer_of("stream")
    train(trainer, 3)
    state = trainer.state_dict()
    other = Trainer(
        small_model(tie_weights=True),
        StreamBatches(text(200), 5, 10),
        max_steps=20,
        schedule=Schedule(0.01),
    )
    with pytest.raises(CheckpointError, match="batch_size was 4, is 5"):
        other.load_state_dict(state)
    assert other.step == 0


def test_resuming_another_model_is_refused() -> None:
    trainer = trainer_of("stream")
    train(trainer, 3)
    other = Trainer(
        small_model(width=10, tie_weights=True),
        batches_of("stream"),
        max_steps=20,
        schedule=Schedule(0.01),
    )
    with pytest.raises(CheckpointError, match=r"shape \(23, 12\), the parameter \(23, 10\)"):
        other.load_state_dict(trainer.state_dict())


@pytest.mark.parametrize(
    "where", ["model.RecurrentLanguageModel.forward", "step.update_when_finite"]
)
def test_a_step_out_of_memory_is_reported_with_its_shape_and_leaves_no_gradients(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trainer_of("stream")

    def fail(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(f"rnnlm_tui.engine.{where}", fail)
    with pytest.raises(DeviceError, match="out of memory in a step of 4 x 10 tokens"):
        trainer.train_step()
    assert all(parameter.grad is None for parameter in trainer.model.parameters())
    assert trainer.step == 0
