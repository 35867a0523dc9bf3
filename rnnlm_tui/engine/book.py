"""The state dict of the book's model (.pth): write it, and read it without running its code.

The book's names: `embedding.weight`, `rnn.rnn_units.N.Wh`, `.Uh` and `.b` of each layer,
`fc.weight` and `fc.bias`; Wh and Uh are the transposed matrices of our Elman layers.
"""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from rnnlm_tui.engine.device import is_out_of_memory
from rnnlm_tui.engine.model import ModelShape, RecurrentLanguageModel
from rnnlm_tui.errors import CheckpointError, InputError, StorageError
from rnnlm_tui.schema.formatting import counted

NUM_LAYERS = 2
"""Layers of the book's model."""
_PARTS = ("Wh", "Uh", "b")
_FLOATS = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64})
_KNOWN = "the names are embedding.weight, rnn.rnn_units.N.Wh, .Uh and .b, fc.weight and fc.bias"


def check_book_shape(model: RecurrentLanguageModel) -> None:
    """Refuse a model that the book's code can't hold.

    Raises:
        InputError: says which parts differ.
    """
    reasons = []
    if model.cell_type != "elman":
        reasons.append(f"its cell is {model.cell_type}, not elman")
    if model.num_layers != NUM_LAYERS:
        reasons.append(f"it has {counted(model.num_layers, 'layer')}, not {NUM_LAYERS}")
    if model.embedding_dim != model.hidden_size:
        reasons.append(
            f"its embedding has {model.embedding_dim} dimensions and its layers"
            f" {model.hidden_size}, the book's one width for both"
        )
    if model.tie_weights:
        reasons.append("its output weights are those of the embedding, the book's are separate")
    if reasons:
        raise InputError(
            f"this model can't be written as the book's state dict: {'; '.join(reasons)}",
            hint="use --format hf or --format onnx, which hold every model",
        )


def write_state_dict(path: Path, model: RecurrentLanguageModel) -> None:
    """Write the state dict under the book's names. Call `check_book_shape` first.

    Raises:
        OSError, StorageError: the file can't be written.
    """
    weights = {name: part.detach().cpu() for name, part in model.named_parameters()}
    tensors = {"embedding.weight": weights["embedding.weight"]}
    for index in range(model.num_layers):
        tensors |= {
            f"rnn.rnn_units.{index}.Uh": weights[f"layers.{index}.weight_hh_l0"].t(),
            f"rnn.rnn_units.{index}.Wh": weights[f"layers.{index}.weight_ih_l0"].t(),
            f"rnn.rnn_units.{index}.b": weights[f"layers.{index}.bias_ih_l0"],
        }
    tensors |= {"fc.weight": weights["output.weight"], "fc.bias": weights["output.bias"]}
    plain = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
    try:
        torch.save(plain, path)  # a state dict of tensors: the format that the book reads
    except RuntimeError as error:  # torch's own writer reports a full disk so
        raise StorageError(f"can't write {path}: {str(error).splitlines()[0]}") from error


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a state dict under the book's names; only tensors are unpickled, never code.

    Raises:
        CheckpointError: it holds anything but the tensors of this model, or wrong shapes.
    """
    if not zipfile.is_zipfile(path):
        raise CheckpointError(
            f"{path} is not a state dict: a .pth file of torch 1.6 or later is a zip file, this one"
            " isn't, or it is cut off",
            hint="copy or download it again; a plain pickle can run code and is never opened",
        )
    # what isn't valid is refused by torch
    with suppress(zipfile.BadZipFile, NotImplementedError, ValueError), zipfile.ZipFile(path) as it:
        if sum(part.file_size for part in it.infolist()) > path.stat().st_size:
            raise CheckpointError(f"{path} is damaged: what it unpacks to is larger than the file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found: object = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises UnpicklingError, RuntimeError and others
        reason = " ".join(str(error).split())
        if is_out_of_memory(error):
            raise CheckpointError(
                f"{path} needs more memory than a file of its size may"
            ) from error
        refused = re.search(r"(?:GLOBAL|global) ([\w.]+)", reason)
        raise CheckpointError(
            f"refused to read {path}: "
            + (
                f"it asks for {refused[1]}, which only code needs"
                if refused
                else f"it is damaged or holds more than tensors ({reason[:160]})"
            ),
            hint="save the weights alone: torch.save(model.state_dict(), FILE)",
        ) from error
    if isinstance(found, Mapping):
        for key in ("model_state_dict", "state_dict", "model"):
            if isinstance(found.get(key), Mapping):
                found = found[key]
                break
    return _checked(path, found)


def _checked(path: Path, found: object) -> dict[str, Tensor]:
    """The tensors as float32, if they are those of the book's model."""
    if not isinstance(found, Mapping):
        raise CheckpointError(
            f"{path} holds a {type(found).__name__}, not a state dict (names and tensors)",
            hint="save the weights alone: torch.save(model.state_dict(), FILE)",
        )
    names = {str(name)[:80] for name in found}
    layers = sum(name.endswith(".b") for name in names)
    units = [f"rnn.rnn_units.{index}.{part}" for index in range(layers) for part in _PARTS]
    wanted = {"embedding.weight", "fc.weight", "fc.bias", *units}
    if names != wanted or not layers:
        odd, missing = sorted(names - wanted), sorted(wanted - names)
        what = f"unknown name {odd[0]!r}" if odd else f"no {(missing or ['layers'])[0]}"
        raise CheckpointError(f"{path} is not the book's model: {what}", hint=_KNOWN)
    size = path.stat().st_size
    for name in sorted(names):
        tensor = found[name]
        if not isinstance(tensor, Tensor) or tensor.dtype not in _FLOATS:
            raise CheckpointError(
                f"{path} is not the book's model: {name} is no tensor of 16, 32 or 64 bit floats"
            )
        if tensor.is_meta:
            raise CheckpointError(
                f"{path} has no weights: {name} is on device meta, where tensors have no values",
                hint="move the model to the CPU and load its weights before you save it",
            )
        if tensor.layout != torch.strided or tensor.numel() * tensor.element_size() > size:
            raise CheckpointError(f"{path} is damaged: {name} is larger than the file")
    embedding = found["embedding.weight"]
    if embedding.dim() != 2 or 0 in embedding.shape:
        raise CheckpointError(
            f"{path} is not the book's model: embedding.weight has shape {tuple(embedding.shape)},"
            " must be (types, width)"
        )
    vocab_size, width = embedding.shape
    shapes = {
        "embedding.weight": (vocab_size, width),
        **{name: (width,) if name.endswith(".b") else (width, width) for name in units},
        "fc.weight": (vocab_size, width),
        "fc.bias": (vocab_size,),
    }
    tensors: dict[str, Tensor] = {}
    for name, shape in shapes.items():
        if tuple(found[name].shape) != shape:
            raise CheckpointError(
                f"{path} is not the book's model: {name} has shape {tuple(found[name].shape)},"
                f" must be {shape} with an embedding of {vocab_size:,} x {width:,}"
            )
        tensors[name] = found[name].to(torch.float32).contiguous().clone()
        if not bool(torch.isfinite(tensors[name]).all()):
            raise CheckpointError(f"{path}: {name} has values that are not finite")
    return tensors


def book_model(tensors: Mapping[str, Tensor], pad_id: int | None) -> RecurrentLanguageModel:
    """Our model with the weights of a state dict, in evaluation mode.

    Args:
        tensors: from `read_state_dict`.
    """
    vocab_size, width = tensors["embedding.weight"].shape
    layers = sum(name.endswith(".b") for name in tensors)
    shape = ModelShape(
        vocab_size=vocab_size,
        embedding_dim=width,
        hidden_size=width,
        num_layers=layers,
        dropout=0.0,
        tie_weights=False,
        initialization="book",
        pad_id=pad_id,
    )
    model = RecurrentLanguageModel(shape, seed=None)
    weights = {
        "embedding.weight": tensors["embedding.weight"],
        "output.weight": tensors["fc.weight"],
        "output.bias": tensors["fc.bias"],
    }
    for index in range(layers):
        weights |= {
            f"layers.{index}.weight_ih_l0": tensors[f"rnn.rnn_units.{index}.Wh"].t(),
            f"layers.{index}.weight_hh_l0": tensors[f"rnn.rnn_units.{index}.Uh"].t(),
            f"layers.{index}.bias_ih_l0": tensors[f"rnn.rnn_units.{index}.b"],
        }
    model.load_state_dict(weights)
    return model.eval()


def plain_logits(tensors: Mapping[str, Tensor], ids: list[int]) -> Tensor:
    """The logits (T, V) that the book's formula gives, in a plain loop: what its own code
    computes with this state dict."""
    embedding = tensors["embedding.weight"]
    layers = sum(name.endswith(".b") for name in tensors)
    states = [embedding.new_zeros(embedding.shape[1]) for _ in range(layers)]
    outputs = []
    for token in ids:
        x = embedding[token]
        for index in range(layers):
            w, u, b = (tensors[f"rnn.rnn_units.{index}.{part}"] for part in _PARTS)
            x = states[index] = torch.tanh(x @ w + states[index] @ u + b)
        outputs.append(x)
    return torch.stack(outputs) @ tensors["fc.weight"].T + tensors["fc.bias"]
