"""A run resumes from its last checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest

from rnnlm_tui.client.control import resume, send
from rnnlm_tui.client.monitor import summarize
from rnnlm_tui.store.checkpoints import list_checkpoints
from rnnlm_tui.store.reader import RunReader
from tests.integration.runs import (
    ENDLESS,
    kill,
    start,
    tiny_config,
    wait_for_step,
    wait_until_ended,
)

pytestmark = pytest.mark.usefixtures("warm")


def test_resume_after_stop_continues_from_the_same_step(text: Path) -> None:
    run = start(
        tiny_config(
            text, {"training.max_steps": ENDLESS, "checkpoint.every": 0, "evaluation.every": 0}
        )
    )
    wait_for_step(run, 20)
    stopped = send(run, "stop")
    pid = resume(run)
    wait_for_step(run, stopped.step + 5)
    assert summarize(run).pid == pid
    with RunReader(run) as reader:
        assert [row.start_step for row in reader.attempts()] == [0, stopped.step]
        steps = [row.step for row in reader.steps_since()]
        events = [event for event in reversed(reader.events()) if event.attempt == 2]
    assert steps == list(range(1, len(steps) + 1))
    assert events[0].kind == "resumed"
    kill(run)


def test_a_run_from_a_checkpoint_starts_with_its_weights(text: Path) -> None:
    parent = start(tiny_config(text, {"training.max_steps": 200}), "parent")
    assert wait_until_ended(parent).status == "finished"
    child = start(
        tiny_config(
            text,
            {"training.max_steps": 5, "schedule.warmup_steps": 1, "optimizer.learning_rate": 1e-6},
        ),
        "child",
        parent="parent@200",
    )
    summary = wait_until_ended(child)
    assert summary.status == "finished"
    assert summary.parent == "parent@200"
    with RunReader(child) as ours, RunReader(parent) as theirs:
        assert ours.evaluations()[-1].loss == pytest.approx(theirs.evaluations()[-1].loss, abs=1e-3)
        assert ours.recent_steps(10)[0].step == 1
    assert [entry.manifest.parent for entry in list_checkpoints(child)] == ["parent@200"]
