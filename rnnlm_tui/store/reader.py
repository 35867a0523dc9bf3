"""RunReader: read a run's rows, live or ended, without writing to its folder."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import groupby, islice, repeat
from operator import attrgetter, itemgetter
from threading import RLock
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from pydantic_core import ValidationError

from rnnlm_tui.schema.health import HealthRow
from rnnlm_tui.schema.metrics import (
    STATE_EVENTS,
    AttemptRow,
    CommandRow,
    EvaluationRow,
    EventRow,
    HardwareRow,
    RankReading,
    SampleRow,
    StepRow,
)
from rnnlm_tui.store.index import (
    BLOCK_BYTES,
    BUCKET_READINGS,
    BUCKET_STEPS,
    MACHINE,
    READING_VALUES,
    STEP_VALUES,
    STEPS,
    RunIndex,
    buckets_of,
    in_order,
    is_short,
    single_readings,
)
from rnnlm_tui.store.log import FACTS, KIND_OF, MAX_LINE, STEP_PREFIX, decode, decode_columns
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.series import (
    RAW_LIMIT,
    RAW_READINGS,
    Buckets,
    Cached,
    Figures,
    MachineTable,
    Position,
    SeriesTable,
    bucket_width,
    empty_machine,
    empty_table,
)
from rnnlm_tui.system.files import storage_errors

if TYPE_CHECKING:
    from rnnlm_tui.schema.facts import Facts
    from rnnlm_tui.schema.steering import JournalledChange

RowT = TypeVar("RowT")

ALL = 2**62
CHUNK = 4_096
"""Rows that are read at once where all of them are wanted."""
SAMPLES = 256
"""The same for samples, whose texts are longer."""
_ROUTINE_KINDS = frozenset({"preparing", "running", "checkpoint", "best", "evaluation", "sample"})
"""Kinds of events that duplicate the run's status, checkpoints, evaluations and samples."""


class Span(NamedTuple):
    """The steps of an attempt that no later one supersedes."""

    attempt: int
    first: int
    last: int


def merged_facts(rows: Iterable[Mapping[str, object]]) -> Facts:
    """The facts in rows of a log, the last of each, without values that no worker wrote."""
    from rnnlm_tui.schema.facts import Facts

    values: dict[str, object] = {}
    for row in rows:
        values |= row
    while True:
        try:
            return Facts.model_validate(values)
        except ValidationError as error:
            for problem in error.errors():
                values.pop(str(problem["loc"][0]), None)


def changes_in(commands: Iterable[CommandRow]) -> list[JournalledChange]:
    """The changes of settings that commands made, in order; one that was refused made none."""
    from rnnlm_tui.schema.protocol import CommandResult  # not before the first paint
    from rnnlm_tui.schema.steering import JournalledChange

    changes = []
    for row in commands:
        with suppress(ValidationError):
            answer = CommandResult.model_validate(row.result)
            if answer.ok and answer.change is not None:
                who = str(row.arguments.get("who", ""))
                changes.append(JournalledChange(**dict(answer.change), time=row.time, who=who))
    return sorted(changes, key=attrgetter("number"))


def by_step(rows: Sequence[EvaluationRow]) -> list[EvaluationRow]:
    """Sort by step, with the latest row of each step and set: a set may be evaluated again."""
    latest: dict[object, EvaluationRow] = {}
    for row in rows:
        latest.pop(key := (row.step, row.split, row.name), None)
        latest[key] = row
    return sorted(latest.values(), key=lambda row: row.step)


class RunReader:
    """Reads and follows one run's logs with their index; superseded rows are left out.

    `refresh` reads what is new; everything else shows what was there then, and refreshes only at
    the first call. Threads may share a reader.

    Raises (every method):
        StorageError: a log can't be read, or is of a newer version.
    """

    def __init__(self, run: RunDirectory, *, raw_limit: int = RAW_LIMIT) -> None:
        self.run = run
        self._raw_limit = raw_limit
        self._index = RunIndex(run)
        self._turn = RLock()
        self._fresh = False
        self._in_transaction = False
        self._series, self._stretch = Buckets(STEPS), Buckets(STEPS)
        self._shown = {self._series: empty_table(), self._stretch: empty_table()}
        self._machine, self._history = Buckets(MACHINE), empty_machine()
        self._tails: dict[tuple[object, ...], tuple[int, Position, list[Any]]] = {}
        """By kind, limit and condition: the index's `built`, how far it was read, and the rows."""
        self._recent = Cached[list[StepRow]]()
        self._starts = Cached[dict[int, int]]()
        self._attempts = Cached[list[AttemptRow]]()
        self._facts: Cached[Facts] = Cached()
        self._evaluations = Cached[list[EvaluationRow]]()
        self._changes: Cached[list[JournalledChange]] = Cached()
        self._short_every = Cached[int]()

    def close(self) -> None:
        """Close the index; the next call opens it again."""
        with self._turn:
            self._index.close()
            self._fresh = False

    def __enter__(self) -> RunReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def refresh(self, report: Callable[[int, int], None] | None = None) -> tuple[object, ...]:
        """Read what is new; returns a value that changes with every new row.

        Args:
            report: called with the bytes that were read and those to read, if that takes long.
        """
        with self._turn:
            if not self._in_transaction:
                self._index.refresh(report)
                self._fresh = True
            return self._index.version

    @contextmanager
    def read_transaction(self) -> Iterator[None]:
        """Read what is new, then a consistent state inside the block; may be nested."""
        with self._turn:
            if self._in_transaction:
                yield
                return
            self.refresh()
            with self._index.transaction():
                self._in_transaction = True
                try:
                    yield
                finally:
                    self._in_transaction = False

    @property
    def damaged_lines(self) -> int:
        """Lines of the logs that can't be read, of all attempts."""
        with self._turn:
            return sum(log.damaged for log in self._known.logs.values())

    @property
    def _known(self) -> RunIndex:
        if not self._fresh:
            self.refresh()
        return self._index

    def facts(self) -> Facts:
        """The run's facts, of all attempts."""
        with self._turn:
            rows = self._tail(FACTS)
            return self._facts.of((len(rows), self._index.built), lambda: merged_facts(rows))

    def attempts(self) -> list[AttemptRow]:
        """The run's attempts, oldest first, with the steps that they really started from."""

        def read() -> list[AttemptRow]:
            found = {row.attempt: row for row in self._tail("attempt")}
            unknown = AttemptRow(0, 0, "", "", "", 0, {}, 0.0)
            return [
                found.get(attempt, unknown)._replace(attempt=attempt, start_step=start)
                for attempt, start in self._start_steps().items()
            ]

        with self._turn:
            return list(self._attempts.of(self._known.version, read))

    def _start_steps(self) -> dict[int, int]:
        """The step after which each attempt started, of those that are known to have."""

        def read() -> dict[int, int]:
            starts = {row.attempt: row.start_step for row in self._tail("attempt")}
            starts |= {row.attempt: row.step for row in self._tail("start")}
            for attempt in self._known.logs.keys() - starts.keys():  # its first line is damaged
                bucket = self._bucket(attempt, 0)[0] * BUCKET_STEPS
                for steps, *_ in islice(self._columns(attempt, bucket + 1, ALL), 1):
                    starts[attempt] = steps[0] - 1
            return dict(sorted(starts.items()))

        with self._turn:
            return self._starts.of(self._known.version, read)

    def _cuts(self) -> dict[int, int]:
        """The last step of each attempt that no later attempt supersedes, the latest first."""
        starts = self._start_steps()
        cuts, cut = {}, ALL
        for attempt in sorted(self._known.logs, reverse=True):
            cuts[attempt] = cut
            cut = min(cut, starts.get(attempt, ALL))
        return cuts

    def _spans(self) -> list[Span]:
        """In order."""
        logs, starts = self._known.logs, self._start_steps()
        found = [
            Span(attempt, starts.get(attempt, ALL) + 1, min(cut, logs[attempt].step))
            for attempt, cut in reversed(self._cuts().items())
        ]
        return [span for span in found if span.first <= span.last]

    @property
    def _key(self) -> object:
        """Changes when rows that were shown may be superseded."""
        return (self._known.built, tuple(self._start_steps().items()))

    def series(self, max_buckets: int = 2048) -> SeriesTable:
        """The run's curves in at most `max_buckets` buckets; reads only new steps, and returns the
        same object if there are none."""
        return self._curves(self._series, None, max_buckets)

    def stretch(self, first_step: int, last_step: int, max_buckets: int = 2048) -> SeriesTable:
        """The curves from `first_step` to `last_step`, otherwise like `series`."""
        return self._curves(self._stretch, (first_step, last_step), max_buckets)

    def _curves(
        self, buckets: Buckets, stretch: tuple[int, int] | None, max_buckets: int
    ) -> SeriesTable:
        with self._turn:
            spans = self._spans()
            if not spans:
                return empty_table()
            newest = spans[-1].last
            first, last = 1, newest
            if stretch is not None:
                first, last = max(1, stretch[0]), min(last, stretch[1])
            count = max(0, last - first + 1)
            width = bucket_width(count, max_buckets, self._raw_limit, BUCKET_STEPS)
            raw = count <= self._raw_limit

            def read(begin: int, end: int) -> Iterator[Figures]:
                for span in spans:
                    low, high = max(begin * width + 1, span.first), min(end * width, span.last)
                    if low <= high:
                        yield from self._figures(span, low, high, width, raw=raw)

            short_every = self._short_steps(newest)
            begin = (first - 1) // width
            end = -(-last // width) if count else begin
            if buckets.update((self._key, raw, width, short_every), begin, end, read):
                self._shown[buckets] = buckets.curves(width, short_every)
            return self._shown[buckets]

    def _figures(
        self, span: Span, first: int, last: int, width: int, *, raw: bool
    ) -> Iterator[Figures]:
        """The figures of a span's steps in buckets of `width`, or parts of them."""
        if raw:
            before = (0, 0)
            for columns in self._columns(span.attempt, max(1, first - 1), last):
                yield from buckets_of(columns, width, before, bisect_left(columns[0], first))
                before = columns[0][-1], columns[1][-1]
            return
        group = width // BUCKET_STEPS
        for number, blob in self._rows(
            "SELECT bucket, figures FROM buckets WHERE series = 'steps' AND attempt = ? AND"
            " bucket BETWEEN ? AND ? ORDER BY bucket",
            (span.attempt, (first - 1) // BUCKET_STEPS, (last - 1) // BUCKET_STEPS),
        ):
            figures = array("d", blob)
            begin, end = number * BUCKET_STEPS + 1, (number + 1) * BUCKET_STEPS
            if figures[0] > last or begin < first:  # a part of it is superseded
                part = max(begin, first), min(end, last)
                yield from (
                    (number // group, cut)
                    for _, cut in self._figures(span, *part, BUCKET_STEPS, raw=True)
                )
            else:
                yield number // group, figures

    def _short_steps(self, newest: int) -> int:
        """Steps an epoch if its last batch has less than half of the usual tokens; else 0, as
        before the end of the first epoch."""
        every = self.facts().steps_per_epoch or 0

        def read() -> int:
            ends = [(row.step, row.tokens_seen) for row in self.steps(every - 1, every)]
            return every if len(ends) == 2 and is_short(*ends) else 0

        return self._short_every.of((self._key, every), read) if 1 < every <= newest else 0

    def recent_steps(self, n: int) -> list[StepRow]:
        """The newest `n` steps in order."""

        def read() -> list[StepRow]:
            for before in (newest - n, newest - 2 * n, 0):  # further back if some are damaged
                found = list(self.steps(max(before, 0) + 1, newest))
                if before <= 0 or len(found) >= n:
                    break
            return found[max(0, len(found) - n) :]

        with self._turn:
            newest = max((span.last for span in self._spans()), default=0)
            return list(self._recent.of((self._key, n, newest), read))

    def steps(self, first: int = 1, last: int = ALL) -> Iterator[StepRow]:
        """The steps from `first` to `last` in order, read in chunks."""
        for span in self._spans():
            low, high = max(first, span.first), min(last, span.last)
            for columns in self._columns(span.attempt, low, high):
                values = (columns[STEP_VALUES.index(name)] for name in StepRow._fields[1:])
                yield from map(StepRow, repeat(span.attempt), *values)

    def _columns(self, attempt: int, first: int, last: int) -> Iterator[list[list[Any]]]:
        """The values of an attempt's steps, superseded or not, by columns: of each chunk that has
        any."""
        newest = 0
        number, begin = self._bucket(attempt, (first - 1) // BUCKET_STEPS)
        while number * BUCKET_STEPS < min(last, ALL):
            upto = min(number + 1 + CHUNK // BUCKET_STEPS, (last - 1) // BUCKET_STEPS + 1)
            number, end = self._bucket(attempt, upto)
            lines = self._step_lines(attempt, begin, end)
            columns = in_order(decode_columns("step", STEP_VALUES, lines), newest)
            low, high = bisect_left(columns[0], first), bisect_right(columns[0], last)
            if low < high:
                newest = columns[0][-1]
                yield [column[low:high] for column in columns]
            begin = end

    def _bucket(self, attempt: int, number: int) -> tuple[int, int]:
        """The first bucket of steps from a number on, and where it begins; beyond all of them, the
        end of what was read."""
        with self._turn:
            log = self._known.logs.get(attempt)
            found = self._rows(
                "SELECT bucket, offset FROM buckets WHERE series = 'steps' AND attempt = ?"
                " AND bucket >= ? ORDER BY bucket LIMIT 1",
                (attempt, number),
            )
            return found[0] if found else (ALL, log.offset if log is not None else 0)

    def _rows(self, query: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with self._turn:
            return self._known.rows(query, values)

    def _step_lines(self, attempt: int, begin: int, end: int) -> list[bytes]:
        """Steps of a part of a log; lines that are too long are left out."""
        path = self.run.logs_path / f"{attempt:06d}.jsonl"
        with storage_errors("read", path), path.open("rb") as file:
            file.seek(begin)
            found, rest = list[bytes](), b""
            while block := file.read(max(0, min(BLOCK_BYTES, end - file.tell()))):
                *lines, rest = (rest + block).split(b"\n")
                rest = rest[:MAX_LINE]
                found += (
                    line for line in lines if line.startswith(STEP_PREFIX) and len(line) < MAX_LINE
                )
        return found

    def rows_after(
        self, kind: type[RowT], place: Position = (0, -1)
    ) -> Iterator[tuple[Position, RowT]]:
        """Samples, events or machine readings with their positions after one, in order, read in
        chunks."""
        where = self._valid() if kind is SampleRow else ""
        most = SAMPLES if kind is SampleRow else CHUNK
        while places := self._places(KIND_OF[kind], place, most, newest=False, where=where):
            yield from ((at, row) for at, row in places if row is not None)
            place = places[-1][0]

    def _places(
        self, kind: str, after: Position, most: int | None, *, newest: bool, where: str = ""
    ) -> list[tuple[Position, Any]]:
        """Positions and rows of a kind in order; None: a damaged row."""
        found = self._rows(
            "SELECT attempt, offset, line FROM rows WHERE kind = ? AND (attempt, offset) > (?, ?)"
            f" {where} ORDER BY attempt {'DESC' if newest else ''},"
            f" offset {'DESC' if newest else ''} LIMIT ?",
            (kind, *after, -1 if most is None else most),
        )
        if newest:
            found.reverse()
        missing = [(attempt, offset) for attempt, offset, line in found if line is None]
        lines = dict(zip(missing, self._lines_at(missing), strict=True))
        return [
            ((attempt, offset), decode(line or lines[attempt, offset], attempt))
            for attempt, offset, line in found
        ]

    def _lines_at(self, places: Sequence[Position]) -> Iterator[bytes]:
        """The lines at these positions, in order."""
        for attempt, group in groupby(places, itemgetter(0)):
            path = self.run.logs_path / f"{attempt:06d}.jsonl"
            with storage_errors("read", path), path.open("rb") as file:
                for _, offset in group:
                    file.seek(offset)
                    yield file.readline(MAX_LINE)

    def _tail(self, kind: str, limit: int | None = None, where: str = "") -> list[Any]:
        """The newest rows of a kind in order, superseded or not; only new ones are read. The same
        list if there are none."""
        with self._turn:
            logs, built = self._known.logs, self._known.built
            known = self._tails.get((kind, limit, where))
            if known is None or known[0] != built:
                known = (built, (0, -1), [])
            _, after, rows = known
            if found := self._places(kind, after, limit, newest=True, where=where):
                after = found[-1][0]  # of another process, which may have read further
                rows = [*rows, *(row for _, row in found if row is not None)]
                rows = rows[max(0, len(rows) - limit) :] if limit is not None else rows
            end = max(((attempt, log.offset - 1) for attempt, log in logs.items()), default=after)
            self._tails[kind, limit, where] = (built, max(after, end), rows)
            return rows

    def _valid(self) -> str:
        """A condition of rows whose steps no later attempt supersedes."""
        cuts = {attempt: cut for attempt, cut in self._cuts().items() if cut < ALL}
        whens = " ".join(f"WHEN {attempt} THEN {cut}" for attempt, cut in cuts.items())
        return f"AND step <= CASE attempt {whens} ELSE {ALL} END" if cuts else ""

    def evaluations(self) -> list[EvaluationRow]:
        """All evaluations by step."""
        with self._turn:
            rows: list[EvaluationRow] = self._tail("evaluation", where=self._valid())
            return list(self._evaluations.of((self._key, len(rows)), lambda: by_step(rows)))

    def health(self, limit: int | None = None) -> list[HealthRow]:
        """Figures of the net's health, oldest first."""
        return list(self._tail("health", limit, self._valid()))

    def samples(self, limit: int | None = None) -> list[SampleRow]:
        """Samples, newest first."""
        return self._tail("sample", limit, self._valid())[::-1]

    def sample_steps(self) -> list[int]:
        """The steps with samples, in order."""
        query = f"SELECT DISTINCT step FROM rows WHERE kind = 'sample' {self._valid()} ORDER BY 1"
        return [step for (step,) in self._rows(query)]

    def samples_at(self, step: int) -> list[SampleRow]:
        """The samples of one step, in the order they were generated."""
        where = f"{self._valid()} AND step = {step:d}"
        found = self._places("sample", (0, -1), None, newest=False, where=where)
        return [row for _, row in found if row is not None]

    def events(self, limit: int | None = None) -> list[EventRow]:
        """Events, newest first."""
        return self._tail("event", limit)[::-1]

    def landmarks(self, limit: int) -> list[EventRow]:
        """Events that aren't routine (see `_ROUTINE_KINDS`, of which a long run has thousands),
        newest first."""
        return self._tail("event", limit, f"AND what NOT IN {tuple(_ROUTINE_KINDS)}")[::-1]

    def last_state(self) -> EventRow | None:
        """The newest state event (started, running, paused, finished and so on); None if the run
        never started."""
        found: list[EventRow] = self._tail("event", 1, f"AND what IN {tuple(STATE_EVENTS)}")
        return found[0] if found else None

    def commands(self) -> list[CommandRow]:
        """All commands with their answers, oldest first."""
        return list(self._tail("command"))

    def changes(self) -> list[JournalledChange]:
        """Changes of settings while the run trained, in order."""
        rows = [row for row in self._tail("command") if row.verb in ("set", "undo")]
        key = (self._known.built, len(rows))
        return list(self._changes.of(key, lambda: changes_in(rows) if rows else []))

    def hardware(self, limit: int | None = None) -> list[HardwareRow]:
        """The newest machine readings in order."""
        return list(self._tail("machine", limit))

    def ranks(self) -> tuple[RankReading, ...]:
        """The newest readings of the processes that train together; empty if the newest attempt has
        none."""
        found = self._tail("ranks", 1)
        is_newest = bool(found) and found[0].attempt == max(self._known.logs)
        return found[0].ranks if is_newest else ()

    def machine(self, max_buckets: int = 1024) -> MachineTable:
        """Machine readings of the whole run in at most `max_buckets` buckets; reads only new
        ones."""
        with self._turn:
            logs = self._known.logs.values()
            newest = sum(log.readings for log in logs)
            raw = newest <= RAW_READINGS
            unit = 1 if raw else BUCKET_READINGS
            units = sum(-(-log.readings // unit) for log in logs)
            width = bucket_width(units, max_buckets, units, 1)

            def read(begin: int, _end: int) -> Iterator[Figures]:
                if raw:
                    places = self._rows(
                        "SELECT attempt, offset FROM rows WHERE kind = 'machine'"
                        " ORDER BY attempt, offset LIMIT -1 OFFSET ?",
                        (begin * width,),
                    )
                    lines = list(self._lines_at(places))
                    found = single_readings(decode_columns("machine", READING_VALUES, lines))
                else:
                    blobs = self._rows(
                        "SELECT figures FROM buckets WHERE series = 'machine'"
                        " ORDER BY attempt DESC, bucket DESC LIMIT ?",
                        (units - begin * width,),
                    )
                    found = (array("d", figures) for (figures,) in reversed(blobs))
                for place, figures in enumerate(found, begin * width):
                    yield place // width, figures

            if self._machine.update((self._index.built, raw, width), 0, -(-units // width), read):
                self._history = self._machine.history()
            return self._history
