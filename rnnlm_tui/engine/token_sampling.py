"""Sample tokens from logits: repetition penalty, temperature, filters, random numbers by position.

Each setting means what it means in transformers, and they apply in the same order. The random
number for a token depends on the seed and the token's position alone, so a text that is continued
equals one that was sampled in one go.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from rnnlm_tui.engine.random_numbers import RandomNumbers
from rnnlm_tui.errors import InputError

ROW = 128
"""Weights per block; blocks are summed before one block is searched."""
GROUPS = 1024
"""Groups of the vocabulary whose maxima select the candidates for top-k."""
FEW = 16_384
"""Up to this many numbers `argmax` is as fast as a search by blocks."""
SMALL = 1e-30
"""The logarithm of a float32 probability below this is inexact."""
SURELY = 1e-5
"""More than the rounding of a sum of probabilities."""
LIKELY = 256
"""Tokens among which the nucleus is looked for first."""
Array = NDArray[np.floating]
"""Weights of one text: NumPy takes less time for a call than torch."""
Places = NDArray[np.int64]
"""An index for each text."""


@dataclass(frozen=True, slots=True)
class SamplingRules:
    """How tokens are sampled. The rules apply in this order, as in transformers' `generate`."""

    repetition_penalty: float = 1.0
    """Divides the positive logits of tokens in the prompt and the text so far, and multiplies the
    negative ones; with `greedy`, too. 1: off."""
    penalty_window: int = 0
    """Only this many last tokens count for the penalty; 0: all."""
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
    """Keeps the tokens whose surprise is nearest to the entropy of what is left, until they hold
    this share of it (Meister et al. 2023, "Locally Typical Sampling"); 1: off."""
    greedy: bool = False
    seed: int = 0
    """The same seed gives the same tokens."""

    @property
    def is_greedy(self) -> bool:
        """The most likely token is always taken: `greedy`, or a temperature of 0."""
        return self.greedy or self.temperature == 0

    @property
    def is_plain(self) -> bool:
        """Tokens are sampled from the model's own distribution."""
        return self == SamplingRules(seed=self.seed)


class RejectionSampler:
    """Samples one token for each of B texts, again and again, with few passes over the vocabulary
    and no sort.

    Text i is sampled with the seed of the rules plus i. The logits are in main memory.

    Top-p without sorting: propose a token from the whole vocabulary and accept it if the more
    likely ones hold less than `top_p`. Otherwise neither it nor any less likely token is allowed,
    and another one is proposed. Typical-p: likewise, in the order of the distance to the entropy.
    """

    def __init__(self, rules: SamplingRules, seen: Sequence[int] = (), count: int = 1) -> None:
        """
        Args:
            seen: the tokens that all texts begin with.
            count: B.
        """
        self._rules, self._is_plain = rules, rules.is_plain
        self._penalty = _Penalty(rules, seen, count)
        self._numbers = RandomNumbers(rules.seed, count)

    def sample(self, logits_BV: Tensor, position: int) -> list[tuple[int, float]]:
        """For each text the token at this position, and its ln p at temperature 1, before penalty
        and filters. The logits have no gradient.

        Raises:
            InputError: a logit is NaN.
        """
        if self._is_plain:
            plain_BV = torch.softmax(logits_BV, 1)
            places_B = _places_by_block(plain_BV, self._numbers.at(position))
        else:
            scores_BV = self._penalty.apply(logits_BV)
            if self._rules.is_greedy:
                places_B = _likeliest(scores_BV).numpy().ravel()
            else:
                places_B = self._places(scores_BV, position)
            # Last, in memory that the filters used: it is still in the cache.
            plain_BV = torch.softmax(logits_BV, 1)
        tokens = places_B.tolist()
        self._penalty.add(tokens)
        return [
            (token, math.log(p) if p > SMALL else _log_p(logits_BV[row], token))
            for row, (token, p) in enumerate(zip(tokens, _at(plain_BV, places_B), strict=True))
        ]

    def keep(self, rows: Sequence[int]) -> None:
        """Continue with these rows of the batch only."""
        self._penalty.keep(rows)
        self._numbers.keep(rows)

    def _places(self, scores_BV: Tensor, position: int) -> Places:
        """Tokens that all filters allow, with probability proportional to their weights."""
        top_k, ids_BK = self._rules.top_k, None
        if 0 < top_k < scores_BV.shape[1]:
            scores_BV, ids_BK = _only_top(scores_BV, top_k)
        weights_BN = torch.softmax(scores_BV / self._rules.temperature, 1)
        choices_BN = self._above_min_p(weights_BN)
        if self._rules.typical_p < 1:
            places_B = np.array(
                [
                    self._typical(weights_N, choices_BN[row], row, position)
                    for row, weights_N in enumerate(weights_BN)
                ]
            )
        else:
            places_B = _places_by_block(choices_BN, self._numbers.at(position))
            if self._rules.top_p < 1:
                self._redraw_outside_nucleus(weights_BN, choices_BN, places_B, position)
        return places_B if ids_BK is None else np.array(_at(ids_BK, places_B))

    def _above_min_p(self, weights_BN: Tensor) -> Tensor:
        """The weights, with those below min-p set to zero."""
        if not self._rules.min_p:
            return weights_BN
        bounds = (self._rules.min_p * weights_BN.amax(1)).tolist()
        return torch.stack(
            [
                torch.threshold(weights_N, _just_below(bound, weights_N.dtype), 0.0)
                for weights_N, bound in zip(weights_BN, bounds, strict=True)
            ]
        )

    def _redraw_outside_nucleus(
        self, weights_BN: Tensor, choices_BN: Tensor, places_B: Places, position: int
    ) -> None:
        """Replace the places that top-p doesn't allow."""
        unsure = 1 - self._rules.top_p + SURELY
        for row, weight in enumerate(_at(weights_BN, places_B)):
            if weight <= unsure:  # or else the others hold too little, or all weights are NaN
                weights_N, choices_N = weights_BN[row].numpy(), choices_BN[row].numpy()
                places_B[row] = self._redrawn(
                    weights_N, choices_N, int(places_B[row]), row, position
                )

    def _redrawn(
        self, weights_N: Array, choices_N: Array, place: int, row: int, position: int
    ) -> int:
        """The proposed place if top-p allows it, else another one that is ranked before it."""
        top_p, draw = self._rules.top_p, 0
        while True:
            weight = weights_N[place]
            is_before_N = weights_N >= weight
            if float(weights_N.dot(is_before_N) - weight) < top_p:
                return place
            is_before_N[: place + 1] = weights_N[: place + 1] > weight
            if float(weights_N.dot(is_before_N)) < top_p:
                return place
            draw += 1
            choices_N = choices_N * is_before_N
            place = _place(choices_N, self._numbers.again(row, position, draw))

    def _typical(self, weights_N: Tensor, choices_N: Tensor, row: int, position: int) -> int:
        """A place that top-p and typical-p allow."""
        ids_K = None
        _finite(float(weights_N[0]))
        if self._rules.top_p < 1:
            ids_K = _nucleus(weights_N, self._rules.top_p)
            choices_N = choices_N[ids_K]
        choices_N = choices_N / choices_N.sum()
        distances_N = _distances(choices_N)
        closer_N, draw = choices_N, 0
        while True:
            place = _place(closer_N.numpy(), self._numbers.again(row, position, draw))
            closer_N = choices_N.masked_fill(distances_N >= distances_N[place], 0.0)
            if float(closer_N.sum()) < self._rules.typical_p:
                return place if ids_K is None else int(ids_K[place])
            draw += 1


class _Penalty:
    """Makes earlier tokens less likely and excluded tokens impossible.

    A penalty c > 1 divides positive logits and multiplies negative ones (Keskar et al. 2019, CTRL).
    """

    def __init__(self, rules: SamplingRules, seen: Sequence[int], count: int) -> None:
        self._factor, self._window = rules.repetition_penalty, rules.penalty_window
        self._excluded = torch.tensor(rules.excluded, dtype=torch.int64)
        self._sets: list[set[int]] = [set() for _ in range(count)]
        """Without a window, the tokens of each row, once."""
        self._total = 0
        """Tokens so far."""
        self._ids_BN = torch.empty(count, 64, dtype=torch.int64)
        """With a window, the last tokens of each row in a ring. Otherwise the row's set, filled up
        with its first token."""
        if self._factor == 1 or not len(seen):
            return
        known = list(seen[-self._window :]) if self._window else list(dict.fromkeys(seen))
        self._total = len(known)
        self._sets = [set(known) for _ in range(count)]
        while self._ids_BN.shape[1] < len(known):
            self._grow()
        self._ids_BN[:] = known[0]
        self._ids_BN[:, : len(known)] = torch.tensor(known)

    def apply(self, logits_BV: Tensor) -> Tensor:
        """New logits with the penalty, and minus infinity for excluded tokens."""
        if self._factor != 1 and self._total:
            ids_BN = self._ids_BN[:, : self._width()]
            found = logits_BV.gather(1, ids_BN)
            found = torch.where(found < 0, found * self._factor, found / self._factor)
            logits_BV = logits_BV.scatter(1, ids_BN, found)
        return (
            logits_BV.index_fill(1, self._excluded, -math.inf) if len(self._excluded) else logits_BV
        )

    def add(self, tokens: Sequence[int]) -> None:
        """Add one token to each text."""
        if self._factor == 1:
            return
        if not self._total:
            self._ids_BN[:] = torch.tensor(tokens)[:, None]
        capacity = self._ids_BN.shape[1]
        if self._window:
            if self._total == capacity < self._window:
                self._grow()
            place = self._total % min(self._window, self._ids_BN.shape[1])
            self._ids_BN[:, place] = torch.tensor(tokens)
        else:
            if self._width() == capacity:
                self._grow()
            for row, token in enumerate(tokens):
                if token not in self._sets[row]:
                    self._ids_BN[row, len(self._sets[row])] = token
                    self._sets[row].add(token)
        self._total += 1

    def keep(self, rows: Sequence[int]) -> None:
        """Continue with these rows of the batch only."""
        self._sets = [self._sets[row] for row in rows]
        self._ids_BN = self._ids_BN[list(rows)]

    def _width(self) -> int:
        if self._window:
            return min(self._total, self._window)
        return max(len(tokens) for tokens in self._sets)

    def _grow(self) -> None:
        count, capacity = self._ids_BN.shape
        self._ids_BN = torch.cat((self._ids_BN, self._ids_BN[:, :1].expand(count, capacity)), 1)


# the exact distribution


@dataclass(frozen=True, slots=True, eq=False)
class Filtered:
    """The distribution of the next token, before and after penalty, temperature and filters."""

    before_V: Tensor
    """Probabilities of the model at temperature 1, float64."""
    after_V: Tensor
    """Probabilities with which the tokens are sampled, float64."""
    stages: tuple[tuple[str, Tensor], ...]
    """The name of each filter in order, and which tokens it removed."""

    def removed_by(self, token: int) -> str:
        """The filter that removed a token (`excluded`, `greedy`, `top-k`, `top-p`, `min-p`,
        `typical-p`); empty if it can be sampled."""
        return next((name for name, removed_V in self.stages if bool(removed_V[token])), "")


@torch.no_grad()
def filtered(logits_V: Tensor, rules: SamplingRules, seen: Sequence[int]) -> Filtered:
    """The exact distribution from which a token is sampled, in float64.

    Args:
        seen: all tokens before it, for the repetition penalty.
    """
    logits_1V = logits_V.detach().to("cpu", torch.float64)[None]
    scores_1V = _Penalty(rules, seen, 1).apply(logits_1V)
    stages: list[tuple[str, Tensor]] = []
    before_1V = logits_1V

    def add(name: str, after_1V: Tensor) -> None:
        stages.append((name, (after_1V[0] == -math.inf) & (before_1V[0] != -math.inf)))

    if rules.excluded:
        add("excluded", scores_1V)
    if rules.is_greedy:
        before_1V, top_11 = scores_1V, scores_1V.argmax(1, keepdim=True)
        scores_1V = torch.full_like(scores_1V, -math.inf).scatter_(1, top_11, 0.0)
        add("greedy", scores_1V)
    else:
        before_1V = scores_1V
        for name, after_1V in _stages(scores_1V, rules):
            add(name, after_1V)
            before_1V = scores_1V = after_1V
    return Filtered(logits_1V[0].softmax(0), scores_1V[0].softmax(0), tuple(stages))


def _stages(scores_BV: Tensor, rules: SamplingRules) -> Iterator[tuple[str, Tensor]]:
    """The logits after the temperature and after each filter that is on, with its name; minus
    infinity for removed tokens."""
    scores_BV = scores_BV / rules.temperature
    yield "temperature", scores_BV
    if 0 < rules.top_k < scores_BV.shape[1]:
        last_B1 = scores_BV.topk(rules.top_k).values[:, -1:]
        scores_BV = scores_BV.masked_fill(scores_BV < last_B1, -math.inf)
        yield "top-k", scores_BV
    if rules.top_p < 1:
        ordered_BV, places_BV = scores_BV.sort(stable=True)
        is_out_BV = ordered_BV.softmax(1).cumsum(1) <= 1 - rules.top_p
        is_out_BV[:, -1] = False
        scores_BV = _without(scores_BV, is_out_BV, places_BV)
        yield "top-p", scores_BV
    if rules.min_p:
        weights_BV = scores_BV.softmax(1)
        bound_B1 = rules.min_p * weights_BV.amax(1, keepdim=True)
        scores_BV = scores_BV.masked_fill(weights_BV < bound_B1, -math.inf)
        yield "min-p", scores_BV
    if rules.typical_p < 1:
        weights_BV = scores_BV.softmax(1)
        distances_BV, places_BV = _distances(weights_BV).sort(stable=True)
        reached_BV = weights_BV.gather(1, places_BV).cumsum(1)
        last_B1 = (reached_BV < rules.typical_p).sum(1, keepdim=True)
        last_B1 = last_B1.clamp_(max=scores_BV.shape[1] - 1)
        is_out_BV = distances_BV > distances_BV.gather(1, last_B1)
        scores_BV = _without(scores_BV, is_out_BV, places_BV)
        yield "typical-p", scores_BV


def _without(scores_BV: Tensor, is_out_BV: Tensor, places_BV: Tensor) -> Tensor:
    """Minus infinity at the places whose entry in `is_out_BV` is true."""
    removed_BV = torch.empty_like(is_out_BV).scatter_(1, places_BV, is_out_BV)
    return scores_BV.masked_fill(removed_BV, -math.inf)


def _distances(probabilities: Tensor) -> Tensor:
    """How far each surprise is from their mean, the entropy; infinity for impossible tokens."""
    logprob = probabilities.log()
    entropy = -torch.where(probabilities > 0, logprob * probabilities, 0.0).sum(-1, keepdim=True)
    return (logprob + entropy).abs()


# places


def _at(numbers_BN: Tensor, places_B: Places) -> list[float]:
    """One number of each row."""
    found: list[float] = numbers_BN.numpy()[np.arange(len(places_B)), places_B].tolist()
    return found


def _places_by_block(weights_BN: Tensor, parts_B1: Tensor) -> Places:
    """For each row the first index at which the cumulative weight exceeds a part (0 to below 1) of
    its sum; its weight is never zero.

    Blocks are summed first, then one block is searched: a cumulative sum over a whole vocabulary
    can't be parallelized.
    """
    count, size = weights_BN.shape
    if count == 1:
        return np.array([_place(weights_BN[0].numpy(), parts_B1.item())])
    if size % ROW:
        weights_BN = F.pad(weights_BN, (0, -size % ROW))
    blocks_NW = weights_BN.view(-1, ROW)
    sums_BR = blocks_NW.sum(1).numpy().reshape(count, -1)
    reached_BR = sums_BR.cumsum(1, dtype=np.float64)
    bound_B1 = parts_B1.numpy() * reached_BR[:, -1:]
    block_B = (reached_BR > bound_B1).argmax(1)  # NaN: the first
    index_B = block_B + np.arange(0, sums_BR.size, sums_BR.shape[1])
    bound_B = bound_B1[:, 0] - (reached_BR.take(index_B) - sums_BR.take(index_B))
    within_BW = blocks_NW.numpy().take(index_B, 0).cumsum(1, dtype=np.float64)
    bound_B = np.minimum(np.maximum(bound_B, 0.0), within_BW[:, -1] * (1 - 2**-53))
    places_B: Places = block_B * ROW + (within_BW > bound_B[:, None]).argmax(1)
    return places_B


def _place(weights_N: Array, part: float) -> int:
    """`_places_by_block` of one row."""
    if len(weights_N) <= 4 * ROW:
        return _search(weights_N, part)[0]
    sums_R = np.add.reduceat(weights_N, np.arange(0, len(weights_N), ROW))
    block, rest = _search(sums_R, part)
    first = ROW * block
    return first + _search(weights_N[first : first + ROW], rest)[0]


def _search(weights_N: Array, part: float) -> tuple[int, float]:
    """The place, and at which part of the weight there it was found."""
    reached_N = weights_N.cumsum(dtype=np.float64)
    bound = min(part, 1 - 2**-52) * reached_N[-1]
    place = min(int(reached_N.searchsorted(bound, "right")), len(reached_N) - 1)  # NaN has no place
    before = reached_N[place - 1] if place else 0.0
    return place, (bound - before) / ((reached_N[place] - before) or 1.0)


def _likeliest(scores_BV: Tensor) -> Tensor:
    """The index of the largest logit of each row, the first of equals, shape (B, 1).

    `argmax` takes ten times as long as `amax` for many numbers.
    """
    count, size = scores_BV.shape
    if count * size <= FEW:
        return scores_BV.argmax(1, keepdim=True)
    if size % ROW:
        scores_BV = F.pad(scores_BV, (0, -size % ROW), value=-math.inf)
    blocks_BRW = scores_BV.view(count, -1, ROW)
    block_B1 = blocks_BRW.amax(2).argmax(1, keepdim=True)
    place_B1 = _block_at(blocks_BRW, block_B1).argmax(1, keepdim=True)
    return block_B1.mul_(ROW).add_(place_B1)


def _block_at(blocks_BRW: Tensor, block_B1: Tensor) -> Tensor:
    """One block of each row, shape (B, W)."""
    index_B1W = block_B1[:, :, None].expand(-1, 1, blocks_BRW.shape[2])
    return blocks_BRW.gather(1, index_B1W)[:, 0]


def _only_top(scores_BV: Tensor, top_k: int) -> tuple[Tensor, Tensor | None]:
    """The logits of the k most likely tokens and their ids, in vocabulary order. With ties for the
    last in some row, all logits, minus infinity for the others, and None."""
    values, ids = _top(scores_BV, top_k + 1)
    if any(last == next_one for last, next_one in values[:, -2:].tolist()):
        return scores_BV.masked_fill(scores_BV < values[:, -2:-1], -math.inf), None
    ids_BK = ids[:, :-1].sort(1).values
    return scores_BV.gather(1, ids_BK), ids_BK


def _top(scores_BV: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """`scores_BV.topk(count)`, in a third of the time for few out of many: only `count` groups can
    hold them."""
    rows = scores_BV.shape[1] // GROUPS
    if rows < 8 or count > GROUPS // 4:
        values, ids = scores_BV.topk(count)
        return values, ids
    batch, size = scores_BV.shape
    whole = rows * GROUPS
    table_BRG = scores_BV[:, :whole].reshape(batch, rows, GROUPS)
    groups = table_BRG.amax(1).topk(count).indices
    ids = (torch.arange(0, whole, GROUPS)[None, :, None] + groups[:, None, :]).flatten(1)
    ids = torch.cat((ids, torch.arange(whole, size).expand(batch, -1)), 1)
    values, places = scores_BV.gather(1, ids).topk(count)
    return values, ids.gather(1, places)


# top-p


def _nucleus(weights_N: Tensor, top_p: float) -> Tensor:
    """The indices that top-p keeps, in order."""
    high_K = _top(weights_N[None], min(LIKELY, len(weights_N)))[0][0]
    reached_K = high_K.cumsum(0, dtype=torch.float64)
    if float(reached_K[-1]) >= top_p:
        least = float(high_K[int((reached_K < top_p).sum())])
    else:
        least = _least_in_nucleus(weights_N, float(high_K[-1]), top_p)
    ids = (weights_N >= least).nonzero()[:, 0]
    equals = (weights_N[ids] == least).nonzero()[:, 0]
    if len(equals) > 1 and least > 0:
        kept = max(1, math.ceil((top_p - _held_above(weights_N, least)) / least))
        out = equals[: max(0, len(equals) - kept)]
        ids = ids[torch.ones(len(ids), dtype=torch.bool).index_fill(0, out, value=False)]
    return ids


def _least_in_nucleus(weights_N: Tensor, high: float, top_p: float) -> float:
    """The smallest weight of which the higher ones hold less than `top_p`, by bisection."""
    low = 0.0
    while True:
        # Halve the exponent first.
        middle = (low + high) / 2 if high < 2 * low else math.sqrt(max(low, 1e-30) * high)
        middle = float(weights_N.new_tensor(middle))
        if not low < middle < high:
            return high
        if _held_above(weights_N, middle) < top_p:
            high = middle
        else:
            low = middle


def _held_above(weights_N: Tensor, bound: float) -> float:
    return float(torch.threshold(weights_N, bound, 0.0).sum())


def _just_below(number: float, dtype: torch.dtype) -> float:
    """The next smaller number of this type, after rounding."""
    return number * (1 - torch.finfo(dtype).eps / 2)


def _log_p(logits_V: Tensor, token: int) -> float:
    return _finite(float(logits_V.double().log_softmax(0)[token]))


def _finite(number: float) -> float:
    if not math.isfinite(number):
        raise InputError(
            "this model predicts NaN: its training had diverged",
            hint="choose an earlier checkpoint",
        )
    return number
