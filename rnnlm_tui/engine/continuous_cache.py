"""The continuous cache of Grave, Joulin and Usunier, "Improving Neural Language Models with a
Continuous Cache" (2017): words of the recent text become more likely again."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_ROWS = 128
"""Targets that are compared with the whole cache at once."""


class ContinuousCache:
    """Remembers the last targets of a text, each with the input of the head that predicted it.

    p = (1 - lambda) p_model + lambda p_cache, where p_cache(w) is proportional to the sum of
    exp(theta h · h_i) over the remembered targets i that equal w, and h is the input of the head.
    The first target of all has the model's p, since nothing is remembered yet.

    Args:
        size: targets that are remembered.
        share: lambda.
    """

    def __init__(self, size: int, theta: float, share: float) -> None:
        self._size, self._theta = size, theta
        self._log_shares = torch.tensor([1 - share, share]).log().tolist()
        self._known: tuple[Tensor, Tensor] | None = None
        """hidden_NH and targets_N."""

    @torch.inference_mode()
    def losses(self, hidden_NH: Tensor, targets_N: Tensor, losses_N: Tensor) -> Tensor:
        """The losses with the cache, in nats, of targets that follow those remembered; then these
        are remembered too.

        Args:
            losses_N: the model's own.
        """
        parts = [torch.split(one, _ROWS) for one in (hidden_NH, targets_N, losses_N)]
        return torch.cat([self._mixed(*part) for part in zip(*parts, strict=True)])

    def _mixed(self, hidden_RH: Tensor, targets_R: Tensor, losses_R: Tensor) -> Tensor:
        hidden_NH, targets_N = self._known or (hidden_RH[:0], targets_R[:0])
        keys_CH, values_C = torch.cat([hidden_NH, hidden_RH]), torch.cat([targets_N, targets_R])
        self._known = keys_CH[-self._size :], values_C[-self._size :]
        places_C = torch.arange(len(values_C), device=values_C.device)
        ages_RC = places_C[len(targets_N) :, None] - places_C
        known_RC = (ages_RC > 0) & (ages_RC <= self._size)
        scores_RC = torch.where(known_RC, self._theta * hidden_RH @ keys_CH.t(), -math.inf)
        equal_RC = torch.where(values_C == targets_R[:, None], scores_RC, -math.inf)
        cached_R = equal_RC.logsumexp(1) - scores_RC.logsumexp(1)  # ln p_cache
        of_model, of_cache = self._log_shares
        mixed_R = -torch.logaddexp(of_model - losses_R, of_cache + cached_R)
        return torch.where(known_RC.any(1), mixed_R, losses_R)
