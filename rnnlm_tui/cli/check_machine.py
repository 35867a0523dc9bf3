"""Checks of `doctor` that ask other processes: torch, the graphics driver, the login manager."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, cast

from rnnlm_tui.contract.figures import counted, memory

if TYPE_CHECKING:
    from rnnlm_tui.cli.checks import CheckResult

TORCH_SECONDS = 120
"""Timeout: the first import of torch from a cold disk may take a minute."""

BF16_FLAGS = ("amx_bf16", "avx512_bf16")
"""CPU flags of bf16 matmul instructions, the fastest first."""

TORCH_QUESTION = """
import json, torch
cuda = torch.cuda.is_available()
print(json.dumps({
    "version": torch.__version__, "threads": torch.get_num_threads(), "mps": torch.backends.mps.is_available(),
    "cuda": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())] if cuda else [],
}))
"""


def torch_finding(python: str) -> CheckResult:
    """Check torch in a separate process: importing it costs seconds and memory."""
    from rnnlm_tui.cli.checks import CheckResult

    hint = "pip install --force-reinstall torch; the worker's log has the full message"
    try:
        answer = subprocess.run([python, "-c", TORCH_QUESTION], capture_output=True, text=True, timeout=TORCH_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return CheckResult("torch", "bad", f"no response within {TORCH_SECONDS} s", hint)
    if answer.returncode != 0:
        return CheckResult("torch", "bad", f"can't be imported: {(answer.stderr.strip().splitlines() or ['no message'])[-1]}", hint)
    known = cast(dict[str, object], json.loads(answer.stdout))
    cuda = cast(list[str], known["cuda"])
    devices = (
        [f"cuda:{index} ({name})" for index, name in enumerate(cuda)]
        + (["mps"] if known["mps"] else [])
        + [f"cpu, {counted(cast(int, known['threads']), 'thread')}"]
    )
    return CheckResult("torch", "ok", f"{known['version']}, trains on {', '.join(devices)}")


def graphics_findings() -> list[CheckResult]:
    """Describe the machine and its GPU, as the app's first screen does."""
    from rnnlm_tui.cli.checks import CheckResult
    from rnnlm_tui.store.locations import home
    from rnnlm_tui.supervisor.machine import describe_machine

    machine = describe_machine(home())
    found = [
        CheckResult(
            "machine", "ok", f"{machine.host}, {counted(machine.cpu_count, 'core')}, {memory(machine.memory_free)} of {memory(machine.memory_total)} free"
        )
    ]
    if machine.gpu_name:
        total = f", {memory(machine.gpu_memory_total)}" if machine.gpu_memory_total else ""
        found.append(CheckResult("GPU", "ok", f"{machine.gpu_name}{total}"))
    else:
        found.append(CheckResult("GPU", "note", "no NVIDIA GPU found; training runs on the CPU"))
    return found


def read_processor() -> str:
    """Read /proc/cpuinfo; empty on systems other than Linux."""
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def products_finding(cpuinfo: str) -> CheckResult:
    """Find the matmul precisions of the CPU in the text of /proc/cpuinfo."""
    from rnnlm_tui.cli.checks import CheckResult

    flags = next((line.partition(":")[2].split() for line in cpuinfo.splitlines() if line.startswith("flags")), [])
    known = [flag for flag in BF16_FLAGS if flag in flags]
    if known:
        return CheckResult("products", "ok", f"float32, and bf16 with {known[0]}: a run on the CPU uses the faster one unless training.matmul is set")
    return CheckResult("products", "ok", f"float32; the CPU has neither {' nor '.join(BF16_FLAGS)}")


def login_finding() -> CheckResult:
    """Check whether a run started here continues after its user logs out."""
    from rnnlm_tui.cli.checks import CheckResult
    from rnnlm_tui.supervisor.login import ends_at_logout

    end = ends_at_logout()
    if end is None:
        return CheckResult("logging out", "ok", "runs continue after you log out")
    return CheckResult("logging out", "note", f"a run started here: {end.fact}", end.hint)
