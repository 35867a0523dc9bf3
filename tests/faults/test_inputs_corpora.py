"""Invalid corpora are rejected before a run is created; huge ones need constant memory."""

from __future__ import annotations

import gzip
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rnnlm_tui.cli.main import run as run_verb
from rnnlm_tui.store.runs import list_runs

pytestmark = pytest.mark.fault(
    "an endless prompt, a corpus without text, an impossible config or name"
)

DEADLINE = 120.0
HUGE = int(os.environ.get("RNNLM_TESTS_HUGE_LINE", str(64 * 2**20)))
"""Bytes of the line; a GiB takes minutes."""
MOST_MIB = 160
"""Memory limit of the preparation, with imports; memory-mapped files don't count."""

PREPARE = """
import resource, sys
from pathlib import Path
from rnnlm_tui.schema.config import CorpusConfig, TokenizerConfig, TrainingConfig
from rnnlm_tui.corpus.corpus import prepare_corpus
resource.setrlimit(resource.RLIMIT_DATA, (int(sys.argv[3]) << 20,) * 2)
corpus = CorpusConfig(source=sys.argv[1], layout=sys.argv[4])
tokenizer, corpora = TokenizerConfig(kind="byte"), Path(sys.argv[2])
prepared = prepare_corpus(corpus, tokenizer, TrainingConfig(), corpora, lambda _: None)
print(prepared.manifest.splits["train"].bytes, *prepared.manifest.notes, sep="|")
"""


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


def prepare(source: Path, corpora: Path, layout: str) -> tuple[int, str]:
    """Prepare a corpus in a process with limited memory; return its training bytes and notes."""
    command = [sys.executable, "-c", PREPARE, str(source), str(corpora), str(MOST_MIB), layout]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert ended.returncode == 0, ended.stderr
    count, _, notes = ended.stdout.strip().partition("|")
    return int(count), notes


@pytest.mark.parametrize(
    ("layout", "note"), [("sentences", "split into several sentences"), ("auto", "layout raw")]
)
def test_one_huge_line_is_prepared_in_constant_memory(
    tmp_path: Path, layout: str, note: str
) -> None:
    words = b"many words stand on this one line " * 32_768
    source = tmp_path / "huge.txt.gz"
    with gzip.open(source, "wb", compresslevel=1) as file:
        file.write(b"the first line\n" * 20)
        for _ in range(HUGE // len(words)):
            file.write(words)
        file.write(b"\nthe last line\n")
    count, notes = prepare(source, tmp_path / "corpora", layout)
    assert count > 0.85 * HUGE
    assert note in notes
