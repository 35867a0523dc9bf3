"""Generation: batches, continuations and branches give the text of one sample in one go."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from rnnlm_tui.engine.cells import CELLS
from rnnlm_tui.engine.generation import (
    WORTH_A_LAYOUT,
    Generation,
    LaidOutHead,
    TextState,
    lay_out_weights,
    read_text,
)
from rnnlm_tui.engine.model import RecurrentLanguageModel
from rnnlm_tui.engine.token_sampling import PLAIN
from rnnlm_tui.errors import InputError
from rnnlm_tui.schema.config import SamplingConfig

from .builders import plain, small_model

WILD = plain(
    temperature=1.3,
    top_p=0.9,
    repetition_penalty=1.2,
    penalty_window=6,
    seed=2**63 - 2,
    max_new_tokens=40,
)
"""Seeds of a batch go around the end of what a config allows."""


def exact_model(cell_type: str) -> RecurrentLanguageModel:
    """In float64, where the rounding of a batch or of a longer text changes no token."""
    return small_model(cell_type=cell_type).double().eval()


def tokens_of(
    model: RecurrentLanguageModel,
    start: Sequence[int] | TextState,
    rules: SamplingConfig = PLAIN,
    count: int = 30,
) -> list[int]:
    """The tokens of one sample."""
    state = start if isinstance(start, TextState) else read_text(model, start)
    rules = rules.model_copy(update={"max_new_tokens": count})
    return [one.token for (one,) in Generation(model, state, rules)]


def test_the_same_seed_gives_the_same_text_and_another_seed_another() -> None:
    model = small_model()
    first, again, other = (tokens_of(model, [1, 2], plain(seed=seed)) for seed in (1, 1, 2))
    assert first == again != other
    assert len(first) == 30


@pytest.mark.parametrize("cell_type", CELLS)
def test_a_continued_text_equals_one_that_was_generated_in_one_go(cell_type: str) -> None:
    model, prompt = exact_model(cell_type), [1, 2, 5]
    whole = tokens_of(model, prompt, WILD, 40)
    for place in (1, 13, 39):
        first = tokens_of(model, prompt, WILD, place)
        assert first == whole[:place]
        assert tokens_of(model, [*prompt, *first], WILD, 40 - place) == whole[place:]
        # From the state after the prompt instead of the text.
        state = read_text(model, first, read_text(model, prompt))
        assert state.ids == (*prompt, *first)
        assert tokens_of(model, state, WILD, 40 - place) == whole[place:]


@pytest.mark.parametrize("cell_type", CELLS)
def test_a_branch_with_the_same_token_gives_the_same_text(cell_type: str) -> None:
    model, prompt = exact_model(cell_type), [4, 2]
    whole = tokens_of(model, prompt, WILD, 25)
    branch = read_text(model, [*prompt, *whole[:9], whole[9]])
    assert tokens_of(model, branch, WILD, 15) == whole[10:]
    others = [
        tokens_of(model, [*prompt, *whole[:9], token], WILD, 15)
        for token in range(model.vocab_size)
    ]
    assert whole[10:] in others
    assert any(other != whole[10:] for other in others)


@pytest.mark.parametrize("cell_type", CELLS)
def test_each_sample_of_a_batch_equals_a_single_one_with_its_seed(cell_type: str) -> None:
    model = exact_model(cell_type)
    start = read_text(model, [1, 2, 3])
    steps = list(Generation(model, start, WILD, count=5))
    assert [len(tokens) for tokens in steps] == [5] * 40
    for row in range(5):
        rules = WILD.model_copy(update={"seed": (WILD.seed + row) % 2**63})
        assert [tokens[row].token for tokens in steps] == tokens_of(model, start, rules, 40)


@pytest.mark.parametrize("cell_type", CELLS)
def test_dropped_samples_end_and_the_others_go_on_as_before(cell_type: str) -> None:
    model = exact_model(cell_type)
    start = read_text(model, [1, 2, 3])
    whole = list(Generation(model, start, WILD, count=4))
    found: dict[int, list[int]] = {row: [] for row in range(4)}
    generation = Generation(model, start, WILD, count=4)
    for step, tokens in enumerate(generation):
        for row, one in zip(generation.rows, tokens, strict=True):
            found[row].append(one.token)
            if (step, row) in ((4, 1), (9, 3), (9, 0)):
                generation.drop(row)
    assert {row: len(tokens) for row, tokens in found.items()} == {0: 10, 1: 5, 2: 40, 3: 10}
    for row, texts in found.items():
        assert texts == [tokens[row].token for tokens in whole[: len(texts)]]


def test_a_batch_ends_when_all_its_samples_are_dropped() -> None:
    model = small_model()
    generation = Generation(model, read_text(model, [1]), PLAIN, count=2)
    for row in (0, 1):
        next(generation)
        generation.drop(row)
    assert list(generation) == []


def test_the_carried_state_equals_a_pass_over_the_whole_prefix() -> None:
    model = small_model().eval()
    prefix = [1, 2, 3]
    start = read_text(model, prefix)
    for (drawn,) in Generation(model, start, plain(greedy=True, max_new_tokens=12)):
        logits, _ = model(torch.tensor([prefix]), model.initial_state(1))
        assert drawn.token == int(logits[0, -1].argmax())
        assert drawn.logprob == pytest.approx(logits[0, -1].log_softmax(0).max().item(), abs=1e-5)
        prefix = [*prefix, drawn.token]


@pytest.mark.parametrize("cell_type", CELLS)
def test_a_long_text_is_read_in_parts(cell_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = exact_model(cell_type)
    ids = [(7 * place) % 23 for place in range(60)]
    whole = read_text(model, ids)
    monkeypatch.setattr("rnnlm_tui.engine.generation.READ_AT_ONCE", 13)
    parts = read_text(model, ids)
    torch.testing.assert_close(parts.output_BH, whole.output_BH, rtol=1e-12, atol=1e-13)
    hidden, _ = model.hidden(torch.tensor([ids]), model.initial_state(1))
    torch.testing.assert_close(whole.output_BH, hidden[:, -1].detach(), rtol=1e-12, atol=1e-13)


def test_generation_does_not_affect_the_callers_generators_mode_or_gradients() -> None:
    model = small_model(dropout=0.5).train()
    before = torch.get_rng_state()
    start = read_text(model, [1, 2, 3])
    for _ in Generation(model, start, plain(seed=9, max_new_tokens=3), count=2):
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training
    assert not start.output_BH.requires_grad
    assert not start.output_BH.is_inference()


def test_impossible_prompts_are_refused() -> None:
    model = small_model()
    with pytest.raises(InputError, match="no tokens"):
        read_text(model, [])
    with pytest.raises(InputError, match="token 23 is outside the vocabulary of 23"):
        read_text(model, [1, 23])
    start = read_text(model, [1])
    assert read_text(model, [], start) is start


@pytest.mark.parametrize("double", [False, True])
def test_a_laid_out_head_gives_the_models_logits_then_impossible_tokens(double: bool) -> None:
    model, laid_out = (small_model(tie_weights=True, vocab_size=300) for _ in range(2))
    if double:  # not in oneDNN's layout
        model, laid_out = model.double(), laid_out.double()
    lay_out_weights(laid_out)
    assert isinstance(laid_out.output, LaidOutHead)
    hidden_BH = torch.randn(9, 12, dtype=model.output.weight.dtype)
    for rows in (1, 2, 9):
        logits_BP = laid_out.output.logits(hidden_BH[:rows])
        assert logits_BP.shape == (rows, 384)
        torch.testing.assert_close(logits_BP[:, :300], model.output(hidden_BH[:rows]))
        assert (logits_BP[:, 300:] == -torch.inf).all()
    stored, wanted = laid_out.state_dict(), model.state_dict()
    assert stored.keys() == wanted.keys()
    assert all(torch.equal(stored[name], wanted[name]) for name in wanted)
    for count in (WORTH_A_LAYOUT - 1, WORTH_A_LAYOUT):
        rules = plain(top_p=0.9, seed=3)
        found, again = (tokens_of(one, [1, 2], rules, count) for one in (model, laid_out))
        assert found == again
