"""A dataset's code runs only after the user has named it in this home: by verbs, app and Python."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest

import rnnlm_tui
from rnnlm_tui.cli.main import run as command
from rnnlm_tui.client.queue import entries
from rnnlm_tui.client.start import check_datasets, trust_dataset
from rnnlm_tui.corpus.datasets import TRUSTED_NAME
from rnnlm_tui.schema.queue import QueueEntry, QueueFile
from rnnlm_tui.schema.toml import toml_text
from rnnlm_tui.schema.validation import config_to_raw
from rnnlm_tui.store.averages import list_averages
from rnnlm_tui.store.paths import corpora_dir
from rnnlm_tui.store.queue import change_queue
from rnnlm_tui.store.runs import create_run, find_run, list_runs
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.screens.choose import ChooseScreen
from tests.faults.workers import Workers, warm_starts
from tests.integration.runs import start, tiny_config, wait_for, wait_until_ended
from tests.tui.panes.seeing import until_shown
from tests.tui.support import until

MODULE = """
from pathlib import Path
Path({mark!r}).touch()
texts = [f"The {{animal}} saw {{count}} birds." for animal in ("cat", "dog") for count in range(99)]
"""
WORDS = "runs the code in"

READING = """
runs
show waiting
compare plain-otter waiting
metrics plain-otter
checkpoints plain-otter
verify plain-otter
set plain-otter optimizer.learning_rate=0.1
pin plain-otter
archive plain-otter HERE/otter.tar.zst
unarchive HERE/otter.tar.zst copy
export plain-otter@60 HERE/model --format onnx
sample plain-otter The --no-keep
score plain-otter TEXT
state keep plain-otter one The
estimate --config FILE
corpus
config show plain-otter
config show --config FILE
config diff plain-otter file:FILE
queue move waiting first
queue remove waiting
""".strip().splitlines()
"""Verbs that read a run, a fork, a queue entry or a config file that names a dataset."""
RUNNING = """
train --config FILE --detach
train --config FILE --draft
train --from plain-otter@60 --detach
train --preset demo --config TEST --detach
resume waiting --detach
resume waiting --device cpu --detach
queue add waiting
queue add --config FILE
queue add --from plain-otter@60
average plain-otter --last 2 --keep
average copy --last 2 --keep
estimate --config FILE --probe
tune --config FILE
""".strip().splitlines()
"""Verbs that would run its code."""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a dataset whose import leaves a mark."""
    folder = tmp_path_factory.mktemp("dataset")
    text = MODULE.format(mark=str(folder / "imported"))
    (folder / "someones_data.py").write_text(text, encoding="utf-8")
    return f"python:someones_data:texts@{folder}"


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory, source: str, workers: Workers
) -> Iterator[Path]:
    """A home with the run `plain-otter`, trained on the dataset, and its draft `waiting`."""
    folder = tmp_path_factory.mktemp("trained") / "home"
    with pytest.MonkeyPatch.context() as patch, warm_starts(workers):
        patch.setenv("RNNLM_TUI_HOME", str(folder))
        config = tiny_config(Path("x"), {"corpus.source": source})
        create_run(config, "waiting")
        run = start(config, "refused")
        assert "which you haven't trusted" in (wait_until_ended(run).message or "")
        trust_dataset(source)
        run = start(config, "plain-otter")
        summary = wait_until_ended(run)
        assert summary.status == "finished", summary.message
        assert (Path(source.rpartition("@")[2]) / "imported").exists()
        yield folder


@pytest.fixture
def mark(trained: Path, source: str, home: Path) -> Path:
    """The file that tells of an import. The home is a copy in which the dataset isn't trusted."""
    shutil.copytree(trained, home)
    (corpora_dir() / TRUSTED_NAME).unlink()
    found = Path(source.rpartition("@")[2]) / "imported"
    found.unlink(missing_ok=True)
    return found


@pytest.fixture
def files(tmp_path: Path, source: str) -> dict[str, str]:
    """What stands for the files in the calls."""
    config = tiny_config(Path("x"), {"corpus.source": source})
    (tmp_path / "config.toml").write_text(toml_text(config_to_raw(config)), encoding="utf-8")
    (tmp_path / "test.toml").write_text(
        f'[corpus]\nsource = "elman"\ntest_source = "{source}"\n', encoding="utf-8"
    )
    return {
        "FILE": str(tmp_path / "config.toml"),
        "TEST": str(tmp_path / "test.toml"),
        "HERE": str(tmp_path),
    }


def call(words: str, files: dict[str, str]) -> list[str]:
    for name, path in files.items():
        words = words.replace(name, path)
    return words.split(" ")


def test_no_verb_imports_a_dataset_that_the_user_hasnt_named(
    mark: Path, files: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    runs = {run.name for run in list_runs()}
    for words in (*READING, *RUNNING):
        code = command(call(words, files))
        printed = capfd.readouterr().err
        assert not mark.exists(), words
        assert "no such option" not in printed, words
        refused = (code, WORDS in printed, "--trust-dataset" in printed) == (2, True, True)
        assert refused is (words in RUNNING), words
        assert WORDS not in printed or refused, words
    assert {run.name for run in list_runs()} == runs | {"copy"}
    assert list_averages(find_run("copy")) == []
    entry = QueueEntry(run="waiting", added=time.time())
    change_queue(lambda _: QueueFile(entries=(entry,)))
    assert command(["queue"]) == 0  # starts the queue's process
    ended = wait_for(lambda: entries().ended or None, "the queued run's end")
    assert "which you haven't trusted" in ended[0].message
    assert not mark.exists()


@pytest.mark.fault("an archive, a config file or a fork names a dataset of Python (`python:`)")
def test_a_dataset_runs_once_it_is_trusted_until_it_changes(
    mark: Path, files: dict[str, str], source: str, capfd: pytest.CaptureFixture[str]
) -> None:
    module = mark.with_name("someones_data.py")
    average = ["average", "plain-otter", "--last", "2", "--keep"]
    assert command([*average, "--trust-dataset"]) == 0
    assert f"the dataset {WORDS} {module}" in capfd.readouterr().err
    assert mark.exists()
    before = module.read_text(encoding="utf-8")
    try:
        module.write_text(f"{before}# changed\n", encoding="utf-8")
        assert command(average) == 2
        named = ["--set", f"corpus.source={source}", "--config", files["FILE"]]
        assert command(["train", *named, "--draft", "--name", "named"]) == 0
        assert check_datasets(find_run("plain-otter").read_config().corpus) == [module]
    finally:
        module.write_text(before, encoding="utf-8")


@pytest.mark.parametrize("answer", ["y", "n"])
def test_a_terminal_is_asked(
    answer: str, mark: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    asked = StringIO(f"{answer}\n")
    monkeypatch.setattr(asked, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", asked)
    assert command(["queue", "add", "waiting"]) == (0 if answer == "y" else 2)
    assert f"{WORDS} {mark.with_name('someones_data.py')} as you. Run it?" in capfd.readouterr().err
    if answer == "y":
        wait_for(lambda: entries().ended or None, "the queued run's end")
    assert mark.exists() == (answer == "y")


def test_python_never_imports_a_dataset(mark: Path) -> None:
    run = rnnlm_tui.run("plain-otter")
    for name in (name for name in dir(type(run)) if not name.startswith("_")):
        getattr(run, name)
    model = run.load("best")
    model.generate("The")
    model.score("The cat saw 7 birds.")
    assert not mark.exists()


async def test_the_app_asks_before_a_dataset_runs(mark: Path) -> None:
    def asks() -> bool:
        return isinstance(app.screen, ChooseScreen)

    app = RnnlmApp(find_run("waiting"), "config")
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await until_shown(pilot, "waiting ○ draft", "dataset0")
        for keys in (("f5",), ("Q",), ("n", "f5"), ("Q",)):  # the draft, then a new run from it
            await pilot.press(*keys)
            await until(pilot, asks)
            await until_shown(pilot, "Run the dataset's code?", "someones_data.py")
            await pilot.press("enter")
            await until(pilot, lambda: not asks())
            assert not mark.exists()
        app.open_run(find_run("plain-otter"), "checkpoints")
        await until_shown(pilot, "★ best")
        await pilot.press("space", "space", "M")
        await until(pilot, asks)
        assert not mark.exists()
        await pilot.press("down", "enter")
        await until_shown(pilot, "Keep the average?")
        assert mark.exists()
    assert {run.name for run in list_runs()} == {"waiting", "refused", "plain-otter"}
