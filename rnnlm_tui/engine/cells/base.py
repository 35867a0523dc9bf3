"""What recurrent layers share: their interface, dropout, kernel weights and a faster tanh."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rnnlm_tui.engine.packed import PackedWeight, pack
from rnnlm_tui.errors import InputError

LayerState = tuple[Tensor, ...]
"""The state of one layer: tensors whose first dimension is B."""
_MINUS_ONE: Final = torch.tensor(-1.0)
WORTH_PACKING = 2**16
"""From this many numbers on, 8 rows are multiplied faster by a packed weight; a call takes 7 us."""
LEVELS = 2**16
"""On a CPU 16 random bits decide, so the rate is exact to 1/65,536."""


@dataclass(frozen=True, slots=True)
class Inside:
    """What a layer computed besides its outputs, in a forward pass without dropout."""

    gates: Mapping[str, Tensor]
    """By name: between 0 and 1, (T, B, units) or (T, B, heads)."""
    tanh_TBH: Tensor | None = None
    """What the layer bounds by tanh before any gate: its candidate, or an Elman layer's state.
    None: it has no tanh."""
    kept: Tensor | None = None
    """The share of the state that each unit or head keeps at a token, shaped as a gate. None: no
    gate decides."""
    exponential: tuple[str, ...] = ()
    """Names of the gates that are no sigmoids but relative to the largest so far: 1 is usual."""


class RecurrentLayer(nn.Module):
    """One layer of a model. `engine.model` initializes its weights."""

    state_shapes: tuple[tuple[int, ...], ...]
    """The shapes of the state's tensors, without B."""
    weight_dropout = 0.0
    """Share of the state-to-state weights that a forward pass in training drops, the same ones at
    every time step (Merity et al. 2017, "weight-dropped LSTM"). Zero until `engine.model` sets it;
    `step` never drops."""
    attention_window = 256
    """Tokens that a transformer attends to, with the token itself; `engine.model` sets it."""
    drops_branches = False
    """Dropout applies inside, to its residual branches, instead of to its output."""
    _packed: PackedWeight | None = None

    def set_start(self) -> None:
        """Scale or fill some weights in place; called once, only after the `default`
        initialization."""

    def initial_state(self, batch_size: int) -> LayerState:
        """Zeros before the first token, for B streams or sentences, on the layer's device."""
        like = next(self.parameters())
        return tuple(like.new_zeros(batch_size, *shape) for shape in self.state_shapes)

    def full_state(self, batch_size: int) -> LayerState:
        """Zeros of the size that a state has after a long text."""
        return self.initial_state(batch_size)

    @abstractmethod
    def forward(self, inputs_TBE: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        """Run over T time steps: hidden_TBH and the state after the last."""

    @abstractmethod
    def step(self, input_BE: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        """One time step: hidden_BH and the state after it, equal to a sequence of length one."""

    @abstractmethod
    def pack(self) -> None:
        """Copy the weights for faster steps of several rows on a CPU; the weights must not change
        any more."""

    @abstractmethod
    def inside(self, inputs_TBE: Tensor, outputs_TBH: Tensor, state: LayerState) -> Inside:
        """Gates and tanh of a forward pass that returned these outputs.

        Args:
            state: the state that it started from.
        """

    def dropped(self, state_weights: Tensor) -> Tensor:
        """The state-to-state weights of one forward pass, after weight dropout in training."""
        if self.training and self.weight_dropout:
            return drop(state_weights, self.weight_dropout)
        return state_weights


class TorchLayer(RecurrentLayer, nn.RNNBase):
    """A layer with the parameters of torch's `RNNBase`: one layer, time first."""

    mode: str
    """Torch's name of the cell."""
    states = 1
    """Tensors of the state, each (B, H)."""
    has_second_bias = False
    """Torch adds two biases. Where only their sum matters, `bias_hh_l0` is a buffer of zeros: the
    fused kernels still get their four tensors, but state dict, optimizer and parameter count don't
    see it."""
    weight_ih_l0: nn.Parameter
    weight_hh_l0: nn.Parameter
    bias_ih_l0: nn.Parameter
    bias_hh_l0: Tensor

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(type(self).mode, input_size, hidden_size)
        self.state_shapes = ((hidden_size,),) * self.states
        if not self.has_second_bias:
            del self.bias_hh_l0
            zeros = torch.zeros(len(self.bias_ih_l0))
            self.register_buffer("bias_hh_l0", zeros, persistent=False)
            self._init_flat_weights()

    def reset_parameters(self) -> None:
        """Leave the weights uninitialized: the model initializes them."""

    def pack(self) -> None:
        """Copy the weights for faster steps of several rows."""
        self._packed = pack_large(torch.cat((self.weight_ih_l0, self.weight_hh_l0), 1))

    def weights(self, *, block: bool) -> list[Tensor]:
        """The four tensors of torch's fused kernels, in their order, after weight dropout.

        Args:
            block: for cuDNN, which reads one block of memory. The parameters are in one block since
                the layer was moved to the GPU. With weight dropout all four are copied into a new
                block; otherwise cuDNN would copy them and warn.
        """
        state_weights = self.dropped(self.weight_hh_l0)
        weights = [self.weight_ih_l0, state_weights, self.bias_ih_l0, self.bias_hh_l0]
        if not block or state_weights is self.weight_hh_l0:
            return weights
        joined = torch.cat([weight.flatten() for weight in weights])
        parts = joined.split_with_sizes([weight.numel() for weight in weights])
        return [part.view(weight.shape) for part, weight in zip(parts, weights, strict=True)]

    def by_kernel(
        self, kernel: Callable[..., tuple[Tensor, ...]], inputs_TBE: Tensor, state: LayerState
    ) -> tuple[Tensor, LayerState]:
        """A forward pass by one of torch's fused kernels, cuDNN's on a GPU."""
        before = [part.unsqueeze(0) for part in state]
        hidden_TBH, *after = kernel(
            inputs_TBE,
            before if len(before) > 1 else before[0],
            self.weights(block=inputs_TBE.is_cuda),
            *(True, 1, 0.0, self.training, False, False),
        )
        return hidden_TBH, tuple(part.squeeze(0) for part in after)


class ProjectedLayer(RecurrentLayer):
    """A layer that begins with one linear map of its inputs."""

    weight_ih: nn.Parameter
    bias_ih: nn.Parameter

    def pack(self) -> None:
        """Copy the weights for faster steps of several rows."""
        self._packed = pack_large(self.weight_ih)

    def project(self, inputs: Tensor, dtype: torch.dtype) -> Tensor:
        """The linear map of the inputs (..., E)."""
        return project(inputs, self.weight_ih, self.bias_ih, self._packed).to(dtype)


def head_size(hidden_size: int, num_heads: int) -> int:
    """Units of one head.

    Raises:
        InputError: the heads do not divide the hidden size.
    """
    if hidden_size % num_heads:
        raise InputError(
            f"num_heads = {num_heads:,} must divide the hidden size of {hidden_size:,}"
        )
    return hidden_size // num_heads


def tanh_(numbers: Tensor) -> Tensor:
    """tanh in place, from the sigmoid, which torch vectorizes.

    At 128 x 128 float32 numbers it takes 0.3 of `torch.tanh`'s time, at 20 x 192 0.6 (measured on
    one core). Only for float32, where it is within 2e-7 of the true value, about the rounding of a
    state near 1, and float64: a coarser type would lose small values in the subtraction.
    """
    return tanh_of_half_(numbers.mul_(2))


def tanh_of_half_(numbers: Tensor) -> Tensor:
    """tanh(x / 2) = 2 sigmoid(x) - 1, in place, for sums that a matrix product doubled at no
    cost."""
    return torch.add(_MINUS_ONE, numbers.sigmoid_(), alpha=2, out=numbers)


def drop(features: Tensor, rate: float) -> Tensor:
    """Zero each element with probability `rate` and scale the rest by 1 / (1 - rate).

    On a CPU torch's dropout draws one double per element, a tenth of a small model's step. Four
    decisions from one 64-bit word of the global generator cost a fifth of that.
    """
    if features.device.type != "cpu":
        return F.dropout(features, rate, training=True)
    count = features.numel()
    # From -2^63: otherwise the highest bit would always be zero.
    words = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None)
    threshold = round(rate * LEVELS) - LEVELS // 2
    kept = words.view(torch.int16)[:count].view(features.shape) >= threshold
    return features * kept.to(features.dtype).mul_(1 / (1 - round(rate * LEVELS) / LEVELS))


def drop_units(features_TBE: Tensor, rate: float) -> Tensor:
    """Drop the same units at all T time steps of a window, different ones in each sequence.

    Gal and Ghahramani, "A Theoretically Grounded Application of Dropout in Recurrent Neural
    Networks" (2016), in the form of Merity, Keskar and Socher, "Regularizing and Optimizing LSTM
    Language Models" (2017), section 4.2.
    """
    return features_TBE * drop(torch.ones_like(features_TBE[:1]), rate)


def drop_words(features_TBE: Tensor, tokens_TB: Tensor, vocab_size: int, rate: float) -> Tensor:
    """Drop whole words of the vocabulary: zero their vectors throughout the batch and scale the
    others.

    Merity, Keskar and Socher (2017), section 4.3. The mask applies to the vectors, not to the
    matrix, so a tied output matrix is not affected.
    """
    kept_V = drop(features_TBE.new_ones(vocab_size), rate)
    return features_TBE * kept_V[tokens_TB].unsqueeze(-1)


def outputs_before(outputs_TBH: Tensor, hidden_BH: Tensor) -> Tensor:
    """h_(t-1) for all t, (T, B, H), from h_t and the one before the first."""
    return torch.cat([hidden_BH.unsqueeze(0), outputs_TBH[:-1]])


def stabilised_input(enter: Tensor, forget: Tensor, stabiliser: Tensor) -> Tensor:
    """exp(i~_t - m_t) with m_t = max(log f_t + m_(t-1), i~_t), of xLSTM's exponential gates.

    With F_t the sum of log f up to t, m_t - F_t is the running maximum of i~_s - F_s and of the
    first m, as in mLSTM's parallel form.

    Args:
        enter, forget: pre-activations i~ and f~, time first.
        stabiliser: m before the first step.
    """
    # Apple GPUs have no float64.
    wide = torch.float32 if forget.device.type == "mps" else torch.float64
    decay = F.logsigmoid(forget).to(wide).cumsum(0)
    written = enter.to(wide) - decay
    peak = torch.maximum(written.cummax(0).values, stabiliser.to(wide))
    return torch.exp(written - peak).to(enter.dtype)


def pack_large(weight: Tensor) -> PackedWeight | None:
    """A packed copy of a weight that is large enough to be worth it, else None."""
    return pack(weight) if weight.numel() >= WORTH_PACKING else None


def packed_for(packed: PackedWeight | None, inputs: Tensor) -> PackedWeight | None:
    """The packed weight for a step of several rows (B, E) without gradient, else None."""
    if packed is None or inputs.dim() != 2 or len(inputs) == 1 or torch.is_grad_enabled():
        return None
    return packed


def project(
    inputs: Tensor, weight: Tensor, bias: Tensor | None, packed: PackedWeight | None
) -> Tensor:
    """Linear map of the inputs (..., E), by the packed weight where that is faster."""
    packed = packed_for(packed, inputs)
    return F.linear(inputs, weight, bias) if packed is None else packed(inputs, bias)
