"""What the driver says of recorded machines: a power-capped H100, MIG, no power figures, a lost
card, old and missing drivers."""

from __future__ import annotations

import os
from dataclasses import replace

import pynvml
import pytest

from rnnlm_tui.schema.metrics import CARD_LOST, GpuRow
from rnnlm_tui.system.gpu import (
    NO_ANSWER,
    VISIBLE_VARIABLE,
    GpuProbe,
    cards,
    driver_cuda_version,
    driver_problem,
    driver_version,
    gpu_count,
    gpu_uuids,
    other_cards,
)
from rnnlm_tui.system.machine import DRIVER_BYTES, free_training_memory, planned_device
from tests.fakes.nvml import (
    A100_MIG,
    GIB,
    GTX_1650,
    H100,
    H100_NODE,
    MIB,
    NO_DRIVER,
    NOT_SUPPORTED,
    TWO_CARDS,
    UPDATED_DRIVER,
    Recording,
    h100,
    plain_card,
    replay,
)
from tests.fakes.torch_build import install_torch_build

A100 = A100_MIG.cards[0]
FIRST, SECOND = A100.instances


def read_others(place: int | None = None) -> list[GpuRow]:
    return [card.sample() for card in other_cards(place)]


def test_an_h100_at_its_power_limit_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    replay(monkeypatch, H100)
    assert GpuProbe(H100.cards[0].uuid.removeprefix("GPU-")).sample() == GpuRow(
        index=0,
        name="NVIDIA H100 80GB HBM3",
        percent=99.0,
        memory_used=43_117 * MIB,
        memory_own=42_490 * MIB,
        memory_total=81_559 * MIB,
        watts=698.354,
        celsius=64.0,
        watts_limit=700.0,
        clock_mhz=1_725.0,
        clock_max_mhz=1_980.0,
        throttle="power cap",
    )


@pytest.mark.parametrize(
    ("reasons", "words"),
    [
        (0x0, ""),
        (0x1, ""),  # idle
        (0x2 | 0x100, ""),  # clocks that someone has set
        (0x1 | 0x4, "power cap"),
        (0x20, "thermal slowdown"),
        (0x8 | 0x40, "hardware thermal slowdown"),
        (0x8 | 0x80 | 0x4, "power cap, hardware power brake"),
        (0x8, "hardware slowdown"),  # cards that don't tell the cause
        (0x10, "sync boost"),
        (0x400, ""),  # unknown
    ],
)
def test_only_what_slows_a_card_down_is_throttling(
    monkeypatch: pytest.MonkeyPatch, reasons: int, words: str
) -> None:
    replay(monkeypatch, H100).change(0, CurrentClocksEventReasons=reasons)
    assert GpuProbe().sample().throttle == words


@pytest.mark.parametrize(
    ("uuid", "visible"),
    [
        (SECOND.uuid.removeprefix("MIG-"), None),  # as torch reports it
        (SECOND.uuid, None),
        (A100.uuid.removeprefix("GPU-"), SECOND.uuid),  # as older CUDA versions do
        (None, SECOND.uuid),
    ],
)
def test_a_mig_instance_has_its_own_memory_and_the_power_of_its_gpu(
    monkeypatch: pytest.MonkeyPatch, uuid: str | None, visible: str | None
) -> None:
    replay(monkeypatch, A100_MIG)
    if visible is not None:
        monkeypatch.setenv(VISIBLE_VARIABLE, visible)
    probe = GpuProbe(uuid)
    row = probe.sample()
    assert (row.name, row.percent) == ("NVIDIA A100-SXM4-40GB MIG 3g.20gb", None)
    assert (row.memory_used, row.memory_own, row.memory_total) == (
        14_366 * MIB,
        14_195 * MIB,
        19_968 * MIB,
    )
    assert (row.watts, row.watts_limit, row.celsius) == (186.412, 400.0, 47.0)
    assert (row.clock_mhz, row.clock_max_mhz, row.throttle, row.fault) == (1_410, 1_410, "", None)
    assert (gpu_count(), probe.driver_index) == (1, 0)
    assert read_others(probe.driver_index) == []  # neither its GPU nor its sibling


def test_cuda_takes_the_first_mig_instance_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    replay(monkeypatch, A100_MIG)
    assert GpuProbe().sample().memory_used == 9_826 * MIB
    assert free_training_memory("cuda") == (19_968 - 9_826) * MIB - DRIVER_BYTES
    assert gpu_uuids() == [A100.uuid]


def test_another_gpu_in_mig_mode_is_one_card_with_its_power_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    replay(monkeypatch, Recording((h100(), A100)))
    probe = GpuProbe(h100().uuid)
    (other,) = read_others(probe.driver_index)
    assert (other.index, other.name, other.percent) == (1, "NVIDIA A100-SXM4-40GB", None)
    assert (other.memory_used, other.watts) == (24_192 * MIB, 186.412)


def test_a_card_without_power_figures_has_everything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    replay(monkeypatch, GTX_1650)
    row = GpuProbe().sample()
    assert (row.watts, row.watts_limit, row.fault) == (None, None, None)
    assert (row.percent, row.celsius, row.clock_mhz) == (94.0, 71.0, 1_785.0)
    assert row.memory_own == 2_301 * MIB
    assert cards()[0].processes()[1] == (1_139, None)


def test_a_container_that_hides_processes_leaves_only_the_own_memory_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    replay(monkeypatch, H100).change(0, ComputeRunningProcesses=[])
    row = GpuProbe().sample()
    assert (row.memory_own, row.memory_used) == (None, 43_117 * MIB)
    assert cards()[0].processes() == []


@pytest.mark.parametrize(
    ("name", "unknown"),
    [
        ("MemoryInfo", ["memory_used", "memory_total"]),
        ("UtilizationRates", ["percent"]),
        ("PowerUsage", ["watts"]),
        ("EnforcedPowerLimit", ["watts_limit"]),
        ("TemperatureV", ["celsius"]),
        ("ClockInfo", ["clock_mhz"]),
        ("MaxClockInfo", ["clock_max_mhz"]),
        ("CurrentClocksEventReasons", ["throttle"]),
        ("ComputeRunningProcesses", ["memory_own"]),
    ],
)
def test_one_question_without_an_answer_leaves_the_others(
    monkeypatch: pytest.MonkeyPatch, name: str, unknown: list[str]
) -> None:
    older = ("PowerManagementLimit", "Temperature", "CurrentClocksThrottleReasons")
    fake = replay(monkeypatch, H100)
    fake.change(0, **dict.fromkeys(older, NOT_SUPPORTED))
    whole = GpuProbe().sample()
    assert None not in [getattr(whole, field) for field in unknown]
    fake.change(0, **{name: NOT_SUPPORTED})
    assert GpuProbe().sample() == whole._replace(**dict.fromkeys(unknown))


def test_a_figure_that_means_not_available_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = replay(monkeypatch, H100)
    fake.change(0, PowerUsage=0xFFFFFFFF, ClockInfo=0xFFFFFFFF, TemperatureV=0xFFFFFFFF)
    fake.change(0, Temperature=0xFFFFFFFF)
    row = GpuProbe().sample()
    assert (row.watts, row.clock_mhz, row.celsius) == (None, None, None)


@pytest.mark.parametrize("order", ["FASTEST_FIRST", "PCI_BUS_ID"])
def test_the_card_that_trains_is_found_by_its_uuid_in_any_order(
    monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    replay(monkeypatch, TWO_CARDS)
    monkeypatch.setenv("CUDA_DEVICE_ORDER", order)
    slow, fast = TWO_CARDS.cards
    probe = GpuProbe(fast.uuid.removeprefix("GPU-"), index=0 if order == "FASTEST_FIRST" else 1)
    assert (probe.sample().name, probe.driver_index) == ("NVIDIA GeForce RTX 4090", 1)
    monkeypatch.setenv(VISIBLE_VARIABLE, f"{fast.uuid},{slow.uuid}")
    assert [GpuProbe(index=index).driver_index for index in range(gpu_count())] == [1, 0]
    assert [card.index for card in read_others(probe.driver_index)] == [0]


TWO_PLAIN = Recording(
    (
        plain_card("card 0", "GPU-12ab-34", free=9 * GIB),
        plain_card("card 1", "GPU-12ff-56", free=10 * GIB),
    )
)


@pytest.mark.parametrize(
    ("visible", "places"),
    [
        (None, [0, 1]),
        ("1", [1]),
        ("1, 0", [1, 0]),
        ("", []),
        ("-1", []),
        ("1,7,0", [1]),  # CUDA takes those before the first that isn't there
        ("1,1", []),
        ("GPU-12ff", [1]),
        ("GPU-12", []),  # two begin so
        ("GPU-12ff-56,GPU-12ab-34", [1, 0]),
    ],
)
def test_cards_are_numbered_as_cuda_numbers_them(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, places: list[int]
) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    replay(monkeypatch, TWO_PLAIN)
    install_torch_build(monkeypatch)
    if visible is not None:
        monkeypatch.setenv(VISIBLE_VARIABLE, visible)
    assert gpu_count() == len(places)
    assert gpu_uuids() == [TWO_PLAIN.cards[place].uuid for place in places]
    assert [GpuProbe(index=index).driver_index for index in range(len(places))] == places
    assert GpuProbe(index=len(places)).sample() == GpuRow()
    assert planned_device("auto") == ("cuda" if places else "cpu")
    # whatever CUDA sees, all cards share power and cooling
    assert [card.index for card in read_others()] == [0, 1]
    assert [card.index for card in cards()] == [0, 1]


def test_free_training_memory_is_that_of_the_training_card(monkeypatch: pytest.MonkeyPatch) -> None:
    replay(monkeypatch, TWO_PLAIN)
    install_torch_build(monkeypatch)
    monkeypatch.setenv(VISIBLE_VARIABLE, "1")
    for device in ("cuda", "cuda:0", "auto"):
        assert free_training_memory(device) == 10 * GIB - DRIVER_BYTES
    assert free_training_memory("cuda:1") is None


def test_a_card_without_permission_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    replay(monkeypatch, TWO_PLAIN).lose(0, pynvml.NVML_ERROR_NO_PERMISSION)
    assert [card.index for card in read_others()] == [1]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (pynvml.NVML_ERROR_GPU_IS_LOST, CARD_LOST),
        (pynvml.NVML_ERROR_RESET_REQUIRED, "card needs a reset"),
        (pynvml.NVML_ERROR_UNKNOWN, NO_ANSWER),
    ],
)
def test_a_card_lost_in_mid_run_is_reported(
    monkeypatch: pytest.MonkeyPatch, code: int, words: str
) -> None:
    fake = replay(monkeypatch, H100_NODE)
    probe, others = GpuProbe(), other_cards(0)
    assert probe.sample().fault is None
    fake.lose(0, code)
    fake.lose(7, code)
    assert probe.sample() == GpuRow(0, "NVIDIA H100 80GB HBM3", fault=words)
    assert others[-1].sample() == GpuRow(7, "NVIDIA H100 80GB HBM3", fault=words)
    assert [card.sample().fault for card in others[:-1]] == [None] * 6
    # a reading that begins after the loss knows no name, but the card is not forgotten
    assert read_others(0)[-1] == GpuRow(7, "NVIDIA GPU", fault=words)
    for late in (GpuProbe(), GpuProbe(H100_NODE.cards[0].uuid)):
        assert (late.sample(), late.driver_index) == (GpuRow(0, "NVIDIA GPU", fault=words), 0)
    assert gpu_count() == 8


def test_an_xid_error_stays_and_those_of_programs_are_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake = replay(monkeypatch, H100)
    probe = GpuProbe()
    for harmless in (13, 31, 43, 45, 63):
        fake.report_xid(harmless)
    assert probe.sample().fault is None
    fake.report_xid(94)
    fake.report_xid(79)
    fake.report_xid(31)
    assert [probe.sample().fault for _ in range(2)] == ["Xid 79: off the bus"] * 2
    fake.report_xid(151)
    assert probe.sample().fault == "Xid 151"
    fake.lose(0)
    assert probe.sample().fault == CARD_LOST
    assert GpuProbe().driver_index == 0
    probe.close()
    assert fake.event_sets == 0


def test_an_xid_error_of_a_sibling_instance_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = replay(monkeypatch, A100_MIG)
    probe = GpuProbe(SECOND.uuid)
    fake.report_xid(94, FIRST.instance_id or 0)
    assert probe.sample().fault is None
    fake.report_xid(94, SECOND.instance_id or 0)
    assert probe.sample().fault == "Xid 94: memory error"
    fake.report_xid(79)
    assert probe.sample().fault == "Xid 79: off the bus"


def test_an_old_driver_answers_with_its_older_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    newer = frozenset({"nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetTemperatureV"})
    replay(monkeypatch, replace(H100, driver="525.147.05", cuda=12_000, missing=newer))
    row = GpuProbe().sample()
    assert (row.celsius, row.throttle) == (64.0, "power cap")
    assert (driver_version(), driver_cuda_version()) == ("525.147.05", (12, 0))


def test_every_card_is_described_with_its_instances_and_processes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    replay(monkeypatch, Recording((h100(), A100)))
    whole, split = cards()
    assert (whole.index, whole.uuid, whole.compute_capability) == (0, h100().uuid, (9, 0))
    assert (whole.instances, whole.processes()) == ((), [(os.getpid(), 42_490 * MIB)])
    assert [(part.index, part.uuid, part.compute_capability) for part in split.instances] == [
        (1, FIRST.uuid, (8, 0)),
        (1, SECOND.uuid, (8, 0)),
    ]
    assert split.instances[0].processes() == [(46_505, 9_807 * MIB)]


@pytest.mark.parametrize(
    ("recording", "problem"), [(NO_DRIVER, None), (UPDATED_DRIVER, "until a reboot")]
)
def test_without_a_working_driver_there_is_nothing_to_read(
    monkeypatch: pytest.MonkeyPatch, recording: Recording, problem: str | None
) -> None:
    replay(monkeypatch, recording)
    probe = GpuProbe()
    assert (probe.driver_index, probe.sample()) == (None, GpuRow())
    assert (cards(), gpu_count(), gpu_uuids()) == ([], 0, [])
    assert (driver_version(), driver_cuda_version()) == (None, None)
    found = driver_problem()
    assert found is None if problem is None else found is not None and problem in found
    probe.close()


def test_a_reading_of_eight_cards_asks_few_questions_and_leaves_nothing_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake = replay(monkeypatch, H100_NODE)
    probe = GpuProbe()
    others = other_cards(probe.driver_index)
    fake.calls.clear()
    assert len([probe.sample(), *(card.sample() for card in others)]) == 8
    assert len(fake.calls) <= 8 * 9 + 1
    probe.close()
    assert fake.event_sets == 0


def test_a_refused_event_set_only_hides_xid_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = replay(monkeypatch, replace(H100, missing=frozenset({"nvmlDeviceRegisterEvents"})))
    fake.report_xid(79)
    row = GpuProbe().sample()
    assert (row.fault, row.watts) == (None, 698.354)
