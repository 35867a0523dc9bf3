"""The file format of an archived run: a `.tar.zst` file with sizes and hashes at its head.

The tar file has `manifest.json` first and then the files in the manifest's order, below `run/`.
Only plain files are accepted: there are no links, folders, devices or extended headers to follow.
A file is read in parts, and nothing of it is trusted that the manifest, our limits and the hashes
don't confirm.
"""

from __future__ import annotations

import hashlib
import re
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rnnlm_tui.errors import ArchiveError, RunNameError, StorageError
from rnnlm_tui.schema.formatting import counted
from rnnlm_tui.store.averages import AVERAGE_FOLDER
from rnnlm_tui.store.lineage import PARENT_FOLDER
from rnnlm_tui.store.manifest import CHECKPOINT_FOLDER, FILE_NAME, PICKLE_SUFFIXES, ManifestFile
from rnnlm_tui.store.paths import DATABASE_NAME, check_run_name
from rnnlm_tui.system.files import storage_errors

ARCHIVE_FORMAT = 1
"""Incremented when the meaning of an archive changes."""
ARCHIVE_SUFFIX = ".tar.zst"
MANIFEST_MEMBER = "manifest.json"
MAX_MANIFEST_BYTES = 16 * 2**20
MAX_FILES = 100_000
LEVEL = 3
"""zstd's default: weights hardly get smaller, and metrics are a small part."""
MAX_WINDOW = 2**27
"""Memory that a frame may ask for; ours take 8 MiB at most."""
_FOLDER = "run/"
_BLOCK = 512
_COPIED = 1 << 20
_FED = 1_024
"""Compressed bytes that are unpacked at once. 1,024 of them become 32 MiB at most."""
_MAGIC = b"\x28\xb5\x2f\xfd"
_ARCHIVED = re.compile(
    r"config\.toml|worker\.log|(labels|parent|exports)\.json|metrics-\d{1,6}\.jsonl"
)
"""Files of a run's folder, besides its database, that mean something on other machines too."""


class ArchivedCorpus(BaseModel):
    """What a run was trained on: its text isn't in the archive."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hash: str = ""
    """SHA-256 of the prepared corpus; empty if the run never prepared one."""
    source: str
    """`corpus.source` of its config."""
    title: str = ""


class ArchiveManifest(BaseModel):
    """The head of an archive."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["rnnlm-tui run"] = "rnnlm-tui run"
    format: int = ARCHIVE_FORMAT
    run: str
    created: float
    """When the run was created, in Unix seconds."""
    archived: float
    version: str
    """Of rnnlm-tui."""
    step: int = Field(ge=0)
    """Of the newest checkpoint; 0 if there is none."""
    live: bool
    """The run had a worker when it was archived."""
    corpus: ArchivedCorpus
    files: dict[str, ManifestFile]
    """By path below the run's folder, in the order of the archive."""
    checksum: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """SHA-256 of the manifest without this field."""

    def text(self) -> str:
        """The manifest as JSON, with its checksum."""
        return self.model_copy(update={"checksum": self.digest()}).model_dump_json(indent=1) + "\n"

    def digest(self) -> str:
        """The correct checksum."""
        return hashlib.sha256(self.model_dump_json(exclude={"checksum"}).encode()).hexdigest()

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(file.size for file in self.files.values())


def is_archived(name: str) -> bool:
    """Whether a file of a run's folder belongs into its archive."""
    return _ARCHIVED.fullmatch(name) is not None


def pack(
    manifest: ArchiveManifest, staging: Path, file: IO[bytes], report: Callable[[int], None]
) -> None:
    """Write the archive; every file must still be as described."""
    import zstandard  # here: only archives need it

    packer = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True, write_content_size=False)
    with packer.stream_writer(file, closefd=False) as out:
        head = manifest.text().encode()
        out.write(
            _header(MANIFEST_MEMBER, len(head), manifest.archived) + head + _padding(len(head))
        )
        for name, facts in manifest.files.items():
            out.write(_header(_FOLDER + name, facts.size, manifest.archived))
            digest, size = hashlib.sha256(), 0
            with (staging / name).open("rb") as source:
                while block := source.read(_COPIED):
                    digest.update(block)
                    size += len(block)
                    out.write(block)
                    report(len(block))
            if size != facts.size or digest.hexdigest() != facts.sha256:
                raise StorageError(f"{name} changed while it was archived", hint="try again")
            out.write(_padding(size))
        out.write(bytes(2 * _BLOCK))


def _header(name: str, size: int, mtime: float) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = size, int(mtime), 0o600
    return info.tobuf(tarfile.GNU_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % _BLOCK)


def _damaged(path: Path, why: str) -> ArchiveError:
    return ArchiveError(
        f"{path} is damaged: {why}", hint="nothing was unpacked; copy or make the archive again"
    )


def _refused(path: Path, why: str) -> ArchiveError:
    return ArchiveError(
        f"refused {path}: {why}", hint="nothing was unpacked; `rnnlm-tui archive` makes archives"
    )


def decompressed(file: IO[bytes], path: Path) -> Iterator[bytes]:
    """The tar file's bytes in parts; checks zstd's own checksum at the end."""
    import zstandard

    start = file.read(len(_MAGIC))
    if start != _MAGIC:
        raise _refused(path, "it is not a zstd file (.tar.zst)")
    stream = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW).decompressobj()
    block = start
    while block:
        try:
            data = stream.decompress(block)
        except zstandard.ZstdError as error:
            raise _damaged(path, f"{error}") from error
        if data:
            yield data
        if stream.eof:
            if stream.unused_data or file.read(1):
                raise _damaged(path, "something follows its end")
            return
        with storage_errors("read", path):
            block = file.read(_FED)
    raise _damaged(path, "it is truncated")


class Blocks:
    """Reads the unpacked bytes in parts of a wanted size."""

    def __init__(self, parts: Iterator[bytes], path: Path) -> None:
        self._parts, self._path, self._held = parts, path, memoryview(b"")

    def upto(self, size: int) -> memoryview:
        """Between one and `size` bytes."""
        while not self._held:
            try:
                self._held = memoryview(next(self._parts))
            except StopIteration:
                raise _damaged(self._path, "it ends in the middle of a file") from None
        part, self._held = self._held[:size], self._held[size:]
        return part

    def exactly(self, size: int) -> bytes:
        """`size` bytes."""
        found = bytearray()
        while len(found) < size:
            found += self.upto(size - len(found))
        return bytes(found)

    def end(self) -> None:
        """Check that only zeros are left, and that the whole file was read."""
        size = 0
        while True:
            if any(self._held):
                raise _damaged(self._path, "it has more files than its manifest")
            size += len(self._held)
            try:
                self._held = memoryview(next(self._parts))
            except StopIteration:
                break
        if size < 2 * _BLOCK:
            raise _damaged(self._path, "its end is missing")


def _member(blocks: Blocks, path: Path) -> tarfile.TarInfo:
    """The next header; only plain files are accepted."""
    block = blocks.exactly(_BLOCK)
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
    except (tarfile.HeaderError, UnicodeDecodeError) as error:
        raise _damaged(path, f"it has an invalid tar header ({error})") from error
    if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
        kinds = {
            tarfile.SYMTYPE: "a symbolic link",
            tarfile.LNKTYPE: "a hard link",
            tarfile.DIRTYPE: "a folder",
            tarfile.CHRTYPE: "a device",
            tarfile.BLKTYPE: "a device",
            tarfile.FIFOTYPE: "a pipe",
        }
        kind = kinds.get(info.type, "an extended header")
        raise _refused(path, f"it has {kind} ({info.name[:80]!r}); only plain files are unpacked")
    return info


def read_head(blocks: Blocks, path: Path) -> ArchiveManifest:
    """Read and check the manifest."""
    info = _member(blocks, path)
    if info.name != MANIFEST_MEMBER:
        raise _refused(path, f"it doesn't begin with {MANIFEST_MEMBER}: not an archive of a run")
    if not 0 < info.size <= MAX_MANIFEST_BYTES:
        raise _refused(path, f"its manifest has {counted(info.size, 'byte')}")
    text = blocks.exactly(info.size)
    blocks.exactly(-info.size % _BLOCK)
    newer = re.search(rb'"format":\s*(\d{1,6})\b', text[:4_096])
    if newer and int(newer[1]) != ARCHIVE_FORMAT and b'"rnnlm-tui run"' in text[:4_096]:
        raise ArchiveError(
            f"{path} was made by another version of rnnlm-tui (archive format {int(newer[1])}, this"
            f" version reads {ARCHIVE_FORMAT})",
            hint="update rnnlm-tui",
        )
    try:
        manifest = ArchiveManifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise _damaged(path, f"its manifest is invalid: {where}: {first['msg']}") from error
    if manifest.checksum != manifest.digest():
        raise _damaged(path, "its manifest's checksum doesn't match")
    try:
        check_run_name(manifest.run)
    except RunNameError as error:
        raise _refused(path, error.message) from error
    _check_names(manifest, path)
    return manifest.model_copy(update={"checksum": None})


def _check_names(manifest: ArchiveManifest, path: Path) -> None:
    """Refuse paths that a run doesn't have, or that lead out of its folder."""
    if len(manifest.files) > MAX_FILES:
        raise _refused(path, f"it has {counted(len(manifest.files), 'file')}")
    for name in manifest.files:
        if name == DATABASE_NAME or ("/" not in name and is_archived(name)):
            continue
        folder, _, file = name.rpartition("/")
        place, _, checkpoint = folder.partition("/")
        if (
            not (
                folder == PARENT_FOLDER
                or (
                    place == "checkpoints"
                    and (
                        CHECKPOINT_FOLDER.fullmatch(checkpoint)
                        or AVERAGE_FOLDER.fullmatch(checkpoint)
                    )
                )
            )
            or not FILE_NAME.fullmatch(file)
            or Path(name).suffix.lower() in PICKLE_SUFFIXES
        ):
            raise _refused(path, f"a run has no file {name[:80]!r}")
    if "config.toml" not in manifest.files:
        raise _refused(path, "it has no config.toml")


def contents(
    blocks: Blocks, manifest: ArchiveManifest, path: Path, report: Callable[[int], None]
) -> Iterator[tuple[str, Iterator[memoryview]]]:
    """Each file's name and content, verified once the content is read."""
    for name, facts in manifest.files.items():
        info = _member(blocks, path)
        if info.name != _FOLDER + name:
            raise _refused(path, f"it has {info.name[:80]!r} where its manifest has {name!r}")
        if info.size != facts.size:
            raise _damaged(path, f"{name} has another size than in the manifest")

        def content(name: str = name, facts: ManifestFile = facts) -> Iterator[memoryview]:
            digest, left = hashlib.sha256(), facts.size
            while left:
                part = blocks.upto(min(left, _COPIED))
                digest.update(part)
                left -= len(part)
                yield part
                report(len(part))
            if digest.hexdigest() != facts.sha256:
                raise _damaged(path, f"the content of {name} doesn't match its hash")
            if any(blocks.exactly(-facts.size % _BLOCK)):
                raise _damaged(path, f"something is hidden after {name}")

        yield name, content()
    blocks.end()


def verify_archive(file: IO[bytes], path: Path, report: Callable[[int], None]) -> ArchiveManifest:
    """Verify an archive without unpacking it."""
    blocks = Blocks(decompressed(file, path), path)
    manifest = read_head(blocks, path)
    for _, content in contents(blocks, manifest, path, report):
        for _ in content:
            continue
    return manifest
