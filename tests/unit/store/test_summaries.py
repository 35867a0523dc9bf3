"""append_summary: which logs get a summary. What lists show of it is in client/test_listing."""

from __future__ import annotations

import pytest

from rnnlm_tui.client.listing import kept_summary, stamps
from rnnlm_tui.errors import StorageError
from rnnlm_tui.schema.facts import Facts
from rnnlm_tui.store.log import RunLog
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.summaries import append_summary
from tests.unit.store.rows import event_row, step_row


def test_only_a_run_that_has_ended_has_a_summary_in_its_log(run: RunDirectory, log: RunLog) -> None:
    log.append(event_row("running"), step_row(1))
    append_summary(run, log)
    assert kept_summary(run, stamps(run)) is None
    log.append(event_row("stopped"))
    append_summary(run, log)
    kept = kept_summary(run, stamps(run))
    assert kept is not None
    assert (kept.status, kept.step) == ("stopped", 1)


def test_a_hint_with_the_runs_folder_which_may_be_moved_is_not_kept(
    run: RunDirectory, log: RunLog
) -> None:
    log.append(Facts(memory_warning="it is too large"), event_row("stopped"))
    append_summary(run, log)
    assert kept_summary(run, stamps(run)) is None


def test_a_log_that_is_long_to_read_gets_no_summary(
    run: RunDirectory, log: RunLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rnnlm_tui.store.index.BLOCK_BYTES", 100)
    monkeypatch.setattr("rnnlm_tui.store.summaries.MOST_UNREAD", 1_000)
    log.append(*(step_row(step) for step in range(1, 20)), event_row("stopped"))
    with pytest.raises(StorageError, match="too many to read"):
        append_summary(run, log)
    assert kept_summary(run, stamps(run)) is None
