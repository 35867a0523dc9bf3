"""Whether the installed torch can use the GPUs that the driver has, without importing torch.

The environment that CUDA needs before it starts, and which processes hold a GPU's memory.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from rnnlm_tui.schema.formatting import first_of, memory
from rnnlm_tui.system.files import text_of
from rnnlm_tui.system.gpu import (
    VISIBLE_VARIABLE,
    Card,
    cards,
    driver_cuda_version,
    driver_problem,
    driver_version,
    visible_cards,
    with_instances,
)

ORDER_VARIABLE = "CUDA_DEVICE_ORDER"
"""Environment variable: how CUDA numbers the GPUs."""
DRIVER_ORDER = "PCI_BUS_ID"
"""CUDA numbers GPUs as the driver and nvidia-smi do; by default the fastest is the first."""
WORKSPACE_VARIABLE = "CUBLAS_WORKSPACE_CONFIG"
"""Environment variable: number and sizes of cuBLAS's workspaces."""
EXACT_WORKSPACE = ":4096:2"
"""Two workspaces of 4 MiB. cuDNN's LSTM and GRU are only deterministic if all have one size: its
release notes name this value and `:16:8`, which is slower."""

PCI_DEVICES = Path("/sys/bus/pci/devices")
NOT_LOADED = "isn't loaded"
"""In the problem of a driver of which only the library is there: usual on a machine without a
GPU."""

TORCH_BUILDS = "https://pytorch.org/get-started/locally"
"""Lists torch's builds with pip's URL for each; they change with every release."""
DRIVERS = "https://www.nvidia.com/drivers"


@dataclass(frozen=True, slots=True)
class GpuProblem:
    """Why torch can't use a GPU that the driver has, and what to do."""

    fact: str
    fix: str


@dataclass(frozen=True, slots=True)
class TorchBuild:
    """The installed torch."""

    version: str
    cuda: str | None
    """The CUDA that it was built for, `12.6`; None: built without."""
    hip: bool = False
    """Built for AMD GPUs."""

    def __str__(self) -> str:
        return f"torch {self.version}" + (f" (CUDA {self.cuda})" if self.cuda else "")


@dataclass(frozen=True, slots=True)
class Driver:
    """The NVIDIA driver and the GPUs that CUDA may use, in its numbering."""

    version: str
    cuda: tuple[int, int] | None
    """The newest CUDA that it supports; None: not reported."""
    cards: tuple[Card, ...]

    def __str__(self) -> str:
        newest = f", CUDA {self.cuda[0]}.{self.cuda[1]}" if self.cuda else ""
        return f"driver {self.version}{newest}"


def use_driver_order() -> None:
    """Let CUDA number the GPUs as the driver does, unless the user set another order; call it
    before CUDA starts. Our child processes have it in their environment."""
    os.environ.setdefault(ORDER_VARIABLE, DRIVER_ORDER)


def is_driver_order() -> bool:
    """Whether our processes number the GPUs as the driver does."""
    return os.environ.get(ORDER_VARIABLE, DRIVER_ORDER) == DRIVER_ORDER


def is_exact_workspace(setting: str) -> bool:
    """Whether cuBLAS is deterministic with this CUBLAS_WORKSPACE_CONFIG: workspaces of one size,
    `:SIZE:COUNT`."""
    return re.fullmatch(r":[1-9]\d*:[1-9]\d*", setting) is not None


def installed_torch() -> TorchBuild | None:
    """The installed torch, from its metadata and its version file; None: not installed, or these
    don't say what it was built for."""
    text = ""
    with suppress(OSError, ImportError, ValueError):
        found = find_spec("torch")
        if found is not None and found.origin is not None:
            text = (Path(found.origin).parent / "version.py").read_text(encoding="utf-8")
    built = dict(re.findall(r"^(cuda|hip)\b[^=\n]*= *(\S+)", text, re.MULTILINE))
    try:
        installed = version("torch")
    except PackageNotFoundError:
        return None
    if "cuda" not in built:
        return None
    cuda = re.fullmatch(r"['\"]([\d.]+)['\"]", built["cuda"])
    return TorchBuild(installed, cuda[1] if cuda else None, built.get("hip", "None") != "None")


def driver() -> Driver | None:
    """The driver, if it has a GPU that CUDA may use; None without one, and if CUDA_VISIBLE_DEVICES
    hides all GPUs."""
    found = tuple(visible_cards())
    version = driver_version() or "of unknown version"
    return Driver(version, driver_cuda_version(), found) if found else None


def broken_driver(bus: Path = PCI_DEVICES) -> GpuProblem | None:
    """Why the driver of a GPU doesn't work, such as after an update without a restart; None if it
    does, or there is no GPU."""
    problem = driver_problem()
    if problem is None or (NOT_LOADED in problem and not pci_cards(bus)):
        return None
    return GpuProblem(
        problem,
        "ask for access to /dev/nvidia*"
        if "permission" in problem
        else "restart the machine; `nvidia-smi` and `dmesg` say more",
    )


def pci_cards(bus: Path = PCI_DEVICES) -> int:
    """The NVIDIA GPUs on the PCI bus, with or without a driver; a container sees those of its host,
    too."""
    return sum(
        text_of(device / "vendor").strip() == "0x10de"
        and text_of(device / "class").startswith(("0x0300", "0x0302"))
        for device in (bus.iterdir() if bus.is_dir() else ())
    )


def gpu_problem() -> GpuProblem | None:
    """Why torch can't use the GPUs that the driver has; None if it can, or there are none.

    Only a process that imports torch sees whether it has code for a GPU's architecture.
    """
    known = driver()
    if known is None:
        return broken_driver() if os.environ.get(VISIBLE_VARIABLE) != "" else None
    build = installed_torch()
    if build is None or (
        build.cuda and (known.cuda is None or int(build.cuda.partition(".")[0]) <= known.cuda[0])
    ):
        return None
    names = first_of(list(dict.fromkeys(card.name for card in known.cards)), 2)
    if build.cuda is None:
        kind = "for AMD GPUs" if build.hip else "without CUDA"
        return GpuProblem(
            f"torch {build.version} is built {kind} and can't use the {names} ({known})",
            fitting_torch(known),
        )
    return GpuProblem(
        f"the NVIDIA driver is too old for {build}, which can't use the {names} ({known})",
        f"update the driver ({DRIVERS}), or {fitting_torch(known)}",
    )


def unsupported_card(
    build: TorchBuild, known: Driver, card: Card, architectures: Iterable[str]
) -> GpuProblem | None:
    """The problem if torch has no code for a card; None if it has, or this isn't known.

    Args:
        architectures: those of `torch.cuda.get_arch_list()`.
    """
    built = tuple(architectures)
    if not built or card.compute_capability is None or supports(card.compute_capability, built):
        return None
    major, minor = card.compute_capability
    return GpuProblem(
        f"{build} has no code for the {card.name}, whose compute capability is {major}.{minor}: it"
        f" was built for {', '.join(built)}",
        fitting_torch(known),
    )


def supports(capability: tuple[int, int], architectures: Iterable[str]) -> bool:
    """Whether code of one of these architectures runs on a GPU.

    Machine code (`sm_80`) runs on later minor versions of its major version, `sm_90a` on its own
    only. PTX (`compute_80`) is compiled for every later GPU.
    """
    for name in architectures:
        found = re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", name)
        if found is None:
            continue
        kind, built = found[1], (int(found[2]), int(found[3]))
        if found[4] == "a":
            runs = built == capability
        elif kind == "compute" and not found[4]:
            runs = built <= capability
        else:
            runs = built[0] == capability[0] and built[1] <= capability[1]
        if runs:
            return True
    return False


def fitting_torch(known: Driver) -> str:
    """How to install a torch that fits this driver and its GPUs."""
    newest = f" {known.cuda[0]} or older" if known.cuda else ""
    needed = sorted({card.compute_capability for card in known.cards if card.compute_capability})
    code = "".join(f" and compute capability {major}.{minor}" for major, minor in needed)
    return (
        f"install a torch built for CUDA{newest}{code}: pip install --force-reinstall torch"
        f" --index-url URL, with the URL from {TORCH_BUILDS}"
    )


def holder_words(uuid: str, *, computes: bool = False) -> str:
    """The other processes that hold memory of a GPU, the largest first: `pid 4711 (alex) holds
    70 GiB and 1 more`; empty if the driver doesn't say, as in containers.

    Args:
        uuid: with or without `GPU-` or `MIG-`.
        computes: this process holds memory of it, too. If the driver doesn't list it, its process
            ids are those outside of our container, and one of them is ours.
    """
    found = [
        process
        for card in with_instances(cards())
        if card.uuid is not None and uuid and card.uuid.endswith(uuid)
        for process in card.processes()
    ]
    others = [(pid, size) for pid, size in found if pid != os.getpid()]
    if computes and len(others) == len(found):
        return ""
    words = [
        f"pid {pid}"
        + (f" ({user})" if (user := _user(pid)) else "")
        + (f" holds {memory(size)}" if size is not None else "")
        for pid, size in sorted(others, key=lambda one: -(one[1] or 0))
    ]
    return first_of(words, 2)


def _user(pid: int) -> str:
    import psutil  # imported late: few processes ask for a GPU's holders

    try:
        return str(psutil.Process(pid).username())
    except (psutil.Error, OSError, KeyError):
        return ""  # another container's, or it has just ended
