"""Nothing that a run's files say acts on the terminal, whichever widget shows it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rich.cells import cell_len
from rich.segment import Segment
from textual.color import Color

from rnnlm_tui.schema.formatting import UNSAFE
from rnnlm_tui.schema.metrics import GpuRow
from rnnlm_tui.schema.protocol import Setting
from rnnlm_tui.schema.summary import PreparingFigures
from rnnlm_tui.tui.theme import Harmless
from tests.tui.fakes import FakeServices, make_snapshot, preparing
from tests.tui.support import running_app, text_of, until

EVIL = "\x1b[31mred\x1b]0;title\x07\x9b2J\u202e"


def with_fault() -> FakeServices:
    snapshot = make_snapshot()
    broken = GpuRow(1, "NVIDIA L4", 50.0, 1, 1, 2, fault=EVIL)
    rows = tuple(replace(row, other_gpus=(broken,)) for row in snapshot.hardware)
    return FakeServices(replace(snapshot, hardware=rows))


def with_phase() -> FakeServices:
    figures = PreparingFigures.model_construct(phase=EVIL, done=9, total=18)
    snapshot = preparing()
    summary = snapshot.summary.model_copy(update={"preparing": figures})
    return FakeServices(replace(snapshot, summary=summary))


def with_setting() -> FakeServices:
    services = FakeServices(make_snapshot())
    services.checkpoint_files.changed = (Setting(path=f"model.{EVIL}", old=EVIL, new=EVIL),)
    return services


@pytest.mark.parametrize(
    ("services", "pane"),
    [(with_fault(), "train"), (with_phase(), "train"), (with_setting(), "checkpoints")],
    ids=["fault of a card", "phase", "key of a setting"],
)
async def test_no_text_of_a_run_reaches_the_terminal_with_control_characters(
    services: FakeServices, pane: str
) -> None:
    async with running_app(services, pane=pane, size=(200, 60)) as (app, pilot):  # type: ignore[arg-type]
        await until(pilot, lambda: "[31mred" in text_of(app))
        assert UNSAFE.findall(text_of(app).replace("\n", "")) == []


def test_no_cell_moves_when_control_characters_are_taken_out() -> None:
    every = [chr(code) for code in range(0x110000) if UNSAFE.match(chr(code))]
    text = "".join(f"a{sign}" for sign in every if not sign.isprintable())
    segments = [Segment(text), Segment("plain ÄÖ 👩‍👩‍👧 ⏎")]
    drawn = Harmless().apply(segments, Color(0, 0, 0))
    assert UNSAFE.findall(drawn[0].text) == []
    assert [cell_len(segment.text) for segment in drawn] == [
        cell_len(segment.text) for segment in segments
    ]
    assert drawn[1] == segments[1]
