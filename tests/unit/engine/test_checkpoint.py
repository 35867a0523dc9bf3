"""Checkpoint files: names, contents, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from rnnlm_tui.engine.cells import CELLS
from rnnlm_tui.engine.checkpoint import (
    load_model,
    load_training_state,
    load_weights,
    write_model,
    write_training_state,
)
from rnnlm_tui.errors import CheckpointError
from rnnlm_tui.schema.cells import RECURRENT_WEIGHT_CELLS
from tests.unit.engine.builders import built_model

from .builders import small_model, tokenizer_folder, trainer_of


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    trainer = trainer_of("stream")
    for _ in range(3):
        trainer.train_step()
    directory = tmp_path / "step-000000003"
    directory.mkdir()
    write_model(
        directory,
        trainer.model,
        tokenizer_folder(tmp_path / "codec"),
        generation={"temperature": 0.8},
    )
    write_training_state(directory, trainer.state_dict())
    return directory


def test_a_checkpoint_is_exactly_the_files_of_the_layout(checkpoint: Path) -> None:
    model = {
        "config.json",
        "model.safetensors",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert {path.name for path in checkpoint.iterdir()} == model | {
        "training_state.safetensors",
        "training_state.json",
    }
    assert json.loads((checkpoint / "config.json").read_text())["model_type"] == "rnnlm"
    assert json.loads((checkpoint / "generation_config.json").read_text())["temperature"] == 0.8
    assert json.loads((checkpoint / "tokenizer_config.json").read_text()) == {"rnnlm_kind": "word"}


@pytest.mark.parametrize("cell_type", sorted(CELLS))
def test_a_model_of_every_cell_is_written_and_loaded_without_a_random_number(
    cell_type: str, tmp_path: Path
) -> None:
    tied = cell_type != "elman"
    model = built_model(
        vocab_size=23,
        embedding_dim=12,
        hidden_size=12,
        num_layers=2,
        cell_type=cell_type,
        num_heads=4,
        dropout=0.25,
        variational_dropout=True,
        embedding_dropout=0.1,
        weight_dropout=0.2 if cell_type in RECURRENT_WEIGHT_CELLS else 0.0,
        tie_weights=tied,
        initialization="uniform",
        init_scale=0.04,
        pad_id=None if tied else 2,
    )
    write_model(tmp_path, model, tokenizer_folder(tmp_path / "codec"))
    before = torch.get_rng_state()
    loaded = load_model(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)
    assert loaded.shape == model.shape
    assert not loaded.training
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), loaded.parameters(), strict=True)
    )


def test_a_tied_matrix_is_stored_once(checkpoint: Path) -> None:
    names = set(load_file(checkpoint / "model.safetensors"))
    assert "embedding.weight" in names
    assert "output.weight" not in names
    assert not any("bias_hh" in name for name in names)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("content", [None, b"", b"\x00" * 64, b"[1]", b"{"])
def test_a_missing_or_damaged_file_is_named(
    checkpoint: Path, name: str, content: bytes | None
) -> None:
    (checkpoint / name).unlink()
    if content is not None:
        (checkpoint / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"has no {name}" if content is None else name):
        load_model(checkpoint)


@pytest.mark.parametrize("name", ["training_state.json", "training_state.safetensors"])
def test_a_damaged_training_state_is_named(checkpoint: Path, name: str) -> None:
    (checkpoint / name).write_text("{}", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"training_state\.(json|safetensors)"):
        load_training_state(checkpoint, trainer_of("stream"))


def test_pickles_are_refused_by_kind_and_never_opened(tmp_path: Path) -> None:
    pickled = tmp_path / "model.pt"
    pickled.write_bytes(b"not even read")
    with pytest.raises(CheckpointError, match="is a pickle"):
        load_model(pickled)
    with pytest.raises(CheckpointError, match=r"model\.pt is a pickle"):
        load_model(tmp_path)


def test_a_model_of_another_type_is_refused_with_both_types(checkpoint: Path) -> None:
    known = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    (checkpoint / "config.json").write_text('{"model_type": "gpt2"}', encoding="utf-8")
    with pytest.raises(CheckpointError, match='type "gpt2", only "rnnlm"'):
        load_model(checkpoint)
    for values, problem in (
        ({}, "no cell_type"),
        ({**known, "vocab_size": "many"}, "vocab_size is 'many': Input should be a valid integer"),
    ):
        text = json.dumps({"model_type": "rnnlm", **values})
        (checkpoint / "config.json").write_text(text, encoding="utf-8")
        with pytest.raises(CheckpointError, match=problem):
            load_model(checkpoint)


def test_a_config_that_says_no_more_than_the_sizes_is_enough(checkpoint: Path) -> None:
    known = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    names = ("model_type", "cell_type", "vocab_size", "embedding_dim", "hidden_size", "num_layers")
    kept = {name: known[name] for name in (*names, "tie_word_embeddings")}
    whole = load_model(checkpoint)
    (checkpoint / "config.json").write_text(json.dumps(kept), encoding="utf-8")
    loaded = load_model(checkpoint)
    assert (loaded.dropout, loaded.num_heads) == (0.0, 1)
    for ours, theirs in zip(loaded.parameters(), whole.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_weights_of_other_names_or_shapes_are_refused_and_change_nothing(checkpoint: Path) -> None:
    for model, message in (
        (small_model(tie_weights=False), "output.weight is missing"),
        (small_model(width=10, tie_weights=True), "has shape"),
    ):
        before = model.embedding.weight.detach().clone()
        with pytest.raises(CheckpointError, match=message):
            load_weights(checkpoint, model)
        assert torch.equal(model.embedding.weight, before)


def test_loaded_tensors_are_aligned_so_that_products_round_as_before(checkpoint: Path) -> None:
    trainer = trainer_of("stream")
    load_training_state(checkpoint, trainer)
    loaded = [tensor for layer in trainer.state for tensor in layer]
    loaded += [
        tensor
        for moments in trainer.optimizer.state.values()
        for tensor in moments.values()
        if isinstance(tensor, torch.Tensor)
    ]
    assert loaded
    assert {tensor.data_ptr() % 64 for tensor in loaded} == {0}
