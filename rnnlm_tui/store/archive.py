"""Archive a whole run into one file, and make a run of such a file on this or another machine.

Both work in parts, so memory doesn't grow with the run. A run appears only after all of its archive
was verified.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from rnnlm_tui import __version__
from rnnlm_tui.errors import (
    ArchiveError,
    InputError,
    NewerDatabaseError,
    RnnlmError,
    RunNameError,
    StorageError,
)
from rnnlm_tui.schema.metrics import EventRow
from rnnlm_tui.schema.status import CORPUS_HASH_KEY
from rnnlm_tui.store.archive_file import (
    ARCHIVE_SUFFIX,
    ArchivedCorpus,
    ArchiveManifest,
    Blocks,
    contents,
    decompressed,
    is_archived,
    pack,
    read_head,
    verify_archive,
)
from rnnlm_tui.store.averages import average_folders
from rnnlm_tui.store.checkpoints import checkpoint_folders
from rnnlm_tui.store.database import RunDatabase
from rnnlm_tui.store.lineage import PARENT_FOLDER
from rnnlm_tui.store.manifest import (
    CHECKPOINT_FOLDER,
    MANIFEST_NAME,
    ManifestFile,
    check_sizes,
    verify_checkpoint,
)
from rnnlm_tui.store.paths import (
    DATABASE_NAME,
    RunDirectory,
    check_run_name,
    choose_location,
    remove_local_database,
    runs_dir,
)
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.runs import check_name_free, put_in_place
from rnnlm_tui.store.schema import check_version, database_errors, is_frozen, one_row, reading_uri
from rnnlm_tui.system.disk import ROOM_FOR_ROWS, require_space
from rnnlm_tui.system.files import (
    fsync_directory,
    fsync_file,
    make_private_directory,
    open_private,
    storage_errors,
)
from rnnlm_tui.system.locks import read_lock, staging

Progress = Callable[[int, int], None]
"""Called with the bytes done and the bytes in all."""


@dataclass(frozen=True, slots=True)
class Archived:
    """A written and verified archive."""

    path: Path
    manifest: ArchiveManifest
    bytes: int
    """Its size."""


def write_archive(run: RunDirectory, target: Path, progress: Progress | None = None) -> Archived:
    """Write a run's config, database, labels, logs and checkpoints to one file.

    A live run keeps training: its database is copied consistently and its finished checkpoints are
    held until they are read, so the archive continues from the newest of them. The file appears
    under its name only after it was read back and compared.

    Args:
        target: must not exist.

    Raises:
        InputError: the target exists or has another ending, or its folder doesn't exist.
        CheckpointError: a checkpoint is damaged.
        StorageError: the run can't be read, or the archive can't be written.
    """
    _check_target(target)
    run.check_there()
    run.check_own_files()
    # beside the run, where its checkpoints can be linked, unless that disk is read-only
    place = runs_dir() if os.access(runs_dir(), os.W_OK) else target.parent
    with staging(place) as copy, staging(target.parent) as beside:
        manifest = _stage(run, copy)
        unfinished = beside / target.name
        report = _meter(progress, 2 * manifest.bytes)
        with storage_errors("write", target):
            require_space(target.parent, manifest.bytes + ROOM_FOR_ROWS, "the archive")
            with os.fdopen(open_private(unfinished, os.O_WRONLY | os.O_EXCL), "wb") as file:
                pack(manifest, copy, file, report)
                file.flush()
                os.fsync(file.fileno())
        with unfinished.open("rb") as file:
            found = verify_archive(file, unfinished, report)
        if found != manifest:
            raise ArchiveError(f"the archive {target} differs from the run after writing it")
        with storage_errors("write", target):
            try:
                os.link(unfinished, target)  # unlike a rename, never replaces another file
            except FileExistsError:
                _check_target(target)
                raise
            except OSError:  # a filesystem without links
                _check_target(target)
                unfinished.rename(target)
            fsync_directory(target.parent)
            return Archived(target, manifest, target.stat().st_size)


def read_archive(
    path: Path, name: str | None = None, progress: Progress | None = None
) -> tuple[RunDirectory, ArchiveManifest]:
    """Make a run of an archive. It appears only when all of it was verified, else nothing is left.

    Args:
        name: for the run; None: the archived one's.

    Raises:
        InputError: no such file.
        RunNameError: the name is invalid or taken.
        ArchiveError: the file is no archive, damaged, unsafe, or of another version.
        StorageError: not enough space, or the run can't be written.
    """
    if name is not None:
        _check_free(check_run_name(name), path)
    with _opened(path) as file:
        blocks = Blocks(decompressed(file, path), path)
        manifest = read_head(blocks, path)
        chosen = name or manifest.run
        _check_free(chosen, path)
        make_private_directory(runs_dir())
        require_space(runs_dir(), manifest.bytes + ROOM_FOR_ROWS, f"the run {manifest.run}")
        place = None
        with staging(runs_dir()) as folder:
            unfinished = folder / "run"
            make_private_directory(unfinished)
            try:
                _unpack(blocks, manifest, path, unfinished, _meter(progress, manifest.bytes))
                run = RunDirectory(unfinished)
                _check_usable(run, manifest, path)
                with storage_errors("write", unfinished):
                    os.utime(run.config_path, (manifest.created, manifest.created))
                    place = choose_location(unfinished)
                    if place is not None and (unfinished / DATABASE_NAME).exists():
                        shutil.move(unfinished / DATABASE_NAME, place.path)
                        fsync_file(place.path)
                    for part in (*(unfinished.rglob("*/")), unfinished):
                        if part.is_dir():
                            fsync_directory(part)
                try:
                    return put_in_place(unfinished, chosen), manifest
                except RunNameError as error:
                    raise _taken(error, path) from error
            except BaseException:
                if place is not None:
                    remove_local_database(place)
                raise


def _check_target(target: Path) -> None:
    if target.is_dir():
        raise InputError(
            f"{target} is a folder", hint=f"name a file in it, such as run{ARCHIVE_SUFFIX}"
        )
    if os.path.lexists(target):
        raise InputError(f"{target} already exists", hint="choose another name, or remove it first")
    if not target.parent.is_dir():
        raise InputError(f"the folder {target.parent} doesn't exist", hint="create it first")
    if not target.name.endswith(ARCHIVE_SUFFIX):
        raise InputError(
            f"{target} doesn't end in {ARCHIVE_SUFFIX}: an archive is a tar file, compressed by"
            " zstd",
            hint=f"name it {target.name.partition('.tar')[0]}{ARCHIVE_SUFFIX}",
        )


def _stage(run: RunDirectory, staging: Path) -> ArchiveManifest:
    """Collect the files of a run as they are now, and describe them.

    Checkpoints never change, so they are linked: a worker that removes one in the meantime leaves
    ours. Everything else is copied.
    """
    live = read_lock(run.lock_path).held
    files: list[str] = []
    with storage_errors("look into", run.path), os.scandir(run.path) as entries:
        names = sorted(
            entry.name
            for entry in entries
            if entry.is_file(follow_symlinks=False) and is_archived(entry.name)
        )
    with storage_errors("copy", run.path):
        for name in names:
            shutil.copyfile(run.path / name, staging / name, follow_symlinks=False)
            files.append(name)
    for folder in _stage_checkpoints(run, staging):
        files += [str(path.relative_to(staging)) for path in sorted(folder.iterdir())]
    steps = [int(found[1]) for name in files if (found := _step_of(name))]
    step = max(steps, default=0)
    meta = _stage_database(run, staging, step)
    if (staging / DATABASE_NAME).exists():
        files.insert(0, DATABASE_NAME)
    config = RunDirectory(staging).read_config()
    described = {
        name: ManifestFile(size=size, sha256=digest)
        for name, (size, digest) in ((name, _described(staging / name)) for name in files)
    }
    return ArchiveManifest(
        run=run.name,
        created=run.created(),
        archived=time.time(),
        version=__version__,
        step=step,
        live=live,
        corpus=ArchivedCorpus(
            hash=meta.get(CORPUS_HASH_KEY, ""),
            source=config.corpus.source,
            title=meta.get("corpus_title", ""),
        ),
        files=described,
    )


def _step_of(name: str) -> re.Match[str] | None:
    parts = name.split("/")
    return CHECKPOINT_FOLDER.fullmatch(parts[1]) if len(parts) == 3 else None


def _stage_checkpoints(run: RunDirectory, staging: Path) -> Iterator[Path]:
    """Link all weights of the run, verify them, and yield their folders."""
    for source in _weights_of(run):
        folder = staging / source.relative_to(run.path)
        make_private_directory(folder)
        try:
            for path in sorted(source.iterdir()):
                _link(path, folder / path.name)
        except FileNotFoundError:
            shutil.rmtree(folder)  # the worker just removed an old one
            continue
        except OSError as error:
            raise StorageError(f"can't copy {source}: {error.strerror or error}") from error
        try:
            manifest = verify_checkpoint(folder)
        except StorageError as error:
            raise type(error)(
                error.message.replace(str(staging), str(run.path)),
                hint=f"`rnnlm-tui verify {run.name}` checks all; delete the damaged checkpoint, or"
                " resume the run, which moves it aside",
            ) from error
        for path in folder.iterdir():
            if path.name not in manifest.files and path.name != MANIFEST_NAME:
                path.unlink()  # not part of the checkpoint
        yield folder


def _weights_of(run: RunDirectory) -> list[Path]:
    """The folders of the finished checkpoints, of averages, and of the parent's weights."""
    parent = run.path / PARENT_FOLDER
    return [
        *(path for _, path in checkpoint_folders(run)),
        *(path for _, path in average_folders(run)),
        *([parent] if parent.is_dir() and not parent.is_symlink() else []),
    ]


def _link(source: Path, copy: Path) -> None:
    if not stat.S_ISREG(source.lstat().st_mode):
        return
    try:
        os.link(source, copy, follow_symlinks=False)
    except FileNotFoundError:
        raise
    except OSError:  # a filesystem without links
        shutil.copyfile(source, copy, follow_symlinks=False)


def _stage_database(run: RunDirectory, staging: Path, step: int) -> dict[str, str]:
    """Copy the database by SQLite's backup, which is consistent while a worker writes.

    A run that has not ended gets the event `stopped` in the copy: on another machine a missing
    worker would look like one that can't be reached.

    Returns:
        The run's facts.
    """
    with RunReader(run) as reader:  # also refreshes the copy of another host's database
        meta, last = reader.meta(), reader.last_state()
    source, copy = run.database_path, staging / DATABASE_NAME
    if not source.exists():
        return meta
    with database_errors(source):
        os.close(open_private(copy, os.O_WRONLY))
        with (
            closing(
                sqlite3.connect(reading_uri(source, frozen=is_frozen(source)), uri=True)
            ) as old,
            closing(sqlite3.connect(copy)) as new,
        ):
            old.backup(new, pages=4_096)
    if last is not None and last.kind not in ("stopped", "finished", "failed"):
        with RunDatabase(copy) as database:
            words = f"archived while it was running: continues from the checkpoint of step {step:,}"
            database.add_event(EventRow(last.attempt, step, "stopped", words, time.time()))
    with database_errors(copy), closing(sqlite3.connect(copy)) as new:
        new.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for suffix in ("-wal", "-shm"):
        copy.with_name(f"{copy.name}{suffix}").unlink(missing_ok=True)
    return meta


def _described(path: Path) -> tuple[int, str]:
    with storage_errors("read", path), path.open("rb") as file:
        return path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()


def _meter(progress: Progress | None, total: int) -> Callable[[int], None]:
    done = 0

    def report(size: int) -> None:
        nonlocal done
        done += size
        if progress is not None:
            progress(done, total)

    return report


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise InputError(f"{path} is not a regular file", hint=f"give a {ARCHIVE_SUFFIX} file")
        file = path.open("rb")
    except FileNotFoundError:
        raise InputError(f"{path} not found", hint=f"give a {ARCHIVE_SUFFIX} file") from None
    except OSError as error:
        raise StorageError(f"can't read {path}: {error.strerror or error}") from error
    with file:
        yield file


def _unpack(
    blocks: Blocks,
    manifest: ArchiveManifest,
    path: Path,
    folder: Path,
    report: Callable[[int], None],
) -> None:
    """Write all files into a folder."""
    for name, content in contents(blocks, manifest, path, report):
        target = folder / name
        make_private_directory(target.parent)
        with storage_errors("write", target):
            descriptor = open_private(target, os.O_WRONLY | os.O_EXCL)
            with os.fdopen(descriptor, "wb") as file:
                for part in content:
                    file.write(part)
                file.flush()
                os.fsync(file.fileno())


def _check_usable(run: RunDirectory, manifest: ArchiveManifest, path: Path) -> None:
    """Check that this version can read what was unpacked."""
    advice = f"the archive was made by rnnlm-tui {manifest.version}, this is {__version__}"
    try:
        run.read_config()
        if (database := run.path / DATABASE_NAME).exists():
            with (
                database_errors(database),
                closing(sqlite3.connect(reading_uri(database, frozen=True), uri=True)) as found,
            ):
                check_version(int(one_row(found, "PRAGMA user_version")[0]), database)
                one_row(found, "SELECT count(*) FROM attempts")
        for folder in _weights_of(run):
            check_sizes(folder)
    except NewerDatabaseError as error:
        raise ArchiveError(
            f"{path}: its database was made by a newer version of rnnlm-tui",
            hint=f"{advice}; update rnnlm-tui",
        ) from error
    except RnnlmError as error:
        inner = error.message.replace(f"{run.path}/", "")
        raise ArchiveError(f"can't use the run in {path}: {inner}", hint=advice) from error


def _check_free(name: str, path: Path) -> None:
    try:
        check_name_free(name)
    except RunNameError as error:
        raise _taken(error, path) from error


def _taken(error: RunNameError, path: Path) -> RunNameError:
    return RunNameError(error.message, hint=f"give another name: rnnlm-tui unarchive {path} NAME")
