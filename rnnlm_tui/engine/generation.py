"""Read a text and continue it token by token, carrying the recurrent state."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rnnlm_tui.engine.model import RecurrentLanguageModel, State
from rnnlm_tui.engine.packed import pack
from rnnlm_tui.engine.token_sampling import ROW, RejectionSampler
from rnnlm_tui.errors import InputError
from rnnlm_tui.schema.config import SamplingConfig

WORTH_A_LAYOUT = 32
"""From this many tokens on, another layout of the head pays off (10 ms against 1 to 2 ms a token,
V 32 k on AMD EPYC)."""
READ_AT_ONCE = 2_048
"""Tokens of a text that are read in one piece; more would only need memory."""


@dataclass(frozen=True, slots=True, eq=False)
class TextState:
    """A model after reading a text."""

    state: State
    """For each layer tensors whose first dimension is 1."""
    output_BH: Tensor
    """Input of the head after the last token, shape (1, H)."""
    ids: tuple[int, ...]
    """All tokens read, also those before the text that the state continued."""


class GeneratedToken(NamedTuple):
    """One generated token."""

    token: int
    logprob: float
    """ln p of the token under the model at temperature 1, before any penalty or filter."""


def check_ids(model: RecurrentLanguageModel, ids: Sequence[int]) -> None:
    """Refuse ids that the model doesn't know.

    Raises:
        InputError: an id outside the vocabulary.
    """
    outside = next((token for token in ids if not 0 <= token < model.vocab_size), None)
    if outside is not None:
        raise InputError(f"token {outside} is outside the vocabulary of {model.vocab_size:,}")


@torch.no_grad()
def read_text(
    model: RecurrentLanguageModel, ids: Sequence[int], start: TextState | None = None
) -> TextState:
    """Read a text without dropout, from the initial state or as the continuation of `start`.

    Raises:
        InputError: no token to start from, or an id outside the vocabulary.
    """
    check_ids(model, ids)
    if not len(ids):
        if start is not None:
            return start
        raise InputError(
            "the prompt has no tokens, the model needs at least one to start from",
            hint="type at least one word",
        )
    device = model.output.weight.device
    state = model.initial_state(1) if start is None else start.state
    was_training = model.training
    model.eval()
    try:
        for place in range(0, len(ids) - 1, READ_AT_ONCE):
            part = torch.tensor([ids[place : min(place + READ_AT_ONCE, len(ids) - 1)]])
            _, state = model.hidden(part.to(device), state)
    finally:
        model.train(was_training)
    output_BH, state = model.advance(torch.tensor([ids[-1]], device=device), state)
    before = () if start is None else start.ids
    return TextState(state, output_BH, (*before, *map(int, ids)))


class Generation(Iterator[tuple[GeneratedToken, ...]]):
    """Continues a text, `count` times in one batch: iterate for one token of each sample that is
    still needed, a tuple per step. Sample i has the seed of the settings plus i.

    Each token costs the same however long the text is, since only the state is carried. A token
    depends on the seed and its position in the whole text alone, so a continuation of a
    continuation equals a longer one. The global random generators are untouched.

    Args:
        settings: `unknown` and `stop` are up to the caller.
        excluded: tokens that are never sampled.
    """

    def __init__(
        self,
        model: RecurrentLanguageModel,
        start: TextState,
        settings: SamplingConfig,
        *,
        excluded: Sequence[int] = (),
        count: int = 1,
    ) -> None:
        self.rows = tuple(range(count))
        """The sample of each token in the last tuple."""
        self._needed = set(self.rows)
        self._model = model
        self._head = _head_for(model, settings.max_new_tokens, count)
        self._device = model.output.weight.device
        self._sampler = RejectionSampler(settings, excluded, start.ids, count)
        self._position = len(start.ids)
        self._end = self._position + settings.max_new_tokens
        self._output_BH = start.output_BH.expand(count, -1)
        self._state = _each(start.state, lambda part: part.expand(count, *part.shape[1:]))
        self._tokens: list[int] = []

    def drop(self, row: int) -> None:
        """End a sample: from the next step on it is left out of the batch."""
        self._needed.discard(row)

    def __next__(self) -> tuple[GeneratedToken, ...]:
        if self._position == self._end or not self._needed:
            raise StopIteration
        # inference_mode ends before the tokens are returned: it must not leak into the caller's.
        with torch.inference_mode():
            if len(self._needed) < len(self.rows):
                self._leave_out()
            if self._tokens:
                tokens_B = torch.tensor(self._tokens, device=self._device)
                self._output_BH, self._state = self._model.advance(tokens_B, self._state)
            found = self._sampler.sample(self._head(self._output_BH).cpu(), self._position)
        self._position += 1
        self._tokens = [token for token, _ in found]
        return tuple([GeneratedToken(*one) for one in found])

    def _leave_out(self) -> None:
        places = [place for place, row in enumerate(self.rows) if row in self._needed]
        places_B = torch.tensor(places, device=self._device)
        self.rows = tuple(self.rows[place] for place in places)
        self._output_BH = self._output_BH.index_select(0, places_B)
        self._state = _each(self._state, lambda part: part.index_select(0, places_B))
        self._tokens = [self._tokens[place] for place in places if self._tokens]
        self._sampler.keep(places)


def _each(state: State, change: Callable[[Tensor], Tensor]) -> State:
    return tuple(tuple(change(part).contiguous() for part in layer) for layer in state)


def lay_out_weights(model: RecurrentLanguageModel) -> None:
    """On a CPU, copy the weights in the layouts that sampling is fast with, for a model whose
    weights no longer change."""
    output: nn.Linear = model.output
    if output.weight.device.type != "cpu" or isinstance(output, LaidOutHead):
        return
    model.output = LaidOutHead(output)
    for layer in model.cells:
        layer.pack()


def _head_for(model: RecurrentLanguageModel, steps: int, count: int) -> Callable[[Tensor], Tensor]:
    output: nn.Linear = model.output
    if isinstance(output, LaidOutHead):
        return output.logits
    if output.weight.device.type == "cpu" and steps * count >= WORTH_A_LAYOUT:
        return LaidOutHead(output, single=count == 1, batch=count > 1).logits
    return output


class LaidOutHead(nn.Linear):
    """A head on a CPU whose weight is stored by columns for one row and packed for more.

    A vector times a matrix by columns runs at memory speed everywhere; by rows it is 3 to 7 times
    slower on AMD. Without a packed weight several rows are by columns, too.
    """

    def __init__(self, plain: nn.Linear, *, single: bool = True, batch: bool = True) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = plain.in_features, plain.out_features
        weight_VH, bias_V = plain.weight.detach(), plain.bias.detach()
        # Columns that are never sampled make rows of logits aligned.
        more = -len(bias_V) % ROW
        padded_PH = F.pad(weight_VH, (0, 0, 0, more))
        self._bias_P = F.pad(bias_V, (0, more), value=-math.inf)
        self._packed = pack(padded_PH) if batch else None
        self._by_columns_HP: Tensor | None = None
        if single or self._packed is None:
            self._by_columns_HP = padded_PH.t().contiguous()
            weight_VH = self._by_columns_HP[:, : self.out_features].t()
        self.weight = nn.Parameter(weight_VH, requires_grad=False)
        self.bias = nn.Parameter(bias_V, requires_grad=False)

    def logits(self, hidden_BH: Tensor) -> Tensor:
        """logits_BP: those of the vocabulary, then minus infinity up to a multiple of `ROW`."""
        by_columns_HP = self._by_columns_HP
        if by_columns_HP is not None and len(hidden_BH) == 1:
            return torch.addmv(self._bias_P, by_columns_HP.t(), hidden_BH[0])[None]
        if self._packed is not None:
            return self._packed(hidden_BH, self._bias_P)
        return torch.addmm(self._bias_P, hidden_BH, cast(Tensor, by_columns_HP))
