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
"""From this many tokens on, storing the head by columns pays off (10 ms against 1 to 2 ms a token, V 32 k on AMD EPYC)."""


@dataclass(frozen=True, slots=True)
class GeneratedToken:
    """One generated token."""

    token: int
    logprob: float
    """ln p of the token under the model at temperature 1, before any penalty or filter."""


def generate(
    model: RecurrentLanguageModel,
    prompt_ids: Sequence[int],
    *,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    repetition_penalty: float = 1.0,
    greedy: bool = False,
    seed: int = 0,
    excluded: tuple[int, ...] = (),
) -> Iterator[GeneratedToken]:
    """Continue a prompt. Each token costs the same however long the text is: only the state is carried.

    The settings apply in this order, as in transformers' `generate`:

    * `repetition_penalty` (1: off) divides the positive logits of tokens in the prompt and the text so
      far, and multiplies the negative ones; with `greedy`, too.
    * `excluded` tokens are never sampled (transformers' `suppress_tokens`).
    * `temperature` divides the logits; 0 takes the most likely token, as `greedy` does.
    * `top_k` keeps the k most likely tokens (0: off), with ties for the last.
    * `top_p` keeps the smallest set of these that holds this share of their probability (1: off).
    * `min_p` keeps tokens with at least this share of the top token's probability (0: off).

    The same seed gives the same tokens; the global generators are untouched.

    Raises:
        InputError: an empty prompt, or an id outside the vocabulary.
    """
    outside = [token for token in prompt_ids if not 0 <= token < model.vocab_size]
    if outside:
        raise InputError(f"token {outside[0]} is outside the vocabulary of {model.vocab_size:,}")
    if not len(prompt_ids):
        raise InputError("the prompt has no tokens, the model needs at least one to start from", hint="type at least one word")
    settings = SamplingRules(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        greedy=greedy,
        seed=seed,
        excluded=excluded,
    )
    return _tokens(model, list(prompt_ids), max_new_tokens, sampler_for(model.output.weight.device, settings, prompt_ids))


def lay_out_head(model: RecurrentLanguageModel) -> None:
    """On a CPU, store the head by columns, for a model that only generates; a tied head gets its own copy.

    A vector times a matrix by columns runs at memory speed everywhere; by rows it is 3 to 7 times slower
    on AMD.
    """
    if model.output.weight.device.type == "cpu":
        model.output.weight = nn.Parameter(_by_columns(model.output.weight.detach()), requires_grad=False)


def _by_columns(weight_VH: Tensor) -> Tensor:
    return weight_VH.t().contiguous().t()


def _tokens(model: RecurrentLanguageModel, prompt_ids: list[int], count: int, sampler: TokenSampler) -> Iterator[GeneratedToken]:
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
def _next(model: RecurrentLanguageModel, head: _Head, token: int, state: State, sampler: TokenSampler) -> tuple[int, float, State]:
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
