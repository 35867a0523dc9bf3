"""`average`: the mean of real checkpoints, evaluated, kept, sampled, and never resumed from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import rnnlm_tui
from rnnlm_tui.cli.main import run as command
from rnnlm_tui.client.average import average_checkpoints, parts_at
from rnnlm_tui.client.checkpoints import rows_on_disk
from rnnlm_tui.errors import CheckpointError, CorpusError, InputError, RnnlmError
from rnnlm_tui.schema.protocol import AverageDone, AveragePart, AverageRequest
from rnnlm_tui.store.averages import list_averages
from rnnlm_tui.store.checkpoints import list_checkpoints, write_checkpoint
from rnnlm_tui.store.manifest import verify_checkpoint
from rnnlm_tui.store.paths import RunDirectory, weights_name
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.worker.average import average, mean_of_weights
from tests.integration.runs import start, tiny_config, wait_until_ended

pytestmark = pytest.mark.usefixtures("warm")


@pytest.fixture
def run(text: Path) -> RunDirectory:
    """A finished run with checkpoints of steps 20, 40 and 60."""
    run = start(tiny_config(text, {"checkpoint.keep_last": 5}), "plain-otter")
    assert wait_until_ended(run).status == "finished"
    return run


def test_an_average_is_the_mean_evaluated_beside_its_parts_and_kept_on_request(
    run: RunDirectory, capfd: pytest.CaptureFixture[str]
) -> None:
    assert command(["average", "plain-otter", "--last", "3", "--keep", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    entry = list_averages(run)[0]
    assert (found["average"], found["path"]) == ("plain-otter@average-60", str(entry.path))
    with RunReader(run) as reader:
        measured = {
            f"plain-otter@{row.step}": row.loss
            for row in reader.evaluations()
            if row.split == "validation"
        }
    parts = {part["checkpoint"]: part["validation_loss"] for part in found["parts"]}
    assert parts == pytest.approx(measured, abs=1e-6)  # as the trainer has evaluated them

    mean = load_file(entry.path / "model.safetensors")
    every = [load_file(one.path / "model.safetensors") for one in list_checkpoints(run)]
    for name, tensor in mean.items():
        exact = torch.stack([part[name].double() for part in every]).mean(0)
        assert torch.equal(tensor, exact.float()), name
    manifest = verify_checkpoint(entry.path)
    assert manifest.facts["averaged"] == list(parts)
    assert (
        manifest.facts["validation_loss"] == found["validation_loss"] == entry.row().validation_loss
    )

    assert command(["sample", "plain-otter@average-60", "The cat"]) == 0
    assert "from plain-otter@average-60" in capfd.readouterr().err
    assert command(["train", "--from", "plain-otter@average-60", "--name", "child", "--draft"]) == 0

    assert command(["delete", "plain-otter@20"]) == 0
    shown = rows_on_disk(run)
    assert [weights_name(one.path) for one in shown] == ["40", "60", "average-60"]
    otter = rnnlm_tui.run("plain-otter")
    listed = {one.name: one for one in otter.checkpoints}
    assert sorted(listed) == ["40", "60", "average-60"]
    assert listed["average-60"].row.validation_loss == entry.row().validation_loss
    assert otter.load("average-60").path == entry.path
    capfd.readouterr()
    assert command(["checkpoints", "plain-otter"]) == 0
    assert "average-60" in capfd.readouterr().out
    assert command(["average", "--remove", "--yes", "plain-otter@average-60"]) == 0
    assert list_averages(run) == []


def average_here(addresses: Sequence[str]) -> AverageDone:
    """Average in this process."""
    parts = parts_at(addresses)
    request = AverageRequest(
        run=str(parts[0].run.path),
        parts=tuple(AveragePart(address=one.address, path=str(one.path)) for one in parts),
        folder=str(parts[0].run.checkpoints_path / ".average"),
    )
    return average(request, lambda *_: None)


def test_parts_that_dont_fit_together_are_refused_with_both(
    run: RunDirectory, text: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    short = {"training.max_steps": 1, "schedule.warmup_steps": 0}
    small = {"model.hidden_size": 16, "model.embedding_dim": 16}
    words = {"tokenizer.kind": "word", "tokenizer.vocab_size": 20}
    for name, changes in (("narrow", small), ("words", words)):
        wait_until_ended(start(tiny_config(text, short | changes), name))

    def refusal(*addresses: str) -> RnnlmError:
        with pytest.raises(RnnlmError) as caught:
            average_here(addresses)
        assert [path.name for path in run.checkpoints_path.glob(".*")] == []
        return caught.value

    shapes = refusal("plain-otter@60", "narrow@1")
    assert isinstance(shapes, InputError)
    assert "embedding_dim 24 and 16, hidden_size 24 and 16" in shapes.message
    assert "vocab_size" in refusal("plain-otter@60", "words@1").message
    with pytest.raises(InputError, match="at least 2 different"):
        average_checkpoints(parts_at(["plain-otter@60"] * 2), lambda _progress: None)
    damaged = list_checkpoints(run)[0].path / "model.safetensors"
    damaged.write_bytes(damaged.read_bytes()[::-1])
    assert isinstance(refusal("plain-otter@20", "plain-otter@60"), CheckpointError)
    assert command(["average", "plain-otter@40", "plain-otter@60"]) == 2
    assert "add --keep, or --if-better" in capfd.readouterr().err

    whole = list_checkpoints(run)[-1].path

    def write(folder: Path) -> None:
        tensors = load_file(whole / "model.safetensors")
        tensors["output.bias"][0] = torch.nan
        save_file(tensors, folder / "model.safetensors")

    broken = write_checkpoint(run, 99, write, None, {})
    with pytest.raises(CheckpointError, match=r"output\.bias has weights that are not finite"):
        mean_of_weights([whole, broken])


def test_a_text_that_has_changed_is_refused_as_by_a_resume(
    run: RunDirectory, text: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with text.open("a", encoding="utf-8") as file:
        file.write("ÄÖÜ: more types than the model has.\n")
    assert (
        command(["average", "plain-otter", "--last", "2", "--if-better"]) == CorpusError.exit_code
    )
    said = capfd.readouterr().err
    assert "the corpus has changed since step 40" in said
    assert "restore it, or start a new run from the weights" in said
    assert list_averages(run) == []
