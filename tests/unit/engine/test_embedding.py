"""Token vectors by id, against torch's own."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from rnnlm_tui.engine.model import look_up


@pytest.mark.parametrize("pad_id", [None, 3])
def test_vectors_and_their_gradient_equal_torchs(pad_id: int | None) -> None:
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(11, 4, dtype=torch.float64, generator=generator).requires_grad_()
    tokens, above = (
        torch.randint(11, (5, 6), generator=generator),
        torch.randn(5, 6, 4, dtype=torch.float64, generator=generator),
    )
    ours, theirs = look_up(tokens, weight, pad_id), F.embedding(tokens, weight, padding_idx=pad_id)
    assert torch.equal(ours, theirs)
    torch.testing.assert_close(
        torch.autograd.grad(ours, weight, above)[0], torch.autograd.grad(theirs, weight, above)[0]
    )
