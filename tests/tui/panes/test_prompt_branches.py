"""The prompt pane's branches: continue, new seed, undo, edit in place, several at once."""

from __future__ import annotations

import asyncio
from time import monotonic

import pytest
from textual.pilot import Pilot

from rnnlm_tui.errors import WorkerError
from rnnlm_tui.schema.sampling import SamplePiece, SampleRequest
from rnnlm_tui.store.kept_samples import search
from rnnlm_tui.store.state import read_history
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.screens import sample_stream
from rnnlm_tui.tui.views.sample_tree import Sample
from rnnlm_tui.tui.widgets.transcript import Transcript
from tests.fakes.answers import token_id
from tests.tui.fakes import FakeSampler, FakeServices
from tests.tui.panes.asking import last_request, pane
from tests.tui.panes.fakes import make_snapshot
from tests.tui.panes.seeing import opened, screen_text, until_shown
from tests.tui.support import until


def words(request: SampleRequest) -> list[list[str]]:
    """A text that says which seed and how many tokens before it: ` s7t0 end`."""
    return [
        [f" s{request.settings.seed + sample}t{len(request.ids)}", " end"]
        for sample in range(request.count)
    ]


def speaking() -> FakeServices:
    """Services whose sampler names seed and position."""
    return FakeServices(make_snapshot(), sampler=FakeSampler(texts=words))


async def sampled(app: RnnlmApp, pilot: Pilot[int], count: int) -> None:
    """Wait for the end of the request with this number."""
    sampler = await app.warm_sampler()
    assert isinstance(sampler, FakeSampler)
    await until(pilot, lambda: len(sampler.requests) == count and not pane(app).sampling)
    await pilot.pause()


async def test_a_text_is_continued_from_its_tokens_with_its_seed() -> None:
    services = speaking()
    async with opened(services, "prompt") as (app, pilot):
        await pilot.press(*"We", "enter")
        await sampled(app, pilot, 1)
        await pilot.press("f3")
        await until_shown(pilot, "We s7t0 end s7t2 end")
        request = last_request(services)
        assert request.prompt == "We"
        assert request.ids == (token_id(" s7t0"), token_id(" end"))
        assert request.settings.seed == 7
        await until(pilot, lambda: [kept.text for kept in search()][:1] == [" s7t0 end s7t2 end"])


async def test_undo_and_redo_walk_back_and_forth() -> None:
    async with opened(speaking(), "prompt") as (app, pilot):
        await pilot.press("f6")
        await until_shown(pilot, "no text yet")
        await pilot.press(*"We", "enter")
        await sampled(app, pilot, 1)
        await pilot.press("f3")
        await sampled(app, pilot, 2)
        await pilot.press("f6")
        await until(pilot, lambda: "t2" not in screen_text(app))
        await until_shown(pilot, "We s7t0 end")
        await pilot.press("f6")
        await until_shown(pilot, "nothing to undo")
        await pilot.press("shift+f6")
        await until_shown(pilot, "We s7t0 end s7t2 end")
        await pilot.press("shift+f6")
        await until_shown(pilot, "nothing to redo")


async def test_a_new_seed_draws_a_sibling_and_its_place_is_shown() -> None:
    async with opened(speaking(), "prompt") as (app, pilot):
        await pilot.press(*"We", "enter")
        await sampled(app, pilot, 1)
        for count in (2, 3):
            await pilot.press("ctrl+r")
            await sampled(app, pilot, count)
        await until_shown(pilot, "We s9t0 end", "2 tokens · seed 9 · step 3,700 · 3 of 3")
        assert "We s7t0" not in screen_text(app)
        await pilot.press("escape", "left")
        await until_shown(pilot, "We s8t0 end", "2 of 3")
        await pilot.press("right", "right")
        await until_shown(pilot, "We s7t0 end", "1 of 3")


async def test_another_prompt_in_the_box_is_sampled_by_a_new_seed_as_a_new_text() -> None:
    async with opened(speaking(), "prompt") as (app, pilot):
        await pilot.press(*"We", "enter")
        await sampled(app, pilot, 1)
        await pilot.press(*" do", "ctrl+r")
        await sampled(app, pilot, 2)
        await until_shown(pilot, "We s7t0 end", "We do s8t0 end")


async def test_a_continuation_is_drawn_again_from_where_it_began() -> None:
    services = speaking()
    async with opened(services, "prompt") as (app, pilot):
        await pilot.press(*"We", "enter")
        await sampled(app, pilot, 1)
        await pilot.press("f3")
        await sampled(app, pilot, 2)
        await pilot.press("ctrl+r")
        await sampled(app, pilot, 3)
        await until_shown(pilot, "We s7t0 end s8t2 end", "4 tokens · seed 8", "2 of 2")
        assert len(last_request(services).ids) == 2
        await pilot.press("f6")
        await until_shown(pilot, "We s7t0 end")
        assert "t2" not in screen_text(app)


async def test_the_figures_below_the_text_are_those_of_the_shown_branch() -> None:
    async with opened(speaking(), "prompt") as (app, pilot):
        await pilot.press(*"We", "enter")
        await sampled(app, pilot, 1)
        await pilot.press("ctrl+r")
        await sampled(app, pilot, 2)
        assert "seed 8" in figures(app)
        await pilot.press("f6")
        await until(pilot, lambda: "seed 7" in figures(app))
        await pilot.press("shift+f6")
        await until(pilot, lambda: "seed 8" in figures(app))


def figures(app: RnnlmApp) -> str:
    """The line of figures below the text."""
    return next(line for line in screen_text(app).splitlines() if "bits/token" in line)


async def test_an_edited_text_is_continued_and_undone() -> None:
    services = speaking()
    async with opened(services, "prompt") as (app, pilot):
        await pilot.press(*"We", "enter")
        await sampled(app, pilot, 1)
        await pilot.press("f4")
        await until_shown(pilot, "Edit the text", "enter Continue from here", "esc Discard")
        assert pane(app).box.text == "We s7t0 end"
        await pilot.press("backspace", "backspace", "backspace", *"now", "enter")
        await sampled(app, pilot, 2)
        request = last_request(services)
        assert (request.prompt, request.ids) == ("We s7t0 now", ())
        await until_shown(pilot, "We s7t0 now s7t0 end")
        assert pane(app).box.text == "We"
        await pilot.press("f6")
        await until(pilot, lambda: "now" not in screen_text(app))


async def test_escape_discards_an_edit_and_the_prompt_comes_back() -> None:
    services = speaking()
    async with opened(services, "prompt") as (app, pilot):
        await pilot.press(*"We", "enter")
        await sampled(app, pilot, 1)
        await pilot.press(*" the", "f4", *" changed", "escape")
        await until(pilot, lambda: pane(app).box.text == "We the")
        assert "changed" not in screen_text(app)
        assert app.focused is pane(app).box
        assert len(services.fake_sampler.requests) == 1


async def test_an_unchanged_edit_continues_from_the_same_tokens() -> None:
    services = speaking()
    async with opened(services, "prompt") as (app, pilot):
        await pilot.press(*"We", "enter")
        await sampled(app, pilot, 1)
        await pilot.press("f4", "enter")
        await sampled(app, pilot, 2)
        assert len(last_request(services).ids) == 2


async def test_a_text_too_long_to_edit_is_refused_with_the_limit() -> None:
    services = FakeServices(make_snapshot(), sampler=FakeSampler(words=[" word" * 5_000]))
    async with opened(services, "prompt") as (app, pilot):
        await pilot.press(*"We", "enter")
        await sampled(app, pilot, 1)
        await pilot.press("f4")
        await until_shown(pilot, "the text has 25,002 characters", "at most 20,000")


async def test_several_samples_are_one_request_and_shown_below_each_other() -> None:
    services = speaking()
    async with opened(services, "prompt") as (app, pilot):
        await pilot.press(*["tab"] * 7, "3", "enter", *"We", "enter")
        await sampled(app, pilot, 1)
        assert last_request(services).count == 3
        await until_shown(pilot, "› 1  s7t0 end", "  2  s8t0 end", "  3  s9t0 end", "1 of 3")
        await until_shown(pilot, "✓ 3 samples   6 of 300 tokens", "samples  3")
        await pilot.press("escape", "right")
        await until_shown(pilot, "› 2  s8t0 end", "seed 8", "2 of 3")
        await pilot.press("f3")
        await sampled(app, pilot, 2)
        await until_shown(pilot, "We s8t0 end s8t2 end")
        assert last_request(services).count == 1
        await until(pilot, lambda: [sample.seed for sample in search()] == [8, 9, 8, 7])


async def test_several_samples_stand_side_by_side_and_the_choice_is_kept() -> None:
    async with opened(speaking(), "prompt", size=(120, 40)) as (app, pilot):
        await pilot.press(*["tab"] * 7, "3", "enter", *"We", "enter")
        await sampled(app, pilot, 1)
        await pilot.press("ctrl+p", *"samples side", "enter")
        await until_shown(pilot, "samples of one request are beside each other")
        line = next(line for line in screen_text(app).splitlines() if "s7t0 end" in line)
        assert "s8t0 end" in line
        assert "s9t0 end" in line
        assert app.settings["prompt"] == {
            "samples": 3,
            "random_seed": False,
            "side_by_side": True,
        }


async def test_a_narrow_terminal_has_no_room_for_samples_side_by_side() -> None:
    async with opened(speaking(), "prompt", size=(60, 24)) as (app, pilot):
        await app.screen.run_action("screen.side_by_side")
        await until_shown(pilot, "too narrow for samples side by side")
        assert not pane(app).transcript.side_by_side


async def test_stopped_samples_keep_their_texts_and_can_be_continued() -> None:
    sampler = FakeSampler(gate=asyncio.Event(), texts=words)
    services = FakeServices(make_snapshot(), sampler=sampler)
    async with opened(services, "prompt") as (_app, pilot):
        await pilot.press(*"We", "enter")
        await until_shown(pilot, "We s7t0 end█")
        await pilot.press("f3")
        await until_shown(pilot, "already sampling, esc stops it")
        await pilot.press("escape")
        await until_shown(pilot, "■ 2 of 100 tokens, stopped")
        sampler.gate = None
        await pilot.press("f3")
        await until_shown(pilot, "We s7t0 end s7t2 end")
        await until(pilot, lambda: [kept.reason for kept in search()] == ["length", "cancelled"])


async def test_a_text_that_a_killed_sampler_left_is_kept_and_can_be_continued() -> None:
    class Dying(FakeSampler):
        async def generate(self, request):  # type: ignore[no-untyped-def]
            async for answer in super().generate(request):
                yield answer
                raise WorkerError("the sampler exited (exit code -9)")

    sampler = Dying(texts=words)
    services = FakeServices(make_snapshot(), sampler=sampler)
    async with opened(services, "prompt") as (app, pilot):
        await pilot.press(*"We", "enter")
        await until_shown(pilot, "We s7t0", "✗ the sampler exited (exit code -9)", "✗ incomplete")
        services.fake_sampler = FakeSampler(texts=words)
        app.sampler = None
        await pilot.press("f3")
        await until_shown(pilot, "We s7t0 s7t0 end")
        assert last_request(services).prompt == "We s7t0"
        assert "exit code" not in screen_text(app)


async def test_a_random_seed_is_drawn_for_each_request_and_shown() -> None:
    services = speaking()
    async with opened(services, "prompt") as (app, pilot):
        await pilot.press(*["tab"] * 6, *"random", "enter", *"We", "enter")
        await sampled(app, pilot, 1)
        await pilot.press("enter")
        await sampled(app, pilot, 2)
        seeds = [request.settings.seed for request in services.fake_sampler.requests]
        assert len(set(seeds)) == 2
        await until_shown(pilot, "seed  random", f"We s{seeds[1]}t0 end")
        await until(pilot, lambda: [sample.seed for sample in search()] == seeds[::-1])
        await pilot.press("f3")
        await sampled(app, pilot, 3)
        assert last_request(services).settings.seed == seeds[1]
        await pilot.press("escape", "2")
        assert app.settings["prompt"] == {"samples": 1, "random_seed": True}


async def test_an_empty_prompt_starts_from_the_initial_state() -> None:
    services = speaking()
    async with opened(services, "prompt") as (app, pilot):
        await pilot.press("enter")
        await sampled(app, pilot, 1)
        assert (last_request(services).prompt, last_request(services).state) == ("", "")
        await until_shown(pilot, " s7t0 end")
        assert read_history() == []


async def test_the_session_has_the_open_text_for_the_other_modes() -> None:
    async with opened(speaking(), "prompt") as (app, pilot):
        session = app.prompt_session
        await pilot.press(*"We")
        assert (session.shown.prompt, session.shown.ids) == ("We", ())
        await pilot.press("enter")
        await sampled(app, pilot, 1)
        assert session.shown.prompt == "We"
        assert session.shown.ids == (token_id(" s7t0"), token_id(" end"))
        assert session.weights.path == "/runs/plain-otter/checkpoints/step-000003700"
        branch = session.tree.current
        assert branch is not None
        session.tree.add(Sample("We", branch.settings, branch.weights, (1,), " else", parent=0))
        await pilot.press("escape", "3")
        await until(pilot, lambda: app.current_mode == "checkpoints")
        await pilot.press("4")
        await until_shown(pilot, "We else")
        assert isinstance(pane(app).transcript, Transcript)


async def test_text_faster_than_a_slow_link_is_shown_less_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sampler = FakeSampler(gate=asyncio.Event(), texts=words)
    services = FakeServices(make_snapshot(), sampler=sampler)
    async with opened(services, "prompt", size=(120, 40)) as (app, pilot):
        await pilot.press(*"We", "enter")
        await until_shown(pilot, "We s7t0 end█")
        screen, drawing = pane(app), pane(app)._stream.drawing
        assert drawing is not None
        start = now = monotonic()
        monkeypatch.setattr(sample_stream, "monotonic", lambda: now)
        before = screen.transcript.repainted
        for second in range(1, 5):
            for tenth in range(10):
                now = start + second + tenth / 10
                text = "".join(f" word {tenth * tenth + word}" for word in range(300))
                drawing.take(SamplePiece(id="1", text=text, tokens=200))
                screen._update(drawing)
        cells = screen.transcript.repainted - before
        assert sample_stream.CELLS_PER_SECOND <= cells / 4 <= 8 * 1_024
        sampler.gate.set() if sampler.gate is not None else None
        await until(pilot, lambda: not screen.sampling)
        await until_shown(pilot, "✓ 2 of 100 tokens")


async def test_a_text_that_scrolls_fast_scrolls_by_several_lines_at_once() -> None:
    services = FakeServices(make_snapshot(), sampler=FakeSampler(gate=asyncio.Event()))
    async with opened(services, "prompt") as (app, pilot):
        await pilot.press(*"We", "enter")
        await until_shown(pilot, "We is strong.█")
        drawing = pane(app)._stream.drawing
        assert drawing is not None

        def more(text: str) -> None:
            drawing.take(SamplePiece(id="1", text=text, tokens=200))
            pane(app).transcript.grow()

        def line() -> int:
            found = screen_text(app).splitlines()
            return next(at for at, text in enumerate(found) if "█" in text and "│" in text)

        bottom = line()
        more("\nfirst")
        await pilot.pause()
        more("\nsecond")
        await pilot.pause()
        places = []
        for _ in range(3):
            more("\nmore")
            await pilot.pause()
            places.append(line())
        assert places == sorted(set(places))
        assert places[-1] <= bottom
