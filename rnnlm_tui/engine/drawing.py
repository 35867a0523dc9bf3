"""Draws a token from logits: repetition penalty, excluded tokens, temperature, top-k, top-p and min-p with the meanings and in the order of transformers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from rnnlm_tui.errors import InputError

ROW = 128
"""Weights whose sum is looked at first when one is drawn."""
GROUPS = 1024
"""Groups of the vocabulary whose greatest scores are looked at first for a top-k."""


@dataclass(frozen=True, slots=True)
class Draws:
    """How tokens are drawn; `engine.generate.generate` says what each setting does."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    greedy: bool = False
    seed: int = 0
    excluded: tuple[int, ...] = ()
    """Tokens that are never sampled."""

    @property
    def is_greedy(self) -> bool:
        """Whether sampling always takes the likeliest token: `greedy`, or a temperature of 0."""
        return self.greedy or self.temperature == 0


class Sampler(Protocol):
    """Draws one token after the other and remembers them for the penalty."""

    def draw(self, logits_V: Tensor) -> tuple[int, float]:
        """A token and ln p of it at temperature 1 before penalty and filters; the logits may be overwritten."""
        ...


def sampler_for(device: torch.device, settings: Draws, prompt_ids: Iterable[int] = ()) -> Sampler:
    """The sampler that is fast on the device, with a generator of its own; `prompt_ids` count for the repetition penalty."""
    return InverseCdf(settings, prompt_ids) if device.type == "cpu" else ExponentialRace(device, settings, prompt_ids)


class InverseCdf:
    """For a CPU: few passes over the vocabulary, sums in double, no sort.

    Top-p needs no sorted vocabulary: a token is proposed out of all, and stands if those before it hold less than
    `top_p`. If not, neither it nor any token behind it can be drawn, and another one is proposed.
    """

    def __init__(self, settings: Draws, prompt_ids: Iterable[int] = ()) -> None:
        self._settings = settings
        self._processor = _LogitsProcessor(torch.device("cpu"), settings, prompt_ids)
        self._generator = torch.Generator("cpu").manual_seed(settings.seed)

    @torch.inference_mode()
    def draw(self, logits_V: Tensor) -> tuple[int, float]:
        """A token and ln p of it at temperature 1."""
        plain_V = torch.softmax(logits_V, 0)
        log_total = float(logits_V.amax()) - math.log(_finite(float(plain_V.amax())))  # of exp(logits), as softmax has it
        scores_V = self._processor.apply(logits_V)
        if self._settings.is_greedy:
            token = int(scores_V.argmax())
        elif self._settings == Draws(seed=self._settings.seed):
            token = self._place(plain_V)
        else:
            weights, ids = self._weighed(scores_V)
            place = self._place(weights)
            token = place if ids is None else int(ids[place])
        self._processor.add(token)
        return token, float(logits_V[token]) - log_total

    def _weighed(self, scores_V: Tensor) -> tuple[Tensor, Tensor | None]:
        """Probabilities after temperature and top-k, and the tokens they belong to in the order of the vocabulary; None: all tokens."""
        ids = _likeliest(scores_V, self._settings.top_k) if 0 < self._settings.top_k < scores_V.numel() else None
        return torch.softmax((scores_V if ids is None else scores_V[ids]) / self._settings.temperature, 0), ids

    def _above_min_p(self, weights: Tensor) -> Tensor:
        """The weights, zero for those below min-p."""
        if not self._settings.min_p:
            return weights
        return F.threshold(weights, _just_below(float(self._settings.min_p * weights.amax()), weights.dtype), 0.0)

    def _place(self, weights: Tensor) -> int:
        """A place that top-p and min-p let through, each as often as its weight."""
        choices = self._above_min_p(weights)
        while True:
            place = _place_at(choices, float(torch.rand((), dtype=torch.float64, generator=self._generator)))
            if self._settings.top_p == 1 or _is_in_nucleus(weights, place, self._settings.top_p):
                return place
            weight = float(weights[place])
            choices = F.threshold(choices, _just_below(weight, weights.dtype), 0.0)
            F.threshold(choices[: place + 1], weight, 0.0, inplace=True)


class ExponentialRace:
    """For a GPU: nothing waits for the device but the one transfer of the drawn token."""

    def __init__(self, device: torch.device, settings: Draws, prompt_ids: Iterable[int] = ()) -> None:
        self._settings = settings
        self._wide = torch.float32 if device.type == "mps" else torch.float64  # Apple's devices have no double
        self._processor = _LogitsProcessor(device, settings, prompt_ids)
        self._generator = torch.Generator(device).manual_seed(settings.seed)

    @torch.inference_mode()
    def draw(self, logits_V: Tensor) -> tuple[int, float]:
        """A token and ln p of it at temperature 1."""
        scores_V = self._processor.apply(logits_V)
        place = scores_V.argmax() if self._settings.is_greedy else self._raced(self._kept(scores_V.to(self._wide)))
        logprob = logits_V.log_softmax(0).index_select(0, place.view(1))
        token, told = torch.cat((place.view(1).to(self._wide), logprob.to(self._wide))).tolist()
        self._processor.add(int(token))
        return int(token), _finite(told)

    def _kept(self, scores_V: Tensor) -> Tensor:
        """Logits over the temperature, minus infinity for tokens that are left out."""
        settings = self._settings
        scores_V = scores_V / settings.temperature
        if 0 < settings.top_k < scores_V.numel():
            scores_V = scores_V.masked_fill(scores_V < scores_V.topk(settings.top_k).values[-1], -math.inf)
        if settings.top_p < 1:
            ordered_V, places_V = scores_V.sort(stable=True)
            is_out_V = ordered_V.softmax(0).cumsum(0) <= 1 - settings.top_p
            is_out_V[-1] = False
            scores_V = scores_V.masked_fill(torch.empty_like(is_out_V).scatter_(0, places_V, is_out_V), -math.inf)
        if settings.min_p:
            weights_V = scores_V.softmax(0)
            scores_V = scores_V.masked_fill(weights_V < settings.min_p * weights_V.amax(), -math.inf)
        return scores_V

    def _raced(self, scores_V: Tensor) -> Tensor:
        # Of independent exponential times with rates w, the first is i with probability w_i / sum(w): no scan, no second wait.
        times_V = torch.empty_like(scores_V).exponential_(generator=self._generator)
        return (scores_V.softmax(0) / times_V).argmax()


class _LogitsProcessor:
    """Makes tokens that were there before less likely, and excluded tokens impossible.

    A penalty c > 1 divides positive logits and multiplies negative ones (Keskar et al. 2019, CTRL).
    """

    def __init__(self, device: torch.device, settings: Draws, token_ids: Iterable[int]) -> None:
        self._factor = settings.repetition_penalty
        self._excluded = torch.tensor(settings.excluded, dtype=torch.int64, device=device)
        self._seen: set[int] = set()
        self._ids = torch.empty(64, dtype=torch.int64, device=device)
        for token in token_ids:
            self.add(token)

    def apply(self, logits_V: Tensor) -> Tensor:
        """The logits with the penalty, minus infinity for excluded tokens; the given ones stay as they are."""
        if self._factor != 1:
            ids = self._ids[: len(self._seen)]
            found = logits_V.index_select(0, ids)
            logits_V = logits_V.index_copy(0, ids, torch.where(found < 0, found * self._factor, found / self._factor))
        return logits_V.index_fill(0, self._excluded, -math.inf) if len(self._excluded) else logits_V

    def add(self, token: int) -> None:
        """One more token that was there."""
        if self._factor == 1 or token in self._seen:
            return
        if len(self._seen) == len(self._ids):
            self._ids = torch.cat((self._ids, torch.empty_like(self._ids)))
        self._ids[len(self._seen)] = token
        self._seen.add(token)


def _place_at(weights: Tensor, part: float) -> int:
    """The place up to which the weights hold more than this part (0 to below 1) of their sum; its weight is never zero.

    Rows are summed first, then one row is looked into: adding up a whole vocabulary is a chain that no processor shortens.
    """
    start, bound = 0, None
    if weights.numel() > 4 * ROW:
        whole = weights.numel() - weights.numel() % ROW
        rows = weights[:whole].view(-1, ROW).sum(1, dtype=torch.float64)
        reached = torch.cat((rows, weights[whole:].sum(0, keepdim=True, dtype=torch.float64))).cumsum(0)
        bound = _part_of(float(reached[-1]), part)
        row = int(torch.searchsorted(reached, bound, right=True))
        bound -= float(reached[row - 1]) if row else 0.0
        start, weights = ROW * row, weights[ROW * row : ROW * (row + 1)]
    within = weights.cumsum(0, dtype=torch.float64)
    held = float(within[-1])
    bound = _part_of(held, part) if bound is None else min(bound, _part_of(held, 1.0))
    return start + int(torch.searchsorted(within, bound, right=True))


def _part_of(total: float, part: float) -> float:
    """Below the total even after rounding: what is found behind it, right=True, has a weight."""
    return min(part * total, _just_below(total, torch.float64))


def _likeliest(scores_V: Tensor, top_k: int) -> Tensor:
    """The k likeliest tokens and those as likely as the last of them, in the order of the vocabulary."""
    values, ids = _top(scores_V, top_k + 1)
    last, next_one = values[-2:].tolist()
    return (scores_V >= last).nonzero().squeeze(1) if last == next_one else ids[:-1].sort().values


def _top(scores_V: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """`scores_V.topk(count)`, for a few of a large vocabulary in a third of its time: only `count` groups can hold them."""
    rows = scores_V.numel() // GROUPS
    if rows < 8 or count > GROUPS // 4:
        values, ids = scores_V.topk(count)
        return values, ids
    whole = rows * GROUPS
    table = scores_V[:whole].view(rows, GROUPS)
    groups = table.amax(0).topk(count).indices
    values, places = torch.cat((table.index_select(1, groups).flatten(), scores_V[whole:])).topk(count)
    ids = torch.cat(((torch.arange(0, whole, GROUPS)[:, None] + groups).flatten(), torch.arange(whole, scores_V.numel())))
    return values, ids[places]


def _is_in_nucleus(weights: Tensor, place: int, top_p: float) -> bool:
    """Whether the weights before this one, of a sum of one, hold less than `top_p`: the higher ones, of equal ones those with a higher place."""
    weight = float(weights[place])
    if _held_above(weights, _just_below(weight, weights.dtype)) - weight < top_p:
        return True
    equals = int((weights[place + 1 :] == weight).sum())
    return _held_above(weights, weight) + equals * weight < top_p


def _held_above(weights: Tensor, bound: float) -> float:
    return float(F.threshold(weights, bound, 0.0).sum())


def _just_below(number: float, dtype: torch.dtype) -> float:
    """What rounds to the next smaller number of this type."""
    return number * (1 - torch.finfo(dtype).eps / 2)


def _finite(number: float) -> float:
    if not math.isfinite(number):
        raise InputError("this model's predictions are not numbers: its training had diverged", hint="take an earlier checkpoint")
    return number
