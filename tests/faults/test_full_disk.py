"""A disk of 16 MB that fills under a run: it trains on, loses nothing, says why, and a new run is
refused with need and have."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from rnnlm_tui.errors import StorageError
from tests.faults.small_disk import STEPS_WHILE_FULL, on_a_small_disk, unavailable

pytestmark = pytest.mark.fault("the disk is full, fails or becomes read-only")


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What happened to one run on such a disk; told once for all tests of this file."""
    if why := unavailable():
        pytest.skip(f"no disk of its own for this test: {why}")
    folder = tmp_path_factory.mktemp("small")
    yield on_a_small_disk(folder)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A run that ends with little space left, and is read with none."""
    if why := unavailable():
        pytest.skip(f"no disk of its own for this test: {why}")
    folder = tmp_path_factory.mktemp("ended")
    yield on_a_small_disk(folder, "ended")
    shutil.rmtree(folder)


def test_the_last_checkpoint_needs_its_size_once_and_not_twice(ended: dict[str, Any]) -> None:
    assert ended["free"] < 2 * ended["size"]
    assert ended["ended"] == ["finished", 100, 100]
    assert ended["checkpoint"] == [100]


def test_every_verb_reads_a_finished_run_when_no_byte_is_free(ended: dict[str, Any]) -> None:
    assert ended["free_at_last"] == 0
    assert {verb: told["code"] for verb, told in ended["read"].items()} == dict.fromkeys(
        ended["read"], 0
    ), ended["read"]
    assert "finished" in ended["read"]["show plain-otter"]["printed"]
    assert "finished" in ended["read"]["runs"]["printed"]
    assert ended["read_after_kill"]["code"] == 0
    assert "crashed" in ended["read_after_kill"]["printed"]


def test_training_continues_degraded_when_the_disk_is_full_and_says_why(
    story: dict[str, Any],
) -> None:
    assert story["steps_while_full"] >= STEPS_WHILE_FULL
    assert story["stored_while_full"] == 0
    assert "can't write log/000001.jsonl: No space left on device" in story["message"]
    assert "free some space on this disk" in story["message"]
    assert story["paused"] == [True, True, True]


def test_no_row_is_lost_or_duplicated_once_a_full_disk_has_space_again(
    story: dict[str, Any],
) -> None:
    assert story["every_step_once"]
    assert story["steps"] >= STEPS_WHILE_FULL
    kinds = [kind for kind, _ in story["events"]]
    assert kinds == ["degraded", "degraded", "recovered", "recovered"]
    assert story["stopped"]
    assert story["resumed_after"]


def test_a_full_disk_leaves_no_partial_checkpoint_and_touches_no_old_one(
    story: dict[str, Any],
) -> None:
    assert story["partial"] == []
    assert story["checkpoints_intact"]
    assert "a checkpoint needs" in story["checkpoint"]
    assert "free some space on this disk" in story["checkpoint"]
    assert "stop failed: the run is still training: a checkpoint needs" in story["stop"]
    assert "`kill -9 " in story["stop"]
    assert ["recovered", "a checkpoint could be written again"] in story["events"]


def test_a_run_that_is_ended_on_a_full_disk_keeps_every_row_from_before(
    story: dict[str, Any],
) -> None:
    assert story["kept_by_a_stop"] == ["crashed", True, True]


def test_a_full_disk_at_the_start_is_refused_with_need_and_have(story: dict[str, Any]) -> None:
    assert story["train_refused"]["code"] == StorageError.exit_code
    for said in (story["train_refused"]["said"], story["resume_refused"]):
        assert "MB free on the disk of" in said
        assert "kB are" in said
        assert "free some space on this disk" in said
        assert "Traceback" not in said


def test_a_corpus_that_does_not_fit_fails_the_run_with_the_cause_and_leaves_nothing_incomplete(
    story: dict[str, Any],
) -> None:
    status, message, left = story["corpus_refused"]
    assert status == "failed"
    assert "can't build the corpus in" in message
    assert "No space left on device" in message
    assert len(left) == 1
