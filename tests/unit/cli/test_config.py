"""Configs from presets, files and assignments, and as TOML."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rnnlm_tui.cli.config import resolve
from rnnlm_tui.cli.main import run
from rnnlm_tui.client.config_files import write_config_text
from rnnlm_tui.errors import InputError
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.presets import PRESETS
from rnnlm_tui.schema.toml import explained_toml, read_toml, toml_text
from rnnlm_tui.schema.validation import config_to_raw, field_paths, merge, parse_config
from rnnlm_tui.store.runs import create_run


def build_config(preset: str | None, file: Path | None, assignments: list[str] | None) -> RunConfig:
    return resolve(preset, file, assignments).config


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(text)
    return path


def test_a_file_that_names_a_preset_starts_from_it(tmp_path: Path) -> None:
    assert build_config(None, written(tmp_path, 'preset = "book"\n'), None) == PRESETS["book"]


def test_a_missing_file_or_a_folder_is_rejected(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(InputError, match="cannot read the config file"):
            read_toml(path)


def test_an_explained_config_has_a_line_for_every_field() -> None:
    text = explained_toml(PRESETS["demo"])
    for path in field_paths():
        name = path.partition(".")[2]
        assert f"\n{name} = " in text or f"\n# {name} =" in text


def test_origins_are_shown_for_each_value(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(tmp_path, "# mine\n[training]\n  seed = 5\n")
    monkeypatch.setenv("RNNLM_TUI_SAMPLING__TOP_K", "3")
    asked = ["config", "show", "--preset", "lstm", "--config", str(file)]
    asked += ["--set", "training.epochs=2", "--origin"]
    assert run(asked) == 0
    rows = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines())
    assert rows["training.seed"].split() == ["5", f"{file}:3:10"]
    assert rows["sampling.top_k"].split() == ["3", "RNNLM_TUI_SAMPLING__TOP_K"]
    assert rows["training.epochs"].split() == ["2", "--set"]
    assert rows["model.cell_type"].split(None, 1) == ['"lstm"', "preset lstm"]
    assert rows["model.dropout"].split() == ["0.1", "default"]
    assert rows["training.max_steps"].split() == ["(none)", "default"]
    assert set(rows) == {"key", "preset", *field_paths()}
    assert run([*asked, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["training.seed"] == {
        "value": 5,
        "layer": "file",
        "name": str(file),
        "line": 3,
        "column": 10,
    }
    assert found["sampling.top_k"]["layer"] == "environment"


def test_the_environment_never_changes_a_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    create_run(parse_config(merge(PRESETS["lstm"], {"training.seed": 9})), "plain-otter")
    monkeypatch.setenv("RNNLM_TUI_TRAINING__SEED", "3")
    monkeypatch.setenv("RNNLM_TUI_NOTHING__AT_ALL", "3")
    assert run(["config", "show", "plain-otter", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["training"]["seed"] == 9
    assert run(["config", "show", "plain-otter", "--origin"]) == 0
    assert "run plain-otter" in capsys.readouterr().out


def test_an_unknown_variable_is_a_warning(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RNNLM_TUI_LEARNING_RATE", "1")
    assert run(["config", "show", "--json"]) == 0
    assert "RNNLM_TUI_OPTIMIZER__LEARNING_RATE" in capsys.readouterr().err


def test_presets_files_and_runs_are_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    create_run(parse_config(merge(PRESETS["lstm"], {"training.seed": 9})), "plain-otter")
    file = written(tmp_path, '[evaluation]\nprompts = ["a", "b\\u001b"]\n')
    assert run(["config", "diff", "lstm", "plain-otter"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "key            preset lstm  run plain-otter",
        "training.seed  42           9",
    ]
    assert run(["config", "diff", "demo", str(file), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["a"] == {"kind": "preset", "name": "demo"}
    assert found["b"] == {"kind": "file", "name": str(file)}
    assert [(one["key"], one["b"]) for one in found["differences"]] == [
        ("evaluation.prompts", ["a", "b\u001b"])
    ]
    assert run(["config", "diff", "demo", str(file)]) == 0
    assert "\x1b" not in capsys.readouterr().out
    assert run(["config", "diff", "demo", "preset:demo"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "equal" in err


def test_a_name_of_a_preset_and_a_run_needs_its_kind(capsys: pytest.CaptureFixture[str]) -> None:
    create_run(PRESETS["gru"], "lstm")
    assert run(["config", "diff", "lstm", "demo"]) == 2
    assert "run:lstm" in capsys.readouterr().err
    assert run(["config", "diff", "run:lstm", "preset:gru"]) == 0
    assert run(["config", "diff", "demo", "lsmt"]) == 2
    assert 'did you mean "lstm"' in capsys.readouterr().err


def test_saving_over_a_file_keeps_its_mode_and_its_link(tmp_path: Path) -> None:
    file = written(tmp_path, "[training]\nseed = 1\n")
    file.chmod(0o640)
    link = tmp_path / "link.toml"
    link.symlink_to(file)
    write_config_text(link, "[training]\nseed = 2\n")
    assert file.read_text() == "[training]\nseed = 2\n"
    assert link.is_symlink()
    assert file.stat().st_mode & 0o777 == 0o640
    new = tmp_path / "new.toml"
    write_config_text(new, toml_text(config_to_raw(PRESETS["book"])))
    assert build_config(None, new, None) == PRESETS["book"]
    for path in (tmp_path, tmp_path / "none" / "new.toml"):
        with pytest.raises(InputError):
            write_config_text(path, "")
