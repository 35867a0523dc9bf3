"""What a run writes to disk to resume and to sample from: checkpoints with retention, and snapshots of the weights."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

from rnnlm_tui.contract.config import RunConfig
from rnnlm_tui.contract.metrics import CheckpointRow, EventRow, perplexity
from rnnlm_tui.engine.checkpoint import write_model, write_training_state
from rnnlm_tui.engine.model import RecurrentLanguageModel
from rnnlm_tui.engine.trainer import Trainer
from rnnlm_tui.store.checkpoints import remove_checkpoint, write_checkpoint, write_snapshot
from rnnlm_tui.store.database import RunDatabase
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.retention import best_step, to_remove
from rnnlm_tui.store.run_directory import RunDirectory

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
        database: RunDatabase,
        attempt: int,
        *,
        tokenizer_files: Path,
        facts: Mapping[str, object],
        parent: str | None,
    ) -> None:
        self._run = run
        self._database = database
        self._attempt = attempt
        self._keep_last = config.checkpoint.keep_last
        self._tokenizer_files = tokenizer_files
        self._facts = dict(facts)
        self._parent = parent
        sampling = config.sampling
        self._generation: dict[str, object] = {
            "do_sample": not sampling.greedy,
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

    def save(self, trainer: Trainer, *, train_loss: float, validation_loss: float | None) -> CheckpointRow:
        """Write a checkpoint of this step, index it, and remove those that retention gives up.

        Raises:
            StorageError: it can't be written; the older ones are untouched.
        """

        def write_files(directory: Path) -> None:
            write_model(directory, trainer.model, self._tokenizer_files, generation=self._generation)
            write_training_state(directory, trainer)

        facts = {
            **self._facts,
            "attempt": self._attempt,
            "step": trainer.step,
            "epoch": trainer.epochs_done,
            "tokens_seen": trainer.tokens_seen,
            "train_loss": train_loss if math.isfinite(train_loss) else None,
            "validation_loss": validation_loss if validation_loss is not None and math.isfinite(validation_loss) else None,
        }
        path = write_checkpoint(self._run, trainer.step, write_files, self._parent, facts)
        row = CheckpointRow(
            attempt=self._attempt,
            step=trainer.step,
            epoch=trainer.epochs_done,
            tokens_seen=trainer.tokens_seen,
            train_loss=train_loss,
            validation_loss=validation_loss,
            bytes=sum(file.stat().st_size for file in path.iterdir()),
            path=str(path.relative_to(self._run.path)),
            best=False,
            last=True,
            time=time.time(),
        )
        self._parent = path.name
        self._event("checkpoint", trainer.step, f"{row.path}, {row.bytes:,} bytes")
        self._index(row)
        self._prune()
        return row

    def label(self, step: int, validation_loss: float) -> None:
        """Give the checkpoint of `step`, where there is one, the validation loss that was measured after it was written."""
        if step in self._rows:
            self._index(replace(self._rows[step], validation_loss=validation_loss))

    def snapshot(self, model: RecurrentLanguageModel, step: int) -> str:
        """Write the weights alone, to sample from; the directory relative to the run's.

        Raises:
            StorageError: it can't be written.
        """
        path = write_snapshot(self._run, step, lambda directory: write_model(directory, model, self._tokenizer_files, generation=self._generation))
        return str(path.relative_to(self._run.path))

    def _index(self, row: CheckpointRow) -> None:
        best_before = best_step((one.step, one.validation_loss) for one in self._rows.values())
        self._rows[row.step] = row
        self._database.put_checkpoint(row)
        best = best_step((one.step, one.validation_loss) for one in self._rows.values())
        if best == row.step and best != best_before and row.validation_loss is not None:
            self._event("best", row.step, f"validation perplexity {perplexity(row.validation_loss):,.2f}")

    def _prune(self) -> None:
        for step in to_remove(list(self._rows.values()), self._keep_last):
            self._database.remove_checkpoint(step)  # the index first: it never names what isn't there
            remove_checkpoint(self._run, step)
            del self._rows[step]

    def _event(self, kind: Literal["checkpoint", "best"], step: int, text: str) -> None:
        self._database.add_event(EventRow(self._attempt, step, kind, text, time.time()))
