"""Archives of runs: whole copies, also of live runs, and everything that can be wrong with one."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import random
import shutil
import sys
import tarfile
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import IO, cast

import pytest
import zstandard

from rnnlm_tui.errors import (
    CheckpointError,
    InputError,
    RnnlmError,
    RunNameError,
    StorageError,
)
from rnnlm_tui.schema.config import CorpusConfig, RunConfig
from rnnlm_tui.schema.toml import toml_text
from rnnlm_tui.schema.validation import config_to_raw
from rnnlm_tui.store import archive
from rnnlm_tui.store.archive import read_archive, write_archive
from rnnlm_tui.store.checkpoints import write_checkpoint
from rnnlm_tui.store.labels import (
    RunLabels,
    change_labels,
    note_checkpoint,
    pin_checkpoint,
    read_labels,
)
from rnnlm_tui.store.paths import RunDirectory, runs_dir
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.runs import list_runs
from rnnlm_tui.store.verify import check_checkpoints
from rnnlm_tui.system.files import make_private_directory
from rnnlm_tui.system.locks import STAGING_NAME, RunLock
from tests.unit.store.rows import (
    begin,
    evaluation_row,
    event_row,
    new_run,
    sample_row,
    step_row,
    write_model,
)

CHECKPOINT = "run/checkpoints/step-000000020"
WEIGHTS = f"{CHECKPOINT}/model.safetensors"


def fill(run: RunDirectory, state: str = "stopped") -> None:
    """Some rows, a checkpoint, labels, a log, and files that don't belong into an archive."""
    with begin(run) as log:
        log.append(event_row("started"), event_row("running"))
        log.append(*(step_row(step) for step in range(1, 31)))
        log.append(evaluation_row(20), sample_row(20, text="ü\0\x1b[31m"))
        if state == "stopped":
            log.append(event_row("stopped", 30))
    write_checkpoint(run, 20, write_model, None, {"validation_loss": 4.0})
    pin_checkpoint(run, 20)
    note_checkpoint(run, 20, "the good one")
    change_labels(run, lambda labels: replace(labels, tags=("good",), note="keep"))
    run.log_path.write_text("hello\n", encoding="utf-8")
    (run.path / "stray.pt").write_bytes(b"x")
    run.snapshots_path.mkdir()


@pytest.fixture
def archived(run: RunDirectory, tmp_path: Path) -> Path:
    """An archive of a stopped run."""
    fill(run)
    write_archive(run, tmp_path / "run.tar.zst")
    return tmp_path / "run.tar.zst"


def left() -> list[str]:
    """Everything in the runs folder."""
    return sorted(path.name for path in runs_dir().iterdir()) if runs_dir().exists() else []


def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Another machine: an empty home."""
    monkeypatch.setenv("RNNLM_TUI_HOME", str(tmp_path / "other"))


def test_a_run_is_the_same_on_another_machine(
    run: RunDirectory, archived: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with RunReader(run) as reader:
        wanted = list(reader.steps()), reader.evaluations(), reader.samples()
        events = reader.events()
    created = run.created()
    elsewhere(monkeypatch, tmp_path)
    copy, head = read_archive(archived)
    assert (copy.name, head.corpus) == ("plain-otter", run.read_config().corpus.source)
    assert (head.step, head.live) == (20, False)
    assert sorted(path.name for path in copy.path.iterdir()) == [
        "checkpoints", "config.toml", "labels.json", "log", "worker.log",
    ]  # fmt: skip
    with RunReader(copy) as reader:
        assert (list(reader.steps()), reader.evaluations(), reader.samples()) == wanted
        assert reader.events() == events
    assert copy.read_config() == run.read_config()
    assert read_labels(copy) == read_labels(run) != RunLabels()
    assert [check.problem for check in check_checkpoints(copy)] == [""]
    assert copy.created() == pytest.approx(created)
    assert copy.path.stat().st_mode & 0o777 == 0o700
    assert (copy.logs_path / "000001.jsonl").stat().st_mode & 0o777 == 0o600


def test_a_live_run_is_archived_from_its_newest_checkpoint(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fill(run, state="running")
    log = run.logs_path / "000001.jsonl"
    with log.open("ab") as file:
        file.write(b'{"kind":"step","st')  # being written just now

    def grow(*_: int) -> None:
        with log.open("ab") as file:
            file.write(b"later")

    with RunLock(run.lock_path), monkeypatch.context() as patch:
        patch.setattr(archive, "require_space", grow)
        assert write_archive(run, tmp_path / "live.tar.zst").live
    with RunReader(run) as reader:
        state = reader.last_state()
        assert state is not None
        assert state.kind == "running"
    elsewhere(monkeypatch, tmp_path)
    copy, _ = read_archive(tmp_path / "live.tar.zst")
    with RunReader(copy) as reader:
        state = reader.last_state()
        assert state is not None
        assert (state.kind, state.step) == ("stopped", 20)
        assert reader.recent_steps(1)[0].step == 30
        assert reader.damaged_lines == 0


def test_a_checkpoint_that_is_removed_meanwhile_is_still_archived(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fill(run)
    gone = run.checkpoints_path / "step-000000020"
    with monkeypatch.context() as patch:
        patch.setattr(archive, "require_space", lambda *_: shutil.rmtree(gone))
        assert write_archive(run, tmp_path / "run.tar.zst").step == 20
    assert read_archive(tmp_path / "run.tar.zst", "copy")[1].step == 20


def test_a_damaged_checkpoint_is_not_archived(run: RunDirectory, tmp_path: Path) -> None:
    fill(run)
    weights = run.checkpoints_path / "step-000000020" / "model.safetensors"
    weights.write_bytes(b"\1" + weights.read_bytes()[1:])
    with pytest.raises(CheckpointError, match="plain-otter/checkpoints/step-000000020/model"):
        write_archive(run, tmp_path / "run.tar.zst")
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
    assert left() == ["plain-otter"]


def test_a_run_on_a_read_only_disk_is_archived_to_another(
    run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(run)
    made: list[Path] = []

    def make(folder: Path) -> None:
        made.append(folder)
        make_private_directory(folder)

    monkeypatch.setattr(archive, "make_private_directory", make)
    monkeypatch.setattr("os.access", lambda *_: False)
    (disk := tmp_path / "disk").mkdir()
    assert write_archive(run, disk / "run.tar.zst").step == 20
    assert made
    assert all(folder.is_relative_to(disk) for folder in made)
    assert [path.name for path in disk.iterdir()] == ["run.tar.zst"]


@pytest.mark.parametrize("verb", ["archive", "unarchive"])
def test_what_a_killed_process_left_is_removed_by_the_next(
    run: RunDirectory, archived: Path, tmp_path: Path, verb: str
) -> None:
    def kill(*_: int) -> None:
        os._exit(9)

    target = tmp_path / "next.tar.zst"
    child = os.fork()
    if child == 0:
        write_archive(run, target, kill) if verb == "archive" else read_archive(archived, "a", kill)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    places = [*runs_dir().iterdir(), *tmp_path.iterdir()]
    abandoned = {path.name for path in places} - {"plain-otter", "home", "cache", archived.name}
    assert abandoned
    assert all(STAGING_NAME.fullmatch(name) for name in abandoned)
    write_archive(run, target)
    assert left() == ["plain-otter"]
    kept = {"home", "cache", archived.name, target.name}
    assert {path.name for path in tmp_path.iterdir()} == kept


@pytest.mark.parametrize(
    ("name", "words"),
    {
        "kept.tar.zst": "already exists",
        "": "is a folder",
        "none/a.tar.zst": "doesn't exist",
        "otter": r"doesn't end in \.tar\.zst",
        "otter.tar.gz": r"doesn't end in \.tar\.zst",
        "x" * 300 + ".tar.zst": "can't write .*name too long",
    }.items(),
)
def test_a_place_that_an_archive_cannot_have_is_refused(
    name: str, words: str, run: RunDirectory, tmp_path: Path
) -> None:
    (tmp_path / "kept.tar.zst").write_text("mine", encoding="utf-8")
    with pytest.raises((InputError, StorageError), match=words) as refused:
        write_archive(run, tmp_path / name)
    assert (tmp_path / "kept.tar.zst").read_text(encoding="utf-8") == "mine"
    assert refused.value.hint == "name it otter.tar.zst" or "otter" not in name


def test_a_run_without_anything_is_archived_under_the_longest_name(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 247 + ".tar.zst")
    write_archive(new_run("empty"), path)
    copy, head = read_archive(path, "again")
    assert head.step == 0
    assert copy.read_config() == RunDirectory(runs_dir() / "empty").read_config()


def test_a_taken_name_asks_for_another(archived: Path) -> None:
    with pytest.raises(RunNameError) as raised:
        read_archive(archived)
    assert raised.value.hint == f"give another name: rnnlm-tui unarchive {archived} NAME"
    copy, _ = read_archive(archived, "second")
    assert copy.name == "second"
    with pytest.raises(RunNameError, match="invalid"):
        read_archive(archived, "../x")
    assert left() == ["plain-otter", "second"]


@pytest.mark.parametrize(
    ("kind", "words"),
    {"missing": "not found", "folder": "not a regular file", "pipe": "not a regular file"}.items(),
)
def test_what_is_no_file_is_named(tmp_path: Path, kind: str, words: str) -> None:
    path = tmp_path / "x.tar.zst"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(InputError, match=words):
        read_archive(path)


def test_a_long_run_is_packed_and_unpacked_in_little_memory(
    run: RunDirectory, tmp_path: Path
) -> None:
    with run.log_path.open("wb") as file:
        file.truncate(160 << 20)
    tracemalloc.start()
    try:
        write_archive(run, tmp_path / "run.tar.zst")
        copy, _ = read_archive(tmp_path / "run.tar.zst", "copy")
        assert tracemalloc.get_traced_memory()[1] < 80 << 20
    finally:
        tracemalloc.stop()
    assert copy.log_path.stat().st_size == 160 << 20


class Held:
    """What an archive holds. The facts in its head are right, unless `head` says otherwise."""

    def __init__(self, path: Path) -> None:
        data = zstandard.ZstdDecompressor().stream_reader(path.read_bytes()).read()
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            self.files = [
                (info.name, cast("IO[bytes]", tar.extractfile(info)).read(), tarfile.REGTYPE)
                for info in tar
            ]
        self.head: dict[str, object] = {}

    def get(self, name: str) -> bytes:
        return next((content for known, content, _ in self.files if known == name), b"")

    def put(self, name: str, content: bytes | None) -> None:
        place = next(at for at, entry in enumerate(self.files) if entry[0] == name)
        self.files[place : place + 1] = [(name, content, tarfile.REGTYPE)] if content else []

    def tar(self) -> bytes:
        sizes = [len(content) for name, content, _ in self.files if name != "archive.json"]
        config = hashlib.sha256(self.get("run/config.toml")).hexdigest()
        facts = {"files": len(sizes), "bytes": sum(sizes), "config_sha256": config, **self.head}
        if (text := self.get("archive.json")).startswith(b"{\n"):
            self.put("archive.json", json.dumps(json.loads(text) | facts).encode())
        out = b""
        for name, content, kind in self.files:
            info = tarfile.TarInfo(name)
            info.size, info.type, info.linkname = len(content), kind, "../../evil"
            out += info.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512)
        return out + bytes(1024)

    def packed(self, end: bytes = b"") -> bytes:
        return zstandard.compress(self.tar() + end)


Craft = Callable[[Held], bytes | None]
"""Changes what an archive holds, or returns the whole file."""


def craft(path: Path, change: Craft) -> Path:
    """An archive that is changed so, beside a good one."""
    held = Held(path)
    path.with_name("foreign.tar.zst").write_bytes(change(held) or held.packed())
    return path.with_name("foreign.tar.zst")


def adding(name: str, content: bytes = b"x", kind: bytes = tarfile.REGTYPE) -> Craft:
    return lambda held: held.files.insert(1, (name, content, kind))


def putting(name: str, content: bytes | None) -> Craft:
    return lambda held: held.put(name, content)


def heading(**head: object) -> Craft:
    return lambda held: held.head.update(head)


def replacing(name: str, old: bytes, new: bytes) -> Craft:
    return lambda held: held.put(name, held.get(name).replace(old, new))


def with_a_big_window(held: Held) -> bytes:
    parameters = zstandard.ZstdCompressionParameters(window_log=29, write_content_size=False)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return packer.compress(held.tar()) + packer.flush()


NAMES = [
    "../evil", "/tmp/evil", "run/../../evil", "run/../../../../tmp/evil.py", "run/./config.toml",
    "run//config.toml", "run/checkpoints/../../evil.json", "evil.py", "run/evil.py", "run/evil.so",
    "run/weights.pt", f"{CHECKPOINT}/x.pkl", f"{CHECKPOINT}/evil.py", f"{CHECKPOINT}/a/b.json",
    f"{CHECKPOINT}/../step-000000030/manifest.json", f"{CHECKPOINT}/{'a' * 41}.json",
    "run/checkpoints/step-٠٠٠٠٠٠٠٢٠/model.json", "run/parent/evil.py",
    "run/checkpoints/damaged-step-000000020/model.json", "run/log/1.jsonl", "run/log/000001.jsonl/",
    "run/log/../config.toml", "run/worker.lock", "run/control.sock", "run/run.db",
    "run/run.db-wal", "run/.hidden", "run/config.toml\n", "RUN/config.toml", "run\\evil", "run/",
    "other-run/config.toml", "run/snapshots/step-000000020/model.safetensors", "run/a\x1b[31m", "",
]  # fmt: skip
KINDS = [
    (b"x", tarfile.SYMTYPE), (b"x", tarfile.LNKTYPE), (b"x", tarfile.CHRTYPE), (b"x", b"M"),
    (b"x", tarfile.BLKTYPE), (b"x", tarfile.FIFOTYPE), (b"x", tarfile.DIRTYPE), (b"x", b"9"),
    (b"x", tarfile.CONTTYPE), (b"x", tarfile.GNUTYPE_SPARSE), (b"../x\0", tarfile.GNUTYPE_LONGNAME),
    (b"19 path=../../evil\n", tarfile.XHDTYPE), (b"23 linkpath=../../evil\n", tarfile.XHDTYPE),
    (b"12 size=999\n", tarfile.XHDTYPE), (b"19 path=../../evil\n", tarfile.XGLTYPE),
    (b"26 GNU.sparse.map=0,1,9,1\n30 GNU.sparse.size=1099511627\n", tarfile.XHDTYPE),
]  # fmt: skip
HEADS: list[tuple[str, object]] = [
    ("created", 1e300), ("created", -1e300), ("created", math.nan), ("created", math.inf),
    ("step", -1), ("step", 10**400), ("version", "\x1b[31m"), ("files", 10**6), ("bytes", 10**30),
    ("run", None), ("corpus", 3), ("live", []),
]  # fmt: skip
SPARSE = b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n"
MANIFEST = f"{CHECKPOINT}/manifest.json"
CRAFTED: list[tuple[Craft, str]] = [
    *((adding(name), "no plain file") for name in NAMES),
    *((adding("run/worker.log", *kind), "no plain file") for kind in KINDS),
    (adding("run/x", SPARSE, tarfile.XHDTYPE), "no plain file|invalid literal|values to unpack"),
    (adding("run/x", b"../evil\0", tarfile.GNUTYPE_LONGLINK), "its head says"),
    (adding("run/x", bytes(64 << 20), tarfile.GNUTYPE_LONGNAME), "unpacks to more than"),
    (adding("run/x", bytes(64 << 20), tarfile.XHDTYPE), "unpacks to more than"),
    (adding("archive.json"), "archive.json twice"),
    (adding("run/config.toml"), "run/config.toml twice"),
    (adding("run/parent/config.json"), "has no manifest.json"),
    (adding("run/parent.json"), "parent.json is damaged"),
    (adding(f"{CHECKPOINT}/adapter.safetensors"), "not in the manifest"),
    *((heading(**{key: value}), f"its head is invalid: {key}: ") for key, value in HEADS),
    (heading(format=1), "another version of rnnlm-tui made it: format"),
    (heading(format=3, corpus=[]), "another version of rnnlm-tui made it: format"),
    (heading(files=99), "has 7 files of .*, its head says 99"),
    (heading(files=6), "unpacks to more than its head says"),
    (heading(bytes=9), "unpacks to more than its head says"),
    (heading(bytes=10**6), "its head says 7 of 1,000,000"),
    (heading(bytes=2**59), "needs .* free"),
    (heading(config_sha256="0" * 64), "another one than its head says"),
    (heading(run="../evil"), "invalid run name"),
    (heading(run="x" * 10_000), "invalid run name"),
    (putting("archive.json", None), "doesn't begin with archive.json"),
    (putting("archive.json", b"{"), "its head is invalid"),
    (putting("archive.json", b"[" * 10**6), "its head is invalid"),
    (putting("archive.json", b" " * 2**21), "no plain file 'archive.json' of 2,097,152 bytes"),
    (lambda held: held.files.insert(0, ("manifest.json", b"{}", b"0")), "an unreleased version"),
    (putting("run/config.toml", None), "config.toml"),
    (putting("run/config.toml", b"#" * 2**21), "no plain file"),
    (putting("run/config.toml", b"\xff["), "config.toml is damaged"),
    (putting("run/config.toml", b"[evil]\nrun = 1"), "invalid config"),
    (putting("run/labels.json", b'{"tags": ["\\u001b[31m"]}'), "invalid tag"),
    (putting("run/log/000001.jsonl", b'{"kind":"attempt","version":2}\n'), "a newer version"),
    (putting(WEIGHTS, b"?" * 10_240), "doesn't match the manifest"),
    (putting(WEIGHTS, b"?"), "damaged: it has 1 byte"),
    (putting(WEIGHTS, None), "model.safetensors is missing"),
    (putting(MANIFEST, None), "has no manifest.json"),
    (replacing(MANIFEST, b'"step": 20', b'"step": 30'), "manifest.json is damaged"),
    (replacing(MANIFEST, b'"format": 1', b'"format": 2'), "written by a newer version"),
    (lambda _: b"hello", "not a zstd file"),
    (lambda held: held.tar(), "not a zstd file"),
    (lambda held: b"\x50\x2a\x4d\x18\4\0\0\0evil" + held.packed(), "not a zstd file"),
    (lambda held: held.packed()[:4], "truncated"),
    (lambda held: held.packed()[:1_500], "truncated"),
    (lambda held: held.packed()[:-1], "truncated"),
    (lambda held: held.packed() + b"\0", "something follows its end"),
    (lambda held: held.packed() * 2, "something follows its end"),
    (lambda held: held.packed(bytes(64 << 20)), "unpacks to more than"),
    (lambda held: held.packed(b"x" * (64 << 20)), "unpacks to more than"),
    (lambda _: zstandard.compress(b""), "empty file"),
    (lambda _: zstandard.compress(b"hello" * 999), "invalid header|checksum"),
    (lambda held: zstandard.compress(held.tar().replace(b"run/c", b"run/k")), "its head says"),
    (with_a_big_window, "too much memory"),
]


@pytest.mark.parametrize(("change", "words"), CRAFTED)
def test_a_crafted_archive_is_refused_and_leaves_nothing(
    run: RunDirectory, archived: Path, change: Craft, words: str
) -> None:
    path = craft(archived, change)
    before = sorted(archived.parent.iterdir())
    with pytest.raises(RnnlmError, match=words) as refused:
        read_archive(path, None if words == "invalid run name" else "copy")
    assert refused.value.hint
    assert "\x1b" not in refused.value.message
    assert left() == ["plain-otter"]
    assert sorted(archived.parent.iterdir()) == before
    assert not any(Path(place).exists() for place in ("/tmp/evil", "/tmp/evil.py"))
    assert [known.read_config() for known in list_runs()] == [run.read_config()]


def test_a_foreign_run_runs_no_code_and_takes_no_name(archived: Path, tmp_path: Path) -> None:
    (tmp_path / "evil_data.py").write_text("raise SystemExit(3)", encoding="utf-8")
    source = f"python:evil_data:Data@{tmp_path}"
    config = RunConfig().model_copy(update={"corpus": CorpusConfig(source=source)})

    labels = {"tags": ["kept"], "pins": [10**12], "notes": {"20": "\x1b[31m", "30": "x"}}

    def change(held: Held) -> None:
        held.put("run/config.toml", toml_text(config_to_raw(config)).encode())
        held.put("run/labels.json", json.dumps(labels).encode())
        adding("run/log/000002.jsonl", b"\xff\0 of another program\n" * 100)(held)

    copy, _ = read_archive(craft(archived, change), "copy")
    assert copy.read_config().corpus.source == source
    assert "evil_data" not in sys.modules
    assert read_labels(copy) == RunLabels(("kept",), pins=frozenset({10**12}), notes={20: "␛[31m"})
    assert new_run("victim").name == "victim"
    assert {known.name for known in list_runs()} == {"plain-otter", "copy", "victim"}


def test_any_flipped_bit_is_refused_or_harmless(archived: Path) -> None:
    whole = archived.read_bytes()
    reference, _ = read_archive(archived, "reference")
    contents = {
        path.relative_to(reference.path): path.read_bytes()
        for path in reference.path.rglob("*")
        if path.is_file()
    }
    draw = random.Random(14)
    places = [*range(24), *(draw.randrange(len(whole)) for _ in range(150)), len(whole) - 1]
    refused = 0
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << draw.randrange(8)
        archived.write_bytes(damaged)
        try:
            copy, _ = read_archive(archived, "copy")
        except RnnlmError:
            refused += 1
            assert left() == ["plain-otter", "reference"], place
            continue
        for path, content in contents.items():
            assert (copy.path / path).read_bytes() == content
        shutil.rmtree(copy.path)
    assert refused > 0.9 * len(places)
