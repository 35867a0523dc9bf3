"""Text generation, token by token, from a carried state and a generator of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rnnlm_tui.engine.drawing import Draws, Sampler, sampler_for
from rnnlm_tui.engine.model import RecurrentLanguageModel, State
from rnnlm_tui.errors import InputError

WORTH_A_LAYOUT = 32
"""From so many tokens on, laying out the head costs less than it saves (10 ms against 1 to 2 a token, V 32 k on AMD EPYC)."""


@dataclass(frozen=True, slots=True)
class Drawn:
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
) -> Iterator[Drawn]:
    """Continue a prompt; each token costs the same, however long the text is, since only the state is carried.

    The settings act in this order, as transformers' `generate` has them:

    * `repetition_penalty` (1: off) divides the positive logits of tokens in the prompt and the text so far, and
      multiplies the negative ones; with `greedy` too.
    * `excluded` tokens are never drawn (transformers' `suppress_tokens`).
    * `temperature` divides the logits; 0 takes the likeliest token, as `greedy` does.
    * `top_k` keeps the k likeliest (0: off), and what is as likely as the last of them.
    * `top_p` keeps the fewest of these that hold this part of their probability (1: off).
    * `min_p` keeps what has at least this part of the likeliest one's probability (0: off).

    The same seed gives the same tokens; the global generators are not touched.

    Raises:
        InputError: an empty prompt, or an id outside the vocabulary.
    """
    outside = [token for token in prompt_ids if not 0 <= token < model.vocab_size]
    if outside:
        raise InputError(f"token {outside[0]} is outside the vocabulary of {model.vocab_size:,}")
    if not len(prompt_ids):
        raise InputError("the prompt has no tokens, the model needs at least one to start from", hint="type a word")
    settings = Draws(
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
    """On a CPU, store the head by columns, for a model that only generates: a tied head becomes a matrix of its own, with the same numbers.

    One row times a matrix by columns runs at the speed of memory everywhere; by rows it is 3 to 7 times slower on AMD.
    """
    if model.output.weight.device.type == "cpu":
        model.output.weight = nn.Parameter(_by_columns(model.output.weight.detach()), requires_grad=False)


def _by_columns(weight_VH: Tensor) -> Tensor:
    return weight_VH.t().contiguous().t()


def _tokens(model: RecurrentLanguageModel, prompt_ids: list[int], count: int, sampler: Sampler) -> Iterator[Drawn]:
    head = _Head(model, count)
    state = _warmed(model, prompt_ids[:-1])
    token = prompt_ids[-1]
    for _ in range(count):
        token, logprob, state = _next(model, head, token, state, sampler)
        yield Drawn(token, logprob)


@torch.inference_mode()
def _warmed(model: RecurrentLanguageModel, token_ids: list[int]) -> State:
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
def _next(model: RecurrentLanguageModel, head: _Head, token: int, state: State, sampler: Sampler) -> tuple[int, float, State]:
    # inference_mode ends before the token is handed out: it must not reach into the code of whoever iterates.
    hidden_1H, state = model.advance(torch.tensor([token], device=head.device), state)
    return *sampler.draw(head.logits(hidden_1H)), state


class _Head:
    """The vocabulary head for one row at a time. On a CPU the logits go into one buffer: they last until the next call."""

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
        """logits_V of the one row."""
        if self._logits_V is None:
            return F.linear(hidden_1H, self._weight_VH, self._bias_V)[0]
        return torch.addmv(self._bias_V, self._weight_VH, hidden_1H[0], out=self._logits_V)
