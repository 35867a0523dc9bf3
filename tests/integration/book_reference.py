"""An independent plain implementation of the book's run, to compare the engine with.

Embedding, Elman layers in a Python loop over time, all logits, `nn.CrossEntropyLoss` that ignores
the padding, plain AdamW.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

CONTEXT_LENGTH = 30
BATCH_SIZE = 128
LEARNING_RATE = 0.001


class ElmanLayer(nn.Module):
    """h_t = tanh(x_t W + h_(t-1) U + b)."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.empty(inputs, hidden))
        self.U = nn.Parameter(torch.empty(hidden, hidden))
        self.b = nn.Parameter(torch.empty(hidden))

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(x @ self.W + h @ self.U + self.b)


class PlainModel(nn.Module):
    """Embedding, layers of one width, untied head with a bias.

    Every sentence starts from a zero state.
    """

    def __init__(self, vocab_size: int, width: int, num_layers: int, pad_id: int) -> None:
        super().__init__()
        self.width = width
        self.embedding = nn.Embedding(vocab_size, width, padding_idx=pad_id)
        self.layers = nn.ModuleList(ElmanLayer(width, width) for _ in range(num_layers))
        self.head = nn.Linear(width, vocab_size)

    def draw(self, seed: int) -> PlainModel:
        """Xavier uniform for every matrix, the embedding included; U(0, 1) for every vector."""
        torch.manual_seed(seed)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
            else:
                nn.init.uniform_(parameter, 0, 1)
        return self

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of shape (sentences, time, vocabulary)."""
        states = [
            tokens.new_zeros(tokens.shape[0], self.width, dtype=self.head.weight.dtype)
            for _ in self.layers
        ]
        outputs = []
        for t in range(tokens.shape[1]):
            x = self.embedding(tokens[:, t])
            for index, layer in enumerate(self.layers):
                states[index] = x = layer(x, states[index])
            outputs.append(x)
        logits: Tensor = self.head(torch.stack(outputs, dim=1))
        return logits


def read_sentences(path: Path, limit: int | None = None) -> list[str]:
    """The lines of a file, stripped, with each number replaced by ###."""
    with path.open(encoding="utf-8") as file:
        lines = [re.sub(r"\d+", "###", line.strip()) for line in file]
    return lines[:limit]


def plain_batches(
    sentences: Sequence[Sequence[int]], pad_id: int, batch_size: int = BATCH_SIZE
) -> Iterator[tuple[Tensor, Tensor]]:
    """Inputs and targets: cut at 30 tokens, at least two, right-padded."""
    kept = [list(sentence[:CONTEXT_LENGTH]) for sentence in sentences]
    kept = [sentence for sentence in kept if len(sentence) >= 2]
    for start in range(0, len(kept), batch_size):
        batch = kept[start : start + batch_size]
        longest = max(len(sentence) for sentence in batch) - 1
        yield tuple(  # type: ignore[misc]
            torch.tensor([part + [pad_id] * (longest - len(part)) for part in parts])
            for parts in (
                [sentence[:-1] for sentence in batch],
                [sentence[1:] for sentence in batch],
            )
        )


def plain_training(
    model: PlainModel, batches: Sequence[tuple[Tensor, Tensor]], pad_id: int
) -> list[float]:
    """Train one update per batch; the losses."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    criterion = nn.CrossEntropyLoss(ignore_index=pad_id)
    losses = []
    model.train()
    for inputs, targets in batches:
        optimizer.zero_grad()
        logits = model(inputs)
        loss = criterion(logits.flatten(0, 1), targets.flatten())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@torch.no_grad()
def plain_perplexity(
    model: PlainModel, batches: Sequence[tuple[Tensor, Tensor]], pad_id: int
) -> float:
    """exp of the mean loss over targets that aren't padding."""
    criterion = nn.CrossEntropyLoss(ignore_index=pad_id, reduction="sum")
    model.eval()
    total, count = 0.0, 0
    for inputs, targets in batches:
        total += criterion(model(inputs).flatten(0, 1), targets.flatten()).item()
        count += int((targets != pad_id).sum())
    return math.exp(total / count)


def copy_weights(plain: PlainModel, engine: nn.Module) -> None:
    """Copy the plain model's weights to the engine's model, whose matrices are transposed."""
    engine.load_state_dict(as_engine_weights(plain))


def as_engine_weights(plain: PlainModel) -> dict[str, Tensor]:
    """The plain model's weights under the engine's names."""
    weights = {
        "embedding.weight": plain.embedding.weight,
        "output.weight": plain.head.weight,
        "output.bias": plain.head.bias,
    }
    for index, layer in enumerate(plain.layers):
        held: Any = layer
        weights |= {
            f"layers.{index}.weight_ih_l0": held.W.t(),
            f"layers.{index}.weight_hh_l0": held.U.t(),
            f"layers.{index}.bias_ih_l0": held.b,
        }
    return {name: tensor.detach().clone() for name, tensor in weights.items()}
