"""Sample tokens from logits: repetition penalty, temperature, filters, random numbers by position.

Each setting means what it means in transformers, and they apply in the same order. The random
number for a token depends on the seed and the token's position alone, so a text that is continued
equals one that was sampled in one go.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from rnnlm_tui.errors import InputError

ROW = 128
"""Weights per block; blocks are summed before one block is searched."""
GROUPS = 1024
"""Groups of the vocabulary whose maxima select the candidates for top-k."""
SMALL = 1e-30
"""The logarithm of a float32 probability below this is inexact."""
NUMBERS_AT_ONCE = 256
"""A GPU gets this many random numbers in one transfer, those of the next positions."""
MASK, GOLDEN = 2**64 - 1, 0x9E3779B97F4A7C15


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


# random numbers


def uniform(seed: int, position: int, draw: int = 0) -> float:
    """A random number from 0 to below 1 for one attempt to sample the token at a position."""
    return _uniform(_key(seed), position, draw)


def _key(seed: int) -> int:
    return _mix(seed + GOLDEN)


def _uniform(key: int, position: int, draw: int) -> float:
    return (_mix(_mix(key + position * GOLDEN) + draw * GOLDEN) >> 11) * 2.0**-53


def _mix(number: int) -> int:
    """The finalizer of SplitMix64 (Steele, Lea and Flood 2014)."""
    number &= MASK
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & MASK
    return number ^ (number >> 31)


# samplers


class TokenSampler(Protocol):
    """Samples one token for each of B texts, again and again, and remembers them for the penalty.

    Text i is sampled with the seed of the rules plus i.
    """

    def sample(self, logits_BV: Tensor, position: int) -> list[tuple[int, float]]:
        """For each text the token at this position, and its ln p at temperature 1, before penalty
        and filters.

        Raises:
            InputError: a logit is NaN.
        """
        ...

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows of the batch only."""
        ...


def sampler_for(
    device: torch.device, rules: SamplingRules, seen: Sequence[int] = (), count: int = 1
) -> TokenSampler:
    """The fast sampler for the device, for B = `count` texts that begin with the tokens `seen`."""
    return (
        RejectionSampler(rules, seen, count)
        if device.type == "cpu"
        else SortingSampler(device, rules, seen, count)
    )


class RejectionSampler:
    """For CPUs: few passes over the vocabulary and no sort.

    Top-p without sorting: propose a token from the whole vocabulary and accept it if the more
    likely ones hold less than `top_p`. Otherwise neither it nor any less likely token is allowed,
    and another one is proposed. Typical-p: likewise, in the order of the distance to the entropy.
    """

    def __init__(self, rules: SamplingRules, seen: Sequence[int] = (), count: int = 1) -> None:
        self._rules, self._is_plain = rules, rules.is_plain
        self._penalty = _Penalty(torch.device("cpu"), rules, seen, count)
        self._keys = _keys(rules, count)

    @torch.inference_mode()
    def sample(self, logits_BV: Tensor, position: int) -> list[tuple[int, float]]:
        """For each text a token and its ln p at temperature 1."""
        plain_BV = torch.softmax(logits_BV, 1)
        if self._is_plain:
            places_B1 = _places_at(plain_BV, self._parts(position))
        else:
            scores_BV = self._penalty.apply(logits_BV)
            places_B1 = (
                _likeliest(scores_BV)
                if self._rules.is_greedy
                else self._places(scores_BV, position)
            )
        tokens: list[int] = places_B1[:, 0].tolist()
        probabilities: list[float] = plain_BV.gather(1, places_B1)[:, 0].tolist()
        self._penalty.add(tokens)
        return [
            (token, math.log(p) if p > SMALL else _log_p(logits_V, token))
            for token, p, logits_V in zip(tokens, probabilities, logits_BV, strict=True)
        ]

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows of the batch only."""
        self._penalty.keep(rows)
        self._keys = [self._keys[row] for row in rows]

    def _parts(self, position: int) -> Tensor:
        parts = [(_uniform(key, position, 0),) for key in self._keys]
        return torch.tensor(parts, dtype=torch.float64)

    def _places(self, scores_BV: Tensor, position: int) -> Tensor:
        """Tokens that all filters allow, with probability proportional to their weights."""
        top_k, ids_BK = self._rules.top_k, None
        if 0 < top_k < scores_BV.shape[1]:
            scores_BV, ids_BK = _only_top(scores_BV, top_k)
        weights_BN = torch.softmax(scores_BV / self._rules.temperature, 1)
        choices_BN = self._above_min_p(weights_BN)
        if self._rules.typical_p < 1:
            places_B1 = self._typical(weights_BN, choices_BN, position)
        else:
            places_B1 = _places_at(choices_BN, self._parts(position))
            if self._rules.top_p < 1:
                self._redraw_outside_nucleus(weights_BN, choices_BN, places_B1, position)
        return places_B1 if ids_BK is None else ids_BK.gather(1, places_B1)

    def _above_min_p(self, weights_BN: Tensor) -> Tensor:
        """The weights, with those below min-p set to zero."""
        if not self._rules.min_p:
            return weights_BN
        bounds = (self._rules.min_p * weights_BN.amax(1)).tolist()
        return torch.stack(
            [
                F.threshold(weights_N, _just_below(bound, weights_N.dtype), 0.0)
                for weights_N, bound in zip(weights_BN, bounds, strict=True)
            ]
        )

    def _redraw_outside_nucleus(
        self, weights_BN: Tensor, choices_BN: Tensor, places_B1: Tensor, position: int
    ) -> None:
        """Replace the places that top-p doesn't allow."""
        proposed: list[float] = weights_BN.gather(1, places_B1)[:, 0].tolist()
        for row, (weights_N, weight) in enumerate(zip(weights_BN, proposed, strict=True)):
            top_p, least = self._rules.top_p, _just_below(weight, weights_N.dtype)
            if not _held_above(weights_N, least) - weight >= top_p:
                continue  # also if the weights are NaN
            place, draw, choices_N = int(places_B1[row]), 0, choices_BN[row]
            while not _is_in_nucleus(weights_N, place, top_p):
                draw += 1
                choices_N = _ranked_before(choices_N, weights_N, place)
                place = _place_at(choices_N, _uniform(self._keys[row], position, draw))
            places_B1[row] = place

    def _typical(self, weights_BN: Tensor, choices_BN: Tensor, position: int) -> Tensor:
        """Places that top-p and typical-p allow."""
        places = []
        for key, weights_N, choices_N in zip(self._keys, weights_BN, choices_BN, strict=True):
            if self._rules.top_p < 1:
                choices_N = _nucleus(weights_N, choices_N, self._rules.top_p)
            choices_N = choices_N / choices_N.sum()
            distances_N = _distances(choices_N)
            place, draw = _place_at(choices_N, _uniform(key, position, 0)), 0
            closer_N = choices_N.masked_fill(distances_N >= distances_N[place], 0.0)
            while float(closer_N.sum()) >= self._rules.typical_p:
                draw += 1
                place = _place_at(closer_N, _uniform(key, position, draw))
                closer_N = choices_N.masked_fill(distances_N >= distances_N[place], 0.0)
            places.append((place,))
        return torch.tensor(places)


class SortingSampler:
    """For GPUs: the only wait for the device is the transfer of the sampled tokens."""

    def __init__(
        self,
        device: torch.device,
        rules: SamplingRules,
        seen: Sequence[int] = (),
        count: int = 1,
    ) -> None:
        self._rules, self._device = rules, device
        # Apple GPUs have no float64.
        self._wide = torch.float32 if device.type == "mps" else torch.float64
        self._penalty = _Penalty(device, rules, seen, count)
        self._keys = _keys(rules, count)
        self._table_PB1, self._first = torch.empty(0), 0

    @torch.inference_mode()
    def sample(self, logits_BV: Tensor, position: int) -> list[tuple[int, float]]:
        """For each text a token and its ln p at temperature 1."""
        scores_BV = self._penalty.apply(logits_BV)
        if self._rules.is_greedy:
            places_B1 = scores_BV.argmax(1, keepdim=True)
        else:
            *_, (_, kept_BV) = _stages(scores_BV.to(self._wide), self._rules)
            weights_BV = kept_BV.softmax(1)
            places_B1 = _places_at(weights_BV, self._parts(position))
            # A parallel sum may decrease by rounding, and the search end on a removed token.
            places_B1 = torch.where(
                weights_BV.gather(1, places_B1) > 0, places_B1, weights_BV.argmax(1, keepdim=True)
            )
        logprob_B1 = logits_BV.log_softmax(1).gather(1, places_B1)
        rows = torch.cat((places_B1.to(self._wide), logprob_B1.to(self._wide)), 1).tolist()
        self._penalty.add([int(token) for token, _ in rows])
        return [(int(token), _finite(log_p)) for token, log_p in rows]

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows of the batch only."""
        self._penalty.keep(rows)
        self._keys = [self._keys[row] for row in rows]
        self._table_PB1 = torch.empty(0)

    def _parts(self, position: int) -> Tensor:
        if not self._first <= position < self._first + len(self._table_PB1):
            self._first, more = position, max(1, NUMBERS_AT_ONCE // len(self._keys))
            positions = range(position, position + more)
            table = [[(_uniform(key, one, 0),) for key in self._keys] for one in positions]
            self._table_PB1 = torch.tensor(table, dtype=self._wide, device=self._device)
        return self._table_PB1[position - self._first]


def _keys(rules: SamplingRules, count: int) -> list[int]:
    return [_key((rules.seed + row) % 2**63) for row in range(count)]


class _Penalty:
    """Makes earlier tokens less likely and excluded tokens impossible.

    A penalty c > 1 divides positive logits and multiplies negative ones (Keskar et al. 2019, CTRL).
    """

    def __init__(
        self, device: torch.device, rules: SamplingRules, seen: Sequence[int], count: int
    ) -> None:
        self._factor, self._window = rules.repetition_penalty, rules.penalty_window
        self._excluded = torch.tensor(rules.excluded, dtype=torch.int64, device=device)
        self._sets: list[set[int]] = [set() for _ in range(count)]
        """Without a window, the tokens of each row, once."""
        self._total = 0
        """Tokens so far."""
        self._ids_BN = torch.empty(count, 64, dtype=torch.int64, device=device)
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
        self._ids_BN[:, : len(known)] = torch.tensor(known, device=device)

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
            self._ids_BN[:] = self._column(tokens)
        capacity = self._ids_BN.shape[1]
        if self._window:
            if self._total == capacity < self._window:
                self._grow()
            place = self._total % min(self._window, self._ids_BN.shape[1])
            self._ids_BN[:, place : place + 1] = self._column(tokens)
        else:
            if self._width() == capacity:
                self._grow()
            for row, token in enumerate(tokens):
                if token not in self._sets[row]:
                    self._ids_BN[row, len(self._sets[row])] = token
                    self._sets[row].add(token)
        self._total += 1

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows of the batch only."""
        self._sets = [self._sets[row] for row in rows]
        self._ids_BN = self._ids_BN[list(rows)]

    def _width(self) -> int:
        if self._window:
            return min(self._total, self._window)
        return max(len(tokens) for tokens in self._sets)

    def _column(self, tokens: Sequence[int]) -> Tensor:
        return torch.tensor(tokens, device=self._ids_BN.device)[:, None]

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
    scores_1V = _Penalty(logits_1V.device, rules, seen, 1).apply(logits_1V)
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


def _places_at(weights_BN: Tensor, parts_B1: Tensor) -> Tensor:
    """In each row the first index at which the cumulative weight exceeds a part (0 to below 1) of
    its sum, shape (B, 1).

    Blocks are summed first, then one block is searched: a cumulative sum over a whole vocabulary
    can't be parallelized. Where sums don't decrease by rounding, the weight found is never zero.
    """
    count, size = weights_BN.shape
    wide = parts_B1.dtype
    if size <= 4 * ROW:
        reached_BN = weights_BN.cumsum(1, dtype=wide)
        total_B1 = reached_BN[:, -1:]
        bound_B1 = torch.minimum(parts_B1 * total_B1, _below(total_B1))
        return torch.searchsorted(reached_BN, bound_B1, right=True).clamp_(max=size - 1)
    if size % ROW:
        weights_BN = F.pad(weights_BN, (0, -size % ROW))
    blocks_BR = weights_BN.view(count, -1, ROW).sum(2)
    reached_BR = blocks_BR.cumsum(1, dtype=wide)
    total_B1 = reached_BR[:, -1:]
    bound_B1 = torch.minimum(parts_B1 * total_B1, _below(total_B1))
    # NaN has no place.
    block_B1 = torch.searchsorted(reached_BR, bound_B1, right=True).clamp_(
        max=blocks_BR.shape[1] - 1
    )
    bound_B1 -= reached_BR.gather(1, block_B1) - blocks_BR.gather(1, block_B1)
    block_BW = weights_BN.view(count, -1, ROW).gather(
        1, block_B1[:, :, None].expand(count, 1, ROW)
    )[:, 0]
    within_BW = block_BW.cumsum(1, dtype=wide)
    bound_B1 = torch.minimum(bound_B1, _below(within_BW[:, -1:]))
    place_B1 = torch.searchsorted(within_BW, bound_B1, right=True)
    return block_B1.mul_(ROW).add_(place_B1).clamp_(max=size - 1)


def _place_at(weights_N: Tensor, part: float) -> int:
    return int(_places_at(weights_N[None], torch.tensor([[part]], dtype=torch.float64)))


def _below(total: Tensor) -> Tensor:
    """Below the total even after rounding, so that a search with right=True finds a nonzero
    weight."""
    return total * (1 - torch.finfo(total.dtype).eps / 2)


def _likeliest(scores_BV: Tensor) -> Tensor:
    """The index of the largest logit of each row, the first of equals, shape (B, 1).

    `argmax` takes ten times as long as `amax`.
    """
    count, size = scores_BV.shape
    if size % ROW:
        scores_BV = F.pad(scores_BV, (0, -size % ROW), value=-math.inf)
    blocks_BRW = scores_BV.view(count, -1, ROW)
    block_B1 = blocks_BRW.amax(2).argmax(1, keepdim=True)
    block_BW = blocks_BRW.gather(1, block_B1[:, :, None].expand(count, 1, ROW))[:, 0]
    return block_B1.mul_(ROW).add_(block_BW.argmax(1, keepdim=True))


def _only_top(scores_BV: Tensor, top_k: int) -> tuple[Tensor, Tensor | None]:
    """The logits of the k most likely tokens and their ids, in vocabulary order. With ties for the
    last in some row, all logits, minus infinity for the others, and None."""
    values, ids = _top(scores_BV, top_k + 1)
    last_B1 = values[:, -2:-1]
    if bool((last_B1 == values[:, -1:]).any()):
        return scores_BV.masked_fill(scores_BV < last_B1, -math.inf), None
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


def _is_in_nucleus(weights_N: Tensor, place: int, top_p: float) -> bool:
    """Whether the weights ranked before this one sum to less than `top_p`: higher ones, and equal
    ones with a higher index."""
    weight = float(weights_N[place])
    if _held_above(weights_N, _just_below(weight, weights_N.dtype)) - weight < top_p:
        return True
    equals = int((weights_N[place + 1 :] == weight).sum())
    return _held_above(weights_N, weight) + equals * weight < top_p


def _ranked_before(choices_N: Tensor, weights_N: Tensor, place: int) -> Tensor:
    """The choices ranked before this place, the others zero."""
    weight = float(weights_N[place])
    choices_N = F.threshold(choices_N, _just_below(weight, choices_N.dtype), 0.0)
    F.threshold(choices_N[: place + 1], weight, 0.0, inplace=True)
    return choices_N


def _nucleus(weights_N: Tensor, choices_N: Tensor, top_p: float) -> Tensor:
    """The choices whose weight is in the nucleus, the others zero: the smallest weight in it is
    found by bisection."""
    low, high = 0.0, float(weights_N.amax())
    while True:
        middle = float(weights_N.new_tensor((low + high) / 2))
        if not low < middle < high:
            break
        if _held_above(weights_N, middle) < top_p:
            high = middle
        else:
            low = middle
    # No weight is between the two.
    equals = (weights_N == high).nonzero()[:, 0]
    if len(equals) > 1:
        room = top_p - _held_above(weights_N, high)
        out = len(equals) - min(len(equals), max(1, math.ceil(room / high)))
        choices_N = choices_N.index_fill(0, equals[:out], 0.0)
    return choices_N.masked_fill(weights_N < high, 0.0)


def _held_above(weights_N: Tensor, bound: float) -> float:
    return float(F.threshold(weights_N, bound, 0.0).sum())


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
