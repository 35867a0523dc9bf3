"""The data home, and a run's folder: name, paths and config."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from rnnlm_tui.errors import RunNameError, StorageError
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.store import paths
from rnnlm_tui.store.paths import RunDirectory, check_run_name
from rnnlm_tui.store.runs import create_run
from tests.unit.store.rows import new_run

IMPOSSIBLE_NAMES = [
    "",
    ".",
    "..",
    "../x",
    "/abs",
    "a/b",
    "-rf",
    ".hidden",
    "a\0b",
    "a b",
    "a\n",
    "ü",
    "x" * 65,
    "x" * 300,
    "\x1b[31m",
]


@pytest.mark.parametrize("name", ["a", "plain-otter", "0", "A.b_c-9", "x" * 64])
def test_a_valid_name_is_returned(name: str) -> None:
    assert check_run_name(name) == name


@pytest.mark.parametrize("name", IMPOSSIBLE_NAMES)
def test_an_invalid_name_error_has_the_rule_and_no_control_characters(name: str) -> None:
    with pytest.raises(RunNameError, match=r"1 to 64 of") as caught:
        check_run_name(name)
    assert str(caught.value).replace("\n", "").isprintable()
    assert len(caught.value.message) < 200


def test_a_run_with_a_short_path_has_its_socket_inside() -> None:
    run = RunDirectory(Path("/srv/runs/plain-otter"))
    assert run.socket_path == run.path / "control.sock"


def test_a_run_with_a_long_path_gets_a_short_private_socket_path(tmp_path: Path) -> None:
    long = RunDirectory(tmp_path / ("x" * 60) / ("y" * 60))
    other = RunDirectory(tmp_path / ("x" * 60) / ("z" * 60))
    assert len(os.fsencode(long.socket_path)) <= 107
    assert long.socket_path != other.socket_path
    assert long.socket_path == RunDirectory(long.path).socket_path
    existed = long.socket_path.parent.exists()
    try:
        assert long.make_socket_directory() == long.socket_path
        assert long.socket_path.parent.stat().st_mode & 0o777 == 0o700
    finally:
        if not existed:
            shutil.rmtree(long.socket_path.parent)


def test_the_frozen_config_is_read_as_written() -> None:
    config = RunConfig.model_validate(
        {
            "corpus": {"source": 'odd "name"\\ü'},
            "training": {"max_steps": 1_200},
            "evaluation": {"prompts": ["a\nb", ""]},
        }
    )
    assert create_run(config, "other").read_config() == config


def test_a_run_of_an_unreleased_version_is_refused_by_name(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "plain-otter")
    run.path.mkdir()
    run.check_version()
    (run.path / "run.db").touch()
    with pytest.raises(StorageError, match="plain-otter was made by an unreleased version") as old:
        run.check_version()
    assert old.value.hint == "keep it for that version, or set RNNLM_TUI_HOME to a new folder"


@pytest.mark.parametrize(
    "text", [b"\xff\xfe", b"[model", b"model = 3", b"[model]\nhidden_size = 0", b"[modell]\n"]
)
def test_a_damaged_config_is_reported(text: bytes) -> None:
    run = new_run()
    run.config_path.write_bytes(text)
    with pytest.raises(StorageError, match=r"plain-otter/config\.toml"):
        run.read_config()


def test_a_missing_config_is_reported() -> None:
    run = new_run()
    run.config_path.unlink()
    with pytest.raises(StorageError, match=r"can't read .*config\.toml"):
        run.read_config()
    assert run.created() == 0.0


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
