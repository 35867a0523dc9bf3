"""A checkpoint is forked by keys alone: chosen, changed, started, and shown below its parent."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.pilot import Pilot

from rnnlm_tui.store.addresses import checkpoint_path
from rnnlm_tui.store.lineage import read_parent
from rnnlm_tui.store.manifest import read_manifest
from rnnlm_tui.store.paths import RunDirectory, runs_dir
from rnnlm_tui.store.runs import list_runs
from rnnlm_tui.tui.app import RnnlmApp
from tests.integration.runs import start, tiny_config, wait_until_ended
from tests.tui.panes.filling import focused
from tests.tui.panes.seeing import until_shown
from tests.tui.support import until

pytestmark = pytest.mark.usefixtures("warm")


async def fork_by_keys(pilot: Pilot[int], parent: RunDirectory) -> RunDirectory:
    """Fork the selected checkpoint of the checkpoints pane with another seed; the new run."""
    app = pilot.app
    assert isinstance(app, RnnlmApp)
    await pilot.press("F")
    await until_shown(pilot, f"fork of {parent.name}@")
    await pilot.press("slash", *"training.seed")
    await until_shown(pilot, "training.seed")
    await pilot.press("enter")
    await until(pilot, lambda: focused(app) == "training.seed")
    await pilot.press("enter", "ctrl+u", *"43", "enter")
    await until_shown(pilot, "was 42")
    await pilot.press("f5")
    await until(pilot, lambda: app.current_mode == "train")
    return next(run for run in list_runs() if run.name != parent.name)


async def test_a_checkpoint_is_forked_with_a_changed_field_and_stands_below_its_parent(
    text: Path,
) -> None:
    parent = start(tiny_config(text, {"training.max_steps": 40}), "plain-otter")
    assert wait_until_ended(parent).status == "finished"
    app = RnnlmApp(parent, "checkpoints")
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await until_shown(pilot, "40", "20")
        await pilot.press("end")  # the older of the two checkpoints
        child = await fork_by_keys(pilot, parent)
        assert wait_until_ended(child).status == "finished"

        found = read_parent(child)
        assert found is not None
        checkpoint = checkpoint_path(parent, found.checkpoint)
        assert (found.run, found.hash) == ("plain-otter", read_manifest(checkpoint).checksum)
        assert found.changed == {"training.seed": (42, 43)}
        assert child.read_config().training.seed == 43
        assert (child.path / "parent" / "model.safetensors").read_bytes() == (
            checkpoint / "model.safetensors"
        ).read_bytes()

        await pilot.press("r", "V")
        await until_shown(pilot, f"└ {child.name}", f"@{found.checkpoint} seed 42 → 43")
    assert sorted(path.name for path in runs_dir().iterdir() if path.name[0] != ".") == sorted(
        [child.name, "plain-otter"]
    )
