"""Evaluate a model on held-out text: the token-weighted mean loss."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from rnnlm_tui.engine.batches import Batch
from rnnlm_tui.engine.device import set_gpu_precision
from rnnlm_tui.engine.loss import token_losses
from rnnlm_tui.engine.model import RecurrentLanguageModel


@dataclass(frozen=True, slots=True)
class Score:
    """Result of an evaluation."""

    loss: float
    """Sum of token losses over number of tokens, nats; perplexity is its exp."""
    tokens: int
    """Targets that count."""
    unknown: int
    """Targets that are the unknown token."""
    seconds: float


def evaluate(
    model: RecurrentLanguageModel, batches: Iterable[Batch], *, unknown_id: int | None = None
) -> Score:
    """Mean loss of all targets, without dropout; the model's mode and the random generators are
    unchanged.

    A batch that `continues` the one before takes its state; every other starts from zero.

    Args:
        unknown_id: the unknown token, whose occurrences are counted; None: there is none.
    """
    began = time.perf_counter()
    was_training = model.training
    model.eval()
    rounded = torch.get_float32_matmul_precision() != "highest"
    # Losses are compared between runs, so they aren't rounded.
    set_gpu_precision(model.output.weight.device, rounded=False)
    try:
        sums, tokens, unknown = _sums(model, batches, unknown_id)
        # Batches are summed in float32 on the device, their sums in float64: a single wait for the
        # GPU.
        total = float(torch.stack(sums).cpu().double().sum()) if sums else float("nan")
    finally:
        set_gpu_precision(model.output.weight.device, rounded=rounded)
        model.train(was_training)
    return Score(
        loss=total / tokens if tokens else float("nan"),
        tokens=tokens,
        unknown=unknown,
        seconds=time.perf_counter() - began,
    )


@torch.inference_mode()
def _sums(
    model: RecurrentLanguageModel, batches: Iterable[Batch], unknown_id: int | None
) -> tuple[list[Tensor], int, int]:
    device = model.output.weight.device
    sums: list[Tensor] = []
    tokens = unknown = 0
    state = model.initial_state(0)
    for on_cpu in batches:
        batch = on_cpu.to(device)
        if not batch.continues:
            state = model.initial_state(batch.inputs_BT.shape[0])
        hidden_BTH, state = model.hidden(batch.inputs_BT, state)
        hidden_NH = hidden_BTH.transpose(0, 1).flatten(0, 1)
        targets_N = batch.targets_BT.t().flatten()
        if batch.rows_N is not None:
            hidden_NH = hidden_NH.index_select(0, batch.rows_N)
            targets_N = targets_N.index_select(0, batch.rows_N)
        if batch.tokens:
            sums.append(
                token_losses(hidden_NH, model.output.weight, model.output.bias, targets_N).sum()
            )
        tokens += batch.tokens
        if unknown_id is not None:
            unknown += int((on_cpu.targets_BT == unknown_id).sum())
    return sums, tokens, unknown
