"""The vocabulary head's loss in every way against torch's: whole, in chunks, and rounded."""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rnnlm_tui.engine import loss as loss_module
from rnnlm_tui.engine.loss import IGNORED, rows_per_chunk
from rnnlm_tui.engine.optim import build_optimizer, clip_gradients, update_when_finite
from rnnlm_tui.engine.padded_loss import agrees
from rnnlm_tui.engine.softmax import PLAIN, Softmax
from rnnlm_tui.schema import memory
from rnnlm_tui.schema.config import OptimizerConfig

from .head_cases import CPU, PADDED_WAYS, Way, a_head, exact, relative_errors, way_named

ROUNDED = pytest.mark.parametrize("reduced", [False, True])
LARGE = [(700, 1_000, 650), (4_000, 32_011, 128), (40, 131_075, 64)]
"""Rows, vocabulary and width of heads that only a GPU computes."""


@pytest.fixture(params=["cpu", *PADDED_WAYS])
def way(request: pytest.FixtureRequest) -> Way:
    return way_named(request.param)


IN_PADDED_WAYS = pytest.mark.parametrize("way", PADDED_WAYS, indirect=True)


def set_chunks(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Bytes of a chunk of logits in all ways."""
    monkeypatch.setattr(loss_module, "CHUNK_BYTES", size)
    monkeypatch.setattr(memory, "GPU_CHUNK_BYTES", size)
    monkeypatch.setattr(memory, "SMALLEST_CHUNK", 8)


@pytest.mark.parametrize("spread", [1.0, 50.0])
def test_loss_and_gradients_equal_torchs_in_float64(way: Way, spread: float) -> None:
    shapes = [(1, 100, 16), *((40, size, 16) for size in (64, 100, 1_000)), (50, 129, 13)]
    for rows, vocab_size, width in (
        *shapes,
        (5, 32_011, 16),
        *(LARGE if way.device.type == "cuda" else ()),
    ):
        head = a_head(rows, vocab_size, width, spread=spread, ignored=3 if rows > 1 else 0)
        wanted, wanted_gradients = exact(head, way.device)
        loss, gradients = way.found(head)
        assert loss.item() == pytest.approx(wanted.item(), rel=1e-5)
        assert max(relative_errors(gradients, wanted_gradients)) < 1e-5
        loss, gradients = way.found(head, reduced=True)
        assert loss.dtype == torch.float32
        assert abs(loss.item() - wanted.item()) < 5e-3 * max(1.0, spread)
        assert max(relative_errors(gradients, wanted_gradients)) < (0.02 if spread == 1 else 0.1)


@pytest.mark.parametrize("seed", range(20))
def test_any_shape_in_any_number_of_chunks_equals_torchs(
    way: Way, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(seed)
    head = a_head(
        draw.randint(2, 30),
        draw.choice([draw.randint(2, 200), draw.randint(200, 700)]),
        draw.randint(1, 40),
        spread=draw.choice([0.1, 1.0, 8.0]),
        ignored=draw.choice([0, 2, 7]),
        seed=seed,
    )
    set_chunks(monkeypatch, draw.choice([1, 8_000, 10**9]))
    loss, gradients = way.found(head)
    wanted, wanted_gradients = exact(head)
    torch.testing.assert_close(loss.double(), wanted, rtol=1e-5, atol=1e-6)
    for one, other in zip(gradients, wanted_gradients, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-5)


@ROUNDED
def test_gradients_are_right_in_several_chunks(
    way: Way, reduced: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_chunks(monkeypatch, 1)
    head = a_head(90, 129, 13)
    assert rows_per_chunk(129) < 90
    _, gradients = way.found(head, reduced=reduced)
    errors = relative_errors(gradients, exact(head)[1])
    assert max(errors) < (0.01 if reduced else 1e-5)
    assert all(gradient.is_contiguous() for gradient in gradients)


def test_ignored_rows_leave_exactly_the_mean_over_the_others(way: Way) -> None:
    head = a_head(20, 129, ignored=4)
    kept = head.targets != IGNORED
    loss, gradients = way.found(head)
    wanted, wanted_gradients = way.found(head.kept())
    torch.testing.assert_close(loss, wanted, rtol=1e-5, atol=0)
    assert not gradients[0][~kept].any()
    torch.testing.assert_close(gradients[0][kept], wanted_gradients[0])
    torch.testing.assert_close(gradients[1:], wanted_gradients[1:])


@ROUNDED
@pytest.mark.parametrize("rows", [0, 5])
def test_without_targets_the_loss_is_nan_and_no_weight_changes(
    way: Way, rows: int, reduced: bool
) -> None:
    head = a_head(5, 100)
    head.targets.fill_(IGNORED)
    hidden, weight, bias = (part.to(way.device) for part in head.parts)
    parameters = [nn.Parameter(weight), nn.Parameter(bias)]
    before = [part.detach().clone() for part in parameters]
    optimizer = build_optimizer(parameters, OptimizerConfig(), 0.1)
    targets = head.targets.to(way.device)
    if way.name != "cpu":
        hidden, targets = hidden[:rows], targets[:rows]
    loss = way.mean_loss(hidden, *parameters, targets, reduced=reduced)
    torch.autograd.backward(loss)
    assert loss.isnan()
    if way.name != "cpu":
        assert not any(part.grad is None or part.grad.any() for part in parameters)
    update_when_finite(optimizer, clip_gradients(parameters, 1.0), loss.detach())
    assert all(torch.equal(*pair) for pair in zip(parameters, before, strict=True))


@ROUNDED
def test_a_bad_number_in_the_head_makes_the_loss_or_the_norm_bad(way: Way, reduced: bool) -> None:
    for value in (float("nan"), float("inf")):
        for part in range(3):
            head = a_head(7, 100, ignored=0)
            head.parts[part].view(-1)[0] = value
            loss, gradients = way.found(head, reduced=reduced)
            assert not (loss + sum(gradient.norm() for gradient in gradients)).isfinite()


@ROUNDED
def test_a_logit_of_minus_infinity_is_a_probability_of_zero(way: Way, reduced: bool) -> None:
    head = a_head(7, 100, ignored=0)
    head.bias[50:99] = -torch.inf
    head.targets[head.targets >= 50] = 3
    loss, gradients = way.found(head, reduced=reduced)
    assert loss.isfinite()
    assert not gradients[2][50:99].any()
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_the_gradient_from_above_counts_and_a_padded_one_can_be_taken_once(way: Way) -> None:
    head = a_head(20, 100)
    parts = [part.to(way.device).requires_grad_() for part in head.parts]
    loss = way.mean_loss(*parts, head.targets.to(way.device), reduced=False)
    gradients = torch.autograd.grad(3 * loss, parts, retain_graph=True)
    found = [gradient.cpu() for gradient in gradients]
    assert max(relative_errors(found, [3 * part for part in exact(head)[1]])) < 1e-5
    if way.name != "cpu":
        with pytest.raises(RuntimeError, match="only once"):
            torch.autograd.grad(loss, parts)


@pytest.mark.parametrize("vocab_size", [100, 129])
def test_token_losses_equal_torchs_and_are_zero_where_ignored(
    way: Way, vocab_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = a_head(70, vocab_size, width=13, spread=20.0)
    set_chunks(monkeypatch, 1)
    parts = [part.to(way.device) for part in (*head.parts, head.targets)]
    losses = way.token_losses(*parts).cpu()
    logits = F.linear(*(part.double() for part in head.parts))
    wanted = F.cross_entropy(logits, head.targets, ignore_index=IGNORED, reduction="none")
    torch.testing.assert_close(losses.double(), wanted, rtol=1e-5, atol=1e-4)
    assert not losses[::3].any()


@IN_PADDED_WAYS
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("spread", [1.0, 50.0])
def test_losses_and_gradients_are_exact_for_the_logits_as_they_are(
    way: Way, dtype: torch.dtype, spread: float
) -> None:
    """The kernel's sums are all float32: bf16 logits are rounded, their losses aren't."""
    by_kernel = way.name == "triton"
    for vocab_size, width in ((100, 128), (32_011, 32_064), (40_000, 40_000)):
        generator = torch.Generator().manual_seed(vocab_size)
        logits = (torch.randn(4, width, generator=generator) * spread).to(way.device, dtype)
        targets = torch.tensor([vocab_size - 1, 0, IGNORED, 77], device=way.device)
        # With the kernel padded columns may hold anything.
        logits[:, vocab_size:] = torch.nan if by_kernel else -torch.inf
        real = logits[:, :vocab_size].double().requires_grad_()
        wanted = F.cross_entropy(real, targets, reduction="none", ignore_index=IGNORED)
        (wanted_gradient,) = torch.autograd.grad(wanted.sum() / 3, real)
        before = logits.clone()
        alone = way.softmax.losses(logits, targets, vocab_size)
        assert torch.equal(logits.nan_to_num(), before.nan_to_num())
        count = torch.tensor(3, device=way.device)
        gradient, losses = way.softmax.gradient(logits, targets, count, vocab_size)
        assert not by_kernel or gradient.data_ptr() == logits.data_ptr()
        assert losses.dtype == torch.float32
        near = 2e-6 if by_kernel else 1e-5 if dtype == torch.float32 else 1e-2
        for found in (losses, alone):
            torch.testing.assert_close(found.double(), wanted.detach(), rtol=near, atol=near)
        assert not gradient[:, vocab_size:].any()
        assert not gradient[2].any()
        torch.testing.assert_close(
            gradient[:, :vocab_size].double(),
            wanted_gradient,
            # The interpreter cuts numbers off where a GPU rounds to the nearest.
            rtol=1e-4 if dtype == torch.float32 else 2**-7,
            atol=1e-6 if dtype == torch.float32 else 1e-5 if by_kernel else 5e-3,
        )


@IN_PADDED_WAYS
def test_bad_logits_stay_visible_and_infinite_ones_are_harmless(way: Way) -> None:
    targets = torch.tensor([5, 69, 3], device=way.device)
    count = torch.tensor(3, device=way.device)
    for bad in (float("nan"), float("inf")):
        logits = torch.zeros(3, 128, device=way.device)
        logits[1, 4] = bad
        logits[:, 70:] = -torch.inf
        gradient, losses = way.softmax.gradient(logits, targets, count, 70)
        assert losses.isfinite().tolist() == [True, False, True]
        assert gradient[1, :70].isnan().any()
        assert gradient[[0, 2]].isfinite().all()
    # Whole blocks of -inf, the first one too.
    logits = torch.full((3, 1_024), -torch.inf, device=way.device)
    logits[:, 600] = 1.0
    targets = torch.tensor([600, 3, 600], device=way.device)
    gradient, losses = way.softmax.gradient(logits, targets, count, 1_000)
    assert losses.tolist() == [0.0, torch.inf, 0.0]
    assert gradient.isfinite().all()
    assert gradient[1].nonzero().flatten().tolist() == [3, 600]
    assert not gradient[0].any()


@IN_PADDED_WAYS
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_first_trial_accepts_a_way_that_is_right(way: Way, dtype: torch.dtype) -> None:
    assert agrees(way.softmax, way.device, dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_first_trial_finds_wrong_losses_and_gradients(dtype: torch.dtype) -> None:
    def rolled(*given: Tensor | int) -> tuple[Tensor, Tensor]:
        gradient, losses = PLAIN.gradient(*given)  # type: ignore[arg-type]
        return gradient.roll(1, 0), losses

    def wrong_in_a_later_block(*given: Tensor | int) -> tuple[Tensor, Tensor]:
        gradient, losses = PLAIN.gradient(*given)  # type: ignore[arg-type]
        gradient[:, 20_000:] *= 1.1
        return gradient, losses

    def too_high(logits: Tensor, targets: Tensor, size: int) -> Tensor:
        return PLAIN.losses(logits, targets, size) + 0.2

    for wrong in (
        Softmax(wrong_in_a_later_block, PLAIN.losses),
        Softmax(rolled, PLAIN.losses),
        Softmax(PLAIN.gradient, too_high),
    ):
        assert not agrees(wrong, CPU, dtype)


@ROUNDED
def test_without_onednn_the_loss_is_the_same(
    monkeypatch: pytest.MonkeyPatch, reduced: bool
) -> None:
    way, head = way_named("cpu"), a_head(90, 50)
    ours, gradients = way.found(head, reduced=reduced)
    monkeypatch.setattr(loss_module, "has_onednn", lambda _=None: False)
    theirs, others = way.found(head, reduced=reduced)
    torch.testing.assert_close(ours, theirs, rtol=1e-2 if reduced else 1e-5, atol=0)
    assert max(relative_errors(gradients, [part.double() for part in others])) < 0.02
