"""LogFollower: the end of a log, new lines, and replaced files."""

from __future__ import annotations

from pathlib import Path

import pytest

from rnnlm_tui.tui.screens import log as module
from rnnlm_tui.tui.screens.log import LogFollower


def test_a_log_is_read_again_if_it_changed_and_its_last_line_grows(tmp_path: Path) -> None:
    path = tmp_path / "worker.log"
    path.write_bytes(b"one\ntw")
    log = LogFollower(path)
    assert log.look()
    assert list(log.lines) == ["one", "tw"]
    assert not log.look()
    with path.open("ab") as file:
        file.write(b"o\n\nthree\n\n")
    assert log.look()
    assert list(log.lines) == ["one", "two", "", "three", ""]


def test_a_long_log_is_read_from_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 100)
    path = tmp_path / "worker.log"
    path.write_bytes(b"".join(b"line %d\n" % number for number in range(1_000)))
    log = LogFollower(path)
    log.look()
    assert log.is_cut
    assert log.lines[-1] == "line 999"
    assert len(log.lines) < 15


def test_the_number_of_lines_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_LINES", 4)
    path = tmp_path / "worker.log"
    path.write_bytes(b"".join(b"%d\n" % number for number in range(10)))
    log = LogFollower(path)
    log.look()
    assert list(log.lines) == ["6", "7", "8", "9"]
    assert log.is_cut


def test_a_missing_log_is_empty_and_a_replaced_one_read_again(tmp_path: Path) -> None:
    path = tmp_path / "worker.log"
    log = LogFollower(path)
    assert not log.look()
    path.write_bytes(b"old line\nand more\n")
    assert log.look()
    path.write_bytes(b"new\n")
    assert log.look()
    assert list(log.lines) == ["new"]
    path.unlink()
    assert log.look()
    assert list(log.lines) == []


def test_invalid_utf8_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "worker.log"
    path.write_bytes("é".encode()[:1])
    log = LogFollower(path)
    log.look()
    with path.open("ab") as file:
        file.write("é".encode()[1:] + b"\xff\n")
    log.look()
    assert list(log.lines) == ["é\ufffd"]
