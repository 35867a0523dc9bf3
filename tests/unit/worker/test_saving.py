"""The index of a run's checkpoints beside what stands on the disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rnnlm_tui.store.checkpoint_list import CheckpointEntry
from rnnlm_tui.store.checkpoints import list_checkpoints
from rnnlm_tui.store.database import RunDatabase
from rnnlm_tui.store.run_directory import RunDirectory
from rnnlm_tui.worker import saving
from rnnlm_tui.worker.saving import Saver
from tests.integration.runs import tiny_config
from tests.unit.engine.builders import tokenizer_folder, trainer_of
from tests.unit.store.rows import new_run
from tests.unit.worker.stores import records_of


@contextmanager
def saver_of(run: RunDirectory, tmp_path: Path) -> Iterator[Saver]:
    config = tiny_config(tmp_path / "text.txt", {"checkpoint.keep_last": 2})
    with RunDatabase(run.database_path) as database:
        yield Saver(run, config, records_of(database), 1, tokenizer_files=tokenizer_folder(tmp_path / "codec"), facts={}, parent=None)


def test_a_best_checkpoint_whose_manifest_could_not_be_read_for_a_moment_stays_the_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, trainer = new_run(), trainer_of("stream")

    def without_the_first(run: RunDirectory) -> list[CheckpointEntry]:
        return [entry for entry in list_checkpoints(run) if entry.step != 1]

    with saver_of(run, tmp_path) as saver:
        for step in range(1, 6):
            trainer.train_step()
            monkeypatch.setattr(saving, "list_checkpoints", without_the_first if step == 3 else list_checkpoints)
            saver.save(trainer, train_loss=2.0, validation_loss=None if step == 1 else 1.5)
            if step == 1:
                saver.label(1, 1.0)  # measured after it was written: its manifest doesn't know
        assert saver.best == 1
    assert [entry.step for entry in list_checkpoints(run)] == [1, 4, 5]
