"""`estimate --probe` from end to end: a real child process, and later estimates that use it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from rnnlm_tui.schema.memory import WORKER_BYTES
from tests.integration.test_command_line import SMALL, Machine


@pytest.fixture
def machine(home: Path) -> Machine:
    """The command line on an empty home."""
    return Machine(home, Path(sys.executable))


def test_a_probe_measures_and_later_estimates_use_it(machine: Machine) -> None:
    before = machine.json("estimate", *SMALL)
    assert (
        before["memory_measured"],
        before["calibrated_by"],
        before["seconds"],
        before["probe"],
    ) == (False, None, None, None)
    done = machine.run("estimate", *SMALL, "--probe", "--json")
    found = json.loads(done.stdout)
    probe = found["probe"]
    assert probe["steps"] == 20
    assert probe["device"] == "cpu"
    assert probe["tokens_per_second"] > 0
    assert probe["step_seconds"] > 0
    assert "20 of 20 steps" in done.stderr
    assert sorted(path.name for path in machine.home.iterdir()) == [
        "calibration.json",
        "corpora",
    ], "no run"
    assert not [path for path in (machine.home / "corpora").glob("*") if path.name.startswith(".")]
    after = machine.json("estimate", *SMALL)
    assert after == {**found, "probe": None, "memory_free": after["memory_free"]}
    assert (after["memory_measured"], after["calibrated_by"], after["calibrated_run"]) == (
        True,
        "probe",
        None,
    )
    saving = after["memory_parts"]["saving"]
    assert after["memory_bytes"] == probe["memory_bytes"] + WORKER_BYTES + saving
    assert after["seconds"] == pytest.approx(after["steps"] * probe["step_seconds"], rel=0.1), (
        "the last step of a pass is shorter"
    )
    other = machine.json("estimate", *SMALL, "--set", "training.batch_size=10")
    assert (other["memory_measured"], other["calibrated_by"]) == (False, "probe")
    words = machine.run("estimate", *SMALL).stdout
    assert "at the speed of the probe" in words
    assert "measured" in words
