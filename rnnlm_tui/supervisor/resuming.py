"""Resumes a run and tells after which step it goes on, and what of its files was found damaged and put aside for that."""

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
"""A resume waits this long for the first step at most, some five as a rule, so that what only the worker can see to be wrong is told where it was asked for."""


@dataclass(frozen=True, slots=True)
class PendingResume:
    """A run that is about to go on: `start` lets it, `wait` tells from where it did."""

    run: RunDirectory
    before: RunSummary
    """The run as it was, its database repaired."""
    known: frozenset[str]
    """What lay aside before."""

    @classmethod
    def of(cls, run: RunDirectory) -> PendingResume:
        """Look at the run; a damaged database is rebuilt first.

        Raises: as `summary_after_repair`.
        """
        known = _aside(run)
        return cls(run, summary_after_repair(run), known)

    def start(self) -> int:
        """Let it go on, or start its next worker; returns the worker's pid.

        Raises: as `control_client.resume`.
        """
        return resume(self.run)

    def wait(self, seconds: float = BEGIN_SECONDS) -> str:
        """`plain-otter goes on from step 600`, when it trains or so many seconds have passed.

        Raises:
            RnnlmError: the worker refused to go on, or failed at once.
        """
        if self.before.status == "draft":
            wait_for_resumed_training(self.run, seconds)
            return f"{self.run.name} starts"
        step = self.before.step
        if self.before.status != "paused":
            wait_for_resumed_training(self.run, seconds)
            with RunReader(self.run) as reader:
                step = reader.attempts()[-1].start_step
        return f"{self.run.name} goes on from step {step:,}" if step else f"{self.run.name} begins anew, for it has no checkpoint"

    def damaged_files(self) -> str:
        """What was found damaged since then, and where it is kept; empty where nothing was."""
        names = sorted(_aside(self.run) - self.known)
        return f"damaged, and kept aside: {', '.join(names)}" if names else ""


def _aside(run: RunDirectory) -> frozenset[str]:
    """What of the run lies aside as damaged: checkpoints by their place in its folder, databases by name."""
    try:
        checkpoints = [f"{path.parent.name}/{path.name}" for path in damaged_folders(run)]
        database = run.database_path
        kept = [path.name for path in database.parent.glob(f"{database.name}.damaged-*") if not path.name.endswith(("-wal", "-shm"))]
    except (StorageError, OSError):
        return frozenset()  # what can't be listed can't be read either, which others tell
    return frozenset((*checkpoints, *kept))
