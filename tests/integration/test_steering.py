"""Every verb over the socket of a real worker."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rnnlm_tui.cli.main import run as cli
from rnnlm_tui.client.control import launch, resume, send
from rnnlm_tui.client.start import parent_at
from rnnlm_tui.client.steering import steer
from rnnlm_tui.schema.metrics import CommandRow
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.store.checkpoints import list_checkpoints
from rnnlm_tui.store.lineage import read_parent
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.runs import create_run, find_run
from tests.integration.runs import (
    ENDLESS,
    kill,
    start,
    tiny_config,
    wait_for_step,
    wait_until_ended,
)
from tests.unit.client.logs import record

pytestmark = pytest.mark.usefixtures("warm")


def journal(run: RunDirectory) -> list[CommandRow]:
    """Every recorded command, in order."""
    with RunReader(run) as reader:
        return reader.commands()


def test_a_changed_setting_is_kept_in_the_next_attempt_and_in_a_fork(
    text: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = start(
        tiny_config(
            text,
            {
                "training.max_steps": ENDLESS,
                "schedule.kind": "constant",
                "checkpoint.every": 0,
                "checkpoint.keep_last": 100,
                "evaluation.every": 0,
            },
        )
    )
    wait_for_step(run, 10)
    first = send(run, "set", changes={"optimizer.learning_rate": 0.0005})
    wait_for_step(run, first.step + 1)
    second = send(run, "set", changes={"checkpoint.every": 25.0})
    wait_for_step(run, second.step + 1)
    stopped = send(run, "stop")

    before, after = (
        parent_at(f"{run.name}@{step}").config() for step in (first.step, stopped.step)
    )
    assert before == run.read_config()
    assert after == parse_config(
        merge(before, {"optimizer.learning_rate": 0.0005, "checkpoint.every": 25})
    )
    fork = ("train", "--from", f"{run.name}@last", "--set", "checkpoint.every=50", "--draft")
    assert cli([*fork, "--name", "child"]) == 0
    noted = f"as changed while {run.name} trained: optimizer.learning_rate 0.003 → 0.0005,"
    assert noted in capsys.readouterr().err
    child = find_run("child")
    assert child.read_config() == parse_config(merge(after, {"checkpoint.every": 50}))
    parent = read_parent(child)
    assert parent is not None
    assert parent.changed == {"checkpoint.every": (25, 50)}

    resume(run)
    wait_for_step(run, stopped.step + 60)
    with RunReader(run) as reader:
        rates = {row.learning_rate for row in reader.recent_steps(30)}
    saved = [row.step for row in list_checkpoints(run)]
    assert rates == {0.0005}
    assert saved[-1] % 25 == 0
    kill(run)


def weights(run: RunDirectory) -> bytes:
    return (list_checkpoints(run)[-1].path / "model.safetensors").read_bytes()


def test_the_same_changes_at_the_same_steps_give_the_same_weights(text: Path) -> None:
    """Changes from two terminals, an undo, a kill in between; then a run that repeats them."""
    config = tiny_config(text, {"training.max_steps": 900, "evaluation.every": 0})
    run = start(config, "steered")
    wait_for_step(run, 20)
    send(run, "pause")
    steer(run, {"model.dropout": 0.4, "optimizer.max_grad_norm": 0.3, "training.max_steps": 320})
    with ThreadPoolExecutor(2) as terminals:  # two terminals at once
        answers = list(
            terminals.map(
                lambda changes: steer(run, changes),
                [{"optimizer.learning_rate": 0.001}, {"evaluation.prompts": ["A dog", "She"]}],
            )
        )
    assert sorted(one.change.number for one in answers if one.change is not None) == [2, 3]
    resume(run)
    wait_for_step(run, 60)
    steer(run, {"optimizer.learning_rate": 0.02, "checkpoint.every": 7})
    undone = send(run, "undo").change
    assert undone is not None
    assert (undone.number, undone.undoes) == (5, 4)
    kill(run)
    resume(run)
    summary = wait_until_ended(run)
    assert (summary.status, summary.step, summary.max_steps) == ("finished", 320, 320)
    with RunReader(run) as reader:
        changes = reader.changes()
        assert {row.prompt for row in reader.samples() if row.step == 320} == {"A dog", "She"}
        rates = {row.step: row.learning_rate for row in reader.steps()}
    assert [change.number for change in changes] == [1, 2, 3, 4, 5]
    assert all(change.who for change in changes)
    assert max(rates[step] for step in range(changes[-1].step + 1, 321)) <= 0.001

    again = create_run(config, "repeated")
    record(again, *(row for row in journal(run) if row.verb in ("set", "undo")))
    launch(again)
    assert wait_until_ended(again).step == 320
    assert weights(again) == weights(run)
