"""RunIndex: a sparse index of a run's logs in SQLite, in a cache folder; anyone may delete it.

It has the position of each row that isn't a step, and for each bucket of steps or readings of the
machine its position, its last row and the n, minimum, maximum and sum of each column.
"""

from __future__ import annotations

import math
import os
import sqlite3
import time
import zlib
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass, replace
from io import BytesIO
from itertools import accumulate, compress, count
from operator import lt, not_
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from platformdirs import user_cache_path
from pydantic_core import from_json

from rnnlm_tui.errors import StorageError
from rnnlm_tui.schema.metrics import (
    MACHINE_COLUMNS,
    METRIC_COLUMNS,
    STEP_PLACE,
    EventRow,
    HardwareRow,
    RanksRow,
    StepRow,
)
from rnnlm_tui.store.log import (
    FACTS,
    KIND_OF,
    KINDS,
    MAX_LINE,
    STEP_PREFIX,
    decode,
    decode_columns,
    logs_of,
)
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.system.disk import filesystem_here, is_network
from rnnlm_tui.system.files import (
    make_own_directory,
    make_private_directory,
    open_private,
    stamp,
    storage_errors,
)

FORMAT = 2
_PRAGMAS = (
    "mmap_size = 0",
    "journal_mode = WAL",
    "synchronous = NORMAL",
    "journal_size_limit = 4194304",
)
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR}
"""Codes of a file that isn't an index."""
_HELD = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
"""Codes of one that another process holds."""
BLOCK_BYTES = 2**22
"""Bytes of a log that are read and committed at once, more than MAX_LINE."""
PIECE_BYTES = 2**19
"""Bytes of them that are decoded at once: with more, the processor's cache is too small for the
values, and a long log takes a third longer."""
LARGEST_STEP = 2**53
BUCKET_STEPS = 64
"""Bucket b holds steps 64 b + 1 to 64 (b + 1) of an attempt. Buckets of 1,024 would take a tenth of
the space, but then a chart of 100,000 steps would have to read every line of the log."""
BUCKET_READINGS = 8
"""The same for readings of the machine, which are counted from 1 in each attempt."""
PATIENCE_SECONDS = 2.0
"""After that, an index that another process holds is made again in memory."""
UNUSED_SECONDS = 30 * 86_400.0
_HEAD_BYTES, _CHECKED_BYTES = 256, 2**16
"""The first bytes of a log, and those before the offset that is reached, have to be the same at the
next look."""
STEP_VALUES = (*STEP_PLACE, *METRIC_COLUMNS)
"""The order of a step's values in memory."""
READING_VALUES = ("time", *(name.replace("gpu_", "gpu.") for name in MACHINE_COLUMNS))
"""The same for a reading of the machine."""
_MACHINE_PREFIX = b'{"kind":"machine",'

STEPS, MACHINE = "steps", "machine"
PLACES = {STEPS: 6, MACHINE: 3}
"""The first figures of a bucket: its last step or reading, the rows with a number that isn't
finite, then tokens, epoch, active seconds (steps only) and time of its last row. Four figures for
each column follow: n, minimum, maximum, sum."""
COLUMNS = {STEPS: METRIC_COLUMNS, MACHINE: MACHINE_COLUMNS}

# `before` is a checksum of the bytes before `offset`; `tokens` and `step` are those of the last
# step, `readings` is the number of readings; `skipping`: inside a line that is too long.
_TABLES = """
CREATE TABLE about (path TEXT, columns TEXT, built INTEGER);
CREATE TABLE logs (
    attempt INTEGER PRIMARY KEY, offset INTEGER, before INTEGER, inode INTEGER, size INTEGER,
    changed INTEGER, damaged INTEGER, skipping INTEGER, step INTEGER, tokens INTEGER,
    readings INTEGER);
CREATE TABLE buckets (
    series TEXT, attempt INTEGER, bucket INTEGER, offset INTEGER, figures BLOB,
    PRIMARY KEY (series, attempt, bucket)) WITHOUT ROWID;
CREATE TABLE rows (
    attempt INTEGER, offset INTEGER, kind TEXT, what TEXT, step INTEGER, line BLOB,
    PRIMARY KEY (kind, attempt, offset)) WITHOUT ROWID;
"""


@dataclass(slots=True)
class Reached:
    """How far a log has been read."""

    attempt: int
    offset: int = 0
    before: int = 0
    inode: int = 0
    size: int = 0
    changed: int = 0
    damaged: int = 0
    skipping: int = 0
    step: int = 0
    tokens: int = 0
    readings: int = 0


def index_folder() -> Path:
    """The folder of all indexes, on a local disk: SQLite isn't reliable on others."""
    own = user_cache_path("rnnlm-tui", appauthor=False) / "index"
    other = Path(f"/var/tmp/rnnlm-tui-{os.getuid()}/index")
    if own.is_dir() or not (other.is_dir() or is_network(filesystem_here(own))):
        return own
    return other


def index_path(run: RunDirectory) -> Path:
    """The index of a run, named by its path."""
    import hashlib  # OpenSSL costs the first screen milliseconds

    return index_folder() / f"{hashlib.sha256(os.fsencode(run.path.resolve())).hexdigest()[:32]}.db"


class RunIndex:
    """The index of one run; `refresh` reads what is new in its logs.

    Without write access, with a full disk, or if another process holds it for long, the index is
    made in memory. A damaged one is made again.
    """

    def __init__(self, run: RunDirectory) -> None:
        self.run = run
        self._path = index_path(run)
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        self._in_memory = self._remade = self._caught_up = False
        self.logs: dict[int, Reached] = {}
        """How far each log has been read, by attempt."""
        self.built = 0
        """Changes when rows that were known may have changed."""
        self._held_since: float | None = None

    def close(self) -> None:
        """Close the file; the next `refresh` opens it again."""
        if self._connection is not None:
            self._connection.close()
            self._connection, self.logs = None, {}
        self._caught_up = False

    @property
    def version(self) -> tuple[object, ...]:
        """Changes with everything new."""
        return (self.built, *((log.attempt, log.offset) for log in self.logs.values()))

    def refresh(self, report: Callable[[int, int], None] | None = None) -> None:
        """Read what is new in the logs.

        Args:
            report: called with the bytes that were read and those to read.

        Raises:
            StorageError: a log can't be read.
        """
        if self._connection is None and not logs_of(self.run):
            self.logs, self.built = {}, 0
            return  # a draft
        while True:
            try:
                self._open()
                self._update(report)
            except sqlite3.Error as error:
                if _code(error) not in _HELD:
                    self._make_again(error)
                    continue
                # a reader that follows shows what it knows, and tries again at its next look
                self._held_since = self._held_since or time.monotonic()
                if time.monotonic() - self._held_since >= PATIENCE_SECONDS:
                    self._use_memory()
                elif self._caught_up:
                    return
                else:
                    time.sleep(0.01)
            else:
                self._held_since, self._remade, self._caught_up = None, False, True
                return

    def rows(self, query: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        try:
            return self._rows(query, values)
        except sqlite3.Error as error:
            self._make_again(error)
            self.refresh()
            return self._rows(query, values)

    def _rows(self, query: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        if self._connection is None:
            return []
        return self._connection.execute(query, values).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Read one state of the index inside the block."""
        with suppress(sqlite3.Error):
            if self._connection is not None:
                self._connection.execute("BEGIN")
                self._look()  # another process may have read on since the refresh
        try:
            yield
        finally:
            with suppress(sqlite3.Error):
                if self._connection is not None and self._connection.in_transaction:
                    self._connection.execute("COMMIT")

    def _make_again(self, error: sqlite3.Error) -> None:
        """Make a damaged index again; in memory if that doesn't help, or it can't be written."""
        if self._in_memory:
            raise error  # a bug of ours
        damaged = _code(error) in _DAMAGED
        self.close()
        if damaged and not self._remade:
            self._remade = True
            if stamp(self._path)[2] == self._inode:  # else another process made it again
                _remove(self._path)
        else:
            self._use_memory()

    def _use_memory(self) -> None:
        self.close()
        self._in_memory = True

    def _open(self) -> None:
        """Open the file, again if it was deleted or replaced."""
        path = self._path
        if self._connection is not None:
            if self._in_memory or stamp(path)[2] == self._inode:
                return
            self.close()
        if not self._in_memory and not path.exists():
            try:
                own = path.is_relative_to("/var/tmp")  # where others can create folders too
                for folder in (path.parent.parent, path.parent):
                    make_own_directory(folder) if own else make_private_directory(folder)
                os.close(open_private(path, os.O_RDWR))
            except (StorageError, OSError):
                self._in_memory = True
            else:
                _remove_unused(path.parent)
        self._inode = stamp(path)[2]
        connection = sqlite3.connect(
            ":memory:" if self._in_memory else path,
            timeout=0,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            for pragma in _PRAGMAS:
                connection.execute(f"PRAGMA {pragma}")
            self._connection = connection
            self._create()
        except BaseException:
            self.close()
            connection.close()
            raise

    def _create(self) -> None:
        """Create the tables, anew in an index of another version or another run."""
        assert self._connection is not None
        about = (str(self.run.path.resolve()), f"{FORMAT} {BUCKET_STEPS} {COLUMNS}")

        def is_there() -> bool:
            return bool(self._rows("SELECT 1 FROM sqlite_master WHERE name = 'about'")) and (
                self._rows("SELECT path, columns FROM about") == [about]
            )

        if is_there():
            return
        with self._writing() as connection:
            if is_there():  # since another process was faster
                return
            for (name,) in self._rows("SELECT name FROM sqlite_master WHERE type = 'table'"):
                connection.execute(f'DROP TABLE "{name}"')
            for statement in _TABLES.split(";"):
                connection.execute(statement)
            connection.execute("INSERT INTO about VALUES (?, ?, random())", about)

    def _update(self, report: Callable[[int, int], None] | None) -> None:
        """Read all logs up to their ends, block by block."""
        self._look()
        logs = logs_of(self.run)
        if gone := self.logs.keys() - {attempt for attempt, _ in logs}:
            self._forget(*sorted(gone))
        done = total = 0
        if report is not None:
            with storage_errors("look into", self.run.logs_path):
                total = sum(path.stat().st_size for _, path in logs)
        for attempt, path in logs:
            known = self.logs.get(attempt, Reached(attempt))
            with storage_errors("read", path), path.open("rb") as file:
                found = os.fstat(file.fileno())
                at = (found.st_ino, found.st_size, found.st_mtime_ns)
                if at != (known.inode, known.size, known.changed):
                    before = _checksum(file, known.offset)
                    if found.st_size < known.offset or before != known.before:
                        self._forget(attempt)
                    while not self._read_block(file, attempt, at):
                        if report is not None:
                            report(done + file.tell(), total)
            done += found.st_size

    def _look(self) -> None:
        """See what this and other processes have read."""
        ((self.built,),) = self._rows("SELECT built FROM about")
        found = self._rows("SELECT * FROM logs ORDER BY attempt")
        self.logs = {row[0]: Reached(*row) for row in found}

    def _forget(self, *attempts: int) -> None:
        with self._writing() as connection:
            for attempt in attempts:
                for table in ("logs", "buckets", "rows"):
                    connection.execute(f"DELETE FROM {table} WHERE attempt = ?", (attempt,))
            connection.execute("UPDATE about SET built = random()")
        self._look()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        assert self._connection is not None
        with self._connection as connection:  # commits, or rolls back
            connection.execute("BEGIN IMMEDIATE")
            yield connection

    def _read_block(self, file: BinaryIO, attempt: int, at: tuple[int, int, int]) -> bool:
        """Read and commit the next block of a log; returns whether that was the last one."""
        with self._writing() as connection:
            self._look()  # another process may have read on meanwhile
            known = replace(self.logs.get(attempt, Reached(attempt)))
            file.seek(known.offset)
            content = file.read(BLOCK_BYTES)
            at_end = len(content) < BLOCK_BYTES
            end = content.rfind(b"\n") + 1
            begin = content.find(b"\n") + 1 if known.skipping else 0
            skipping = known.skipping and not end
            if not skipping and len(content) - end >= MAX_LINE:
                skipping, known.damaged = True, known.damaged + 1
            block = _Block(known, self._last_buckets(known))
            block.read(content[begin:end], known.offset + begin)
            block.store(connection)
            known.offset += len(content) if skipping else end
            known.before, known.skipping = _checksum(file, known.offset), int(skipping)
            known.inode, known.size, known.changed = at if at_end else (0, 0, 0)
            connection.execute(f"INSERT OR REPLACE INTO logs VALUES ({_marks(11)})", astuple(known))
            if end and attempt < max(self.logs, default=0):
                # readers know later rows
                connection.execute("UPDATE about SET built = random()")
        self._look()
        return at_end

    def _last_buckets(self, known: Reached) -> dict[tuple[str, int], _Bucket]:
        """The newest bucket of each series, which may grow."""
        steps, readings = (known.step - 1) // BUCKET_STEPS, (known.readings - 1) // BUCKET_READINGS
        found = self._rows(
            "SELECT series, bucket, offset, figures FROM buckets WHERE attempt = ? AND"
            " (series, bucket) IN (VALUES (?, ?), (?, ?))",
            (known.attempt, STEPS, steps, MACHINE, readings),
        )
        return {(name, at): _Bucket(offset, array("d", blob)) for name, at, offset, blob in found}


class _Bucket(NamedTuple):
    offset: int
    """Of its first row."""
    figures: array[float]
    """As in PLACES."""


class _Block:
    """Whole lines of a log, and what the index has of them."""

    def __init__(self, known: Reached, buckets: dict[tuple[str, int], _Bucket]) -> None:
        self.known = known
        """Its counts grow."""
        self.rows: list[tuple[object, ...]] = []
        self.buckets = buckets
        """By series and number."""

    def read(self, content: bytes, offset: int) -> None:
        """Read lines, the first of which begins at `offset` of the log."""
        file = BytesIO(content)
        while lines := file.readlines(PIECE_BYTES):
            offsets = list(accumulate(map(len, lines), initial=offset))
            offset = offsets.pop()
            if offset - offsets[0] > MAX_LINE:
                self.known.damaged += sum(len(line) > MAX_LINE for line in lines)
                lines = [line if len(line) <= MAX_LINE else b"" for line in lines]
            is_step = [line.startswith(STEP_PREFIX) for line in lines]
            self._add_steps(list(compress(lines, is_step)), list(compress(offsets, is_step)))
            readings, places = list[bytes](), list[int]()
            for line, at in compress(zip(lines, offsets, strict=True), map(not_, is_step)):
                if line.startswith(_MACHINE_PREFIX):
                    readings.append(line)
                    places.append(at)
                elif line.strip():
                    self._add_row(line, at)
            self._add_readings(readings, places)

    def store(self, connection: sqlite3.Connection) -> None:
        """Write rows and buckets."""
        connection.executemany(f"INSERT OR REPLACE INTO rows VALUES ({_marks(6)})", self.rows)
        buckets = (
            (series, self.known.attempt, number, bucket.offset, bucket.figures.tobytes())
            for (series, number), bucket in self.buckets.items()
        )
        connection.executemany(f"INSERT OR REPLACE INTO buckets VALUES ({_marks(5)})", buckets)

    def _add_row(self, line: bytes, offset: int) -> None:
        row = decode(line, self.known.attempt)
        if row is None or isinstance(row, StepRow | HardwareRow):  # without its prefix
            self.known.damaged += row is not None or not _is_of_unknown_kind(line)
            return
        kind = FACTS if isinstance(row, dict) else KIND_OF[type(row)]
        what = row.kind if isinstance(row, EventRow) else ""
        step = getattr(row, "step", None)
        kept = None if isinstance(row, RanksRow) else line  # long, and only the newest is read
        self.rows.append((self.known.attempt, offset, kind, what, step, kept))

    def _add_steps(self, lines: list[bytes], offsets: list[int]) -> None:
        known = self.known
        columns = [*decode_columns("step", STEP_VALUES, lines), offsets]
        *columns, offsets = in_order(columns, known.step)
        known.damaged += len(lines) - len(offsets)
        for number, figures in buckets_of(columns, BUCKET_STEPS, (known.step, known.tokens)):
            place = bisect_left(columns[0], number * BUCKET_STEPS + 1)
            self._add(STEPS, number, offsets[place], figures)
        if offsets:
            known.step, known.tokens = columns[0][-1], columns[1][-1]

    def _add_readings(self, lines: list[bytes], offsets: list[int]) -> None:
        known, columns = self.known, decode_columns("machine", READING_VALUES, lines)
        kept = [place for place, time in enumerate(columns[0]) if time is not None]
        known.damaged += len(lines) - len(kept)
        offsets, *columns = _picked(kept, (offsets, *columns))
        self.rows += [(known.attempt, at, "machine", "", None, None) for at in offsets]
        begin = 0
        while begin < len(offsets):
            number, inside = divmod(known.readings, BUCKET_READINGS)
            end = min(len(offsets), begin + BUCKET_READINGS - inside)
            known.readings += end - begin
            figures = reading_figures([column[begin:end] for column in columns], known.readings)
            self._add(MACHINE, number, offsets[begin], figures)
            begin = end

    def _add(self, series: str, number: int, offset: int, figures: array[float]) -> None:
        known = self.buckets.get((series, number))
        if known is not None:
            offset, figures = known.offset, merged((known.figures, figures), PLACES[series])
        self.buckets[series, number] = _Bucket(offset, figures)


def merged(parts: Sequence[array[float]], places: int) -> array[float]:
    """The figures of several buckets together, the latest one last."""
    if len(parts) == 1:
        return parts[0]
    columns = list(zip(*parts, strict=True))
    figures = parts[-1][:places]
    figures[1] = sum(columns[1])
    for at in range(places, len(columns), 4):
        known, low, high, total = columns[at : at + 4]
        lows, highs = filter(math.isfinite, low), filter(math.isfinite, high)  # NaN stands for none
        figures.append(sum(known))
        figures.extend((min(lows, default=math.nan), max(highs, default=math.nan), sum(total)))
    return figures


def _picked(places: list[int], columns: Sequence[list[Any]]) -> list[list[Any]]:
    return [[column[place] for place in places] for column in columns]


def in_order(columns: list[list[Any]], newest: int) -> list[list[Any]]:
    """The rows of steps after the newest one, given by columns, steps first: damaged ones, and
    those that somebody put after later ones, are left out."""
    steps = columns[0]
    if all(steps) and all(map(lt, (newest, *steps), (*steps, LARGEST_STEP))):
        return columns
    kept = list[int]()
    for place, step in enumerate(steps):
        if step is not None and newest < step < LARGEST_STEP:
            kept.append(place)
            newest = step
    return _picked(kept, columns)


def buckets_of(
    columns: Sequence[Sequence[Any]], width: int, before: Sequence[int] = (0, 0), begin: int = 0
) -> Iterator[tuple[int, array[float]]]:
    """Number and figures of each bucket of `width` steps from a place on, given by columns as in
    `STEP_VALUES`.

    Args:
        before: step and tokens of the row before.
    """
    steps, tokens, epochs = columns[:3]
    bounds = list[tuple[int, int, int]]()
    while begin < len(steps):
        number = (steps[begin] - 1) // width
        end = bisect_right(steps, (number + 1) * width, begin)
        bounds.append((number, begin, end))
        begin = end
    lasts = [[column[end - 1] for *_, end in bounds] for column in columns[:5]]
    places: list[Iterable[float]] = [lasts[0], [0] * len(bounds), *lasts[1:]]
    for column in columns[5:]:
        parts = [column[first:end] for _, first, end in bounds]
        places += (map(of_part, parts) for of_part in (len, min, max, sum))
    rows = [before, *zip(steps, tokens, strict=True)]
    ends = compress(count(), map(float.is_integer, epochs))
    short = {at for at in ends if is_short(rows[at], rows[at + 1])}
    for (number, begin, end), row in zip(bounds, zip(*places, strict=True), strict=True):
        figures = array("d", row)
        if not math.isfinite(sum(row)) or not short.isdisjoint(range(begin, end)):
            _leave_out(figures, [column[begin:end] for column in columns[5:]], short, begin)
        yield number, figures


def _leave_out(
    figures: array[float], columns: Sequence[Sequence[float]], short: set[int], begin: int
) -> None:
    """Leave numbers that aren't finite out of a bucket's figures, and an epoch's last batch out of
    minimum and maximum if it has less than half of the usual tokens: NaN if there are no others."""
    figures[1] = sum(not all(map(math.isfinite, row)) for row in zip(*columns, strict=True))
    for at, column in zip(range(PLACES[STEPS], len(figures), 4), columns, strict=True):
        finite = list(filter(math.isfinite, column))
        usual = [
            value
            for place, value in enumerate(column, begin)
            if place not in short and math.isfinite(value)
        ]
        low, high = min(usual, default=math.nan), max(usual, default=math.nan)
        figures[at : at + 4] = array("d", (len(finite), low, high, sum(finite)))


def is_short(before: Sequence[int], step: Sequence[int]) -> bool:
    """Whether a step, the next after `before`, has less than half of the usual tokens; each is
    given by its number and the tokens so far."""
    return step[0] == before[0] + 1 and 2 * (step[1] - before[1]) < step[1] / step[0]


def reading_figures(columns: Sequence[Sequence[Any]], number: int) -> array[float]:
    """The figures of a bucket of readings of the machine, given by columns as in `READING_VALUES`;
    `number` is the last one's."""
    times, *columns = columns
    figures = array("d", (number, 0, times[-1]))
    for column in columns:
        known = [value for value in column if value is not None and math.isfinite(value)]
        low, high = min(known, default=math.nan), max(known, default=math.nan)
        figures.extend((len(known), low, high, sum(known)))
    return figures


def single_readings(columns: Sequence[Sequence[Any]]) -> Iterator[array[float]]:
    """The same for each reading by itself; one whose time isn't known is left out."""
    times, *columns = columns
    places: list[Sequence[Any]] = [[0] * len(times), [0] * len(times), times]
    for column in columns:
        known = [value is not None and math.isfinite(value) for value in column]
        both = list(zip(known, column, strict=True))
        value = [value if is_known else math.nan for is_known, value in both]
        total = [value if is_known else 0 for is_known, value in both]
        places += (known, value, value, total)
    return (array("d", row) for row in zip(*places, strict=True) if row[2] is not None)


def _is_of_unknown_kind(line: bytes) -> bool:
    """Whether a line is whole, but of a kind that only later versions know."""
    with suppress(ValueError, KeyError, TypeError):
        kind = from_json(line)["kind"]
        return isinstance(kind, str) and kind not in KINDS and kind != FACTS
    return False


def _checksum(file: BinaryIO, offset: int) -> int:
    """Of the first bytes of a log, which hold its id, and of those before an offset."""
    file.seek(0)
    head = zlib.crc32(file.read(min(offset, _HEAD_BYTES)))
    file.seek(max(0, offset - _CHECKED_BYTES))
    return zlib.crc32(file.read(min(offset, _CHECKED_BYTES)), head)


def _marks(count: int) -> str:
    return ", ".join("?" * count)


def _code(error: sqlite3.Error) -> int:
    """Python's own errors have none: a value of the file can't be read."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        with suppress(OSError):
            path.with_name(path.name + suffix).unlink(missing_ok=True)


def _remove_unused(folder: Path) -> None:
    """Remove indexes that nobody has read for long: of runs that were renamed or deleted."""
    limit = time.time() - UNUSED_SECONDS
    with suppress(OSError):
        for path in folder.glob("*.db"):
            if path.stat().st_mtime < limit:
                _remove(path)
