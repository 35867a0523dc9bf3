"""A transformer's block as a layer whose state is its key-value cache."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rnnlm_tui.engine.cells.base import (
    Inside,
    LayerState,
    RecurrentLayer,
    head_size,
    pack_large,
    project,
)
from rnnlm_tui.engine.packed import PackedWeight

EPSILON = 1e-5
"""Added to the mean square in a norm."""
BASE = 10_000.0
"""Longest wavelength of the rotary positions, over 2 pi tokens."""


class TransformerLayer(RecurrentLayer):
    """A decoder block with pre-norm, causal attention in a window and rotary positions.

        x = x + Wo attention(Wq RMSNorm(x), Wk RMSNorm(x), Wv RMSNorm(x))
        x = x + W2 relu(W1 RMSNorm(x) + b1) + b2

    The norms (Zhang and Sennrich 2019) have weights only, the four matrices of the attention no
    biases. A token attends to itself and the `attention_window` - 1 tokens before it, as in Mistral
    (arXiv 2310.06825). Queries and keys are rotated by their positions (Su et al., arXiv
    2104.09864), so a score depends only on the distance; the last unit of an odd head isn't.

    The state is the keys and values of the tokens before, each (B, t, H) with t from 0 to
    `attention_window` - 1. Keys are kept before the rotation, so that a state needs no count of the
    tokens that were read. Across training steps the state is carried without its gradient, as in
    Transformer-XL (arXiv 1901.02860).

    The rows of `weight_qkv` are those of q, k and v.
    """

    drops_branches = True

    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.head_size = head_size(hidden_size, num_heads)
        self.state_shapes = ((0, hidden_size),) * 2
        self.norm_attention = nn.Parameter(torch.empty(hidden_size))
        self.weight_qkv = nn.Parameter(torch.empty(3 * hidden_size, hidden_size))
        self.weight_out = nn.Parameter(torch.empty(hidden_size, hidden_size))
        self.norm_mlp = nn.Parameter(torch.empty(hidden_size))
        self.weight_up = nn.Parameter(torch.empty(4 * hidden_size, hidden_size))
        self.bias_up = nn.Parameter(torch.empty(4 * hidden_size))
        self.weight_down = nn.Parameter(torch.empty(hidden_size, 4 * hidden_size))
        self.bias_down = nn.Parameter(torch.empty(hidden_size))
        self._packs: dict[str, PackedWeight | None] = {}

    @torch.no_grad()
    def set_start(self) -> None:
        """Start near the identity: norms of 1, biases of 0, and residual branches at half size."""
        for norm in (self.norm_attention, self.norm_mlp):
            norm.fill_(1)
        for bias in (self.bias_up, self.bias_down):
            bias.zero_()
        for weight in (self.weight_out, self.weight_down):
            weight.mul_(0.5)

    def full_state(self, batch_size: int) -> LayerState:
        """Zeros for all tokens of the window but one."""
        cache = self.norm_mlp.new_zeros(batch_size, self.attention_window - 1, len(self.norm_mlp))
        return cache, cache.clone()

    def forward(
        self,
        inputs_TBE: Tensor,
        state: LayerState,
        drop: Callable[[Tensor], Tensor] = lambda branch: branch,
    ) -> tuple[Tensor, LayerState]:
        """Run over T time steps: hidden_TBH and the state after the last.

        Args:
            drop: dropout of a residual branch.
        """
        hidden: list[Tensor] = []
        for part_TBH in torch.split(inputs_TBE, self.attention_window):
            read_TBH, state = self._attention(part_TBH, state)
            part_TBH = part_TBH + drop(read_TBH)
            hidden.append(part_TBH + drop(self._mlp(part_TBH)))
        return (torch.cat(hidden) if len(hidden) > 1 else hidden[0]), state

    def step(self, input_BE: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        """One time step: hidden_BH and the state after it."""
        read_BH, after = self._attention(input_BE, state)
        hidden_BH = input_BE + read_BH
        return hidden_BH + self._mlp(hidden_BH), after

    def pack(self) -> None:
        """Copy the weights for faster steps of several rows."""
        names = "weight_qkv", "weight_out", "weight_up", "weight_down"
        self._packs = {name: pack_large(getattr(self, name)) for name in names}

    def inside(
        self,
        inputs_TBE: Tensor,  # noqa: ARG002
        outputs_TBH: Tensor,  # noqa: ARG002
        state: LayerState,  # noqa: ARG002
    ) -> Inside:
        """A block has neither gates nor a tanh."""
        return Inside({})

    def _attention(self, inputs: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        """The branch that reads other tokens, for inputs_TBH or one step's input_BH."""
        normed = F.rms_norm(inputs, self.norm_attention.shape, self.norm_attention, EPSILON)
        projected = self._product("weight_qkv", normed)
        one_step = projected.dim() == 2
        projected_BTG = projected.unsqueeze(1) if one_step else projected.transpose(0, 1)
        query, *new = projected_BTG.chunk(3, dim=-1)
        keys_BSH, values_BSH = (torch.cat(parts, dim=1) for parts in zip(state, new, strict=True))
        steps, seen = query.shape[1], keys_BSH.shape[1]
        turns = rotations(seen, self.head_size // 2, keys_BSH.dtype, keys_BSH.device)
        read_BNTD = F.scaled_dot_product_attention(
            rotated(self._by_head(query), turns[:, seen - steps :]),
            rotated(self._by_head(keys_BSH), turns),
            self._by_head(values_BSH),
            self._visible(steps, seen, inputs.device),
        )
        read_BTH = read_BNTD.transpose(1, 2).flatten(2)
        read = read_BTH.squeeze(1) if one_step else read_BTH.transpose(0, 1)
        kept = max(0, seen - self.attention_window + 1)
        after = keys_BSH[:, kept:], values_BSH[:, kept:]
        return self._product("weight_out", read), after

    def _mlp(self, inputs: Tensor) -> Tensor:
        normed = F.rms_norm(inputs, self.norm_mlp.shape, self.norm_mlp, EPSILON)
        raised = self._product("weight_up", normed, self.bias_up)
        return self._product("weight_down", torch.relu(raised), self.bias_down)

    def _product(self, name: str, inputs: Tensor, bias: Tensor | None = None) -> Tensor:
        return project(inputs, getattr(self, name), bias, self._packs.get(name))

    def _by_head(self, rows_BTH: Tensor) -> Tensor:
        """(B, N, T, D)."""
        return torch.unflatten(rows_BTH, -1, (self.num_heads, -1)).transpose(1, 2)

    def _visible(self, steps: int, seen: int, device: torch.device) -> Tensor | None:
        """Which of the tokens seen each of the last steps attends to, (T, S); None: to all."""
        if steps == 1 and seen <= self.attention_window:
            return None
        all_TS = torch.ones(steps, seen, dtype=torch.bool, device=device)
        before = seen - steps
        return all_TS.tril_(before).triu_(before - self.attention_window + 1)


def rotated(rows_BNTD: Tensor, turns_2TP: Tensor) -> Tensor:
    """Turn each pair of units (p, P + p) of a head by its token's angle."""
    cosine, sine = turns_2TP
    pairs = turns_2TP.shape[-1]
    first, second, rest = rows_BNTD.tensor_split((pairs, 2 * pairs), dim=-1)
    return torch.cat([first * cosine - second * sine, first * sine + second * cosine, rest], -1)


def rotations(tokens: int, pairs: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Cosine and sine of the angles of consecutive tokens, (2, T, P)."""
    # A power of two, so that a growing state has few tables.
    return _rotations(1 << (tokens - 1).bit_length(), pairs, dtype, device)[:, :tokens]


@functools.lru_cache(maxsize=64)
def _rotations(tokens: int, pairs: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # it is used in training too
        wide = torch.float64
        speeds_P = BASE ** (-torch.arange(pairs, dtype=wide) / max(1, pairs))
        angles_TP = torch.arange(tokens, dtype=wide)[:, None] * speeds_P
        return (
            torch.stack([angles_TP.cos(), angles_TP.sin()]).to(dtype).to(device, non_blocking=True)
        )
