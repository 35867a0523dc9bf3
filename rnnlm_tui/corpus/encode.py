"""Encode sentences into files of token ids and offsets, storing the progress for a resume.

Other processes that wait for the corpus read the stored progress too.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from rnnlm_tui.corpus.download import ProgressCallback
from rnnlm_tui.corpus.encoders import line_encoder
from rnnlm_tui.corpus.sources import Advance, text_units
from rnnlm_tui.corpus.splits import (
    Piece,
    PoolFacts,
    batched_lines,
    pool_path,
    read_lines,
    staged_lines,
    units_of,
    without_first,
)
from rnnlm_tui.corpus.text_files import LineReader
from rnnlm_tui.corpus.tokenizers import BuiltTokenizer, folding_of
from rnnlm_tui.schema.corpora import SPLITS, UNFINISHED_NAME, Split, TextLayout
from rnnlm_tui.schema.formatting import share
from rnnlm_tui.schema.metrics import Progress
from rnnlm_tui.system.files import write_text_atomically

REPEAT_BYTES = 32
COUNTED_REPEATS = 20_000
NOTED_REPEATS = 0.01
"""Repeats: shortest length, most sentences to look for, and fraction for a note."""

TokenDtype = Literal["uint16", "uint32"]
KEPT_EVERY_SECONDS = 5.0
"""How often the progress of a split is stored, so that a stop loses at most this much work."""


class EncodedSoFar(BaseModel):
    """How much of a split is encoded and written to disk."""

    model_config = ConfigDict(frozen=True)

    text: int = 0
    """Encoded bytes of the plain file."""
    tokens: int = 0
    sentences: int = 0
    bytes: int = 0
    """As in `SplitFacts`."""
    unknown: int = 0
    """Tokens outside the vocabulary."""


class Repeats:
    """Count held-out sentences that occur in the training text.

    Short ones are ignored, because they repeat by chance.
    """

    def __init__(self) -> None:
        self._held: dict[Split, set[int]] = {}
        self._found: dict[Split, set[int]] = {}

    def hold(self, split: Split, batch: Sequence[bytes]) -> None:
        """Add sentences of a held-out split, up to `COUNTED_REPEATS`."""
        held = self._held.setdefault(split, set())
        for line in batch if len(held) < COUNTED_REPEATS else ():
            if len(line) >= REPEAT_BYTES:
                held.add(hash(line))

    def look(self, batch: Sequence[bytes]) -> None:
        """Look for held-out sentences in a batch of the training text."""
        hashes = list(map(hash, batch))
        for split, held in self._held.items():
            self._found.setdefault(split, set()).update(held.intersection(hashes))

    def notes(self, unit: str = "sentences") -> list[str]:
        """A note for each split with at least a fraction of `NOTED_REPEATS` repeats."""
        notes = []
        for split, held in self._held.items():
            found = len(self._found.get(split, ()))
            if found >= NOTED_REPEATS * max(1, len(held)):
                notes.append(
                    f"{found:,} of {len(held):,} {split} {unit} ({share(found / len(held))}) also"
                    " occur in the training text: the model may have memorized them"
                )
        return notes


def token_dtype(vocab_size: int) -> TokenDtype:
    return "uint16" if vocab_size <= 65_536 else "uint32"


@dataclass(frozen=True, slots=True)
class EncodedLines:
    """The tokens of some lines of a plain file."""

    ids: NDArray[Any]
    """All of them, end tokens included."""
    lengths: NDArray[np.int64]
    """Tokens of each sentence (or other unit), without empty ones."""
    bytes: int
    """As in `SplitFacts`."""
    unknown: int
    """Tokens outside the vocabulary."""


class LineEncoder:
    """Encodes lines of a plain file, with end tokens."""

    def __init__(self, built: BuiltTokenizer, layout: TextLayout) -> None:
        self._built, self._layout = built, layout
        self._encode = line_encoder(built, layout)
        self.dtype: np.dtype[Any] = np.dtype(token_dtype(built.vocab_size))
        """Of the ids."""

    def __call__(self, staged: list[bytes]) -> EncodedLines:
        """The tokens of some lines."""
        batch, ends = units_of(staged, self._layout)
        ids, lengths = self._encode(batch)
        flat = ids.astype(self.dtype)
        unk_id, eos_id = self._built.unk_id, self._built.eos_id
        unknown = 0 if unk_id is None else int((flat == unk_id).sum())
        if self._layout == "sentences":
            kept = lengths > 0
            size = sum(len(line) for line, is_kept in zip(batch, kept, strict=True) if is_kept)
            lengths = lengths[kept]
        else:
            size = sum(map(len, batch))
        if eos_id is not None:
            ended = np.ones(len(lengths), bool) if ends is None else np.array(ends, bool)
            flat = np.insert(flat, np.cumsum(lengths)[ended], self.dtype.type(eos_id))
            lengths = lengths + ended
            size += 0 if self._layout == "raw" else len(lengths)
        return EncodedLines(flat, lengths[lengths > 0], size, unknown)


def encode_file(path: Path, built: BuiltTokenizer, layout: TextLayout) -> Iterator[EncodedLines]:
    """The tokens of a UTF-8 text file, in parts and in constant memory: exactly those of a corpus
    with this file as a split, for a tokenizer that such a corpus could have.

    Raises:
        CorpusError: the file can't be read or isn't text.
    """
    encode, folding = LineEncoder(built, layout), folding_of(built.tokenizer)
    units = text_units(LineReader(path, lambda _: None), layout)
    return map(encode, batched_lines(staged_lines(units, layout, folding)))


@dataclass(frozen=True, slots=True)
class SplitEncoder:
    """Encode the splits of a text into files in `folder`, in constant memory."""

    encode: LineEncoder
    folder: Path
    advance: Advance

    def write(
        self,
        split: Split,
        pieces: Sequence[Piece],
        before: EncodedSoFar | None,
        keep: Callable[[EncodedSoFar], None],
        look: Callable[[Sequence[bytes]], None],
    ) -> EncodedSoFar:
        """Write `{split}.bin` and `{split}.offsets.bin` (uint64, sentences + 1).

        Args:
            before: progress of an earlier, interrupted call, to continue from.
            keep: called with the progress every few seconds and at the end, after it is synced to
                disk.
            look: called with each batch of sentences.
        """
        dtype = self.encode.dtype
        tokens, offsets = (self.folder / f"{split}{end}" for end in (".bin", ".offsets.bin"))
        so_far = before or EncodedSoFar()
        if not (
            _has(tokens, so_far.tokens * dtype.itemsize)
            and _has(offsets, 8 * (so_far.sentences + 1))
        ):
            so_far = EncodedSoFar()
        with (
            _opened(tokens, so_far.tokens * dtype.itemsize) as token_file,
            _opened(offsets, 8 * (so_far.sentences + 1)) as offset_file,  # the offsets start with 0
        ):

            def store() -> None:
                for file in (token_file, offset_file):
                    file.flush()
                    os.fsync(file.fileno())
                keep(so_far)

            keep_at = time.monotonic() + KEPT_EVERY_SECONDS
            for staged in read_lines(without_first(pieces, so_far.text)):
                look(staged)
                part = self.encode(staged)
                token_file.write(part.ids.tobytes())
                ends = np.cumsum(part.lengths) + so_far.tokens
                offset_file.write(ends.astype(np.uint64).tobytes())
                here = sum(map(len, staged)) + len(staged)
                so_far = EncodedSoFar(
                    text=so_far.text + here,
                    tokens=so_far.tokens + len(part.ids),
                    sentences=so_far.sentences + len(part.lengths),
                    bytes=so_far.bytes + part.bytes,
                    unknown=so_far.unknown + part.unknown,
                )
                if time.monotonic() >= keep_at:
                    store()
                    keep_at = time.monotonic() + KEPT_EVERY_SECONDS
                self.advance(here)
            store()
            return so_far


def _has(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size >= size


@contextmanager
def _opened(path: Path, size: int) -> Iterator[BinaryIO]:
    """Open a file for writing after `size` bytes; create it or pad it with zeros if needed."""
    path.touch()
    with path.open("r+b") as file:
        file.truncate(size)
        file.seek(size)
        yield file


SHARED_SECONDS = 0.5
"""How often the progress for waiting processes is written."""

_PROGRESS_NAME = "progress.json"
_PROGRESS: TypeAdapter[Progress] = TypeAdapter(Progress)


class PreparationState(BaseModel):
    """The completed steps of a preparation, whose files are on disk."""

    model_config = ConfigDict(frozen=True)

    source: str = ""
    """`corpus.source`, for the list of corpora."""
    pools: dict[Split, PoolFacts] | None = None
    """The plain files; None until the source is completely read."""
    notes: tuple[str, ...] = ()
    """Notes from reading the source."""
    tokenizer: bool = False
    """Whether the tokenizer is built."""
    encoded: dict[Split, EncodedSoFar] = {}


def read_state(folder: Path) -> PreparationState:
    """Load the state of a preparation; empty if missing, or if plain files have a wrong size."""
    try:
        state = PreparationState.model_validate_json((folder / UNFINISHED_NAME).read_bytes())
        if state.pools is not None and any(
            pool_path(folder, split).stat().st_size != pool.bytes
            for split, pool in state.pools.items()
        ):
            return PreparationState()
    except (OSError, ValidationError):
        return PreparationState()
    return state


def write_state(folder: Path, state: PreparationState) -> None:
    """Store the state atomically. Its encoded splits must already be synced to disk."""
    write_text_atomically(folder / UNFINISHED_NAME, state.model_dump_json())


def remove_state(folder: Path) -> None:
    """Remove the files that only the preparation needs."""
    for path in (
        folder / UNFINISHED_NAME,
        folder / _PROGRESS_NAME,
        *(pool_path(folder, split) for split in SPLITS),
    ):
        path.unlink(missing_ok=True)


def publish_progress(folder: Path, progress: ProgressCallback) -> ProgressCallback:
    """A callback that calls `progress` and stores it for waiting processes.

    It is stored at most every SHARED_SECONDS, and at each new phase.
    """
    next_time, phase = 0.0, ""

    def report(now: Progress) -> None:
        nonlocal next_time, phase
        if now.phase != phase or time.monotonic() >= next_time:
            next_time, phase = time.monotonic() + SHARED_SECONDS, now.phase
            temporary = folder / f"{_PROGRESS_NAME}.new"
            temporary.write_bytes(_PROGRESS.dump_json(now))
            temporary.replace(folder / _PROGRESS_NAME)
        progress(now)

    return report


def read_progress(folder: Path) -> Progress:
    """Load the progress of the preparation in a folder."""
    try:
        return _PROGRESS.validate_json((folder / _PROGRESS_NAME).read_bytes())
    except (OSError, ValidationError):
        return Progress("reading")
