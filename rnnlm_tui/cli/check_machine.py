"""Findings of `doctor` that ask other processes: torch, the graphics driver, the login manager."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, cast

from rnnlm_tui.contract.figures import counted, memory

if TYPE_CHECKING:
    from rnnlm_tui.cli.checks import Finding

TORCH_SECONDS = 120
"""A first import from a cold disk may take a minute."""

BF16_FLAGS = ("amx_bf16", "avx512_bf16")
"""Instructions of a processor that multiply numbers rounded to bf16, the faster first."""

TORCH_QUESTION = """
import json, torch
cuda = torch.cuda.is_available()
print(json.dumps({
    "version": torch.__version__, "threads": torch.get_num_threads(), "mps": torch.backends.mps.is_available(),
    "cuda": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())] if cuda else [],
}))
"""


def torch_finding(python: str) -> Finding:
    """torch's version and devices, asked in a process of its own, since importing it costs seconds and memory."""
    from rnnlm_tui.cli.checks import Finding

    hint = "pip install --force-reinstall torch; worker logs show the whole message"
    try:
        answer = subprocess.run([python, "-c", TORCH_QUESTION], capture_output=True, text=True, timeout=TORCH_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return Finding("torch", "bad", f"did not answer within {TORCH_SECONDS} s", hint)
    if answer.returncode != 0:
        return Finding("torch", "bad", f"can't be imported: {(answer.stderr.strip().splitlines() or ['no message'])[-1]}", hint)
    known = cast(dict[str, object], json.loads(answer.stdout))
    cuda = cast(list[str], known["cuda"])
    devices = (
        [f"cuda:{index} ({name})" for index, name in enumerate(cuda)]
        + (["mps"] if known["mps"] else [])
        + [f"cpu, {counted(cast(int, known['threads']), 'thread')}"]
    )
    return Finding("torch", "ok", f"{known['version']}, trains on {', '.join(devices)}")


def graphics_findings() -> list[Finding]:
    """The machine as the app's first screen describes it."""
    from rnnlm_tui.cli.checks import Finding
    from rnnlm_tui.store.locations import home
    from rnnlm_tui.supervisor.machine import describe_machine

    machine = describe_machine(home())
    found = [
        Finding("machine", "ok", f"{machine.host}, {counted(machine.cpu_count, 'core')}, {memory(machine.memory_free)} of {memory(machine.memory_total)} free")
    ]
    if machine.gpu_name:
        total = f", {memory(machine.gpu_memory_total)}" if machine.gpu_memory_total else ""
        found.append(Finding("GPU", "ok", f"{machine.gpu_name}{total}"))
    else:
        found.append(Finding("GPU", "note", "none that the NVIDIA driver knows; training runs on the processor"))
    return found


def read_processor() -> str:
    """What Linux says of the processor; empty on other systems."""
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def products_finding(cpuinfo: str) -> Finding:
    """Which matrix products the processor can compute, from the text of /proc/cpuinfo."""
    from rnnlm_tui.cli.checks import Finding

    flags = next((line.partition(":")[2].split() for line in cpuinfo.splitlines() if line.startswith("flags")), [])
    known = [flag for flag in BF16_FLAGS if flag in flags]
    if known:
        return Finding("products", "ok", f"float32, and bf16 by {known[0]}: a run on the processor takes the faster, unless training.matmul says which")
    return Finding("products", "ok", f"float32 on the processor, which has neither {' nor '.join(BF16_FLAGS)}")


def login_finding() -> Finding:
    """Whether a run that is started here goes on when its user logs out."""
    from rnnlm_tui.cli.checks import Finding
    from rnnlm_tui.supervisor.login import ends_at_logout

    end = ends_at_logout()
    if end is None:
        return Finding("logging out", "ok", "runs go on when you log out")
    return Finding("logging out", "note", f"a run that is started here: {end.fact}", end.hint)
