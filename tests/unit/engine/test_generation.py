"""Generation: frequencies, reproducible text, and no side effects."""

from __future__ import annotations

import pytest
import torch

from rnnlm_tui.engine.generation import WORTH_A_LAYOUT, SamplingRules, generate, lay_out_head
from rnnlm_tui.engine.model import RecurrentLanguageModel
from rnnlm_tui.errors import InputError

from .builders import small_model


def test_the_same_seed_gives_the_same_text_and_another_seed_another() -> None:
    model = small_model()

    def drawn(seed: int) -> list[int]:
        return [
            drawn.token
            for drawn in generate(model, [1, 2], SamplingRules(seed=seed), max_new_tokens=30)
        ]

    assert drawn(1) == drawn(1) != drawn(2)
    assert len(drawn(1)) == 30


def test_the_carried_state_equals_a_pass_over_the_whole_prefix() -> None:
    model = small_model().eval()
    prefix = [1, 2, 3]
    for drawn in generate(model, prefix, SamplingRules(greedy=True), max_new_tokens=12):
        logits, _ = model(torch.tensor([prefix]), model.initial_state(1))
        assert drawn.token == int(logits[0, -1].argmax())
        assert drawn.logprob == pytest.approx(logits[0, -1].log_softmax(0).max().item(), abs=1e-5)
        prefix = [*prefix, drawn.token]


def test_generation_does_not_affect_the_callers_generators_mode_or_gradients() -> None:
    model = small_model(dropout=0.5).train()
    before = torch.get_rng_state()
    for _ in generate(model, [1, 2, 3], SamplingRules(seed=9), max_new_tokens=3):
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training


def test_impossible_prompts_are_refused_before_sampling() -> None:
    with pytest.raises(InputError, match="no tokens"):
        generate(small_model(), [], max_new_tokens=3)
    with pytest.raises(InputError, match="token 23 is outside the vocabulary of 23"):
        generate(small_model(), [1, 23], max_new_tokens=3)


def test_a_head_stored_by_columns_generates_the_same_text() -> None:
    model, laid_out = small_model(tie_weights=True), small_model(tie_weights=True)
    lay_out_head(laid_out)
    assert torch.equal(model.output.weight, laid_out.output.weight)
    assert laid_out.output.weight.t().is_contiguous()

    def drawn(which: RecurrentLanguageModel, count: int) -> list[int]:
        return [
            one.token
            for one in generate(
                which, [1, 2], SamplingRules(top_p=0.9, seed=3), max_new_tokens=count
            )
        ]

    for count in (WORTH_A_LAYOUT - 1, WORTH_A_LAYOUT):
        assert drawn(model, count) == drawn(laid_out, count)


def test_repetition_penalty_counts_the_prompt_and_the_text() -> None:
    model = small_model()
    drawn = [
        one.token
        for one in generate(
            model, [1, 2], SamplingRules(greedy=True, repetition_penalty=100.0), max_new_tokens=15
        )
    ]
    assert len({1, 2, *drawn}) == 17
