"""Create, list, find and rename runs."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest

from rnnlm_tui.errors import ConfigError, RunNameError, RunStateError, StorageError, UnknownRunError
from rnnlm_tui.schema.config import ModelConfig, RunConfig
from rnnlm_tui.schema.toml import toml_text
from rnnlm_tui.schema.validation import config_to_raw
from rnnlm_tui.store import runs
from rnnlm_tui.store.addresses import checkpoint_path
from rnnlm_tui.store.checkpoints import write_checkpoint
from rnnlm_tui.store.labels import RunLabels, change_labels, read_labels
from rnnlm_tui.store.paths import RUN_NAME, runs_dir
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.runs import (
    change_draft,
    create_run,
    find_run,
    list_runs,
    rename_run,
    run_named,
    set_device,
    suggest_name,
)
from rnnlm_tui.system.locks import RunLock
from tests.unit.store.rows import (
    begin,
    new_run,
    parent_checkpoint,
    step_row,
    write_model,
)
from tests.unit.store.test_run_directory import IMPOSSIBLE_NAMES


def test_a_new_run_has_only_its_config() -> None:
    run = create_run(RunConfig(), "plain-otter")
    assert run.path == runs_dir() / "plain-otter"
    assert [path.name for path in run.path.iterdir()] == ["config.toml"]


def test_no_worker_can_start_while_a_draft_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    run = create_run(RunConfig())

    def start(*_: object) -> None:
        with pytest.raises(RunStateError), RunLock(run.lock_path):
            raise AssertionError("a worker holds the run")

    monkeypatch.setattr("rnnlm_tui.store.lineage.record_changes", start)
    changed = RunConfig(model=ModelConfig(num_layers=3))
    change_draft(run, changed, toml_text(config_to_raw(changed)))
    assert run.read_config() == changed


@pytest.mark.parametrize("name", IMPOSSIBLE_NAMES)
def test_an_invalid_name_finds_nothing_and_shows_no_control_characters(name: str) -> None:
    new_run()
    with pytest.raises(UnknownRunError) as caught:
        find_run(name)
    assert caught.value.message.isprintable()


def test_an_invalid_name_creates_nothing(home: Path) -> None:
    with pytest.raises(RunNameError):
        create_run(RunConfig(), "../x")
    assert not home.exists()


def test_a_taken_name_is_refused_and_the_existing_run_unchanged() -> None:
    first = new_run()
    before = first.config_path.read_bytes()
    with pytest.raises(RunNameError, match='run "plain-otter" already exists'):
        create_run(RunConfig(preset="elman"), "plain-otter")
    assert first.config_path.read_bytes() == before
    assert [path.name for path in runs_dir().iterdir()] == ["plain-otter"]


def test_a_config_with_contradicting_fields_creates_nothing(home: Path) -> None:
    with pytest.raises(ConfigError, match="tie_weights"):
        create_run(RunConfig(model=ModelConfig(embedding_dim=8)))
    assert not home.exists()


def test_a_failed_creation_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: Path, text: str) -> None:
        raise StorageError("the disk is full")

    monkeypatch.setattr(runs, "write_text_atomically", broken)
    with pytest.raises(StorageError, match="full"):
        new_run()
    assert list(runs_dir().iterdir()) == []


def test_a_home_that_is_a_file_is_refused_with_its_path(home: Path) -> None:
    home.write_text("", encoding="utf-8")
    with pytest.raises(StorageError, match="can't create the folder"):
        new_run()
    with pytest.raises(StorageError, match=r"can't look into .*: Not a directory") as caught:
        list_runs()
    assert "RNNLM_TUI_HOME" in caught.value.hint


def test_a_generated_name_is_valid_and_free() -> None:
    names = {create_run(RunConfig()).name for _ in range(5)} | {suggest_name()}
    assert len(names) == 6
    assert all(RUN_NAME.fullmatch(name) and "-" in name for name in names)


def test_runs_are_listed_newest_first_without_other_files() -> None:
    for age, name in enumerate(["new", "middle", "old"]):
        os.utime(new_run(name).config_path, (1_760_000_000 - age, 1_760_000_000 - age))
    (runs_dir() / ".tmp-half").mkdir()
    (runs_dir() / "empty").mkdir()
    (runs_dir() / "file").write_text("", encoding="utf-8")
    (runs_dir() / "link").symlink_to(runs_dir() / "old")
    assert [run.name for run in list_runs()] == ["new", "middle", "old"]


def test_without_a_home_there_are_no_runs() -> None:
    assert list_runs() == []
    with pytest.raises(UnknownRunError) as caught:
        find_run("x")
    assert "rnnlm-tui train" in caught.value.hint


def test_a_run_is_found_by_exact_name_or_unique_prefix() -> None:
    for name in ("otter", "otter-2", "heron"):
        new_run(name)
    assert find_run("otter").name == "otter"
    assert find_run("h").name == "heron"
    with pytest.raises(UnknownRunError, match="otter, otter-2"):
        find_run("ott")
    with pytest.raises(UnknownRunError) as caught:
        find_run("herno")
    assert caught.value.hint == 'did you mean "heron"?'


def test_paths_in_a_frozen_config_are_absolute_and_names_unchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "song.txt").write_text("la la\n")
    (tmp_path / "elman").mkdir()
    (tmp_path / "tokens").mkdir()
    raw = {"corpus": {"source": "song.txt"}, "tokenizer": {"kind": "pretrained", "name": "tokens"}}
    config = create_run(RunConfig.model_validate(raw)).read_config()
    assert (config.corpus.source, config.tokenizer.name) == (
        str(tmp_path / "song.txt"),
        str(tmp_path / "tokens"),
    )
    config = create_run(
        RunConfig.model_validate({"corpus": {"source": "src/**/*.py"}})
    ).read_config()
    assert config.corpus.source == f"{tmp_path}/src/**/*.py"
    raw = {"corpus": {"source": "elman"}, "tokenizer": {"kind": "pretrained", "name": "owner/name"}}
    config = create_run(RunConfig.model_validate(raw)).read_config()
    assert (config.corpus.source, config.tokenizer.name) == ("elman", "owner/name")


def test_a_referenced_run_is_found_only_by_its_full_name() -> None:
    run = new_run("plain-otter")
    assert run_named("plain-otter") == run
    for name in ("plain", "plain-otte", "", "../runs/plain-otter"):
        with pytest.raises(UnknownRunError):
            run_named(name)


def test_a_run_keeps_its_age_if_a_change_of_its_device_is_interrupted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_path: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    run = new_run()
    os.utime(run.config_path, (1_000_000_000, 1_000_000_000))
    monkeypatch.setattr("rnnlm_tui.system.files.fsync_directory", fail)
    with pytest.raises(StorageError):
        set_device(run, "cpu")
    assert run.read_config().training.device == "cpu"
    assert run.created() == 1_000_000_000


def test_a_renamed_run_is_unchanged_under_its_new_name() -> None:
    run = new_run()
    with begin(run) as log:
        log.append(step_row(1))
    write_checkpoint(run, 1, write_model, None, {})
    socket = run.socket_path
    renamed = rename_run(run, "brisk-heron")
    assert [found.name for found in list_runs()] == ["brisk-heron"]
    assert checkpoint_path(renamed, "last") == renamed.path / "checkpoints" / "step-000000001"
    with RunReader(renamed) as reader:
        assert [row.step for row in reader.recent_steps(9)] == [1]
    assert renamed.socket_path != socket
    assert rename_run(renamed, "brisk-heron") == renamed


def test_a_refused_rename_changes_nothing() -> None:
    run = new_run()
    new_run("taken")
    (runs_dir() / "stray").mkdir()
    for name in ("taken", "stray", *IMPOSSIBLE_NAMES):
        with pytest.raises(RunNameError):
            rename_run(run, name)
    with (
        RunLock(run.lock_path),
        pytest.raises(RunStateError, match=r"running as pid .* it can't be renamed") as caught,
    ):
        rename_run(run, "other")
    assert caught.value.hint == "`rnnlm-tui stop plain-otter` first"
    assert sorted(found.name for found in list_runs()) == ["plain-otter", "taken"]


def test_a_rename_waits_for_a_change_of_labels() -> None:
    run = new_run("plain-otter")
    renaming = Thread(target=rename_run, args=(run, "brisk-heron"))

    def change(labels: RunLabels) -> RunLabels:
        renaming.start()
        renaming.join(0.1)
        return replace(labels, note="kept")

    change_labels(run, change)
    renaming.join()
    renamed = find_run("brisk-heron")
    assert read_labels(renamed).note == "kept"
    assert not list(renamed.path.glob(".tmp-*"))


def test_a_name_taken_during_a_rename_leaves_both_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    run = new_run("plain-otter")
    with monkeypatch.context() as moment:

        def taken_first(path: Path, target: Path) -> Path:
            moment.undo()
            new_run("brisk-heron")
            return path.rename(target)

        moment.setattr(Path, "rename", taken_first)
        with pytest.raises(StorageError, match=r"can't move .* not empty"):
            rename_run(run, "brisk-heron")
    assert sorted(left.name for left in list_runs()) == ["brisk-heron", "plain-otter"]


def test_a_renamed_parent_is_still_found_and_its_old_name_stays_reserved() -> None:
    create_run(RunConfig(), "child", parent_checkpoint(new_run("parent")))
    renamed = rename_run(run_named("parent"), "grown")
    assert run_named("parent") == renamed
    with pytest.raises(UnknownRunError) as unknown:
        find_run("parent")
    assert unknown.value.hint == 'it was renamed to "grown"'
    with pytest.raises(RunNameError, match='"parent" is a former name of grown'):
        create_run(RunConfig(), "parent")
    again = rename_run(rename_run(renamed, "older"), "parent")
    assert run_named("parent") == again


def test_generated_names_avoid_former_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    create_run(RunConfig(), "child", parent_checkpoint(new_run("plain-otter")))
    rename_run(run_named("plain-otter"), "grown")
    monkeypatch.setattr(runs, "ADJECTIVES", ("plain",))
    monkeypatch.setattr(runs, "ANIMALS", ("otter", "heron"))
    assert {suggest_name() for _ in range(20)} == {"plain-heron"}


def test_an_unreferenced_former_name_is_free() -> None:
    rename_run(new_run(), "brisk-heron")
    assert new_run().name == "plain-otter"
