"""Invalid corpora are rejected before a run is created."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from rnnlm_tui.cli.main import run as run_verb
from rnnlm_tui.store.runs import list_runs

pytestmark = pytest.mark.fault(
    "an endless prompt, a corpus without text, an impossible config or name"
)


TEXT = b"The cat sat on the mat with a dog.\n" * 400
REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "not found"),
    "blank lines": (lambda path: path.write_bytes(b"\n \n\t\n" * 50), "empty"),
    "too short": (lambda path: path.write_bytes(b"one two\nthree\n"), "too short for a batch"),
    "invalid UTF-8": (
        lambda path: path.write_bytes(TEXT + b"caf\xe9\n" + TEXT),
        "is not UTF-8: 0xe9 at byte 14,003 (line 401)",
    ),
    "NULs": (
        lambda path: path.write_bytes(TEXT + b"a\0b\n"),
        "is binary: NUL at byte 14,001 (line 401)",
    ),
    "a pickle": (lambda path: path.write_bytes(b"\x80\x04\x95" + TEXT), "a pickle"),
    "a FIFO": (os.mkfifo, "is a FIFO"),
    "an empty folder": (Path.mkdir, "it is empty"),
    "a link to itself": (lambda path: path.symlink_to(path), "too many levels"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_invalid_corpora_are_rejected_by_kind_and_no_run_is_created(
    kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # some only the worker notices, which may be slow to start
    monkeypatch.setattr("rnnlm_tui.cli.train.FIRST_STEP_SECONDS", 120.0)
    make, fact = REFUSED[kind]
    path = tmp_path / "corpus.txt"
    make(path)
    assert run_verb(["train", "--set", f"corpus.source={path}", "--detach"]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert fact in err
    assert "corpus.txt" in err
    assert "Traceback" not in err
    assert list_runs() == []
