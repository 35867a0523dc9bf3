"""Generate text token by token, carrying the recurrent state.

Sample a token from logits: temperature, top-k, top-p, min-p, repetition penalty, exclusions.

Each setting means what it means in transformers, and they apply in the same order.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rnnlm_tui.engine.model import RecurrentLanguageModel, State
from rnnlm_tui.errors import InputError

ROW = 128
"""Weights per row; rows are summed before one row is searched."""
GROUPS = 1024
"""Groups of the vocabulary whose maxima select the candidates for top-k."""


@dataclass(frozen=True, slots=True)
class SamplingRules:
    """How tokens are sampled. The rules apply in this order, as in transformers' `generate`."""

    repetition_penalty: float = 1.0
    """Divides the positive logits of tokens in the prompt and the text so far, and multiplies the
    negative ones; with `greedy`, too. 1: off."""
    excluded: tuple[int, ...] = ()
    """Tokens that are never sampled (transformers' `suppress_tokens`)."""
    temperature: float = 1.0
    """Divides the logits; 0 takes the most likely token, as `greedy` does."""
    top_k: int = 0
    """Keeps the k most likely tokens, with ties for the last; 0: off."""
    top_p: float = 1.0
    """Keeps the smallest set of these that holds this share of their probability; 1: off."""
    min_p: float = 0.0
    """Keeps tokens with at least this share of the top token's probability; 0: off."""
    typical_p: float = 1.0
    penalty_window: int = 0
    greedy: bool = False
    seed: int = 0
    """The same seed gives the same tokens."""

    @property
    def is_greedy(self) -> bool:
        """The most likely token is always taken: `greedy`, or a temperature of 0."""
        return self.greedy or self.temperature == 0


class TokenSampler(Protocol):
    """Samples one token after the other and remembers them for the repetition penalty."""

    def sample(self, logits_V: Tensor) -> tuple[int, float]:
        """A token and its ln p at temperature 1, before penalty and filters; may overwrite the
        logits."""
        ...


def sampler_for(
    device: torch.device, settings: SamplingRules, prompt_ids: Iterable[int] = ()
) -> TokenSampler:
    """The fast sampler for the device, with its own generator; `prompt_ids` count for the
    repetition penalty."""
    return (
        InverseCdfSampler(settings, prompt_ids)
        if device.type == "cpu"
        else ExponentialRaceSampler(device, settings, prompt_ids)
    )


class InverseCdfSampler:
    """For CPUs: few passes over the vocabulary, sums in double precision, no sort.

    Top-p without sorting: propose a token from the whole vocabulary and accept it if the more
    likely ones hold less than `top_p`. Otherwise neither it nor any less likely token is allowed,
    and another one is proposed.
    """

    def __init__(self, settings: SamplingRules, prompt_ids: Iterable[int] = ()) -> None:
        self._settings = settings
        self._processor = _LogitsProcessor(torch.device("cpu"), settings, prompt_ids)
        self._generator = torch.Generator("cpu").manual_seed(settings.seed)

    @torch.inference_mode()
    def sample(self, logits_V: Tensor) -> tuple[int, float]:
        """A token and its ln p at temperature 1."""
        plain_V = torch.softmax(logits_V, 0)
        # Of exp(logits), as softmax computes it.
        log_total = float(logits_V.amax()) - math.log(_finite(float(plain_V.amax())))
        scores_V = self._processor.apply(logits_V)
        if self._settings.is_greedy:
            token = int(scores_V.argmax())
        elif self._settings == SamplingRules(seed=self._settings.seed):
            token = self._place(plain_V)
        else:
            weights, ids = self._weighed(scores_V)
            place = self._place(weights)
            token = place if ids is None else int(ids[place])
        self._processor.add(token)
        return token, float(logits_V[token]) - log_total

    def _weighed(self, scores_V: Tensor) -> tuple[Tensor, Tensor | None]:
        """Probabilities after temperature and top-k, and their tokens in vocabulary order; None:
        all tokens."""
        ids = (
            _likeliest(scores_V, self._settings.top_k)
            if 0 < self._settings.top_k < scores_V.numel()
            else None
        )
        return torch.softmax(
            (scores_V if ids is None else scores_V[ids]) / self._settings.temperature, 0
        ), ids

    def _above_min_p(self, weights: Tensor) -> Tensor:
        """The weights, with those below min-p set to zero."""
        if not self._settings.min_p:
            return weights
        return F.threshold(
            weights, _just_below(float(self._settings.min_p * weights.amax()), weights.dtype), 0.0
        )

    def _place(self, weights: Tensor) -> int:
        """An index that top-p and min-p allow, with probability proportional to its weight."""
        choices = self._above_min_p(weights)
        while True:
            place = _place_at(
                choices, float(torch.rand((), dtype=torch.float64, generator=self._generator))
            )
            if self._settings.top_p == 1 or _is_in_nucleus(weights, place, self._settings.top_p):
                return place
            weight = float(weights[place])
            choices = F.threshold(choices, _just_below(weight, weights.dtype), 0.0)
            F.threshold(choices[: place + 1], weight, 0.0, inplace=True)


class ExponentialRaceSampler:
    """For GPUs: the only wait for the device is the transfer of the sampled token."""

    def __init__(
        self, device: torch.device, settings: SamplingRules, prompt_ids: Iterable[int] = ()
    ) -> None:
        self._settings = settings
        # Apple GPUs have no float64.
        self._wide = torch.float32 if device.type == "mps" else torch.float64
        self._processor = _LogitsProcessor(device, settings, prompt_ids)
        self._generator = torch.Generator(device).manual_seed(settings.seed)

    @torch.inference_mode()
    def sample(self, logits_V: Tensor) -> tuple[int, float]:
        """A token and its ln p at temperature 1."""
        scores_V = self._processor.apply(logits_V)
        place = (
            scores_V.argmax()
            if self._settings.is_greedy
            else self._raced(self._kept(scores_V.to(self._wide)))
        )
        logprob = logits_V.log_softmax(0).index_select(0, place.view(1))
        token, log_p = torch.cat((place.view(1).to(self._wide), logprob.to(self._wide))).tolist()
        self._processor.add(int(token))
        return int(token), _finite(log_p)

    def _kept(self, scores_V: Tensor) -> Tensor:
        """Logits divided by the temperature, minus infinity for excluded tokens."""
        settings = self._settings
        scores_V = scores_V / settings.temperature
        if 0 < settings.top_k < scores_V.numel():
            scores_V = scores_V.masked_fill(
                scores_V < scores_V.topk(settings.top_k).values[-1], -math.inf
            )
        if settings.top_p < 1:
            ordered_V, places_V = scores_V.sort(stable=True)
            is_out_V = ordered_V.softmax(0).cumsum(0) <= 1 - settings.top_p
            is_out_V[-1] = False
            scores_V = scores_V.masked_fill(
                torch.empty_like(is_out_V).scatter_(0, places_V, is_out_V), -math.inf
            )
        if settings.min_p:
            weights_V = scores_V.softmax(0)
            scores_V = scores_V.masked_fill(
                weights_V < settings.min_p * weights_V.amax(), -math.inf
            )
        return scores_V

    def _raced(self, scores_V: Tensor) -> Tensor:
        # Of independent exponential times with rates w, time i is first with probability w_i /
        # sum(w).
        times_V = torch.empty_like(scores_V).exponential_(generator=self._generator)
        return (scores_V.softmax(0) / times_V).argmax()


class _LogitsProcessor:
    """Makes earlier tokens less likely and excluded tokens impossible.

    A penalty c > 1 divides positive logits and multiplies negative ones (Keskar et al. 2019, CTRL).
    """

    def __init__(
        self, device: torch.device, settings: SamplingRules, token_ids: Iterable[int]
    ) -> None:
        self._factor = settings.repetition_penalty
        self._excluded = torch.tensor(settings.excluded, dtype=torch.int64, device=device)
        self._seen: set[int] = set()
        self._ids = torch.empty(64, dtype=torch.int64, device=device)
        for token in token_ids:
            self.add(token)

    def apply(self, logits_V: Tensor) -> Tensor:
        """New logits with the penalty, and minus infinity for excluded tokens."""
        if self._factor != 1:
            ids = self._ids[: len(self._seen)]
            found = logits_V.index_select(0, ids)
            logits_V = logits_V.index_copy(
                0, ids, torch.where(found < 0, found * self._factor, found / self._factor)
            )
        return (
            logits_V.index_fill(0, self._excluded, -math.inf) if len(self._excluded) else logits_V
        )

    def add(self, token: int) -> None:
        """Add a token of the text so far."""
        if self._factor == 1 or token in self._seen:
            return
        if len(self._seen) == len(self._ids):
            self._ids = torch.cat((self._ids, torch.empty_like(self._ids)))
        self._ids[len(self._seen)] = token
        self._seen.add(token)


def _place_at(weights: Tensor, part: float) -> int:
    """The first index at which the cumulative weight exceeds `part` (0 to below 1) of the sum; its
    weight is never zero.

    Rows are summed first, then one row is searched: a cumulative sum over a whole vocabulary can't
    be parallelized.
    """
    start, bound = 0, None
    if weights.numel() > 4 * ROW:
        whole = weights.numel() - weights.numel() % ROW
        rows = weights[:whole].view(-1, ROW).sum(1, dtype=torch.float64)
        reached = torch.cat(
            (rows, weights[whole:].sum(0, keepdim=True, dtype=torch.float64))
        ).cumsum(0)
        bound = _part_of(float(reached[-1]), part)
        row = int(torch.searchsorted(reached, bound, right=True))
        bound -= float(reached[row - 1]) if row else 0.0
        start, weights = ROW * row, weights[ROW * row : ROW * (row + 1)]
    within = weights.cumsum(0, dtype=torch.float64)
    held = float(within[-1])
    bound = _part_of(held, part) if bound is None else min(bound, _part_of(held, 1.0))
    return start + int(torch.searchsorted(within, bound, right=True))


def _part_of(total: float, part: float) -> float:
    """Below the total even after rounding, so that a search with right=True finds a nonzero
    weight."""
    return min(part * total, _just_below(total, torch.float64))


def _likeliest(scores_V: Tensor, top_k: int) -> Tensor:
    """The k most likely tokens, with ties for the last, in vocabulary order."""
    values, ids = _top(scores_V, top_k + 1)
    last, next_one = values[-2:].tolist()
    return (scores_V >= last).nonzero().squeeze(1) if last == next_one else ids[:-1].sort().values


def _top(scores_V: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """`scores_V.topk(count)`, in a third of the time for few out of many: only `count` groups can
    hold them."""
    rows = scores_V.numel() // GROUPS
    if rows < 8 or count > GROUPS // 4:
        values, ids = scores_V.topk(count)
        return values, ids
    whole = rows * GROUPS
    table = scores_V[:whole].view(rows, GROUPS)
    groups = table.amax(0).topk(count).indices
    values, places = torch.cat((table.index_select(1, groups).flatten(), scores_V[whole:])).topk(
        count
    )
    ids = torch.cat(
        (
            (torch.arange(0, whole, GROUPS)[:, None] + groups).flatten(),
            torch.arange(whole, scores_V.numel()),
        )
    )
    return values, ids[places]


def _is_in_nucleus(weights: Tensor, place: int, top_p: float) -> bool:
    """Whether the weights ranked before this one sum to less than `top_p`: higher ones, and equal
    ones with a higher index."""
    weight = float(weights[place])
    if _held_above(weights, _just_below(weight, weights.dtype)) - weight < top_p:
        return True
    equals = int((weights[place + 1 :] == weight).sum())
    return _held_above(weights, weight) + equals * weight < top_p


def _held_above(weights: Tensor, bound: float) -> float:
    return float(F.threshold(weights, bound, 0.0).sum())


def _just_below(number: float, dtype: torch.dtype) -> float:
    """The next smaller number of this type, after rounding."""
    return number * (1 - torch.finfo(dtype).eps / 2)


def _finite(number: float) -> float:
    if not math.isfinite(number):
        raise InputError(
            "this model predicts NaN: its training had diverged",
            hint="choose an earlier checkpoint",
        )
    return number


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
