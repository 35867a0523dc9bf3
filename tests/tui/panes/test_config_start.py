"""Starting, saving, queueing and forking a draft: what blocks it, and what this machine refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from rnnlm_tui.errors import WorkerError
from rnnlm_tui.schema.presets import DEMO
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.store.lineage import STATE_FILES, read_parent
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.queue import read_queue
from rnnlm_tui.store.runs import list_runs
from rnnlm_tui.tui.views.form import Draft, DraftParent
from tests.fakes.llama_tokenizer import write_tokenizer
from tests.homes import queue_in_use, tensor_file, trained, with_checkpoints
from tests.tui.panes.filling import edited, focused, go, pane, press, write
from tests.tui.panes.seeing import screen_text, until_shown
from tests.tui.support import at_home, until


async def test_a_draft_is_saved_refused_with_its_reason_queued_or_started_under_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("A line of a text.\n" * 200)
    failures = [WorkerError("the worker failed to start", hint="its log: x")]
    started: list[RunDirectory] = []

    def launch(run: RunDirectory) -> None:
        if failures:
            raise failures.pop()
        started.append(run)

    monkeypatch.setattr("rnnlm_tui.client.start.resume", launch)
    with queue_in_use():
        async with at_home(None, "config") as (app, pilot):
            await until(pilot, lambda: pane(app).run_name != "")
            name = pane(app).run_name
            await until_shown(pilot, f"{name} ○ draft, not started")
            await press(pilot, "ctrl+s", shows=f"{name} saved, F5 starts it")
            [draft] = list_runs()
            assert draft.name == name
            await until(pilot, lambda: app.run_directory == draft)

            await write(pilot, "training.batch_size", "0")
            for key in ("f5", "Q"):
                await go(pilot, "corpus.source")
                await press(pilot, key, shows="Fix 1 problem before starting")
                assert focused(app) == "training.batch_size"
            await pilot.press("u")
            await write(pilot, "corpus.source", "./gone.txt")
            await go(pilot, "training.epochs")
            await until_shown(pilot, "✗  Corpus")
            await press(pilot, "f5", shows=("gone.txt not found", "✗ not started: see source"))
            assert focused(app) == "corpus.source"

            await write(pilot, "corpus.source", "./text.txt")
            await write(pilot, "training.device", "cuda:77")
            for key in ("f5", "Q"):
                await go(pilot, "training.epochs")
                await press(pilot, key, shows=("see device", 'no device "cuda:77"'))
                assert focused(app) == "training.device"
            await write(pilot, "training.device", "auto")
            await until(pilot, lambda: 'no device "cuda:77"' not in screen_text(app))
            await write(pilot, "training.seed", "43")
            await press(pilot, "f5", shows="the worker failed to start")
            assert edited(app).training.seed == 43
            assert app.current_mode == "config"
            await press(pilot, "f5", shows=f"✓ {name} started")
            assert app.current_mode == "train"
            assert started == [draft]
            assert draft.read_config().training.seed == 43

            await app.new_draft_from(name)
            await until(pilot, lambda: pane(app).run_name not in ("", name))
            await press(pilot, "Q", shows="waits in the queue, place 1")
            [queued, _] = list_runs()
            assert [entry.run for entry in read_queue().entries] == [queued.name]
            assert app.draft is None
            assert app.current_mode == "config"
            await press(pilot, "Q", shows=f"{queued.name} is in the queue already")


async def test_a_pretrained_tokenizer_sets_its_size_unless_the_user_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    texts = ["the cat sat on the mat and the dog ran"] * 20
    size = write_tokenizer(tmp_path / "pieces", texts, 300)
    async with at_home(None, "config") as (app, pilot):

        async def vocabulary(size: int) -> None:
            path = "tokenizer.vocab_size"
            await until(pilot, lambda: (it := pane(app).shown) and it.value(path) == size)

        await go(pilot, "tokenizer.kind")
        await pilot.press("right")
        await write(pilot, "tokenizer.name", "pieces")
        await vocabulary(size)
        await until(pilot, lambda: not pane(app)._check.blocking)
        await go(pilot, "tokenizer.kind")
        await pilot.press("left")
        await vocabulary(2_048)
        await pilot.press("right")
        await vocabulary(size)
        await write(pilot, "tokenizer.vocab_size", "500")
        await until_shown(pilot, "500", "✗")
        await vocabulary(500)


CONFIG = parse_config(merge(DEMO, {"optimizer.learning_rate": 0.001}))


def forks() -> list[tuple[str, str]]:
    """Return address and optimizer of the parents of all runs, the newest first."""
    parents = map(read_parent, list_runs())
    return [(parent.address, parent.optimizer) for parent in parents if parent is not None]


async def test_a_fork_is_named_on_other_panes_and_kept_however_it_is_left() -> None:
    run = with_checkpoints(trained("plain-otter", config=CONFIG), {3: 4.1})
    for name in STATE_FILES:
        (run.path / "checkpoints" / "step-000000003" / name).write_bytes(tensor_file({}))
    parent = DraftParent("plain-otter@3", "keep")
    async with at_home("plain-otter", "checkpoints") as (app, pilot):
        await app.new_draft_from("plain-otter")
        await until_shown(pilot, "draft, not started")
        words = "Draft from plain-otter, not started"
        await press(pilot, "2", shows=f"{words}: esc 1 shows it, F5 there starts it.")
        for key in ("4", "f2"):
            await press(pilot, key, shows=(f"{words}.", "esc 1 shows it, F5 there starts it."))
        await pilot.press("escape")
        for count, keys in enumerate((("ctrl+l",), ("P", "enter"), ("ctrl+q",))):
            app.open_run(run, "checkpoints")
            await app.new_draft_from("plain-otter", parent)
            await until_shown(pilot, "draft, fork of plain-otter@3")
            assert pane(app).shown == Draft(CONFIG, "plain-otter", parent=parent)
            await press(pilot, "v", shows="No field differs from plain-otter@3")
            assert len(forks()) == count
            await pilot.press(*keys)
            wanted = [("plain-otter@3", "keep")] * (count + 1)
            await until(pilot, lambda wanted=wanted: forks() == wanted)  # type: ignore[misc]
            if "P" in keys:  # a preset starts from no weights
                await until_shown(pilot, "draft, not started")
