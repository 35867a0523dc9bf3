"""Nothing that a run's files say acts on the terminal, whichever widget shows it."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from rnnlm_tui.schema.formatting import UNSAFE
from rnnlm_tui.schema.metrics import GpuRow
from rnnlm_tui.store.checkpoints import write_checkpoint
from rnnlm_tui.system.locks import LockPage
from rnnlm_tui.tui.theme import harmless
from tests.tui.demo_run import demo_run, readings
from tests.tui.panes.seeing import press
from tests.tui.support import at_home, text_of
from tests.unit.store.rows import write_model

EVIL = "\x1b[31mred\x1b]0;title\x07\x9b2J\u202e"


BROKEN = GpuRow(1, "NVIDIA L4", 50.0, 1, 1, 2, fault=EVIL)


@pytest.mark.usefixtures("still")
async def test_no_text_of_a_run_reaches_the_terminal_with_control_characters() -> None:
    """Of the fault of a card, the phase of a preparation, and the host of a checkpoint."""
    prepares = demo_run("preparing", 0, name="calm-crane", page=LockPage(progress=(EVIL, 9, 18)))
    with prepares as other, demo_run(hardware=readings(others=[BROKEN])) as run:
        write_checkpoint(run, 3_751, write_model, None, {"environment": {"host": EVIL}})
        async with at_home(pane="train", size=(200, 60)) as (app, pilot):
            for key, words in (("", "─ Machine"), ("3", "Step 3,751"), ("2", "calm-crane ◐")):
                if key == "2":
                    app.open_run(other)
                await press(pilot, key and [key], words, "[31mred")
                assert UNSAFE.findall(text_of(app).replace("\n", "")) == []


def test_no_cell_moves_when_control_characters_are_taken_out() -> None:
    every = [chr(code) for code in range(0x110000) if UNSAFE.match(chr(code))]
    text = "".join(f"a{sign}" for sign in every if not sign.isprintable())
    assert UNSAFE.findall(harmless(text)) == []
    assert cell_len(harmless(text)) == cell_len(text)
    plain = "plain ÄÖ 👩‍👩‍👧 ⏎"
    assert harmless(plain) == plain
