"""The Python interface on a real run: the guide's examples, and texts and figures of the verbs."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import rnnlm_tui
from rnnlm_tui.cli.main import run as run_command
from rnnlm_tui.client.start import trust_dataset
from rnnlm_tui.docs import find_guide
from rnnlm_tui.errors import ConfigError, CorpusError, InputError, UnknownRunError
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
from tests.faults.workers import Workers, warm_starts
from tests.integration.runs import start, tiny_config, wait_until_ended, write_text

TEXT = "The cat sat on the mat.\nShe saw a big red house.\n"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, workers: Workers) -> Iterator[RunDirectory]:
    """A finished run `plain-otter` in a home of its own, shared by these tests."""
    folder = tmp_path_factory.mktemp("python")
    with pytest.MonkeyPatch.context() as patch, warm_starts(workers):
        patch.setenv("RNNLM_TUI_HOME", str(folder / "home"))
        config = tiny_config(write_text(folder / "text.txt"))
        run = start(config, "plain-otter")
        assert wait_until_ended(run).status == "finished"
        yield run


@pytest.fixture(autouse=True)
def own_home(trained: RunDirectory, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RNNLM_TUI_HOME", str(trained.path.parents[1]))


def blocks() -> list[str]:
    """The guide's Python examples without the one for Optuna, in order."""
    text = find_guide("python").path.read_text(encoding="utf-8")
    found = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [example for example in found if "optuna" not in example]


def test_optuna_chooses_the_settings_of_runs_that_are_a_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: Workers
) -> None:
    pytest.importorskip("optuna", reason="Optuna isn't installed")
    program = tmp_path / "rnnlm-tui"
    program.write_text(f'#!/bin/sh\nexec "{workers.python}" -m rnnlm_tui "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    text = find_guide("python").path.read_text(encoding="utf-8")
    (example,) = re.findall(r"^```python\n(import subprocess.*?)^```", text, re.M | re.S)
    exec(
        compile(example, "python.md", "exec"),
        {"rnnlm_tui": rnnlm_tui, "otter": rnnlm_tui.run("plain-otter")},
    )
    assert [run.name for run in rnnlm_tui.runs("tag=sweep:optuna")] == ["optuna-1", "optuna-0"]


def test_the_examples_of_the_guide_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, object] = {}
    monkeypatch.chdir(tmp_path)
    examples = blocks()
    assert len(examples) == 5
    for example in examples:
        if example.startswith("# file: "):
            (tmp_path / example.partition("\n")[0].removeprefix("# file: ")).write_text(
                example, encoding="utf-8"
            )
        else:
            exec(compile(example, "python.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "plain-otter finished" in printed
    evaluations = rnnlm_tui.run("plain-otter").evaluations
    best = min(
        perplexity
        for split, perplexity in zip(evaluations["split"], evaluations["perplexity"], strict=True)
        if split == "validation"
    )
    assert f"60 steps, best validation perplexity {best:.1f}" in printed
    trust_dataset("python:my_data:Sentences")
    config = tiny_config(Path("x"), {"corpus.source": "python:my_data:Sentences"})
    run = start(config, "from-dataset")
    summary = wait_until_ended(run)
    assert summary.status == "finished", summary.message
    assert run.read_config().corpus.source == f"python:my_data:Sentences@{tmp_path}"
    with RunReader(run) as reader:
        assert reader.facts().corpus_title == "800 items of my_data:Sentences"


def test_metrics_are_the_stored_rows(trained: RunDirectory) -> None:
    run = rnnlm_tui.run("plain")
    with RunReader(trained) as reader:
        rows = list(reader.steps())
        evaluations = reader.evaluations()
    metrics = run.metrics
    assert {len(column) for column in metrics.values()} == {len(rows)} == {60}
    assert metrics["step"].dtype == np.int64
    assert metrics["loss"].tolist() == [row.loss for row in rows]
    assert run.evaluations["perplexity"].tolist() == [row.perplexity for row in evaluations]
    assert run.evaluations["split"].tolist() == [row.split for row in evaluations]
    assert len(run.samples) == len(run.samples) > 0
    assert [row.name for row in rnnlm_tui.runs("finished otter")] == ["plain-otter"]
    assert ["best" in checkpoint.marks for checkpoint in run.checkpoints].count(True) == 1
    with pytest.raises(UnknownRunError):
        rnnlm_tui.run("nothing")


def test_texts_and_figures_are_those_of_the_verbs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    def verb(*arguments: str) -> str:
        assert run_command([*arguments, "--json"]) == 0
        return capsys.readouterr().out

    before = torch.get_num_threads()
    model = rnnlm_tui.load("plain-otter@best")
    several = verb("sample", "plain-otter", "The cat", "-n", "3", "--seed", "7", "--no-keep")
    texts = [json.loads(line)["text"] for line in several.splitlines()]
    assert [one.text for one in model.generate_many(["The cat"], 3, seed=7)] == texts
    assert [one.sample for one in model.generate_many(["The"], 65, max_new_tokens=1)] == [
        *range(65)
    ]
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    printed = json.loads(verb("score", "plain-otter", str(tmp_path / "text.txt")))
    score = model.score(TEXT)
    for name in ("loss", "perplexity", "bits_per_byte", "tokens", "bytes", "unknown"):
        assert getattr(score, name) == printed[name], name
    assert model.score_file(tmp_path / "text.txt").loss == score.loss
    with pytest.raises(CorpusError, match=r"^the text has"):
        model.score("")
    assert torch.get_num_threads() == before


def test_wrong_settings_are_named() -> None:
    model = rnnlm_tui.load("plain-otter@last")
    assert model.step == 60
    with pytest.raises(ConfigError, match="temperature"):
        model.generate("The", temperature=-1)
    with pytest.raises(ConfigError, match="temperatur"):
        model.generate("The", temperatur=1)
    with pytest.raises(InputError, match="same text"):
        model.generate_many(["The"], 2, greedy=True)
    with pytest.raises(InputError, match="list of texts"):
        model.generate_many("The")
