"""The machine panel shows known values at every size, dashes for unknown ones, and what is wrong
with a GPU or a disk."""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Iterable
from dataclasses import replace
from itertools import chain, product

import pytest
from textual.content import Content

from rnnlm_tui.schema.metrics import EventRow, GpuRow, HardwareRow, RankReading
from rnnlm_tui.store.series import Band
from rnnlm_tui.tui import palette
from rnnlm_tui.tui.views.machine import HISTORY_SECONDS, history, steady_reading
from rnnlm_tui.tui.views.train import busy
from rnnlm_tui.tui.widgets.machine_panel import (
    MachinePanel,
    MachineView,
    edge,
)
from tests.fakes.nvml import MACHINES, read_machine
from tests.tui.demo_run import machine, readings
from tests.tui.fakes import make_snapshot

GIB = 2**30
NARROW, WIDE, FULL = (36, 3), (28, 10), (52, 18)
"""Inner sizes at 80, 120 and 200 columns."""
SIZES = (NARROW, WIDE, FULL)
READING = readings()[-1]
WITH_DISK = replace(machine(), disk_total=100 * 10**9)


def panel(view: MachineView, size: tuple[int, int]) -> list[Content]:
    shown = MachinePanel()
    shown.show(view)
    shown.prepare(*size)
    lines = [line for line in shown.lines if isinstance(line, Content)]
    assert all(line.cell_length <= size[0] for line in lines)
    assert len(shown.lines) == len(lines) <= size[1]
    return lines


def text_of(row: HardwareRow, size: tuple[int, int], *, trains: bool = True) -> str:
    view = MachineView((row,), machine=WITH_DISK, trains=trains)
    return "\n".join(line.plain for line in panel(view, size))


def ranks(*hosts: str, **changes: object) -> list[RankReading]:
    """A rank on each of these hosts, of which the last one waits least."""
    return [
        RankReading(rank=rank, host=host, tokens_per_second=1e3, waiting=0.4 - rank / 1000)
        .model_copy(update=changes)
        for rank, host in enumerate(hosts)
    ]  # fmt: skip


def rows_of(ranks: list[RankReading], size: tuple[int, int]) -> list[list[str]]:
    view = MachineView((READING,), machine=WITH_DISK, ranks=ranks)
    return [line.plain.split() for line in panel(view, size)]


def cards(count: int) -> tuple[GpuRow, ...]:
    sizes = ((index, index * GIB) for index in range(1, count + 1))
    return tuple(GpuRow(at, "NVIDIA L4", 10.0 * at, used, None, 23 * GIB) for at, used in sizes)


def row_of(machine: str, **changes: object) -> HardwareRow:
    """The reading of a recorded machine, with other answers of the card that trains."""
    card, others = read_machine(machine)
    return READING._replace(gpu=card._replace(**changes), other_gpus=others)  # type: ignore[arg-type]


def each_second(rows: Iterable[HardwareRow], start: float = 100.0) -> list[HardwareRow]:
    return [row._replace(time=start + second) for second, row in enumerate(rows)]


def test_a_nearly_full_disk_is_shown_as_a_warning_at_every_size_beside_any_number_of_gpus() -> None:
    little, enough = (READING._replace(disk_free=free * 10**9) for free in (9, 11))
    for size, count in product((NARROW, (36, 6), (28, 7), WIDE, FULL), (0, 1, 4, 8, 15)):
        row = little._replace(other_gpus=cards(count))
        view = MachineView((row,), machine=WITH_DISK, arithmetic="bf16 matmul")
        line = next(line for line in panel(view, size) if "disk" in line.plain)
        assert "9.0 GB free" in line.plain
        warned = [span for span in line.spans if palette.WARN in str(span.style)]
        assert "9.0" in [line.plain[span.start : span.end] for span in warned]
    assert "disk" not in text_of(enough, NARROW)


def test_loads_are_averaged_over_seconds_but_memory_is_not() -> None:
    others = [GpuRow(1, percent=10.0 * second, throttle="power cap") for second in range(10)]
    cards = [GpuRow(percent=10.0 * second, memory_used=second) for second in range(10)]
    late = [((GpuRow(2, percent=50.0),) if second > 7 else ()) for second in range(10)]
    rows = (
        READING._replace(gpu=card, other_gpus=(other, *more))
        for card, other, more in zip(cards, others, late, strict=True)
    )
    steady = steady_reading(each_second(rows))
    assert steady is not None
    assert steady.gpu == GpuRow(percent=70.0, memory_used=9)
    assert steady.other_gpus == (others[7]._replace(percent=70.0), GpuRow(2, percent=50.0))


def test_the_curve_moves_with_the_clock_not_with_each_reading() -> None:
    cards = (GpuRow(percent=float(second)) for second in range(40))
    rows = each_second((READING._replace(gpu=card) for card in cards), 6_000.0)
    before, after = history(rows[:33], 20), history(rows[:36], 20)
    assert before[:-1] == after[:-1]
    assert before[-1][0] == after[-1][0] == 19
    assert len(history(rows, 3)) == 3
    first, load = history(rows, 20)[0]
    assert first == 19 - 39 // int(HISTORY_SECONDS)
    assert load == pytest.approx(2.5)


def test_a_run_that_ended_shows_peak_memory_mean_load_and_its_duration() -> None:
    loads, sizes = [50.0, math.nan, 70.0, 90.0], [GIB, 1.5 * GIB, 2 * GIB, 1.5 * GIB]
    times = (("started", 1e3), ("finished", 1_190.0))
    events = tuple(EventRow(1, 0, kind, "", time) for kind, time in times)  # type: ignore[arg-type]
    for gpu, load, own in (
        (True, "gpu_percent", "gpu_memory_own"),
        (False, "process_cpu_percent", "process_memory"),
    ):
        ended = make_snapshot("finished", gpu=gpu)
        columns = {load: Band(*[array("d", loads)] * 3), own: Band(*[array("d", sizes)] * 3)}
        machine = replace(ended.machine, columns={**ended.machine.columns, **columns})
        view = MachineView(ended=ended._replace(machine=machine, events=events))
        for size in SIZES:
            shown = "\n".join(line.plain for line in panel(view, size))
            # the mean of the run, its peaks, the time of training and in all
            for figure in ("70 %", "90 %", "2.0 GiB", "1 min 39 s", "3 min 10 s"):
                assert figure in shown


def test_faults_come_first_and_name_the_card() -> None:
    broken = row_of("h100")._replace(other_gpus=(GpuRow(3), GpuRow(5, fault="card lost")))
    faulty = row_of("h100", fault="Xid 48: memory error")
    for row, text in ((faulty, "Xid 48: memory error"), (broken, "gpu5: card lost"), (READING, "")):
        assert edge(row, 40).plain == text
    assert busy([row_of("gpu-lost")], "running").plain == "GPU lost"


def test_only_throttling_that_lasts_is_shown() -> None:
    often = ["sync boost", "power cap", "", "power cap", "power cap, thermal slowdown"]
    for reasons, lasting in ((often, "power cap"), ([*often[:2], None], None), ([*often[:3]], "")):
        rows = [row_of("h100", throttle=reason) for reason in reasons]
        steady = steady_reading(each_second(rows))
        assert steady is not None
        assert steady.gpu.throttle == lasting


def test_every_machine_fits_every_size() -> None:
    sizes = (36, 3), (36, 6), (58, 4), (28, 7), (28, 10), (52, 18)
    for name, size, trains in product(MACHINES, sizes, (True, False)):
        row = row_of(name)
        text = text_of(row, size, trains=trains)
        assert "nan" not in text
        assert trains or not re.search("[0-9] own|own [0-9]|other", text), "an idle machine"
        assert row.gpu.watts is not None or "0 W" not in text
        if size[1] >= 10:
            assert text.count("gpu") == len(row.other_gpus), "a line per card"


def test_ranks_have_a_row_each_or_else_their_hosts_and_the_slowest_ranks_have() -> None:
    four = ranks("a.cluster", "a.cluster", "b", "b")
    assert [row[:2] for row in rows_of(four, (36, 5))[1:-1]] == [
        ["0", "a"], ["1", "a"], ["2", "b"]
    ]  # fmt: skip
    assert rows_of(four, (36, 5))[-1][:3] == ["▼", "3", "b"]
    assert [row[:3] for row in rows_of(four, (28, 4))[1:]] == [
        ["2×", "a", "1k"], ["2×", "b", "1k"], ["▼", "3", "b"]
    ]  # fmt: skip
    assert [row[:2] for row in rows_of(four, NARROW)[1:]] == [["4×", "all"], ["▼", "3"]]
    assert any("rank 0 on a" in " ".join(row) for row in rows_of(four, FULL))


@pytest.mark.parametrize("size", [*SIZES, (28, 200)])
def test_ranks_of_any_number_and_with_unknown_figures_stay_in_the_panel(
    size: tuple[int, int],
) -> None:
    odd = {"tokens_per_second": None, "use": math.nan, "waiting": 1.0, "device": "\x1b[31m" * 9}
    for count, changes in product((2, 9, 300), ({}, odd)):
        rows = rows_of(ranks(*(f"node-{at:04}" for at in range(count)), **changes), size)
        assert ("▼" in "".join(chain(*rows))) is not bool(changes)


def test_a_rank_for_which_the_others_wait_long_is_a_warning_and_a_full_disk_too() -> None:
    for waiting, colour in ((0.3, palette.WARN), (0.02, palette.BRIGHT)):
        two = [*ranks("a", waiting=waiting), *ranks("a", waiting=0.0, rank=1)]
        row = panel(MachineView((READING,), ranks=two), NARROW)[-1]
        assert row.plain.startswith("▼ 1")
        assert {str(span.style) for span in row.spans} == {f"bold {colour}"}
    shown = MachinePanel()
    shown.show(MachineView((READING._replace(disk_free=10**9),), ranks=ranks("a", "a")))
    shown.prepare(*NARROW)
    assert str(shown.bottom) == "disk 1.0 GB free"
