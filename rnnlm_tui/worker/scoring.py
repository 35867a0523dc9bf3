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

from rnnlm_tui.corpus.encode import EncodedLines, encode_file
from rnnlm_tui.corpus.text_files import LineReader, check_source_path
from rnnlm_tui.engine.batches import Batch, evaluation_batches
from rnnlm_tui.engine.continuous_cache import ContinuousCache
from rnnlm_tui.engine.evaluate import evaluate
from rnnlm_tui.engine.loss import IGNORED
from rnnlm_tui.errors import CorpusError, InputError
from rnnlm_tui.schema.formatting import counted
from rnnlm_tui.schema.memory import EVALUATED_STREAMS
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
from rnnlm_tui.worker.causal_model import CausalModel
from rnnlm_tui.worker.models import LoadedModel

PIECE_TOKENS = 1_000
"""Scored tokens of one message."""
REPORT_SECONDS = 0.1
"""Least time between two reports of progress."""
FILLED_AT_ONCE = 2**14
"""Numbers that are written to a file at once."""


def score_file(
    loaded: LoadedModel | CausalModel,
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
        InputError: a continuous cache is asked for with a model of transformers.
        StorageError: no room for the file's tokens, which are on disk meanwhile.
    """
    began = time.perf_counter()
    path = Path(request.path)
    if path.is_dir() or not path.exists():
        raise CorpusError(
            f"{path} {'is a folder' if path.is_dir() else 'not found'}",
            hint="give the path of a UTF-8 text file",
        )
    check_source_path(path)
    scoring: _Scoring
    if isinstance(loaded, CausalModel):
        scoring = _WindowScoring(loaded, request, check, report)
        yield from scoring.text("".join(LineReader(path, lambda _: None).text()))
    else:
        scoring = _StateScoring(loaded, request, check, report)
        score = scoring.stream if loaded.data_mode == "stream" else scoring.sentences
        yield from score(encode_file(path, loaded.codec.built, loaded.codec.layout))
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
        **scoring.facts,
        cache_loss=scoring.cache_loss / scoring.targets if request.cache else None,
    )


class _Scoring:
    """The sums of a file's parts."""

    _push: Callable[[int], str]
    """Returns the text that each token adds."""

    def __init__(
        self,
        request: ScoreRequest,
        check: Callable[[], None],
        report: Callable[[ScoreProgress], None],
    ) -> None:
        self._request, self._check = request, check
        self._report, self._next_report = report, 0.0
        self.facts: dict[str, Any] = {}
        """What else `ScoreDone` says."""
        self.loss = self.cache_loss = 0.0
        """Sums over the targets, nats."""
        self.targets = self.unknown = 0
        self.bytes = self.tokens = self.scored_bytes = 0
        """Of the text, and of its tokens that are targets."""

    def _need(self, least: int) -> None:
        if self.tokens < least:
            words = f"{counted(self.tokens, 'token')}: too few to score, at least {least} needed"
            raise CorpusError(f"{self._request.path} has {words}")

    def _progress(self, phase: Literal["reading", "scoring"], done: int, total: int = 0) -> None:
        now = time.perf_counter()
        if now >= self._next_report:
            self._next_report = now + REPORT_SECONDS
            self._report(ScoreProgress(id=self._request.id, phase=phase, done=done, total=total))

    def _pieces(self, ids: NDArray[Any], bits: NDArray[np.float32] | None) -> Iterator[ScorePiece]:
        """The messages about scored tokens, if the request wants them."""
        if not self._request.tokens or bits is None:
            return
        for first in range(0, len(ids), PIECE_TOKENS):
            self._check()
            chunk = slice(first, first + PIECE_TOKENS)
            yield ScorePiece(
                id=self._request.id,
                tokens=inspected(self._push, ids[chunk].tolist(), bits[chunk].tolist()),
            )


class _WindowScoring(_Scoring):
    """Scores with a model of transformers, which reads the whole text in windows."""

    def __init__(self, model: CausalModel, request: ScoreRequest, *calls: Any) -> None:
        super().__init__(request, *calls)
        self._model, self._push = model, model.push()
        self.facts = {"window": model.window, "stride": model.stride, "start": model.start}
        if request.cache:
            raise InputError("the continuous cache needs a run's model or an export of one")

    def text(self, text: str) -> Iterator[ScorePiece]:
        """Score a text."""
        ids, losses, self.scored_bytes = self._model.read(text, self._check, self._progress)
        first, self.tokens, self.bytes = self._model.first, len(ids), len(text.encode())
        self._need(first + 1)
        self.loss, self.targets = float(losses[first:].sum()), self.tokens - first
        self.unknown = sum(token == self._model.unk_id for token in ids[first:])
        yield from self._pieces(np.array(ids), (losses / math.log(2)).astype(np.float32))


class _StateScoring(_Scoring):
    """Scores with a model that carries its state."""

    def __init__(self, loaded: LoadedModel, request: ScoreRequest, *calls: Any) -> None:
        super().__init__(request, *calls)
        self._loaded, self._push = loaded, loaded.codec.incremental().push
        self._cache: ContinuousCache | None = None
        if request.cache:
            self._cache = ContinuousCache(request.cache, request.cache_theta, request.cache_lambda)

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
            self._need(2)
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
        batches = evaluation_batches(
            ids,
            offsets,
            data_mode=self._loaded.data_mode,
            context_length=self._context(ids),
            pad_id=self._loaded.codec.pad_id,
            # a cache needs the order of the text
            streams=EVALUATED_STREAMS if self._cache is None else 1,
            warm_up=self._loaded.model.shape.warm_up,
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
            found, device = losses[counts], hidden.device
            if self._cache is not None:
                targets, outputs = batch.targets_BT[counts], hidden[counts.to(device)]
                found = self._cache.losses(outputs, targets.to(device), found.to(device)).cpu()
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


def inspected(
    push: Callable[[int], str], tokens: Sequence[int], bits: Sequence[float]
) -> tuple[InspectedToken, ...]:
    """Tokens with the text that they add and their surprise, if it is a number.

    Args:
        push: returns the text that each token adds.
    """
    return tuple(
        InspectedToken(
            token=token, text=push(token), bits=None if math.isnan(surprise) else surprise
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
