"""Metrics as TensorBoard event files, which grow with the run.

The folder is one run of TensorBoard: scalars of steps (`train/…`) and evaluations
(`validation/…`, `test/…`) by step, samples and the config as texts, hyperparameters. Machine
readings have no step; they are a separate run, `machine/`, whose step counts the readings.

Each batch of rows ends with a mark that says how far the file goes. To continue, everything after
the last mark is cut off, so no row is lost or doubled by an interruption. Where the run was resumed
from an earlier step, TensorBoard's own message for a restart takes back the steps after it.
Numbers are 32-bit floats, as TensorBoard stores them.
"""

from __future__ import annotations

import json
import math
import os
import re
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from rnnlm_tui.errors import StorageError
from rnnlm_tui.schema.metrics import MACHINE_COLUMNS, EvaluationRow, HardwareRow, SampleRow
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import Extent, RunReader
from rnnlm_tui.system.files import (
    TEMPORARY_PREFIX,
    fsync_directory,
    make_private_directory,
    open_private,
    storage_errors,
)

if TYPE_CHECKING:
    from rnnlm_tui.schema.config import RunConfig

STEP_SCALARS = (
    "loss", "grad_norm", "learning_rate", "tokens_per_second", "tokens_seen", "epoch",
    "active_seconds",
)  # fmt: skip
EVALUATION_SCALARS = ("loss", "perplexity", "bits_per_byte")
MACHINE_SCALARS = (*MACHINE_COLUMNS, "gpu_watts_limit", "gpu_clock_mhz", "gpu_clock_max_mhz")
GPU_SCALARS = (
    "percent", "memory_used", "memory_own", "watts", "celsius", "watts_limit", "clock_mhz",
    "clock_max_mhz",
)  # fmt: skip
"""Of each other GPU."""
MACHINE_FOLDER = "machine"
MARK = "rnnlm-tui export "
"""Begins the message of our marks; the rest is JSON."""
_NAME = re.compile(r"events\.out\.tfevents\.(\d{10})\.\d{6}\.rnnlm-tui")
_HEAD = struct.Struct("<QI")
_FOOT = 4
_MAX_RECORD = 2**30


@dataclass(frozen=True, slots=True)
class _Position:
    """How far a folder goes; stored in each mark."""

    attempts: tuple[tuple[int, int], ...] = ()
    step: int = 0
    sample: int = 0
    """Id of the last sample."""
    sample_step: int = -1
    samples: int = 0
    """Samples of that step so far."""
    reading: int = 0
    """Id of the last machine reading; only in the machine's folder."""
    begun: bool = False
    """The config is written."""


class _Log:
    """The event files of one folder: those of earlier exports, and one that this export writes."""

    def __init__(self, folder: Path) -> None:
        from tensorboard.compat.proto import event_pb2
        from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

        self._proto, self._crc = event_pb2, masked_crc32c
        self.folder = folder
        self.position = _Position()
        self.evaluated: dict[tuple[int, str], float] = {}
        """(step, tag) of each written evaluation's loss."""
        self._file: IO[bytes] | None = None
        self._temporary: Path | None = None
        self._target: Path | None = None
        self._newest = 0
        make_private_directory(folder)
        with storage_errors("read", folder):
            for path in self.files():
                self._newest = max(self._newest, int(_NAME.fullmatch(path.name)[1]))  # type: ignore[index]
                self._take_up(path)
            for path in folder.glob(f"{TEMPORARY_PREFIX}*"):
                path.unlink()

    def files(self) -> list[Path]:
        """The event files of exports, oldest first."""
        return sorted(path for path in self.folder.iterdir() if _NAME.fullmatch(path.name))

    def _take_up(self, path: Path) -> None:
        """Read how far a file goes, and cut off what follows its last mark."""
        kept = 0
        pending: list[tuple[int, str, float]] = []
        with path.open("r+b") as file:
            for data, end in _records(file, self._crc):
                if b"/perplexity" in data:
                    event = self._proto.Event.FromString(data)
                    pending += [
                        (event.step, value.tag, value.simple_value)
                        for value in event.summary.value
                        if value.tag.endswith("/loss")
                    ]
                elif MARK.encode() in data:
                    event = self._proto.Event.FromString(data)
                    values = json.loads(event.session_log.msg.removeprefix(MARK))
                    if "back_to" in values:
                        self._forget(int(values["back_to"]))
                        pending = [row for row in pending if row[0] <= int(values["back_to"])]
                        continue
                    values["attempts"] = tuple(tuple(row) for row in values["attempts"])
                    self.position = _Position(**values)
                    self.evaluated |= {(step, tag): loss for step, tag, loss in pending}
                    pending, kept = [], end
            if kept:
                file.truncate(kept)
        if not kept:
            path.unlink()

    def _forget(self, step: int) -> None:
        self.evaluated = {key: loss for key, loss in self.evaluated.items() if key[0] <= step}

    def add(self, step: int, wall_time: float, summary: Any) -> None:
        """Append a summary."""
        self._append(self._proto.Event(step=step, wall_time=wall_time, summary=summary))

    def back_to(self, step: int) -> None:
        """Undo everything after a step."""
        self._forget(step)
        self._session(self._proto.SessionLog.START, {"back_to": step}, step + 1)

    def mark(self, position: _Position) -> None:
        """End a batch: the rows since the last mark count now."""
        self.position = position
        self._session(self._proto.SessionLog.CHECKPOINT, asdict(position), position.step)
        assert self._file is not None
        with storage_errors("write", self.folder):
            self._file.flush()
            os.fsync(self._file.fileno())

    def publish(self) -> None:
        """Give the file of the first batch its name; later batches are appended to it."""
        if self._temporary is not None and self._target is not None:
            with storage_errors("write", self._target):
                self._temporary.rename(self._target)
                fsync_directory(self.folder)
            self._temporary = None

    def close(self) -> None:
        """Close the file; an unpublished one is removed."""
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._temporary is not None:
            self._temporary.unlink(missing_ok=True)
            self._temporary = None

    def readable(self) -> list[Path]:
        """All files, also one without a name yet, in the order that they are read."""
        return [*self.files(), *([] if self._temporary is None else [self._temporary])]

    def _session(self, status: int, values: dict[str, object], step: int) -> None:
        log = self._proto.SessionLog(status=status, msg=MARK + json.dumps(values))
        self._append(self._proto.Event(step=step, wall_time=time.time(), session_log=log))

    def _append(self, event: Any) -> None:
        with storage_errors("write", self.folder):
            if self._file is None:
                self._open()
            assert self._file is not None
            self._file.write(self._record(event.SerializeToString()))

    def _open(self) -> None:
        """A new file, read after the earlier ones: TensorBoard reads by name."""
        number = max(int(time.time()), self._newest + 1)
        name = f"events.out.tfevents.{number:010d}.{os.getpid() % 1_000_000:06d}.rnnlm-tui"
        self._target = self.folder / name
        self._temporary = self.folder / f"{TEMPORARY_PREFIX}{number:010d}"
        self._file = os.fdopen(open_private(self._temporary, os.O_WRONLY | os.O_EXCL), "wb")
        version = self._proto.Event(wall_time=time.time(), file_version="brain.Event:2")
        self._file.write(self._record(version.SerializeToString()))

    def _record(self, data: bytes) -> bytes:
        size = struct.pack("<Q", len(data))
        parts = (size, struct.pack("<I", self._crc(size)), data, struct.pack("<I", self._crc(data)))
        return b"".join(parts)


def _records(file: IO[bytes], crc: Any) -> Iterator[tuple[bytes, int]]:
    """The whole records of an event file, each with the offset of its end."""
    while len(head := file.read(_HEAD.size)) == _HEAD.size:
        size, check = _HEAD.unpack(head)
        if size > _MAX_RECORD or crc(head[:8]) != check:
            return
        data = file.read(size)
        foot = file.read(_FOOT)
        ours = MARK.encode() in data or b"/perplexity" in data
        if len(foot) < _FOOT or (ours and struct.pack("<I", crc(data)) != foot):
            return
        yield data, file.tell()


class EventFiles:
    """Writes a run's event files.

    Args:
        live: give a new file its name with the first batch, so that TensorBoard shows it, and not
            only after it was read back.
    """

    def __init__(self, run: RunDirectory, folder: Path, *, live: bool) -> None:
        from tensorboard.compat.proto import summary_pb2

        self._proto = summary_pb2
        self._run, self._live = run, live
        self._main, self._machine = _Log(folder), _Log(folder / MACHINE_FOLDER)

    def update(self, reader: RunReader, extent: Extent) -> None:
        """Append what is new up to `extent`."""
        position = self._rewound(reader, extent, self._main.position)
        rows = 0
        if not position.begun:
            self._main.back_to(-1)  # TensorBoard takes the first such message as no restart
            self._add_config(self._run.read_config(), self._run.created())
            position = replace(position, begun=True)
            rows += 1
        for step in reader.steps_since(position.step):
            if step.step > extent.step:
                break
            self._main.add(
                step.step, step.time, self._scalars(figures_of(step, "train", STEP_SCALARS))
            )
            position = replace(position, step=step.step)
            rows += 1
        for row in extent.evaluations:
            if (row.step, f"{evaluated_set(row)}/loss") not in self._main.evaluated:
                self._add_evaluation(row)
                rows += 1
        for id, sample in reader.samples_after(position.sample):
            if id > extent.sample:
                break
            position = self._add_sample(id, sample, position)
            rows += 1
        position = replace(position, attempts=extent.attempts)
        if rows or position != self._main.position:
            self._main.mark(position)
        self._add_readings(reader, extent)
        if self._live:
            self._main.publish()
            self._machine.publish()

    def finish(self, reader: RunReader, extent: Extent) -> dict[str, int]:
        """Read the files as TensorBoard does, and compare them with the run."""
        rows = compare_event_files(self._main.readable(), self._machine.readable(), reader, extent)
        for log in (self._main, self._machine):
            log.publish()
            log.close()
        return rows

    def close(self) -> None:
        """Close the files. One without a name yet is removed."""
        self._main.close()
        self._machine.close()

    def _rewound(self, reader: RunReader, extent: Extent, position: _Position) -> _Position:
        """Undo what a resumed run replaced."""
        known = dict(position.attempts)
        starts = [start for number, start in extent.attempts if known.get(number, -1) != start]
        again = [
            row.step - 1
            for row in extent.evaluations
            if not _equal(
                self._main.evaluated.get((row.step, f"{evaluated_set(row)}/loss"), row.loss),
                row.loss,
            )
        ]
        back = min([position.step, *(starts if position.begun else []), *again])
        if not position.begun or (back >= position.step and not again):
            return position
        self._main.back_to(back)
        last = 0
        for id, sample in reader.samples_after(0):
            if sample.step > back:
                break
            last = id
        return replace(position, step=back, sample=last, sample_step=-1, samples=0)

    def _scalars(self, figures: dict[str, float]) -> Any:
        return self._proto.Summary(
            value=[
                self._proto.Summary.Value(tag=tag, simple_value=_as_float32(value))
                for tag, value in figures.items()
            ]
        )

    def _add_evaluation(self, row: EvaluationRow) -> None:
        name = evaluated_set(row)
        figures = figures_of(row, name, EVALUATION_SCALARS)
        self._main.add(row.step, row.time, self._scalars(figures))
        self._main.evaluated[row.step, f"{name}/loss"] = _as_float32(row.loss)

    def _add_sample(self, id: int, row: SampleRow, position: _Position) -> _Position:
        """A sample as a text. Those of one step have different tags: TensorBoard shows one value of
        a tag at a step."""
        number = position.samples + 1 if row.step == position.sample_step else 1
        self._main.add(row.step, row.time, self._text(f"samples/{number}", sample_text(row)))
        return replace(position, sample=id, sample_step=row.step, samples=number)

    def _add_config(self, config: RunConfig, created: float) -> None:
        from tensorboard.plugins.hparams import summary_v2

        from rnnlm_tui.schema.toml import toml_text
        from rnnlm_tui.schema.validation import config_to_raw

        raw = config_to_raw(config)
        text = "".join(f"    {line}\n" for line in toml_text(raw).splitlines())
        self._main.add(0, created, self._text("config", text))
        flat = {
            f"{section}.{key}": value
            for section, values in raw.items()
            for key, value in (values.items() if isinstance(values, dict) else [("", values)])
        }
        shown = {
            name.removesuffix("."): value if isinstance(value, int | float | str) else str(value)
            for name, value in flat.items()
        }
        summary = summary_v2.hparams_pb(
            shown, trial_id=f"{self._run.name}", start_time_secs=created
        )
        self._main.add(0, created, self._proto.Summary.FromString(summary.SerializeToString()))

    def _add_readings(self, reader: RunReader, extent: Extent) -> None:
        last = self._machine.position.reading
        for id, row in reader.hardware_after(last):
            if id > extent.reading:
                break
            self._machine.add(id, row.time, self._scalars(machine_figures(row)))
            last = id
        if last != self._machine.position.reading:
            self._machine.mark(_Position(reading=last, begun=True))

    def _text(self, tag: str, text: str) -> Any:
        value = self._proto.Summary.Value(tag=tag)
        value.metadata.plugin_data.plugin_name = "text"
        value.tensor.dtype = 7  # DT_STRING
        value.tensor.string_val.append(text.encode("utf-8", "backslashreplace"))
        value.tensor.tensor_shape.dim.add(size=1)
        return self._proto.Summary(value=[value])


def evaluated_set(row: EvaluationRow) -> str:
    """The prefix of an evaluation's tags: `validation`, or `test (first 1,024 test sentences)`."""
    return row.split if row.name == row.split else f"{row.split} ({row.name})"


def figures_of(row: object, prefix: str, names: Sequence[str]) -> dict[str, float]:
    """A row's known figures by their tags: `train/loss`."""
    values = ((f"{prefix}/{name}", getattr(row, name)) for name in names)
    return {tag: value for tag, value in values if value is not None}


def machine_figures(row: HardwareRow) -> dict[str, float]:
    """A reading's figures: `machine/gpu_watts` of the GPU that trains, `machine/gpu1_watts` of
    another, by the driver's number."""
    found = figures_of(row, "machine", MACHINE_SCALARS)
    for gpu in row.other_gpus:
        own = figures_of(gpu, "machine", GPU_SCALARS)
        found |= {
            tag.replace("/", f"/gpu{gpu.index}_"): value
            for tag, value in own.items()
            if gpu.index is not None
        }
    return found


def sample_text(row: SampleRow) -> str:
    """A sample as Markdown that shows every character: the prompt, then the continuation."""
    text = f"{row.prompt}\u2502{row.text}"
    return "".join(f"    {line}\n" for line in text.split("\n"))


def compare_event_files(
    files: Sequence[Path], machine: Sequence[Path], reader: RunReader, extent: Extent
) -> dict[str, int]:
    """Read event files with TensorBoard's reader, and compare every row with the run's.

    Args:
        machine: the files of the machine's readings.

    Returns:
        The rows of each series.

    Raises:
        StorageError: a row is missing, doubled or different.
    """
    steps = samples = 0
    wanted = (row for row in reader.steps_since() if row.step <= extent.step)
    evaluations = {(row.step, evaluated_set(row)): row for row in extent.evaluations}
    texts = (row for id, row in reader.samples_after(0) if id <= extent.sample)
    for event in surviving_events(files):
        values = {value.tag: value for value in event.summary.value}
        tag = next(iter(values), "")
        if tag.startswith("train/"):
            step = next(wanted, None)
            if (
                step is None
                or step.step != event.step
                or not _same(figures_of(step, "train", STEP_SCALARS), values)
            ):
                raise _differs(files, f"step {event.step:,}")
            steps += 1
        elif tag.startswith("samples/"):
            sample = next(texts, None)
            written = values[tag].tensor.string_val[0]
            if sample is None or written != sample_text(sample).encode("utf-8", "backslashreplace"):
                raise _differs(files, f"a sample of step {event.step:,}")
            samples += 1
        elif tag.endswith("/loss"):
            name = tag.removesuffix("/loss")
            row = evaluations.pop((event.step, name), None)
            if row is None or not _same(figures_of(row, name, EVALUATION_SCALARS), values):
                raise _differs(files, f"the evaluation of step {event.step:,}")
    if next(wanted, None) is not None or evaluations or next(texts, None) is not None:
        raise _differs(files, "its last row")
    return {
        "steps": steps,
        "evaluations": len(extent.evaluations),
        "samples": samples,
        "machine": _compare_readings(machine, reader, extent),
    }


def _compare_readings(files: Sequence[Path], reader: RunReader, extent: Extent) -> int:
    wanted = (entry for entry in reader.hardware_after(0) if entry[0] <= extent.reading)
    count = 0
    for event in surviving_events(files):
        values = {value.tag: value for value in event.summary.value}
        if not values:
            continue
        id, row = next(wanted, (0, None))
        if row is None or id != event.step or not _same(machine_figures(row), values):
            raise _differs(files, f"reading {event.step:,}")
        count += 1
    if next(wanted, None) is not None:
        raise _differs(files, "its last reading")
    return count


def surviving_events(files: Sequence[Path]) -> Iterator[Any]:
    """The events that TensorBoard shows: read by its own reader, without those that a later restart
    takes back."""
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
    from tensorboard.compat.proto import event_pb2

    def events() -> Iterator[Any]:
        for path in files:
            yield from LegacyEventFileLoader(str(path)).Load()

    start = event_pb2.SessionLog.START
    restarts = [
        (number, event.step)
        for number, event in enumerate(events())
        if event.HasField("session_log") and event.session_log.status == start
    ]
    place = 0
    for number, event in enumerate(events()):
        while place < len(restarts) and restarts[place][0] <= number:
            place += 1
        if event.HasField("summary") and all(event.step < step for _, step in restarts[place:]):
            yield event


def _same(figures: dict[str, float], values: dict[str, Any]) -> bool:
    """Whether an event has exactly these figures."""
    return values.keys() == figures.keys() and all(
        _equal(values[tag].simple_value, value) for tag, value in figures.items()
    )


def _as_float32(value: float) -> float:
    try:
        return float(struct.unpack("<f", struct.pack("<f", value))[0])
    except OverflowError:
        return math.copysign(math.inf, value)


def _equal(one: float, other: float) -> bool:
    one, other = _as_float32(one), _as_float32(other)
    return one == other or (math.isnan(one) and math.isnan(other))


def _differs(files: Sequence[Path], what: str) -> StorageError:
    folder = files[0].parent if files else "the folder"
    return StorageError(
        f"the event files in {folder} differ from the run at {what}",
        hint="remove the folder and export again",
    )
