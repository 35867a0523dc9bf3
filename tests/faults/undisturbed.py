"""A small undisturbed run in exact mode: the result that every run of the same config must end
with, whatever happens to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.store.addresses import checkpoint_path
from rnnlm_tui.store.checkpoints import checkpoint_folders, read_checkpoints
from rnnlm_tui.store.manifest import verify_checkpoint
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.runs import create_run
from tests.faults.workers import Workers
from tests.integration.runs import tiny_config, write_text

STEPS, EVERY = 12, 3
"""Checkpoints at steps 3, 6, 9 and 12; two are kept."""


@dataclass(frozen=True)
class Ending:
    """What two runs must agree on."""

    weights: bytes
    state: bytes
    """Optimizer, carried state and random generators."""
    rows: list[tuple[int, float, float, int]]
    checkpoints: list[tuple[int, bool, bool]]
    """Step, best and last of each."""


@dataclass(frozen=True)
class Bench:
    """A home whose corpus is built once, and workers that start fast."""

    workers: Workers
    home: Path
    config: RunConfig
    undisturbed: Ending


@contextmanager
def bench_in(folder: Path, workers: Workers) -> Iterator[Bench]:
    """The bench, after its undisturbed run."""
    changes = {
        "training.max_steps": STEPS,
        "checkpoint.every": EVERY,
        "checkpoint.keep_last": 2,
        "evaluation.every": 6,
        "evaluation.max_sentences": 16,
        "evaluation.prompts": [],
        "model.hidden_size": 8,
        "model.embedding_dim": 8,
    }
    config = tiny_config(write_text(folder / "text.txt", sentences=200), changes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RNNLM_TUI_HOME", str(folder / "home"))
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        run = create_run(config, "undisturbed")
        code = workers.work(run)
        assert code == 0, run.log_path.read_text(encoding="utf-8")
        yield Bench(workers, folder / "home", config, ending_of(run))


def ending_of(run: RunDirectory) -> Ending:
    """The result of a run; it must have finished."""
    last = checkpoint_path(run, str(STEPS))
    with RunReader(run) as reader:
        rows = [(row.step, row.loss, row.grad_norm, row.tokens_seen) for row in reader.steps()]
        state = reader.last_state()
    assert state is not None
    assert state.kind == "finished"
    return Ending(
        (last / "model.safetensors").read_bytes(),
        (last / "training_state.safetensors").read_bytes(),
        rows,
        [(row.step, row.best, row.last) for row in read_checkpoints(run)],
    )


def whole_steps(run: RunDirectory) -> list[int]:
    """The steps of all checkpoints; fails if one with a final name is incomplete."""
    return [verify_checkpoint(path).step for _, path in list(checkpoint_folders(run))]
