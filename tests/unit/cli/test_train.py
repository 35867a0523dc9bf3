"""The verbs that control runs, with a fake worker, and the configs of child runs."""

from __future__ import annotations

import json

import pytest

from rnnlm_tui.cli.main import run
from rnnlm_tui.cli.train import check_optimizer_start
from rnnlm_tui.errors import InputError
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.protocol import CommandResult
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
