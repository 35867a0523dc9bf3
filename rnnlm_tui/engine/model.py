"""The recurrent language model: embedding, recurrent layers, vocabulary head, initial weights.

`forward` is for training, `step` for generation.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import pairwise
from types import MappingProxyType
from typing import Annotated, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional as F

from rnnlm_tui.engine.cells import CELLS, LayerState, RecurrentLayer
from rnnlm_tui.engine.cells.base import drop, drop_units, drop_words
from rnnlm_tui.engine.loss import mean_loss
from rnnlm_tui.errors import InputError
from rnnlm_tui.schema.cells import ATTENDING_CELLS, RECURRENT_WEIGHT_CELLS
from rnnlm_tui.schema.config import ModelConfig
from rnnlm_tui.schema.record import Bounds

GAINS: Mapping[str, float] = MappingProxyType(
    {"embedding": 2.0, "weight_ih": 4.0, "weight_hh": 0.5}
)
"""Factors of 1/sqrt(input width) for parameters whose name contains the key; 1 for others.

With 1 throughout, as in torch's modules, a tied model starts with inputs of 0.04 that hardly reach
the recurrence. At a peak rate of 0.003 it stays at the unigram's perplexity for 300 steps and then
saturates: on the demo a test perplexity of 895 after 500 steps, against 91 with these gains. Half
or twice these gains change little.
"""
State = tuple[LayerState, ...]
"""The recurrent state: for each layer a tuple of tensors whose first dimension is B."""


class ModelShape(ModelConfig):
    """All that a model is built from: a config's section, its vocabulary and its padding."""

    EXTRA = "ignore"

    vocab_size: Annotated[int, Bounds(ge=1)]
    pad_id: Annotated[int, Bounds(ge=0)] | None = None
    """The padding token, whose embedding gets no gradient; None: no padding."""


class EmptyEmbedding(nn.Embedding):
    """An embedding whose weights `initialize` draws, or that are loaded.

    `torch.nn.utils.skip_init` draws weights without memory first, for which torch 2.13 imports its
    compiler: a second of a sampler's start.
    """

    def reset_parameters(self) -> None:
        """Leave the weights as they are."""


class EmptyLinear(nn.Linear):
    """A linear layer whose weights `initialize` draws, or that are loaded."""

    def reset_parameters(self) -> None:
        """Leave the weights as they are."""


class RecurrentLanguageModel(nn.Module):
    """Predicts each next token from all tokens before it.

    The state is explicit: the caller keeps it and may carry it from one window to the next.
    Parameters are `embedding.weight`, `layers.N.*`, `output.weight` (the embedding itself when
    tied) and, except for a transformer, `output.bias`.
    """

    def __init__(self, shape: ModelShape, seed: int | None = 0) -> None:
        """Build the model on the CPU; the global generators are untouched.

        Args:
            seed: of the initial weights; None: they are left empty, to be loaded.

        Raises:
            InputError: tied weights or a transformer of different widths, or weight dropout with a
                cell without state-to-state weights.
        """
        super().__init__()
        self.shape = shape
        """As it was built; steering changes `dropout`."""
        self.vocab_size, self.embedding_dim = shape.vocab_size, shape.embedding_dim
        self.hidden_size, self.num_layers = shape.hidden_size, shape.num_layers
        self.cell_type, self.num_heads = shape.cell_type, shape.num_heads
        self.dropout, self.tie_weights, self.pad_id = shape.dropout, shape.tie_weights, shape.pad_id
        if self.tie_weights and self.embedding_dim != self.hidden_size:
            raise InputError(
                f"tied weights need embedding_dim = hidden_size, not {self.embedding_dim:,} and"
                f" {self.hidden_size:,}"
            )
        if shape.weight_dropout and self.cell_type not in RECURRENT_WEIGHT_CELLS:
            raise InputError(
                f"{self.cell_type} has no state-to-state weights, so weight dropout must be 0, not"
                f" {shape.weight_dropout:g}"
            )
        attends = self.cell_type in ATTENDING_CELLS
        if attends and self.embedding_dim != self.hidden_size:
            raise InputError(
                f"a {self.cell_type} needs embedding_dim = hidden_size, not"
                f" {self.embedding_dim:,} and {self.hidden_size:,}"
            )
        self.embedding = EmptyEmbedding(self.vocab_size, self.embedding_dim, self.pad_id)
        widths = [self.embedding_dim] + [self.hidden_size] * self.num_layers
        self.layers = nn.ModuleList(
            CELLS[self.cell_type](inputs, outputs, self.num_heads)
            for inputs, outputs in pairwise(widths)
        )
        for layer in self.cells:
            layer.weight_dropout = shape.weight_dropout
            layer.attention_window = shape.attention_window
        self.output: nn.Linear = EmptyLinear(self.hidden_size, self.vocab_size)
        if attends:  # no bias, but the head's products get zeros that no file or optimizer sees
            del self.output.bias
            self.output.register_buffer("bias", torch.zeros(self.vocab_size), persistent=False)
        if self.tie_weights:
            self.output.weight = self.embedding.weight
        if seed is None:
            return
        initialize(self.named_parameters(), shape, seed)
        for layer in self.cells:
            if shape.initialization == "default":
                layer.set_start()

    @property
    def cells(self) -> Iterable[RecurrentLayer]:
        """The recurrent layers; the first one reads the embedding."""
        return cast(Iterable[RecurrentLayer], self.layers)

    def initial_state(self, batch_size: int) -> State:
        """Zeros for B streams or sentences, on the model's device."""
        return tuple(layer.initial_state(batch_size) for layer in self.cells)

    def num_parameters(self) -> int:
        """Number of trainable parameters; a tied matrix counts once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def forward(
        self,
        tokens_BT: Tensor,
        state: State,
        targets_BT: Tensor | None = None,
        rows_N: Tensor | None = None,
        *,
        reduced: bool = False,
    ) -> tuple[Tensor, State]:
        """Logits of every position, or the mean loss if targets are given; and the state after the
        last.

        The loss is computed here so that never all logits are in memory.

        Args:
            targets_BT: next tokens; -100 where the loss ignores a position.
            rows_N: indices in `targets_BT.t().flatten()` of the targets that count: only these
                reach the head. None: all count.
            reduced: round the inputs of the head's products to bf16; see `engine.loss`.

        Returns:
            logits_BTV, or the mean loss in nats over the targets that count (a scalar); and the
            state.
        """
        hidden_TBH, state = self._hidden(tokens_BT, state)
        if targets_BT is None:
            return F.linear(hidden_TBH.transpose(0, 1), self.output.weight, self.output.bias), state
        hidden_NH, targets_N = hidden_TBH.flatten(0, 1), targets_BT.t().flatten()
        if rows_N is not None:
            hidden_NH = look_up(rows_N, hidden_NH, None)
            targets_N = targets_N.index_select(0, rows_N)
        return (
            mean_loss(hidden_NH, self.output.weight, self.output.bias, targets_N, reduced=reduced),
            state,
        )

    def hidden(self, tokens_BT: Tensor, state: State) -> tuple[Tensor, State]:
        """The input of the head, hidden_BTH, and the state after the last position."""
        hidden_TBH, state = self._hidden(tokens_BT, state)
        return hidden_TBH.transpose(0, 1), state

    def step(self, token_B: Tensor, state: State) -> tuple[Tensor, State]:
        """One token, without dropout: logits_BV and the state after it."""
        hidden_BH, after = self.advance(token_B, state)
        return F.linear(hidden_BH, self.output.weight, self.output.bias), after

    def advance(self, token_B: Tensor, state: State) -> tuple[Tensor, State]:
        """A `step` without the head: hidden_BH and the state after it."""
        features_BE = F.embedding(token_B, self.embedding.weight)
        after: list[LayerState] = []
        for layer, before in zip(self.cells, state, strict=True):
            features_BE, reached = layer.step(features_BE, before)
            after.append(reached)
        return features_BE, tuple(after)

    def _hidden(self, tokens_BT: Tensor, state: State) -> tuple[Tensor, State]:
        # Time first, so that each step of the recurrence reads one block of memory.
        features_TBE = self._drop(self._embedded(tokens_BT.t()))
        after: list[LayerState] = []
        for layer, before in zip(self.cells, state, strict=True):
            if layer.drops_branches:
                features_TBE, reached = layer(features_TBE, before, self._drop)
            else:
                features_TBE, reached = layer(features_TBE, before)
                features_TBE = self._drop(features_TBE)
            after.append(reached)
        return features_TBE, tuple(after)

    def _embedded(self, tokens_TB: Tensor) -> Tensor:
        features_TBE = look_up(tokens_TB, self.embedding.weight, self.pad_id)
        if not (self.shape.embedding_dropout and self.training):
            return features_TBE
        return drop_words(features_TBE, tokens_TB, self.vocab_size, self.shape.embedding_dropout)

    def _drop(self, features_TBE: Tensor) -> Tensor:
        if not (self.dropout and self.training):
            return features_TBE
        return (
            drop_units(features_TBE, self.dropout)
            if self.shape.variational_dropout
            else drop(features_TBE, self.dropout)
        )


def detached(state: State) -> State:
    """The state without its history. Non-finite values become zero, so that a bad step doesn't
    affect later ones."""
    return tuple(
        tuple(
            torch.nan_to_num(tensor.detach(), nan=0.0, posinf=0.0, neginf=0.0) for tensor in layer
        )
        for layer in state
    )


def look_up(tokens: Tensor, weight_VE: Tensor, pad_id: int | None) -> Tensor:
    """Vectors of the tokens, shape (..., E), or any rows of a matrix; the padding token's gets no
    gradient.

    Equal to `F.embedding`, whose gradient takes longer on a CPU; and to `index_select`, whose
    gradient is copied once more.
    """
    return cast(Tensor, _LookUp.apply(tokens, weight_VE, pad_id))  # type: ignore[no-untyped-call]


class _LookUp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, tokens: Tensor, weight_VE: Tensor, pad_id: int | None) -> Tensor:
        flat = tokens.flatten()
        ctx.save_for_backward(flat)
        ctx.vocab_size, ctx.pad_id = weight_VE.shape[0], pad_id  # type: ignore[attr-defined]
        return weight_VE.index_select(0, flat).view(*tokens.shape, weight_VE.shape[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[None, Tensor, None]:
        (flat,) = cast(tuple[Tensor], ctx.saved_tensors)  # type: ignore[attr-defined]
        vocab_size = ctx.vocab_size  # type: ignore[attr-defined]
        weight_grad_VE = grad.new_zeros(vocab_size, grad.shape[-1])
        weight_grad_VE.index_add_(0, flat, grad.flatten(0, -2))
        pad_id = ctx.pad_id  # type: ignore[attr-defined]
        if pad_id is not None:
            weight_grad_VE[pad_id].zero_()
        return None, weight_grad_VE, None


@torch.no_grad()
def initialize(
    parameters: Iterable[tuple[str, nn.Parameter]], shape: ModelShape, seed: int
) -> None:
    """Fill the parameters in order; a seed gives the same weights on every device.

    * `default`: uniform in ±gain/sqrt(last dimension), with `GAINS`; the output bias and the
      padding token's vector are zero. The last dimension is a matrix's input width or a vector's
      length.
    * `book`: Xavier uniform for matrices, the embedding included; U(0, 1) for vectors.
    * `uniform`: everything in ±init_scale, biases included, as in Zaremba, Sutskever and Vinyals,
      "Recurrent Neural Network Regularization" (2014); the padding token's vector is zero.
    """
    kind, scale = shape.initialization, shape.init_scale
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in parameters:
        values = torch.empty(parameter.shape, dtype=parameter.dtype)
        if kind == "book":
            _draw_book(values, generator)
        elif kind == "uniform":
            values.uniform_(-scale, scale, generator=generator)
        else:
            _draw_default(name, values, generator)
        if kind != "book" and name == "embedding.weight" and shape.pad_id is not None:
            values[shape.pad_id] = 0
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
