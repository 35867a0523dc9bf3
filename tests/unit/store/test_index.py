"""The index: whatever happens to logs and to indexes, a reader shows what the lines say."""

from __future__ import annotations

import math
import os
import random
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic_core import from_json

from rnnlm_tui.errors import NewerLogError
from rnnlm_tui.schema.facts import Facts, merged_facts
from rnnlm_tui.schema.metrics import (
    MACHINE_COLUMNS,
    METRIC_COLUMNS,
    STATE_EVENTS,
    AttemptRow,
    CommandRow,
    EvaluationRow,
    EventRow,
    HardwareRow,
    SampleRow,
    StartRow,
    StepRow,
)
from rnnlm_tui.schema.steering import journalled_change
from rnnlm_tui.store import index, reader
from rnnlm_tui.store.index import index_path
from rnnlm_tui.store.log import STEP_PREFIX, decode, encode, logs_of
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import _ROUTINE_KINDS, RunReader, by_step
from tests.unit.store.rows import evaluation_row, event_row, sample_row, step_row

BUCKETS = (3, 16, 2_048)
RAW_LIMITS = (0, 20, 10_000)
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
                    ok = line.startswith(STEP_PREFIX) and ends.get(attempt, (0, 0))[0] < row.step
                    if not (ok and row.step < 2**53 and row.tokens_seen >= 0):
                        self.damaged += 1
                        continue
                    step, tokens = ends.get(attempt, (0, 0))
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
                self.rows.append(row)
        self.facts = merged_facts(facts)
        self.starts = {row.attempt: row.start_step for row in self.of(AttemptRow)}
        self.starts |= {row.attempt: row.step for row in self.of(StartRow)}
        self.starts |= {
            attempt: rows[0].step - 1
            for attempt, rows in own.items()
            if rows and attempt not in self.starts
        }
        self.steps = sorted(
            (
                row
                for attempt, rows in own.items()
                for row in rows
                if self.starts[attempt] < row.step <= self.cut(attempt)
            ),
            key=lambda row: row.step,
        )

    def of(self, kind: type[Any]) -> list[Any]:
        return [row for row in self.rows if isinstance(row, kind)]

    def valid(self, kind: type[Any]) -> list[Any]:
        return [row for row in self.of(kind) if row.step <= self.cut(row.attempt)]

    def cut(self, attempt: int) -> float:
        later = [start for number, start in self.starts.items() if number > attempt]
        return min(later, default=math.inf)

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

    def machine(self, sizes: list[int]) -> list[list[float]]:
        rows, entries = iter(self.of(HardwareRow)), []
        for size in sizes:
            some = [next(rows) for _ in range(size)]
            entry = [some[-1].time]
            for name in MACHINE_COLUMNS:
                values = [value for row in some if (value := getattr(row, name)) is not None]
                entry += band(values)
            entries.append(entry)
        return entries


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


def assert_shows_the_lines(shown: RunReader, draw: random.Random) -> None:
    """Look at all that a reader shows, in any order."""
    shown.refresh()
    said = Lines(shown.run)
    steps, events, samples = said.steps, said.of(EventRow), said.valid(SampleRow)
    newest = shown.extent().step
    # it is more only if the lines before a resume are lost
    assert newest >= max((row.step for row in steps), default=0)
    states = [row for row in events if row.kind in STATE_EVENTS]
    changes = [journalled_change(row) for row in said.of(CommandRow) if row.verb == "set"]
    evaluations = by_step(said.valid(EvaluationRow))
    readings = said.of(HardwareRow)

    def series() -> None:
        for buckets in BUCKETS:
            table = shown.series(buckets)
            assert len(table) <= buckets
            assert table.short_every == (said.short_every() if steps else 0)
            assert_close(entries(table), said.curves(table.width, 1, newest))

    def stretch() -> None:
        first = draw.randint(1, newest + 3)
        last = first + draw.randint(0, 60)
        table = shown.stretch(first, last, draw.choice(BUCKETS))
        assert_close(entries(table), said.curves(table.width, first, min(last, newest)))

    def machine() -> None:
        for buckets in BUCKETS:
            table = shown.machine(buckets)
            assert len(table) <= buckets
            # the newest reading of each bucket tells which ones it has
            at = [place for place, row in enumerate(readings, 1) if row.time in set(table.time)]
            sizes = [end - start for start, end in zip([0, *at], at, strict=False)]
            assert sum(sizes) == len(readings)
            assert_close(entries(table), said.machine(sizes))

    def equal(found: Any, wanted: Any) -> Callable[[], None]:
        def check() -> None:
            assert repr(found()) == repr(wanted)

        return check

    looks = [
        series,
        stretch,
        machine,
        equal(lambda: shown.recent_steps(7), steps[-7:]),
        equal(
            lambda: list(shown.steps_since(newest // 2, chunk=5)), steps_after(steps, newest // 2)
        ),
        equal(lambda: shown.evaluations(), evaluations),
        equal(lambda: shown.samples(), samples[::-1]),
        equal(lambda: shown.samples(2), samples[:-3:-1]),
        equal(lambda: shown.sample_steps(), sorted({row.step for row in samples})),
        equal(lambda: shown.samples_at(10), [row for row in samples if row.step == 10]),
        equal(lambda: [row for _, row in shown.samples_after(chunk=2)], samples),
        equal(lambda: shown.events(), events[::-1]),
        equal(lambda: [row for _, row in shown.events_after(chunk=3)], events),
        equal(
            lambda: shown.landmarks(3),
            [row for row in events[::-1] if row.kind not in _ROUTINE_KINDS][:3],
        ),
        equal(lambda: shown.last_state(), states[-1] if states else None),
        equal(lambda: shown.hardware(), readings),
        equal(lambda: shown.hardware(2), readings[-2:]),
        equal(lambda: shown.facts(), said.facts),
        equal(
            lambda: [(row.attempt, row.start_step) for row in shown.attempts()],
            sorted(said.starts.items()),
        ),
        equal(
            lambda: shown.changes(),
            sorted((one for one in changes if one is not None), key=lambda one: one.number),
        ),
        equal(lambda: shown.commands(), said.of(CommandRow)),
        equal(lambda: shown.damaged_lines, said.damaged),
        equal(
            lambda: (
                (extent := shown.extent()).attempts,
                extent.evaluations,
                all(at < extent.end for at, _ in shown.hardware_after()),
            ),
            (tuple(sorted(said.starts.items())), tuple(evaluations), True),
        ),
    ]
    draw.shuffle(looks)
    for look in looks:
        look()


def steps_after(steps: list[StepRow], step: int) -> list[StepRow]:
    return [row for row in steps if row.step > step]


class Author:
    """Writes, damages and replaces the logs of a run."""

    JUNK = (
        b"{", b"[1]", b"\0\xff", b"of another program", b"", b'{"kind":"later","step":7}',
        b'{"kind":"step","step":"5"}', b'{"kind": "step", "step": 5}', b"x" * (3 * LONGEST),
        b'{"kind":"event","event":"note","step":1,"text":"' + b"y" * LONGEST + b'","time":1.0}',
        b"\n".join([b"y" * LONGEST] * 2), b'{"kind":"step","step":1},{"kind":"step","step":2}',
    )  # fmt: skip

    def __init__(self, run: RunDirectory) -> None:
        self.run = run
        self.run.logs_path.mkdir(parents=True)
        self.copies: list[tuple[Path, bytes]] = []
        self.clock = self.readings = 0

    def act(self, what: str, draw: random.Random) -> None:
        logs = [path for _, path in logs_of(self.run)]
        if what == "attempt" or not logs:
            number = len(logs) + draw.choice([1, 1, 1, 2])
            path = self.run.logs_path / f"{number:06d}.jsonl"
            if not path.exists():
                self.put(path, self.head(draw, number, draw.choice([0, 3, draw.randint(0, 150)])))
            return
        path = draw.choice([*logs, *logs[-1:] * 4])
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
                self.readings += 1  # no two at the same time
                yield HardwareRow(
                    self.readings, draw.uniform(0, 100), 1.5, draw.randint(0, 9), 9, 2, 3,
                    gpu_percent=draw.choice([None, 12.5]),
                )  # fmt: skip
            else:
                yield self.rare(draw, attempt, step)

    def step(self, draw: random.Random, attempt: int, step: int) -> StepRow:
        """Ten steps an epoch, the last one short."""
        values = [draw.choice([draw.uniform(0, 9)] * 9 + [math.nan, math.inf]) for _ in range(3)]
        row = step_row(step, attempt, loss=values[0], grad_norm=values[1], speed=values[2])
        tokens = step * 630 - step % 10 * (-70) - draw.choice([0, 0, 0, 400])
        return replace(row, epoch=step / 10, tokens_seen=tokens)

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
            ("PARSED_LINES", 5),
            ("RAW_READINGS", 9),
        ):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, value)


ACTS = (
    "append", "append", "append", "attempt", "tear", "flip", "cut", "rewrite", "junk", "replace",
    "remove", "look", "look", "look", "lose the index",
)  # fmt: skip


@settings(
    deadline=None,
    max_examples=60,
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
    readers = [RunReader(run, raw_limit=limit) for limit in RAW_LIMITS]
    try:
        for what, seed in [*acts, ("look", 0), ("look", 1), ("lose the index", 0), ("look", 0)]:
            draw = random.Random(seed)
            if what == "lose the index":
                for path in index_path(run).parent.glob(f"{index_path(run).stem}*"):
                    path.unlink()
            elif what == "look":
                looking = readers[seed % 3]
                try:
                    assert_shows_the_lines(looking, draw)
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
