"""Labels of a run, in a private file beside its database."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from rnnlm_tui.errors import InputError, StorageError
from rnnlm_tui.store.labels import (
    NO_LABELS,
    RunLabels,
    change_labels,
    check_note,
    check_tags,
    labels_path,
    read_labels,
    write_labels,
)
from rnnlm_tui.system.locks import RunLock
from tests.unit.store.rows import new_run


def test_labels_are_read_as_written_and_leave_the_database_unchanged() -> None:
    run = new_run()
    before = run.database_path.read_bytes()
    assert read_labels(run) == NO_LABELS
    labels = RunLabels(
        ("paper", "größer"), "the one of the talk", pinned=True, former_names=("old",)
    )
    write_labels(run, labels)
    assert read_labels(run) == labels
    assert labels_path(run).stat().st_mode & 0o777 == 0o600
    assert run.database_path.read_bytes() == before


def test_a_training_run_can_be_labelled() -> None:
    run = new_run()
    with RunLock(run.lock_path):
        assert change_labels(run, lambda labels: replace(labels, pinned=True)).pinned
    assert read_labels(run).pinned


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"7", b'{"tags": 3}', b"\xff\xfe", b'{"tags": null}', b"[" * 100_000],
)
def test_a_damaged_labels_file_reads_as_no_labels(content: bytes) -> None:
    run = new_run()
    labels_path(run).write_bytes(content)
    assert read_labels(run) == RunLabels(usable=False)
    change_labels(run, lambda labels: replace(labels, note="again"))
    assert read_labels(run) == RunLabels(note="again")
    assert labels_path(run).with_name("labels.json.unusable").read_bytes() == content


def test_labels_that_cannot_be_read_are_not_overwritten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = new_run()
    write_labels(run, RunLabels(note="kept"))

    def broken(path: Path) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as disk:
        disk.setattr("rnnlm_tui.store.labels._read", broken)
        assert read_labels(run) == NO_LABELS
        with pytest.raises(StorageError, match="can't read"):
            change_labels(run, lambda labels: replace(labels, pinned=True))
    assert read_labels(run) == RunLabels(note="kept")


def test_links_and_pipes_are_neither_read_nor_written_through(tmp_path: Path) -> None:
    run = new_run()
    precious = tmp_path / "precious"
    precious.write_text('{"note": "elsewhere"}')
    labels_path(run).symlink_to(precious)
    assert read_labels(run) == NO_LABELS
    change_labels(run, lambda labels: replace(labels, note="here"))
    assert (precious.read_text(), read_labels(run).note) == ('{"note": "elsewhere"}', "here")
    labels_path(run).unlink()
    os.mkfifo(labels_path(run))
    assert read_labels(run) == RunLabels(usable=False)


def test_concurrent_changes_are_all_kept() -> None:
    run = new_run()
    tags = [f"tag-{number}" for number in range(12)]
    with ThreadPoolExecutor(4) as pool:
        list(
            pool.map(
                lambda tag: change_labels(
                    run, lambda labels: replace(labels, tags=(*labels.tags, tag))
                ),
                tags,
            )
        )
    assert set(read_labels(run).tags) == set(tags)


def test_tags_are_single_words_without_duplicates() -> None:
    assert check_tags(["b", "a", "b"]) == ("b", "a")
    for tag in (
        "",
        "two words",
        "a,b",
        "-x",
        "+x",
        "x" * 33,
        "a<b",
        "a=b",
        'a"b',
        "a\x1bb",
        "a\u202eb",
    ):
        with pytest.raises(InputError) as caught:
            check_tags(["fine", tag])
        assert caught.value.message.isprintable()
    with pytest.raises(InputError, match="too many tags \\(17\\)"):
        check_tags([str(number) for number in range(17)])


def test_a_note_is_one_line_of_limited_length() -> None:
    assert check_note("  two\n lines\t here ") == "two lines here"
    assert "\x1b" not in check_note("a\x1b[31m")
    with pytest.raises(InputError, match="501 characters: at most 500"):
        check_note("x" * 501)
