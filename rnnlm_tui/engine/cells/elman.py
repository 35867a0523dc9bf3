"""Elman layer: h_t = tanh(x_t W + h_(t-1) U + b).

A CPU runs our own recurrence, a GPU cuDNN's.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional as F

from rnnlm_tui.engine.cells.base import Inside, LayerState, TorchLayer, packed_for, tanh_of_half_


class ElmanLayer(TorchLayer):
    """The state is (h_BH,)."""

    mode = "RNN_TANH"

    def forward(self, inputs_TBE: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        """Run over T time steps: hidden_TBH and the state after the last."""
        if inputs_TBE.device.type != "cpu":
            return self.by_kernel(torch._VF.rnn_tanh, inputs_TBE, state)
        gates_TBH = F.linear(inputs_TBE, self.weight_ih_l0, self.bias_ih_l0)
        arguments = gates_TBH, state[0], self.dropped(self.weight_hh_l0)
        hidden_TBH = cast(Tensor, _Recurrence.apply(*arguments))  # type: ignore[no-untyped-call]
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
