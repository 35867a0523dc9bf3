"""The verbs that control runs, with a fake worker, and the configs of child runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rnnlm_tui.cli.main import run
from rnnlm_tui.schema.config import CheckpointConfig, RunConfig
from rnnlm_tui.schema.protocol import CommandResult
from rnnlm_tui.store.lineage import read_parent
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.runs import create_run, find_run
from tests.unit.cli.test_runs import trained_run


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


def test_checkpoint_says_how_long_it_stays_and_which_verb_pins_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    create_run(RunConfig(checkpoint=CheckpointConfig(keep_every=10)), "brisk-heron")
    for step, words in (
        (12, ", kept until 2 newer ones exist (`rnnlm-tui pin brisk-heron@12` keeps it)"),
        (20, ""),
    ):
        answer = CommandResult(id="a", ok=True, step=step, checkpoint=f"checkpoints/{step}")
        monkeypatch.setattr("rnnlm_tui.client.control.send", lambda run, verb, _=answer: _)
        assert run(["checkpoint", "brisk-heron"]) == 0
        assert capsys.readouterr().out == f"brisk-heron saved checkpoints/{step}{words}\n"


def test_an_optimizer_state_is_kept_only_of_a_parent(capsys: pytest.CaptureFixture[str]) -> None:
    trained_run()
    assert run(["train", "--optimizer", "keep", "--draft"]) == 2
    assert "--optimizer needs --from" in capsys.readouterr().err
    asked = ["train", "--from", "brisk-heron", "--draft", "--name", "calm-wren"]
    assert run([*asked, "--optimizer", "keep"]) == 2
    assert "brisk-heron@2 has weights only: no optimizer" in capsys.readouterr().err
    assert run(asked) == 0
    parent = read_parent(find_run("calm-wren"))
    assert parent is not None
    assert parent.optimizer == "fresh"


def test_a_text_is_given_as_an_argument_or_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my book.txt").write_text("The cat sat on the mat.\n" * 500, encoding="utf-8")
    text = ["my book.txt", "--set", "training.batch_size=2", "--set", "training.bptt=5"]
    assert run(["train", *text, "--draft", "--name", "brisk-heron"]) == 0
    wanted = find_run("brisk-heron").read_config().corpus.source
    assert wanted == str(tmp_path / "my book.txt")
    assert run(["estimate", *text, "--json"]) == 0
    assert "The" in capsys.readouterr().out
    for verb in ("train", "estimate"):
        assert run([verb, "my book.txt", "--set", "corpus.source=elman"]) == 2
        assert "TEXT and --set corpus.source are mutually exclusive" in capsys.readouterr().err


def test_average_says_like_the_other_verbs_that_it_cannot_ask(
    capsys: pytest.CaptureFixture[str],
) -> None:
    trained_run()
    assert run(["average", "brisk-heron", "--last", "2"]) == 2
    err = capsys.readouterr().err
    assert "average: cannot ask for confirmation, standard input is not a terminal" in err
    assert "add --keep, or --if-better" in err
