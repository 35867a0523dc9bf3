"""Labels of a run, in a private file of its folder."""

from __future__ import annotations

import pytest

from rnnlm_tui.errors import InputError, UnknownCheckpointError
from rnnlm_tui.store.checkpoints import remove_checkpoint, write_checkpoint
from rnnlm_tui.store.labels import (
    MOST_EXPORTS,
    Export,
    RunLabels,
    add_export,
    change_labels,
    check_note,
    check_tags,
    labels_file,
    note_checkpoint,
    pin_checkpoint,
    read_labels,
)
from rnnlm_tui.store.paths import RunDirectory
from tests.unit.store.rows import new_run, write_model

EXPORT = Export(100, "hf", "/somewhere/otter-\udcff", 1_000.0)


def test_labels_are_read_as_written() -> None:
    run = new_run()
    write_checkpoint(run, 100, write_model, None, {})
    assert read_labels(run) == RunLabels()
    labels = RunLabels(
        ("paper", "größer"), "the one of the talk", True, frozenset({100, 7}), {100: "ü"}, (EXPORT,)
    )
    change_labels(run, lambda _: labels)
    assert read_labels(run) == labels
    assert labels_file(run).path.stat().st_mode & 0o777 == 0o600


def test_only_an_existing_checkpoint_can_be_pinned_or_have_a_note(run: RunDirectory) -> None:
    with pytest.raises(UnknownCheckpointError, match="no checkpoint of step 499"):
        pin_checkpoint(run, 499)
    with pytest.raises(UnknownCheckpointError, match="no checkpoint of step 499"):
        note_checkpoint(run, 499, "x")
    assert read_labels(run) == RunLabels()


def test_the_note_of_a_removed_checkpoint_goes_with_it(run: RunDirectory) -> None:
    for step in (1, 2):
        write_checkpoint(run, step, write_model, None, {})
        note_checkpoint(run, step, f"about {step}")
    assert remove_checkpoint(run, 1)
    assert read_labels(run).notes == {2: "about 2"}
    assert note_checkpoint(run, 2, "").notes == {}


def test_an_export_is_recorded_once_and_the_newest_are_kept(run: RunDirectory) -> None:
    again = EXPORT._replace(time=2_000.0)
    for export in (EXPORT, EXPORT._replace(step=200), EXPORT._replace(format="onnx"), again):
        add_export(run, export)
    others = (EXPORT._replace(step=200), EXPORT._replace(format="onnx"))
    assert read_labels(run).exports == (*others, again)
    for step in range(MOST_EXPORTS):
        add_export(run, EXPORT._replace(step=1_000 + step))
    assert [one.step for one in read_labels(run).exports] == [*range(1_000, 1_000 + MOST_EXPORTS)]


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
