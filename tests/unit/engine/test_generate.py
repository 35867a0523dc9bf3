"""Generation: the right frequencies, the same text for the same seed, and nothing disturbed."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import Tensor

from rnnlm_tui.engine import generate as generate_module
from rnnlm_tui.engine.generate import Sampler, generate
from rnnlm_tui.errors import InputError

from .builders import small_model

DRAWS = 5_000


def sampler(*, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0, greedy: bool = False, seed: int = 1) -> Sampler:
    return Sampler(torch.device("cpu"), temperature, top_k, top_p, greedy, seed)


def frequencies(drawer: Sampler, logits: Tensor, draws: int = DRAWS) -> dict[int, float]:
    return {token: count / draws for token, count in Counter(drawer.draw(logits)[0] for _ in range(draws)).items()}


def assert_near(found: dict[int, float], wanted: dict[int, float]) -> None:
    """Each frequency within five standard errors, and nothing else drawn."""
    assert set(found) <= set(wanted)
    for token, p in wanted.items():
        assert found.get(token, 0.0) == pytest.approx(p, abs=5 * (p * (1 - p) / DRAWS) ** 0.5)


PROBABILITIES = (0.4, 0.05, 0.25, 0.1, 0.2)
LOGITS = torch.tensor(PROBABILITIES).log() + 3


def test_frequencies_are_the_models_probabilities() -> None:
    assert_near(frequencies(sampler(), LOGITS), dict(enumerate(PROBABILITIES)))


def test_exponential_race_draws_the_same_frequencies() -> None:
    racing = sampler()
    racing._draw_place = generate_module._by_race
    assert_near(frequencies(racing, LOGITS), dict(enumerate(PROBABILITIES)))


def test_temperature_bends_the_probabilities() -> None:
    bent = [p**2 for p in PROBABILITIES]
    assert_near(frequencies(sampler(temperature=0.5), LOGITS), {token: p / sum(bent) for token, p in enumerate(bent)})


def test_top_k_draws_from_the_k_likeliest() -> None:
    assert_near(frequencies(sampler(top_k=2), LOGITS), {0: 0.4 / 0.65, 2: 0.25 / 0.65})
    assert_near(frequencies(sampler(top_k=99), LOGITS), dict(enumerate(PROBABILITIES)))


def test_top_p_draws_from_the_fewest_that_hold_it() -> None:
    assert_near(frequencies(sampler(top_p=0.64), LOGITS), {0: 0.4 / 0.65, 2: 0.25 / 0.65})
    assert_near(frequencies(sampler(top_p=0.66), LOGITS), {0: 0.4 / 0.85, 2: 0.25 / 0.85, 4: 0.2 / 0.85})
    assert set(frequencies(sampler(top_p=0.01), LOGITS, 50)) == {0}


def test_top_p_of_equal_probabilities_takes_no_more_than_needed() -> None:
    assert len(frequencies(sampler(top_p=0.5), torch.zeros(8), 500)) == 4


def test_top_p_reaches_beyond_the_first_tokens_it_looks_at() -> None:
    weights = torch.full((3_000,), 1 / 3_000, dtype=torch.float64)
    assert len(generate_module._nucleus(weights, 0.5)) == pytest.approx(1_500, abs=1)


def test_top_p_applies_within_top_k() -> None:
    # Of the two likeliest, 0.4 / 0.65 = 0.615 is enough for 0.6.
    assert set(frequencies(sampler(top_k=2, top_p=0.6), LOGITS, 50)) == {0}


def test_greedy_takes_the_likeliest_and_tells_its_log_probability() -> None:
    token, logprob = sampler(greedy=True).draw(LOGITS)
    assert token == 0
    assert logprob == pytest.approx(torch.tensor(0.4).log().item(), rel=1e-5)


def test_log_probability_is_the_models_own_whatever_the_settings() -> None:
    drawer = sampler(temperature=0.3, top_k=3, top_p=0.9)
    for _ in range(20):
        token, logprob = drawer.draw(LOGITS)
        assert logprob == pytest.approx(torch.tensor(PROBABILITIES[token]).log().item(), rel=1e-5)


def test_an_impossible_token_is_never_drawn() -> None:
    logits = torch.tensor([float("-inf"), 0.0, float("-inf"), 0.0, float("-inf")])
    assert set(frequencies(sampler(), logits, 500)) == {1, 3}


def test_same_seed_same_text_other_seed_other_text() -> None:
    model = small_model()

    def drawn(seed: int) -> list[int]:
        return [drawn.token for drawn in generate(model, [1, 2], max_new_tokens=30, seed=seed)]

    assert drawn(1) == drawn(1) != drawn(2)
    assert len(drawn(1)) == 30


def test_carried_state_gives_what_a_pass_over_the_whole_prefix_gives() -> None:
    model = small_model().eval()
    prefix = [1, 2, 3]
    for drawn in generate(model, prefix, max_new_tokens=12, greedy=True):
        logits, _ = model(torch.tensor([prefix]), model.initial_state(1))
        assert drawn.token == int(logits[0, -1].argmax())
        assert drawn.logprob == pytest.approx(logits[0, -1].log_softmax(0).max().item(), abs=1e-5)
        prefix = [*prefix, drawn.token]


def test_generation_leaves_generators_mode_and_gradients_of_its_caller_alone() -> None:
    model = small_model(dropout=0.5).train()
    before = torch.get_rng_state()
    for _ in generate(model, [1, 2, 3], max_new_tokens=3, seed=9):
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training


def test_impossible_prompts_are_refused_before_anything_is_drawn() -> None:
    with pytest.raises(InputError, match="no tokens"):
        generate(small_model(), [], max_new_tokens=3)
    with pytest.raises(InputError, match="token 23 is outside the vocabulary of 23"):
        generate(small_model(), [1, 23], max_new_tokens=3)
