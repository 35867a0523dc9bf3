"""Baselines for `bench`: a textbook loop over time, and torch's own layers.

Measure how fast a device multiplies matrices and reads memory: the limits of training and sampling.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rnnlm_tui.bench.report import Numbers
from rnnlm_tui.engine.batches import Batches
from rnnlm_tui.engine.cells import LayerState, RecurrentLayer
from rnnlm_tui.engine.cells.elman import ElmanLayer
from rnnlm_tui.engine.device import wait
from rnnlm_tui.engine.loss import IGNORED, product
from rnnlm_tui.engine.matmul import can_round
from rnnlm_tui.engine.model import RecurrentLanguageModel, State
from rnnlm_tui.errors import InputError

LIBRARY_LAYERS: dict[str, type[nn.RNNBase]] = {"elman": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
"""Cells that torch has as a multi-layer module."""
READ_BYTES = 256 * 2**20
"""Size of the array that a CPU reads: more than its caches hold."""
COPIED_BYTES = 2**30
"""Size of the array that a GPU copies, twenty times its cache, if that much is free."""
REPETITIONS = 4
"""Runs between two events of a GPU, so that the gap before the first doesn't count much."""
_PRECISIONS: dict[Numbers, str] = {
    "float32": "highest",
    "tf32": "high",
    "medium": "medium",
    "bf16": "highest",
}


class _TextbookElman(nn.Module):
    """h_t = tanh(x_t W + h_(t-1) U + b), as in a textbook."""

    def __init__(self, weight_EH: Tensor, weight_HH: Tensor, bias_H: Tensor) -> None:
        super().__init__()
        self.W = nn.Parameter(weight_EH)
        self.U = nn.Parameter(weight_HH)
        self.b = nn.Parameter(bias_H)

    def initial_state(self, batch_size: int) -> LayerState:
        return (self.b.new_zeros(batch_size, self.b.shape[0]),)

    def step(self, input_BE: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        hidden_BH = torch.tanh(input_BE @ self.W + state[0] @ self.U + self.b)
        return hidden_BH, (hidden_BH,)


class NaiveModel(nn.Module):
    """The textbook model: a Python loop over time and layers, then all logits of all positions.

    The weights are copied from an engine model. Elman layers are written out; for other cells the
    loop applies our layer's single step.
    """

    def __init__(self, model: RecurrentLanguageModel) -> None:
        super().__init__()
        self.embedding, self.output = _copied_ends(model)
        self.layers = nn.ModuleList(_textbook_layer(layer) for layer in model.layers)
        self.dropout = nn.Dropout(model.dropout)

    def initial_state(self, batch_size: int) -> State:
        """Initial state of each layer, for B streams or sentences."""
        return tuple(cast(RecurrentLayer, layer).initial_state(batch_size) for layer in self.layers)

    def forward(self, tokens_BT: Tensor, state: State) -> tuple[Tensor, State]:
        """logits_BTV and the state after the last position."""
        features_BTE = self.dropout(self.embedding(tokens_BT))
        layers = [cast(RecurrentLayer, layer) for layer in self.layers]
        states, outputs = list(state), []
        for t in range(tokens_BT.shape[1]):
            features_BE = features_BTE[:, t]
            for index, layer in enumerate(layers):
                features_BE, states[index] = layer.step(features_BE, states[index])
                features_BE = self.dropout(features_BE)
            outputs.append(features_BE)
        return self.output(torch.stack(outputs, dim=1)), tuple(states)


class LibraryModel(nn.Module):
    """Plain torch: nn.Embedding, one multi-layer nn.RNN, nn.LSTM or nn.GRU, nn.Linear over all
    positions.

    The weights are copied from an engine model; a second bias that ours lacks starts at zero.

    Raises:
        InputError: torch has no module for the cell.
    """

    def __init__(self, model: RecurrentLanguageModel) -> None:
        super().__init__()
        if model.cell_type not in LIBRARY_LAYERS:
            raise InputError(
                f"torch has no layer for the cell {model.cell_type}, only for"
                f" {', '.join(LIBRARY_LAYERS)}"
            )
        self.embedding, self.output = _copied_ends(model)
        between = model.dropout if model.num_layers > 1 else 0.0
        kind = LIBRARY_LAYERS[model.cell_type]
        self.layers = kind(  # type: ignore[call-arg]
            model.embedding_dim,  # type: ignore[arg-type]
            model.hidden_size,
            num_layers=model.num_layers,
            dropout=between,
            batch_first=True,
        )
        with torch.no_grad():
            for index, layer in enumerate(model.layers):
                for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                    own = cast(Tensor, getattr(self.layers, f"{name}_l{index}"))
                    theirs = getattr(layer, f"{name}_l0", None)
                    own.zero_() if theirs is None else own.copy_(theirs)
        self.dropout = nn.Dropout(model.dropout)

    def initial_state(self, batch_size: int) -> State:
        """Zeros of shape (B, L, H), for each part of torch's state."""
        zeros = self.output.weight.new_zeros(
            batch_size, self.layers.num_layers, self.layers.hidden_size
        )
        return ((zeros, zeros) if isinstance(self.layers, nn.LSTM) else (zeros,),)

    def forward(self, tokens_BT: Tensor, state: State) -> tuple[Tensor, State]:
        """logits_BTV and the state after the last position."""
        parts = tuple(part.transpose(0, 1).contiguous() for part in state[0])
        hidden_BTH, after = self.layers(
            self.dropout(self.embedding(tokens_BT)), parts if len(parts) > 1 else parts[0]
        )
        reached = after if isinstance(after, tuple) else (after,)
        return self.output(self.dropout(hidden_BTH)), (
            tuple(part.transpose(0, 1) for part in reached),
        )


class PlainTraining:
    """A plain training loop: all logits, nn.CrossEntropyLoss and a torch optimizer."""

    def __init__(
        self,
        model: NaiveModel | LibraryModel,
        batches: Batches,
        *,
        algorithm: str,
        learning_rate: float,
        max_grad_norm: float,
        fused: bool = False,
    ) -> None:
        """
        Args:
            fused: torch's fused update; False: its default.
        """
        self.model, self.batches, self.max_grad_norm = model, batches, max_grad_norm
        self.criterion = nn.CrossEntropyLoss(ignore_index=IGNORED)
        kind = torch.optim.AdamW if algorithm == "adamw" else torch.optim.SGD
        self.optimizer: torch.optim.Optimizer = kind(
            model.parameters(), lr=learning_rate, fused=fused or None
        )
        self.index = 0
        self.state: State | None = None
        model.train()

    def train_step(self) -> tuple[int, Tensor]:
        """One update; returns the number of targets and their mean loss in nats before it."""
        steps = self.batches.steps_per_epoch
        batch = self.batches.batch(self.index // steps, self.index % steps).to(
            self.model.output.weight.device
        )
        carried = self.state if batch.continues else None
        state = self.model.initial_state(batch.inputs_BT.shape[0]) if carried is None else carried
        logits_BTV, state = self.model(batch.inputs_BT, state)
        loss: Tensor = self.criterion(
            logits_BTV.reshape(-1, logits_BTV.shape[-1]), batch.targets_BT.reshape(-1)
        )
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if self.max_grad_norm > 0:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.max_grad_norm)
        self.optimizer.step()
        self.state = tuple(tuple(part.detach() for part in layer) for layer in state)
        self.index += 1
        return batch.tokens, loss.detach()


@torch.no_grad()
def naive_continuation(
    model: NaiveModel,
    prompt_ids: Sequence[int],
    *,
    max_new_tokens: int,
    temperature: float,
    greedy: bool,
) -> list[int]:
    """Continue a prompt the naive way: for each token, rerun the whole text and compute all its
    logits."""
    device = model.output.weight.device
    ids = list(prompt_ids)
    for _ in range(max_new_tokens):
        logits_1TV, _ = model(torch.tensor([ids], device=device), model.initial_state(1))
        last_V = logits_1TV[0, -1]
        chosen = (
            last_V.argmax()
            if greedy
            else torch.multinomial(F.softmax(last_V / temperature, dim=-1), num_samples=1)
        )
        ids.append(int(chosen.item()))
    return ids[len(prompt_ids) :]


def _copied_ends(model: RecurrentLanguageModel) -> tuple[nn.Embedding, nn.Linear]:
    embedding = nn.Embedding(model.vocab_size, model.embedding_dim, padding_idx=model.pad_id)
    output = nn.Linear(model.hidden_size, model.vocab_size)
    with torch.no_grad():
        embedding.weight.copy_(model.embedding.weight)
        output.weight.copy_(model.output.weight)
        output.bias.copy_(model.output.bias)
    if model.tie_weights:
        output.weight = embedding.weight
    return embedding, output


def _textbook_layer(layer: nn.Module) -> nn.Module:
    if not isinstance(layer, ElmanLayer):
        return deepcopy(layer)
    weight_HE = layer.weight_ih_l0.detach()
    weight_HH = layer.weight_hh_l0.detach()
    bias_H = layer.bias_ih_l0.detach()
    return _TextbookElman(weight_HE.t().clone(), weight_HH.t().clone(), bias_H.clone())


def ways_to_multiply(device: torch.device) -> tuple[Numbers, ...]:
    """Number formats in which this device multiplies matrices, the exact one first."""
    if not can_round(device):
        return ("float32",)
    return ("float32", "tf32", "bf16") if device.type == "cuda" else ("float32", "medium")


def multiplication_speeds(
    device: torch.device, shapes: tuple[tuple[int, int, int], ...], seconds: float
) -> dict[Numbers, float]:
    """The best GFLOP/s over all shapes (M, N, K), an M×K by K×N product, in each number format.

    All available libraries are tried: the fastest one depends on shape and CPU.

    Args:
        seconds: for all formats and shapes together, about.
    """
    ways = ways_to_multiply(device)
    before = torch.get_float32_matmul_precision()
    best: dict[Numbers, float] = {}
    try:
        for way in ways:
            torch.set_float32_matmul_precision(_PRECISIONS[way])
            trials = [trial for shape in shapes for trial in _trials(device, shape, way)]
            for operations, work in trials:
                best[way] = max(
                    best.get(way, 0.0),
                    1e-9 * operations / _shortest(work, device, seconds / len(ways) / len(trials)),
                )
    finally:
        torch.set_float32_matmul_precision(before)
    return best


def _trials(
    device: torch.device, shape: tuple[int, int, int], way: Numbers
) -> list[tuple[int, Callable[[], Tensor]]]:
    """Operation counts and products: torch's, and the one that the vocabulary head uses."""
    rows, columns, depth = shape
    operations = 2 * rows * columns * depth
    left_MK, right_NK = (torch.randn(length, depth, device=device) for length in (rows, columns))
    works: list[Callable[[], Tensor]] = []
    if way != "bf16":
        works.append(partial(torch.matmul, left_MK, right_NK.t()))
    works.append(
        partial(product, left_MK, right_NK)
        if way in ("float32", "tf32")
        else partial(product, left_MK.bfloat16(), right_NK.bfloat16())
    )
    return [(operations, work) for work in works]


@torch.inference_mode()
def memory_speed(device: torch.device, seconds: float) -> float:
    """Bytes per second that memory moves, with torch's current threads.

    A CPU reads a large array once. A GPU copies one, which counts twice: once read, once written.
    """
    if device.type != "cuda":
        array = torch.ones(READ_BYTES // 4, device=device)
        return READ_BYTES / _shortest(array.sum, device, seconds)
    speed = _copying_speed(device, seconds)
    torch.cuda.empty_cache()  # programs that are measured in turns may need it
    return speed


def _copying_speed(device: torch.device, seconds: float) -> float:
    free = int(torch.cuda.mem_get_info(device)[0])
    source = torch.randn(min(COPIED_BYTES, free // 8) // 4, device=device)
    target = torch.empty_like(source)
    copied = source.numel() * source.element_size()
    return 2 * copied / _shortest(lambda: target.copy_(source), device, seconds)


def _shortest(work: Callable[[], Tensor], device: torch.device, seconds: float) -> float:
    """Shortest of at least three repetitions, after a warm-up.

    On a GPU its own events measure, without the time that a launch takes the CPU.
    """
    measure = _seconds_by_events if device.type == "cuda" else _seconds_by_clock
    work()
    wait(device)
    times: list[float] = []
    until = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < until:
        times.append(measure(work, device))
    return min(times)


def _seconds_by_clock(work: Callable[[], Tensor], device: torch.device) -> float:
    began = time.perf_counter()
    work()
    wait(device)
    return time.perf_counter() - began


def _seconds_by_events(work: Callable[[], Tensor], device: torch.device) -> float:
    with torch.cuda.device(device):
        before, after = (
            torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            for _ in range(2)
        )
        before.record()
        for _ in range(REPETITIONS):
            work()
        after.record()
        after.synchronize()
    milliseconds: float = before.elapsed_time(after)
    return 1e-3 * milliseconds / REPETITIONS
