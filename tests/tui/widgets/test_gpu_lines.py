"""GPUs in the machine panel: what slows one down or is wrong, in words, at every width."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rnnlm_tui.schema.metrics import GpuRow, HardwareRow
from rnnlm_tui.tui import palette
from rnnlm_tui.tui.views.machine import MachineView, steady_reading
from rnnlm_tui.tui.views.train import busy
from rnnlm_tui.tui.widgets.machine_panel import MachinePanel, edge, other_cards, power_line
from tests.fakes.nvml import MACHINES, read_machine
from tests.tui.fakes import make_hardware, with_cards


def row_of(machine: str, **changes: object) -> HardwareRow:
    """The reading of a recorded machine, with other answers of the card that trains."""
    card, others = read_machine(machine)
    return with_cards(make_hardware()[-1:], replace(card, **changes), others)[0]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("throttle", "room", "text"),
    [
        ("power cap", 60, "1,725 / 1,980 MHz  throttled: power cap"),
        ("power cap", 38, "1,725 MHz  throttled: power cap"),
        ("power cap", 26, "1,725 MHz  power cap"),
        ("power cap", 19, "power cap"),
        ("hardware thermal slowdown", 26, "hardware thermal slowdown"),
        ("power cap, hardware thermal slowdown", 26, "throttled"),
        ("power cap", 5, ""),
        ("", 26, "1,725 / 1,980 MHz"),
        ("", 10, "1,725 MHz"),
        (None, 26, "1,725 / 1,980 MHz"),
    ],
)
def test_the_edge_has_clock_and_throttling_as_far_as_they_fit(
    throttle: str | None, room: int, text: str
) -> None:
    found = edge(row_of("h100", throttle=throttle), room)
    assert found.plain == text
    assert found.cell_length <= room
    assert any(palette.WARN in str(span.style) for span in found.spans) == bool(throttle and text)


def test_a_card_without_a_clock_still_says_why_it_is_slow() -> None:
    row = row_of("h100", clock_mhz=None)
    assert edge(row, 30).plain == "throttled: power cap"
    assert edge(row_of("h100", clock_max_mhz=None, throttle=""), 30).plain == "1,725 MHz"
    assert edge(make_hardware()[-1], 30).plain == ""
    assert edge(make_hardware(gpu=False)[-1], 30).plain == ""


def test_faults_come_first_and_name_the_card() -> None:
    row = row_of("h100", fault="Xid 48: memory error")
    assert edge(row, 40).plain == "Xid 48: memory error"
    assert any(palette.BAD in str(span.style) for span in edge(row, 40).spans)
    broken = replace(row_of("h100"), other_gpus=(GpuRow(3), GpuRow(5, fault="card lost")))
    assert edge(broken, 40).plain == "gpu5: card lost"


def test_a_text_from_the_log_cannot_act_on_the_terminal() -> None:
    evil = "\x1b]52;c;x\x07"
    for row in (row_of("h100", throttle=evil), row_of("h100", fault=evil)):
        assert "\x1b" not in edge(row, 60).plain
    assert "\x1b" not in other_cards((GpuRow(1, fault=evil),), 40, 3)[0].plain


def test_only_throttling_that_lasts_is_shown() -> None:
    rows = [
        replace(row_of("h100", throttle=reason), time=100.0 + second)
        for second, reason in enumerate(
            ("sync boost", "power cap", "", "power cap", "power cap, thermal slowdown")
        )
    ]
    steady = steady_reading(rows)
    assert steady is not None
    assert steady.gpu.throttle == "power cap"
    for missing in (None, ""):
        steady = steady_reading([*rows[:2], replace(row_of("h100", throttle=missing), time=101.5)])
        assert steady is not None
        assert steady.gpu.throttle == (None if missing is None else "")


def test_other_cards_are_averaged_by_their_number() -> None:
    rows = [
        replace(
            make_hardware()[-1],
            time=100.0 + second,
            other_gpus=(
                GpuRow(1, percent=20.0 * second, watts=100.0, throttle="power cap"),
                *((GpuRow(2, percent=50.0),) if second else ()),
            ),
        )
        for second in range(3)
    ]
    steady = steady_reading(rows)
    assert steady is not None
    assert steady.other_gpus == (
        GpuRow(1, percent=20.0, watts=100.0, throttle="power cap"),
        GpuRow(2, percent=50.0),
    )


@pytest.mark.parametrize(
    ("machine", "text"),
    [
        ("h100", "pwr  698 / 700 W  temp 64 °C"),
        ("mig", "pwr  186 / 400 W  temp 47 °C"),
        ("gtx1650", "temp 71 °C"),
        ("gpu-lost", None),
    ],
)
def test_power_and_temperature_are_left_out_if_unknown(machine: str, text: str | None) -> None:
    line = power_line(read_machine(machine)[0], 28)
    assert (None if line is None else line.plain) == text
    assert line is None or line.cell_length <= 28


def test_the_figure_that_slows_a_card_down_is_marked() -> None:
    card = read_machine("h100")[0]
    for throttle, marked in (("power cap", "698"), ("hardware thermal slowdown", "64")):
        line = power_line(replace(card, throttle=throttle), 40)
        assert line is not None
        found = [line.plain[s.start : s.end] for s in line.spans if palette.WARN in str(s.style)]
        assert found == [marked]


def test_a_lost_card_is_named_in_the_figures() -> None:
    lost = row_of("gpu-lost")
    assert busy([lost], "running").plain == "GPU lost"
    assert busy([row_of("h100")], "running").plain == "GPU 99 %"


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("size", [(36, 3), (36, 6), (58, 4), (28, 7), (28, 10), (52, 18)], ids=str)
def test_every_machine_fits_every_size(machine: str, size: tuple[int, int]) -> None:
    row = row_of(machine)
    for trains in (True, False):
        panel = MachinePanel()
        panel.show(MachineView((row,), cores=8, disk_total=424 * 10**9, trains=trains))
        panel.prepare(*size)
        assert len(panel.lines) <= size[1]
        assert all(line.cell_length <= size[0] for line in panel.lines)
        text = "\n".join(line.plain for line in panel.lines)
        assert "nan" not in text
        if row.gpu.watts is None:
            assert "0 W" not in text
        if size[1] >= 10:
            assert text.count("gpu") == len(row.other_gpus), "a line per card"
