"""A model as an ONNX graph of one step: token ids and the state in, logits and the new state out.

torch exports the plain cells of `modeling_rnnlm.py`, for any batch size; the packages `onnx` and
`onnxscript` are optional dependencies.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from rnnlm_tui.errors import InputError, install_extra

if TYPE_CHECKING:
    from rnnlm_tui.engine.modeling_rnnlm import RnnlmForCausalLM

OPSET = 18
"""Understood by onnxruntime from 1.14 on."""
IDS, LOGITS, BATCH = "ids", "logits", "batch"


@dataclass(frozen=True, slots=True)
class StateTensor:
    """One state tensor of the graph."""

    input: str
    """`layer0.h`."""
    output: str
    """`layer0.h.next`."""
    shape: tuple[int, ...]
    """Without the batch dimension, which comes first."""


class _Step(nn.Module):
    """One step of all layers."""

    def __init__(self, model: RnnlmForCausalLM) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids_B: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        x, before, after = self.model.embedding(ids_B), iter(state), list[Tensor]()
        for layer, shapes in zip(self.model.layers, self.model.state_shapes, strict=True):
            x, reached = layer(x, tuple(next(before) for _ in shapes))
            after += reached
        return self.model.output(x), *after


def require_onnx() -> None:
    """Refuse if a package for the export isn't installed.

    Raises:
        InputError: names the missing packages and the command that installs them.
    """
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise InputError(
            f"the format onnx needs {' and '.join(missing)}, which"
            f" {'is' if len(missing) == 1 else 'are'} not installed",
            hint=f"install them, in the clone: {install_extra('export')}",
        )


def write_onnx(checkpoint: Path, file: Path) -> list[StateTensor]:
    """Write the graph of a checkpoint's model; returns its state tensors in the order of its
    inputs."""
    from rnnlm_tui.engine.modeling_rnnlm import RnnlmForCausalLM  # transformers takes seconds

    model = RnnlmForCausalLM.from_pretrained(checkpoint, local_files_only=True)
    states = [
        StateTensor(f"layer{index}.{name}", f"layer{index}.{name}.next", shape)
        for index, layer in enumerate(model.layers)
        for name, shape in zip(layer.names, layer.shapes, strict=True)
    ]
    batch = torch.export.Dim(BATCH)
    program = torch.onnx.export(
        _Step(model).eval(),
        # not of one text: torch would take 1 for a fixed size
        (torch.zeros(2, dtype=torch.int64), *(torch.zeros(2, *one.shape) for one in states)),
        input_names=[IDS, *(one.input for one in states)],
        output_names=[LOGITS, *(one.output for one in states)],
        dynamic_shapes=({0: batch}, tuple({0: batch} for _ in states)),
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    program.save(file)
    return states
