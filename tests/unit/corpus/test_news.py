"""The source `news`: downloaded once, atomically."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rnnlm_tui.corpus import download, news, text_files
from rnnlm_tui.corpus.corpus import prepare_corpus
from rnnlm_tui.corpus.news import ensure_news, news_files, news_record
from rnnlm_tui.corpus.sources import open_source
from rnnlm_tui.errors import CorpusError, StorageError, TokenizerError
from rnnlm_tui.schema.config import CorpusConfig, TokenizerConfig, TrainingConfig
from rnnlm_tui.schema.metrics import Progress
from tests.fakes.archive_server import ArchiveServer, archive_of, serving

TRAIN = "".join(f"the {number} <rare> men were not here .\n" for number in range(300)).encode()
TEST = "".join(f"the {number} women were here .\n" for number in range(60)).encode()
TEXTS = {"news/train.txt": TRAIN, "news/test.txt": TEST}
WORDS = TokenizerConfig(kind="word", vocab_size=100)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ArchiveServer]:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download, "PAUSES_SECONDS", (0.0, 0.0))
    with serving(ArchiveServer(archive_of(TEXTS))) as running:
        yield running


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "corpora"


def ensure(root: Path, server: ArchiveServer, reported: list[Progress] | None = None) -> None:
    ensure_news(root, server.url, (reported if reported is not None else []).append)


def lying_in(root: Path) -> list[str]:
    """All files and folders below the corpora folder, including hidden ones."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*")) if root.exists() else []


WHOLE = ["news", "news/source.json", "news/test.txt", "news/train.txt"]
PART = [".news-download", ".news-download/archive", ".news-download/archive.json"]


def test_the_archive_is_downloaded_unpacked_recorded_and_removed(
    root: Path, server: ArchiveServer
) -> None:
    reported: list[Progress] = []
    ensure(root, server, reported)
    assert lying_in(root) == WHOLE
    assert ((root / "news/train.txt").read_bytes(), (root / "news/test.txt").read_bytes()) == (
        TRAIN,
        TEST,
    )
    record = json.loads((root / "news/source.json").read_text(encoding="utf-8"))
    assert record["url"] == server.url
    assert record["sha256"] == hashlib.sha256(server.body).hexdigest()
    assert record["fetched"].endswith("+00:00")
    assert list(dict.fromkeys(progress.phase for progress in reported)) == [
        "downloading",
        "unpacking",
        "checking",
    ]


def test_existing_texts_are_used_without_a_network(root: Path, server: ArchiveServer) -> None:
    (root / "news").mkdir(parents=True)
    (root / "news/train.txt").write_bytes(TRAIN)
    with pytest.raises(CorpusError, match=r"test\.txt or train\.txt not found in .*news"):
        ensure(root, server)
    (root / "news/test.txt").write_bytes(TEST)
    ensure(root, server)
    assert server.requests == []
    assert news_record(root) is None


def test_a_lost_connection_leaves_a_hidden_part_that_the_next_run_resumes(
    root: Path, server: ArchiveServer
) -> None:
    server.cuts = [1_000, 0, 0]
    with pytest.raises(CorpusError, match=r"connection lost at 1\.0 kB"):
        ensure(root, server)
    assert lying_in(root) == PART
    ensure(root, server)
    assert lying_in(root) == WHOLE
    assert server.requests[-1]["Range"] == "bytes=1000-"


@pytest.mark.parametrize(
    ("body", "announced"),
    [
        (b"<html>Sorry</html>", None),
        (b"\x1f\x8b" + bytes(500), None),
        (archive_of(TEXTS), -100),
        (archive_of({"news/train.txt": TRAIN}), None),
    ],
    ids=["a page", "not a tar", "too short", "one file"],
)
def test_an_unusable_archive_leaves_no_files(
    root: Path, server: ArchiveServer, body: bytes, announced: int | None
) -> None:
    server.body = body
    server.announced = None if announced is None else len(body) + announced
    with pytest.raises(CorpusError):
        ensure(root, server)
    assert lying_in(root) == []


def test_a_disk_too_small_is_rejected_before_the_first_byte(
    root: Path, server: ArchiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(news, "free_bytes", lambda _: 5_000)
    server.answers.clear()
    with pytest.raises(StorageError, match=r"needs about .* 5\.0 kB are free") as raised:
        ensure(root, server)
    assert "RNNLM_TUI_HOME" in raised.value.hint
    assert server.sent == [0]
    assert lying_in(root) == []


def test_a_folder_that_can_not_be_locked_is_reported(
    root: Path, server: ArchiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(StorageError, match=r"can't lock .*: No locks available"):
        ensure(root, server)
    assert server.requests == []


@pytest.mark.parametrize("chunked", [False, True])
def test_a_stop_while_unpacking_keeps_only_the_archive(
    root: Path, server: ArchiveServer, chunked: bool
) -> None:
    server.chunked = chunked

    def stop(progress: Progress) -> None:
        if progress.phase == "unpacking":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ensure_news(root, server.url, stop)
    assert lying_in(root) == PART
    ensure(root, server)
    assert len(server.requests) == 1
    assert lying_in(root) == WHOLE


def test_of_two_processes_one_downloads_and_the_other_waits(
    root: Path, server: ArchiveServer
) -> None:
    server.answers.clear()
    waited = threading.Event()
    holder = threading.Event()

    def first(progress: Progress) -> None:
        holder.set()

    def second(progress: Progress) -> None:
        if not waited.is_set():
            waited.set()
            server.answers.set()

    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(ensure_news, root, server.url, first)
        assert holder.wait(10)
        other = pool.submit(ensure_news, root, server.url, second)
        one.result(30)
        other.result(30)
    assert len(server.requests) == 1
    assert waited.is_set()
    assert lying_in(root) == WHOLE


def test_the_recorded_hash_is_used_for_unchanged_texts(
    root: Path, server: ArchiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensure(root, server)
    paths = news_files(root)
    assert paths is not None
    real = text_files.hash_files(paths, lambda _: None)
    monkeypatch.setattr(news, "hash_files", None)
    assert open_source(CorpusConfig(source="news"), root).fingerprint(lambda _: None) == real
    monkeypatch.undo()
    paths[0].write_bytes(TEST.replace(b"women", b"WOMEN"))
    assert (
        open_source(CorpusConfig(source="news"), root).fingerprint(lambda _: None)
        == text_files.hash_files(paths, lambda _: None)
        != real
    )


def test_preparing_downloads_missing_texts_and_ignores_the_address(
    root: Path, server: ArchiveServer
) -> None:
    training = TrainingConfig(batch_size=8, data_mode="sentences")
    reported: list[Progress] = []
    first = prepare_corpus(
        CorpusConfig(source="news", url=server.url, mask_digits=True),
        WORDS,
        training,
        root,
        reported.append,
    )
    assert {"downloading", "unpacking", "encoding"} <= {progress.phase for progress in reported}
    again = prepare_corpus(
        CorpusConfig(source="news", mask_digits=True), WORDS, training, root, reported.append
    )
    assert (again.path, len(server.requests)) == (first.path, 1)
    assert first.manifest.splits["test"].sentences == 60
    assert first.manifest.title == "news sentences of the book"


def test_a_missing_tokenizer_is_reported_before_the_download(
    root: Path, server: ArchiveServer, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    tokenizer = TokenizerConfig(kind="pretrained", name=str(tmp_path / "empty"))
    with pytest.raises(TokenizerError, match=r"no tokenizer\.json in"):
        prepare_corpus(
            CorpusConfig(source="news", url=server.url),
            tokenizer,
            TrainingConfig(),
            root,
            lambda _: None,
        )
    assert server.requests == []
