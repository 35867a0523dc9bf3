"""A real worker on a real corpus: it finishes, outlives its parent, and fails with a reason."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path

import pytest

from rnnlm_tui.cli.main import run as run_command
from rnnlm_tui.client.control import resume, send
from rnnlm_tui.client.monitor import RunMonitor, summarize
from rnnlm_tui.errors import RunStateError
from rnnlm_tui.schema.presets import DEMO
from rnnlm_tui.store.checkpoints import list_checkpoints, read_checkpoints
from rnnlm_tui.store.index import index_folder
from rnnlm_tui.store.labels import RunLabels, labels_file
from rnnlm_tui.store.log import logs_of
from rnnlm_tui.store.manifest import read_manifest, verify_checkpoint
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.summaries import kept_summary
from rnnlm_tui.system.locks import read_lock
from tests.integration.runs import start, tiny_config, wait_for, wait_until_ended

pytestmark = pytest.mark.usefixtures("warm")


def test_a_run_trains_to_its_last_step_and_records_everything(text: Path) -> None:
    run = start(tiny_config(text))
    summary = wait_until_ended(run)
    assert summary.status == "finished"
    assert summary.step == summary.max_steps == 60
    assert summary.tokens_seen == 60 * 4 * 16
    assert summary.pid is None
    assert summary.model.parameters is not None
    assert summary.test.name == "test"
    assert summary.test.perplexity is not None
    assert summary.baseline.perplexity is not None
    assert summary.tokens_per_second is not None
    assert (summary.checkpoints.best, summary.checkpoints.last) == (60, 60)
    with RunReader(run) as reader:
        steps = reader.recent_steps(100)
        assert [row.step for row in steps] == list(range(1, 61))
        assert all(
            later.active_seconds > earlier.active_seconds for earlier, later in pairwise(steps)
        )
        assert [(row.step, row.split) for row in reader.evaluations()] == [
            (20, "validation"),
            (40, "validation"),
            (60, "validation"),
            (60, "test"),
        ]
        assert [(row.step, row.prompt, row.tokens, row.seed) for row in reader.samples()] == [
            (step, "The cat", 12, 7) for step in (60, 40, 20)
        ]
        kinds = [event.kind for event in reversed(reader.events())]
    assert [kind for kind in kinds if kind != "note"][:3] == ["started", "preparing", "running"]
    assert kinds[-1] == "finished"
    for entry in list_checkpoints(run):
        assert verify_checkpoint(entry.path).step == entry.step


def test_an_ended_run_is_shown_alike_from_its_last_line_its_index_and_its_rows(
    text: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = start(tiny_config(text))
    wait_until_ended(run)
    labels_file(run).write(RunLabels(("paper",), "worth a second look", pinned=True))

    def shown() -> tuple[str, str]:
        outputs = []
        for arguments in (["show", run.name, "--json"], ["runs", "--json"]):
            assert run_command(arguments) == 0
            outputs.append(capsys.readouterr().out)
        return outputs[0], outputs[1]

    assert kept_summary(run) is not None
    first = shown()
    shutil.rmtree(index_folder(), ignore_errors=True)
    assert shown() == first
    log = logs_of(run)[0][1]
    *_, last = lines = log.read_bytes().splitlines(keepends=True)
    assert last.startswith(b'{"kind":"summary"')
    log.write_bytes(b"".join(lines[:-1]))
    assert shown() == first
    shutil.rmtree(index_folder(), ignore_errors=True)
    assert shown() == first


def test_retention_keeps_the_newest_and_the_best(text: Path) -> None:
    run = start(
        tiny_config(
            text,
            {"checkpoint.keep_last": 2, "checkpoint.every": 10, "optimizer.learning_rate": 0.003},
        )
    )
    wait_until_ended(run)
    rows = read_checkpoints(run)
    assert [row.step for row in rows][-2:] == [50, 60]
    assert [row.step for row in rows if row.last] == [60]
    best = min(
        (row for row in rows if row.validation_loss is not None),
        key=lambda row: row.validation_loss or 0.0,
    )
    assert [row.step for row in rows if row.best] == [best.step]


def test_a_missing_corpus_fails_the_run_with_the_reason(tmp_path: Path) -> None:
    run = start(tiny_config(tmp_path / "nowhere.txt"))
    summary = wait_until_ended(run)
    assert summary.status == "failed"
    assert summary.message is not None
    assert "nowhere.txt" in summary.message
    with RunReader(run) as reader:
        failures = [event.text for event in reader.events() if event.kind == "failed"]
    assert len(failures) == 1
    assert "Traceback" not in failures[0]
    assert "Traceback" in run.log_path.read_text()


def test_a_missing_device_fails_before_the_corpus_is_built(text: Path, home: Path) -> None:
    run = start(tiny_config(text, {"training.device": "cuda:77"}))
    summary = wait_until_ended(run)
    assert summary.status == "failed"
    assert 'no device "cuda:77"' in str(summary.message)
    assert not any((home / "corpora").glob("*"))


def test_a_monitor_sees_every_step_once(text: Path) -> None:
    run = start(tiny_config(text))
    monitor = RunMonitor(run)
    seen = []

    def finished() -> bool:
        snapshot = monitor.poll()
        if snapshot is not None:
            seen.append(snapshot.summary.step)
        return snapshot is not None and snapshot.summary.status == "finished"

    wait_for(finished, "the monitor to see the end")
    wait_for(lambda: not read_lock(run.lock_path).held, "the worker's end")
    last = monitor.snapshot()
    assert monitor.poll() is None
    assert last.series.width == 1
    assert list(last.series.step) == [float(step) for step in range(1, 61)]
    assert seen == sorted(seen)
    assert RunMonitor(run).snapshot().series.step == last.series.step


def test_a_finished_run_is_not_resumed(text: Path) -> None:
    run = start(tiny_config(text, {"training.max_steps": 10}))
    wait_until_ended(run)
    with pytest.raises(RunStateError, match="is finished"):
        resume(run)


def test_a_stop_while_preparing_leaves_a_run_that_can_be_resumed(text: Path) -> None:
    run = start(tiny_config(text, {"training.max_steps": 10}))
    stopped = send(run, "stop")
    assert (stopped.ok, stopped.checkpoint) == (True, "")
    assert summarize(run).status == "stopped"
    resume(run)
    assert wait_until_ended(run).status == "finished"


def test_a_warm_up_too_long_for_the_text_is_refused_before_the_first_step(text: Path) -> None:
    run = start(
        tiny_config(
            text,
            {"training.max_steps": None, "training.epochs": 1, "schedule.warmup_steps": 60_000},
        )
    )
    summary = wait_until_ended(run)
    assert (summary.status, summary.step) == ("failed", 0)
    assert "schedule.warmup_steps: is 60,000, must be below the run's" in str(summary.message)


def test_a_presets_warm_up_is_shortened_for_a_short_run_and_logged(text: Path) -> None:
    run = start(
        tiny_config(
            text,
            {
                "training.max_steps": 40,
                "schedule.warmup_steps": DEMO.schedule.warmup_steps,
                "optimizer.learning_rate": 1e-2,
            },
        )
    )
    assert wait_until_ended(run).status == "finished"
    with RunReader(run) as reader:
        assert [event.text for event in reader.events() if "warm-up" in event.text] == [
            "warm-up shortened to 4 steps, a tenth of the run: the preset's warm-up has 100 steps,"
            " the run 40"
        ]
        rates = {row.step: row.learning_rate for row in reader.steps_since()}
    assert rates[2] == pytest.approx(5e-3)
    assert rates[4] == pytest.approx(1e-2)
    assert rates[40] < 1e-3
    assert read_manifest(run.checkpoints_path / "step-000000040").facts["warmup_steps"] == 4
