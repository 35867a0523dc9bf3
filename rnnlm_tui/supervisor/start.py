"""Starts a run or its next attempt: what can be known to be wrong is refused first, and what the worker refuses is told to whoever asked."""

from __future__ import annotations

import time
from collections.abc import Callable

from rnnlm_tui.contract.config import RunConfig
from rnnlm_tui.contract.estimates import warmup_note
from rnnlm_tui.errors import InputError, WorkerError, error_kind
from rnnlm_tui.store.locks import read_lock
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.run_directory import RunDirectory
from rnnlm_tui.store.runs import create_run
from rnnlm_tui.store.trash import delete_run
from rnnlm_tui.supervisor.estimate import planned_steps, warning_before_start
from rnnlm_tui.supervisor.launch import launch
from rnnlm_tui.supervisor.monitor import summarize
from rnnlm_tui.supervisor.preflight import check_before_start, check_disk

_LOOK_SECONDS = 0.1


def start_run(config: RunConfig, name: str | None = None, parent: str | None = None, *, warn: Callable[[str], None] | None = None) -> RunDirectory:
    """Create a run and launch its worker.

    Args:
        warn: receives, before the start, the warnings that memory is too small by estimate, or that the preset's warm-up is shortened.

    Raises:
        InputError: the config can't run here; no run was created.
        StorageError: the disk has no room for it, with need and have; no run was created.
        WorkerError: the worker ended at its start; the run stays as a draft beside its log.
    """
    check_before_start(config)
    check_disk(config)
    if warn is not None:
        for warning in (warning_before_start(config), warmup_note(config, planned_steps(config))):
            if warning:
                warn(warning)
    run = create_run(config, name, parent)
    launch(run)
    return run


def wait_for_training(run: RunDirectory, seconds: float) -> None:
    """Wait until a new run's worker trains, or `seconds` have passed: a large corpus takes longer, and the run goes on.

    Raises:
        InputError: the worker refused what it was given; the run is in the trash.
        RnnlmError: as `wait_for_resumed_training`.
    """
    _await_training(run, seconds)
    refusal = discard_refused(run)
    if refusal is not None:
        raise refusal
    _check_not_ended(run)


def wait_for_resumed_training(run: RunDirectory, seconds: float) -> None:
    """Wait until the new attempt of a run trains, or `seconds` have passed.

    Raises:
        RnnlmError: the worker refused to go on, or failed at once; the run is as it was, at its last checkpoint.
        WorkerError: the worker ended without an event, for example because it was killed.
    """
    _await_training(run, seconds)
    _check_not_ended(run)


def _await_training(run: RunDirectory, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    with RunReader(run) as reader:
        while time.monotonic() < deadline and read_lock(run.lock_path).held:
            state = reader.last_state()
            if state is not None and state.kind not in ("started", "resumed", "preparing"):
                return
            time.sleep(_LOOK_SECONDS)


def _check_not_ended(run: RunDirectory) -> None:
    """Raise the error of a worker that failed or was killed right after its start."""
    with RunReader(run) as reader:
        state, meta = reader.last_state(), reader.meta()
    if state is not None and state.kind == "failed":
        raise error_kind(int(meta.get("exit_code", "1")))(meta.get("message") or state.text, hint=meta.get("hint", ""))
    summary = summarize(run)
    if summary.status == "crashed":
        raise WorkerError(f"{run.name}: {summary.message}", hint=summary.hint or "")


def discard_refused(run: RunDirectory) -> InputError | None:
    """Move a run that failed for its input, before it ever trained, to the trash; what was wrong, or None for any other run."""
    with RunReader(run) as reader:
        state, meta = reader.last_state(), reader.meta()
    refused = state is not None and state.kind == "failed" and state.attempt == 1 and state.step == 0 and meta.get("exit_code") == str(InputError.exit_code)
    if not refused:
        return None
    delete_run(run)
    return InputError(meta.get("message", "the worker refused the config"), hint=meta.get("hint", ""))
