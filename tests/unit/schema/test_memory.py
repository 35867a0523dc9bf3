"""The memory of a run by part, and what fits."""

from __future__ import annotations

import pytest

from rnnlm_tui.schema.estimates import positions_per_step
from rnnlm_tui.schema.memory import (
    GPU_CHUNK_BYTES,
    gpu_chunk_rows,
    largest_fitting_batch,
    memory_parts,
    memory_shape,
)
from rnnlm_tui.schema.presets import BOOK, DEMO
from tests.fakes.random_corpus import changed


def test_memory_parts_depend_on_the_config() -> None:
    parts = memory_parts(BOOK, 32_011)
    assert (parts.weights, parts.moments) == (4 * 8_292_619, 8 * 8_292_619)
    assert memory_parts(changed(BOOK, optimizer={"algorithm": "sgd"}), 32_011).moments == 0
    twice = memory_parts(changed(BOOK, training={"batch_size": 256}), 32_011)
    assert twice.activations == 2 * parts.activations
    assert memory_parts(BOOK, 32_011, sentences=22_034_911).corpus == 12 * 22_034_911
    assert memory_parts(DEMO, 2_048, sentences=22_034_911).corpus == 0


def test_a_gpu_does_not_hold_the_process() -> None:
    parts = memory_parts(BOOK, 32_011, sentences=1_000, on_gpu=True)
    assert (parts.process, parts.corpus) == (0, 0)
    assert parts.training == parts.weights + parts.moments + max(parts.step, parts.evaluation)


def test_a_gpu_needs_one_chunk_of_logits_and_its_part_of_the_output_matrix() -> None:
    positions, matrix = positions_per_step(BOOK), 32_064 * 128
    parts = memory_parts(BOOK, 32_011, on_gpu=True)
    # In float32, two chunks of half the rows, a padded copy, the gradient and a chunk's part of it.
    chunk, rows = 4 * 32_064 * positions // 2, positions * 128 * 12
    assert gpu_chunk_rows(positions, 32_011, 4) == positions // 2
    assert parts.head == round(1.15 * (chunk + 12 * matrix + rows))
    assert parts.evaluation == 4 * 32_064 * positions // 2 + 4 * 32_011 * 128
    # In bf16 all rows fit into one chunk.
    rounded = memory_parts(changed(BOOK, training={"precision": "bf16"}), 32_011, on_gpu=True)
    chunk, rows = 2 * 32_064 * positions, positions * 128 * 10
    assert gpu_chunk_rows(positions, 32_011, 2) == positions
    assert rounded.head == round(1.15 * (chunk + 6 * matrix + rows))


@pytest.mark.parametrize("rows", [0, 1, 7, 8, 2_000, 4_001, 100_000])
def test_chunks_on_a_gpu_are_equal_and_small_enough(rows: int) -> None:
    size = gpu_chunk_rows(rows, 32_011, 2)
    assert size % 8 == 0
    assert size * 32_064 * 2 <= GPU_CHUNK_BYTES + 8 * 32_064 * 2
    assert not rows or (-(-rows // size) - 1) * size < rows <= -(-rows // size) * size
    if rows > size:
        assert rows / size > 0.99 * -(-rows // size)


def test_a_copy_for_checkpoints_is_held_beside_a_step_unless_only_the_end_is_saved() -> None:
    parts = memory_parts(BOOK, 32_011)
    assert parts.saving == parts.weights + parts.moments
    assert parts.total == parts.training + parts.saving
    never = changed(BOOK, checkpoint={"every": 0}, evaluation={"every": 0})
    assert memory_parts(never, 32_011).total == parts.training


def test_the_largest_fitting_batch_is_found() -> None:
    room = memory_parts(changed(BOOK, training={"batch_size": 77}), 32_011).training
    assert largest_fitting_batch(changed(BOOK, training={"batch_size": 1_000}), 32_011, room) == 77
    assert largest_fitting_batch(changed(BOOK, training={"batch_size": 50}), 32_011, room) == 50
    assert largest_fitting_batch(BOOK, 32_011, 1_000_000) is None


def test_processes_and_parts_share_the_activations_and_keep_the_gradients() -> None:
    one = memory_parts(BOOK, 32_011, on_gpu=True)
    parts = changed(BOOK, training={"accumulate": 4})
    for shared in (
        memory_parts(BOOK, 32_011, on_gpu=True, processes=4),
        memory_parts(parts, 32_011, on_gpu=True),
    ):
        assert 4 * shared.activations == one.activations
        assert (shared.buckets, shared.gradients) == (one.gradients, 0)
        assert shared.head < one.head
    assert (one.buckets, one.gradients) == (0, one.weights)
    exact = changed(BOOK, training={"deterministic": True})
    copied = memory_parts(exact, 32_011, on_gpu=True, processes=4)
    assert (copied.buckets, copied.gradients) == (one.weights, one.weights)


def test_the_largest_fitting_batch_of_several_processes_has_a_row_for_each_share() -> None:
    config = changed(BOOK, training={"batch_size": 1_000, "accumulate": 2})
    fits = changed(config, training={"batch_size": 96, "accumulate": 2})
    room = memory_parts(fits, 32_011, processes=4).training
    assert largest_fitting_batch(config, 32_011, 4 * room, processes=4) == 96
    assert largest_fitting_batch(config, 32_011, room, on_gpu=True, processes=4) == 1_000
    least = changed(config, training={"batch_size": 8, "accumulate": 2})
    room = memory_parts(least, 32_011, processes=4).training
    assert largest_fitting_batch(config, 32_011, 4 * room, processes=4) == 8
    assert largest_fitting_batch(config, 32_011, 4 * room - 1, processes=4) is None


def test_the_shape_has_only_settings_that_affect_memory() -> None:
    shape = memory_shape(BOOK, 32_011, 5)
    same = changed(BOOK, optimizer={"learning_rate": 0.5}, checkpoint={"every": 7})
    assert memory_shape(same, 32_011, 5) == shape
    for other in (
        changed(BOOK, training={"batch_size": 64}),
        changed(BOOK, training={"accumulate": 2}),
        changed(BOOK, model={"dropout": 0.5}),
        changed(BOOK, optimizer={"algorithm": "sgd"}),
    ):
        assert memory_shape(other, 32_011, 5) != shape
    assert memory_shape(BOOK, 32_012, 5) != shape != memory_shape(BOOK, 32_011, 6)
    # a stream needs no index of its sentences
    assert memory_shape(DEMO, 2_048, 5) == memory_shape(DEMO, 2_048, 6)
