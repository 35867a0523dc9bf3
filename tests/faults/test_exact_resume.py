"""A run resumes from its last checkpoint bit for bit; if it can't, resume fails with every
difference."""

from __future__ import annotations

import platform
import random
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from os import environ
from pathlib import Path

import pytest

from rnnlm_tui.client.monitor import summarize
from rnnlm_tui.corpus.tokenizers import TOKENIZER_NAME
from rnnlm_tui.errors import InputError
from rnnlm_tui.schema.cells import CellType
from rnnlm_tui.schema.config import DataMode
from rnnlm_tui.schema.summary import RunSummary
from rnnlm_tui.schema.toml import toml_text
from rnnlm_tui.schema.validation import config_to_raw, merge, parse_config
from rnnlm_tui.store.checkpoints import list_checkpoints
from rnnlm_tui.store.manifest import verify_checkpoint
from rnnlm_tui.store.paths import RunDirectory, corpora_dir
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.runs import create_run, find_run
from tests.benchmarks.exact_resume import PROMPTS, compare, exact_config, weights_hash
from tests.benchmarks.random_kills import committed_steps, kill_randomly, losses
from tests.faults.workers import Workers
from tests.integration.runs import write_text

STEPS = 60


@pytest.mark.parametrize(
    ("cell", "mode"),
    [
        *(("elman", "stream"), ("mlstm", "stream"), ("transformer", "stream")),
        *(("lstm", "sentences"), ("slstm", "sentences")),
    ],
)
def test_a_run_stopped_at_random_steps_or_sampled_ends_bit_identical(
    workers: Workers, text: Path, cell: CellType, mode: DataMode, draw: random.Random
) -> None:
    """Every cell's state is restored: that is tested in the engine."""
    outcome = compare(workers, text, cell, mode, draw, steps=60, samplings=2)
    assert outcome.equal, outcome
    assert outcome.samples == 2 * len(PROMPTS)


@pytest.mark.fault("the worker is killed, even while it writes a checkpoint beside training")
def test_random_kills_in_mid_run_and_in_mid_save_lose_nothing(
    workers: Workers, text: Path, draw: random.Random
) -> None:
    tally = kill_randomly(text, 10, draw, [workers], steps=150, a_run=10)
    assert tally.clean, str(tally)
    assert (tally.kills, tally.in_save > 0, tally.steps > 0) == (10, True, True), str(tally)


@pytest.mark.fault("the worker is killed, even while it writes a checkpoint beside training")
def test_steps_repeated_by_later_attempts_replace_the_old_ones(
    workers: Workers, text: Path
) -> None:
    config = exact_config(text, "elman", "stream", 150)
    straight, run = create_run(config, "straight"), create_run(config, "killed-twice")
    assert workers.work(straight) == 0
    for _ in range(2):  # during each attempt's second save, at steps 80 and 120
        assert workers.work(run, "files.after:kill:2") == -signal.SIGKILL
    assert workers.work(run) == 0
    assert losses(run) == losses(straight)
    with RunReader(run) as reader:
        begun = [row.start_step for row in reader.attempts()]
        marks = [
            (event.attempt, event.step)
            for event in reversed(reader.events())
            if event.kind == "resumed"
        ]
        attempts = [row.attempt for row in reader.steps()]
    assert begun == [0, 40, 80]
    assert marks == [(2, 40), (3, 80)]
    assert attempts == [1] * 40 + [2] * 40 + [3] * 70
    kept = [(attempt, step) for attempt, step in committed_steps(run) if step > 40 * attempt < 120]
    repeated = {1: range(41, 81), 2: range(81, 121)}
    assert set(kept) >= {(attempt, step) for attempt, steps in repeated.items() for step in steps}
    # Training went on beside the save until the kill.
    assert all(step in range(40 * attempt + 1, 40 * attempt + 81) for attempt, step in kept)


@dataclass(frozen=True)
class Stopped:
    """A run stopped at a checkpoint halfway, in a home to copy."""

    home: Path
    text: Path
    step: int
    whole: str
    """sha256 of the final weights of the same run without a stop."""


@pytest.fixture(scope="module")
def template(workers: Workers, tmp_path_factory: pytest.TempPathFactory) -> Stopped:
    folder = tmp_path_factory.mktemp("stopped")
    text = write_text(folder / "text.txt")
    config = exact_config(text, "gru", "stream", STEPS, **{"checkpoint.every": 15})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RNNLM_TUI_HOME", str(folder / "home"))
        whole, run = create_run(config, "whole"), create_run(config, "stopped")
        assert workers.work(whole) == 0
        assert workers.work(run, "rename.after:kill:2") == -signal.SIGKILL
        return Stopped(folder / "home", text, 30, weights_hash(whole, STEPS))


@pytest.fixture
def run(template: Stopped, home: Path) -> Iterator[RunDirectory]:
    """A copy of the run; changes to the text are undone after the test."""
    shutil.copytree(template.home, home, ignore=shutil.ignore_patterns("*.sock"))
    content = template.text.read_bytes()
    yield find_run("stopped")
    template.text.write_bytes(content)


def edit(run: RunDirectory, changes: Mapping[str, object]) -> None:
    """Edit a frozen config by hand."""
    run.config_path.write_text(
        toml_text(config_to_raw(parse_config(merge(run.read_config(), changes)))),
        encoding="utf-8",
    )


def refusal(workers: Workers, run: RunDirectory, template: Stopped) -> RunSummary:
    """An attempt that is refused: with a reason, an exit code, the durable step, no traceback, and
    nothing lost or changed."""
    before = [row for row in losses(run) if row[0] <= template.step]  # later ones are repeated
    assert workers.work(run) == InputError.exit_code
    summary = summarize(run)
    assert (summary.status, summary.step) == ("failed", template.step)
    assert losses(run) == before
    assert [verify_checkpoint(entry.path).step for entry in list_checkpoints(run)][
        -1
    ] == template.step
    told = f"{summary.message}\n{summary.hint}"
    assert f"step {template.step}" in told
    assert "rnnlm-tui " in told
    assert "Traceback" not in told
    return summary


@pytest.mark.fault("the corpus, the tokenizer or the config has changed")
def test_a_resume_with_other_settings_text_or_tokenizer_is_refused_with_every_difference(
    workers: Workers, run: RunDirectory, template: Stopped
) -> None:
    frozen, whole = run.config_path.read_bytes(), template.text.read_bytes()
    facts = verify_checkpoint(list_checkpoints(run)[-1].path).facts
    (tokenizer,) = corpora_dir().glob(f"*/{TOKENIZER_NAME}")
    known = tokenizer.read_bytes()
    edit(run, {"model.hidden_size": 32, "model.embedding_dim": 32})
    summary = refusal(workers, run, template)
    for words in ("model.embedding_dim was 24, is 32", "model.hidden_size was 24, is 32"):
        assert words in str(summary.message)
    assert str(run.config_path) in str(summary.message)
    assert str(summary.message).count(", is ") == 2
    assert "rnnlm-tui train --config " in str(summary.hint)
    run.config_path.write_bytes(frozen)
    template.text.write_bytes(whole + b"One sentence more.\n")
    message = str(refusal(workers, run, template).message)
    then = str(facts["corpus_hash"])[:16]
    now = max(corpora_dir().iterdir(), key=lambda path: path.stat().st_mtime).name
    assert f"its hash was {then}, it is {now}" in message
    assert str(template.text) in message
    assert then != now
    template.text.write_bytes(whole)
    tokenizer.write_bytes(known + b" ")
    message = str(refusal(workers, run, template).message)
    assert f"its hash was {str(facts['tokenizer_hash'])[:16]}, it is " in message
    assert str(tokenizer) in message
    tokenizer.write_bytes(known)
    assert workers.work(run) == 0
    assert weights_hash(run, STEPS) == template.whole


def test_exact_mode_refuses_other_kernels_on_the_same_processor_when_resume_is_called(
    run: RunDirectory, template: Stopped
) -> None:
    variables = {**environ, "ATEN_CPU_CAPABILITY": "default"}
    asked = subprocess.run(
        [sys.executable, "-m", "rnnlm_tui", "resume", run.name, "--detach"],
        capture_output=True,
        text=True,
        env=variables,
        timeout=120,
        check=False,
    )
    assert asked.returncode == InputError.exit_code, asked.stderr
    assert re.search(r"variables was .*, is .*ATEN_CPU_CAPABILITY=default", asked.stderr)
    assert ("instructions was " in asked.stderr) == (platform.machine() == "x86_64")
    assert f"is at step {template.step}" in asked.stderr
    assert f"rnnlm-tui resume {run.name}" in asked.stderr
    assert (asked.stdout, "Traceback" in asked.stderr) == ("", False)
