"""Start a run or resume it, and report its worker's errors and damaged files."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from rnnlm_tui.client.control import launch, resume, summary_after_repair
from rnnlm_tui.client.estimate import planned_steps, warning_before_start
from rnnlm_tui.client.monitor import summarize
from rnnlm_tui.client.preflight import check_before_start, check_disk
from rnnlm_tui.errors import InputError, StorageError, WorkerError, error_kind
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.estimates import warmup_note
from rnnlm_tui.schema.summary import RunSummary
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.runs import create_run
from rnnlm_tui.store.trash import delete_run
from rnnlm_tui.store.verify import damaged_folders
from rnnlm_tui.system.locks import read_lock

_LOOK_SECONDS = 0.1

BEGIN_SECONDS = 30.0
"""Longest wait for the first step, usually five seconds: errors that only the worker can find are
shown where the user asked for the resume."""


def start_run(
    config: RunConfig,
    name: str | None = None,
    parent: str | None = None,
    *,
    warn: Callable[[str], None] | None = None,
) -> RunDirectory:
    """Create a run and launch its worker.

    Args:
        warn: called before the start with warnings: too little memory, or a shortened warm-up.

    Raises:
        InputError: the config can't run here; no run was created.
        StorageError: not enough disk space; no run was created.
        WorkerError: the worker failed to start; the run stays as a draft with its log.
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
    """Wait until a new run trains, at most `seconds`: preparing a large corpus takes longer.

    Raises:
        InputError: the worker rejected the config; the run was moved to the trash.
        RnnlmError: as `wait_for_resumed_training`.
    """
    _await_training(run, seconds)
    refusal = discard_refused(run)
    if refusal is not None:
        raise refusal
    _check_not_ended(run)


def wait_for_resumed_training(run: RunDirectory, seconds: float) -> None:
    """Wait until a run's new attempt trains, at most `seconds`.

    Raises:
        RnnlmError: the worker refused to resume, or failed at once; the run's checkpoints are
            unchanged.
        WorkerError: the worker exited without an event, for example because it was killed.
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
    """Raise the error of a worker that failed or was killed."""
    with RunReader(run) as reader:
        state, meta = reader.last_state(), reader.meta()
    if state is not None and state.kind == "failed":
        raise error_kind(int(meta.get("exit_code", "1")))(
            meta.get("message") or state.text, hint=meta.get("hint", "")
        )
    summary = summarize(run)
    if summary.status == "crashed":
        raise WorkerError(f"{run.name}: {summary.message}", hint=summary.hint or "")


def discard_refused(run: RunDirectory) -> InputError | None:
    """Move a run to the trash if it failed with an InputError before its first step; returns the
    error."""
    with RunReader(run) as reader:
        state, meta = reader.last_state(), reader.meta()
    refused = (
        state is not None
        and state.kind == "failed"
        and state.attempt == 1
        and state.step == 0
        and meta.get("exit_code") == str(InputError.exit_code)
    )
    if not refused:
        return None
    delete_run(run)
    return InputError(
        meta.get("message", "the worker rejected the config"), hint=meta.get("hint", "")
    )


@dataclass(frozen=True, slots=True)
class PendingResume:
    """A run about to be resumed: `start` resumes it, `wait` returns from which step."""

    run: RunDirectory
    before: RunSummary
    """The run's summary before, with a repaired database."""
    known: frozenset[str]
    """Damaged files that were already moved aside before."""

    @classmethod
    def of(cls, run: RunDirectory) -> PendingResume:
        """Read the run's summary; a damaged database is rebuilt first.

        Raises: as `summary_after_repair`.
        """
        known = _aside(run)
        return cls(run, summary_after_repair(run), known)

    def start(self) -> int:
        """Resume the run; returns the worker's pid.

        Raises: as `control_client.resume`.
        """
        return resume(self.run)

    def wait(self, seconds: float = BEGIN_SECONDS) -> str:
        """Wait until it trains, at most `seconds`; returns `plain-otter resumed at step 600`.

        Raises:
            RnnlmError: the worker refused to resume, or failed at once.
        """
        if self.before.status == "draft":
            wait_for_resumed_training(self.run, seconds)
            return f"{self.run.name} started"
        step = self.before.step
        if self.before.status != "paused":
            wait_for_resumed_training(self.run, seconds)
            with RunReader(self.run) as reader:
                step = reader.attempts()[-1].start_step
        return (
            f"{self.run.name} resumed at step {step:,}"
            if step
            else f"{self.run.name} restarted from step 0: it has no checkpoint"
        )

    def damaged_files(self) -> str:
        """A message about newly found damaged files; empty if there are none."""
        names = sorted(_aside(self.run) - self.known)
        return f"damaged and moved aside: {', '.join(names)}" if names else ""


def _aside(run: RunDirectory) -> frozenset[str]:
    """Damaged checkpoints and databases of the run that were moved aside, by name."""
    try:
        checkpoints = [f"{path.parent.name}/{path.name}" for path in damaged_folders(run)]
        database = run.database_path
        kept = [
            path.name
            for path in database.parent.glob(f"{database.name}.damaged-*")
            if not path.name.endswith(("-wal", "-shm"))
        ]
    except (StorageError, OSError):
        return frozenset()  # resuming reports this error
    return frozenset((*checkpoints, *kept))
