"""The app's state and prompt history."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from rnnlm_tui.errors import StorageError
from rnnlm_tui.store import state
from rnnlm_tui.store.paths import history_file, state_file
from rnnlm_tui.store.state import (
    append_history,
    load_history,
    load_state,
    move_damaged_prompts_aside,
    move_state_aside,
    save_state,
)
from rnnlm_tui.system.files import write_text_atomically


def test_the_state_is_stored_privately_and_loaded(home: Path) -> None:
    assert load_state() == ({}, "")
    assert not home.exists()
    save_state({"run": "plain-otter", "log_y": True, "width": [1, None, "ü"]})
    save_state({"run": "brisk-heron"})
    assert load_state() == ({"run": "brisk-heron"}, "")
    assert state_file().stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[1]", b"null", b"\xff\xfe", b"[" * 100_000],
    ids=["empty", "half", "list", "null", "no text", "deep"],
)
def test_a_damaged_state_counts_as_none_and_is_moved_aside(home: Path, content: bytes) -> None:
    home.mkdir()
    for name in ("app-state.json.unusable", "app-state.json.unusable-2"):
        state_file().write_bytes(content)
        state, why = load_state()
        assert (state, why != "") == ({}, True)
        assert move_state_aside() == f"kept as {name}"
        assert (home / name).read_bytes() == content
    save_state({"a": 1})
    assert load_state() == ({"a": 1}, "")


def test_a_home_that_cannot_be_written_is_a_storage_error(home: Path) -> None:
    home.write_text("", encoding="utf-8")
    assert load_state() == ({}, "")
    assert load_history() == []
    with pytest.raises(StorageError):
        save_state({})
    with pytest.raises(StorageError):
        append_history("x")


def test_prompts_are_loaded_oldest_first_up_to_the_limit() -> None:
    assert load_history() == []
    prompts = ["one", "two\nlines", "ü\0\ud800\x1b[31m", "one"]
    for prompt in prompts:
        append_history(prompt)
    assert load_history() == prompts
    assert load_history(2) == prompts[-2:]
    assert load_history(0) == []
    assert history_file().stat().st_mode & 0o777 == 0o600


def test_repeated_and_empty_prompts_are_not_stored() -> None:
    for prompt in ("a", "a", "", "  \n", "b", "a"):
        append_history(prompt)
    assert load_history() == ["a", "b", "a"]


def test_a_damaged_line_is_skipped(home: Path) -> None:
    append_history("before")
    with history_file().open("ab") as file:
        file.write(b'{"prompt": 3}\n\xff\n["x"]\n{"prompt": "ha')
    append_history("after")
    append_history("later")
    assert load_history() == ["before", "after", "later"]


def test_a_long_history_keeps_its_newest_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "_MOST_HISTORY_BYTES", 1_000)
    monkeypatch.setattr(state, "KEPT_PROMPTS", 20)
    for number in range(100):
        append_history(f"prompt {number}")
    assert history_file().stat().st_size < 1_200
    assert load_history()[-1] == "prompt 99"
    assert len(load_history()) >= 10


def test_a_prompt_added_while_another_app_rewrites_the_history_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    append_history("before")
    with history_file().open("ab") as file:
        file.write(b"damaged\n")
    other = threading.Thread(target=append_history, args=("meanwhile",))

    def write_late(path: Path, text: str) -> None:
        other.start()
        other.join(0.2)
        write_text_atomically(path, text)

    monkeypatch.setattr(state, "write_text_atomically", write_late)
    assert "1 line" in move_damaged_prompts_aside()
    other.join()
    assert load_history() == ["before", "meanwhile"]
