"""Matrix products of the vocabulary head, with the fastest library in this build of torch."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

ONEDNN_TYPES = (torch.float32, torch.bfloat16)


def product(inputs_NK: Tensor, weight_MK: Tensor, bias_M: Tensor | None = None) -> Tensor:
    """inputs weight^T + bias, shape (N, M), all of one dtype; not differentiable.

    On a CPU with oneDNN, if available: for the head's shapes its float32 products took two thirds of the
    time of the BLAS behind `F.linear` on an AMD CPU, and with bf16 it adds the bias before rounding (both
    measured).
    """
    if inputs_NK.device.type == "cpu" and inputs_NK.dtype in ONEDNN_TYPES and has_onednn():
        return cast(Tensor, torch.ops.mkldnn._linear_pointwise(inputs_NK, weight_MK, bias_M, "none", [], ""))
    return F.linear(inputs_NK, weight_MK, bias_M)


def product_over_rows(left_NM: Tensor, right_NI: Tensor) -> Tensor:
    """left^T right, shape (M, I), for few rows N and a large M, of one dtype; not differentiable.

    In float32 the transposed product is computed: oneDNN needs three quarters of the time (measured).
    """
    if left_NM.device.type == "cpu" and left_NM.dtype == torch.float32 and has_onednn():
        return product(right_NI.t().contiguous(), left_NM.t()).t()
    return left_NM.t() @ right_NI


def has_onednn() -> bool:
    """Whether this build of torch has oneDNN and it is turned on."""
    built: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return built and bool(torch.backends.mkldnn.enabled) and hasattr(torch.ops.mkldnn, "_linear_pointwise")
