"""The sample history: which samples are shown, what is new in them, and its keys."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from textual.pilot import Pilot

from rnnlm_tui.errors import StorageError
from rnnlm_tui.schema.metrics import SampleRow
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.tui import palette
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.screens.samples import SampleHistoryScreen
from rnnlm_tui.tui.screens.train import TrainScreen
from rnnlm_tui.tui.widgets.samples import HistoryPage, HistoryPanel, continuation, page_lines
from tests.tui.fakes import FakeServices, make_snapshot
from tests.tui.pictures import Mode, assert_picture, each_view
from tests.tui.support import lines_of, running_app, text_of, until, with_runs


async def opened(app: RnnlmApp, pilot: Pilot[int]) -> HistoryPanel:
    await pilot.press("h")
    await until(pilot, lambda: isinstance(app.screen, SampleHistoryScreen))
    panel = app.screen.query_one(HistoryPanel)
    await until(pilot, lambda: panel.page is not None and panel.page.loaded)
    return panel


def step_of(panel: HistoryPanel) -> int:
    assert panel.page is not None
    return panel.page.step


async def test_arrows_step_through_the_history_and_home_and_end_go_to_its_ends() -> None:
    async with running_app() as (app, pilot):
        panel = await opened(app, pilot)
        assert step_of(panel) == 3_700
        assert "3 of 3" in lines_of(app)[0]
        assert "val ppl" in lines_of(app)[1]
        await pilot.press("left")
        assert step_of(panel) == 2_000
        await pilot.press("home")
        assert step_of(panel) == 1_000
        await pilot.press("left")
        assert step_of(panel) == 1_000
        await pilot.press("right", "end")
        assert step_of(panel) == 3_700


async def test_up_and_down_choose_the_prompt_shown_in_full() -> None:
    async with running_app() as (app, pilot):
        await opened(app, pilot)
        assert "› The state of the Union" in text_of(app)
        assert "@2,000" in text_of(app)
        await pilot.press("down")
        assert "› My fellow Americans," in text_of(app)
        await pilot.press("up", "up")
        assert "› We must" in text_of(app)


async def test_the_history_opens_at_the_cursor_and_enter_moves_the_cursor() -> None:
    async with running_app() as (app, pilot):
        await pilot.press("home")
        panel = await opened(app, pilot)
        assert step_of(panel) == 1_000
        await pilot.press("right", "enter")
        assert isinstance(app.screen, TrainScreen)
        assert app.screen.cursor_step == 2_000


@each_view("train-history-earlier")
async def test_history_equals_its_snapshot(name: str, size: tuple[int, int], mode: Mode) -> None:
    async with running_app(size=size) as (app, pilot):
        await opened(app, pilot)
        await pilot.press("left")
        await until(pilot, lambda: "2 of 3" in text_of(app) and "@1,000" in text_of(app))
        await assert_picture(app, Path(__file__).parent / "snapshots", name, size, mode)


async def test_a_new_sample_is_shown_at_the_end_of_the_history() -> None:
    services = with_runs(make_snapshot(step=3_600))
    async with running_app(services) as (app, pilot):
        panel = await opened(app, pilot)
        assert step_of(panel) == 2_000
        services.snapshots["plain-otter"] = make_snapshot()
        await until(pilot, lambda: step_of(panel) == 3_700)
        await pilot.press("left")
        assert step_of(panel) == 2_000


async def test_samples_of_a_resumed_run_are_read_again() -> None:
    services = with_runs(make_snapshot())
    async with running_app(services) as (app, pilot):
        panel = await opened(app, pilot)
        assert step_of(panel) == 3_700
        old = services.snapshots["plain-otter"]
        again = tuple(
            replace(row, attempt=2, text=" all new") for row in old.samples if row.step <= 2_000
        )
        services.snapshots["plain-otter"] = replace(
            old, samples=again, summary=old.summary.model_copy(update={"attempt": 2, "step": 2_000})
        )
        await until(pilot, lambda: step_of(panel) == 2_000 and "all new" in text_of(app))


async def test_a_run_without_samples_shows_how_to_get_some() -> None:
    async with running_app(with_runs(replace(make_snapshot(), samples=()))) as (app, pilot):
        await pilot.press("h")
        assert "press s" in lines_of(app)[-1]


class ManySamples(FakeServices):
    """A store that has samples of more steps than a snapshot."""

    def sample_steps(self, run: object) -> list[int]:
        return [500, 1_000, 2_000, 3_700]

    def samples_at(self, run: object, step: int) -> list[SampleRow]:
        return [SampleRow(1, step, "We must", f" be as at {step}", 3, 7, float(step))]


async def test_the_cursor_reads_samples_that_the_snapshot_no_longer_holds() -> None:
    snapshot = make_snapshot()
    newest = replace(snapshot, samples=tuple(row for row in snapshot.samples if row.step == 3_700))
    services = ManySamples(newest)
    async with running_app(services) as (app, pilot):
        await pilot.press("k")
        while isinstance(app.screen, TrainScreen) and (app.screen.cursor_step or 0) > 600:
            await pilot.press("k")
        await until(pilot, lambda: "be as at 500" in text_of(app))
        await pilot.press("escape")
        assert "@3,700" in text_of(app)


class Unreadable(FakeServices):
    """A store whose samples can't be read while `away`; counts the attempts."""

    away, attempts = False, 0

    def samples_at(self, run: RunDirectory, step: int) -> list[SampleRow]:
        self.attempts += 1
        if self.away:
            raise StorageError("the disk is gone")
        return super().samples_at(run, step)


async def test_samples_that_keys_fail_to_read_are_reported_once_until_they_are_read() -> None:
    services = Unreadable(make_snapshot())
    async with running_app(services) as (app, pilot):
        reports: list[object] = []
        app.report_error = reports.append  # type: ignore[method-assign, assignment]
        for times in (1, 2):
            services.away = True
            await pilot.press("h")
            for key in ("left", "left", "right", "left"):
                tried = services.attempts
                await pilot.press(key)
                await until(pilot, lambda: services.attempts > tried)  # noqa: B023
            assert len(reports) == times
            services.away = False
            await pilot.press("up")
            await until(pilot, lambda: "responsibility" in text_of(app))
            await pilot.press("escape")


def sample(step: int, text: str) -> SampleRow:
    return SampleRow(1, step, "We must", text, 3, 7, 0.0)


def test_words_new_since_the_previous_step_are_bright() -> None:
    shown = continuation(" be the of peace", " the of and")
    bright = [
        shown.plain[span.start : span.end].strip()
        for span in shown.spans
        if palette.BRIGHT in str(span.style)
    ]
    assert bright == ["be", "peace"]
    assert all(
        "bold" in str(span.style)
        for span in continuation(" be the", " the", no_colour=True).spans
        if span.start == 0
    )


def test_with_mostly_new_words_only_the_unchanged_start_is_dim() -> None:
    shown = continuation(" the end of all wars is near us", " the end was a thing that I said")
    assert [(shown.plain[span.start : span.end], str(span.style)) for span in shown.spans] == [
        (" the end", palette.BASELINE),
        (" of all wars is near us", palette.TEXT),
    ]


def test_unused_rows_show_earlier_texts_of_other_prompts() -> None:
    prompts = ("We must", "My fellow Americans,", "Tonight")
    rows = {prompt: replace(sample(200, " work hard"), prompt=prompt) for prompt in prompts}
    page = HistoryPage(
        200,
        1,
        2,
        prompts,
        rows,
        ({prompt: replace(row, step=100) for prompt, row in rows.items()},),
    )
    assert sum("@100" in line.plain for line in page_lines(page, 0, 76, 30)) == 3


def test_pages_keep_to_their_size_and_give_every_prompt_a_line() -> None:
    prompts = ("We must", "My fellow Americans,", "Tonight")
    rows = {prompt: replace(sample(200, " work hard" * 60), prompt=prompt) for prompt in prompts}
    page = HistoryPage(
        200,
        1,
        2,
        prompts,
        rows,
        ({prompt: replace(row, step=100) for prompt, row in rows.items()},),
    )
    for width in (20, 56, 76, 116):
        for height in (3, 5, 8, 13, 22, 40):
            for chosen in range(3):
                lines = page_lines(page, chosen, width, height)
                assert len(lines) <= height
                assert all(line.cell_length <= width for line in lines), (width, height)
                if height >= 8:
                    assert (
                        sum(
                            any(prompt.split()[0] in line.plain for line in lines)
                            for prompt in prompts
                        )
                        == 3
                    )


def test_a_prompt_without_a_sample_is_labelled() -> None:
    page = HistoryPage(200, 0, 1, ("We must",), {}, ())
    assert "no sample at this step" in page_lines(page, 0, 76, 10)[2].plain


def test_the_history_of_raw_text_keeps_line_breaks_and_indentation() -> None:
    rows = {"def f():": replace(sample(200, "\n    return 1\n\nx"), prompt="def f():")}
    page = HistoryPage(
        200,
        1,
        2,
        ("def f():",),
        rows,
        ({"def f():": replace(rows["def f():"], step=100, text="\n    pass\n")},),
        newlines="keep",
    )
    shown = [line.plain.rstrip() for line in page_lines(page, 0, 60, 20)][2:]
    assert shown[:4] == ["› def f():", "      return 1", "", "  x"]
    assert "  @100     pass" in shown
