"""RunConfig: all settings of a run, one frozen pydantic model per section.

Each field has a title (its label), a description (its help), bounds and, in `json_schema_extra`, a
unit. The form, `--set` and `config show` are generated from them. The defaults are the preset
`demo`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator
from pydantic_core import PydanticKnownError

from rnnlm_tui.schema.cells import CellType

DataMode = Literal["stream", "sentences"]
Layout = Literal["auto", "sentences", "lines", "raw"]
TokenizerKind = Literal["byte", "character", "word", "bpe", "pretrained"]
Initialization = Literal["default", "book", "uniform"]
ScheduleKind = Literal["constant", "cosine", "decay"]
Precision = Literal["float32", "bf16"]
UnknownTokens = Literal["auto", "avoid", "allow"]
MatmulMode = Literal["auto", "float32", "medium"]


def _unit(unit: str) -> dict[str, JsonValue]:
    return {"unit": unit}


class Section(BaseModel):
    """A frozen config section. Unknown keys are errors, and text is never converted to numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class CorpusConfig(Section):
    """The training text."""

    source: str = Field(
        default="presidents",
        min_length=1,
        title="source",
        description=(
            "A built-in corpus (presidents, elman; news is downloaded), a path: text, code, records"
            " (.jsonl, .csv, .tsv, .json), a folder or a pattern (src/**/*.py), or a dataset"
            " (python:module:name)."
        ),
    )
    url: str = Field(
        default="https://www.thelmbook.com/data/news",
        pattern=r"^https?://[!-~]+$",
        title="address",
        description="Download address of the news archive (news only).",
    )
    test_source: str | None = Field(
        default=None,
        min_length=1,
        title="test source",
        description=(
            "File or folder with the test set; without it, the test fraction of your text is used."
        ),
    )
    text_field: str = Field(
        default="text",
        min_length=1,
        title="text field",
        description="Field or column that contains the text (JSONL, CSV, TSV and JSON only).",
    )
    layout: Layout = Field(
        default="auto",
        title="layout",
        description=(
            "sentences: one stripped line each; lines: with indentation; raw: every character, with"
            " line breaks and white space; auto: raw for code and for text whose lines aren't"
            " sentences."
        ),
    )
    validation_fraction: float = Field(
        default=0.05,
        gt=0,
        lt=0.5,
        title="validation",
        description=(
            "Fraction of the training set used for validation, by whole documents if possible."
        ),
    )
    test_fraction: float = Field(
        default=0.05,
        gt=0,
        lt=0.5,
        title="test",
        description="Fraction used as the test set if the source has none.",
    )
    lowercase: bool = Field(
        default=False, title="lower case", description="Convert the text to lower case."
    )
    mask_digits: bool = Field(
        default=False,
        title="mask digits",
        description="Replace each sequence of digits by ###, as in the book's news corpus.",
    )
    sentences: int = Field(
        default=20_000,
        ge=100,
        le=10_000_000,
        title="sentences",
        description="Sentences to generate (elman only).",
        json_schema_extra=_unit("sentences"),
    )
    seed: int = Field(
        default=1990,
        ge=0,
        lt=2**63,
        title="grammar seed",
        description="Seed of the generated sentences (elman only).",
    )


class TokenizerConfig(Section):
    """The tokenizer."""

    kind: TokenizerKind = Field(
        default="bpe",
        title="kind",
        description=(
            "byte, character, word, bpe (byte-level, trained on the training split) or pretrained."
        ),
    )
    vocab_size: int = Field(
        default=2_048,
        ge=2,
        le=1_000_000,
        title="vocabulary",
        description=(
            "Vocabulary size: exact for bpe and pretrained, the maximum for word and character,"
            " ignored for byte."
        ),
        json_schema_extra=_unit("types"),
    )
    name: str | None = Field(
        default=None,
        min_length=1,
        title="name",
        description="Local folder or Hugging Face name (pretrained only).",
    )
    end_of_sentence: bool = Field(
        default=True,
        title="<eos>",
        description=(
            "End each sentence (raw text: each document) with an <eos> token, which the model"
            " learns to predict."
        ),
    )


class ModelConfig(Section):
    """The model."""

    cell_type: CellType = Field(
        default="elman",
        title="cell",
        description=(
            "Recurrent cell. elman is the textbook RNN, h_t = tanh(x_t W + h_(t-1) U + b); slstm"
            " and mlstm are xLSTM's cells alone, without convolution, norms or projections."
        ),
    )
    embedding_dim: int = Field(
        default=192,
        ge=1,
        le=65_536,
        title="embedding",
        description="Size of the token embeddings.",
        json_schema_extra=_unit("units"),
    )
    hidden_size: int = Field(
        default=192,
        ge=1,
        le=65_536,
        title="hidden size",
        description="Size of the hidden state of each layer.",
        json_schema_extra=_unit("units"),
    )
    num_layers: int = Field(
        default=2, ge=1, le=64, title="layers", description="Number of stacked recurrent layers."
    )
    num_heads: int = Field(
        default=4,
        ge=1,
        le=1_024,
        title="heads",
        description="Number of memory heads (slstm, mlstm only).",
    )
    dropout: float = Field(
        default=0.1,
        ge=0,
        le=0.99,
        title="dropout",
        description="Dropout after the embedding, between layers and before the output.",
    )
    variational_dropout: bool = Field(
        default=False,
        title="variational",
        description="Use one dropout mask for all time steps of a training step (stream mode).",
    )
    embedding_dropout: float = Field(
        default=0.0,
        ge=0,
        le=0.99,
        title="word dropout",
        description=(
            "Fraction of the vocabulary whose embeddings are dropped in each step (stream mode)."
        ),
    )
    weight_dropout: float = Field(
        default=0.0,
        ge=0,
        le=0.99,
        title="weight dropout",
        description="Fraction of the recurrent weights dropped in each step (stream mode).",
    )
    tie_weights: bool = Field(
        default=True,
        title="tied embedding",
        description="Share the weights of embedding and output; requires embedding = hidden size.",
    )
    initialization: Initialization = Field(
        default="default",
        title="initial weights",
        description=(
            "default: scaled uniform, zero output bias; book: Xavier for matrices, U(0, 1) for"
            " vectors; uniform: all in ± initial scale."
        ),
    )
    init_scale: float = Field(
        default=0.1,
        gt=0,
        le=10,
        title="initial scale",
        description="Largest absolute value of the initial weights (uniform only).",
    )


class OptimizerConfig(Section):
    """The optimizer."""

    algorithm: Literal["adamw", "sgd"] = Field(
        default="adamw",
        title="algorithm",
        description="adamw: Adam with decoupled weight decay; sgd: without momentum.",
    )
    learning_rate: float = Field(
        default=3e-3,
        gt=0,
        le=1_000,
        title="peak rate",
        description="Highest learning rate, reached after the warm-up.",
    )
    weight_decay: float = Field(
        default=0.01,
        ge=0,
        le=1,
        title="weight decay",
        description="Decoupled weight decay, applied to all weights.",
    )
    beta1: float = Field(
        default=0.9,
        ge=0,
        lt=1,
        title="beta 1",
        description="Decay rate of the gradient average (adamw only).",
    )
    beta2: float = Field(
        default=0.999,
        ge=0,
        lt=1,
        title="beta 2",
        description="Decay rate of the squared-gradient average (adamw only).",
    )
    eps: float = Field(
        default=1e-8,
        gt=0,
        le=1,
        title="epsilon",
        description="Added to the denominator for numerical stability (adamw only).",
    )
    max_grad_norm: float = Field(
        default=1.0,
        ge=0,
        le=1e6,
        title="clip norm",
        description="Clip gradients to this L2 norm; 0: no clipping.",
    )


class ScheduleConfig(Section):
    """The learning-rate schedule."""

    kind: ScheduleKind = Field(
        default="cosine",
        title="schedule",
        description=(
            "constant; cosine: from the peak to the final rate; decay: by a factor each epoch."
        ),
    )
    warmup_steps: int = Field(
        default=100,
        ge=0,
        le=10**9,
        title="warm-up",
        description=(
            "Steps to increase the rate linearly from 0 to the peak. In a shorter run, a preset's"
            " default becomes a tenth of the run."
        ),
        json_schema_extra=_unit("steps"),
    )
    final_fraction: float = Field(
        default=0.02,
        ge=0,
        le=1,
        title="final rate",
        description="Learning rate at the last step as a fraction of the peak (cosine only).",
    )
    decay_after: int = Field(
        default=4,
        ge=0,
        le=1_000_000,
        title="decay after",
        description="Epochs at the peak rate before the decay (decay only).",
        json_schema_extra=_unit("epochs"),
    )
    decay_factor: float = Field(
        default=0.5,
        gt=0,
        le=1,
        title="decay factor",
        description="Multiplies the rate after each further epoch (decay only).",
    )


class TrainingConfig(Section):
    """The training loop."""

    epochs: int = Field(
        default=5,
        ge=1,
        le=1_000_000,
        title="epochs",
        description="Epochs to train; max steps overrides it.",
    )
    max_steps: int | None = Field(
        default=None,
        ge=1,
        le=10**9,
        title="max steps",
        description="Exact number of optimizer steps; empty: given by the epochs.",
    )
    data_mode: DataMode = Field(
        default="stream",
        title="data",
        description=(
            "stream: contiguous text, state carried from step to step; sentences: one padded"
            " sentence per row, starting from a zero state."
        ),
    )
    batch_size: int = Field(
        default=20,
        ge=1,
        le=65_536,
        title="batch",
        description="Streams or sentences per step.",
        json_schema_extra=_unit("sequences"),
    )
    bptt: int = Field(
        default=35,
        ge=1,
        le=65_536,
        title="length",
        description="Tokens per stream per step (stream mode).",
        json_schema_extra=_unit("tokens"),
    )
    context_length: int = Field(
        default=30,
        ge=2,
        le=65_536,
        title="context",
        description="Tokens to keep of each sentence (sentence mode).",
        json_schema_extra=_unit("tokens"),
    )
    shuffle: bool = Field(
        default=True,
        title="shuffle",
        description="Shuffle the sentences each epoch (sentence mode); off: file order.",
    )
    seed: int = Field(
        default=42,
        ge=0,
        lt=2**63,
        title="seed",
        description="Seed for weights, shuffling and dropout.",
    )
    deterministic: bool = Field(
        default=False,
        title="exact mode",
        description=(
            "Bit-identical results when repeated or resumed on this machine; may be slower."
        ),
    )
    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$",
        title="device",
        description="auto, cuda, cuda:1, mps or cpu.",
    )
    precision: Precision = Field(
        default="float32",
        title="precision",
        description=(
            "Output layer's matmul: float32, or bf16 (GPU only); layers, weights, loss and"
            " optimizer stay float32."
        ),
    )
    matmul: MatmulMode = Field(
        default="auto",
        title="matmul",
        description=(
            "float32; medium: inputs rounded to bf16 (TF32 on a GPU); auto: the fastest, measured"
            " at the start, on a GPU also bf16 for the output layer."
        ),
    )
    threads: int = Field(
        default=0,
        ge=0,
        le=1024,
        title="threads",
        description="CPU threads; 0: all cores available to this process.",
    )
    max_bad_steps: int = Field(
        default=20,
        ge=1,
        le=1_000_000,
        title="bad steps",
        description=(
            "Stop after this many consecutive non-finite steps (loss or gradient); these steps"
            " don't change the weights."
        ),
        json_schema_extra=_unit("steps"),
    )
    patience: int = Field(
        default=0,
        ge=0,
        le=1_000_000,
        title="patience",
        description=(
            "Early stopping: evaluations without a better validation loss before the run ends; 0:"
            " off."
        ),
        json_schema_extra=_unit("evaluations"),
    )


class EvaluationConfig(Section):
    """Evaluation during the run: perplexity on held-out text, and samples."""

    every: int = Field(
        default=500,
        ge=0,
        le=10**9,
        title="every",
        description="Steps between evaluations; 0: only at the end.",
        json_schema_extra=_unit("steps"),
    )
    max_sentences: int = Field(
        default=0,
        ge=0,
        le=10**9,
        title="sentences",
        description="Sentences used in evaluations during the run, from the first on; 0: all.",
        json_schema_extra=_unit("sentences"),
    )
    split: Literal["validation", "test"] = Field(
        default="validation",
        title="split",
        description="Set to evaluate during the run; use test only to reproduce the book's run.",
    )
    prompts: tuple[Annotated[str, Field(max_length=2_000)], ...] = Field(
        default=("The state of the Union", "My fellow Americans,", "We must"),
        strict=False,
        max_length=32,
        title="prompts",
        description="Prompts to continue at every evaluation; a preset's for its own text only:"
        " another text's are its beginnings.",
    )


class CheckpointConfig(Section):
    """Which checkpoints are saved and kept."""

    every: int = Field(
        default=500,
        ge=0,
        le=10**9,
        title="every",
        description=(
            "Steps between checkpoints; 0: only at the end. Each new best evaluation saves one too."
        ),
        json_schema_extra=_unit("steps"),
    )
    keep_last: int = Field(
        default=2,
        ge=2,
        le=10_000,
        title="keep",
        description=(
            "Number of newest checkpoints to keep; the best and pinned ones are always kept."
        ),
        json_schema_extra=_unit("files"),
    )
    keep_every: int = Field(
        default=0,
        ge=0,
        le=10**9,
        title="keep every",
        description="Always keep checkpoints at multiples of this step; 0: off.",
        json_schema_extra=_unit("steps"),
    )

    def stays(self, step: int) -> str:
        """How long a checkpoint stays that is neither the best nor pinned; empty: for good."""
        if self.keep_every and step % self.keep_every == 0:
            return ""
        return f"until {self.keep_last} newer ones exist"


MIN_TEMPERATURE, MIN_PENALTY = 0.01, 0.1
"""Dividing logits by less than this could overflow float32; a temperature of 0 means greedy."""


class SamplingConfig(Section):
    """Sampling at evaluations, and the defaults of the prompt."""

    temperature: float = Field(
        default=0.8,
        le=100,
        title="temperature",
        description="Below 1: safer, above 1: wilder; 0: greedy.",
    )
    top_k: int = Field(
        default=0,
        ge=0,
        le=1_000_000,
        title="top-k",
        description="Sample from the k most likely tokens; 0: off.",
    )
    top_p: float = Field(
        default=0.95,
        gt=0,
        le=1,
        title="top-p",
        description="Sample from the most likely tokens up to this total probability; 1: off.",
    )
    min_p: float = Field(
        default=0.0,
        ge=0,
        le=1,
        title="min-p",
        description=(
            "Sample from tokens with at least this fraction of the top token's probability; 0: off."
        ),
    )
    typical_p: float = Field(
        default=1.0,
        gt=0,
        le=1,
        title="typical-p",
        description=(
            "Sample from the tokens whose surprise is nearest to the average, up to this total"
            " probability; 1: off."
        ),
    )
    repetition_penalty: float = Field(
        default=1.0,
        ge=MIN_PENALTY,
        le=100,
        title="penalty",
        description="Above 1: tokens already in the prompt or the text become less likely; 1: off.",
    )
    penalty_window: int = Field(
        default=0,
        ge=0,
        le=1_000_000,
        title="window",
        description="Only the last tokens count for the penalty, this many; 0: the whole text.",
        json_schema_extra=_unit("tokens"),
    )
    unknown: UnknownTokens = Field(
        default="auto",
        title="<unk>",
        description=(
            "avoid: never generate <unk>, the token for unknown words; allow: like any token; auto:"
            " avoid for word tokenizers, else allow."
        ),
    )
    stop: tuple[Annotated[str, Field(min_length=1, max_length=100)], ...] = Field(
        default=(),
        strict=False,
        max_length=8,
        title="stop",
        description="Stop before the first of these texts; \\n is a line break.",
    )
    max_new_tokens: int = Field(
        default=100,
        ge=1,
        le=1_000_000,
        title="max",
        description="Tokens to generate.",
        json_schema_extra=_unit("tokens"),
    )
    seed: int = Field(
        default=7, ge=0, lt=2**63, title="seed", description="Random seed for sampling."
    )
    greedy: bool = Field(
        default=False,
        title="greedy",
        description=(
            "Always take the most likely token; ignores temperature, top-k, top-p, min-p, typical-p"
            " and seed."
        ),
    )

    @field_validator("temperature")
    @classmethod
    def _divides_without_overflow(cls, value: float) -> float:
        if value != 0 and value < MIN_TEMPERATURE:
            raise PydanticKnownError("greater_than_equal", {"ge": MIN_TEMPERATURE})
        return value

    @property
    def is_greedy(self) -> bool:
        """Whether sampling always takes the most likely token: `greedy`, or a temperature of 0."""
        return self.greedy or self.temperature == 0


SAMPLING_OFF: Mapping[str, object] = {
    "top_k": 0, "top_p": 1.0, "min_p": 0.0, "typical_p": 1.0, "repetition_penalty": 1.0,
    "penalty_window": 0,
}  # fmt: skip
"""The values of sampling settings that turn them off; in the app also written `off`."""


class RunConfig(Section):
    """The config of a run. Immutable: changing it makes a new object."""

    preset: str = Field(
        default="demo", title="preset", description="The preset that this config is based on."
    )
    corpus: CorpusConfig = CorpusConfig()
    tokenizer: TokenizerConfig = TokenizerConfig()
    model: ModelConfig = ModelConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    sampling: SamplingConfig = SamplingConfig()


SECTIONS: tuple[str, ...] = tuple(name for name in RunConfig.model_fields if name != "preset")
"""Section names in the order of the form and of config files."""
