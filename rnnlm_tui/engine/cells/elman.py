"""Elman layer: h_t = tanh(x_t W + h_(t-1) U + b).

A CPU runs our own recurrence, a GPU cuDNN's.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional as F

from rnnlm_tui.engine.cells.base import (
    Inside,
    LayerState,
    kernel_weights,
    pack_large,
    packed_for,
    state_weights,
    tanh_of_half_,
)
from rnnlm_tui.engine.packed import PackedWeight


class ElmanLayer(nn.RNN):
    """An `nn.RNN` of one layer, time first, without the second bias.

    `nn.RNN` adds two biases of which only the sum matters. Here `bias_hh_l0` is a buffer of zeros:
    the fused kernels still get their four tensors, but state dict, optimizer and parameter count
    don't see it. `engine.model` initializes the weights.
    """

    weight_ih_l0: nn.Parameter
    weight_hh_l0: nn.Parameter
    bias_ih_l0: nn.Parameter
    bias_hh_l0: Tensor
    weight_dropout = 0.0
    _packed: PackedWeight | None = None

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(
            input_size, hidden_size, num_layers=1, nonlinearity="tanh", batch_first=False
        )
        del self.bias_hh_l0
        self.register_buffer("bias_hh_l0", torch.zeros(hidden_size), persistent=False)
        self._init_flat_weights()

    def reset_parameters(self) -> None:
        """Leave the weights uninitialized: the model initializes them."""

    def initial_state(self, batch_size: int) -> LayerState:
        """Zeros of shape (B, H), on the layer's device."""
        return (self.weight_hh_l0.new_zeros(batch_size, self.hidden_size),)

    def forward(  # type: ignore[override]
        self, inputs_TBE: Tensor, state: LayerState
    ) -> tuple[Tensor, LayerState]:
        """Run over T time steps.

        Returns:
            hidden_TBH and the state after the last step, shape (B, H).
        """
        (state_BH,) = state
        weight_HH = state_weights(self)
        if inputs_TBE.device.type != "cpu":
            arguments = (
                inputs_TBE,
                state_BH.unsqueeze(0),
                kernel_weights(self, weight_HH, block=inputs_TBE.is_cuda),
                True,
                1,
                0.0,
                self.training,
                False,
                False,
            )
            hidden_TBH, state_1BH = torch._VF.rnn_tanh(*arguments)
            return hidden_TBH, (state_1BH.squeeze(0),)
        gates_TBH = F.linear(inputs_TBE, self.weight_ih_l0, self.bias_ih_l0)
        hidden = _Recurrence.apply(gates_TBH, state_BH, weight_HH)  # type: ignore[no-untyped-call]
        hidden_TBH = cast(Tensor, hidden)
        return hidden_TBH, (hidden_TBH[-1],)

    def step(self, input_BE: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        """One time step: hidden_BH, which is the state too."""
        (state_BH,) = state
        if packed := packed_for(self._packed, input_BE):
            hidden_BH = packed(torch.cat((input_BE, state_BH), 1), self.bias_ih_l0, "tanh")
            return hidden_BH, (hidden_BH,)
        hidden_BH = torch.tanh(
            torch.addmm(
                F.linear(input_BE, self.weight_ih_l0, self.bias_ih_l0),
                state_BH,
                self.weight_hh_l0.t(),
            )
        )
        return hidden_BH, (hidden_BH,)

    def pack(self) -> None:
        """Copy the weights for faster steps of several rows."""
        self._packed = pack_large(torch.cat((self.weight_ih_l0, self.weight_hh_l0), 1))

    def inside(self, inputs_TBE: Tensor, outputs_TBH: Tensor, state: LayerState) -> Inside:  # noqa: ARG002
        """h_t, which is a tanh; no gates."""
        return Inside({}, outputs_TBH)


class _Recurrence(torch.autograd.Function):
    """h_t = tanh(g_t + h_(t-1) U) with a hand-written gradient.

    Autograd would record three operations a step and sum U's gradient T times. Here a step costs
    two operations each way, and U's gradient is one matrix product over all steps.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, gates_TBH: Tensor, state_BH: Tensor, weight_HH: Tensor) -> Tensor:
        hidden_TBH = torch.empty_like(gates_TBH, memory_format=torch.contiguous_format)
        transposed_HH = weight_HH.t()
        previous_BH = state_BH
        for gate_BH, hidden_BH in zip(gates_TBH.unbind(0), hidden_TBH.unbind(0), strict=True):
            torch.addmm(gate_BH, previous_BH, transposed_HH, beta=2, alpha=2, out=hidden_BH)
            previous_BH = tanh_of_half_(hidden_BH)
        ctx.save_for_backward(hidden_TBH, state_BH, weight_HH)
        return hidden_TBH

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad_TBH: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        saved = cast(tuple[Tensor, ...], ctx.saved_tensors)  # type: ignore[attr-defined]
        hidden_TBH, state_BH, weight_HH = saved
        gates_grad_TBH = torch.empty_like(hidden_TBH)
        hiddens = hidden_TBH.unbind(0)
        grads = grad_TBH.unbind(0)
        gates_grads = gates_grad_TBH.unbind(0)
        total_BH = grads[-1]
        for t in range(len(hiddens) - 1, 0, -1):
            torch.ops.aten.tanh_backward.grad_input(total_BH, hiddens[t], grad_input=gates_grads[t])
            total_BH = torch.addmm(grads[t - 1], gates_grads[t], weight_HH)
        torch.ops.aten.tanh_backward.grad_input(total_BH, hiddens[0], grad_input=gates_grads[0])
        state_grad_BH = gates_grads[0] @ weight_HH
        weight_grad_HH = gates_grads[0].t() @ state_BH
        if len(hiddens) > 1:
            weight_grad_HH.addmm_(
                gates_grad_TBH[1:].flatten(0, 1).t(), hidden_TBH[:-1].flatten(0, 1)
            )
        return gates_grad_TBH, state_grad_BH, weight_grad_HH
