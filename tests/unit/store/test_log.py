"""RunLog: what its lines say, and what a failing disk leaves of them."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import resource
import signal
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rnnlm_tui.errors import NewerLogError, StorageError
from rnnlm_tui.schema import metrics
from rnnlm_tui.schema.facts import Facts
from rnnlm_tui.schema.metrics import (
    AttemptRow,
    EventKind,
    GpuRow,
    HardwareRow,
    RankReading,
    SampleRow,
    StepRow,
)
from rnnlm_tui.schema.record import fields_of
from rnnlm_tui.store.log import KINDS, MAX_LINE, RunLog, decode, decode_columns, encode, logs_of
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader, merged_facts
from tests.unit.store.rows import begin, event_row, step_row

LINE = (
    b'{"kind":"step","step":5,"tokens":9,"epoch":0.5,"loss":1.5,"grad_norm":2.0,"lr":1E-05,'
    b'"speed":4.0,"active":5.0,"time":6.0}'
)
NUMBERS = st.floats() | st.sampled_from([1e308, -1e-320, 0.1, 2.0**60])
VALUES: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(0, 2**53) | st.sampled_from([2**63 - 1]),
    float: NUMBERS,
    str: st.text(st.characters()),
    dict[str, object]: st.dictionaries(
        st.text(), st.none() | st.booleans() | st.text() | st.integers(-(2**70), 2**70)
    ),
    list[int]: st.lists(st.integers()),
    type(None): st.none(),
}


RANKS = st.lists(
    st.builds(
        RankReading,
        **{
            name: st.one_of(*(VALUES[part] for part in get_args(field.annotation)))
            if get_args(field.annotation)
            else VALUES[field.annotation]
            for name, field in fields_of(RankReading).items()
        },
    ),
    max_size=3,
)


def strategy(kind: type[Any]) -> st.SearchStrategy[Any]:
    """Rows of a class with any values of their types."""
    of: dict[str, st.SearchStrategy[Any]] = {}
    for name, hint in get_type_hints(kind, vars(metrics)).items():
        if name == "other_gpus":
            of[name] = st.lists(strategy(GpuRow), max_size=3).map(tuple)
        elif name == "ranks":
            of[name] = RANKS.map(tuple)
        elif hint is GpuRow:
            of[name] = strategy(GpuRow)
        elif "Literal" in str(hint):
            of[name] = st.sampled_from(get_args(hint))
        else:
            parts = [hint] if hint in VALUES else get_args(hint)
            of[name] = st.one_of(*(VALUES[part] for part in parts))
            if kind is GpuRow and float in parts:
                of[name] = st.none() | st.floats(allow_nan=False, allow_infinity=False)
    if kind is not GpuRow and "attempt" in of:
        of["attempt"] = st.just(3)
    return st.builds(kind, **of)


def as_stored(text: str) -> str:
    """Half characters stand as text in the log."""
    return re.sub("[\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):04x}", text)


def float32(value: float) -> float:
    """The nearest float32."""
    return float(struct.unpack("f", struct.pack("f", value))[0])


@settings(max_examples=300)
@given(st.one_of(*(strategy(kind) for kind in KINDS.values() if kind is not StepRow)))
@example(SampleRow(3, 1, "\0\x1b[31m\u202e\ud800«", "\n\r\x85\u2028 😀\udc00", 1, 2**63 - 1, 0.5))
@example(
    HardwareRow(1.5, 2.0, 3.0, 4, 5, 6, 7, GpuRow(fault="card lost"), (GpuRow(1, "L4"), GpuRow(4)))
)
def test_every_row_is_read_as_it_was_written(row: Any) -> None:
    line = encode(row)
    assert line.startswith(b'{"kind":"')
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    if isinstance(row, AttemptRow):
        line = line.replace(b'"attempt",', b'"attempt","version":1,')
    if isinstance(row, HardwareRow):
        values: dict[str, Any] = row._asdict()
        floats = {name for name, value in values.items() if isinstance(value, float)}
        row = HardwareRow(**values | {name: round(values[name], 3) for name in floats})
    assert as_stored(repr(decode(line, 3))) == as_stored(escaped(repr(row)))


def escaped(text: str) -> str:
    """`repr` shows a half character as one backslash, one that is text as two."""
    return re.sub(r"(?<!\\)((?:\\\\)*)\\(u[dD][89a-fA-F][0-9a-f]{2})", r"\1\\\\\2", text)


HALFWAY = 1.4313223850000002e16
"""Between two values of float32: rounded to nine digits first, it becomes the other one."""


@example(StepRow(3, 1, 700, 0.5, 4.0, HALFWAY, 1e-3, 20_000.0, 0.035, 1.0))
@given(strategy(StepRow))
def test_the_values_of_a_step_are_kept_as_short_float32(row: StepRow) -> None:
    read = decode(encode(row), 3)
    assert isinstance(read, StepRow)
    assert (read.step, read.tokens_seen) == (row.step, row.tokens_seen)
    for name in ("loss", "grad_norm", "learning_rate"):
        value, found = getattr(row, name), getattr(read, name)
        if not math.isfinite(value):
            assert repr(found) == repr(value)
        elif math.isinf(float32(value)):
            assert math.isclose(found, value, rel_tol=1e-5)
        else:
            assert abs(found - value) <= max(abs(value) * 2**-23, 2**-149), "by less than an ulp"
            assert float32(found) == float32(value)
    for name, digits in (("epoch", 4), ("active_seconds", 3), ("time", 3)):
        value, found = getattr(row, name), getattr(read, name)
        assert repr(found) == repr(round(value, digits))
    if math.isfinite(row.tokens_per_second):
        assert math.isclose(read.tokens_per_second, row.tokens_per_second, rel_tol=1e-5)


def test_a_step_of_a_long_run_takes_less_than_20_bytes_a_value() -> None:
    row = step_row(1_234_567, loss=1.0000123, grad_norm=3.0517583e-05, learning_rate=2.99999e-05)
    line = encode(row._replace(time=row.time + 0.1234567))
    assert len(line) < 20 * len(row)
    assert line.count(b"E-05") == 2, "they are read in less time than with a small e"


def test_facts_have_only_what_was_set_and_later_ones_replace_earlier_ones(
    log: RunLog, reader: RunReader
) -> None:
    log.append(Facts(device="cpu", max_steps=5, corpus_notes=("a", "b")), Facts(max_steps=None))
    log.append(Facts(device="H100"))
    assert log.path.read_bytes().splitlines()[-1] == b'{"kind":"facts","device":"H100"}'
    assert reader.facts() == Facts(device="H100", corpus_notes=("a", "b"))
    wrong = {"max_steps": "5", "device": 7, "epochs": 2.5, "later": 1}
    assert merged_facts([wrong]) == Facts(epochs=2.5)


def test_a_line_is_never_longer_than_readers_read(log: RunLog, reader: RunReader) -> None:
    long = "\x01" * 3_000_000
    log.append(SampleRow(1, 1, long, long, 1, 1, 0.5), event_row("note", text="é" * 90_000))
    log.append(metrics.CommandRow(1, "a", "set", {"a": long, "b": [long]}, {"c": long}, 0.5))
    assert max(map(len, log.path.read_bytes().splitlines(keepends=True))) <= MAX_LINE
    assert reader.samples()[0].text == "\x01" * 80_000 + "…"
    assert reader.events()[0].text == "é" * 80_000 + "…"
    assert (reader.commands()[0].verb, reader.damaged_lines) == ("set", 0)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"step":5', value)
        for value in (
            b'"step":"5"', b'"step":true', b'"step":5.0', b'"step":null', b'"step":[5]',
            b'"step":-1', b'"step":9223372036854775808', b'"steps":5', b'"st4ep":5',
        )
    ]
    + [
        (b'"loss":1.5', value)
        for value in (
            b'"loss":"1.5"', b'"loss":true', b'"loss":NaN', b'"loss":Infinity', b'"loss":1e400',
            b'"loss":null', b'"loss":null,"nonfinite":{"loss":"5"}', b'"loss":{}',
            b'"loss":null,"nonfinite":["loss"]', b'"loss":\xff', b'"loss":01', b'"lo3ss":1.5',
            b'"loss":1..5', b'"loss":1.5.', b'"loss":', b'"loss":1,5', b'"loss":1E400',
        )
    ]
    + [(b'"tokens":9', b'"tokens":-9'), (b"}", b""), (b"}", b"}}"), (b"}", b"}," + LINE)],
)  # fmt: skip
def test_no_value_is_coerced_alone_or_among_other_lines(old: bytes, new: bytes) -> None:
    names = ["step", "grad_norm"]
    for line in (LINE, LINE.replace(b"E", b"e"), LINE.replace(b"2.0", b"2")):
        bad, good = line.replace(old, new), line.replace(b":5,", b":7,")
        found = decode_columns("step", names, [line, bad, good])
        assert repr(found) == "[[5, None, 7], [2.0, None, 2.0]]"
        assert decode_columns("step", names, [bad]) == [[None], [None]]


def test_unknown_kinds_and_keys_are_ignored_and_other_lines_counted_as_damaged(
    log: RunLog, reader: RunReader
) -> None:
    log.append(step_row(1))
    with log.path.open("ab") as file:
        file.write(b'{"kind":"of a later version","step":7}\n')
        file.write(encode(step_row(2)).replace(b"}", b',"later":[1]}'))
        file.write(encode(event_row("note")).replace(b"}", b',"later":{}}'))
    assert [row.step for row in reader.steps()] == [1, 2]
    assert (len(reader.events()), reader.damaged_lines) == (1, 0)
    with log.path.open("ab") as file:
        file.write(b'{"kind":7}\n[1]\n7\nnull\nof another program\n\xff\0\n"kind"\n{}\n')
        file.write(encode(step_row(2**53)) + encode(step_row(3)))
    reader.refresh()
    assert [row.step for row in reader.steps()] == [1, 2, 3]
    assert (len(reader.events()), reader.damaged_lines) == (1, 9)


def test_a_newer_version_is_refused_and_its_log_left_alone(log: RunLog, reader: RunReader) -> None:
    log.append(step_row(1))
    content = log.path.read_bytes().replace(b'"version":1,', b'"version":2,')
    log.path.write_bytes(content)
    for _ in range(2):
        with pytest.raises(NewerLogError, match="attempt 1 was made by a newer version") as caught:
            reader.refresh()
    assert "update" in caught.value.hint
    assert log.path.read_bytes() == content


def test_attempts_are_numbered_and_their_logs_private(run: RunDirectory) -> None:
    with begin(run), begin(run, 5) as second:
        (run.logs_path / "000009.jsonl").symlink_to(second.path)
        (run.logs_path / "7.jsonl").touch()
        assert [attempt for attempt, _ in logs_of(run)] == [1, 2]
        heads = [json.loads(path.read_text().splitlines()[0]) for _, path in logs_of(run)]
    assert [head["start_step"] for head in heads] == [0, 5]
    assert heads[0]["id"] != heads[1]["id"]
    assert second.path.stat().st_mode & 0o777 == 0o600
    assert run.logs_path.stat().st_mode & 0o777 == 0o700


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file can grow beyond this size."""
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)


@pytest.mark.parametrize("room", [0, 1, 150, 500, 1_000])
def test_a_failed_append_leaves_the_lines_before_it_and_can_be_repeated(
    log: RunLog, reader: RunReader, room: int
) -> None:
    log.append(step_row(1))
    before = log.path.read_bytes()
    rows = [step_row(step) for step in range(2, 10)]
    with full_disk(len(before) + room), pytest.raises(StorageError, match=r"can't write .*jsonl"):
        log.append(*rows)
    assert log.path.read_bytes() == before
    reader.refresh()
    log.append(*rows)
    reader.refresh()
    assert [row.step for row in reader.steps()] == list(range(1, 10))
    assert reader.damaged_lines == 0


def test_an_attempt_that_cannot_be_written_leaves_no_log(run: RunDirectory) -> None:
    with full_disk(10), pytest.raises(StorageError):
        begin(run)
    assert logs_of(run) == []
    assert begin(run).attempt == 1


def test_what_a_failed_fsync_lost_is_written_again(
    log: RunLog, reader: RunReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server of NFS reports a full disk only at fsync, and drops what it had."""
    log.append(step_row(1))
    log.sync()
    kept = log.path.stat().st_size

    def fail(descriptor: int) -> None:
        os.pwrite(descriptor, bytes(os.fstat(descriptor).st_size - kept), kept)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as moment:
        moment.setattr(os, "fsync", fail)
        log.append(step_row(2))
        for step in (3, 4):
            with pytest.raises(StorageError, match="No space left"):
                log.sync()
            log.append(step_row(step))
    reader.refresh()
    log.sync()
    reader.refresh()
    assert [row.step for row in reader.steps()] == [1, 2, 3, 4]
    assert reader.damaged_lines == 0


def test_a_log_that_is_opened_again_is_continued(run: RunDirectory, log: RunLog) -> None:
    log.append(step_row(1))
    log.close()
    log.close()
    with RunLog(run, 1) as again:
        again.append(step_row(2))
    with RunReader(run) as reader:
        assert [row.step for row in reader.steps()] == [1, 2]


def test_every_kind_of_event_is_read(log: RunLog, reader: RunReader) -> None:
    kinds = get_args(EventKind)
    log.append(*(event_row(kind) for kind in kinds))
    assert tuple(row.kind for row in reader.events()[::-1]) == kinds
