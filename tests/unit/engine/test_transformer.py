"""The transformer: its count, its window, its cache beyond it, and the dropout of its branches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from rnnlm_tui.engine.batches import evaluation_batches
from rnnlm_tui.engine.evaluate import evaluate
from rnnlm_tui.engine.generation import Generation, read_text
from rnnlm_tui.engine.model import RecurrentLanguageModel
from rnnlm_tui.errors import InputError
from rnnlm_tui.schema.estimates import config_flops_per_token, parameter_count
from rnnlm_tui.schema.memory import memory_parts
from rnnlm_tui.schema.presets import PRESETS
from rnnlm_tui.schema.validation import merge, parse_config
from tests.unit.engine.builders import built_model, plain

WINDOW = 6


def transformer(layers: int = 2, **shape: Any) -> RecurrentLanguageModel:
    """A model with strong weights, in which a token depends on those before it."""
    values = {"vocab_size": 23, "embedding_dim": 12, "hidden_size": 12, "num_layers": layers}
    more = {"cell_type": "transformer", "num_heads": 2, "attention_window": WINDOW}
    model = built_model(**{**values, **more, **shape}).double()
    with torch.no_grad():
        for parameter in model.layers.parameters():
            parameter.mul_(1.5)
    return model.eval()


def test_presets_have_the_references_count_and_about_that_of_the_demo() -> None:
    for name, vocab_size, wanted in (
        ("transformer", 32_011, 8_589_824),
        ("attention", 2_048, 532_000),
    ):
        shape = PRESETS[name].model
        built = built_model(vocab_size=vocab_size, pad_id=3, **shape.model_dump())
        assert built.num_parameters() == parameter_count(shape, vocab_size).total == wanted
        assert "output.bias" not in built.state_dict()
    with pytest.raises(InputError, match="not 4 and 12"):
        transformer(embedding_dim=4)


def test_a_token_attends_to_its_window_and_each_further_layer_reaches_as_far_again() -> None:
    ids = torch.arange(20)[None]
    other = ids.clone()
    other[0, 3] = 22
    for layers in (1, 2):
        model = transformer(layers)
        logits, changed = (model(one, model.initial_state(1))[0][0] for one in (ids, other))
        moved = [not torch.equal(*pair) for pair in zip(logits, changed, strict=True)]
        last = 3 + layers * (WINDOW - 1)
        assert moved == [3 <= place <= last for place in range(20)]


def test_greedy_text_with_the_cache_is_the_one_without_it_beyond_the_window_too() -> None:
    model, ids = transformer(), [1, 2, 3]
    start = read_text(model, ids)
    for (drawn,) in Generation(model, start, plain(greedy=True, max_new_tokens=4 * WINDOW)):
        reach = ids[-2 * WINDOW + 1 :]  # what two layers read, without any state before it
        for seen in (ids, reach):
            logits, state = model(torch.tensor([seen]), model.initial_state(1))
            assert drawn.token == int(logits[0, -1].argmax())
            logprob = logits[0, -1].log_softmax(0).max().item()
            assert drawn.logprob == pytest.approx(logprob, abs=1e-6)
        held = {part.shape for layer in state for part in layer}
        assert held == {(1, min(len(reach), WINDOW - 1), 12)}
        ids = [*ids, drawn.token]


def test_dropout_is_on_the_embedding_and_the_branches_and_never_on_the_residual_stream(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes = []

    def emptied(features: torch.Tensor, rate: float) -> torch.Tensor:
        sizes.append(rate)
        return features if len(sizes) == 1 else 0 * features

    monkeypatch.setattr("rnnlm_tui.engine.model.drop", emptied)
    model = transformer(dropout=0.3).train()
    ids = torch.tensor([[1, 2, 3]])
    hidden, _ = model.hidden(ids, model.initial_state(1))
    assert sizes == 5 * [0.3]
    torch.testing.assert_close(hidden, model.embedding(ids))


def test_its_default_weights_start_near_the_identity() -> None:
    shape = {"vocab_size": 50, "embedding_dim": 64, "hidden_size": 64, "num_layers": 2}
    model = built_model(**shape, cell_type="transformer")
    for layer in model.layers:
        parts = dict(layer.named_parameters())
        assert all(parts[name].eq(1).all() for name in ("norm_attention", "norm_mlp"))
        assert not any(parts[name].any() for name in ("bias_up", "bias_down"))
        largest = {name: float(part.detach().abs().max()) for name, part in parts.items()}
        assert largest["weight_out"] == pytest.approx(0.5 * largest["weight_qkv"], rel=0.01)


def test_a_long_window_costs_a_stream_memory_and_products_for_the_tokens_it_holds() -> None:
    found = []
    for window in (64, 256):
        config = parse_config(merge(PRESETS["attention"], {"model.attention_window": window}))
        found.append(
            (config_flops_per_token(config, 2_048), memory_parts(config, 2_048).activations)
        )
    assert found[1][0] - found[0][0] == 6 * 2 * 2 * 112 * 192
    assert found[1][1] > 1.5 * found[0][1]


def test_parallel_streams_of_an_evaluation_lose_nothing_of_a_long_window() -> None:
    model = transformer(attention_window=150)
    tokens = np.random.default_rng(3).integers(0, 23, 5_000).astype(np.uint16)
    ends = np.array([0, len(tokens)], np.uint64)
    options: dict[str, Any] = {"data_mode": "stream", "context_length": 0, "pad_id": 0}
    whole, parts, short = (
        evaluate(model, evaluation_batches(tokens, ends, streams=streams, warm_up=read, **options))
        for streams, read in ((1, 0), (8, model.shape.warm_up), (8, 128))
    )
    assert parts.loss == pytest.approx(whole.loss, rel=1e-9)
    assert short.loss != pytest.approx(whole.loss, rel=1e-9)


def test_a_rehearsal_starts_from_a_full_cache() -> None:
    layer = next(iter(transformer().cells))
    state = layer.full_state(3)
    _, later = layer(torch.ones(2 * WINDOW, 3, 12).double(), layer.initial_state(3))
    assert [part.shape for part in state] == [part.shape for part in later]
