"""The worker's log over the train pane: its end, its search, and escaped control characters."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from textual.events import Key
from textual.pilot import Pilot

from rnnlm_tui.schema.metrics import EventRow
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.screens.log import EventsScreen, LogFollower, WorkerLogScreen
from rnnlm_tui.tui.widgets.log_panel import LogPanel
from tests.tui.fakes import FakeServices, make_snapshot
from tests.tui.pictures import Mode, assert_picture, each_view
from tests.tui.support import lines_of, running_app, text_of, until, with_runs


def services_with(path: Path, text: str) -> FakeServices:
    path.write_text(text)
    services = with_runs(make_snapshot("failed", message="it broke"))
    services.log_path = path
    return services


async def opened(app: RnnlmApp, pilot: Pilot[int]) -> LogPanel:
    await pilot.press("L")
    await until(
        pilot, lambda: isinstance(app.screen, WorkerLogScreen) and "no output" not in text_of(app)
    )
    return app.screen.query_one(LogPanel)


async def test_the_log_opens_at_its_end_and_follows(tmp_path: Path) -> None:
    path = tmp_path / "worker.log"
    services = services_with(path, "".join(f"line {number}\n" for number in range(100)))
    async with running_app(services) as (app, pilot):
        await opened(app, pilot)
        assert "line 99" in lines_of(app)[-2]
        assert "follows" in lines_of(app)[0]
        with path.open("a") as file:
            file.write("one more\n")
        await until(pilot, lambda: "one more" in lines_of(app)[-2])
        await pilot.press("home")
        assert "line 0" in lines_of(app)[1]
        with path.open("a") as file:
            file.write("and another\n")
        looked = app.screen.query_one(LogPanel)
        await until(pilot, lambda: looked._lines[-1] == "and another")
        assert "line 0" in lines_of(app)[1]
        await pilot.press("end")
        assert "and another" in lines_of(app)[-2]
        await pilot.press("q")
        assert not isinstance(app.screen, WorkerLogScreen)


async def test_scrolling_up_stops_following_and_the_end_follows_again(tmp_path: Path) -> None:
    services = services_with(
        tmp_path / "worker.log", "".join(f"line {number}\n" for number in range(100))
    )
    async with running_app(services) as (app, pilot):
        panel = await opened(app, pilot)
        end = panel.top
        await pilot.press("up")
        assert (panel.top, panel.following) == (end - 1, False)
        await pilot.press("pageup")
        assert panel.top == end - 1 - 21
        await pilot.press("pagedown", "down")
        assert (panel.top, panel.following) == (end, True)


async def test_slash_searches_from_the_end_and_n_finds_more(tmp_path: Path) -> None:
    text = "".join(
        f"line {number}{' Traceback' if number in (3, 50) else ''}\n" for number in range(100)
    )
    async with running_app(services_with(tmp_path / "worker.log", text)) as (app, pilot):
        panel = await opened(app, pilot)
        await pilot.press("slash", *"traceback", "enter")
        assert "line 50 Traceback" in text_of(app)
        assert "line 3 " not in text_of(app)
        await pilot.press("n")
        assert "line 3 Traceback" in text_of(app)
        await pilot.press("N")
        assert "line 50 Traceback" in text_of(app)
        await pilot.press("slash", *"qq")
        assert "not found" in lines_of(app)[-1]
        await pilot.press("escape")
        assert "search" in lines_of(app)[-1]
        assert isinstance(app.screen, WorkerLogScreen)
        assert panel.search == ""


async def test_a_joiner_is_searched_for_as_a_letter(tmp_path: Path) -> None:
    async with running_app(
        services_with(tmp_path / "worker.log", "reading می\u200cخواهم.txt\nthe end\n")
    ) as (app, pilot):
        panel = await opened(app, pilot)
        await pilot.press("slash")
        for character in "می\u200cخواهم":
            app.screen.post_message(Key(f"u+{ord(character):x}", character))
        await pilot.press("enter")
        assert panel.search == "می\u200cخواهم"
        assert "not found" not in lines_of(app)[-1]


async def test_a_log_that_fails_to_be_read_is_reported_once_and_followed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rnnlm_tui.tui.screens.log.READ_SECONDS", 0.01)
    services = services_with(tmp_path / "worker.log", "it said this\n")
    attempts = 0

    class Failing(LogFollower):
        def look(self) -> bool:
            nonlocal attempts
            attempts += 1
            if attempts < 4:
                raise OSError("the disk is gone")
            return super().look()

    monkeypatch.setattr(services, "log", lambda _run: Failing(services.log_path))
    async with running_app(services) as (app, pilot):
        reports: list[object] = []
        app.report_error = reports.append  # type: ignore[method-assign, assignment]
        await pilot.press("L")
        await until(pilot, lambda: "it said this" in text_of(app))
        assert len(reports) == 1


async def test_a_long_line_is_wrapped_and_nothing_in_it_acts_on_the_terminal(
    tmp_path: Path,
) -> None:
    text = f"\x1b[2J\x1b]0;owned\x07 {'word ' * 40}end\n[@click=app.bell]x[/]\n"
    async with running_app(services_with(tmp_path / "worker.log", text)) as (app, pilot):
        await opened(app, pilot)
        shown = text_of(app)
        assert "\x1b" not in shown
        assert "owned" in shown
        assert shown.count("word") == 40
        assert "[@click=app.bell]x[/]" in shown
        await pilot.resize_terminal(60, 20)
        await until(
            pilot, lambda: max(map(len, lines_of(app))) <= 60 and text_of(app).count("word") == 40
        )


async def test_without_worker_output_the_events_are_shown() -> None:
    async with running_app() as (app, pilot):
        await pilot.press("L")
        await until(pilot, lambda: "No worker output. Events:" in text_of(app))
        assert "3,750 c saved last" in text_of(app)


@pytest.mark.parametrize("size", [(80, 24), (60, 15)])
async def test_a_small_terminal_lists_the_events_in_full_by_a_page_key(
    size: tuple[int, int],
) -> None:
    long = "loss 9.298, 4.2 deviations above its mean; " * 3 + "the end of it"
    snapshot = make_snapshot()
    snapshot = replace(
        snapshot,
        events=(*snapshot.events, EventRow(2, 3_700, "spike", long, snapshot.events[-1].time)),
    )
    async with running_app(with_runs(snapshot), size=size) as (app, pilot):
        await pilot.press("pagedown")
        assert isinstance(app.screen, EventsScreen)
        await pilot.press("slash", *"deviat", "enter")
        shown = " ".join(line.strip(" │║┃|") for line in lines_of(app))
        assert "3,700 ↑ loss 9.298" in shown
        assert "the end of it" in shown
        await pilot.press("escape")
        assert not isinstance(app.screen, EventsScreen)


PRINTED = (
    "".join(
        f"14:31:{second:02} step {second * 10} loss {5 - second / 20:.2f}\n" for second in range(60)
    )
    + 'Traceback (most recent call last):\n  File "/opt/rnnlm/worker/train.py", line 88, in train\n'
    "    loss = trainer.step(batch)\ntorch.OutOfMemoryError: CUDA out of memory. Tried to"
    " allocate 2.00 GiB. GPU 0 has a total capacity of 22.03 GiB of which 1.37 GiB is free."
    " Process 41207 has 20.6 GiB memory in use.\n"
)


@each_view("train-log-found")
async def test_log_equals_its_snapshot(
    name: str, size: tuple[int, int], mode: Mode, tmp_path: Path
) -> None:
    async with running_app(services_with(tmp_path / "worker.log", PRINTED), size=size) as (
        app,
        pilot,
    ):
        await opened(app, pilot)
        await pilot.press("slash", *"capacity", "enter")
        await assert_picture(app, Path(__file__).parent / "snapshots", name, size, mode)
