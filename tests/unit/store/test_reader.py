"""RunReader: a run's rows, live or ended, for one or more threads. What it shows of any lines is
tested with the index."""

from __future__ import annotations

from pathlib import Path
from threading import Thread

import pytest

from rnnlm_tui.errors import StorageError
from rnnlm_tui.schema.facts import Facts
from rnnlm_tui.schema.metrics import CommandRow, EventRow, SampleRow, StartRow
from rnnlm_tui.schema.protocol import Setting
from rnnlm_tui.schema.steering import JournalledChange
from rnnlm_tui.store.log import RunLog
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader, changes_in
from tests.unit.store.rows import begin, evaluation_row, event_row, sample_row, step_row


def test_a_run_without_logs_reads_as_empty_until_it_has_one(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "plain-otter")
    with RunReader(run) as reader:
        before = reader.refresh()
        lists = [reader.evaluations(), reader.samples(), reader.events(), reader.hardware()]
        assert not any([*lists, reader.attempts(), reader.commands(), reader.recent_steps(9)])
        assert (reader.last_state(), len(reader.series()), len(reader.machine())) == (None, 0, 0)
        assert reader.facts() == Facts()
        assert not run.path.exists()
        run.path.mkdir()
        with begin(run) as log:
            log.append(step_row(1))
        assert reader.refresh() != before
        assert reader.recent_steps(1) == [step_row(1)]


def test_the_version_changes_with_every_row_and_nothing_is_shown_before_a_refresh(
    log: RunLog, reader: RunReader
) -> None:
    versions = [reader.refresh()]
    for step in range(1, 5):
        log.append(step_row(step))
        assert len(reader.recent_steps(9)) == step - 1
        versions.append(reader.refresh())
        assert reader.refresh() == versions[-1]
    assert len(set(versions)) == 5


def test_cached_rows_are_replaced_by_those_of_a_later_attempt(
    run: RunDirectory, log: RunLog, reader: RunReader
) -> None:
    log.append(*map(step_row, range(1, 31)))
    for step in (10, 20, 30):
        log.append(evaluation_row(step), sample_row(step))

    def shown() -> tuple[list[int], list[int], list[tuple[int, float]]]:
        reader.refresh()
        steps = [row.step for row in reader.recent_steps(4)]
        samples = [row.step for row in reader.samples(2)]
        return steps, samples, [(row.step, row.loss) for row in reader.evaluations()]

    assert shown() == ([27, 28, 29, 30], [30, 20], [(10, 4.0), (20, 4.0), (30, 4.0)])
    log.append(evaluation_row(20, loss=3.5))
    reader.evaluations().clear()
    assert shown()[2] == [(10, 4.0), (20, 3.5), (30, 4.0)]
    with begin(run, 22) as second:
        assert shown() == ([19, 20, 21, 22], [20, 10], [(10, 4.0), (20, 3.5)])
        second.append(step_row(23, 2), evaluation_row(20, 2, loss=3.0))
        assert shown()[2] == [(10, 4.0), (20, 3.0)]
        second.append(StartRow(2, 12))
        assert shown() == ([10, 11, 12, 23], [10], [(10, 4.0), (20, 3.0)])
    assert [row.start_step for row in reader.attempts()] == [0, 12]


def test_threads_can_share_a_reader_and_close_it(
    log: RunLog, reader: RunReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rnnlm_tui.store.reader.CHUNK", 10)
    log.append(*map(step_row, range(1, 200)))
    problems: list[BaseException] = []

    def read() -> None:
        try:
            for _ in range(30):
                assert reader.series().step[-1] == 199
                assert len(list(reader.steps())) == 199
                reader.close()
        except BaseException as error:
            problems.append(error)

    threads = [Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []


def test_a_read_transaction_sees_one_consistent_state_also_if_another_reader_reads_on(
    run: RunDirectory, log: RunLog, reader: RunReader
) -> None:
    log.append(step_row(1))
    with reader.read_transaction(), RunReader(run) as other:
        assert [row.step for row in reader.recent_steps(9)] == [1]
        with reader.read_transaction():
            log.append(step_row(2), evaluation_row(2))
            other.refresh()
            reader.refresh()
            assert [row.step for row in reader.steps()] == [1]
            assert reader.evaluations() == []
        assert len(reader.series()) == 1
    with pytest.raises(ZeroDivisionError), reader.read_transaction():
        1 / len(reader.samples())
    assert [row.step for row in reader.recent_steps(9)] == [1, 2]
    assert len(reader.evaluations()) == 1


def test_only_rows_behind_a_place_are_read_again(log: RunLog, reader: RunReader) -> None:
    log.append(step_row(1), event_row("running"), sample_row(1))
    ((place, _),) = reader.rows_after(EventRow)
    log.append(event_row("paused"))
    reader.refresh()
    assert [row.kind for _, row in reader.rows_after(EventRow, place)] == ["paused"]
    ((place, _),) = reader.rows_after(SampleRow)
    assert list(reader.rows_after(SampleRow, place)) == []


def test_rows_that_another_reader_has_read_meanwhile_are_shown_once(
    log: RunLog, reader: RunReader
) -> None:
    log.append(event_row("note", text="one"))
    reader.refresh()
    log.append(event_row("note", text="two"))
    with RunReader(reader.run) as other:
        other.refresh()
    reader.events()
    reader.refresh()
    assert [event.text for event in reader.events()] == ["two", "one"]


def test_progress_is_reported_while_a_long_log_is_read(
    log: RunLog, reader: RunReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rnnlm_tui.store.index.BLOCK_BYTES", 2_000)
    log.append(*map(step_row, range(1, 101)))
    seen: list[tuple[int, int]] = []
    reader.refresh(lambda done, total: seen.append((done, total)))
    size = log.path.stat().st_size
    assert len(seen) > 5
    assert seen == sorted(seen)
    assert {total for _, total in seen} == {size}
    assert seen[-1][0] <= size


def test_a_log_that_cannot_be_read_is_a_storage_error(
    run: RunDirectory, log: RunLog, reader: RunReader
) -> None:
    log.path.unlink()
    log.path.mkdir()
    with pytest.raises(StorageError, match=r"can't read .*log/000001\.jsonl"):
        reader.events()


def test_a_command_is_a_change_if_it_was_carried_out() -> None:
    settings = [{"path": "training.patience", "old": 0, "new": 3}]
    made = {"number": 3, "step": 7, "settings": settings, "undoes": 2, "discards": [1]}
    result: dict[str, object] = {"id": "a", "ok": True, "step": 7, "change": made}
    row = CommandRow(1, "a", "set", {"who": "alex"}, result, 5.0)
    setting = Setting(path="training.patience", old=0, new=3)
    change = JournalledChange(
        number=3, step=7, settings=(setting,), undoes=2, discards=(1,), time=5.0, who="alex"
    )
    assert changes_in([row]) == [change]
    for wrong in ({**result, "ok": False}, {**result, "change": None}, {**result, "ok": "x"}, {}):
        assert changes_in([row._replace(result=wrong)]) == []
