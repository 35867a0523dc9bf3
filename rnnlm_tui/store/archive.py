"""Archive a whole run into one file, and make a run of such a file on this or another machine.

An archive is a tar file in one zstd frame, which ends with its checksum: first `archive.json`, the
head, then the run's files below `run/`. Only plain files with the names of a run's files are
unpacked, at most as many bytes as the head says, and the run appears once its own checks pass.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import stat
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

import zstandard
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rnnlm_tui import __version__
from rnnlm_tui.errors import ArchiveError, InputError, RnnlmError, RunNameError, StorageError
from rnnlm_tui.schema.formatting import LATEST, counted
from rnnlm_tui.schema.metrics import EventRow
from rnnlm_tui.store.averages import AVERAGE_FOLDER, average_folders
from rnnlm_tui.store.checkpoints import checkpoint_folders
from rnnlm_tui.store.labels import change_labels
from rnnlm_tui.store.lineage import PARENT_FOLDER, read_parent
from rnnlm_tui.store.log import MAX_LINE, RunLog, decode, logs_of
from rnnlm_tui.store.manifest import CHECKPOINT_FOLDER, verify_checkpoint
from rnnlm_tui.store.paths import RunDirectory, check_run_name, runs_dir
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.runs import check_name_free, put_in_place
from rnnlm_tui.system.disk import ROOM_FOR_ROWS, require_space
from rnnlm_tui.system.files import (
    fsync_directory,
    link_or_copy,
    make_private_directory,
    open_private,
    storage_errors,
)
from rnnlm_tui.system.locks import read_lock, staging

ARCHIVE_FORMAT = 2
"""Incremented when the meaning of an archive changes."""
ARCHIVE_SUFFIX = ".tar.zst"
HEAD_MEMBER = "archive.json"
MAX_FILES = 100_000
_COPIED = 1 << 20
_FED = 1_024
"""Compressed bytes that are unpacked at once. 1,024 of them become 32 MiB at most."""
_SMALL, _ANY = 1 << 20, 1 << 60
_WEIGHTS = rf"(checkpoints/({CHECKPOINT_FOLDER.pattern}|{AVERAGE_FOLDER.pattern})|{PARENT_FOLDER})"
_MEMBERS = {
    re.compile(name, re.ASCII): most_bytes
    for name, most_bytes in {
        re.escape(HEAD_MEMBER): _SMALL,
        r"run/config\.toml": _SMALL,
        r"run/(labels|parent)\.json": _SMALL,
        r"run/worker\.log": _ANY,
        r"run/log/\d{6}\.jsonl": _ANY,
        rf"run/{_WEIGHTS}/[A-Za-z0-9][A-Za-z0-9._-]{{0,39}}\.(json|safetensors)": _ANY,
    }.items()
}
"""The files of an archive: names, and how long each may be. A run's other files mean nothing on
other machines."""

Progress = Callable[[int, int], None]
"""Called with the bytes done and the bytes in all."""
_Members = Iterator[tuple[tarfile.TarInfo, IO[bytes]]]


class ArchiveHead(BaseModel):
    """The first member of an archive: what is in it, and what unpacking it takes."""

    model_config = ConfigDict(frozen=True)

    # the first field, so the first that is named: other versions may have other fields
    format: int = Field(default=ARCHIVE_FORMAT, ge=ARCHIVE_FORMAT, le=ARCHIVE_FORMAT)
    version: str = Field(default=__version__, pattern=r"^[0-9A-Za-z.+-]{1,64}$")
    """Of rnnlm-tui."""
    run: str
    created: float = Field(ge=0, le=LATEST)
    """When the run was created, in Unix seconds."""
    step: int = Field(ge=0, lt=10**12)
    """Of the newest checkpoint; 0 if there is none."""
    live: bool
    """The run had a worker when it was archived."""
    corpus: str
    """`corpus.source` of its config: the text itself isn't in the archive."""
    config_sha256: str
    """Of `config.toml`."""
    files: int = Field(ge=1, le=MAX_FILES)
    bytes: int = Field(ge=1, lt=_ANY)
    """Size of all files."""


def write_archive(
    run: RunDirectory, target: Path, progress: Progress = lambda *_: None
) -> ArchiveHead:
    """Write a run's config, rows, labels, logs and checkpoints to one file.

    A live run keeps training: its finished checkpoints are held until they are read, and its rows
    are copied after them, so the archive continues from the newest of them. The file appears under
    its name when it is complete.

    Args:
        target: must not exist.

    Raises:
        InputError: the target exists or has another ending, or its folder doesn't exist.
        CheckpointError: a checkpoint is damaged.
        StorageError: the run can't be read, or the archive can't be written.
    """
    with storage_errors("write", target):
        _check_target(target)
    run.check_there()
    run.check_own_files()
    # beside the run, where its checkpoints can be linked, unless that disk is read-only
    place = runs_dir() if os.access(runs_dir(), os.W_OK) else target.parent
    with staging(place) as copy, staging(target.parent) as beside:
        with storage_errors("copy", run.path):
            head, sizes = _stage(run, copy / "run")
        with storage_errors("write", target):
            require_space(target.parent, head.bytes + ROOM_FOR_ROWS, "the archive")
            unfinished = beside / "archive"
            with os.fdopen(open_private(unfinished, os.O_WRONLY), "wb") as file:
                _pack(head, sizes, copy, file, progress)
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(unfinished, target)  # unlike a rename, never replaces another file
            except OSError:  # taken meanwhile, or a filesystem without links
                _check_target(target)
                unfinished.rename(target)
            fsync_directory(target.parent)
    return head


def read_archive(
    path: Path, name: str | None = None, progress: Progress = lambda *_: None
) -> tuple[RunDirectory, ArchiveHead]:
    """Make a run of an archive. It appears only when all of it was verified, else nothing is left.

    Args:
        name: for the run; None: the archived one's.

    Raises:
        InputError: no such file.
        RunNameError: the name is invalid or taken.
        ArchiveError: the file is no archive, damaged, unsafe, or of another version.
        StorageError: not enough space, or the run can't be written.
    """
    try:
        with _opened(path) as members:
            head = _read_head(members)
            chosen = check_run_name(head.run if name is None else name)
            check_name_free(chosen)
            make_private_directory(runs_dir())
            require_space(runs_dir(), head.bytes + ROOM_FOR_ROWS, f"the run {chosen}")
            with staging(runs_dir()) as folder:
                run = RunDirectory(folder / "run")
                _unpack(members, head, folder, progress)
                _check_usable(run, head, path)
                with storage_errors("write", run.path):
                    os.utime(run.config_path, (head.created, head.created))
                    for part in {run.path, *(file.parent for file in run.path.rglob("*"))}:
                        fsync_directory(part)
                    return put_in_place(run.path, chosen), head
    except RunNameError as error:
        hint = f"give another name: rnnlm-tui unarchive {path} NAME"
        raise RunNameError(error.message, hint=hint) from error


def _check_target(target: Path) -> None:
    if os.path.lexists(target):
        raise InputError(
            f"{target} already exists",
            hint="choose another name, or a file in it if it is a folder",
        )
    if not target.parent.is_dir():
        raise InputError(f"the folder {target.parent} doesn't exist", hint="create it first")
    if not target.name.endswith(ARCHIVE_SUFFIX):
        raise InputError(
            f"{target} doesn't end in {ARCHIVE_SUFFIX}: an archive is a tar file, compressed by"
            " zstd",
            hint=f"name it {target.name.partition('.tar')[0]}{ARCHIVE_SUFFIX}",
        )


def _is_member(name: str, size: int = 0) -> bool:
    return any(pattern.fullmatch(name) and 0 <= size <= most for pattern, most in _MEMBERS.items())


def _stage(run: RunDirectory, folder: Path) -> tuple[ArchiveHead, dict[Path, int]]:
    """Collect the files of a run as they are now, and describe them; also returns their sizes.

    They are linked, since none is changed in place: a worker that removes or replaces one in the
    meantime leaves ours, and of a log that grows, only the present size is read.
    """
    live = read_lock(run.lock_path).held
    staged = RunDirectory(folder)
    for weights in _weights_of(run):
        copy = folder / weights.relative_to(run.path)
        try:
            _link_files(run, weights, folder)
        except FileNotFoundError:
            shutil.rmtree(copy)  # the worker just removed an old one
            continue
        try:
            verify_checkpoint(copy)
        except StorageError as error:
            raise type(error)(
                error.message.replace(str(copy), str(weights)),
                hint=f"`rnnlm-tui verify {run.name}` checks all; delete the damaged checkpoint, or"
                " resume the run, which moves it aside",
            ) from error
    for place in (run.checkpoints_path, run.logs_path, run.path):
        if place.is_dir():
            _link_files(run, place, folder)
    step = max((step for step, _ in checkpoint_folders(staged)), default=0)
    _end_log(run, staged, step)
    sizes = {path: path.stat().st_size for path in sorted(folder.rglob("*")) if path.is_file()}
    head = ArchiveHead(
        run=run.name,
        created=run.created(),
        step=step,
        live=live,
        corpus=staged.read_config().corpus.source,
        config_sha256=hashlib.sha256(staged.config_path.read_bytes()).hexdigest(),
        files=len(sizes),
        bytes=sum(sizes.values()),
    )
    return head, sizes


def _link_files(run: RunDirectory, place: Path, folder: Path) -> None:
    """Link the files of one of a run's folders."""
    make_private_directory(folder / place.relative_to(run.path))
    for source in place.iterdir():
        name = source.relative_to(run.path)
        if _is_member(f"run/{name}") and stat.S_ISREG(source.lstat().st_mode):
            link_or_copy(source, folder / name)


def _weights_of(run: RunDirectory) -> list[Path]:
    """The folders of the finished checkpoints, of averages, and of the parent's weights."""
    parent = run.path / PARENT_FOLDER
    return [
        *(path for _, path in checkpoint_folders(run)),
        *average_folders(run).values(),
        *([parent] if parent.is_dir() and not parent.is_symlink() else []),
    ]


def _end_log(run: RunDirectory, staged: RunDirectory, step: int) -> None:
    """Let the newest log of a run that has not ended say that it is stopped: on another machine a
    missing worker would look like one that can't be reached."""
    with RunReader(run) as reader:
        last = reader.last_state()
    if last is None or last.kind in ("stopped", "finished", "failed"):
        return
    attempt, source = logs_of(run)[-1]
    copy = staged.logs_path / source.name
    copy.unlink()
    shutil.copyfile(source, copy)
    with copy.open("r+b") as file:  # without the line that is being written
        start = max(0, file.seek(0, os.SEEK_END) - MAX_LINE)
        file.seek(start)
        file.truncate(start + file.read().rfind(b"\n") + 1)
    with RunLog(staged, attempt) as log:
        words = f"archived while it was running: continues from the checkpoint of step {step:,}"
        log.append(EventRow(attempt, step, "stopped", words, time.time()))


def _pack(
    head: ArchiveHead, sizes: dict[Path, int], folder: Path, file: IO[bytes], report: Progress
) -> None:
    packer = zstandard.ZstdCompressor(write_checksum=True)
    done = 0
    with (
        packer.stream_writer(file, closefd=False) as frame,
        tarfile.open(fileobj=frame, mode="w|", format=tarfile.GNU_FORMAT) as tar,
    ):

        def add(name: str, size: int, content: IO[bytes]) -> None:
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.mtime = size, 0o600, int(time.time())
            tar.addfile(member, content)

        text = head.model_dump_json(indent=1).encode() + b"\n"
        add(HEAD_MEMBER, len(text), io.BytesIO(text))
        for path, size in sizes.items():
            with path.open("rb") as content:
                add(str(path.relative_to(folder)), size, content)
            done += size
            report(done, head.bytes)


class _Frame:
    """Unpacks a file's one zstd frame in parts, up to a limit."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._held = file, memoryview(b"")
        self._stream = zstandard.ZstdDecompressor().decompressobj()
        self.left = 2 * _SMALL
        """Bytes that it may still unpack to, besides the members that were checked."""

    def read(self, size: int) -> bytes:
        """Between one and `size` bytes; none at the end, after the checksum was verified."""
        while not self._held and not self._stream.eof:
            block = self._file.read(_FED)
            if not block:
                raise tarfile.ReadError("it is truncated")
            self._held = memoryview(self._stream.decompress(block))
        part, self._held = self._held[:size], self._held[size:]
        self.left -= len(part)
        if self.left < 0:
            raise tarfile.ReadError("it unpacks to more than its head says")
        return bytes(part)

    def finish(self) -> None:
        """Read to the end, and check that it is the file's end."""
        while self.read(_COPIED):
            continue
        if self._stream.unused_data or self._file.read(1):
            raise tarfile.ReadError("something follows its end")


@contextmanager
def _opened(path: Path) -> Iterator[_Members]:
    hint = "nothing was unpacked; `rnnlm-tui archive` makes archives"
    with storage_errors("read", path):
        if not path.is_file():
            why = "is not a regular file" if path.exists() else "not found"
            raise InputError(f"{path} {why}", hint=f"give a {ARCHIVE_SUFFIX} file")
        with path.open("rb") as file:
            try:
                yield _members(file)
            except (tarfile.TarError, zstandard.ZstdError, ValueError) as error:
                # tarfile lets the ValueErrors of some extensions through
                raise ArchiveError(f"can't unpack {path}: {error}", hint=hint) from error


def _members(file: IO[bytes]) -> _Members:
    """The archive's files in order: only plain files that a run has, each once."""
    if file.read(len(zstandard.FRAME_HEADER)) != zstandard.FRAME_HEADER:
        raise tarfile.ReadError(f"it is not a zstd file ({ARCHIVE_SUFFIX})")
    file.seek(0)
    frame, names = _Frame(file), set[str]()
    with tarfile.open(fileobj=cast("IO[bytes]", frame), mode="r|") as tar:
        while (member := tar.next()) is not None:
            shown = repr(member.name[:80])
            if member.name == "manifest.json":
                raise tarfile.ReadError(
                    "an unreleased version made it: archive the run again with this one"
                )
            plain = member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not member.pax_headers
            if not (plain and _is_member(member.name, member.size)):
                size = counted(member.size, "byte")
                raise tarfile.ReadError(f"a run has no plain file {shown} of {size}")
            if member.name in names:
                raise tarfile.ReadError(f"it has {member.name} twice")
            names.add(member.name)
            frame.left += member.size + 2 * tarfile.BLOCKSIZE
            yield member, cast("IO[bytes]", tar.extractfile(member))  # None for other kinds
    frame.finish()


def _read_head(members: _Members) -> ArchiveHead:
    member, content = next(members, (tarfile.TarInfo(), io.BytesIO()))
    if member.name != HEAD_MEMBER:
        raise tarfile.ReadError(f"it doesn't begin with {HEAD_MEMBER}: not an archive of a run")
    try:
        return ArchiveHead.model_validate_json(content.read())
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        why = "another version of rnnlm-tui made it" if where == "format" else "its head is invalid"
        raise tarfile.ReadError(f"{why}: {where}: {first['msg']}") from error


def _unpack(members: _Members, head: ArchiveHead, folder: Path, report: Progress) -> None:
    """Write all files into a folder."""
    files = done = 0
    for member, content in members:
        files, done = files + 1, done + member.size
        if done > head.bytes or files > head.files:
            raise tarfile.ReadError("it unpacks to more than its head says")
        target = folder / member.name
        make_private_directory(target.parent)
        with (
            storage_errors("write", target),
            os.fdopen(open_private(target, os.O_WRONLY), "wb") as file,
        ):
            shutil.copyfileobj(content, file, _COPIED)
            file.flush()
            os.fsync(file.fileno())
        report(done, head.bytes)
    if (files, done) != (head.files, head.bytes):
        raise tarfile.ReadError(
            f"it has {counted(files, 'file')} of {done:,} bytes, its head says {head.files:,} of"
            f" {head.bytes:,}"
        )


def _check_usable(run: RunDirectory, head: ArchiveHead, path: Path) -> None:
    """Check that this version can use what was unpacked."""
    try:
        run.read_config()
        if hashlib.sha256(run.config_path.read_bytes()).hexdigest() != head.config_sha256:
            raise StorageError("its config.toml is another one than its head says")
        read_parent(run)
        change_labels(run, lambda labels: labels)  # checks them
        for folder in _weights_of(run):
            verify_checkpoint(folder)
        for attempt, log in logs_of(run):
            with log.open("rb") as file:
                decode(file.readline(MAX_LINE), attempt)
    except RnnlmError as error:
        raise ArchiveError(
            f"can't use the run in {path}: {error.message.replace(f'{run.path}/', '')}",
            hint=f"the archive was made by rnnlm-tui {head.version}, this is {__version__}",
        ) from error
