"""NVML's answers on real machines, replayed without a GPU or driver.

`replay(monkeypatch, RECORDING)` puts a FakeNvml in the place of the `pynvml` that
`rnnlm_tui.system.gpu` uses. The recordings are written after public `nvidia-smi -q` outputs and
NVIDIA's documentation; each says which.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from rnnlm_tui.schema.metrics import GpuRow
from rnnlm_tui.system import gpu

MIB = 2**20
GIB = 2**30
THIS_PROCESS = -1
"""Stands for the pid of the process that asks."""


@dataclass(frozen=True, slots=True)
class Refused:
    """An answer that is an error."""

    code: int


NOT_SUPPORTED = Refused(pynvml.NVML_ERROR_NOT_SUPPORTED)
NO_FIGURES = dict.fromkeys(
    (
        "UtilizationRates",
        "PowerUsage",
        "EnforcedPowerLimit",
        "PowerManagementLimit",
        "TemperatureV",
        "Temperature",
        "ClockInfo",
        "MaxClockInfo",
        "CurrentClocksEventReasons",
        "CurrentClocksThrottleReasons",
    ),
    NOT_SUPPORTED,
)


@dataclass(frozen=True, slots=True)
class RecordedCard:
    """A GPU or a MIG instance."""

    uuid: str
    answers: Mapping[str, object]
    """By the function's name without `nvmlDeviceGet`; a dict stands for a C struct."""
    instances: tuple[RecordedCard, ...] = ()
    """MIG instances; NVML numbers them from 0, with gaps."""
    mig: bool | None = None
    """Whether MIG mode is on; None: the GPU doesn't know MIG."""
    instance_id: int | None = None
    """The GPU instance's id, of a MIG instance."""

    def with_answers(self, **changes: object) -> RecordedCard:
        """The same card with other answers."""
        return replace(self, answers={**self.answers, **changes})


@dataclass(frozen=True, slots=True)
class Recording:
    """A machine."""

    cards: tuple[RecordedCard, ...] = ()
    """In the order of their PCI addresses, which is the driver's."""
    driver: str = "550.54.15"
    cuda: int = 12_040
    init: int | None = None
    """The error of nvmlInit; None: it works."""
    missing: frozenset[str] = frozenset()
    """Functions that this driver is too old for."""


class Handle:
    """As opaque as the real ones: pointers that can't be compared."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, card: RecordedCard, board: RecordedCard) -> None:
        self.card, self.board = card, board

    def __eq__(self, other: object) -> bool:
        raise AssertionError("two handles of a card are not the same object")


class FakeNvml:
    """Stands in for the module `pynvml`: constants and exceptions are the real ones."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.calls: list[str] = []
        self.started = self._watched = False
        self.event_sets = 0
        self._changes: dict[str, dict[str, object]] = {}
        self._lost: dict[str, int] = {}
        self._events: list[SimpleNamespace] = []

    def change(self, card: int, **answers: object) -> None:
        """Let a card answer otherwise from now on."""
        self._changes.setdefault(self.recording.cards[card].uuid, {}).update(answers)

    def lose(self, card: int, code: int = pynvml.NVML_ERROR_GPU_IS_LOST) -> None:
        """Let a card fall off the bus: every question about it is refused from now on."""
        self._lost[self.recording.cards[card].uuid] = code

    def report_xid(self, xid: int, instance: int = 0xFFFFFFFF) -> None:
        """Report an error of the watched card, in a MIG instance or, by default, in none."""
        self._events.append(SimpleNamespace(eventData=xid, gpuInstanceId=instance))

    def __getattr__(self, name: str) -> Any:
        real = getattr(pynvml, name)
        if not name.startswith("nvml") or not callable(real):
            return real
        return lambda *arguments: self._answer(name, arguments)

    def _answer(self, name: str, arguments: tuple[Any, ...]) -> Any:
        self.calls.append(name)
        if name in self.recording.missing:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)
        special = self._special().get(name)
        if name != "nvmlInit" and not self.started:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_UNINITIALIZED)
        if special is not None:
            return special(*arguments)
        handle = arguments[0]
        assert isinstance(handle, Handle), f"{name} of no handle crashes the process"
        self._check(handle)
        answer = {**handle.card.answers, **self._changes.get(handle.card.uuid, {})}[
            name.removeprefix("nvmlDeviceGet")
        ]
        if isinstance(answer, Refused):
            raise pynvml.NVMLError(answer.code)
        return self._structures(answer)

    def _structures(self, answer: object) -> object:
        if isinstance(answer, dict):
            return SimpleNamespace(
                **{
                    name: os.getpid() if name == "pid" and value == THIS_PROCESS else value
                    for name, value in answer.items()
                }
            )
        return [self._structures(item) for item in answer] if isinstance(answer, list) else answer

    def _special(self) -> dict[str, Callable[..., Any]]:
        return {
            "nvmlInit": self._init,
            "nvmlSystemGetDriverVersion": lambda: self.recording.driver,
            "nvmlSystemGetCudaDriverVersion": lambda: self.recording.cuda,
            "nvmlDeviceGetCount": lambda: len(self.recording.cards),
            "nvmlDeviceGetHandleByIndex": self._by_index,
            "nvmlDeviceGetUUID": lambda handle: self._check(handle).card.uuid,
            "nvmlDeviceGetMigMode": self._mig_mode,
            "nvmlDeviceGetMaxMigDeviceCount": lambda handle: 7 if handle.board.mig else 0,
            "nvmlDeviceGetMigDeviceHandleByIndex": self._instance,
            "nvmlDeviceGetGpuInstanceId": lambda handle: handle.card.instance_id,
            "nvmlEventSetCreate": self._open_events,
            "nvmlDeviceRegisterEvents": self._register,
            "nvmlEventSetWait_v2": self._wait,
            "nvmlEventSetFree": self._free_events,
        }

    def _init(self) -> None:
        if self.recording.init is not None:
            raise pynvml.NVMLError(self.recording.init)
        self.started = True

    def _check(self, handle: Handle) -> Handle:
        code = self._lost.get(handle.board.uuid)
        if code is not None:
            raise pynvml.NVMLError(code)
        return handle

    def _by_index(self, index: int) -> Handle:
        card = self.recording.cards[index]
        return self._check(Handle(card, card))

    def _mig_mode(self, handle: Handle) -> list[int]:
        if self._check(handle).card.mig is None:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return [int(handle.card.mig or False)] * 2

    def _instance(self, handle: Handle, index: int) -> Handle:
        self._check(handle)
        if index >= len(handle.card.instances):
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return Handle(handle.card.instances[index], handle.board)

    def _open_events(self) -> object:
        self.event_sets += 1
        return object()

    def _register(self, handle: Handle, kinds: int, _events: object) -> None:
        assert kinds == pynvml.nvmlEventTypeXidCriticalError
        assert handle.card is handle.board, "MIG instances have no events of their own"
        self._check(handle)
        self._watched = True

    def _wait(self, _events: object, milliseconds: int) -> object:
        assert milliseconds == 0, "a reading must not wait"
        if self._events and self._watched:
            return self._events.pop(0)
        raise pynvml.NVMLError(pynvml.NVML_ERROR_TIMEOUT)

    def _free_events(self, _events: object) -> None:
        self.event_sets -= 1


def plain_card(
    name: str = "NVIDIA H100 PCIe",
    uuid: str = "GPU-1a2b3c4d-0000",
    *,
    capability: tuple[int, int] = (9, 0),
    total: int = 80 * GIB,
    free: int = 79 * GIB,
    processes: Sequence[tuple[int, int]] = (),
) -> RecordedCard:
    """A GPU that answers what it is, and who uses its memory.

    Args:
        processes: process ids and the bytes that they hold.
    """
    return RecordedCard(
        uuid,
        {
            **NO_FIGURES,
            "Name": name,
            "CudaComputeCapability": capability,
            "MemoryInfo": {"used": total - free, "free": free, "total": total},
            "ComputeRunningProcesses": [
                {"pid": pid, "usedGpuMemory": size} for pid, size in processes
            ],
        },
    )


def replay(monkeypatch: pytest.MonkeyPatch, recording: Recording) -> FakeNvml:
    """Let the readings come from a recording; CUDA_VISIBLE_DEVICES is unset."""
    fake = FakeNvml(recording)
    monkeypatch.setattr(gpu, "pynvml", fake)
    monkeypatch.delenv(gpu.VISIBLE_VARIABLE, raising=False)
    return fake


def read(
    recording: Recording,
    uuid: str | None = None,
    prepare: Callable[[FakeNvml], None] = lambda _: None,
) -> tuple[GpuRow, tuple[GpuRow, ...]]:
    """A reading of the card that trains and of the others.

    Args:
        uuid: the card that trains; None: the first.
        prepare: changes the recording once the card was found.
    """
    with pytest.MonkeyPatch.context() as patch:
        fake = replay(patch, recording)
        probe = gpu.GpuProbe(uuid)
        others = gpu.other_cards(probe.driver_index)
        prepare(fake)
        return probe.sample(), tuple(card.sample() for card in others)


def _memory(used: int, total: int) -> dict[str, int]:
    return {"used": used * MIB, "total": total * MIB, "free": (total - used) * MIB}


def _process(pid: int, size: int | None) -> dict[str, int | None]:
    return {"pid": pid, "usedGpuMemory": None if size is None else size * MIB}


def h100(number: int = 0, **changes: Any) -> RecordedCard:
    """An H100 SXM5 80 GB that trains at its power limit.

    Names and sizes of `nvidia-smi -q` on DGX H100 (81,559 MiB, 700 W, 1,980 MHz); the clock under
    load and the power cap as users report them.
    """
    return RecordedCard(
        f"GPU-4e2c0c0{number}-7a3b-11ee-9d1c-0242ac12000{number}",
        {
            "Name": "NVIDIA H100 80GB HBM3",
            "CudaComputeCapability": (9, 0),
            "MemoryInfo": _memory(43_117, 81_559),
            "UtilizationRates": {"gpu": 99, "memory": 61},
            "PowerUsage": 698_354,
            "EnforcedPowerLimit": 700_000,
            "TemperatureV": 64,
            "ClockInfo": 1_725,
            "MaxClockInfo": 1_980,
            "CurrentClocksEventReasons": 0x4,
            "ComputeRunningProcesses": [_process(THIS_PROCESS, 42_490)],
            **changes,
        },
        mig=False,
    )


H100 = Recording((h100(),))

_IDLE_H100: dict[str, object] = {
    "MemoryInfo": _memory(525, 81_559),
    "UtilizationRates": {"gpu": 0, "memory": 0},
    "PowerUsage": 71_220,
    "TemperatureV": 31,
    "ClockInfo": 345,
    "CurrentClocksEventReasons": 0x1,  # idle
    "ComputeRunningProcesses": [],
}

H100_NODE = Recording(
    (
        h100(),
        h100(1, ComputeRunningProcesses=[_process(3_117, 42_490)]),
        h100(
            2,
            PowerUsage=511_800,
            TemperatureV=88,
            ClockInfo=1_305,
            CurrentClocksEventReasons=0x20 | 0x8 | 0x40,
            ComputeRunningProcesses=[_process(3_117, 42_490)],
        ),
        *(h100(number, **_IDLE_H100) for number in range(3, 8)),
    )
)
"""Eight of them: one trains here, two compute for another process, one of these too hot."""

_INSTANCE: dict[str, object] = {
    # NVML's reference: load, power, temperature and clocks are not supported for MIG handles.
    **NO_FIGURES,
    "Name": "NVIDIA A100-SXM4-40GB MIG 3g.20gb",
}

A100_MIG = Recording(
    (
        RecordedCard(
            "GPU-5c89852c-d268-c3f3-1b07-005d5ae1dc3f",
            {
                "Name": "NVIDIA A100-SXM4-40GB",
                "CudaComputeCapability": (8, 0),
                "MemoryInfo": _memory(24_192, 40_960),
                "UtilizationRates": NOT_SUPPORTED,
                "PowerUsage": 186_412,
                "EnforcedPowerLimit": 400_000,
                "TemperatureV": 47,
                "ClockInfo": 1_410,
                "MaxClockInfo": 1_410,
                "CurrentClocksEventReasons": 0x0,
                "ComputeRunningProcesses": [
                    _process(THIS_PROCESS, 14_195),
                    _process(46_505, 9_807),
                ],
            },
            (
                RecordedCard(
                    "MIG-50f1c4c9-1508-5e8d-bb06-d08145b22e01",
                    {
                        **_INSTANCE,
                        "MemoryInfo": _memory(9_826, 19_968),
                        "ComputeRunningProcesses": [_process(46_505, 9_807)],
                    },
                    instance_id=1,
                ),
                RecordedCard(
                    "MIG-36c795f2-5cf7-55d6-af30-e535e79b7bb6",
                    {
                        **_INSTANCE,
                        "MemoryInfo": _memory(14_366, 19_968),
                        "ComputeRunningProcesses": [_process(THIS_PROCESS, 14_195)],
                    },
                    instance_id=2,
                ),
            ),
            mig=True,
        ),
    ),
    driver="535.104.05",
    cuda=12_020,
)
"""An A100 in two MIG instances of 3g.20gb, of which the second trains. After `nvidia-smi` in MIG
mode (load N/A, 19,968 MiB an instance: github.com/XuehaiPan/nvitop/pull/8) and `nvidia-smi -q`
(1,410 MHz, 400 W: github.com/NVIDIA/DCGM/issues/152)."""

GTX_1650 = Recording(
    (
        RecordedCard(
            "GPU-402283fa-193f-6581-3f85-96a5ac219d8c",
            {
                "Name": "NVIDIA GeForce GTX 1650",
                "CudaComputeCapability": (7, 5),
                "MemoryInfo": _memory(2_712, 4_096),
                "UtilizationRates": {"gpu": 94, "memory": 71},
                "PowerUsage": NOT_SUPPORTED,
                "EnforcedPowerLimit": NOT_SUPPORTED,
                "PowerManagementLimit": NOT_SUPPORTED,
                "TemperatureV": 71,
                "ClockInfo": 1_785,
                "MaxClockInfo": 2_100,
                "CurrentClocksEventReasons": 0x0,
                "ComputeRunningProcesses": [_process(THIS_PROCESS, 2_301), _process(1_139, None)],
            },
        ),
    ),
    driver="535.183.01",
    cuda=12_020,
)
"""A consumer card without power figures, as laptops have it: `nvidia-smi -q` says N/A to draw and
limit (github.com/NVIDIA/nvidia-docker/issues/1330 and 1090)."""

TWO_CARDS = Recording(
    (
        RecordedCard(
            "GPU-11d3e6b2-95c1-2c8f-4a51-0c8a7a1f3060",
            {
                "Name": "NVIDIA GeForce RTX 3060",
                "CudaComputeCapability": (8, 6),
                "MemoryInfo": _memory(484, 12_288),
                "UtilizationRates": {"gpu": 3, "memory": 1},
                "PowerUsage": 17_310,
                "EnforcedPowerLimit": 170_000,
                "TemperatureV": 38,
                "ClockInfo": 210,
                "MaxClockInfo": 2_130,
                "CurrentClocksEventReasons": 0x1,
                "ComputeRunningProcesses": [],
            },
        ),
        RecordedCard(
            "GPU-96a0e1d4-3b0e-7d7c-8a3e-5b1c2d3e4090",
            {
                "Name": "NVIDIA GeForce RTX 4090",
                "CudaComputeCapability": (8, 9),
                "MemoryInfo": _memory(9_120, 24_564),
                "UtilizationRates": {"gpu": 96, "memory": 48},
                "PowerUsage": 331_770,
                "EnforcedPowerLimit": 450_000,
                "TemperatureV": 62,
                "ClockInfo": 2_730,
                "MaxClockInfo": 3_105,
                "CurrentClocksEventReasons": 0x0,
                "ComputeRunningProcesses": [_process(THIS_PROCESS, 8_611)],
            },
        ),
    ),
)
"""The faster card is the second in the driver's order and the first in CUDA's, whose
CUDA_DEVICE_ORDER is FASTEST_FIRST unless set (CUDA programming guide, environment variables).
Sizes and limits of the two products."""

OLD_DRIVER = Recording(
    (
        RecordedCard(
            "GPU-fe01ee0e-c5ac-8dc0-a5ac-1b86f48a7a93",
            {
                "Name": "Tesla T4",
                "CudaComputeCapability": (7, 5),
                "MemoryInfo": _memory(3_011, 15_109),
                "UtilizationRates": {"gpu": 88, "memory": 40},
                "PowerUsage": 69_940,
                "EnforcedPowerLimit": 70_000,
                "Temperature": 78,
                "ClockInfo": 1_005,
                "MaxClockInfo": 1_590,
                "CurrentClocksThrottleReasons": 0x4 | 0x8,
                "ComputeRunningProcesses": [_process(THIS_PROCESS, 2_900)],
            },
        ),
    ),
    driver="525.147.05",
    cuda=12_000,
    missing=frozenset({"nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetTemperatureV"}),
)
"""A T4 (70 W, 1,590 MHz) with the oldest driver that can run CUDA 12, which lacks newer functions
(change log in nvml.h)."""

NO_DRIVER = Recording(init=pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)
"""A machine without libnvidia-ml.so.1: no NVIDIA GPU, or a ROCm machine."""

UPDATED_DRIVER = Recording(init=pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH)
"""`Failed to initialize NVML: Driver/library version mismatch`, after an update without a
reboot."""

MACHINES: dict[str, tuple[Recording, str | None, Callable[[FakeNvml], None]]] = {
    "h100": (H100, None, lambda _: None),
    "h100-node": (H100_NODE, None, lambda _: None),
    "mig": (A100_MIG, A100_MIG.cards[0].instances[1].uuid, lambda _: None),
    "gtx1650": (GTX_1650, None, lambda _: None),
    "two-gpus": (TWO_CARDS, TWO_CARDS.cards[1].uuid, lambda _: None),
    "gpu-lost": (H100_NODE, None, lambda fake: fake.lose(0)),
}
"""By name: the recording, the card that trains, and what happens to it."""


def read_machine(name: str) -> tuple[GpuRow, tuple[GpuRow, ...]]:
    """A reading of one of MACHINES: the card that trains, and the others."""
    return read(*MACHINES[name])
