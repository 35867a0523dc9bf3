"""Marked runs keep their letters and colours."""

from __future__ import annotations

from rnnlm_tui.tui.views.compare import LETTERS, Marks


def marked(*names: str) -> Marks:
    marks = Marks()
    for name in names:
        marks = marks.toggled(name)
    return marks


def test_a_run_keeps_its_letter_and_colour_while_others_come_and_go() -> None:
    marks = marked("otter", "heron", "vole")
    fewer = marks.toggled("otter")
    assert [fewer.letter(name) for name in ("otter", "heron", "vole")] == ["", "B", "C"]
    assert (fewer.colour("heron"), fewer.colour("otter")) == (marks.colour("heron"), "")
    assert Marks.from_json(list(fewer.places)) == fewer
    more = fewer.toggled("lynx")
    assert [more.letter(name) for name in ("lynx", "heron", "vole")] == ["A", "B", "C"]
    assert more.names == ("lynx", "heron", "vole")
    both = marked("otter", "heron")
    assert both.renamed("heron", "crane").letter("crane") == "B"
    assert both.among(["otter"]) == marked("otter")
    assert both.among(["heron"]).letter("heron") == "B"


def test_no_more_runs_are_marked_than_there_are_letters() -> None:
    marks = marked(*LETTERS.lower())
    assert [marks.letter(name) for name in LETTERS.lower()] == list(LETTERS)
    assert marks.full
    assert marks.toggled("one-too-many") == marks
    for kept in (None, "otter", {"a": 1}, [1, 2], ["otter", "otter"], ["a"] * 9):
        assert Marks.from_json(kept) == Marks(), "damaged ones are ignored"
