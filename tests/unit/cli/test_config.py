"""Configs from presets, files and assignments, and as TOML."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from rnnlm_tui.cli.config import build_config, config_toml, read_config_file
from rnnlm_tui.errors import ConfigError, InputError
from rnnlm_tui.schema.presets import PRESETS
from rnnlm_tui.schema.validation import field_paths, parse_config


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(text)
    return path


def test_the_default_config_is_the_demo() -> None:
    assert build_config(None, None, None) == PRESETS["demo"]


def test_assignments_override_the_file_and_the_file_overrides_the_preset(tmp_path: Path) -> None:
    file = written(tmp_path, "[training]\nseed = 1\nbatch_size = 7\n")
    config = build_config("elman", file, ["training.seed=2"])
    assert (config.preset, config.training.seed, config.training.batch_size, config.model) == (
        "elman",
        2,
        7,
        PRESETS["elman"].model,
    )


def test_a_file_that_names_a_preset_starts_from_it(tmp_path: Path) -> None:
    assert build_config(None, written(tmp_path, 'preset = "book"\n'), None) == PRESETS["book"]


def test_a_file_with_an_unknown_preset_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown preset"):
        build_config(None, written(tmp_path, 'preset = "bok"\n'), None)


def test_problems_of_file_and_assignments_are_reported_together(tmp_path: Path) -> None:
    file = written(tmp_path, "[model]\nhiden_size = 3\n[optimizer]\nlearning_rate = 7.0\n")
    with pytest.raises(ConfigError) as caught:
        build_config(None, file, ["training.sed=1", "training.epochs=0", "training.batch_size"])
    assert {problem.path for problem in caught.value.problems} == {
        "model.hiden_size",
        "optimizer.learning_rate",
        "training.sed",
        "training.epochs",
        "training.batch_size",
    }


def test_an_unknown_section_is_reported_with_all_other_problems(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        build_config(
            None, written(tmp_path, "model = 3\n"), ["model.num_layers=1", "training.epochs=0"]
        )
    assert {problem.path for problem in caught.value.problems} == {"model", "training.epochs"}


def test_an_empty_assignment_clears_an_optional_field(tmp_path: Path) -> None:
    file = written(tmp_path, "[training]\nmax_steps = 500\n")
    assert build_config(None, file, None).training.max_steps == 500
    assert build_config(None, file, ["training.max_steps="]).training.max_steps is None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a = [", "not valid TOML"),
        (b"\xff\xfe", "not UTF-8"),
        (b"[a]\n[a]", "not valid TOML"),
        (b"a = " + b"9" * 5_000, "not valid TOML"),
    ],
)
def test_an_invalid_config_file_is_rejected_with_the_position(
    tmp_path: Path, content: bytes, words: str
) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=words) as caught:
        read_config_file(path)
    assert str(path) in caught.value.message


def test_a_missing_file_or_a_folder_is_rejected(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(InputError, match="cannot read the config file"):
            read_config_file(path)


@pytest.mark.parametrize("explain", [False, True])
@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_shown_config_can_be_read_back(name: str, explain: bool, tmp_path: Path) -> None:
    text = config_toml(PRESETS[name], explain=explain)
    assert parse_config(tomllib.loads(text)) == PRESETS[name]
    assert build_config(None, written(tmp_path, text), None) == PRESETS[name]


def test_an_explained_config_has_a_line_for_every_field() -> None:
    text = config_toml(PRESETS["demo"], explain=True)
    for path in field_paths():
        name = path.partition(".")[2]
        assert f"\n{name} = " in text or f"\n# {name} =" in text


@pytest.mark.parametrize("steps_in_file", [True, False])
def test_a_warmup_from_the_file_is_checked_like_one_from_set(
    tmp_path: Path, steps_in_file: bool
) -> None:
    file = written(
        tmp_path,
        "[schedule]\nwarmup_steps = 100\n"
        + ("[training]\nmax_steps = 30\n" if steps_in_file else ""),
    )
    with pytest.raises(ConfigError, match="must be below the run's 30 steps"):
        build_config(None, file, None if steps_in_file else ["training.max_steps=30"])


def test_a_chosen_warmup_is_checked_against_the_steps_of_a_prepared_corpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "rnnlm_tui.client.estimate._training_text", lambda _corpus, _manifest: (100, 4_522)
    )
    file = written(tmp_path, "[schedule]\nwarmup_steps = 100\n")
    for chosen in ((file, None), (None, ["schedule.warmup_steps=100"])):
        with pytest.raises(ConfigError, match="must be below the run's"):
            build_config(None, *chosen)
    assert build_config(None, None, None).schedule.warmup_steps == 100
