"""The worker's log as it is read: from its end, then what is new, whatever becomes of the file."""

from __future__ import annotations

from pathlib import Path

from rnnlm_tui.client.control import LogFollower


def test_only_what_is_new_is_read_and_a_line_grows_until_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "worker.log"
    path.write_bytes(b"one\ntw")
    log = LogFollower(path)
    assert log.look()
    assert log.lines == ["one", "tw"]
    assert not log.look()
    with path.open("ab") as file:
        file.write(b"o\n\nthree\n")
    assert log.look()
    assert log.lines == ["one", "two", "", "three"]


def test_a_long_log_is_read_from_its_end(tmp_path: Path) -> None:
    path = tmp_path / "worker.log"
    path.write_bytes(b"".join(b"line %d\n" % number for number in range(1_000)))
    log = LogFollower(path, most_bytes=100)
    log.look()
    assert log.skipped == path.stat().st_size - 100
    assert log.lines[-1] == "line 999"
    assert len(log.lines) < 15


def test_no_more_lines_are_kept_than_allowed(tmp_path: Path) -> None:
    path = tmp_path / "worker.log"
    path.write_bytes(b"".join(b"%d\n" % number for number in range(10)))
    log = LogFollower(path, most_lines=4)
    log.look()
    assert log.lines == ["6", "7", "8", "9"]
    assert log.dropped == 6


def test_a_missing_log_has_no_lines_and_one_written_anew_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "worker.log"
    log = LogFollower(path)
    assert not log.look()
    path.write_bytes(b"old line\nand more\n")
    assert log.look()
    path.write_bytes(b"new\n")
    assert log.look()
    assert log.lines == ["new"]
    path.unlink()
    assert log.look()
    assert log.lines == []


def test_bytes_that_are_no_text_are_replaced_where_they_stand(tmp_path: Path) -> None:
    path = tmp_path / "worker.log"
    path.write_bytes("é".encode()[:1])
    log = LogFollower(path)
    log.look()
    with path.open("ab") as file:
        file.write("é".encode()[1:] + b"\xff\n")
    log.look()
    assert log.lines == ["é\ufffd"]
