"""Runs in a test's home, made as a worker would have made them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import exp
from pathlib import Path
from time import time

import pytest

from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.facts import Facts
from rnnlm_tui.schema.metrics import EvaluationRow, EventKind, EventRow, SampleRow, StepRow
from rnnlm_tui.store.checkpoints import write_checkpoint
from rnnlm_tui.store.labels import change_labels
from rnnlm_tui.store.log import Row
from rnnlm_tui.store.paths import RunDirectory, queue_dir, queue_lock
from rnnlm_tui.store.runs import create_run
from rnnlm_tui.system.files import make_private_directory
from rnnlm_tui.system.locks import RunLock
from tests.fakes.answers import CHANGES
from tests.unit.client.logs import begin, record

STEPS = 3
STARTED: tuple[EventKind, ...] = ("started", "running")


def trained(
    name: str,
    last: EventKind = "finished",
    *,
    tags: Sequence[str] = (),
    age: float = 0.0,
    config: RunConfig | None = None,
    loss: float = 4.1,
    corpus_hash: str = "",
) -> RunDirectory:
    """A run of three steps whose last event is so many seconds old: while the caller holds its lock
    one that is `running` trains, else its worker has crashed."""
    run, now = create_run(config or RunConfig(), name), time() - age
    steps = (
        StepRow(1, step, 700 * step, step / 100, 4.0, 0.5, 1e-3, 20_000.0, 0.035 * step, now)
        for step in range(1, STEPS + 1)
    )
    evaluation = EvaluationRow(1, STEPS, "validation", "validation", loss, 1000, 1.7, 0.5, now)
    event = EventRow(1, STEPS, last, "", now)
    record(run, Facts(max_steps=STEPS, corpus_hash=corpus_hash), *steps, evaluation, event)
    if tags:
        change_labels(run, lambda labels: replace(labels, tags=tuple(tags)))
    return run


def with_checkpoints(
    run: RunDirectory, losses: Mapping[int, float | None], *, tokenizer: str = "{}"
) -> RunDirectory:
    """The run, with a checkpoint of almost no bytes for each step and its validation loss."""

    def write(folder: Path) -> None:
        (folder / "config.json").write_text("{}")
        (folder / "tokenizer.json").write_text(tokenizer)
        (folder / "tokenizer.json").write_text(tokenizer)
        (folder / "model.safetensors").write_bytes(tensor_file({}))

    for step, loss in losses.items():
        write_checkpoint(run, step, write, None, {} if loss is None else {"validation_loss": loss})
    return run


def tensor_file(metadata: Mapping[str, str], size: int = 4_096) -> bytes:
    """A safetensors file without tensors, of so many bytes."""
    header = json.dumps({"__metadata__": metadata}).encode().ljust(size - 8)
    return len(header).to_bytes(8, "little") + header


def let_nothing_stall(patch: pytest.MonkeyPatch) -> None:
    """Let a run whose lock is held train, however slow the test is.

    Only where statuses are derived: a screen that is first imported meanwhile keeps its limit.
    """
    patch.setattr("rnnlm_tui.store.summaries.STALE_SECONDS", 3_600.0)


@contextmanager
def queue_in_use() -> Iterator[None]:
    """Hold the queue as its process does, so that none is started."""
    make_private_directory(queue_dir())
    with RunLock(queue_lock()):
        yield


@contextmanager
def three_runs_at_home() -> Iterator[None]:
    """One that trains, one that finished, one that failed."""
    trained("amber-vole", "failed", age=200)
    trained("brisk-heron", tags=("small", "gru"), age=100)
    run = trained("plain-otter", "running", tags=("small",))
    with RunLock(run.lock_path), pytest.MonkeyPatch.context() as patch:
        let_nothing_stall(patch)
        yield


LOSSES = {1000: 4.4671, 2000: 4.2077, 3000: 4.1059, 3700: 4.0622, 3750: None}
"""Of the checkpoints of `five_checkpoints`, by step."""
STATE = {"epoch": 6, "index": 149, "data": {"data_mode": "stream", "batch_size": 20, "bptt": 35}}


def five_checkpoints(*rows: Row, layout: str = "sentences") -> RunDirectory:
    """A finished run whose best checkpoint isn't its last, with tensors as `tests.fakes.answers`
    names them, a changed dropout, and these rows in its log."""
    shapes = ((8, 4), (4, 4), (4, 4), (8,))
    tensors = {name: shape for (name, _), shape in zip(CHANGES, shapes, strict=True)}

    def write(folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(model_file(tensors))
        (folder / "training_state.json").write_text(json.dumps(STATE))

    run = trained("plain-otter")
    facts: dict[str, object] = {
        "environment": {"torch": "2.13.0+cpu", "deterministic": True, "host": "gpu1"},
        "changed": {"model.dropout": 0.15},
    }
    for step, loss in LOSSES.items():
        known = {} if loss is None else {"validation_loss": loss}
        epoch = {"epoch": step / 594, "train_loss": 3.93, "tokens_seen": step * 640}
        write_checkpoint(run, step, write, None, {**facts, **epoch, **known})
    end = EventRow(1, STEPS, "finished", "", time())
    record(run, Facts(max_steps=STEPS, corpus_layout=layout), *rows, end)
    return run


def model_file(shapes: Mapping[str, Sequence[int]]) -> bytes:
    """A safetensors file of zeros."""
    header, end = dict[str, object](), 0
    for name, shape in shapes.items():
        size = 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(end)


@contextmanager
def training(
    name: str = "plain-otter", step: int = 2_400, most: int = 4_754, config: RunConfig | None = None
) -> Iterator[Callable[..., None]]:
    """A run that trains and is at this step; yields a function that lets it train on.

    It has an evaluation every 100 steps, with samples and a checkpoint every 1,000, and a spike. It
    doesn't count as stalled while a slow test waits. The function writes further rows as well.
    """
    run_config = config or RunConfig()
    run = create_run(run_config, name)
    began, at = time() - 99.0, 0

    def train_to(last: int, *more: Row) -> None:
        nonlocal at
        rows = [*more]
        for now in range(at + 1, last + 1):
            loss, seconds = 3.86 + 3.7 * exp(-now / 120) + 1.35 * exp(-now / 900), now * 0.0264
            figures = loss, 0.4, 1e-3, 27_600.0, seconds, began + seconds
            rows.append(StepRow(1, now, 700 * now, now * 8 / most, *figures))
            if now % 100 == 0:
                scored = loss + 0.13, 20_000, 1.67, 0.4, began + seconds
                rows.append(EvaluationRow(1, now, "validation", "validation", *scored))
            if now % 1_000 == 0:
                rows += [
                    SampleRow(1, now, prompt, f" text of {now}", 40, 7, began + seconds)
                    for prompt in run_config.evaluation.prompts
                ]
                with_checkpoints(run, {now: loss})
            if now == 1_200:
                rows.append(EventRow(1, now, "spike", "loss 9.298, usually 4.1", began + seconds))
        log.append(*rows)
        at = max(at, last)

    with RunLock(run.lock_path), begin(run) as log, pytest.MonkeyPatch.context() as patch:
        let_nothing_stall(patch)
        events = (EventRow(1, 0, kind, kind, began) for kind in STARTED)
        log.append(Facts(max_steps=most, epochs=8.0, vocab_size=2_048), *events)
        train_to(step)
        yield train_to
