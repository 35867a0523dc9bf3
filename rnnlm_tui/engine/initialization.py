"""Initial weights, drawn on the CPU from a separate generator."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor, nn

from rnnlm_tui.errors import InputError

GAINS: Mapping[str, float] = MappingProxyType({"embedding": 2.0, "weight_ih": 4.0, "weight_hh": 0.5})
"""Factors of 1/sqrt(input width) for parameters whose name contains the key; 1 for others.

With 1 throughout, as in torch's modules, a tied model starts with inputs of 0.04 that hardly reach the
recurrence. At a peak rate of 0.003 it stays at the unigram's perplexity for 300 steps and then
saturates: on the demo a test perplexity of 895 after 500 steps, against 91 with these gains. Half or
twice these gains change little.
"""


@torch.no_grad()
def initialize(parameters: Iterable[tuple[str, nn.Parameter]], *, kind: str, seed: int, pad_id: int | None, init_scale: float = 0.1) -> None:
    """Fill the parameters in order; a seed gives the same weights on every device.

    * `default`: uniform in ±gain/sqrt(last dimension), with `GAINS`; the output bias and the padding
      token's vector are zero. The last dimension is a matrix's input width or a vector's length.
    * `book`: Xavier uniform for matrices, the embedding included; U(0, 1) for vectors.
    * `uniform`: everything in ±init_scale, biases included, as in Zaremba, Sutskever and Vinyals,
      "Recurrent Neural Network Regularization" (2014); the padding token's vector is zero.

    Raises:
        InputError: unknown kind.
    """
    if kind not in ("default", "book", "uniform"):
        raise InputError(f'unknown initialization "{kind}", available: default, book, uniform')
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in parameters:
        values = torch.empty(parameter.shape, dtype=parameter.dtype)
        if kind == "book":
            _draw_book(values, generator)
        elif kind == "uniform":
            values.uniform_(-init_scale, init_scale, generator=generator)
        else:
            _draw_default(name, values, generator)
        if kind != "book" and name == "embedding.weight" and pad_id is not None:
            values[pad_id] = 0
        parameter.copy_(values)


def _draw_book(values: Tensor, generator: torch.Generator) -> None:
    if values.dim() >= 2:
        nn.init.xavier_uniform_(values, generator=generator)
    else:
        values.uniform_(0, 1, generator=generator)


def _draw_default(name: str, values: Tensor, generator: torch.Generator) -> None:
    if name == "output.bias":
        values.zero_()
        return
    gain = next((gain for part, gain in GAINS.items() if part in name), 1.0)
    bound = gain / math.sqrt(values.shape[-1])
    values.uniform_(-bound, bound, generator=generator)
