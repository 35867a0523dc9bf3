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
from rnnlm_tui.engine.token_sampling import PLAIN, RejectionSampler, filtered
from rnnlm_tui.errors import InputError
from rnnlm_tui.schema.config import SamplingConfig

from .builders import plain
from .chi_square import chi_square

PROMPT = (3, 1, 3)
Rules = tuple[SamplingConfig, tuple[int, ...]]
"""Settings, and excluded tokens."""


def theirs(
    rules: SamplingConfig,
    logits_V: Tensor,
    excluded: Sequence[int] = (),
    seen: Sequence[int] = PROMPT,
) -> Tensor:
    """Probabilities of transformers' processors in the order of its `generate`."""
    import transformers  # takes seconds, and other tests don't need it

    chain = transformers.LogitsProcessorList()
    if rules.repetition_penalty != 1:
        chain.append(transformers.RepetitionPenaltyLogitsProcessor(rules.repetition_penalty))
    if excluded:
        chain.append(transformers.SuppressTokensLogitsProcessor(list(excluded)))
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


def random_rules(pick: random.Random, size: int) -> Rules:
    """Each setting is off in about half of the cases."""
    return plain(
        repetition_penalty=pick.choice((1.0, 1.0, 0.7, 1.2, 3.0)),
        penalty_window=pick.choice((0, 0, 1, 2, 5, 100)),
        temperature=pick.choice((1.0, 0.05, 0.7, 1.5, 20.0)),
        top_k=pick.choice((0, 0, 1, 3, size // 2, size + 5)),
        top_p=pick.choice((1.0, 1.0, 1e-9, 0.05, 0.5, 0.95)),
        min_p=pick.choice((0.0, 0.0, 0.01, 0.3, 1.0)),
        typical_p=pick.choice((1.0, 1.0, 1e-9, 0.1, 0.6, 0.95)),
    ), pick.choice(((), (), (0,), (2, 5)))


def by_logit(
    rules: SamplingConfig,
    excluded: Sequence[int],
    logits_V: Tensor,
    probabilities_V: Tensor,
    seen: Sequence[int],
) -> Tensor:
    """Probabilities in the order of the logits: which of equal tokens top-p leaves out is up to
    transformers' unstable sort."""
    penalised = set(seen[-rules.penalty_window :] if rules.repetition_penalty != 1 else ())
    rows = sorted(
        (token in excluded, token in penalised, logit, probability)
        for token, (logit, probability) in enumerate(
            zip(logits_V.tolist(), probabilities_V.tolist(), strict=True)
        )
    )
    return torch.tensor([row[-1] for row in rows], dtype=torch.float64)


def equals_theirs(rules: Rules, logits_V: Tensor, seen: Sequence[int]) -> bool:
    """The distribution is transformers' to rounding, and every removed token has a filter."""
    found = filtered(logits_V, *rules, seen)
    wanted_V = theirs(rules[0], logits_V, rules[1], seen)
    for token, (before, after) in enumerate(
        zip(found.before_V.tolist(), found.after_V.tolist(), strict=True)
    ):
        assert bool(found.removed_by(token)) == (before > 0 and after == 0)
    ours, other = (by_logit(*rules, logits_V, one_V, seen) for one_V in (found.after_V, wanted_V))
    return torch.equal(ours > 0, other > 0) and torch.allclose(ours, other, rtol=1e-9, atol=0)


def test_the_filtered_distribution_equals_transformers_for_random_settings() -> None:
    pick = random.Random(5)
    for case in range(500):
        size = pick.choice((8, 60, 200))
        rules, logits_V = random_rules(pick, size), random_logits(case, size)
        seen = [pick.randrange(size) for _ in range(pick.choice((1, 4, 12)))]
        assert equals_theirs(rules, logits_V, seen), (case, rules, seen)


def test_a_removed_token_has_the_first_filter_that_removed_it() -> None:
    logits_V = torch.tensor([0.4, 0.2, 0.15, 0.1, 0.08, 0.07]).log()
    found = filtered(logits_V, plain(top_k=4, top_p=0.85, min_p=0.4), [5], [])
    assert [found.removed_by(token) for token in range(6)] == [
        "",
        "",
        "min-p",  # 0.15 < 0.4 * 0.4
        "top-p",  # the three before it hold 0.75 of 0.85
        "top-k",
        "excluded",
    ]
    greedy = filtered(logits_V, plain(greedy=True), [0], [])
    assert [greedy.removed_by(token) for token in range(3)] == ["excluded", "", "greedy"]
    assert greedy.after_V.tolist() == [0, 1, 0, 0, 0, 0]


def test_top_p_of_equal_probabilities_equals_transformers() -> None:
    for top_p in (0.25, 0.5, 0.51, 0.75, 0.76, 0.99):
        rules, logits_V = plain(top_p=top_p), torch.zeros(8, dtype=torch.float64)
        assert torch.equal(filtered(logits_V, rules, [], []).after_V, theirs(rules, logits_V))


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


def drawn(
    rules: SamplingConfig, logits_V: Tensor, excluded: Sequence[int] = (), count: int = DRAWS
) -> list[int]:
    """The tokens of many seeds after the prompt, each of which has the model's own ln p."""
    sampler = RejectionSampler(rules, excluded, PROMPT, count)
    found = sampler.sample(logits_V.repeat(count, 1), len(PROMPT))
    logprobs = logits_V.double().log_softmax(0)
    for token, logprob in dict(found).items():
        assert logprob == pytest.approx(float(logprobs[token]), rel=1e-5, abs=1e-5)
    return [token for token, _ in found]


def test_frequencies_match_for_random_settings_and_ties() -> None:
    pick = random.Random(8)
    for case in range(40):
        size = pick.choice((8, 40, 700))
        (rules, excluded), logits_V = random_rules(pick, size), random_logits(case, size)
        wanted_V = filtered(logits_V, rules, excluded, PROMPT).after_V
        tokens = drawn(rules, logits_V, excluded, 500)
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
    assert chi_square(drawn(PLAIN, LOGITS), skewed) > 1


@pytest.mark.parametrize("typical_p", [1.0, 0.6])
def test_frequencies_hold_over_a_whole_vocabulary(typical_p: float) -> None:
    logits_V = 2 * torch.randn(5_000, generator=torch.Generator().manual_seed(3))
    rules = plain(temperature=0.9, top_p=0.9, typical_p=typical_p)
    wanted_V = theirs(rules, logits_V.double())
    # Tokens in ten groups, so that each is drawn often enough to compare.
    group_V = torch.arange(5_000) % 10
    expected = torch.zeros(10, dtype=torch.float64).index_add_(0, group_V, wanted_V)
    tokens = drawn(rules, logits_V, count=600)
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
        wanted_V = theirs(plain(top_k=top_k), logits_V)
        assert torch.equal(weights_V > 0, wanted_V > 0)


def test_places_are_exact_over_many_blocks_and_never_have_a_zero_weight() -> None:
    weights = torch.rand(1_000, generator=torch.Generator().manual_seed(1)).double()
    weights[::3] = 0.0
    weights[900:] = 0.0
    reached = weights.cumsum(0) / weights.sum()
    parts = torch.linspace(0, 1 - 1e-12, 500, dtype=torch.float64)
    wanted = torch.searchsorted(reached, parts, right=True).clamp(max=899)
    places = torch.from_numpy(token_sampling._places(weights.expand(500, -1), parts[:, None]))
    assert (weights[places] > 0).all()
    assert torch.equal(places, wanted)
    few, last = torch.tensor([[0.0, 0.5, 0.0]]), 1 - 2**-52
    assert token_sampling._place(few[0].numpy(), last) == 1


# seeds and positions


def test_a_token_depends_on_seed_and_position_alone() -> None:
    rules = plain(top_p=0.7, temperature=1.5, seed=0)

    def at(position: int, seed: int, before: int) -> int:
        sampler = RejectionSampler(plain(top_p=0.7, temperature=1.5, seed=seed))
        for earlier in range(position - before, position):
            sampler.sample(LOGITS[None], earlier)
        return sampler.sample(LOGITS[None], position)[0][0]

    for position in (5, 300, 1_023, 1_024, 100_000):
        assert at(position, 3, 0) == at(position, 3, 4)
    batch = RejectionSampler(rules, count=5)
    for position in range(40):
        found = [token for token, _ in batch.sample(LOGITS.repeat(5, 1), position)]
        assert found == [at(position, seed, 0) for seed in range(5)]


@pytest.mark.parametrize("window", [0, 3])
def test_rows_that_are_kept_go_on_as_before(window: int) -> None:
    rules = plain(repetition_penalty=1.5, penalty_window=window, top_p=0.9)
    whole, fewer = (RejectionSampler(rules, seen=PROMPT, count=4) for _ in range(2))
    for position in range(3, 30):
        found = whole.sample(LOGITS.repeat(4, 1), position)
        if position == 12:
            fewer.keep([1, 3])
        if position < 12:
            assert fewer.sample(LOGITS.repeat(4, 1), position) == found
        else:
            assert fewer.sample(LOGITS.repeat(2, 1), position) == [found[1], found[3]]


# single tokens


def test_log_probability_is_exact_where_the_probability_is_no_float32() -> None:
    logits_V = torch.tensor([0.0, -200.0])
    sampler = RejectionSampler(plain(temperature=100.0), [0])
    assert sampler.sample(logits_V[None], 0) == [(1, -200.0)]


def test_greedy_takes_the_likeliest_after_the_penalty() -> None:
    def tokens(
        count: int, seen: Sequence[int] = (), excluded: Sequence[int] = (), **rules: float
    ) -> list[int]:
        logits_V = torch.tensor([2.0, 1.9, -1.0])
        sampler = RejectionSampler(plain(greedy=True, **rules), excluded, seen)
        return [sampler.sample(logits_V[None], position)[0][0] for position in range(count)]

    assert tokens(2) == [0, 0]
    assert tokens(2, excluded=[0]) == [1, 1]
    # 2.0, then 1.9 > 1.33, then 1.33 > 1.27
    assert tokens(3, repetition_penalty=1.5) == [0, 1, 0]
    assert tokens(1, (0,), repetition_penalty=1.5) == [1]
    # Only the last token counts.
    assert tokens(4, (1,), repetition_penalty=1.5, penalty_window=1) == [0, 1, 0, 1]


@pytest.mark.parametrize("window", [0, 1, 7, 64, 65, 150, 1_000_000])
def test_the_penalty_counts_the_last_tokens_of_prompt_and_text(window: int) -> None:
    prompt = [token % 90 for token in range(100)]
    rules = plain(repetition_penalty=100.0, penalty_window=window)
    sampler, texts = RejectionSampler(rules, [], prompt, 3), [[*prompt] for _ in range(3)]
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


@pytest.mark.parametrize("size", [4, 2_000])
def test_nan_predictions_are_a_clear_error(size: int) -> None:
    for rules in (PLAIN, plain(top_p=0.9), plain(greedy=True)):
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
    for case in range(200):
        chosen = {name: pick.choice(values) for name, values in EXTREMES.items()}
        size, scale = pick.choice((1, 2, 60, 1_500)), pick.choice((0.0, 2.5, 90.0, 1e6, 1e30))
        logits_V = scale * torch.randn(size, generator=torch.Generator().manual_seed(case))
        sampler = RejectionSampler(plain(**chosen, seed=case), seen=range(min(size, 2)))
        for position in range(5):
            ((token, logprob),) = sampler.sample(logits_V[None], position)
            assert 0 <= token < size
            assert logprob <= 1e-3


def test_a_temperature_of_0_equals_greedy() -> None:
    for seed in range(20):
        logits_V = torch.randn(60, generator=torch.Generator().manual_seed(seed))
        tokens = [
            RejectionSampler(rules).sample(logits_V[None], 0)[0][0]
            for rules in (plain(temperature=0.0, top_p=0.5), plain(greedy=True))
        ]
        assert tokens[0] == tokens[1] == int(logits_V.argmax())
