"""Invalid corpora are rejected before a run is created; huge ones need constant memory."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from rnnlm_tui.cli.main import run as run_verb
from rnnlm_tui.store.runs import list_runs

pytestmark = pytest.mark.fault(
    "an endless prompt, a corpus without text, an impossible config or name"
)


def missing(path: Path) -> None:
    """Create nothing."""


def fifo(path: Path) -> None:
    os.mkfifo(path)


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def folder(path: Path) -> None:
    path.mkdir()


def folder_of_others(path: Path) -> None:
    path.mkdir()
    (path / "picture.png").write_bytes(b"\x89PNG")


def link_to_itself(path: Path) -> None:
    path.symlink_to(path)


def holding(data: bytes) -> Callable[[Path], None]:
    """Create a file of these bytes."""

    def write(path: Path) -> None:
        path.write_bytes(data)

    return write


TEXT = b"The cat sat on the mat with a dog.\n" * 400
REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "missing": (missing, "not found"),
    "empty": (holding(b""), "empty"),
    "blank lines": (holding(b"\n \n\t\n" * 50), "empty"),
    "shorter than a window": (holding(b"one two\nthree\n"), "too short for a batch"),
    "invalid UTF-8": (
        holding(TEXT + b"caf\xe9\n" + TEXT),
        "is not UTF-8: 0xe9 at byte 14,003 (line 401)",
    ),
    "NULs": (holding(TEXT + b"a\0b\n"), "is binary: NUL at byte 14,001 (line 401)"),
    "a pickle": (holding(b"\x80\x04\x95" + TEXT), "a pickle"),
    "a FIFO": (fifo, "is a FIFO"),
    "a socket": (listening, "is a socket"),
    "an empty folder": (folder, "it is empty"),
    "a folder of pictures": (folder_of_others, "1 other file"),
    "a link to itself": (link_to_itself, "too many levels"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_invalid_corpora_are_rejected_by_kind_and_no_run_is_created(
    kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
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
