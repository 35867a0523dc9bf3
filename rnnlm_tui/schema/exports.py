"""Messages of an export: the request to its process, progress, result, and the record in a run."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict

from rnnlm_tui.schema.config import DataMode
from rnnlm_tui.schema.protocol import Message

ExportFormat = Literal["hf", "onnx", "book"]
FORMATS: tuple[ExportFormat, ...] = get_args(ExportFormat)
FORMAT_TITLES: dict[ExportFormat, str] = {
    "hf": "Hugging Face transformers",
    "onnx": "ONNX, one step with the state in and out",
    "book": "the book's state dict (.pth)",
}
MARKER_NAME = "rnnlm_export.json"
"""In every exported folder: what it is and its files, so that `--force` replaces only exports."""
BOOK_NAME = "model.pth"
"""The state dict in a folder of the format `book`."""
LOGIT_TOLERANCE = 1e-5
"""Largest allowed difference of a logit, relative to the largest where that is above 1."""
CHECKED_TOKENS, GREEDY_TOKENS = 64, 50
"""Random tokens whose logits are compared, and tokens that are continued greedily."""


class ExportRequest(Message):
    """Write a checkpoint in another format and compare the result with it."""

    run: str
    """The run's folder."""
    checkpoint: str
    """The checkpoint's folder."""
    target: str
    """An empty folder, renamed by the requesting process when the export is complete. The folder
    that it is in is removed afterwards, and may be used for other files."""
    name: str
    """The name that the folder gets, for the model card."""
    format: ExportFormat


class ImportRequest(Message):
    """Read a state dict of the book's model and write it as a checkpoint's model files."""

    file: str
    tokenizer: str
    """A folder with tokenizer.json, or the name of a tokenizer on the Hugging Face hub."""
    target: str
    """An empty folder for the files, in a folder as that of an export."""


class ExportDone(Message):
    """The last line of a successful export: what the comparison found."""

    step: int
    logits_compared: int
    largest_difference: float
    """Of a logit, absolute."""
    greedy_tokens: int
    """Tokens of greedy text that are equal."""
    notes: tuple[str, ...] = ()
    """What the format can't express, in sentences."""


class ImportDone(Message):
    """The last line of a successful reading of a state dict."""

    vocab_size: int
    width: int
    """Of the embedding and of both layers."""
    num_layers: int
    parameters: int
    tokenizer_kind: str
    end_of_sentence: bool
    """Sentences end with a token."""
    layout: str
    """How the tokenizer reads text: `sentences`, `lines` or `raw`."""
    data_mode: DataMode
    """What the model was trained on: a stream, or separate sentences."""
    context_length: int
    """Tokens of a sentence that it reads, in the data mode sentences."""
    logits_compared: int
    largest_difference: float


class ExportedFile(Message):
    """A file of an exported folder."""

    size: int
    sha256: str


class ExportMarker(BaseModel):
    """`rnnlm_export.json`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    rnnlm_export: Literal[1] = 1
    format: ExportFormat
    run: str
    step: int
    created: float
    """Unix seconds."""
    rnnlm_version: str
    notes: tuple[str, ...] = ()
    files: dict[str, ExportedFile]
    """All files except this one."""
