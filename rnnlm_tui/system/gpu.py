"""Read NVIDIA GPUs through NVML; without a GPU or driver there are none.

`cards()` and `driver_version()` describe the machine once; `GpuProbe` and `OtherCards` read load,
memory, power, temperature, clock, and what slows a card down or is wrong with it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
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


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """A process that computes on a GPU."""

    pid: int
    memory: int | None
    """Bytes; None if the driver doesn't report it."""


@dataclass(frozen=True, slots=True)
class GpuDevice:
    """A GPU of the machine, or a MIG instance of one. Sizes in bytes; None: not reported."""

    index: int
    """The driver's index (PCI order, as nvidia-smi shows it); of an instance: within its GPU."""
    uuid: str | None = None
    """`GPU-…`, of an instance `MIG-…`."""
    name: str = UNNAMED
    compute_capability: tuple[int, int] | None = None
    """As torch.cuda.get_device_capability: (9, 0) for an H100."""
    memory_total: int | None = None
    processes: tuple[GpuProcess, ...] = ()
    """Empty if there are none or, in many containers, if they can't be seen."""
    instances: tuple[GpuDevice, ...] = ()
    """Its MIG instances; CUDA then computes on them only."""
    fault: str | None = None
    """As `GpuRow.fault`."""


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


def cards() -> list[GpuDevice]:
    """Every NVIDIA GPU of the machine in the driver's order, whatever CUDA_VISIBLE_DEVICES says;
    empty without a driver."""
    found = []
    for index, board, faults in _boards():
        if board is None:
            found.append(GpuDevice(index, fault=next(iter(faults), None)))
            continue
        device = _describe(board, board, index, faults)
        instances = tuple(
            _describe(instance, board, place, []) for place, instance in _instances(board)
        )
        found.append(replace(device, instances=instances))
    return found


def gpu_count() -> int:
    """Number of NVIDIA GPUs that CUDA can use, by CUDA_VISIBLE_DEVICES; 0 without a driver."""
    return len(_visible()) if _started() else 0


def gpu_uuids() -> list[str]:
    """The UUIDs of these GPUs in CUDA's numbering, as CUDA_VISIBLE_DEVICES accepts them."""
    if not _started():
        return []
    try:
        return [
            card
            if isinstance(card, str)
            else str(pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByIndex(card)))
            for card in _visible()
        ]
    except pynvml.NVMLError:
        return []


@dataclass(frozen=True, slots=True)
class _Card:
    """A GPU or MIG instance to read, with what never changes."""

    handle: Any
    """NVML's handle of what computes: memory and processes are its own."""
    board: Any
    """The GPU as a whole: power, temperature and clock are its own. The same without MIG."""
    index: int | None
    """The driver's index of the GPU."""
    name: str | None


class GpuProbe:
    """Reads one GPU, by torch's UUID (with or without `GPU-` or `MIG-`) or index: 1 for `cuda:1`.

    In MIG mode, the instance on which CUDA computes is read: load isn't reported for it; power,
    temperature and clock are those of the whole GPU.
    """

    def __init__(self, uuid: str | None = None, *, index: int = 0) -> None:
        self._card: _Card | None = None
        self._errors: _ErrorWatch | None = None
        self._fault: str | None = None
        self._lost_index: int | None = None
        if not _started():
            return
        faults: list[str] = []
        handle = _handle_at(index, faults) if uuid is None else _handle_of(uuid, faults)
        if handle is None and faults:
            self._fault = faults[0]
            self._lost_index = _index_at(index) if uuid is None else None
        elif handle is not None:
            self._card = _computing_card(handle)
            self._errors = _ErrorWatch(self._card)

    @property
    def driver_index(self) -> int | None:
        """The driver's index of the GPU, or of the one that a MIG instance is part of; None if
        there is none."""
        return self._lost_index if self._card is None else self._card.index

    def sample(self) -> GpuRow:
        """Read the GPU once; values that the driver doesn't report are None."""
        if self._card is None:
            return GpuRow(fault=self._fault)
        row = _read(self._card)
        found = self._errors.poll() if self._errors is not None else None
        # An Xid stays: the card may read as usual although what it computes is wrong.
        self._fault = found or self._fault
        return replace(row, index=None, fault=row.fault or self._fault)

    def close(self) -> None:
        """Release NVML; later readings are empty."""
        if self._errors is not None:
            self._errors.close()
        if self._card is not None:
            self._card = self._errors = self._fault = None
            _ask("nvmlShutdown")


def read_gpu(uuid: str | None = None, *, index: int = 0) -> GpuRow:
    """Read a GPU once; as `GpuProbe`."""
    probe = GpuProbe(uuid, index=index)
    row = probe.sample()
    probe.close()
    return row


class OtherCards:
    """Reads all GPUs of the machine except one. Ignores CUDA_VISIBLE_DEVICES: all share power and
    cooling. A GPU in MIG mode is one card; the instances are not listed.

    Args:
        place: the driver's index of the GPU to leave out; None: none.
    """

    def __init__(self, place: int | None = None) -> None:
        self._cards: dict[int, _Card | str] = {}
        """By the driver's index; a text is the fault of a card that can't be reached."""
        for index, board, faults in _boards():
            if index != place and board is not None:
                self._cards[index] = _Card(board, board, index, _ask("nvmlDeviceGetName", board))
            elif index != place and faults:
                self._cards[index] = faults[0]

    def sample(self) -> tuple[GpuRow, ...]:
        """Read each GPU once; values that the driver doesn't report are None."""
        return tuple(
            GpuRow(index, fault=card) if isinstance(card, str) else _read(card)
            for index, card in self._cards.items()
        )


class _ErrorWatch:
    """Collects a GPU's Xid errors; none where the driver doesn't report them (not on Linux, or not
    allowed)."""

    def __init__(self, card: _Card) -> None:
        self._events: Any = None
        self._instance = (
            None if card.handle is card.board else _ask("nvmlDeviceGetGpuInstanceId", card.handle)
        )
        with suppress(*_UNREADABLE):
            events = pynvml.nvmlEventSetCreate()
            try:
                pynvml.nvmlDeviceRegisterEvents(
                    card.board, pynvml.nvmlEventTypeXidCriticalError, events
                )
                self._events = events
            finally:
                if self._events is None:
                    pynvml.nvmlEventSetFree(events)

    def poll(self) -> str | None:
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
        """Stop collecting."""
        if self._events is not None:
            with suppress(*_UNREADABLE):
                pynvml.nvmlEventSetFree(self._events)
            self._events = None


# one reading


def _read(card: _Card) -> GpuRow:
    handle, board, faults = card.handle, card.board, list[str]()
    figure = partial(_figure, faults=faults)
    memory = _ask("nvmlDeviceGetMemoryInfo", handle, faults=faults, always=True)
    load = _ask("nvmlDeviceGetUtilizationRates", handle, faults=faults)
    milliwatts = figure("nvmlDeviceGetPowerUsage", board)
    limit = figure("nvmlDeviceGetEnforcedPowerLimit nvmlDeviceGetPowerManagementLimit", board)
    heat = "nvmlDeviceGetTemperatureV nvmlDeviceGetTemperature"
    own = [process.memory for process in _processes(handle, faults) if process.pid == os.getpid()]
    known = [size for size in own if size is not None]
    return GpuRow(
        index=card.index,
        name=card.name,
        percent=None if load is None else float(load.gpu),
        memory_used=None if memory is None else int(memory.used),
        memory_own=sum(known) if known else None,
        memory_total=None if memory is None else int(memory.total),
        watts=None if milliwatts is None else milliwatts / 1000,
        celsius=figure(heat, board, pynvml.NVML_TEMPERATURE_GPU),
        watts_limit=limit / 1000 if limit else None,
        clock_mhz=figure("nvmlDeviceGetClockInfo", board, pynvml.NVML_CLOCK_SM),
        clock_max_mhz=figure("nvmlDeviceGetMaxClockInfo", board, pynvml.NVML_CLOCK_SM),
        throttle=_throttle(board, faults),
        fault=next(iter(faults), None),
    )


def _describe(handle: Any, board: Any, index: int, faults: list[str]) -> GpuDevice:
    memory = _ask("nvmlDeviceGetMemoryInfo", handle, faults=faults, always=True)
    capability = _ask("nvmlDeviceGetCudaComputeCapability", board, faults=faults)
    return GpuDevice(
        index=index,
        uuid=_ask("nvmlDeviceGetUUID", handle, faults=faults),
        name=_ask("nvmlDeviceGetName", handle, faults=faults) or UNNAMED,
        compute_capability=None if capability is None else (int(capability[0]), int(capability[1])),
        memory_total=None if memory is None else int(memory.total),
        processes=tuple(_processes(handle, faults)),
        fault=next(iter(faults), None),
    )


def _processes(handle: Any, faults: list[str]) -> Iterator[GpuProcess]:
    """The processes that compute on a GPU or MIG instance."""
    for process in _ask("nvmlDeviceGetComputeRunningProcesses", handle, faults=faults) or []:
        size = process.usedGpuMemory
        yield GpuProcess(int(process.pid), None if size is None else int(size))


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


# which cards there are


def _started() -> bool:
    """Whether there is a driver, which is then awake."""
    try:
        pynvml.nvmlInit()
    except _UNREADABLE:
        return False
    return True


def _count() -> int:
    return int(_ask("nvmlDeviceGetCount") or 0)


def _boards() -> Iterator[tuple[int, Any, list[str]]]:
    """Index, handle (None: no answer) and faults of each GPU; none without a driver."""
    for index in range(_count() if _started() else 0):
        faults: list[str] = []
        handle = _ask("nvmlDeviceGetHandleByIndex", index, faults=faults, always=True)
        yield index, handle, faults


def _handle_at(index: int, faults: list[str]) -> Any:
    """The handle of a GPU by its place in CUDA's numbering."""
    card = next(iter(_visible()[index:]), None)
    if isinstance(card, str):
        return _handle_of(card, faults)
    if card is None:
        return None
    return _ask("nvmlDeviceGetHandleByIndex", card, faults=faults, always=True)


def _index_at(index: int) -> int | None:
    """The driver's index of a GPU by its place in CUDA's numbering; None for a MIG instance."""
    card = next(iter(_visible()[index:]), None)
    return card if isinstance(card, int) else None


def _handle_of(uuid: str, faults: list[str]) -> Any:
    """The handle of a GPU or MIG instance by its UUID, which torch gives without a prefix."""
    names = [uuid] if uuid.startswith(("GPU-", "MIG-")) else [f"GPU-{uuid}", f"MIG-{uuid}"]
    found = (_ask("nvmlDeviceGetHandleByUUID", name, faults=faults, always=True) for name in names)
    return next((handle for handle in found if handle is not None), None)


def _computing_card(handle: Any) -> _Card:
    """The card of a handle; for a GPU in MIG mode, the instance that CUDA takes.

    It takes the first one that CUDA_VISIBLE_DEVICES names, or else the first one.
    """
    board = _ask("nvmlDeviceGetDeviceHandleFromMigDeviceHandle", handle)
    if board is None or not _ask("nvmlDeviceIsMigDeviceHandle", handle):
        board = handle
        instances = [instance for _, instance in _instances(board)]
        if instances:
            named = [name for name in _visible() if isinstance(name, str)]
            uuids = [_ask("nvmlDeviceGetUUID", at) for at in instances]
            chosen = next((uuids.index(name) for name in named if name in uuids), 0)
            handle = instances[chosen]
    name = _ask("nvmlDeviceGetName", handle) or _ask("nvmlDeviceGetName", board)
    return _Card(handle, board, _ask("nvmlDeviceGetIndex", board), name)


def _instances(board: Any) -> list[tuple[int, Any]]:
    """The MIG instances of a GPU with their numbers; none outside MIG mode."""
    mode = _ask("nvmlDeviceGetMigMode", board)
    if not mode or mode[0] != pynvml.NVML_DEVICE_MIG_ENABLE:
        return []
    found = (
        (place, _ask("nvmlDeviceGetMigDeviceHandleByIndex", board, place))
        for place in range(_ask("nvmlDeviceGetMaxMigDeviceCount", board) or 0)
    )
    return [(place, instance) for place, instance in found if instance is not None]


def _visible() -> list[int | str]:
    """The driver's indexes (UUIDs for MIG instances) of the GPUs in CUDA's numbering.

    Like CUDA: a UUID may be shortened if it stays unique, an unknown name ends the list, and a
    duplicate leaves no GPU. Different GPUs are in the driver's order, which CUDA_DEVICE_ORDER may
    change: what trains is found by its UUID.
    """
    count = _count()
    wanted = os.environ.get(VISIBLE_VARIABLE)
    if wanted is None:
        return list(range(count))
    cards: list[int | str] = []
    for name in wanted.split(","):
        card = _named(name.strip(), count)
        if card is None:
            break
        cards.append(card)
    return cards if len(set(cards)) == len(cards) else []


def _named(name: str, count: int) -> int | str | None:
    """Resolve one entry of the variable among `count` GPUs."""
    if name.startswith("MIG-"):
        return name
    if name.startswith("GPU-"):
        uuids = [
            "" if board is None else _ask("nvmlDeviceGetUUID", board) for _, board, _ in _boards()
        ]
        alike = [place for place, uuid in enumerate(uuids) if uuid and uuid.startswith(name)]
        return alike[0] if len(alike) == 1 else None
    return int(name) if name.isdecimal() and int(name) < count else None


# asking


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
