"""The checkpoints pane: the table, one checkpoint in detail, and what its keys change on disk."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from rnnlm_tui import client
from rnnlm_tui.client.average import StagedAverage
from rnnlm_tui.client.checkpoint_detail import CheckpointDetail
from rnnlm_tui.client.checkpoints import listed
from rnnlm_tui.client.export import Exported
from rnnlm_tui.errors import CheckpointError, InputError
from rnnlm_tui.schema.exports import ExportDone, ExportFormat
from rnnlm_tui.schema.metrics import CheckpointRow, SampleRow
from rnnlm_tui.schema.protocol import AverageDone, EvaluatedPart, Setting, TaskProgress
from rnnlm_tui.schema.sampling import WeightChangeRequest
from rnnlm_tui.store.averages import AVERAGED_FACT, list_averages, write_average
from rnnlm_tui.store.checkpoints import write_checkpoint
from rnnlm_tui.store.labels import Export, RunLabels, add_export, read_labels
from rnnlm_tui.store.lineage import ParentCheckpoint
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.trash import list_trash
from rnnlm_tui.system.locks import staging
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.screens.checkpoints import CheckpointsScreen
from rnnlm_tui.tui.widgets.checkpoints import columns_for, detail_lines
from rnnlm_tui.tui.widgets.table import row_of
from tests.homes import five_checkpoints
from tests.tui.fakes import FakeSampler
from tests.tui.panes.fakes import CHECKPOINTS, NOW, SAMPLES
from tests.tui.panes.seeing import press, screen_text, until_shown
from tests.tui.support import at_home, until
from tests.unit.store.rows import write_model

Report = Callable[[TaskProgress], None]


def pane(app: RnnlmApp) -> CheckpointsScreen:
    screen = app.pane_screen
    assert isinstance(screen, CheckpointsScreen)
    return screen


def on(app: RnnlmApp, name: str) -> bool:
    """Whether the cursor is on this checkpoint."""
    row = pane(app).table.row
    return row is not None and row.name == name


async def proposes(pilot: Pilot[int], name: str) -> None:
    """Wait until the box for an export has a folder of this name."""
    await until(pilot, lambda: Path(pilot.app.screen.query_one(Input).value).name == name)


def order_of(app: RnnlmApp) -> list[str]:
    return [item.name for item in pane(app).table.rows]


def steps_in(folder: Path) -> list[int]:
    return sorted(int(path.name[5:14]) for path in folder.glob("step-*"))


def flip(file: Path) -> None:
    """Change a file's last byte, which only a hash shows."""
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def test_rows_and_changes_are_cut_only_as_far_as_there_is_no_room() -> None:
    row = CHECKPOINTS[3]._replace(last=True, tokens_seen=0)
    labels, problem = RunLabels(pins=frozenset({3700})), "weights are damaged: SHA-256 differs"

    def drawn(width: int, *rows: CheckpointRow) -> list[str]:
        items = listed(rows, labels, {row.path: problem})
        columns = columns_for(width, items)
        return [" ".join(row_of(columns, item, NOW).plain.split()) for item in items]

    (wide,) = drawn(118, row)
    assert wide == "3,700 6.2 – 58.1 0.0 3.93 6.5 12 s ✗ damaged ★ best ▸ last ⚑ hash d…"
    assert drawn(40, row)[0].endswith("3.93 ✗ ★ ▸ ⚑")
    large = drawn(118, row._replace(bytes=2_300_000_000), row)
    assert [" 2.3 " in large[0], " 0.0 12 s" in large[1]] == [True, True], "all in GB"
    for before, after, shown in (
        (None, "y" * 33, f"none → {'y' * 33}  @1,512"),
        ("x" * 99, "y" * 99, f"{'x' * 17}… → {'y' * 17}…  @1,512"),
    ):
        changes = (Setting(path="data.name", old=before, new=after),)
        detail = CheckpointDetail(1, "/r", changes=changes, changed_at={"data.name": 1_512})
        assert shown in detail_lines(detail, "", 56, 30)[1].plain


async def test_checkpoints_are_listed_sorted_and_looked_at_in_detail() -> None:
    five_checkpoints(*SAMPLES)
    async with at_home(pane="checkpoints", size=(120, 40)) as (app, pilot):
        await until_shown(pilot, "★ best", "▸ last", "at step 3,700", "5 kept, newest")
        assert order_of(app) == ["3750", "3700", "3000", "2000", "1000"]
        # one in detail, and its tensors
        shown = "The state of the Union is strong", "the same prompt at step 1,000", "out bias"
        await press(pilot, "down", "Step 3,700", "→ 0.15", *shown)
        assert "at step 3,700" not in screen_text(app), "they are of this step"
        await press(pilot, "z", "Tensors of step 3,700", "embedding.weight", "8 × 4  F32", "0.8400")
        await pilot.press("escape")
        # its weights are compared with the checkpoint before, once the cursor rests
        await press(pilot, "end", "weights: no earlier checkpoint to compare with")
        assert isinstance(app.sampler, FakeSampler)
        app.sampler.answers[WeightChangeRequest] = CheckpointError("w has shape (1,)")
        await press(pilot, "up", "at step 1,000", "weights not compared: w has shape")
        asked = [one for one in app.sampler.asked if isinstance(one, WeightChangeRequest)]
        assert Path(asked[-1].checkpoint).name == "step-000002000"
        assert Path(asked[-1].before).name == "step-000001000"
        # in other orders, and in every size
        await press(pilot, ["home", "down", *"ooo"], "▴ val ppl")
        assert order_of(app) == ["3700", "3000", "2000", "1000", "3750"]
        assert on(app, "3700")
        await press(pilot, "O", "▾ val ppl")
        assert order_of(app) == ["1000", "2000", "3000", "3700", "3750"]
        assert app.settings["checkpoints order"] == ["ppl", True]
        # sampled from
        await pilot.press("up")
        await until(pilot, lambda: on(app, "3000"))
        await press(pilot, "enter", "step 3,000, val 60.7")
        assert app.current_mode == "prompt"


async def test_pins_deletions_and_a_prune_are_on_disk() -> None:
    run = five_checkpoints()
    async with at_home(pane="checkpoints") as (app, pilot):
        await press(pilot, "down down p", "step 3,000 pinned")
        assert read_labels(run).pins == {3000}
        pane(app).end_notice()
        await until_shown(pilot, "⚑ pinned", "p Unpin")
        await press(pilot, "p", "step 3,000 unpinned: deleted when newer ones replace it")
        assert read_labels(run).pins == set()
        pane(app).end_notice()
        await until_shown(pilot, "p Pin")
        # what is needed stays, the rest goes to the trash and comes back
        await press(pilot, "up d", "step 3,700 is kept: it is the best")
        await press(pilot, "space space space", "3 marked", "d Delete 3")
        await press(pilot, "d", "2 checkpoints (2,000, 3,000) moved to the trash")
        assert steps_in(run.checkpoints_path) == [1000, 3700, 3750]
        assert "marked" not in screen_text(app)
        await press(pilot, "T", "2 checkpoints, ", "step 3,000", "step 2,000")
        await press(pilot, "down enter", "step 3,000 restored")
        await press(pilot, "u", "step 2,000 restored")
        await press(pilot, "u", "nothing to undo: the run's trash is empty")
        assert len(steps_in(run.checkpoints_path)) == 5
        # a prune shows what goes, and only a capital D deletes
        await press(pilot, "X", "deletes 3 checkpoints and frees", "keeps 2", "val ppl 60.7")
        await press(pilot, "right", "deletes 2 checkpoints and frees", "newest")
        await press(pilot, "down right", "keep multiples of  ← 500 →", "nothing to delete")
        await press(pilot, "left enter", "p Pin")
        assert len(steps_in(run.checkpoints_path)) == 5
        await press(pilot, "X", "deletes 3 checkpoints")
        await press(pilot, "up right", "permanently", "can't be undone", "D purge, ")
        await press(pilot, "D", "3 checkpoints removed, ")
        assert steps_in(run.checkpoints_path) == [3700, 3750]
        assert list_trash(run) == []
        await pilot.press("down", "F")
        await until(pilot, lambda: app.current_mode == "config")
        await until_shown(pilot, "plain-otter@3700")


async def test_damaged_checkpoints_are_seen_found_by_a_verification_and_deleted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = five_checkpoints()
    (run.checkpoints_path / "step-000002000" / "model.safetensors").unlink()
    flip(run.checkpoints_path / "step-000003750" / "training_state.json")
    gate, read, late = threading.Event(), client.checkpoint_detail.read_detail, list[str]()

    def read_late(*arguments: object, **named: object) -> CheckpointDetail:
        monkeypatch.setattr(client.checkpoint_detail, "read_detail", read)
        gate.wait(30)
        late.append("")
        return read(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(client.checkpoint_detail, "read_detail", read_late)
    async with at_home(pane="checkpoints") as (app, pilot):
        await until_shown(pilot, "✗ damaged", "file missing")
        await press(
            pilot, "C", "Step 3,750 ─", "✗ training_state",
            "step 3,750 is damaged; step 3,700 is intact: enter samples from it",
        )  # fmt: skip
        gate.set()
        await until(pilot, lambda: late)
        for _ in range(5):
            await pilot.pause()
        await until_shown(pilot, "✗ training_state")
        await press(pilot, "down C", "✓ verified just now", "✓ model", "all 2 files verified")
        await press(pilot, "down down", "✗ model.safetensors is missing")
        await press(pilot, "z", "model.safetensors")
        await press(pilot, "a C", "2 checkpoints (2,000, 3,750) are damaged; step 3,700 is intact")
        await press(pilot, "a space d", "step 2,000 moved to the trash")
        await press(pilot, "home d", "step 3,750 moved to the trash")
        await until(pilot, lambda: len(order_of(app)) == 3)
        await press(pilot, "a C", "3 checkpoints verified: all 6 files are as they were written")


async def test_raw_texts_keep_their_lines_and_the_table_follows_what_others_do() -> None:
    code = SampleRow(1, 3000, "def f():", "\n    return 1\n", 3, 7, NOW)
    run = five_checkpoints(code, layout="raw")
    async with at_home(pane="checkpoints", size=(120, 40)) as (app, pilot):

        async def changed(step: int, *steps: int) -> None:
            """Remove a checkpoint, or write it if there is none of this step."""
            folder = run.checkpoints_path / f"step-{step:09d}"
            if folder.exists():
                shutil.rmtree(folder)
            else:
                write_checkpoint(run, step, write_model, None, {})
            app.watcher.poll_now()
            await until(pilot, lambda: order_of(app) == [str(one) for one in steps])

        await press(pilot, "down down", "def f():", "    return 1")
        await press(pilot, "up space up", "1 marked")
        await changed(3700, 3750, 3000, 2000, 1000)
        await until_shown(pilot, "4 kept")
        assert "marked" not in screen_text(app)
        assert on(app, "3000"), "the one in its place"
        await changed(4000, 4000, 3750, 3000, 2000, 1000)
        assert on(app, "3000")
        await pilot.press("home")
        await changed(4100, 4100, 4000, 3750, 3000, 2000, 1000)
        assert on(app, "4100"), "at the top it follows the newest"
        await pilot.press("end")
        await changed(1000, 4100, 4000, 3750, 3000, 2000)
        assert on(app, "2000")
        shutil.rmtree(run.checkpoints_path)
        app.watcher.poll_now()
        await until_shown(pilot, "no checkpoint yet")
        await press(pilot, "enter C space z", "no checkpoint yet", "no tensors to show yet")
        assert app.current_mode == "checkpoints"


async def test_an_average_is_kept_or_discarded_listed_and_removed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = five_checkpoints()
    asked: list[Sequence[ParentCheckpoint]] = []

    def average(parts: Sequence[ParentCheckpoint], _report: object) -> StagedAverage:
        asked.append(parts)
        if len(asked) == 1:
            raise CheckpointError("their shapes differ")
        place = ExitStack()
        folder = place.enter_context(staging(run.checkpoints_path)) / "average"
        addresses = [part.address for part in parts]
        facts = {AVERAGED_FACT: addresses, "validation_loss": 4.0551}
        write_average(run, folder, 3_750, write_model, facts)
        losses = zip(addresses, (4.1, 4.0), strict=True)
        evaluated = tuple(EvaluatedPart(address=one, loss=loss) for one, loss in losses)
        done = AverageDone(step=3_750, loss=3.9, tokens=999, parts=evaluated)
        return StagedAverage(run, done, folder, place)

    monkeypatch.setattr(client.average, "average_checkpoints", average)
    async with at_home(pane="checkpoints") as (app, pilot):
        await press(pilot, "M", "mark at least two checkpoints to average")
        for key, words in (
            ("", "their shapes differ"),
            ("enter", "average discarded"),
            ("D", "kept as plain-otter@average-3750"),
        ):
            await press(pilot, "home space space", "2 marked")
            await pilot.press("M")
            if key:
                better = "perplexity 49.40, better than its best part (-5.20)"
                await until_shown(pilot, better, "plain-otter@3750: 54.60. Weights only")
                await pilot.press(key)
            await until_shown(pilot, words)
            await until(pilot, lambda: not list(run.checkpoints_path.glob(".*")))
            kept = ["average-3750"] if key == "D" else []
            assert [entry.name for entry in list_averages(run)] == kept
        assert [part.address for part in asked[0]] == ["plain-otter@3700", "plain-otter@3750"]
        # listed with how much better it is, and changed as far as an average can be
        await until_shown(pilot, "average-3750", "∑ averaged", "57.7    -0.4")
        await pilot.press("home")
        while not on(app, "average-3750"):
            await pilot.press("down")
        await press(pilot, "p", "average-3750 is kept until you delete it")
        await press(pilot, "m", "average-3750 can't have a note")
        await press(pilot, "enter", "plain-otter average-3750")
        await press(pilot, "escape 3 d", "Remove this average?", "This can't be undone.")
        await press(pilot, "enter", "F Fork")
        assert list_averages(run) != []
        await press(pilot, "d", "Remove this average?")
        await press(pilot, "D", "average-3750 removed")
        assert list_averages(run) == []


async def test_w_exports_with_progress_the_outcome_or_why_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, gate = five_checkpoints(), threading.Event()

    def export(
        run: RunDirectory, checkpoint: Path, target: Path, format: ExportFormat, *, report: Report
    ) -> Exported:
        if target.name == "x":
            raise InputError(f"the folder {target} is not empty")
        report(TaskProgress(phase="writing"))
        gate.wait(30)
        step = int(checkpoint.name.rpartition("-")[2])
        done = ExportDone(
            step=step, logits_compared=131_072, largest_difference=2e-6, greedy_tokens=50,
            notes=("the tokenizer is not part of it",),
        )  # fmt: skip
        target.mkdir()
        add_export(run, Export(step, format, str(target), 0.0))
        return Exported(run.name, step, format, target, 2_300_000, ("config.json",), done)

    monkeypatch.setattr(client.export, "export_checkpoint", export)
    monkeypatch.chdir(tmp_path)
    async with at_home(pane="checkpoints", size=(120, 40)) as (app, pilot):
        await press(pilot, "down w", "Export plain-otter@3700", "Hugging Face transformers")
        await proposes(pilot, "plain-otter-3700-hf")
        await press(pilot, "ctrl+u enter", "✗ name a folder to write")
        await press(pilot, [*"x", "enter"], "✗ the folder x is not empty", "esc cancel")
        await press(pilot, "escape w", "Hugging Face transformers")
        await proposes(pilot, "plain-otter-3700-hf")
        await press(pilot, "down down", "the book's state dict")
        await proposes(pilot, "plain-otter-3700-book")
        await press(pilot, [*"-2", "up"], "ONNX, one step")
        await proposes(pilot, "plain-otter-3700-book-2")  # it is the user's
        await press(pilot, "enter", "writing the files …", "esc close: it continues")
        await pilot.press("down", "enter")
        gate.set()
        await until_shown(
            pilot, "✓ 1 file, 2.3 MB written", "131,072 logits differ by at most 2.0e-06",
            "50 tokens of greedy text are equal", "the tokenizer is not part of it", "ONNX",
        )  # fmt: skip
        await press(pilot, "enter", "→ exported")
        (made,) = read_labels(run).exports
        assert (made.step, made.format) == (3700, "onnx")
        assert Path(made.folder).name == "plain-otter-3700-book-2"
        # the box may be closed meanwhile
        gate.clear()
        await press(pilot, "up w", "Export plain-otter@3750")
        await proposes(pilot, "plain-otter-3750-hf")
        await press(pilot, "enter", "writing the files …")
        await press(pilot, "escape", "the export continues")
        gate.set()
        await until_shown(pilot, "plain-otter@3750 exported to ")
        assert (tmp_path / "plain-otter-3750-hf").is_dir()
        pane(app).end_notice()
