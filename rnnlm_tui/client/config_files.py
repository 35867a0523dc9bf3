"""Config files: read one with all its problems, write one, and edit one in the user's editor."""

from __future__ import annotations

import os
import shlex
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rnnlm_tui.errors import ConfigError, InputError, Problem, StorageError
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.precedence import resolve_config
from rnnlm_tui.schema.presets import DEMO, PRESETS
from rnnlm_tui.schema.toml import parse_toml
from rnnlm_tui.schema.toml import read_config_text as read_config_text
from rnnlm_tui.schema.validation import Raw, overlay
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.system.files import storage_errors, write_text_atomically

EDITORS = ("nano", "vim", "vi", "emacs")
"""Tried in this order if neither VISUAL nor EDITOR is set."""
LINE_OPTIONS = {
    "+{line}": ("vi", "vim", "nvim", "view", "nano", "emacs", "emacsclient", "kak", "joe", "jed"),
    "{file}:{line}": ("hx", "helix", "micro", "subl"),
}
"""Options that open a file at a line, with the editors that have them."""


@dataclass(frozen=True, slots=True)
class ReadConfig:
    """What a TOML text says about a run."""

    text: str
    raw: Raw
    """All values: those of the text, and for others those of its preset."""
    preset: RunConfig
    """The preset that it is based on; the demo for an unknown one."""
    config: RunConfig | None
    """The config; None if there are problems."""
    problems: tuple[Problem, ...] = ()
    """With the place of each in the text."""


def parse_config_text(text: str, name: str) -> ReadConfig:
    """Read a config from TOML; values that it lacks are its preset's.

    Args:
        name: the file's name in errors.

    Raises:
        TomlError: the text isn't TOML, with line and column.
    """
    written = parse_toml(text, name)
    chosen = written.raw.get("preset")
    preset = PRESETS.get(chosen, DEMO) if isinstance(chosen, str) else DEMO
    raw = overlay(preset, written.raw)
    try:
        return ReadConfig(text, raw, preset, resolve_config(file=written).config)
    except ConfigError as error:
        return ReadConfig(text, raw, preset, None, error.problems)


def check_draft(run: RunDirectory) -> None:
    """Refuse to start a draft that was kept with problems.

    Raises:
        InputError: names the problems.
    """
    if run.draft_path.exists():
        found = parse_config_text(read_config_text(run.draft_path), run.draft_path.name)
        problems = "; ".join(str(problem) for problem in found.problems)
        raise InputError(
            f"the config of {run.name} has problems: {problems}",
            hint=f"fix it in the app: rnnlm-tui open {run.name}, then 1",
        )


def write_config_text(path: Path, text: str) -> None:
    """Write a config file atomically; an existing one keeps its permissions, a link its target.

    Raises:
        InputError: it is a folder, or its folder doesn't exist.
        StorageError: it can't be written; the old file is unchanged.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder", hint="add the name of a file")
    if not path.parent.is_dir():
        raise InputError(f"the folder {path.parent} doesn't exist", hint="create it first")
    with storage_errors("write", path):
        target = path.resolve()
        mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else None
    write_text_atomically(target, text)
    if mode is not None:
        with storage_errors("write", path):
            target.chmod(mode)


def editor_command(environment: Mapping[str, str]) -> list[str]:
    """The user's editor: VISUAL, EDITOR, or the first common one that is installed.

    Raises:
        InputError: there is none, or the variable can't be read as a command.
    """
    for variable in ("VISUAL", "EDITOR"):
        value = environment.get(variable, "").strip()
        if not value:
            continue
        try:
            words = shlex.split(value)
        except ValueError as error:
            raise InputError(f"{variable}={value!r} is not a command: {error}") from None
        if words and shutil.which(words[0], path=environment.get("PATH")) is None:
            raise InputError(
                f'the editor "{words[0]}" of {variable} was not found',
                hint=f"set {variable} to an installed editor",
            )
        if words:
            return words
    for name in EDITORS:
        if shutil.which(name, path=environment.get("PATH")):
            return [name]
    raise InputError("no editor found", hint="set EDITOR, for example to nano")


class EditedFile:
    """A text in a private temporary file, which stays there until `discard`."""

    def __init__(self, text: str, name: str) -> None:
        """Write the file.

        Raises:
            StorageError: it can't be written.
        """
        with storage_errors("create a folder in", Path(tempfile.gettempdir())):
            self._folder = Path(tempfile.mkdtemp(prefix="rnnlm-tui-"))
        self.path = self._folder / f"{name}.toml"
        self._text = text
        write_text_atomically(self.path, text)

    def open_editor(self, line: int | None = None) -> None:
        """Run the editor in this terminal and wait for its end.

        Args:
            line: where it should begin, if the editor takes a line.

        Raises:
            InputError: there is no editor.
            StorageError: it couldn't be started, or failed.
        """
        command = editor_command(os.environ)
        with_line = _with_line(command, self.path, line)
        try:
            code = subprocess.run(with_line, check=False).returncode
        except OSError as error:
            raise StorageError(f"can't start {command[0]}: {error.strerror}") from error
        if code:
            raise StorageError(
                f"{Path(command[0]).name} exited with code {code}", hint="the config is unchanged"
            )

    @property
    def unchanged(self) -> bool:
        """Whether the file still has the text that it was made with."""
        try:
            return read_config_text(self.path) == self._text
        except InputError:
            return False

    def read(self) -> str:
        """Read the edited text.

        Raises:
            InputError: it can't be read, or isn't UTF-8.
        """
        return read_config_text(self.path)

    def discard(self) -> None:
        """Remove the file."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _with_line(command: Sequence[str], path: Path, line: int | None) -> list[str]:
    name = Path(command[0]).name
    for option, names in LINE_OPTIONS.items():
        if line is not None and name in names:
            word = option.format(line=line, file=path)
            return [*command, word] if "{file}" in option else [*command, word, str(path)]
    return [*command, str(path)]
