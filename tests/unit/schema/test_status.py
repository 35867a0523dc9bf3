"""The status is derived, and an unknown state is never shown as success."""

from __future__ import annotations

import json
import math
from itertools import product
from typing import get_args

import pytest

from rnnlm_tui.schema.metrics import EventKind
from rnnlm_tui.schema.status import (
    LIVING,
    RESUMABLE,
    STALE_SECONDS,
    RunStatus,
    StatusFacts,
    derive_status,
)
from rnnlm_tui.schema.summary import TrainFigures


def facts(
    state: EventKind | None,
    *,
    held: bool = True,
    same_host: bool = True,
    heartbeat: float | None = 0.5,
    step: float | None = None,
) -> StatusFacts:
    return StatusFacts(
        lock_held=held,
        same_host=same_host,
        last_state=state,
        heartbeat_age=heartbeat,
        step_age=step,
    )


@pytest.mark.parametrize(
    ("seen", "status"),
    [
        (facts(None, held=False, heartbeat=None), "draft"),
        (facts(None), "draft"),  # its config is being changed
        (facts("started"), "preparing"),
        (facts("preparing"), "preparing"),
        (facts("resumed"), "preparing"),
        (facts("running"), "running"),
        (facts("paused"), "paused"),
        (facts("paused", step=1e6), "paused"),
        (facts("stopped", held=False), "stopped"),
        (facts("finished", held=False), "finished"),
        (facts("finished", held=True), "finished"),
        (facts("failed", held=False, heartbeat=1e6), "failed"),
        (facts("running", held=False), "crashed"),
        (facts("paused", held=False), "crashed"),
        (facts("preparing", held=False, heartbeat=None), "crashed"),
        (facts("running", heartbeat=STALE_SECONDS + 1), "stalled"),
        (facts("running", step=STALE_SECONDS + 1), "stalled"),
        (facts("running", held=False, same_host=False), "running"),
        (facts("running", held=False, same_host=False, heartbeat=STALE_SECONDS + 1), "lost"),
        (facts("running", held=False, same_host=False, heartbeat=None), "lost"),
    ],
)
def test_status_follows_lock_heartbeat_and_last_state(seen: StatusFacts, status: RunStatus) -> None:
    assert derive_status(seen) == status


def test_no_run_is_finished_without_the_event() -> None:
    both = (True, False)
    for state, held, same_host, age in product(get_args(EventKind), both, both, (None, 0.0, 1e9)):
        seen = facts(state, held=held, same_host=same_host, heartbeat=age, step=age)
        assert (derive_status(seen) == "finished") == (state == "finished")


def test_living_and_resumable_do_not_overlap() -> None:
    assert not LIVING & RESUMABLE
    assert set(get_args(RunStatus)) >= LIVING | RESUMABLE


def test_non_finite_numbers_are_null_in_json() -> None:
    figures = TrainFigures(loss=math.nan, perplexity=math.inf)
    assert json.loads(figures.model_dump_json())["loss"] is None


def test_a_worker_with_an_activity_is_not_stalled_with_a_fresh_heartbeat() -> None:
    busy = facts("running", step=1e6)._replace(activity="evaluating")
    assert derive_status(busy) == "running"
    assert derive_status(busy._replace(activity="")) == "stalled"
    assert derive_status(busy._replace(heartbeat_age=STALE_SECONDS + 1)) == "stalled"
    assert derive_status(busy._replace(heartbeat_age=None)) == "stalled"
