"""Commands to a worker that answers, rejects, dies or doesn't exist."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from rnnlm_tui.client import control
from rnnlm_tui.client.control import launch, resume, send
from rnnlm_tui.client.monitor import summarize
from rnnlm_tui.errors import InputError, RunStateError, WorkerError
from rnnlm_tui.schema.facts import Facts
from rnnlm_tui.schema.metrics import EventKind, EventRow
from rnnlm_tui.store.log import RunLog
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.system.locks import read_lock
from tests.unit.client.logs import record


def ended(run: RunDirectory, kind: EventKind, host: str | None = None) -> None:
    """Give the run a history that ends with an event of this kind."""
    record(run, EventRow(1, 0, kind, "", time.time() - 3_600), host=host)


def test_send_returns_the_answer(run: RunDirectory) -> None:
    launch(run)
    assert send(run, "status").status == "running"
    assert send(run, "sample").text == "We must\nfight"


def test_a_rejected_command_is_an_error_with_its_hint(run: RunDirectory) -> None:
    launch(run)
    with pytest.raises(RunStateError, match="the disk is full") as caught:
        send(run, "checkpoint")
    assert caught.value.hint == "free some"


def test_a_worker_that_dies_during_a_command_is_reported(run: RunDirectory) -> None:
    launch(run)
    with pytest.raises(WorkerError, match="exited before it answered evaluate"):
        send(run, "evaluate")


def test_waiting_for_an_answer_times_out(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "ANSWER_SECONDS_OTHERWISE", 0.2)
    launch(run)
    with pytest.raises(WorkerError, match=r"did not answer snapshot within 0 s"):
        send(run, "snapshot")


@pytest.mark.parametrize(
    ("kind", "hint"),
    [
        ("stopped", "`rnnlm-tui resume plain-otter --detach` resumes it"),
        ("running", "`rnnlm-tui resume plain-otter --detach` resumes it"),
        ("finished", ""),
    ],
)
def test_a_run_without_a_worker_is_reported_with_its_status(
    run: RunDirectory, kind: EventKind, hint: str
) -> None:
    ended(run, kind)
    status = {"running": "crashed"}.get(kind, kind)
    with pytest.raises(
        RunStateError, match=f"plain-otter takes no commands: it is {status}"
    ) as caught:
        send(run, "pause")
    assert caught.value.hint == hint


def test_values_too_long_for_a_line_are_refused(run: RunDirectory) -> None:
    with pytest.raises(InputError, match="longer than 65,536 bytes"):
        send(run, "set", changes={"evaluation.prompts": ["\x01" * 20_000]})


def test_a_run_is_resumed_by_a_command_or_a_new_attempt(run: RunDirectory) -> None:
    pid = launch(run)
    with pytest.raises(RunStateError, match="plain-otter is already running"):
        resume(run)
    send(run, "pause")
    assert resume(run) == pid
    send(run, "stop")
    pid = resume(run)
    assert read_lock(run.lock_path).pid == pid
    assert summarize(run).attempt == 2


def test_a_finished_run_is_neither_resumed_nor_evaluated_and_has_a_hint(run: RunDirectory) -> None:
    ended(run, "finished")
    with pytest.raises(RunStateError, match="plain-otter is finished") as caught:
        resume(run)
    words = "to start a new run from its weights: rnnlm-tui train --from plain-otter@last"
    assert caught.value.hint == words
    with pytest.raises(RunStateError, match="plain-otter takes no commands") as caught:
        send(run, "evaluate")
    assert "`rnnlm-tui score plain-otter FILE`" in caught.value.hint


def test_a_run_on_another_host_is_not_resumed_here(run: RunDirectory) -> None:
    ended(run, "running", host="elsewhere")
    with pytest.raises(RunStateError, match="last seen on elsewhere"):
        resume(run)


def test_the_recorded_socket_path_is_used(run: RunDirectory, tmp_path: Path) -> None:
    launch(run)
    elsewhere = tmp_path / "s"
    run.socket_path.rename(elsewhere)
    with RunLog(run, 1) as log:
        log.append(Facts(socket=str(elsewhere)))
    assert send(run, "status").status == "running"


def test_a_run_whose_log_cannot_be_read_can_still_be_controlled(
    run: RunDirectory,
) -> None:
    launch(run)
    run.logs_path.rename(run.path / "elsewhere")
    run.logs_path.touch()
    assert send(run, "status").status == "running"
