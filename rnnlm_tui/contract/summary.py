"""RunSummary: the figures of one run. Lists show it and `show --json` prints it, so its fields are a public contract."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from rnnlm_tui.contract.status import RunStatus


class Figures(BaseModel):
    """A frozen group of figures in the JSON contract."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")


class TrainFigures(Figures):
    loss: float | None = None
    """Of the newest steps, smoothed; nats per token."""
    perplexity: float | None = None
    grad_norm: float | None = None
    """Smoothed as the loss is; the newest step's own where that is not finite."""
    learning_rate: float | None = None


class EvaluationFigures(Figures):
    name: str | None = None
    step: int | None = None
    loss: float | None = None
    perplexity: float | None = None
    bits_per_byte: float | None = None
    """None if the text has too many unknown tokens (`metrics.MAX_UNKNOWN_SHARE`)."""
    unknown_share: float | None = None
    """Fraction of the scored targets that is the unknown token; None if an earlier version evaluated, which did not count it."""
    best_step: int | None = None
    best_perplexity: float | None = None


class BaselineFigures(Figures):
    """An absolute-discount bigram model on the same tokens."""

    name: str = "bigram"
    perplexity: float | None = None
    """On the test set."""
    validation_perplexity: float | None = None


class SourceFigures(Figures):
    """The entropy of a generated source: the floor that no model can pass."""

    perplexity: float | None = None


class ReferenceFigures(Figures):
    """The book's own run beside this one; measured on the same set, `RunSummary.evaluation`."""

    sentences: int | None = None
    """Training sentences that this run had seen at its newest evaluation."""
    perplexity: float | None = None
    """Of the reference at its evaluation nearest to that; None after the run's first epoch, for the reference saw no sentence twice."""
    reference_sentences: int | None = None
    """Training sentences that the reference had seen at it."""


class CheckpointFigures(Figures):
    best: int | None = None
    """Step of the best checkpoint on disk by validation loss."""
    pinned: tuple[int, ...] = ()
    """Steps of the checkpoints that the user pinned."""
    last: int | None = None
    """Step of the newest checkpoint on disk."""
    count: int = 0
    bytes: int = 0


class ModelFigures(Figures):
    cell_type: str
    num_layers: int
    hidden_size: int
    tie_weights: bool
    parameters: int | None = None
    vocab_size: int | None = None
    """None until the corpus is prepared. A model that knows nothing has the loss ln(vocab_size)."""


class PreparingFigures(Figures):
    phase: str
    """As in `metrics.Phase`."""
    done: int
    """Bytes; `done` and `total` are 0 in phases that aren't measured in bytes."""
    total: int


class PatienceFigures(Figures):
    """Early stopping: evaluations in a row without a better validation loss, and how many of them end the run."""

    waited: int
    limit: int


class RunSummary(Figures):
    """One run in figures: `show --json` prints one, `runs --json` a list, `train --follow --json` ends with one."""

    run: str
    status: RunStatus
    attempt: int = 0
    step: int = 0
    max_steps: int | None = None
    epoch: float = 0.0
    epochs: float | None = None
    tokens_seen: int = 0
    pid: int | None = None
    host: str | None = None
    device: str | None = None
    precision: str | None = None
    """Numbers of the layers: float32 or bf16."""
    matmul: str | None = None
    """Matrix products as they are computed: float32, or medium, with inputs rounded to bf16 (TF32 on a GPU)."""
    cores: int | None = None
    """Cores that the worker may use."""
    others_cores: float | None = None
    """Cores that other processes used in the last ten seconds; None if that doesn't slow training."""
    started: str | None = None
    """ISO 8601, UTC, of the first attempt."""
    updated: float | None = None
    """Unix seconds of the newest recorded value; of the creation if there is none."""
    active_seconds: float = 0.0
    preset: str = ""
    corpus: str = ""
    """Title of the text: `57 State of the Union addresses`."""
    corpus_hash: str | None = None
    """Of the prepared corpus; None until it is prepared, and for a run of an earlier version."""
    corpus_notes: tuple[str, ...] = ()
    """Notes on the text: lines that were cut, files left out, sentences that occur in two splits."""
    corpus_layout: str = "sentences"
    """sentences, lines or raw."""
    corpus_source: str = ""
    """`corpus.source` of the config: the name of a built-in corpus, or a path."""
    model: ModelFigures
    train: TrainFigures = TrainFigures()
    validation: EvaluationFigures = EvaluationFigures()
    test: EvaluationFigures = EvaluationFigures()
    evaluation: EvaluationFigures = EvaluationFigures()
    """Newest evaluation of the set that is evaluated during training; the evaluation at the end, on the whole set, is in `validation` or `test`."""
    baseline: BaselineFigures = BaselineFigures()
    source: SourceFigures = SourceFigures()
    reference: ReferenceFigures | None = None
    """None where the run doesn't follow the book's protocol."""
    tokens_per_second: float | None = None
    """Of the newest ten seconds of training while it runs, of the whole run once it has ended."""
    eta_seconds: float | None = None
    checkpoints: CheckpointFigures = CheckpointFigures()
    preparing: PreparingFigures | None = None
    patience: PatienceFigures | None = None
    """None where the config asks for no early stopping."""
    parent: str | None = None
    """`run@step` that this run started from."""
    database: str | None = None
    """Where its database is stored, and why; None if in the run's folder."""
    message: str | None = None
    """Why it failed, crashed or stalled, in one line."""
    hint: str | None = None
    """What to do next if it isn't training."""
    unreadable: Literal["damaged database", "can't be read"] | None = None
    """Why the run can't be read; its status is `lost` then, and its figures are unknown."""
    tags: tuple[str, ...] = ()
    """The user's tags, to filter by."""
    note: str = ""
    """The user's note, one line."""
    pinned: bool = False
    """Whether the user keeps it at the top of the list."""
    labels_damaged: bool = False
    """The file with its tags, note and pin is invalid; the app moves it aside and shows a notice."""
    diverged: bool = False
    """It failed with non-finite losses or gradients. A resume would continue with the same weights and settings, and fail again."""
