"""The checkpoints pane: the table, one checkpoint in detail, and the way to the prompt."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from rnnlm_tui.schema.metrics import SampleRow
from rnnlm_tui.store.manifest import Manifest
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.messages import SnapshotChanged
from rnnlm_tui.tui.screens import checkpoints
from rnnlm_tui.tui.screens.checkpoints import CheckpointsScreen
from rnnlm_tui.tui.screens.prompt import PromptScreen
from rnnlm_tui.tui.widgets.checkpoints import CheckpointTable, samples_at
from tests.tui.fakes import FakeServices
from tests.tui.panes.fakes import CHECKPOINTS, NOW, SAMPLES, checkpoint, make_snapshot
from tests.tui.panes.seeing import opened, screen_text, until, until_shown


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
        rows = [line.split() for line in screen_text(app).splitlines()[3:9]]
        assert rows[0] == [
            "│",
            "step",
            "epoch",
            "val",
            "ppl",
            "Δ",
            "best",
            "train",
            "loss",
            "MB",
            "age",
            "mark",
            "│",
        ]
        assert rows[1] == [
            "│",
            "›",
            "3,750",
            "6.3",
            "–",
            "–",
            "3.93",
            "6.5",
            "now",
            "▸",
            "last",
            "│",
        ]
        assert rows[2] == [
            "│",
            "3,700",
            "6.2",
            "58.1",
            "0.0",
            "3.93",
            "6.5",
            "12",
            "s",
            "★",
            "best",
            "│",
        ]
        assert rows[5] == ["│", "1,000", "1.7", "87.1", "+29.0", "3.93", "6.5", "2", "min", "│"]


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
            "step 3,700, epoch 6.2",
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


async def test_p_pins_and_unpins_a_checkpoint() -> None:
    services = FakeServices(make_snapshot())
    async with opened(services, "checkpoints") as (app, pilot):
        await pilot.press("down", "down")
        await until(pilot, lambda: pane(app).query_one(CheckpointTable).step == 3000)
        await pilot.press("p")
        await until_shown(pilot, "step 3,000 pinned")
        assert ("pin", "plain-otter", 3000) in services.calls
        snapshot = make_snapshot()
        figures = snapshot.summary.checkpoints.model_copy(update={"pinned": (3000,)})
        app.post_message(
            SnapshotChanged(
                replace(
                    snapshot, summary=snapshot.summary.model_copy(update={"checkpoints": figures})
                )
            )
        )
        await until_shown(pilot, "⚑ pinned", "p Unpin")
        await pilot.press("p")
        await until_shown(pilot, "step 3,000 unpinned")
        assert ("unpin", "plain-otter", 3000) in services.calls
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
        figures = snapshot.summary.checkpoints.model_copy(update={"pinned": (3750,)})
        app.post_message(
            SnapshotChanged(
                replace(
                    snapshot, summary=snapshot.summary.model_copy(update={"checkpoints": figures})
                )
            )
        )
        await until_shown(pilot, "★ best  ▸ last  ⚑")
        await pilot.press("C")
        await until_shown(pilot, "✗ damaged  ★  ▸  ⚑")


async def test_the_cursor_keeps_its_checkpoint_and_at_the_top_follows_the_newest() -> None:
    async with opened(FakeServices(make_snapshot()), "checkpoints") as (app, pilot):
        table = pane(app).query_one(CheckpointTable)
        await pilot.press("down")
        await until(pilot, lambda: table.step == 3700)
        app.post_message(
            SnapshotChanged(make_snapshot(checkpoints=(*CHECKPOINTS[1:], checkpoint(4000, 4.05))))
        )
        await until_shown(pilot, "4,000")
        assert table.step == 3700
        await pilot.press("up", "up")
        await until(pilot, lambda: table.step == 4000)
        app.post_message(
            SnapshotChanged(make_snapshot(checkpoints=(*CHECKPOINTS[1:], checkpoint(4100, 4.05))))
        )
        await until(pilot, lambda: table.step == 4100)


async def test_without_its_checkpoint_the_cursor_moves_to_the_newest() -> None:
    async with opened(FakeServices(make_snapshot()), "checkpoints") as (app, pilot):
        table = pane(app).query_one(CheckpointTable)
        await pilot.press("end")
        await until(pilot, lambda: table.step == 1000)
        app.post_message(SnapshotChanged(make_snapshot(checkpoints=CHECKPOINTS[1:])))
        await until(pilot, lambda: table.step == 3750)


async def test_nothing_is_redrawn_when_nothing_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(FakeServices(make_snapshot()), "checkpoints") as (app, pilot):
        table = pane(app).query_one(CheckpointTable)
        await until_shown(pilot, "9f3c…a71e")
        changed: list[object] = []
        monkeypatch.setattr(table, "update_cell_at", lambda *cell, **_: changed.append(cell))
        app.post_message(SnapshotChanged(make_snapshot()))
        await pilot.pause()
        assert changed == []


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


def test_samples_come_from_the_step_or_the_nearest_before_it() -> None:
    at, note = samples_at(SAMPLES, 3700)
    assert [sample.prompt for sample in at] == [
        "The state of the Union",
        "My fellow Americans,",
        "We must",
    ]
    assert note == ""
    assert samples_at(SAMPLES, 2000)[1] == "at step 1,000"
    assert samples_at(SAMPLES, 10) == ((), "no samples up to this step")
