"""The app's state and prompt history."""

from __future__ import annotations

from pathlib import Path

from rnnlm_tui.store.paths import history_file, state_file
from rnnlm_tui.store.state import (
    append_history,
    load_state,
    prompt_history,
    save_state,
)


def test_the_state_is_stored_privately_and_loaded(home: Path) -> None:
    assert load_state() == {}
    assert not home.exists()
    save_state({"run": "plain-otter", "log_y": True, "width": [1, None, "ü"]})
    save_state({"run": "brisk-heron"})
    assert load_state() == {"run": "brisk-heron"}
    assert state_file().stat().st_mode & 0o777 == 0o600


def test_repeated_and_empty_prompts_are_not_stored() -> None:
    for prompt in ("a", "a", "", "  \n", "b\nü\0\ud800\x1b[31m", "a"):
        append_history(prompt)
    found = [line.prompt for line in prompt_history().read()]
    assert found == ["a", "b\nü\0\ud800\x1b[31m", "a"]
    assert history_file().stat().st_mode & 0o777 == 0o600
