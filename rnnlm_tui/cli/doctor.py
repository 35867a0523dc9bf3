"""The verb `doctor`: check the machine, the terminal and the installation."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from rnnlm_tui.cli.output import Answer, table
from rnnlm_tui.schema.formatting import counted, disk, memory

if TYPE_CHECKING:
    from rnnlm_tui.cli.output import Colour
    from rnnlm_tui.tui.terminal import TerminalKind


COLOURS: dict[str, Colour] = {"ok": "good", "note": "warn", "bad": "bad"}
"""Colour of each verdict."""

LITTLE_DISK = 1_000_000_000
"""Free bytes below which `disk` is bad: a demo run takes 40 MB, and full disks lose checkpoints."""

TORCH_SECONDS = 120
"""Timeout: the first import of torch from a cold disk may take a minute."""

BF16_FLAGS = ("amx_bf16", "avx512_bf16")
"""CPU flags of bf16 matmul instructions, the fastest first."""

TORCH_QUESTION = """
import json, torch
from rnnlm_tui.engine.device import available_devices, unsupported, unusable_gpu
gpus = [name for name in available_devices() if name.startswith("cuda")]
problems = [unsupported(torch.device(name)) for name in gpus]
whole = unusable_gpu()
print(json.dumps({
    "version": torch.__version__, "threads": torch.get_num_threads(),
    "mps": torch.backends.mps.is_available(),
    "cuda": {
        name: torch.cuda.get_device_name(torch.device(name))
        for name, problem in zip(gpus, problems) if problem is None
    },
    "problems": [
        [one.fact, one.fix] for one in ([whole] if whole else problems) if one is not None
    ],
}))
"""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one check."""

    check: str
    verdict: Literal["ok", "note", "bad"]
    fact: str
    hint: str = ""


def doctor() -> Answer:
    """Check this machine, terminal and installation."""
    found = list(run_checks())
    rows = list[tuple[str, str, str]]()
    for result in found:
        rows.append((result.verdict, result.check, result.fact))
        if result.hint:
            rows.append(("", "", result.hint))
    failed = any(result.verdict == "bad" for result in found)
    return Answer(
        found,
        lambda: table(("", "check", "finding"), rows, colours={0: COLOURS}),
        failure=SystemExit(1) if failed else None,
    )


def run_checks() -> Iterator[CheckResult]:
    """Run all checks, in a fixed order."""
    from rnnlm_tui.store.paths import keymap_file
    from rnnlm_tui.system.files import text_of

    yield check_versions()
    yield check_torch(sys.executable)
    yield check_machine()
    yield check_gpus()
    yield from check_loss_kernel()
    yield check_matmul(text_of(Path("/proc/cpuinfo")))
    yield from check_terminal(
        os.environ,
        sys.stdout.encoding or "",
        shutil.get_terminal_size(),
        sys.stdin.isatty() and sys.stdout.isatty(),
    )
    yield from check_home()
    yield from check_keymap(keymap_file())
    yield check_corpora()
    yield check_logout()


def check_versions() -> CheckResult:
    """Report the versions of the program and of Python."""
    from rnnlm_tui import __version__

    version = ".".join(str(part) for part in sys.version_info[:3])
    return CheckResult("rnnlm-tui", "ok", f"{__version__} on Python {version}, {sys.executable}")


def check_terminal(
    environment: Mapping[str, str], encoding: str, size: os.terminal_size, is_terminal: bool
) -> Iterator[CheckResult]:
    """Check the terminal's size, colours and characters, from its environment."""
    from rnnlm_tui.tui import SMALLEST
    from rnnlm_tui.tui.terminal import terminal_kind

    cells = f"{size.columns}×{size.lines} cells"
    if not is_terminal:
        words = "no terminal: the app can't open, all other verbs work"
        yield CheckResult("terminal", "note", words)
    elif size.columns < SMALLEST[0] or size.lines < SMALLEST[1]:
        least = f"{SMALLEST[0]}×{SMALLEST[1]}"
        hint = f"the app needs at least {least}; 80×24 or more is recommended"
        yield CheckResult("terminal", "bad", cells, hint)
    else:
        yield CheckResult("terminal", "ok", cells)
    kind = terminal_kind(environment, encoding)
    yield _check_colours(environment, kind)
    if kind.braille:
        yield CheckResult("characters", "ok", encoding)
        return
    fact = f"encoding {encoding or 'unknown'} has no braille for charts"
    if encoding.lower().replace("-", "") in ("utf8", "utf8sig"):
        console = environment.get("TERM") == "linux"
        fact = "the Linux console has no braille" if console else "the locale isn't UTF-8"
    hint = "export LANG=C.UTF-8, or start with --no-ascii if the terminal has braille"
    yield CheckResult("characters", "note", f"{fact}; the app uses ASCII only", hint)


def _check_colours(environment: Mapping[str, str], kind: TerminalKind) -> CheckResult:
    if environment.get("NO_COLOR"):
        return CheckResult("colours", "note", "none: NO_COLOR is set")
    term, hint, inside = environment.get("TERM", ""), kind.hint, ""
    if kind.depth == "none":
        hint = "export TERM=xterm-256color, if this terminal is one"
        return CheckResult("colours", "note", f'none: TERM="{term}"', hint)
    if environment.get("TMUX"):
        inside = "in tmux, "
    elif environment.get("SSH_CONNECTION"):
        inside = "over SSH, "
    words = ", which the app is designed for" if kind.depth == "256" else ""
    fact = f"{kind.depth} ({inside}TERM={term}){words}"
    return CheckResult("colours", "note" if hint else "ok", fact, hint)


def check_keymap(path: Path) -> list[CheckResult]:
    """Check the user's key bindings, one result per problem; none without a keymap file."""
    if not path.exists():
        return []
    from rnnlm_tui.tui.keymap import read_keymap

    keymap = read_keymap(path)
    wrong = [CheckResult("keys", "note", problem, f"in {path}") for problem in keymap.problems]
    return wrong or [CheckResult("keys", "ok", f"{len(keymap.changed or {})} changed in {path}")]


def check_home() -> Iterator[CheckResult]:
    """Check where runs are stored: writable, on a local filesystem, with free space."""
    from rnnlm_tui.store.paths import home
    from rnnlm_tui.system.disk import free_bytes, nearest_existing

    place = home()
    existing = nearest_existing(place)
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        why = "read-only for you" if existing.is_dir() else "not a folder"
        fact = f"cannot write to {place}: {existing} is {why}"
        yield CheckResult("home", "bad", fact, "set RNNLM_TUI_HOME to a writable folder")
        return
    yield CheckResult(
        "home", "ok", f"{place}{'' if place.exists() else ', created by the first run'}"
    )
    yield check_filesystem(existing)
    free = f"{disk(free_bytes(existing))} free"
    if free_bytes(existing) >= LITTLE_DISK:
        yield CheckResult("disk", "ok", free)
    else:
        hint = "free some space, or set RNNLM_TUI_HOME to a folder on another disk"
        yield CheckResult("disk", "bad", free, hint)


def check_filesystem(folder: Path) -> CheckResult:
    """Name the filesystem of `folder`, and where the indexes of its runs are kept if it is a
    network filesystem."""
    from rnnlm_tui.store.index import index_folder
    from rnnlm_tui.system.disk import filesystem_here, is_network

    kind = filesystem_here(folder)
    where = f"; indexes of runs are in {index_folder()}" if is_network(kind) else ""
    return CheckResult("filesystem", "ok", f"{kind or 'unknown'}{where}")


def check_corpora() -> CheckResult:
    """Check which built-in corpora are available."""
    from rnnlm_tui.corpus.news import news_files
    from rnnlm_tui.store.paths import corpora_dir

    downloaded = news_files(corpora_dir()) is not None
    news = ", news" if downloaded else "; news is downloaded by the first run of preset book"
    return CheckResult("corpora", "ok", f"presidents, elman{news}")


def check_torch(python: str) -> CheckResult:
    """Check torch in a separate process: importing it costs seconds and memory."""
    from rnnlm_tui.system.processes import child_environment

    hint = "pip install --force-reinstall torch; the worker's log has the full message"
    ask, environment = [python, "-c", TORCH_QUESTION], child_environment({})
    try:
        answer = subprocess.run(
            ask, capture_output=True, text=True, timeout=TORCH_SECONDS, check=False, env=environment
        )
    except subprocess.TimeoutExpired:
        return CheckResult("torch", "bad", f"no response within {TORCH_SECONDS} s", hint)
    if answer.returncode != 0:
        last = (answer.stderr.strip().splitlines() or ["no message"])[-1]
        return CheckResult("torch", "bad", f"can't be imported: {last}", hint)
    known = cast(dict[str, object], json.loads(answer.stdout))
    cuda = cast(dict[str, str], known["cuda"])
    devices = [f"{name} ({model})" for name, model in cuda.items()]
    devices += ["mps"] if known["mps"] else []
    devices.append(f"cpu, {counted(cast(int, known['threads']), 'thread')}")
    words = f"{known['version']}, trains on {', '.join(devices)}"
    problems = cast(list[tuple[str, str]], known["problems"])
    if not problems:
        return CheckResult("torch", "ok", words)
    facts = "; ".join(fact for fact, _ in problems)
    fixes = "; ".join(dict.fromkeys(fix for _, fix in problems))
    return CheckResult("torch", "note" if cuda else "bad", f"{words}: {facts}", fixes)


def check_machine() -> CheckResult:
    """Describe the machine."""
    from rnnlm_tui.store.paths import home
    from rnnlm_tui.system.machine import describe_machine

    machine = describe_machine(home())
    free = f"{memory(machine.memory_free)} of {memory(machine.memory_total)} free"
    fact = f"{machine.host}, {counted(machine.cpu_count, 'core')}, {free}"
    return CheckResult("machine", "ok", fact)


def check_gpus() -> CheckResult:
    """Check the NVIDIA GPUs, by their driver: whether the installed torch can use them."""
    from rnnlm_tui.system.cuda import driver, gpu_problem, pci_cards
    from rnnlm_tui.system.gpu import cards, gpu_count

    here, problem, known = [card.sample() for card in cards()], gpu_problem(), driver()
    names = Counter(
        f"{gpu.name}"
        + (f", {memory(gpu.memory_total)}" if gpu.memory_total else "")
        + (f", {gpu.fault}" if gpu.fault else "")
        for gpu in here
    )
    words = "; ".join(
        f"{number} × {name}" if number > 1 else name for name, number in names.items()
    )
    if here and not gpu_count():
        chosen = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        fact = f'{words}; hidden by CUDA_VISIBLE_DEVICES="{chosen}": the CPU trains'
        return CheckResult("GPU", "note", fact)
    if problem is not None and known is None:
        return CheckResult("GPU", "bad", problem.fact, problem.fix)
    if known is not None:
        if problem is not None:  # the check of torch says why, and how to fix it
            words += ", which torch can't use"
        faulty = problem is not None or any(gpu.fault for gpu in here)
        return CheckResult("GPU", "bad" if faulty else "ok", f"{words}, {known}")
    if pci_cards():
        fact = "an NVIDIA GPU is there, but not its driver: training runs on the CPU"
        hint = "install the NVIDIA driver; in a container, start it with --gpus all"
        return CheckResult("GPU", "note", fact, hint)
    return CheckResult("GPU", "note", "no NVIDIA GPU found; training runs on the CPU")


def check_loss_kernel() -> Iterator[CheckResult]:
    """Check what the fast loss on NVIDIA GPUs needs: Triton, a C compiler, Python's headers."""
    from rnnlm_tui.system.gpu import gpu_count

    if not gpu_count():
        return
    headers = Path(sysconfig.get_paths()["include"], "Python.h")
    if find_spec("triton") is None:
        missing, fix = "Triton isn't installed", "pip install triton, in the version of your torch"
    elif not (os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")):
        missing, fix = "Triton finds no C compiler", "install gcc"
    elif not headers.is_file():
        missing, fix = f"{headers} is missing", "install Python's headers (python3-dev)"
    else:
        yield CheckResult("loss kernel", "ok", "Triton, a C compiler and Python's headers are here")
        return
    yield CheckResult("loss kernel", "note", f"{missing}: training on a GPU is slower", fix)


def check_matmul(cpuinfo: str) -> CheckResult:
    """Find the matmul precisions of the CPU in the text of /proc/cpuinfo."""
    flags = re.search(r"^flags.*", cpuinfo, re.MULTILINE)
    known = set(flags[0].split()) if flags else set[str]()
    fastest = next((flag for flag in BF16_FLAGS if flag in known), None)
    fact = f"float32; the CPU has neither {' nor '.join(BF16_FLAGS)}"
    if fastest is not None:
        use = "a run on the CPU uses the faster one unless training.matmul is set"
        fact = f"float32, and bf16 with {fastest}: {use}"
    return CheckResult("products", "ok", fact)


def check_logout() -> CheckResult:
    """Check whether a run started here continues after its user logs out."""
    from rnnlm_tui.system.processes import ends_at_logout

    end = ends_at_logout()
    if end is None:
        return CheckResult("logging out", "ok", "runs continue after you log out")
    return CheckResult("logging out", "note", f"a run started here: {end.fact}", end.hint)
