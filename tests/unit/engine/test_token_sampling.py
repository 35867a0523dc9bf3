"""Drawing: each filter keeps what transformers' of the same name keeps, and tokens come as often as
they should."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from typing import cast

import pytest
import torch
from torch import Tensor
from transformers import GenerationConfig
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    SuppressTokensLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from rnnlm_tui.engine import generation
from rnnlm_tui.engine.generation import (
    ExponentialRaceSampler,
    InverseCdfSampler,
    SamplingRules,
    TokenSampler,
    sampler_for,
)
from rnnlm_tui.errors import InputError
from rnnlm_tui.schema.config import SamplingConfig

CPU = torch.device("cpu")
PROMPT = (3, 1, 3)
FILTERS = {
    "nothing": SamplingRules(),
    "temperature": SamplingRules(temperature=0.7),
    "top-k": SamplingRules(top_k=5),
    "top-k of more than all": SamplingRules(top_k=999),
    "top-k of one": SamplingRules(top_k=1),
    "top-p": SamplingRules(top_p=0.8),
    "top-p of one token": SamplingRules(top_p=1e-9),
    "min-p": SamplingRules(min_p=0.1),
    "min-p of the likeliest alone": SamplingRules(min_p=1.0),
    "repetition penalty": SamplingRules(repetition_penalty=1.7),
    "reward for repetition": SamplingRules(repetition_penalty=0.6),
    "top-k and top-p": SamplingRules(top_k=7, top_p=0.6),
    "top-p and min-p": SamplingRules(temperature=1.4, top_p=0.9, min_p=0.2),
    "top-k and min-p": SamplingRules(temperature=1.4, top_k=4, min_p=0.2),
    "excluded tokens": SamplingRules(excluded=(2, 5)),
    "excluded tokens, top-k and top-p": SamplingRules(
        excluded=(0, 2, 5), top_k=4, top_p=0.7, repetition_penalty=1.4
    ),
    "all": SamplingRules(temperature=1.3, top_k=9, top_p=0.85, min_p=0.05, repetition_penalty=1.3),
}


def theirs(settings: SamplingRules, logits_V: Tensor) -> Tensor:
    """Probabilities of transformers' processors in the order of its `generate`."""
    chain = LogitsProcessorList()
    if settings.repetition_penalty != 1:
        chain.append(RepetitionPenaltyLogitsProcessor(settings.repetition_penalty))
    if settings.excluded:
        chain.append(SuppressTokensLogitsProcessor(list(settings.excluded)))
    if settings.temperature != 1:
        chain.append(TemperatureLogitsWarper(settings.temperature))
    if settings.top_k:
        chain.append(TopKLogitsWarper(settings.top_k))
    if settings.top_p < 1:
        chain.append(TopPLogitsWarper(settings.top_p))
    if settings.min_p:
        chain.append(MinPLogitsWarper(settings.min_p))
    return torch.softmax(
        chain(
            cast(torch.LongTensor, torch.tensor([PROMPT])), cast(torch.FloatTensor, logits_V[None])
        )[0],
        0,
    )


def by_inverse_cdf(settings: SamplingRules, logits_V: Tensor) -> Tensor:
    """Probabilities of the tokens that InverseCdfSampler may return: a proposal stands or another
    one is made, so these are the weights of what stands."""
    sampler = InverseCdfSampler(settings, PROMPT)
    weights, ids = sampler._weighed(sampler._processor.apply(logits_V))
    choices = sampler._above_min_p(weights)
    stands = [
        settings.top_p == 1 or generation._is_in_nucleus(weights, place, settings.top_p)
        for place in range(len(weights))
    ]
    choices = choices * torch.tensor(stands)
    whole_V = torch.zeros_like(logits_V)
    whole_V[torch.arange(len(whole_V)) if ids is None else ids] = choices / choices.sum()
    return whole_V


def by_race(settings: SamplingRules, logits_V: Tensor) -> Tensor:
    sampler = ExponentialRaceSampler(CPU, settings, PROMPT)
    return sampler._kept(sampler._processor.apply(logits_V)).softmax(0)


def random_logits(seed: int, size: int) -> Tensor:
    """Float64, so that both sides round alike at a border; some seeds have many equal values or
    impossible tokens."""
    logits_V = 2.5 * torch.randn(
        size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    if seed % 3 == 1:
        logits_V = logits_V.round()
    if seed % 4 == 3:
        logits_V[::5] = -math.inf
    return logits_V


def by_logit(logits_V: Tensor, probabilities_V: Tensor) -> Tensor:
    """Probabilities in the order of the logits: which of equal tokens top-p leaves out is up to
    transformers' unstable sort."""
    pairs = sorted(zip(logits_V.tolist(), probabilities_V.tolist(), strict=True))
    return torch.tensor([probability for _, probability in pairs], dtype=torch.float64)


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("ours", [by_inverse_cdf, by_race])
def test_each_filter_equals_that_of_transformers(ours: object, name: str) -> None:
    assert callable(ours)
    for seed, size in product(range(12), (8, 60)):
        logits_V = random_logits(seed, size)
        wanted, found = (
            by_logit(logits_V, make(FILTERS[name], logits_V)) for make in (theirs, ours)
        )
        assert torch.equal(found > 0, wanted > 0), (seed, size)
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=0)


@pytest.mark.parametrize("ours", [by_inverse_cdf, by_race])
def test_top_p_of_equal_probabilities_equals_transformers(ours: object) -> None:
    assert callable(ours)
    for top_p in (0.25, 0.5, 0.51, 0.75, 0.76, 0.99):
        settings, logits_V = SamplingRules(top_p=top_p), torch.zeros(8, dtype=torch.float64)
        assert torch.equal(ours(settings, logits_V), theirs(settings, logits_V))


def test_filters_apply_in_the_order_of_transformers_generate() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(vocab_size=12, n_embd=4, n_layer=1, n_head=1, n_positions=8))
    settings = GenerationConfig(
        do_sample=True, temperature=0.5, top_k=5, top_p=0.5, min_p=0.1, repetition_penalty=1.2
    )
    chain = model._get_logits_processor(
        settings, input_ids_seq_length=1, logits_processor=LogitsProcessorList()
    )
    assert [type(one) for one in chain] == [
        RepetitionPenaltyLogitsProcessor,
        TemperatureLogitsWarper,
        TopKLogitsWarper,
        TopPLogitsWarper,
        MinPLogitsWarper,
    ]


@pytest.mark.parametrize("top_k", [1, 50, 400])
@pytest.mark.parametrize("rounded", [False, True])
def test_top_k_of_a_large_vocabulary_equals_transformers(top_k: int, rounded: bool) -> None:
    for seed in range(4):
        logits_V = 2.5 * torch.randn(9_001 + seed, generator=torch.Generator().manual_seed(seed))
        if rounded:
            logits_V = logits_V.round()
        logits_V[-1] = 20.0  # beyond the last whole group
        settings = SamplingRules(top_k=top_k)
        assert torch.equal(by_inverse_cdf(settings, logits_V) > 0, theirs(settings, logits_V) > 0)


def test_the_inverse_cdf_is_exact_over_many_rows_and_never_picks_a_zero_weight() -> None:
    weights = torch.rand(1_000, generator=torch.Generator().manual_seed(1)).double()
    weights[::3] = 0.0
    weights[900:] = 0.0
    reached = weights.cumsum(0) / weights.sum()
    for part in torch.linspace(0, 1 - 1e-12, 500, dtype=torch.float64).tolist():
        place = generation._place_at(weights, part)
        assert weights[place] > 0
        assert place == min(int(torch.searchsorted(reached, part, right=True)), 899)
    assert generation._place_at(torch.tensor([0.0, 0.5, 0.0]), 1 - 2**-53) == 1


# frequencies

DRAWS = 3_000
PROBABILITIES = (0.3, 0.05, 0.2, 0.1, 0.15, 0.02, 0.08, 0.1)
LOGITS = torch.tensor(PROBABILITIES).log() + 3


def chi_square(sampler: TokenSampler, logits_V: Tensor, wanted_V: Tensor) -> float:
    """The statistic over its 99.99 % quantile (Wilson and Hilferty's approximation); infinite where
    an impossible token came."""
    counts = Counter(sampler.sample(logits_V.clone())[0] for _ in range(DRAWS))
    possible = [token for token, p in enumerate(wanted_V.tolist()) if p > 0]
    if not set(counts) <= set(possible):
        return math.inf
    statistic = sum(
        (counts[token] - DRAWS * float(wanted_V[token])) ** 2 / (DRAWS * float(wanted_V[token]))
        for token in possible
    )
    freedom = len(possible) - 1
    return (
        statistic / (freedom * (1 - 2 / (9 * freedom) + 3.719 * math.sqrt(2 / (9 * freedom))) ** 3)
        if freedom
        else 0.0
    )


@pytest.mark.parametrize(
    "name",
    ["nothing", "temperature", "top-k", "top-p", "min-p", "top-k and top-p", "top-p and min-p"],
)
def test_token_frequencies_match_their_probabilities(name: str) -> None:
    settings = FILTERS[name]
    for sampler in (InverseCdfSampler(settings), ExponentialRaceSampler(CPU, settings)):
        assert chi_square(sampler, LOGITS, theirs(settings, LOGITS)) < 1


def test_a_wrong_distribution_fails_the_frequency_test() -> None:
    skewed = torch.tensor([0.25, 0.1, *PROBABILITIES[2:]])
    assert chi_square(InverseCdfSampler(SamplingRules()), LOGITS, skewed) > 1


def test_equally_likely_tokens_in_the_nucleus_are_equally_frequent() -> None:
    settings, logits_V = SamplingRules(top_p=0.5), torch.zeros(16)
    for sampler in (InverseCdfSampler(settings), ExponentialRaceSampler(CPU, settings)):
        assert chi_square(sampler, logits_V, torch.tensor([0.0] * 8 + [1 / 8] * 8)) < 1


def test_frequencies_hold_over_a_whole_vocabulary() -> None:
    logits_V = 2 * torch.randn(5_000, generator=torch.Generator().manual_seed(3))
    settings = SamplingRules(temperature=0.9, top_p=0.9)
    wanted_V = theirs(settings, logits_V.double())
    # Tokens in ten groups, so that each is drawn often enough to compare.
    counted = torch.arange(5_000) % 10
    for sampler in (InverseCdfSampler(settings), ExponentialRaceSampler(CPU, settings)):
        found = torch.bincount(
            counted[[sampler.sample(logits_V)[0] for _ in range(1_500)]], minlength=10
        )
        expected = 1_500 * torch.zeros(10, dtype=torch.float64).index_add_(0, counted, wanted_V)
        assert (
            float(((found - expected) ** 2 / expected).sum()) < 33.7
        )  # 99.99 % of chi-square with 9 degrees of freedom


# single tokens


@pytest.mark.parametrize(
    "sampler", [InverseCdfSampler, lambda *given: ExponentialRaceSampler(CPU, *given)]
)
def test_log_probability_is_the_models_for_any_settings(sampler: object) -> None:
    assert callable(sampler)
    for settings in FILTERS.values():
        token_sampler = sampler(settings, PROMPT)
        for _ in range(5):
            token, logprob = token_sampler.sample(LOGITS.clone())
            assert logprob == pytest.approx(math.log(PROBABILITIES[token]), abs=1e-5)


def test_greedy_takes_the_likeliest_after_the_penalty() -> None:
    logits_V = torch.tensor([2.0, 1.9, -1.0])
    for make in (InverseCdfSampler, lambda *given: ExponentialRaceSampler(CPU, *given)):
        assert [make(SamplingRules(greedy=True)).sample(logits_V.clone())[0] for _ in range(2)] == [
            0,
            0,
        ]
        penalised = make(SamplingRules(greedy=True, repetition_penalty=1.5))
        assert [penalised.sample(logits_V.clone())[0] for _ in range(3)] == [
            0,
            1,
            0,
        ]  # 2.0, then 1.9 > 1.33, then 1.33 > 1.27
        assert (
            make(SamplingRules(greedy=True, repetition_penalty=1.5), (0,)).sample(logits_V.clone())[
                0
            ]
            == 1
        )


def test_the_penalty_remembers_more_tokens_than_its_initial_capacity() -> None:
    logits_V = torch.ones(300, dtype=torch.float64)
    token_sampler = InverseCdfSampler(SamplingRules(repetition_penalty=100.0), range(200))
    scores_V = token_sampler._processor.apply(logits_V)
    assert scores_V[:200].tolist() == [0.01] * 200
    assert scores_V[200:].tolist() == [1.0] * 100


def test_an_impossible_token_is_never_sampled() -> None:
    logits_V = torch.tensor([-math.inf, 0.0, -math.inf, 0.0, -math.inf])
    for sampler in (
        InverseCdfSampler(SamplingRules()),
        InverseCdfSampler(SamplingRules(temperature=2.0, top_p=0.99)),
        ExponentialRaceSampler(CPU, SamplingRules()),
    ):
        assert {sampler.sample(logits_V.clone())[0] for _ in range(300)} == {1, 3}


def test_the_same_seed_samples_the_same_tokens() -> None:
    def drawn(seed: int) -> list[int]:
        sampler = sampler_for(CPU, SamplingRules(top_p=0.9, seed=seed))
        return [sampler.sample(LOGITS.clone())[0] for _ in range(50)]

    assert drawn(1) == drawn(1) != drawn(2)


@pytest.mark.parametrize(
    "sampler", [InverseCdfSampler, lambda *given: ExponentialRaceSampler(CPU, *given)]
)
def test_nan_predictions_are_a_clear_error(sampler: object) -> None:
    assert callable(sampler)
    with pytest.raises(InputError, match="its training had diverged"):
        sampler(SamplingRules(top_p=0.9)).sample(torch.full((4,), math.nan))


EXTREMES: dict[str, tuple[float, ...]] = {
    "temperature": (0.0, 0.01, 0.8, 100.0),
    "top_k": (0, 1, 3, 1_000_000),
    "top_p": (5e-324, 1e-9, 0.95, 1.0),
    "min_p": (0.0, 5e-324, 1e-45, 1e-9, 1.0),
    "repetition_penalty": (0.1, 1.0, 100.0),
}
"""The limits of what a config allows."""


@pytest.mark.parametrize("make", [InverseCdfSampler, partial(ExponentialRaceSampler, CPU)])
def test_every_combination_of_allowed_settings_samples_a_token(
    make: Callable[[SamplingRules, Sequence[int]], TokenSampler],
) -> None:
    pick = random.Random(0)
    for case in range(400):
        chosen = {name: pick.choice(values) for name, values in EXTREMES.items()}
        assert SamplingConfig(**chosen)  # type: ignore[arg-type]
        size, scale = pick.choice((1, 2, 60, 1_500)), pick.choice((0.0, 2.5, 90.0, 1e6, 1e30))
        logits_V = scale * torch.randn(size, generator=torch.Generator().manual_seed(case))
        sampler = make(SamplingRules(**chosen, seed=case), [0] if size == 1 else [0, 1])  # type: ignore[arg-type]
        for _ in range(5):
            token, logprob = sampler.sample(logits_V.clone())
            assert 0 <= token < size
            assert logprob <= 1e-3


@pytest.mark.parametrize("make", [InverseCdfSampler, partial(ExponentialRaceSampler, CPU)])
def test_a_temperature_of_0_equals_greedy(make: Callable[[SamplingRules], TokenSampler]) -> None:
    for seed in range(20):
        logits_V = torch.randn(60, generator=torch.Generator().manual_seed(seed))
        tokens = [
            make(settings).sample(logits_V.clone())[0]
            for settings in (SamplingRules(temperature=0.0, top_p=0.5), SamplingRules(greedy=True))
        ]
        assert tokens[0] == tokens[1] == int(logits_V.argmax())


@pytest.mark.parametrize("make", [InverseCdfSampler, partial(ExponentialRaceSampler, CPU)])
@pytest.mark.parametrize(
    "settings",
    [
        SamplingRules(excluded=(4, 7)),
        SamplingRules(excluded=(4, 7), greedy=True),
        SamplingRules(excluded=(4, 7), top_k=2, repetition_penalty=1.2),
    ],
)
def test_an_excluded_token_is_never_sampled_and_the_others_keep_their_ratios(
    make: Callable[[SamplingRules], TokenSampler], settings: SamplingRules
) -> None:
    logits_V = torch.zeros(9)
    logits_V[4] = logits_V[7] = 20.0
    sampler = make(settings)
    for _ in range(200):
        token, logprob = sampler.sample(logits_V.clone())
        assert token not in (4, 7)
        assert logprob == pytest.approx(float(logits_V.log_softmax(0)[token]), rel=1e-5)
