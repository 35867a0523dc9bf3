"""Write and read the tensors of kept states; `store.states` lists and names them."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from rnnlm_tui.engine.generation import TextState
from rnnlm_tui.errors import InputError, StorageError
from rnnlm_tui.schema.cells import ATTENDING_CELLS
from rnnlm_tui.schema.formatting import counted
from rnnlm_tui.store.states import (
    KEPT_CHARACTERS,
    METADATA_KEY,
    SUFFIX,
    StateInfo,
    check_state_name,
    read_state_info,
    write_state_file,
)
from rnnlm_tui.worker.models import LoadedModel

DECODED_TOKENS = 8_000
"""Tokens that are decoded for the text before a state: a character may take four."""


def keep_state(
    loaded: LoadedModel, state: TextState, path: Path, *, run: str = "", note: str = ""
) -> StateInfo:
    """Write the state after a text to a new file.

    Raises:
        InputError: the file's name is invalid, or it exists.
        StorageError: it can't be written.
    """
    if path.suffix != SUFFIX:
        raise InputError(f"a state's file must end in {SUFFIX}, not {path.name}")
    model = loaded.model
    info = StateInfo(
        name=check_state_name(path.stem),
        created=time.time(),
        run=run,
        step=loaded.step,
        cell_type=model.cell_type,
        num_layers=model.num_layers,
        hidden_size=model.hidden_size,
        vocab_size=model.vocab_size,
        tokenizer=loaded.tokenizer,
        text=_text_before(loaded, state),
        tokens=len(state.ids),
        note=note,
    )
    # Copied: safetensors refuses tensors that share memory.
    tensors = {
        name: part.detach().to("cpu", copy=True).contiguous()
        for name, part in _named(state).items()
    }
    tensors["ids"] = torch.tensor(state.ids, dtype=torch.int32)
    write_state_file(path, save(tensors, {METADATA_KEY: info.header()}))
    return info


def load_state(path: Path, loaded: LoadedModel) -> TextState:
    """Read a kept state for a model.

    Raises:
        InputError: it is of a model of another shape, or with another tokenizer.
        StorageError: the file can't be read or is damaged.
    """
    info = read_state_info(path)
    model = loaded.model
    if info.shape != loaded.shape:
        raise _refused(info, f"is of a model {info.shape}, this one is {loaded.shape}")
    if (info.vocab_size, info.tokenizer) != (model.vocab_size, loaded.tokenizer):
        raise _refused(
            info,
            f"is of a text in another tokenizer: {_tokenizer(info.vocab_size, info.tokenizer)},"
            f" this model has {_tokenizer(model.vocab_size, loaded.tokenizer)}",
        )
    try:
        # Copied: in the mapped file tensors are unaligned.
        tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    except (OSError, SafetensorError) as error:
        raise StorageError(f"{path} can't be read: {error}", hint="delete it") from error
    empty = model.initial_state(1)
    wanted = _named(TextState(empty, torch.empty(1, model.hidden_size), ()))
    ids = tensors.pop("ids", torch.empty(0))
    damaged = StorageError(f"{path} is damaged, or not a kept state", hint="delete it")
    if tensors.keys() != wanted.keys() or ids.dim() != 1 or ids.dtype != torch.int32:
        raise damaged
    for name, part in wanted.items():
        grows = model.cell_type in ATTENDING_CELLS and name != "output"  # a cache, as the text does
        found = tensors[name].shape
        if found != part.shape and not (grows and (found[0], found[2:]) == (1, part.shape[2:])):
            raise _refused(
                info,
                f"has {name} of shape {tuple(found)}, this model's is {tuple(part.shape)}",
            )
    if not len(ids) or not bool(((ids >= 0) & (ids < model.vocab_size)).all()):
        raise damaged
    weight = model.output.weight
    moved = {name: tensor.to(weight.device) for name, tensor in tensors.items()}
    return TextState(
        state=tuple(
            tuple(moved[f"layer.{layer}.{index}"] for index in range(len(parts)))
            for layer, parts in enumerate(empty)
        ),
        output_BH=moved["output"],
        ids=tuple(ids.tolist()),
    )


def _named(state: TextState) -> dict[str, Tensor]:
    return {
        **{
            f"layer.{layer}.{index}": part
            for layer, parts in enumerate(state.state)
            for index, part in enumerate(parts)
        },
        "output": state.output_BH,
    }


def _text_before(loaded: LoadedModel, state: TextState) -> str:
    """The end of the text that was read, without an end token in front of all."""
    ids, codec = state.ids[-DECODED_TOKENS:], loaded.codec
    if len(ids) == len(state.ids) and loaded.after_end and ids[:1] == (codec.eos_id,):
        ids = ids[1:]
    return codec.decode(ids)[-KEPT_CHARACTERS:]


def _refused(info: StateInfo, why: str) -> InputError:
    return InputError(
        f'the state "{info.name}" {why}', hint="choose a state that was kept with this model"
    )


def _tokenizer(vocab_size: int, digest: str) -> str:
    return f"{counted(vocab_size, 'type')}, SHA-256 {digest[:12]}…"
