"""Resume a run; report from which step, and which damaged files were moved aside."""

from __future__ import annotations

from dataclasses import dataclass

from rnnlm_tui.contract.summary import RunSummary
from rnnlm_tui.errors import StorageError
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.run_directory import RunDirectory
from rnnlm_tui.store.verification import damaged_folders
from rnnlm_tui.supervisor.control_client import resume
from rnnlm_tui.supervisor.repair import summary_after_repair
from rnnlm_tui.supervisor.start import wait_for_resumed_training

BEGIN_SECONDS = 30.0
"""Longest wait for the first step, usually five seconds: errors that only the worker can find are shown where the user asked for the resume."""


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
        return f"{self.run.name} resumed at step {step:,}" if step else f"{self.run.name} restarted from step 0: it has no checkpoint"

    def damaged_files(self) -> str:
        """A message about newly found damaged files; empty if there are none."""
        names = sorted(_aside(self.run) - self.known)
        return f"damaged and moved aside: {', '.join(names)}" if names else ""


def _aside(run: RunDirectory) -> frozenset[str]:
    """Damaged checkpoints and databases of the run that were moved aside, by name."""
    try:
        checkpoints = [f"{path.parent.name}/{path.name}" for path in damaged_folders(run)]
        database = run.database_path
        kept = [path.name for path in database.parent.glob(f"{database.name}.damaged-*") if not path.name.endswith(("-wal", "-shm"))]
    except (StorageError, OSError):
        return frozenset()  # resuming reports this error
    return frozenset((*checkpoints, *kept))
