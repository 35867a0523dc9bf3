"""Labels of a run, in a private file of its folder."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rnnlm_tui.errors import InputError
from rnnlm_tui.store.labels import (
    RunLabels,
    change_labels,
    check_note,
    check_tags,
    labels_file,
    read_labels,
)
from rnnlm_tui.system.locks import RunLock
from tests.unit.store.rows import new_run


def test_labels_are_read_as_written() -> None:
    run = new_run()
    assert read_labels(run) == RunLabels()
    labels = RunLabels(("paper", "größer"), "the one of the talk", pinned=True)
    change_labels(run, lambda _: labels)
    assert read_labels(run) == labels
    assert labels_file(run).path.stat().st_mode & 0o777 == 0o600


def test_a_training_run_can_be_labelled() -> None:
    run = new_run()
    with RunLock(run.lock_path):
        assert change_labels(run, lambda labels: replace(labels, pinned=True)).pinned
    assert read_labels(run).pinned


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
