"""The source `news`: the book's archive of news sentences, fetched once into `<corpora>/news` and
used as it lies there from then on."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from rnnlm_tui.corpus.archives import FreeBytes, check_python, free_bytes, unpack
from rnnlm_tui.corpus.build import building_folder, publish, sweep
from rnnlm_tui.corpus.download import (
    Archive,
    Meter,
    ProgressCallback,
    discard_part,
    fetch,
    read_note,
)
from rnnlm_tui.corpus.text_files import hash_files
from rnnlm_tui.errors import CorpusError, StorageError
from rnnlm_tui.schema.formatting import disk
from rnnlm_tui.schema.metrics import Progress

NEWS = "news"
"""The value of `corpus.source`, and the folder's name."""

FILES: tuple[str, ...] = ("test.txt", "train.txt")
"""What the archive holds of use, in order of name."""

RECORD_NAME = "source.json"

TEXT_PER_ARCHIVE = 3.5
"""Bytes of text in a byte of its gzip archive, at most: English sentences pack to a third."""

DISK_PER_TEXT = 2.6
"""What a byte of text takes while it is prepared: itself, a cleaned copy (removed at the end), and
about 0.5 of token ids and offsets."""

_WAIT_SECONDS = 0.2


class _FileFacts(BaseModel):
    model_config = ConfigDict(frozen=True)

    bytes: int
    modified_ns: int


class NewsRecord(BaseModel):
    """`source.json`: where the texts beside it are from."""

    model_config = ConfigDict(frozen=True)

    url: str
    bytes: int
    """Of the archive."""
    sha256: str
    """Of the archive."""
    fetched: str
    """ISO 8601, UTC."""
    text_sha256: str
    """Over both texts, as `hash_files` has it; it stands for them as long as their sizes and times
    of change are these."""
    files: dict[str, _FileFacts]


def news_files(root: Path) -> list[Path] | None:
    """Both texts below the folder of the corpora, or None where they are not (yet) there."""
    paths = [root / NEWS / name for name in FILES]
    return paths if all(path.is_file() for path in paths) else None


def news_record(root: Path) -> NewsRecord | None:
    """What is recorded of texts that were fetched; None for such that somebody put there or changed
    since."""
    paths = news_files(root)
    try:
        record = NewsRecord.model_validate_json((root / NEWS / RECORD_NAME).read_bytes())
        return record if paths and record.files == _facts(paths) else None
    except (OSError, ValidationError):
        return None


def news_fingerprint(root: Path, paths: list[Path], advance: Callable[[int], None]) -> str:
    """sha256 of the texts: the recorded one where there is one, for reading gigabytes at each start
    would take many seconds."""
    record = news_record(root)
    return hash_files(paths, advance) if record is None else record.text_sha256


def ensure_news(
    root: Path, url: str, progress: ProgressCallback, free: FreeBytes = free_bytes
) -> None:
    """Fetch and unpack the archive unless its texts are there already; nothing half-made is ever
    seen below `root/news`.

    Several processes may ask at once: one fetches, the others wait for it and show its progress. A
    part of the archive stays
    when the fetching ends early, hidden beside the folder, and is gone on with.

    Args:
        progress: told `downloading` and `unpacking`; what it raises ends the work.

    Raises:
        CorpusError: the archive can't be fetched, is none that can be trusted, or this Python can't
            unpack it.
        StorageError: `root` can't be written, or the disk is too small, with need and have.
    """
    if news_files(root) is not None:
        return
    folder, part = root / NEWS, root / f".{NEWS}.part"
    if os.path.lexists(folder):
        if news_files(root) is not None:  # another process has just put them there
            return
        raise CorpusError(
            f"{folder} lacks {' or '.join(FILES)}",
            hint="put both files there, or remove the folder: the archive is then fetched",
        )
    check_python()
    with _claimed(part, lambda: news_files(root) is not None, progress) as is_ours:
        if is_ours:
            archive = fetch(
                url, part, progress, lambda size, held: _check_room(root, size, held, free)
            )
            try:
                _publish(archive, root, progress, free)
            except CorpusError:
                discard_part(
                    part
                )  # what it holds can't be used, and fetching the rest wouldn't help
                raise
            discard_part(part)


def _publish(archive: Archive, root: Path, progress: ProgressCallback, free: FreeBytes) -> None:
    sweep(root)
    with building_folder(root, NEWS) as here:
        unpack(archive.path, FILES, here, progress, free)
        paths = [here / name for name in FILES]
        meter = Meter("checking", sum(path.stat().st_size for path in paths), progress)
        text_sha256 = hash_files(paths, meter.advance)
        meter.done()
        fetched = datetime.now(UTC).isoformat(timespec="seconds")
        record = NewsRecord(
            url=archive.url,
            bytes=archive.size,
            sha256=archive.sha256,
            fetched=fetched,
            text_sha256=text_sha256,
            files=_facts(paths),
        )
        (here / RECORD_NAME).write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")
        if not publish(here, root / NEWS) and news_files(root) is None:
            raise StorageError(f"{root / NEWS} is in the way of the corpus", hint="remove it")


def _facts(paths: list[Path]) -> dict[str, _FileFacts]:
    return {
        path.name: _FileFacts(bytes=path.stat().st_size, modified_ns=path.stat().st_mtime_ns)
        for path in paths
    }


def _check_room(root: Path, size: int, held: int, free: FreeBytes) -> None:
    """What is left to fetch, and what the text and its tokens will take."""
    left = size - held
    need, have = left + round(size * TEXT_PER_ARCHIVE * DISK_PER_TEXT), free(root)
    if have < need:
        parts = (
            f"{disk(left)} to fetch, the rest for its text and tokens"
            if left
            else f"for the text and tokens of the {disk(held)} that have come so far"
        )
        raise StorageError(
            f"the news corpus needs about {disk(need)} in {root}, {disk(have)} are free: {parts}",
            hint="free some space, or set RNNLM_TUI_HOME to a folder on a larger disk",
        )


@contextmanager
def _claimed(part: Path, is_done: Callable[[], bool], progress: ProgressCallback) -> Iterator[bool]:
    """True while this process alone may write `part`; False when another one's work was done while
    this one waited.

    The lock is on the part itself, so that nothing has to stay for it; an empty part is removed.
    """
    try:
        part.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StorageError(f"{part.parent} can't be written: {error.strerror or error}") from error
    while not is_done():
        try:
            descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageError(
                f"{part.parent} can't be written: {error.strerror or error}"
            ) from error
        try:
            if _locked(descriptor, part) and _is_same(descriptor, part):
                try:
                    if not is_done():
                        yield True
                        return
                finally:
                    if _is_same(descriptor, part) and not part.stat().st_size:
                        discard_part(part)
            note = read_note(part)
            progress(
                Progress(
                    "downloading", os.fstat(descriptor).st_size, 0 if note is None else note.total
                )
            )
        finally:
            os.close(descriptor)
        time.sleep(_WAIT_SECONDS)
    yield False


def _locked(descriptor: int, path: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise StorageError(
            f"{path} can't be locked: {error.strerror or error}",
            hint="set RNNLM_TUI_HOME to a folder on a disk of this machine",
        ) from error
    return True


def _is_same(descriptor: int, path: Path) -> bool:
    """Whether the open file is still the one of that name: the holder before may have removed
    it."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    ours = os.fstat(descriptor)
    return (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino)
