"""Stored calibrations: loading, their limit, and damaged files."""

from __future__ import annotations

import json
import stat
from pathlib import Path

from rnnlm_tui.schema.config import RunConfig, TrainingConfig
from rnnlm_tui.schema.memory import memory_shape
from rnnlm_tui.schema.protocol import Calibration
from rnnlm_tui.store.corpora import KEPT_CALIBRATIONS, add_calibration, load_calibrations
from rnnlm_tui.store.paths import calibration_file


def calibration(batch_size: int, *, time: float = 1.0, speed: float = 7_000.0) -> Calibration:
    """The calibration of a probe of the demo with this batch size."""
    config = RunConfig(training=TrainingConfig(batch_size=batch_size))
    return Calibration(
        host="here",
        device="cpu",
        device_name="cpu, 2 threads",
        threads=2,
        shape=memory_shape(config, 2_048, 0),
        steps=20,
        flops_per_step=1e9,
        step_seconds=0.1,
        processor_seconds=0.2,
        tokens_per_second=speed,
        memory_bytes=400 * 2**20,
        process_bytes=310 * 2**20,
        versions={"rnnlm_tui": "0.1.0"},
        time=time,
    )


def test_calibrations_are_loaded_newest_first_and_stored_privately(home: Path) -> None:
    assert load_calibrations() == []
    old, new = calibration(20, time=1.0), calibration(40, time=2.0)
    add_calibration(new)
    add_calibration(old)
    assert load_calibrations() == [new, old]
    assert stat.S_IMODE(calibration_file().stat().st_mode) == 0o600
    assert [path.name for path in home.iterdir()] == ["calibration.json"]


def test_a_newer_probe_of_the_same_shape_replaces_the_older(home: Path) -> None:
    add_calibration(calibration(20, time=1.0, speed=1.0))
    add_calibration(calibration(20, time=2.0, speed=2.0))
    assert [found.tokens_per_second for found in load_calibrations()] == [2.0]


def test_only_the_newest_are_kept(home: Path) -> None:
    for number in range(1, KEPT_CALIBRATIONS + 6):
        add_calibration(calibration(number, time=float(number)))
    kept = [found.time for found in load_calibrations()]
    assert kept == [float(number) for number in range(KEPT_CALIBRATIONS + 5, 5, -1)]


def test_a_damaged_entry_is_skipped(home: Path) -> None:
    add_calibration(calibration(20))
    entries = json.loads(calibration_file().read_text())
    impossible = [
        {**entries[0], "step_seconds": 0.0},
        {**entries[0], "memory_bytes": -1},
        {**entries[0], "flops_per_step": "many"},
        7,
        {},
    ]
    calibration_file().write_text(json.dumps([*impossible, *entries]))
    assert load_calibrations() == [calibration(20)]
