"""Resuming a run where it trained, or on a device that is asked for."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from rnnlm_tui.client.gpus import DeviceChoice, TrainingDevice
from rnnlm_tui.schema.presets import DEMO
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.runs import create_run, find_run
from rnnlm_tui.system.locks import RunLock
from rnnlm_tui.tui.screens.choose import ChooseScreen
from tests.homes import trained
from tests.tui.support import at_home, lines_of, text_of, until

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

            async def asked(*keys: str) -> str:
                """Press the keys, and return what the question shows."""
                await pilot.press(*keys)
                await until(pilot, lambda: isinstance(app.screen, ChooseScreen))
                return text_of(app)

            async def goes_to(name: str) -> None:
                app.select_run(find_run(name))
                await until(pilot, lambda: app.snapshot and app.snapshot.summary.run == name)

            # the key asks, and escape leaves the run as it is
            text = await asked("R")
            assert "Resume plain-otter on" in text
            assert "The run trains there from now on." in text
            await pilot.press("escape")
            await until(pilot, lambda: not isinstance(app.screen, ChooseScreen))
            assert resumed == []
            await asked("R")
            await pilot.press("up", "enter")
            await until(pilot, lambda: resumed == ["plain-otter on auto"])
            # so does space if the run's own device is gone, in every size
            choices.append(replace(choices[0], problem=GONE))
            for size in ((120, 40), (80, 24)):
                await pilot.resize_terminal(*size)
                text = await asked("space")
                assert 'no device "cuda:1" on this machine' in text
                assert "78.1 GiB free" in text
                await pilot.press("escape")
            await asked("space")
            await pilot.press("down", "enter")
            await until(pilot, lambda: resumed[1:] == ["plain-otter on cpu"])
            choices.append(replace(choices[1], devices=()))
            await pilot.press("space")
            await until(pilot, lambda: "no device for this run" in lines_of(app)[-1])
            # a draft starts on the chosen device
            choices.append(choices[0])
            await goes_to(draft.name)
            await asked("R")
            await pilot.press("enter")
            await until(pilot, lambda: resumed[2:] == ["salty-wren on cuda:0"])
            choices.clear()  # it isn't asked for any more
            for name, why in (
                ("amber-vole", "the device can't change while the run has a worker: S stops it"),
                ("brisk-heron", "the run is finished"),
            ):
                await goes_to(name)
                await pilot.press("R")
                await until(pilot, partial(lambda why: why in lines_of(app)[-1], why))
            assert len(resumed) == 3
