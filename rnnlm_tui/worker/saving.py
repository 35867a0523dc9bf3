"""What a run writes to disk to resume and to sample from: checkpoints with retention, and snapshots of the weights."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Literal

from rnnlm_tui.contract.commands import CHANGED_FACT
from rnnlm_tui.contract.config import RunConfig
from rnnlm_tui.contract.estimates import FLOAT_BYTES, checkpoint_bytes
from rnnlm_tui.contract.figures import counted
from rnnlm_tui.contract.metrics import CheckpointRow, EventRow, perplexity
from rnnlm_tui.engine.checkpoint import write_model, write_training_state
from rnnlm_tui.engine.model import RecurrentLanguageModel
from rnnlm_tui.engine.trainer import Trainer
from rnnlm_tui.errors import CheckpointError, NewerCheckpointError, StorageError
from rnnlm_tui.store.atomic import storage_errors
from rnnlm_tui.store.checkpoints import (
    DamagedCheckpoint,
    checkpoint_folders,
    list_checkpoints,
    move_damaged_aside,
    remove_checkpoint,
    sweep_temporary,
    verify_checkpoint,
    write_checkpoint,
    write_snapshot,
)
from rnnlm_tui.store.free_space import ROOM_FOR_ROWS, SPACE_FACTOR, require_space
from rnnlm_tui.store.pins import pinned_steps
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.retention import best_step, removable_steps, spare_valid
from rnnlm_tui.store.run_directory import RunDirectory
from rnnlm_tui.worker.records import Records

DATA_MODE_KEY = "rnnlm_data_mode"
"""In generation_config.json: stream or sentences, which decides whether a prompt begins behind an end token."""


class Saver:
    """Writes the checkpoints of one attempt and keeps the index and the number of them in order.

    Args:
        tokenizer_files: folder of the prepared corpus, whose tokenizer goes into each checkpoint.
        facts: what every manifest of this attempt records: versions, device, threads, corpus.
        parent: the checkpoint that this attempt went on from.
    """

    def __init__(
        self,
        run: RunDirectory,
        config: RunConfig,
        records: Records,
        attempt: int,
        *,
        tokenizer_files: Path,
        facts: Mapping[str, object],
        parent: str | None,
    ) -> None:
        self._run = run
        self._records = records
        self._attempt = attempt
        self._keep_last, self._keep_every = config.checkpoint.keep_last, config.checkpoint.keep_every
        self._model, self._algorithm = config.model, config.optimizer.algorithm
        self._tokenizer_files = tokenizer_files
        self._facts = dict(facts)
        self._parent = parent
        self.changed: dict[str, float] = {}
        """What `set` changed, dotted path to value, for the manifests."""
        sampling = config.sampling
        self._generation: dict[str, object] = {
            "do_sample": not sampling.is_greedy,
            "temperature": sampling.temperature,
            "top_k": sampling.top_k,
            "top_p": sampling.top_p,
            "min_p": sampling.min_p,
            "repetition_penalty": sampling.repetition_penalty,
            **({"stop_strings": list(sampling.stop)} if sampling.stop else {}),
            "max_new_tokens": sampling.max_new_tokens,
            DATA_MODE_KEY: config.training.data_mode,
        }
        with RunReader(run) as reader:
            self._rows = {row.step: row for row in reader.checkpoints()}
            self._losses = {row.step: row.loss for row in reader.evaluations() if row.split == "validation"}
        self._untidy = False  # something half removed stands on the disk
        self._match_index_to_disk()

    @property
    def best(self) -> int | None:
        """Step of the best checkpoint by validation loss; None where none was measured."""
        return best_step((row.step, row.validation_loss) for row in self._rows.values())

    def save(self, trainer: Trainer, *, train_loss: float, validation_loss: float | None, last: bool = False) -> CheckpointRow:
        """Write a checkpoint of this step, index it, and remove those that retention gives up.

        Args:
            last: the run ends with this checkpoint, so it needs free disk space for one and not for two.

        Raises:
            StorageError: there is no space for it, with need and have, or it can't be written; the older ones are untouched.
        """
        self._require_space(self._checkpoint_bytes(trainer), "a checkpoint", last=last)

        def write_files(directory: Path) -> None:
            write_model(directory, trainer.model, self._tokenizer_files, generation=self._generation)
            write_training_state(directory, trainer)

        facts = {
            **self._facts,
            "attempt": self._attempt,
            CHANGED_FACT: dict(self.changed),
            "step": trainer.step,
            "epoch": trainer.epochs_done,
            "tokens_seen": trainer.tokens_seen,
            "train_loss": train_loss if math.isfinite(train_loss) else None,
            "validation_loss": validation_loss if validation_loss is not None and math.isfinite(validation_loss) else None,
        }
        path = write_checkpoint(self._run, trainer.step, write_files, self._parent, facts)
        with storage_errors("look into", path):
            size = sum(file.stat().st_size for file in path.iterdir())
        row = CheckpointRow(
            attempt=self._attempt,
            step=trainer.step,
            epoch=trainer.epochs_done,
            tokens_seen=trainer.tokens_seen,
            train_loss=train_loss,
            validation_loss=validation_loss,
            bytes=size,
            path=str(path.relative_to(self._run.path)),
            best=False,
            last=True,
            time=time.time(),
        )
        self._parent = path.name
        self._event("checkpoint", trainer.step, f"{row.path}, {counted(row.bytes, 'byte')}")
        self._index(row)
        try:
            self._prune(written=row.step)
        except StorageError as error:  # the new one is on the disk; the old ones go when the next is written
            self._untidy = True
            self._event("note", row.step, f"old checkpoints are still there: {error.message}")
        return row

    def label(self, step: int, validation_loss: float) -> None:
        """Give the checkpoint of `step`, where there is one, the validation loss that was measured after it was written."""
        self._losses[step] = validation_loss  # should the checkpoint leave the index for a moment, it comes back with its loss
        if step in self._rows:
            self._index(replace(self._rows[step], validation_loss=validation_loss))

    def snapshot(self, model: RecurrentLanguageModel, step: int) -> str:
        """Write the weights alone, to sample from; the directory relative to the run's.

        Raises:
            StorageError: it can't be written.
        """
        self._require_space(FLOAT_BYTES * model.num_parameters(), "a snapshot")
        path = write_snapshot(self._run, step, lambda directory: write_model(directory, model, self._tokenizer_files, generation=self._generation))
        return str(path.relative_to(self._run.path))

    def require_space(self, trainer: Trainer) -> None:
        """Refuse a run whose first checkpoint would not fit.

        Raises:
            StorageError: with need and have.
        """
        self._require_space(self._checkpoint_bytes(trainer), "a checkpoint")

    def _require_space(self, size: int, what: str, *, last: bool = False) -> None:
        self._records.check()  # a folder that was removed is not made again
        twice = SPACE_FACTOR * size
        require_space(self._run.path, min(twice, size + ROOM_FOR_ROWS) if last else twice, what)

    def _checkpoint_bytes(self, trainer: Trainer) -> int:
        """As large as the largest so far, or as weights, optimizer and tokenizer will be."""
        known = max((row.bytes for row in self._rows.values()), default=0)
        tokenizer = sum(file.stat().st_size for file in self._tokenizer_files.glob("tokenizer*.json"))
        return known or tokenizer + checkpoint_bytes(self._model, trainer.model.vocab_size, self._algorithm)

    def _index(self, row: CheckpointRow) -> None:
        best_before = best_step((one.step, one.validation_loss) for one in self._rows.values())
        self._rows[row.step] = row
        self._records.put_checkpoint(row)
        best = best_step((one.step, one.validation_loss) for one in self._rows.values())
        if best == row.step and best != best_before and row.validation_loss is not None:
            self._event("best", row.step, f"validation perplexity {perplexity(row.validation_loss):,.2f}")

    def _match_index_to_disk(self) -> None:
        """Index what a killed worker wrote and did not come to index, and forget what is no more."""
        on_disk = {entry.step: entry for entry in list_checkpoints(self._run)}
        for step, entry in on_disk.items():
            if step not in self._rows:
                self._index(entry.row(self._losses.get(step)))
        for step, _ in checkpoint_folders(self._run):
            if step not in on_disk:
                with suppress(StorageError):  # one that can't be read now is no reason to end the run
                    self._is_whole(step)
        for step in self._rows.keys() - on_disk.keys():
            self._forget(step)

    def _prune(self, written: int) -> None:
        """Remove what nothing keeps; `written` was hashed a moment ago and is whole."""
        if self._untidy:
            sweep_temporary(self._run)
            self._untidy = False
        self._match_index_to_disk()
        pinned = pinned_steps(self._run)
        doomed = removable_steps(list(self._rows.values()), self._keep_last, keep_every=self._keep_every, pinned=pinned)
        if not doomed:
            return
        kept = [step for step in self._rows if step not in doomed]
        for step in spare_valid(doomed, kept, lambda step: step == written or self._is_whole(step)):
            if step in self._rows:
                row = self._rows[step]
                self._forget(step)  # the index first: it never names what isn't there
                if not remove_checkpoint(self._run, step):
                    self._index(row)  # pinned in this moment

    def _is_whole(self, step: int) -> bool:
        """Whether every byte of a checkpoint is as it was written; one that is not goes aside, and is told."""
        path = self._run.checkpoints_path / f"step-{step:09d}"
        try:
            verify_checkpoint(path)
        except NewerCheckpointError:
            return True
        except CheckpointError as error:
            if path.exists():
                aside = move_damaged_aside(DamagedCheckpoint(step, path, error.message))
                self._event("note", step, f"the checkpoint of step {step:,} is damaged: {error.message}; it is kept as {aside.relative_to(self._run.path)}")
            self._forget(step)
            return False
        return True

    def _forget(self, step: int) -> None:
        self._records.remove_checkpoint(step)
        self._rows.pop(step, None)

    def _event(self, kind: Literal["checkpoint", "best", "note"], step: int, text: str) -> None:
        self._records.add_event(EventRow(self._attempt, step, kind, text, time.time()))
