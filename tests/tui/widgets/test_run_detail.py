"""The detail of a listed run shows the notes on its text, in full if there is room."""

from __future__ import annotations

from dataclasses import replace

from rnnlm_tui.tui.widgets.run_detail import figures_of, remark_lines
from tests.tui.panes.fakes import make_snapshot

NOTES = (
    "3 lines longer than 65,536 bytes split into several sentences",
    "2 other files in the folder ignored",
)


def test_a_runs_text_notes_are_counted_in_a_narrow_detail_and_shown_in_a_wide_one() -> None:
    snapshot = make_snapshot("finished")
    snapshot = replace(
        snapshot, summary=snapshot.summary.model_copy(update={"corpus_notes": NOTES})
    )
    assert any(
        line.plain.split() == ["text", "2", "notes"] for line in figures_of(snapshot, wide=False)
    )
    lines = remark_lines(NOTES, 30)
    assert all(line.cell_length <= 30 for line in lines)
    assert " ".join(line.plain.strip() for line in lines) == f"! {NOTES[0]} ! {NOTES[1]}"
