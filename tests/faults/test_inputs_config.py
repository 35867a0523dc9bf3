"""Invalid configs and run names: all problems are reported at once, and nothing is created."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rnnlm_tui.cli.main import run
from rnnlm_tui.errors import ConfigError

pytestmark = pytest.mark.fault(
    "an endless prompt, a corpus without text, an impossible config or name"
)

FILE = """
[model]
hidden_size = 0
num_layers = -1
hiden_size = 3
[optimizer]
learning_rate = nan
weight_decay = inf
[training]
batch_size = 1000000000
max_steps = "many"
deterministic = "perhaps"
[modle]
hidden_size = 8
"""
PROBLEMS = {
    "model.hidden_size": ("is 0", "at least 1", "65,536"),
    "model.num_layers": ("is -1", "at least 1", "64"),
    "model.hiden_size": ("unknown config key", '"model.hidden_size"'),
    "optimizer.learning_rate": ("is nan", "a finite number", "at most 1)"),
    "optimizer.weight_decay": ("is inf", "a finite number"),
    "training.batch_size": ("is 1000000000", "at most 65,536"),
    "training.max_steps": ("is 'many'", "a whole number"),
    "training.deterministic": ("is 'perhaps'", "true or false"),
    "modle": ("unknown config key", '"model"'),
}


def test_all_problems_of_a_config_are_reported_with_field_range_and_suggestion(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text(FILE)
    assert run(["train", "--draft", "--config", str(file)]) == ConfigError.exit_code
    out, err = capsys.readouterr()
    assert out == ""
    found = re.findall(r"^  (?:\S+wrong.toml:(\d+):\d+: )?([a-z_.]+): (.*)$", err, re.MULTILINE)
    reported = {key: words for _, key, words in found}
    for line, key, _ in found:
        assert key.rpartition(".")[2] in FILE.splitlines()[int(line) - 1]
    assert reported.keys() == PROBLEMS.keys()
    for field, words in PROBLEMS.items():
        assert all(word in reported[field] for word in words), reported[field]
    assert not home.exists()


@pytest.mark.parametrize(
    "content",
    [b"[model", b"\xff\xfe[\x00", b"model = 3", b"\x00" * 64, b"model = " + b"[" * 5_000],
    ids=["no TOML", "UTF-16", "a section that is none", "NULs", "too deep"],
)
def test_an_invalid_config_file_is_rejected_by_name(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    file = tmp_path / "wrong.toml"
    file.write_bytes(content)
    assert run(["train", "--draft", "--config", str(file)]) == 2
    err = capsys.readouterr().err
    assert "wrong.toml" in err or "model" in err
    assert "Traceback" not in err
    assert not home.exists()


def test_no_verb_accepts_an_invalid_name_or_a_path(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outside = home.parent / "outside"
    outside.mkdir()
    (outside / "config.toml").write_text("kept")
    names = ("../../outside", str(outside), "a\0b", "x" * 300, "\x1b]0;title\x07")
    for name in names:
        assert run(["train", "--draft", f"--name={name}"]) == 2
        assert "use 1 to 64 of A-Z a-z 0-9 . _ -" in capsys.readouterr().err
    assert not home.exists()
    (home / "runs").mkdir(parents=True)
    for verb in ("show", "resume", "stop", "delete", "checkpoints", "verify", "sample"):
        for name in names:
            assert run([verb, "--", name, *(["The"] if verb == "sample" else [])]) != 0
            out, err = capsys.readouterr()
            assert (out + err).replace("\n", "").isprintable()
            assert "Traceback" not in err
    assert (outside / "config.toml").read_text() == "kept"
