"""Write and read models and training states: the Hugging Face layout, without pickle."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from pydantic_core import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from rnnlm_tui import __version__
from rnnlm_tui.engine.model import ModelShape, RecurrentLanguageModel
from rnnlm_tui.engine.tensor_file import write_tensors
from rnnlm_tui.engine.trainer import Trainer, TrainingState
from rnnlm_tui.errors import CheckpointError, InputError

MODEL_TYPE = "rnnlm"
WEIGHTS_NAME, STATE_NAME = "model.safetensors", "training_state.safetensors"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
GENERATION_NAME = "generation_config.json"
PICKLES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"})
"""Suffixes of files that may run code when loaded; they are never opened."""
_SIZES = ("cell_type", "vocab_size", "embedding_dim", "hidden_size", "num_layers")
"""What every config.json must say; other fields have defaults."""
_EMBEDDING, _OUTPUT = "embedding.weight", "output.weight"
"""Names of the two matrices that are one if the weights are tied."""


def model_config(model: RecurrentLanguageModel) -> dict[str, object]:
    """What config.json says of a model."""
    shape = model.shape.model_dump(exclude={"tie_weights", "pad_id"})
    return {
        "architectures": [type(model).__name__],
        "model_type": MODEL_TYPE,
        **shape,
        "dropout": model.dropout,  # steering may have changed it
        "tie_word_embeddings": model.tie_weights,
        "pad_token_id": model.pad_id,
        "dtype": "float32",
        "rnnlm_version": __version__,
    }


def write_model(
    directory: Path,
    model: RecurrentLanguageModel,
    codec_files: Path,
    *,
    generation: Mapping[str, object] | None = None,
) -> None:
    """Write config.json, model.safetensors and generation_config.json, and copy the tokenizer files
    of the folder `codec_files`.

    Args:
        generation: default settings for sampling (temperature, top_k, top_p, max_new_tokens,
            do_sample).

    Raises:
        OSError: the disk is full or a file can't be written. The caller removes what was written.
    """
    write_model_files(
        directory, model_config(model), plain_weights(model), codec_files, generation=generation
    )


def write_model_files(
    directory: Path,
    config: Mapping[str, object],
    weights: Mapping[str, Tensor],
    codec_files: Path,
    *,
    generation: Mapping[str, object] | None = None,
) -> dict[str, str]:
    """As `write_model`, of a model's config and weights; returns the SHA-256 of
    model.safetensors."""
    _write_json(directory / "config.json", config)
    _write_json(
        directory / GENERATION_NAME,
        {"pad_token_id": config["pad_token_id"], **(generation or {})},
    )
    hashed = write_tensors(directory / WEIGHTS_NAME, weights)
    for name in TOKENIZER_FILES:
        shutil.copyfile(codec_files / name, directory / name)
    return {WEIGHTS_NAME: hashed}


def write_training_state(directory: Path, state: TrainingState) -> dict[str, str]:
    """Write training_state.safetensors and training_state.json, which hold all but the weights;
    returns the SHA-256 of the first.

    Raises:
        OSError: the disk is full or a file can't be written.
    """
    tensors = {name: tensor.contiguous() for name, tensor in state.tensors.items()}
    hashed = write_tensors(directory / STATE_NAME, tensors)
    _write_json(directory / "training_state.json", state.values)
    return {STATE_NAME: hashed}


def plain_weights(model: RecurrentLanguageModel) -> dict[str, Tensor]:
    """The model's own weights by name, contiguous; a tied matrix once."""
    return {name: one.detach().contiguous() for name, one in model.named_parameters()}


def load_model(directory: Path, device: torch.device | str = "cpu") -> RecurrentLanguageModel:
    """Load the model of a checkpoint directory, in evaluation mode, on `device`.

    Raises:
        CheckpointError: a file is missing, unreadable or doesn't match.
    """
    config = read_json(directory, "config.json")
    if config.get("model_type") != MODEL_TYPE:
        raise CheckpointError(
            f'{directory / "config.json"} describes a model of type "{config.get("model_type")}",'
            f' only "{MODEL_TYPE}" can be loaded'
        )
    values = {
        "num_heads": 1,
        "dropout": 0.0,  # for files of other programs, and of early versions
        **config,
        "tie_weights": config.get("tie_word_embeddings", False),
        "pad_id": config.get("pad_token_id"),
    }
    try:
        if missing := [name for name in _SIZES if name not in values]:
            raise InputError(f"no {missing[0]}")
        model = RecurrentLanguageModel(ModelShape.model_validate(values), seed=None)
    except (ValidationError, InputError) as error:
        raise CheckpointError(
            f"{directory / 'config.json'} is not a valid model config: {_first_problem(error)}"
        ) from error
    load_weights(directory, model)
    return model.eval().to(device)


def load_weights(directory: Path, model: RecurrentLanguageModel, *, separate: bool = False) -> None:
    """Copy the weights of a checkpoint directory into a model of the same shape.

    Args:
        separate: the checkpoint may have tied weights and the model separate ones, which then both
            start as the tied matrix.

    Raises:
        CheckpointError: a file is missing or damaged, or a name or shape differs; the model is
            unchanged.
    """
    tensors = _read_tensors(directory, WEIGHTS_NAME)
    parameters = dict(model.named_parameters())
    if separate and _OUTPUT in parameters and _OUTPUT not in tensors and _EMBEDDING in tensors:
        tensors[_OUTPUT] = tensors[_EMBEDDING]
    different = sorted(parameters.keys() ^ tensors.keys())
    if different:
        where = "only in the file" if different[0] in tensors else "missing in the file"
        raise CheckpointError(
            f"{directory / 'model.safetensors'} belongs to another model: {different[0]} is {where}"
        )
    for name, parameter in parameters.items():
        if parameter.shape != tensors[name].shape:
            shapes = (
                f"{name} has shape {tuple(tensors[name].shape)}, the model's"
                f" {tuple(parameter.shape)}"
            )
            raise CheckpointError(
                f"{directory / 'model.safetensors'} belongs to another model: {shapes}"
            )
    model.load_state_dict(tensors, strict=False)  # a tied matrix is there once


def read_weights(directory: Path) -> dict[str, Tensor]:
    """The weights of a checkpoint directory by name, on the CPU.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    return _read_tensors(directory, WEIGHTS_NAME)


def load_optimizer_state(directory: Path, trainer: Trainer) -> None:
    """Load only the optimizer's state (AdamW's averages and their step counts) into a new trainer.

    Raises:
        CheckpointError: a file is missing or damaged, or belongs to another model.
    """
    trainer.load_optimizer_state(_read_tensors(directory, STATE_NAME))


def load_training_state(directory: Path, trainer: Trainer) -> None:
    """Load weights, optimizer, schedule, data position, carried state, generators and counters into
    a new trainer.

    Raises:
        CheckpointError: a file is missing or damaged, or belongs to another model or other data.
    """
    values = read_json(directory, "training_state.json")
    tensors = _read_tensors(directory, STATE_NAME)
    load_weights(directory, trainer.model)
    try:
        trainer.load_state_dict(TrainingState(tensors, values))
    except (KeyError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"{directory / 'training_state.json'} is not a training state: {error!r}"
        ) from error


def _first_problem(error: ValidationError | InputError) -> str:
    if isinstance(error, InputError):
        return error.message
    problem = error.errors(include_url=False)[0]
    return f"{problem['loc'][0]} is {problem['input']!r}: {problem['msg']}"


def _write_json(path: Path, values: Mapping[str, object]) -> None:
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(directory: Path, name: str) -> dict[str, object]:
    """A JSON file of a checkpoint.

    Raises:
        CheckpointError: it can't be read, or holds no object.
    """
    refuse_pickles(directory, name)
    try:
        values = json.loads((directory / name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{directory / name} can't be read: {error}") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{directory / name} holds no JSON object")
    return cast(dict[str, object], values)


def _read_tensors(directory: Path, name: str) -> dict[str, Tensor]:
    refuse_pickles(directory, name)
    try:
        # Copied: in the mapped file tensors are unaligned, and products of those round differently,
        # so a resume wouldn't be bit for bit.
        return {key: tensor.clone() for key, tensor in load_file(directory / name).items()}
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{directory / name} can't be read: {error}") from error


def refuse_pickles(directory: Path, name: str) -> None:
    """
    Raises:
        CheckpointError: the directory has no such file, perhaps a pickle instead.
    """
    if not directory.exists():
        raise CheckpointError(f"{directory} not found")
    if directory.is_file():
        kind = (
            "a pickle, which may run code and is never opened"
            if directory.suffix in PICKLES
            else "a file, not a checkpoint directory"
        )
        raise CheckpointError(f"{directory} is {kind}")
    if not (directory / name).exists():
        pickles = (
            sorted(path.name for path in directory.glob("*") if path.suffix in PICKLES)
            if directory.is_dir()
            else []
        )
        found = (
            f"; {pickles[0]} is a pickle, which may run code and is never opened" if pickles else ""
        )
        raise CheckpointError(
            f"{directory} has no {name}{found}",
            hint="a checkpoint is a directory with config.json and model.safetensors",
        )
