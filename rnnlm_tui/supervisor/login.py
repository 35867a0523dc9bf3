"""Whether the login manager ends a run when its user logs out, and how to keep it from that."""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

CONFIG_FOLDERS = ("usr/lib/systemd", "run/systemd", "etc/systemd")
"""Where logind.conf and its drop-ins lie, what counts most last."""
TRUE = ("yes", "true", "on", "1", "y", "t")


@dataclass(frozen=True, slots=True)
class EndsAtLogout:
    """What is in the way of a run that outlives its terminal."""

    fact: str
    hint: str


def ends_at_logout(root: Path = Path("/")) -> EndsAtLogout | None:
    """Why a process started here would be ended when its user logs out; None where it goes on.

    The group that systemd put us in decides, and a worker inherits it: a login session's is cleared when the session ends and
    KillUserProcesses is on (logind.conf(5)); the user's own service manager takes all of its with it after the last session,
    unless the user lingers (loginctl(1)). A session of its own, as `setsid` gives one, changes neither.

    Args:
        root: of the file system that is looked at.
    """
    if not (root / "run/systemd/system").exists():
        return None
    group, user = own_group(_read(root / "proc/self/cgroup")), _user_name()
    lingers = (root / "var/lib/systemd/linger" / user).exists()
    if re.search(r"/session-[^/]+\.scope(/|$)", group):
        if not kills_processes_of(user, login_settings(_read(path) for path in _config_files(root))):
            return None
        first = "" if lingers else "loginctl enable-linger, then "
        return EndsAtLogout("logging out ends it: the login manager has KillUserProcesses=yes", f"{first}start it with: systemd-run --user --scope rnnlm-tui …")
    if re.search(r"/user@\d+\.service(/|$)", group) and not lingers:
        return EndsAtLogout("logging out ends it: it belongs to your user manager, which ends with your last session", "loginctl enable-linger")
    return None


def own_group(cgroup: str) -> str:
    """systemd's group of a process, from the text of its /proc/…/cgroup in either version; empty where there is none."""
    groups = {controllers: path for _, controllers, path in (line.split(":", 2) for line in cgroup.splitlines() if line.count(":") >= 2)}
    return groups.get("name=systemd") or groups.get("", "")


def login_settings(files: Iterable[str]) -> dict[str, str]:
    """The settings of logind's files, a later file's word over an earlier's. What is commented out is only a default's name."""
    settings: dict[str, str] = {}
    for text in files:
        for raw in text.splitlines():
            key, equals, value = raw.partition("=")
            if equals:
                settings[key.strip()] = value.strip()
    return settings


def kills_processes_of(user: str, settings: Mapping[str, str]) -> bool:
    """Whether logind ends what a user leaves running in a session; by default root's is spared."""
    only, spared = settings.get("KillOnlyUsers", "").split(), settings.get("KillExcludeUsers", "root").split()
    return settings.get("KillUserProcesses", "").lower() in TRUE and user not in spared and (not only or user in only)


def _config_files(root: Path) -> list[Path]:
    """The main file of most weight, then the drop-ins by name; of two of one name the one of more weight counts."""
    main = [path for folder in CONFIG_FOLDERS if (path := root / folder / "logind.conf").is_file()]
    drop_ins = {path.name: path for folder in CONFIG_FOLDERS for path in (root / folder / "logind.conf.d").glob("*.conf")}
    return main[-1:] + [drop_ins[name] for name in sorted(drop_ins)]


def _user_name() -> str:
    """As logind knows the user; the number where it has no name."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
