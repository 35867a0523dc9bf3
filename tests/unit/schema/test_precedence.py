"""The layers of a config: which value wins, where it comes from, and what is reported."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from rnnlm_tui.errors import ConfigError, InputError
from rnnlm_tui.schema.config import RunConfig, value_of
from rnnlm_tui.schema.precedence import OTHER_VARIABLES, resolve_config, variable_of
from rnnlm_tui.schema.presets import PRESETS
from rnnlm_tui.schema.toml import parse_toml, toml_text
from rnnlm_tui.schema.validation import fields, merge, parse_config

ROOT = Path(__file__).parents[3]
VALUES: dict[str, tuple[object, ...]] = {
    "training.seed": (1, 2, 3),
    "training.batch_size": (11, 12, 13),
    "optimizer.weight_decay": (0.1, 0.2, 0.3),
    "model.dropout": (0.3, 0.4, 0.5),
    "sampling.greedy": (True, False, True),
    "evaluation.every": (7, 8, 9),
}
"""A value from the file, the environment and the command line."""


def test_a_later_layer_wins_for_any_combination_of_layers() -> None:
    chosen = random.Random(4)
    for _ in range(80):
        preset = chosen.choice([None, *PRESETS])
        given = {path: [chosen.random() < 0.5 for _ in range(3)] for path in VALUES}
        file, variables, options = (
            {path: values[layer] for path, values in VALUES.items() if given[path][layer]}
            for layer in range(3)
        )
        found = resolve_config(
            preset=preset,
            file=parse_toml(toml_text(merge({}, file)), "my.toml"),
            environment={
                variable_of(path): str(value).lower() for path, value in variables.items()
            },
            assignments=[f"{path}={str(value).lower()}" for path, value in options.items()],
        )
        base = PRESETS[preset or "demo"]
        for path in VALUES:
            layers = [part[path] for part in (file, variables, options) if path in part]
            value = value_of(found.config, path)
            assert value == (layers[-1] if layers else value_of(base, path))
            origin = found.origins[path]
            if path in options:
                assert (origin.layer, str(origin)) == ("command line", "--set")
            elif path in variables:
                assert (origin.layer, origin.place.source) == ("environment", variable_of(path))
            elif path in file:
                assert origin.layer == "file"
                assert str(origin).startswith("my.toml:")
            else:
                assert origin.layer in ("default", "preset")
                assert (origin.layer == "default") == (value == value_of(RunConfig(), path))
            assert (path in found.chosen) == bool(layers)
        assert set(found.origins) == {"preset", *fields()}


def test_a_run_as_base_keeps_the_origins_of_its_preset() -> None:
    trained = parse_config(merge(PRESETS["lstm"], {"training.seed": 5}))
    found = resolve_config(run=("plain-otter", trained), assignments=["training.epochs=2"])
    assert str(found.origins["training.seed"]) == "run plain-otter"
    assert str(found.origins["model.cell_type"]) == "preset lstm"
    assert str(found.origins["model.dropout"]) == "default"
    assert str(found.origins["training.epochs"]) == "--set"
    assert found.config == parse_config(merge(trained, {"training.epochs": 2}))


def test_the_variables_that_set_no_key_are_all_known() -> None:
    named = re.compile(r'"(RNNLM_TUI_[A-Z_]+)"')
    files = [path for folder in ("rnnlm_tui", "tests") for path in (ROOT / folder).rglob("*.py")]
    found = {
        name
        for path in files
        if path.name != "test_precedence.py"
        for name in named.findall(path.read_text(encoding="utf-8"))
        if "__" not in name and not name.endswith("_")
    }
    assert found - {"RNNLM_TUI_LEARNING_RATE"} <= {*OTHER_VARIABLES}


def test_every_key_has_a_variable_that_no_other_has() -> None:
    names = [variable_of(path) for path in fields()]
    assert len(set(names)) == len(names)
    assert variable_of("optimizer.learning_rate") == "RNNLM_TUI_OPTIMIZER__LEARNING_RATE"
    assert not {*names} & {*OTHER_VARIABLES}
    assert not any("__" in name for name in OTHER_VARIABLES)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("RNNLM_TUI_OPTIMIZER__LEARNIGN_RATE", "RNNLM_TUI_OPTIMIZER__LEARNING_RATE"),
        ("RNNLM_TUI_optimizer__learning_rate", "RNNLM_TUI_OPTIMIZER__LEARNING_RATE"),
        ("RNNLM_TUI_TRAINING__LR", "RNNLM_TUI_OPTIMIZER__LEARNING_RATE"),
        ("RNNLM_TUI_X__Y", "config show"),
    ],
)
def test_a_misspelled_variable_is_an_error_that_names_the_right_one(name: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve_config(environment={name: "1"})
    (problem,) = caught.value.problems
    assert str(problem.place) == name
    assert hint in problem.hint


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("RNNLM_TUI_LEARNING_RATE", "RNNLM_TUI_OPTIMIZER__LEARNING_RATE"),
        ("RNNLM_TUI_HOMES", "RNNLM_TUI_HOME"),
        ("RNNLM_TUI_ZQX", ""),
    ],
)
def test_an_unknown_variable_without_a_section_is_noted(name: str, hint: str) -> None:
    (note,) = resolve_config(environment={name: "1"}).notes
    assert name in note
    assert hint in note


def test_known_and_foreign_variables_are_not_noted() -> None:
    environment = {**dict.fromkeys(OTHER_VARIABLES, "1"), "PATH": "/bin", "XRNNLM_TUI_A__B": "1"}
    found = resolve_config(environment=environment)
    assert found.notes == ()
    assert found.config == RunConfig()


def test_a_bad_value_names_its_variable_or_its_line() -> None:
    with pytest.raises(ConfigError) as caught:
        resolve_config(
            file=parse_toml("[model]\nnum_layers = 0\n", "c.toml"),
            environment={"RNNLM_TUI_TRAINING__EPOCHS": "many"},
            assignments=["training.batch_size=0"],
        )
    places = {problem.path: str(problem.place) for problem in caught.value.problems}
    assert places == {
        "model.num_layers": "c.toml:2:14",
        "training.epochs": "RNNLM_TUI_TRAINING__EPOCHS",
        "training.batch_size": "None",
    }


def test_a_contradiction_is_placed_at_the_field_that_was_written() -> None:
    with pytest.raises(ConfigError) as caught:
        resolve_config(file=parse_toml("[model]\nhidden_size = 64\n", "c.toml"))
    (problem,) = caught.value.problems
    assert problem.path == "model.tie_weights"
    assert str(problem.place) == "c.toml:2:15"


def test_a_file_with_five_problems_reports_all_of_them_with_line_and_suggestion() -> None:
    text = (
        'preset = "lstn"\n[optimizer]\nlearnign_rate = 1e-3\n[model]\n  num_layers = 0\n'
        'cell_type = "lsmt"\n[trainin]\nseed = 1\n[evaluation]\nprompts = ["a", 3]\n'
    )
    with pytest.raises(ConfigError) as caught:
        resolve_config(file=parse_toml(text, "c.toml"))
    found = {problem.path: problem for problem in caught.value.problems}
    assert {path: str(problem.place) for path, problem in found.items()} == {
        "preset": "c.toml:1:10",
        "optimizer.learnign_rate": "c.toml:3:1",
        "model.num_layers": "c.toml:5:16",
        "model.cell_type": "c.toml:6:13",
        "trainin": "c.toml:7:1",
        "evaluation.prompts.1": "c.toml:10:11",
    }
    for path, meant in {
        "preset": "lstm",
        "optimizer.learnign_rate": "optimizer.learning_rate",
        "model.cell_type": "lstm",
        "trainin": "training",
    }.items():
        assert f'did you mean "{meant}"' in str(found[path])


def test_an_empty_variable_counts_as_not_set() -> None:
    file = parse_toml("[training]\nmax_steps = 9\n[schedule]\nwarmup_steps = 0\n", "c.toml")
    empty = dict.fromkeys([*map(variable_of, fields()), "RNNLM_TUI_A__B", "RNNLM_TUI_A"], "")
    assert resolve_config(file=file, environment=empty) == resolve_config(file=file)


def test_an_unknown_preset_on_the_command_line_is_an_error() -> None:
    with pytest.raises(InputError, match="unknown preset"):
        resolve_config(preset="lstn")
