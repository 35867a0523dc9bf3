"""The prompt pane: text that streams in, settings in place, checkpoints by key, calm errors."""

from __future__ import annotations

import asyncio
import threading

import pytest
from textual.events import Key
from textual.widgets.text_area import Edit, EditResult

from rnnlm_tui.contract.requests import SampleRequest
from rnnlm_tui.errors import InputError, WorkerError
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.screens.prompt import PromptScreen
from rnnlm_tui.tui.widgets.prompt_box import PromptBox
from rnnlm_tui.tui.widgets.settings_row import SettingInput
from rnnlm_tui.tui.widgets.transcript import Transcript
from tests.tui.panes.fakes import FakeSampler, FakeServices, make_snapshot
from tests.tui.panes.seeing import opened, screen_text, until, until_shown


def pane(app: RnnlmApp) -> PromptScreen:
    screen = app.pane_screen
    assert isinstance(screen, PromptScreen)
    return screen


def last_request(services: FakeServices) -> SampleRequest:
    return services.fake_sampler.requests[-1]


async def test_enter_samples_from_the_best_checkpoint_with_the_runs_settings() -> None:
    services = FakeServices(make_snapshot())
    async with opened(services, "prompt") as (app, pilot):
        await pilot.press(*"The Union", "enter")
        await until_shown(pilot, "The Union is strong.", "✓ 3 of 100 tokens", "125 tok/s", "4.1 bits/token", "@best step 3,700, val 58.1")
        request = last_request(services)
        assert request.checkpoint == "/runs/plain-otter/checkpoints/step-000003700"
        assert request.prompt == "The Union"
        assert (request.settings.temperature, request.settings.top_p, request.settings.max_new_tokens, request.settings.seed) == (0.8, 0.95, 100, 7)
        assert pane(app).box.text == "The Union"


async def test_the_living_text_has_a_bar_and_escape_stops_it_before_it_leaves_the_field() -> None:
    services = FakeServices(make_snapshot(), sampler=FakeSampler(gate=asyncio.Event()))
    async with opened(services, "prompt") as (app, pilot):
        await pilot.press(*"We", "enter")
        await until_shown(pilot, "▌ We is strong.█", "esc Stop", "● 3 of 100 tokens")
        await pilot.press("enter")
        await until_shown(pilot, "a sample runs, esc stops it")
        await pilot.press("escape")
        await until_shown(pilot, "■ 3 of 100 tokens, stopped")
        assert "▌" not in screen_text(app)
        assert app.focused is pane(app).box
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.focused, Transcript))
        await pilot.press("3")
        await until(pilot, lambda: app.current_mode == "checkpoints")


async def test_escape_while_the_sampler_wakes_means_that_it_is_never_asked() -> None:
    sampler = FakeSampler(waking=asyncio.Event())
    services = FakeServices(make_snapshot(), sampler=sampler)
    async with opened(services, "prompt") as (app, pilot):
        await pilot.press(*"We", "enter")
        await until_shown(pilot, "waking the model", "esc Stop")
        await pilot.press("escape")
        await until_shown(pilot, "■ stopped before the first token")
        assert not pane(app).sampling
        assert sampler.waking is not None
        sampler.waking.set()
        await pilot.press("enter")
        await until_shown(pilot, "We is strong.", "✓ 3 of 100 tokens")
        assert len(sampler.requests) == 1


async def test_escape_while_a_snapshot_is_written_means_that_nothing_is_sampled_from_it() -> None:
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
        await app.workers.wait_for_complete([worker for worker in app.workers if worker.group == "sample"])
        assert services.fake_sampler.requests == []


@pytest.mark.parametrize("width", [80, 120])
async def test_the_line_under_the_prompt_repeats_no_key_of_the_footer(width: int) -> None:
    async with opened(FakeServices(make_snapshot()), "prompt", size=(width, 24)) as (app, pilot):
        await until_shown(pilot, "↑ earlier prompts", "^s", "^y")
        for _ in range(3):
            hint, footer = screen_text(app).splitlines()[-2:]
            keys = {word for line in (hint, footer) for word in line.split() if word.startswith("^")}
            assert all(f"{hint} {footer}".count(key) == 1 for key in keys)
            await pilot.press("escape")
            await pilot.pause()
        assert "best 3,700" in screen_text(app).splitlines()[-2]


async def test_letters_and_digits_are_text_inside_the_box() -> None:
    async with opened(FakeServices(make_snapshot()), "prompt") as (app, pilot):
        await pilot.press(*"q1r?w")
        await until(pilot, lambda: pane(app).box.text == "q1r?w")
        assert app.current_mode == "prompt"


async def test_keys_that_come_in_one_go_act_in_their_order() -> None:
    services = FakeServices(make_snapshot())
    async with opened(services, "prompt") as (app, pilot):
        for key in (*"one", "ctrl+u", *"two!", "backspace", "tab", *"1.5", "enter", "ctrl+j", "x", "enter"):
            app.post_message(Key(key, key if len(key) == 1 else None))
        await until(pilot, lambda: bool(services.fake_sampler.requests))
        assert last_request(services).prompt == "two\nx"
        assert last_request(services).settings.temperature == 1.5


async def test_ctrl_j_breaks_the_line_and_ctrl_u_clears() -> None:
    async with opened(FakeServices(make_snapshot()), "prompt") as (app, pilot):
        await pilot.press(*"one", "ctrl+j", *"two")
        await until(pilot, lambda: pane(app).box.text == "one\ntwo")
        await pilot.press("ctrl+u")
        await until(pilot, lambda: pane(app).box.text == "")


async def test_up_brings_earlier_prompts_and_down_what_was_being_written() -> None:
    services = FakeServices(make_snapshot())
    async with opened(services, "prompt") as (app, pilot):
        box = pane(app).box
        await pilot.press(*"new", "up")
        await until(pilot, lambda: box.text == "Tonight I want")
        await pilot.press("up", "up")
        await until(pilot, lambda: box.text == "The economy")
        await pilot.press("down", "down")
        await until(pilot, lambda: box.text == "new")
        await pilot.press("enter")
        await until(pilot, lambda: services.kept_prompts == ["new"])


async def test_settings_are_reached_with_tab_edited_in_place_and_used() -> None:
    services = FakeServices(make_snapshot())
    async with opened(services, "prompt") as (app, pilot):
        await pilot.press("tab")
        await until(pilot, lambda: isinstance(app.focused, SettingInput))
        await pilot.press(*"1.2", "tab", *"0.5", "tab", *"40", "tab", *"12", "tab", *"99", "enter")
        await until(pilot, lambda: app.focused is pane(app).box)
        await pilot.press(*"x", "enter")
        await until(pilot, lambda: bool(services.fake_sampler.requests))
        settings = last_request(services).settings
        assert (settings.temperature, settings.top_p, settings.top_k, settings.max_new_tokens, settings.seed) == (1.2, 0.5, 40, 12, 99)


async def test_min_p_penalty_and_stop_follow_and_a_stop_string_keeps_its_spaces_and_line_breaks() -> None:
    services = FakeServices(make_snapshot())
    async with opened(services, "prompt") as (app, pilot):
        await pilot.press(*["tab"] * 6, *"0.05", "tab", *"1.1", "tab", *"\\n| The end", "enter")
        await until(pilot, lambda: app.focused is pane(app).box)
        await pilot.press(*"x", "enter")
        await until(pilot, lambda: bool(services.fake_sampler.requests))
        settings = last_request(services).settings
        assert (settings.min_p, settings.repetition_penalty, settings.stop) == (0.05, 1.1, ("\n", " The end"))
        await pilot.press(*["tab"] * 6, *"off", "tab", *"off", "tab", "delete", "enter")
        pane(app).box.text = "y"
        await until(pilot, lambda: app.focused is pane(app).box)
        await pilot.press("enter")
        await until(pilot, lambda: len(services.fake_sampler.requests) == 2)
        settings = last_request(services).settings
        assert (settings.min_p, settings.repetition_penalty, settings.stop) == (0.0, 1.0, ())


async def test_settings_that_are_off_take_no_row_of_a_narrow_terminal_until_they_are_wanted() -> None:
    def row(app: RnnlmApp) -> str:
        return next((line for line in screen_text(app).splitlines() if "min-p" in line), "")

    services = FakeServices(make_snapshot())
    async with opened(services, "prompt", size=(80, 24)) as (app, pilot):
        assert row(app) == ""
        await pilot.press("tab")
        await until(pilot, lambda: "stop  off" in row(app))
        await pilot.press("shift+tab")
        await until(pilot, lambda: row(app) == "")
        await pilot.press(*["tab"] * 6, *"0.1", "enter")
        await until(pilot, lambda: "0.1" in row(app))
        assert app.focused is pane(app).box
        await pilot.resize_terminal(120, 40)
        await until(pilot, lambda: "temperature" in row(app) and "stop" in row(app))


async def test_the_stop_box_says_how_to_write_in_it_and_too_long_a_stop_string_what_is_allowed() -> None:
    async with opened(FakeServices(make_snapshot()), "prompt", size=(80, 24)) as (app, pilot):
        await pilot.press(*["tab"] * 8)
        await until_shown(pilot, "\\n a line break   | between several")
        app.query_one("#setting-stop", SettingInput).value = "x" * 101
        await until_shown(pilot, "✗ stop has 101 characters, at most 100 are taken")


async def test_tab_after_the_last_setting_is_the_prompt_again() -> None:
    async with opened(FakeServices(make_snapshot()), "prompt") as (app, pilot):
        for _ in range(9):
            await pilot.press("tab")
        await until(pilot, lambda: isinstance(app.focused, PromptBox))


async def test_a_wrong_setting_says_what_is_allowed_and_nothing_is_sampled() -> None:
    services = FakeServices(make_snapshot())
    async with opened(services, "prompt") as (_app, pilot):
        await pilot.press("tab", "tab", *"1.5")
        await until_shown(pilot, "✗ top-p must be at most 1")
        await pilot.press("enter", *"x", "enter")
        await pilot.pause()
        assert not services.fake_sampler.requests
        await pilot.press("tab", "tab", *"off", "enter", "enter")
        await until(pilot, lambda: bool(services.fake_sampler.requests))
        assert last_request(services).settings.top_p == 1.0


async def test_a_temperature_of_zero_is_greedy_and_says_so() -> None:
    services = FakeServices(make_snapshot())
    async with opened(services, "prompt") as (_app, pilot):
        await pilot.press("tab", "0", "enter", *"x", "enter")
        await until_shown(pilot, "greedy")
        await until(pilot, lambda: bool(services.fake_sampler.requests))
        assert last_request(services).settings.greedy


async def test_ctrl_r_takes_another_seed_and_ctrl_k_the_next_checkpoint() -> None:
    services = FakeServices(make_snapshot())
    async with opened(services, "prompt") as (_app, pilot):
        await pilot.press("ctrl+r", "ctrl+k")
        await until_shown(pilot, "step 3,000, val 60.7")
        await pilot.press(*"x", "enter")
        await until(pilot, lambda: bool(services.fake_sampler.requests))
        assert last_request(services).settings.seed == 8
        assert last_request(services).checkpoint.endswith("step-000003000")


async def test_ctrl_r_with_a_prompt_draws_another_text_at_once_each_time() -> None:
    services = FakeServices(make_snapshot())
    async with opened(services, "prompt") as (app, pilot):
        await pilot.press(*"x", "ctrl+r")
        await until(pilot, lambda: len(services.fake_sampler.requests) == 1 and not pane(app).sampling)
        await pilot.press("ctrl+r")
        await until(pilot, lambda: len(services.fake_sampler.requests) == 2)
        assert [request.settings.seed for request in services.fake_sampler.requests] == [8, 9]
        assert last_request(services).prompt == "x"


async def test_what_is_said_of_a_running_sample_goes_when_the_sample_ends() -> None:
    services = FakeServices(make_snapshot(), sampler=FakeSampler(gate=asyncio.Event()))
    async with opened(services, "prompt") as (app, pilot):
        await pilot.press(*"x", "enter")
        await until(pilot, lambda: bool(services.fake_sampler.requests))
        await pilot.press("enter")
        await until_shown(pilot, "a sample runs, esc stops it")
        gate = services.fake_sampler.gate
        assert gate is not None
        gate.set()
        await until(pilot, lambda: not pane(app).sampling)
        await until_shown(pilot, "enter Generate")
        assert "a sample runs" not in screen_text(app)


async def test_a_running_run_without_checkpoints_is_sampled_from_a_snapshot() -> None:
    services = FakeServices(make_snapshot(checkpoints=()))
    async with opened(services, "prompt") as (_app, pilot):
        await until_shown(pilot, "@now", "No checkpoint yet: enter samples from the weights of this moment.")
        await pilot.press(*"x", "enter")
        await until_shown(pilot, "x is strong.")
        assert ("send", "snapshot") in services.calls
        assert last_request(services).checkpoint == "/runs/plain-otter/snapshots/step-000003751-aa"


async def test_a_run_with_nothing_to_sample_from_says_so() -> None:
    services = FakeServices(make_snapshot("draft", checkpoints=(), samples=()))
    async with opened(services, "prompt") as (_app, pilot):
        await until_shown(pilot, "plain-otter has no checkpoint to sample from")
        await pilot.press(*"x", "enter", "ctrl+k", "ctrl+s", "ctrl+y")
        await until_shown(pilot, "there is no text yet")
        assert not services.fake_sampler.requests


async def test_what_the_sampler_refuses_is_one_calm_sentence_and_the_next_prompt_works() -> None:
    services = FakeServices(make_snapshot(), sampler=FakeSampler(failure=InputError("the vocabulary has no é", hint="leave it out")))
    async with opened(services, "prompt") as (app, pilot):
        await pilot.press(*"café", "enter")
        await until_shown(pilot, "✗ the vocabulary has no é. leave it out")
        assert not pane(app).sampling
        services.fake_sampler.failure = WorkerError("the sampler ended (exit code -9)")
        await pilot.press("enter")
        await until_shown(pilot, "✗ the sampler ended (exit code -9)")
        services.fake_sampler.failure = None
        await pilot.press("enter")
        await until_shown(pilot, "café is strong.")


async def test_a_text_can_be_saved_and_copying_never_claims_that_it_arrived() -> None:
    services = FakeServices(make_snapshot())
    async with opened(services, "prompt") as (app, pilot):
        await pilot.press(*"We", "enter")
        await until_shown(pilot, "✓ 3 of 100 tokens")
        await pilot.press("ctrl+s")
        await until_shown(pilot, "saved as /home/plain-otter-sample.txt")
        assert services.saved == [("plain-otter-sample", "We is strong.\n")]
        await pilot.press("ctrl+y")
        await until_shown(pilot, "sent 13 characters to the terminal, which may or may not take them; ^s saves")
        assert app.clipboard == "We is strong."
        await pilot.press("escape", "w")
        await until(pilot, lambda: len(services.saved) == 2)


async def test_the_newest_text_stands_at_the_bottom_and_older_text_is_a_key_away() -> None:
    services = FakeServices(make_snapshot(), sampler=FakeSampler(words=[" word"] * 60))
    async with opened(services, "prompt") as (app, pilot):
        for number in range(4):
            await pilot.press("ctrl+u", *f"prompt {number}", "enter")
            await until(pilot, lambda count=number: len(services.fake_sampler.requests) == count + 1 and not pane(app).sampling)  # type: ignore[misc]
        lines = screen_text(app).splitlines()
        assert "word" in lines[lines.index(next(line for line in lines if "✓ 60 of" in line)) - 2]
        assert not any("prompt 0" in line for line in lines[:16])
        await pilot.press("escape", "home")
        await until_shown(pilot, "prompt 0 word", "more lines")
        await pilot.press("end")
        await until(pilot, lambda: "more lines" not in screen_text(app))


async def test_hostile_prompts_and_texts_are_shown_and_do_nothing() -> None:
    services = FakeServices(make_snapshot(), sampler=FakeSampler(words=["\x1b]0;owned\x07", "\x9b2J", "[/][@click=app.quit]", "‮abc", "\n\r\t\x00"]))
    async with opened(services, "prompt") as (app, pilot):
        pane(app).box.insert("[b]bold[/b] \x1b[31mred\x9b\u202e\x00")
        await pilot.press("enter")
        await until_shown(pilot, "[b]bold[/b] [31mred␛]0;owned␇‹9b›2J[/][@click=app.quit]‹202e›abc", "✓ 5 of 100")
        text = screen_text(app)
        assert not any(ord(character) < 32 and character != "\n" for character in text)
        assert not any(0x7F <= ord(character) < 0xA0 or character == "‮" for character in text)


async def test_another_run_begins_another_conversation() -> None:
    services = FakeServices(make_snapshot(), sampler=FakeSampler(gate=asyncio.Event()))
    async with opened(services, "prompt") as (app, pilot):
        await pilot.press(*"We", "enter")
        await until_shown(pilot, "▌ We is strong.█")
        app.close_run()
        app.open_pane("config")
        await until(pilot, lambda: app.current_mode == "config")
        app.open_pane("prompt")
        await until_shown(pilot, "No run is open.")
        assert not pane(app).sampling
        await until(pilot, lambda: services.fake_sampler.cancelled != [])
        assert "We is strong" not in screen_text(app)


async def test_an_idle_prompt_draws_nothing() -> None:
    async with opened(FakeServices(make_snapshot()), "prompt") as (app, pilot):
        await until_shown(pilot, "@best")
        assert not pane(app).box.cursor_blink
        assert not any(box.cursor_blink for box in pane(app).query(SettingInput))
        assert pane(app)._ticker is None


async def test_without_a_run_letters_and_digits_act_and_the_footer_offers_what_works() -> None:
    async with opened(FakeServices(), "prompt", run=None) as (app, pilot):
        await until_shown(pilot, "No run is open.")
        assert screen_text(app).splitlines()[-1] == " r Runs  n New  q Leave"
        await pilot.press("tab", "r")
        await until(pilot, lambda: app.current_mode == "runs")
        await pilot.press("4", "n")
        await until(pilot, lambda: app.current_mode == "config")


async def test_a_flood_of_typed_characters_goes_in_together_and_enter_behind_it_sends_it_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    services = FakeServices(make_snapshot())
    edits: list[int] = []
    edit = PromptBox.edit

    def counting(box: PromptBox, change: Edit) -> EditResult:
        edits.append(len(change.text))
        return edit(box, change)

    monkeypatch.setattr(PromptBox, "edit", counting)
    async with opened(services, "prompt") as (app, pilot):
        text = "the state of the union " * 40
        for character in text:
            app.post_message(Key("space" if character == " " else character, character).set_sender(app))
        app.post_message(Key("enter", "\r").set_sender(app))
        await until(pilot, lambda: bool(services.fake_sampler.requests))
        assert last_request(services).prompt == text
        assert sum(edits) == len(text)
        assert len(edits) < len(text) / 10


async def test_a_setting_that_was_left_shows_its_value_from_the_start() -> None:
    async with opened(FakeServices(make_snapshot()), "prompt") as (app, pilot):
        await pilot.press(*["tab"] * 9)
        await pilot.pause()
        assert app.focused is pane(app).box
        await until_shown(pilot, "top-p  0.95")


@pytest.mark.parametrize(("text", "said"), [("x", "1 character "), ("xy", "2 characters ")])
async def test_characters_are_counted_in_grammar(text: str, said: str) -> None:
    async with opened(FakeServices(make_snapshot()), "prompt") as (_app, pilot):
        await pilot.press(*text)
        await until_shown(pilot, said)
