"""Out of memory before the first step, in a step, an evaluation and a sample.

A limit on the worker's address space causes it.
"""

from __future__ import annotations

import json
import re
import resource
import signal
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path

import psutil
import pytest

from rnnlm_tui.cli.main import run as cli
from rnnlm_tui.client.control import send
from rnnlm_tui.client.monitor import summarize
from rnnlm_tui.schema.summary import RunSummary
from rnnlm_tui.store.manifest import verify_checkpoint
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.runs import create_run
from tests.faults.workers import Workers
from tests.integration.runs import tiny_config, wait_for_step

pytestmark = pytest.mark.fault("memory is short")

MIB = 2**20

WIDE: Mapping[str, object] = {
    "model.embedding_dim": 128,
    "model.hidden_size": 128,
    "model.dropout": 0.0,
    "training.batch_size": 1_000,
    "training.bptt": 8,
    "training.max_steps": 16,
    "schedule.warmup_steps": 0,
    "evaluation.every": 0,
    "evaluation.prompts": (),
    "checkpoint.every": 2,
}
"""A step of some 60 MB."""


@pytest.fixture(scope="module")
def unlimited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    """Workers that return freed blocks at once, so that held memory equals used memory."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("MALLOC_ARENA_MAX", "1")
        patched.setenv("MALLOC_MMAP_THRESHOLD_", "262144")
        patched.setenv("MALLOC_TRIM_THRESHOLD_", "262144")
        with Workers() as started:
            started.work(
                RunDirectory(tmp_path_factory.mktemp("empty") / "nothing")
            )  # by the time this fails, everything is imported
            yield started


@pytest.fixture
def workers(unlimited: Workers) -> Iterator[Workers]:
    """Workers whose memory limit is lifted after each test."""
    yield unlimited
    allow(unlimited.pid, None)


def allow(pid: int, more: int | None) -> None:
    """Limit a process to this many bytes more than it holds now; None: no limit."""
    limit = resource.RLIM_INFINITY if more is None else psutil.Process(pid).memory_info().vms + more
    resource.prlimit(pid, resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))


def failure(run: RunDirectory) -> tuple[RunSummary, str, str]:
    """The figures, the message and the hint of a run that failed."""
    with RunReader(run) as reader:
        facts = reader.facts()
    return summarize(run), facts.message, facts.hint


def notes(run: RunDirectory) -> list[tuple[int, str]]:
    with RunReader(run) as reader:
        return [
            (event.step, event.text) for event in reversed(reader.events()) if event.kind == "note"
        ]


def weights_hash(run: RunDirectory, step: int) -> str:
    return sha256(
        (run.checkpoints_path / f"step-{step:09d}" / "model.safetensors").read_bytes()
    ).hexdigest()


def test_a_step_that_memory_cannot_hold_is_refused_before_the_first_with_a_batch_that_fits(
    workers: Workers, text: Path
) -> None:
    allow(workers.pid, 100 * MIB)
    run = create_run(
        tiny_config(text, {**WIDE, "training.batch_size": 3_000, "training.bptt": 7}), "too-wide"
    )
    assert workers.work(run) == 2
    summary, message, hint = failure(run)
    assert (summary.status, summary.step) == ("failed", 0)
    assert re.search(
        r"out of memory in a step of 3,000 x 7 tokens \(elman, 2 x 128 units, \d+ types, [\d.]+ GiB"
        r" estimated, [\d.]+ GiB available\)",
        message,
    )
    fits = re.search(r"training.batch_size = ([\d,]+) should fit", hint)
    assert fits is not None, hint
    # reported before it was tried
    assert any("needs an estimated" in words for _, words in notes(run))
    batch = int(fits[1].replace(",", ""))
    assert 1 <= batch < 3_000
    smaller = create_run(
        tiny_config(
            text,
            {**WIDE, "training.batch_size": batch, "training.bptt": 7, "training.max_steps": 2},
        ),
        "fitting",
    )
    assert workers.work(smaller) == 0, smaller.log_path.read_text()


def test_a_step_out_of_memory_ends_the_run_with_the_saved_step_and_resumes_bit_equal(
    workers: Workers, text: Path
) -> None:
    config = tiny_config(text, {**WIDE, "training.max_steps": 40})  # a pause comes long before
    for attempt in range(3):
        run = create_run(config, f"squeezed-{attempt}")
        pid = workers.start(run)
        wait_for_step(run, 2)
        paused = send(run, "pause").step
        allow(pid, 20 * MIB)
        send(run, "resume")
        code = workers.wait()
        # oneDNN crashes if the allocation that fails is a small one of its own, which it doesn't
        # check (dnnl::impl::matmul_pd_t is copied to address 0): perhaps once in twenty times.
        if code != -signal.SIGSEGV:
            break
    assert code == 2
    summary, message, hint = failure(run)
    saved = paused - paused % 2
    assert (summary.status, summary.step, summary.checkpoints.last) == ("failed", paused, saved)
    assert re.match(r"out of memory in a step of 1,000 x \d tokens", message)
    assert f"step {saved:,} is saved: `rnnlm-tui resume {run.name}` continues from it" in hint
    assert f"`rnnlm-tui train --from {run.name}@{saved} --set training.batch_size=" in hint
    assert verify_checkpoint(run.checkpoints_path / f"step-{saved:09d}").step == saved

    assert workers.work(run) == 0
    whole = create_run(config, "whole")
    assert workers.work(whole) == 0
    assert weights_hash(run, 40) == weights_hash(whole, 40)


@pytest.mark.usefixtures("warm")
def test_a_run_too_large_for_the_memory_is_started_with_a_warning(
    text: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("rnnlm_tui.client.estimate.free_training_memory", lambda device: 100 * MIB)
    small = (
        "tokenizer.kind=character",
        "tokenizer.vocab_size=64",
        "training.max_steps=1",
        "schedule.warmup_steps=0",
        "evaluation.every=0",
        f"corpus.source={text}",
    )
    assert (
        cli(
            [
                "train",
                *(part for one in small for part in ("--set", one)),
                "--detach",
                "--json",
                "--name",
                "otter",
            ]
        )
        == 0
    )
    out, err = capsys.readouterr()
    assert json.loads(out)["run"] == "otter"
    assert re.search(r"^warning: it needs [\d.]+ [GM]iB of memory and 0\.1 GiB are free: ", err)
