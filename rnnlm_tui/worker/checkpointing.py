"""Checkpointer: writes a run's checkpoints and removes old ones."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from pydantic import JsonValue

from rnnlm_tui.engine.checkpoint import write_model, write_model_files, write_training_state
from rnnlm_tui.engine.device import is_out_of_memory
from rnnlm_tui.engine.snapshot import Snapshot, SnapshotCopies, snapshot_of, weights_are_finite
from rnnlm_tui.errors import CheckpointError, NewerCheckpointError, RunStateError, StorageError
from rnnlm_tui.schema.config import FILTERS
from rnnlm_tui.schema.estimates import FLOAT_BYTES, checkpoint_bytes
from rnnlm_tui.schema.facts import CHANGED_FACT
from rnnlm_tui.schema.formatting import counted, memory
from rnnlm_tui.schema.metrics import CheckpointRow, perplexity
from rnnlm_tui.store.checkpoints import (
    CheckpointEntry,
    checkpoint_rows,
    remove_checkpoint,
    sweep_temporary,
    write_checkpoint,
    write_snapshot,
)
from rnnlm_tui.store.labels import sound_labels
from rnnlm_tui.store.manifest import read_manifest, verify_checkpoint
from rnnlm_tui.store.retention import kept_steps, spare_valid
from rnnlm_tui.store.trash import purge_deleted
from rnnlm_tui.store.verify import move_damaged_aside
from rnnlm_tui.system.disk import ROOM_FOR_ROWS, SPACE_FACTOR, require_space
from rnnlm_tui.system.files import Stamp, stamp, storage_errors
from rnnlm_tui.worker.session import Session

DATA_MODE_KEY = "rnnlm_data_mode"
"""In generation_config.json: stream or sentences. Decides whether a prompt follows an end token."""
CONTEXT_LENGTH_KEY = "rnnlm_context_length"
"""In generation_config.json, if the data mode is sentences: tokens of a sentence that are read."""
TRANSFORMERS_SETTINGS = {"temperature", *FILTERS, "repetition_penalty", "max_new_tokens"}
"""Fields of the section `sampling` that transformers names alike."""
RETRY_SECONDS = 60.0
"""A periodic checkpoint that failed is retried after this time, or when the next one is due."""
FINAL_RETRY_SECONDS = 2.0
"""The last checkpoint is retried more often: nothing else is left to do."""


@dataclass(frozen=True, slots=True)
class Moment:
    """What a checkpoint holds, as of its step."""

    snapshot: Snapshot
    step: int
    facts: Mapping[str, object]


class Checkpointer:
    """Saves a trainer's state, at most once a step, one checkpoint after the other.

    While training continues, a checkpoint is written from a copy by a thread, which then also
    removes old ones.

    Args:
        facts: recorded in every manifest of this attempt: versions, device, threads, corpus.
        parent: name of the checkpoint that the attempt starts from.
    """

    def __init__(
        self, session: Session, *, facts: Mapping[str, object], parent: str | None
    ) -> None:
        self._session, self._facts, self._parent = session, facts, parent
        attempt, trainer = session.attempt, session.trainer
        self._attempt, self._run, self._recorder = attempt, attempt.run, attempt.recorder
        self._trainer, self._metrics = trainer, session.metrics
        self.path = (
            ""
            if attempt.checkpoint is None
            else str(attempt.checkpoint.relative_to(attempt.run.path))
        )
        """The newest checkpoint, relative to the run directory; empty: none yet."""
        self.step = trainer.step if self.path else 0
        """Step of the newest checkpoint, from which a resume continues; 0: none yet."""
        self.changed: dict[str, JsonValue] = {}
        """What `set` changed, dotted path to value, for the manifests."""
        self._saved_step = trainer.step if self.path else -1
        self._retry_at = math.inf
        self._wait_until = -math.inf
        self._has_leftovers = False  # a removal failed halfway
        self._intact = dict[int, object]()  # files that this attempt has written or verified
        self._copies = SnapshotCopies()
        self._copies_fit = True
        self._writing: Future[None] | None = None
        self._writing_step = -1
        self._known: dict[int, CheckpointEntry] = {}
        self._best = self._best_step()

    @property
    def is_current(self) -> bool:
        """The current step is saved."""
        return self._saved_step == self._trainer.step

    @property
    def is_retry_due(self) -> bool:
        """A checkpoint that failed should be tried again now."""
        return time.monotonic() >= self._retry_at

    @property
    def is_waiting(self) -> bool:
        """The last checkpoint failed moments ago and should not be tried again yet."""
        return time.monotonic() < self._wait_until

    @property
    def best(self) -> int | None:
        """Step of the checkpoint with the lowest validation loss; None: no loss measured."""
        self.finish()
        return self._best_step()

    def outdate(self) -> None:
        """Save again although the step is saved: a setting has changed since."""
        self._saved_step = -1

    def save(self, validation_loss: float | None, *, last: bool = False) -> str:
        """Save the current step unless it is saved; before the first step do nothing.

        Args:
            validation_loss: of the current weights, a candidate for the best; None: not measured.
            last: the run ends with this checkpoint, so the disk needs space for one, not for two.

        Returns:
            The newest checkpoint, relative to the run directory; empty before the first step.

        Raises:
            StorageError: not enough space, with need and have, or a write failed. Older checkpoints
                are untouched.
            RunStateError: a weight is not finite.
        """
        self._metrics.flush()
        if not self._trainer.step:
            return ""
        self.finish()
        if not self.is_current:
            moment = self._moment(validation_loss)
            with self._attempt.activity("saving"):
                self._save(moment, last=last)
        return self.path

    def save_beside_training(self, validation_loss: float | None) -> None:
        """Begin to save the current step unless it is saved. The copy is made now; a thread writes
        it while training continues, unless there is no memory for a copy.

        A checkpoint that is still being written is finished first: each has the step at which it is
        due. If one fails the run is degraded, training continues and the save is retried in a
        minute.
        """
        self._metrics.flush()
        self.finish()
        if self.is_current or not self._trainer.step:
            return
        self._writing_step, self._retry_at = self._trainer.step, math.inf
        with self._failure_reported():
            with _failures_of_storage():
                moment = self._moment(validation_loss)
                copy = self._copies.copy(moment.snapshot)
            if copy is not None:
                moment = replace(moment, snapshot=copy)
                self._writing = in_a_thread(partial(self._save, moment, last=False))
                return
            if self._copies_fit:
                self._copies_fit = False
                self._session.note(
                    "no memory for a copy of weights and training state"
                    f" ({memory(moment.snapshot.bytes)}): training waits while a checkpoint is"
                    " written",
                )
            with self._attempt.activity("saving"):
                self._save(moment, last=False)

    def collect(self) -> None:
        """Between two steps: report how a checkpoint that was written beside training ended."""
        if self._writing is not None and self._writing.done():
            self.finish()

    def finish(self) -> None:
        """Wait until the checkpoint that is being written, if any, is on disk; one that fails is
        retried later."""
        writing, self._writing = self._writing, None
        if writing is None:
            return
        with (
            self._failure_reported(),
            nullcontext() if writing.done() else self._attempt.activity("saving"),
        ):
            writing.result()

    @contextmanager
    def _failure_reported(self) -> Iterator[None]:
        """A checkpoint that fails ends no run: it is retried in a minute."""
        try:
            yield
        except RunStateError as error:
            self._attempt.note(self._writing_step, f"no checkpoint: {error.message}")
        except StorageError as error:
            self._retry_at = time.monotonic() + RETRY_SECONDS
            self._recorder.saving_failed(error, self._writing_step)

    def save_at_end(self, validation_loss: float | None) -> bool:
        """Save, and store the rows that wait for a full disk; False: not possible yet.

        Hours of training are worth waiting for disk space.
        """
        try:
            self.save(validation_loss, last=True)
            self._recorder.flush()
        except StorageError as error:
            if not self.is_current:
                self._recorder.saving_failed(error, self._trainer.step)
            self._recorder.check()
            self._wait_until = time.monotonic() + FINAL_RETRY_SECONDS
            return False
        return True

    def save_last_finite(self, finite_step: int) -> str:
        """After too many non-finite steps, save the weights, which haven't changed since
        `finite_step`.

        They never count as the best.

        Returns:
            Which checkpoint is kept, in words.
        """
        if finite_step > 0:
            try:
                path = self.save(None, last=True)
                return (
                    f"no update was done after step {finite_step:,}, and the checkpoint of step"
                    f" {self.step:,} has its weights ({path})"
                )
            except (RunStateError, StorageError) as error:
                self._session.note(f"no checkpoint: {error.message}")
        return f"the newest checkpoint is {self.path}" if self.path else "there is no checkpoint"

    def label(self) -> None:
        """Count the checkpoint of the current step, if any, with the loss that was measured after
        it was saved."""
        if self._writing_step == self._trainer.step:
            self.finish()
        if self.is_current:
            self._note_best(self._trainer.step)

    def snapshot(self) -> str:
        """Write the weights alone, to sample from; returns the directory relative to the run's.

        Raises:
            StorageError: not enough space, or a write failed.
        """
        model = self._trainer.model
        self.finish()
        self._require_space(FLOAT_BYTES * model.num_parameters(), "a snapshot")
        with self._attempt.activity("saving"):
            path = write_snapshot(
                self._run,
                self._trainer.step,
                lambda directory: write_model(
                    directory,
                    model,
                    self._session.corpus.path,
                    generation=self._generation_settings(),
                ),
            )
        return str(path.relative_to(self._run.path))

    def require_space(self) -> None:
        """Raise StorageError, with need and have, if the first checkpoint would not fit on the
        disk."""
        self._require_space(self._checkpoint_bytes(), "a checkpoint")

    def _moment(self, validation_loss: float | None) -> Moment:
        """The current step, from the trainer's own tensors."""
        trainer, train_loss = self._trainer, self._metrics.train_loss
        trainer.active_seconds = self._metrics.active_seconds
        known = validation_loss is not None and math.isfinite(validation_loss)
        facts = {
            **self._facts,
            "attempt": self._attempt.number,
            CHANGED_FACT: dict(self.changed),
            "step": trainer.step,
            "epoch": trainer.epochs_done,
            "tokens_seen": trainer.tokens_seen,
            "train_loss": train_loss if math.isfinite(train_loss) else None,
            "validation_loss": validation_loss if known else None,
        }
        return Moment(snapshot_of(trainer), trainer.step, facts)

    def _save(self, moment: Moment, *, last: bool) -> None:
        """Write a checkpoint and remove old ones."""
        with suppress(StorageError):  # a resume from this checkpoint should find the rows before it
            self._recorder.flush()
        with _failures_of_storage():
            if not weights_are_finite(moment.snapshot):
                raise RunStateError(
                    "not saved: the weights are not finite", hint="earlier checkpoints are kept"
                )
            self.path = self._write(moment, last=last)
        self._saved_step = self.step = moment.step
        self._retry_at = math.inf
        self._recorder.saved(moment.step)

    def _write(self, moment: Moment, *, last: bool) -> str:
        """Write the files, then remove the checkpoints that retention doesn't keep."""
        self._require_space(self._checkpoint_bytes(), "a checkpoint", last=last)

        def write_files(directory: Path) -> Mapping[str, str]:
            hashes = write_model_files(
                directory,
                moment.snapshot.config,
                moment.snapshot.weights,
                self._session.corpus.path,
                generation=self._generation_settings(),
            )
            return hashes | write_training_state(directory, moment.snapshot.state)

        path = write_checkpoint(
            self._run, moment.step, write_files, self._parent_of(moment.step), moment.facts
        )
        with storage_errors("look into", path):
            size = sum(file.stat().st_size for file in path.iterdir())
        self._parent = path.name
        self._intact[moment.step] = _files(path)
        name = str(path.relative_to(self._run.path))
        self._attempt.event("checkpoint", moment.step, f"{name}, {counted(size, 'byte')}")
        self._known.pop(moment.step, None)  # it may have been written again
        self._note_best(moment.step)
        try:
            self._prune()
        except StorageError as error:  # the new one is saved; old ones are removed with the next
            self._has_leftovers = True
            self._attempt.note(
                moment.step, f"old checkpoints could not be removed: {error.message}"
            )
        return name

    def _parent_of(self, step: int) -> str | None:
        """Name of the checkpoint before; of one that is written again at its step, that of the
        first."""
        newest = self._run.checkpoints_path / f"step-{step:09d}"
        if self._parent != newest.name:
            return self._parent
        with suppress(CheckpointError):
            return read_manifest(newest).parent
        return None

    def _generation_settings(self) -> dict[str, object]:
        sampling, training = self._attempt.config.sampling, self._attempt.config.training
        return {
            "do_sample": not sampling.is_greedy,
            **sampling.model_dump(include=TRANSFORMERS_SETTINGS),
            **({"stop_strings": list(sampling.stop)} if sampling.stop else {}),
            DATA_MODE_KEY: training.data_mode,
            **(
                {CONTEXT_LENGTH_KEY: training.context_length}
                if training.data_mode == "sentences"
                else {}
            ),
        }

    def _require_space(self, size: int, what: str, *, last: bool = False) -> None:
        self._recorder.check()  # never recreate a run folder that was removed
        twice = SPACE_FACTOR * size
        needed = min(twice, size + ROOM_FOR_ROWS) if last else twice
        try:
            require_space(self._run.path, needed, what)
        except StorageError:
            if not purge_deleted(self._run):  # deleted checkpoints make room for new ones
                raise
            require_space(self._run.path, needed, what)

    def _checkpoint_bytes(self) -> int:
        """Size of the largest checkpoint so far, or the estimate for weights, optimizer and
        tokenizer."""
        known = max((entry.bytes for entry in self._known.values()), default=0)
        files = self._session.corpus.path.glob("tokenizer*.json")
        tokenizer = sum(file.stat().st_size for file in files)
        vocab_size = self._trainer.model.vocab_size
        return known or tokenizer + checkpoint_bytes(self._attempt.config, vocab_size)

    def _rows(self) -> list[CheckpointRow]:
        return checkpoint_rows(self._run, self._session.evaluations, self._known)

    def _best_step(self) -> int | None:
        return next((row.step for row in self._rows() if row.best), None)

    def _note_best(self, step: int) -> None:
        """Log that the checkpoint of this step is the best, if it wasn't before."""
        try:
            best = next((row for row in self._rows() if row.best), None)
        except StorageError:
            return  # the folder can't be listed at this moment
        before, self._best = self._best, None if best is None else best.step
        if best is not None and best.step == step != before and best.validation_loss is not None:
            self._attempt.event(
                "best", step, f"validation perplexity {perplexity(best.validation_loss):,.2f}"
            )

    def _prune(self) -> None:
        """Remove what retention doesn't keep."""
        if self._has_leftovers:
            sweep_temporary(self._run)
            self._has_leftovers = False
        rows, retention = self._rows(), self._attempt.config.checkpoint
        kept = kept_steps(
            rows,
            retention.keep_last,
            keep_every=retention.keep_every,
            pinned=sound_labels(self._run).pins,
        )
        doomed = [row.step for row in rows if row.step not in kept]
        if not doomed:
            return
        for step in spare_valid(doomed, kept, self._is_intact):
            remove_checkpoint(self._run, step)  # not if it was just pinned, or is being read

    def _is_intact(self, step: int) -> bool:
        """Whether a checkpoint is valid; it is read again only if a file was touched. A damaged one
        is moved aside and reported."""
        path = self._run.checkpoints_path / f"step-{step:09d}"
        files = _files(path)
        try:
            if self._intact.get(step) != files:
                verify_checkpoint(path)
        except NewerCheckpointError:
            pass
        except CheckpointError as error:
            if path.exists():
                aside = move_damaged_aside(path)
                problem = f"the checkpoint of step {step:,} is damaged: {error.message}"
                self._attempt.note(step, f"{problem}; moved to {aside.relative_to(self._run.path)}")
            return False
        self._intact[step] = files
        return True


def _files(folder: Path) -> list[tuple[str, Stamp]]:
    return sorted((path.name, stamp(path)) for path in folder.glob("*"))


def in_a_thread(work: Callable[[], None]) -> Future[None]:
    """Do the work while training continues. Copying, checking, hashing and writing leave the
    interpreter to training most of the time.

    The thread has the priority of training: with a lower one it would take minutes on a machine
    that other programs keep busy, and training would wait for it at the end.
    """
    ended = Future[None]()

    def do() -> None:
        try:
            work()
        except BaseException as error:
            ended.set_exception(error)
        else:
            ended.set_result(None)

    try:
        threading.Thread(target=do, name="checkpoint", daemon=True).start()
    except RuntimeError:  # the system allows no more threads
        do()
    return ended


@contextmanager
def _failures_of_storage() -> Iterator[None]:
    """A file that can't be written, or too little memory, is a checkpoint that failed."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"can't write a checkpoint: {error}") from error
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise StorageError(
            "out of memory while writing a checkpoint", hint="earlier checkpoints are kept"
        ) from error
