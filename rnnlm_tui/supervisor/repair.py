"""Read a run's summary before resuming it, and rebuild a damaged database first."""

from __future__ import annotations

from rnnlm_tui.contract.summary import RunSummary
from rnnlm_tui.errors import DatabaseError, NewerDatabaseError
from rnnlm_tui.store.rebuild import repair_database
from rnnlm_tui.store.run_directory import RunDirectory
from rnnlm_tui.supervisor.monitor import summarize


def summary_after_repair(run: RunDirectory) -> RunSummary:
    """The run's summary, after rebuilding its database if it is damaged.

    Raises:
        RunStateError: the database is damaged and a worker holds the run.
        RnnlmError: the config or the database can't be read.
    """
    try:
        return summarize(run)
    except NewerDatabaseError:
        raise
    except DatabaseError:
        repair_database(run)
        return summarize(run)
