"""The line that is shown for a command's outcome."""

from __future__ import annotations

from rnnlm_tui.schema.config import CheckpointConfig
from rnnlm_tui.schema.protocol import CommandResult, SettingsChange
from rnnlm_tui.tui.messages import outcome
from rnnlm_tui.tui.views.steer import confirmed_text


def test_a_saved_checkpoint_says_how_long_it_stays_and_what_pins_it() -> None:
    saved = CommandResult(id="a", ok=True, step=1500, checkpoint="checkpoints/step-000001500")
    for kept, words in (
        (CheckpointConfig(), " until 2 newer ones exist: p on Checkpoints pins it"),
        (CheckpointConfig(keep_last=5, keep_every=1000), " until 5 newer ones exist: p on"),
        (CheckpointConfig(keep_every=500), ""),
    ):
        text = outcome("checkpoint", saved, kept.stays(1500)).text
        assert text.startswith(f"checkpoint saved at step 1,500{words}")
        assert words or text.endswith("1,500")
        change = SettingsChange(number=1, step=1500, settings=())
        changed = confirmed_text(saved.model_copy(update={"change": change}), kept)
        assert (f"; saved before it{words}" in changed) == bool(words)


def test_a_stop_reports_a_checkpoint_only_if_there_is_one() -> None:
    saved = CommandResult(id="a", ok=True, step=12, checkpoint="checkpoints/step-000000012")
    assert outcome("stop", saved).text == "stopped at step 12, checkpoint saved"
    assert outcome("stop", CommandResult(id="a", ok=True)).text == "stopped before its first step"
