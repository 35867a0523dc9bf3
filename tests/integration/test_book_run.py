"""The preset `book` against an independent plain implementation: the same batches, losses, weights
and perplexity."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from rnnlm_tui.corpus import builtin
from rnnlm_tui.corpus.corpus import PreparedCorpus, prepare_corpus
from rnnlm_tui.engine.batches import SentenceBatches, evaluation_batches
from rnnlm_tui.engine.evaluate import evaluate
from rnnlm_tui.engine.loss import rows_per_chunk
from rnnlm_tui.engine.matmul import can_round
from rnnlm_tui.engine.model import RecurrentLanguageModel
from rnnlm_tui.engine.trainer import Trainer
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.estimates import Schedule
from rnnlm_tui.schema.presets import BOOK
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.worker.build import build_batches, build_model, build_trainer
from tests.fakes.llama_tokenizer import write_tokenizer
from tests.integration.book_reference import (
    LEARNING_RATE,
    PlainModel,
    as_engine_weights,
    copy_weights,
    plain_batches,
    plain_perplexity,
    plain_training,
    read_sentences,
)
from tests.unit.engine.builders import built_model

STEPS = 50
LOSS_TOLERANCE = 2e-6
WEIGHT_TOLERANCE = 1e-5
MEAN_TOLERANCE = 1e-7
FEW = 1e-5
PERPLEXITY_TOLERANCE = 1e-5
TEST_EVERY = 8
"""Every n-th sentence is a test line."""


@dataclass(frozen=True)
class BookRun:
    """A small book run on real text, for the engine and for the plain implementation."""

    config: RunConfig
    corpus: PreparedCorpus
    train: list[list[int]]
    """Token ids of each line of train.txt, by transformers as in the book."""
    test: list[list[int]]

    @property
    def plain_batches(self) -> list[tuple[Tensor, Tensor]]:
        """The first STEPS plain batches."""
        return list(
            plain_batches(
                self.train[: STEPS * self.batch_size + 100],
                self.corpus.manifest.pad_id,
                self.batch_size,
            )
        )[:STEPS]

    @property
    def batch_size(self) -> int:
        return self.config.training.batch_size


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> BookRun:
    """The first addresses as `news`, and a tokenizer with the traps of the book's."""
    home = tmp_path_factory.mktemp("book")
    sentences = [line for lines in builtin.read_addresses().values() for line in lines][:2_400]
    (home / "corpora" / "news").mkdir(parents=True)
    test = sentences[::TEST_EVERY]
    train = [sentence for place, sentence in enumerate(sentences) if place % TEST_EVERY]
    for name, lines in (("train", train), ("test", test)):
        (home / "corpora" / "news" / f"{name}.txt").write_text(
            "".join(f"  {line}\n" for line in lines), encoding="utf-8"
        )
    vocab_size = write_tokenizer(home / "tokenizer", train, 2_000)
    changes = {
        "tokenizer.name": str(home / "tokenizer"),
        "tokenizer.vocab_size": vocab_size,
        "training.batch_size": 32,
        "training.max_steps": STEPS,
        "training.device": "cpu",
        "training.matmul": "float32",
        "evaluation.max_sentences": 100,
    }
    config = parse_config(merge(BOOK, changes))
    corpus = prepare_corpus(
        config.corpus, config.tokenizer, config.training, home / "corpora", lambda _: None
    )
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(home / "tokenizer"))
    assert len(tokenizer) == vocab_size == corpus.manifest.vocab_size
    ids = {
        name: [
            tokenizer.encode(line, add_special_tokens=False)
            for line in read_sentences(home / "corpora" / "news" / f"{name}.txt")
        ]
        for name in ("train", "test")
    }
    return BookRun(config, corpus, ids["train"], ids["test"])


def as_padded(batches: SentenceBatches, index: int, pad_id: int) -> tuple[Tensor, Tensor]:
    """A batch of the engine in the plain form, where padding is a token instead of -100."""
    batch = batches.batch(0, index)
    return batch.inputs_BT, batch.targets_BT.masked_fill(batch.targets_BT == -100, pad_id)


def test_the_preset_has_the_books_number_of_parameters_and_protocol() -> None:
    plain = PlainModel(32_011, 128, 2, pad_id=32_000)
    assert sum(parameter.numel() for parameter in plain.parameters()) == 8_292_619
    model = BOOK.model
    built = built_model(
        vocab_size=32_011,
        embedding_dim=model.embedding_dim,
        hidden_size=model.hidden_size,
        num_layers=model.num_layers,
        cell_type=model.cell_type,
        dropout=model.dropout,
        tie_weights=model.tie_weights,
        pad_id=32_000,
        initialization=model.initialization,
        seed=42,
    )
    assert built.num_parameters() == 8_292_619
    assert {name: tuple(tensor.shape) for name, tensor in built.state_dict().items()} == {
        name: tuple(t.shape) for name, t in as_engine_weights(plain).items()
    }
    training, evaluation = BOOK.training, BOOK.evaluation
    assert (
        training.batch_size,
        training.context_length,
        training.epochs,
        training.shuffle,
        training.seed,
    ) == (128, 30, 1, False, 42)
    assert (
        BOOK.optimizer.learning_rate,
        BOOK.optimizer.max_grad_norm,
        BOOK.schedule.kind,
        BOOK.schedule.warmup_steps,
    ) == (1e-3, 0, "constant", 0)
    assert (evaluation.every, evaluation.split, evaluation.max_sentences) == (1_563, "test", 1_024)
    assert evaluation.prompts == ("Moscow", "New York", "The hurricane", "The President")
    assert (BOOK.sampling.greedy, BOOK.sampling.max_new_tokens) == (True, 50)


def test_weights_come_from_the_books_distributions() -> None:
    """Two samples of one distribution: mean and variance within five standard errors, and nothing
    outside its bounds."""
    plain = as_engine_weights(PlainModel(4_000, 128, 2, pad_id=5).draw(seed=1))
    drawn = built_model(
        vocab_size=4_000,
        embedding_dim=128,
        hidden_size=128,
        num_layers=2,
        pad_id=5,
        initialization="book",
        seed=2,
    ).state_dict()
    for name, theirs in plain.items():
        ours = drawn[name]
        low, high = (
            (0.0, 1.0)
            if theirs.dim() == 1
            else (-math.sqrt(6 / sum(theirs.shape)), math.sqrt(6 / sum(theirs.shape)))
        )
        for sample in (theirs, ours):
            assert low <= float(sample.min()) < float(sample.max()) <= high, name
            spread = (high - low) / math.sqrt(12)
            assert float(sample.mean()) == pytest.approx(
                (low + high) / 2, abs=5 * spread / math.sqrt(sample.numel())
            ), name
            # The variance of a uniform's sample variance is spread^4 (9/5 - 1) / n.
            assert float(sample.var()) == pytest.approx(
                spread**2, abs=5 * spread**2 * math.sqrt(0.8 / sample.numel())
            ), name
        assert not torch.equal(ours, theirs)
    assert bool(drawn["embedding.weight"][5].any()), "the padding's vector is drawn like all others"


def test_batches_equal_the_books_token_by_token(book: BookRun) -> None:
    batches = build_batches(book.config, book.corpus)
    assert isinstance(batches, SentenceBatches)
    for index, (inputs, targets) in enumerate(book.plain_batches):
        ours = as_padded(batches, index, book.corpus.manifest.pad_id)
        assert torch.equal(ours[0], inputs)
        assert torch.equal(ours[1], targets)
    assert {inputs.shape[1] for inputs, _ in book.plain_batches} <= set(range(1, 30))


def test_fifty_steps_and_the_resulting_perplexity_equal_the_books(book: BookRun) -> None:
    """Equal up to float32 rounding: both sides add the same terms in a different order.

    A loss of 7.6 has a step of 5e-7, so a relative 2e-6 is about thirty steps: errors return
    through the weights. AdamW moves a weight by up to the rate, 1e-3, per step whatever the size of
    its gradient, so a gradient of pure rounding error may move a weight by that much. Measured:
    5e-9 on average, over 1e-5 one weight of a hundred thousand at most, and none over 1e-4.
    """
    pad_id = book.corpus.manifest.pad_id
    plain = PlainModel(book.corpus.manifest.vocab_size, 128, 2, pad_id).draw(
        book.config.training.seed
    )
    model, losses = trained(book, plain)
    rounded = trained(book, plain, "medium")[0] if can_round(torch.device("cpu")) else model
    assert len(losses) == STEPS
    assert losses == pytest.approx(
        plain_training(plain, book.plain_batches, pad_id), rel=LOSS_TOLERANCE
    )
    assert losses[-1] < losses[0] - 0.7
    check_weights(plain, model)
    for limit in (100, 0):
        ours, roughly = (
            evaluate(
                each,
                evaluation_batches(
                    book.corpus.tokens("test"),
                    book.corpus.offsets("test"),
                    data_mode="sentences",
                    context_length=30,
                    pad_id=pad_id,
                    max_sentences=limit,
                ),
            )
            for each in (model, rounded)
        )
        lines = book.test[: limit or None]
        theirs = plain_perplexity(plain, list(plain_batches(lines, pad_id)), pad_id)
        assert ours.tokens == sum(max(0, min(len(line), 30) - 1) for line in lines)
        assert math.exp(ours.loss) == pytest.approx(theirs, rel=PERPLEXITY_TOLERANCE)
        assert math.exp(roughly.loss) == pytest.approx(theirs, rel=0.005)


def trained(
    book: BookRun, plain: PlainModel, matmul: str = "float32"
) -> tuple[RecurrentLanguageModel, list[float]]:
    """The engine's model after all steps from the plain model's weights, and its losses."""
    config = parse_config(merge(book.config, {"training.matmul": matmul}))
    model = build_model(config, book.corpus)
    copy_weights(plain, model)
    trainer = build_trainer(config, model, build_batches(config, book.corpus))
    losses = []
    while trainer.should_continue:
        losses.append(trainer.train_step().loss.item())
    return model, losses


def test_steps_in_the_books_shape_equal_the_books(book: BookRun) -> None:
    """32,011 types of width 128, so that the head works in chunks.

    The ids are the text's, spread over the vocabulary.
    """
    vocab_size, pad_id, sentences, steps = 32_011, 32_000, 20, 3
    spread = [
        [index * 7_919 % pad_id for index in sentence]
        for sentence in book.train[: sentences * steps]
    ]
    batches = list(plain_batches(spread, pad_id, sentences))
    tokens = np.array([index for sentence in spread for index in sentence], np.uint16)
    offsets = np.cumsum([0, *map(len, spread)]).astype(np.uint64)
    plain = PlainModel(vocab_size, 128, 2, pad_id).draw(seed=42)
    model = built_model(
        vocab_size=vocab_size,
        embedding_dim=128,
        hidden_size=128,
        num_layers=2,
        pad_id=pad_id,
        initialization="book",
        seed=1,
    )
    copy_weights(plain, model)
    trainer = Trainer(
        model,
        SentenceBatches(tokens, offsets, sentences, 30, pad_id, shuffle=False),
        max_steps=steps,
        schedule=Schedule(1e-3),
    )
    assert sum(int((targets != pad_id).sum()) for _, targets in batches) > steps * rows_per_chunk(
        vocab_size
    )
    losses = [trainer.train_step().loss.item() for _ in range(steps)]
    assert losses == pytest.approx(plain_training(plain, batches, pad_id), rel=LOSS_TOLERANCE)
    check_weights(plain, model)


def check_weights(plain: PlainModel, model: RecurrentLanguageModel) -> None:
    """Almost all weights are nearly equal, and none differs by more than one step could move it.

    See above.
    """
    ours = model.state_dict()
    for name, theirs in as_engine_weights(plain).items():
        difference = (ours[name] - theirs).abs()
        assert float(difference.mean()) < MEAN_TOLERANCE, name
        assert int((difference > WEIGHT_TOLERANCE).sum()) <= FEW * difference.numel(), name
        assert float(difference.max()) < LEARNING_RATE, name
