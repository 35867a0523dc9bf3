"""A run that starts from a checkpoint: another text, a kept optimizer, no parent any more."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from safetensors.torch import load_file

from rnnlm_tui.client.control import resume
from rnnlm_tui.client.start import parent_at
from rnnlm_tui.engine.checkpoint import load_model
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.store.checkpoints import list_checkpoints
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.runs import create_run, find_run
from rnnlm_tui.store.trash import delete_run, list_trash, purge
from rnnlm_tui.worker.parent import vocabulary
from tests.integration.runs import (
    ENDLESS,
    kill,
    start,
    tiny_config,
    wait_for_step,
    wait_until_ended,
)

pytestmark = pytest.mark.usefixtures("warm")


@pytest.fixture
def parent(text: Path) -> RunDirectory:
    """A finished run with tied weights."""
    run = start(config_of(text), "parent")
    assert wait_until_ended(run).status == "finished"
    return run


def config_of(text: Path, **changes: object) -> RunConfig:
    whole = {"training.max_steps": 40, "checkpoint.every": 20, "evaluation.every": 0}
    return tiny_config(
        text, {**whole, **{key.replace("__", "."): value for key, value in changes.items()}}
    )


def weights(run: RunDirectory) -> dict[str, list[float]]:
    path = list_checkpoints(run)[-1].path / "model.safetensors"
    return {name: tensor.flatten().tolist() for name, tensor in load_file(path).items()}


def first_note(run: RunDirectory) -> str:
    with RunReader(run) as reader:
        return next(event.text for event in reversed(reader.events()) if event.kind == "note")


def test_another_text_is_split_by_the_parents_tokenizer_without_the_parent_and_after_a_kill(
    parent: RunDirectory, tmp_path: Path
) -> None:
    draw, other = random.Random(3), tmp_path / "other.txt"
    lines = (" ".join(draw.choices(["the", "bird", "zzz", "sat"], k=8)) for _ in range(500))
    other.write_text("\n".join(lines) + "\n")
    slow = config_of(other, training__max_steps=ENDLESS, checkpoint__every=0)
    whole = config_of(other, training__max_steps=30, checkpoint__every=0, model__tie_weights=False)
    undisturbed, killed = (
        create_run(config, name, parent_at("parent@20"))
        for config, name in ((whole, "undisturbed"), (slow, "killed"))
    )
    delete_run(parent)
    purge(list_trash())

    for attempt in (1, 2):  # killed before its first checkpoint, it starts again from the weights
        resume(killed)
        wait_for_step(killed, 3)
        kill(killed)
        assert list_checkpoints(killed) == [], attempt
        assert "starts from the weights of parent@20" in first_note(killed)
    resume(undisturbed)
    summary = wait_until_ended(undisturbed)
    assert (summary.status, summary.parent) == ("finished", "parent@20")
    newest = list_checkpoints(undisturbed)[-1]
    assert vocabulary(newest.path) == vocabulary(undisturbed.path / "parent")
    assert newest.manifest.parent == "parent@20"
    model = load_model(newest.path)
    assert not model.tie_weights  # separate matrices, from one that was tied
    assert not model.output.weight.equal(model.embedding.weight)


def test_a_kept_optimizer_continues_its_averages_on_a_schedule_of_its_own(
    parent: RunDirectory, text: Path
) -> None:
    children = {
        name: create_run(
            config_of(text, training__max_steps=1, schedule__warmup_steps=0),
            name,
            parent_at("parent@40", "keep" if name == "keep" else "fresh"),
        )
        for name in ("keep", "fresh")
    }
    states = {}
    for name, child in children.items():
        resume(child)
        assert wait_until_ended(child).status == "finished"
        path = list_checkpoints(child)[-1].path / "training_state.safetensors"
        states[name] = load_file(path)["optimizer.embedding.weight.step"].item()
    assert states == {"keep": 41, "fresh": 1}
    assert weights(children["keep"]) != weights(children["fresh"])
    assert find_run("keep").read_config().training.max_steps == 1
    assert "and its optimizer's state" in first_note(children["keep"])
