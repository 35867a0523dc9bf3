"""Score a text file with a model, exactly as the trainer evaluates a held-out split, in constant
memory."""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rnnlm_tui.corpus.codec import IncrementalDecoder
from rnnlm_tui.corpus.encode import EncodedLines, encode_file
from rnnlm_tui.corpus.text_files import check_source_path
from rnnlm_tui.engine.batches import Batch, evaluation_batches, stream_evaluation
from rnnlm_tui.engine.continuous_cache import ContinuousCache
from rnnlm_tui.engine.evaluate import evaluate
from rnnlm_tui.engine.loss import IGNORED
from rnnlm_tui.errors import CorpusError
from rnnlm_tui.schema.formatting import counted
from rnnlm_tui.schema.metrics import bits_per_byte
from rnnlm_tui.schema.sampling import (
    InspectedToken,
    ScoreDone,
    ScorePiece,
    ScoreProgress,
    ScoreRequest,
)
from rnnlm_tui.store.paths import home
from rnnlm_tui.system.files import storage_errors, write_whole
from rnnlm_tui.worker.models import LoadedModel

PIECE_TOKENS = 1_000
"""Scored tokens of one message."""
REPORT_SECONDS = 0.1
"""Least time between two reports of progress."""
FILLED_AT_ONCE = 2**14
"""Numbers that are written to a file at once."""


def score_file(
    loaded: LoadedModel,
    request: ScoreRequest,
    check: Callable[[], None],
    report: Callable[[ScoreProgress], None] = lambda _: None,
) -> Iterator[ScorePiece | ScoreDone]:
    """Score a file. The tokens come in the order of the text, if the request wants them.

    Args:
        check: called between parts of the work; what it raises ends it.
        report: called with the progress.

    Raises:
        CorpusError: the file can't be read, isn't UTF-8 text, or has less than two tokens.
        StorageError: no room for the file's tokens, which are on disk meanwhile.
    """
    began = time.perf_counter()
    scoring = _Scoring(loaded, request, check, report)
    parts = encode_file(source_file(request), loaded.codec.built, loaded.codec.layout)
    yield from scoring.stream(parts) if loaded.data_mode == "stream" else scoring.sentences(parts)
    loss = scoring.loss / scoring.targets
    yield ScoreDone(
        id=request.id,
        loss=loss,
        tokens=scoring.targets,
        bytes=scoring.bytes,
        scored_bytes=scoring.scored_bytes,
        bits_per_byte=bits_per_byte(loss, scoring.targets, scoring.unknown, scoring.scored_bytes),
        unknown=scoring.unknown,
        seconds=time.perf_counter() - began,
        cache_loss=scoring.cache_loss / scoring.targets if request.cache is not None else None,
    )


def source_file(request: ScoreRequest) -> Path:
    """The file to score.

    Raises:
        CorpusError: it is missing, a folder or of a kind that is never opened.
    """
    path = Path(request.path)
    if path.is_dir() or not path.exists():
        raise CorpusError(
            f"{path} {'is a folder' if path.is_dir() else 'not found'}",
            hint="give the path of a UTF-8 text file",
        )
    check_source_path(path)
    return path


class Progress:
    """Reports how far a file is scored, every now and then."""

    def __init__(self, id: str, report: Callable[[ScoreProgress], None]) -> None:
        self._id, self._report, self._next = id, report, 0.0

    def __call__(self, phase: Literal["reading", "scoring"], done: int, total: int = 0) -> None:
        """Report `done` of `total` tokens, unless the last report was just before."""
        now = time.perf_counter()
        if now >= self._next:
            self._next = now + REPORT_SECONDS
            self._report(ScoreProgress(id=self._id, phase=phase, done=done, total=total))


class _Scoring:
    """The sums of a file's parts."""

    def __init__(
        self,
        loaded: LoadedModel,
        request: ScoreRequest,
        check: Callable[[], None],
        report: Callable[[ScoreProgress], None],
    ) -> None:
        self._loaded, self._request, self._check = loaded, request, check
        self._progress = Progress(request.id, report)
        self._decoder = loaded.codec.incremental()
        self._cache = None if request.cache is None else ContinuousCache(request.cache)
        self.loss = self.cache_loss = 0.0
        """Sums over the targets, nats."""
        self.targets = self.unknown = 0
        self.bytes = self.tokens = self.scored_bytes = 0
        """Of the text, and of its tokens that are targets."""

    def stream(self, parts: Iterable[EncodedLines]) -> Iterator[ScorePiece]:
        """Score a text whose state is carried. Its tokens are written to a temporary file first,
        since it is read as several parallel streams."""
        folder = _work_folder()
        with tempfile.TemporaryFile(dir=folder) as file, tempfile.TemporaryFile(dir=folder) as room:
            dtype: np.dtype[Any] = np.dtype(np.uint16)
            for part in parts:
                self._check()
                self._count(part)
                self._progress("reading", self.tokens)
                dtype = part.ids.dtype
                with storage_errors("write the tokens of the text into", folder):
                    write_whole(file.fileno(), part.ids.tobytes())
            if self.tokens < 2:
                raise CorpusError(
                    f"{self._request.path} has {counted(self.tokens, 'token')}: too few to score,"
                    " at least 2 needed"
                )
            if self._request.tokens:
                with storage_errors("write the tokens of the text into", folder):
                    _fill_with_nan(room, self.tokens)
            ids = np.memmap(file, dtype, "r", shape=(self.tokens,))
            bits = self._bits_of(ids, np.array([0, self.tokens], np.uint64), room)
            yield from self._pieces(ids, bits)

    def sentences(self, parts: Iterable[EncodedLines]) -> Iterator[ScorePiece]:
        """Score sentences, each from a zero state."""
        for part in parts:
            self._check()
            offsets = self._count(part)
            bits: NDArray[np.float32] | None = None
            if part.lengths.max(initial=0) >= 2:
                bits = self._bits_of(part.ids, offsets, None)
            elif self._request.tokens:
                bits = np.full(len(part.ids), np.nan, np.float32)
            yield from self._pieces(part.ids, bits)
        if not self.targets:
            raise CorpusError(f"{self._request.path} has no sentence of two tokens to score")

    def _count(self, part: EncodedLines) -> NDArray[np.uint64]:
        """Add a part's tokens and bytes, and return where its sentences start and the last ends."""
        offsets = np.concatenate([[0], np.cumsum(part.lengths)]).astype(np.uint64)
        is_stream = self._loaded.data_mode == "stream"
        scored, _ = self._loaded.codec.token_bytes.scored(
            part.ids,
            offsets,
            None if is_stream else self._context(part.ids),
            continues=self.tokens > 0,
        )
        self.scored_bytes += scored
        self.bytes += part.bytes
        self.tokens += len(part.ids)
        return offsets

    def _context(self, ids: NDArray[Any]) -> int:
        """Tokens of a sentence that are read."""
        return self._loaded.context_length or max(2, len(ids))

    def _bits_of(
        self, ids: NDArray[Any], offsets: NDArray[np.uint64], file: IO[bytes] | None
    ) -> NDArray[np.float32] | None:
        """Add the loss of some tokens, and return their surprise if it is wanted: NaN where nothing
        predicts them.

        Args:
            file: has NaN for each token, and gets the surprise; None: kept in memory.
        """
        if self._cache is not None and self._loaded.data_mode == "stream":
            batches = stream_evaluation(ids, streams=1)  # the cache needs the text's order
        else:
            batches = evaluation_batches(
                ids,
                offsets,
                data_mode=self._loaded.data_mode,
                context_length=self._context(ids),
                pad_id=self._loaded.codec.pad_id,
            )
        bits: NDArray[np.float32] | None = None
        if self._request.tokens:
            bits = (
                np.full(len(ids), np.nan, np.float32)
                if file is None
                else np.memmap(file, np.float32, "r+", shape=(len(ids),))
            )

        def note(batch: Batch, losses: Tensor, hidden: Tensor) -> None:
            counts = batch.targets_BT != IGNORED
            found = losses[counts]
            if self._cache is not None:
                parts = hidden[counts.to(hidden.device)], batch.targets_BT[counts], found
                found = self._cache.losses(*(part.to(hidden.device) for part in parts)).cpu()
                self.cache_loss += float(found.double().sum())
            if bits is None or batch.starts_B is None:
                return
            places = batch.starts_B[:, None] + torch.arange(1, counts.shape[1] + 1)
            bits[places[counts].numpy()] = (found / math.log(2)).numpy()

        score = evaluate(
            self._loaded.model,
            self._stoppable(batches),
            unknown_id=self._loaded.codec.unk_id,
            each=None if self._cache is None and bits is None else note,
        )
        self.loss += score.loss * score.tokens
        self.targets += score.tokens
        self.unknown += score.unknown
        return bits

    def _stoppable(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        done, total = self.targets, self.tokens - 1 if self._loaded.data_mode == "stream" else 0
        for batch in batches:
            self._check()
            yield batch
            done += batch.tokens
            self._progress("scoring", done, total)

    def _pieces(self, ids: NDArray[Any], bits: NDArray[np.float32] | None) -> Iterator[ScorePiece]:
        """The messages about scored tokens, if the request wants them."""
        if not self._request.tokens or bits is None:
            return
        for first in range(0, len(ids), PIECE_TOKENS):
            self._check()
            chunk = slice(first, first + PIECE_TOKENS)
            yield ScorePiece(
                id=self._request.id,
                tokens=inspected(self._decoder, ids[chunk].tolist(), bits[chunk].tolist()),
            )


def inspected(
    decoder: IncrementalDecoder, tokens: Sequence[int], bits: Sequence[float]
) -> tuple[InspectedToken, ...]:
    """Tokens with the text that they add and their surprise, if it is a number."""
    return tuple(
        InspectedToken(
            token=token, text=decoder.push(token), bits=None if math.isnan(surprise) else surprise
        )
        for token, surprise in zip(tokens, bits, strict=True)
    )


def _fill_with_nan(file: IO[bytes], count: int) -> None:
    """Write so many float32 numbers. A file that is only made longer has no room on the disk yet,
    and the process would be killed when it writes to the mapped file on a full one."""
    nans = np.full(FILLED_AT_ONCE, np.nan, np.float32)
    for first in range(0, count, FILLED_AT_ONCE):
        write_whole(file.fileno(), nans[: count - first].tobytes())


def _work_folder() -> Path:
    """A folder for temporary files, on a disk rather than in memory if possible."""
    return home() if os.access(home(), os.W_OK) else Path(tempfile.gettempdir())
