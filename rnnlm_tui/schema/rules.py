"""Fields that depend on each other: which combinations are refused, and what would be accepted.

`RULES` checks fields of a config against each other, `text_problems` the batch against the prepared
or counted text. Each problem comes with adjustments that
solve it, best first: the form applies one on request, the command line prints them as `--set …`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress

from pydantic_core import ValidationError

from rnnlm_tui.errors import Adjustment, Problem
from rnnlm_tui.schema.cells import ATTENDING_CELLS, HEADED_CELLS, RECURRENT_WEIGHT_CELLS
from rnnlm_tui.schema.config import (
    BUILT_IN_SOURCES,
    SECTIONS,
    CorpusConfig,
    DistributedConfig,
    ModelConfig,
    OptimizerConfig,
    RunConfig,
    TokenizerConfig,
    TrainingConfig,
)
from rnnlm_tui.schema.formatting import counted, plain
from rnnlm_tui.schema.record import Record, fields_of

RATE = "optimizer.learning_rate"
ADAMW_MAX_RATE = 1
SGD_MAX_RATE = 1_000
"""AdamW's updates are about as large as the rate; those of SGD also scale with the gradient."""
SMALLEST_BPE = 260
"""256 bytes and the special tokens."""
BATCH, ACCUMULATE = "training.batch_size", "training.accumulate"
PROCESSES = "distributed.processes"

Check = Callable[..., Iterable[Problem]]
"""Returns the problems of the sections that its fields are in, in the order of these."""


def rule_problems(raw: Mapping[str, object]) -> Iterator[Problem]:
    """Check fields against each other. A rule runs if its sections are valid, whatever the others
    are."""
    valid: dict[str, Record] = {}
    for section in SECTIONS:
        with suppress(ValidationError):
            model = fields_of(RunConfig)[section].annotation
            valid[section] = model.model_validate(raw.get(section, {}))
    for paths, check in RULES:
        needed = dict.fromkeys(path.partition(".")[0] for path in paths)
        if needed.keys() <= valid.keys():
            yield from check(*(valid[section] for section in needed))


def _problem(path: str, message: str, hint: str, *changes: Mapping[str, object]) -> Problem:
    """A problem and the changes that each solve it, best first."""
    return Problem(path, message, hint, tuple(map(Adjustment.of, changes)))


def dependent_fields(path: str) -> tuple[str, ...]:
    """The fields that restrict a field or are restricted by it, in the order of the rules."""
    related = (
        field
        for fields in (*(fields for fields, _ in RULES), TEXT_RULE)
        if path in fields
        for field in fields
        if field != path
    )
    return tuple(dict.fromkeys(related))


def _tied(model: ModelConfig) -> Iterator[Problem]:
    if model.tie_weights and model.embedding_dim != model.hidden_size:
        yield _problem(
            "model.tie_weights",
            "requires model.embedding_dim = model.hidden_size, but they are"
            f" {model.embedding_dim:,} and {model.hidden_size:,}",
            "make them equal, or set it to false",
            {"model.embedding_dim": model.hidden_size},
            {"model.hidden_size": model.embedding_dim},
            {"model.tie_weights": False},
        )


def _widths(model: ModelConfig) -> Iterator[Problem]:
    attends, equal = model.cell_type in ATTENDING_CELLS, model.embedding_dim == model.hidden_size
    if attends and not equal and not model.tie_weights:  # of tied weights it was said
        yield _problem(
            "model.embedding_dim",
            f"is {model.embedding_dim:,}, but a {model.cell_type} needs that of model.hidden_size,"
            f" {model.hidden_size:,}",
            "make them equal",
            {"model.embedding_dim": model.hidden_size},
            {"model.hidden_size": model.embedding_dim},
        )


def _window(model: ModelConfig, training: TrainingConfig) -> Iterator[Problem]:
    streams, window = training.data_mode == "stream", model.attention_window
    path = "training.bptt" if streams else "training.context_length"
    longest, length = window + (not streams), training.bptt if streams else training.context_length
    if model.cell_type in ATTENDING_CELLS and length > longest:
        yield _problem(
            path,
            f"is {length:,}, longer than model.attention_window = {window:,} allows",
            f"use at most {longest:,}, or a window of at least {length - (not streams):,}",
            {path: longest},
            {"model.attention_window": length - (not streams)},
        )


def _heads(model: ModelConfig) -> Iterator[Problem]:
    if model.cell_type in HEADED_CELLS and model.hidden_size % model.num_heads:
        heads, width = model.num_heads, model.hidden_size
        divisors = (one for one in range(1, min(width, _MOST_HEADS) + 1) if width % one == 0)
        near = min(divisors, key=lambda one: abs(one - heads))
        # The multiple of the heads nearest to the width, and not below one unit per head.
        wide = max(1, round(width / heads)) * heads
        widths = {"model.hidden_size": wide}
        attends = model.cell_type in ATTENDING_CELLS
        if (model.tie_weights or attends) and model.embedding_dim == width:
            widths["model.embedding_dim"] = wide
        yield _problem(
            "model.num_heads",
            f"is {heads:,}, must divide the hidden size of {width:,}",
            f"use {near}, for example",
            {"model.num_heads": near},
            *([widths] if wide <= _LARGEST_WIDTH else []),
        )


_LARGEST_WIDTH, _MOST_HEADS = 65_536, 1_024


def _weight_dropout(model: ModelConfig) -> Iterator[Problem]:
    if model.weight_dropout and model.cell_type not in RECURRENT_WEIGHT_CELLS:
        yield _problem(
            "model.weight_dropout",
            f"is {model.weight_dropout:g}, but {model.cell_type} has no recurrent weights to drop",
            f"set it to 0, or set model.cell_type to {', '.join(RECURRENT_WEIGHT_CELLS)}",
            {"model.weight_dropout": 0.0},
        )


_STREAM_DROPOUTS = {
    "variational_dropout": False,
    "embedding_dropout": 0.0,
    "weight_dropout": 0.0,
}
"""Kinds of dropout that need stream mode, and their values when off."""


def _stream_dropout(model: ModelConfig, training: TrainingConfig) -> Iterator[Problem]:
    for name, off in _STREAM_DROPOUTS.items():
        if training.data_mode == "sentences" and getattr(model, name):
            yield _problem(
                f"model.{name}",
                "is only for stream mode, but training.data_mode is sentences",
                "turn it off, or set training.data_mode=stream",
                {f"model.{name}": off},
                {"training.data_mode": "stream"},
            )


def rate_too_high(rate: object, algorithm: object) -> Problem:
    """The problem for a learning rate above the optimizer's limit."""
    limit = ADAMW_MAX_RATE if algorithm == "adamw" else SGD_MAX_RATE
    within_sgd = algorithm == "adamw" and isinstance(rate, int | float) and rate <= SGD_MAX_RATE
    allowed = f"above 0, at most {limit:,}"
    with_it = f" with {algorithm}" if isinstance(algorithm, str) else ""
    return _problem(
        RATE,
        f"is {plain(rate)}, must be at most {limit:,}{with_it}",
        f"{allowed}; sgd allows larger rates" if algorithm == "adamw" else allowed,
        {RATE: OptimizerConfig().learning_rate if algorithm == "adamw" else limit},
        *([{"optimizer.algorithm": "sgd"}] if within_sgd else []),
    )


def _rate(optimizer: OptimizerConfig) -> Iterator[Problem]:
    if optimizer.algorithm == "adamw" and optimizer.learning_rate > ADAMW_MAX_RATE:
        yield rate_too_high(optimizer.learning_rate, "adamw")


def _layout(corpus: CorpusConfig) -> Iterator[Problem]:
    built_in = next(
        (name for name in (corpus.source, corpus.test_source) if name in BUILT_IN_SOURCES), None
    )
    if built_in and corpus.layout in ("lines", "raw"):
        yield _problem(
            "corpus.layout",
            f"is {corpus.layout}, but the built-in corpus {built_in} has only sentences",
            "set it to auto, or use your own text",
            {"corpus.layout": "auto"},
        )


def _exact(training: TrainingConfig) -> Iterator[Problem]:
    if training.deterministic and training.matmul == "medium":
        yield _problem(
            "training.matmul",
            "is medium, but exact mode needs float32",
            "set it to auto or float32",
            {"training.matmul": "float32"},
            {"training.deterministic": False},
        )


def _tokenizer_name(tokenizer: TokenizerConfig) -> Iterator[Problem]:
    if tokenizer.kind == "pretrained" and tokenizer.name is None:
        yield _problem(
            "tokenizer.name",
            "is empty, must be a local folder or a Hugging Face name for a pretrained tokenizer",
            "",
            {"tokenizer.kind": "bpe"},
        )


def _vocabulary(tokenizer: TokenizerConfig) -> Iterator[Problem]:
    size = tokenizer.vocab_size
    if tokenizer.kind == "bpe" and size < SMALLEST_BPE:
        yield _problem(
            "tokenizer.vocab_size",
            f"is {size:,}, must be at least {SMALLEST_BPE} for bpe",
            "256 bytes and the special tokens are always included",
            {"tokenizer.vocab_size": SMALLEST_BPE},
            {"tokenizer.kind": "character"},
        )
    # Padding, <unk>, perhaps <eos>, and one type of the text.
    least = 3 + tokenizer.end_of_sentence
    if tokenizer.kind in ("word", "character") and size < least:
        yield _problem(
            "tokenizer.vocab_size",
            f"is {size:,}, must be at least {least} for {tokenizer.kind}",
            f"{least - 1} special tokens are always included",
            {"tokenizer.vocab_size": least},
        )


def _precision(training: TrainingConfig) -> Iterator[Problem]:
    if training.precision == "bf16" and training.device in ("cpu", "mps"):
        yield _problem(
            "training.precision",
            f"is bf16, which needs a CUDA GPU, but training.device is {training.device}",
            "set it to float32; training.matmul=medium rounds matmul inputs on a CPU",
            {"training.precision": "float32"},
            {"training.device": "auto"},
        )


def share_problems(training: TrainingConfig, processes: int) -> Iterator[Problem]:
    """The problem of a batch with fewer rows than there are shares of it."""
    batch, parts = training.batch_size, training.accumulate
    if batch < processes * parts:
        yield _problem(
            BATCH,
            f"is {batch:,}, but {PROCESSES} x {ACCUMULATE} = {processes:,} x {parts:,} shares need"
            " a row each",
            "raise it, or use fewer processes or parts",
            {BATCH: processes * parts},
            {PROCESSES: max(1, batch // parts), ACCUMULATE: min(batch, parts)},
        )


def _shares(training: TrainingConfig, distributed: DistributedConfig) -> Iterator[Problem]:
    processes = distributed.processes
    yield from share_problems(training, 1 if processes == "auto" else processes)


def _one_gpu(training: TrainingConfig, distributed: DistributedConfig) -> Iterator[Problem]:
    device, processes = training.device, distributed.processes
    if processes not in ("auto", 1) and (device == "mps" or ":" in device):
        yield _problem(
            PROCESSES,
            f"is {processes}, but training.device = {device} is one GPU",
            "each process needs its own",
            {PROCESSES: 1},
            {"training.device": "auto"},
        )


RULES: tuple[tuple[tuple[str, ...], Check], ...] = (
    (("model.tie_weights", "model.embedding_dim", "model.hidden_size"), _tied),
    (("model.embedding_dim", "model.hidden_size", "model.cell_type"), _widths),
    (("model.num_heads", "model.hidden_size", "model.cell_type"), _heads),
    (("model.weight_dropout", "model.cell_type"), _weight_dropout),
    (
        (
            *("model.attention_window", "model.cell_type", "training.bptt"),
            *("training.context_length", "training.data_mode"),
        ),
        _window,
    ),
    ((*(f"model.{name}" for name in _STREAM_DROPOUTS), "training.data_mode"), _stream_dropout),
    ((RATE, "optimizer.algorithm"), _rate),
    (("corpus.layout", "corpus.source", "corpus.test_source"), _layout),
    (("training.matmul", "training.deterministic"), _exact),
    (("tokenizer.name", "tokenizer.kind"), _tokenizer_name),
    (("tokenizer.vocab_size", "tokenizer.kind"), _vocabulary),
    (("training.precision", "training.device"), _precision),
    ((BATCH, ACCUMULATE, PROCESSES), _shares),
    (("training.device", PROCESSES), _one_gpu),
)
"""The fields that depend on each other, and their check, in the order in which problems are
reported. A config alone decides them."""


TEXT_RULE = (BATCH, "training.data_mode", "corpus.source")
"""The fields of the rule that also needs the length of the text."""


def text_problems(
    config: RunConfig, *, tokens: int | None, sentences: int | None
) -> tuple[Problem, ...]:
    """Check a valid config against the length of its training text.

    Args:
        tokens, sentences: of the training split; None if unknown.
    """
    training = config.training
    streams = training.data_mode == "stream"
    have = tokens if streams else sentences
    if have is None or have >= training.smallest_split:
        return ()
    largest = have // training.model_copy(update={"batch_size": 1}).smallest_split
    what = counted(have, "token" if streams else "sentence")
    if largest < 1:
        message = f"is {training.batch_size:,}, but the training text has {what}"
        return (_problem(BATCH, message, "use more text"),)
    # Half as many as fit would leave two steps; prefer ten steps per epoch.
    comfortable = max(1, largest // 10)
    found = _problem(
        BATCH,
        f"is {training.batch_size:,}, must be at most {largest:,}: the training text has {what}",
        "use more text, or lower it",
        *({BATCH: size} for size in dict.fromkeys((comfortable, largest))),
    )
    return (found,)
