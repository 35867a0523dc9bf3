"""The verbs that control runs, with a fake worker, and the configs of child runs."""

from __future__ import annotations

import json
from typing import Literal

import pytest

from rnnlm_tui.cli.main import run
from rnnlm_tui.cli.train import check_optimizer_start, parse_settings
from rnnlm_tui.errors import ConfigError, InputError
from rnnlm_tui.schema.config import RunConfig, ScheduleConfig
from rnnlm_tui.schema.protocol import CommandResult
from rnnlm_tui.store.database import RunDatabase
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.runs import create_run


@pytest.mark.parametrize(
    ("checkpoint", "words"),
    [
        (
            "checkpoints/step-000000012",
            (
                "stopped at step 12, saved in checkpoints/step-000000012: `rnnlm-tui resume"
                " brisk-heron` resumes from there"
            ),
        ),
        ("", "stopped before its first step: `rnnlm-tui resume brisk-heron` starts it again"),
    ],
)
def test_stop_reports_the_saved_checkpoint(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], checkpoint: str, words: str
) -> None:
    create_run(RunConfig(), "brisk-heron")
    monkeypatch.setattr(
        "rnnlm_tui.client.control.send",
        lambda run, verb: CommandResult(
            id="a", ok=True, step=12 if checkpoint else 0, checkpoint=checkpoint
        ),
    )
    assert run(["stop", "brisk-heron"]) == 0
    assert capsys.readouterr().out == f"brisk-heron {words}\n"


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
    capsys: pytest.CaptureFixture[str],
    kind: Literal["cosine", "constant"],
    step: int,
    said: str,
) -> None:
    directory = create_run(
        RunConfig(schedule=ScheduleConfig(kind=kind, warmup_steps=50)), "brisk-heron"
    )
    with RunDatabase(directory.database_path) as database:
        database.begin_attempt(1, "box", "boot", "cpu", 0, {})
        database.set_meta("max_steps", "150")
    monkeypatch.setattr(
        "rnnlm_tui.client.control.send",
        lambda run, verb, **changes: CommandResult(id="a", ok=True, step=step),
    )
    assert run(["set", "brisk-heron", "optimizer.learning_rate=0.001"]) == 0
    assert (
        capsys.readouterr().out
        == f"brisk-heron: optimizer.learning_rate is 0.001 from step {step + 1:,}{said}\n"
    )


@pytest.mark.parametrize("verb", ["pause", "stop", "checkpoint", "evaluate"])
def test_several_runs_are_controlled_at_once(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("brisk-heron", "plain-otter"):
        create_run(RunConfig(), name)
    asked: list[str] = []

    def send(directory: RunDirectory, asked_verb: str) -> CommandResult:
        asked.append(f"{asked_verb} {directory.name}")
        return CommandResult(id="a", ok=True, step=12, checkpoint="checkpoints/step-000000012")

    monkeypatch.setattr("rnnlm_tui.client.control.send", send)
    assert run([verb, "brisk-heron", "plain-otter"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [
        "brisk-heron",
        "plain-otter",
    ]
    assert asked == [f"{verb} brisk-heron", f"{verb} plain-otter"]
    assert run([verb, "brisk-heron", "plain-otter", "--json"]) == 0
    assert [item["run"] for item in json.loads(capsys.readouterr().out)] == [
        "brisk-heron",
        "plain-otter",
    ]
    assert run([verb, "brisk-heron", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["run"] == "brisk-heron", (
        "one run is one object, as it always was"
    )


def test_an_optimizer_state_is_kept_only_of_a_parent_and_only_by_its_two_words() -> None:
    assert check_optimizer_start(None, given=False) == "fresh"
    assert check_optimizer_start("keep", given=True) == "keep"
    with pytest.raises(InputError, match="--optimizer needs --from"):
        check_optimizer_start("keep", given=False)
    with pytest.raises(InputError, match='is "keeep", must be fresh or keep') as caught:
        check_optimizer_start("keeep", given=True)
    assert caught.value.hint == 'did you mean "keep"?'


def test_only_settings_that_can_change_during_a_run_can_be_set() -> None:
    assert parse_settings(
        RunConfig(), ["optimizer.learning_rate=1e-3", "checkpoint.every=200"]
    ) == {"optimizer.learning_rate": 1e-3, "checkpoint.every": 200.0}
    for assignment in (
        "training.seed=3",
        "optimizer.learning_rate=0",
        "optimizer.learning_rate=",
        "optimizer.lerning_rate=1",
        "checkpoint.every=a",
    ):
        with pytest.raises(ConfigError):
            parse_settings(RunConfig(), [assignment])
