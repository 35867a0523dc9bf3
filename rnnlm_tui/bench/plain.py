"""Plain PyTorch, to compare the engine with: a textbook's model, training loop and sampling."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rnnlm_tui.engine.batches import Batches
from rnnlm_tui.engine.cells import LayerState, RecurrentLayer
from rnnlm_tui.engine.cells.elman import ElmanLayer
from rnnlm_tui.engine.loss import IGNORED
from rnnlm_tui.engine.model import RecurrentLanguageModel
from rnnlm_tui.errors import InputError

LIBRARY_LAYERS: dict[str, type[nn.RNNBase]] = {"elman": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
"""Cells that torch has as a multi-layer module."""

State = Tensor | Sequence["State"]
"""The state of `PlainModel`: torch's own, or a list of a layer's tensors for each layer."""


class _TextbookElman(nn.Module):
    """h_t = tanh(x_t W + h_(t-1) U + b), as in a textbook."""

    def __init__(self, layer: ElmanLayer) -> None:
        super().__init__()
        self.W = nn.Parameter(layer.weight_ih_l0.detach().t().clone())
        self.U = nn.Parameter(layer.weight_hh_l0.detach().t().clone())
        self.b = nn.Parameter(layer.bias_ih_l0.detach().clone())

    def initial_state(self, batch_size: int) -> LayerState:
        return (self.b.new_zeros(batch_size, self.b.shape[0]),)

    def step(self, input_BE: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        hidden_BH = torch.tanh(input_BE @ self.W + state[0] @ self.U + self.b)
        return hidden_BH, (hidden_BH,)


class PlainModel(nn.Module):
    """Embedding, recurrent layers and the logits of all positions, with an engine model's weights.

    Args:
        library: one multi-layer nn.RNN, nn.LSTM or nn.GRU, whose second bias starts at zero where
            ours has none; False: a Python loop over time and layers, in which Elman layers are
            written out and other cells are our layer's single step.

    Raises:
        InputError: torch has no module for the cell.
    """

    def __init__(self, model: RecurrentLanguageModel, *, library: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(
            model.vocab_size, model.embedding_dim, padding_idx=model.pad_id
        )
        self.output = nn.Linear(model.hidden_size, model.vocab_size)
        with torch.no_grad():
            self.embedding.weight.copy_(model.embedding.weight)
            self.output.weight.copy_(model.output.weight)
            self.output.bias.copy_(model.output.bias)
        if model.tie_weights:
            self.output.weight = self.embedding.weight
        self.dropout = nn.Dropout(model.dropout)
        self.layers = _library_layers(model) if library else _textbook_layers(model)

    def forward(self, tokens_BT: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """logits_BTV and the state after the last position; state None: the initial one."""
        features_BTE = self.dropout(self.embedding(tokens_BT))
        if isinstance(self.layers, nn.RNNBase):
            hidden_BTH, state = self.layers(features_BTE, state)
            return self.output(self.dropout(hidden_BTH)), cast(State, state)
        layers = [cast(RecurrentLayer, layer) for layer in self.layers]
        states = (
            [layer.initial_state(len(tokens_BT)) for layer in layers]
            if state is None
            else list(cast(Sequence[LayerState], state))
        )
        outputs = []
        for t in range(tokens_BT.shape[1]):
            features_BE = features_BTE[:, t]
            for index, layer in enumerate(layers):
                features_BE, states[index] = layer.step(features_BE, states[index])
                features_BE = self.dropout(features_BE)
            outputs.append(features_BE)
        return self.output(torch.stack(outputs, dim=1)), states


def _textbook_layers(model: RecurrentLanguageModel) -> nn.ModuleList:
    return nn.ModuleList(
        _TextbookElman(layer) if isinstance(layer, ElmanLayer) else deepcopy(layer)
        for layer in model.layers
    )


def _library_layers(model: RecurrentLanguageModel) -> nn.RNNBase:
    if model.cell_type not in LIBRARY_LAYERS:
        raise InputError(
            f"torch has no layer for the cell {model.cell_type}, only for"
            f" {', '.join(LIBRARY_LAYERS)}"
        )
    layers = LIBRARY_LAYERS[model.cell_type](  # type: ignore[call-arg]
        model.embedding_dim,  # type: ignore[arg-type]
        model.hidden_size,
        num_layers=model.num_layers,
        dropout=model.dropout if model.num_layers > 1 else 0.0,
        batch_first=True,
    )
    with torch.no_grad():
        for index, layer in enumerate(model.layers):
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                own = cast(Tensor, getattr(layers, f"{name}_l{index}"))
                theirs = getattr(layer, f"{name}_l0", None)
                own.zero_() if theirs is None else own.copy_(theirs)
    return layers


class PlainTraining:
    """A plain training loop: all logits, nn.CrossEntropyLoss and a torch optimizer.

    Args:
        fused: torch's fused update; False: its default.
    """

    def __init__(
        self,
        model: PlainModel,
        batches: Batches,
        *,
        algorithm: str,
        learning_rate: float,
        max_grad_norm: float,
        fused: bool = False,
    ) -> None:
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
        logits_BTV, state = self.model(batch.inputs_BT, carried)
        loss: Tensor = self.criterion(
            logits_BTV.reshape(-1, logits_BTV.shape[-1]), batch.targets_BT.reshape(-1)
        )
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if self.max_grad_norm > 0:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.max_grad_norm)
        self.optimizer.step()
        self.state = _detached(state)
        self.index += 1
        return batch.tokens, loss.detach()


def _detached(state: State) -> State:
    return state.detach() if isinstance(state, Tensor) else tuple(_detached(part) for part in state)


@torch.no_grad()
def naive_continuation(
    model: PlainModel, prompt_ids: Sequence[int], *, max_new_tokens: int, greedy: bool
) -> Iterator[int]:
    """Continue a prompt the naive way: for each token, rerun the whole text and compute all its
    logits."""
    device = model.output.weight.device
    ids = list(prompt_ids)
    for _ in range(max_new_tokens):
        last_V = model(torch.tensor([ids], device=device))[0][0, -1]
        chosen = (
            last_V.argmax()
            if greedy
            else torch.multinomial(F.softmax(last_V, dim=-1), num_samples=1)
        )
        ids.append(int(chosen.item()))
        yield ids[-1]
