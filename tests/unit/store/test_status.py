"""The status is derived, and an unknown state is never shown as success."""

from __future__ import annotations

import json
import math
from functools import partial
from itertools import product
from typing import get_args

import pytest

from rnnlm_tui.schema.metrics import EventKind
from rnnlm_tui.schema.status import LIVING, RESUMABLE, STALE_SECONDS, RunStatus
from rnnlm_tui.schema.summary import TrainFigures
from rnnlm_tui.store.summaries import derive_status

OLD = STALE_SECONDS + 1
status_of = partial(derive_status, lock_held=True, same_host=True, heartbeat_age=0.5)


@pytest.mark.parametrize(
    ("seen", "status"),
    [
        (status_of(None, lock_held=False, heartbeat_age=None), "draft"),
        (status_of(None), "draft"),  # its config is being changed
        (status_of("started"), "preparing"),
        (status_of("preparing"), "preparing"),
        (status_of("resumed"), "preparing"),
        (status_of("running"), "running"),
        (status_of("paused"), "paused"),
        (status_of("paused", step_age=1e6), "paused"),
        (status_of("stopped", lock_held=False), "stopped"),
        (status_of("finished", lock_held=False), "finished"),
        (status_of("finished", lock_held=True), "finished"),
        (status_of("failed", lock_held=False, heartbeat_age=1e6), "failed"),
        (status_of("running", lock_held=False), "crashed"),
        (status_of("paused", lock_held=False), "crashed"),
        (status_of("preparing", lock_held=False, heartbeat_age=None), "crashed"),
        (status_of("running", heartbeat_age=OLD), "stalled"),
        (status_of("running", step_age=OLD), "stalled"),
        (status_of("running", lock_held=False, same_host=False), "running"),
        (
            status_of("running", lock_held=False, same_host=False, heartbeat_age=OLD),
            "lost",
        ),
        (status_of("running", lock_held=False, same_host=False, heartbeat_age=None), "lost"),
    ],
)
def test_status_follows_lock_heartbeat_and_last_state(seen: RunStatus, status: RunStatus) -> None:
    assert seen == status


def test_no_run_is_finished_without_the_event() -> None:
    both = (True, False)
    for state, held, same_host, age in product(get_args(EventKind), both, both, (None, 0.0, 1e9)):
        seen = status_of(
            state, lock_held=held, same_host=same_host, heartbeat_age=age, step_age=age
        )
        assert (seen == "finished") == (state == "finished")


def test_living_and_resumable_do_not_overlap() -> None:
    assert not LIVING & RESUMABLE
    assert set(get_args(RunStatus)) >= LIVING | RESUMABLE


def test_non_finite_numbers_are_null_in_json() -> None:
    figures = TrainFigures(loss=math.nan, perplexity=math.inf)
    assert json.loads(figures.model_dump_json())["loss"] is None


def test_a_worker_with_an_activity_is_not_stalled_with_a_fresh_heartbeat() -> None:
    busy = partial(status_of, "running", step_age=1e6, activity="evaluating")
    assert busy() == "running"
    assert busy(activity="") == "stalled"
    assert busy(heartbeat_age=OLD) == "stalled"
    assert busy(heartbeat_age=None) == "stalled"
