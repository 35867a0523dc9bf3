"""Small private files of JSON: one value (`JsonFile`), or one value a line (`JsonLines`).

What isn't valid is left out, and kept in `NAME.unusable` before the file is written again. Values
are dataclasses, models of pydantic, or tuples of them. Pydantic is imported with the first of them,
since the app reads its state, a plain `dict`, before its first paint.
"""

import errno
import json
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import lru_cache, reduce
from itertools import accumulate
from operator import getitem, methodcaller
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from rnnlm_tui.errors import StorageError
from rnnlm_tui.schema.formatting import counted
from rnnlm_tui.system.files import (
    free_aside_path,
    make_private_directory,
    move_aside,
    open_private,
    read_at_most,
    storage_errors,
    write_bytes_atomically,
    write_text_atomically,
    write_whole,
)
from rnnlm_tui.system.locks import folder_lock

if TYPE_CHECKING:
    from pydantic import TypeAdapter

ValueT = TypeVar("ValueT")

_MISSING = frozenset({errno.ENOENT, errno.ENOTDIR})
"""Errors of a missing file; if the home is a file, the first write reports it."""
_DAMAGE = {errno.ELOOP: "a symbolic link", errno.EFBIG: "too large"}
"""Errors of a file that was not written here."""


class Found(NamedTuple, Generic[ValueT]):
    """The content of a file."""

    value: ValueT
    """The valid part."""
    damage: str = ""
    """What is wrong with the file; empty if all of it is valid."""


class JsonFile(NamedTuple, Generic[ValueT]):
    """A file with one value. Links are never followed."""

    path: Path
    kind: type[ValueT]
    empty: ValueT
    """The value of a missing file."""
    most_bytes: int
    """A longer file is damaged."""
    repaired: Callable[[ValueT], ValueT] = lambda value: value
    """What the valid part of a damaged file becomes when the file is written anew."""

    def read(self) -> Found[ValueT]:
        """Read the file.

        Of a damaged value, invalid entries of lists are left out, and invalid fields have their
        defaults.

        Raises:
            StorageError: the file can't be read.
        """
        with storage_errors("read", self.path):
            try:
                value = json.loads(read_at_most(self.path, self.most_bytes, links=False))
            except OSError as error:
                if error.errno not in (*_MISSING, *_DAMAGE):
                    raise
                return Found(self.empty, _DAMAGE.get(error.errno or 0, ""))
            except (ValueError, RecursionError):
                return Found(self.empty, "not valid JSON")
        try:
            return Found(_checked(self.kind, value))
        except ValueError as error:
            return self._valid_part(value, error)

    def look(self) -> Found[ValueT]:
        """Read the file as `read` does; one that can't be read counts as missing."""
        try:
            return self.read()
        except StorageError:
            return Found(self.empty)

    def write(self, value: ValueT) -> None:
        """Replace the file atomically.

        Raises:
            StorageError: the file can't be written; the old one is unchanged.
        """
        write_text_atomically(self.path, json.dumps(value, indent=1, default=_plain) + "\n")

    def change(self, change: Callable[[ValueT], ValueT]) -> ValueT:
        """Change the value under the folder's lock, and return the new one.

        Raises:
            StorageError: the file can't be read or written.
        """
        with folder_lock(self.path.parent):
            self._repair()
            before = self.read().value
            after = change(before)
            if after != before:
                self.write(after)
            return after

    def move_damaged_aside(self) -> Path | None:
        """Move a damaged file aside, and write its valid part anew.

        Returns:
            The damaged file's new path; None if the file is valid.

        Raises:
            StorageError: the file can't be read, moved or written.
        """
        if not self.read().damage:
            return None
        with folder_lock(self.path.parent):
            return self._repair()

    def _repair(self) -> Path | None:
        found = self.read()
        if not found.damage:
            return None
        aside = move_aside(self.path)
        if (value := self.repaired(found.value)) != self.empty:
            self.write(value)
        return aside

    def _valid_part(self, value: Any, error: Any) -> Found[ValueT]:
        """Read a value without what an error of pydantic names: entries of lists, else fields."""
        wrong = {_entry(problem["loc"]) for problem in error.errors()}
        with suppress(ValueError, LookupError, TypeError):
            for *above, last in sorted(wrong, reverse=True):  # the last entries of a list first
                del reduce(getitem, above, value)[last]
            return Found(_checked(self.kind, value), counted(len(wrong), "invalid value"))
        return Found(self.empty, "not what this file holds")


class Line(NamedTuple, Generic[ValueT]):
    """A value and its line, which may hold fields of a newer version."""

    value: ValueT
    text: bytes


class JsonLines(NamedTuple, Generic[ValueT]):
    """A file with a value a line, the newest last. It is never written through a link."""

    path: Path
    kind: type[ValueT]
    title: str
    """What the file holds, for messages."""
    most_lines: int
    """Older lines are not found, and are dropped when the file is rewritten."""
    most_bytes: int
    """A longer file is cut to three quarters of this when the next line is added."""

    def read(self) -> list[ValueT]:
        """The values, oldest first; damaged lines are skipped.

        Raises:
            StorageError: the file can't be read.
        """
        return [line.value for line in self._read()[0]]

    def append(self, value: ValueT) -> None:
        """Add a value.

        Raises:
            StorageError: the file can't be written.
        """
        text = json_line(value)
        make_private_directory(self.path.parent)
        with folder_lock(self.path.parent):
            with storage_errors("write", self.path):
                descriptor = open_private(self.path, os.O_RDWR | os.O_APPEND)
                try:
                    size = os.fstat(descriptor).st_size
                    if size and os.pread(descriptor, 1, size - 1) != b"\n":
                        text = b"\n" + text  # a crash left half a line
                    try:
                        write_whole(descriptor, text)
                    except OSError:
                        os.ftruncate(descriptor, size)
                        raise
                finally:
                    os.close(descriptor)
            if size + len(text) > self.most_bytes:
                lines, damaged = self._read()
                self._rewrite(self._newest(lines, self.most_bytes * 3 // 4), damaged)

    def change(self, change: Callable[[list[Line[ValueT]]], list[Line[ValueT]]]) -> None:
        """Change the lines under the folder's lock.

        Raises:
            StorageError: the file can't be read or written.
        """
        make_private_directory(self.path.parent)
        with folder_lock(self.path.parent):
            before, damaged = self._read()
            after = change(before)
            if after != before:
                self._rewrite(self._newest(after, self.most_bytes), damaged)

    def move_damaged_aside(self) -> str:
        """Move damaged lines to another file and return a message about them, or about why they
        can't be moved; empty if all are valid."""
        if not self.path.exists():
            return ""
        try:
            with folder_lock(self.path.parent):
                lines, damaged = self._read()
                aside = self._rewrite(lines, damaged) if damaged else None
        except StorageError as error:
            return error.message
        if aside is None:
            return ""
        number = counted(len(damaged), "line")
        return f"{number} of the {self.title} can't be read: kept as {aside.name}"

    def _read(self) -> tuple[list[Line[ValueT]], list[bytes]]:
        """The newest lines within the limits, oldest first, and the damaged ones."""
        with storage_errors("read", self.path):
            try:
                descriptor = os.open(
                    self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
                )
            except (FileNotFoundError, NotADirectoryError):
                return [], []
            with os.fdopen(descriptor, "rb") as file:
                # of a file that is far over the limit, only the end is read
                skipped = max(0, os.fstat(descriptor).st_size - 2 * self.most_bytes)
                file.seek(skipped)
                texts = file.read().split(b"\n")
        lines, damaged = list[Line[ValueT]](), list[bytes]()
        for text in filter(None, texts[1 if skipped else 0 :]):
            try:
                lines.append(Line(_checked(self.kind, json.loads(text)), text + b"\n"))
            except (ValueError, RecursionError):
                damaged.append(text)
        return self._newest(lines, self.most_bytes), damaged

    def _newest(self, lines: Sequence[Line[ValueT]], most_bytes: int) -> list[Line[ValueT]]:
        """The last lines within the limits of number and size, at least one."""
        newest = lines[-self.most_lines :]
        sizes = accumulate(len(line.text) for line in reversed(newest))
        return list(newest[-max(1, sum(size <= most_bytes for size in sizes)) :])

    def _rewrite(self, lines: Iterable[Line[ValueT]], damaged: Sequence[bytes]) -> Path | None:
        """Replace the file, and return the path of the new one with the damaged lines, if any."""
        aside = free_aside_path(self.path) if damaged else None
        if aside is not None:
            write_bytes_atomically(aside, b"\n".join([*damaged, b""]))
        write_bytes_atomically(self.path, b"".join(line.text for line in lines))
        return aside


def json_line(value: object) -> bytes:
    """A value as a line of a `JsonLines` file, in ASCII."""
    return json.dumps(value, default=_plain, allow_nan=False).encode("ascii") + b"\n"


def _checked(kind: Any, value: Any) -> Any:
    if kind is dict and isinstance(value, dict):
        return value
    return _adapter(kind).validate_python(value)


@lru_cache
def _adapter(kind: Any) -> "TypeAdapter[Any]":
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def _plain(value: object) -> object:
    from pydantic_core import to_jsonable_python

    return to_jsonable_python(value, fallback=methodcaller("model_dump", mode="json"))  # a record


def _entry(place: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """The place of the entry of a list, or of the field, that holds a place."""
    numbers = [at for at, key in enumerate(place) if isinstance(key, int)]
    return place[: numbers[0] + 1 if numbers else 1]
