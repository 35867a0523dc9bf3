"""The prompt pane: streamed text, choice of checkpoints, errors in one sentence."""

from __future__ import annotations

import asyncio
import threading

import pytest

from rnnlm_tui.errors import InputError, WorkerError
from rnnlm_tui.tui.widgets.settings_row import SettingInput
from rnnlm_tui.tui.widgets.transcript import Transcript
from tests.tui.fakes import FakeSampler, FakeServices
from tests.tui.panes.asking import last_request, pane
from tests.tui.panes.fakes import make_snapshot
from tests.tui.panes.seeing import opened, screen_text, until_shown
from tests.tui.support import until


async def test_enter_samples_from_the_best_checkpoint_with_the_runs_settings() -> None:
    services = FakeServices(make_snapshot())
    async with opened(services, "prompt") as (app, pilot):
        await pilot.press(*"The Union", "enter")
        await until_shown(
            pilot,
            "The Union is strong.",
            "✓ 3 of 100 tokens",
            "125 tok/s",
            "4.1 bits/token",
            "@best step 3,700, val 58.1",
        )
        request = last_request(services)
        assert request.checkpoint == "/runs/plain-otter/checkpoints/step-000003700"
        assert request.prompt == "The Union"
        assert (
            request.settings.temperature,
            request.settings.top_p,
            request.settings.max_new_tokens,
            request.settings.seed,
        ) == (0.8, 0.95, 100, 7)
        assert pane(app).box.text == "The Union"


async def test_a_running_text_has_a_bar_and_escape_stops_it_first() -> None:
    services = FakeServices(make_snapshot(), sampler=FakeSampler(gate=asyncio.Event()))
    async with opened(services, "prompt") as (app, pilot):
        await pilot.press(*"We", "enter")
        await until_shown(pilot, "▌ We is strong.█", "esc Stop", "● 3 of 100 tokens")
        await pilot.press("enter")
        await until_shown(pilot, "already sampling, esc stops it")
        await pilot.press("escape")
        await until_shown(pilot, "■ 3 of 100 tokens, stopped")
        assert "▌" not in screen_text(app)
        assert app.focused is pane(app).box
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.focused, Transcript))
        await pilot.press("3")
        await until(pilot, lambda: app.current_mode == "checkpoints")


async def test_escape_while_the_sampler_starts_drops_the_request() -> None:
    sampler = FakeSampler(waking=asyncio.Event())
    services = FakeServices(make_snapshot(), sampler=sampler)
    async with opened(services, "prompt") as (app, pilot):
        await pilot.press(*"We", "enter")
        await until_shown(pilot, "loading the model", "esc Stop")
        await pilot.press("escape")
        await until_shown(pilot, "■ stopped before the first token")
        assert not pane(app).sampling
        assert sampler.waking is not None
        sampler.waking.set()
        await pilot.press("enter")
        await until_shown(pilot, "We is strong.", "✓ 3 of 100 tokens")
        assert len(sampler.requests) == 1


async def test_escape_while_a_snapshot_is_written_drops_the_request() -> None:
    services = FakeServices(make_snapshot())
    services.slow_worker = threading.Event()
    async with opened(services, "prompt") as (app, pilot):
        await pilot.press(*"We")
        while (choice := pane(app).choice) is not None and choice.row is not None:
            await pilot.press("ctrl+k")
        await pilot.press("enter")
        await until(pilot, lambda: ("send", "snapshot") in services.calls)
        await pilot.press("escape")
        await until_shown(pilot, "■ stopped before the first token")
        services.slow_worker.set()
        await app.workers.wait_for_complete(
            [worker for worker in app.workers if worker.group == "sample"]
        )
        assert services.fake_sampler.requests == []


@pytest.mark.parametrize("width", [80, 120])
async def test_the_line_under_the_prompt_repeats_no_key_of_the_footer(width: int) -> None:
    async with opened(FakeServices(make_snapshot()), "prompt", size=(width, 24)) as (app, pilot):
        await until_shown(pilot, "best 3,700" if width >= 120 else "↑ earlier prompts")
        await pilot.press(*"We", "enter")
        await until_shown(pilot, "We is strong" if width >= 120 else "F3 continue")
        for _ in range(3):
            hint, footer = screen_text(app).splitlines()[-2:]
            keys = {
                word
                for line in (hint, footer)
                for word in line.split()
                if word.startswith(("^", "F")) and len(word) == 2 and word != "F2"
            }
            assert all(f"{hint} {footer}".count(key) == 1 for key in keys)
            await pilot.press("escape")
            await pilot.pause()
        assert width < 120 or "best 3,700" in screen_text(app).splitlines()[-2]


async def test_ctrl_r_changes_the_seed_and_ctrl_k_the_checkpoint() -> None:
    services = FakeServices(make_snapshot())
    async with opened(services, "prompt") as (_app, pilot):
        await pilot.press("ctrl+r", "ctrl+k")
        await until_shown(pilot, "step 3,000, val 60.7")
        await pilot.press(*"x", "enter")
        await until(pilot, lambda: bool(services.fake_sampler.requests))
        assert last_request(services).settings.seed == 8
        assert last_request(services).checkpoint.endswith("step-000003000")


async def test_ctrl_r_with_a_prompt_samples_at_once() -> None:
    services = FakeServices(make_snapshot())
    async with opened(services, "prompt") as (app, pilot):
        await pilot.press(*"x", "ctrl+r")
        await until(
            pilot, lambda: len(services.fake_sampler.requests) == 1 and not pane(app).sampling
        )
        await pilot.press("ctrl+r")
        await until(pilot, lambda: len(services.fake_sampler.requests) == 2)
        assert [request.settings.seed for request in services.fake_sampler.requests] == [8, 9]
        assert last_request(services).prompt == "x"


async def test_the_notice_about_a_running_sample_ends_with_it() -> None:
    services = FakeServices(make_snapshot(), sampler=FakeSampler(gate=asyncio.Event()))
    async with opened(services, "prompt") as (app, pilot):
        await pilot.press(*"x", "enter")
        await until(pilot, lambda: bool(services.fake_sampler.requests))
        await pilot.press("enter")
        await until_shown(pilot, "already sampling, esc stops it")
        gate = services.fake_sampler.gate
        assert gate is not None
        gate.set()
        await until(pilot, lambda: not pane(app).sampling)
        await until_shown(pilot, "enter Generate")
        assert "already sampling" not in screen_text(app)


async def test_a_running_run_without_checkpoints_is_sampled_from_a_snapshot() -> None:
    services = FakeServices(make_snapshot(checkpoints=()))
    async with opened(services, "prompt") as (_app, pilot):
        await until_shown(
            pilot, "@now", "No checkpoint yet: enter samples from the current weights."
        )
        await pilot.press(*"x", "enter")
        await until_shown(pilot, "x is strong.")
        assert ("send", "snapshot") in services.calls
        assert last_request(services).checkpoint == "/runs/plain-otter/snapshots/step-000003751-aa"


async def test_a_run_with_nothing_to_sample_from_is_labelled() -> None:
    services = FakeServices(make_snapshot("draft", checkpoints=(), samples=()))
    async with opened(services, "prompt") as (_app, pilot):
        await until_shown(pilot, "plain-otter has no checkpoint to sample from")
        await pilot.press(*"x", "enter", "ctrl+k", "ctrl+s", "ctrl+y")
        await until_shown(pilot, "no text yet")
        assert not services.fake_sampler.requests


async def test_a_sampler_error_is_one_sentence_and_the_next_prompt_works() -> None:
    services = FakeServices(
        make_snapshot(),
        sampler=FakeSampler(failure=InputError("the vocabulary has no é", hint="leave it out")),
    )
    async with opened(services, "prompt") as (app, pilot):
        await pilot.press(*"café", "enter")
        await until_shown(pilot, "✗ the vocabulary has no é. leave it out")
        assert not pane(app).sampling
        services.fake_sampler.failure = WorkerError("the sampler exited (exit code -9)")
        await pilot.press("enter")
        await until_shown(pilot, "✗ the sampler exited (exit code -9)")
        services.fake_sampler.failure = None
        await pilot.press("enter")
        await until_shown(pilot, "café is strong.")


async def test_a_text_can_be_saved_and_copied() -> None:
    services = FakeServices(make_snapshot())
    async with opened(services, "prompt") as (app, pilot):
        await pilot.press(*"We", "enter")
        await until_shown(pilot, "✓ 3 of 100 tokens")
        await pilot.press("ctrl+s")
        await until_shown(pilot, "saved as /home/plain-otter-sample.txt")
        assert services.saved == [("plain-otter-sample.txt", "We is strong.\n")]
        await pilot.press("ctrl+y")
        await until_shown(pilot, "copied 13 characters (if your terminal allows it); ^s saves")
        assert app.clipboard == "We is strong."
        await pilot.press("escape", "ctrl+s")
        await until(pilot, lambda: len(services.saved) == 2)


async def test_the_newest_text_is_at_the_bottom_and_page_keys_show_older_text() -> None:
    services = FakeServices(make_snapshot(), sampler=FakeSampler(words=[" word"] * 60))
    async with opened(services, "prompt") as (app, pilot):
        for number in range(4):
            await pilot.press("ctrl+u", *f"prompt {number}", "enter")
            await until(
                pilot,
                lambda count=number: (  # type: ignore[misc]
                    len(services.fake_sampler.requests) == count + 1 and not pane(app).sampling
                ),
            )
        lines = screen_text(app).splitlines()
        assert "word" in lines[lines.index(next(line for line in lines if "✓ 60 of" in line)) - 2]
        assert not any("prompt 0" in line for line in lines[:16])
        await pilot.press("escape", "home")
        await until_shown(pilot, "prompt 0 word", "more lines")
        await pilot.press("end")
        await until(pilot, lambda: "more lines" not in screen_text(app))


async def test_hostile_prompts_and_texts_are_harmless() -> None:
    services = FakeServices(
        make_snapshot(),
        sampler=FakeSampler(
            words=["\x1b]0;owned\x07", "\x9b2J", "[/][@click=app.quit]", "‮abc", "\n\r\t\x00"]
        ),
    )
    async with opened(services, "prompt") as (app, pilot):
        pane(app).box.insert("[b]bold[/b] \x1b[31mred\x9b\u202e\x00")
        await pilot.press("enter")
        await until_shown(
            pilot, "[b]bold[/b] [31mred␛]0;owned␇‹9b›2J[/][@click=app.quit]‹202e›abc", "✓ 5 of 100"
        )
        text = screen_text(app)
        assert not any(ord(character) < 32 and character != "\n" for character in text)
        assert not any(0x7F <= ord(character) < 0xA0 or character == "‮" for character in text)


async def test_another_run_starts_a_new_transcript() -> None:
    services = FakeServices(make_snapshot(), sampler=FakeSampler(gate=asyncio.Event()))
    async with opened(services, "prompt") as (app, pilot):
        await pilot.press(*"We", "enter")
        await until_shown(pilot, "▌ We is strong.█")
        app.close_run()
        app.open_pane("config")
        await until(pilot, lambda: app.current_mode == "config")
        app.open_pane("prompt")
        await until_shown(pilot, "No run open.")
        assert not pane(app).sampling
        await until(pilot, lambda: services.fake_sampler.cancelled != [])
        assert "We is strong" not in screen_text(app)


async def test_an_idle_prompt_draws_nothing() -> None:
    async with opened(FakeServices(make_snapshot()), "prompt") as (app, pilot):
        await until_shown(pilot, "@best")
        assert not pane(app).box.cursor_blink
        assert not any(box.cursor_blink for box in pane(app).query(SettingInput))
        assert not pane(app).sampling


async def test_without_a_run_there_is_a_way_to_the_runs() -> None:
    async with opened(FakeServices(), "prompt", run=None) as (app, pilot):
        await until_shown(pilot, "No run open.", "^l lists the runs.")
        assert screen_text(app).splitlines()[-1] == " ^l Runs  ^p Palette  F1 Keys  ^q Leave"
        await pilot.press("tab", "r", "enter")
        await until_shown(pilot, "no run open: ^l lists the runs")
        assert pane(app).box.text == "r"
        await pilot.press("ctrl+l")
        await until(pilot, lambda: app.current_mode == "runs")
