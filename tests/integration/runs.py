"""Small real runs for the integration tests: a generated text, a tiny model, waiting."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from rnnlm_tui.client.control import launch
from rnnlm_tui.client.monitor import summarize
from rnnlm_tui.client.start import parent_at
from rnnlm_tui.schema.config import (
    CheckpointConfig,
    CorpusConfig,
    EvaluationConfig,
    ModelConfig,
    RunConfig,
    SamplingConfig,
    ScheduleConfig,
    TokenizerConfig,
    TrainingConfig,
)
from rnnlm_tui.schema.status import LIVING
from rnnlm_tui.schema.summary import RunSummary
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.runs import create_run
from rnnlm_tui.system.locks import read_lock

ValueT = TypeVar("ValueT")

PATIENCE_SECONDS = 90.0
"""Something that takes a second alone may take much longer beside the other tests."""

ENDLESS = 1_000_000
"""Steps of a run that ends only when it is stopped."""


def write_text(path: Path, sentences: int = 800) -> Path:
    """Write a text file of short sentences from a small vocabulary; always the same text."""
    draw = random.Random(7)
    words = [
        "the",
        "a",
        "cat",
        "dog",
        "bird",
        "saw",
        "chased",
        "sat",
        "on",
        "mat",
        "with",
        "big",
        "red",
        "old",
        "and",
        "then",
        "she",
        "he",
        "it",
        "was",
        "in",
        "house",
    ]
    lines = [
        " ".join(draw.choices(words, k=draw.randint(4, 11))).capitalize() + "."
        for _ in range(sentences)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def tiny_config(source: Path, changes: Mapping[str, object] | None = None) -> RunConfig:
    """A config that trains some hundred steps a second, in exact mode on one thread."""
    config = RunConfig(
        corpus=CorpusConfig(source=str(source)),
        tokenizer=TokenizerConfig(kind="character", vocab_size=64),
        model=ModelConfig(embedding_dim=24, hidden_size=24, num_layers=2, dropout=0.1),
        schedule=ScheduleConfig(warmup_steps=5),
        training=TrainingConfig(
            max_steps=60, batch_size=4, bptt=16, threads=1, deterministic=True, device="cpu"
        ),
        evaluation=EvaluationConfig(every=20, prompts=("The cat",)),
        checkpoint=CheckpointConfig(every=20, keep_last=3),
        sampling=SamplingConfig(max_new_tokens=12),
    )
    return parse_config(merge(config, changes or {}))


def settings(*changes: str) -> tuple[str, ...]:
    """`--set` for each of these changes."""
    return tuple(part for change in changes for part in ("--set", change))


def start(config: RunConfig, name: str | None = None, parent: str | None = None) -> RunDirectory:
    """Create a run and start its worker."""
    run = create_run(config, name, None if parent is None else parent_at(parent))
    launch(run)
    return run


def wait_for(question: Callable[[], ValueT | None], what: str) -> ValueT:
    """Wait for an answer that is neither None nor False."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        answer = question()
        if answer is not None and answer is not False:
            return answer
        time.sleep(0.01)
    raise AssertionError(f"waited {PATIENCE_SECONDS:.0f} s for {what}")


def wait_until_ended(run: RunDirectory) -> RunSummary:
    """Wait for the end of a run's worker; the run's summary."""
    wait_for(lambda: not read_lock(run.lock_path).held, "the worker's end")
    return summarize(run)


def wait_for_step(run: RunDirectory, step: int) -> int:
    """Wait until the newest step is at least `step`; fails if the run ends before."""

    def newest() -> int | None:
        with RunReader(run) as reader:
            rows = reader.recent_steps(1)
            state = reader.last_state()
        assert state is None or state.kind not in ("failed", "stopped"), state
        return rows[0].step if rows and rows[0].step >= step else None

    return wait_for(newest, f"step {step}")


def kill(run: RunDirectory) -> None:
    """`kill -9` the run's worker and wait until its lock is free."""
    state = read_lock(run.lock_path)
    assert state.held, "the pid of a worker that has ended is another process's by now, perhaps"
    assert state.pid is not None
    os.kill(state.pid, signal.SIGKILL)
    wait_for(lambda: not read_lock(run.lock_path).held, "the lock of a killed worker")


def end(run: RunDirectory) -> None:
    """Kill the run's worker if it is alive."""
    if summarize(run).status in LIVING:
        kill(run)
