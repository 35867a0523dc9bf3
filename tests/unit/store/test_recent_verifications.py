"""Checkpoints that a worker doesn't verify again and again."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from rnnlm_tui.errors import CheckpointError
from rnnlm_tui.store import verify
from rnnlm_tui.store.checkpoints import write_checkpoint
from rnnlm_tui.store.manifest import Manifest, verify_checkpoint
from rnnlm_tui.store.verify import VERIFIED_SECONDS, RecentVerifications
from tests.unit.store.rows import new_run, write_model


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The checkpoints that were read, in order."""
    read: list[Path] = []

    def counted(path: Path) -> Manifest:
        read.append(path)
        return verify_checkpoint(path)

    monkeypatch.setattr(verify, "verify_checkpoint", counted)
    return read


def test_a_checkpoint_that_nothing_touched_is_read_again_after_ten_minutes(
    read: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, recent = write_checkpoint(new_run(), 500, write_model, None, {}), RecentVerifications()
    now = 1_000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    recent.verify(path)
    recent.verify(path)
    assert read == [path]
    now += VERIFIED_SECONDS - 1
    recent.verify(path)
    assert read == [path], "a look doesn't count as a verification"
    now += 1
    recent.verify(path)
    assert read == [path] * 2


@pytest.mark.parametrize("change", ["content", "same size and times", "missing", "added", "gone"])
def test_a_checkpoint_that_was_touched_is_read_again(change: str, read: list[Path]) -> None:
    path, recent = write_checkpoint(new_run(), 500, write_model, None, {}), RecentVerifications()
    recent.add(path)
    weights = path / "model.safetensors"
    before, content = weights.stat(), weights.read_bytes()
    if change == "content":
        weights.write_bytes(b"?")
    elif change == "same size and times":
        weights.write_bytes(bytes([content[0] ^ 1]) + content[1:])
        os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    elif change == "missing":
        weights.unlink()
    elif change == "added":
        (path / "weights.bin").write_bytes(b"a pickle")
    else:
        path.rename(path.with_name("elsewhere"))
    with pytest.raises(CheckpointError):
        recent.verify(path)
    with pytest.raises(CheckpointError):
        recent.verify(path)
    assert read == [path] * 2, "what failed isn't known as verified"
