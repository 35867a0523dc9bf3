"""Workers that break at every point on a checkpoint's way: what is on the disk stays whole, and the run ends in the very weights of an undisturbed one."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from rnnlm_tui.contract.config import RunConfig
from rnnlm_tui.store.checkpoints import checkpoint_folders, resolve_checkpoint, verify_checkpoint
from rnnlm_tui.store.crash_points import ACTIONS, CHECKPOINT_POINTS
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.run_directory import RunDirectory
from rnnlm_tui.store.runs import create_run
from tests.faults.workers import Workers
from tests.integration.runs import tiny_config, write_text

pytestmark = pytest.mark.faults

STEPS, EVERY = 12, 3
WORKER_POINTS = tuple(point for point in CHECKPOINT_POINTS if point != "rename.aside")
"""A worker writes a step twice only after a change of its settings at that very step: that point has a test of its own."""


@dataclass(frozen=True)
class Ending:
    """What two runs must have in common."""

    weights: bytes
    state: bytes
    """Optimizer, carried state and random generators."""
    rows: list[tuple[int, float, float, int]]
    checkpoints: list[tuple[int, bool, bool]]
    """Step, best, last of the index."""


@dataclass(frozen=True)
class Bench:
    """A home whose corpus is built once, and workers that start at once."""

    workers: Workers
    home: Path
    config: RunConfig
    undisturbed: Ending


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("crashes")
    changes = {
        "training.max_steps": STEPS, "checkpoint.every": EVERY, "checkpoint.keep_last": 2, "evaluation.every": 6, "evaluation.max_sentences": 16, "evaluation.prompts": [],
        "model.hidden_size": 8, "model.embedding_dim": 8,
    }  # fmt: skip
    config = tiny_config(write_text(folder / "text.txt", sentences=200), changes)
    with pytest.MonkeyPatch.context() as patch, Workers() as workers:
        patch.setenv("RNNLM_TUI_HOME", str(folder / "home"))
        run = create_run(config, "undisturbed")
        assert workers.work(run) == 0
        yield Bench(workers, folder / "home", config, ending_of(run))


def ending_of(run: RunDirectory) -> Ending:
    last = resolve_checkpoint(run, str(STEPS))
    with RunReader(run) as reader:
        rows = [(row.step, row.loss, row.grad_norm, row.tokens_seen) for row in reader.steps_since()]
        index = [(row.step, row.best, row.last) for row in reader.checkpoints()]
        state = reader.last_state()
    assert state is not None
    assert state.kind == "finished"
    return Ending((last / "model.safetensors").read_bytes(), (last / "training_state.safetensors").read_bytes(), rows, index)


def check_disk(run: RunDirectory) -> list[int]:
    """Every checkpoint under a final name is whole; their steps."""
    folders = list(checkpoint_folders(run))
    return [verify_checkpoint(path).step for _, path in folders]


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("point", WORKER_POINTS)
def test_a_run_that_breaks_inside_a_checkpoint_ends_in_the_weights_of_an_undisturbed_one(
    bench: Bench, point: str, action: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RNNLM_TUI_HOME", str(bench.home))
    run = create_run(bench.config, f"{point}-{action}")
    time = 1 if point.startswith("prune") else 10 if point == "fsync.inside" else 2  # the first checkpoint is there, and another is written after it
    code = bench.workers.work(run, f"{point}:{action}:{time}")
    before = check_disk(run)
    assert before, "the first checkpoint is always there"
    if action == "kill":
        assert code == -signal.SIGKILL
    elif action == "raise":
        assert code == 1
    else:
        assert code == 0, "a disk that is full or fails for a moment ends no run"
    if code:
        with RunReader(run) as reader:
            durable = [row.step for row in reader.steps_since()]
        assert durable == list(range(1, len(durable) + 1))
        assert bench.workers.work(run) == 0
        with RunReader(run) as reader:
            assert reader.attempts()[-1].start_step == before[-1]
    assert ending_of(run) == bench.undisturbed
    assert check_disk(run) == [step for step, _, _ in bench.undisturbed.checkpoints]
    assert [path.name for path in run.checkpoints_path.iterdir() if not path.name.startswith("step-")] == []
