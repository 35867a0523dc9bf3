"""One checkpoint in detail, read from its files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rnnlm_tui.client.checkpoint_detail import (
    CheckpointDetail,
    FoundSamples,
    read_detail,
    read_samples,
)
from rnnlm_tui.client.checkpoints import list_run, quick_problems
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.metrics import CheckpointRow
from rnnlm_tui.schema.protocol import Setting
from rnnlm_tui.schema.steering import JournalledChange
from rnnlm_tui.store.checkpoints import read_checkpoints, write_checkpoint
from rnnlm_tui.store.paths import RunDirectory
from tests.unit.client.logs import record
from tests.unit.store.rows import new_run, sample_row

HEADER = json.dumps(
    {"output.bias": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
).encode()
STATE = {"epoch": 6, "index": 149, "data": {"data_mode": "stream", "batch_size": 20, "bptt": 35}}


@pytest.fixture
def otter() -> RunDirectory:
    """A run with two checkpoints, the second with a changed learning rate."""
    run = new_run()

    def write_files(folder: Path) -> None:
        (folder / "config.json").write_text("{}", encoding="utf-8")
        (folder / "model.safetensors").write_bytes(
            len(HEADER).to_bytes(8, "little") + HEADER + bytes(8)
        )
        (folder / "training_state.json").write_text(json.dumps(STATE), encoding="utf-8")

    facts = {"environment": {"torch": "2.13.0+cpu", "deterministic": True, "host": "gpu1"}}
    write_checkpoint(run, 3_000, write_files, None, facts)
    changed = {"changed": {"optimizer.learning_rate": 1e-4}}
    write_checkpoint(run, 3_700, write_files, None, {**facts, **changed})
    return run


def rows(run: RunDirectory) -> list[CheckpointRow]:
    return read_checkpoints(run)


def detail(run: RunDirectory, *journal: JournalledChange) -> CheckpointDetail:
    found = rows(run)
    return read_detail(run, found[-1], others=found, journal=journal)


def rate_change(number: int, step: int, old: float, new: float) -> JournalledChange:
    setting = Setting(path="optimizer.learning_rate", old=old, new=new)
    return JournalledChange(number=number, step=step, settings=(setting,), time=number)


def test_files_position_settings_and_tensors_are_read(otter: RunDirectory) -> None:
    found = detail(
        otter, *(rate_change(number, step, 1e-3, 1e-4) for number, step in ((1, 1_512), (2, 3_800)))
    )
    assert list(found.files) == [
        "model.safetensors",
        "training_state.json",
        "config.json",
    ]
    assert found.position == "step 3,700, token 104,300 of epoch 7"
    assert found.random_state == "saved, continues bit for bit"
    assert found.written_by.endswith("torch 2.13.0, gpu1")
    before = RunConfig().optimizer.learning_rate
    assert found.changes == (Setting(path="optimizer.learning_rate", old=before, new=1e-4),)
    assert found.changed_at == {"optimizer.learning_rate": 1_512}
    assert [(tensor.name, tensor.shape) for tensor in found.tensors] == [("output.bias", (2,))]
    assert (Path(found.before).name, found.before_name) == ("step-000003000", "step 3,000")
    assert found.damage == ""


def test_a_setting_is_listed_with_the_step_of_its_value_and_not_once_undone(
    otter: RunDirectory,
) -> None:
    rate = RunConfig().optimizer.learning_rate
    changed, undone = rate_change(1, 1_512, rate, 1e-4), rate_change(2, 3_700, 1e-4, rate)
    # the checkpoint of step 3,700 was saved before the undo
    assert list(detail(otter, changed, undone).changed_at.values()) == [1_512]
    facts = {"changed": {"optimizer.learning_rate": rate}}
    write_checkpoint(otter, 3_900, lambda folder: None, None, facts)
    assert detail(otter, changed, undone).changes == ()


def test_damaged_files_are_said_and_the_rest_is_still_read(otter: RunDirectory) -> None:
    folder = otter.checkpoints_path / "step-000003700"
    (folder / "training_state.json").write_text("[", encoding="utf-8")
    assert detail(otter).position == "step 3,700, epoch 0.0"
    (folder / "model.safetensors").write_bytes(b"\xff" * 20)
    found = detail(otter)
    assert found.damage.startswith("model.safetensors is not a safetensors file")
    assert found.tensors == ()
    assert len(found.files) == 3
    assert set(quick_problems(otter, rows(otter))) == {"checkpoints/step-000003700"}
    before = rows(otter)
    (folder / "manifest.json").unlink()
    gone = read_detail(otter, before[-1])
    assert "no manifest.json" in gone.damage
    assert [item.row.step for item in list_run(otter)] == [3_000]


def test_samples_come_from_the_step_or_the_nearest_before_it() -> None:
    run = new_run()
    assert read_samples(run, 10) == FoundSamples()
    other = sample_row(1000)._replace(prompt="We must")
    samples = [other, sample_row(1000), sample_row(3700), other._replace(step=3700, time=1.0)]
    record(run, other._replace(step=2000), other._replace(step=500), *samples)
    assert read_samples(run, 499) == FoundSamples()
    assert read_samples(run, 3710) == FoundSamples((samples[3], samples[2]), 3700, other)
    assert read_samples(run, 1500) == FoundSamples(
        (other, samples[1]), 1000, other._replace(step=500)
    )
