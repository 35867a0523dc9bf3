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

from rnnlm_tui.engine.random_numbers import RandomNumbers
from rnnlm_tui.errors import InputError
from rnnlm_tui.schema.config import SamplingConfig

ROW = 128
"""Weights per block; blocks are summed before one block is searched."""
GROUPS = 1024
"""Groups of the vocabulary whose maxima select the candidates for top-k."""
SMALL = 1e-30
"""The logarithm of a float32 probability below this is inexact."""
SURELY = 1e-5
"""More than the rounding of a sum of probabilities."""
Array = NDArray[np.floating]
"""Weights of one text: NumPy takes less time for a call than torch."""
Places = NDArray[np.int64]
"""An index for each text."""


PLAIN = SamplingConfig(temperature=1.0, top_p=1.0)
"""Samples from the model's own distribution."""


class RejectionSampler:
    """Samples one token for each of B texts, again and again, with few passes over the vocabulary
    and no sort.

    Text i is sampled with the seed of the settings plus i. The logits are in main memory.

    Top-p without sorting: propose a token from the whole vocabulary and accept it if the more
    likely ones hold less than `top_p`. Otherwise neither it nor any less likely token is allowed,
    and another one is proposed. Typical-p: likewise, in the order of the distance to the entropy.
    """

    def __init__(
        self,
        settings: SamplingConfig,
        excluded: Sequence[int] = (),
        seen: Sequence[int] = (),
        count: int = 1,
    ) -> None:
        """
        Args:
            excluded: tokens that are never sampled (transformers' `suppress_tokens`).
            seen: the tokens that all texts begin with.
            count: B.
        """
        self._settings = settings
        self._is_plain = not excluded and settings == PLAIN.model_copy(
            update=settings.model_dump(include={"unknown", "stop", "max_new_tokens", "seed"})
        )
        self._penalty = _Penalty(settings, excluded, seen, count)
        self._numbers = RandomNumbers(settings.seed, count)

    def sample(self, logits_BV: Tensor, position: int) -> list[tuple[int, float]]:
        """For each text the token at this position, and its ln p at temperature 1, before penalty
        and filters. The logits have no gradient.

        Raises:
            InputError: a logit is NaN.
        """
        if self._is_plain:
            plain_BV = torch.softmax(logits_BV, 1)
            places_B = _places(plain_BV, self._numbers.at(position))
        else:
            scores_BV = self._penalty.apply(logits_BV)
            if self._settings.is_greedy:
                places_B = scores_BV.numpy().argmax(1)  # a tenth of the time of torch's
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
        top_k, ids_BK = self._settings.top_k, None
        if 0 < top_k < scores_BV.shape[1]:
            scores_BV, ids_BK = _only_top(scores_BV, top_k)
        weights_BN = torch.softmax(scores_BV / self._settings.temperature, 1)
        choices_BN = weights_BN
        if self._settings.min_p:
            bound_B1 = self._settings.min_p * weights_BN.amax(1, keepdim=True)
            choices_BN = weights_BN.masked_fill(weights_BN < bound_B1, 0.0)
        if self._settings.typical_p < 1:
            places_B = np.array(
                [
                    self._typical(weights_N, choices_BN[row], row, position)
                    for row, weights_N in enumerate(weights_BN)
                ]
            )
        else:
            places_B = _places(choices_BN, self._numbers.at(position))
            if self._settings.top_p < 1:
                self._redraw_outside_nucleus(weights_BN, choices_BN, places_B, position)
        return places_B if ids_BK is None else np.array(_at(ids_BK, places_B))

    def _redraw_outside_nucleus(
        self, weights_BN: Tensor, choices_BN: Tensor, places_B: Places, position: int
    ) -> None:
        """Replace the places that top-p doesn't allow."""
        unsure = 1 - self._settings.top_p + SURELY
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
        top_p, draw = self._settings.top_p, 0
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
        if self._settings.top_p < 1:
            ids_K = torch.from_numpy(_nucleus(weights_N.numpy(), self._settings.top_p))
            choices_N = choices_N[ids_K]
        choices_N = choices_N / choices_N.sum()
        distances_N = _distances(choices_N)
        closer_N, draw = choices_N, 0
        while True:
            place = _place(closer_N.numpy(), self._numbers.again(row, position, draw))
            closer_N = choices_N.masked_fill(distances_N >= distances_N[place], 0.0)
            if float(closer_N.sum()) < self._settings.typical_p:
                return place if ids_K is None else int(ids_K[place])
            draw += 1


class _Penalty:
    """Makes earlier tokens less likely and excluded tokens impossible.

    A penalty c > 1 divides positive logits and multiplies negative ones (Keskar et al. 2019, CTRL).
    """

    def __init__(
        self, settings: SamplingConfig, excluded: Sequence[int], seen: Sequence[int], count: int
    ) -> None:
        self._factor, self._window = settings.repetition_penalty, settings.penalty_window
        self._excluded = torch.tensor(excluded, dtype=torch.int64)
        self._ids_BN = torch.tensor(seen, dtype=torch.int64)[-self._window :].expand(count, -1)
        """The last tokens of each row: a window of 0 is all of them."""

    def apply(self, logits_BV: Tensor) -> Tensor:
        """New logits with the penalty, and minus infinity for excluded tokens."""
        if self._factor != 1 and self._ids_BN.shape[1]:
            found = logits_BV.gather(1, self._ids_BN)
            found = torch.where(found < 0, found * self._factor, found / self._factor)
            logits_BV = logits_BV.scatter(1, self._ids_BN, found)
        return (
            logits_BV.index_fill(1, self._excluded, -math.inf) if len(self._excluded) else logits_BV
        )

    def add(self, tokens: Sequence[int]) -> None:
        """Add one token to each text."""
        if self._factor != 1:
            ids_BN = torch.cat((self._ids_BN, torch.tensor(tokens)[:, None]), 1)
            self._ids_BN = ids_BN[:, -self._window :]

    def keep(self, rows: Sequence[int]) -> None:
        """Continue with these rows of the batch only."""
        self._ids_BN = self._ids_BN[list(rows)]


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
        """The filter that removed a token, such as `top-p`; `excluded`, `greedy`; empty if it can
        be sampled."""
        return next((name for name, removed_V in self.stages if bool(removed_V[token])), "")


@torch.no_grad()
def filtered(
    logits_V: Tensor, settings: SamplingConfig, excluded: Sequence[int], seen: Sequence[int]
) -> Filtered:
    """The exact distribution from which a token is sampled, in float64.

    Args:
        excluded: tokens that are never sampled.
        seen: all tokens before it, for the repetition penalty.
    """
    logits_V = logits_V.detach().to("cpu", torch.float64)
    scores_V = _Penalty(settings, excluded, seen, 1).apply(logits_V[None])[0]
    removed: list[tuple[str, Tensor]] = []
    before_V = logits_V
    for name, after_V in _stages(scores_V, settings):
        removed.append((name, (after_V == -math.inf) & (before_V != -math.inf)))
        before_V = after_V
    return Filtered(logits_V.softmax(0), before_V.softmax(0), tuple(removed))


def _stages(scores_V: Tensor, settings: SamplingConfig) -> Iterator[tuple[str, Tensor]]:
    """The logits after each filter that is on, with its name; minus infinity for removed tokens."""
    yield "excluded", scores_V
    if settings.is_greedy:
        yield "greedy", torch.full_like(scores_V, -math.inf).index_fill(0, scores_V.argmax(), 0.0)
        return
    scores_V = scores_V / settings.temperature
    yield "temperature", scores_V
    if 0 < settings.top_k < len(scores_V):
        last = scores_V.topk(settings.top_k).values[-1]
        scores_V = scores_V.masked_fill(scores_V < last, -math.inf)
        yield "top-k", scores_V
    if settings.top_p < 1:
        ordered_V, places_V = scores_V.sort(stable=True)
        is_out_V = ordered_V.softmax(0).cumsum(0) <= 1 - settings.top_p
        is_out_V[-1] = False
        scores_V = scores_V.index_fill(0, places_V[is_out_V], -math.inf)
        yield "top-p", scores_V
    if settings.min_p:
        weights_V = scores_V.softmax(0)
        bound = settings.min_p * weights_V.amax()
        scores_V = scores_V.masked_fill(weights_V < bound, -math.inf)
        yield "min-p", scores_V
    if settings.typical_p < 1:
        weights_V = scores_V.softmax(0)
        distances_V = _distances(weights_V)
        ordered_V, places_V = distances_V.sort(stable=True)
        reached_V = weights_V[places_V].cumsum(0)
        last = ordered_V[min(int((reached_V < settings.typical_p).sum()), len(scores_V) - 1)]
        yield "typical-p", scores_V.masked_fill(distances_V > last, -math.inf)


def _distances(probabilities_N: Tensor) -> Tensor:
    """How far each surprise is from their mean, the entropy; infinity for impossible tokens."""
    logprob_N = probabilities_N.log()
    entropy = -torch.where(probabilities_N > 0, logprob_N * probabilities_N, 0.0).sum()
    return (logprob_N + entropy).abs()


# places


def _at(numbers_BN: Tensor, places_B: Places) -> list[float]:
    """One number of each row."""
    found: list[float] = numbers_BN.numpy()[np.arange(len(places_B)), places_B].tolist()
    return found


def _places(weights_BN: Tensor, parts_B1: Tensor) -> Places:
    """For each row the first index at which the cumulative weight exceeds a part (0 to below 1) of
    its sum; its weight is never zero."""
    parts = parts_B1.flatten().tolist()
    return np.array(
        [_place(row_N, part) for row_N, part in zip(weights_BN.numpy(), parts, strict=True)]
    )


def _place(weights_N: Array, part: float) -> int:
    """`_places` of one row. Blocks are summed first, then one block is searched: a cumulative sum
    over a whole vocabulary can't be parallelized."""
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


def _nucleus(weights_N: Array, top_p: float) -> Places:
    """The indices that top-p keeps, in order."""
    # All that are smaller than this hold less than 1 - top-p.
    high_K = weights_N[weights_N >= (1 - top_p) / len(weights_N)]
    high_K[::-1].sort()
    kept = int((high_K.cumsum(dtype=np.float64) < top_p).sum()) + 1
    least = high_K[min(kept, len(high_K)) - 1]
    ids: Places = (weights_N >= least).nonzero()[0]
    equals = (weights_N[ids] == least).nonzero()[0]
    return np.delete(ids, equals[: max(0, len(ids) - kept)])


def _log_p(logits_V: Tensor, token: int) -> float:
    return _finite(float(logits_V.double().log_softmax(0)[token]))


def _finite(number: float) -> float:
    if not math.isfinite(number):
        raise InputError(
            "this model predicts NaN: its training had diverged",
            hint="choose an earlier checkpoint",
        )
    return number
