"""Start and resume runs: rejected configs and failures."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from rnnlm_tui.client.start import (
    discard_refused,
    start_run,
    wait_for_training,
)
from rnnlm_tui.errors import InputError, RnnlmError, StorageError
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.facts import Facts
from rnnlm_tui.schema.metrics import EventKind, EventRow
from rnnlm_tui.store.log import RunLog
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.runs import create_run, list_runs
from rnnlm_tui.system.locks import RunLock
from tests.unit.client.logs import record


def run_that_is(kind: EventKind, *, step: int = 0, exit_code: int = 2) -> RunDirectory:
    run = create_run(RunConfig(), "plain-otter")
    why = Facts(message="the text is too short", hint="take more", exit_code=exit_code)
    record(run, why, EventRow(1, step, kind, "", 1_004.0), host="box")
    return run


def test_a_run_rejected_for_its_input_is_moved_to_the_trash() -> None:
    run = run_that_is("failed")
    with pytest.raises(InputError, match="the text is too short") as refused:
        wait_for_training(run, 5.0)
    assert (refused.value.hint, refused.value.exit_code) == ("take more", 2)
    assert list_runs() == []


@pytest.mark.parametrize(
    "run",
    [
        {"kind": "running"},
        {"kind": "failed", "step": 3},
        {"kind": "failed", "exit_code": 5},
        {"kind": "preparing"},
    ],
    ids=lambda given: str(given),
)
def test_other_runs_are_kept_and_a_failure_is_raised(
    run: dict[str, object],
) -> None:
    with (
        pytest.raises(RnnlmError, match="the text is too short")
        if run["kind"] == "failed"
        else nullcontext()
    ):
        wait_for_training(run_that_is(**run), 0.0)  # type: ignore[arg-type]
    assert discard_refused(list_runs()[0]) is None
    assert [found.name for found in list_runs()] == ["plain-otter"]


def test_a_refused_resume_is_raised_and_the_run_kept() -> None:
    run = run_that_is("failed", step=3, exit_code=5)
    with pytest.raises(StorageError, match="the text is too short") as refused:
        wait_for_training(run, 5.0, new=False)
    assert refused.value.hint == "take more"
    assert list_runs() == [run]


@pytest.mark.parametrize("kind", ["resumed", "preparing", "running", "paused"])
def test_a_training_or_slow_resume_is_not_a_failure(kind: EventKind) -> None:
    wait_for_training(run_that_is(kind), 0.0, new=False)


def test_the_wait_ends_when_the_run_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_that_is("preparing")
    looks = iter([None])

    def begin_training(_: float) -> None:
        next(looks)  # only one look finds it preparing
        with RunLog(run, 1) as log:
            log.append(EventRow(1, 0, "running", "", 1_005.0))

    monkeypatch.setattr("rnnlm_tui.client.start.time.sleep", begin_training)
    with RunLock(run.lock_path):
        wait_for_training(run, 60.0, new=False)


def test_invalid_input_creates_no_run() -> None:
    with pytest.raises(InputError, match="nowhere"):
        start_run(RunConfig.model_validate({"corpus": {"source": "/nowhere/text.txt"}}))
    assert list_runs() == []


def test_an_invalid_niceness_creates_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RNNLM_TUI_NICENESS", "high")
    with pytest.raises(InputError, match="RNNLM_TUI_NICENESS is high"):
        start_run(
            RunConfig.model_validate({"corpus": {"source": "elman"}, "training": {"device": "cpu"}})
        )
    assert list_runs() == []
