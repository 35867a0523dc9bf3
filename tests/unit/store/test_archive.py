"""Archives of runs: whole copies, also of live runs, and everything that can be wrong with one."""

from __future__ import annotations

import io
import json
import random
import shutil
import sqlite3
import tarfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import zstandard

from rnnlm_tui.errors import (
    ArchiveError,
    CheckpointError,
    InputError,
    RunNameError,
    StorageError,
)
from rnnlm_tui.store import archive, archive_file
from rnnlm_tui.store.archive import Archived, read_archive, write_archive
from rnnlm_tui.store.archive_file import ArchiveManifest
from rnnlm_tui.store.checkpoints import write_checkpoint
from rnnlm_tui.store.database import RunDatabase
from rnnlm_tui.store.labels import change_labels, read_labels
from rnnlm_tui.store.paths import RunDirectory, runs_dir
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.verify import check_checkpoints
from rnnlm_tui.system.files import make_private_directory
from rnnlm_tui.system.locks import RunLock
from tests.unit.store.rows import (
    begin,
    checkpoint_row,
    evaluation_row,
    event_row,
    new_run,
    sample_row,
    step_row,
    write_model,
)

Members = list[tuple[tarfile.TarInfo, bytes]]


def fill(run: RunDirectory, database: RunDatabase, state: str = "stopped") -> None:
    """Some rows, a checkpoint, labels, a log, and files that don't belong into an archive."""
    begin(database)
    database.add_event(event_row("started"))
    database.add_event(event_row("running"))
    database.add_steps([step_row(step) for step in range(1, 31)])
    database.add_evaluation(evaluation_row(20))
    database.add_sample(sample_row(20, text="ü\0\x1b[31m"))
    write_checkpoint(run, 20, write_model, None, {"validation_loss": 4.0})
    database.put_checkpoint(checkpoint_row(20, validation_loss=4.0))
    if state == "stopped":
        database.add_event(event_row("stopped", 30))
    change_labels(run, lambda labels: labels.__class__(tags=("good",), note="keep"))
    run.log_path.write_text("hello\n", encoding="utf-8")
    (run.path / "run.db.ballast").write_bytes(b"x" * 100)
    (run.path / "stray.pt").write_bytes(b"x")
    run.snapshots_path.mkdir()


@pytest.fixture
def archived(run: RunDirectory, database: RunDatabase, tmp_path: Path) -> Archived:
    """An archive of a stopped run."""
    fill(run, database)
    return write_archive(run, tmp_path / "run.tar.zst")


def left() -> list[str]:
    """Everything in the runs folder."""
    return sorted(path.name for path in runs_dir().iterdir()) if runs_dir().exists() else []


def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Another machine: an empty home."""
    monkeypatch.setenv("RNNLM_TUI_HOME", str(tmp_path / "other"))


def members(path: Path) -> Members:
    """The files of an archive."""
    data = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(path.read_bytes())).read()
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        found = []
        for info in tar:
            content = tar.extractfile(info)
            found.append((info, b"" if content is None else content.read()))
        return found


def rewritten(path: Path, change: Callable[[Members], None]) -> Path:
    """A foreign archive with other members; its compression is valid."""
    held = members(path)
    change(held)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, content in held:
            info.size = len(content) if info.isreg() else 0
            tar.addfile(info, io.BytesIO(content))
    target = path.with_name("foreign.tar.zst")
    target.write_bytes(zstandard.ZstdCompressor().compress(out.getvalue()))
    return target


def with_manifest(path: Path, change: Callable[[dict[str, object]], None]) -> Path:
    """An archive whose manifest was changed and signed again."""

    def edit(held: Members) -> None:
        values = json.loads(held[0][1])
        change(values)
        try:
            text = ArchiveManifest.model_validate(values).text().encode()
        except ValueError:
            text = json.dumps(values, indent=1).encode()
        held[0] = held[0][0], text

    return rewritten(path, edit)


def test_a_run_is_the_same_on_another_machine(
    run: RunDirectory, archived: Archived, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with RunReader(run) as reader:
        wanted = list(reader.steps_since()), reader.evaluations(), reader.samples()
        events = reader.events()
    created = run.created()
    elsewhere(monkeypatch, tmp_path)
    copy, manifest = read_archive(archived.path)
    assert (copy.name, manifest.step, manifest.live) == ("plain-otter", 20, False)
    assert sorted(path.name for path in copy.path.iterdir()) == [
        "checkpoints", "config.toml", "labels.json", "run.db", "worker.log",
    ]  # fmt: skip
    with RunReader(copy) as reader:
        assert (list(reader.steps_since()), reader.evaluations(), reader.samples()) == wanted
        assert reader.events() == events
        assert reader.checkpoints()[0].best
    assert copy.read_config() == run.read_config()
    assert read_labels(copy).tags == ("good",)
    assert [check.problem for check in check_checkpoints(copy)] == [""]
    assert copy.created() == pytest.approx(created)
    assert copy.path.stat().st_mode & 0o777 == 0o700
    assert (copy.path / "run.db").stat().st_mode & 0o777 == 0o600


def test_an_ordinary_tar_reads_an_archive(archived: Archived) -> None:
    names = [info.name for info, _ in members(archived.path)]
    assert names[0] == "manifest.json"
    assert "run/checkpoints/step-000000020/model.safetensors" in names
    assert not any("lock" in name or "ballast" in name or ".pt" in name for name in names)


def test_a_live_run_is_archived_from_its_newest_checkpoint(
    run: RunDirectory, database: RunDatabase, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fill(run, database, state="running")
    with RunLock(run.lock_path):
        archived = write_archive(run, tmp_path / "live.tar.zst")
        database.add_steps([step_row(31)])  # the worker's database is not held or changed
    assert archived.manifest.live
    with RunReader(run) as reader:
        state = reader.last_state()
        assert state is not None
        assert state.kind == "running"
    elsewhere(monkeypatch, tmp_path)
    copy, _ = read_archive(archived.path)
    with RunReader(copy) as reader:
        state = reader.last_state()
        assert state is not None
        assert (state.kind, state.step) == ("stopped", 20)
        assert reader.recent_steps(1)[0].step == 30


def test_a_checkpoint_that_is_removed_meanwhile_is_still_archived(
    run: RunDirectory, database: RunDatabase, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fill(run, database)

    def pack(*arguments: object) -> None:
        shutil.rmtree(run.checkpoints_path / "step-000000020")
        archive_file.pack(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("rnnlm_tui.store.archive.pack", pack)
    assert write_archive(run, tmp_path / "run.tar.zst").manifest.step == 20
    assert left() == ["plain-otter"]


def test_a_damaged_checkpoint_is_not_archived(
    run: RunDirectory, database: RunDatabase, tmp_path: Path
) -> None:
    fill(run, database)
    weights = run.checkpoints_path / "step-000000020" / "model.safetensors"
    weights.write_bytes(b"\1" + weights.read_bytes()[1:])
    with pytest.raises(CheckpointError, match="plain-otter/checkpoints/step-000000020/model"):
        write_archive(run, tmp_path / "run.tar.zst")
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
    assert left() == ["plain-otter"]


def test_a_run_on_a_read_only_disk_is_archived_to_another(
    run: RunDirectory, database: RunDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(run, database)
    made: list[Path] = []

    def make(folder: Path) -> None:
        made.append(folder)
        make_private_directory(folder)

    monkeypatch.setattr(archive, "make_private_directory", make)
    monkeypatch.setattr("os.access", lambda *_: False)
    (disk := tmp_path / "disk").mkdir()
    assert write_archive(run, disk / "run.tar.zst").manifest.step == 20
    assert made
    assert all(folder.is_relative_to(disk) for folder in made)
    assert [path.name for path in disk.iterdir()] == ["run.tar.zst"]


def test_an_existing_file_is_never_replaced(run: RunDirectory, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="already exists"):
        write_archive(run, tmp_path / "kept")
    with pytest.raises(InputError, match="is a folder"):
        write_archive(run, tmp_path)
    with pytest.raises(InputError, match="doesn't exist"):
        write_archive(run, tmp_path / "none" / "a.tar.zst")
    assert (tmp_path / "kept").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("name", ["otter", "otter.tar", "otter.tar.gz"])
def test_an_archive_has_the_ending_of_its_format(
    name: str, run: RunDirectory, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"doesn't end in \.tar\.zst") as refused:
        write_archive(run, tmp_path / name)
    assert refused.value.hint == "name it otter.tar.zst"
    assert not list(tmp_path.glob("otter*"))


def test_a_taken_name_asks_for_another(archived: Archived) -> None:
    with pytest.raises(RunNameError) as raised:
        read_archive(archived.path)
    assert "unarchive" in raised.value.hint
    assert "NAME" in raised.value.hint
    copy, _ = read_archive(archived.path, "second")
    assert copy.name == "second"
    with pytest.raises(RunNameError, match="invalid"):
        read_archive(archived.path, "../x")
    assert left() == ["plain-otter", "second"]


def test_any_flipped_bit_is_refused_or_harmless(
    archived: Archived, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = archived.path.read_bytes()
    read_archive(archived.path, "reference")
    contents = {
        path.relative_to(runs_dir() / "reference"): path.read_bytes()
        for path in (runs_dir() / "reference").rglob("*")
        if path.is_file()
    }
    draw = random.Random(14)
    places = [*range(24), *(draw.randrange(len(whole)) for _ in range(150)), len(whole) - 1]
    refused = 0
    for place in places:
        bytes_ = bytearray(whole)
        bytes_[place] ^= 1 << draw.randrange(8)
        damaged = tmp_path / "damaged.tar.zst"
        damaged.write_bytes(bytes_)
        try:
            copy, _ = read_archive(damaged, "copy")
        except (ArchiveError, StorageError) as error:
            assert str(damaged) in error.message  # noqa: PT017
            refused += 1
            assert left() == ["plain-otter", "reference"], place
            continue
        for path, content in contents.items():
            assert (copy.path / path).read_bytes() == content
        shutil.rmtree(copy.path)
    assert refused > 0.9 * len(places)


def test_any_truncated_or_lengthened_file_is_refused(archived: Archived, tmp_path: Path) -> None:
    whole = archived.path.read_bytes()
    draw = random.Random(15)
    parts = [whole[: draw.randrange(len(whole))] for _ in range(20)]
    for content in (*parts, whole[:-1], b"", whole + b"\0", whole + whole):
        path = tmp_path / "cut.tar.zst"
        path.write_bytes(content)
        with pytest.raises(ArchiveError):
            read_archive(path, "copy")
    assert left() == ["plain-otter"]


def link(held: Members) -> None:
    info = tarfile.TarInfo("run/config.toml")
    info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
    held.insert(1, (info, b""))


def hard_link(held: Members) -> None:
    info = tarfile.TarInfo("run/worker.log")
    info.type, info.linkname = tarfile.LNKTYPE, "../../x"
    held.insert(1, (info, b""))


def device(held: Members) -> None:
    info = tarfile.TarInfo("run/worker.log")
    info.type = tarfile.CHRTYPE
    held.insert(1, (info, b""))


def outside(held: Members) -> None:
    held.insert(1, (tarfile.TarInfo("run/../../evil"), b"x"))


def absolute(held: Members) -> None:
    held.insert(1, (tarfile.TarInfo("/tmp/evil"), b"x"))


def extended(held: Members) -> None:
    held[1][0].pax_headers = {"comment": "x" * 1_000}


def more(held: Members) -> None:
    held.append((tarfile.TarInfo("run/more"), b"x" * 5_000))


def fewer(held: Members) -> None:
    held.pop()


def other_content(held: Members) -> None:
    held[-1] = held[-1][0], b"?" * len(held[-1][1])


def other_order(held: Members) -> None:
    held[1], held[2] = held[2], held[1]


def no_manifest(held: Members) -> None:
    held.pop(0)


@pytest.mark.parametrize(
    "change",
    [
        link, hard_link, device, outside, absolute, extended, more, fewer, other_content,
        other_order, no_manifest,
    ],
)  # fmt: skip
def test_a_foreign_archive_is_refused(
    archived: Archived, tmp_path: Path, change: Callable[[Members], None]
) -> None:
    with pytest.raises(ArchiveError):
        read_archive(rewritten(archived.path, change), "copy")
    assert left() == ["plain-otter"]
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize(
    "name",
    [
        "../evil", "/tmp/evil", "checkpoints/../../evil", "a/b", "worker.lock", "weights.pt",
        "checkpoints/step-000000020/x.pkl", "checkpoints/step-000000020/a/b", "", ".hidden",
        "run.db-wal", "database.json", "evil.py", "evil.so", "other.json",
    ],
)  # fmt: skip
def test_a_manifest_with_a_path_trick_is_refused(archived: Archived, name: str) -> None:
    def change(values: dict[str, object]) -> None:
        files = values["files"]
        assert isinstance(files, dict)
        values["files"] = {name: {"size": 1, "sha256": "0" * 64}} | files

    with pytest.raises(ArchiveError, match="has no file"):
        read_archive(with_manifest(archived.path, change), "copy")
    assert left() == ["plain-otter"]


def test_another_version_is_named(archived: Archived) -> None:
    path = with_manifest(archived.path, lambda values: values.update(format=2))
    with pytest.raises(ArchiveError, match="another version") as raised:
        read_archive(path, "copy")
    assert raised.value.hint == "update rnnlm-tui"
    path = with_manifest(archived.path, lambda values: values.update(surprise=1))
    with pytest.raises(ArchiveError, match="invalid"):
        read_archive(path, "copy")


def test_a_newer_database_is_named(
    run: RunDirectory, database: RunDatabase, tmp_path: Path
) -> None:
    fill(run, database)
    database.close()
    with closing(sqlite3.connect(run.database_path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StorageError, match="newer"):
        write_archive(run, tmp_path / "run.tar.zst")


def test_a_manifest_that_promises_too_much_is_refused_before_anything_is_written(
    archived: Archived,
) -> None:
    def change(values: dict[str, object]) -> None:
        files = values["files"]
        assert isinstance(files, dict)
        files["run.db"]["size"] = 2**60

    with pytest.raises(StorageError, match=r"needs .* TB free"):
        read_archive(with_manifest(archived.path, change), "copy")
    assert left() == ["plain-otter"]


def test_a_bomb_is_refused_without_being_unpacked(tmp_path: Path) -> None:
    packer = zstandard.ZstdCompressor(level=3)
    with (tmp_path / "bomb.tar.zst").open("wb") as file, packer.stream_writer(file) as out:
        info = tarfile.TarInfo("manifest.json")
        info.size = 2**40
        out.write(info.tobuf(tarfile.GNU_FORMAT))
        for _ in range(64):
            out.write(bytes(1 << 20))
    with pytest.raises(ArchiveError, match="its manifest has"):
        read_archive(tmp_path / "bomb.tar.zst")


def test_what_follows_the_last_file_is_refused_at_once(archived: Archived) -> None:
    data = zstandard.ZstdDecompressor().stream_reader(archived.path.open("rb")).read()
    path = archived.path.with_name("long.tar.zst")
    path.write_bytes(zstandard.ZstdCompressor().compress(data + b"x" * (64 << 20)))
    with pytest.raises(ArchiveError, match="more files than its manifest"):
        read_archive(path, "copy")


@pytest.mark.parametrize("kind", ["missing", "folder", "text"])
def test_what_is_no_archive_is_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.tar.zst"
    if kind == "folder":
        path.mkdir()
    elif kind == "text":
        path.write_text("hello", encoding="utf-8")
    words = {"missing": "not found", "folder": "not a regular file", "text": "not a zstd file"}
    with pytest.raises((InputError, ArchiveError), match=words[kind]):
        read_archive(path)


def test_a_run_without_anything_is_archived_too(tmp_path: Path) -> None:
    archived = write_archive(new_run("empty"), tmp_path / "empty.tar.zst")
    copy, manifest = read_archive(archived.path, "again")
    assert manifest.step == 0
    assert copy.read_config() == RunDirectory(runs_dir() / "empty").read_config()
