"""`set` and `stop --after`: what they print, and what they refuse before anything is sent."""

from __future__ import annotations

from typing import Literal

import pytest
from pydantic import JsonValue

from rnnlm_tui.cli.train import parse_settings
from rnnlm_tui.errors import ConfigError
from rnnlm_tui.schema.config import RunConfig, ScheduleConfig
from rnnlm_tui.schema.facts import Facts
from rnnlm_tui.schema.metrics import CommandRow, EventRow
from rnnlm_tui.schema.protocol import CommandResult, Setting, SettingsChange
from rnnlm_tui.store.checkpoints import write_checkpoint
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.runs import create_run
from rnnlm_tui.system.locks import RunLock
from tests.unit.cli.calls import Verbs
from tests.unit.client.logs import record
from tests.unit.store.rows import write_model

RATE = "optimizer.learning_rate"


def changed(*settings: Setting, step: int = 99, undoes: int = 0) -> CommandResult:
    return CommandResult(
        id="a",
        ok=True,
        step=step,
        checkpoint=f"checkpoints/step-{step:09d}",
        change=SettingsChange(number=2, step=step, settings=settings, undoes=undoes),
    )


def prepared(
    kind: Literal["cosine", "constant"] = "cosine", state: str = "finished"
) -> RunDirectory:
    config = RunConfig(schedule=ScheduleConfig(kind=kind, warmup_steps=50))
    directory = create_run(config, "brisk-heron")
    answer = changed(Setting(path=RATE, old=3e-3, new=1e-3), step=90)
    arguments: dict[str, object] = {"changes": {RATE: 1e-3}, "who": "alex, pts/3"}
    record(
        directory,
        Facts(max_steps=150, steps_per_epoch=30, warmup_steps=50, settings={RATE: 1e-3}),
        CommandRow(1, "a", "set", arguments, answer.model_dump(mode="json"), 0.0),
        EventRow(1, 0, state, "", 0.0),  # type: ignore[arg-type]
    )
    return directory


@pytest.mark.parametrize(
    ("kind", "step", "said"),
    [
        ("cosine", 99, " (peak; the cosine schedule makes it 5.1e-4 now)"),
        ("cosine", 4, " (peak; the warm-up makes it 1e-4 now)"),
        ("constant", 99, ""),
    ],
)
def test_set_reports_the_scheduled_rate_for_a_new_peak(
    monkeypatch: pytest.MonkeyPatch,
    verb: Verbs,
    kind: Literal["cosine", "constant"],
    step: int,
    said: str,
) -> None:
    prepared(kind)
    sent: list[object] = []

    def steer(run: object, changes: dict[str, JsonValue]) -> CommandResult:
        sent.append(changes)
        return changed(Setting(path=RATE, old=3e-3, new=1e-3), step=step)

    monkeypatch.setattr("rnnlm_tui.client.steering.steer", steer)
    out, err = verb(f"set brisk-heron {RATE}=0.001")
    assert sent == [{RATE: 0.001}]
    assert out == f"brisk-heron: {RATE} 0.003 → 0.001 from step {step + 1:,}{said}\n"
    assert "`rnnlm-tui set brisk-heron --undo` undoes it" in err
    assert f"kept until 2 newer ones exist (`rnnlm-tui pin brisk-heron@{step}`" in err


def test_undo_says_which_change(monkeypatch: pytest.MonkeyPatch, verb: Verbs) -> None:
    prepared()
    length = Setting(path="training.max_steps", old=150, new=None)
    monkeypatch.setattr(
        "rnnlm_tui.client.control.send", lambda run, verb: changed(length, undoes=1)
    )
    out, err = verb("set brisk-heron --undo")
    assert out == (
        "brisk-heron: training.max_steps 150 → by epochs from step 100 (the run has 150 steps)\n"
    )
    assert "change 1 is undone" in err
    found = verb.json("set brisk-heron --undo")
    assert (found["run"], found["undoes"], found["settings"][0]["old"]) == ("brisk-heron", 1, 150)
    assert found["checkpoint"] == "checkpoints/step-000000099"


def test_set_alone_lists_values_and_changes(verb: Verbs) -> None:
    prepared()
    out, err = verb("set brisk-heron")
    lines = out.splitlines()
    (row,) = [line for line in lines if line.startswith(RATE)]
    assert row.split()[:3] == [RATE, "0.001", "0.003"]
    assert "optimizer.learning_rate 0.003 → 0.001" in lines[-1]
    assert lines[-1].endswith("alex, pts/3")
    assert "brisk-heron is finished" in err
    found = verb.json("set brisk-heron")
    assert {"path": RATE, "value": 0.001, "start": 0.003} in found["settings"]
    (change,) = found["changes"]
    assert change.keys() == {"number", "step", "time", "who", "undoes", "settings"}
    assert change["who"] == "alex, pts/3"


@pytest.mark.parametrize(
    ("state", "hint"),
    [("finished", ""), ("stopped", "`rnnlm-tui resume brisk-heron --detach` resumes it")],
)
@pytest.mark.parametrize("saved", [True, False], ids=["saved", "not saved"])
def test_an_ended_run_is_not_steered_but_forked_if_it_has_a_checkpoint(
    state: str, hint: str, saved: bool, verb: Verbs
) -> None:
    directory = prepared(state=state)
    if saved:
        write_checkpoint(directory, 90, write_model, None, {})
    for words in (f"{RATE}=0.002", "--undo"):
        err = verb(f"set brisk-heron {words}", code=3)[1]
        assert f"brisk-heron takes no commands: it is {state}" in err
        assert hint in err
        fork = "`rnnlm-tui train --from brisk-heron@last --set KEY=VALUE`"
        assert (fork in err) is saved
    verb("stop brisk-heron --after epoch", code=3)


def test_a_change_to_the_value_that_holds_and_a_wrong_mark_are_refused(verb: Verbs) -> None:
    directory = prepared(state="running")
    with RunLock(directory.lock_path):
        assert f"{RATE} is already 0.001" in verb(f"set brisk-heron {RATE}=0.001", code=2)[1]
        err = verb("stop brisk-heron --after epok", code=2)[1]
    assert "--after is epok, must be one of epoch, evaluation" in err


def test_all_keys_that_can_not_be_set_are_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_settings(["training.seed=3", "lr=1e-3", RATE, "nothing"])
    assert [(problem.path, problem.message) for problem in caught.value.problems] == [
        ("training.seed", "can't change while the run trains"),
        ("lr", "unknown config key"),
        ("nothing", "unknown config key"),
    ]
    assert caught.value.problems[1].hint == 'did you mean "optimizer.learning_rate"?'
    with pytest.raises(ConfigError, match=f"{RATE}: has no value"):
        parse_settings([RATE])
