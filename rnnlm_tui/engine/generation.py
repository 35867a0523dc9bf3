"""Generate text token by token, carrying the recurrent state."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rnnlm_tui.engine.model import RecurrentLanguageModel, State
from rnnlm_tui.engine.token_sampling import SamplingRules, TokenSampler, sampler_for
from rnnlm_tui.errors import InputError

WORTH_A_LAYOUT = 32
"""From this many tokens on, storing the head by columns pays off (10 ms against 1 to 2 ms a token,
V 32 k on AMD EPYC)."""


@dataclass(frozen=True, slots=True)
class GeneratedToken:
    """One generated token."""

    token: int
    logprob: float
    """ln p of the token under the model at temperature 1, before any penalty or filter."""


def generate(
    model: RecurrentLanguageModel,
    prompt_ids: Sequence[int],
    rules: SamplingRules | None = None,
    *,
    max_new_tokens: int,
) -> Iterator[GeneratedToken]:
    """Continue a prompt.

    Each token costs the same however long the text is, since only the state is carried. The global
    random generators are untouched.

    Raises:
        InputError: an empty prompt, or an id outside the vocabulary.
    """
    outside = [token for token in prompt_ids if not 0 <= token < model.vocab_size]
    if outside:
        raise InputError(f"token {outside[0]} is outside the vocabulary of {model.vocab_size:,}")
    if not len(prompt_ids):
        raise InputError(
            "the prompt has no tokens, the model needs at least one to start from",
            hint="type at least one word",
        )
    sampler = sampler_for(model.output.weight.device, rules or SamplingRules(), prompt_ids)
    return _tokens(model, list(prompt_ids), max_new_tokens, sampler)


def lay_out_head(model: RecurrentLanguageModel) -> None:
    """On a CPU, store the head by columns, for a model that only generates; a tied head gets its
    own copy.

    A vector times a matrix by columns runs at memory speed everywhere; by rows it is 3 to 7 times
    slower on AMD.
    """
    if model.output.weight.device.type == "cpu":
        model.output.weight = nn.Parameter(
            _by_columns(model.output.weight.detach()), requires_grad=False
        )


def _by_columns(weight_VH: Tensor) -> Tensor:
    return weight_VH.t().contiguous().t()


def _tokens(
    model: RecurrentLanguageModel, prompt_ids: list[int], count: int, sampler: TokenSampler
) -> Iterator[GeneratedToken]:
    head = _Head(model, count)
    state = _state_after(model, prompt_ids[:-1])
    token = prompt_ids[-1]
    for _ in range(count):
        token, logprob, state = _next(model, head, token, state, sampler)
        yield GeneratedToken(token, logprob)


@torch.inference_mode()
def _state_after(model: RecurrentLanguageModel, token_ids: list[int]) -> State:
    state = model.initial_state(1)
    if not token_ids:
        return state
    was_training = model.training
    model.eval()
    try:
        return model.hidden(torch.tensor([token_ids], device=model.output.weight.device), state)[1]
    finally:
        model.train(was_training)


@torch.inference_mode()
def _next(
    model: RecurrentLanguageModel, head: _Head, token: int, state: State, sampler: TokenSampler
) -> tuple[int, float, State]:
    # inference_mode ends before the token is yielded: it must not leak into the caller's code.
    hidden_1H, state = model.advance(torch.tensor([token], device=head.device), state)
    return *sampler.sample(head.logits(hidden_1H)), state


class _Head:
    """The vocabulary head for one position. On a CPU all calls share one buffer for the logits."""

    def __init__(self, model: RecurrentLanguageModel, count: int) -> None:
        weight_VH = model.output.weight.detach()
        self.device = weight_VH.device
        self._bias_V = model.output.bias.detach()
        self._logits_V: Tensor | None = None
        if self.device.type == "cpu":
            self._logits_V = torch.empty_like(self._bias_V)
            if count >= WORTH_A_LAYOUT and not weight_VH.t().is_contiguous():
                weight_VH = _by_columns(weight_VH)
        self._weight_VH = weight_VH

    def logits(self, hidden_1H: Tensor) -> Tensor:
        """logits_V of the position."""
        if self._logits_V is None:
            return F.linear(hidden_1H, self._weight_VH, self._bias_V)[0]
        return torch.addmv(self._bias_V, self._weight_VH, hidden_1H[0], out=self._logits_V)
