"""The presets: named configs that a run starts from."""

from __future__ import annotations

from rnnlm_tui.contract.config import (
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
from rnnlm_tui.errors import InputError, near_names

DEMO = RunConfig()
"""57 State of the Union addresses, BPE of 2,048, tied Elman 2x192, in about two minutes on two cores."""

ELMAN = RunConfig(
    preset="elman",
    corpus=CorpusConfig(source="elman"),
    tokenizer=TokenizerConfig(kind="word", vocab_size=1_000),
    model=ModelConfig(embedding_dim=64, hidden_size=64, num_layers=2, dropout=0.0),
    optimizer=OptimizerConfig(learning_rate=5e-3),
    schedule=ScheduleConfig(warmup_steps=50),
    training=TrainingConfig(epochs=8, batch_size=32, bptt=35),
    evaluation=EvaluationConfig(every=100, prompts=("the boys who", "the dog", "the girl who the boys")),
    checkpoint=CheckpointConfig(every=200),
    sampling=SamplingConfig(temperature=1.0, top_p=1.0, max_new_tokens=40),
)
"""Generated number-agreement sentences in the manner of Elman's experiments: the perplexity has a known floor."""

BOOK = RunConfig(
    preset="book",
    corpus=CorpusConfig(source="news", mask_digits=True),
    tokenizer=TokenizerConfig(kind="pretrained", name="microsoft/Phi-3.5-mini-instruct", vocab_size=32_011, end_of_sentence=False),
    model=ModelConfig(embedding_dim=128, hidden_size=128, num_layers=2, dropout=0.0, tie_weights=False, initialization="book"),
    optimizer=OptimizerConfig(learning_rate=1e-3, max_grad_norm=0.0),
    schedule=ScheduleConfig(kind="constant", warmup_steps=0),
    training=TrainingConfig(epochs=1, data_mode="sentences", batch_size=128, context_length=30, shuffle=False),
    evaluation=EvaluationConfig(every=1_563, split="test", max_sentences=1_024, prompts=("Moscow", "New York", "The hurricane", "The President")),
    checkpoint=CheckpointConfig(every=1_563),
    sampling=SamplingConfig(greedy=True, max_new_tokens=50),
)
"""The recurrent model of The Hundred-Page Language Models Book, chapter 3."""

PRESETS: dict[str, RunConfig] = {config.preset: config for config in (DEMO, ELMAN, BOOK)}

PRESET_SUMMARIES: dict[str, str] = {
    "demo": "two-layer Elman RNN on 57 State of the Union addresses",
    "elman": "Elman RNN on generated sentences with a known floor for the perplexity",
    "book": "the textbook's two-layer Elman RNN, 8.3 M parameters",
}
"""One line for each preset, for lists and the palette."""


def preset(name: str) -> RunConfig:
    """The preset of that name.

    Raises:
        InputError: no such preset, with the near ones.
    """
    try:
        return PRESETS[name]
    except KeyError:
        raise InputError(f'no preset "{name}", there are {", ".join(PRESETS)}', hint=near_names(name, PRESETS)) from None
