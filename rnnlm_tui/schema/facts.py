"""What is known of a run beside its rows: facts of its attempts, such as the device and the corpus,
and the checkpoint that it started from."""

from typing import TYPE_CHECKING, Annotated, Literal

from rnnlm_tui.schema.record import Bounds, Record
from rnnlm_tui.schema.status import StopMark

if TYPE_CHECKING:
    from pydantic import JsonValue


class Facts(Record):
    """What is known of a run beside its rows; an attempt's facts replace those of earlier ones.

    A log has only the facts that were set, and readers merge them in order.
    """

    EXTRA = "ignore"

    device: str = ""
    """The name of the device; empty before it is known."""
    precision: str = ""
    matmul: str = ""
    """How the matrix products are computed."""
    threads: int | None = None
    cores: int | None = None
    """Cores that the worker may use."""
    max_steps: int | None = None
    steps_per_epoch: int | None = None
    epochs: float | None = None
    warmup_steps: int | None = None
    parameters: int | None = None
    vocab_size: int | None = None
    corpus_title: str = ""
    corpus_hash: str = ""
    corpus_notes: tuple[str, ...] = ()
    corpus_layout: str = "sentences"
    eos_text: str = ""
    baseline_loss: float | None = None
    """Loss of the baseline on the test set, in nats per token, as the next one."""
    baseline_validation_loss: float | None = None
    source_loss: float | None = None
    """Entropy of an invented corpus' source."""
    rehearsed_seconds: float | None = None
    """Duration of the test step before the first step."""
    memory_warning: str = ""
    """Why memory may not suffice; empty if it does, and after the first step."""
    memory_batch: int | None = None
    """The training.batch_size that should fit if there is a `memory_warning`; None if none does."""
    device_warning: str = ""
    """Why the run doesn't train on the machine's GPU; empty: it does, or should not."""
    lost_device: str = ""
    """How the device failed, if that ended the newest attempt."""
    gpu_uuid: str = ""
    """The UUID of the GPU that the run trains on, without `GPU-`; empty: not on one."""
    stop_after: StopMark | None = None
    """What the run may still complete before it stops; None: no stop is planned."""
    settings: "dict[str, JsonValue]" = {}  # noqa: RUF012 (records don't change)
    """The settings changed while the run trained, dotted path to value."""
    socket: str = ""
    """The path of the worker's control socket."""
    message: str = ""
    """Why the newest attempt failed, with a `hint` and an exit code; empty: it didn't."""
    hint: str = ""
    exit_code: int = 0


OptimizerStart = Literal["fresh", "keep"]
"""Whether a new run begins with an empty optimizer state, or with that of the checkpoint."""

CHANGED_FACT = "changed"
"""In a checkpoint's manifest: the values changed by `set` that are in effect, by dotted path."""


class Parent(Record):
    """What a run remembers of the checkpoint that it started from."""

    EXTRA = "ignore"

    run: str
    """The parent run's name then. It may have been renamed since: `run_named` follows that."""
    checkpoint: str
    """The step, or `average-1500` for averaged weights."""
    step: Annotated[int, Bounds(ge=0)]
    hash: str
    """SHA-256 of the checkpoint's manifest, which names the hashes of its files."""
    created: float
    """When the parent run was created, in Unix seconds: another run may have its name by now."""
    optimizer: OptimizerStart = "fresh"
    validation_loss: float | None = None
    """Of that checkpoint, in nats per token."""
    corpus_hash: str | None = None
    """Of the corpus that the parent was trained on."""
    changed: "dict[str, tuple[JsonValue, JsonValue]]" = {}  # noqa: RUF012 (records don't change)
    """The config fields that differ from the parent's at the checkpoint: the parent's value and the
    run's own."""

    @property
    def address(self) -> str:
        """`plain-otter@1500`, with the name that the parent had then."""
        return f"{self.run}@{self.checkpoint}"
