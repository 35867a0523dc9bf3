"""The prompt pane by keys: sample, continue, draw again, edit, undo, follow the run, and what goes
wrong."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from time import monotonic, time

import pytest

from rnnlm_tui import client
from rnnlm_tui.errors import CheckpointError, InputError, RunStateError, WorkerError
from rnnlm_tui.schema.metrics import EvaluationRow, EventRow
from rnnlm_tui.schema.presets import DEMO
from rnnlm_tui.schema.sampling import SamplePiece, SampleRequest
from rnnlm_tui.store.checkpoints import remove_checkpoint
from rnnlm_tui.store.kept_samples import search
from rnnlm_tui.store.log import Row, RunLog
from rnnlm_tui.store.paths import RunDirectory, samples_file
from rnnlm_tui.store.state import read_history
from rnnlm_tui.system.locks import folder_lock
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.screens import studio
from rnnlm_tui.tui.views import sample_tree
from rnnlm_tui.tui.widgets import transcript
from rnnlm_tui.tui.widgets.settings_row import SettingInput
from tests.fakes.answers import token_id
from tests.tui.fakes import FakeSampler
from tests.tui.panes.asking import (
    drawn,
    pane,
    run_at_home,
    sampled,
    sampling,
    words,
    worker_writes_snapshots,
)
from tests.tui.panes.seeing import press, screen_text, until_shown
from tests.tui.support import until


async def test_a_prompt_is_sampled_continued_drawn_again_edited_and_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = run_at_home()
    async with sampling(run=run) as (app, pilot, sampler):
        session = app.prompt_session
        # before the first text
        await until_shown(pilot, "Type a prompt and press enter", "@best step 3,700, val 58.1")
        boxes = [pane(app).box, *pane(app).query(SettingInput)]
        assert not any(box.cursor_blink for box in boxes), "an idle prompt draws nothing"
        await press(pilot, "f6 ctrl+y", "no text yet")
        empty = await drawn(app, pilot, sampler, "enter")
        assert (empty.prompt, empty.state) == ("", "")
        assert read_history() == []
        # sample, with the run's settings
        await press(pilot, [*"We"], "2 characters ")
        assert (session.shown.prompt, len(session.shown.ids)) == ("", 2)
        first = await drawn(app, pilot, sampler, "enter")
        assert first.checkpoint == str(run.path / "checkpoints/step-000003700")
        assert (first.prompt, first.count, first.settings) == ("We", 1, DEMO.sampling)
        await until_shown(pilot, "We s7t0 end", "✓ 2 of 100 tokens", "62 tok/s", "4.1 bits/token")
        await until_shown(pilot, "2 characters, 5 tokens")
        assert pane(app).box.text == "We"
        assert session.shown.ids == (token_id(" s7t0"), token_id(" end"))
        assert session.shown.weights.path == first.checkpoint
        # continue from its tokens with its seed, undo and redo
        longer = await drawn(app, pilot, sampler, "f3")
        await until_shown(pilot, "We s7t0 end s7t2 end")
        assert (longer.prompt, longer.settings.seed) == ("We", 7)
        assert longer.ids == (token_id(" s7t0"), token_id(" end"))
        await until(pilot, lambda: " s7t0 end s7t2 end" in {kept.text for kept in search()})
        await press(pilot, "f6", "We s7t0 end   ")
        await press(pilot, "f6", "nothing to undo")
        await press(pilot, "shift+f6", "We s7t0 end s7t2 end")
        await press(pilot, "shift+f6", "nothing to redo")
        # draw the continuation again from where it began
        assert len((await drawn(app, pilot, sampler, "ctrl+r")).ids) == 2
        await until_shown(pilot, "We s7t0 end s8t2 end", "4 tokens · seed 8", "2 of 2")
        # draw the first text again: siblings, with the figures of the one that is shown
        await drawn(app, pilot, sampler, "f6", "ctrl+r")
        await until_shown(pilot, "We s9t0 end", "2 tokens · seed 9 · step 3,700 · 2 of 2")
        assert "We s7t0" not in screen_text(app)
        first_figures, second_figures = (f"4.1 bits/token   seed {seed}" for seed in (7, 9))
        await press(pilot, "f6", first_figures)
        await press(pilot, "shift+f6", second_figures)
        await press(pilot, "escape left", "We s7t0 end", "1 of 2", first_figures)
        await press(pilot, "left", "We s9t0 end", "2 of 2", second_figures)
        # edit
        await press(pilot, "right f4", "Edit the text", "enter Continue from here", "esc Discard")
        assert pane(app).box.text == "We s7t0 end"
        await pilot.press("backspace", "backspace", "backspace", *"now")
        edited = await drawn(app, pilot, sampler, "enter")
        assert (edited.prompt, edited.ids) == ("We s7t0 now", ())
        await until_shown(pilot, "We s7t0 now s9t0 end")
        assert pane(app).box.text == "We"
        await pilot.press("f6")
        await until(pilot, lambda: "now" not in screen_text(app))
        await pilot.press(*" the", "f4", *" changed", "escape")
        await until(pilot, lambda: pane(app).box.text == "We the")
        assert "changed" not in screen_text(app)
        assert app.focused is pane(app).box
        unchanged = await drawn(app, pilot, sampler, "f4", "enter")
        assert len(unchanged.ids) == 2, "it is continued"
        # another prompt in the box is a new text
        await drawn(app, pilot, sampler, "ctrl+r")
        await until_shown(pilot, "We s7t0 end s7t2 end", "We the s10t0 end")
        # save and copy
        await press(pilot, "ctrl+s", "saved as")
        assert Path("plain-otter-sample.txt").read_text() == "We the s10t0 end\n"
        await press(pilot, "ctrl+y", "copied 16 characters (if your terminal allows it); ^s saves")
        assert app.clipboard == "We the s10t0 end"
        await pilot.press("escape", "ctrl+s")
        await until(pilot, lambda: len(list(Path.cwd().glob("plain-otter-sample*"))) == 2)
        await until(pilot, lambda: read_history() == ["We", "We the"])
        # another mode's branch is shown
        session.tree.add(session.shown.continued(session.settings, session.weights))
        session.shown.text, session.shown.drawing = " else", None
        await pilot.press("3")
        await until(pilot, lambda: app.current_mode == "checkpoints")
        await press(pilot, "4", "We the else")


async def test_a_running_text_is_stopped_first_with_the_keys_of_the_keymap() -> None:
    keymap = 'leave_field = "f10"\nnew_seed = "f12"\nshow_runs = "f11"\n'
    sampler = FakeSampler(gate=asyncio.Event(), texts=words)
    async with sampling(sampler, keymap=keymap) as (app, pilot, _):
        await press(pilot, [*"We", "enter"], "▌ We s7t0 end█", "F10 Stop", "● 2 of 100 tokens")
        for key in ("enter", "f3", "f12", "f6", "ctrl+o"):
            pane(app).end_notice()
            await press(pilot, key, "already sampling, F10 stops it")
        await press(pilot, "f10", "■ 2 of 100 tokens, stopped", "enter Generate")
        assert "▌" not in screen_text(app)
        assert app.focused is pane(app).box
        await press(pilot, "f10 right", "no other branch: F12 draws one")
        sampler.gate = None
        await press(pilot, "f3", "We s7t0 end s7t2 end")
        await until(pilot, lambda: {kept.reason for kept in search()} == {"length", "cancelled"})
        # the notice about a running sample ends with it
        sampler.gate = asyncio.Event()
        await pilot.press("enter", "enter")
        await until(pilot, lambda: len(sampler.requests) == 3)
        await press(pilot, "enter", "already sampling, F10 stops it")
        sampler.gate.set()
        await sampled(app, pilot, sampler, 3)
        await until_shown(pilot, "enter Generate")
        assert "already sampling" not in screen_text(app)
        # another run ends the sample and starts a new transcript
        sampler.gate = asyncio.Event()
        await press(pilot, "enter", "We s7t0 end█")
        app.close_run()
        app.open_pane("config")
        await until(pilot, lambda: app.current_mode == "config")
        app.open_pane("prompt")
        await until_shown(pilot, "No run open.", "F11 lists the runs.")
        assert not pane(app).sampling
        await until(pilot, lambda: len(sampler.cancelled) == 2)
        assert "s7t0" not in screen_text(app)
        footer = screen_text(app).splitlines()[-1]
        assert footer == " F11 Runs  ^p Palette  F1 Keys  ^q Leave"
        await press(pilot, "tab r enter", "no run open: F11 lists the runs")
        assert pane(app).box.text == "Wer"
        await pilot.press("f11")
        await until(pilot, lambda: app.current_mode == "runs")


async def test_several_samples_are_one_request_below_or_beside_each_other() -> None:
    async with sampling() as (app, pilot, sampler):
        await drawn(app, pilot, sampler, *["tab"] * 7, "3", "enter", *"We", "enter")
        await until_shown(pilot, "› 1  s7t0 end", "  2  s8t0 end", "  3  s9t0 end", "1 of 3")
        await until_shown(pilot, "✓ 3 samples   6 of 300 tokens", "samples  3")
        await press(pilot, "escape right right", "› 3  s9t0 end", "seed 9", "3 of 3")
        await press(pilot, "f6", "› 2  s8t0 end", "seed 8", "2 of 3")
        # one of them is continued, and its continuation drawn again
        await drawn(app, pilot, sampler, "f3")
        await until_shown(pilot, "We s8t0 end s8t2 end")
        await drawn(app, pilot, sampler, "ctrl+r")
        await until_shown(pilot, "We s8t0 end s10t2 end", "2 of 2")
        assert [request.count for request in sampler.requests] == [3, 1, 1]
        await until(pilot, lambda: {kept.seed for kept in search()} == {7, 8, 9, 10})
        # beside each other
        await app.screen.run_action("screen.side_by_side")
        await until_shown(pilot, "samples of one request are beside each other")
        await pilot.resize_terminal(120, 40)
        await pilot.press("f6", "f6")
        # each request draws a random seed, but a continuation keeps its own
        await pilot.press("f4", "escape", *["tab"] * 6, *"random", "enter")
        for _ in range(2):
            await drawn(app, pilot, sampler, "enter")
        seeds = [request.settings.seed for request in sampler.requests]
        assert seeds[3] != seeds[4]
        assert (await drawn(app, pilot, sampler, "f3")).settings.seed == seeds[4]
        saved = {"samples": 3, "random_seed": True, "side_by_side": True}
        assert app.settings["prompt"] == saved


async def test_seed_and_checkpoint_change_by_key_and_a_slow_disk_delays_no_text() -> None:
    async with sampling() as (app, pilot, sampler):
        weights = "step 3,000, val 60.7", "step 2,000", "step 1,000", "@now", "@last step 3,750"
        for words in (*weights, "@best step 3,700", weights[0]):
            await press(pilot, "ctrl+k", words)
        await until(pilot, lambda: sampler.loaded[-1].endswith("step-000003000"))
        await pilot.press("ctrl+r")
        assert sampler.requests == []
        await drawn(app, pilot, sampler, "x", "ctrl+r")
        await drawn(app, pilot, sampler, "ctrl+r")
        assert [request.settings.seed for request in sampler.requests] == [9, 10]
        assert sampler.requests[-1].checkpoint.endswith("step-000003000")
        assert sampler.requests[-1].prompt == "x"
        samples = samples_file()
        await until(pilot, lambda: len(search()) == 2)
        with folder_lock(samples.parent):  # every write waits for it
            await drawn(app, pilot, sampler, "f3")
            await drawn(app, pilot, sampler, "f3")
            await until_shown(pilot, "x s10t0 end s10t2 end s10t4 end", "✓ 2 of 100 tokens")
            assert len(search()) == 2
        await until(pilot, lambda: [kept.tokens for kept in search()] == [6, 4, 2, 2])
        samples.unlink()
        samples.mkdir()
        await press(pilot, "f3", "s10t6 end", "can't write")


async def test_an_error_is_one_sentence_and_the_next_prompt_works() -> None:
    class Dying(FakeSampler):
        async def generate(self, request):  # type: ignore[no-untyped-def]
            async for answer in super().generate(request):
                yield answer
                if self.texts is not None:
                    raise WorkerError("the sampler exited (exit code -9)")

    run = run_at_home()
    async with sampling(Dying(words=[" word" * 5_000]), run) as (app, pilot, sampler):
        unknown = InputError("the vocabulary has no é", hint="leave it out")
        sampler.answers[SampleRequest] = unknown
        await pilot.press(*"café", "enter")
        await until_shown(pilot, "✗ the vocabulary has no é. leave it out", "✗ no text")
        assert not pane(app).sampling
        sampler.answers.clear()
        await drawn(app, pilot, sampler, "ctrl+u", *"We", "enter")
        await press(pilot, "f4", "the text has 25,002 characters", "at most 20,000")
        # a text that a killed sampler left is kept and can be continued
        sampler.texts = words
        await pilot.press("enter")
        await until_shown(pilot, "We s7t0", "✗ the sampler exited (exit code -9)", "✗ incomplete")
        sampler.texts, sampler.words = None, (" is", " strong")
        await press(pilot, "f3", "We s7t0 is strong")
        assert sampler.requests[-1].prompt == "We s7t0"
        assert "exit code" not in screen_text(app)
        # a checkpoint that is deleted meanwhile: the best one is next
        await press(pilot, "ctrl+k", "step 3,000, val 60.7")
        gone = CheckpointError("step-000003000 has no manifest.json")
        sampler.answers[SampleRequest] = gone
        await press(pilot, "enter", "✗ step-000003000 has no manifest.json")
        sampler.answers.clear()
        remove_checkpoint(run, 3_000)
        await until_shown(pilot, "the chosen checkpoint was deleted", "@best step 3,700")
        await press(pilot, "enter", "We is strong")
        assert "manifest" not in screen_text(app).splitlines()[-8]


async def test_a_run_that_trains_is_sampled_from_snapshots_after_each_evaluation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent = worker_writes_snapshots(monkeypatch)
    run = run_at_home()

    def append(*rows: Row) -> None:
        with RunLog(run, 1) as log:
            log.append(*rows)

    def evaluation(step: int) -> EvaluationRow:
        return EvaluationRow(1, step, "validation", "validation", 4.2, 20_000, 1.7, 0.4, time())

    async with sampling(run=run, size=(120, 40)) as (app, pilot, sampler):
        await press(pilot, ["ctrl+k"] * 4, "@now current weights")
        await press(pilot, [*"We", "enter"], "We s7t0 end", "@now step 3,752, ")
        await until_shown(pilot, " s ago")
        assert app.prompt_session.shown.weights.label == "now, step 3,752"
        # follow
        await press(pilot, "ctrl+f", "sampling after each evaluation, ^f ends it")
        await sampled(app, pilot, sampler, 2)
        await until_shown(pilot, "Sampling, after each evaluation")
        assert sampler.requests[-1].checkpoint.endswith("snapshots/step-000003752-aa")
        append(evaluation(3_500))
        await sampled(app, pilot, sampler, 3)
        assert {request.settings.seed for request in sampler.requests} == {7}
        assert sent == ["snapshot"] * 3
        await press(pilot, "ctrl+f", "no longer sampling after each evaluation")
        assert "Sampling, after" not in screen_text(app)
        # following ends with the run, after a sample of its last checkpoint
        await drawn(app, pilot, sampler, "ctrl+f")
        append(evaluation(3_750), EventRow(1, 3_750, "finished", "", time()))
        await sampled(app, pilot, sampler, 5)
        await until_shown(pilot, "plain-otter is finished: following ended", "@last step 3,750")
        assert sampler.requests[-1].checkpoint.endswith("checkpoints/step-000003750")
        await press(pilot, "ctrl+f", "the run is not training: nothing to follow")
        assert "Sampling, after" not in screen_text(app)
        # the last checkpoint stays chosen
        append(evaluation(3_751))
        await until(pilot, lambda: app.snapshot and app.snapshot.evaluations[-1].step == 3_751)
        await until_shown(pilot, "@last step 3,750")


async def test_without_a_checkpoint_the_current_weights_are_sampled_unless_escape_comes_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written = threading.Event()
    sent, run = worker_writes_snapshots(monkeypatch, written), run_at_home(losses={})
    async with sampling(FakeSampler(waking=asyncio.Event(), texts=words), run) as (
        app, pilot, sampler,
    ):  # fmt: skip
        await until_shown(pilot, "@now", "No checkpoint yet: enter samples from the current")
        # escape drops a request while the sampler wakes, and while a snapshot is written
        written.set()
        await press(pilot, "x enter", "loading the model", "esc Stop")
        await press(pilot, "escape", "■ stopped before the first token")
        assert not pane(app).sampling
        assert sampler.waking is not None
        sampler.waking.set()
        await press(pilot, "enter", "x s7t0 end", "✓ 2 of 100 tokens")
        written.clear()
        await pilot.press("enter")
        await until(pilot, lambda: sent == ["snapshot"] * 3)
        await press(pilot, "escape", "■ stopped before the first token")
        written.set()
        await app.workers.wait_for_complete([one for one in app.workers if one.group == "sample"])
        [request] = sampler.requests
        assert request.checkpoint == str(run.path / "snapshots/step-000003752-aa")

        def ended(_run: RunDirectory, _verb: str) -> None:
            raise RunStateError("plain-otter is not running", hint="resume it")

        monkeypatch.setattr(client.control, "send", ended)
        await press(pilot, "enter", "✗ plain-otter is not running. resume it", "✗ no text")
        assert not pane(app).sampling
    async with sampling(run=run, trains=False) as (_app, pilot, sampler):
        await until_shown(pilot, "plain-otter has no checkpoint to sample from")
        await press(pilot, "x enter ctrl+k ctrl+s ctrl+y", "no text yet")
        await press(pilot, "ctrl+o", "no run has a checkpoint yet")
        assert sampler.requests == []


async def test_the_newest_text_is_at_the_bottom_and_keys_scroll_to_older_ones() -> None:
    async with sampling(FakeSampler(words=[" word"] * 60)) as (app, pilot, sampler):
        for number in range(4):
            await drawn(app, pilot, sampler, "ctrl+u", *f"prompt {number}", "enter")
        lines = screen_text(app).splitlines()
        assert "word" in lines[lines.index(next(line for line in lines if "✓ 60 of" in line)) - 2]
        assert not any("prompt 0" in line for line in lines[:16])
        for field in ("prompt-box", "setting-top_p"):  # from inside a field
            app.screen.set_focus(app.screen.query_one(f"#{field}"))
            await press(pilot, "pageup pageup", "prompt 0 word", "more lines")
            await pilot.press("pagedown", "pagedown")
            await until(pilot, lambda: "more lines" not in screen_text(app))
        await press(pilot, "escape escape home", "prompt 0", "more lines")
        await pilot.press("end")
        await until(pilot, lambda: "more lines" not in screen_text(app))
        # of several that have no room, the current one is in sight
        sampler.words = [" word"] * 150
        await press(pilot, [*["tab"] * 7, "3", "enter", "enter"], "› 1  word", "more lines")


async def test_text_that_comes_fast_is_shown_less_often_and_scrolls_by_several_lines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sampler = FakeSampler(gate=asyncio.Event(), texts=words)
    async with sampling(sampler, size=(120, 40)) as (app, pilot, _):
        await press(pilot, [*"We", "enter"], "We s7t0 end█")
        screen, drawing = pane(app), pane(app).drawing
        assert drawing is not None
        start = now = monotonic()
        for module in (studio, transcript, sample_tree):
            monkeypatch.setattr(module, "monotonic", lambda: now)
        monkeypatch.setattr(RnnlmApp, "is_headless", False)  # so that cells are sent
        before = screen.cells_sent
        for second in range(1, 5):
            for tenth in range(10):
                now = start + second + tenth / 10
                text = "".join(f" word {tenth * tenth + word}" for word in range(300))
                drawing.take(SamplePiece(id="1", text=text, tokens=200))
                screen.show_drawing(drawing)
                await pilot.pause()
        assert " tok/s   first token" in screen_text(app)
        cells = screen.cells_sent - before
        assert screen.CELLS_PER_SECOND <= cells / 4 <= 8 * 1_024

        def line() -> int:
            found = screen_text(app).splitlines()
            return next(at for at, text in enumerate(found) if "█" in text and "│" in text)

        places = []
        for _ in range(5):
            drawing.take(SamplePiece(id="1", text="\nmore", tokens=200))
            screen.transcript.redraw()
            await pilot.pause()
            places.append(line())
        assert places[2:] == sorted(set(places[2:]))
        # what is read further up stays in its place
        await press(pilot, "pageup", "more lines")
        above = screen.transcript.lines[:-2]
        for text in ("", "\nmore"):
            drawing.take(SamplePiece(id="1", text=text, tokens=200))
            screen.transcript.redraw()
            await pilot.pause()
            assert screen.transcript.lines[:-2] == above
        await press(pilot, "escape", "■ 2 of 100 tokens, stopped")
