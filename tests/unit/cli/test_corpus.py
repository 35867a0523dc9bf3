"""The verbs `corpus`, `corpus remove` and `baseline`: listing, removal of unused corpora only,
count models."""

from __future__ import annotations

import json
import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest

from rnnlm_tui.cli.main import run
from rnnlm_tui.corpus.build import claimed
from rnnlm_tui.corpus.corpus import prepare_corpus
from rnnlm_tui.schema.config import CorpusConfig, RunConfig, TokenizerConfig, TrainingConfig
from rnnlm_tui.schema.corpora import CorpusManifest
from rnnlm_tui.schema.facts import Facts
from rnnlm_tui.schema.metrics import EventKind, EventRow
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.runs import create_run
from tests.fakes.manifests import corpus_manifest, store_manifest
from tests.unit.client.logs import record


def prepared(home: Path, source: str, letter: str, notes: tuple[str, ...] = ()) -> CorpusManifest:
    manifest = corpus_manifest(CorpusConfig(source=source), hash=letter * 64, notes=notes)
    (store_manifest(home, manifest) / "train.bin").write_bytes(b"\0" * 1_000_000)
    return manifest


def run_on(
    manifest: CorpusManifest, name: str, ending: EventKind, *, noted: bool = True
) -> RunDirectory:
    directory = create_run(RunConfig(corpus=manifest.corpus), name)
    corpus = Facts(corpus_hash=manifest.hash, corpus_notes=manifest.notes) if noted else Facts()
    record(directory, EventRow(1, 0, "started", "", 1.0), EventRow(1, 9, ending, "", 2.0), corpus)
    return directory


def test_corpora_are_listed_with_sizes_and_runs(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = (
        prepared(home, "presidents", "a", ("3 lines cut",)),
        prepared(home, "elman", "b"),
    )
    run_on(first, "brisk-heron", "finished")
    run_on(first, "plain-otter", "stopped")
    create_run(RunConfig(corpus=second.corpus), "calm-draft")
    assert run(["corpus"]) == 0
    lines = capsys.readouterr().out.splitlines()
    of_first = next(line for line in lines if first.folder in line)
    assert "1.0 MB" in of_first
    assert "plain-otter, brisk-heron" in of_first
    assert next(line for line in lines if second.folder in line).endswith("none")
    assert f"{first.folder}: 3 lines cut" in lines
    assert run(["corpus", "--json"]) == 0
    listed = {item["source"]: item for item in json.loads(capsys.readouterr().out)["prepared"]}
    assert listed["presidents"]["runs"] == ["plain-otter", "brisk-heron"]
    assert listed["presidents"]["needed_by"] == ["plain-otter"]
    assert listed["presidents"]["bytes"] > 1_000_000
    assert listed["presidents"]["notes"] == ["3 lines cut"]
    assert listed["presidents"]["layout"] == "sentences"
    assert listed["elman"]["runs"] == []


def test_a_needed_corpus_is_kept_and_its_runs_are_named(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = prepared(home, "presidents", "a")
    run_on(manifest, "plain-otter", "stopped")
    run_on(manifest, "brisk-heron", "finished")
    assert run(["corpus", "remove", manifest.folder, "--yes"]) == 3
    assert "is needed by plain-otter" in capsys.readouterr().err
    assert run(["corpus", "remove", "--unused", "--yes"]) == 0
    assert (home / "corpora" / manifest.folder / "train.bin").exists()


def test_an_unused_corpus_is_removed_and_the_freed_space_reported(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest, other = prepared(home, "presidents", "a"), prepared(home, "elman", "b")
    run_on(manifest, "brisk-heron", "finished")
    assert run(["corpus", "remove", "aaaa", "--dry-run"]) == 0
    assert (
        "would remove the prepared corpus aaaaaaaaaaaaaaaa (presidents), 1.0 MB"
        in capsys.readouterr().out
    )
    assert run(["corpus", "remove", "aaaa"]) == 2  # no terminal to ask for confirmation
    assert (home / "corpora" / manifest.folder).is_dir()
    capsys.readouterr()
    assert run(["corpus", "remove", "presidents", "--yes", "--json"]) == 0
    reported = json.loads(capsys.readouterr().out)
    assert [item["folder"] for item in reported["removed"]] == [manifest.folder]
    assert reported["freed"] > 1_000_000
    assert sorted(path.name for path in (home / "corpora").iterdir()) == [other.folder]


def test_unused_means_that_no_run_is_listed_with_the_corpus(home: Path) -> None:
    manifest = prepared(home, "presidents", "a")
    prepared(home, "elman", "b")
    run_on(manifest, "brisk-heron", "finished")
    assert run(["corpus", "remove", "--unused", "--yes"]) == 0
    assert [path.name for path in (home / "corpora").iterdir()] == [manifest.folder]


@pytest.mark.parametrize("arguments", [[], ["--unused", "a"], ["nothing"]])
def test_invalid_arguments_remove_nothing(home: Path, arguments: list[str]) -> None:
    manifest = prepared(home, "presidents", "a")
    assert run(["corpus", "remove", *arguments, "--yes"]) == 2
    assert (home / "corpora" / manifest.folder).is_dir()


def test_an_unfinished_corpus_is_listed_and_can_be_removed(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    left = home / "corpora" / ".unfinished-cccccccccccccccc"
    left.mkdir(parents=True)
    (left / "source").write_text("/texts/long.txt")
    (left / "train.txt").write_bytes(b"x" * 5_000_000)
    assert run(["corpus"]) == 0
    assert "/texts/long.txt" in capsys.readouterr().out
    assert run(["corpus", "remove", "cccc", "--yes"]) == 0
    assert list((home / "corpora").iterdir()) == []


@pytest.mark.parametrize("arguments", [["aaaa"], ["--unused"]])
def test_a_corpus_needed_during_confirmation_is_not_removed(
    home: Path,
    arguments: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    manifest, other = prepared(home, "presidents", "a"), prepared(home, "elman", "b")

    def start_meanwhile(*_arguments: str) -> bool:
        run_on(manifest, "plain-otter", "stopped")
        return True

    monkeypatch.setattr("rnnlm_tui.cli.output.confirmed", start_meanwhile)
    assert run(["corpus", "remove", *arguments]) == 3
    assert "is needed by plain-otter" in capsys.readouterr().err
    assert sorted(path.name for path in (home / "corpora").iterdir()) == [
        manifest.folder,
        other.folder,
    ]


def test_a_corpus_prepared_during_confirmation_is_not_removed(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    left = home / "corpora" / ".unfinished-cccccccccccccccc"
    left.mkdir(parents=True)
    (left / "train.txt").write_bytes(b"x")

    with ExitStack() as taken:

        def take_up(*_arguments: str) -> bool:
            own = claimed(left, lambda: False, lambda _: None, "reading")
            return taken.enter_context(own) is not None

        monkeypatch.setattr("rnnlm_tui.cli.output.confirmed", take_up)
        assert run(["corpus", "remove", "cccc"]) == 3
        assert "is being prepared" in capsys.readouterr().err
        assert (left / "train.txt").exists()


def test_a_corpus_removed_during_confirmation_frees_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = prepared(home, "presidents", "a")

    def remove_meanwhile(*_arguments: str) -> bool:
        shutil.rmtree(home / "corpora" / manifest.folder)
        return True

    monkeypatch.setattr("rnnlm_tui.cli.output.confirmed", remove_meanwhile)
    assert run(["corpus", "remove", "aaaa", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"removed": [], "freed": 0}


def test_show_includes_the_notes_of_the_corpus(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = prepared(
        home, "presidents", "a", ("3 lines cut", "2 other files in the folder ignored")
    )
    run_on(manifest, "brisk-heron", "finished")
    assert run(["show", "brisk-heron"]) == 0
    shown = capsys.readouterr().out
    assert "3 lines cut" in shown
    assert "2 other files in the folder ignored" in shown
    assert run(["show", "brisk-heron", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["corpus_notes"] == [
        "3 lines cut",
        "2 other files in the folder ignored",
    ]


def test_baseline_lists_the_count_models_of_a_corpus(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = CorpusConfig(source="elman", sentences=300)
    tokenizer = TokenizerConfig(kind="word")
    prepare_corpus(corpus, tokenizer, TrainingConfig(), home / "corpora", lambda _: None)
    assert run(["baseline", "elman"]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.startswith("elman, stream: ")
    assert [row.split("  ")[0] for row in rows[1:]] == [f"{n}-gram of tokens" for n in range(1, 6)]
    assert run(["baseline", "elman", "--json"]) == 0
    (mode,) = json.loads(capsys.readouterr().out)["modes"]
    assert [model["order"] for model in mode["models"]] == [1, 2, 3, 4, 5]
    assert all(model["perplexity"]["test"] > 3 for model in mode["models"])


def test_baseline_needs_a_prepared_corpus(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["baseline", "elman"]) == 2
    assert 'no prepared corpus "elman"' in capsys.readouterr().err
    store_manifest(home, corpus_manifest())
    assert run(["baseline", "presidents"]) == 5
    assert "is missing in the corpus" in capsys.readouterr().err
