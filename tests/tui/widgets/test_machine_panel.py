"""The machine panel shows known values at every size, dashes for unknown ones, and a full disk."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import replace

import pytest
from textual.content import Content

from rnnlm_tui.schema.metrics import EventRow, GpuRow, HardwareRow
from rnnlm_tui.store.series import Band, empty_machine
from rnnlm_tui.tui import palette
from rnnlm_tui.tui.views.machine import (
    HISTORY_SECONDS,
    MachineView,
    Readings,
    history,
    machine_view,
    steady_reading,
)
from rnnlm_tui.tui.widgets.machine_panel import MachinePanel
from tests.tui.fakes import make_hardware, make_machine, make_snapshot

GIB = 2**30
NARROW, WIDE, FULL = (36, 3), (28, 10), (52, 18)
"""Inner sizes at 80, 120 and 200 columns."""


def lines(
    rows: Sequence[HardwareRow],
    size: tuple[int, int],
    *,
    disk_total: int | None = None,
    trains: bool = True,
    alarm: bool = False,
) -> list[Content]:
    panel = MachinePanel()
    panel.show(MachineView(rows, cores=8, disk_total=disk_total, trains=trains, alarm=alarm))
    panel.prepare(*size)
    assert all(line.cell_length <= size[0] for line in panel.lines)
    assert len(panel.lines) <= size[1]
    return panel.lines


def texts(*arguments: object, **named: object) -> list[str]:
    return [line.plain.rstrip() for line in lines(*arguments, **named)]  # type: ignore[arg-type]


def styles_of(line: Content, text: str) -> set[str]:
    return {str(span.style) for span in line.spans if text in line.plain[span.start : span.end]}


def cards(count: int) -> tuple[GpuRow, ...]:
    return tuple(
        GpuRow(index, "NVIDIA L4", 10.0 * index, index * GIB, None, 23 * GIB, 40.0, 50.0)
        for index in range(1, count + 1)
    )


def test_three_lines_show_load_memory_shares_and_free_memory() -> None:
    assert texts(make_hardware(), NARROW) == [
        "GPU  ━━━━━━──      71 %  48 W  61 °C",
        "mem  ━╍────── 0.6 own  4.1 other GiB",
        "free 18 GiB       CPU 12 %  RAM 15 %",
    ]


def test_free_memory_has_its_own_place_if_there_is_room() -> None:
    assert "     ━ own 0.6  ╍ other 4.1              free 18 GiB" in texts(make_hardware(), FULL)


def test_each_other_card_has_a_line() -> None:
    rows = (replace(make_hardware()[-1], other_gpus=cards(3)),)
    shown = texts(rows, FULL)
    assert [line for line in shown if line.startswith("gpu")] == [
        "gpu1 ╍──────────  10 %   1.0 / 23 GiB   40 W   50 °C",
        "gpu2 ╍╍─────────  20 %   2.0 / 23 GiB   40 W   50 °C",
        "gpu3 ╍╍╍────────  30 %   3.0 / 23 GiB   40 W   50 °C",
    ]


@pytest.mark.parametrize(
    ("count", "size", "found"),
    [
        (7, WIDE, [f"gpu{index}     {10 * index} %   {index}.0 / 23 GiB" for index in range(1, 8)]),
        (2, (36, 5), [
            "gpu1 ╍─────────  10 %   1.0 / 23 GiB",
            "gpu2 ╍╍────────  20 %   2.0 / 23 GiB",
        ]),
        (5, (36, 6), [
            "gpu1  10 %  1.0 G gpu4  40 %  4.0 G",
            "gpu2  20 %  2.0 G gpu5  50 %  5.0 G",
            "gpu3  30 %  3.0 G",
        ]),
        (7, (36, 6), [
            "gpu1  10 %  gpu4  40 %  gpu7  70 %",
            "gpu2  20 %  gpu5  50 %",
            "gpu3  30 %  gpu6  60 %",
        ]),
        (9, (28, 10), [
            "gpu1  10 %    gpu6  60 %",
            "gpu2  20 %    gpu7  70 %",
            "gpu3  30 %    gpu8  80 %",
            "gpu4  40 %    gpu9  90 %",
            "gpu5  50 %",
        ]),
        (15, WIDE, ["15 more GPUs       80 % busy"]),
    ],
)  # fmt: skip
def test_cards_without_a_line_of_their_own_share_lines(
    count: int, size: tuple[int, int], found: list[str]
) -> None:
    rows = (replace(make_hardware()[-1], other_gpus=cards(count)),)
    assert [line for line in texts(rows, size) if line.startswith("gpu") or "more" in line] == found


def test_values_missing_from_the_driver_are_dashes() -> None:
    row = make_hardware()[-1]
    silent = replace(row, gpu=GpuRow(0, "NVIDIA L4", memory_own=2 * GIB))
    assert texts((silent,), NARROW)[:2] == [
        "GPU  ────────       – %   – W   – °C",
        "mem  ────────            2.0 GiB own",
    ]
    assert "mem  ─────────   2.0 GiB own" in texts((silent,), WIDE)
    for changed in (
        "percent",
        "watts",
        "celsius",
        "memory_own",
        "memory_used",
        "memory_total",
        "name",
    ):
        card = replace(row.gpu, **{changed: None})
        for size in (NARROW, WIDE, FULL):
            assert lines((replace(row, gpu=card),), size)


def test_a_nearly_full_disk_is_shown_as_a_warning_at_every_size() -> None:
    rows = (replace(make_hardware()[-1], disk_free=9 * 10**9),)
    for size in (NARROW, WIDE, FULL):
        (line,) = [
            line for line in lines(rows, size, disk_total=100 * 10**9) if "disk" in line.plain
        ]
        assert "9.0 GB free" in line.plain
        assert any(palette.WARN in style for style in styles_of(line, "9.0"))
    assert not any(
        "disk" in line
        for line in texts((replace(rows[0], disk_free=11 * 10**9),), NARROW, disk_total=100 * 10**9)
    )


def test_the_disk_has_a_bar_if_its_size_is_known() -> None:
    (line,) = [
        line
        for line in texts(make_hardware(), WIDE, disk_total=424 * 10**9)
        if line.startswith("disk")
    ]
    assert line == "disk ━━━━─────   212 GB free"


def test_an_idle_machine_shows_no_own_share() -> None:
    for gpu in (True, False):
        for size in (NARROW, WIDE, FULL):
            shown = texts(make_hardware(gpu=gpu), size, trains=False)
            assert not any("own" in line or "other" in line for line in shown)
            assert any("4.7 / 23 GiB" in line for line in shown) or not gpu


def test_loads_are_averaged_over_seconds_but_memory_is_not() -> None:
    rows = [
        replace(
            make_hardware()[-1],
            time=100.0 + second,
            gpu=GpuRow(percent=10.0 * second, memory_used=second),
        )
        for second in range(10)
    ]
    steady = steady_reading(rows)
    assert steady is not None
    assert steady.gpu.percent == pytest.approx(70.0)
    assert steady.gpu.memory_used == 9
    assert steady_reading(()) is None


def test_the_curve_moves_with_the_clock_not_with_each_reading() -> None:
    rows = [
        replace(make_hardware()[-1], time=6_000.0 + second, gpu=GpuRow(percent=float(second)))
        for second in range(40)
    ]
    before, after = history(rows[:33], 20), history(rows[:36], 20)
    assert before[:-1] == after[:-1]
    assert before[-1][0] == after[-1][0] == 19
    assert len(history(rows, 3)) == 3
    assert history(rows, 20)[0][0] == 19 - 39 // int(HISTORY_SECONDS)
    assert history(rows, 20)[0][1] == pytest.approx(2.5)


@pytest.mark.parametrize("gpu", [True, False])
@pytest.mark.parametrize("size", [NARROW, WIDE, FULL])
def test_a_run_that_ended_shows_peak_memory_mean_load_and_its_duration(
    gpu: bool, size: tuple[int, int]
) -> None:
    events = (
        EventRow(1, 0, "started", "started", 1_000.0),
        EventRow(1, 4_754, "finished", "finished", 1_190.0),
    )
    ended = replace(make_snapshot("finished", 4_754, gpu=gpu), events=events)
    machine = replace(ended.machine, columns={**ended.machine.columns})
    load, own = (
        ("gpu_percent", "gpu_memory_own") if gpu else ("process_cpu_percent", "process_memory")
    )
    for name, values in (
        (load, [50.0, math.nan, 70.0, 90.0]),
        (own, [GIB, 1.5 * GIB, 2 * GIB, 1.5 * GIB]),
    ):
        machine.columns[name] = Band(*(array("d", values) for _ in range(3)))
    view = machine_view(
        replace(ended, machine=machine),
        make_machine(),
        Readings(make_hardware(busy=5.0), live=True),
        wide=True,
    )
    panel = MachinePanel()
    panel.show(view)
    panel.prepare(*size)
    shown = [panel.content_line(y, size[0]).text for y in range(size[1])]
    text = "\n".join(shown)
    assert "70 %" in text, "the mean of the run and not the load of now"
    assert "90 %" in text
    assert "2.0 GiB" in text
    assert "2 min 06 s" in text, "training"
    assert "3 min 10 s" in text, "from start to end"
    assert view.legend.plain == "whole run"
    assert all(line.strip() for line in shown[: 3 if size == NARROW else 9]) or size == FULL, (
        "no empty rows while there are figures to show"
    )
    assert all(len(line) == size[0] for line in shown)


def test_an_ended_run_without_readings_shows_the_current_machine() -> None:
    own = Readings(make_hardware(busy=5.0), live=True)
    ended = replace(make_snapshot("failed", 0), hardware=(), machine=empty_machine())
    shown = machine_view(ended, make_machine(), own, wide=True)
    assert shown.rows == own.rows
    assert not shown.trains
    assert shown.legend.plain == "gpu1 · NVIDIA L4"
    assert machine_view(make_snapshot(), make_machine(), own, wide=True).trains
    assert machine_view(
        ended, make_machine(), replace(own, live=False), wide=True
    ).legend.plain.startswith("at ")


def test_a_warning_about_others_in_the_edge_hides_neither_memory_nor_disk() -> None:
    row = replace(make_hardware()[-1], gpu=GpuRow())
    panel = MachinePanel()
    panel.show(MachineView((row,), cores=2, others="others use 1.0 of 2 cores"))
    panel.prepare(*NARROW)
    assert "free" in panel.lines[-1].plain
    assert "disk" in panel.lines[-1].plain
    ((_, label),) = panel.bottom_labels(40)
    assert "".join(segment.text for segment in label) == "others use 1.0 of 2 cores"


def test_the_share_of_others_is_never_cut() -> None:
    row = replace(make_hardware(gpu=False)[-1], cpu_percent=100.0, process_cpu_percent=0.0)
    assert any(
        "own 0 %" in line.plain and line.plain.endswith("other 100 %")
        for line in lines([row], WIDE)
    )
