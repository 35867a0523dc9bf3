"""RunConfig: everything that decides a run, one frozen pydantic model a section.

Each field has a title (its label), a description (its help), bounds and, in `json_schema_extra`, a unit. The form, the
command line's `--set` and `config show` are made from them. The defaults are the preset `demo`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator
from pydantic_core import PydanticKnownError

DataMode = Literal["stream", "sentences"]
Layout = Literal["auto", "sentences", "lines", "raw"]
TokenizerKind = Literal["byte", "character", "word", "bpe", "pretrained"]
CellType = Literal["elman", "lstm", "gru", "mingru", "minlstm", "slstm", "mlstm"]
Initialization = Literal["default", "book", "uniform"]
ScheduleKind = Literal["constant", "cosine", "decay"]
Precision = Literal["float32", "bf16"]
UnknownTokens = Literal["auto", "avoid", "allow"]
MatmulMode = Literal["auto", "float32", "medium"]


def _unit(unit: str) -> dict[str, JsonValue]:
    return {"unit": unit}


class Section(BaseModel):
    """A frozen section of the config; unknown keys are problems, and numbers are never guessed from text."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class CorpusConfig(Section):
    """The text a run learns from."""

    source: str = Field(
        default="presidents",
        min_length=1,
        title="source",
        description="A built-in corpus (presidents, python-docs, elman; news is fetched), or a path: text or code (also .gz, .xz, .bz2), "
        "records (.jsonl, .csv, .tsv, .json), a folder, a pattern (src/**/*.py).",
    )
    url: str = Field(
        default="https://www.thelmbook.com/data/news",
        pattern=r"^https?://[!-~]+$",
        title="address",
        description="Where the news archive is fetched from (the news source only).",
    )
    test_source: str | None = Field(
        default=None,
        min_length=1,
        title="test source",
        description="A file or folder kept for the test; without one, test fraction is split off a user's source.",
    )
    text_field: str = Field(
        default="text", min_length=1, title="text field", description="The field or column that holds the text (JSONL, CSV, TSV and JSON arrays only)."
    )
    layout: Layout = Field(
        default="auto",
        title="layout",
        description="How a user's text is kept: sentences (a stripped line each), lines (each with its indentation), "
        "raw (every character, line breaks and white space included); auto: raw for code and for text whose lines aren't sentences.",
    )
    validation_fraction: float = Field(
        default=0.05,
        gt=0,
        lt=0.5,
        title="validation",
        description="Share of the training set split off for validation, by whole documents where there are any.",
    )
    test_fraction: float = Field(
        default=0.05, gt=0, lt=0.5, title="test", description="Share split off for the test where the source brings no test set of its own."
    )
    lowercase: bool = Field(default=False, title="lower case", description="Fold the text to lower case.")
    mask_digits: bool = Field(default=False, title="mask digits", description="Replace each run of digits by ###, as the news corpus of the book does.")
    sentences: int = Field(
        default=20_000,
        ge=100,
        le=10_000_000,
        title="sentences",
        description="Sentences to generate (the elman source only).",
        json_schema_extra=_unit("sentences"),
    )
    seed: int = Field(default=1990, ge=0, lt=2**63, title="grammar seed", description="Seed of the generated sentences (the elman source only).")


class TokenizerConfig(Section):
    """How text becomes token ids."""

    kind: TokenizerKind = Field(
        default="bpe", title="kind", description="byte, character, word, byte-level BPE trained on the training split, or a pretrained one."
    )
    vocab_size: int = Field(
        default=2_048,
        ge=2,
        le=1_000_000,
        title="vocabulary",
        description="Types to learn: exact for bpe, an upper bound for word and character, ignored for byte; a pretrained tokenizer brings its own.",
        json_schema_extra=_unit("types"),
    )
    name: str | None = Field(default=None, min_length=1, title="name", description="Local folder or hub name of a pretrained tokenizer.")
    end_of_sentence: bool = Field(
        default=True, title="<eos>", description="End each sentence (raw text: each document) with an <eos> token that the model learns to predict."
    )


class ModelConfig(Section):
    """The network."""

    cell_type: CellType = Field(
        default="elman",
        title="cell",
        description="The recurrent cell of each layer; elman is the textbook's, h_t = tanh(x_t W + h_(t-1) U + b). slstm, mlstm: xLSTM's bare cells, no convolution, norms or projections.",
    )
    embedding_dim: int = Field(default=192, ge=1, le=65_536, title="embedding", description="Width of a token's vector.", json_schema_extra=_unit("units"))
    hidden_size: int = Field(default=192, ge=1, le=65_536, title="hidden size", description="Width of each recurrent layer.", json_schema_extra=_unit("units"))
    num_layers: int = Field(default=2, ge=1, le=64, title="layers", description="Recurrent layers, one above the other.")
    num_heads: int = Field(default=4, ge=1, le=1_024, title="heads", description="Parts into which the memory is divided (slstm, mlstm only).")
    dropout: float = Field(
        default=0.1, ge=0, le=0.99, title="dropout", description="Share of units dropped after the embedding, between layers and before the output."
    )
    variational_dropout: bool = Field(
        default=False, title="variational", description="Drop the same units at every time step of a window, a new choice each step (stream mode)."
    )
    embedding_dropout: float = Field(
        default=0.0,
        ge=0,
        le=0.99,
        title="word dropout",
        description="Share of the vocabulary whose vectors are dropped whole, a new choice each step (stream mode).",
    )
    weight_dropout: float = Field(
        default=0.0, ge=0, le=0.99, title="weight dropout", description="Share of the state-to-state weights dropped for a whole step (stream mode)."
    )
    tie_weights: bool = Field(default=True, title="tied embedding", description="Use the embedding as the output matrix; needs embedding = hidden size.")
    initialization: Initialization = Field(
        default="default",
        title="initial weights",
        description="default: scaled uniform, zero output bias; book: Xavier for matrices, U(0, 1) for vectors; uniform: everything in ± initial scale.",
    )
    init_scale: float = Field(default=0.1, gt=0, le=10, title="initial scale", description="Bound of the initial weights (uniform only).")


class OptimizerConfig(Section):
    """How a gradient becomes an update."""

    algorithm: Literal["adamw", "sgd"] = Field(
        default="adamw", title="algorithm", description="adamw: Adam with decoupled weight decay; sgd: the gradient times the rate, without momentum."
    )
    learning_rate: float = Field(default=3e-3, gt=0, le=1_000, title="peak rate", description="Highest learning rate, reached after warm-up.")
    weight_decay: float = Field(default=0.01, ge=0, le=1, title="weight decay", description="Decoupled decay of every weight, each step times the rate.")
    beta1: float = Field(default=0.9, ge=0, lt=1, title="beta 1", description="Decay of the mean of gradients (adamw only).")
    beta2: float = Field(default=0.999, ge=0, lt=1, title="beta 2", description="Decay of the mean of squared gradients (adamw only).")
    eps: float = Field(default=1e-8, gt=0, le=1, title="epsilon", description="Added to the denominator (adamw only).")
    max_grad_norm: float = Field(default=1.0, ge=0, le=1e6, title="clip norm", description="Gradients are scaled down to this L2 norm; 0 clips nothing.")


class ScheduleConfig(Section):
    """The learning rate over the run."""

    kind: ScheduleKind = Field(
        default="cosine", title="schedule", description="constant; cosine from the peak to the final rate; decay: by a factor each epoch."
    )
    warmup_steps: int = Field(
        default=100,
        ge=0,
        le=10**9,
        title="warm-up",
        description="Steps of linear rise from 0 to the peak rate; a preset's default is cut to a tenth of a run that isn't longer.",
        json_schema_extra=_unit("steps"),
    )
    final_fraction: float = Field(default=0.02, ge=0, le=1, title="final rate", description="Share of the peak rate at the last step (cosine only).")
    decay_after: int = Field(
        default=4, ge=0, le=1_000_000, title="decay after", description="Epochs at the peak rate (decay only).", json_schema_extra=_unit("epochs")
    )
    decay_factor: float = Field(default=0.5, gt=0, le=1, title="decay factor", description="The rate is multiplied by it at each later epoch (decay only).")


class TrainingConfig(Section):
    """How the data passes the model."""

    epochs: int = Field(default=5, ge=1, le=1_000_000, title="epochs", description="Passes over the training set, unless max steps says otherwise.")
    max_steps: int | None = Field(
        default=None, ge=1, le=10**9, title="max steps", description="Exactly this many optimizer updates; empty: as many as the epochs give."
    )
    data_mode: DataMode = Field(
        default="stream",
        title="data",
        description="stream: contiguous text, state carried from step to step; sentences: one sentence a row, state zero, padded.",
    )
    batch_size: int = Field(default=20, ge=1, le=65_536, title="batch", description="Streams or sentences a step.", json_schema_extra=_unit("sequences"))
    bptt: int = Field(default=35, ge=1, le=65_536, title="length", description="Tokens per stream per step (stream mode).", json_schema_extra=_unit("tokens"))
    context_length: int = Field(
        default=30, ge=2, le=65_536, title="context", description="Tokens of a sentence that are kept (sentence mode).", json_schema_extra=_unit("tokens")
    )
    shuffle: bool = Field(default=True, title="shuffle", description="New order of the sentences each epoch, by the seed (sentence mode); off: file order.")
    seed: int = Field(default=42, ge=0, lt=2**63, title="seed", description="Seed of weights, order and dropout.")
    deterministic: bool = Field(default=False, title="exact mode", description="Bit-identical repeats and resumes on this machine; may be slower.")
    device: str = Field(default="auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$", title="device", description="auto, cuda, cuda:1, mps or cpu.")
    precision: Precision = Field(
        default="float32", title="precision", description="The head's products: float32, or bf16 with float32 layers, weights, loss and optimizer (GPU only)."
    )
    matmul: MatmulMode = Field(
        default="auto",
        title="matmul",
        description="Matrix products: float32; medium: inputs rounded to bf16 (TF32 on a GPU); auto: the faster of the two, measured at the start.",
    )
    cuda_graphs: bool = Field(default=True, title="CUDA graphs", description="Replay the step as one CUDA graph where that is measured faster (GPU only).")
    threads: int = Field(default=0, ge=0, le=1024, title="threads", description="CPU threads to compute with; 0 takes every core this process may use.")
    max_bad_steps: int = Field(
        default=20,
        ge=1,
        le=1_000_000,
        title="bad steps",
        description="So many steps in a row whose loss or gradient is not finite end the run; none of them changes a weight.",
        json_schema_extra=_unit("steps"),
    )
    patience: int = Field(
        default=0,
        ge=0,
        le=1_000_000,
        title="patience",
        description="End the run after so many evaluations in a row without a better validation loss; 0: never.",
        json_schema_extra=_unit("evaluations"),
    )


class EvaluationConfig(Section):
    """Perplexity on held-out text, and samples, during the run."""

    every: int = Field(
        default=500, ge=0, le=10**9, title="every", description="Steps between evaluations; 0: only at the end.", json_schema_extra=_unit("steps")
    )
    max_sentences: int = Field(
        default=0,
        ge=0,
        le=10**9,
        title="sentences",
        description="First sentences used for an evaluation during the run; 0: all of them.",
        json_schema_extra=_unit("sentences"),
    )
    split: Literal["validation", "test"] = Field(
        default="validation", title="split", description="Set that is evaluated during the run; test only to repeat the book's protocol."
    )
    prompts: tuple[Annotated[str, Field(max_length=2_000)], ...] = Field(
        default=("The state of the Union", "My fellow Americans,", "We must"),
        strict=False,
        max_length=32,
        title="prompts",
        description="Continued at every evaluation.",
    )


class CheckpointConfig(Section):
    """What is kept to resume and to sample from."""

    every: int = Field(
        default=500,
        ge=0,
        le=10**9,
        title="every",
        description="Steps between checkpoints; 0: only at the end. An evaluation that is the best so far saves one too.",
        json_schema_extra=_unit("steps"),
    )
    keep_last: int = Field(
        default=2,
        ge=2,
        le=10_000,
        title="keep",
        description="Newest checkpoints that are kept; the best and the pinned are always kept too.",
        json_schema_extra=_unit("files"),
    )
    keep_every: int = Field(
        default=0,
        ge=0,
        le=10**9,
        title="keep every",
        description="Checkpoints at a multiple of this step are kept for good; 0: none.",
        json_schema_extra=_unit("steps"),
    )


MIN_TEMPERATURE, MIN_PENALTY = 0.01, 0.1
"""Dividing logits by less than this could overflow float32. A temperature of 0 means greedy."""


class SamplingConfig(Section):
    """How text is drawn, at evaluations and as the prompt's first settings."""

    temperature: float = Field(default=0.8, le=100, title="temperature", description="Divides the logits: below 1 safer, above 1 wilder; 0: greedy.")
    top_k: int = Field(default=0, ge=0, le=1_000_000, title="top-k", description="Draw from the k likeliest tokens; 0: off.")
    top_p: float = Field(default=0.95, gt=0, le=1, title="top-p", description="Draw from the fewest tokens that hold this probability; 1: off.")
    min_p: float = Field(
        default=0.0, ge=0, le=1, title="min-p", description="Draw from tokens with at least this share of the likeliest one's probability; 0: off."
    )
    repetition_penalty: float = Field(
        default=1.0,
        ge=MIN_PENALTY,
        le=100,
        title="penalty",
        description="Makes tokens that already occur in the prompt or the text less likely (above 1); 1: off.",
    )
    unknown: UnknownTokens = Field(
        default="auto",
        title="<unk>",
        description="avoid: never draw <unk>, the token of unknown words; allow: draw it like any token; auto: avoid at word level, else allow.",
    )
    stop: tuple[Annotated[str, Field(min_length=1, max_length=100)], ...] = Field(
        default=(),
        strict=False,
        max_length=8,
        title="stop",
        description="The text ends before the first of these; \\n is a line break.",
    )
    max_new_tokens: int = Field(default=100, ge=1, le=1_000_000, title="max", description="Tokens to generate.", json_schema_extra=_unit("tokens"))
    seed: int = Field(default=7, ge=0, lt=2**63, title="seed", description="Seed of the sampler's own generator.")
    greedy: bool = Field(default=False, title="greedy", description="Always the likeliest token; temperature, top-k, top-p, min-p and seed do nothing.")

    @field_validator("temperature")
    @classmethod
    def _divides_without_overflow(cls, value: float) -> float:
        if value != 0 and value < MIN_TEMPERATURE:
            raise PydanticKnownError("greater_than_equal", {"ge": MIN_TEMPERATURE})
        return value

    @property
    def is_greedy(self) -> bool:
        """Whether sampling always takes the likeliest token: `greedy`, or a temperature of 0."""
        return self.greedy or self.temperature == 0


class RunConfig(Section):
    """A whole run. Immutable: a changed config is a new object."""

    preset: str = Field(default="demo", title="preset", description="The preset that this config started from.")
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
"""The names of the sections, in the order of forms and files."""

CELL_SUMMARIES: Mapping[str, str] = MappingProxyType(
    {
        "elman": "the textbook's: h_t = tanh(x_t W + h_(t-1) U + b)",
        "lstm": "long short-term memory",
        "gru": "gated recurrent unit",
        "mingru": "a GRU whose gates don't see the state (Feng et al. 2024)",
        "minlstm": "an LSTM whose gates don't see the state (Feng et al. 2024)",
        "slstm": "xLSTM's bare scalar memory: no convolution, norm or projection",
        "mlstm": "xLSTM's bare matrix memory: no convolution, norm or projection",
    }
)
"""A one-line description of each cell, for choosing one."""
HEADED_CELLS: tuple[CellType, ...] = ("slstm", "mlstm")
"""Cells whose memory is divided into heads."""
RECURRENT_WEIGHT_CELLS: tuple[CellType, ...] = ("elman", "lstm", "gru", "slstm")
"""Cells with state-to-state weights."""
