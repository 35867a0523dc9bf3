"""Sampling from the current weights of a run that trains, and following its evaluations."""

from __future__ import annotations

from dataclasses import replace

from textual.pilot import Pilot

from rnnlm_tui.client.monitor import RunSnapshot
from rnnlm_tui.errors import CheckpointError, RunStateError
from rnnlm_tui.schema.metrics import EvaluationRow
from rnnlm_tui.schema.status import RunStatus
from rnnlm_tui.tui.app import RnnlmApp
from tests.tui.fakes import FakeSampler, FakeServices
from tests.tui.panes.asking import last_request, pane
from tests.tui.panes.fakes import CHECKPOINTS, NOW, make_snapshot
from tests.tui.panes.seeing import opened, screen_text, until_shown
from tests.tui.support import until


def evaluated(step: int, status: RunStatus = "running") -> RunSnapshot:
    """The run after an evaluation at this step."""
    row = EvaluationRow(1, step, "validation", "validation", 4.0, 20_000, 1.7, 0.4, NOW)
    return replace(make_snapshot(status), evaluations=(row,))


async def choose_now(app: RnnlmApp, pilot: Pilot[int]) -> None:
    """Choose the current weights with ^k."""
    while (choice := pane(app).choice) is not None and choice.row is not None:
        await pilot.press("ctrl+k")


async def test_each_sample_of_current_weights_takes_a_snapshot_and_shows_its_step() -> None:
    services = FakeServices(make_snapshot())
    async with opened(services, "prompt") as (app, pilot):
        await choose_now(app, pilot)
        await until_shown(pilot, "@now current weights")
        await pilot.press(*"We", "enter")
        await until_shown(pilot, "We is strong.", "@now step 3,752, just now")
        await until_shown(pilot, "@now step 3,752, 1 s ago")
        await pilot.press("enter")
        await until(pilot, lambda: len(services.fake_sampler.requests) == 2)
        assert services.calls.count(("send", "snapshot")) == 2
        branch = app.prompt_session.tree.current
        assert branch is not None
        assert branch.weights.label == "now, step 3,752"


async def test_following_samples_the_newest_prompt_again_after_each_evaluation() -> None:
    services = FakeServices(evaluated(3_000))
    async with opened(services, "prompt", size=(120, 40)) as (app, pilot):
        await pilot.press(*"We", "enter")
        await until_shown(pilot, "✓ 3 of 100 tokens")
        await pilot.press("ctrl+f")
        await until(pilot, lambda: len(services.fake_sampler.requests) == 2)
        await until_shown(pilot, "Sampling, after each evaluation", "@now step 3,752")
        assert last_request(services).checkpoint.endswith("snapshots/step-000003751-aa")
        services.snapshots["plain-otter"] = evaluated(3_500)
        await until(pilot, lambda: len(services.fake_sampler.requests) == 3)
        assert {request.settings.seed for request in services.fake_sampler.requests} == {7}
        services.snapshots["plain-otter"] = evaluated(3_500)
        app.watcher.poll_now()
        await until(pilot, lambda: not pane(app).sampling)
        await pilot.press("ctrl+f")
        await until_shown(pilot, "no longer sampling after each evaluation")
        assert len(services.fake_sampler.requests) == 3
        assert not pane(app).following


async def test_following_ends_with_the_run_after_a_sample_of_its_last_checkpoint() -> None:
    services = FakeServices(evaluated(3_000))
    async with opened(services, "prompt") as (app, pilot):
        await pilot.press(*"We", "enter")
        await until_shown(pilot, "✓ 3 of 100 tokens")
        await pilot.press("ctrl+f")
        await until(pilot, lambda: len(services.fake_sampler.requests) == 2)
        await until(pilot, lambda: not pane(app).sampling)
        services.snapshots["plain-otter"] = evaluated(3_750, "finished")
        await until(pilot, lambda: len(services.fake_sampler.requests) == 3)
        await until_shown(pilot, "plain-otter is finished: following ended", "@last step 3,750")
        assert last_request(services).checkpoint.endswith("checkpoints/step-000003750")
        assert not pane(app).following


async def test_a_run_that_does_not_train_cannot_be_followed() -> None:
    async with opened(FakeServices(make_snapshot("finished")), "prompt") as (app, pilot):
        await pilot.press("ctrl+f")
        await until_shown(pilot, "the run is not training: nothing to follow")
        assert not pane(app).following


async def test_a_worker_that_ended_meanwhile_is_an_error_in_one_sentence() -> None:
    services = FakeServices(make_snapshot(checkpoints=()))
    services.refuse = RunStateError("plain-otter is not running", hint="resume it")
    async with opened(services, "prompt") as (app, pilot):
        await pilot.press(*"We", "enter")
        await until_shown(pilot, "✗ plain-otter is not running. resume it", "✗ no text")
        assert not pane(app).sampling


async def test_a_checkpoint_deleted_meanwhile_is_reported_and_the_best_one_is_next() -> None:
    services = FakeServices(
        make_snapshot(),
        sampler=FakeSampler(failure=CheckpointError("step-000003000 has no manifest.json")),
    )
    async with opened(services, "prompt") as (app, pilot):
        await pilot.press("ctrl+k")
        await until_shown(pilot, "step 3,000, val 60.7")
        await pilot.press(*"We", "enter")
        await until_shown(pilot, "✗ step-000003000 has no manifest.json")
        services.fake_sampler.failure = None
        left = tuple(row for row in CHECKPOINTS if row.step != 3_000)
        services.snapshots["plain-otter"] = make_snapshot(checkpoints=left)
        await until_shown(pilot, "the chosen checkpoint was deleted", "@best step 3,700")
        await pilot.press("enter")
        await until_shown(pilot, "We is strong.")
        assert "manifest" not in screen_text(app).splitlines()[-8]
