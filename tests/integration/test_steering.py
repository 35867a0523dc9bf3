"""Every verb over the socket of a real worker."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from rnnlm_tui.client.control import resume, send
from rnnlm_tui.client.monitor import summarize
from rnnlm_tui.errors import ConfigError, InputError, RunStateError
from rnnlm_tui.store.manifest import verify_checkpoint
from rnnlm_tui.store.paths import RunDirectory
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


def journal(run: RunDirectory) -> list[tuple[str, str]]:
    """Verb and answer of every journalled command, in order."""
    connection = sqlite3.connect(f"file:{run.database_path}?mode=ro", uri=True)
    try:
        return [
            (verb, result)
            for verb, result in connection.execute(
                "SELECT verb, result FROM commands ORDER BY time"
            )
        ]
    finally:
        connection.close()


def test_every_command_is_recorded(text: Path) -> None:
    run = start(
        tiny_config(
            text, {"training.max_steps": ENDLESS, "checkpoint.every": 0, "evaluation.every": 0}
        )
    )
    wait_for_step(run, 5)
    assert send(run, "status").status == "running"

    paused = send(run, "pause")
    assert paused.status == "paused"
    assert summarize(run).status == "paused"
    assert send(run, "status").step == paused.step

    saved = send(run, "checkpoint")
    assert saved.checkpoint == f"checkpoints/step-{paused.step:09d}"
    assert verify_checkpoint(run.path / saved.checkpoint).step == paused.step

    snapshot = send(run, "snapshot")
    assert verify_checkpoint(run.path / snapshot.checkpoint).kind == "snapshot"
    assert not (run.path / snapshot.checkpoint / "training_state.safetensors").exists()

    evaluated = send(run, "evaluate")
    assert evaluated.text.startswith("validation perplexity ")

    sampled = send(run, "sample", prompt="The dog")
    assert len(sampled.text) >= 1
    with RunReader(run) as reader:
        assert reader.samples(1)[0].text == sampled.text
        assert reader.samples(1)[0].prompt == "The dog"
        assert reader.checkpoints()[-1].validation_loss == reader.evaluations()[-1].loss

    assert send(run, "set", path="optimizer.learning_rate", value=0.001).ok
    assert resume(run) == summarize(run).pid
    wait_for_step(run, paused.step + 50)
    assert summarize(run).status == "running"

    stopped = send(run, "stop")
    assert stopped.checkpoint == f"checkpoints/step-{stopped.step:09d}"
    assert verify_checkpoint(run.path / stopped.checkpoint).step == stopped.step
    assert summarize(run).status == "stopped"
    verbs = [verb for verb, _ in journal(run)]
    assert verbs == [
        "pause",
        "checkpoint",
        "snapshot",
        "evaluate",
        "sample",
        "set",
        "resume",
        "stop",
    ]
    assert all(json.loads(result)["ok"] for _, result in journal(run))


def test_a_changed_setting_is_kept_in_the_next_attempt(text: Path) -> None:
    run = start(
        tiny_config(
            text,
            {
                "training.max_steps": ENDLESS,
                "schedule.kind": "constant",
                "checkpoint.every": 0,
                "evaluation.every": 0,
            },
        )
    )
    wait_for_step(run, 10)
    send(run, "set", path="optimizer.learning_rate", value=0.0005)
    send(run, "set", path="checkpoint.every", value=25.0)
    stopped = send(run, "stop")
    resume(run)
    wait_for_step(run, stopped.step + 60)
    with RunReader(run) as reader:
        rates = {row.learning_rate for row in reader.recent_steps(30)}
        saved = [row.step for row in reader.checkpoints()]
    assert rates == {0.0005}
    assert saved[-1] % 25 == 0
    kill(run)


def test_invalid_commands_are_refused_with_the_reason(text: Path) -> None:
    run = start(
        tiny_config(text, {"training.max_steps": 40, "evaluation.every": 0, "checkpoint.every": 0})
    )
    with pytest.raises(InputError, match="can't be changed while a run trains"):
        send(run, "set", path="model.hidden_size", value=9)
    with pytest.raises(ConfigError, match=r"optimizer\.learning_rate"):
        send(run, "set", path="optimizer.learning_rate", value=-1.0)
    with pytest.raises(ConfigError, match=r"checkpoint\.every"):
        send(run, "set", path="checkpoint.every", value=2.5)
    wait_until_ended(run)
    with pytest.raises(RunStateError, match=r"is not running \(status finished\)"):
        send(run, "pause")
