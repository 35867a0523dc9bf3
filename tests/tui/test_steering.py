"""The line that is shown for a command's outcome."""

from __future__ import annotations

from rnnlm_tui.schema.protocol import CommandResult
from rnnlm_tui.tui.messages import outcome


def test_a_stop_reports_a_checkpoint_only_if_there_is_one() -> None:
    saved = CommandResult(id="a", ok=True, step=12, checkpoint="checkpoints/step-000000012")
    assert outcome("stop", saved).text == "stopped at step 12, checkpoint saved"
    assert outcome("stop", CommandResult(id="a", ok=True)).text == "stopped before its first step"
