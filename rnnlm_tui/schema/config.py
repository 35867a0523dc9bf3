"""RunConfig: all settings of a run, one record per section.

The form, `--set`, `config show` and the guide are made from the fields. The defaults are the preset
`demo`.
"""

from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic_core import PydanticKnownError

from rnnlm_tui.schema.cells import CELLS, CellType
from rnnlm_tui.schema.record import Bounds, Declared, Record

if TYPE_CHECKING:
    from pydantic import JsonValue

BUILT_IN_SOURCES: tuple[str, ...] = ("presidents", "elman", "news")
"""Values of `corpus.source` that aren't paths; `news` is downloaded on first use."""

DataMode = Literal["stream", "sentences"]
Layout = Literal["auto", "sentences", "lines", "raw"]
TokenizerKind = Literal["byte", "character", "word", "bpe", "pretrained"]
Initialization = Literal["default", "book", "uniform"]
ScheduleKind = Literal["constant", "cosine", "decay"]
Precision = Literal["float32", "bf16"]
UnknownTokens = Literal["auto", "avoid", "allow"]
MatmulMode = Literal["auto", "float32", "medium"]

BASELINE_ORDERS = 5
"""The longest n-grams that are counted."""

Seed = Annotated[int, Bounds(ge=0, lt=2**63)]
Size = Annotated[int, Bounds(ge=1, le=65_536)]
Steps = Annotated[int, Bounds(ge=0, le=10**9)]
Count = Annotated[int, Bounds(ge=0, le=1_000_000)]
Dropout = Annotated[float, Bounds(ge=0, le=0.99)]
Fraction = Annotated[float, Bounds(ge=0, le=1)]
PositiveFraction = Annotated[float, Bounds(gt=0, le=1)]


def field(
    default: object,
    title: str,
    help: str,
    *,
    unit: str = "",
    off: float | None = None,
    idle_when_greedy: bool = False,
    check: Callable[[Any], Any] | None = None,
    **bounds: Any,
) -> Any:
    """A config field. The form, the options, `config show` and the guide are made from it.

    Args:
        title: its label.
        help: what it means, in one or two sentences.
        off: the value that turns a sampling setting off; in the app also written `off`.
        idle_when_greedy: whether a sampling setting has no effect on greedy sampling.
        check: returns a value that is allowed; raises pydantic's error for another.
        bounds: `ge`, `gt`, `le`, `lt`, `min_length`, `max_length` or `pattern`.
    """
    about = {"title": title, "description": help, "unit": unit, "off": off, "check": check}
    about["idle_when_greedy"] = idle_when_greedy
    return Declared(default, {**about, **bounds})


class Section(Record):
    """A config section."""

    FINITE = True


class CorpusConfig(Section):
    """The training text."""

    source: str = field(
        "presidents",
        "source",
        "A built-in corpus (presidents, elman; news is downloaded), a path: text, code, records"
        " (.jsonl, .csv, .tsv, .json), a folder or a pattern (src/**/*.py), or a dataset"
        " (python:module:name).",
        min_length=1,
    )
    url: str = field(
        "https://www.thelmbook.com/data/news",
        "address",
        "Download address of the news archive (news only).",
        pattern=r"^https?://[!-~]+$",
    )
    test_source: str | None = field(
        None,
        "test source",
        "File or folder with the test set; without it, the test fraction of your text is used.",
        min_length=1,
    )
    text_field: str = field(
        "text",
        "text field",
        "Field or column that contains the text (JSONL, CSV, TSV and JSON only).",
        min_length=1,
    )
    layout: Layout = field(
        "auto",
        "layout",
        "sentences: one stripped line each; lines: with indentation; raw: every character, with"
        " line breaks and white space; auto: raw for code and for text whose lines aren't"
        " sentences.",
    )
    validation_fraction: float = field(
        0.05,
        "validation",
        "Fraction of the training set used for validation, by whole documents if possible.",
        gt=0,
        lt=0.5,
    )
    test_fraction: float = field(
        0.05, "test", "Fraction used as the test set if the source has none.", gt=0, lt=0.5
    )
    lowercase: bool = field(False, "lower case", "Convert the text to lower case.")
    mask_digits: bool = field(
        False,
        "mask digits",
        "Replace each sequence of digits by ###, as in the book's news corpus.",
    )
    sentences: int = field(
        20_000,
        "sentences",
        "Sentences to generate (elman only).",
        ge=100,
        le=10_000_000,
        unit="sentences",
    )
    seed: Seed = field(1990, "grammar seed", "Seed of the generated sentences (elman only).")


class TokenizerConfig(Section):
    """The tokenizer."""

    kind: TokenizerKind = field(
        "bpe",
        "kind",
        "byte, character, word, bpe (byte-level, trained on the training split) or pretrained.",
    )
    vocab_size: int = field(
        2_048,
        "vocabulary",
        "Vocabulary size: exact for bpe and pretrained, the maximum for word and character,"
        " ignored for byte.",
        ge=2,
        le=1_000_000,
        unit="types",
    )
    name: str | None = field(
        None, "name", "Local folder or Hugging Face name (pretrained only).", min_length=1
    )
    end_of_sentence: bool = field(
        True,
        "<eos>",
        "End each sentence (raw text: each document) with an <eos> token, which the model learns"
        " to predict.",
    )


WARM_UP = 128
"""Tokens after which the state of a recurrent cell no longer depends on where it started."""


class ModelConfig(Section):
    """The model."""

    cell_type: CellType = field(
        "elman",
        "cell",
        "Recurrent cell. elman is the textbook RNN, h_t = tanh(x_t W + h_(t-1) U + b); slstm and"
        " mlstm are xLSTM's cells alone, without convolution, norms or projections.",
    )
    embedding_dim: Size = field(192, "embedding", "Size of the token embeddings.", unit="units")
    hidden_size: Size = field(
        192, "hidden size", "Size of the hidden state of each layer.", unit="units"
    )
    num_layers: int = field(2, "layers", "Number of stacked recurrent layers.", ge=1, le=64)
    num_heads: int = field(
        4,
        "heads",
        "Number of memory or attention heads (slstm, mlstm, transformer only).",
        ge=1,
        le=1_024,
    )
    attention_window: int = field(
        256,
        "window",
        "Tokens that each token attends to, itself included (transformer only).",
        ge=2,
        le=65_536,
        unit="tokens",
    )
    dropout: Dropout = field(
        0.1, "dropout", "Dropout after the embedding, between layers and before the output."
    )
    variational_dropout: bool = field(
        False,
        "variational",
        "Use one dropout mask for all time steps of a training step (stream mode).",
    )
    embedding_dropout: Dropout = field(
        0.0,
        "word dropout",
        "Fraction of the vocabulary whose embeddings are dropped in each step (stream mode).",
    )
    weight_dropout: Dropout = field(
        0.0,
        "weight dropout",
        "Fraction of the recurrent weights dropped in each step (stream mode).",
    )
    tie_weights: bool = field(
        True,
        "tied embedding",
        "Share the weights of embedding and output; requires embedding = hidden size.",
    )
    initialization: Initialization = field(
        "default",
        "initial weights",
        "default: scaled uniform, zero output bias; book: Xavier for matrices, U(0, 1) for"
        " vectors; uniform: all in ± initial scale.",
    )
    init_scale: float = field(
        0.1,
        "initial scale",
        "Largest absolute value of the initial weights (uniform only).",
        gt=0,
        le=10,
    )

    @property
    def warm_up(self) -> int:
        """Tokens that an evaluation of a part of a stream reads before it, so that it starts from
        the state of one pass over the text: all that the last block of a transformer looks back
        to."""
        if not CELLS[self.cell_type].attends:
            return WARM_UP
        return max(WARM_UP, self.num_layers * (self.attention_window - 1))


class OptimizerConfig(Section):
    """The optimizer."""

    algorithm: Literal["adamw", "sgd"] = field(
        "adamw", "algorithm", "adamw: Adam with decoupled weight decay; sgd: without momentum."
    )
    learning_rate: float = field(
        3e-3, "peak rate", "Highest learning rate, reached after the warm-up.", gt=0, le=1_000
    )
    weight_decay: Fraction = field(
        0.01, "weight decay", "Decoupled weight decay, applied to all weights."
    )
    beta1: float = field(
        0.9, "beta 1", "Decay rate of the gradient average (adamw only).", ge=0, lt=1
    )
    beta2: float = field(
        0.999, "beta 2", "Decay rate of the squared-gradient average (adamw only).", ge=0, lt=1
    )
    eps: PositiveFraction = field(
        1e-8, "epsilon", "Added to the denominator for numerical stability (adamw only)."
    )
    max_grad_norm: float = field(
        1.0, "clip norm", "Clip gradients to this L2 norm; 0: no clipping.", ge=0, le=1e6
    )


class ScheduleConfig(Section):
    """The learning-rate schedule."""

    kind: ScheduleKind = field(
        "cosine",
        "schedule",
        "constant; cosine: from the peak to the final rate; decay: by a factor each epoch.",
    )
    warmup_steps: Steps = field(
        100,
        "warm-up",
        "Steps to increase the rate linearly from 0 to the peak; in a shorter run, a tenth of it.",
        unit="steps",
    )
    final_fraction: Fraction = field(
        0.02,
        "final rate",
        "Learning rate at the last step as a fraction of the peak (cosine only).",
    )
    decay_after: Count = field(
        4, "decay after", "Epochs at the peak rate before the decay (decay only).", unit="epochs"
    )
    decay_factor: PositiveFraction = field(
        0.5, "decay factor", "Multiplies the rate after each further epoch (decay only)."
    )


class TrainingConfig(Section):
    """The training loop."""

    epochs: int = field(5, "epochs", "Epochs to train; max steps overrides it.", ge=1, le=1_000_000)
    max_steps: int | None = field(
        None,
        "max steps",
        "Exact number of optimizer steps; empty: given by the epochs.",
        ge=1,
        le=10**9,
    )
    data_mode: DataMode = field(
        "stream",
        "data",
        "stream: contiguous text, state carried from step to step; sentences: one padded sentence"
        " per row, starting from a zero state.",
    )
    batch_size: Size = field(20, "batch", "Streams or sentences per step.", unit="sequences")
    bptt: Size = field(35, "length", "Tokens per stream per step (stream mode).", unit="tokens")
    context_length: int = field(
        30,
        "context",
        "Tokens to keep of each sentence (sentence mode).",
        ge=2,
        le=65_536,
        unit="tokens",
    )
    shuffle: bool = field(
        True, "shuffle", "Shuffle the sentences each epoch (sentence mode); off: file order."
    )
    seed: Seed = field(42, "seed", "Seed for weights, shuffling and dropout.")
    deterministic: bool = field(
        False,
        "exact mode",
        "Bit-identical results when repeated or resumed on this machine; may be slower.",
    )
    device: str = field(
        "auto", "device", "auto, cuda, cuda:1, mps or cpu.", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$"
    )
    precision: Precision = field(
        "float32",
        "precision",
        "Output layer's matmul: float32, or bf16 (GPU only); layers, weights, loss and optimizer"
        " stay float32.",
    )
    matmul: MatmulMode = field(
        "auto",
        "matmul",
        "float32; medium: inputs rounded to bf16 (TF32 on a GPU); auto: the fastest, measured at"
        " the start, on a GPU also bf16 for the output layer.",
    )
    accumulate: int = field(
        1,
        "accumulate",
        "Parts in which a step computes its batch, one after the other, to need less memory.",
        ge=1,
        le=4_096,
        unit="parts",
    )
    threads: int = field(
        0, "threads", "CPU threads; 0: all cores available to this process.", ge=0, le=1024
    )
    max_bad_steps: int = field(
        20,
        "bad steps",
        "Stop after this many consecutive non-finite steps (loss or gradient); these steps don't"
        " change the weights.",
        ge=1,
        le=1_000_000,
        unit="steps",
    )
    patience: Count = field(
        0,
        "patience",
        "Early stopping: evaluations without a better validation loss before the run ends; 0: off.",
        unit="evaluations",
    )

    @property
    def smallest_split(self) -> int:
        """The smallest training split that fills a batch, in tokens or sentences."""
        return self.batch_size * (2 if self.data_mode == "stream" else 1)

    @property
    def kept_tokens(self) -> int | None:
        """Tokens of a sentence that are kept; None: the text is one stream."""
        return self.context_length if self.data_mode == "sentences" else None


class DistributedConfig(Section):
    """Training by several processes, which share each batch."""

    processes: int | Literal["auto"] = field(
        1,
        "processes",
        "Processes that train together on this machine, each with its own GPU, or on CPUs; auto:"
        " one for each GPU.",
        ge=1,
        le=1_024,
    )
    timeout: int = field(
        600,
        "timeout",
        "Seconds without an answer after which a process counts as lost and the run ends.",
        ge=5,
        le=86_400,
        unit="s",
    )


class EvaluationConfig(Section):
    """Evaluation during the run: perplexity on held-out text, and samples."""

    every: Steps = field(
        500, "every", "Steps between evaluations; 0: only at the end.", unit="steps"
    )
    max_sentences: int = field(
        0,
        "sentences",
        "Sentences used in evaluations during the run, from the first on; 0: all.",
        ge=0,
        le=10**9,
        unit="sentences",
    )
    prune_step: Steps = field(
        0,
        "prune",
        "Stop a run of a sweep if its loss at the first evaluation from this step on is above the"
        " median of the sweep's other runs, at least 3; 0: off.",
        unit="steps",
    )
    split: Literal["validation", "test"] = field(
        "validation",
        "split",
        "Set to evaluate during the run; use test only to reproduce the book's run.",
    )
    baseline: int = field(
        BASELINE_ORDERS,
        "baseline",
        "The count model to beat: 5 is a 5-gram model, which predicts from the last 4 tokens.",
        ge=1,
        le=BASELINE_ORDERS,
        unit="tokens",
    )
    health: bool = field(True, "health", "Measure gates, memory and gradients at evaluations.")
    prompts: tuple[Annotated[str, Bounds(max_length=2_000)], ...] = field(
        ("The state of the Union", "My fellow Americans,", "We must"),
        "prompts",
        "Prompts to continue at every evaluation; a preset's for its own text only: another text's"
        " are its beginnings.",
        max_length=32,
    )

    @property
    def baseline_name(self) -> str:
        """`5-gram`."""
        return f"{self.baseline}-gram"


class CheckpointConfig(Section):
    """Which checkpoints are saved and kept."""

    every: Steps = field(
        500,
        "every",
        "Steps between checkpoints; 0: only at the end. Each new best evaluation saves one too.",
        unit="steps",
    )
    keep_last: int = field(
        2,
        "keep",
        "Number of newest checkpoints to keep; the best and pinned ones are always kept.",
        ge=2,
        le=10_000,
        unit="files",
    )
    keep_every: Steps = field(
        0, "keep every", "Always keep checkpoints at multiples of this step; 0: off.", unit="steps"
    )

    def stays(self, step: int) -> str:
        """How long a checkpoint stays that is neither the best nor pinned; empty: for good."""
        if self.keep_every and step % self.keep_every == 0:
            return ""
        return f"until {self.keep_last} newer ones exist"


MIN_TEMPERATURE, MIN_PENALTY = 0.01, 0.1
"""Dividing logits by less than this could overflow float32; a temperature of 0 means greedy."""


def _divides_without_overflow(temperature: float) -> float:
    if temperature != 0 and temperature < MIN_TEMPERATURE:
        raise PydanticKnownError("greater_than_equal", {"ge": MIN_TEMPERATURE})
    return temperature


class SamplingConfig(Section):
    """Sampling at evaluations, and the defaults of the prompt."""

    temperature: float = field(
        0.8,
        "temperature",
        "Below 1: safer, above 1: wilder; 0: greedy.",
        check=_divides_without_overflow,
        le=100,
    )
    top_p: PositiveFraction = field(
        0.95,
        "top-p",
        "Sample from the most likely tokens up to this total probability; 1: off.",
        off=1.0,
        idle_when_greedy=True,
    )
    top_k: Count = field(
        0, "top-k", "Sample from the k most likely tokens; 0: off.", off=0, idle_when_greedy=True
    )
    min_p: Fraction = field(
        0.0,
        "min-p",
        "Sample from tokens with at least this fraction of the top token's probability; 0: off.",
        off=0.0,
        idle_when_greedy=True,
    )
    typical_p: PositiveFraction = field(
        1.0,
        "typical-p",
        "Sample from the tokens whose surprise is nearest to the average, up to this total"
        " probability; 1: off.",
        off=1.0,
        idle_when_greedy=True,
    )
    repetition_penalty: float = field(
        1.0,
        "penalty",
        "Above 1: tokens already in the prompt or the text become less likely; 1: off.",
        ge=MIN_PENALTY,
        le=100,
        off=1.0,
    )
    penalty_window: Count = field(
        0,
        "window",
        "Only the last tokens count for the penalty, this many; 0: the whole text.",
        unit="tokens",
        off=0,
    )
    unknown: UnknownTokens = field(
        "auto",
        "<unk>",
        "avoid: never generate <unk>, the token for unknown words; allow: like any token; auto:"
        " avoid for word tokenizers, else allow.",
    )
    stop: tuple[Annotated[str, Bounds(min_length=1, max_length=100)], ...] = field(
        (),
        "stop",
        "Stop before the first of these texts; \\n is a line break.",
        max_length=8,
    )
    max_new_tokens: int = field(
        100, "max", "Tokens to generate.", ge=1, le=1_000_000, unit="tokens"
    )
    seed: Seed = field(7, "seed", "Random seed for sampling.", idle_when_greedy=True)
    greedy: bool = field(
        False,
        "greedy",
        "Always take the most likely token; ignores the temperature, the filters and the seed.",
    )

    @property
    def is_greedy(self) -> bool:
        """Whether sampling always takes the most likely token: `greedy`, or a temperature of 0."""
        return self.greedy or self.temperature == 0


_SAMPLING = {name: declared.about for name, declared in SamplingConfig.DECLARED.items()}
SAMPLING_OFF: Mapping[str, object] = {
    name: about["off"] for name, about in _SAMPLING.items() if about["off"] is not None
}
"""The values of sampling settings that turn them off; in the app also written `off`."""
IDLE_WHEN_GREEDY: tuple[str, ...] = tuple(
    name for name, about in _SAMPLING.items() if about["idle_when_greedy"]
)
"""Sampling settings without effect on greedy sampling, beside the temperature."""
FILTERS: tuple[str, ...] = tuple(name for name in IDLE_WHEN_GREEDY if name in SAMPLING_OFF)
"""Sampling settings that exclude unlikely tokens, in the order in which they are shown."""


class RunConfig(Section):
    """The config of a run. Immutable: changing it makes a new object."""

    preset: str = field("demo", "preset", "The preset that this config is based on.")
    corpus: CorpusConfig = CorpusConfig()
    tokenizer: TokenizerConfig = TokenizerConfig()
    model: ModelConfig = ModelConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    training: TrainingConfig = TrainingConfig()
    distributed: DistributedConfig = DistributedConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    sampling: SamplingConfig = SamplingConfig()


def value_of(config: RunConfig, path: str) -> "JsonValue":
    """The value at a dotted path, or of `preset`, as JSON."""
    value = attrgetter(path)(config)
    found: JsonValue = list(value) if isinstance(value, tuple) else value
    return found


SECTIONS: tuple[str, ...] = tuple(name for name in RunConfig.DECLARED if name != "preset")
"""Section names in the order of the form and of config files."""
