"""Evaluate a model on held-out text: the token-weighted mean loss."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor

from rnnlm_tui.engine.batches import Batch, share
from rnnlm_tui.engine.distributed import Interrupted, Order, Ranks
from rnnlm_tui.engine.loss import token_losses
from rnnlm_tui.engine.matmul import set_gpu_precision
from rnnlm_tui.engine.model import RecurrentLanguageModel

_MOST_SUMS = 1_024
"""Sums of batches kept on the device before they are added up."""


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
    model: RecurrentLanguageModel,
    batches: Iterable[Batch],
    *,
    unknown_id: int | None = None,
    each: Callable[[Batch, Tensor, Tensor], None] | None = None,
    ranks: Ranks | None = None,
) -> Score:
    """Mean loss of all targets, without dropout; the model's mode and the random generators are
    unchanged.

    A batch that `continues` the one before takes its state; every other starts from zero.

    Args:
        unknown_id: the unknown token, whose occurrences are counted; None: there is none.
        each: called with each batch, its losses_BT in nats on the CPU, 0 where none counts, and the
            inputs of the head, hidden_BTH on the model's device.
        ranks: the processes that share each batch and evaluate now; None: this one is alone.

    Raises:
        Interrupted: on another rank than 0, which gave up.
    """
    began = time.perf_counter()
    was_training = model.training
    model.eval()
    rounded = torch.get_float32_matmul_precision() != "highest"
    # Losses are compared between runs, so they aren't rounded.
    set_gpu_precision(model.output.weight.device, rounded=False)
    try:
        if ranks is None:
            total, tokens, unknown = _sums(model, batches, unknown_id, each)
        else:
            try:
                sums = _sums(model, _shares(batches, ranks), unknown_id, each)
                _agree_on_the_end(ranks)
            except BaseException:
                if ranks.leads:
                    with suppress(RuntimeError):  # report the first error
                        ranks.send_order(Order.WAIT)
                raise
            total, *counts = ranks.totals(*sums)
            tokens, unknown = map(int, counts)
    finally:
        set_gpu_precision(model.output.weight.device, rounded=rounded)
        model.train(was_training)
    return Score(
        loss=total / tokens if tokens else float("nan"),
        tokens=tokens,
        unknown=unknown,
        seconds=time.perf_counter() - began,
    )


def _shares(batches: Iterable[Batch], ranks: Ranks) -> Iterator[Batch]:
    """This rank's share of each batch, as long as rank 0 goes on."""
    for batch in batches:
        if ranks.leads:
            ranks.send_order(Order.NEXT)
        elif ranks.next_order()[0] != Order.NEXT:
            raise Interrupted
        yield share(batch, ranks.rank, ranks.size)


def _agree_on_the_end(ranks: Ranks) -> None:
    """After the last batch, which rank 0 may have given up."""
    if ranks.leads:
        ranks.send_order(Order.ENOUGH)
    elif ranks.next_order()[0] != Order.ENOUGH:
        raise Interrupted


@torch.inference_mode()
def _sums(
    model: RecurrentLanguageModel,
    batches: Iterable[Batch],
    unknown_id: int | None,
    each: Callable[[Batch, Tensor, Tensor], None] | None,
) -> tuple[float, int, int]:
    """Summed loss, targets and unknown targets.

    Batches are summed in float32 on the device, their sums in float64: the GPU is waited for only
    once in `_MOST_SUMS` batches.
    """
    device = model.output.weight.device
    sums: list[Tensor] = []
    total, tokens, unknown = 0.0, 0, 0
    state = model.initial_state(0)
    # A laid-out head's weight is a part of a padded matrix. For its rows or columns, which don't
    # follow one another in memory, oneDNN has only reference code, a thousand times slower.
    weight_VH, bias_V = model.output.weight.contiguous(), model.output.bias
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
            losses_N = token_losses(hidden_NH, weight_VH, bias_V, targets_N)
            sums.append(losses_N.sum())
            if len(sums) == _MOST_SUMS:  # a long text has millions of batches
                total += float(torch.stack(sums).cpu().double().sum())
                sums.clear()
            if each is not None:
                each(on_cpu, _by_position(losses_N, batch), hidden_BTH)
        tokens += batch.tokens
        if unknown_id is not None and batch.tokens:
            unknown += int((on_cpu.targets_BT == unknown_id).sum())
    if sums:
        total += float(torch.stack(sums).cpu().double().sum())
    return total, tokens, unknown


def _by_position(losses_N: Tensor, batch: Batch) -> Tensor:
    """Losses of the targets that count as losses_BT on the CPU."""
    rows, width = batch.targets_BT.shape
    if batch.rows_N is not None:
        losses_N = losses_N.new_zeros(rows * width).index_copy(0, batch.rows_N, losses_N)
    return losses_N.view(width, rows).t().cpu()
