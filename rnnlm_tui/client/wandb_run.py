"""Metrics as the files of an offline W&B run, which `wandb sync FOLDER/offline-run-*` uploads.

Steps and evaluations are W&B's history, by step. Samples, events and machine readings, which have
several rows a step or none, are tables. The run is rewritten as a whole, under the same id:
a later upload replaces the run instead of adding one.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import struct
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from rnnlm_tui.client.event_files import EVALUATION_SCALARS, STEP_SCALARS, evaluated_set
from rnnlm_tui.client.metric_tables import EVENTS, MACHINE, SAMPLES, MetricTable
from rnnlm_tui.errors import StorageError
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import Extent, RunReader
from rnnlm_tui.system.files import TEMPORARY_PREFIX, storage_errors

RUN_FOLDER = "offline-run-"
TABLE_ROWS = 10_000
"""Most rows of a table that W&B shows; more go into further tables."""
_BLOCK = 32_768
_FILE_HEAD, _RECORD_HEAD = struct.Struct("<4sHB"), struct.Struct("<IHB")
_IDENTITY = b":W&B"
_WHOLE, _FIRST, _LAST = 1, 2, 4
_OPTIONS = {"x_disable_stats": True, "x_disable_meta": True, "x_disable_machine_info": True}
"""W&B's own readings would be those of the export; versions that lack an option do without."""


class WandbWriter:
    """Writes a run as an offline W&B run."""

    def __init__(self, run: RunDirectory, folder: Path) -> None:
        import wandb

        self._wandb: Any = wandb
        self._run, self._folder = run, folder
        self._counts: dict[str, int] = {}

    def update(self, reader: RunReader, extent: Extent) -> None:
        """Write everything up to `extent`, compare it, and replace what was there."""
        work = self._folder / f"{TEMPORARY_PREFIX}wandb"
        with storage_errors("write", self._folder):
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir(mode=0o700)
            try:
                counts = self._write(work, reader, extent)
                found = list(work.glob(f"wandb/{RUN_FOLDER}*"))
                if len(found) != 1:
                    raise StorageError(f"wandb wrote no run into {work}", hint="update wandb")
                self._compare(found[0], reader, extent)
                for old in self._folder.glob(f"{RUN_FOLDER}*"):
                    shutil.rmtree(old)
                found[0].rename(self._folder / found[0].name)
            finally:
                shutil.rmtree(work, ignore_errors=True)
        self._counts = counts

    def finish(self, reader: RunReader, extent: Extent) -> dict[str, int]:
        """The rows of each series, which `update` compared."""
        del reader, extent
        return self._counts

    def close(self) -> None:
        """End wandb's own process, unless this process has another run."""
        if self._wandb.run is None:
            self._wandb.teardown()

    def _write(self, work: Path, reader: RunReader, extent: Extent) -> dict[str, int]:
        from rnnlm_tui.schema.validation import config_to_raw

        digest = hashlib.sha256(repr(self._run.created()).encode()).hexdigest()[:8]
        run = self._wandb.init(
            project="rnnlm-tui",
            id=f"{self._run.name}-{digest}",
            name=self._run.name,
            dir=str(work),
            config=config_to_raw(self._run.read_config()),
            settings=self._settings(),
        )
        counts = {"steps": 0, "evaluations": len(extent.evaluations)}
        for step, values in history(reader, extent):
            run.log(values, step=step)
            counts["steps"] += "train/loss" in values
        last = max(extent.step, *(row.step for row in extent.evaluations), 0)
        for table in (SAMPLES, EVENTS, MACHINE):
            rows, number = table.rows(reader, extent), 0
            while part := list(islice(rows, TABLE_ROWS)):
                name = f"{table.name}/{number // TABLE_ROWS + 1}"
                run.log({name: self._table(table, part)}, step=last)
                number += len(part)
            counts[table.name] = number
        run.finish()
        self.close()  # its process may hold back the last rows of an offline run until it ends
        return counts

    def _table(self, table: MetricTable, rows: list[tuple[Any, ...]]) -> Any:
        return self._wandb.Table(
            columns=list(table.columns), data=[list(row) for row in rows], allow_mixed_types=True
        )

    def _settings(self) -> Any:
        base = {
            "mode": "offline",
            "console": "off",
            "silent": True,
            "disable_git": True,
            "disable_code": True,
        }
        try:
            return self._wandb.Settings(**base, **_OPTIONS)
        except (ValueError, TypeError):
            return self._wandb.Settings(**base)

    def _compare(self, folder: Path, reader: RunReader, extent: Extent) -> None:
        """Read the run's file back, and compare every row of its history."""
        files = list(folder.glob("run-*.wandb"))
        if len(files) != 1:
            raise StorageError(f"{folder} has no run file", hint="update wandb")
        wanted = history(reader, extent)
        pending = next(wanted, None)
        for step, values in logged(files[0]):
            if not any(key.endswith("/loss") for key in values):
                continue  # a row with tables alone
            if pending is None or step != pending[0]:
                raise self._differs(f"step {step:,}")
            if not all(_equal(values.get(key), value) for key, value in pending[1].items()):
                raise self._differs(f"step {step:,}")
            pending = next(wanted, None)
        if pending is not None:
            raise self._differs(f"step {pending[0]:,}")
        for table in (SAMPLES, EVENTS, MACHINE):
            rows = _table_rows(folder / "files" / "media" / "table" / table.name)
            for row in table.rows(reader, extent):
                read = next(rows, [])
                if len(read) != len(row) or not all(map(_equal, read, row)):
                    raise self._differs(f"the table of {table.name}")

    def _differs(self, what: str) -> StorageError:
        return StorageError(
            f"the W&B run differs from {self._run.name} at {what}",
            hint="export again, or update wandb",
        )


def _table_rows(folder: Path) -> Iterator[list[Any]]:
    """The rows of W&B's tables in a folder, in the order of their numbers."""
    paths = sorted(folder.glob("*.table.json"), key=lambda path: int(path.name.partition("_")[0]))
    for path in paths:
        yield from json.loads(path.read_bytes())["data"]


def history(reader: RunReader, extent: Extent) -> Iterator[tuple[int, dict[str, float]]]:
    """The figures of each step that has any, in order."""
    evaluations = sorted(extent.evaluations, key=lambda row: row.step)
    place = 0

    def evaluated(until: int) -> Iterator[tuple[int, dict[str, float]]]:
        nonlocal place
        while place < len(evaluations) and evaluations[place].step <= until:
            step = evaluations[place].step
            values: dict[str, float] = {}
            while place < len(evaluations) and evaluations[place].step == step:
                row = evaluations[place]
                values |= {
                    f"{evaluated_set(row)}/{name}": value
                    for name in EVALUATION_SCALARS
                    if (value := getattr(row, name)) is not None
                }
                place += 1
            yield step, values

    for row in reader.steps_since():
        if row.step > extent.step:
            break
        yield from evaluated(row.step - 1)
        values: dict[str, float] = {f"train/{name}": getattr(row, name) for name in STEP_SCALARS}
        for _, more in evaluated(row.step):
            values |= more
        yield row.step, values
    if evaluations:
        yield from evaluated(evaluations[-1].step)


def logged(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The history in a `.wandb` file, in the order of the file.

    Raises:
        StorageError: the file is damaged.
    """
    from wandb.proto import wandb_internal_pb2

    for data in _records(path):
        record = wandb_internal_pb2.Record.FromString(data)
        if not record.HasField("history"):
            continue
        values = {
            item.key or ".".join(item.nested_key): json.loads(item.value_json)
            for item in record.history.item
        }
        step = values.get("_step", record.history.step.num)
        yield int(step), values


def _records(path: Path) -> Iterator[bytes]:
    """The records of W&B's file, which is LevelDB's log format with its own header."""
    damaged = StorageError(f"{path} is damaged", hint="export again, or update wandb")
    with path.open("rb") as file:
        head = file.read(_FILE_HEAD.size)
        if len(head) < _FILE_HEAD.size or _FILE_HEAD.unpack(head)[0] != _IDENTITY:
            raise damaged
        held = b""
        while True:
            left = _BLOCK - file.tell() % _BLOCK
            if left < _RECORD_HEAD.size:
                file.read(left)
            head = file.read(_RECORD_HEAD.size)
            if not head:
                return
            if len(head) < _RECORD_HEAD.size:
                raise damaged
            check, size, kind = _RECORD_HEAD.unpack(head)
            data = file.read(size)
            if zlib.crc32(data, zlib.crc32(bytes([kind]))) != check:
                raise damaged
            held = data if kind in (_WHOLE, _FIRST) else held + data
            if kind in (_WHOLE, _LAST):
                yield held


def _equal(found: Any, wanted: Any) -> bool:
    """Whether a cell is the same; W&B writes non-finite numbers as texts or as nothing."""
    if isinstance(wanted, float) and not math.isfinite(wanted):
        return found is None or str(found).lower().replace("infinity", "inf") == str(wanted)
    return bool(found == wanted)
