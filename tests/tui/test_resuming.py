"""Resuming a run where it trained, or on a device that is asked for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rnnlm_tui.schema.status import RunStatus
from rnnlm_tui.tui.screens.choose import ChooseScreen
from tests.tui.fakes import FakeServices, make_snapshot
from tests.tui.support import lines_of, running_app, text_of, until, with_runs

GONE = 'no device "cuda:1" on this machine: it has 1 GPU, cuda:0 (NVIDIA H100 PCIe)'


def run_that(status: RunStatus = "failed", *, problem: str = "") -> FakeServices:
    services = with_runs(make_snapshot(status))
    services.devices = replace(services.devices, problem=problem)
    return services


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_space_asks_for_a_device_if_the_runs_own_is_gone(size: tuple[int, int]) -> None:
    services = run_that(problem=GONE)
    async with running_app(services, size=size) as (app, pilot):
        await pilot.press("space")
        await until(pilot, lambda: isinstance(app.screen, ChooseScreen))
        shown = text_of(app)
        assert "Resume plain-otter on" in shown
        assert 'no device "cuda:1" on this machine' in shown
        assert "78.1 GiB free" in shown
        assert services.resumed == []
        await pilot.press("down", "enter")
        await until(pilot, lambda: services.resumed == ["plain-otter on cpu"])


async def test_a_key_asks_for_a_device_and_escape_leaves_the_run_as_it_is() -> None:
    services = run_that("stopped")
    async with running_app(services) as (app, pilot):
        await pilot.press("R")
        await until(pilot, lambda: isinstance(app.screen, ChooseScreen))
        assert "The run trains there from now on." in text_of(app)
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, ChooseScreen))
        assert services.resumed == []
        await pilot.press("R")
        await until(pilot, lambda: isinstance(app.screen, ChooseScreen))
        await pilot.press("up", "enter")
        await until(pilot, lambda: services.resumed == ["plain-otter on auto"])


async def test_a_draft_starts_on_the_chosen_device() -> None:
    services = run_that("draft")
    async with running_app(services, pane="train") as (app, pilot):
        await pilot.press("R")
        await until(pilot, lambda: isinstance(app.screen, ChooseScreen))
        await pilot.press("enter")
        await until(pilot, lambda: services.resumed == ["plain-otter on cuda:0"])
        assert services.started == []


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("running", "the device can't change while the run has a worker: S stops it first"),
        ("paused", "the device can't change while the run has a worker: S stops it first"),
        ("finished", "the run is finished"),
    ],
)
async def test_a_run_that_cannot_change_its_device_says_why(status: RunStatus, words: str) -> None:
    services = run_that(status)
    async with running_app(services) as (app, pilot):
        await pilot.press("R")
        await until(pilot, lambda: words in lines_of(app)[-1])
        assert ("device_choice", "plain-otter") not in services.calls


async def test_a_run_that_no_device_here_can_train_says_why() -> None:
    services = run_that(problem=GONE)
    services.devices = replace(services.devices, devices=())
    async with running_app(services) as (app, pilot):
        await pilot.press("space")
        await until(pilot, lambda: "no device for this run" in lines_of(app)[-1])
        assert services.resumed == []
