"""Marked runs keep their letters and colours."""

from __future__ import annotations

from rnnlm_tui.tui.views.compare import Marks


def test_a_run_keeps_its_letter_and_colour_while_others_come_and_go() -> None:
    marks = Marks(("otter", "heron", "vole"))
    fewer = marks.toggled("otter")
    assert [fewer.letter(name) for name in ("otter", "heron", "vole")] == ["", "B", "C"]
    assert (fewer.colour("heron"), fewer.colour("otter")) == (marks.colour("heron"), "")
    assert Marks.from_json(list(fewer.places)) == fewer
    more = fewer.toggled("lynx")
    assert [more.letter(name) for name in ("lynx", "heron", "vole")] == ["A", "B", "C"]
    assert more.names == ("lynx", "heron", "vole")
    both = Marks(("otter", "heron"))
    assert both.renamed("heron", "crane").letter("crane") == "B"
    assert both.among(["otter"]) == Marks(("otter",))
    assert both.among(["heron"]).letter("heron") == "B"
