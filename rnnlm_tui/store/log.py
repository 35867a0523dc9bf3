"""The log of a run's attempt: rows as JSON lines, one file an attempt, written by its worker alone.

    {"kind":"attempt","version":1,"id":"9f0c…","start_step":0,"pid":4711,"host":"box",…}
    {"kind":"step","step":1,"tokens":700,"epoch":0.0017,"loss":7.6231346,…}

A row's keys are the fields of its class, some of them shorter (`SHORT`); a field with its default
is left out. A number that isn't finite is null, and `nonfinite` says what it was.
"""

from __future__ import annotations

import json
import math
import os
import re
import secrets
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path
from threading import Lock
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from rnnlm_tui.errors import NewerLogError
from rnnlm_tui.schema import metrics
from rnnlm_tui.schema.metrics import (
    AttemptRow,
    CommandRow,
    EvaluationRow,
    EventRow,
    GpuRow,
    HardwareRow,
    SampleRow,
    StartRow,
    StepRow,
    SummaryRow,
)
from rnnlm_tui.system.files import (
    fsync_directory,
    make_private_directory,
    open_private,
    storage_errors,
    write_whole,
)

if TYPE_CHECKING:
    from rnnlm_tui.schema.facts import Facts
    from rnnlm_tui.store.paths import RunDirectory

LOG_VERSION = 1
MAX_LINE = 2**20
"""Bytes of the longest line; readers skip longer ones."""
MAX_TEXT = 80_000
"""Characters of a text that are kept: at most six bytes each, so two of them fit into a line."""
STEP_PREFIX = b'{"kind":"step",'
LARGEST_STEP = 2**53

Row = (
    AttemptRow | StartRow | StepRow | EvaluationRow | SampleRow | EventRow | HardwareRow
    | CommandRow | SummaryRow
)  # fmt: skip
"""What a log has beside facts."""
KINDS: Mapping[str, type[Any]] = {
    "attempt": AttemptRow,
    "start": StartRow,
    "step": StepRow,
    "evaluation": EvaluationRow,
    "sample": SampleRow,
    "event": EventRow,
    "machine": HardwareRow,
    "command": CommandRow,
    "summary": SummaryRow,
}
"""The class of each kind of line but `facts`."""
FACTS = "facts"
SHORT: Mapping[type[Any], Mapping[str, str]] = {
    StepRow: {
        "tokens_seen": "tokens",
        "learning_rate": "lr",
        "tokens_per_second": "speed",
        "active_seconds": "active",
    },
    EventRow: {"kind": "event"},
}
"""Fields with another key in the log: a step should take less than 200 bytes, and `kind` is the
line's."""

_STEP_LINE = (
    STEP_PREFIX.decode()
    + ",".join(
        f'"{SHORT[StepRow].get(field.name, field.name)}":%r'
        for field in fields(StepRow)
        if field.name != "attempt"
    )
    + "}\n"
)
_NAME = re.compile(r"(\d{6})\.jsonl")
KIND_OF = {row: kind for kind, row in KINDS.items()}
"""The kind of each class of rows."""
_NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_SURROGATE = re.compile("[\ud800-\udfff]")
_FLOAT32 = struct.Struct("f")


def logs_of(run: RunDirectory) -> list[tuple[int, Path]]:
    """(attempt, path) of a run's logs in order; links are left out.

    Raises:
        StorageError: the folder can't be read, or the run is of an unreleased version.
    """
    with storage_errors("look into", run.logs_path):
        try:
            entries = [entry for entry in os.scandir(run.logs_path) if not entry.is_symlink()]
        except FileNotFoundError:
            run.check_version()
            return []
    found = ((_NAME.fullmatch(entry.name), entry) for entry in entries)
    return sorted((int(match[1]), Path(entry.path)) for match, entry in found if match)


def shortest(value: float) -> float:
    """The shortest decimal number that rounds to the same float32 as this one; six digits of a
    number that is too large for one."""
    packed = _FLOAT32.pack(value)
    for digits in (6, 7, 8):
        short = float(f"{value:.{digits}g}")
        if _FLOAT32.pack(short) == packed:
            return short
    return float(f"{value:.9g}")


def encode(row: Row | Facts) -> bytes:
    """A row as a line of its attempt's log."""
    if isinstance(row, StepRow):
        numbers = _rounded(row).values()
        if all(map(math.isfinite, numbers)):  # three times as fast
            return (_STEP_LINE % tuple(numbers)).encode()
    kind = KIND_OF.get(type(row), FACTS)
    values: dict[str, Any] = (
        row.model_dump(exclude_unset=True) if not is_dataclass(row) else _set_fields(row)
    )
    if isinstance(row, StepRow):
        values |= _rounded(row)
    elif isinstance(row, HardwareRow):
        values |= {name: round(one, 3) for name, one in values.items() if isinstance(one, float)}
    lost = {
        name: str(value)
        for name, value in values.items()
        if isinstance(value, float) and not math.isfinite(value)
    }
    if lost:
        values |= {**dict.fromkeys(lost), "nonfinite": lost}
    short = SHORT.get(type(row), {})
    return _line({"kind": kind, **{short.get(name, name): value for name, value in values.items()}})


def _rounded(row: StepRow) -> dict[str, float]:
    """The values of a step as its line has them."""
    return {
        "step": row.step,
        "tokens_seen": row.tokens_seen,
        "epoch": round(row.epoch, 4),
        "loss": shortest(row.loss),
        "grad_norm": shortest(row.grad_norm),
        "learning_rate": shortest(row.learning_rate),
        "tokens_per_second": float(f"{row.tokens_per_second:.6g}"),
        "active_seconds": round(row.active_seconds, 3),
        "time": round(row.time, 3),
    }


def _line(values: Mapping[str, object], most: int = MAX_TEXT) -> bytes:
    """The line of these values; texts are cut after `most` characters, or earlier to fit."""
    text = json.dumps(_cut(values, most), ensure_ascii=False, separators=(",", ":"), default=str)
    # no reader takes the escape of half a character
    line = _SURROGATE.sub(lambda found: f"\\\\u{ord(found[0]):04x}", text).encode() + b"\n"
    return line if len(line) <= MAX_LINE or not most else _line(values, most // 8)


def _cut(value: object, most: int) -> object:
    if isinstance(value, str):
        return value if len(value) <= most else f"{value[:most]}…"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no such numbers
    if isinstance(value, Mapping):
        return {name: _cut(one, most) for name, one in value.items()}
    return [_cut(one, most) for one in value] if isinstance(value, list | tuple) else value


def _set_fields(row: Any) -> dict[str, Any]:
    """The fields of a row that have another value than their default, but not its attempt."""
    values = {
        field.name: value
        for field in fields(row)
        if field.name != "attempt"
        and ((value := getattr(row, field.name)) != field.default or field.default is MISSING)
    }
    if isinstance(row, HardwareRow):
        gpus = {"gpu": _set_fields(row.gpu), "other_gpus": [*map(_set_fields, row.other_gpus)]}
        values |= {name: value for name, value in gpus.items() if value}
    return values


def decode(line: bytes, attempt: int) -> Row | dict[str, object] | None:
    """The row of a line, or the values of a line of facts; None: damaged, or of an unknown kind.

    Raises:
        NewerLogError: a newer version wrote the log.
    """
    from pydantic_core import from_json

    try:
        values = from_json(line)
        kind = values.pop("kind")
        if kind == FACTS:
            return values if isinstance(values, dict) else None
        if kind == "attempt" and values["version"] > LOG_VERSION:
            raise NewerLogError(
                f"attempt {attempt} was made by a newer version of rnnlm-tui: its log is of version"
                f" {values['version']}, this version reads {LOG_VERSION}",
                hint="update rnnlm-tui; the file was not changed",
            )
        row = KINDS[kind]
        for name, short in SHORT.get(row, {}).items():
            values[name] = values.pop(short)
        found: Row = _row(row, values | {"attempt": attempt})
        return found
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None


def _row(kind: type[Any], values: dict[str, Any]) -> Any:
    """A row of checked values; those of other versions' fields are ignored.

    Raises:
        ValueError, KeyError, TypeError, OverflowError: a value is missing or of another type.
    """
    lost = values.get("nonfinite", {})
    found: dict[str, Any] = {}
    for name, (types, allowed, default) in _checks(kind).items():  # type: ignore[arg-type]
        value = values.get(name, default)
        if value is None and name in lost and float in types:
            value = _NOT_FINITE[lost[name]]
        elif value is default:
            if value is MISSING:
                raise KeyError(name)
            continue
        elif name == "gpu":
            value = _row(GpuRow, value)
        elif name == "other_gpus":
            value = tuple(_row(GpuRow, card) for card in value)
        else:
            if type(value) is int and float in types:
                value = float(value)
            if type(value) not in types or (allowed and value not in allowed):
                raise TypeError(name)
            if (
                not math.isfinite(value)  # 1e400
                if type(value) is float
                else type(value) is int and not -LARGEST_STEP <= value < 2**63
            ):
                raise ValueError(name)
        found[name] = value
    return kind(**found)


@cache
def _checks(kind: type[Any]) -> dict[str, tuple[frozenset[type], frozenset[object], object]]:
    """The types, the allowed values (empty: any) and the default of each field of a row."""
    hints = get_type_hints(kind, vars(metrics))
    return {field.name: (*_types(hints[field.name]), field.default) for field in fields(kind)}


def _types(hint: Any) -> tuple[frozenset[type], frozenset[object]]:
    parts = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    if get_origin(hint) is Literal:
        return frozenset({str}), frozenset(parts and get_args(hint))
    return frozenset(NoneType if part is None else get_origin(part) or part for part in parts), (
        frozenset()
    )


class RunLog:
    """Appends to the log of one attempt; threads may share it.

    Raises (every method):
        StorageError: the file can't be written; it has whole lines only, those from before the
            call, which can be repeated.
    """

    def __init__(self, run: RunDirectory, attempt: int) -> None:
        self.path = run.logs_path / f"{attempt:06d}.jsonl"
        self.attempt = attempt
        self._turn = Lock()
        self._unsynced = b""  # the last bytes, until they are on the disk
        self._lost = False
        if not run.logs_path.is_dir():
            make_private_directory(run.logs_path, parents=False)
            fsync_directory(run.path)
        with storage_errors("write", self.path):
            self._descriptor = open_private(self.path, os.O_WRONLY)
            self._size = os.lseek(self._descriptor, 0, os.SEEK_END)
            fsync_directory(run.logs_path)

    @classmethod
    def begin(cls, run: RunDirectory, row: AttemptRow) -> RunLog:
        """Begin the next attempt; its number is not the row's."""
        log = cls(run, max((number for number, _ in logs_of(run)), default=0) + 1)
        head = {"kind": "attempt", "version": LOG_VERSION, "id": secrets.token_hex(8)}
        try:
            log._append(_line(head | _set_fields(row)))
            log.sync()
        except BaseException:
            log.close()
            log.path.unlink(missing_ok=True)
            raise
        return log

    def append(self, *rows: Row | Facts) -> None:
        """Append rows in one write. Readers see them at once; they are durable after `sync`."""
        self._append(b"".join(map(encode, rows)))

    def _append(self, lines: bytes) -> None:
        with self._turn:
            try:
                self._write(lines, self._size)
            except BaseException:
                with suppress(OSError):  # the next call overwrites it in any case
                    os.ftruncate(self._descriptor, self._size)
                raise
            self._size += len(lines)
            self._unsynced += lines

    def _write(self, content: bytes, place: int) -> None:
        with storage_errors("write", self.path):
            os.lseek(self._descriptor, place, os.SEEK_SET)
            write_whole(self._descriptor, content)

    def sync(self) -> None:
        """Wait until everything is on the disk.

        A full server of NFS reports only here that it dropped what was written: those bytes are
        kept, and written again by the next call.
        """
        with self._turn:
            if not self._unsynced:
                return
            if self._lost:
                self._write(self._unsynced, self._size - len(self._unsynced))
            self._lost = True
            with storage_errors("write", self.path):
                os.fsync(self._descriptor)
            self._lost, self._unsynced = False, b""

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
