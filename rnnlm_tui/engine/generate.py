"""Text generation, token by token, from a carried state and a generator of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rnnlm_tui.engine.model import RecurrentLanguageModel, State
from rnnlm_tui.errors import InputError


@dataclass(frozen=True, slots=True)
class Drawn:
    """One generated token."""

    token: int
    logprob: float
    """ln p of the token under the model at temperature 1, before top-k and top-p."""


def generate(
    model: RecurrentLanguageModel,
    prompt_ids: Sequence[int],
    *,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    greedy: bool = False,
    seed: int = 0,
) -> Iterator[Drawn]:
    """Continue a prompt; each token costs the same, however long the text is, since only the state is carried.

    Temperature first, then the `top_k` likeliest (0: off), then the fewest of these that hold `top_p` of their
    probability (1: off). The same seed gives the same tokens; the global generators are not touched.

    Raises:
        InputError: an empty prompt, or an id outside the vocabulary.
    """
    outside = [token for token in prompt_ids if not 0 <= token < model.vocab_size]
    if outside:
        raise InputError(f"token {outside[0]} is outside the vocabulary of {model.vocab_size:,}")
    if not len(prompt_ids):
        raise InputError("the prompt has no tokens, the model needs at least one to start from", hint="type a word")
    return _tokens(model, list(prompt_ids), max_new_tokens, Sampler(model.output.weight.device, temperature, top_k, top_p, greedy, seed))


def _tokens(model: RecurrentLanguageModel, prompt_ids: list[int], count: int, sampler: Sampler) -> Iterator[Drawn]:
    state = _warmed(model, prompt_ids[:-1])
    token = prompt_ids[-1]
    for _ in range(count):
        logits_V, state = _next_logits(model, token, state)
        token, logprob = sampler.draw(logits_V)
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
def _next_logits(model: RecurrentLanguageModel, token: int, state: State) -> tuple[Tensor, State]:
    # inference_mode ends before the token is handed out: it must not reach into the code of whoever iterates.
    logits_1V, state = model.step(torch.tensor([token], device=model.output.weight.device), state)
    return logits_1V[0], state


class Sampler:
    """Draws tokens from logits by a seeded generator of its own: by inverse CDF in double on a CPU, by an exponential race on a GPU."""

    def __init__(self, device: torch.device, temperature: float, top_k: int, top_p: float, greedy: bool, seed: int) -> None:
        self.temperature, self.top_k, self.top_p, self.greedy = temperature, top_k, top_p, greedy
        self._generator = torch.Generator(device).manual_seed(seed)
        self._draw_place = _by_inverse_cdf if device.type == "cpu" else _by_race

    @torch.inference_mode()
    def draw(self, logits_V: Tensor) -> tuple[int, float]:
        """A token and ln p of it at temperature 1."""
        if self.greedy:
            token = int(logits_V.argmax())
        else:
            weights, ids = self._candidates(logits_V)
            place = self._draw_place(weights, self._generator)
            token = place if ids is None else int(ids[place])
        return token, float(logits_V[token] - logits_V.logsumexp(0))

    def _candidates(self, logits_V: Tensor) -> tuple[Tensor, Tensor | None]:
        """Weights that need not sum to one, and the tokens they belong to; None: all tokens in order."""
        ids: Tensor | None = None
        if 0 < self.top_k < logits_V.numel():
            logits_V, ids = logits_V.topk(self.top_k)
        wide = logits_V.double() if logits_V.device.type != "mps" else logits_V
        weights = torch.softmax(wide / self.temperature, 0)
        if self.top_p < 1:
            kept = _nucleus(weights, self.top_p)
            weights, ids = weights[kept], kept if ids is None else ids[kept]
        return weights, ids


FIRST_TRY = 256
"""Likeliest tokens among which the nucleus is looked for first; each further look takes 16 times as many."""


def _nucleus(weights: Tensor, top_p: float) -> Tensor:
    """Places of the fewest weights (summing to one) that hold at least `top_p`, likeliest first; at least one."""
    count = min(FIRST_TRY, weights.numel())
    values, places = weights.topk(count)
    reached = values.cumsum(0)
    while count < weights.numel() and float(reached[-1]) < top_p:
        count = min(16 * count, weights.numel())
        values, places = weights.topk(count)
        reached = values.cumsum(0)
    return places[: int(torch.searchsorted(reached, top_p)) + 1]


def _by_inverse_cdf(weights: Tensor, generator: torch.Generator) -> int:
    reached = weights.cumsum(0)
    drawn = torch.rand((), dtype=weights.dtype, generator=generator) * reached[-1]
    # right=True: a place whose weight is zero is never drawn.
    return min(int(torch.searchsorted(reached, drawn, right=True)), weights.numel() - 1)


def _by_race(weights: Tensor, generator: torch.Generator) -> int:
    # Of independent exponential times with rates w, the first is i with probability w_i / sum(w): no scan, no second wait.
    times = torch.empty_like(weights).exponential_(generator=generator)
    return int((weights / times).argmax())
