"""Sentences to token ids in flat files: one of ids, one of where each sentence begins.

The state of an unfinished preparation, stored in its folder: for resuming it after a stop, and as
progress for processes that wait for it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from rnnlm_tui.corpus.build import write_text_atomically
from rnnlm_tui.corpus.download import ProgressCallback
from rnnlm_tui.corpus.sources import Advance
from rnnlm_tui.corpus.splits import Piece, PoolFacts, pool_path, read_lines, units_of, without_first
from rnnlm_tui.corpus.tokenizers import BuiltTokenizer, EncodeLines
from rnnlm_tui.schema.corpora import SPLITS, UNFINISHED_NAME, Split, TextLayout
from rnnlm_tui.schema.formatting import share
from rnnlm_tui.schema.metrics import Progress

REPEAT_BYTES = 32
COUNTED_REPEATS = 20_000
NOTED_REPEATS = 0.01
"""Repeated sentences: the shortest that count, how many of a split are looked for, and the share of
repeats that gives a note."""

TokenDtype = Literal["uint16", "uint32"]
KEPT_EVERY_SECONDS = 5.0
"""How often the progress of a split is stored: after a stop, at most this much work is repeated."""


class EncodedSoFar(BaseModel):
    """How far a split is encoded and written to disk."""

    model_config = ConfigDict(frozen=True)

    text: int = 0
    """Bytes of the plain file that are encoded."""
    tokens: int = 0
    sentences: int = 0
    bytes: int = 0
    """As in `SplitFacts`."""
    unknown: int = 0
    """Tokens outside the vocabulary."""


class Repeats:
    """Counts held-out sentences that also occur in the training text. Short ones are ignored,
    because they repeat by chance."""

    def __init__(self) -> None:
        self._held: dict[Split, set[int]] = {}
        self._found: dict[Split, set[int]] = {}

    def hold(self, split: Split, batch: Sequence[bytes]) -> None:
        """Add sentences of a held-out split; the first `COUNTED_REPEATS` of them are looked for."""
        held = self._held.setdefault(split, set())
        for line in batch if len(held) < COUNTED_REPEATS else ():
            if len(line) >= REPEAT_BYTES:
                held.add(hash(line))

    def look(self, batch: Sequence[bytes]) -> None:
        """Look for the held-out sentences in a batch of the training text."""
        hashes = list(map(hash, batch))
        for split, held in self._held.items():
            self._found.setdefault(split, set()).update(held.intersection(hashes))

    def notes(self, unit: str = "sentences") -> list[str]:
        """A note for each set with at least `NOTED_REPEATS` repeats."""
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


def encode_split(
    built: BuiltTokenizer,
    pieces: Sequence[Piece],
    folder: Path,
    split: Split,
    encode: EncodeLines,
    advance: Advance,
    layout: TextLayout = "sentences",
    *,
    before: EncodedSoFar | None = None,
    keep: Callable[[EncodedSoFar], None] = lambda _: None,
    look: Callable[[Sequence[bytes]], None] = lambda _: None,
) -> EncodedSoFar:
    """Write `{split}.bin` and `{split}.offsets.bin` (uint64, one more than there are sentences), in
    constant memory.

    Args:
        before: what an earlier, interrupted call has written; encoding continues after it.
        keep: called every few seconds and at the end with the progress, after it is synced to disk.
        look: called with each batch of sentences.
    """
    eos, unk = built.eos_id, built.unk_id
    dtype = np.dtype(token_dtype(built.vocab_size))
    token_path, offset_path = folder / f"{split}.bin", folder / f"{split}.offsets.bin"
    if before is None or not (
        _has(token_path, before.tokens * dtype.itemsize)
        and _has(offset_path, 8 * (before.sentences + 1))
    ):
        before = EncodedSoFar()
    text, tokens, sentences, size, unknown = (
        before.text,
        before.tokens,
        before.sentences,
        before.bytes,
        before.unknown,
    )
    with (
        _opened(token_path, tokens * dtype.itemsize) as token_file,
        _opened(offset_path, 8 * (sentences + 1)) as offset_file,
    ):  # the offsets begin with a 0
        keep_at = time.monotonic() + KEPT_EVERY_SECONDS

        def so_far() -> EncodedSoFar:
            for file in (token_file, offset_file):
                file.flush()
                os.fsync(file.fileno())
            found = EncodedSoFar(
                text=text, tokens=tokens, sentences=sentences, bytes=size, unknown=unknown
            )
            keep(found)
            return found

        for staged in read_lines(without_first(pieces, text)):
            batch, ends = units_of(staged, layout)
            look(staged)
            ids, lengths = encode(batch)
            flat = ids.astype(dtype)
            if unk is not None:
                unknown += int((flat == unk).sum())
            if layout == "sentences":
                kept = lengths > 0
                size += sum(len(line) for line, is_kept in zip(batch, kept, strict=True) if is_kept)
                lengths = lengths[kept]
            else:
                size += sum(map(len, batch))
            if eos is not None:
                ended = np.ones(len(lengths), bool) if ends is None else np.array(ends, bool)
                flat = np.insert(flat, np.cumsum(lengths)[ended], dtype.type(eos))
                lengths = lengths + ended
                size += 0 if layout == "raw" else len(lengths)
            lengths = lengths[lengths > 0]
            token_file.write(flat.tobytes())
            offset_file.write((np.cumsum(lengths) + tokens).astype(np.uint64).tobytes())
            tokens += len(flat)
            sentences += len(lengths)
            here = sum(map(len, staged)) + len(staged)
            text += here
            if time.monotonic() >= keep_at:
                so_far()
                keep_at = time.monotonic() + KEPT_EVERY_SECONDS
            advance(here)
        return so_far()


def _has(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size >= size


@contextmanager
def _opened(path: Path, size: int) -> Iterator[BinaryIO]:
    """Open a file, created if missing, for writing after its first `size` bytes; a shorter file is
    filled up with zeros."""
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
    """The finished steps of a preparation, whose files are on disk."""

    model_config = ConfigDict(frozen=True)

    source: str = ""
    """`corpus.source`, shown in the list of corpora."""
    pools: dict[Split, PoolFacts] | None = None
    """The plain files; None until the source is read completely."""
    notes: tuple[str, ...] = ()
    """Notes from reading the source."""
    tokenizer: bool = False
    """Whether the tokenizer is built."""
    encoded: dict[Split, EncodedSoFar] = {}


def read_state(folder: Path) -> PreparationState:
    """The state of an earlier preparation in this folder; empty if there is none, or if its plain
    files have other sizes."""
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
    """Store the state atomically. The encoded splits that it lists must be synced to disk
    before."""
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
    """A callback that calls `progress` and also writes a file for waiting processes, at most every
    SHARED_SECONDS and at each new phase."""
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
    """The progress of the preparation in this folder."""
    try:
        return _PROGRESS.validate_json((folder / _PROGRESS_NAME).read_bytes())
    except (OSError, ValidationError):
        return Progress("reading")
