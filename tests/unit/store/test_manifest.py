"""Manifests: malicious and invalid ones, and files that aren't checkpoints."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from rnnlm_tui.errors import CheckpointError
from rnnlm_tui.store.checkpoints import write_checkpoint
from rnnlm_tui.store.manifest import Manifest, read_manifest, verify_checkpoint
from tests.unit.store.rows import new_run, write_model

Values = dict[str, object]


@pytest.fixture
def checkpoint() -> Path:
    return write_checkpoint(new_run(), 500, write_model, None, {})


def edit(checkpoint: Path, change: Callable[[Values], None]) -> None:
    path = checkpoint / "manifest.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    change(values)
    # as an attacker would write it, with a valid checksum
    path.write_text(Manifest.model_validate(values).text(), encoding="utf-8")


@pytest.mark.parametrize(
    "name",
    [
        "../secret.json",
        "/etc/passwd",
        "a/b.json",
        "",
        ".",
        "..",
        "manifest.json",
        "a\0b",
        "x" * 300,
    ],
)
def test_a_path_outside_the_folder_in_a_manifest_is_refused_unread(
    checkpoint: Path, name: str
) -> None:
    edit(checkpoint, lambda values: values.update(files={name: {"size": 0, "sha256": "0" * 64}}))
    with pytest.raises(CheckpointError, match="invalid file name"):
        verify_checkpoint(checkpoint)


def test_only_a_text_file_may_be_added_later(checkpoint: Path) -> None:
    (checkpoint / "README.md").write_text("mine", encoding="utf-8")
    assert verify_checkpoint(checkpoint).step == 500
    for name in ("pytorch_model.bin", "training_state.safetensors", "tokenizer.json"):
        (checkpoint / name).write_bytes(b"")
        with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
            verify_checkpoint(checkpoint)
        (checkpoint / name).unlink()


@pytest.mark.parametrize("value", ["", "[]", "{}", "null", '{"format": 1}', "\x00", "nothing"])
def test_an_invalid_manifest_is_reported(checkpoint: Path, value: str) -> None:
    (checkpoint / "manifest.json").write_text(value, encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"manifest\.json is damaged"):
        read_manifest(checkpoint)


@pytest.mark.parametrize("more", [{}, {"new_field": 1}])
def test_a_newer_format_is_distinguished_from_damage(checkpoint: Path, more: Values) -> None:
    path = checkpoint / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 2, **more}))
    with pytest.raises(CheckpointError, match=r"newer version of rnnlm-tui \(format 2\)") as caught:
        verify_checkpoint(checkpoint)
    assert caught.value.hint == "update rnnlm-tui"


def test_other_files_and_folders_are_refused_as_checkpoints(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"PK")
    (tmp_path / "file").write_bytes(b"")
    for name, why in {
        "model.pt": "pickle",
        "file": "is a folder",
        "none": "checkpoint not found",
        ".": r"no manifest\.json",
    }.items():
        with pytest.raises(CheckpointError, match=why):
            verify_checkpoint(tmp_path / name)
