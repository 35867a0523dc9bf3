"""Token sampling: the distribution equals transformers', and the sampler follows it."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import cast

import pytest
import torch
from torch import Tensor

from rnnlm_tui.engine import token_sampling
from rnnlm_tui.engine.token_sampling import (
    RejectionSampler,
    SamplingRules,
    filtered,
)
from rnnlm_tui.errors import InputError
from rnnlm_tui.schema.config import SamplingConfig

from .chi_square import chi_square

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
    "typical-p": SamplingRules(typical_p=0.6),
    "typical-p of one token": SamplingRules(typical_p=1e-9),
    "repetition penalty": SamplingRules(repetition_penalty=1.7),
    "repetition penalty on two tokens": SamplingRules(repetition_penalty=1.7, penalty_window=2),
    "reward for repetition": SamplingRules(repetition_penalty=0.6),
    "top-k and top-p": SamplingRules(top_k=7, top_p=0.6),
    "top-p and min-p": SamplingRules(temperature=1.4, top_p=0.9, min_p=0.2),
    "top-k and min-p": SamplingRules(temperature=1.4, top_k=4, min_p=0.2),
    "top-p and typical-p": SamplingRules(temperature=1.2, top_p=0.9, typical_p=0.5),
    "min-p and typical-p": SamplingRules(min_p=0.05, typical_p=0.8),
    "excluded tokens": SamplingRules(excluded=(2, 5)),
    "excluded tokens, top-k and top-p": SamplingRules(
        excluded=(0, 2, 5), top_k=4, top_p=0.7, repetition_penalty=1.4
    ),
    "all": SamplingRules(
        temperature=1.3,
        top_k=9,
        top_p=0.85,
        min_p=0.05,
        typical_p=0.9,
        repetition_penalty=1.3,
        penalty_window=2,
    ),
}


def theirs(rules: SamplingRules, logits_V: Tensor, seen: Sequence[int] = PROMPT) -> Tensor:
    """Probabilities of transformers' processors in the order of its `generate`."""
    import transformers  # takes seconds, and other tests don't need it

    chain = transformers.LogitsProcessorList()
    if rules.repetition_penalty != 1:
        chain.append(transformers.RepetitionPenaltyLogitsProcessor(rules.repetition_penalty))
    if rules.excluded:
        chain.append(transformers.SuppressTokensLogitsProcessor(list(rules.excluded)))
    if rules.temperature != 1:
        chain.append(transformers.TemperatureLogitsWarper(rules.temperature))
    if rules.top_k:
        chain.append(transformers.TopKLogitsWarper(rules.top_k))
    if rules.top_p < 1:
        chain.append(transformers.TopPLogitsWarper(rules.top_p))
    if rules.min_p:
        chain.append(transformers.MinPLogitsWarper(rules.min_p))
    if rules.typical_p < 1:
        chain.append(transformers.TypicalLogitsWarper(rules.typical_p))
    ids = torch.tensor([seen[-rules.penalty_window :]])
    scores_1V = chain(cast(torch.LongTensor, ids), cast(torch.FloatTensor, logits_V[None]))
    return torch.softmax(scores_1V[0], 0)


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


def random_rules(pick: random.Random, size: int) -> SamplingRules:
    """Each setting is off in about half of the cases."""
    return SamplingRules(
        repetition_penalty=pick.choice((1.0, 1.0, 0.7, 1.2, 3.0)),
        penalty_window=pick.choice((0, 0, 1, 2, 5, 100)),
        excluded=pick.choice(((), (), (0,), (2, 5))),
        temperature=pick.choice((1.0, 0.05, 0.7, 1.5, 20.0)),
        top_k=pick.choice((0, 0, 1, 3, size // 2, size + 5)),
        top_p=pick.choice((1.0, 1.0, 0.05, 0.5, 0.95)),
        min_p=pick.choice((0.0, 0.0, 0.01, 0.3, 1.0)),
        typical_p=pick.choice((1.0, 1.0, 0.1, 0.6, 0.95)),
    )


def by_logit(
    rules: SamplingRules, logits_V: Tensor, probabilities_V: Tensor, seen: Sequence[int]
) -> Tensor:
    """Probabilities in the order of the logits: which of equal tokens top-p leaves out is up to
    transformers' unstable sort."""
    penalised = set(seen[-rules.penalty_window :] if rules.repetition_penalty != 1 else ())
    rows = sorted(
        (token in rules.excluded, token in penalised, logit, probability)
        for token, (logit, probability) in enumerate(
            zip(logits_V.tolist(), probabilities_V.tolist(), strict=True)
        )
    )
    return torch.tensor([row[-1] for row in rows], dtype=torch.float64)


def equals_theirs(rules: SamplingRules, logits_V: Tensor, seen: Sequence[int]) -> bool:
    """The distribution is transformers' to rounding, and every removed token has a filter."""
    found = filtered(logits_V, rules, seen)
    wanted_V = theirs(rules, logits_V, seen)
    for token, (before, after) in enumerate(
        zip(found.before_V.tolist(), found.after_V.tolist(), strict=True)
    ):
        assert bool(found.removed_by(token)) == (before > 0 and after == 0)
    ours, other = (by_logit(rules, logits_V, one_V, seen) for one_V in (found.after_V, wanted_V))
    return torch.equal(ours > 0, other > 0) and torch.allclose(ours, other, rtol=1e-9, atol=0)


def test_the_filtered_distribution_equals_transformers_for_random_settings() -> None:
    pick = random.Random(5)
    for case in range(1_500):
        size = pick.choice((8, 60, 200))
        rules, logits_V = random_rules(pick, size), random_logits(case, size)
        seen = [pick.randrange(size) for _ in range(pick.choice((1, 4, 12)))]
        assert equals_theirs(rules, logits_V, seen), (case, rules, seen)


@pytest.mark.parametrize("name", FILTERS)
def test_each_filter_equals_that_of_transformers(name: str) -> None:
    for seed in range(12):
        for size in (8, 60):
            assert equals_theirs(FILTERS[name], random_logits(seed, size), PROMPT)


def test_a_removed_token_has_the_first_filter_that_removed_it() -> None:
    logits_V = torch.tensor([0.4, 0.2, 0.15, 0.1, 0.08, 0.07]).log()
    rules = SamplingRules(excluded=(5,), top_k=4, top_p=0.85, min_p=0.4)
    found = filtered(logits_V, rules, [])
    assert [found.removed_by(token) for token in range(6)] == [
        "",
        "",
        "min-p",  # 0.15 < 0.4 * 0.4
        "top-p",  # the three before it hold 0.75 of 0.85
        "top-k",
        "excluded",
    ]
    greedy = filtered(logits_V, SamplingRules(excluded=(0,), greedy=True), [])
    assert [greedy.removed_by(token) for token in range(3)] == ["excluded", "", "greedy"]
    assert greedy.after_V.tolist() == [0, 1, 0, 0, 0, 0]


def test_top_p_of_equal_probabilities_equals_transformers() -> None:
    for top_p in (0.25, 0.5, 0.51, 0.75, 0.76, 0.99):
        rules, logits_V = SamplingRules(top_p=top_p), torch.zeros(8, dtype=torch.float64)
        assert torch.equal(filtered(logits_V, rules, []).after_V, theirs(rules, logits_V))


def test_filters_apply_in_the_order_of_transformers_generate() -> None:
    import transformers

    model = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=12, n_embd=4, n_layer=1, n_head=1, n_positions=8)
    )
    settings = transformers.GenerationConfig(
        do_sample=True,
        temperature=0.5,
        top_k=5,
        top_p=0.5,
        min_p=0.1,
        typical_p=0.9,
        repetition_penalty=1.2,
        suppress_tokens=[1],
    )
    chain = model._get_logits_processor(
        settings, input_ids_seq_length=1, logits_processor=transformers.LogitsProcessorList()
    )
    assert [type(one) for one in chain] == [
        transformers.RepetitionPenaltyLogitsProcessor,
        transformers.SuppressTokensLogitsProcessor,
        transformers.TemperatureLogitsWarper,
        transformers.TopKLogitsWarper,
        transformers.TopPLogitsWarper,
        transformers.MinPLogitsWarper,
        transformers.TypicalLogitsWarper,
    ]


# frequencies

DRAWS = 3_000
PROBABILITIES = (0.3, 0.05, 0.2, 0.1, 0.15, 0.02, 0.08, 0.1)
LOGITS = torch.tensor(PROBABILITIES).log() + 3


def drawn(rules: SamplingRules, logits_V: Tensor, count: int = DRAWS) -> list[int]:
    """The tokens of many seeds after the prompt."""
    sampler = RejectionSampler(rules, PROMPT, count)
    found = sampler.sample(logits_V.repeat(count, 1), len(PROMPT))
    return [token for token, _ in found]


@pytest.mark.parametrize("name", FILTERS)
def test_token_frequencies_match_the_filtered_probabilities(name: str) -> None:
    rules = FILTERS[name]
    wanted_V = filtered(LOGITS, rules, PROMPT).after_V
    assert chi_square(drawn(rules, LOGITS), wanted_V) < 1


def test_frequencies_match_for_random_settings_and_ties() -> None:
    pick = random.Random(8)
    for case in range(60):
        size = pick.choice((8, 40, 700))
        rules, logits_V = random_rules(pick, size), random_logits(case, size)
        wanted_V = filtered(logits_V, rules, PROMPT).after_V
        tokens = drawn(rules, logits_V, 600)
        assert set(tokens) <= set(wanted_V.nonzero()[:, 0].tolist()), (case, rules)
        # The ten likeliest tokens and the rest, so that each comes often enough to compare.
        top = wanted_V.topk(min(10, size)).indices.tolist()
        groups = [top.index(token) if token in top else 10 for token in tokens]
        of_groups = torch.tensor([*wanted_V[top].tolist(), *[0.0] * (10 - len(top)), 0.0])
        of_groups[10] = max(0.0, 1 - float(wanted_V[top].sum()))
        of_groups[10] = of_groups[10] if size > 10 and of_groups[10] > 1e-9 else 0.0
        assert chi_square(groups, of_groups) < 1.5, (case, rules)


def test_a_wrong_distribution_fails_the_frequency_test() -> None:
    skewed = torch.tensor([0.25, 0.1, *PROBABILITIES[2:]])
    assert chi_square(drawn(SamplingRules(), LOGITS), skewed) > 1


def test_equally_likely_tokens_in_the_nucleus_are_equally_frequent() -> None:
    rules, logits_V = SamplingRules(top_p=0.5), torch.zeros(16)
    assert chi_square(drawn(rules, logits_V), torch.tensor([0.0] * 8 + [1 / 8] * 8)) < 1


@pytest.mark.parametrize("typical_p", [1.0, 0.6])
def test_frequencies_hold_over_a_whole_vocabulary(typical_p: float) -> None:
    logits_V = 2 * torch.randn(5_000, generator=torch.Generator().manual_seed(3))
    rules = SamplingRules(temperature=0.9, top_p=0.9, typical_p=typical_p)
    wanted_V = theirs(rules, logits_V.double())
    # Tokens in ten groups, so that each is drawn often enough to compare.
    group_V = torch.arange(5_000) % 10
    expected = torch.zeros(10, dtype=torch.float64).index_add_(0, group_V, wanted_V)
    tokens = drawn(rules, logits_V, 600)
    assert chi_square(group_V[tokens].tolist(), expected) < 1


@pytest.mark.parametrize("top_k", [1, 50, 400])
@pytest.mark.parametrize("rounded", [False, True])
def test_top_k_of_a_large_vocabulary_equals_transformers(top_k: int, rounded: bool) -> None:
    for seed in range(4):
        logits_V = 2.5 * torch.randn(9_001 + seed, generator=torch.Generator().manual_seed(seed))
        if rounded:
            logits_V = logits_V.round()
        logits_V[-1] = 20.0  # beyond the last whole group
        kept = token_sampling._only_top(logits_V[None], top_k)
        weights_V = torch.zeros_like(logits_V)
        ids = torch.arange(len(logits_V)) if kept[1] is None else kept[1][0]
        weights_V[ids] = kept[0][0].softmax(0)
        wanted_V = theirs(SamplingRules(top_k=top_k), logits_V)
        assert torch.equal(weights_V > 0, wanted_V > 0)


def test_places_are_exact_over_many_blocks_and_never_have_a_zero_weight() -> None:
    weights = torch.rand(1_000, generator=torch.Generator().manual_seed(1)).double()
    weights[::3] = 0.0
    weights[900:] = 0.0
    reached = weights.cumsum(0) / weights.sum()
    parts = torch.linspace(0, 1 - 1e-12, 500, dtype=torch.float64)
    wanted = torch.searchsorted(reached, parts, right=True).clamp(max=899)
    many = weights.expand(500, -1)
    by_block = torch.from_numpy(token_sampling._places_by_block(many, parts[:, None]))
    alone = [token_sampling._place(weights.numpy(), part) for part in parts.tolist()]
    for places in (by_block, torch.tensor(alone)):
        assert (weights[places] > 0).all()
        assert torch.equal(places, wanted)
    few, last = torch.tensor([[0.0, 0.5, 0.0]]), 1 - 2**-52
    assert token_sampling._place(few[0].numpy(), last) == 1


# seeds and positions


def test_a_token_depends_on_seed_and_position_alone() -> None:
    rules = SamplingRules(top_p=0.7, temperature=1.5)

    def at(position: int, seed: int, before: int) -> int:
        sampler = RejectionSampler(SamplingRules(top_p=0.7, temperature=1.5, seed=seed))
        for earlier in range(position - before, position):
            sampler.sample(LOGITS[None], earlier)
        return sampler.sample(LOGITS[None], position)[0][0]

    for position in (5, 300, 1_023, 1_024, 100_000):
        assert at(position, 3, 0) == at(position, 3, 4)
    batch = RejectionSampler(rules, (), 5)
    for position in range(40):
        found = [token for token, _ in batch.sample(LOGITS.repeat(5, 1), position)]
        assert found == [at(position, seed, 0) for seed in range(5)]


@pytest.mark.parametrize("window", [0, 3])
def test_rows_that_are_kept_go_on_as_before(window: int) -> None:
    rules = SamplingRules(repetition_penalty=1.5, penalty_window=window, top_p=0.9)
    whole, fewer = RejectionSampler(rules, PROMPT, 4), RejectionSampler(rules, PROMPT, 4)
    for position in range(3, 30):
        found = whole.sample(LOGITS.repeat(4, 1), position)
        if position == 12:
            fewer.keep([1, 3])
        if position < 12:
            assert fewer.sample(LOGITS.repeat(4, 1), position) == found
        else:
            assert fewer.sample(LOGITS.repeat(2, 1), position) == [found[1], found[3]]


# single tokens


def test_log_probability_is_the_models_for_any_settings() -> None:
    for rules in FILTERS.values():
        sampler = RejectionSampler(rules, PROMPT)
        for position in range(5):
            ((token, logprob),) = sampler.sample(LOGITS[None], position)
            assert logprob == pytest.approx(math.log(PROBABILITIES[token]), abs=1e-5)


def test_log_probability_is_exact_where_the_probability_is_no_float32() -> None:
    logits_V = torch.tensor([0.0, -200.0])
    sampler = RejectionSampler(SamplingRules(temperature=100.0, excluded=(0,)))
    assert sampler.sample(logits_V[None], 0) == [(1, -200.0)]


def test_greedy_takes_the_likeliest_after_the_penalty() -> None:
    def tokens(count: int, seen: Sequence[int] = (), **rules: float) -> list[int]:
        logits_V = torch.tensor([2.0, 1.9, -1.0])
        sampler = RejectionSampler(SamplingRules(greedy=True, **rules), seen)  # type: ignore[arg-type]
        return [sampler.sample(logits_V[None], position)[0][0] for position in range(count)]

    assert tokens(2) == [0, 0]
    # 2.0, then 1.9 > 1.33, then 1.33 > 1.27
    assert tokens(3, repetition_penalty=1.5) == [0, 1, 0]
    assert tokens(1, (0,), repetition_penalty=1.5) == [1]
    # Only the last token counts.
    assert tokens(4, (1,), repetition_penalty=1.5, penalty_window=1) == [0, 1, 0, 1]


@pytest.mark.parametrize("window", [0, 1, 7, 64, 65, 150, 1_000_000])
def test_the_penalty_counts_the_last_tokens_of_prompt_and_text(window: int) -> None:
    prompt = [token % 90 for token in range(100)]
    rules = SamplingRules(repetition_penalty=100.0, penalty_window=window)
    sampler, texts = RejectionSampler(rules, prompt, 3), [[*prompt] for _ in range(3)]
    logits_V = 0.1 * torch.randn(
        300, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    for position in range(100, 300):
        applied = sampler._penalty.apply(logits_V.repeat(3, 1))
        for scores_V, text in zip(applied, texts, strict=True):
            penalised = set((scores_V != logits_V).nonzero()[:, 0].tolist())
            assert penalised == set(text[-window:] if window else text)
        for text, (token, _) in zip(
            texts, sampler.sample(logits_V.repeat(3, 1), position), strict=True
        ):
            text.append(token)


def test_an_impossible_token_is_never_sampled() -> None:
    logits_V = torch.tensor([-math.inf, 0.0, -math.inf, 0.0, -math.inf])
    for rules in (SamplingRules(), SamplingRules(temperature=2.0, top_p=0.99, typical_p=0.99)):
        assert set(drawn(rules, logits_V, 300)) == {1, 3}


def test_the_same_seed_samples_the_same_tokens() -> None:
    def tokens(seed: int) -> list[int]:
        sampler = RejectionSampler(SamplingRules(top_p=0.9, seed=seed))
        return [sampler.sample(LOGITS[None], position)[0][0] for position in range(50)]

    assert tokens(1) == tokens(1) != tokens(2)


@pytest.mark.parametrize("size", [4, 2_000])
def test_nan_predictions_are_a_clear_error(size: int) -> None:
    for rules in (SamplingRules(), SamplingRules(top_p=0.9), SamplingRules(greedy=True)):
        with pytest.raises(InputError, match="its training had diverged"):
            RejectionSampler(rules).sample(torch.full((1, size), math.nan), 0)


EXTREMES: dict[str, tuple[float, ...]] = {
    "temperature": (0.0, 0.01, 0.8, 100.0),
    "top_k": (0, 1, 3, 1_000_000),
    "top_p": (5e-324, 1e-9, 0.95, 1.0),
    "min_p": (0.0, 5e-324, 1e-45, 1e-9, 1.0),
    "typical_p": (5e-324, 1e-9, 0.5, 1.0),
    "repetition_penalty": (0.1, 1.0, 100.0),
    "penalty_window": (0, 1, 1_000_000),
}
"""The limits of what a config allows."""


def test_every_combination_of_allowed_settings_samples_a_token() -> None:
    pick = random.Random(0)
    for case in range(400):
        chosen = {name: pick.choice(values) for name, values in EXTREMES.items()}
        assert SamplingConfig(**chosen)  # type: ignore[arg-type]
        size, scale = pick.choice((1, 2, 60, 1_500)), pick.choice((0.0, 2.5, 90.0, 1e6, 1e30))
        logits_V = scale * torch.randn(size, generator=torch.Generator().manual_seed(case))
        sampler = RejectionSampler(SamplingRules(**chosen, seed=case), [0] if size == 1 else [0, 1])  # type: ignore[arg-type]
        for position in range(5):
            ((token, logprob),) = sampler.sample(logits_V[None], position)
            assert 0 <= token < size
            assert logprob <= 1e-3


def test_a_temperature_of_0_equals_greedy() -> None:
    for seed in range(20):
        logits_V = torch.randn(60, generator=torch.Generator().manual_seed(seed))
        tokens = [
            RejectionSampler(rules).sample(logits_V[None], 0)[0][0]
            for rules in (SamplingRules(temperature=0.0, top_p=0.5), SamplingRules(greedy=True))
        ]
        assert tokens[0] == tokens[1] == int(logits_V.argmax())


@pytest.mark.parametrize(
    "rules",
    [
        SamplingRules(excluded=(4, 7)),
        SamplingRules(excluded=(4, 7), greedy=True),
        SamplingRules(excluded=(4, 7), top_k=2, repetition_penalty=1.2),
    ],
)
def test_an_excluded_token_is_never_sampled_and_the_others_keep_their_ratios(
    rules: SamplingRules,
) -> None:
    logits_V = torch.zeros(9)
    logits_V[4] = logits_V[7] = 20.0
    sampler = RejectionSampler(rules)
    for position in range(200):
        ((token, logprob),) = sampler.sample(logits_V[None], position)
        assert token not in (4, 7)
        assert logprob == pytest.approx(float(logits_V.log_softmax(0)[token]), rel=1e-5)
