"""Paths of the data home."""

from __future__ import annotations

from pathlib import Path

import pytest

from rnnlm_tui.store import paths


def test_the_users_data_folder_is_used_without_the_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("RNNLM_TUI_HOME")
    unset = paths.home()
    monkeypatch.setenv("RNNLM_TUI_HOME", "")
    assert paths.home() == unset
    assert unset.name == "rnnlm-tui"
    assert unset.is_absolute()


def test_a_relative_home_is_made_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RNNLM_TUI_HOME", "here")
    assert paths.home() == tmp_path / "here"
