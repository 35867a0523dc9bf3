"""Messages between processes, as one JSON object per line.

Commands to a worker's control socket, and those of a probe, a token preview, an average and
count models;
those of a sampler are in `schema.sampling`, those of an export in `schema.exports`.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError
from pydantic_core import from_json

from rnnlm_tui.errors import InputError, Problem
from rnnlm_tui.schema.corpora import Split, TextLayout
from rnnlm_tui.schema.formatting import LATEST
from rnnlm_tui.schema.record import Record
from rnnlm_tui.schema.status import StopMark

Verb = Literal[
    "status",
    "pause",
    "resume",
    "stop",
    "stop_after",
    "checkpoint",
    "evaluate",
    "sample",
    "set",
    "undo",
    "snapshot",
]


MAX_REQUEST_BYTES = 65_536
"""The connection is closed if a line is longer."""


class Message(BaseModel):
    """One line of JSON between two processes of one installation."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class Command(Message):
    """A request to a worker.

    It is executed between two steps and journalled before it is answered, except for `status`.
    """

    id: str = Field(min_length=1, max_length=64)
    """Chosen by the sender; the answer has it too."""
    verb: Verb
    changes: dict[str, JsonValue] | None = Field(default=None, max_length=64)
    """set: dotted path to new value; null clears a field. Applied all or none."""
    after: StopMark | None = None
    """stop_after: when to stop; null cancels the request."""
    who: str = Field(default="", max_length=100)
    """The user and terminal that ask, for the journal."""


class Setting(Message):
    """A changed field."""

    path: str
    old: JsonValue
    new: JsonValue


class SettingsChange(Message):
    """What a `set` or `undo` changed: this is the run's journal of changes."""

    number: int
    """Counted from 1 in the run."""
    step: int
    """Updates that were done: the change acts from the next step on."""
    settings: tuple[Setting, ...]
    undoes: int = 0
    """Number of the change that it undoes; 0: none."""
    discards: tuple[int, ...] = ()
    """Numbers of changes at later steps that no longer count, after a resume from an earlier
    checkpoint."""


class CommandResult(Message):
    """The answer to a command."""

    id: str
    ok: bool
    error: str = ""
    """Why the command failed, in one sentence."""
    hint: str = ""
    status: str = ""
    """The worker's state after the command: running, paused, preparing or stopping."""
    step: int = 0
    checkpoint: str = ""
    """checkpoint, snapshot: the directory written; stop: the newest checkpoint, if any; set, undo:
    the one saved before the change.

    Relative to the run directory.
    """
    text: str = ""
    """sample: the continuations; evaluate: the results; stop_after: when it stops, as text."""
    change: SettingsChange | None = None
    """set, undo: what was changed."""
    problems: tuple[Problem, ...] = ()
    """set, undo: all problems with the values, by field."""


MessageT = TypeVar("MessageT", bound=BaseModel | Record)


def encode_line(message: BaseModel | Record) -> bytes:
    """Encode a message as one line of UTF-8 JSON, with the name of its class as its `kind`."""
    fields = message.model_dump_json().removeprefix("{")
    return f'{{"kind":"{type(message).__name__}",{fields}\n'.encode()


def decode_line(line: bytes, *models: type[MessageT]) -> MessageT:
    """Decode a line as the model that its `kind` names; a line without one as the first.

    Raises:
        InputError: invalid JSON, or not one of these messages.
    """
    try:
        values = from_json(line)
        kind = values.pop("kind", None) if isinstance(values, dict) else None
        for model in models:
            if kind in (None, model.__name__):
                return cast(MessageT, model.model_validate(values))
        problem = "another message was expected"
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)[0]
        problem = f"{'.'.join(str(part) for part in details['loc']) or 'line'}: {details['msg']}"
    except ValueError as error:
        problem = f"line: {error}"
    raise InputError(f"not a valid message: {problem}")


Fact = str | int | float | bool


_Measured = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Calibration(BaseModel):
    """Measured speed and memory of training one shape on one machine."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    host: str
    device: Literal["cpu", "cuda", "mps"]
    device_name: str
    """Display name: `cuda:0 NVIDIA H100`, `cpu, 2 threads`."""
    threads: int
    """CPU threads used."""
    shape: dict[str, Fact]
    """The settings that determine memory, from `memory_shape`."""
    steps: int
    """Measured steps, after the warm-up."""
    flops_per_step: _Measured
    """From `flops_per_token` and the non-padding tokens."""
    step_seconds: _Measured
    """Mean duration of a step."""
    processor_seconds: float
    """Mean processor time of a step, over all threads."""
    tokens_per_second: _Measured
    """Non-padding tokens per second."""
    memory_bytes: int = Field(gt=0)
    """Peak memory in a step or an evaluation: of the process on a CPU, of its tensors on a GPU."""
    process_bytes: int
    """Memory of the process without a model; 0 on a GPU."""
    versions: dict[str, str]
    time: float = Field(ge=0, le=LATEST)
    """Unix seconds."""

    @property
    def cell_type(self) -> str:
        return str(self.shape.get("cell_type", ""))

    @property
    def flops_per_second(self) -> float:
        return self.flops_per_step / self.step_seconds


class TaskProgress(Message):
    """The progress of a child process."""

    phase: str
    """What it does now: of a probe a phase of the corpus preparation, `warm-up` or `steps`; of an
    export `loading`, `writing` or `checking`."""
    done: int = 0
    total: int = 0
    """0 if unknown."""


class ProbeDone(Message):
    """The last line of a successful probe."""

    calibration: Calibration
    warning: str = ""
    """Why it did not measure this machine's GPU; empty: it did, or should not."""


class TokensDone(Message):
    """The first lines of a text as tokens: the only line of a successful token preview."""

    layout: TextLayout
    layout_reason: str = ""
    lines: tuple[tuple[str, ...], ...]
    vocab_size: int
    read_characters: int
    """Characters of the text that the tokenizer was built from."""
    whole: bool
    """Whether that is the whole training text, so that a run's tokenizer splits it equally."""


class AveragePart(Message):
    """One of the checkpoints whose mean is taken."""

    address: str
    """`plain-otter@1500`."""
    path: str
    """Its folder."""


class AverageRequest(Message):
    """Average the weights of some checkpoints and evaluate the mean."""

    run: str
    """Folder of the run that gets the average, and on whose validation set all are evaluated."""
    parts: tuple[AveragePart, ...] = Field(min_length=2)
    folder: str
    """The folder of the average, which is created."""


class EvaluatedPart(Message):
    """A part with its loss, measured in the same way as the average's."""

    address: str
    loss: float
    """On the validation set, in nats per token."""


class AverageDone(Message):
    """The last line of a successful process."""

    step: int
    """Of the newest part."""
    loss: float
    """Of the average on the validation set, in nats per token."""
    tokens: int
    """Tokens of the validation set that count."""
    parts: tuple[EvaluatedPart, ...]


class BaselineRequest(Message):
    """Count all n-grams of a prepared corpus, and keep the losses with it."""

    folder: str


class CountModel(Message):
    """The count model of one order."""

    unit: Literal["token", "word"]
    order: int
    perplexity: dict[Split, float | None]
    """By split, per token or word; None if nothing of the split is predicted."""
    bits_per_byte: dict[Split, float | None]
    ngrams: int
    """Distinct n-grams of this order."""
    seconds: float
    """Time to count and score n-grams of this order and below."""


class CountModels(Message):
    """The count models of one data mode."""

    kept_tokens: int | None
    """As `TrainingConfig.kept_tokens`."""
    counted: int
    """Training tokens."""
    models: tuple[CountModel, ...]


class BaselineDone(Message):
    """The last line of a successful process."""

    modes: tuple[CountModels, ...]


class TaskFailed(Message):
    """The last line of a child process that failed."""

    message: str
    hint: str = ""
    exit_code: int
    out_of_memory: bool = False
    """The device or the machine ran out of memory."""
