"""Which checkpoints survive random sequences of saves, evaluations, pins, crashes and deletions.

The worker's checkpointer and the store are real; only the files are tiny, and the log's evaluations
are a list, which outlives a crash.
"""

from __future__ import annotations

import math
import os
import pathlib
import random
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from rnnlm_tui.errors import StorageError, UnknownCheckpointError
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.metrics import EvaluationRow
from rnnlm_tui.store import verify
from rnnlm_tui.store.checkpoints import checkpoint_folders, checkpoint_rows, sweep_temporary
from rnnlm_tui.store.labels import note_checkpoint, pin_checkpoint, read_labels
from rnnlm_tui.store.manifest import verify_checkpoint
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.retention import plan_prune, why_kept
from rnnlm_tui.store.trash import (
    Trashed,
    delete_checkpoints,
    last_deleted,
    list_trash,
    purge,
    restore_checkpoints,
    trash_path,
)
from rnnlm_tui.worker import checkpointing
from rnnlm_tui.worker.checkpointing import Checkpointer
from tests.unit.store.rows import evaluation_row, new_run

pytestmark = pytest.mark.fault("a checkpoint is damaged")

SEQUENCES, OPERATIONS = 400, 14
PARTS = 4
"""Parts of the sequences, so that several processes can share them."""


Files = Generator[None, None, dict[str, str]]


class Killed(BaseException):
    """The process ended: nothing after it happens, not even what cleans up."""


@dataclass
class Disk:
    """Ends the process at one of its next changes of the disk."""

    left: int = -1
    """Changes until it ends; -1: it doesn't."""

    def change(self) -> None:
        if self.left == 0:
            raise Killed
        self.left -= self.left > 0

    def wrap(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **named: Any) -> Any:
            self.change()
            return call(*arguments, **named)

        return wrapped


class Life:
    """A run, its worker and somebody who deletes."""

    def __init__(
        self, run: RunDirectory, disk: Disk, log: list[EvaluationRow], draw: random.Random
    ) -> None:
        self.run, self.disk, self.log, self.draw = run, disk, log, draw
        self.step = 0
        self.keep = draw.choice((2, 2, 3))
        self.every = draw.choice((0, 0, 3))
        self.start()

    def start(self) -> None:
        """Start a worker from the newest valid checkpoint."""
        sweep_temporary(self.run)
        newest, damaged = verify.newest_valid(self.run)
        for one in damaged:
            verify.move_damaged_aside(one.path)
        self.step = 0 if newest is None else int(newest.name.rpartition("-")[2])
        config = RunConfig().model_copy(
            update={
                "checkpoint": RunConfig().checkpoint.model_copy(
                    update={"keep_last": self.keep, "keep_every": self.every}
                )
            }
        )
        recorder = SimpleNamespace(check=lambda: None, saved=lambda _step: None, flush=lambda: None)
        attempt = SimpleNamespace(
            run=self.run,
            recorder=recorder,
            checkpoint=newest,
            config=config,
            number=1,
            activity=lambda _what: nullcontext(),
            event=lambda *_: None,
            note=lambda *_: None,
        )
        model = SimpleNamespace(vocab_size=9, num_parameters=lambda: 1)
        self.trainer = SimpleNamespace(
            step=self.step, model=model, epochs_done=0.0, tokens_seen=0, active_seconds=0.0,
            device=torch.device("cpu"),
        )  # fmt: skip
        metrics = SimpleNamespace(flush=lambda **_: None, active_seconds=0.0, train_loss=1.0)
        session = SimpleNamespace(
            attempt=attempt,
            trainer=self.trainer,
            metrics=metrics,
            corpus=SimpleNamespace(path=self.run.path),
            evaluations=self.log,
            note=lambda _: None,
        )
        self.worker = Checkpointer(cast(Any, session), facts={}, parent=None)

    def loss(self, step: int) -> float:
        """The validation loss of a step, always the same."""
        return random.Random(step * 7 + 1).choice((1.0, 2.0, 2.0, 3.0, 4.0, math.inf))

    @property
    def steps(self) -> list[int]:
        return [step for step, _ in checkpoint_folders(self.run)]

    def weights(self, step: int) -> pathlib.Path:
        return self.run.checkpoints_path / f"step-{step:09d}" / "model.safetensors"

    def is_valid(self, step: int) -> bool:
        return self.weights(step).read_bytes() != b"?"

    def some(self) -> int:
        return self.draw.choice(self.steps or [1])

    # what may happen

    def save(self) -> None:
        self.step = self.trainer.step = self.step + 1
        self.worker.save(self.draw.choice((None, self.loss(self.step))))

    def evaluate(self) -> None:
        if self.worker.is_current:
            loss = self.loss(self.step)
            self.log.append(evaluation_row(self.step)._replace(loss=loss))
            self.worker.label()

    def pin(self) -> None:
        with suppress(StorageError, UnknownCheckpointError):  # it is damaged, or there is none
            pin_checkpoint(self.run, self.some())

    def unpin(self) -> None:
        pin_checkpoint(self.run, self.some(), pinned=False)

    def note(self) -> None:
        step = self.some()
        if step in self.steps:
            note_checkpoint(self.run, step, f"about {step}")

    def delete(self) -> None:
        steps = self.steps
        chosen = self.draw.sample(steps, min(len(steps), self.draw.choice((1, 1, 2))))
        refused = why_kept(self.run, chosen)
        notes = read_labels(self.run).notes
        done, kept = delete_checkpoints(self.run, chosen)
        assert kept == refused
        assert set(self.steps) == set(steps) - (set(chosen) - kept.keys())
        assert {one.step for one in done} <= {one.step for one in list_trash(self.run)}
        assert read_labels(self.run).notes == notes, "restored with its note"

    def prune(self) -> None:
        plan = plan_prune(self.run, self.draw.choice((2, 3)), self.draw.choice((0, 2)))
        goes = [entry.step for entry in plan.goes]
        assert not plan.kept.keys() & set(goes)
        done, kept = delete_checkpoints(self.run, goes)
        assert not kept
        if self.draw.random() < 0.3:
            purge(done)

    def undo(self) -> None:
        group, before = last_deleted(self.run), self.steps
        with suppress(StorageError):  # the step was saved again
            restore_checkpoints(self.run, group)
            assert set(self.steps) == {*before, *(one.step for one in group)}

    def damage(self) -> None:
        step = self.some()
        with suppress(FileNotFoundError):
            self.weights(step).write_bytes(b"?")

    def restart(self) -> None:
        self.start()


OPERATIONS_AND_WEIGHTS: Mapping[Callable[[Life], None], int] = {
    Life.save: 30,
    Life.evaluate: 12,
    Life.pin: 8,
    Life.unpin: 4,
    Life.note: 4,
    Life.delete: 16,
    Life.prune: 8,
    Life.undo: 12,
    Life.damage: 2,
    Life.restart: 2,
}


@contextmanager
def tiny_files(
    disk: Disk, log: list[EvaluationRow], monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Checkpoints of a few bytes, and a disk that can end the process."""

    def model_files(folder: pathlib.Path, *_: object, **_named: object) -> dict[str, str]:
        (folder / "model.safetensors").write_bytes(b"weights of " + folder.name.encode())
        return {}

    def state_files(*_: object) -> dict[str, str]:
        disk.change()
        return {}

    snapshot = SimpleNamespace(bytes_in_memory=lambda: None, config={}, weights={}, state=None)
    with monkeypatch.context() as patch:
        patch.setattr(checkpointing, "snapshot_of", lambda _trainer: snapshot)
        patch.setattr(checkpointing, "weights_are_finite", lambda _snapshot: True)
        patch.setattr(checkpointing, "write_model_files", model_files)
        patch.setattr(checkpointing, "write_training_state", state_files)
        patch.setattr(checkpointing, "require_space", lambda *_: None)
        reader = SimpleNamespace(evaluations=lambda: log)
        patch.setattr("rnnlm_tui.store.reader.RunReader", lambda _run: nullcontext(reader))
        patch.setattr(os, "fsync", lambda _descriptor: disk.change())
        for name in ("rename", "replace", "unlink", "mkdir"):
            patch.setattr(pathlib.Path, name, disk.wrap(getattr(pathlib.Path, name)))
        patch.setattr(shutil, "rmtree", disk.wrap(shutil.rmtree))
        yield


@dataclass(frozen=True, slots=True)
class State:
    """What must not be lost."""

    newest: tuple[int, ...]
    """The newest two valid checkpoints."""
    best: float
    """The validation loss of the best checkpoint; infinite if it is damaged, which the next
    verification finds out."""
    lowest: float
    """The lowest known validation loss of a valid checkpoint."""
    pinned: frozenset[int]
    trashed: tuple[Trashed, ...]

    @classmethod
    def of(cls, life: Life) -> State:
        rows = checkpoint_rows(life.run, life.log)
        valid = [row.step for row in rows if life.is_valid(row.step)]
        known = {row.step: row.validation_loss for row in rows}
        best = next((row.step for row in rows if row.best), None)
        return cls(
            tuple(valid[-2:]),
            math.inf if best not in valid else known[best] or math.inf,
            min((loss for step in valid if (loss := known[step]) is not None), default=math.inf),
            frozenset(read_labels(life.run).pins & set(valid)),
            tuple(list_trash(life.run)),
        )


def happens(life: Life, operation: Callable[[Life], None]) -> None:
    """Do something, after which the process may have to start again; check what is left."""
    before = State.of(life)
    crashed = False
    if operation in (Life.save, Life.evaluate, Life.delete, Life.prune, Life.undo, Life.note):
        life.disk.left = life.draw.choice((-1, -1, -1, life.draw.randrange(25)))
    try:
        operation(life)
    except Killed:
        crashed = True
    life.disk.left = -1
    if crashed:
        life.start()
    after = State.of(life)
    if operation is Life.damage:
        return
    present = set(life.steps)
    newest = sorted({*before.newest, *after.newest} if operation is Life.save else before.newest)
    assert set(newest[-2:]) <= present
    assert after.lowest <= before.best
    assert operation not in (Life.delete, Life.prune) or after.lowest == before.lowest
    assert operation is Life.unpin or before.pinned <= present
    if operation in (Life.save, Life.evaluate, Life.pin, Life.note):
        assert set(before.trashed) == set(after.trashed)
    if not crashed and operation is Life.save:
        assert life.step in present


@pytest.fixture(autouse=True)
def home_in_memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A data home that needs no disk, where there is such a folder: the sequences write a lot."""
    memory = pathlib.Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        monkeypatch.setenv("RNNLM_TUI_HOME", folder)
        yield


@pytest.mark.parametrize("part", range(PARTS))
def test_best_pinned_and_the_newest_two_valid_survive_every_sequence(
    part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    names, weights = zip(*OPERATIONS_AND_WEIGHTS.items(), strict=True)
    run = new_run()
    for seed in range(part, SEQUENCES, PARTS):
        draw, disk = random.Random(seed), Disk()
        log: list[EvaluationRow] = []
        with tiny_files(disk, log, monkeypatch):
            life = Life(run, disk, log, draw)
            for operation in draw.choices(names, weights, k=OPERATIONS):
                happens(life, operation)
            life.restart()
            for step, path in checkpoint_folders(run):
                if life.is_valid(step):
                    verify_checkpoint(path)
        for folder in (run.checkpoints_path, trash_path(run)):
            shutil.rmtree(folder, ignore_errors=True)
