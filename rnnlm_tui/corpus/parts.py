"""The part of a file downloaded so far: its bytes, their hash, and a note that describes the whole file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from rnnlm_tui.errors import StorageError

_BLOCK = 1 << 20


class PartNote(BaseModel):
    """The whole file, as described by the server."""

    model_config = ConfigDict(frozen=True)

    url: str
    etag: str | None
    last_modified: str | None
    total: int
    """Size in bytes; 0 if unknown."""

    @property
    def validator(self) -> str | None:
        """The value for If-Range, which accepts only strong tags."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.last_modified


class Part:
    """The part of a file on disk. Requires its lock; all methods raise StorageError if the disk fails."""

    def __init__(self, path: Path, url: str, report: Callable[[int, int], None]) -> None:
        """Continue an earlier download from the same address if its size is known, else start over.

        Args:
            report: called with the hashed bytes and the total while the existing bytes are hashed.
        """
        self.path = path
        self.held = 0
        """Bytes on disk."""
        self._digest = hashlib.sha256()
        self.note = read_note(path)
        if self.note is None or self.note.url != url or not self.note.total or _size(path) > self.note.total:
            self.restart()
        else:
            self._hash(self.note.total, report)

    @property
    def total(self) -> int:
        """Bytes of the whole file; 0 if unknown."""
        return 0 if self.note is None else self.note.total

    @property
    def sha256(self) -> str:
        """SHA-256 of the bytes on disk."""
        return self._digest.hexdigest()

    def restart(self, note: PartNote | None = None) -> None:
        """Delete the bytes; `note` describes the new file and is stored with its first bytes."""
        self.held, self.note, self._digest = 0, note, hashlib.sha256()
        with _on_disk(self.path, "write"):
            note_path(self.path).unlink(missing_ok=True)
            if self.path.exists():
                with self.path.open("r+b") as file:
                    file.truncate()

    def append(self, block: bytes) -> None:
        """Append bytes; after an error, some of them may have been written."""
        if not self.held:
            self._write_note()
        with _on_disk(self.path, "write"), self.path.open("ab", buffering=0) as file:
            written = 0
            while written < len(block):
                count = file.write(block[written:])
                self._digest.update(block[written : written + count])
                written += count
                self.held += count

    def end(self) -> None:
        """Mark a file of unknown size as complete."""
        if self.note is not None:
            self.note = self.note.model_copy(update={"total": self.held})
            self._write_note()

    def _write_note(self) -> None:
        if self.note is not None:
            with _on_disk(self.path, "write"):
                note_path(self.path).write_text(self.note.model_dump_json(), encoding="utf-8")

    def _hash(self, total: int, report: Callable[[int, int], None]) -> None:
        for block in _blocks(self.path):
            self._digest.update(block)
            self.held += len(block)
            report(self.held, total)


def note_path(part: Path) -> Path:
    """The path of a part's note."""
    return part.with_name(f"{part.name}.json")


def read_note(part: Path) -> PartNote | None:
    """Read a part's note; None if missing or damaged."""
    try:
        return PartNote.model_validate_json(note_path(part).read_bytes())
    except (OSError, ValidationError):
        return None


def discard_part(part: Path) -> None:
    """Remove a part and its note.

    Raises:
        StorageError: removing failed.
    """
    with _on_disk(part, "remove"):
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
        raise StorageError(f"can't {verb} {path}: {error.strerror or error}", hint=hint) from error
