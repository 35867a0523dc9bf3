"""The checkpoints pane: the table, one checkpoint in detail, and the way to the prompt."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import JsonValue

from rnnlm_tui.client.average import StagedAverage
from rnnlm_tui.errors import CheckpointError, InputError
from rnnlm_tui.schema.metrics import SampleRow
from rnnlm_tui.schema.protocol import Setting
from rnnlm_tui.schema.sampling import WeightChangeRequest
from rnnlm_tui.store.labels import Export, RunLabels, read_labels
from rnnlm_tui.store.manifest import Manifest
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.trash import list_trash
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.screens import checkpoints
from rnnlm_tui.tui.screens.checkpoints import CheckpointsScreen
from rnnlm_tui.tui.screens.prompt import PromptScreen
from rnnlm_tui.tui.widgets.checkpoints import CheckpointTable
from tests.homes import trained, with_checkpoints
from tests.tui.fakes import FakeServices
from tests.tui.panes.fakes import CHECKPOINTS, NOW, checkpoint, make_snapshot
from tests.tui.panes.seeing import opened, screen_text, until_shown
from tests.tui.support import at_home, until


@pytest.fixture(autouse=True)
def still_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use a fixed clock, so that ages don't vary."""
    monkeypatch.setattr(checkpoints, "time", lambda: NOW)


def pane(app: RnnlmApp) -> CheckpointsScreen:
    screen = app.pane_screen
    assert isinstance(screen, CheckpointsScreen)
    return screen


async def test_checkpoints_are_listed_newest_first_with_marks_and_distance_to_the_best() -> None:
    async with opened(FakeServices(make_snapshot()), "checkpoints") as (app, pilot):
        await until_shown(pilot, "▸ last", "★ best")
        rows = [" ".join(line.split()) for line in screen_text(app).splitlines()[3:9]]
        assert rows[0] == "│ ▾ step epoch val ppl Δ best train age mark note │"
        assert rows[1] == "│› 3,750 6.3 – – 3.93 now ▸ last │"
        assert rows[2] == "│ 3,700 6.2 58.1 0.0 3.93 12 s ★ best │"
        assert rows[5] == "│ 1,000 1.7 87.1 +29.0 3.93 2 min │"


async def test_the_cursor_shows_files_hashes_and_where_a_run_resumes() -> None:
    async with opened(FakeServices(make_snapshot()), "checkpoints", size=(120, 40)) as (
        _app,
        pilot,
    ):
        await pilot.press("down")
        await until_shown(
            pilot,
            "Step 3,700",
            "model.safetensors",
            "2.2 MB",
            "9f3c…a71e",
            "resumes from",
            "step 3,700, token 104,960 of epoch 7",
            "random state  saved, continues bit for bit",
            "rnnlm-tui 0.1.0, torch 2.13",
            "checkpoints/step-000003700",
        )


async def test_enter_opens_the_prompt_on_the_chosen_checkpoint() -> None:
    async with opened(FakeServices(make_snapshot()), "checkpoints") as (app, pilot):
        await pilot.press("down", "down")
        await until(pilot, lambda: pane(app).query_one(CheckpointTable).step == 3000)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, PromptScreen))
        await until_shown(pilot, "step 3,000, val 60.7")


async def test_samples_of_the_chosen_step_are_shown_and_older_ones_labelled() -> None:
    async with opened(FakeServices(make_snapshot()), "checkpoints") as (app, pilot):
        await until_shown(pilot, "at step 3,700", "The state of the Union is strong")
        await pilot.press("down")
        await until(pilot, lambda: "at step" not in screen_text(app))
        await pilot.press("down")
        await until_shown(pilot, "at step 1,000")


async def test_verify_marks_good_files_and_names_a_damaged_one() -> None:
    services = FakeServices(make_snapshot())
    services.damaged["step-000003000"] = "model.safetensors is damaged: sha256 differs"
    async with opened(services, "checkpoints") as (_app, pilot):
        await pilot.press("C")
        await until_shown(pilot, "✓ verified just now", "✓ model", "all 3 files verified")
        await pilot.press("down", "down", "C")
        await until_shown(
            pilot,
            "✗ damaged",
            "✗ model",
            "step 3,000 is damaged; step 3,750 is intact: enter samples from it",
        )


def five_checkpoints() -> RunDirectory:
    """A run with the checkpoints of the invented one, in the test's home."""
    losses = {row.step: row.validation_loss for row in CHECKPOINTS}
    return with_checkpoints(trained("plain-otter"), losses)


def steps_in(folder: Path) -> list[int]:
    return sorted(int(path.name[5:14]) for path in folder.glob("step-*"))


async def test_p_pins_and_unpins_a_checkpoint() -> None:
    run = five_checkpoints()
    async with at_home(pane="checkpoints") as (app, pilot):
        await pilot.press("down", "down")
        await until(pilot, lambda: pane(app).query_one(CheckpointTable).step == 3000)
        await pilot.press("p")
        await until_shown(pilot, "step 3,000 pinned")
        assert read_labels(run).pins == {3000}
        pane(app).end_notice()
        await until_shown(pilot, "⚑ pinned", "p Unpin")
        await pilot.press("p")
        await until_shown(pilot, "step 3,000 unpinned")
        assert read_labels(run).pins == set()
        pane(app).end_notice()
        await pilot.press("down")
        await until_shown(pilot, "p Pin")


async def test_a_verification_is_kept_when_the_manifest_is_read_later() -> None:
    services = FakeServices(make_snapshot())
    services.damaged["step-000003750"] = "model.safetensors is damaged: sha256 differs"
    gate, read, late = threading.Event(), services.manifest, list[str]()

    def read_late(checkpoint: Path) -> Manifest:
        gate.wait(30)
        late.append(checkpoint.name)
        return read(checkpoint)

    services.manifest = read_late  # type: ignore[method-assign]
    async with opened(services, "checkpoints") as (_app, pilot):
        await until_shown(pilot, "▸ last")
        services.manifest = read  # type: ignore[method-assign]
        await pilot.press("C")
        await until_shown(pilot, "✗ damaged", "✗ model")
        gate.set()
        await until(pilot, lambda: late != [])
        for _ in range(5):
            await pilot.pause()
        await until_shown(pilot, "✗ damaged", "✗ model")


async def test_every_mark_is_shown_even_without_room_for_its_word() -> None:
    services = FakeServices(
        make_snapshot(checkpoints=(replace(CHECKPOINTS[-1], best=True, last=True),))
    )
    services.damaged["step-000003750"] = "model.safetensors is damaged: sha256 differs"
    async with opened(services, "checkpoints") as (app, pilot):
        snapshot = services.snapshots["plain-otter"] if services.snapshots else app.snapshot
        assert snapshot is not None
        labels = RunLabels(pins=frozenset({3750}))
        app.snapshot = replace(snapshot, labels=labels)
        await until_shown(pilot, "★ best  ▸ last  ⚑ pinned")
        await pilot.press("C")
        await until_shown(pilot, "✗ damaged ★ ▸ ⚑")


async def test_the_cursor_keeps_its_checkpoint_and_at_the_top_follows_the_newest() -> None:
    async with opened(FakeServices(make_snapshot()), "checkpoints") as (app, pilot):
        table = pane(app).query_one(CheckpointTable)
        await pilot.press("down")
        await until(pilot, lambda: table.step == 3700)
        app.snapshot = make_snapshot(checkpoints=(*CHECKPOINTS[1:], checkpoint(4000, 4.05)))
        await until_shown(pilot, "4,000")
        assert table.step == 3700
        await pilot.press("up", "up")
        await until(pilot, lambda: table.step == 4000)
        app.snapshot = make_snapshot(checkpoints=(*CHECKPOINTS[1:], checkpoint(4100, 4.05)))
        await until(pilot, lambda: table.step == 4100)


async def test_without_its_checkpoint_the_cursor_moves_to_the_one_in_its_place() -> None:
    async with opened(FakeServices(make_snapshot()), "checkpoints") as (app, pilot):
        table = pane(app).query_one(CheckpointTable)
        await pilot.press("end", "up")
        await until(pilot, lambda: table.step == 2000)
        without = make_snapshot(checkpoints=(CHECKPOINTS[0], *CHECKPOINTS[2:]))
        app.snapshot = without
        await until(pilot, lambda: table.step == 1000)
        app.snapshot = make_snapshot(checkpoints=CHECKPOINTS[2:])
        await until(pilot, lambda: table.step == 3000)


async def test_nothing_is_redrawn_when_nothing_changed() -> None:
    async with opened(FakeServices(make_snapshot()), "checkpoints") as (app, pilot):
        table = pane(app).query_one(CheckpointTable)
        await until_shown(pilot, "9f3c…a71e", "0.91")
        before = table.repainted
        app.snapshot = make_snapshot()
        await pilot.pause()
        assert table.repainted == before


async def test_a_run_without_checkpoints_is_labelled_and_enter_is_harmless() -> None:
    async with opened(FakeServices(make_snapshot(checkpoints=(), samples=())), "checkpoints") as (
        app,
        pilot,
    ):
        await until_shown(pilot, "no checkpoint yet")
        await pilot.press("enter", "C")
        await until_shown(pilot, "no checkpoint yet")
        assert app.current_mode == "checkpoints"


async def test_hostile_samples_are_harmless() -> None:
    hostile = SampleRow(1, 3750, "[b]\x1b[2J", "\x9b2J[@click=app.quit]‮text", 3, 7, NOW)
    async with opened(FakeServices(make_snapshot(samples=(hostile,))), "checkpoints") as (
        app,
        pilot,
    ):
        await until_shown(pilot, "[b]␛[2J‹9b›2J[@click=app.quit]")
        assert "\x1b" not in screen_text(app)


async def test_samples_of_code_keep_their_line_breaks_and_indentation() -> None:
    snapshot = make_snapshot(
        samples=(SampleRow(1, 3750, "def f():", "\n    return 1\n", 3, 7, NOW),)
    )
    snapshot = replace(
        snapshot, summary=snapshot.summary.model_copy(update={"corpus_layout": "raw"})
    )
    async with opened(FakeServices(snapshot), "checkpoints", size=(120, 40)) as (app, pilot):
        await until_shown(pilot, "def f():", "    return 1")
        assert "def f():     return 1" not in screen_text(app)


async def test_columns_align_with_their_heads_when_the_terminal_grows() -> None:
    async with opened(FakeServices(make_snapshot()), "checkpoints") as (app, pilot):
        await pilot.press("down")
        for size in ((120, 40), (60, 15), (200, 60), (80, 24)):
            await pilot.resize_terminal(*size)
            await pilot.pause()
            lines = screen_text(app).splitlines()
            head = next(line for line in lines if "val ppl" in line)
            row = next(line for line in lines if "58.1 " in line)
            assert row.index("58.1") + 4 == head.index("val ppl") + 7
        assert pane(app).query_one(CheckpointTable).step == 3700


async def test_the_same_prompt_at_an_earlier_step_is_shown_for_contrast() -> None:
    async with opened(FakeServices(make_snapshot()), "checkpoints", size=(120, 40)) as (_, pilot):
        await pilot.press("down")
        await until_shown(pilot, "the same prompt at step 1,000", "of the the people of the world")


async def test_the_change_of_the_weights_is_shown_by_layer_once_the_cursor_rests() -> None:
    services = FakeServices(make_snapshot())
    async with opened(services, "checkpoints", size=(120, 40)) as (_, pilot):
        await until_shown(pilot, "weights since step 3,700", "embedding", "0.84", "out bias")
        await pilot.press("end")
        await until_shown(pilot, "weights: no earlier checkpoint to compare with")
        await pilot.press("up")
        await until_shown(pilot, "weights since step 1,000, ")
    requests = [one for one in services.fake_sampler.asked if isinstance(one, WeightChangeRequest)]
    assert [Path(one.before).name for one in requests] == ["step-000003700", "step-000001000"]


async def test_why_the_weights_can_not_be_compared_is_said() -> None:
    services = FakeServices(make_snapshot())
    services.fake_sampler.answers[WeightChangeRequest] = CheckpointError("w has shape (1,)")
    async with opened(services, "checkpoints") as (_, pilot):
        await until_shown(pilot, "weights not compared: w has shape")


async def test_changed_settings_and_the_parent_are_in_the_detail() -> None:
    services = FakeServices(make_snapshot())
    services.checkpoint_files.changed = (Setting(path="model.dropout", old=0.1, new=0.15),)
    services.checkpoint_files.parent_address = "old-otter@900"
    async with opened(services, "checkpoints", size=(120, 40)) as (_, pilot):
        await until_shown(
            pilot,
            "changed since the run started",
            "dropout  0.1 → 0.15  @1,512",
            "parent        old-otter@900",
        )


@pytest.mark.parametrize(
    ("before", "after", "shown"),
    [
        (None, "y" * 33, f"none → {'y' * 33}  @1,512"),
        ("x" * 33, 0.5, f"{'x' * 33} → 0.5  @1,512"),
        ("x" * 99, "y" * 99, f"{'x' * 17}… → {'y' * 17}…  @1,512"),
    ],
)
async def test_a_changed_value_is_cut_only_where_its_line_is_full(
    before: JsonValue, after: JsonValue, shown: str
) -> None:
    services = FakeServices(make_snapshot())
    change = Setting(path="data.name", old=before, new=after)
    services.checkpoint_files.changed = (change,)
    async with opened(services, "checkpoints", size=(120, 40)) as (_, pilot):
        await until_shown(pilot, shown)


async def test_the_order_is_changed_and_reversed_by_keys() -> None:
    async with opened(FakeServices(make_snapshot()), "checkpoints") as (app, pilot):
        table = pane(app).query_one(CheckpointTable)
        await pilot.press("down", "o", "o")
        await until_shown(pilot, "▴val ppl")
        assert [item.row.step for item in table.rows] == [3700, 3000, 2000, 1000, 3750]
        assert table.step == 3700
        await pilot.press("O")
        await until_shown(pilot, "▾val ppl")
        assert [item.row.step for item in table.rows] == [1000, 2000, 3000, 3700, 3750]
        assert app.settings["checkpoints order"] == ["ppl", True]


async def test_d_deletes_what_may_go_and_u_restores_it() -> None:
    run = five_checkpoints()
    async with at_home(pane="checkpoints") as (_app, pilot):
        await pilot.press("down", "d")
        await until_shown(pilot, "step 3,700 is kept: it is the best")
        await pilot.press("space", "space", "space")
        await until_shown(pilot, "3 marked", "d Delete 3")
        await pilot.press("d")
        await until_shown(pilot, "2 checkpoints (2,000, 3,000) moved to the trash")
        await pilot.press("T")
        await until_shown(pilot, "2 checkpoints, ", "step 3,000", "step 2,000")
        assert steps_in(run.checkpoints_path) == [1000, 3700, 3750]
        await pilot.press("escape", "u")
        await until_shown(pilot, "2 checkpoints (2,000, 3,000) restored")
        await pilot.press("u")
        await until_shown(pilot, "nothing to undo: the run's trash is empty")
    assert steps_in(run.checkpoints_path) == [1000, 2000, 3000, 3700, 3750]


async def test_prune_shows_what_goes_and_only_a_capital_d_deletes() -> None:
    run = five_checkpoints()
    async with at_home(pane="checkpoints") as (_app, pilot):
        await pilot.press("X")
        await until_shown(pilot, "deletes 3 checkpoints and frees", "keeps 2")
        await pilot.press("right")
        await until_shown(pilot, "deletes 2 checkpoints and frees", "newest")
        await pilot.press("down", "right")
        await until_shown(pilot, "keep multiples of  ← 500 →", "nothing to delete")
        await pilot.press("left", "enter")
        await until_shown(pilot, "p Pin")
        assert len(steps_in(run.checkpoints_path)) == 5
        await pilot.press("X")
        await until_shown(pilot, "deletes 3 checkpoints")
        await pilot.press("up", "right", "D")
        await until_shown(pilot, "3 checkpoints removed, ")
    assert steps_in(run.checkpoints_path) == [3700, 3750]
    assert list_trash(run) == []


async def test_m_writes_a_note() -> None:
    run = five_checkpoints()
    async with at_home(pane="checkpoints") as (_app, pilot):
        await pilot.press("m")
        await until_shown(pilot, "Note on step 3,750")
        await pilot.press(*"good [b]", "enter")
        await until(pilot, lambda: read_labels(run).notes == {3750: "good [b]"})
        await until_shown(pilot, "good [b]")


async def test_a_hostile_note_is_drawn_as_text() -> None:
    labels = RunLabels(notes={3750: "good [b]\x1b[2J", 9: "x"})
    async with opened(FakeServices(replace(make_snapshot(), labels=labels)), "checkpoints") as (
        _app,
        pilot,
    ):
        await until_shown(pilot, "good [b]␛[2J")


async def test_all_are_verified_with_their_progress() -> None:
    services = FakeServices(make_snapshot())
    services.damaged["step-000002000"] = "model.safetensors is damaged: sha256 differs"
    async with opened(services, "checkpoints") as (_app, pilot):
        await pilot.press("a", "C")
        await until_shown(pilot, "step 2,000 is damaged; step 3,750 is intact")
        await until_shown(pilot, "✗ damaged")
        services.damaged.clear()
        await pilot.press("C")
        await until_shown(pilot, "5 checkpoints verified: all 15 files")


async def test_files_that_are_cut_or_gone_are_seen_without_a_verification() -> None:
    services = FakeServices(make_snapshot())
    services.checkpoint_files.cut[2000] = "model.safetensors is missing"
    async with opened(services, "checkpoints") as (_app, pilot):
        await until_shown(pilot, "✗ damaged")
        await pilot.press("down", "down", "down")
        await until_shown(pilot, "✗ model.safetensors is missing")


async def test_z_lists_all_tensors() -> None:
    async with opened(FakeServices(make_snapshot()), "checkpoints") as (_app, pilot):
        await until_shown(pilot, "0.91")
        await pilot.press("z")
        await until_shown(
            pilot, "Tensors of step 3,750", "embedding.weight", "2,048 × 192  F32", "0.8400"
        )
        await pilot.press("escape")
        await until_shown(pilot, "9f3c…a71e")


async def test_a_fork_begins_with_the_runs_config() -> None:
    async with opened(FakeServices(make_snapshot()), "checkpoints") as (app, pilot):
        await pilot.press("down", "F")
        await until(pilot, lambda: app.current_mode == "config")
        await until_shown(pilot, "plain-otter@3700")


async def test_a_checkpoint_that_is_deleted_elsewhere_disappears() -> None:
    async with opened(FakeServices(make_snapshot()), "checkpoints") as (app, pilot):
        await pilot.press("down", "space", "up")
        await until_shown(pilot, "1 marked")
        app.snapshot = make_snapshot(checkpoints=(*CHECKPOINTS[:3], CHECKPOINTS[4]))
        await until(pilot, lambda: "3,700" not in screen_text(app).replace("step 3,700", ""))
        await until_shown(pilot, "4 kept")
        assert "marked" not in screen_text(app)


AVERAGE = replace(
    checkpoint(3700, 4.0551, age=5), path="checkpoints/average-step-000003700", train_loss=math.nan
)


async def test_averages_are_listed_with_what_they_are_better() -> None:
    services = FakeServices(replace(make_snapshot(), averages=(AVERAGE,)))
    async with opened(services, "checkpoints") as (app, pilot):
        await until_shown(pilot, "average-3700", "∑ averaged", "57.7    -0.4")
        table = pane(app).query_one(CheckpointTable)
        await pilot.press("down", "down")
        await until(pilot, lambda: table.path == AVERAGE.path)
        await pilot.press("p")
        await until_shown(pilot, "average-3700 is kept until you delete it")
        await pilot.press("m")
        await until_shown(pilot, "average-3700 can't have a note")
        await pilot.press("d")
        await until_shown(pilot, "Remove this average?", "This can't be undone.")
        await pilot.press("enter")
        await until_shown(pilot, "p Pin")
        await pilot.press("d")
        await until_shown(pilot, "Remove this average?")
        await pilot.press("D")
        await until_shown(pilot, "average-3700 removed")
        assert ("remove average", "plain-otter", "average-3700") in services.calls
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, PromptScreen))
        await until_shown(pilot, "plain-otter average-3700")


async def test_marked_checkpoints_are_averaged() -> None:
    services = FakeServices(make_snapshot())
    asked: list[tuple[str, ...]] = []

    def average(addresses: Sequence[str]) -> StagedAverage:
        asked.append(tuple(addresses))
        raise CheckpointError("their shapes differ")

    services.average = average  # type: ignore[method-assign]
    async with opened(services, "checkpoints") as (_app, pilot):
        await pilot.press("M")
        await until_shown(pilot, "mark at least two checkpoints to average")
        await pilot.press("space", "space")
        await until_shown(pilot, "2 marked")
        await pilot.press("M")
        await until_shown(pilot, "their shapes differ")
    assert asked == [("plain-otter@3700", "plain-otter@3750")]


async def test_w_exports_with_progress_and_the_outcome_of_the_comparison() -> None:
    services = FakeServices(make_snapshot())
    files = services.checkpoint_files
    files.export_gate = threading.Event()
    async with opened(services, "checkpoints") as (app, pilot):
        await pilot.press("down", "w")
        await until_shown(pilot, "Export plain-otter@3700", "/home/me/plain-otter-3700-hf")
        await pilot.press("down", "down")
        await until_shown(pilot, "the book's state dict", "/home/me/plain-otter-3700-book")
        await pilot.press(*"-2", "up")
        await until_shown(pilot, "ONNX, one step", "/home/me/plain-otter-3700-book-2")
        await pilot.press("enter")
        await until_shown(pilot, "writing the files …")
        files.export_gate.set()
        await until_shown(
            pilot, "1 file, 2.3 MB written", "131,072 logits differ by at most 2.0e-06"
        )
        await pilot.press("enter")
        labels = RunLabels(exports=(Export(3700, "onnx", "", 0.0),))
        app.snapshot = replace(make_snapshot(), labels=labels)
        await until_shown(pilot, "→ exported")
    folder = "/home/me/plain-otter-3700-book-2"
    assert ("export", "plain-otter", 3700, "onnx", folder) in services.calls


async def test_a_refused_export_says_why_and_another_folder_can_be_named() -> None:
    services = FakeServices(make_snapshot())
    services.checkpoint_files.export_failure = InputError("the folder /home/me/x is not empty")
    async with opened(services, "checkpoints") as (_app, pilot):
        await pilot.press("w")
        await until_shown(pilot, "Export plain-otter@3750")
        await pilot.press("ctrl+u", "enter")
        await until_shown(pilot, "name a folder to write")
        await pilot.press(*"x", "enter")
        await until_shown(pilot, "the folder /home/me/x is not empty", "esc cancel")
        await pilot.press("escape")
        await until_shown(pilot, "p Pin")


async def test_an_export_goes_on_when_its_box_is_closed() -> None:
    services = FakeServices(make_snapshot())
    services.checkpoint_files.export_gate = threading.Event()
    async with opened(services, "checkpoints") as (_app, pilot):
        await pilot.press("w")
        await until_shown(pilot, "Export plain-otter@3750")
        await pilot.press("enter")
        await until_shown(pilot, "writing the files …")
        await pilot.press("escape")
        await until_shown(pilot, "the export continues")
        services.checkpoint_files.export_gate.set()
        await until_shown(pilot, "plain-otter@3750 exported to /home/me/plain-otter-3750-hf")
