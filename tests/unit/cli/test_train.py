"""The verbs that control runs, with a fake worker, and the configs of child runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rnnlm_tui.schema.config import CheckpointConfig, RunConfig
from rnnlm_tui.schema.protocol import CommandResult
from rnnlm_tui.store.lineage import read_parent
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.runs import create_run, find_run
from tests.unit.cli.calls import Verbs
from tests.unit.cli.test_runs import trained_run

RESUME = "rnnlm-tui resume brisk-heron"


SAVED = "checkpoints/step-000000012"


def answer(monkeypatch: pytest.MonkeyPatch, **figures: Any) -> list[str]:
    """Let each worker answer with these figures; the result collects what they are asked."""
    asked = list[str]()

    def send(run: RunDirectory, verb: str) -> CommandResult:
        asked.append(f"{verb} {run.name}")
        return CommandResult(id="a", ok=True, **figures)

    monkeypatch.setattr("rnnlm_tui.client.control.send", send)
    return asked


@pytest.mark.parametrize(
    ("step", "checkpoint", "words"),
    [
        (12, SAVED, f"stopped at step 12, saved in {SAVED}: `{RESUME}` resumes from there"),
        (0, "", f"stopped before its first step: `{RESUME}` starts it again"),
    ],
)
def test_stop_reports_the_saved_checkpoint(
    monkeypatch: pytest.MonkeyPatch, verb: Verbs, step: int, checkpoint: str, words: str
) -> None:
    create_run(RunConfig(), "brisk-heron")
    answer(monkeypatch, step=step, checkpoint=checkpoint)
    assert verb("stop brisk-heron")[0] == f"brisk-heron {words}\n"


@pytest.mark.parametrize("name", ["pause", "stop", "checkpoint", "evaluate"])
def test_several_runs_are_controlled_at_once(
    name: str, monkeypatch: pytest.MonkeyPatch, verb: Verbs
) -> None:
    names = ["brisk-heron", "plain-otter"]
    for one in names:
        create_run(RunConfig(), one)
    asked = answer(monkeypatch, step=12, checkpoint=SAVED)
    both = f"{name} brisk-heron plain-otter"
    assert [line.split()[0] for line in verb(both)[0].splitlines()] == names
    assert asked == [f"{name} brisk-heron", f"{name} plain-otter"]
    assert [item["run"] for item in verb.json(both)] == names
    single = verb.json(f"{name} brisk-heron")
    keys = {"run", "step", "checkpoint", "status", "text"}
    assert single.keys() == keys | ({"validation", "test"} if name == "evaluate" else set())


def test_checkpoint_says_how_long_it_stays_and_which_verb_pins_it(
    monkeypatch: pytest.MonkeyPatch, verb: Verbs
) -> None:
    create_run(RunConfig(checkpoint=CheckpointConfig(keep_every=10)), "brisk-heron")
    for step, words in (
        (12, ", kept until 2 newer ones exist (`rnnlm-tui pin brisk-heron@12` keeps it)"),
        (20, ""),
    ):
        answer(monkeypatch, step=step, checkpoint=f"checkpoints/{step}")
        said = f"brisk-heron saved checkpoints/{step}{words}\n"
        assert verb("checkpoint brisk-heron")[0] == said


def test_an_optimizer_state_is_kept_only_of_a_parent(verb: Verbs) -> None:
    trained_run()
    assert "--optimizer needs --from" in verb("train --optimizer keep --draft", code=2)[1]
    asked = "train --from brisk-heron --draft --name calm-wren"
    err = verb(f"{asked} --optimizer keep", code=2)[1]
    assert "brisk-heron@2 has weights only: no optimizer" in err
    verb(asked)
    parent = read_parent(find_run("calm-wren"))
    assert parent is not None
    assert parent.optimizer == "fresh"


def test_a_text_is_given_as_an_argument_or_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: Verbs
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my book.txt").write_text("The cat sat on the mat.\n" * 500, encoding="utf-8")
    text = "'my book.txt' --set training.batch_size=2 --set training.bptt=5"
    verb(f"train {text} --draft --name brisk-heron")
    wanted = find_run("brisk-heron").read_config().corpus.source
    assert wanted == str(tmp_path / "my book.txt")
    assert "The" in verb(f"estimate {text} --json")[0]
    for name in ("train", "estimate"):
        err = verb(f"{name} 'my book.txt' --set corpus.source=elman", code=2)[1]
        assert "TEXT and --set corpus.source are mutually exclusive" in err


def test_average_says_like_the_other_verbs_that_it_cannot_ask(verb: Verbs) -> None:
    trained_run()
    err = verb("average brisk-heron --last 2", code=2)[1]
    assert "average: cannot ask for confirmation, standard input is not a terminal" in err
    assert "add --keep, or --if-better" in err
