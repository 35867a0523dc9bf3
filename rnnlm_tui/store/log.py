"""The log of a run's attempt: rows as JSON lines, one file an attempt, written by its worker alone.

    {"kind":"attempt","version":1,"id":"9f0c…","start_step":0,"pid":4711,"host":"box",…}
    {"kind":"step","step":1,"tokens":700,"epoch":0.0017,"loss":7.6231346,…}

A row's keys are the fields of its class, some of them shorter (`SHORT`); a field with its default
is left out. A number that isn't finite is null, and `nonfinite` says what it was.
"""

import json
import math
import os
import re
import secrets
import struct
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache, partial
from itertools import chain
from operator import attrgetter
from pathlib import Path
from threading import Lock
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from pydantic_core import SchemaValidator, core_schema, from_json

from rnnlm_tui.errors import NewerLogError
from rnnlm_tui.schema import metrics
from rnnlm_tui.schema.health import HealthRow
from rnnlm_tui.schema.metrics import (
    AttemptRow,
    CommandRow,
    EvaluationRow,
    EventRow,
    GpuRow,
    HardwareRow,
    RankReading,
    RanksRow,
    SampleRow,
    StartRow,
    StepRow,
    SummaryRow,
)
from rnnlm_tui.schema.record import Record
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

Row = (
    AttemptRow | StartRow | StepRow | EvaluationRow | SampleRow | EventRow | HardwareRow
    | RanksRow | HealthRow | CommandRow | SummaryRow
)  # fmt: skip
"""What a log has beside facts."""
KINDS: Mapping[str, type[Any]] = {
    "attempt": AttemptRow,
    "start": StartRow,
    "step": StepRow,
    "evaluation": EvaluationRow,
    "health": HealthRow,
    "sample": SampleRow,
    "event": EventRow,
    "machine": HardwareRow,
    "ranks": RanksRow,
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

_NO_GPU = GpuRow()
_NO_CARD = _NO_GPU._asdict()
_STEP_FIELDS = tuple(name for name in StepRow._fields if name != "attempt")
_STEP_LINE = (
    STEP_PREFIX.decode()
    + ",".join(f'"{SHORT[StepRow].get(name, name)}":%r' for name in _STEP_FIELDS)
    + "}\n"
)
_ROUNDED: Mapping[str, Callable[[Any], float]] = {
    "step": int,
    "tokens_seen": int,
    "epoch": partial(round, ndigits=4),
    "tokens_per_second": lambda speed: float(f"{speed:.6g}"),
    "active_seconds": partial(round, ndigits=3),
    "time": partial(round, ndigits=3),
}
"""How the values of a step are rounded that aren't float32."""
_STEP_WORDS = _STEP_LINE.replace("%r", "").rstrip().encode()
_LETTERS = bytes({*_STEP_WORDS} - {*b"{,}"})
_ONLY_NUMBERS = bytes.maketrans(b"{}" + _LETTERS, b"0," + b" " * len(_LETTERS))
_NAME = re.compile(r"(\d{6})\.jsonl")
KIND_OF = {row: kind for kind, row in KINDS.items()}
"""The kind of each class of rows."""
_NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_SCHEMAS: Mapping[type[Any], core_schema.CoreSchema] = {
    int: core_schema.int_schema(strict=True, ge=0, lt=2**63),
    str: core_schema.str_schema(),
    dict: core_schema.dict_schema(),
    list: core_schema.list_schema(),
}
_DAMAGES = (ValueError, KeyError, TypeError, AttributeError)
"""What decoding a damaged line can raise."""
_SURROGATE = re.compile("[\ud800-\udfff]")
_FLOAT32 = struct.Struct("f")


def logs_of(run: "RunDirectory") -> list[tuple[int, Path]]:
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
    return float(f"{_FLOAT32.unpack(packed)[0]:.9g}")


def encode(row: "Row | Facts") -> bytes:
    """A row as a line of its attempt's log."""
    if isinstance(row, StepRow):
        numbers = _rounded(row).values()
        if all(map(math.isfinite, numbers)):  # three times as fast
            return (_STEP_LINE % tuple(numbers)).replace("e-", "E-").encode()
    kind = KIND_OF.get(type(row), FACTS)
    values: dict[str, Any] = (
        row.model_dump(exclude_unset=True) if isinstance(row, Record) else _set_fields(row)
    )
    if isinstance(row, StepRow):
        values |= _rounded(row)
    elif isinstance(row, HardwareRow):
        values |= {name: round(one, 3) for name, one in values.items() if isinstance(one, float)}
    short = SHORT.get(type(row), {})
    values = {short.get(name, name): value for name, value in values.items()}
    lost = {
        name: str(value)
        for name, value in values.items()
        if isinstance(value, float) and not math.isfinite(value)
    }
    if lost:
        values |= {**dict.fromkeys(lost), "nonfinite": lost}
    return _line({"kind": kind, **values})


def _rounded(row: StepRow) -> dict[str, float]:
    """The values of a step as its line has them."""
    return {name: _ROUNDED.get(name, shortest)(getattr(row, name)) for name in _STEP_FIELDS}


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
    if isinstance(value, Record):
        value = value.model_dump(exclude_defaults=True)
    if isinstance(value, Mapping):
        return {name: _cut(one, most) for name, one in value.items()}
    return [_cut(one, most) for one in value] if isinstance(value, list | tuple) else value


def _set_fields(row: Any) -> dict[str, Any]:
    """The fields of a row that have another value than their default, but not its attempt."""
    values = {
        name: value
        for name, value in row._asdict().items()
        if name != "attempt"
        and (name not in row._field_defaults or value != row._field_defaults[name])
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
        (found,) = _checker(kind).validate_python([values | {"attempt": attempt}])
        if kind == "machine":
            found["gpu"] = _NO_GPU if found["gpu"] is _NO_CARD else GpuRow(**found["gpu"])
            found["other_gpus"] = tuple(GpuRow(**card) for card in found["other_gpus"])
        row: Row = KINDS[kind](**found)
        return row
    except _DAMAGES:
        return None


def decode_columns(kind: str, names: Sequence[str], lines: Sequence[bytes]) -> list[list[Any]]:
    """A column for each of these fields in lines of one kind; None: the line is damaged, or the
    value isn't known."""
    if kind == "step" and (columns := _step_columns(lines)):
        return [columns[name] for name in names]
    with suppress(*_DAMAGES):
        found = _checker(kind).validate_json(b"[" + b",".join(lines) + b"]")
        if len(found) == len(lines):
            return [_column(found, *name.split(".")) for name in names]
    if len(lines) == 1:
        row = decode(lines[0], 0)
        known = isinstance(row, KINDS[kind])
        return [[attrgetter(name)(row) if known else None] for name in names]
    half = len(lines) // 2
    halves = (decode_columns(kind, names, some) for some in (lines[:half], lines[half:]))
    return [left + right for left, right in zip(*halves, strict=True)]


def _column(rows: Sequence[Mapping[str, Any]], name: str, part: str = "") -> list[Any]:
    column = [row[name] for row in rows]
    return [value[part] for value in column] if part else column


def _step_columns(lines: Sequence[bytes]) -> dict[str, list[Any]] | None:
    """The columns of steps that are just as `encode` writes them, in two thirds of the time.

    All words are there if the text without its numbers is that of such lines. JSON's parser then
    reads the numbers, with spaces in place of words: a number that a word divides is an error. So
    no letter may be in both: an exponent is E.
    """
    text = b"".join(lines)
    if text.translate(None, b"0123456789.+-E\n") != _STEP_WORDS * len(lines):
        return None
    with suppress(ValueError):
        values = from_json(b"[" + text.translate(_ONLY_NUMBERS) + b"0]")
        width = 1 + len(_STEP_FIELDS)
        steps, tokens, *others = (values[place::width] for place in range(1, width))
        whole = steps + tokens
        if (
            {*map(type, whole)} == {int}
            and {*map(type, chain(*others))} == {float}
            and 0 <= min(whole) <= max(whole) < 2**63
            and math.isfinite(sum(map(sum, others)))
        ):
            return dict(zip(_STEP_FIELDS, (steps, tokens, *others), strict=True))
    return None


@cache
def _checker(kind: str) -> SchemaValidator:
    """Takes a list of lines of a kind, and returns their values by field."""
    finite, others = (_values_schema(KINDS[kind], finite) for finite in (True, False))
    others = core_schema.no_info_wrap_validator_function(_put_back, others)
    either = core_schema.union_schema([finite, others], mode="left_to_right")
    return SchemaValidator(core_schema.list_schema(either))


def _put_back(values: dict[str, Any], check: Callable[[object], object]) -> object:
    """Check a line that has numbers that aren't finite."""
    return check(values | {key: _NOT_FINITE[word] for key, word in values["nonfinite"].items()})


def _values_schema(kind: type[Any], finite: bool) -> core_schema.CoreSchema:
    """What each field of a row must be; fields of later versions are left out."""
    hints, short = get_type_hints(kind, vars(metrics)), SHORT.get(kind, {})
    found = {}
    if finite:
        nothing = core_schema.none_schema()
        found["nonfinite"] = core_schema.typed_dict_field(nothing, required=False)
    for name in kind._fields:
        schema, is_given = _schema(hints[name], finite), name not in kind._field_defaults
        default = kind._field_defaults.get(name)
        if isinstance(default, GpuRow):
            # a default would be copied for each row, in half of the time that reading takes
            schema = core_schema.with_default_schema(schema, default_factory=lambda: _NO_CARD)
        elif not is_given:
            schema = core_schema.with_default_schema(schema, default=default)
        found[name] = core_schema.typed_dict_field(
            schema,
            required=is_given and name != "attempt",  # a file's name says it
            validation_alias=short.get(name, name),
        )
    return core_schema.typed_dict_schema(found)


def _schema(hint: Any, finite: bool) -> core_schema.CoreSchema:
    if isinstance(hint, UnionType):  # with None
        return core_schema.nullable_schema(_schema(get_args(hint)[0], finite))
    kind = get_origin(hint) or hint
    if kind is Literal:
        return core_schema.literal_schema(list(get_args(hint)))
    if kind is tuple:
        return core_schema.tuple_variable_schema(_schema(get_args(hint)[0], finite))
    if kind is GpuRow:
        return _values_schema(GpuRow, True)
    if kind is RankReading:
        return RankReading.__get_pydantic_core_schema__()
    if kind is float:
        return core_schema.float_schema(strict=True, allow_inf_nan=not finite)
    return _SCHEMAS[kind]


class RunLog:
    """Appends to the log of one attempt; threads may share it.

    Raises (every method):
        StorageError: the file can't be written; it has whole lines only, those from before the
            call, which can be repeated.
    """

    def __init__(self, run: "RunDirectory", attempt: int) -> None:
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
    def begin(cls, run: "RunDirectory", row: AttemptRow) -> "RunLog":
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

    def append(self, *rows: "Row | Facts") -> None:
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

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
