"""Start child processes and end them with their parent; detect runs that end at logout."""

import os
import pwd
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import rnnlm_tui
from rnnlm_tui.system.files import open_private, storage_errors, text_of

PARENT = "RNNLM_TUI_PARENT"
"""Environment variable: pid of the process that a child must not outlive."""
_PR_SET_PDEATHSIG = 1

START_SECONDS = 60.0
"""Longest wait for a detached process to begin; ten seconds were seen of a worker, with a cold disk
on a busy machine."""

CONFIG_FOLDERS = ("usr/lib/systemd", "run/systemd", "etc/systemd")
"""Folders of logind.conf and its drop-ins, in increasing priority."""
TRUE = ("yes", "true", "on", "1", "y", "t")


def python_command(module: str, *arguments: str) -> list[str]:
    """Command line that runs one of our modules; -P: modules in the current folder don't shadow
    libraries."""
    return [sys.executable, "-P", "-m", module, *arguments]


RANK_VARIABLES = (
    "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT",
)  # fmt: skip
"""What torchrun tells each process that trains a run together with others."""


def child_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """A child's environment: ours without a place among ranks, `settings` as defaults, CUDA's GPUs
    in the driver's order unless the user set another, and this package first on the path."""
    # imported late: it brings the driver's library, which lists of runs don't need
    from rnnlm_tui.system.cuda import DRIVER_ORDER, ORDER_VARIABLE

    child = {name: value for name, value in os.environ.items() if name not in RANK_VARIABLES}
    for name, value in {ORDER_VARIABLE: DRIVER_ORDER, **settings}.items():
        child.setdefault(name, value)
    root = str(Path(rnnlm_tui.__file__).parent.parent)
    # a checkout: the child must import the same one
    if Path(root).name not in ("site-packages", "dist-packages"):
        child["PYTHONPATH"] = os.pathsep.join(filter(None, [root, child.get("PYTHONPATH", "")]))
    return child


def dependent_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """The environment of a child that calls `end_with_parent`."""
    return {**child_environment(settings), PARENT: str(os.getpid())}


class Started(NamedTuple):
    """How a detached process started."""

    pid: int
    code: int | None
    """None: it has begun; else it ended before, with this exit code."""
    lines: tuple[str, ...]
    """The last lines that it wrote, if it ended."""


def start_detached(
    command: list[str],
    log: Path,
    environment: Mapping[str, str],
    begun: Callable[[int], bool],
    *,
    folder: Path | None = None,
    niceness: int = 0,
) -> Started:
    """Start a process in its own session, with its output appended to a log, and wait until it has
    begun; after START_SECONDS it is killed.

    Args:
        begun: whether the process of this pid has begun.
        folder: its working directory; None: ours.
        niceness: lowers its priority.

    Raises:
        StorageError: the log can't be written.
    """
    with storage_errors("write", log):
        output = open_private(log, os.O_WRONLY | os.O_APPEND)
    try:
        before = os.fstat(output).st_size
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            cwd=folder,
            start_new_session=True,
        )
    finally:
        os.close(output)
    # Reap it in the background, so that it doesn't stay a zombie while this process runs.
    threading.Thread(target=process.wait, name=f"reaper-{process.pid}", daemon=True).start()
    lower_priority(niceness, process.pid)
    deadline = time.monotonic() + START_SECONDS
    while True:
        code = process.poll()  # first, so that all its writes are visible if it ended
        if begun(process.pid):
            return Started(process.pid, None, ())
        if code is not None:
            lines = [line for line in last_lines(log, 20, since=before) if line.strip()]
            return Started(process.pid, code, tuple(lines or [f"exit code {code}"]))
        if time.monotonic() > deadline:
            process.kill()
            late = f"it did not start within {START_SECONDS:.0f} s"
            return Started(process.pid, -signal.SIGKILL, (late,))
        time.sleep(0.02)


def end_with_parent() -> None:
    """Let Linux kill this process when the thread that started it ends, even by `kill -9`.

    Does nothing without `dependent_environment`. On other systems a child notices the end of its
    stdin. Call it first, before slow imports. It doesn't affect this process's own children.
    """
    parent = os.environ.pop(PARENT, "")
    if not parent.isdigit() or sys.platform != "linux":
        return
    import ctypes  # imported late: few processes need it

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != int(parent):  # the parent ended before the call
        os._exit(128 + signal.SIGKILL)


def lower_priority(niceness: int, pid: int = 0) -> None:
    """Lower the priority of a process, or of this thread and those that it starts, and of the
    session if it leads one: with Linux autogroups, niceness only counts within a session."""
    if not niceness:
        return
    with suppress(OSError):  # on Linux only this thread
        os.setpriority(os.PRIO_PROCESS, pid, max(niceness, os.getpriority(os.PRIO_PROCESS, pid)))
    with suppress(OSError):
        if os.getsid(pid) == (pid or os.getpid()):
            Path(f"/proc/{pid or 'self'}/autogroup").write_text(str(niceness))


def last_lines(
    path: Path, count: int, *, since: int = 0, max_bytes: int = 65_536
) -> tuple[str, ...]:
    """The last lines of a text file; empty if it can't be read. Invalid UTF-8 is replaced.

    Args:
        since: size of the file before the first of them.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(since, size - max_bytes))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ()
    return tuple(text.splitlines()[-count:]) if count > 0 else ()


class EndsAtLogout(NamedTuple):
    """Why logging out would end a run."""

    fact: str
    hint: str


def ends_at_logout(root: Path = Path("/")) -> EndsAtLogout | None:
    """Why a process started here would end when its user logs out; None if it wouldn't.

    This depends on our systemd cgroup, which a worker inherits. The processes of a login session
    are killed with it if KillUserProcesses is on (logind.conf(5)). Those of the user's service
    manager end after the last session, unless lingering is enabled (loginctl(1)). `setsid` changes
    neither.

    Args:
        root: root of the file system, for tests.
    """
    if not (root / "run/systemd/system").exists():
        return None
    group, user = own_group(text_of(root / "proc/self/cgroup")), _user_name()
    lingers = (root / "var/lib/systemd/linger" / user).exists()
    if re.search(r"/session-[^/]+\.scope(/|$)", group):
        if not kills_processes_of(user, login_settings(root)):
            return None
        first = "" if lingers else "loginctl enable-linger, then "
        return EndsAtLogout(
            "logging out ends it: systemd-logind has KillUserProcesses=yes",
            f"{first}start it with: systemd-run --user --scope rnnlm-tui …",
        )
    if re.search(r"/user@\d+\.service(/|$)", group) and not lingers:
        return EndsAtLogout(
            "logging out ends it: it belongs to your user manager, which ends with your last"
            " session",
            "loginctl enable-linger",
        )
    return None


def own_group(cgroup: str) -> str:
    """systemd's cgroup in the text of a /proc/…/cgroup file (version 1 or 2); empty if there is
    none."""
    groups: dict[str, str] = dict(re.findall(r"^\d+:([^:]*):(.*)$", cgroup, re.MULTILINE))
    return groups.get("name=systemd") or groups.get("", "")


def login_settings(root: Path) -> dict[str, str]:
    """logind's settings: of its main files, then of the drop-ins by name, each in increasing
    priority."""
    settings: dict[str, str] = {}
    for pattern in ("logind.conf", "logind.conf.d/*.conf"):
        files = [path for folder in CONFIG_FOLDERS for path in (root / folder).glob(pattern)]
        for path in sorted(files, key=lambda path: path.name):
            lines = re.findall(r"^\s*(\w+)\s*=(.*)$", text_of(path), re.MULTILINE)
            settings.update((key, value.strip()) for key, value in lines)
    return settings


def kills_processes_of(user: str, settings: Mapping[str, str]) -> bool:
    """Whether logind kills the user's processes with their session; by default not root's."""
    only, spared = (
        settings.get("KillOnlyUsers", "").split(),
        settings.get("KillExcludeUsers", "root").split(),
    )
    return (
        settings.get("KillUserProcesses", "").lower() in TRUE
        and user not in spared
        and (not only or user in only)
    )


def _user_name() -> str:
    """The user's login name, or uid if there is none."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
