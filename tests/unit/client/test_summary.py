"""Summaries: ETA, speed, losses, messages and hints."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import pytest

from rnnlm_tui.client.remaining import Eta, SteadyEta, estimate_remaining
from rnnlm_tui.schema.config import EvaluationConfig, RunConfig, TrainingConfig
from rnnlm_tui.schema.facts import Facts, Parent
from rnnlm_tui.schema.metrics import CheckpointRow, EvaluationRow, HardwareRow, StepRow
from rnnlm_tui.schema.presets import BOOK
from rnnlm_tui.store.summary import (
    LOAD_READINGS,
    Evaluations,
    RunState,
    others_cores,
    read_evaluations,
    reference_figures,
    summarize_state,
)


def step(number: int, active: float, wall: float = 0.0) -> StepRow:
    return StepRow(1, number, number * 10, number / 100, 3.0, 1.0, 0.01, 100.0, active, wall)


def state(**changes: object) -> RunState:
    known = RunState(
        name="plain-otter",
        config=RunConfig(evaluation=EvaluationConfig(every=0)),
        status="running",
        facts=Facts(max_steps=200),
        recent=[step(number, number * 0.5) for number in range(1, 101)],
        evaluations=Evaluations(),
    )
    return known._replace(**changes)  # type: ignore[arg-type]


def test_an_eta_follows_the_time_of_training_with_a_margin_for_uneven_steps() -> None:
    even = [step(number, number * 0.5, 86_400.0 * (number > 50)) for number in range(1, 101)]
    eta = estimate_remaining(state(recent=even))  # a pause and a clock that jumps don't count
    assert eta is not None
    assert eta.seconds == pytest.approx(50.0)
    assert eta.margin == pytest.approx(0.0, abs=1e-9)
    slower = [step(number, number * 0.5 + max(0, number - 50) * 0.5) for number in range(1, 101)]
    eta = estimate_remaining(state(recent=slower))
    assert eta is not None
    assert 0 < eta.margin < eta.seconds


def test_remaining_evaluations_are_included_at_their_mean_cost() -> None:
    config = RunConfig(evaluation=EvaluationConfig(every=40))
    rows = [
        EvaluationRow(1, number, "validation", "validation", 3.0, 10, 1.0, 4.0, 0.0)
        for number in (40, 80)
    ]
    eta = estimate_remaining(state(config=config, evaluations=read_evaluations(rows, "validation")))
    assert eta is not None
    assert eta.seconds == pytest.approx(
        50.0 + 4.0 * (3 + 1)
    )  # at 120, 160 and 200, and the test set at the end


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "stopped"},
        {"status": "preparing"},
        {"facts": Facts()},
        {"recent": [step(1, 0.5)]},
    ],
)
def test_there_is_no_eta_without_enough_information(changes: dict[str, object]) -> None:
    assert estimate_remaining(state(**changes)) is None


def test_speed_is_tokens_over_training_time() -> None:
    assert summarize_state(state()).tokens_per_second == pytest.approx(20.0)
    assert summarize_state(state(status="paused")).tokens_per_second is None
    assert summarize_state(state(status="finished")).tokens_per_second == pytest.approx(20.0)


def test_the_training_loss_is_smoothed_over_finite_steps() -> None:
    rows = [*state().recent, step(101, 50.5)._replace(loss=float("nan"))]
    summary = summarize_state(state(recent=rows))
    assert summary.train.loss == 3.0
    assert "NaN" not in summary.model_dump_json()


def evaluated(*losses: float) -> Evaluations:
    rows = [
        EvaluationRow(1, 10 * place, "validation", "validation", loss, 10, 1.0, 4.0, 0.0)
        for place, loss in enumerate(losses, 1)
    ]
    return read_evaluations(rows, "validation")


@pytest.mark.parametrize(
    ("losses", "waited"),
    [
        ((), 0),
        ((3.0,), 0),
        ((3.0, 2.9), 0),
        ((3.0, 3.0), 1),
        ((3.0, 2.9, 3.1, 3.2), 2),
        ((3.0, math.nan, 3.2), 2),
        ((math.nan,), 1),
        ((3.0, 3.1, 2.0), 0),
    ],
)
def test_patience_counts_evaluations_since_the_best(losses: tuple[float, ...], waited: int) -> None:
    config = RunConfig(training=TrainingConfig(patience=5))
    patience = summarize_state(state(config=config, evaluations=evaluated(*losses))).patience
    assert patience is not None
    assert (patience.waited, patience.limit) == (waited, 5)


def test_without_patience_nothing_is_counted() -> None:
    assert summarize_state(state(evaluations=evaluated(3.0, 3.1))).patience is None


def checkpoint(step: int, *, best: bool = False) -> CheckpointRow:
    path = f"checkpoints/step-{step:09d}"
    return CheckpointRow(1, step, 0.1, 400, 3.0, None, 1_000, path, best=best, last=True, time=0.0)


@pytest.mark.parametrize(
    ("best", "losses", "most", "early"),
    [
        (False, (3.0, 2.9, 3.1, 3.2), 200, True),
        (True, (3.0, 2.9, 3.1, 3.2), 200, True),
        (False, (3.0, 2.9, 3.1, 3.2), 100, False),  # it has all its steps
        (False, (3.0, 2.9, 3.1), 200, False),
    ],
)
def test_only_an_early_stopped_run_says_so(
    best: bool, losses: tuple[float, ...], most: int, early: bool
) -> None:
    ended = state(
        status="finished",
        config=RunConfig(training=TrainingConfig(patience=2)),
        evaluations=evaluated(*losses),
        facts=Facts(max_steps=most),
        checkpoints=[checkpoint(20, best=best)],
    )
    message = "stopped early: 2 evaluations without a better validation loss; best at step 20"
    which = "best" if best else "last"
    hint = (
        f"`rnnlm-tui train --from plain-otter@{which} --set training.patience=4` starts a new run"
        f" from its {which} weights with twice the patience"
    )
    summary = summarize_state(ended)
    assert (summary.message, summary.hint) == ((message, hint) if early else (None, None))


def test_a_memory_warning_is_shown_before_training_and_after_a_kill() -> None:
    warning = "it needs 9.0 GB and 4.0 GB are free"

    def message(status: str) -> str:
        return str(
            summarize_state(state(status=status, facts=Facts(memory_warning=warning))).message
        )

    assert message("preparing") == warning
    assert warning in message("crashed")
    assert message("running") == "None"


@pytest.mark.parametrize(
    ("batch", "saved", "start", "resumes"),
    [
        (300, False, "--config '/my runs/config.toml' --set training.batch_size=300", "restarts"),
        (300, True, "--from plain-otter@40 --set training.batch_size=300", "resumes"),
        (None, False, "--config '/my runs/config.toml' --set …", "restarts"),
    ],
)
def test_the_hint_after_running_out_of_memory_names_a_run_that_fits(
    batch: int | None, saved: bool, start: str, resumes: str
) -> None:
    short = Facts(memory_warning="it needs 9.0 GB and 4.0 GB are free", memory_batch=batch)
    smaller = "model.hidden_size, model.num_layers or tokenizer.vocab_size"
    fits = "" if batch else f" with a smaller {smaller}"
    for status in ("crashed", "stopped"):
        summary = summarize_state(
            state(
                status=status,
                facts=short,
                config_path="/my runs/config.toml",
                checkpoints=[checkpoint(40)] if saved else [],
            )
        )
        assert summary.hint == (
            f"`rnnlm-tui train {start}`{fits} starts a new run that"
            f" {'should fit' if batch else 'needs less'}; `rnnlm-tui resume plain-otter` {resumes}"
            f" from step {40 * saved} once more memory is free"
        )


def test_the_shown_eta_counts_down_while_estimates_agree() -> None:
    steady, noise = SteadyEta(), random.Random(3)
    shown = [
        steady.take(Eta(600.0 - 0.5 * tick + noise.uniform(-8, 8), 10.0), 0.5 * tick).seconds
        for tick in range(200)
    ]
    assert all(after < before for before, after in pairwise(shown))
    assert shown[-1] == pytest.approx(600.0 - 0.5 * 199, abs=20.0)


def test_the_shown_eta_follows_a_changed_estimate_without_a_jump() -> None:
    steady = SteadyEta()
    steady.take(Eta(600.0, 2.0), 0.0)
    shown = [steady.take(Eta(750.0 - tick, 2.0), float(tick)).seconds for tick in range(1, 60)]
    assert shown[0] < 625.0
    assert shown[-1] == pytest.approx(750.0 - 59, abs=5.0)


def test_the_shown_margin_changes_only_with_a_clear_difference() -> None:
    steady, noise = SteadyEta(), random.Random(5)
    shown = [
        steady.take(Eta(600.0 - 0.5 * tick, 10.0 + noise.uniform(-2, 2)), 0.5 * tick).margin
        for tick in range(200)
    ]
    assert len(set(shown)) <= 2
    later = [
        steady.take(Eta(500.0 - 0.5 * tick, 30.0), 100.0 + 0.5 * tick).margin for tick in range(200)
    ]
    assert later[-1] == pytest.approx(30.0, rel=0.25)


def test_the_shown_eta_starts_over_after_a_break() -> None:
    steady = SteadyEta()
    steady.take(Eta(600.0, 2.0), 0.0)
    assert steady.take(Eta(60.0, 2.0), 1.0).seconds == 60.0
    steady.forget()
    assert steady.take(Eta(62.0, 1.0), 2.0) == Eta(62.0, 1.0)


def test_speed_is_of_the_last_seconds_and_at_least_fifty_steps() -> None:
    quick = [
        step(number, number * 0.05) for number in range(1, 401)
    ]  # 200 tokens a second, twenty seconds of them
    slow = [
        step(number, quick[-1].active_seconds + (number - 400) * 0.1) for number in range(401, 501)
    ]
    assert summarize_state(state(recent=[*quick, *slow][-400:])).tokens_per_second == pytest.approx(
        100.0
    )
    assert summarize_state(state(recent=[*quick, *slow[:50]])).tokens_per_second == pytest.approx(
        150.0
    )
    long = [
        step(number, 2.0 * number if number < 75 else 148.0 + 4.0 * (number - 74))
        for number in range(1, 101)
    ]
    assert summarize_state(state(recent=long)).tokens_per_second == pytest.approx(
        490 / (2.0 * 23 + 4.0 * 26)
    )


def test_the_vocabulary_is_known_once_the_corpus_is_prepared() -> None:
    assert summarize_state(state()).model.vocab_size is None
    assert summarize_state(state(facts=Facts(vocab_size=2_048))).model.vocab_size == 2_048


def test_the_speed_of_an_ended_run_is_its_mean() -> None:
    quick_at_the_end = [
        step(number, number * 0.5 if number < 91 else 45.0 + (number - 90) * 0.05)
        for number in range(1, 101)
    ]
    assert summarize_state(
        state(status="finished", recent=quick_at_the_end)
    ).tokens_per_second == pytest.approx(quick_at_the_end[-1].tokens_seen / 45.5)


def test_the_gradient_norm_is_smoothed_unless_the_newest_is_not_finite() -> None:
    odd = [*state().recent, step(101, 50.5)._replace(grad_norm=50.0)]
    usual = state().recent[-1].grad_norm
    assert summarize_state(state(recent=odd)).train.grad_norm == pytest.approx(
        (49 * usual + 50.0) / 50
    )
    assert summarize_state(
        state(recent=[*odd, step(102, 51.0)._replace(grad_norm=float("inf"))])
    ).train.grad_norm == float("inf")


def test_a_run_on_the_cpu_beside_an_unused_gpu_says_so_as_long_as_it_lives() -> None:
    warning = "trains on the CPU: torch 2.13.0+cpu is built without CUDA; pip install torch"
    beside = Facts(max_steps=200, device_warning=warning)
    for status in ("preparing", "running", "paused"):
        assert summarize_state(state(facts=beside, status=status)).message == warning
    assert summarize_state(state(facts=beside, status="finished")).message is None
    assert summarize_state(state()).message is None
    short = beside.model_copy(update={"memory_warning": "needs more"})
    assert summarize_state(state(facts=short, status="preparing")).message == "needs more"


def reading(busy: float, own: float) -> HardwareRow:
    return HardwareRow(0.0, busy, own, 1, 2, 1, 1)


@pytest.mark.parametrize(
    ("busy", "own", "cores", "threads", "held"),
    [
        (100.0, 50.0, 2, 2, 1.0),
        (100.0, 98.0, 2, 2, None),
        (100.0, 86.0, 2, 2, None),  # 0.28 of a core
        (100.0, 80.0, 2, 2, 0.4),
        (100.0, 50.0, 2, 1, None),  # the other core is free for others
        (60.0, 55.0, 16, 16, 0.8),
        (100.0, 120.0, 2, 2, None),
    ],
)
def test_more_than_a_third_of_a_core_for_ten_seconds_is_reported(
    busy: float, own: float, cores: int, threads: int, held: float | None
) -> None:
    now = [reading(busy, own)] * LOAD_READINGS
    assert others_cores(now, cores=cores, threads=threads) == held
    for before in (reading(100, 10), reading(100, 99)):  # longer ago
        assert others_cores([before] * 20 + now, cores=cores, threads=threads) == held
    peak = [reading(100, 99)] * 4 + [reading(100, 60)]
    for few in (peak, [reading(100, 0)] * 2, []):
        assert others_cores(few, cores=2, threads=2) is None


@pytest.mark.parametrize(
    ("step", "per_epoch", "perplexity", "sentences"),
    [
        (1_563 * 15, None, 92.16, 3_000_960),
        (None, None, None, None),  # before the first evaluation
        (171_804, 171_804.0, 72.55, None),
        (171_805, 171_804.0, None, None),
        (172_149, None, None, None),  # the reference saw fewer sentences
    ],
)
def test_the_books_reference_has_the_nearest_evaluation_of_its_first_epoch(
    step: int | None, per_epoch: float | None, perplexity: float | None, sentences: int | None
) -> None:
    found = reference_figures(BOOK, step, steps_per_epoch=per_epoch)
    assert found is not None
    assert found.perplexity == perplexity
    assert sentences in (None, found.reference_sentences)
    assert found.sentences == (step or 0) * 128 or step is None


def test_another_config_initial_weights_or_rate_have_no_reference() -> None:
    def compared(**changes: object) -> bool:
        book = state(config=BOOK, recent=[], facts=Facts())
        return summarize_state(book._replace(**changes)).reference is not None  # type: ignore[arg-type]

    assert compared()
    assert compared(facts=Facts(settings={"evaluation.every": 100}))
    assert not compared(facts=Facts(settings={"optimizer.learning_rate": 1e-4}))
    assert not compared(config=RunConfig())
    parent = Parent(run="plain-otter", checkpoint="40", step=40, hash="ab", created=0.0)
    assert not compared(parent=parent)
