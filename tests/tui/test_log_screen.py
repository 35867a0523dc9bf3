"""The worker's log over the train pane: its end and its search."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.events import Key

from rnnlm_tui.schema.metrics import EventRow
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.screens import log as module
from rnnlm_tui.tui.screens.log import LogFollower, LogPanel
from tests.homes import trained, with_checkpoints
from tests.tui.panes.seeing import press
from tests.tui.pictures import assert_pictures
from tests.tui.support import at_home, lines_of, shows, text_of, until
from tests.unit.client.logs import record

LINES = [f"14:31:{at:02} step {at * 10} loss {5 - at / 20:.2f}\n" for at in range(60)]
PRINTED = (
    "".join(LINES)
    + 'Traceback (most recent call last):\n  File "/opt/rnnlm/worker/train.py", line 88, in train\n'
    "    loss = trainer.step(batch)\ntorch.OutOfMemoryError: CUDA out of memory. Tried to"
    " allocate 2.00 GiB. GPU 0 has a total capacity of 22.03 GiB of which 1.37 GiB is free."
    " Process 41207 has 20.6 GiB memory in use.\n"
)


@pytest.fixture
def path() -> Path:
    """The log of a run that failed."""
    return trained("plain-otter", "failed").log_path


def panel(app: RnnlmApp) -> LogPanel:
    return app.screen.query_one(LogPanel)


async def test_the_log_is_followed_scrolled_and_searched(path: Path) -> None:
    path.mkdir()  # it can't be read
    async with at_home(pane="train") as (app, pilot):
        app.snapshot = None  # without events
        await press(pilot, "L", "no output")
        path.rmdir()
        marks = {3: " Traceback", 50: " Traceback", 60: " می\u200cخواهم"}
        path.write_text("".join(f"line {at}{marks.get(at, '')}\n" for at in range(100)))
        await until(pilot, lambda: shows(app, "line 99"))
        assert "line 99" in lines_of(app)[-2]
        assert "follows" in lines_of(app)[0]
        end = panel(app).top
        for keys, top, follows in (
            ("up", end - 1, False),
            ("pageup", end - 22, False),
            ("down", end - 21, False),
            ("pagedown", end, True),
            ("home", 0, False),
        ):
            await pilot.press(*keys.split())
            assert (panel(app).top, "follows" in lines_of(app)[0]) == (top, follows)
        with path.open("a") as file:
            file.write("one more\n")
        await until(pilot, lambda: "21 %" in lines_of(app)[0])  # of 101 lines
        assert "line 0" in lines_of(app)[1]
        await pilot.press("end")
        assert "one more" in lines_of(app)[-2]
        await pilot.press("slash", *"traceback", "enter")
        for key, found in (("", 50), ("n", 3), ("N", 50)):
            await pilot.press(*key)
            assert shows(app, f"line {found} Traceback")
        await pilot.press("slash", *"qq")
        assert "not found" in lines_of(app)[-1]
        await pilot.press("backspace", "backspace")
        for character in "می\u200cخواهم":  # a joiner is searched for as a letter
            app.screen.post_message(Key(f"u+{ord(character):x}", character))
        await pilot.press("enter")
        assert panel(app).search == "می\u200cخواهم"
        assert "not found" not in lines_of(app)[-1]
        await pilot.press("slash", "escape")
        assert panel(app).search == ""
        assert "search" in lines_of(app)[-1]
        path.write_text("word " * 40)
        await pilot.resize_terminal(60, 20)
        await until(
            pilot, lambda: max(map(len, lines_of(app))) <= 60 and text_of(app).count("word") == 40
        )
        path.write_text(PRINTED)
        await press(pilot, "end", "OutOfMemoryError")
        await pilot.press("slash", *"capacity", "enter")
        await assert_pictures(pilot, Path(__file__).parent / "snapshots", "train-log-found")
        await pilot.press("q")
        assert len(app.screen_stack) == 1


async def test_events_are_shown_without_worker_output_and_in_full_by_a_page_key() -> None:
    long = "loss 9.298, 4.2 deviations above its mean; " * 3 + "the end of it"
    run = with_checkpoints(trained("plain-otter", "failed"), {3: 4.0})
    record(run, EventRow(1, 3, "spike", long, 0.0), EventRow(1, 3, "failed", "", 0.0))
    async with at_home(pane="train") as (app, pilot):
        await press(pilot, "L", "No worker output. Events:")
        assert shows(app, "3 c saved last")
        await pilot.press("L")
        for size in ((80, 24), (60, 15)):
            await pilot.resize_terminal(*size)
            await pilot.press("pagedown", "slash", *"deviat", "enter")
            shown = " ".join(line.strip(" │║┃|") for line in lines_of(app))
            assert "3 ↑ loss 9.298" in shown
            assert "the end of it" in shown
            await pilot.press("escape")
            assert len(app.screen_stack) == 1


def test_the_end_of_a_log_is_read_again_if_it_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "worker.log"
    log = LogFollower(path)
    assert [log.look() for _ in range(2)] == [True, False], "it is missing"
    assert log.lines == ()
    for content, lines in (
        (b"one\ntw", ["one", "tw"]),
        (b"one\ntwo\n\nthree\n\n", ["one", "two", "", "three", ""]),
        ("é".encode()[:1], ["\ufffd"]),
        ("é".encode() + b"\xff\n", ["é\ufffd"]),
    ):
        path.write_bytes(content)
        assert log.look()
        assert list(log.lines) == lines
        assert not log.look()
        assert not log.is_cut
    path.unlink()
    assert log.look()
    assert log.lines == ()
    path.write_bytes(b"".join(b"line %d\n" % number for number in range(1_000)))
    for limit, value in (("MOST_BYTES", 100), ("MOST_LINES", 4)):
        monkeypatch.setattr(module, limit, value)
        log = LogFollower(path)
        log.look()
        assert (log.is_cut, log.lines[-1], len(log.lines) < 15) == (True, "line 999", True)
    assert len(log.lines) == 4
