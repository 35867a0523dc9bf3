"""Estimates from a config, against numbers calculated by hand."""

from __future__ import annotations

import pytest

from rnnlm_tui.schema.cells import CellType
from rnnlm_tui.schema.config import (
    ModelConfig,
    OptimizerConfig,
    RunConfig,
    ScheduleConfig,
    TrainingConfig,
)
from rnnlm_tui.schema.estimates import (
    checkpoint_bytes,
    flops_per_token,
    parameter_count,
    planned_warmup,
    steps_per_epoch,
    total_steps,
    warmup_note,
)
from rnnlm_tui.schema.presets import ATTENTION, BOOK, DEMO


def test_the_demo_model_counts_its_tied_matrix_once() -> None:
    count = parameter_count(DEMO.model, 2_048)
    assert (count.embedding, count.layers, count.output) == (393_216, (73_920, 73_920), 2_048)
    assert count.total == 543_104


def test_the_first_layer_reads_the_embedding_and_others_the_hidden_state() -> None:
    count = parameter_count(
        ModelConfig(embedding_dim=3, hidden_size=5, num_layers=3, tie_weights=False), 7
    )
    assert count.layers == (3 * 5 + 5 * 5 + 5, 5 * 5 + 5 * 5 + 5, 5 * 5 + 5 * 5 + 5)
    assert count.embedding == 21
    assert count.output == 5 * 7 + 7


def test_flops_count_matmuls_and_not_biases() -> None:
    model = ModelConfig(embedding_dim=3, hidden_size=5, num_layers=1, tie_weights=False)
    assert flops_per_token(model, 7) == 6 * (3 * 5 + 5 * 5 + 5 * 7)


@pytest.mark.parametrize(
    ("tokens", "steps"),
    [(2, 1), (21, 1), (701, 1), (702, 1), (721, 2), (701 + 700, 2), (380_320, 544)],
)
def test_a_stream_is_divided_into_steps_with_a_short_last_one(tokens: int, steps: int) -> None:
    assert steps_per_epoch(DEMO, tokens, 0) == steps


def test_sentences_are_divided_into_batches() -> None:
    assert steps_per_epoch(BOOK, 0, 22_034_911) == 172_148
    assert steps_per_epoch(BOOK, 0, 1) == 1


def test_max_steps_is_exact() -> None:
    assert total_steps(RunConfig(training=TrainingConfig(max_steps=7)), 100) == 7
    assert total_steps(RunConfig(training=TrainingConfig(epochs=3)), 100) == 300


def test_a_checkpoint_holds_weights_and_the_two_moments_of_adamw() -> None:
    assert checkpoint_bytes(DEMO, 2_048) == 12 * 543_104
    sgd = DEMO.model_copy(update={"optimizer": OptimizerConfig(algorithm="sgd")})
    assert checkpoint_bytes(sgd, 2_048) == 4 * 543_104
    caches = 2 * 4 * 2 * 20 * 63 * 112  # both kinds, layers, streams, tokens and units
    assert checkpoint_bytes(ATTENTION, 2_048) == 12 * 532_000 + caches


@pytest.mark.parametrize(
    ("cell", "layers", "products"),
    [
        ("lstm", (4 * (18 + 36 + 6), 4 * (36 + 36 + 6)), 4 * (18 + 36 + 72)),
        ("gru", (3 * (18 + 36 + 12), 3 * (36 + 36 + 12)), 3 * (18 + 36 + 72)),
        # no recurrent weights
        ("mingru", (2 * (18 + 6), 2 * (36 + 6)), 2 * (18 + 36)),
        ("minlstm", (3 * (18 + 6), 3 * (36 + 6)), 3 * (18 + 36)),
        # blocks of a head, and a matrix memory of a head
        ("slstm", (4 * (18 + 18 + 6), 4 * (36 + 18 + 6)), 4 * (18 + 36 + 36)),
        (
            "mlstm",
            (4 * (18 + 6) + 2 * 2 * (3 + 1), 4 * (36 + 6) + 2 * 2 * (6 + 1)),
            4 * (18 + 3 + 36 + 6) + 2 * 2 * 2 * 9,
        ),
    ],
)
def test_a_cells_matrices_and_products_are_counted(
    cell: CellType, layers: tuple[int, int], products: int
) -> None:
    model = ModelConfig(
        cell_type=cell, embedding_dim=3, hidden_size=6, num_heads=2, tie_weights=False
    )
    assert parameter_count(model, 7).layers == layers
    assert flops_per_token(model, 7) == 6 * (products + 42)


@pytest.mark.parametrize(
    ("warmup", "steps", "planned"),
    [(100, 30, 3), (100, 100, 10), (100, 101, 100), (100, 9, 0), (0, 1, 0), (30, 30, 3)],
)
def test_a_warm_up_is_a_tenth_of_a_shorter_run(warmup: int, steps: int, planned: int) -> None:
    wanted = RunConfig(schedule=ScheduleConfig(warmup_steps=warmup))
    assert planned_warmup(wanted, steps) == planned
    assert bool(warmup_note(wanted, steps)) == (planned != warmup)


def test_a_shortened_warm_up_is_noted() -> None:
    assert warmup_note(RunConfig(), 30) == (
        "warm-up shortened to 3 steps, a tenth of the run: schedule.warmup_steps is 100, the run"
        " has 30 steps"
    )
    none = "no warm-up: the run has 5 steps, schedule.warmup_steps is 100"
    assert warmup_note(RunConfig(), 5) == none
    assert warmup_note(RunConfig(), None) == ""
