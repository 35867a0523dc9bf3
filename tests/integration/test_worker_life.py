"""A real worker on a real corpus: it finishes, outlives its parent, and fails with a reason."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from rnnlm_tui.schema.presets import DEMO
from rnnlm_tui.store.checkpoints import list_checkpoints
from rnnlm_tui.store.manifest import read_manifest, verify_checkpoint
from rnnlm_tui.store.reader import RunReader
from tests.integration.runs import start, tiny_config, wait_until_ended

pytestmark = pytest.mark.usefixtures("warm")


def test_a_run_trains_to_its_last_step_and_records_everything(text: Path) -> None:
    sampling = {"min_p": 0.01, "repetition_penalty": 1.1, "stop": ["qqq"]}
    changes = {f"sampling.{name}": value for name, value in sampling.items()}
    run = start(tiny_config(text, changes))
    summary = wait_until_ended(run)
    assert summary.status == "finished"
    assert summary.step == summary.max_steps == 60
    assert summary.tokens_seen == 60 * 4 * 16
    assert summary.pid is None
    assert summary.model.parameters is not None
    assert summary.test.name == "test"
    assert summary.test.perplexity is not None
    assert summary.baseline.perplexity is not None
    assert summary.tokens_per_second is not None
    assert (summary.checkpoints.best, summary.checkpoints.last) == (60, 60)
    with RunReader(run) as reader:
        steps = reader.recent_steps(100)
        assert [row.step for row in steps] == list(range(1, 61))
        assert all(
            later.active_seconds >= earlier.active_seconds for earlier, later in pairwise(steps)
        )
        assert 0 < steps[0].active_seconds < steps[-1].active_seconds
        assert [(row.step, row.split) for row in reader.evaluations()] == [
            (20, "validation"),
            (40, "validation"),
            (60, "validation"),
            (60, "test"),
        ]
        assert [(row.step, row.prompt, row.tokens, row.seed) for row in reader.samples()] == [
            (step, "The cat", 12, 7) for step in (60, 40, 20)
        ]
        kinds = [event.kind for event in reversed(reader.events())]
    assert [kind for kind in kinds if kind != "note"][:3] == ["started", "preparing", "running"]
    assert kinds[-1] == "finished"
    recorded = {"min_p": 0.01, "repetition_penalty": 1.1, "stop_strings": ["qqq"]}
    for entry in list_checkpoints(run):
        assert verify_checkpoint(entry.path).step == entry.step
        known = json.loads((entry.path / "generation_config.json").read_text(encoding="utf-8"))
        assert recorded.items() <= known.items()


def test_a_missing_corpus_fails_the_run_with_the_reason(tmp_path: Path) -> None:
    run = start(tiny_config(tmp_path / "nowhere.txt"))
    summary = wait_until_ended(run)
    assert summary.status == "failed"
    assert summary.message is not None
    assert "nowhere.txt" in summary.message
    with RunReader(run) as reader:
        failures = [event.text for event in reader.events() if event.kind == "failed"]
    assert len(failures) == 1
    assert "Traceback" not in failures[0]
    assert "Traceback" in run.log_path.read_text()


def test_a_warm_up_is_shortened_for_a_short_run_and_logged(text: Path) -> None:
    run = start(
        tiny_config(
            text,
            {
                "training.max_steps": 40,
                "schedule.warmup_steps": DEMO.schedule.warmup_steps,
                "optimizer.learning_rate": 1e-2,
            },
        )
    )
    assert wait_until_ended(run).status == "finished"
    with RunReader(run) as reader:
        assert [event.text for event in reader.events() if "warm-up" in event.text] == [
            "warm-up shortened to 4 steps, a tenth of the run: schedule.warmup_steps is 100, the"
            " run has 40 steps"
        ]
        rates = {row.step: row.learning_rate for row in reader.steps()}
    assert rates[2] == pytest.approx(5e-3)
    assert rates[4] == pytest.approx(1e-2)
    assert rates[40] < 1e-3
    assert read_manifest(run.checkpoints_path / "step-000000040").facts["warmup_steps"] == 4
