"""Read NVIDIA GPUs through NVML; without a GPU or driver there are none.

A `Card` says what a GPU is, and reads load, memory, power, temperature, clock, and what slows it
down or is wrong with it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import pynvml

from rnnlm_tui.schema.metrics import CARD_LOST, GpuRow

VISIBLE_VARIABLE = "CUDA_VISIBLE_DEVICES"
"""Environment variable: GPUs that CUDA may use, by index or UUID, in its order; unset: all, empty:
none."""

NO_ANSWER = "card doesn't answer"
UNNAMED = "NVIDIA GPU"

_FAULTS = {
    pynvml.NVML_ERROR_GPU_IS_LOST: CARD_LOST,
    pynvml.NVML_ERROR_RESET_REQUIRED: "card needs a reset",
}
_DRIVER_PROBLEMS = {
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "the NVIDIA driver isn't loaded",
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: (
        "the NVIDIA driver was updated: its library and its kernel module differ until a reboot"
    ),
    pynvml.NVML_ERROR_NO_PERMISSION: "no permission to use the NVIDIA driver",
    pynvml.NVML_ERROR_IRQ_ISSUE: "the NVIDIA driver has a problem with the GPU's interrupts",
}
_UNREADABLE = (
    pynvml.NVMLError,
    pynvml.NVMLLibraryMismatchError,  # the driver is older than a function
    AttributeError,  # the Python library is older than a function
    TypeError,
    ValueError,  # UnicodeDecodeError: a name that is not UTF-8
)
"""What a question can raise when this GPU, driver or library has no answer."""

# nvml.h, "Clocks event reasons". That a GPU is idle (0x1) or runs at clocks someone has chosen
# (0x2, 0x100) is not throttling. 0x8 also comes with 0x40 and 0x80, which say more.
_THROTTLES = (
    (0x4, "power cap"),
    (0x20, "thermal slowdown"),
    (0x40, "hardware thermal slowdown"),
    (0x80, "hardware power brake"),
    (0x10, "sync boost"),
)
_HARDWARE_SLOWDOWN, _ITS_CAUSES = 0x8, 0x40 | 0x80

# Xids of a program's own errors, or only for the record (NVIDIA's Xid catalog): a page fault of
# another program must not look like a broken card. NVIDIA's device plugin skips them too.
_HARMLESS_XIDS = frozenset({13, 31, 43, 45, 63, 68, 92, 109})
_XIDS = {
    48: "memory error",
    64: "memory error",
    74: "NVLink error",
    79: "off the bus",
    94: "memory error",
    95: "memory error",
    119: "GSP timeout",
    120: "GSP error",
}
_MOST_EVENTS = 64
_NOT_AVAILABLE = 0xFFFFFFFF
"""NVML_VALUE_NOT_AVAILABLE as unsigned int."""


@dataclass(eq=False, slots=True)
class Card:
    """A GPU of the machine, or a MIG instance of one, with what never changes."""

    index: int
    """The driver's index of the GPU (PCI order, as nvidia-smi shows it)."""
    handle: Any = None
    """NVML's handle of what computes: memory and processes are its own. None: no answer."""
    board: Any = None
    """The GPU as a whole: power, temperature and clock are its own. The same without MIG."""
    fault: str | None = None
    """Why it doesn't answer."""
    uuid: str | None = None
    """`GPU-…`, of an instance `MIG-…`; None: not reported."""
    name: str = UNNAMED
    compute_capability: tuple[int, int] | None = None
    """As torch.cuda.get_device_capability: (9, 0) for an H100; None: not reported."""
    instances: tuple[Card, ...] = ()
    """Its MIG instances; CUDA then computes on them only."""

    @classmethod
    def of(cls, index: int, handle: Any, board: Any = None) -> Card:
        """The card of a handle.

        Args:
            board: the GPU that the MIG instance is part of; None: the handle is a GPU's.
        """
        instances = _instances(handle) if board is None else []
        board = handle if board is None else board
        capability = _ask("nvmlDeviceGetCudaComputeCapability", board)
        return cls(
            index,
            handle,
            board,
            uuid=_ask("nvmlDeviceGetUUID", handle),
            name=_ask("nvmlDeviceGetName", handle) or _ask("nvmlDeviceGetName", board) or UNNAMED,
            compute_capability=capability and tuple(capability),
            instances=tuple(cls.of(index, instance, board) for instance in instances),
        )

    def processes(self, faults: list[str] | None = None) -> list[tuple[int, int | None]]:
        """The ids of the processes that compute on it, and their bytes if the driver reports them;
        empty if there are none or, in many containers, if they can't be seen."""
        found = _ask("nvmlDeviceGetComputeRunningProcesses", self.handle, faults=faults)
        return [(process.pid, process.usedGpuMemory) for process in found or []]

    def sample(self) -> GpuRow:
        """Read it once; values that the driver doesn't report are None.

        Load isn't reported for MIG instances.
        """
        if self.handle is None:
            return GpuRow(self.index, self.name, fault=self.fault)
        handle, board, faults = self.handle, self.board, list[str]()
        figure = partial(_figure, faults=faults)
        memory = _ask("nvmlDeviceGetMemoryInfo", handle, faults=faults, always=True)
        load = _ask("nvmlDeviceGetUtilizationRates", handle, faults=faults)
        milliwatts = figure("nvmlDeviceGetPowerUsage", board)
        limit = figure("nvmlDeviceGetEnforcedPowerLimit nvmlDeviceGetPowerManagementLimit", board)
        heat = "nvmlDeviceGetTemperatureV nvmlDeviceGetTemperature"
        processes = self.processes(faults)
        own = [size for pid, size in processes if pid == os.getpid() and size is not None]
        return GpuRow(
            index=self.index,
            name=self.name,
            percent=None if load is None else float(load.gpu),
            memory_used=None if memory is None else int(memory.used),
            memory_own=sum(own) if own else None,
            memory_total=None if memory is None else int(memory.total),
            watts=None if milliwatts is None else milliwatts / 1000,
            celsius=figure(heat, board, pynvml.NVML_TEMPERATURE_GPU),
            watts_limit=limit / 1000 if limit else None,
            clock_mhz=figure("nvmlDeviceGetClockInfo", board, pynvml.NVML_CLOCK_SM),
            clock_max_mhz=figure("nvmlDeviceGetMaxClockInfo", board, pynvml.NVML_CLOCK_SM),
            throttle=_throttle(board, faults),
            fault=next(iter(faults), None),
        )


def driver_version() -> str | None:
    """The NVIDIA driver's version, such as `550.54.15`; None without a working driver."""
    return _ask("nvmlSystemGetDriverVersion") if _started() else None


def driver_cuda_version() -> tuple[int, int] | None:
    """The newest CUDA version that the driver can run, such as (12, 4); None if unknown."""
    found = _ask("nvmlSystemGetCudaDriverVersion") if _started() else None
    return (found // 1000, found % 1000 // 10) if found else None


def driver_problem() -> str | None:
    """Why an installed NVIDIA driver can't be used; None if it can, or if there is none."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        if error.value in (
            pynvml.NVML_ERROR_LIBRARY_NOT_FOUND,
            pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
        ):
            return None
        return _DRIVER_PROBLEMS.get(error.value) or f"the NVIDIA driver answers: {error}"
    return None


def cards() -> list[Card]:
    """Every NVIDIA GPU of the machine in the driver's order, whatever CUDA_VISIBLE_DEVICES says;
    empty without a driver."""
    found = []
    for index in range((_ask("nvmlDeviceGetCount") or 0) if _started() else 0):
        faults: list[str] = []
        handle = _ask("nvmlDeviceGetHandleByIndex", index, faults=faults, always=True)
        lost = Card(index, fault=next(iter(faults), None))
        found.append(lost if handle is None else Card.of(index, handle))
    return found


def with_instances(boards: list[Card]) -> list[Card]:
    """GPUs, each followed by its MIG instances."""
    return [card for board in boards for card in (board, *board.instances)]


def visible_cards() -> list[Card]:
    """The GPUs and MIG instances in CUDA's numbering.

    Like CUDA: a UUID may be shortened if it stays unique, an unknown name ends the list, and a
    duplicate leaves no GPU. Different GPUs are in the driver's order, which CUDA_DEVICE_ORDER may
    change: what trains is found by its UUID.
    """
    boards, wanted = cards(), os.environ.get(VISIBLE_VARIABLE)
    if wanted is None:
        return boards
    found: list[Card] = []
    for name in map(str.strip, wanted.split(",")):
        if name.startswith(("GPU-", "MIG-")):
            alike = [card for card in with_instances(boards) if (card.uuid or "").startswith(name)]
        else:
            alike = boards[int(name) :][:1] if name.isdecimal() else []
        if len(alike) != 1:
            break
        found += alike
    return found if len(set(found)) == len(found) else []


def gpu_count() -> int:
    """Number of NVIDIA GPUs that CUDA can use, by CUDA_VISIBLE_DEVICES; 0 without a driver."""
    return len(visible_cards())


def gpu_uuids() -> list[str]:
    """The UUIDs of these GPUs in CUDA's numbering, as CUDA_VISIBLE_DEVICES accepts them; empty
    texts for those that don't answer."""
    return [card.uuid or "" for card in visible_cards()]


def find_card(uuid: str | None = None, *, index: int = 0) -> Card | None:
    """A GPU by torch's UUID (with or without `GPU-` or `MIG-`) or index: 1 for `cuda:1`; None if
    there is none.

    A GPU that doesn't answer may be the one of the UUID. For a GPU in MIG mode, the instance on
    which CUDA computes: the first one that CUDA_VISIBLE_DEVICES names, or else the first one.
    """
    visible = visible_cards()
    if uuid is None:
        card = next(iter(visible[index:]), None)
    else:
        every = with_instances(cards())
        alike = [card for card in every if (card.uuid or "").endswith(uuid)]
        card = next(iter(alike or [card for card in every if card.fault]), None)
    if card is None or not card.instances:
        return card
    uuids = [instance.uuid for instance in card.instances]
    return next((one for one in visible if one.uuid in uuids), card.instances[0])


def read_gpu(uuid: str | None = None, *, index: int = 0) -> GpuRow:
    """Read a GPU once, found as by `find_card`; without one, all values are None."""
    card = find_card(uuid, index=index)
    return GpuRow() if card is None else card.sample()


def other_cards(place: int | None = None) -> list[Card]:
    """All GPUs of the machine except one, whatever CUDA_VISIBLE_DEVICES says: all share power and
    cooling. Those that this process may not use are left out.

    Args:
        place: the driver's index of the GPU to leave out; None: none.
    """
    return [
        card
        for card in cards()
        if card.index != place and (card.handle is not None or card.fault is not None)
    ]


class GpuProbe:
    """Reads one GPU, found as by `find_card`, and collects its Xid errors; there are none where the
    driver doesn't report them (not on Linux, or not allowed)."""

    def __init__(self, uuid: str | None = None, *, index: int = 0) -> None:
        self._card = find_card(uuid, index=index)
        self._instance: int | None = None
        self._fault: str | None = None
        self._events: Any = None
        if self._card is None or self._card.handle is None:
            return
        if self._card.handle is not self._card.board:
            self._instance = _ask("nvmlDeviceGetGpuInstanceId", self._card.handle)
        with suppress(*_UNREADABLE):
            self._events = pynvml.nvmlEventSetCreate()
            pynvml.nvmlDeviceRegisterEvents(
                self._card.board, pynvml.nvmlEventTypeXidCriticalError, self._events
            )

    @property
    def driver_index(self) -> int | None:
        """The driver's index of the GPU, or of the one that a MIG instance is part of; None if
        there is none."""
        return None if self._card is None else self._card.index

    def sample(self) -> GpuRow:
        """Read the GPU once; values that the driver doesn't report are None."""
        if self._card is None:
            return GpuRow()
        row = self._card.sample()
        # An Xid stays: the card may read as usual although what it computes is wrong.
        self._fault = self._newest_error() or self._fault
        return row._replace(fault=row.fault or self._fault)

    def _newest_error(self) -> str | None:
        """The newest error since the previous call as words, without waiting."""
        newest = None
        for _ in range(_MOST_EVENTS if self._events is not None else 0):
            try:
                event = pynvml.nvmlEventSetWait_v2(self._events, 0)
            except pynvml.NVMLError as error:  # a timeout: there are no more
                return _FAULTS.get(error.value, newest)
            except _UNREADABLE:
                break
            xid, instance = int(event.eventData), int(event.gpuInstanceId)
            elsewhere = self._instance not in (None, instance) and instance != _NOT_AVAILABLE
            if xid not in _HARMLESS_XIDS and not elsewhere:
                words = _XIDS.get(xid)
                newest = f"Xid {xid}: {words}" if words else f"Xid {xid}"
        return newest

    def close(self) -> None:
        """Stop collecting errors."""
        if self._events is not None:
            _ask("nvmlEventSetFree", self._events)
            self._events = None


def _throttle(board: Any, faults: list[str]) -> str | None:
    """What keeps the clock down, in words; empty: nothing."""
    either = "nvmlDeviceGetCurrentClocksEventReasons nvmlDeviceGetCurrentClocksThrottleReasons"
    reasons = _ask(either, board, faults=faults)
    if reasons is None:
        return None
    words = [word for bit, word in _THROTTLES if reasons & bit]
    if reasons & _HARDWARE_SLOWDOWN and not reasons & _ITS_CAUSES:
        words.append("hardware slowdown")
    return ", ".join(words)


def _instances(board: Any) -> list[Any]:
    """The handles of a GPU's MIG instances; none outside MIG mode."""
    mode = _ask("nvmlDeviceGetMigMode", board)
    if not mode or mode[0] != pynvml.NVML_DEVICE_MIG_ENABLE:
        return []
    places = range(_ask("nvmlDeviceGetMaxMigDeviceCount", board) or 0)
    found = (_ask("nvmlDeviceGetMigDeviceHandleByIndex", board, place) for place in places)
    return [instance for instance in found if instance is not None]


def _started() -> bool:
    """Whether there is a driver, which is then awake until this process ends."""
    try:
        pynvml.nvmlInit()
    except _UNREADABLE:
        return False
    return True


def _ask(functions: str, *given: Any, faults: list[str] | None = None, always: bool = False) -> Any:
    """NVML's answer to a question; None if there is none. A fault of the card is added to `faults`.

    Args:
        functions: names of functions that answer it, the newest first, which older drivers lack.
        always: a card that works answers this; some drivers say "unknown error" of a lost card.
    """
    for name in functions.split():
        try:
            return getattr(pynvml, name)(*given)
        except _UNREADABLE as error:
            code = getattr(error, "value", None)
            fault = _FAULTS.get(code)
            if always and code == pynvml.NVML_ERROR_UNKNOWN:
                fault = NO_ANSWER
            if fault is not None and faults is not None and fault not in faults:
                faults.append(fault)
    return None


def _figure(functions: str, *given: Any, faults: list[str] | None = None) -> float | None:
    """A number; None if there is no answer, or the one that means "not available"."""
    found = _ask(functions, *given, faults=faults)
    return None if found is None or found >= _NOT_AVAILABLE else float(found)
