"""Exported metrics have every row once: after resumes, interruptions, and of a live run."""

from __future__ import annotations

import csv
import errno
import json
import math
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from rnnlm_tui.client import metrics_export
from rnnlm_tui.client.metrics_export import ExportedMetrics, export_metrics
from rnnlm_tui.errors import InputError, RunStateError, StorageError, install_extra
from rnnlm_tui.schema.metrics import GpuRow, HardwareRow
from rnnlm_tui.store.log import RunLog
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.system.locks import RunLock, folder_lock
from tests.unit.store.rows import begin, evaluation_row, event_row, new_run, sample_row, step_row

ODD_TEXT = 'a,"b"\r\n\0\x1b[31m\u2028ü\r'


@pytest.fixture
def run() -> RunDirectory:
    return new_run()


def reading(number: int) -> HardwareRow:
    """A machine reading; every second one has GPUs."""
    if not number % 2:
        return HardwareRow(1e9 + number, 50.0, 25.0, 1, 2, 3, 4)
    return HardwareRow(
        1e9 + number,
        50.0,
        25.0,
        1,
        2,
        3,
        4,
        GpuRow(
            0,
            "A",
            watts_limit=700.0,
            clock_mhz=1_980.0 - number,
            clock_max_mhz=1_980.0,
            throttle="" if number % 8 == 1 else "thermal slowdown",
            fault="Xid 48: memory error" if number % 8 == 3 else None,
        ),
        (GpuRow(1, "B", 3.0, clock_mhz=1_305.0, throttle="power cap"),),
    )


def fill(log: RunLog, first: int = 1, last: int = 30) -> RunLog:
    """Steps, an evaluation and two samples every ten steps, machine readings."""
    attempt = log.attempt
    for step in range(first, last + 1):
        log.append(step_row(step, attempt, loss=math.nan if step == 7 else 5.0 - step / 128))
        if step % 10 == 0:
            log.append(
                evaluation_row(step, attempt, loss=4.0 - step / 101),
                sample_row(step, attempt, text=ODD_TEXT),
                sample_row(step, attempt, text=f"{attempt}"),
            )
        if step % 4 == 0:
            log.append(reading(step // 4))
    return log


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Every scalar that TensorBoard itself finds in a folder."""
    from tensorboard.backend.event_processing import event_accumulator

    found = event_accumulator.EventAccumulator(
        str(folder), size_guidance={"scalars": 0, "tensors": 0}
    )
    found.Reload()
    return {
        tag: [(event.step, event.value) for event in found.Scalars(tag)]
        for tag in found.Tags()["scalars"]
    }


def texts(folder: Path) -> dict[str, list[tuple[int, str]]]:
    """Every text that TensorBoard's frontend shows of a folder."""
    from tensorboard.backend.event_processing import plugin_event_accumulator

    found = plugin_event_accumulator.EventAccumulator(
        str(folder), tensor_size_guidance={"text": 0, "scalars": 0}
    )
    found.Reload()
    return {
        tag: [
            (event.step, event.tensor_proto.string_val[0].decode()) for event in found.Tensors(tag)
        ]
        for tag in found.PluginTagToContent("text")
    }


def rows_of(folder: Path, kind: str, table: str) -> list[dict[str, Any]]:
    """The rows of a CSV or Parquet file."""
    if kind == "parquet":
        import pyarrow.parquet as pq

        found: list[dict[str, Any]] = pq.read_table(folder / f"{table}.parquet").to_pylist()
        return found
    with (folder / f"{table}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_files_have_every_row(run: RunDirectory, tmp_path: Path, kind: Any) -> None:
    log = begin(run)
    log.append(event_row("started"))
    fill(log)
    found = export_metrics(run, kind, tmp_path / "out")
    assert found.rows == {
        "steps": 30, "evaluations": 3, "samples": 6, "events": 1, "machine": 7
    }  # fmt: skip
    assert found.ended
    steps = rows_of(tmp_path / "out", kind, "steps")
    assert [int(row["step"]) for row in steps] == list(range(1, 31))
    assert float(steps[0]["loss"]) == 5.0 - 1 / 128
    assert math.isnan(float(steps[6]["loss"]))
    assert rows_of(tmp_path / "out", kind, "samples")[0]["text"] == ODD_TEXT
    machine = rows_of(tmp_path / "out", kind, "machine")
    assert machine[1]["gpu_name"] in ("", None)
    assert [row["gpu_throttle"] or None for row in machine[:4]] == [
        "none", None, "thermal slowdown", None
    ]  # fmt: skip
    assert machine[2]["gpu_fault"] == "Xid 48: memory error"
    assert float(machine[2]["gpu_watts_limit"]) == 700.0
    assert (float(machine[2]["gpu_clock_mhz"]), float(machine[2]["gpu_clock_max_mhz"])) == (
        1_977.0, 1_980.0
    )  # fmt: skip
    other = json.loads(machine[2]["other_gpus"])[0]
    assert (other["throttle"], other["clock_mhz"]) == ("power cap", 1_305.0)
    assert (tmp_path / "out" / "config.toml").read_bytes() == run.config_path.read_bytes()
    fill(begin(run, 20), 21, 40)
    found = export_metrics(run, kind, tmp_path / "out")
    steps = rows_of(tmp_path / "out", kind, "steps")
    assert [(int(row["attempt"]), int(row["step"])) for row in steps] == [
        (1 if step <= 20 else 2, step) for step in range(1, 41)
    ]
    assert not list((tmp_path / "out").glob(".tmp*"))


def check_events(folder: Path, last: int, attempts: dict[int, int]) -> None:
    """Check all that TensorBoard finds against the rows of `fill`.

    Args:
        attempts: of the steps after each key.
    """
    found = scalars(folder)
    loss = found["train/loss"]
    assert [step for step, _ in loss] == list(range(1, last + 1))
    assert all(
        math.isnan(value) if step == 7 else value == pytest.approx(5.0 - step / 128)
        for step, value in loss
    )
    assert [step for step, _ in found["train/grad_norm"]] == list(range(1, last + 1))
    tens = list(range(10, last + 1, 10))
    assert [step for step, _ in found["validation/loss"]] == tens
    assert all(value == pytest.approx(4.0 - step / 101) for step, value in found["validation/loss"])
    written = texts(folder)
    assert [step for step, _ in written["samples/1"]] == tens
    assert written["samples/2"] == [
        (step, f"    The state of the Union│{attempts[max(a for a in attempts if a < step)]}\n")
        for step in tens
    ]
    assert [step for step, _ in written["config"]] == [0]


def test_tensorboard_finds_every_step(run: RunDirectory, tmp_path: Path) -> None:
    log = fill(begin(run))
    out = tmp_path / "out"
    found = export_metrics(run, "tensorboard", out)
    assert found.rows == {"steps": 30, "evaluations": 3, "samples": 6, "machine": 7}
    check_events(out, 30, {0: 1})
    machine = scalars(out / "machine")
    assert [step for step, _ in machine["machine/cpu_percent"]] == list(range(1, 8))
    assert machine["machine/gpu_watts_limit"] == [(number, 700.0) for number in (1, 3, 5, 7)]
    assert machine["machine/gpu_clock_mhz"] == [
        (number, 1_980.0 - number) for number in (1, 3, 5, 7)
    ]
    assert machine["machine/gpu1_clock_mhz"] == [(number, 1_305.0) for number in (1, 3, 5, 7)]
    assert machine["machine/gpu1_percent"] == [(number, 3.0) for number in (1, 3, 5, 7)]
    export_metrics(run, "tensorboard", out)  # nothing is new
    check_events(out, 30, {0: 1})
    fill(log, 31, 40)
    export_metrics(run, "tensorboard", out)
    check_events(out, 40, {0: 1})
    fill(begin(run, 20), 21, 30)  # resumed from an earlier checkpoint
    export_metrics(run, "tensorboard", out)
    check_events(out, 30, {0: 1, 20: 2})
    fill(begin(run, 0), 1, 50)  # and from the start
    found = export_metrics(run, "tensorboard", out)
    check_events(out, 50, {0: 3})
    assert found.rows["steps"] == 50


class Following:
    """An export that follows a run, in a thread."""

    def __init__(self, run: RunDirectory, kind: Any, folder: Path) -> None:
        self.steps = 0
        self.reported = threading.Condition()
        self.result: ExportedMetrics | BaseException | None = None

        def work() -> None:
            try:
                self.result = export_metrics(run, kind, folder, follow=True, report=self._report)
            except BaseException as error:
                self.result = error

        self._thread = threading.Thread(target=work, daemon=True)
        self._thread.start()

    def _report(self, step: int) -> None:
        with self.reported:
            self.steps = step
            self.reported.notify_all()

    def wait_for(self, step: int) -> None:
        with self.reported:
            assert self.reported.wait_for(lambda: self.steps >= step, 60)

    def end(self) -> ExportedMetrics:
        self._thread.join(60)
        assert isinstance(self.result, ExportedMetrics), self.result
        return self.result


@pytest.mark.parametrize("kind", ["csv", "tensorboard"])
def test_a_live_run_is_followed_to_its_end(
    run: RunDirectory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: Any,
) -> None:
    monkeypatch.setattr(metrics_export, "POLL_SECONDS", 0.005)
    monkeypatch.setattr(metrics_export, "BUSY_SHARE", 1e9)
    out = tmp_path / "out"
    log = fill(begin(run), 1, 10)
    with RunLock(run.lock_path):
        following = Following(run, kind, out)
        following.wait_for(10)
        with pytest.raises(RunStateError, match="another process is writing"):
            export_metrics(run, kind, out)
        fill(log, 11, 25)
        following.wait_for(25)
        if kind == "tensorboard":
            check_events(out, 25, {0: 1})
        log = fill(begin(run, 10), 11, 30)
        following.wait_for(30)
        fill(log, 31, 40)
    found = following.end()
    assert (found.rows["steps"], found.step, found.ended) == (40, 40, True)
    if kind == "tensorboard":
        check_events(out, 40, {0: 1, 10: 2})
    else:
        assert [int(row["step"]) for row in rows_of(out, "csv", "steps")] == list(range(1, 41))


def test_only_an_earlier_export_of_the_run_is_written_over(
    run: RunDirectory, tmp_path: Path
) -> None:
    fill(begin(run))
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="isn't empty"):
        export_metrics(run, "csv", out)
    with pytest.raises(InputError, match="is a file"):
        export_metrics(run, "csv", out / "notes.txt")
    export_metrics(run, "csv", tmp_path / "second")
    with pytest.raises(InputError, match="export of plain-otter as csv"):
        export_metrics(run, "tensorboard", tmp_path / "second")
    assert sorted(path.name for path in out.iterdir()) == ["notes.txt"]
    with folder_lock(tmp_path / "second"), pytest.raises(RunStateError):
        export_metrics(run, "csv", tmp_path / "second")


@pytest.mark.parametrize("kind", ["csv", "parquet", "tensorboard"])
def test_an_export_that_fails_leaves_the_earlier_one(
    run: RunDirectory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: Any,
) -> None:
    def files() -> dict[str, bytes]:
        paths = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
        return {path.name: path.read_bytes() for path in paths if path.name != "export.json"}

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    log = fill(begin(run))
    export_metrics(run, kind, tmp_path / "out")
    before = files()
    fill(log, 31, 40)
    monkeypatch.setattr("rnnlm_tui.client.metrics_export.fsync_file", full)
    monkeypatch.setattr("rnnlm_tui.client.event_files.os.fsync", full)
    monkeypatch.setattr("rnnlm_tui.client.metrics_export._claim", lambda *arguments: None)
    with pytest.raises(StorageError, match="no space left"):
        export_metrics(run, kind, tmp_path / "out")
    assert files() == before


@pytest.mark.parametrize(
    ("kind", "library", "command"),
    [
        ("parquet", "pyarrow", install_extra("export")),
        ("tensorboard", "tensorboard", install_extra("export")),
        ("wandb", "wandb", "pip install wandb"),
    ],
)
def test_a_missing_library_is_named_with_the_command_that_installs_it(
    run: RunDirectory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: Any,
    library: str,
    command: str,
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(InputError, match=f"needs the library {library}") as raised:
        export_metrics(run, kind, tmp_path / "out")
    assert command in raised.value.hint
    assert not (tmp_path / "out").exists()


def test_a_run_without_rows_is_exported_too(run: RunDirectory, tmp_path: Path) -> None:
    kinds: tuple[Any, ...] = ("csv", "parquet", "tensorboard")
    for kind in kinds:
        found = export_metrics(run, kind, tmp_path / kind)
        assert found.rows["steps"] == 0


def test_the_history_of_wandb_joins_steps_and_evaluations(run: RunDirectory) -> None:
    from rnnlm_tui.client.wandb_run import history

    log = fill(begin(run))
    log.append(evaluation_row(35, loss=1.0))
    with RunReader(run) as reader:
        found = dict(history(reader))
    assert list(found) == [*range(1, 31), 35]
    assert found[20]["validation/loss"] == 4.0 - 20 / 101
    assert found[20]["train/loss"] == 5.0 - 20 / 128
    assert "validation/loss" not in found[21]
    assert found[35]["validation/perplexity"] == pytest.approx(math.e)
