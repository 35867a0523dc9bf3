"""A run keeps its parent's weights and remembers which they were."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from rnnlm_tui.client.start import check_draft_before_start, parent_at
from rnnlm_tui.errors import (
    CheckpointError,
    ConfigError,
    InputError,
    RnnlmError,
    StorageError,
    UnknownCheckpointError,
    UnknownRunError,
)
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.facts import CHANGED_FACT, OptimizerStart
from rnnlm_tui.schema.presets import PRESETS
from rnnlm_tui.schema.toml import toml_text
from rnnlm_tui.schema.validation import config_to_raw, merge, parse_config
from rnnlm_tui.store.archive import read_archive, write_archive
from rnnlm_tui.store.averages import keep_average, list_averages, write_average
from rnnlm_tui.store.checkpoints import remove_checkpoint, write_checkpoint
from rnnlm_tui.store.lineage import (
    PARENT_FOLDER,
    STATE_FILES,
    ParentCheckpoint,
    check_fits,
    parent_config,
    read_parent,
)
from rnnlm_tui.store.manifest import read_manifest, verify_checkpoint
from rnnlm_tui.store.paths import RunDirectory, runs_dir
from rnnlm_tui.store.runs import change_draft, create_run, rename_run
from rnnlm_tui.store.trash import delete_run, list_trash, purge

MODEL = {
    "model_type": "rnnlm",
    "cell_type": "elman",
    "vocab_size": 2_048,
    "embedding_dim": 192,
    "hidden_size": 192,
    "num_layers": 2,
    "tie_word_embeddings": True,
}


def checkpoint(
    run: RunDirectory,
    optimizer: OptimizerStart = "fresh",
    *,
    step: int = 500,
    states: bool = True,
    facts: Mapping[str, object] | None = None,
) -> ParentCheckpoint:
    """A checkpoint with a real config.json, and files in place of tensors."""

    def write(folder: Path) -> None:
        (folder / "config.json").write_text(json.dumps(MODEL))
        (folder / "model.safetensors").write_bytes(b"weights")
        for name in STATE_FILES if states else ():
            (folder / name).write_bytes(b"state")

    all_facts = {"validation_loss": 4.25, "corpus_hash": "c" * 64, **(facts or {})}
    return ParentCheckpoint(run, write_checkpoint(run, step, write, None, all_facts), optimizer)


@pytest.fixture
def parent() -> RunDirectory:
    return create_run(PRESETS["demo"], "plain-otter")


def changed(**changes: object) -> RunConfig:
    return parse_config(
        merge(PRESETS["demo"], {key.replace("__", "."): value for key, value in changes.items()})
    )


def test_a_run_keeps_its_parents_weights_after_rename_pruning_and_purge(
    parent: RunDirectory,
) -> None:
    hash_then = read_manifest(checkpoint(parent).path).checksum
    child = create_run(
        changed(optimizer__learning_rate=1e-4), "child", parent_at("plain-otter@500")
    )
    renamed = rename_run(parent, "old-otter")
    assert remove_checkpoint(renamed, 500)
    delete_run(renamed)
    purge(list_trash())

    kept = verify_checkpoint(child.path / PARENT_FOLDER)
    assert (kept.run, kept.step, kept.kind) == ("plain-otter", 500, "snapshot")
    assert sorted(kept.files) == ["config.json", "model.safetensors"]
    found = read_parent(child)
    assert found is not None
    assert (found.address, found.step, found.hash) == ("plain-otter@500", 500, hash_then)
    assert (found.validation_loss, found.corpus_hash) == (4.25, "c" * 64)
    assert found.changed == {"optimizer.learning_rate": (3e-3, 1e-4)}
    again = create_run(PRESETS["demo"], "again", checkpoint(child, "keep"))
    assert set(STATE_FILES) <= set(verify_checkpoint(again.path / PARENT_FOLDER).files)
    kept_too = read_parent(again)
    assert kept_too is not None
    assert kept_too.optimizer == "keep"


def test_a_changed_draft_remembers_what_it_changes_and_starts_only_if_it_fits(
    parent: RunDirectory,
) -> None:
    child = create_run(PRESETS["demo"], "child", checkpoint(parent))
    for changes, recorded in (
        ({"training__seed": 7}, {"training.seed": (42, 7)}),
        ({"model__num_layers": 3}, {"model.num_layers": (2, 3)}),
        ({}, {}),
    ):
        config = changed(**changes)
        change_draft(child, config, toml_text(config_to_raw(config)))
        found = read_parent(child)
        assert found is not None
        assert found.changed == recorded
        assert parent_config(found, child.read_config()) == PRESETS["demo"]
        if "model__num_layers" in changes:
            with pytest.raises(ConfigError, match=r"model\.num_layers: is 3"):
                check_draft_before_start(child)
        else:
            check_draft_before_start(child)


def test_everything_but_shapes_and_vocabulary_may_change(parent: RunDirectory) -> None:
    fits = (
        {"optimizer__learning_rate": 1e-4, "model__dropout": 0.0, "schedule__kind": "constant"},
        {"corpus__source": "elman", "training__batch_size": 3, "training__data_mode": "sentences"},
        {"model__weight_dropout": 0.5, "model__init_scale": 0.2, "model__num_heads": 2},
        {"model__tie_weights": False, "optimizer__algorithm": "sgd", "training__seed": 7},
    )
    for changes in fits:
        check_fits(changed(**changes), checkpoint(parent))


def test_a_fork_is_compared_with_the_config_in_effect_at_its_checkpoint(
    parent: RunDirectory,
) -> None:
    steered = {"optimizer.learning_rate": 0.0005, "model.dropout": 0.25, "training.seed": 9}
    started = checkpoint(parent, facts={CHANGED_FACT: steered}, step=700)
    in_effect = changed(optimizer__learning_rate=0.0005, model__dropout=0.25)
    assert started.config() == in_effect, "the seed can't change while a run trains"
    assert checkpoint(parent).config() == PRESETS["demo"]
    child = create_run(changed(optimizer__learning_rate=0.0005, training__seed=4), "child", started)
    record = read_parent(child)
    assert record is not None
    assert record.changed == {"model.dropout": (0.25, 0.1), "training.seed": (42, 4)}


@pytest.mark.parametrize("facts", [None, [], {"optimizer.learning_rate": "fast"}, {"x.y": {}}])
def test_damaged_facts_about_changes_leave_the_runs_config(
    parent: RunDirectory, facts: object
) -> None:
    assert checkpoint(parent, facts={CHANGED_FACT: facts}).config() == PRESETS["demo"]


def test_other_shapes_and_vocabularies_are_refused_with_both(parent: RunDirectory) -> None:
    with pytest.raises(ConfigError) as caught:
        create_run(
            changed(
                model__cell_type="lstm", model__hidden_size=96, model__embedding_dim=96,
                tokenizer__kind="word", tokenizer__vocab_size=512,
            ),
            "child",
            checkpoint(parent),
        )  # fmt: skip
    told = str(caught.value)
    for words in (
        "model.hidden_size: is 96, but the checkpoint was trained with 192",
        "model.cell_type: is 'lstm', but the checkpoint was trained with 'elman'",
        "weights: elman 2 × 192, embedding 192, config: lstm 2 × 96, embedding 96",
        "tokenizer.kind: is 'word', but the checkpoint was trained with 'bpe'",
        "its vocabulary is bpe, and the new run keeps it",
    ):
        assert words in told
    assert [path.name for path in runs_dir().iterdir()] == ["plain-otter"]
    separate = create_run(changed(model__tie_weights=False), "separate")
    with pytest.raises(ConfigError, match="separate matrices for embedding and output"):
        check_fits(PRESETS["demo"], checkpoint(separate))


@pytest.mark.parametrize(
    ("changes", "states", "words"),
    [
        ({"optimizer__algorithm": "sgd", "optimizer__learning_rate": 1.0}, True, "it is of adamw"),
        ({"model__tie_weights": False}, True, "one state for the tied matrix"),
        ({}, False, "has weights only: no optimizer state to keep"),
    ],
)
def test_an_optimizer_state_that_doesnt_fit_is_refused(
    parent: RunDirectory, changes: dict[str, object], states: bool, words: str
) -> None:
    start = checkpoint(parent, "keep", states=states)
    with pytest.raises(InputError, match=words) as caught:
        create_run(changed(**changes), "child", start)
    assert "--optimizer fresh" in caught.value.hint
    assert [path.name for path in runs_dir().iterdir()] == ["plain-otter"]


def test_a_parent_that_was_deleted_pruned_or_damaged_after_it_was_chosen_creates_no_run(
    parent: RunDirectory,
) -> None:
    def refusal(kind: type[RnnlmError]) -> RnnlmError:
        with pytest.raises(kind) as caught:
            create_run(PRESETS["demo"], "child", chosen)
        assert not (runs_dir() / "child").exists()
        assert not any(path.name.startswith(".") for path in runs_dir().iterdir())
        return caught.value

    chosen = checkpoint(parent)
    (chosen.path / "model.safetensors").write_bytes(b"WEIGHTS")
    assert "model.safetensors is damaged" in refusal(CheckpointError).message
    chosen = checkpoint(parent)
    remove_checkpoint(parent, 500)
    assert "plain-otter@500 is gone" in refusal(UnknownCheckpointError).message
    delete_run(parent)
    with pytest.raises(UnknownRunError) as caught:
        parent_at("plain-otter@500")
    assert "`rnnlm-tui restore plain-otter`" in caught.value.hint


def test_an_archive_carries_the_parents_weights_and_averages(
    parent: RunDirectory, tmp_path: Path
) -> None:
    child = create_run(PRESETS["demo"], "child", checkpoint(parent))
    own = checkpoint(child)
    average = child.checkpoints_path / "written"
    write_average(child, average, 500, lambda folder: copy(own.path, folder), {})
    keep_average(child, average)
    write_archive(child, tmp_path / "child.tar.zst")
    again, _ = read_archive(tmp_path / "child.tar.zst", "again")
    assert verify_checkpoint(again.path / PARENT_FOLDER).run == "plain-otter"
    assert read_parent(again) == read_parent(child)
    (again.path / "parent.json").write_text('{"run": 3}')
    with pytest.raises(StorageError, match=r"parent\.json is damaged"):
        read_parent(again)
    assert [entry.name for entry in list_averages(again)] == ["average-500"]


def copy(source: Path, folder: Path) -> None:
    (folder / "model.safetensors").write_bytes((source / "model.safetensors").read_bytes())
