"""`compare --test`: real runs on one test text, with others that can't be compared."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from rnnlm_tui.cli.main import run as command
from rnnlm_tui.store.checkpoints import list_checkpoints
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.runs import create_run
from tests.fakes.llama_tokenizer import write_tokenizer
from tests.integration.runs import start, tiny_config, wait_until_ended, write_text
from tests.integration.test_export import Trained, exported

pytestmark = pytest.mark.usefixtures("warm")

Compare = Callable[..., dict[str, Any]]


def trained(name: str, text: Path, changes: Mapping[str, object]) -> RunDirectory:
    """A finished run of 40 steps."""
    short = {"training.max_steps": 40, "schedule.warmup_steps": 4, "corpus.test_fraction": 0.2}
    run = start(tiny_config(text, {**short, **changes}), name)
    assert wait_until_ended(run).status == "finished"
    return run


@pytest.fixture
def compare(capfd: pytest.CaptureFixture[str]) -> Compare:
    """Returns what `compare --test --json` prints."""

    def compared(*words: str) -> dict[str, Any]:
        assert command(["compare", *words, "--test", "--json"]) == 0
        found: dict[str, Any] = json.loads(capfd.readouterr().out)
        return found

    return compared


def test_runs_with_the_same_tokens_differ_by_their_test_losses_sentence_by_sentence(
    text: Path, compare: Compare, capfd: pytest.CaptureFixture[str]
) -> None:
    small = trained("plain-otter", text, {"model.hidden_size": 8, "model.embedding_dim": 8})
    large = trained("brisk-heron", text, {"model.hidden_size": 48, "model.embedding_dim": 48})
    newest = list_checkpoints(large)[-1].path
    exported(Trained(large, newest), text.parent / "exported")
    found = compare("plain", "brisk@40", "brisk@20", "--model", str(text.parent / "exported"))
    assert found["unit"] == "nats per token"
    models = found["models"]
    assert [one["address"] for one in models[:3]] == [
        "plain-otter@40", "brisk-heron@40", "brisk-heron@20",
    ]  # fmt: skip
    for run, model in zip((small, large), models[:2], strict=True):
        with RunReader(run) as reader:
            (row,) = [row for row in reader.evaluations() if row.split == "test"]
        assert (model["loss"], model["size"]) == (pytest.approx(row.loss, abs=1e-5), row.tokens)
    first, better, earlier, read = models
    assert (first["difference"], first["low"], first["high"], first["sentences"]) == (0, 0, 0, [])
    assert better["low"] < better["difference"] < better["high"] < 0
    assert better["difference"] == pytest.approx(better["loss"] - first["loss"])
    assert earlier["loss"] > better["loss"]
    # the exported folder is read as text, and scored as the run is
    assert read["loss"] == pytest.approx(better["loss"], abs=1e-5)
    assert read["difference"] == pytest.approx(better["difference"], abs=1e-5)

    # each family of kinds has all tokens, and its losses are those of the models
    families = {kind["family"] for kind in found["kinds"]}
    assert len(families) == 3
    for family in families:
        kinds = [kind for kind in found["kinds"] if kind["family"] == family]
        assert sum(kind["tokens"] for kind in kinds) == first["size"]
        for at, model in enumerate(models):
            total = math.fsum(kind["tokens"] * kind["losses"][at] for kind in kinds)
            assert total / first["size"] == pytest.approx(model["loss"])
    ends = next(kind for kind in found["kinds"] if kind["kind"] == "end of sentence")
    assert ends["tokens"] == found["sentences"]
    words = next(kind for kind in found["kinds"] if kind["kind"] == "first of a word")
    lines = text.read_text(encoding="utf-8").splitlines()
    held_out = lines[-found["sentences"] :]
    # nothing predicts the very first character
    assert words["tokens"] == sum(len(line.split()) for line in held_out) - 1

    # the sentences that differ most, each way
    differences = [one["difference"] for one in better["sentences"]]
    assert differences == sorted(differences)
    for one in better["sentences"]:
        assert held_out[one["number"] - 1] == one["text"]

    assert command(["compare", "plain", "brisk", "--test"]) == 0
    said = capfd.readouterr().out
    assert "B is better than A by " in said
    assert "●" in said


def test_other_tokens_pair_by_bytes_and_other_texts_are_said(
    text: Path, compare: Compare, capfd: pytest.CaptureFixture[str]
) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    trained("plain-otter", text, {})
    trained("brisk-heron", text, {"tokenizer.kind": "bpe", "tokenizer.vocab_size": 280})
    trained("odd-vole", write_text(text.parent / "other.txt", 700), {})
    folder = text.parent / "llama"
    types = write_tokenizer(folder, text.read_text(encoding="utf-8").splitlines()[:50], 300)
    torch.manual_seed(1)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    shape = LlamaConfig(vocab_size=types, num_attention_heads=2, **sizes)
    LlamaForCausalLM(shape).save_pretrained(folder)
    found = compare("plain", "brisk", "odd", "--model", str(folder))
    assert found["unit"] == "bits per byte"
    assert found["kinds"] == []
    first, subwords, foreign = found["models"]
    assert [one["letter"] for one in found["models"]] == ["A", "B", "D"]
    assert first["size"] == pytest.approx(subwords["size"], rel=1e-3)
    assert foreign["low"] > 0
    (left_out,) = found["left_out"]
    assert left_out.startswith("C isn't compared: another text, or another part of it")
    assert command(["compare", "plain", "odd", "--test"]) == 2
    said = capfd.readouterr().err
    assert "B isn't compared" in said
    assert "compare models on the same test text" in said


def test_what_cannot_be_tested_is_said(text: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = trained("plain-otter", write_text(text.parent / "short.txt", 200), {})
    create_run(run.read_config(), "new-run")

    def refusal(*words: str, code: int = 2) -> str:
        assert command(["compare", *words, "--test"]) == code
        return capfd.readouterr().err

    assert "name a second run" in refusal("plain")
    assert "new-run has no checkpoint yet" in refusal("plain", "new-run")
    assert 'has no checkpoint "7"' in refusal("plain", "plain@7")
    assert "an interval needs at least 50" in refusal("plain@20", "plain@40")
    nowhere = str(text.parent / "none")
    assert f"{nowhere} not found" in refusal("plain", "--model", nowhere, code=5)
    assert command(["compare", "plain@20", "plain@40"]) == 2  # whole runs, without --test
