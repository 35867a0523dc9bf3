"""Marked runs keep their letters and colours."""

from __future__ import annotations

import pytest

from rnnlm_tui.tui.views.compare import MOST_MARKED, Marks


def marked(*names: str) -> Marks:
    marks = Marks()
    for name in names:
        marks = marks.toggled(name)
    return marks


def test_a_run_keeps_its_letter_and_colour_while_others_come_and_go() -> None:
    marks = marked("otter", "heron", "vole")
    colour = marks.colour("heron")
    fewer = marks.toggled("otter")
    assert (
        fewer.letter("heron"),
        fewer.colour("heron"),
        fewer.letter("otter"),
        fewer.colour("otter"),
    ) == ("B", colour, "", "")
    assert fewer.names == ("heron", "vole")
    more = fewer.toggled("lynx")
    assert [more.letter(name) for name in ("lynx", "heron", "vole")] == ["A", "B", "C"]
    assert more.names == ("lynx", "heron", "vole")


def test_marked_runs_have_distinct_letters_and_colours() -> None:
    names = [f"run-{index}" for index in range(MOST_MARKED)]
    marks = marked(*names)
    assert (
        len({marks.colour(name) for name in names})
        == len({marks.letter(name) for name in names})
        == MOST_MARKED
    )
    assert marks.full
    assert marks.toggled("one-too-many") == marks


def test_a_renamed_run_keeps_its_letter_and_a_run_that_is_gone_frees_it() -> None:
    marks = marked("otter", "heron")
    assert marks.renamed("heron", "crane").letter("crane") == "B"
    assert marks.among(["otter"]) == marked("otter")
    assert marks.among(["heron"]).letter("heron") == "B"


@pytest.mark.parametrize("kept", [None, "otter", {"a": 1}, [1, 2], ["otter", "otter"], ["a"] * 9])
def test_damaged_saved_marks_are_ignored(kept: object) -> None:
    assert Marks.from_json(kept) == Marks()


def test_marks_are_restored_from_json() -> None:
    marks = marked("otter", "heron").toggled("otter")
    assert Marks.from_json(list(marks.places)) == marks
