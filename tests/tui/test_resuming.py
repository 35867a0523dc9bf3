"""Resuming a run where it trained, or on a device that is asked for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rnnlm_tui.client.gpus import DeviceChoice, TrainingDevice
from rnnlm_tui.schema.presets import DEMO
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.runs import create_run, find_run
from rnnlm_tui.system.locks import RunLock
from rnnlm_tui.tui.screens.choose import ChooseScreen
from tests.homes import trained
from tests.tui.panes.seeing import press
from tests.tui.support import at_home, until

GONE = 'no device "cuda:1" on this machine: it has 1 GPU, cuda:0 (NVIDIA H100 PCIe)'
HERE = (
    TrainingDevice("auto", "the best of them"),
    TrainingDevice("cuda:0", "NVIDIA H100 PCIe, 78.1 GiB free"),
    TrainingDevice("cpu", "2 cores, 6.5 GiB free"),
)


async def test_a_run_is_resumed_on_the_device_that_is_chosen_or_says_why_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resumed: list[str] = []
    choices = [DeviceChoice("", "cuda:0", HERE)]

    def resume(run: RunDirectory, device: str = "") -> str:
        resumed.append(f"{run.name} on {device}")
        return f"{run.name} resumed"

    monkeypatch.setattr("rnnlm_tui.client.start.resume_run", resume)
    monkeypatch.setattr("rnnlm_tui.client.gpus.device_choice", lambda _run, always: choices[-1])
    trained("brisk-heron", "finished", age=30)
    trained("amber-vole", "paused", age=20)
    trained("plain-otter", "failed", age=10)
    draft = create_run(DEMO, "salty-wren")
    with RunLock(find_run("amber-vole").lock_path):
        async with at_home(pane="train", settings={"runs order": ["name", False]}) as (app, pilot):

            async def goes_to(name: str) -> None:
                app.select_run(find_run(name))
                await until(pilot, lambda: app.snapshot and app.snapshot.summary.run == name)

            # the key asks, and escape leaves the run as it is
            await press(pilot, "R", "Resume plain-otter on", "The run trains there from now on.")
            await pilot.press("escape")
            assert not isinstance(app.screen, ChooseScreen)
            assert resumed == []
            await press(pilot, "R", "Resume plain-otter on")
            await press(pilot, "up enter", "plain-otter resumed")
            # so does space if the run's own device is gone
            choices.append(replace(choices[0], problem=GONE))
            await press(pilot, "space", 'no device "cuda:1" on this machine', "78.1 GiB free")
            await pilot.press("down", "enter")
            await until(pilot, lambda: resumed == ["plain-otter on auto", "plain-otter on cpu"])
            choices.append(replace(choices[1], devices=()))
            await press(pilot, "space", "no device for this run")
            # a draft starts on the chosen device
            choices.append(choices[0])
            await goes_to(draft.name)
            await press(pilot, "R", "Resume salty-wren on")
            await press(pilot, "enter", "salty-wren resumed")
            assert resumed[2:] == ["salty-wren on cuda:0"]
            choices.clear()  # it isn't asked for any more
            for name, why in (
                ("amber-vole", "the device can't change while the run has a worker: S stops it"),
                ("brisk-heron", "the run is finished"),
            ):
                await goes_to(name)
                await press(pilot, "R", why)
            assert len(resumed) == 3
