"""The continuous cache of Grave, Joulin and Usunier, "Improving Neural Language Models with a
Continuous Cache" (2017): words of the recent text become more likely again."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rnnlm_tui.schema.sampling import CacheSettings

_ROWS = 128
"""Targets that are compared with the whole cache at once."""


class ContinuousCache:
    """Remembers the last targets of a text, each with the input of the head that predicted it.

    p = (1 - lambda) p_model + lambda p_cache, where p_cache(w) is proportional to the sum of
    exp(theta h · h_i) over the remembered targets i that equal w, and h is the input of the head.
    The first target of all has the model's p, since nothing is remembered yet.
    """

    def __init__(self, settings: CacheSettings) -> None:
        self._settings = settings
        self._hidden_NH, self._targets_N = torch.empty(0), torch.empty(0, dtype=torch.int64)

    @torch.inference_mode()
    def losses(self, hidden_NH: Tensor, targets_N: Tensor, losses_N: Tensor) -> Tensor:
        """The losses with the cache, in nats, of targets that follow those remembered; then these
        are remembered too.

        Args:
            losses_N: the model's own.
        """
        found = []
        for start in range(0, len(targets_N), _ROWS):
            rows = slice(start, start + _ROWS)
            found.append(self._mixed(hidden_NH[rows], targets_N[rows], losses_N[rows]))
        return torch.cat(found)

    def _mixed(self, hidden_RH: Tensor, targets_R: Tensor, losses_R: Tensor) -> Tensor:
        size, weight = self._settings.size, self._settings.weight
        before = len(self._targets_N)
        if before:
            keys_CH = torch.cat([self._hidden_NH, hidden_RH])
            values_C = torch.cat([self._targets_N, targets_R])
        else:
            keys_CH, values_C = hidden_RH, targets_R
        places_C = torch.arange(len(values_C), device=hidden_RH.device)
        ages_RC = places_C[before:, None] - places_C
        known_RC = (ages_RC > 0) & (ages_RC <= size)
        scores_RC = (self._settings.theta * hidden_RH @ keys_CH.t()).masked_fill(
            ~known_RC, -math.inf
        )
        equal_RC = scores_RC.masked_fill(values_C != targets_R[:, None], -math.inf)
        cached_R = equal_RC.logsumexp(1) - scores_RC.logsumexp(1)  # ln p_cache
        mixed_R = -torch.logaddexp(math.log1p(-weight) - losses_R, math.log(weight) + cached_R)
        self._hidden_NH, self._targets_N = keys_CH[-size:], values_C[-size:]
        return torch.where(known_RC.any(1), mixed_R, losses_R)
