"""The beginning of a file that is being fetched: its bytes, their hash, and a note beside it of what it is the beginning of."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from rnnlm_tui.errors import StorageError

_BLOCK = 1 << 20


class PartNote(BaseModel):
    """What a part is the beginning of, as the server told it."""

    model_config = ConfigDict(frozen=True)

    url: str
    etag: str | None
    last_modified: str | None
    total: int
    """Bytes of the whole; 0 when unknown."""

    @property
    def validator(self) -> str | None:
        """For If-Range, which takes strong tags alone."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.last_modified


class Part:
    """What is on disk of one file; only the holder of its lock may have one. Each method raises StorageError where the disk fails."""

    def __init__(self, path: Path, url: str, tell: Callable[[int, int], None]) -> None:
        """Take up what an earlier try left if it is of this address and its size is known; else begin anew.

        Args:
            tell: told the bytes that were hashed and those of the whole file, while what is there is hashed.
        """
        self.path = path
        self.held = 0
        """Bytes on disk."""
        self._digest = hashlib.sha256()
        self.note = read_note(path)
        if self.note is None or self.note.url != url or not self.note.total or _size(path) > self.note.total:
            self.restart()
        else:
            self._hash(self.note.total, tell)

    @property
    def total(self) -> int:
        """Bytes of the whole file; 0 when unknown."""
        return 0 if self.note is None else self.note.total

    @property
    def sha256(self) -> str:
        """Of the bytes on disk."""
        return self._digest.hexdigest()

    def restart(self, note: PartNote | None = None) -> None:
        """Forget what is there; `note` says what comes instead, and is written down with its first bytes."""
        self.held, self.note, self._digest = 0, note, hashlib.sha256()
        with _on_disk(self.path, "written"):
            note_path(self.path).unlink(missing_ok=True)
            if self.path.exists():
                with self.path.open("r+b") as file:
                    file.truncate()

    def append(self, block: bytes) -> None:
        """Add bytes at the end; an error leaves the part as it was or with some of them."""
        if not self.held:
            self._write_note()
        with _on_disk(self.path, "written"), self.path.open("ab", buffering=0) as file:
            written = 0
            while written < len(block):
                count = file.write(block[written:])
                self._digest.update(block[written : written + count])
                written += count
                self.held += count

    def end(self) -> None:
        """What is there is the whole, whose size nobody told before."""
        if self.note is not None:
            self.note = self.note.model_copy(update={"total": self.held})
            self._write_note()

    def _write_note(self) -> None:
        if self.note is not None:
            with _on_disk(self.path, "written"):
                note_path(self.path).write_text(self.note.model_dump_json(), encoding="utf-8")

    def _hash(self, total: int, tell: Callable[[int, int], None]) -> None:
        for block in _blocks(self.path):
            self._digest.update(block)
            self.held += len(block)
            tell(self.held, total)


def note_path(part: Path) -> Path:
    """The file that says what a part is the beginning of."""
    return part.with_name(f"{part.name}.json")


def read_note(part: Path) -> PartNote | None:
    """The note beside a part; None where there is none, or a damaged one."""
    try:
        return PartNote.model_validate_json(note_path(part).read_bytes())
    except (OSError, ValidationError):
        return None


def discard_part(part: Path) -> None:
    """Remove a part and its note.

    Raises:
        StorageError: they can't be removed.
    """
    with _on_disk(part, "removed"):
        part.unlink(missing_ok=True)
        note_path(part).unlink(missing_ok=True)


def _size(path: Path) -> int:
    with _on_disk(path, "read"):
        return path.stat().st_size if path.exists() else 0


def _blocks(path: Path) -> Iterator[bytes]:
    with _on_disk(path, "read"), path.open("rb") as file:
        while block := file.read(_BLOCK):
            yield block


@contextmanager
def _on_disk(path: Path, verb: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        hint = "free some space, or set RNNLM_TUI_HOME to a folder on another disk"
        raise StorageError(f"{path} can't be {verb}: {error.strerror or error}", hint=hint) from error
