"""The config pane: its form by keys, marks and figures, and a run's frozen config."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from textual.events import Key, Paste
from textual.pilot import Pilot

from rnnlm_tui.client.estimate import Estimate, estimate
from rnnlm_tui.schema.cells import CELLS
from rnnlm_tui.schema.config import SECTIONS, RunConfig
from rnnlm_tui.schema.presets import DEMO
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.system.cuda import GpuProblem
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.screens.choose import ChooseScreen
from rnnlm_tui.tui.views.form import FIELDS, idle_fields
from tests.fakes.llama_tokenizer import write_tokenizer
from tests.homes import trained, with_checkpoints
from tests.tui.panes.filling import edit, edited, focused, go, pane, rows, write
from tests.tui.panes.seeing import press, screen_text, until_shown
from tests.tui.support import at_home, until


def footer(app: RnnlmApp) -> str:
    return screen_text(app).splitlines()[-1]


def text_in(app: RnnlmApp, selector: str) -> str:
    """Return the cells of a part of the pane, with single blanks and without its border."""
    region = pane(app).query_one(selector).region
    lines = screen_text(app).splitlines()[region.y : region.bottom]
    return " ".join(" ".join(line[region.x : region.right].strip("│ ") for line in lines).split())


async def gone(pilot: Pilot[int], text: str) -> None:
    await until(pilot, lambda: text not in screen_text(pilot.app))


async def test_fields_of_every_kind_are_walked_unfolded_and_edited_by_keys() -> None:
    async with at_home(None, "config") as (app, pilot):
        for section in (*SECTIONS[1:], SECTIONS[0]):
            first = next(path for path in FIELDS if path.startswith(section))
            await pilot.press("tab")
            await until(pilot, lambda path=first: focused(app) == path)  # type: ignore[misc]
        await pilot.press("shift+tab")
        await until(pilot, lambda: pane(app).form.section == SECTIONS[-1])
        await pilot.press("tab")

        form = pane(app).form
        folded = [path for path in idle_fields(DEMO) if path.startswith("corpus.")]
        await until_shown(pilot, f"{len(folded)} more for news")
        assert not set(folded) & set(rows(app))
        while form.at != "corpus":
            await pilot.press("down")
        await pilot.press("enter")
        await until(pilot, lambda: set(folded) <= set(rows(app)))
        await pilot.press("enter")
        await until(pilot, lambda: not set(folded) & set(rows(app)))
        await pilot.click(offset=(5, 5))  # the third section, and its second field
        await until_shown(pilot, "textbook RNN", "embedding        192")
        for times in (1, 2):
            cells = screen_text(app).splitlines()
            y = next(y for y, line in enumerate(cells) if "  embedding  " in line)
            await pilot.click(offset=(30, y), times=times)
            await until(pilot, lambda: focused(app) == "model.embedding_dim")
        await until(pilot, lambda: form.editing)
        await pilot.click(offset=(39, y))
        assert form.editing
        await pilot.press("escape")
        await go(pilot, "corpus.source")

        for _ in rows(app):
            app.post_message(Key("down", None))
        await until(pilot, lambda: form.at == rows(app)[-1])

        await go(pilot, "model.tie_weights")
        await pilot.press("enter")
        await until(pilot, lambda: not edited(app).model.tie_weights)
        await pilot.press("left")
        await until(pilot, lambda: edited(app).model.tie_weights)

        await go(pilot, "model.cell_type")
        await press(pilot, "enter", *(cell.summary for cell in CELLS.values()))
        await pilot.press("escape")
        await go(pilot, "schedule.kind")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, ChooseScreen))
        await pilot.press("up", "enter")
        await until(pilot, lambda: edited(app).schedule.kind == "constant")
        await until_shown(pilot, "3 more for cosine, decay")
        await pilot.press("u")

        await write(pilot, "training.max_steps", "700")
        await until_shown(pilot, "was by epochs")
        assert "training.epochs" not in rows(app)  # max steps is set
        await edit(pilot, "training.max_steps")
        await pilot.press("backspace", "enter")
        await until(pilot, lambda: edited(app) == DEMO)

        # an edited field stays visible with its text when the terminal is resized
        await edit(pilot, "sampling.seed")
        await pilot.press(*"271828")
        for size in ((120, 40), (60, 15), (80, 24)):
            await pilot.resize_terminal(*size)
            title = "Configuration" if size[0] == 120 else "Sampling ──"
            await until_shown(pilot, "271828", title)
        await pilot.press("enter")
        await until(pilot, lambda: edited(app).sampling.seed == 271_828)
        assert focused(app) == "sampling.seed"


async def test_changes_and_problems_are_marked_counted_and_gone_through() -> None:
    async with at_home(None, "config") as (app, pilot):
        await until_shown(pilot, "draft, not started")
        await go(pilot, "training.seed")
        await until(pilot, lambda: "enter Edit" in footer(app))
        await pilot.press("enter", "9")
        await until(pilot, lambda: "enter Keep" in footer(app) and "esc Cancel" in footer(app))
        assert "Start" not in footer(app)
        await pilot.press("escape", "escape", "escape")
        await until(pilot, lambda: "enter Edit" in footer(app) and "esc Cancel" not in footer(app))
        assert focused(app) == "training.seed"
        for key, words in (
            ("s", "s is a key of Train: 2, then s: sample now"),
            ("d", "d is a key of Runs: r, then d"),
        ):
            await pilot.press(key)
            await until(pilot, lambda words=words: words in footer(app))  # type: ignore[misc]

        await write(pilot, "optimizer.learning_rate", "5.5e-3")
        await until_shown(pilot, "● peak rate", "was 3e-3", "● 1 changed from preset demo")
        assert edited(app).optimizer.learning_rate == 5.5e-3
        await pilot.press("u")
        await gone(pilot, "was ")
        assert edited(app) == DEMO
        assert "above 0, at most 1 " in text_in(app, "#form")
        pane(app).form.set_values({"optimizer.algorithm": "sgd"})
        await until_shown(pilot, "above 0, at most 1,000")
        await pilot.press("f6")

        await go(pilot, "model.dropout")
        await press(pilot, ["enter", *"1.5"], "✗ 1 problem", "✗ is 1.5, must be at most 0.99")
        assert edited(app) == DEMO
        await pilot.press("escape")
        await gone(pilot, "✗ 1 problem")
        await write(pilot, "sampling.temperature", "0.001")
        await write(pilot, "model.hidden_size", "wide")
        await until_shown(pilot, "✗ 2 problems", "must be a whole number")
        await press(pilot, "g", "must be at least 0.01")
        assert pane(app).form.section == "sampling"
        await pilot.press("u", "g")
        await until(pilot, lambda: pane(app).form.section == "model")
        await press(pilot, "u g", "no problems")

        # a problem is shown once and in full, also of a folded field
        await write(pilot, "optimizer.learning_rate", "3,5")
        await until_shown(pilot, "✗ is '3,5', must be a number; write 3.5: use a decimal")
        assert text_in(app, "#form").count("must be a number") == 1
        await pilot.press("down")
        await gone(pilot, "write 3.5")
        assert text_in(app, "#form").count("✗ must be a number") == 1
        form = pane(app).form
        form.set_values({"corpus.url": "news.example"})
        await go(pilot, "corpus.source")
        wanted = "✗ must start with http:// or https:// and contain only printable ASCII "
        await until(pilot, lambda: wanted in text_in(app, "#form"))
        await pilot.press("g")
        assert focused(app) == "corpus.url"
        await pilot.press("u")
        await go(pilot, "corpus.source")
        await until(pilot, lambda: "corpus.url" not in rows(app))


async def test_the_figures_follow_typing_and_none_is_invented(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    figures: dict[str, Any] = {}

    def measured(config: RunConfig) -> Estimate:
        return replace(estimate(config), **figures)

    monkeypatch.setattr("rnnlm_tui.client.estimate.estimate", measured)
    monkeypatch.setattr("rnnlm_tui.tui.poller.MACHINE_SECONDS", 600.0)  # which draws all again
    async with at_home(None, "config") as (app, pilot):
        before = "543,104"
        await until_shown(pilot, before, "known once the corpus is built")
        await write(pilot, "model.num_layers", "9")
        await until_shown(pilot, "1,060,544")
        await write(pilot, "model.num_layers", "0")
        await until_shown(pilot, "✗ 1 problem", before)
        await pilot.resize_terminal(120, 40)
        await until_shown(pilot, before, "out of date")
        await press(pilot, "u", before, " live ")

        size = {"memory_bytes": 30 * 2**40, "memory_free": 20 * 2**30, "largest_fitting_batch": 12}
        known = {"memory_measured": True, "calibrated_by": "probe", "calibrated_run": None}
        large = ("GiB measured", "batch_size = 12 should fit", "based on a probe")
        gpu = GpuProblem("torch 2.13.0+cpu is built without CUDA", "install one with CUDA: pip")
        notes = (
            "3 lines longer than 65,536 characters split",
            "2 other files in the folder ignored",
        )
        whole = (f"! CPU, not GPU: {gpu.fact} ! {gpu.fix}", *(f"! {note}" for note in notes))
        for seed, more, wide, small in (
            ("7", {**size, **known, "steps": 100, "seconds": 100.0}, large, large),
            ("8", {"unused_gpu": gpu, "notes": notes}, whole, ("can't use the GPU: see doctor",)),
        ):
            figures.update(more)
            await write(pilot, "training.seed", seed)
            for cells, texts in (((160, 48), wide), ((80, 24), small)):
                await pilot.resize_terminal(*cells)
                await until(pilot, lambda: all(it in text_in(app, "#gives") for it in texts))  # noqa: B023


async def test_a_runs_config_is_frozen_and_a_key_makes_a_new_one_from_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VISUAL", "no-such-editor-here --wait")
    config = parse_config(merge(RunConfig(), {"training.seed": 99}))
    with_checkpoints(trained("plain-otter", config=config), {2: 4.2, 3: 4.1})
    keymap = 'new_from_run = "B"\nnext_comparison = "Y"\n'  # texts name the user's keys
    async with at_home("plain-otter", "config", keymap=keymap) as (app, pilot):
        await until_shown(pilot, "plain-otter ✓ finished", "2 checkpoints kept")
        await until_shown(pilot, "frozen  B makes a new run from it")
        await go(pilot, "training.seed")
        for key in ("enter", "f4", "f6", "A", "b"):
            await press(pilot, key, "a run's config never changes: B makes a new run")
            await press(pilot, "g", "no problems")
        await press(pilot, "u left f5", "this run has started")
        assert not pane(app).form.draft.changes
        await press(pilot, "Y Y", "Only what differs from preset demo", "demo 42")
        await press(pilot, "Y Y", "no other run to compare with")
        assert pane(app).locked

        await press(pilot, "w", "plain-otter.toml")
        await pilot.press("escape")

        await press(pilot, "B", "○ draft, not started")
        await press(pilot, "Y", "No field differs from plain-otter: Y shows other")
        await press(pilot, "f4", "no-such-editor-here")
        await press(pilot, "B", "this is a new run already")
        await pilot.press("Y", "Y", "Y")
        await write(pilot, "training.seed", "100")
        await until_shown(pilot, "● 1 changed from plain-otter", "was 99")


async def test_a_text_or_a_tokenizer_is_typed_pasted_completed_or_chosen_by_browsing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "shelf"
    for name in ("novels", ".hidden"):
        (folder / name).mkdir(parents=True)
    (folder / "novels" / "emma.txt").write_text("Emma Woodhouse, handsome, clever, and rich.\n" * 9)
    (folder / "novels" / "bad.txt").write_bytes(b"\0\xff")
    (folder / "notes.txt").write_text("A note.\n")
    (folder / "dangling").symlink_to(folder / "nowhere")
    size = write_tokenizer(folder / "tok", ["the cat sat on the mat and the dog ran"] * 20, 300)
    monkeypatch.chdir(folder)
    async with at_home(None, "config") as (app, pilot):
        await edit(pilot, "corpus.source")
        await press(pilot, "n tab", "news", "notes.txt", "novels/")
        await pilot.press("o", "v", "tab", "e", "tab")
        await until(pilot, lambda: edited(app).corpus.source == "novels/emma.txt")
        await pilot.press("tab")  # nothing to complete
        await until(pilot, lambda: focused(app) == "tokenizer.kind")
        await edit(pilot, "corpus.source")
        await pilot.press("n", "left", "tab")  # nor in front of a text
        await until(pilot, lambda: focused(app) == "tokenizer.kind")
        assert edited(app).corpus.source == "n"

        await go(pilot, "corpus.source")
        pane(app).form.set_values({"corpus.source": "x[/]"})
        await press(pilot, "down", "no file matches")

        editor = await edit(pilot, "corpus.source")
        await pilot.press("ctrl+u")
        editor.post_message(Paste("/data/\x1b]0;x\x07a.txt\x9b"))
        await pilot.press("enter")
        await until(pilot, lambda: edited(app).corpus.source == "/data/]0;xa.txt")
        editor = await edit(pilot, "corpus.source")
        await pilot.press("ctrl+u")
        editor.post_message(Paste("/data/می\u200cخواهم"))
        editor.post_message(Key("zero_width_joiner", "\u200d"))
        await pilot.press("enter")
        joined = "/data/می\u200cخواهم\u200d"
        await until(pilot, lambda: edited(app).corpus.source == joined)
        await pilot.press("u")

        keys = [*["tab"] * 5, "down", "enter", *"9000", "backspace", "enter", "down", "down"]
        for key in (*keys, "enter", *"64", "tab", "tab"):  # at once
            app.post_message(Key(key, key if len(key) == 1 else None))
        await until(pilot, lambda: focused(app) == "evaluation.every")
        assert (edited(app).training.max_steps, edited(app).training.batch_size) == (900, 64)

        # a text and a tokenizer are chosen by browsing
        pane(app).form.set_values({"corpus.source": "notes.txt"})  # which is read fast
        await go(pilot, "tokenizer.kind")
        await pilot.press("left")  # words, which needn't be learned
        await go(pilot, "corpus.source")
        await press(pilot, "b", "Choose a text", "novels/", "notes.txt", "dangling")
        await until_shown(pilot, "all texts of this folder")
        assert ".hidden" not in screen_text(app)
        await press(pilot, "pagedown", "presidents", "built in")
        await pilot.press(*"nov")
        await until(pilot, lambda: "notes.txt" not in screen_text(app))
        await press(pilot, "enter", "emma.txt", "bad.txt", "NUL")
        await press(pilot, "down", "first lines as tokens", "Emma·Woodhouse")
        await pilot.press("left")  # the folder above, with the cursor where it was
        await until_shown(pilot, "notes.txt")
        await press(pilot, "right", "emma.txt")
        await until(pilot, lambda: "notes.txt" not in screen_text(app))
        await pilot.press("down", "enter")
        path = str(folder / "novels" / "emma.txt")
        await until(pilot, lambda: edited(app).corpus.source == path)
        assert focused(app) == "corpus.source"
        await pilot.press("f6", "f6")  # a BPE learns from the text
        await go(pilot, "corpus.source")
        await press(pilot, "b", "notes.txt")
        await press(pilot, [*"notes"], "too small for a BPE", "first lines as words, until")
        await press(pilot, [*"xyz"], "No matches found")
        await pilot.press("enter", "escape")
        await until(pilot, lambda: app.screen is app.pane_screen)
        assert edited(app).corpus.source == "notes.txt"

        # a tokenizer, whose kind follows
        await pilot.resize_terminal(120, 40)
        await go(pilot, "tokenizer.vocab_size")
        await press(pilot, "b", "Choose a tokenizer", "tok/", "novels/")
        assert "notes.txt" not in screen_text(app)
        await pilot.press(*"nov")
        await until(pilot, lambda: "tok/" not in screen_text(app))
        (folder / "novels").rename(folder / "moved")
        await press(pilot, "enter", "can't list")
        await press(pilot, ["ctrl+u", *"tok"], "first lines as tokens", "A·")
        await pilot.press("enter")
        await until(pilot, lambda: edited(app).tokenizer.name == str(folder / "tok"))
        assert edited(app).tokenizer.kind == "pretrained"
        # it sets the size of the vocabulary, unless the user does

        async def vocabulary(size: int) -> None:
            draft = pane(app).form
            await until(pilot, lambda: draft.draft.value("tokenizer.vocab_size") == size)

        await vocabulary(size)
        await go(pilot, "tokenizer.kind")
        await pilot.press("left")
        await vocabulary(2_048)
        await pilot.press("right")
        await vocabulary(size)
        await until(pilot, lambda: not pane(app)._check.problems)
        await write(pilot, "tokenizer.vocab_size", "500")
        await until_shown(pilot, "500", "✗")
        await vocabulary(500)
