"""Continues prompts from checkpoints: the sampler's part that holds torch."""

from __future__ import annotations

import json
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rnnlm_tui.contract.figures import counted
from rnnlm_tui.contract.requests import SampleDone, SamplePiece, SampleRequest
from rnnlm_tui.corpus.text import TextCodec
from rnnlm_tui.engine.checkpoint import load_model
from rnnlm_tui.engine.device import set_threads
from rnnlm_tui.engine.generate import lay_out_head
from rnnlm_tui.engine.model import RecurrentLanguageModel
from rnnlm_tui.errors import CheckpointError
from rnnlm_tui.store.checkpoints import verify_checkpoint
from rnnlm_tui.store.manifest import MANIFEST_NAME
from rnnlm_tui.worker.continuation import Continuation
from rnnlm_tui.worker.saving import DATA_MODE_KEY

MAX_UNKNOWN = 8
"""So many unknown words of a prompt are named; nobody reads more."""
KEPT_MODELS = 2
"""Checkpoints that stay loaded: two are compared with one another without a wait."""
PIECE_SECONDS = 0.1
"""Text is sent about so often, the first token at once."""


@dataclass(frozen=True, slots=True)
class _Loaded:
    model: RecurrentLanguageModel
    codec: TextCodec
    after_end: bool
    """Prompts begin behind an end token: the model learned from a stream."""


class Sampler:
    """Loads checkpoints as they are asked for and continues prompts, on one thread of the CPU beside a training that needs the rest."""

    device = "cpu"

    def __init__(self) -> None:
        set_threads(1)
        self._loaded: OrderedDict[tuple[str, int], _Loaded] = OrderedDict()

    def load(self, checkpoint: str) -> None:
        """Make a checkpoint ready.

        Raises:
            CheckpointError: it is damaged, gone or of the wrong kind.
        """
        self._get(checkpoint)

    def continue_prompt(self, request: SampleRequest, is_cancelled: Callable[[], bool]) -> Iterator[SamplePiece | SampleDone]:
        """Pieces of the continuation as they are drawn, then the whole.

        Raises:
            RnnlmError: the checkpoint can't be used, or the prompt can't be written with its vocabulary.
        """
        began = time.perf_counter()
        loaded, settings = self._get(request.checkpoint), request.settings
        continuation = Continuation(loaded.model, loaded.codec, request.prompt, settings, after_end=loaded.after_end)
        whole: list[str] = []
        waiting: list[str] = []
        first, sent = 0.0, -math.inf
        reason: Literal["length", "cancelled"] = "length"
        for new in continuation:
            waiting.append(new)
            now = time.perf_counter()
            first = first or now - began
            if now - sent >= PIECE_SECONDS and (text := "".join(waiting)):
                yield SamplePiece(id=request.id, text=text, tokens=continuation.tokens)
                whole.append(text)
                waiting.clear()
                sent = now
            if is_cancelled():
                reason = "cancelled"
                break
        waiting.append(continuation.rest())
        if text := "".join(waiting):
            whole.append(text)
            yield SamplePiece(id=request.id, text=text, tokens=continuation.tokens)
        tokens = continuation.tokens
        yield SampleDone(
            id=request.id,
            reason="stop" if continuation.stop else reason,
            stop=continuation.stop,
            text="".join(whole),
            tokens=tokens,
            prompt_tokens=len(continuation.prompt_ids),
            seconds=time.perf_counter() - began,
            first_token_seconds=first,
            bits_per_token=-continuation.logprob / tokens / math.log(2) if tokens else 0.0,
            unknown=tuple(loaded.codec.unknown_characters(request.prompt)[:MAX_UNKNOWN]),
        )

    def _get(self, checkpoint: str) -> _Loaded:
        path = Path(checkpoint)
        key = (checkpoint, _written_at(path))
        if key in self._loaded:
            self._loaded.move_to_end(key)
            return self._loaded[key]
        verify_checkpoint(path)
        loaded = _Loaded(load_model(path), TextCodec(path), after_end=_data_mode(path) == "stream")
        if loaded.codec.vocab_size != loaded.model.vocab_size:
            raise CheckpointError(f"{path} has a tokenizer of {counted(loaded.codec.vocab_size, 'type')} for a model of {loaded.model.vocab_size:,}")
        lay_out_head(loaded.model)
        self._loaded[key] = loaded
        while len(self._loaded) > KEPT_MODELS:
            self._loaded.popitem(last=False)
        return loaded


def _written_at(path: Path) -> int:
    """Tells two checkpoints apart that had the same path one after the other; 0 for what isn't there."""
    try:
        return (path / MANIFEST_NAME).stat().st_mtime_ns
    except OSError:
        return 0


def _data_mode(path: Path) -> str:
    try:
        values = json.loads((path / "generation_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path / 'generation_config.json'} can't be read: {error}") from error
    return str(values.get(DATA_MODE_KEY, "stream")) if isinstance(values, dict) else "stream"
