"""The index of a run's checkpoints and the checkpoints on disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rnnlm_tui.engine.trainer import Trainer
from rnnlm_tui.store.checkpoints import CheckpointEntry, list_checkpoints
from rnnlm_tui.store.database import RunDatabase
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.worker import checkpointing
from rnnlm_tui.worker.checkpointing import Checkpointer
from rnnlm_tui.worker.commands import CommandHandler, Inbox
from rnnlm_tui.worker.recorder import Attempt
from rnnlm_tui.worker.step_metrics import StepMetrics
from rnnlm_tui.worker.train import PreparingRun
from tests.integration.runs import tiny_config
from tests.unit.engine.builders import tokenizer_folder, trainer_of
from tests.unit.store.rows import new_run
from tests.unit.worker.stores import recorder_of


@contextmanager
def checkpointer_of(run: RunDirectory, trainer: Trainer, tmp_path: Path) -> Iterator[Checkpointer]:
    config = tiny_config(tmp_path / "text.txt", {"checkpoint.keep_last": 2})
    with RunDatabase(run.database_path) as database:
        recorder = recorder_of(database)
        attempt = Attempt(
            run, config, recorder, 1, None, Inbox(), CommandHandler(PreparingRun(0), recorder)
        )
        yield Checkpointer(
            attempt,
            trainer,
            StepMetrics(recorder.add_steps, 1),
            tokenizer_files=tokenizer_folder(tmp_path / "codec"),
            facts={},
            parent=None,
        )


def test_a_best_checkpoint_whose_manifest_was_briefly_unreadable_stays_the_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, trainer = new_run(), trainer_of("stream")

    def without_the_first(run: RunDirectory) -> list[CheckpointEntry]:
        return [entry for entry in list_checkpoints(run) if entry.step != 1]

    with checkpointer_of(run, trainer, tmp_path) as checkpointer:
        for step in range(1, 6):
            trainer.train_step()
            monkeypatch.setattr(
                checkpointing,
                "list_checkpoints",
                without_the_first if step == 3 else list_checkpoints,
            )
            checkpointer.save(None if step == 1 else 1.5)
            if step == 1:
                checkpointer.label(1.0)  # measured after the save: its manifest doesn't have it
        assert checkpointer.best == 1
    assert [entry.step for entry in list_checkpoints(run)] == [1, 4, 5]
