"""Configs from presets, files and assignments, and as TOML."""

from __future__ import annotations

from pathlib import Path

import pytest

from rnnlm_tui.cli.config import resolve
from rnnlm_tui.cli.options import ConfigOptions
from rnnlm_tui.client.config_files import write_config_text
from rnnlm_tui.errors import InputError
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.presets import PRESETS
from rnnlm_tui.schema.toml import explained_toml, read_toml, toml_text
from rnnlm_tui.schema.validation import config_to_raw, fields, merge, parse_config
from rnnlm_tui.store.runs import create_run
from tests.unit.cli.calls import Verbs


def build_config(preset: str | None, file: Path | None, given: list[str] | None) -> RunConfig:
    return resolve(ConfigOptions(preset, file, given)).config


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
    for path in fields():
        name = path.partition(".")[2]
        assert f"\n{name} = " in text or f"\n# {name} =" in text


def test_origins_are_shown_for_each_value(
    tmp_path: Path, verb: Verbs, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(tmp_path, "# mine\n[training]\n  seed = 5\n")
    monkeypatch.setenv("RNNLM_TUI_SAMPLING__TOP_K", "3")
    asked = f"config show --preset lstm --config {file} --set training.epochs=2 --origin"
    rows = dict(line.split(None, 1) for line in verb(asked)[0].splitlines())
    assert set(rows) == {"key", "preset", *fields()}
    for path, row in {
        "training.seed": f"5 {file}:3:10",
        "sampling.top_k": "3 RNNLM_TUI_SAMPLING__TOP_K",
        "training.epochs": "2 --set",
        "model.cell_type": '"lstm" preset lstm',
        "model.dropout": "0.1 default",
        "training.max_steps": "(none) default",
    }.items():
        assert rows[path].split() == row.split()
    found = verb.json(asked)
    place = {"layer": "file", "name": str(file), "line": 3, "column": 10}
    assert found["training.seed"] == {"value": 5, **place}
    assert found["sampling.top_k"]["layer"] == "environment"


def test_the_environment_never_changes_a_run_and_an_unknown_variable_is_a_warning(
    verb: Verbs, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_run(parse_config(merge(PRESETS["lstm"], {"training.seed": 9})), "plain-otter")
    monkeypatch.setenv("RNNLM_TUI_TRAINING__SEED", "3")
    monkeypatch.setenv("RNNLM_TUI_LEARNING_RATE", "1")
    assert verb.json("config show plain-otter")["training"]["seed"] == 9
    assert "run plain-otter" in verb("config show plain-otter --origin")[0]
    assert "RNNLM_TUI_OPTIMIZER__LEARNING_RATE" in verb("config show")[1]


def test_presets_files_and_runs_are_compared(tmp_path: Path, verb: Verbs) -> None:
    create_run(parse_config(merge(PRESETS["lstm"], {"training.seed": 9})), "plain-otter")
    file = written(tmp_path, '[evaluation]\nprompts = ["a", "b\\u001b"]\n')
    assert verb("config diff lstm plain-otter")[0].splitlines() == [
        "key            preset lstm  run plain-otter",
        "training.seed  42           9",
    ]
    found = verb.json(f"config diff demo {file}")
    assert found["a"] == {"kind": "preset", "name": "demo"}
    assert found["b"] == {"kind": "file", "name": str(file)}
    (one,) = found["differences"]
    assert (one["key"], one["b"]) == ("evaluation.prompts", ["a", "b\u001b"])
    assert "\x1b" not in verb(f"config diff demo {file}")[0]
    out, err = verb("config diff demo preset:demo")
    assert out == ""
    assert "equal" in err


def test_a_name_of_a_preset_and_a_run_needs_its_kind(verb: Verbs) -> None:
    create_run(PRESETS["gru"], "lstm")
    assert "run:lstm" in verb("config diff lstm demo", code=2)[1]
    verb("config diff run:lstm preset:gru")
    assert 'did you mean "lstm"' in verb("config diff demo lsmt", code=2)[1]


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
