"""What is said of a stop: the checkpoint it left, or that there was none to leave."""

from __future__ import annotations

import pytest

from rnnlm_tui.cli.main import run
from rnnlm_tui.contract.commands import CommandResult
from rnnlm_tui.contract.config import RunConfig
from rnnlm_tui.store.runs import create_run


@pytest.mark.parametrize(
    ("checkpoint", "words"),
    [
        ("checkpoints/step-000000012", "stopped at step 12, saved in checkpoints/step-000000012: `rnnlm-tui resume brisk-heron` goes on from there"),
        ("", "stopped before its first step: `rnnlm-tui resume brisk-heron` starts it again"),
    ],
)
def test_a_stop_says_what_it_left(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], checkpoint: str, words: str) -> None:
    create_run(RunConfig(), "brisk-heron")
    monkeypatch.setattr(
        "rnnlm_tui.supervisor.control_client.send", lambda run, verb: CommandResult(id="a", ok=True, step=12 if checkpoint else 0, checkpoint=checkpoint)
    )
    assert run(["stop", "brisk-heron"]) == 0
    assert capsys.readouterr().out == f"brisk-heron {words}\n"
