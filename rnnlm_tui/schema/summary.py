"""RunSummary: a run's status and metrics.

`show --json` prints it, so its fields are a public contract.
"""

from typing import Literal

from rnnlm_tui.schema.metrics import RankReading
from rnnlm_tui.schema.record import Record
from rnnlm_tui.schema.status import LIVING, RunStatus


class Figures(Record):
    """A group of fields in the JSON output."""

    STRICT = False  # a log has `inf` and `nan` as text


class TrainFigures(Figures):
    loss: float | None = None
    """Smoothed over the newest steps, in nats per token."""
    perplexity: float | None = None
    grad_norm: float | None = None
    """Smoothed like the loss; the newest step's value if that is not finite."""
    learning_rate: float | None = None


class EvaluationFigures(Figures):
    name: str | None = None
    step: int | None = None
    loss: float | None = None
    perplexity: float | None = None
    bits_per_byte: float | None = None
    """None if the text has too many unknown tokens (`metrics.MAX_UNKNOWN_SHARE`)."""
    unknown_share: float | None = None
    """Fraction of unknown tokens among the targets; None if it was not counted."""
    scored_bytes: int | None = None
    """UTF-8 bytes of the scored tokens; None if it was not counted."""
    scored_share: float | None = None
    """Fraction of the set's bytes that were scored; None if it was not counted."""
    best_step: int | None = None
    best_perplexity: float | None = None


class BaselineFigures(Figures):
    """A count model of the same tokens: interpolated modified Kneser-Ney."""

    name: str = "5-gram"
    perplexity: float | None = None
    """On the test set."""
    validation_perplexity: float | None = None


class SourceFigures(Figures):
    """The entropy of a generated source, the lower bound for all models."""

    perplexity: float | None = None


class ReferenceFigures(Figures):
    """The book's run for comparison, on the same set as `RunSummary.evaluation`."""

    sentences: int | None = None
    """Training sentences seen by this run at its newest evaluation."""
    perplexity: float | None = None
    """The reference's perplexity at its closest evaluation.

    None after the run's first epoch, because the reference was trained for one epoch.
    """
    reference_sentences: int | None = None
    """Training sentences seen by the reference at that evaluation."""


class CheckpointFigures(Figures):
    best: int | None = None
    """Step of the checkpoint on disk with the best validation loss."""
    pinned: tuple[int, ...] = ()
    """Steps of the pinned checkpoints."""
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
    """None until the corpus is prepared. An untrained model has a loss of about ln(vocab_size)."""


class PreparingFigures(Figures):
    phase: str
    """One of `metrics.Phase`."""
    done: int
    """Bytes; `done` and `total` are 0 in phases without a byte count."""
    total: int


class PatienceFigures(Figures):
    """Early stopping: evaluations since the best validation loss, and the limit."""

    waited: int
    limit: int


class RequestFigures(Figures):
    """A command that the run's worker has received and not yet carried out."""

    words: str
    """`learning_rate 0.001`, `stop after this epoch`, `evaluate`."""
    who: str = ""
    """The user and terminal that sent it."""
    time: float | None = None
    """Unix seconds when it arrived."""


class ChangedField(Figures):
    """A config field in which a fork differs from its parent."""

    key: str
    before: str | bool | int | float | None
    """The parent's value; several texts are joined by "; "."""
    after: str | bool | int | float | None


class LineageFigures(Figures):
    """The checkpoint that a run started from, as it was then."""

    run: str
    """The parent run's name then."""
    checkpoint: str
    """The step, or `average-1500`."""
    step: int
    created: float
    """When the parent run was created, in Unix seconds."""
    optimizer: str
    """fresh, or keep: the optimizer's state was kept."""
    perplexity: float | None = None
    """Of that checkpoint on the validation set."""
    corpus_hash: str | None = None
    """Of the corpus that it was trained on."""
    changed: tuple[ChangedField, ...] = ()


_ENDS = {
    "COMPLETED": "ended",
    "CANCELLED": "was cancelled",
    "TIMEOUT": "reached its time limit",
    "OUT_OF_MEMORY": "ran out of memory",
    "NODE_FAIL": "ended because its node failed",
    "PREEMPTED": "was preempted",
    "FAILED": "failed",
    "BOOT_FAIL": "failed when its node started",
    "DEADLINE": "reached its deadline",
    "": "has ended: Slurm no longer knows it",
}


class JobFigures(Figures):
    """What Slurm says of a run's job."""

    id: str
    state: str = ""
    """Slurm's word, such as PENDING or RUNNING; empty if it no longer knows the job."""
    reason: str = ""
    """Why it waits, in Slurm's word."""
    start: str = ""
    """When it is expected to start, in local time; empty if that is unknown."""
    hosts: str = ""
    """Where it runs or ran."""

    @property
    def waits(self) -> bool:
        """Whether it hasn't started yet, or is to start again."""
        return self.state == "PENDING"

    @property
    def has_ended(self) -> bool:
        return self.state in _ENDS

    @property
    def words(self) -> str:
        """Such as `job 12 waits in Slurm: Priority, expected to start 2026-12-01 14:05`."""
        if self.waits:
            starts = f"expected to start {self.start[:16].replace('T', ' ')}" if self.start else ""
            why = ", ".join(filter(None, (self.reason, starts)))
            return f"job {self.id} waits in Slurm" + (f": {why}" if why else "")
        what = _ENDS.get(self.state) or self.state.lower().replace("_", " ")
        return f"job {self.id} {what}" + (f" on {self.hosts}" if self.hosts else "")


class RunSummary(Figures):
    """A run's summary, as printed by `show`, `runs` and `train --follow` with `--json`."""

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
    """`training.precision`: bf16 if the output layer's matmul was set to it, else float32."""
    matmul: str | None = None
    """The matmul mode in use: float32; medium with inputs rounded to bf16 (TF32 on a GPU); or bf16,
    on a GPU bf16 for the output layer and TF32 for the others."""
    cores: int | None = None
    """Cores available to the worker."""
    others_cores: float | None = None
    """Cores used by other processes in the last ten seconds; None if that doesn't slow training."""
    started: str | None = None
    """Start of the first attempt, ISO 8601, UTC."""
    updated: float | None = None
    """Unix seconds of the newest recorded value, or of the run's creation if there is none."""
    active_seconds: float = 0.0
    preset: str = ""
    corpus: str = ""
    """Title of the text, such as `57 State of the Union addresses`."""
    corpus_hash: str | None = None
    """Hash of the prepared corpus; None until it is prepared."""
    corpus_notes: tuple[str, ...] = ()
    """Notes about the text, such as lines that were cut and sentences that occur in two splits."""
    corpus_layout: str = "sentences"
    """sentences, lines or raw."""
    corpus_source: str = ""
    """`corpus.source` of the config: a built-in corpus or a path."""
    model: ModelFigures
    train: TrainFigures = TrainFigures()
    validation: EvaluationFigures = EvaluationFigures()
    test: EvaluationFigures = EvaluationFigures()
    evaluation: EvaluationFigures = EvaluationFigures()
    """Newest evaluation of the set evaluated during training.

    The evaluation at the end, on the whole set, is in `validation` or `test`.
    """
    baseline: BaselineFigures = BaselineFigures()
    source: SourceFigures = SourceFigures()
    reference: ReferenceFigures | None = None
    """None if the run isn't comparable with the book's run."""
    tokens_per_second: float | None = None
    """Mean of the last ten seconds during the run, of the whole run after its end."""
    eta_seconds: float | None = None
    checkpoints: CheckpointFigures = CheckpointFigures()
    preparing: PreparingFigures | None = None
    patience: PatienceFigures | None = None
    """None without early stopping."""
    requests: tuple[RequestFigures, ...] = ()
    """Commands that wait for the end of the current step or evaluation, in their order."""
    stop_after: Literal["epoch", "evaluation"] | None = None
    """The run stops after this epoch, or the next evaluation."""
    ranks: tuple[RankReading, ...] = ()
    """The newest readings of the processes that train together; empty with one process."""
    parent: str | None = None
    """The `run@step` that this run started from."""
    lineage: LineageFigures | None = None
    """More about it; None for a run that started from nothing."""
    created: float | None = None
    """When the run was created, in Unix seconds."""
    job: JobFigures | None = None
    """The Slurm job that trains it; None without one, and for a finished run."""
    message: str | None = None
    """Why the run failed, crashed, stalled or was pruned, in one line."""
    hint: str | None = None
    """What to do next if the run isn't training."""
    unreadable: Literal["can't be read"] | None = None
    """Why the run can't be read; its status is then `lost`, and its metrics are unknown."""
    tags: tuple[str, ...] = ()
    """The user's tags."""
    note: str = ""
    """The user's note, one line."""
    pinned: bool = False
    """Whether the user pinned the run to the top of the list."""
    labels_damaged: bool = False
    """The file with the labels is damaged; the app moves it aside and shows a notice."""
    diverged: bool = False
    """Whether the run failed with non-finite losses or gradients; resuming it would fail again."""

    @property
    def running_ranks(self) -> tuple[RankReading, ...]:
        """The processes that train together now."""
        return self.ranks if self.status in LIVING else ()
