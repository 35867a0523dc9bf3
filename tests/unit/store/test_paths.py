"""Paths of the data home."""

from __future__ import annotations

from pathlib import Path

import pytest

from rnnlm_tui.store import paths


def test_all_paths_are_in_the_home_of_the_environment_variable(home: Path) -> None:
    found = [
        paths.runs_dir(),
        paths.corpora_dir(),
        paths.trash_dir(),
        paths.states_dir(),
        paths.state_file(),
        paths.history_file(),
    ]
    assert all(path.is_relative_to(home) for path in found)
    assert len(set(found)) == len(found)


def test_paths_create_nothing(home: Path) -> None:
    paths.runs_dir(), paths.state_file()
    assert not home.exists()


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
