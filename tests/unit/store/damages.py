"""What may happen to a checkpoint's files, by name."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from rnnlm_tui.store.manifest import Manifest


def flip(path: Path, place: int) -> None:
    """Flip one bit."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << place % 8
    path.write_bytes(content)


def empty(folder: Path) -> None:
    """Remove every file of the folder."""
    shutil.rmtree(folder)
    folder.mkdir()


def replace_by(path: Path, make: Callable[[Path], object]) -> None:
    """Replace a file by something else."""
    path.unlink()
    make(path)


def become_a_snapshot(folder: Path) -> None:
    """Change the manifest and correct its checksum, as an attacker would."""
    path = folder / "manifest.json"
    values = {**json.loads(path.read_text(encoding="utf-8")), "kind": "snapshot"}
    path.write_text(Manifest.model_validate(values).text(), encoding="utf-8")


DAMAGES: dict[str, Callable[[Path], object]] = {
    "weights-truncated": lambda folder: os.truncate(folder / "model.safetensors", 1_000),
    "weights-longer": lambda folder: os.truncate(
        folder / "model.safetensors", (folder / "model.safetensors").stat().st_size + 1
    ),
    "weights-flipped": lambda folder: flip(folder / "model.safetensors", 2_000),
    "weights-missing": lambda folder: (folder / "model.safetensors").unlink(),
    "weights-a-link": lambda folder: replace_by(
        folder / "model.safetensors",
        lambda path: path.symlink_to(folder.with_name("step-000000400") / path.name),
    ),
    "weights-a-pipe": lambda folder: replace_by(folder / "model.safetensors", os.mkfifo),
    "state-flipped": lambda folder: flip(folder / "training_state.json", 20),
    "state-empty": lambda folder: (folder / "training_state.safetensors").write_bytes(b""),
    "manifest-missing": lambda folder: (folder / "manifest.json").unlink(),
    "manifest-half": lambda folder: os.truncate(folder / "manifest.json", 300),
    "manifest-zeroed": lambda folder: (folder / "manifest.json").write_bytes(bytes(500)),
    "manifest-a-pipe": lambda folder: replace_by(folder / "manifest.json", os.mkfifo),
    "manifest-endless": lambda folder: os.truncate(folder / "manifest.json", 1 << 40),
    "manifest-of-another-step": lambda folder: shutil.copy(
        folder.with_name("step-000000400") / "manifest.json", folder / "manifest.json"
    ),
    "manifest-of-a-snapshot": become_a_snapshot,
    "a-folder-without-files": empty,
}
