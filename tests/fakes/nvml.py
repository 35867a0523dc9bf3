"""NVML's answers on real machines, replayed without a GPU or driver.

`replay(monkeypatch, RECORDING)` puts a FakeNvml in the place of the `pynvml` that
`rnnlm_tui.system.gpu` uses. The recordings are written after public `nvidia-smi -q` outputs and
NVIDIA's documentation; each says which.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
    held = [(pid, size // MIB) for pid, size in processes]
    return _card(
        uuid, name, capability, memory=((total - free) // MIB, total // MIB), processes=held
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


def _card(
    uuid: str,
    name: str,
    capability: tuple[int, int] | None,
    *,
    memory: tuple[int, int],
    load: tuple[int, int] | None = None,
    power: tuple[int, int] | None = None,
    celsius: int | None = None,
    clocks: tuple[int, int] | None = None,
    reasons: int | None = None,
    processes: Sequence[tuple[int, int | None]] = (),
    **more: Any,
) -> RecordedCard:
    """A card's answers; None: it refuses.

    Args:
        memory: used and whole, MiB.
        load: of the processors and of the memory, percent.
        power: draw and limit, mW.
        clocks: now and at most, MHz.
        reasons: the bits of what slows it down.
        processes: process ids and the MiB that they hold.
    """
    used, total = (size * MIB for size in memory)
    figures: dict[str, object] = {
        "CudaComputeCapability": capability,
        "UtilizationRates": load and dict(zip(("gpu", "memory"), load, strict=True)),
        "PowerUsage": power and power[0],
        "EnforcedPowerLimit": power and power[1],
        "PowerManagementLimit": power and power[1],
        "TemperatureV": celsius,
        "Temperature": celsius,
        "ClockInfo": clocks and clocks[0],
        "MaxClockInfo": clocks and clocks[1],
        "CurrentClocksEventReasons": reasons,
        "CurrentClocksThrottleReasons": reasons,
    }
    answers = {
        "Name": name,
        "MemoryInfo": {"used": used, "total": total, "free": total - used},
        "ComputeRunningProcesses": [
            {"pid": pid, "usedGpuMemory": None if size is None else size * MIB}
            for pid, size in processes
        ],
        **{key: NOT_SUPPORTED if value is None else value for key, value in figures.items()},
    }
    return RecordedCard(uuid, answers, **more)


def h100(number: int = 0, **changes: Any) -> RecordedCard:
    """An H100 SXM5 80 GB that trains at its power limit.

    Names and sizes of `nvidia-smi -q` on DGX H100 (81,559 MiB, 700 W, 1,980 MHz); the clock under
    load and the power cap as users report them.
    """
    return _card(
        f"GPU-4e2c0c0{number}-7a3b-11ee-9d1c-0242ac12000{number}",
        "NVIDIA H100 80GB HBM3",
        (9, 0),
        mig=False,
        **{
            "memory": (43_117, 81_559),
            "load": (99, 61),
            "power": (698_354, 700_000),
            "celsius": 64,
            "clocks": (1_725, 1_980),
            "reasons": 0x4,
            "processes": [(THIS_PROCESS, 42_490)],
            **changes,
        },
    )


H100 = Recording((h100(),))
H100_NODE = Recording(
    (
        h100(),
        h100(1, processes=[(3_117, 42_490)]),
        h100(
            2,
            power=(511_800, 700_000),
            celsius=88,
            clocks=(1_305, 1_980),
            reasons=0x20 | 0x8 | 0x40,
            processes=[(3_117, 42_490)],
        ),
        *(
            h100(
                number,
                memory=(525, 81_559),
                load=(0, 0),
                power=(71_220, 700_000),
                celsius=31,
                clocks=(345, 1_980),
                reasons=0x1,  # idle
                processes=[],
            )
            for number in range(3, 8)
        ),
    )
)
"""Eight of them: one trains here, two compute for another process, one of these too hot."""


def _instance(uuid: str, number: int, used: int, process: tuple[int, int]) -> RecordedCard:
    """NVML's reference: load, power, temperature and clocks are not supported for MIG handles."""
    return _card(
        uuid,
        "NVIDIA A100-SXM4-40GB MIG 3g.20gb",
        None,
        memory=(used, 19_968),
        processes=[process],
        instance_id=number,
    )


A100_MIG = Recording(
    (
        _card(
            "GPU-5c89852c-d268-c3f3-1b07-005d5ae1dc3f",
            "NVIDIA A100-SXM4-40GB",
            (8, 0),
            memory=(24_192, 40_960),
            power=(186_412, 400_000),
            celsius=47,
            clocks=(1_410, 1_410),
            reasons=0x0,
            processes=[(THIS_PROCESS, 14_195), (46_505, 9_807)],
            instances=(
                _instance("MIG-50f1c4c9-1508-5e8d-bb06-d08145b22e01", 1, 9_826, (46_505, 9_807)),
                _instance(
                    "MIG-36c795f2-5cf7-55d6-af30-e535e79b7bb6", 2, 14_366, (THIS_PROCESS, 14_195)
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
        _card(
            "GPU-402283fa-193f-6581-3f85-96a5ac219d8c",
            "NVIDIA GeForce GTX 1650",
            (7, 5),
            memory=(2_712, 4_096),
            load=(94, 71),
            celsius=71,
            clocks=(1_785, 2_100),
            reasons=0x0,
            processes=[(THIS_PROCESS, 2_301), (1_139, None)],
        ),
    ),
    driver="535.183.01",
    cuda=12_020,
)
"""A consumer card without power figures, as laptops have it: `nvidia-smi -q` says N/A to draw and
limit (github.com/NVIDIA/nvidia-docker/issues/1330 and 1090)."""

TWO_CARDS = Recording(
    (
        _card(
            "GPU-11d3e6b2-95c1-2c8f-4a51-0c8a7a1f3060",
            "NVIDIA GeForce RTX 3060",
            (8, 6),
            memory=(484, 12_288),
            load=(3, 1),
            power=(17_310, 170_000),
            celsius=38,
            clocks=(210, 2_130),
            reasons=0x1,
        ),
        _card(
            "GPU-96a0e1d4-3b0e-7d7c-8a3e-5b1c2d3e4090",
            "NVIDIA GeForce RTX 4090",
            (8, 9),
            memory=(9_120, 24_564),
            load=(96, 48),
            power=(331_770, 450_000),
            celsius=62,
            clocks=(2_730, 3_105),
            reasons=0x0,
            processes=[(THIS_PROCESS, 8_611)],
        ),
    ),
)
"""The faster card is the second in the driver's order and the first in CUDA's, whose
CUDA_DEVICE_ORDER is FASTEST_FIRST unless set (CUDA programming guide, environment variables).
Sizes and limits of the two products."""

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
