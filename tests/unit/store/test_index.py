"""The index: whatever happens to logs and to indexes, a reader shows what the lines say."""

from __future__ import annotations

import math
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic_core import from_json

from rnnlm_tui.errors import NewerLogError
from rnnlm_tui.schema.facts import Facts
from rnnlm_tui.schema.metrics import (
    METRIC_COLUMNS,
    STATE_EVENTS,
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
    machine_values,
)
from rnnlm_tui.store import index, reader
from rnnlm_tui.store.index import index_path
from rnnlm_tui.store.log import FACTS, KINDS, STEP_PREFIX, RunLog, decode, encode, logs_of
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import _ROUTINE_KINDS, RunReader, by_step, changes_in, merged_facts
from tests.unit.store.rows import (
    STARTED,
    begin,
    evaluation_row,
    event_row,
    new_run,
    sample_row,
    step_row,
)
from tests.unit.store.test_log import full_disk

READERS = ((0, 3), (20, 16), (10_000, 2_048))
"""Limits of steps that are read one by one, and of buckets, of three readers."""
LONGEST = 700
"""MAX_LINE in the test of all that can happen to logs."""


def band(values: Iterable[float]) -> list[float]:
    """Low, high and mean of the finite values."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return [math.nan] * 3
    return [min(finite), max(finite), math.fsum(finite) / len(finite)]


def is_of_later_version(line: bytes) -> bool:
    """Whether a line is whole, but of an unknown kind."""
    try:
        kind = from_json(line)["kind"]
    except (ValueError, KeyError, TypeError):
        return False
    return len(line) < LONGEST and isinstance(kind, str) and kind not in (*KINDS, FACTS)


class Lines:
    """What the whole lines of a run's logs say, worked out the plain way."""

    def __init__(self, run: RunDirectory) -> None:
        self.damaged = 0
        self.rows: list[Any] = []
        self.readings: dict[int, list[HardwareRow]] = {}
        facts: dict[str, object] = {}
        self.numbers = [attempt for attempt, _ in logs_of(run)]
        own: dict[int, list[StepRow]] = {attempt: [] for attempt in self.numbers}
        """The steps of each attempt."""
        self.short: set[int] = set()
        """Steps by identity that end an epoch with less than half of the usual tokens."""
        ends: dict[int, tuple[int, int]] = {}
        for attempt, path in logs_of(run):
            *lines, torn = path.read_bytes().split(b"\n")
            self.damaged += len(torn) >= LONGEST
            for line in lines:
                row = decode(line, attempt) if len(line) < LONGEST else None
                if isinstance(row, StepRow):
                    step, tokens = ends.get(attempt, (0, 0))
                    if not (line.startswith(STEP_PREFIX) and step < row.step < 2**53):
                        self.damaged += 1
                        continue
                    is_next = row.step == step + 1 and row.epoch % 1 == 0
                    if is_next and 2 * (row.tokens_seen - tokens) < row.tokens_seen / row.step:
                        self.short.add(id(row))
                    ends[attempt] = (row.step, row.tokens_seen)
                    own[attempt].append(row)
                elif isinstance(row, dict):
                    facts |= row
                elif row is None or (
                    isinstance(row, HardwareRow) and not line.startswith(b'{"kind":"machine",')
                ):
                    self.damaged += bool(line.strip()) and not is_of_later_version(line)
                    continue
                elif isinstance(row, HardwareRow):
                    self.readings.setdefault(attempt, []).append(row)
                self.rows.append(row)
        self.facts = merged_facts([facts])
        self.starts = {row.attempt: row.start_step for row in self.of(AttemptRow)}
        self.starts |= {row.attempt: row.step for row in self.of(StartRow)}
        self.starts |= {
            attempt: rows[0].step - 1
            for attempt, rows in own.items()
            if rows and attempt not in self.starts
        }
        ends_here = {
            attempt: min(self.cut(attempt), rows[-1].step) for attempt, rows in own.items() if rows
        }
        self.newest = max((end for n, end in ends_here.items() if end > self.starts[n]), default=0)
        """The last step; if lines before a resume are lost, the step that it resumed from."""
        self.steps = sorted(
            (
                row
                for attempt, rows in own.items()
                for row in rows
                if self.starts[attempt] < row.step <= self.cut(attempt)
            ),
            key=lambda row: row.step,
        )

        of_newest = [row.ranks for row in self.of(RanksRow) if row.attempt == self.numbers[-1]]
        self.ranks = of_newest[-1] if of_newest else ()

    def of(self, kind: type[Any]) -> list[Any]:
        return [row for row in self.rows if isinstance(row, kind)]

    def valid(self, kind: type[Any]) -> list[Any]:
        return [row for row in self.of(kind) if row.step <= self.cut(row.attempt)]

    def cut(self, attempt: int) -> int:
        later = [start for number, start in self.starts.items() if number > attempt]
        return min(later, default=2**63)

    def curves(self, width: int, first: int, last: int) -> list[list[float]]:
        """Entries of the buckets that have a step from `first` to `last`."""
        buckets: dict[int, list[StepRow]] = {}
        for row in self.steps:
            if (first - 1) // width <= (row.step - 1) // width <= (last - 1) // width:
                buckets.setdefault((row.step - 1) // width, []).append(row)
        return [self._entry(rows) for rows in buckets.values()]

    def _entry(self, rows: list[StepRow]) -> list[float]:
        last = rows[-1]
        entry = [last.step, last.tokens_seen, last.epoch, last.active_seconds, last.time]
        values = [[getattr(row, name) for name in METRIC_COLUMNS] for row in rows]
        entry.append(sum(not all(map(math.isfinite, of_row)) for of_row in values))
        for name in METRIC_COLUMNS:
            low, high, _ = band(getattr(row, name) for row in rows if id(row) not in self.short)
            mean = band(getattr(row, name) for row in rows)[2]
            entry += [mean, mean, mean] if math.isnan(low) else [low, high, mean]
        return entry

    def short_every(self) -> int:
        every = self.facts.steps_per_epoch or 0
        tokens = {row.step: row.tokens_seen for row in self.steps}
        if not 1 < every <= max(tokens, default=0) or not {every - 1, every} <= tokens.keys():
            return 0
        return every if 2 * (tokens[every] - tokens[every - 1]) < tokens[every] / every else 0

    def machine(self, buckets: int) -> list[list[float]]:
        units = [[row] for row in self.of(HardwareRow)]
        if len(units) > 9:  # RAW_READINGS of this test
            size = index.BUCKET_READINGS
            units = [
                rows[begin : begin + size]
                for rows in self.readings.values()
                for begin in range(0, len(rows), size)
            ]
        width = 1
        while width * buckets < len(units):
            width *= 2
        return [
            self._reading(list(chain(*units[begin : begin + width])))
            for begin in range(0, len(units), width)
        ]

    def _reading(self, rows: list[HardwareRow]) -> list[float]:
        entry = [rows[-1].time]
        for column in zip(*map(machine_values, rows), strict=True):
            entry += band(value for value in column if value is not None)
        return entry


def entries(table: Any) -> list[list[float]]:
    """A table's rows."""
    names = ("step", "tokens", "epoch", "active", "time", "nonfinite")
    places = [getattr(table, name) for name in names if hasattr(table, name)]
    bands = [values for one in table.columns.values() for values in (one.low, one.high, one.mean)]
    return [list(entry) for entry in zip(*places, *bands, strict=True)]


def assert_close(found: list[list[float]], wanted: list[list[float]]) -> None:
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert len(one) == len(other)
        assert all(
            (math.isnan(left) and math.isnan(right))
            or math.isclose(left, right, rel_tol=1e-9, abs_tol=1e-9)
            for left, right in zip(one, other, strict=True)
        ), (one, other)


def assert_shows_the_lines(shown: RunReader, draw: random.Random, buckets: int) -> None:
    """Look at all that a reader shows, in any order."""
    shown.refresh()
    said = Lines(shown.run)
    steps, events, samples = said.steps, said.of(EventRow), said.valid(SampleRow)
    newest = said.newest
    states = [row for row in events if row.kind in STATE_EVENTS]
    changes = changes_in(row for row in said.of(CommandRow) if row.verb == "set")
    evaluations = by_step(said.valid(EvaluationRow))
    readings = said.of(HardwareRow)

    def series() -> None:
        table = shown.series(buckets)
        assert len(table) <= buckets
        assert table.short_every == (said.short_every() if steps else 0)
        assert_close(entries(table), said.curves(table.width, 1, newest))

    def stretch() -> None:
        first = draw.randint(1, newest + 3)
        last = first + draw.choice([0, 20, 50])
        table = shown.stretch(first, last, buckets)
        assert_close(entries(table), said.curves(table.width, first, min(last, newest)))

    def machine() -> None:
        table = shown.machine(buckets)
        assert len(table) <= buckets
        assert_close(entries(table), said.machine(buckets))

    def equal(found: Any, wanted: Any) -> Callable[[], None]:
        def check() -> None:
            assert repr(found()) == repr(wanted)

        return check

    looks = [
        series,
        stretch,
        machine,
        equal(lambda: shown.recent_steps(7), steps[-7:]),
        equal(lambda: list(shown.steps(newest // 2 + 1)), steps_after(steps, newest // 2)),
        equal(lambda: shown.evaluations(), evaluations),
        equal(lambda: shown.samples(), samples[::-1]),
        equal(lambda: shown.samples(2), samples[:-3:-1]),
        equal(lambda: shown.sample_steps(), sorted({row.step for row in samples})),
        equal(lambda: shown.samples_at(10), [row for row in samples if row.step == 10]),
        equal(lambda: [row for _, row in shown.rows_after(SampleRow)], samples),
        equal(lambda: shown.events(), events[::-1]),
        equal(lambda: [row for _, row in shown.rows_after(EventRow)], events),
        equal(
            lambda: shown.landmarks(3),
            [row for row in events[::-1] if row.kind not in _ROUTINE_KINDS][:3],
        ),
        equal(lambda: shown.last_state(), states[-1] if states else None),
        equal(lambda: shown.hardware(), readings),
        equal(lambda: shown.hardware(2), readings[-2:]),
        equal(lambda: shown.ranks(), said.ranks),
        equal(lambda: shown.facts(), said.facts),
        equal(
            lambda: [(row.attempt, row.start_step) for row in shown.attempts()],
            sorted(said.starts.items()),
        ),
        equal(lambda: shown.changes(), changes),
        equal(lambda: shown.commands(), said.of(CommandRow)),
        equal(lambda: shown.damaged_lines, said.damaged),
    ]
    draw.shuffle(looks)
    for look in looks:
        look()


def steps_after(steps: list[StepRow], step: int) -> list[StepRow]:
    return [row for row in steps if row.step > step]


READING = encode(HardwareRow(1.5, 2.0, 1.0, 2, 3, 4, 5)).strip()


class Author:
    """Writes, damages and replaces the logs of a run."""

    JUNK = (
        b"{", b"[1]", b"\0\xff", b"of another program", b"", b'{"kind":"later","step":7}',
        b'{"kind":"step","step":"5"}', b"x" * (3 * LONGEST),
        encode(step_row(5)).replace(b":", b": ").strip(), READING.replace(b":", b": "),
        b'{"kind":"event","event":"note","step":1,"text":"' + b"y" * LONGEST + b'","time":1.0}',
        b"\n".join([b"y" * LONGEST] * 2), b'{"kind":"step","step":1},{"kind":"step","step":2}',
    )  # fmt: skip

    def __init__(self, run: RunDirectory) -> None:
        self.run = run
        self.run.logs_path.mkdir(parents=True)
        self.copies: list[tuple[Path, bytes]] = []
        self.clock = 0

    def act(self, what: str, draw: random.Random) -> None:
        logs = [path for _, path in logs_of(self.run)]
        if what == "attempt" or not logs:
            number = len(logs) + draw.choice([1, 1, 1, 2])
            path = self.run.logs_path / f"{number:06d}.jsonl"
            if not path.exists():
                self.put(path, self.head(draw, number, draw.choice([0, 3, draw.randint(0, 150)])))
            return
        path = draw.choice([*logs, *logs[-1:]])
        content = path.read_bytes()
        if draw.random() < 0.3:
            self.copies.append((path, content))
        place = draw.choice([draw.randrange(len(content) + 1), max(0, len(content) - 40)])
        if what == "append":
            self.put(path, content + self.lines(draw, path))
        elif what == "tear":
            self.put(path, content + self.lines(draw, path)[: -draw.randint(1, 60)])
        elif what == "flip" and place < len(content):
            byte = bytes([content[place] ^ 1 << draw.randrange(8)])
            self.put(path, content[:place] + byte + content[place + 1 :])
        elif what == "cut":
            self.put(path, content[:place])
        elif what == "rewrite":
            self.put(path, content[:place] + self.lines(draw, path))
        elif what == "junk":
            self.put(path, content + draw.choice(self.JUNK) + draw.choice([b"\n", b"\n", b""]))
        elif what == "replace" and self.copies:
            old, older = draw.choice(self.copies)
            old.unlink(missing_ok=True)
            self.put(old, older)
        elif what == "remove":
            path.unlink()

    def put(self, path: Path, content: bytes) -> None:
        """Write the file, with the time of a slow clock: a look isn't followed so fast."""
        path.write_bytes(content)
        self.clock += 1
        os.utime(path, ns=(self.clock * 10**9,) * 2)

    def head(self, draw: random.Random, number: int, start: int) -> bytes:
        line = (
            b'{"kind":"attempt","version":1,"id":"%016x","pid":1,"host":"box","boot_id":"b",'
            b'"device":"cpu","start_step":%d,"environment":{},"started":1.0}\n'
        ) % (draw.getrandbits(64), start)
        return draw.choice([line, line, line, line[5:], b""])

    def lines(self, draw: random.Random, path: Path) -> bytes:
        """Some lines that continue those of a log."""
        attempt = int(path.stem)
        steps = re.findall(rb'^{"kind":"step","step":(\d{1,9}),', path.read_bytes(), re.MULTILINE)
        last = int(steps[-1]) if steps else draw.choice([0, 3, 20])
        return b"".join(
            encode(row) for row in self.rows(draw, attempt, last, draw.choice([1, 5, 60]))
        )

    def rows(self, draw: random.Random, attempt: int, step: int, count: int) -> Iterator[Any]:
        for _ in range(count):
            step = max(1, step + draw.choice([1] * 30 + [2, 0, -3, 40]))
            kind = draw.choice(["step"] * 12 + ["machine"] * 4 + ["rare"])
            if kind == "step":
                yield self.step(draw, attempt, step)
            elif kind == "machine":
                yield HardwareRow(
                    draw.uniform(0, 9), draw.uniform(0, 100), 1.5, draw.randint(0, 9), 9, 2, 3,
                    gpu=GpuRow(percent=draw.choice([None, 12.5])),
                )  # fmt: skip
            else:
                yield self.rare(draw, attempt, step)

    def step(self, draw: random.Random, attempt: int, step: int) -> StepRow:
        """Ten steps an epoch, the last one short."""
        values = [draw.choice([draw.uniform(0, 9)] * 9 + [math.nan, math.inf]) for _ in range(3)]
        row = step_row(step, attempt, loss=values[0], grad_norm=values[1], speed=values[2])
        tokens = step * 630 - step % 10 * (-70) - draw.choice([0, 0, 0, 400, 1_500])
        return row._replace(epoch=step / 10, tokens_seen=max(0, tokens))

    def rare(self, draw: random.Random, attempt: int, step: int) -> Any:
        change = {"number": step, "step": step, "settings": [], "undoes": 0, "discards": []}
        answer = {"id": "a", "ok": draw.random() < 0.8, "step": step, "change": change}
        return draw.choice(
            [
                evaluation_row(step, attempt, loss=draw.uniform(1, 9)),
                evaluation_row(10, attempt, loss=math.nan),
                sample_row(draw.choice([step, 10]), attempt, text="\x1b\ud800é\n"),
                event_row(
                    draw.choice(["note", "paused", "best", "spike", "running"]), step, attempt
                ),
                StartRow(attempt, draw.randint(0, step)),
                RanksRow(attempt, step, (RankReading(rank=0, host="a", use=step / 7),), 1.0),
                CommandRow(attempt, "a", draw.choice(["set", "pause"]), {"who": "me"}, answer, 1.0),
                Facts(steps_per_epoch=draw.choice([10, 10, 7])),
                Facts(device=f"card {step}", settings={"training.epochs": step}),
            ]
        )


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small blocks, buckets and lines, so that few rows have all of their borders."""
    for module in (index, reader):
        for name, value in (
            ("MAX_LINE", LONGEST),
            ("BLOCK_BYTES", 2 * LONGEST),
            ("BUCKET_STEPS", 8),
            ("BUCKET_READINGS", 4),
            ("PIECE_BYTES", LONGEST),
            ("RAW_READINGS", 9),
            ("CHUNK", 3),
        ):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, value)


ACTS = (
    *("append",) * 6, "attempt", "attempt", *("look",) * 8, "lose the index",
    "tear", "flip", "cut", "rewrite", "junk", "replace", "remove",
)  # fmt: skip


@settings(
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    acts=st.lists(st.tuples(st.sampled_from(ACTS), st.integers(0, 2**32)), min_size=10, max_size=40)
)
@pytest.mark.usefixtures("small")
def test_whatever_happens_to_its_logs_a_run_shows_what_their_lines_say(
    acts: list[tuple[str, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Two readers look at random times, and a third that is opened for each look; at the end one
    without an index does. Changes of more than 64 KiB before a log's end don't occur."""
    run = RunDirectory(tmp_path_factory.mktemp("runs") / "plain-otter")
    author = Author(run)
    readers = [RunReader(run, raw_limit=limit) for limit, _ in READERS]
    try:
        for what, seed in [*acts, ("look", 0), ("look", 1), ("lose the index", 0), ("look", 0)]:
            draw = random.Random(seed)
            if what == "lose the index":
                for path in index_path(run).parent.glob(f"{index_path(run).stem}*"):
                    path.unlink()
            elif what == "look":
                looking = readers[seed % 3]
                try:
                    assert_shows_the_lines(looking, draw, READERS[seed % 3][1])
                except NewerLogError:
                    with pytest.raises(NewerLogError):  # a byte of its version was flipped
                        Lines(run)
                if looking is readers[2]:
                    looking.close()
            else:
                author.act(what, draw)
    finally:
        for each in readers:
            each.close()


def shown_by(shown: RunReader) -> list[int]:
    """Refresh, and check that rows and curves agree."""
    shown.refresh()
    steps = [row.step for row in shown.steps()]
    assert list(shown.series(10_000).step) == steps
    return steps


def forked(act: Callable[[], None]) -> int:
    """Run a function in another process; returns its pid. It ends with 0 if nothing fails."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            act()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return pid


def ended(pid: int) -> int:
    """Wait for a process; its exit code, negative if a signal ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def random_page(path: Path) -> None:
    content = bytearray(path.read_bytes())
    place = random.Random(len(content)).randrange(1, len(content) // 4_096) * 4_096
    content[place : place + 4_096] = random.Random(0).randbytes(4_096)
    path.write_bytes(content)


def of_another_run(path: Path) -> None:
    other = RunDirectory(path.parent / "other")
    other.path.mkdir()
    with begin(other) as log, RunReader(other) as shown:
        log.append(*map(step_row, range(1, 9)))
        shown.refresh()
    shutil.copyfile(index_path(other), path)


def another_database(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("CREATE TABLE logs (attempt, offset)")


def no_text(path: Path) -> None:
    with closing(sqlite3.connect(path)) as spoiled, spoiled:
        spoiled.execute("UPDATE about SET path = CAST(x'FF' AS TEXT)")


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


SPOILED: dict[str, Callable[[Path], object]] = {
    "deleted": Path.unlink,
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "empty": lambda path: os.truncate(path, 0),
    "random bytes": lambda path: path.write_bytes(random.Random(0).randbytes(20_000)),
    "a random page": random_page,
    "of another run": of_another_run,
    "another database": another_database,
    "a text that is none": no_text,
    "a folder": folder,
}


@pytest.mark.parametrize("how", SPOILED)
def test_a_spoiled_index_is_made_again(
    run: RunDirectory, log: RunLog, reader: RunReader, how: str
) -> None:
    steps = list(range(1, 3_001))
    log.append(*map(step_row, steps))
    log.append(*(event_row("note", step) for step in range(500)))
    assert shown_by(reader) == steps
    reader.close()
    with RunReader(run) as open_one:
        open_one.refresh()
        SPOILED[how](index_path(run))
        assert shown_by(reader) == steps
        log.append(step_row(3_001))
        assert shown_by(open_one) == shown_by(reader) == [*steps, 3_001]
    assert len(reader.events()) == 500


def test_without_a_cache_folder_a_run_is_read_in_memory(
    run: RunDirectory, log: RunLog, home: Path
) -> None:
    (home.parent / "cache").write_text("a file")
    log.append(step_row(1))
    with RunReader(run) as shown:
        assert shown_by(shown) == [1]
        log.append(step_row(2))
        assert shown_by(shown) == [1, 2]


@pytest.mark.parametrize("room", [0, 5_000, 40_000, 100_000])
def test_on_a_full_disk_a_run_is_read_in_memory(
    run: RunDirectory, log: RunLog, reader: RunReader, room: int
) -> None:
    log.append(*map(step_row, range(1, 3_001)))
    with full_disk(room):
        assert shown_by(reader) == list(range(1, 3_001))
    with RunReader(run) as later:
        assert shown_by(later) == list(range(1, 3_001))


@pytest.mark.parametrize("known", [True, False], ids=["known", "never opened"])
def test_an_index_that_a_stopped_process_holds_is_waited_for_and_then_left(
    run: RunDirectory,
    log: RunLog,
    reader: RunReader,
    monkeypatch: pytest.MonkeyPatch,
    known: bool,
) -> None:
    monkeypatch.setattr(index, "PATIENCE_SECONDS", 0.3)
    log.append(step_row(1))
    if known:
        reader.refresh()

    def hold() -> None:
        with RunReader(run) as holder:
            holder.refresh()
            connection = holder._index._connection
            assert connection is not None
            connection.execute("BEGIN IMMEDIATE")
            os.kill(os.getpid(), signal.SIGSTOP)

    pid = forked(hold)
    os.waitpid(pid, os.WUNTRACED)
    try:
        log.append(step_row(2))
        if known:
            assert shown_by(reader) == [1], "what is there"
            time.sleep(0.31)
        assert shown_by(reader) == [1, 2]
    finally:
        os.kill(pid, signal.SIGKILL)
        ended(pid)
    with RunReader(run) as later:
        assert shown_by(later) == [1, 2]


def test_a_reader_killed_at_any_moment_of_a_refresh_changes_no_row(
    run: RunDirectory, log: RunLog, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.append(*map(step_row, range(1, 60)), event_row("note"))
    statements = Counter[str]()

    class Dying(sqlite3.Connection):
        def execute(self, *arguments: Any) -> sqlite3.Cursor:
            statements["all"] += 1
            if statements["all"] == at:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().execute(*arguments)

    def read() -> None:
        with monkeypatch.context() as moment:
            connect = sqlite3.connect
            moment.setattr(sqlite3, "connect", lambda *a, **b: connect(*a, factory=Dying, **b))
            with RunReader(run) as dying:
                dying.refresh()

    at, killed = 1, 0
    while ended(forked(read)) == -signal.SIGKILL:
        killed += 1
        if killed % 5 == 0:
            with RunReader(run) as shown:
                assert shown_by(shown) == list(range(1, 60))
                assert len(shown.events()) == 1
            for path in index_path(run).parent.iterdir():
                path.unlink()
        at += 2
    assert killed > 10


def test_readers_in_other_processes_miss_no_step_of_a_live_run(
    run: RunDirectory, log: RunLog, small: None
) -> None:
    def follow() -> None:
        seen = [0]
        with RunReader(run) as shown:
            while seen[-1] < 1_000:
                steps = shown_by(shown)
                assert steps == list(range(1, len(steps) + 1))
                assert len(steps) >= seen[-1]
                seen.append(len(steps))
        assert len(set(seen)) > 3

    readers = [forked(follow) for _ in range(2)]
    for first in range(1, 1_001, 20):
        log.append(*map(step_row, range(first, first + 20)))
        time.sleep(0.005)
    assert [ended(pid) for pid in readers] == [0, 0]


WITHOUT_A_LINE_BREAK = """
import resource, sys
from pathlib import Path
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
with RunReader(RunDirectory(Path(sys.argv[1]))) as reader:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    steps = [row.step for row in reader.steps()], reader.damaged_lines
    print(steps, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000)
"""


def test_a_huge_line_is_left_out_in_little_memory(run: RunDirectory, log: RunLog) -> None:
    log.append(step_row(1))
    with log.path.open("ab") as file:
        file.truncate(2**28)
        file.seek(2**28)
        file.write(b"\n" + encode(step_row(2)))
    command = [sys.executable, "-c", WITHOUT_A_LINE_BREAK, str(run.path)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert found.stdout == "([1, 2], 1) True\n"


def test_an_index_that_nobody_uses_is_removed_when_another_is_made(
    run: RunDirectory, log: RunLog, reader: RunReader
) -> None:
    folder = index.index_folder()
    folder.mkdir(parents=True, mode=0o700)
    for name in ("old.db", "old.db-wal", "newer.db"):
        (folder / name).touch()
    os.utime(folder / "old.db", (STARTED, STARTED))
    folder.parent.chmod(0o700)
    reader.refresh()
    assert {path.name for path in folder.glob("*.db*")} >= {"newer.db", index_path(run).name}
    assert not list(folder.glob("old*"))


def test_the_index_of_a_home_on_the_network_is_on_a_local_disk(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "is_network", lambda kind: True)
    assert index.index_folder() == Path(f"/var/tmp/rnnlm-tui-{os.getuid()}/index")
    assert index_path(run).parent == index.index_folder()


def test_another_run_of_the_name_is_not_taken_for_the_one_before() -> None:
    """Also if both logs end alike, in zeros after a power cut."""
    for loss in (1.0, 2.0):
        run = new_run()
        with begin(run) as log:
            log.append(*(step_row(step, loss=loss) for step in range(1, 201)))
        with log.path.open("ab") as file:
            file.write(bytes(100_000) + b"\n")
        with RunReader(run, raw_limit=10) as reader:
            assert set(reader.series().columns["loss"].low) == {loss}
        shutil.rmtree(run.path)
