"""When checkpoints are written, which is the best and which are removed."""

from __future__ import annotations

import errno
import math
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from rnnlm_tui.engine import snapshot, tensor_file
from rnnlm_tui.engine.checkpoint import write_training_state
from rnnlm_tui.engine.trainer import Trainer
from rnnlm_tui.errors import StorageError
from rnnlm_tui.schema.config import CheckpointConfig, RunConfig
from rnnlm_tui.schema.metrics import EvaluationRow
from rnnlm_tui.store.checkpoints import checkpoint_folders, checkpoint_rows, list_checkpoints
from rnnlm_tui.store.manifest import MANIFEST_NAME, Manifest, read_manifest, verify_checkpoint
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.system.files import write_whole
from rnnlm_tui.worker import checkpointing
from rnnlm_tui.worker.checkpointing import Checkpointer
from tests.unit.engine.builders import tokenizer_folder, trainer_of
from tests.unit.store.rows import new_run
from tests.unit.worker.stores import evaluation, recorder_of, session_of


@contextmanager
def checkpointer_of(
    run: RunDirectory,
    trainer: Trainer,
    tmp_path: Path,
    evaluations: list[EvaluationRow] | None = None,
) -> Iterator[Checkpointer]:
    config = RunConfig(checkpoint=CheckpointConfig(keep_last=2))
    corpus = SimpleNamespace(path=tokenizer_folder(tmp_path / "codec"))
    measured = [] if evaluations is None else evaluations
    with recorder_of(run) as recorder:
        session = session_of(run, config, recorder, trainer, corpus, measured)
        yield Checkpointer(session, facts={}, parent=None)


def test_a_loss_measured_after_the_save_keeps_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, trainer, measured = new_run(), trainer_of("stream"), list[EvaluationRow]()
    with checkpointer_of(run, trainer, tmp_path, measured) as checkpointer:
        for step in range(1, 6):
            trainer.train_step()
            checkpointer.save(None if step == 1 else 1.5)
            if step == 1:
                measured.append(evaluation(1, 1.0))  # its manifest doesn't have the loss
                checkpointer.label()
        assert checkpointer.best == 1
    assert [entry.step for entry in list_checkpoints(run)] == [1, 4, 5]
    assert [event[:2] for event in noted(run) if event[0] == "best"] == [("best", 1)]


def test_a_checkpoint_is_read_again_before_a_removal_only_if_a_file_of_it_was_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, trainer, read, folder = new_run(), trainer_of("stream"), list[str](), tmp_path

    def counted(path: Path) -> Manifest:
        read.append(path.name)
        return verify_checkpoint(path)

    monkeypatch.setattr(checkpointing, "verify_checkpoint", counted)
    with checkpointer_of(run, trainer, tmp_path) as checkpointer:
        for step in range(1, 6):
            trainer.train_step()
            if step == 5:
                shutil.copyfile(folder / "config.json", folder / "added.json")
            folder = run.path / checkpointer.save(None)
            assert read == ([] if step < 5 else ["step-000000004"])
    assert [entry.step for entry in list_checkpoints(run)] == [3, 5]


class Gate:
    """Holds the thread that writes a checkpoint, between the files of the model and of the state,
    until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()

        def held(*given: Any) -> dict[str, str]:
            self.reached.set()
            assert self.opened.wait(60)
            return write_training_state(*given)

        monkeypatch.setattr(checkpointing, "write_training_state", held)

    def open(self) -> None:
        self.opened.set()


def steps_in(run: RunDirectory) -> list[int]:
    return [verify_checkpoint(path).step for _, path in checkpoint_folders(run)]


def noted(run: RunDirectory) -> list[tuple[str, int, str]]:
    with RunReader(run) as reader:
        return [(event.kind, event.step, event.text) for event in reversed(reader.events())]


def content(run: RunDirectory, step: int) -> dict[str, bytes]:
    """The files of a checkpoint but its manifest, which has the time."""
    folder = run.checkpoints_path / f"step-{step:09d}"
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != MANIFEST_NAME}


def test_training_goes_on_while_a_checkpoint_of_its_step_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, other = new_run(), new_run("other-otter")
    gate = Gate(monkeypatch)
    torch.manual_seed(1)
    with checkpointer_of(run, trainer_of("stream"), tmp_path) as checkpointer:
        trainer = checkpointer._trainer
        trainer.train_step()
        checkpointer.save_beside_training(1.5)
        assert gate.reached.wait(60)
        for _ in range(3):
            trainer.train_step()
            checkpointer.collect()
        assert (checkpointer.path, steps_in(run)) == ("", []), "it isn't named before it is whole"
        gate.open()
        checkpointer.finish()
        assert (checkpointer.step, checkpointer.path) == (1, "checkpoints/step-000000001")
        assert not checkpointer.is_current
    rows = [(row.step, row.validation_loss, row.best) for row in checkpoint_rows(run, ())]
    assert rows == [(1, 1.5, True)]
    assert [event[:2] for event in noted(run)] == [("checkpoint", 1), ("best", 1)]
    (tmp_path / "other").mkdir()
    torch.manual_seed(1)
    with checkpointer_of(other, trainer_of("stream"), tmp_path / "other") as checkpointer:
        checkpointer._trainer.train_step()
        checkpointer.save(1.5)
    assert content(run, 1) == content(other, 1)


def test_a_checkpoint_due_while_another_is_written_has_its_own_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, gate = new_run(), Gate(monkeypatch)
    with checkpointer_of(run, trainer_of("stream"), tmp_path) as checkpointer:
        checkpointer._trainer.train_step()
        checkpointer.save_beside_training(2.0)
        assert gate.reached.wait(60)
        checkpointer._trainer.train_step()
        threading.Timer(0.05, gate.open).start()
        checkpointer.save_beside_training(1.0)  # the best so far: waits for the one before
        checkpointer._trainer.train_step()
        assert checkpointer.save(None) == "checkpoints/step-000000003"
        assert checkpointer.best == 2
    assert steps_in(run) == [2, 3]  # two are kept
    parents = [read_manifest(path).parent for _, path in checkpoint_folders(run)]
    assert parents == ["step-000000001", "step-000000002"]


def test_a_loss_measured_while_the_checkpoint_is_written_belongs_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, gate, measured = new_run(), Gate(monkeypatch), list[EvaluationRow]()
    with checkpointer_of(run, trainer_of("stream"), tmp_path, measured) as checkpointer:
        checkpointer._trainer.train_step()
        checkpointer.save_beside_training(None)
        assert gate.reached.wait(60)
        threading.Timer(0.05, gate.open).start()
        measured.append(evaluation(1, 1.25))
        checkpointer.label()
    assert [event[0] for event in noted(run)] == ["checkpoint", "best"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_fails_in_the_middle_of_a_file_degrades_the_run_and_loses_nothing(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, written = new_run(), list[int]()

    def fails(descriptor: int, data: bytes | memoryview) -> None:
        written.append(len(data))
        if len(written) == 9:
            os.write(descriptor, bytes(data)[: len(data) // 2])
            raise OSError(code, os.strerror(code))
        write_whole(descriptor, data)

    with checkpointer_of(run, trainer_of("stream"), tmp_path) as checkpointer:
        checkpointer._trainer.train_step()
        checkpointer.save(None)
        before = content(run, 1)
        monkeypatch.setattr(tensor_file, "write_whole", fails)
        checkpointer._trainer.train_step()
        checkpointer.save_beside_training(None)
        checkpointer.finish()
        assert len(written) == 9
        assert (checkpointer.step, checkpointer.is_retry_due) == (1, False)
        assert os.strerror(code) in checkpointer._recorder.degraded
        assert (steps_in(run), content(run, 1)) == ([1], before)
        assert not list(run.checkpoints_path.glob(".tmp-*"))
        checkpointer._trainer.train_step()
        checkpointer.save_beside_training(None)
        checkpointer.finish()
        assert (checkpointer.step, checkpointer._recorder.degraded) == (3, "")
    assert [kind for kind, _, _ in noted(run)] == [
        "checkpoint",
        "degraded",
        "checkpoint",
        "recovered",
    ]
    assert steps_in(run) == [1, 3]


@pytest.mark.parametrize("error", [StorageError("no space"), OSError(errno.EIO, "tokenizer")])
def test_a_failed_save_is_retried_by_one_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """The retry isn't due any more while it is being written."""
    run = new_run()

    def fails(*_given: object, **_names: object) -> None:
        raise error

    with checkpointer_of(run, trainer_of("stream"), tmp_path) as checkpointer:
        trainer = checkpointer._trainer
        trainer.train_step()
        with monkeypatch.context() as patch:
            patch.setattr(checkpointing, "RETRY_SECONDS", 0.0)
            patch.setattr(Checkpointer, "_checkpoint_bytes", fails)
            checkpointer.save_beside_training(None)
            checkpointer.finish()
        assert checkpointer.is_retry_due
        assert checkpointer._recorder.degraded
        gate = Gate(monkeypatch)
        trainer.train_step()
        checkpointer.save_beside_training(None)
        assert gate.reached.wait(60)
        assert not checkpointer.is_retry_due
        gate.open()
        checkpointer.finish()
        assert (checkpointer.step, checkpointer._recorder.degraded) == (2, "")


def test_a_checkpoint_written_again_at_its_step_keeps_its_parent(tmp_path: Path) -> None:
    run = new_run()
    with checkpointer_of(run, trainer_of("stream"), tmp_path) as checkpointer:
        for _ in range(2):
            checkpointer._trainer.train_step()
            checkpointer.save(None)
        checkpointer.outdate()
        checkpointer.save(None)
    assert [entry.step for entry in list_checkpoints(run)] == [1, 2]
    assert read_manifest(list_checkpoints(run)[1].path).parent == "step-000000001"


def test_a_run_folder_removed_while_a_checkpoint_is_written_is_not_created_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, gate = new_run(), Gate(monkeypatch)
    with checkpointer_of(run, trainer_of("stream"), tmp_path) as checkpointer:
        checkpointer._trainer.train_step()
        checkpointer.save_beside_training(None)
        assert gate.reached.wait(60)
        shutil.rmtree(run.path)
        gate.open()
        with pytest.raises(StorageError, match="was removed or replaced during training"):
            checkpointer.finish()
        assert not run.path.exists()


def test_without_memory_for_a_copy_training_waits_and_one_note_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = new_run()
    monkeypatch.setattr(snapshot, "spare_bytes", lambda: 1_000)
    with checkpointer_of(run, trainer_of("stream"), tmp_path) as checkpointer:
        for step in (1, 2):
            checkpointer._trainer.train_step()
            checkpointer.save_beside_training(None)
            assert (checkpointer.step, steps_in(run)) == (step, list(range(1, step + 1)))
    events = noted(run)
    assert [kind for kind, _, _ in events] == ["note", "checkpoint", "checkpoint"]
    assert events[0][2].startswith("no memory for a copy of weights and training state (")


def test_weights_that_are_not_finite_are_not_saved_beside_training(tmp_path: Path) -> None:
    run = new_run()
    with checkpointer_of(run, trainer_of("stream"), tmp_path) as checkpointer:
        checkpointer._trainer.train_step()
        with torch.no_grad():
            checkpointer._trainer.model.output.bias[-1] = math.nan
        checkpointer.save_beside_training(None)
        checkpointer._trainer.step += 3  # the note names the step of the save
        checkpointer.finish()
        assert (checkpointer.path, checkpointer.is_retry_due) == ("", False)
    assert noted(run) == [("note", 1, "no checkpoint: not saved: the weights are not finite")]
    assert not run.checkpoints_path.exists()


def test_without_another_thread_a_checkpoint_is_written_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    run = new_run()
    with checkpointer_of(run, trainer_of("stream"), tmp_path) as checkpointer:
        checkpointer._trainer.train_step()
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuses)
            checkpointer.save_beside_training(None)
        assert steps_in(run) == [1]
