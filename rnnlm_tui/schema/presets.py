"""The presets: named configs to start a run from."""

from __future__ import annotations

import math

from rnnlm_tui.errors import InputError, did_you_mean
from rnnlm_tui.schema.config import (
    BUILT_IN_SOURCES,
    CheckpointConfig,
    CorpusConfig,
    EvaluationConfig,
    ModelConfig,
    OptimizerConfig,
    RunConfig,
    SamplingConfig,
    ScheduleConfig,
    TokenizerConfig,
    TrainingConfig,
)

DEMO = RunConfig()
"""State of the Union addresses, BPE, tied Elman 2x192; about two minutes on two cores."""

ELMAN = RunConfig(
    preset="elman",
    corpus=CorpusConfig(source="elman"),
    tokenizer=TokenizerConfig(kind="word", vocab_size=1_000),
    model=ModelConfig(embedding_dim=64, hidden_size=64, num_layers=2, dropout=0.0),
    optimizer=OptimizerConfig(learning_rate=5e-3),
    schedule=ScheduleConfig(warmup_steps=50),
    training=TrainingConfig(epochs=8, batch_size=32, bptt=35),
    evaluation=EvaluationConfig(
        every=100, prompts=("the boys who", "the dog", "the girl who the boys")
    ),
    checkpoint=CheckpointConfig(every=200),
    sampling=SamplingConfig(temperature=1.0, top_p=1.0, max_new_tokens=40),
)
"""Generated number-agreement sentences, as in Elman's experiments, with a known lowest perplexity.
"""

BOOK = RunConfig(
    preset="book",
    corpus=CorpusConfig(source="news", mask_digits=True, validation_fraction=0.002),
    tokenizer=TokenizerConfig(
        kind="pretrained",
        name="microsoft/Phi-3.5-mini-instruct",
        vocab_size=32_011,
        end_of_sentence=False,
    ),
    model=ModelConfig(
        embedding_dim=128,
        hidden_size=128,
        num_layers=2,
        dropout=0.0,
        tie_weights=False,
        initialization="book",
    ),
    optimizer=OptimizerConfig(learning_rate=1e-3, max_grad_norm=0.0),
    schedule=ScheduleConfig(kind="constant", warmup_steps=0),
    training=TrainingConfig(
        epochs=1, data_mode="sentences", batch_size=128, context_length=30, shuffle=False
    ),
    evaluation=EvaluationConfig(
        every=1_563,
        split="test",
        max_sentences=1_024,
        prompts=("Moscow", "New York", "The hurricane", "The President"),
    ),
    checkpoint=CheckpointConfig(every=1_563),
    sampling=SamplingConfig(greedy=True, max_new_tokens=50),
)
"""The recurrent model of The Hundred-Page Language Models Book, chapter 3.

The book has no validation set. Here it is the last 1/500 of the training sentences (344 of its
172,148 steps).
"""

LSTM = RunConfig(
    preset="lstm",
    model=ModelConfig(cell_type="lstm", num_layers=1),
    optimizer=OptimizerConfig(learning_rate=0.01),
)
"""The demo with one LSTM layer: takes a little longer, test perplexity 43 instead of 51."""

GRU = RunConfig(
    preset="gru",
    model=ModelConfig(cell_type="gru", num_layers=1),
    optimizer=OptimizerConfig(learning_rate=0.007),
)
"""The demo with one GRU layer: takes about as long, test perplexity 41."""

ATTENTION = RunConfig(
    preset="attention",
    model=ModelConfig(
        cell_type="transformer", embedding_dim=112, hidden_size=112, attention_window=64
    ),
    optimizer=OptimizerConfig(learning_rate=0.006),
)
"""The demo as a transformer of two blocks: 532,000 parameters, about as many as the demo."""

TRANSFORMER = BOOK.model_copy(
    update={
        "preset": "transformer",
        "model": BOOK.model.model_copy(
            update={"cell_type": "transformer", "num_heads": 8, "initialization": "default"}
        ),
    }
)
"""A transformer of two blocks by the protocol of `book`, with the 8,589,824 parameters of chapter
4's decoder."""

CHARS = RunConfig(
    preset="chars",
    corpus=CorpusConfig(source="input.txt", layout="raw"),
    tokenizer=TokenizerConfig(kind="character", vocab_size=1_000),
    model=ModelConfig(
        cell_type="lstm", embedding_dim=128, hidden_size=128, num_layers=2, dropout=0.0
    ),
    optimizer=OptimizerConfig(learning_rate=5e-3, max_grad_norm=5.0),
    training=TrainingConfig(epochs=10, data_mode="stream", batch_size=50, bptt=50),
    evaluation=EvaluationConfig(every=500, prompts=("\n", "The ")),
    sampling=SamplingConfig(temperature=0.7, top_p=1.0, max_new_tokens=400),
)
"""Karpathy's char-rnn with its defaults (2x128, 50 characters, batch 50).

But with AdamW and a larger rate instead of RMSprop.
"""

PTB_TRAINING_TOKENS = 929_589
"""Words in ptb.train.txt, with an <eos> for each line."""


def _zaremba(
    name: str,
    hidden_size: int,
    dropout: float,
    init_scale: float,
    bptt: int,
    max_norm: float,
    epochs: int,
    decay_after: int,
    divisor: float,
) -> RunConfig:
    """A model from Zaremba et al., "Recurrent Neural Network Regularization" (2014), on PTB.

    Section 4.1. Their loss is summed over the time steps of a window, ours is the mean, so our
    gradients are `bptt` times smaller. Therefore the learning rate is multiplied and the gradient
    norm divided by bptt. Each epoch ends with an evaluation.

    Args:
        decay_after: epochs at the full learning rate, which is then divided by `divisor` in each.
    """
    per_epoch = math.ceil((PTB_TRAINING_TOKENS - 1) // 20 / bptt)
    return RunConfig(
        preset=name,
        corpus=CorpusConfig(source="ptb", layout="sentences"),
        # 9,999 words (with the unknown word), <eos> and the padding, which streams don't use.
        tokenizer=TokenizerConfig(kind="word", vocab_size=10_001),
        model=ModelConfig(
            cell_type="lstm",
            embedding_dim=hidden_size,
            hidden_size=hidden_size,
            num_layers=2,
            dropout=dropout,
            tie_weights=False,
            initialization="uniform",
            init_scale=init_scale,
        ),
        optimizer=OptimizerConfig(
            algorithm="sgd",
            learning_rate=1.0 * bptt,
            weight_decay=0.0,
            max_grad_norm=max_norm / bptt,
        ),
        schedule=ScheduleConfig(
            kind="decay", warmup_steps=0, decay_after=decay_after, decay_factor=1 / divisor
        ),
        training=TrainingConfig(epochs=epochs, data_mode="stream", batch_size=20, bptt=bptt),
        evaluation=EvaluationConfig(
            every=per_epoch, prompts=("the company said", "in new york", "mr. bush said")
        ),
        checkpoint=CheckpointConfig(every=per_epoch),
        sampling=SamplingConfig(max_new_tokens=60),
    )


TREEBANK = tuple(
    _zaremba(*numbers)
    for numbers in (
        ("ptb-small", 200, 0.0, 0.1, 20, 5.0, 13, 4, 2.0),
        ("ptb-medium", 650, 0.5, 0.05, 35, 5.0, 39, 6, 1.2),
        ("ptb-large", 1_500, 0.65, 0.04, 35, 10.0, 55, 14, 1.15),
    )
)
"""The LSTMs of the paper, 2x200 without dropout to 2x1500: published test perplexities 114, 82.7
and 78.4."""

PRESETS: dict[str, RunConfig] = {
    config.preset: config
    for config in (DEMO, LSTM, GRU, ATTENTION, ELMAN, BOOK, TRANSFORMER, *TREEBANK, CHARS)
}

PRESET_SUMMARIES: dict[str, str] = {
    "demo": "two-layer Elman RNN on 57 State of the Union addresses",
    "lstm": "the demo with an LSTM: the next step",
    "gru": "the demo with a GRU",
    "attention": "the demo as a small transformer",
    "elman": "Elman RNN on generated sentences, known best perplexity",
    "book": "the textbook's two-layer Elman RNN, 8.3 M parameters",
    "transformer": "the book's run with a transformer, 8.6 M parameters",
    "ptb-small": "your Penn Treebank, LSTM 2x200: published perplexity 114",
    "ptb-medium": "your Penn Treebank, LSTM 2x650: published perplexity 82.7",
    "ptb-large": "your Penn Treebank, LSTM 2x1500: published perplexity 78.4",
    "chars": "char-rnn on your text (input.txt): character LSTM",
}
"""A one-line description of each preset."""


def preset(name: str) -> RunConfig:
    """The preset with this name.

    Raises:
        InputError: unknown preset, with similar names as a hint.
    """
    try:
        return PRESETS[name]
    except KeyError:
        raise InputError(
            f'unknown preset "{name}", must be one of {", ".join(PRESETS)}',
            hint=did_you_mean(name, PRESETS),
        ) from None


def has_prompts_of_another_text(config: RunConfig) -> bool:
    """Whether the prompts are those of a preset for a built-in text, and the text is another."""
    theirs = {
        known.corpus.source
        for known in PRESETS.values()
        if known.evaluation.prompts == config.evaluation.prompts
    }
    return bool(theirs & set(BUILT_IN_SOURCES)) and config.corpus.source not in theirs
