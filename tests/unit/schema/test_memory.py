"""The memory estimate."""

from __future__ import annotations

from pathlib import Path

from rnnlm_tui.engine.cells import CELLS
from rnnlm_tui.schema.config import CheckpointConfig
from rnnlm_tui.schema.estimates import (
    CELL_MEMORY,
    largest_fitting_batch,
    memory_parts,
    memory_shape,
)
from rnnlm_tui.schema.presets import BOOK, DEMO
from tests.fakes.random_corpus import changed, random_corpus


def test_every_cell_is_in_the_table() -> None:
    assert set(CELL_MEMORY) == set(CELLS)


def test_memory_parts_depend_on_the_config() -> None:
    parts = memory_parts(BOOK, 32_011)
    assert (parts.weights, parts.moments) == (4 * 8_292_619, 8 * 8_292_619)
    assert memory_parts(changed(BOOK, optimizer={"algorithm": "sgd"}), 32_011).moments == 0
    assert (
        memory_parts(changed(BOOK, training={"batch_size": 256}), 32_011).activations
        == 2 * parts.activations
    )
    assert memory_parts(BOOK, 32_011, sentences=22_034_911).corpus == 12 * 22_034_911
    assert memory_parts(DEMO, 2_048, sentences=22_034_911).corpus == 0


def test_a_gpu_holds_neither_the_process_nor_checkpoint_copies() -> None:
    parts = memory_parts(BOOK, 32_011, sentences=1_000, on_gpu=True)
    assert (parts.process, parts.corpus, parts.saving) == (0, 0, 0)
    assert parts.total == parts.weights + parts.moments + max(parts.step, parts.evaluation)
    assert (
        memory_parts(BOOK, 32_011, on_gpu=True, resident_tokens=1_000).total == parts.total + 4_000
    )


def test_the_largest_part_is_the_peak() -> None:
    parts = memory_parts(
        changed(DEMO, model={"embedding_dim": 2_048, "hidden_size": 2_048, "num_layers": 16}), 300
    )
    assert parts.saving > parts.step > parts.evaluation
    assert parts.total == parts.between_steps


def test_the_largest_fitting_batch_is_found() -> None:
    room = memory_parts(changed(BOOK, training={"batch_size": 77}), 32_011).total
    assert largest_fitting_batch(changed(BOOK, training={"batch_size": 1_000}), 32_011, room) == 77
    assert largest_fitting_batch(changed(BOOK, training={"batch_size": 50}), 32_011, room) == 50
    assert largest_fitting_batch(BOOK, 32_011, 1_000_000) is None


def test_the_shape_has_only_settings_that_affect_memory() -> None:
    shape = memory_shape(BOOK, 32_011, 5)
    assert (
        memory_shape(
            changed(BOOK, optimizer={"learning_rate": 0.5}).model_copy(
                update={"checkpoint": CheckpointConfig(every=7)}
            ),
            32_011,
            5,
        )
        == shape
    )
    for other in (
        changed(BOOK, training={"batch_size": 64}),
        changed(BOOK, model={"dropout": 0.5}),
        changed(BOOK, optimizer={"algorithm": "sgd"}),
    ):
        assert memory_shape(other, 32_011, 5) != shape
    assert memory_shape(BOOK, 32_012, 5) != shape != memory_shape(BOOK, 32_011, 6)
    assert memory_shape(DEMO, 2_048, 5) == memory_shape(DEMO, 2_048, 6), (
        "a stream needs no index of its sentences"
    )


def test_a_test_corpus_has_the_expected_path(tmp_path: Path) -> None:
    corpus = random_corpus(tmp_path, DEMO, 100, sentences=10)
    assert (len(corpus.tokens("train")), len(corpus.offsets("train"))) == (330, 11)
