"""A corpus that is none is refused by a real worker with what it is and where; one that is only unusual trains as any other."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rnnlm_tui.cli.main import run as command
from rnnlm_tui.errors import CorpusError
from rnnlm_tui.store.checkpoints import resolve_checkpoint
from rnnlm_tui.store.runs import create_run
from rnnlm_tui.supervisor.monitor import summarize
from tests.faults.workers import Workers
from tests.integration.runs import tiny_config, write_text

pytestmark = pytest.mark.faults

STEPS = {"training.max_steps": 8, "checkpoint.every": 0, "evaluation.every": 0}
LONG_LINE_BYTES = 256 << 20
HELD_BYTES = 16 << 20
"""Reading holds a few blocks of a line, however long it is."""

REFUSED: dict[str, tuple[str, ...]] = {
    "missing": ("does not exist",),
    "empty": ("is empty", "no text to train on"),
    "blank lines": ("is empty", "no text to train on"),
    "one sentence": ("too few lines",),
    "shorter than a window": ("too short for a batch", "96 streams need at least 192 tokens"),
    "invalid UTF-8": ("is not UTF-8", "0xff at byte 1,000", "line 33"),
    "a program": ("is a program",),
    "a picture": ("is not UTF-8", "0x89 at byte 0", "line 1"),
    "NULs": ("is binary", "a NUL at byte 500", "line 16"),
    "FIFO": ("is a FIFO",),
    "device": ("is a character device",),
    "empty folder": ("holds no text file",),
}
"""What the message says of each kind."""


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    """Workers that start at once."""
    with Workers() as started:
        yield started


def corpus_of(kind: str, folder: Path) -> Path:
    """A corpus of that kind."""
    good = write_text(folder / "good.txt").read_bytes()
    contents = {
        "empty": b"",
        "blank lines": b"\n \n\n",
        "one sentence": b"a b c.\nd e f.\n",
        "shorter than a window": b"the cat sat.\n" * 12,
        "invalid UTF-8": good[:1_000] + b"\xff\xfe" + good[1_000:],
        "a program": b"\x7fELF" + bytes(range(256)) * 20,
        "a picture": b"\x89PNG\r\n\x1a\n" + bytes(4_000),
        "NULs": good[:500] + b"\0" + good[500:],
        "CRLF": good.replace(b"\n", b"\r\n"),
        "byte order mark": b"\xef\xbb\xbf" + good,
        "plain": good,
    }
    path = folder / "corpus.txt"
    if kind in contents:
        path.write_bytes(contents[kind])
    elif kind == "FIFO":
        os.mkfifo(path)
    elif kind == "empty folder":
        path.mkdir()
    elif kind == "device":
        return Path("/dev/zero")
    return path


@pytest.mark.parametrize("kind", REFUSED)
def test_a_corpus_that_is_none_is_refused_by_kind_with_the_fact(kind: str, tmp_path: Path, workers: Workers, capsys: pytest.CaptureFixture[str]) -> None:
    source = corpus_of(kind, tmp_path)
    run = create_run(tiny_config(source, {**STEPS, "training.batch_size": 96}))
    assert workers.work(run) == CorpusError.exit_code
    summary = summarize(run)
    assert summary.status == "failed"
    assert all(words in str(summary.message) for words in REFUSED[kind]), summary.message
    assert command(["show", run.name]) == 0
    shown = capsys.readouterr()
    assert REFUSED[kind][0] in " ".join(shown.out.split())
    assert "Traceback" not in shown.out + shown.err


def test_line_ends_and_byte_order_marks_train_to_the_weights_of_the_plain_text(tmp_path: Path, workers: Workers) -> None:
    weights = []
    for kind in ("plain", "CRLF", "byte order mark"):
        run = create_run(tiny_config(corpus_of(kind, tmp_path), STEPS))
        assert workers.work(run) == 0, run.log_path.read_text()
        weights.append((resolve_checkpoint(run, "last") / "model.safetensors").read_bytes())
    assert weights == [weights[0]] * 3


def test_one_line_of_hundreds_of_megabytes_is_read_in_constant_memory(tmp_path: Path) -> None:
    path = tmp_path / "line.txt"
    piece = b"many words on one line " * 50_000
    with path.open("wb") as file:
        for _ in range(LONG_LINE_BYTES // len(piece)):
            file.write(piece)
    code = f"""
import resource, pathlib
from rnnlm_tui.corpus.text_files import LineReader
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = peak()
letters = sum(len(piece) for piece in LineReader(pathlib.Path({str(path)!r}), lambda _: None).lines())
print(letters, peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200, check=True)
    letters, grown = map(int, done.stdout.split())
    assert letters > LONG_LINE_BYTES * 0.9
    assert grown < HELD_BYTES
